//! Failures as people read them: what failed, why, and what to do.

use std::error::Error;

use serde::{Deserialize, Serialize};

/// Longest chain of causes that is told. A guess: deeper chains repeat themselves.
const CAUSES_MAX: usize = 8;

/// Who must act on a failure. Each has its exit status of the command line and its HTTP status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It was tried and did not work.
    Failed,
    /// It was asked wrongly.
    Usage,
    /// No node is running here.
    NoNode,
    /// The rules of the mesh, or the state of the node, do not allow it.
    Refused,
    /// It was not done in the time given.
    TimedOut,
    /// This lanyard is too old for what it should read: a newer one is needed.
    TooOld,
    /// Nothing was done: the node starts anew to be able to. Asked again in a moment, it does what was asked.
    Anew,
}

impl FailureKind {
    /// Exit status of the command line.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Failed | Self::Anew => 1,
            Self::Usage => 2,
            Self::NoNode => 3,
            Self::Refused => 4,
            Self::TimedOut => 5,
            Self::TooOld => 6,
        }
    }

    /// HTTP status.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Failed | Self::TooOld => 500,
            Self::Usage => 400,
            Self::NoNode | Self::Anew => 503,
            Self::Refused => 403,
            Self::TimedOut => 504,
        }
    }
}

/// A failure: printed as `error: what`, `caused by: why` and `hint: hint`, all lower case and without a full stop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// Who must act.
    pub kind: FailureKind,
    /// What failed, with the object's name.
    pub what: String,
    /// Why, nearest cause first.
    #[serde(default)]
    pub why: Vec<String>,
    /// What the person can do about it.
    #[serde(default)]
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without causes yet.
    pub fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), why: Vec::new(), hint: None }
    }

    /// It was tried and did not work.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Failed, what)
    }

    /// The rules, or the state of the node, do not allow it.
    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Refused, what)
    }

    /// It was asked wrongly.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, what)
    }

    /// It was not done in time.
    pub fn timed_out(what: impl Into<String>) -> Self {
        Self::new(FailureKind::TimedOut, what)
    }

    /// Adds an error and what caused it.
    #[must_use]
    pub fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next.filter(|_| self.why.len() < CAUSES_MAX) {
            self.why.push(plain(&error.to_string()));
            next = error.source();
        }
        self
    }

    /// Adds a cause in words.
    #[must_use]
    pub fn why(mut self, cause: impl Into<String>) -> Self {
        self.why.push(cause.into());
        self
    }

    /// Says what the person can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error's text in the house's form: the system's `No space left on device (os error 28)` loses capital and number.
fn plain(text: &str) -> String {
    let text = match text.rfind(" (os error ") {
        Some(at) if text.ends_with(')') => &text[..at],
        _ => text,
    };
    let mut letters = text.chars();
    match letters.next() {
        // A word in capitals (`TLS`, `EOF`) stays as it is.
        Some(first) if first.is_uppercase() && letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_told_in_the_houses_form() {
        let full = std::io::Error::from_raw_os_error(28);
        let failure = Failure::failed("cannot replace plans/office.pdf").because(&full);
        assert_eq!(failure.why, ["no space left on device"]);
        assert_eq!(plain("TLS refused"), "TLS refused");
    }

    #[test]
    fn every_kind_has_the_exit_status_of_the_contract() {
        use FailureKind::{Failed, NoNode, Refused, TimedOut, TooOld, Usage};
        let kinds = [Failed, Usage, NoNode, Refused, TimedOut, TooOld];
        assert_eq!(kinds.map(FailureKind::exit_status), [1, 2, 3, 4, 5, 6]);
        assert_eq!(FailureKind::Anew.exit_status(), 1);
    }
}
