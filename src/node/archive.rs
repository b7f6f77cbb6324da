//! The archive of this node: one repository, written and cleaned by this node alone, whoever is the coordinator.
//!
//! Snapshots are taken while the mesh says that this node may be the office's server; looking back needs only the archive.
//! What is due and what is kept is decided by `logic::archive`, the repository is `shell::archive`. One rule of it is kept
//! here: what cleans or repairs is alone, and only one snapshot is taken at a time.

mod back;
mod check;
mod notes;
mod take;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future;
use zeroize::Zeroizing;

use self::notes::Notes;
use super::outside::{self, Make, Reach};
use super::{Shared, lock, reasons};
use crate::base::FolderId;
use crate::shell::archive::{self as repository, Archive, ArchiveError, Meter};
use crate::shell::{clock, home, rt};
use crate::wire::api::{ArchiveAnswer, AskArchive, Event, Failure};

pub(super) use self::back::{Archived, Reader};
pub(super) use self::take::start;

/// How often work tells how far it is.
const TELL_MS: u64 = 500;
/// Below this much free, or below a twentieth of the disk where that is less, a disk is nearly full. A guess: room for some
/// hundred packs.
const FREE_MIN: u64 = 1024 * 1024 * 1024;
/// Longest key file that is read.
const KEY_BYTES_MAX: usize = 4096;

/// What a node keeps about its archive while it runs.
#[derive(Default)]
pub(super) struct Keeper {
    stop: Arc<AtomicBool>,
    meter: Arc<Meter>,
    /// Held shared by what reads or adds, alone by what removes.
    using: Arc<async_lock::RwLock<()>>,
    /// Held by who takes a snapshot.
    taking: async_lock::Mutex<()>,
    /// What is being done, for people.
    doing: Mutex<Option<String>>,
    health: Mutex<Health>,
    /// Held while the notes are changed.
    noting: Mutex<()>,
}

/// How the archive is, as far as it was tried.
#[derive(Clone, Default)]
struct Health {
    /// Why the last work on it failed.
    problem: Option<String>,
    /// What a check found damaged, until it is repaired: other work may go well all the same.
    damage: Option<String>,
    /// What of it failed for single folders, and when.
    folders: std::collections::BTreeMap<FolderId, (u64, String)>,
}

/// Answers what is asked of the archive.
pub(super) async fn asked(shared: &Arc<Shared>, ask: AskArchive) -> Result<ArchiveAnswer, Failure> {
    match ask {
        AskArchive::Status {} => check::status(shared).await.map(ArchiveAnswer::Status),
        AskArchive::Snapshot { folder } => take::demanded(shared, folder.as_deref()).await.map(ArchiveAnswer::Taken),
        AskArchive::Check { read_data, repair } => {
            check::check(shared, read_data, repair).await.map(ArchiveAnswer::Checked)
        }
        AskArchive::Prune {} => take::prune(shared).await.map(ArchiveAnswer::Pruned),
        AskArchive::Password {} => check::new_password(shared).await.map(ArchiveAnswer::Password),
    }
}

/// Ends what is being done, and waits for it.
pub(super) async fn stop(shared: &Shared) {
    shared.archive.stop.store(true, Ordering::Relaxed);
    drop(shared.archive.using.write().await);
}

/// Whether this node could keep the archive as the office's server; else why not.
pub(super) fn fit(shared: &Shared) -> Result<(), String> {
    match problem(shared) {
        Some(problem) if shared.config.archive.enabled => Err(problem),
        _ => Ok(()),
    }
}

/// How long ago the archive was last brought up to date, in milliseconds; `None` where nothing is to be in it.
pub(super) fn age_ms(shared: &Shared) -> Option<u64> {
    if !is_eligible(shared) || !shared.config.archive.enabled {
        return None;
    }
    let newest = notes(shared).ok()?.folders.into_values().map(|taken| taken.at_ms).max()?;
    Some(clock::wall_ms().saturating_sub(newest))
}

