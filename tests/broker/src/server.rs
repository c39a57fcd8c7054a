//! A broker and the verbs of the command line run against it, for tests without a runtime of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use crate::binary;
use crate::broker::{Broker, Options, start_on};

/// A running broker on a given data folder.
#[derive(Debug)]
pub struct Server {
    broker: Option<Broker>,
    data: PathBuf,
    options: Options,
    /// For probes.
    pub http: SocketAddr,
}

/// What a verb did.
#[derive(Debug)]
pub struct Ran {
    verb: String,
    output: Output,
}

impl Server {
    /// Starts a broker with further arguments of `serve`.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start(data: &Path, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let options = Options { arguments, ..Options::default() };
        let broker = start_on(data, &options);
        Self { http: broker.http, broker: Some(broker), data: data.to_owned(), options }
    }

    /// The broker itself, for clients of other kinds.
    ///
    /// # Panics
    /// When it was stopped.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        self.broker.as_ref().expect("it runs until it is stopped")
    }

    /// Runs a verb against the broker.
    ///
    /// # Panics
    /// When the binary cannot be run.
    #[must_use]
    pub fn run(&self, verb: &[&str]) -> Ran {
        let broker = self.broker();
        let output = Command::new(binary())
            .args(verb)
            .env("PINNACE_ENDPOINT", broker.listen.to_string())
            .env("PINNACE_ADMIN", broker.admin.to_string())
            .stdin(Stdio::null())
            .output()
            .expect("the binary can be run");
        Ran { verb: verb.join(" "), output }
    }

    /// Ends the broker as a crash would, and starts it again on the same data.
    ///
    /// # Panics
    /// When it does not become ready again.
    pub fn kill_and_reopen(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.kill();
        }
        let broker = start_on(&self.data, &self.options);
        self.http = broker.http;
        self.broker = Some(broker);
    }

    /// Asks the broker to end and waits for it.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn terminate(mut self) -> ExitStatus {
        let broker = self.broker.take().expect("it runs until it is stopped");
        broker.terminate();
        broker.exit()
    }
}

impl Ran {
    /// What it printed.
    ///
    /// # Panics
    /// When it failed.
    #[must_use]
    pub fn ok(self) -> String {
        let errors = String::from_utf8_lossy(&self.output.stderr);
        assert!(self.output.status.success(), "{} failed: {errors}", self.verb);
        String::from_utf8(self.output.stdout).expect("output is text")
    }

    /// The one line that says why it failed with this exit code.
    ///
    /// # Panics
    /// When it did not, or said anything else.
    #[must_use]
    pub fn refused(self, code: i32) -> String {
        let errors = String::from_utf8(self.output.stderr).expect("errors are text");
        assert_eq!(self.output.status.code(), Some(code), "{}: {errors}", self.verb);
        assert_eq!(errors.trim_end().lines().count(), 1, "{}: {errors}", self.verb);
        errors
    }
}
