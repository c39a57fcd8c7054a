//! The layer table: which of our packages may depend on which, and which foreign ones are banned.
//! `model <- store <- delivery <- engine <- replication <- grpc <- broker`, `proto <- grpc`, `proto <- operator`,
//! `operator/api <- operator`, `operator/api <- broker`, `model <- operator/api`.

use crate::{File, Repository};

/// Package and the packages of ours that it may depend on.
const ALLOWED: [(&str, &[&str]); 15] = [
    ("broker-model", &[]),
    ("broker-store", &["broker-model"]),
    ("broker-delivery", &["broker-model", "broker-store"]),
    ("broker-engine", &["broker-model", "broker-store", "broker-delivery"]),
    ("broker-replication", &["broker-model", "broker-store", "broker-delivery", "broker-engine"]),
    ("broker-proto", &[]),
    (
        "broker-grpc",
        &[
            "broker-model",
            "broker-store",
            "broker-delivery",
            "broker-engine",
            "broker-replication",
            "broker-proto",
        ],
    ),
    (
        "broker",
        &[
            "broker-model",
            "broker-store",
            "broker-delivery",
            "broker-engine",
            "broker-replication",
            "broker-proto",
            "broker-grpc",
            "operator-api",
        ],
    ),
    ("operator-api", &["broker-model"]),
    ("operator", &["operator-api", "broker-proto"]),
    ("tests-broker", &["broker-proto"]),
    ("tests-fuzz", &["broker-model", "broker-store", "broker-engine", "broker-proto"]),
    ("tests-operator", &["operator-api", "operator", "broker-proto"]),
    ("tests-simulation", &["broker-model", "broker-store", "broker-engine", "broker-replication"]),
    ("tidy", &[]),
];

/// Packages that must not be built into anything of ours, and why.
const BANNED: [(&str, &str); 4] = [
    ("openssl", "rustls with ring is what encrypts here"),
    ("openssl-sys", "rustls with ring is what encrypts here"),
    ("aws-lc-rs", "ring needs neither cmake nor a C++ compiler"),
    ("aws-lc-sys", "ring needs neither cmake nor a C++ compiler"),
];

/// Arrows between our packages that the table does not have.
#[must_use]
pub fn forbidden_arrows(repository: &Repository) -> Vec<String> {
    let manifests = repository.with_ending(&["/Cargo.toml"]);
    // Packages with workspaces of their own hold nothing of ours.
    let ours = |file: &&File| {
        !["tests/conformance/", "examples/"].iter().any(|apart| file.path.starts_with(apart))
    };
    manifests.filter(ours).flat_map(check_manifest).collect()
}

fn check_manifest(manifest: &File) -> Vec<String> {
    let Some(name) = package_name(&manifest.text) else { return Vec::new() };
    let Some((_, allowed)) = ALLOWED.iter().find(|(package, _)| *package == name) else {
        let path = &manifest.path;
        return vec![format!(
            "{path}: package {name} is not in the layer table; add it to layers.rs"
        )];
    };
    dependencies(&manifest.text)
        .into_iter()
        .filter(|dependency| ALLOWED.iter().any(|(package, _)| package == dependency))
        .filter(|dependency| !allowed.contains(&dependency.as_str()))
        .map(|dependency| format!("{}: {name} must not depend on {dependency}", manifest.path))
        .collect()
}

/// Banned packages and foreign sources in the lock file.
#[must_use]
pub fn forbidden_packages(repository: &Repository) -> Vec<String> {
    let Some(lock) = repository.file("Cargo.lock") else {
        return vec!["Cargo.lock is missing; commit it".to_owned()];
    };
    check_lock(&lock.text)
}

fn check_lock(lock: &str) -> Vec<String> {
    let mut violations = Vec::new();
    for line in lock.lines() {
        let name = line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"'));
        if let Some((name, why)) = BANNED.iter().find(|(banned, _)| Some(*banned) == name) {
            violations.push(format!("Cargo.lock: {name} is banned: {why}"));
        }
        let source = line.strip_prefix("source = \"");
        if source.is_some_and(|s| !s.starts_with("registry+https://github.com/rust-lang/crates.io"))
        {
            violations.push(format!("Cargo.lock: only crates.io is a source: {line}"));
        }
    }
    violations
}

/// The `name` of a manifest's package.
#[must_use]
pub fn package_name(manifest: &str) -> Option<String> {
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = \""))?;
    Some(name.trim_end_matches('"').to_owned())
}

/// Names in all dependency tables of a manifest.
#[must_use]
pub fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
        } else if inside && !line.starts_with(['#', ' ']) {
            let name: String = line
                .chars()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
                .collect();
            if !name.is_empty() {
                names.push(name);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_against_the_layers_is_found() {
        let manifest = "[package]\nname = \"broker-store\"\n[dev-dependencies]\nbroker-engine = { path = \"x\" }\n";
        let found = check_manifest(&File::new("broker/store/Cargo.toml", manifest));
        assert_eq!(
            found,
            ["broker/store/Cargo.toml: broker-store must not depend on broker-engine"]
        );
        let fine = manifest.replace("engine", "model");
        assert!(check_manifest(&File::new("broker/store/Cargo.toml", &fine)).is_empty());
        let unknown = File::new("x/Cargo.toml", "[package]\nname = \"new\"\n");
        assert!(check_manifest(&unknown)[0].contains("not in the layer table"));
    }

    #[test]
    fn banned_packages_and_foreign_sources_are_found() {
        let lock = "name = \"openssl-sys\"\nsource = \"git+https://example.org/x\"\nname = \"openssl-probe\"\n";
        assert_eq!(check_lock(lock).len(), 2);
    }
}
