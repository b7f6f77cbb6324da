//! What one run of a node hands to the next one of the same process, in the environment: what is to be open for it, and
//! how often folders came back. Nothing of it is kept: what was shared is in the record by then.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::pairing::Handed;
use super::super::places::{to_path, to_text};
use crate::wire::api::PathText;

/// The variable.
pub(super) const VARIABLE: &str = "LANYARD_ANEW";
/// Bytes of the paths opened for one run. A guess: more than are asked for while a node ends.
const OPEN_BYTES_MAX: usize = 16 * 1024;
/// Longest value. Source: execve(2), `MAX_ARG_STRLEN` is 128 KiB, with the variable's name.
const TEXT_BYTES_MAX: usize = 120 * 1024;
/// Folders whose returns are counted.
const RETURNS_MAX: usize = 64;
/// A folder that is back again is taken no earlier than this after the time before, and twice as late each time.
const RETURN_MS: u64 = 60_000;
/// Doublings at most: an hour.
const RETURN_DOUBLINGS_MAX: u32 = 6;

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Handover {
    /// The start was told to who started the node, and what was to be shared then is.
    pub(super) began: bool,
    /// Open invitations: here as in the node's memory, and nowhere else, so that each is used once.
    pub(super) invitations: Vec<Handed>,
    /// Who was connected, by id in hexadecimal.
    pub(super) peers: Vec<String>,
    open: Vec<PathText>,
    made: Vec<PathText>,
    returns: Vec<Return>,
}

/// When a folder last came back, and how often it did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Return {
    root: PathText,
    at_ms: u64,
    times: u32,
}

impl Handover {
    /// What the run before this one left; nothing at a start.
    pub(super) fn of_process() -> Self {
        std::env::var(VARIABLE).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// As it goes into the environment. What does not fit is left out, the least important first.
    pub(super) fn to_text(&self) -> String {
        let text = |handover: &Self| serde_json::to_string(handover).expect("a handover has only text keys");
        let fewer = Self { returns: Vec::new(), ..self.clone() };
        let least = Self { invitations: Vec::new(), ..fewer.clone() };
        let fits = [self, &fewer].into_iter().map(text).find(|text| text.len() <= TEXT_BYTES_MAX);
        fits.unwrap_or_else(|| text(&least))
    }

    /// What the next run begins with.
    pub(super) fn next(&self) -> Self {
        Self { returns: self.returns.clone(), ..Self::default() }
    }

    pub(super) fn open(&self) -> Vec<PathBuf> {
        self.open.iter().map(to_path).collect()
    }

    pub(super) fn made(&self) -> Vec<PathBuf> {
        self.made.iter().map(to_path).collect()
    }

    /// A directory is to be open; false where there is no room for more.
    pub(super) fn add(&mut self, path: &Path, made: bool) -> bool {
        let text = to_text(path);
        if self.open.contains(&text) {
            return true;
        }
        let bytes: usize = self.open.iter().map(|open| open.as_str().len()).sum();
        if bytes + text.as_str().len() > OPEN_BYTES_MAX {
            return false;
        }
        self.open.push(text.clone());
        self.made.extend(made.then_some(text));
        true
    }

    /// Whether a folder that is back may be a reason to start anew now; counts it if so.
    pub(super) fn may_return(&mut self, root: &Path, now_ms: u64) -> bool {
        let root = to_text(root);
        let Some(known) = self.returns.iter_mut().find(|known| known.root == root) else {
            if self.returns.len() < RETURNS_MAX {
                self.returns.push(Return { root, at_ms: now_ms, times: 1 });
                return true;
            }
            return false;
        };
        let doublings = known.times.saturating_sub(1).min(RETURN_DOUBLINGS_MAX);
        if now_ms < known.at_ms.saturating_add(RETURN_MS << doublings) {
            return false;
        }
        (known.at_ms, known.times) = (now_ms, known.times.saturating_add(1));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_arrives_and_only_returns_are_handed_on() {
        let mut before = Handover { began: true, ..Handover::default() };
        assert!(before.add(Path::new("/srv/a\nb"), true));
        assert!(before.add(Path::new("/srv/plans"), false));
        assert!(before.add(Path::new("/srv/plans"), false));
        assert!(before.may_return(Path::new("/srv/disk"), 5));
        let after: Handover = serde_json::from_str(&before.to_text()).expect("as written");
        assert_eq!(after, before);
        assert_eq!(after.open(), [Path::new("/srv/a\nb"), Path::new("/srv/plans")]);
        assert_eq!(after.made(), [Path::new("/srv/a\nb")]);
        let next = after.next();
        assert!(!next.began && next.open().is_empty() && next.made().is_empty());
        assert_eq!(next.returns, before.returns);
    }

    #[test]
    fn what_is_handed_over_always_fits_an_environment() {
        let mut handover = Handover::default();
        let path = |n: usize| PathBuf::from(format!("/{n}{}", "\u{7}x".repeat(2_000)));
        assert!((0..100).any(|n| !handover.add(&path(n), true)), "it is full at some time");
        assert!(!handover.open().is_empty());
        assert_eq!((0..100).filter(|n| handover.may_return(&path(*n), 0)).count(), RETURNS_MAX);
        let text = handover.to_text();
        assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
        let after: Handover = serde_json::from_str(&text).expect("as written");
        assert_eq!(after.open(), handover.open());
    }

    #[test]
    fn a_folder_that_comes_back_again_and_again_is_taken_ever_less_often() {
        let (mut handover, root) = (Handover::default(), Path::new("/srv/disk"));
        assert!(handover.may_return(root, 0));
        assert!(!handover.may_return(root, RETURN_MS - 1));
        assert!(handover.may_return(Path::new("/srv/other"), RETURN_MS - 1), "each counts for itself");
        assert!(handover.may_return(root, RETURN_MS));
        assert!(!handover.may_return(root, 2 * RETURN_MS));
        assert!(handover.may_return(root, 3 * RETURN_MS));
    }
}
