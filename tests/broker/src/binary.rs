//! Where the binary is. Cargo builds it for the tests of its own package only, so this asks cargo for it once; with
//! the same package selection as `cargo test --workspace`, so that nothing is compiled twice.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names the binary to test instead of building one.
const VARIABLE: &str = "PINNACE_BINARY";

/// Path of the binary, built on first use.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os(VARIABLE).map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    // .../<target>/<profile>/deps/<test>-<hash>
    let test = std::env::current_exe().expect("the system knows our path");
    let profile_folder = test.ancestors().nth(2).expect("tests run from the target folder");
    let target_folder = profile_folder.parent().expect("profiles are inside the target folder");
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["test", "--quiet", "--workspace", "--no-run", "--test", "command_line"])
        .args(["--profile", profile])
        .arg("--target-dir")
        .arg(target_folder)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    // What cargo told us about this package would look to build scripts like a change.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];
        if of_package.iter().any(|prefix| text.starts_with(prefix))
            || matches!(&*text, "CARGO_PRIMARY_PACKAGE" | "CARGO_TARGET_TMPDIR" | "OUT_DIR")
        {
            cargo.env_remove(&name);
        }
    }
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "cargo could not build the binary");
    profile_folder.join("pinnace")
}
