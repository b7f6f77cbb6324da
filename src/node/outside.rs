//! The two sides of the process: a thread that stays outside, and the node, which reaches only what was opened for it.
//!
//! Landlock confines a thread and what it starts, for good. So the main thread does next to nothing: it starts the node
//! in a thread that confines itself first, answers what that may not look at, and waits for its end. Another place is
//! opened by starting anew: the node ends as it does at a stop, and the main thread replaces the process by the same
//! program, which keeps its number and opens the new place from the start.
//!
//! The node asks at a person's word only: a path of the local API, or a folder's root that came back. Page:
//! `docs/decisions/0007-only-what-is-shared-is-reachable.md`.

mod handover;
mod open;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use tracing::{info, warn};

use self::handover::Handover;
use super::config::{Config, Options};
use super::inbox::Event;
use super::mesh::record_path;
use super::pairing::Handed;
use super::places::real;
use super::record::Record;
use super::{Shared, reasons};
use crate::base::{FolderId, NodeId};
use crate::shell::confine::{self, Unconfined};
use crate::shell::disk::{Folder, MarkerError};
use crate::shell::{clock, rt};
use crate::wire::api::{Failure, FailureKind};

/// Questions that wait for the thread outside.
const ASKS_MAX: usize = 16;
/// How long those that were connected to the run before are awaited. A guess: links are back within a second.
const REJOIN_MS_MAX: u64 = 5_000;
/// How often it is looked for them.
const REJOIN_LOOK_MS: u64 = 10;
/// A folder that was put back is taken when nothing in it has changed for so long: one that is still being copied would
/// be taken for one in which the rest was deleted. A guess: a copy that rests longer has ended.
const SETTLED_MS: i64 = 20_000;
/// Names looked at for that. A guess: a second or two of a disk's work; what is beyond is most likely older.
const SETTLED_NAMES_MAX: usize = 200_000;

/// How a node ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// It was told to.
    Stopped,
    /// To be started anew. `began`: its start had been told to who started it.
    /// `peers` were connected.
    Anew { began: bool, invitations: Vec<Handed>, peers: Vec<NodeId> },
}

/// What the node asks of the thread outside.
enum Ask {
    Open(PathBuf, Make, Sender<io::Result<bool>>),
    Back(PathBuf, FolderId, Sender<Result<bool, MarkerError>>),
    Config(Sender<bool>),
    Ended,
}

/// What of a directory is made where it is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Make {
    Nothing,
    /// Its last component.
    Last,
    /// Those above it, too.
    All,
}

/// Whether a directory can be used by this run of the node.
#[derive(Debug)]
pub(super) enum Reach {
    /// As far as it was opened. `made`: it was made for the request that this run was started for.
    Within { made: bool },
    /// The next run can; this one ends.
    Anew,
    /// Not even from outside.
    Cannot(io::Error),
}

/// The node's way to the thread outside.
pub(super) struct Outside {
    asks: Sender<Ask>,
    /// The directories in which the node may work, where it is confined.
    work: Option<Vec<PathBuf>>,
    /// What this run was started for, and what of it was made for that.
    more: Vec<PathBuf>,
    made: Vec<PathBuf>,
    /// This run follows another one of the same start.
    pub(super) goes_on: bool,
    /// Who was connected to the run before, and is to be again before anything is done; until when that is awaited.
    peers: Vec<NodeId>,
    rejoin_until_ms: u64,
    /// Open invitations of the run before.
    pub(super) invitations: Vec<Handed>,
}

