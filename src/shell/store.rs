//! The index database: what a node knows about one folder, in one file, with transactions.
//!
//! Page: `docs/spec/index.md`. Three rules:
//! 1. a change is whole or it left no trace, also when the disk fills up or the power goes;
//! 2. a damaged file is found when it is opened, set aside and never read again: everything in it can be rebuilt from
//!    the files and from the peers. A full disk, a missing right or a second process is no damage;
//! 3. a file of a newer version is left alone.
//!
//! All calls block; async callers run them on a thread for blocking work.

mod file;
mod tables;
mod upgrade;
mod view;

use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::logic::sync::index::{Index, IndexError, Look};
use tables::{Fault, Tables, guarded};
use view::{Failed, View};

/// Why the index could not be opened, read or changed. What was committed before is untouched.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer lanyard wrote it. It is left as it is.
    #[error("the index {path} has version {found}, this lanyard knows up to {known}: upgrade lanyard")]
    Future {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// It is of an earlier version, and its disk has no room to bring it up to date. It is left as it is.
    #[error(
        "the index {path} is of an earlier version; to bring it up to date takes {needed} bytes beside it, and {free} are free"
    )]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Another process, or another handle of this one, has it open.
    #[error("the index {path} is already open")]
    AlreadyOpen {
        /// The file.
        path: PathBuf,
    },
    /// No right to read and write it.
    #[error("no permission to read and write the index {path}")]
    Denied {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No room on its disk, or over a quota or limit. The change left no trace; it can be tried again.
    #[error("no space left for the index {path}")]
    Full {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Any other failure of the disk. The change left no trace; it can be tried again.
    #[error("the index {path} could not be read or written")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is damaged and was set aside: open it again for an empty one, and rebuild that from the files and peers.
    #[error("the index {path} is damaged: {why}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What cannot be.
        why: String,
    },
}

impl StoreError {
    fn of(path: &Path, fault: Fault) -> Self {
        let path = path.to_path_buf();
        match fault {
            Fault::Corrupt(why) => Self::Corrupt { path, why },
            Fault::Stale => Self::Io { path, source: io::Error::other("an earlier failure closed the file") },
            Fault::Io(source) => Self::of_io(path, source),
        }
    }

    fn of_io(path: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Denied { path, source },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { path, source }
            }
            _ => Self::Io { path, source },
        }
    }

    /// What a person may do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Future { .. } => Some("install the version of lanyard that was here last, or a later one".into()),
            Self::NoRoom { needed, free, .. } => Some(upgrade::hint(*needed, *free)),
            _ => None,
        }
    }

    /// The store's error behind a failed call on an index, for who must tell a full disk from a damaged file.
    pub fn behind(error: &IndexError) -> Option<&Self> {
        error.0.downcast_ref()
    }
}

impl From<StoreError> for IndexError {
    fn from(error: StoreError) -> Self {
        Self(Box::new(error))
    }
}

/// In what state the file was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// It was there, and whole.
    Existing,
    /// There was none: an empty one was made.
    New,
    /// It was damaged; an empty one was made. The caller rebuilds it from the files and peers.
    SetAside {
        /// Where the damaged file is now.
        aside: PathBuf,
        /// What was wrong with it; empty if it was set aside before.
        why: String,
    },
}

/// An open index.
#[derive(Debug)]
pub struct Opened {
    /// The index.
    pub store: Store,
    /// In what state the file was found.
    pub condition: Condition,
}

/// The index of one folder. Clones share one open file.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    cache_bytes: usize,
    /// Held for the length of a change: there is one at a time.
    turn: Mutex<()>,
    state: Mutex<State>,
    /// See `Look::is_for_group`.
    for_group: AtomicBool,
}

#[derive(Debug)]
enum State {
    Open(Database),
    /// The disk failed; the next call opens the file again.
    Closed,
    /// Damaged and set aside, and why.
    Broken(String),
}