/// What is wrong with the archive.
fn problem(shared: &Shared) -> Option<String> {
    let health = lock(&shared.archive.health).clone();
    health.damage.or(health.problem).or_else(|| nearly_full(shared))
}

fn nearly_full(shared: &Shared) -> Option<String> {
    let place = place(shared);
    let (free, all) = repository::room(&place)?;
    let what = || format!("the disk of the archive in {} is nearly full", place.display());
    (free < FREE_MIN.min(all / 20)).then(what)
}

/// Says what a check found, until one finds nothing.
fn checked(shared: &Shared, damage: Option<String>) -> Result<(), Failure> {
    let before = std::mem::replace(&mut lock(&shared.archive.health).damage, damage.clone());
    before.iter().filter(|before| damage.as_ref() != Some(before)).for_each(|before| shared.over(before));
    if let Some(damage) = &damage {
        shared.alert(
            damage.clone(),
            Some("'lanyard archive check --repair' repairs it from the folders as they are now".into()),
        );
    }
    note(shared, |notes| notes.damage = damage)
}

/// Whether the mesh lets this node be the office's server.
fn is_eligible(shared: &Shared) -> bool {
    let policy = shared.mesh.policy();
    policy.is_some_and(|policy| policy.eligible(shared.mesh.node()).is_some())
}

/// Where what is about the archive is kept: its key, its notes, and, where nothing else is said, itself.
fn dir(shared: &Shared) -> PathBuf {
    shared.places.state.join("archive")
}

/// Where the archive is.
fn place(shared: &Shared) -> PathBuf {
    let configured = shared.config.archive.path.as_ref().map(|path| path.as_path().to_path_buf());
    configured.unwrap_or_else(|| dir(shared).join("repository"))
}

fn notes(shared: &Shared) -> Result<Notes, Failure> {
    Notes::read(&dir(shared)).map_err(|error| Failure::failed("cannot read the notes of the archive").because(&error))
}

fn note(shared: &Shared, change: impl FnOnce(&mut Notes)) -> Result<(), Failure> {
    let _turn = lock(&shared.archive.noting);
    let mut notes = notes(shared)?;
    change(&mut notes);
    let written = notes.write(&dir(shared));
    written.map_err(|error| Failure::failed("cannot write the notes of the archive").because(&error))
}

/// The archive, with its key; with `may_make` a key is made where there is none yet.
fn open(shared: &Arc<Shared>, may_make: bool) -> Result<Archive, Failure> {
    let (dir, place) = (dir(shared), place(shared));
    // One that was made and is not there is on a disk that is away.
    let make = if may_make && !notes(shared).is_ok_and(|notes| notes.made) { Make::All } else { Make::Nothing };
    if matches!(outside::reach(shared, &place, make), Reach::Anew) {
        return Err(outside::asked_again(&place));
    }
    let path = dir.join("key");
    let cannot = || Failure::failed(format!("cannot use the key of the archive, {}", path.display()));
    let is_made = place.join("config").exists();
    let key: Zeroizing<Vec<u8>> = match home::read(&path).map_err(|error| cannot().because(&error))? {
        Some(key) => key.into(),
        None if is_made => {
            return Err(cannot().why("it is not there, but the archive is").hint(format!(
                "put it back from a backup of {}; without it restic reads the archive with the recovery password",
                dir.display()
            )));
        }
        None if !may_make => {
            let what = format!("there is no archive on this machine, in {}", place.display());
            return Err(
                Failure::failed(what).hint("an admin says which machines keep one: 'lanyard coordinator allow NODE'")
            );
        }
        None => {
            let key = repository::fresh_key();
            home::make_dir(&dir).and_then(|()| home::replace(&path, &key)).map_err(|error| cannot().because(&error))?;
            key
        }
    };
    let mode = fs::metadata(&path).map(|meta| meta.permissions().mode()).unwrap_or(0o600);
    if mode & 0o077 != 0 {
        return Err(cannot().why("others can read it").hint(format!("run: chmod 600 {}", path.display())));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(cannot().why("it is too long for a key"));
    }
    Ok(Archive::new(&place, &key, shared.archive.stop.clone(), shared.archive.meter.clone()))
}

