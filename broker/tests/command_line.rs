//! The binary as a shell sees it: what it prints and how it exits. That this file exists also makes `cargo test` build
//! the binary, which the tests in `tests/broker` start.

use std::process::{Command, Output};

fn pinnace(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pinnace")).args(arguments).output().expect("it can be run")
}

#[test]
fn the_version_is_printed() {
    let output = pinnace(&["--version"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.trim(), format!("pinnace {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_input_is_one_line_and_exit_code_two() {
    for arguments in [&["serve", "--shards", "0"][..], &["serve", "--listen", "nowhere"], &["sail"]]
    {
        let output = pinnace(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.trim_end().lines().count(), 1, "{arguments:?}: {text}");
    }
}
