//! What could not be read for a snapshot. The library only warns of it: here it is counted, so that a snapshot that lacks
//! something is never taken for a whole one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::RelPath;

/// Names that are listed. A guess: more than a person reads; all are counted.
pub const LISTED_MAX: usize = 100;

/// A name that is not in a snapshot as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missed {
    /// Which.
    pub path: RelPath,
    /// Why.
    pub why: String,
}

/// What went wrong with names, of one pass.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Found>);

/// See `Trouble`.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Some of them.
    pub(super) listed: Vec<Missed>,
    /// How many there are.
    pub(super) count: u64,
    /// How many of them changed while they were read: another pass may have them.
    pub(super) changed: u64,
}

impl Trouble {
    /// Notes a name that cannot be had.
    pub(super) fn missed(&self, path: RelPath, why: String) {
        let mut found = self.lock();
        found.count += 1;
        if found.listed.len() < LISTED_MAX {
            found.listed.push(Missed { path, why });
        }
    }

    /// Notes a file that changed while it was read.
    pub(super) fn changed(&self, path: RelPath, why: &str) {
        self.missed(path, why.into());
        self.lock().changed += 1;
    }

    pub(super) fn found(&self) -> Found {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        // Counts are whole after a panic, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
