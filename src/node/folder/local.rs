//! What may have changed on the disk: hints, looks, and contents that have to be read.
//!
//! A hint is looked at when it has settled; a file that is still being written a while after the last hint of it.
//! Deletions wait until everything that appeared was read: a rename is then announced with its new name first, and
//! receivers still have the content under the old one.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{FileInfo, RelPath};

/// How long a file that is being written must be quiet before it is read. A guess: longer than the gaps between
/// the writes of a program that saves, far shorter than a person's patience; closing the file ends the wait.
const QUIET_MS: u64 = 300;
/// A file that is never quiet is read after this long all the same.
const WRITING_MS_MAX: u64 = 10_000;
/// A name must be gone for this long before that is signed: the other half of a rename is mostly a moment behind. A guess:
/// far longer than between two hints, too short to be noticed.
const GONE_MS: u64 = 50;
/// A file that changed while it was read is read again after this long, doubling.
const AGAIN_MS: u64 = 200;
/// The longest such wait.
const AGAIN_MS_MAX: u64 = 10_000;
/// How many hints are kept one by one; more become one look at everything.
const HINTS_MAX: usize = 50_000;

/// A look that is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// At one name.
    One(RelPath),
    /// At a directory with all below it.
    Below(RelPath),
}

/// What is waiting on the local side.
#[derive(Default)]
pub(super) struct Local {
    hints: BTreeMap<RelPath, Hint>,
    below: Vec<RelPath>,
    /// Files whose content has to be read, in order of discovery.
    pub(super) to_read: VecDeque<(RelPath, FileInfo)>,
    /// Names that are gone.
    gone: Vec<RelPath>,
    /// When that is signed at the earliest.
    gone_due_ms: u64,
    /// Large files being read elsewhere.
    pub(super) reading: BTreeMap<RelPath, FileInfo>,
    restless: BTreeMap<RelPath, u64>,
}

#[derive(Clone, Copy)]
struct Hint {
    first_ms: u64,
    due_ms: u64,
}

impl Local {
    /// Something may have happened to a name.
    pub(super) fn hint(&mut self, path: RelPath, settled: bool, now_ms: u64) {
        if self.hints.len() >= HINTS_MAX {
            self.hints.clear();
            self.look_below(RelPath::root());
            return;
        }
        let first_ms = self.hints.get(&path).map_or(now_ms, |hint| hint.first_ms);
        let due_ms = if settled { now_ms } else { (now_ms + QUIET_MS).min(first_ms + WRITING_MS_MAX) };
        self.hints.insert(path, Hint { first_ms, due_ms });
    }

    /// Something may have happened anywhere below a directory.
    pub(super) fn look_below(&mut self, path: RelPath) {
        if self.below.iter().any(|other| path.starts_with(other)) {
            return;
        }
        self.below.retain(|other| !other.starts_with(&path));
        self.below.push(path);
    }

    /// A file changed while it was read: later, and later still each time.
    pub(super) fn again(&mut self, path: RelPath, now_ms: u64) {
        let wait = self.restless.get(&path).map_or(AGAIN_MS, |wait| (wait * 2).min(AGAIN_MS_MAX));
        self.restless.insert(path.clone(), wait);
        self.hints.insert(path, Hint { first_ms: now_ms, due_ms: now_ms + wait });
    }

    /// A file was read without a change meanwhile.
    pub(super) fn calm(&mut self, path: &RelPath) {
        self.restless.remove(path);
    }

    /// A name was found to be gone.
    pub(super) fn gone(&mut self, path: RelPath, now_ms: u64) {
        if self.gone.is_empty() {
            self.gone_due_ms = now_ms + GONE_MS;
        }
        self.gone.push(path);
    }

    /// Names that are gone, once everything that appeared was read.
    pub(super) fn take_gone(&mut self, now_ms: u64) -> Vec<RelPath> {
        if !self.to_read.is_empty() || !self.reading.is_empty() || self.gone_due_ms > now_ms {
            return Vec::new();
        }
        let mut gone = std::mem::take(&mut self.gone);
        gone.sort();
        gone.dedup();
        gone
    }

    /// Looks that are due now; at most `most` single ones.
    pub(super) fn due(&mut self, now_ms: u64, most: usize) -> Vec<Look> {
        let mut looks: Vec<Look> = std::mem::take(&mut self.below).into_iter().map(Look::Below).collect();
        let due: Vec<RelPath> =
            self.hints.iter().filter(|(_, hint)| hint.due_ms <= now_ms).map(|(p, _)| p.clone()).take(most).collect();
        for path in due {
            self.hints.remove(&path);
            let covered = looks.iter().any(|look| matches!(look, Look::Below(dir) if path.starts_with(dir)));
            if !covered {
                looks.push(Look::One(path));
            }
        }
        looks
    }

    /// When the next look is due; `None`: when a hint comes.
    pub(super) fn wake_ms(&self) -> Option<u64> {
        if !self.below.is_empty() || !self.to_read.is_empty() {
            return Some(0);
        }
        let gone = (!self.gone.is_empty() && self.reading.is_empty()).then_some(self.gone_due_ms);
        self.hints.values().map(|hint| hint.due_ms).chain(gone).min()
    }

    /// Whether nothing is waiting.
    pub(super) fn is_idle(&self) -> bool {
        self.hints.is_empty()
            && self.below.is_empty()
            && self.to_read.is_empty()
            && self.gone.is_empty()
            && self.reading.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("valid")
    }

    #[test]
    fn a_file_being_written_is_looked_at_once_it_is_quiet_or_closed() {
        let mut local = Local::default();
        local.hint(path("a"), false, 1000);
        local.hint(path("a"), false, 1200);
        assert!(local.due(1300, 10).is_empty());
        assert_eq!(local.due(1500, 10), [Look::One(path("a"))]);
        local.hint(path("a"), false, 2000);
        local.hint(path("a"), true, 2001);
        assert_eq!(local.due(2001, 10), [Look::One(path("a"))]);
        assert!(local.is_idle());
    }

    #[test]
    fn a_look_at_a_directory_covers_what_is_below() {
        let mut local = Local::default();
        local.look_below(path("a/b"));
        local.look_below(path("a"));
        local.look_below(path("a/c"));
        local.hint(path("a/x"), true, 0);
        assert_eq!(local.due(0, 10), [Look::Below(path("a"))]);
    }

    #[test]
    fn what_is_gone_is_said_after_everything_that_appeared_was_read() {
        let mut local = Local::default();
        local.gone(path("b"), 1000);
        local.gone(path("a"), 1040);
        local.gone(path("b"), 1045);
        assert!(local.take_gone(1049).is_empty());
        assert_eq!(local.wake_ms(), Some(1050));
        let info = FileInfo {
            kind: crate::base::Kind::File,
            bytes: 1,
            mode: 0o644,
            mtime: Default::default(),
            ctime: Default::default(),
            inode: 1,
        };
        local.reading.insert(path("new"), info);
        assert!(local.take_gone(9999).is_empty());
        assert_eq!(local.wake_ms(), None);
        local.reading.clear();
        assert_eq!(local.take_gone(1050), [path("a"), path("b")]);
        assert!(local.is_idle());
    }

    #[test]
    fn a_restless_file_is_read_less_and_less_often() {
        let mut local = Local::default();
        local.again(path("log"), 0);
        assert_eq!(local.wake_ms(), Some(200));
        let _ = local.due(200, 10);
        local.again(path("log"), 200);
        assert_eq!(local.wake_ms(), Some(600));
    }
}
