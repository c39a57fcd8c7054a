//! Turns an argument error of the parser into one line with a hint, instead of a screen of usage text.

use std::process::ExitCode;

use clap::error::ErrorKind;

use super::failure::one_line;
use super::output::say;

/// Prints help and version as they are, and anything else as one line on stderr with exit code 2.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nobody is left to tell when stdout is closed.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    say(line(error));
    ExitCode::from(2)
}

/// `error: <what>; <tip>; run 'pinnace <verb> --help'`.
pub(super) fn line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut what = Vec::new();
    let mut tips = Vec::new();
    let mut verb = "pinnace".to_owned();
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if let Some(tip) = part.strip_prefix("tip: ") {
            tips.push(tip.to_owned());
        } else if let Some(usage) = part.strip_prefix("Usage: ") {
            verb = verb_of(usage);
        } else if !part.starts_with("For more information") {
            what.push(part);
        }
    }
    let mut line = one_line(&what.join(" "));
    if !line.starts_with("error:") {
        line = String::from("error: no verb was given");
    }
    for tip in tips {
        line.push_str("; ");
        line.push_str(&tip);
    }
    format!("{line}; run '{verb} --help'")
}

/// The leading words of a usage line, without its options and values.
fn verb_of(usage: &str) -> String {
    let words = usage.split_whitespace().take_while(|word| !word.starts_with(['[', '<', '-', '|']));
    words.collect::<Vec<_>>().join(" ")
}
