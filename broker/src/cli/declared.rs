//! What the verbs on topics and on consumer groups have in common: the arguments of a list, and how what is there, what
//! differs and what is missing is told. Knows neither topics nor groups.

use clap::Args;
use serde::Serialize;

use super::admin::AdminArguments;
use super::failure::Failure;
use super::output::{Format, OutputArguments, columns, emit, print};

/// Arguments of `pinnace topic list` and its like.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

/// Something declared, as it is printed.
pub(super) trait View: Serialize {
    /// Names of the columns of [`View::row`].
    const HEADER: &'static [&'static str];
    /// One line of a list.
    fn row(&self) -> Vec<String>;
    /// All of it, for people.
    fn details(&self) -> String;
}

/// Prints many.
pub(super) fn print_list<V: View>(format: Format, views: &[V]) -> Result<(), Failure> {
    print(format, &views, |views| columns(V::HEADER, views.iter().map(View::row).collect()))
}

/// Prints one.
pub(super) fn print_one<V: View>(format: Format, view: &V) -> Result<(), Failure> {
    print(format, view, View::details)
}

/// A kind of declared thing, in the words of the command line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// For sentences.
    pub(super) noun: &'static str,
    /// The first word of its verbs.
    pub(super) verb: &'static str,
}

impl Kind {
    /// The failure of every verb that needs one which is not there.
    pub(super) fn none(self, name: &str) -> Failure {
        let Self { noun, verb } = self;
        Failure::runtime(format!(
            "there is no {noun} {name}; 'pinnace {verb} list' shows those that exist"
        ))
    }

    /// Refuses to create again what is there with other settings.
    pub(super) fn same(self, name: &str, differences: &[String]) -> Result<(), Failure> {
        if differences.is_empty() {
            return Ok(());
        }
        Err(Failure::runtime(format!(
            "{} {name} exists with other settings: {}; delete it first, or leave these flags out",
            self.noun,
            differences.join(", ")
        )))
    }

    /// Tells the outcome of a delete.
    pub(super) fn deleted(self, name: &str, existed: bool) -> Result<(), Failure> {
        if existed {
            emit(&format!("{} {name} deleted\n", self.noun))
        } else {
            Err(self.none(name))
        }
    }
}
