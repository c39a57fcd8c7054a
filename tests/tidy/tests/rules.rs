//! Every rule holds for the repository as it stands.

use std::sync::LazyLock;

use tidy::{Repository, layers, links, purity, sizes, texts};

static REPOSITORY: LazyLock<Repository> =
    LazyLock::new(|| Repository::open().expect("the repository can be read"));

fn hold(rule: fn(&Repository) -> Vec<String>) {
    let violations = rule(&REPOSITORY);
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn the_repository_was_found() {
    assert!(REPOSITORY.file("Cargo.toml").is_some());
    assert!(REPOSITORY.with_ending(&[".rs"]).count() > 10);
}

#[test]
fn packages_depend_on_inner_layers_only() {
    hold(layers::forbidden_arrows);
}

#[test]
fn no_banned_package_is_locked() {
    hold(layers::forbidden_packages);
}

#[test]
fn pure_crates_stay_pure() {
    hold(purity::impure);
}

#[test]
fn files_and_functions_stay_short() {
    hold(sizes::too_long);
}

#[test]
fn every_rust_file_says_what_lives_in_it() {
    hold(texts::without_head);
}

#[test]
fn file_names_say_what_they_hold() {
    hold(texts::empty_names);
}

#[test]
fn sources_are_plain_ascii() {
    hold(texts::foreign_characters);
}

#[test]
fn nothing_is_left_unfinished() {
    hold(texts::unfinished);
}

#[test]
fn the_change_log_has_a_place_for_what_comes() {
    hold(texts::change_log);
}

#[test]
fn relative_links_lead_somewhere() {
    hold(links::broken);
}
