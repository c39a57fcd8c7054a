//! What a controller found out about an object, and the three conditions that say it (kstatus). Pure.

use operator_api::condition::{Finding, READY, RECONCILING, STALLED, Truth};

/// The outcome of looking at an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as asked.
    Ready(Reason),
    /// It is on the way, or waits for something that is expected to come.
    Waiting(Reason),
    /// Nothing was heard from the brokers for a while; what was true may still be.
    Unknown(Reason),
    /// A person has to change something.
    Stalled(Reason),
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// One word for programs.
    pub word: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl Reason {
    /// A reason.
    pub fn new(word: &'static str, message: impl Into<String>) -> Self {
        Self { word, message: message.into() }
    }
}

impl Verdict {
    /// Shorthand for [`Verdict::Waiting`].
    pub fn waiting(word: &'static str, message: impl Into<String>) -> Self {
        Self::Waiting(Reason::new(word, message))
    }

    /// Shorthand for [`Verdict::Stalled`].
    pub fn stalled(word: &'static str, message: impl Into<String>) -> Self {
        Self::Stalled(Reason::new(word, message))
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        match self {
            Self::Ready(r) | Self::Waiting(r) | Self::Unknown(r) | Self::Stalled(r) => r,
        }
    }

    /// Whether the object is as asked.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// The conditions that say it.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let Reason { word, message } = self.reason();
        let finding =
            |type_, status| Finding { type_, status, reason: word, message: message.clone() };
        match self {
            Self::Ready(_) => vec![finding(READY, Truth::True)],
            Self::Waiting(_) => {
                vec![finding(READY, Truth::False), finding(RECONCILING, Truth::True)]
            }
            Self::Unknown(_) => {
                vec![finding(READY, Truth::Unknown), finding(RECONCILING, Truth::True)]
            }
            Self::Stalled(_) => vec![finding(READY, Truth::False), finding(STALLED, Truth::True)],
        }
    }
}

#[cfg(test)]
mod tests;
