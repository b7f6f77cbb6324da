//! Hints that something changed, from inotify by way of the crate `notify`. The scan is the truth.
//!
//! Rules:
//! 1. the thread that reads the kernel's queue is never blocked: what does not fit the channel becomes one
//!    `Rescan` of the root, sent by a thread of its own as soon as there is room;
//! 2. a directory that appeared is hinted only after it is watched, so that whatever is missed by the watch is seen
//!    by the rescan: `mkdir -p a/b` and a file in it give no event for the file;
//! 3. symbolic links are not followed, and `.lanyard/` is neither watched nor hinted.
//!
//! Traps seen: reading gives `Access(Open)` events, so one's own scan would start the next: only `Close(Write)` counts;
//! an overflow of the kernel's queue shows only as `need_rescan`.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use async_channel::{Sender, TrySendError};
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, Event, EventKind, INotifyWatcher, RecursiveMode, Watcher};

use crate::base::RelPath;
use crate::base::path::RESERVED;

/// Directories waiting to be hinted; more become one rescan of the root. A guess: an unpacked archive fits.
const DIRS_MAX: usize = 1024;

/// Where to look again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hint {
    /// One path. `settled` if whoever changed it is done: closed, moved, removed. Otherwise more may follow.
    Changed {
        /// Which.
        path: RelPath,
        /// Whether to expect no more at once.
        settled: bool,
    },
    /// A path and all below it.
    Rescan(RelPath),
}

/// Why a folder is not watched. The caller scans instead.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel allows no more watches, or no more watchers, to this user.
    #[error(
        "cannot watch {0}: the limit on inotify watches is reached; raise it with \
         'sysctl fs.inotify.max_user_watches=1048576 fs.inotify.max_user_instances=1024' \
         (and a file in /etc/sysctl.d to keep it); until then changes are found by scanning"
    )]
    Limit(String),
    /// Anything else.
    #[error("cannot watch {path}")]
    Other {
        /// What.
        path: String,
        /// Why.
        source: notify::Error,
    },
}

/// A watched folder, until dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
}

impl Watch {
    /// Watches the folder at `root` and all below it, in time proportional to its directories. `hints` is bounded.
    pub fn start(root: &Path, hints: Sender<Hint>) -> Result<Self, WatchError> {
        let fail = |error: notify::Error| match error.kind {
            ErrorKind::MaxFilesWatch => WatchError::Limit(root.display().to_string()),
            _ if is_limit(&error) => WatchError::Limit(root.display().to_string()),
            _ => WatchError::Other { path: root.display().to_string(), source: error },
        };
        let root = root.canonicalize().map_err(|e| fail(e.into()))?;
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new() });
        let receiver = Receiver { root: root.clone(), hints: hints.clone(), shared: shared.clone() };
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = INotifyWatcher::new(move |event| receiver.handle_event(event), config).map_err(fail)?;
        watch_below(&mut watcher, &root).map_err(fail)?;
        let own = root.join(std::ffi::OsStr::from_bytes(RESERVED));
        // Not there yet, or not watched: both are as well.
        let _ = watcher.unwatch(&own);
        let deliverer = Deliverer { watcher, root, own, hints, shared: shared.clone() };
        std::thread::Builder::new()
            .name("watch".into())
            .stack_size(128 * 1024)
            .spawn(move || deliverer.run())
            .map_err(|e| fail(e.into()))?;
        Ok(Self { shared })
    }

    /// Watches a directory again that could not be watched, and hints it with all below it; false where it is not done.
    pub fn again(&self, dir: RelPath) -> bool {
        let mut state = self.shared.lock();
        if state.stopped || state.again.len() >= DIRS_MAX {
            return false;
        }
        state.again.insert(dir);
        self.shared.wake.notify_all();
        true
    }

    /// Whether the limit on watches was reached since the start: changes may go unnoticed, scan more often.
    pub fn is_partial(&self) -> bool {
        self.shared.lock().partial
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.wake.notify_all();
    }
}

/// Watches a directory and all below it but those that this user may not read: these are left out, not their neighbours.
fn watch_below(watcher: &mut INotifyWatcher, dir: &Path) -> notify::Result<()> {
    // The crate stops at the first directory that it may not watch. What it watched until then stays watched, so that
    // the rest is done directory by directory: in one that is closed itself nothing can be.
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        match watcher.watch(&dir, RecursiveMode::Recursive) {
            Err(error) if is_closed(&error) => {
                let Ok(entries) = std::fs::read_dir(&dir) else { continue };
                let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
                todo.extend(entries.flatten().filter(is_dir).map(|entry| entry.path()));
            }
            // Gone since it was listed.
            Err(error) if matches!(error.kind, ErrorKind::PathNotFound) && !todo.is_empty() => {}
            result => result?,
        }
    }
    Ok(())
}

fn is_closed(error: &notify::Error) -> bool {
    matches!(&error.kind, ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::PermissionDenied)
}

