//! Why a reconcile could not be finished. Each is tried again after a pause; what a person has to change is a condition,
//! not an error.

/// A failed reconcile. The variant's word labels metrics.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading from the API server.
    #[error("cannot read {what}: {source}")]
    Fetch {
        /// What was read.
        what: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// Writing an object.
    #[error("cannot apply {what}: {source}")]
    Apply {
        /// What was written.
        what: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// Writing a status.
    #[error("cannot write the status of {what}: {source}")]
    Status {
        /// Whose status.
        what: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// Writing a finalizer.
    #[error("cannot change the finalizers of {what}: {source}")]
    Finalizer {
        /// Whose finalizers.
        what: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// Making a certificate.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
    /// A broker's address.
    #[error("cannot connect to the brokers: {0}")]
    Connect(String),
}

impl Error {
    /// One word for metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Fetch { .. } => "fetch",
            Self::Apply { .. } => "apply",
            Self::Status { .. } => "status",
            Self::Finalizer { .. } => "finalizer",
            Self::Certificate(_) => "certificate",
            Self::Connect(_) => "connect",
        }
    }
}