/// Runs a node in a thread that confines itself first, and serves it from outside until it has ended; starts it anew, in this
/// process's place, where it asked for that.
pub(super) fn around(
    options: Options,
    node: impl FnOnce(Options, Outside) -> Result<End, Failure> + Send + 'static,
) -> Result<(), Failure> {
    options.places.make().map_err(|error| error.to_failure())?;
    let came = Handover::of_process();
    // One that cannot be read is said by the node, which reads it again.
    let record = Record::read(&record_path(&options.places.state)).ok().flatten();
    let known = open::Known {
        places: &options.places,
        config: &options.config,
        record: record.as_ref(),
        share: if came.began { &[] } else { &options.share },
        more: came.open(),
        resolver: fs::canonicalize("/etc/resolv.conf").ok(),
    };
    let opened = options.config.node.landlock.then(|| open::open(&known));
    let config = options.places.config.clone();
    let (asks, asked) = async_channel::bounded(ASKS_MAX);
    let mut next = came.next();
    let inside = confine::thread(move || {
        let _told = Told(asks.clone());
        let work = opened.and_then(|opened| match confine::confine(&opened) {
            Ok(()) => Some(opened.work.iter().chain(&opened.sockets).filter_map(|path| path.canonicalize().ok()).collect()),
            Err(error @ Unconfined::Lacking) => {
                info!("this node reaches what its user may: {error}");
                None
            }
            Err(error) => {
                warn!(error = %reasons(&error).join(": "), "this node reaches what its user may: it cannot be confined");
                None
            }
        });
        let outside = Outside {
            asks,
            work,
            more: came.open(),
            made: came.made(),
            goes_on: came.began,
            peers: came.peers.iter().filter_map(|peer| NodeId::from_hex(peer)).collect(),
            rejoin_until_ms: clock::boottime_ms() + REJOIN_MS_MAX,
            invitations: came.invitations,
        };
        node(options, outside)
    });
    let inside = inside.map_err(|error| Failure::failed("cannot start the node's thread").because(&error))?;
    answer(&asked, &mut next, &config);
    match inside.join() {
        Ok(Ok(End::Stopped)) => Ok(()),
        Ok(Ok(End::Anew { began, invitations, peers })) => {
            (next.began, next.invitations) = (began, invitations);
            next.peers = peers.into_iter().map(|peer| peer.to_hex()).collect();
            let error = confine::start_anew(handover::VARIABLE, &next.to_text());
            Err(Failure::failed("the node has ended to start anew, and cannot").because(&error).hint("start it again"))
        }
        Ok(Err(failure)) => Err(failure),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Says that the node has ended, however it did.
struct Told(Sender<Ask>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send_blocking(Ask::Ended);
    }
}

/// Answers until the node has ended.
fn answer(asked: &Receiver<Ask>, next: &mut Handover, config: &Path) {
    // A node that runs with what was configured before is better than one that cannot start.
    let can_start = || Config::read(config).map_err(|error| io::Error::other(reasons(&error).join(": ")));
    // Who asked may have gone meanwhile.
    while let Ok(ask) = asked.recv_blocking() {
        match ask {
            Ask::Open(path, make, to) => {
                let opened = can_start().and_then(|_| open_one(&path, make)).and_then(|made| {
                    let full = || io::Error::other("too many directories were asked for at once");
                    next.add(&path, made).then_some(made).ok_or_else(full)
                });
                let _ = to.send_blocking(opened);
            }
            Ask::Back(root, folder, to) => {
                let is_back = is_back(&root, folder);
                let anew = is_back
                    .map(|settled| settled && can_start().is_ok() && next.may_return(&root, clock::boottime_ms()));
                let _ = to.send_blocking(anew);
            }
            Ask::Config(to) => {
                let _ = to.send_blocking(can_start().is_ok());
            }
            Ask::Ended => return,
        }
    }
}

/// Opens a directory from outside; returns whether it was made.
fn open_one(path: &Path, make: Make) -> io::Result<bool> {
    let made = match make {
        Make::Nothing => Ok(()),
        Make::Last => fs::create_dir(path),
        Make::All if path.is_dir() => Err(io::ErrorKind::AlreadyExists.into()),
        Make::All => fs::create_dir_all(path),
    };
    let made = match made {
        Ok(()) => make != Make::Nothing,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    fs::read_dir(path)?;
    Ok(made)
}

/// Whether a directory is the folder that it was, and nobody is filling it.
fn is_back(root: &Path, folder: FolderId) -> Result<bool, MarkerError> {
    let found = Folder::open(root)?.marker()?;
    if found != folder {
        return Err(MarkerError::Other { path: root.display().to_string(), found });
    }
    let now_ms = i64::try_from(clock::wall_ms()).unwrap_or(i64::MAX);
    Ok(is_mounted(root) || newest_ms(root).is_none_or(|newest| !(0..SETTLED_MS).contains(&(now_ms - newest))))
}

/// What is mounted comes whole.
fn is_mounted(root: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    root.parent().is_some_and(|above| device(above) != device(root))
}

/// When anything below a directory last changed, by the file system's own times, milliseconds since 1970 UTC.
fn newest_ms(root: &Path) -> Option<i64> {
    let (mut newest, mut left, mut todo) = (None, SETTLED_NAMES_MAX, vec![root.to_path_buf()]);
    while let Some(dir) = todo.pop() {
        newest = newest.max(fs::symlink_metadata(&dir).ok().map(|found| changed_ms(&found)));
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            left -= 1;
            if left == 0 {
                return newest;
            }
            let Ok(found) = entry.metadata() else { continue };
            match found.is_dir() {
                true => todo.push(entry.path()),
                false => newest = newest.max(Some(changed_ms(&found))),
            }
        }
    }
    newest
}

fn changed_ms(found: &fs::Metadata) -> i64 {
    found.ctime().saturating_mul(1000).saturating_add(found.ctime_nsec() / 1_000_000)
}

impl Outside {
    /// Whether the node reaches only what was opened for it.
    pub(super) fn is_confined(&self) -> bool {
        self.work.is_some()
    }

    /// Sees to it that a directory can be used. Where it is not open yet, it is made from outside as `make` says, and the
    /// next run of the node has it; otherwise nothing is made.
    fn reach(&self, path: &Path, make: Make) -> Reach {
        let made = self.made.iter().any(|made| made == path);
        if self.is_open(path) {
            return Reach::Within { made };
        }
        match self.ask(|to| Ask::Open(path.to_path_buf(), make, to)) {
            // It was opened for this run, and is closed all the same: no other run would help.
            Some(Ok(_)) if self.more.iter().any(|more| more == path) => Reach::Within { made },
            Some(Ok(_)) => Reach::Anew,
            Some(Err(error)) => Reach::Cannot(error),
            None => Reach::Within { made },
        }
    }

    /// Whether a directory, or the nearest above it that is there, can be used: by its name, and as what it is.
    fn is_open(&self, path: &Path) -> bool {
        let Some(work) = &self.work else { return true };
        let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
        let real = real(path);
        work.iter().any(|open| real.starts_with(open)) && fs::read_dir(there).is_ok()
    }

    /// Whether the configuration can be read from outside.
    pub(super) fn can_read_config(&self) -> bool {
        self.is_confined() && self.ask(Ask::Config).unwrap_or(false)
    }

    fn ask<T>(&self, ask: impl FnOnce(Sender<T>) -> Ask) -> Option<T> {
        let (to, answered) = async_channel::bounded(1);
        // The thread outside ends with the process only.
        self.asks.send_blocking(ask(to)).ok()?;
        answered.recv_blocking().ok()
    }
}

/// Sees to it that a directory can be used; where this run of the node cannot, it ends, and the next one can.
pub(super) fn reach(shared: &Arc<Shared>, path: &Path, make: Make) -> Reach {
    let reach = shared.outside.reach(path, make);
    if matches!(reach, Reach::Anew) {
        info!(path = %path.display(), "starts anew: this directory is not open to this run of the node");
        anew(shared);
    }
    reach
}

/// Makes a directory with those above it, where this run of the node can; the failure says that the next one can.
pub(super) fn open_all(shared: &Arc<Shared>, path: &Path) -> Result<io::Result<()>, Failure> {
    match reach(shared, path, Make::All) {
        Reach::Within { .. } => Ok(fs::create_dir_all(path)),
        Reach::Anew => Err(asked_again(path)),
        Reach::Cannot(error) => Ok(Err(error)),
    }
}

/// What is said to who asked for a directory that the next run can use.
pub(super) fn asked_again(path: &Path) -> Failure {
    Failure::new(FailureKind::Anew, format!("the node starts anew to open {}", path.display()))
        .hint("ask once more in a moment: this command does so by itself")
}

/// Waits until those that were connected when the run before ended are so again, and folders know what they have: what a
/// command does then is what it would have done without a new start.
pub(super) async fn rejoined(shared: &Arc<Shared>) {
    let outside = &shared.outside;
    let left = || Duration::from_millis(outside.rejoin_until_ms.saturating_sub(clock::boottime_ms()));
    let peers: Vec<NodeId> = outside.peers.iter().copied().filter(|peer| shared.mesh.is_member(*peer)).collect();
    if peers.is_empty() || left().is_zero() {
        return;
    }
    let connected = async {
        while peers.iter().any(|peer| shared.way_to(*peer).is_none()) {
            rt::sleep(Duration::from_millis(REJOIN_LOOK_MS)).await;
        }
        for folder in shared.folders().into_values() {
            folder.wait().await;
        }
    };
    // One that is not back is away, as it might be at any time.
    let _late = rt::timeout(left(), connected).await;
}

/// Ends this run of the node, for the next.
pub(super) fn anew(shared: &Arc<Shared>) {
    let to_loop = shared.to_loop.clone();
    rt::spawn(async move {
        let _ = to_loop.send(Event::Anew).await;
    });
}

/// Checks that a folder's path still leads to its directory. Where another directory with its marker stands there now
/// (it was put back from a backup, its disk was mounted) and rests, the node starts anew to take it.
pub(super) fn check_marker(shared: &Arc<Shared>, disk: &Folder, folder: FolderId) -> Result<(), MarkerError> {
    let checked = disk.check_marker(folder);
    match &checked {
        Err(MarkerError::Moved(_)) => {}
        Err(MarkerError::Disk(error)) if error.cause().kind() == io::ErrorKind::PermissionDenied => {}
        _ => return checked,
    }
    match shared.outside.ask(|to| Ask::Back(disk.path().to_path_buf(), folder, to)) {
        Some(Ok(true)) => {
            info!(path = %disk.path().display(), "starts anew: a folder is back");
            anew(shared);
            Err(MarkerError::Moved(disk.path().display().to_string()))
        }
        Some(Ok(false)) => Err(MarkerError::Moved(disk.path().display().to_string())),
        // What stands in its place, the thread outside sees.
        Some(Err(error)) => Err(error),
        None => checked,
    }
}