impl Store {
    /// From now on `Look::is_for_group` says yes.
    pub fn set_for_group(&self) {
        self.0.for_group.store(true, Ordering::Relaxed);
    }

    /// Opens the index at `path`, or makes it. Every page is verified, which takes time in proportion to its size (about
    /// 0.1 s for 50,000 files). The cache never takes more than `cache_bytes` of memory.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Opened, StoreError> {
        let (database, condition) = file::open_or_make(path, cache_bytes)?;
        let state = Mutex::new(State::Open(database));
        let shared = Shared {
            path: path.to_path_buf(),
            cache_bytes,
            turn: Mutex::new(()),
            state,
            for_group: AtomicBool::new(false),
        };
        Ok(Opened { store: Self(Arc::new(shared)), condition })
    }

    /// Makes a change: all that `change` puts, or nothing if it fails or panics. Waits for a change that is going on.
    ///
    /// A durable change is on the disk when this returns, with all that came before it. Others become durable with the
    /// next durable one; until then a crash, or a failure of the disk, takes them back in the order of their arrival.
    pub fn write<T, E: From<IndexError>>(
        &self,
        durable: bool,
        change: impl FnOnce(&mut dyn Index) -> Result<T, E>,
    ) -> Result<T, E> {
        let shared = &*self.0;
        let _turn = shared.take_turn();
        let mut failed = None;
        let outcome = shared.change(durable, change, &mut failed);
        shared.settle(failed);
        outcome
    }

    /// Looks at the index as it is now; later changes are not seen, and wait for nothing.
    pub fn read<T, E: From<IndexError>>(&self, look: impl FnOnce(&dyn Look) -> Result<T, E>) -> Result<T, E> {
        let shared = &*self.0;
        let mut failed = None;
        let outcome = shared.look(look, &mut failed);
        // While a change goes on it meets the same failure, and deals with it.
        if matches!(failed, Some(Failed::Corrupt(_))) || (failed.is_some() && shared.turn.try_lock().is_ok()) {
            shared.settle(failed);
        }
        outcome
    }

    /// Makes all changes so far durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        let shared = &*self.0;
        let _turn = shared.take_turn();
        let done = shared.begin_write(true).and_then(|txn| guarded(|| txn.commit()));
        done.map_err(|fault| {
            shared.settle(Some(Failed::of(&fault)));
            StoreError::of(&shared.path, fault)
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl Shared {
    fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a caller's closure poisons nothing that is half done: the transaction is dropped with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One change, from its beginning to its end. `failed` becomes what the caller has to settle.
    fn change<T, E: From<IndexError>>(
        &self,
        durable: bool,
        change: impl FnOnce(&mut dyn Index) -> Result<T, E>,
        failed: &mut Option<Failed>,
    ) -> Result<T, E> {
        let mut fail = |fault| self.fail(fault, failed);
        let txn = self.begin_write(durable).map_err(&mut fail)?;
        let mut view =
            View::new(Tables::write(&txn).map_err(&mut fail)?, &self.path, self.for_group.load(Ordering::Relaxed));
        let outcome = change(&mut view);
        let outcome = match view.failed() {
            None => outcome.and_then(|value| Ok(view.finish().map(|()| value)?)),
            // A caller that goes on after a failed call gets nothing of it.
            Some(_) => outcome.and_then(|_| Err(fail(Fault::Stale).into())),
        };
        if let Some(met) = view.failed() {
            let damaged = matches!(met, Failed::Corrupt(_));
            *failed = Some(met);
            if damaged {
                // What a panic left half done may panic again when it is dropped.
                let _ = ManuallyDrop::new(view);
                let _ = ManuallyDrop::new(txn);
                return outcome;
            }
        }
        drop(view);
        match outcome {
            Ok(value) => {
                guarded(|| txn.commit()).map_err(|fault| self.fail(fault, failed))?;
                Ok(value)
            }
            Err(error) => {
                if let Err(fault) = guarded(|| txn.abort()) {
                    failed.get_or_insert(Failed::of(&fault));
                }
                Err(error)
            }
        }
    }

    fn look<T, E: From<IndexError>>(
        &self,
        look: impl FnOnce(&dyn Look) -> Result<T, E>,
        failed: &mut Option<Failed>,
    ) -> Result<T, E> {
        let mut fail = |fault| self.fail(fault, failed);
        let txn = self.begin_read().map_err(&mut fail)?;
        let view =
            View::new(Tables::read(&txn).map_err(&mut fail)?, &self.path, self.for_group.load(Ordering::Relaxed));
        let outcome = look(&view);
        *failed = view.failed();
        outcome
    }

    fn fail(&self, fault: Fault, failed: &mut Option<Failed>) -> IndexError {
        failed.get_or_insert(Failed::of(&fault));
        StoreError::of(&self.path, fault).into()
    }

    /// The caller holds the turn, so this never waits for another change.
    fn begin_write(&self, durable: bool) -> Result<WriteTransaction, Fault> {
        self.with_database(|database| {
            let mut txn = guarded(|| database.begin_write())?;
            let durability = if durable { Durability::Immediate } else { Durability::None };
            // No quick repair: it doubles the time of a commit to spare a check that every opening makes anyway.
            txn.set_durability(durability).map_err(|error| Fault::Corrupt(error.to_string()))?;
            Ok(txn)
        })
    }

    fn begin_read(&self) -> Result<ReadTransaction, Fault> {
        self.with_database(|database| guarded(|| database.begin_read()))
    }

    /// Opens the file again if a failure closed it.
    fn with_database<T>(&self, begin: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut state = self.state();
        match &*state {
            State::Open(_) => {}
            State::Broken(why) => return Err(Fault::Corrupt(why.clone())),
            State::Closed => *state = State::Open(file::open_again(&self.path, self.cache_bytes)?),
        }
        match &*state {
            State::Open(database) => begin(database),
            State::Closed | State::Broken(_) => Err(Fault::Stale),
        }
    }

    /// Draws the consequence of a failure, after the transaction that met it is gone.
    fn settle(&self, failed: Option<Failed>) {
        let Some(failed) = failed else { return };
        let mut state = self.state();
        if !matches!(*state, State::Open(_)) {
            return;
        }
        match failed {
            // After a failure of the disk the database takes no more changes until it is opened again.
            Failed::Io => {
                let before = std::mem::replace(&mut *state, State::Closed);
                // Its failure to close is the failure that is being handled.
                let _ = guarded(|| {
                    drop(before);
                    Ok::<_, Fault>(())
                });
            }
            Failed::Corrupt(why) => {
                let why = match file::set_aside(&self.path) {
                    Ok(aside) => format!("{why}; it is set aside as {}", aside.display()),
                    Err(error) => format!("{why}; it could not be set aside: {error}"),
                };
                // Closing would write to a file that nobody understands any more, and may panic.
                let _ = ManuallyDrop::new(std::mem::replace(&mut *state, State::Broken(why)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_the_disk_is_named_and_never_taken_for_damage() {
        let named = |kind: io::ErrorKind| StoreError::of(Path::new("index.redb"), Fault::Io(kind.into()));
        assert!(matches!(named(io::ErrorKind::StorageFull), StoreError::Full { .. }));
        assert!(matches!(named(io::ErrorKind::QuotaExceeded), StoreError::Full { .. }));
        assert!(matches!(named(io::ErrorKind::PermissionDenied), StoreError::Denied { .. }));
        assert!(matches!(named(io::ErrorKind::ReadOnlyFilesystem), StoreError::Denied { .. }));
        assert!(matches!(named(io::ErrorKind::TimedOut), StoreError::Io { .. }));
    }

    #[test]
    fn a_store_is_shared_between_threads() {
        fn shared<T: Send + Sync + Clone>() {}
        shared::<Store>();
    }
}