/// Too many watchers, which the kernel tells by another error than too many watches.
fn is_limit(error: &notify::Error) -> bool {
    matches!(&error.kind, ErrorKind::Io(io) if io.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()))
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Directories that appeared, to be hinted once they are watched.
    dirs: BTreeSet<RelPath>,
    /// Directories that could not be watched, to be watched and hinted.
    again: BTreeSet<RelPath>,
    /// Something was missed: the root must be hinted.
    lost: bool,
    /// The last path hinted as unsettled, while nobody else sends: it need not be queued twice in a row.
    last: Option<RelPath>,
    delivering: bool,
    partial: bool,
    stopped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock with the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that `notify` calls: it sorts events and never waits.
struct Receiver {
    root: PathBuf,
    hints: Sender<Hint>,
    shared: Arc<Shared>,
}

impl Receiver {
    fn handle_event(&self, event: notify::Result<Event>) {
        match event {
            Ok(event) if event.need_rescan() => self.lose(false),
            Ok(event) => {
                // A rename within the folder was told as `From` and `To` before: `Both` adds nothing.
                if event.kind != EventKind::Modify(ModifyKind::Name(RenameMode::Both)) {
                    for path in &event.paths {
                        self.handle_path(event.kind, path);
                    }
                }
            }
            Err(error) => self.lose(matches!(error.kind, ErrorKind::MaxFilesWatch)),
        }
    }

    fn handle_path(&self, kind: EventKind, full: &Path) {
        let Ok(below) = full.strip_prefix(&self.root) else { return };
        // What no shared path can be is for the scan to report; `.lanyard` is ours.
        let Ok(path) = RelPath::new(below.as_os_str().as_bytes()) else { return };
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => self.changed(path, true),
            EventKind::Access(_) => {}
            EventKind::Create(CreateKind::Folder) => self.appeared(path),
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                match std::fs::symlink_metadata(full) {
                    Ok(meta) if meta.is_dir() => self.appeared(path),
                    // A new file will be written and closed; a link, hard or symbolic, is whole at once.
                    Ok(meta) if kind.is_create() => self.changed(path, !meta.is_file() || meta.nlink() > 1),
                    _ => self.changed(path, true),
                }
            }
            // The root itself was moved or removed.
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) if path.is_root() => self.lose(false),
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => self.changed(path, true),
            EventKind::Modify(_) if path.is_root() => {}
            EventKind::Modify(_) => self.changed(path, false),
            EventKind::Any | EventKind::Other => self.lose(false),
        }
    }

    fn changed(&self, path: RelPath, settled: bool) {
        let mut state = self.shared.lock();
        if !settled && !state.delivering && state.last.as_ref() == Some(&path) && !self.hints.is_empty() {
            // The same hint is the last in the queue and not yet taken.
            return;
        }
        let last = (!settled).then(|| path.clone());
        match self.hints.try_send(Hint::Changed { path, settled }) {
            Ok(()) => state.last = last,
            Err(TrySendError::Full(_)) => {
                state.lost = true;
                self.shared.wake.notify_all();
            }
            Err(TrySendError::Closed(_)) => {}
        }
    }

    fn appeared(&self, dir: RelPath) {
        let mut state = self.shared.lock();
        if state.dirs.len() < DIRS_MAX {
            state.dirs.insert(dir);
        } else {
            state.lost = true;
        }
        self.shared.wake.notify_all();
    }

    fn lose(&self, partial: bool) {
        let mut state = self.shared.lock();
        state.lost = true;
        state.partial |= partial;
        self.shared.wake.notify_all();
    }
}

/// The end that may wait: it sends what the receiver could not.
struct Deliverer {
    watcher: INotifyWatcher,
    root: PathBuf,
    own: PathBuf,
    hints: Sender<Hint>,
    shared: Arc<Shared>,
}

impl Deliverer {
    fn run(mut self) {
        while let Some(rescans) = self.next() {
            // `notify` watches new directories when it has told of all events it read, and takes calls after that: when
            // this one returns, all that were told of are watched.
            let again = std::mem::take(&mut self.shared.lock().again);
            for dir in &again {
                let full = self.root.join(std::ffi::OsStr::from_bytes(dir.as_bytes()));
                // What cannot be watched still is tried again by whoever asked.
                let _ = watch_below(&mut self.watcher, &full);
            }
            let _ = self.watcher.unwatch(&self.own);
            for path in rescans.into_iter().chain(again) {
                if self.hints.send_blocking(Hint::Rescan(path)).is_err() || self.shared.lock().stopped {
                    return;
                }
            }
            let mut state = self.shared.lock();
            state.delivering = false;
            state.last = None;
        }
    }

    /// Waits for something to rescan; `None` when the watch was dropped. What is lost from here on sets the mark
    /// again, and so is told after this.
    fn next(&self) -> Option<Vec<RelPath>> {
        let mut state = self.shared.lock();
        while !state.stopped && !state.lost && state.dirs.is_empty() && state.again.is_empty() {
            state = self.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped {
            return None;
        }
        state.delivering = true;
        state.last = None;
        let dirs = std::mem::take(&mut state.dirs);
        if std::mem::take(&mut state.lost) {
            return Some(vec![RelPath::root()]);
        }
        let mut rescans: Vec<RelPath> = Vec::new();
        for dir in dirs {
            // In the order of paths, a directory comes right before those below it.
            if !rescans.last().is_some_and(|above| dir.starts_with(above)) {
                rescans.push(dir);
            }
        }
        Some(rescans)
    }
}