/// How work goes along with other work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// With all that reads and adds.
    Others,
    /// With nothing.
    Nothing,
}

/// Does work on the archive, and tells how far it is.
async fn work<T: Send + 'static>(
    shared: &Arc<Shared>,
    doing: String,
    beside: Beside,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let using = shared.archive.using.clone();
    let (read, write) = match beside {
        Beside::Others => (Some(using.read_arc().await), None),
        Beside::Nothing => (None, Some(using.write_arc().await)),
    };
    *lock(&shared.archive.doing) = Some(doing.clone());
    shared.archive.meter.start(0);
    let done = rt::spawn_blocking(move || {
        // Until it has ended, also where nobody waits for it any more.
        let _held = (read, write);
        work()
    });
    let tell = async {
        let mut last = (0, 0);
        loop {
            rt::sleep(Duration::from_millis(TELL_MS)).await;
            let now = shared.archive.meter.read();
            if now != last {
                last = now;
                shared.tell(Event::Archive { doing: doing.clone(), done: now.0, total: now.1 });
            }
        }
    };
    let done = future::or(done, tell).await;
    *lock(&shared.archive.doing) = None;
    done
}

/// Makes it where there is none and may be one, and puts right what an unclean stop left. Returns whether it was made.
async fn prepare(shared: &Arc<Shared>, archive: &Archive, may_make: bool) -> Result<bool, ArchiveError> {
    if archive.is_made() && !archive.is_unclean() {
        return Ok(false);
    }
    let archive = archive.clone();
    let doing = "looking through the archive after an unclean stop";
    work(shared, doing.to_owned(), Beside::Nothing, move || archive.prepare(may_make)).await
}

/// Notes how the archive is after something was tried that writes to it.
fn tried(shared: &Shared, error: Option<&ArchiveError>) {
    let mut health = lock(&shared.archive.health);
    match error {
        None => {
            if let Some(problem) = health.problem.take() {
                drop(health);
                shared.over(&problem);
            }
        }
        Some(error) if error.is_passing() => {}
        Some(error) => {
            let problem = reasons(error).join(": ");
            if health.problem.as_ref() != Some(&problem) {
                let before = health.problem.replace(problem.clone());
                drop(health);
                before.iter().for_each(|before| shared.over(before));
                shared.alert(problem, Some(hint(error)));
            }
        }
    }
}

/// Notes what was found while it was only looked at: that this goes well says nothing of what failed before.
fn looked(shared: &Shared, error: Option<&ArchiveError>) {
    if error.is_some() {
        tried(shared, error);
    }
}

/// A failure of the archive as people read it.
fn failure(what: impl Into<String>, error: &ArchiveError) -> Failure {
    Failure::failed(what).because(error).hint(hint(error))
}

fn hint(error: &ArchiveError) -> String {
    match error {
        ArchiveError::Full { .. } => {
            "free space on the disk of the archive, or set [archive] path to a larger one; what was begun goes on then"
        }
        ArchiveError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            "give the user that runs lanyard the right to the archive's directory"
        }
        ArchiveError::Io { .. } => "see that the disk of the archive is there and healthy: 'lanyard archive check'",
        ArchiveError::Missing { .. } => {
            "see that its disk is mounted; to begin a new archive, move the key file in the node's state away"
        }
        ArchiveError::NotOurs { .. } => {
            "each machine keeps an archive of its own: set [archive] path to another place, or put the key back that made it"
        }
        ArchiveError::InUse { .. } => "wait until restic has ended; if none runs: 'restic unlock'",
        ArchiveError::Key => "put the key file back from a backup of the node's state",
        ArchiveError::Stopped => "it goes on at the next start",
        ArchiveError::Broken { .. } => "'lanyard archive check --read-data' says what is wrong, '--repair' repairs it",
    }
    .to_owned()
}
