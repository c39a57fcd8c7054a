//! The binary `pinnace-operator`: reads the command line and calls the library. The permissions that it needs stand in
//! `permissions.rs` and are printed by `pinnace-operator rbac`.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use operator::arguments::{Arguments, Command};
use operator::{definitions_file, permissions, run};

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::main(*arguments),
        Command::Crds { out: Some(directory) } => definitions_file::write(&directory),
        Command::Crds { out: None } => definitions_file::print_to_stdout(),
        Command::Rbac => print_permissions(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // When stderr is full or gone nobody is left to tell.
            let _ = writeln!(std::io::stderr(), "pinnace-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_permissions() -> anyhow::Result<()> {
    std::io::stdout().write_all(permissions::to_yaml()?.as_bytes())?;
    Ok(())
}
