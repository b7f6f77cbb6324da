//! Taking snapshots, by the schedule and when somebody asks, and forgetting those that are not kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{info, warn};

use super::notes::Taken;
use super::{
    Beside, Health, check, checked, failure, is_eligible, looked, nearly_full, note, notes, open, prepare, tried, work,
};
use crate::base::FolderId;
use crate::logic::archive::{self as decide, Last, PRUNE_EVERY_MS};
use crate::node::audit::folder_ref;
use crate::node::folder::FolderHandle;
use crate::node::rules::folders_meant;
use crate::node::{Shared, lock, reasons, standing};
use crate::shell::archive::{Archive, ArchiveError, Pruned, Snapshot, Take, TakenNow};
use crate::shell::disk::MarkerError;
use crate::shell::{clock, rt};
use crate::wire::api::{
    ArchivePruned, Failure, FolderRef, PathText, SnapshotFailed, SnapshotTaken, SnapshotsTaken, Unread, UtcTime,
};

/// How often it is looked what is due.
const LOOK_MS: u64 = 20_000;

/// Why there is no snapshot of a folder.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error(transparent)]
    Folder(#[from] MarkerError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Takes snapshots by the schedule, as long as the node runs.
pub(in crate::node) fn start(shared: &Arc<Shared>) {
    if !shared.config.archive.enabled {
        return;
    }
    let noted = notes(shared).unwrap_or_default();
    if noted.damage.is_some() {
        // Without the note it is said all the same.
        let _ = checked(shared, noted.damage);
    }
    let shared = shared.clone();
    rt::spawn(async move {
        while !shared.archive.stop.load(Ordering::Relaxed) {
            rt::sleep(Duration::from_millis(LOOK_MS)).await;
            if is_eligible(&shared)
                && let Err(failure) = turn(&shared).await
            {
                warn!(why = failure.why.join(": "), "{}", failure.what);
            }
        }
    });
}

/// Does what is due.
async fn turn(shared: &Arc<Shared>) -> Result<(), Failure> {
    let every = shared.config.archive.every.ms;
    let (noted, health) = (notes(shared)?, lock(&shared.archive.health).clone());
    let now = clock::wall_ms();
    let last = |folder: &FolderId| Last {
        done_ms: noted.folders.get(&folder.to_hex()).map(|taken| taken.at_ms),
        failed_ms: health.folders.get(folder).map(|(at_ms, _)| *at_ms),
    };
    let due: BTreeMap<FolderId, FolderHandle> =
        shared.folders().into_iter().filter(|(folder, _)| decide::is_due(now, every, last(folder))).collect();
    if due.is_empty() {
        return Ok(());
    }
    if let Some(problem) = nearly_full(shared) {
        shared.alert(problem, Some("free space on the disk of the archive, or set [archive] path".into()));
    }
    let archive = open(shared, true)?;
    let _turn = shared.archive.taking.lock().await;
    ready(shared, &archive).await.map_err(|error| failure("cannot use the archive", &error))?;
    for (folder, handle) in due {
        let mark = mark(&handle);
        let before = noted.folders.get(&folder.to_hex());
        if mark.is_some() && before.map(|taken| &taken.mark) == mark.as_ref() {
            let at_ms = clock::wall_ms();
            note(shared, |notes| notes.folders.entry(folder.to_hex()).or_default().at_ms = at_ms)?;
            continue;
        }
        if shared.archive.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        // A failure is an alert, and waits for its time.
        let _ = take(shared, &archive, folder, handle, false).await;
    }
    drop(_turn);
    let now = clock::wall_ms();
    let is_time = noted.pruned_ms.is_none_or(|at| at > now || now - at >= PRUNE_EVERY_MS);
    if is_time {
        let pruned = forget(shared, &archive).await.map_err(|error| failure("cannot clean the archive", &error))?;
        info!(forgotten = pruned.forgotten, freed = pruned.freed, "the archive was cleaned");
    }
    Ok(())
}

/// Makes the archive ready. Returns whether it was made.
async fn ready(shared: &Arc<Shared>, archive: &Archive) -> Result<bool, ArchiveError> {
    let was_made = notes(shared).is_ok_and(|notes| notes.made);
    // One that was made and is not there is on a disk that is away: a new one would hide that.
    let made = prepare(shared, archive, !was_made).await;
    looked(shared, made.as_ref().err());
    let made = made?;
    if made {
        info!("an archive was made");
        let _ = note(shared, |notes| notes.made = true);
    }
    Ok(made)
}

/// What a folder is, as far as a snapshot is concerned; `None`: not known.
fn mark(handle: &FolderHandle) -> Option<String> {
    let frontiers = handle.back().store.read(|look| look.frontiers()).ok()?;
    let status = handle.status();
    let told = format!("{frontiers:?} {:?} {}", status.local, status.local_only);
    Some(blake3::hash(told.as_bytes()).to_hex().to_string())
}

/// Takes one snapshot.
pub(super) async fn take(
    shared: &Arc<Shared>,
    archive: &Archive,
    folder: FolderId,
    handle: FolderHandle,
    afresh: bool,
) -> Result<(TakenNow, u64), NotTaken> {
    let named = folder_ref(shared.mesh.policy().as_deref(), folder);
    let mark = mark(&handle).unwrap_or_default();
    let at_ms = clock::wall_ms();
    let (name, host) = (named.name.clone(), shared.name_of(shared.mesh.node()));
    let bytes = handle.status().local.bytes;
    let (meter, own) = (shared.archive.meter.clone(), archive.clone());
    let doing = format!("taking a snapshot of {name}");
    let taken = work(shared, doing, Beside::Others, move || {
        meter.start(bytes);
        let back = handle.back();
        let disk = back.disk();
        disk.check_marker(folder)?;
        let taken = own.take(&Take { folder, name: &name, host: &host, disk, at_ms, afresh })?;
        // A disk that went away meanwhile looks like a folder without files.
        disk.check_marker(folder)?;
        Ok::<_, NotTaken>(taken)
    })
    .await;
    match &taken {
        Ok(taken) => {
            tried(shared, None);
            lock(&shared.archive.health).folders.remove(&folder);
            info!(folder = %named.name, files = taken.files, added = taken.added, missing = taken.missed_count, "snapshot");
            let mark = if taken.missed_count == 0 { mark } else { String::new() };
            // Without the note one is taken too many.
            let _ = note(shared, |notes| {
                notes.folders.insert(folder.to_hex(), Taken { at_ms, mark });
            });
            tell_missing(shared, &named, taken);
        }
        Err(error) => {
            let why = reasons(error).join(": ");
            warn!(folder = %named.name, why, "no snapshot");
            lock(&shared.archive.health).folders.insert(folder, (clock::wall_ms(), why.clone()));
            // What is wrong with the archive itself is told once for all folders.
            if let NotTaken::Folder(_) = error {
                shared.alert(format!("no snapshot of folder {} could be taken: {why}", named.name), None);
            }
        }
    }
    match taken {
        Ok(taken) => Ok((taken, at_ms)),
        Err(NotTaken::Archive(error)) => {
            tried(shared, Some(&error));
            Err(error.into())
        }
        Err(error) => Err(error),
    }
}

fn tell_missing(shared: &Shared, folder: &FolderRef, taken: &TakenNow) {
    let what = format!("the last snapshot of folder {} is not whole", folder.name);
    match taken.missed.first() {
        None => shared.over(&what),
        Some(first) => {
            let hint = format!(
                "{} missing, such as {}: {}; 'lanyard archive snapshot {}' lists them and tries again",
                taken.missed_count, first.path, first.why, folder.name
            );
            shared.alert(what, Some(hint));
        }
    }
}

/// Takes a snapshot because somebody asks.
pub(super) async fn demanded(shared: &Arc<Shared>, folder: Option<&str>) -> Result<SnapshotsTaken, Failure> {
    let policy = standing::must_have_mesh(shared)?;
    if !is_eligible(shared) {
        let me = shared.name_of(shared.mesh.node());
        return Err(Failure::refused("this machine keeps no archive")
            .why("an admin says which machines may be the office's server")
            .hint(format!("ask an admin for 'lanyard coordinator allow {me}'")));
    }
    let (folders, _) = folders_meant(shared, &policy, folder)?;
    let running: Vec<(FolderId, FolderHandle)> =
        folders.iter().filter_map(|folder| Some((*folder, shared.folder(*folder)?))).collect();
    if running.is_empty() {
        let what = match folder {
            Some(wanted) => format!("folder {wanted} is not received here"),
            None => "no folder is received here".into(),
        };
        return Err(Failure::failed(what).hint("'lanyard folders' lists those that are"));
    }
    let archive = open(shared, true)?;
    let _turn = shared.archive.taking.lock().await;
    let made = ready(shared, &archive).await.map_err(|error| failure("cannot use the archive", &error))?;
    let password = match made {
        true => Some(check::password(shared, &archive).await?),
        false => None,
    };
    let mut answer = SnapshotsTaken { snapshots: Vec::new(), failed: Vec::new(), password };
    for (folder, handle) in running {
        let named = folder_ref(Some(&policy), folder);
        match take(shared, &archive, folder, handle, false).await {
            Ok((taken, at_ms)) => answer.snapshots.push(told(named, taken, at_ms)),
            // Nothing else will work either: the password must not be lost with it.
            Err(NotTaken::Archive(error)) if answer.password.is_none() && answer.snapshots.is_empty() => {
                return Err(failure(format!("no snapshot of folder {} could be taken", named.name), &error));
            }
            Err(error) => answer.failed.push(SnapshotFailed { folder: named, why: reasons(&error) }),
        }
    }
    Ok(answer)
}

fn told(folder: FolderRef, taken: TakenNow, at_ms: u64) -> SnapshotTaken {
    let missing = taken.missed.into_iter();
    SnapshotTaken {
        folder,
        id: taken.id,
        at: UtcTime::from_ms(at_ms),
        files: taken.files,
        bytes: taken.bytes,
        added: taken.added,
        missing: missing.map(|one| Unread { path: PathText::from_bytes(one.path.as_bytes()), why: one.why }).collect(),
        missing_count: taken.missed_count,
    }
}

/// Forgets what is not kept, because somebody asks.
pub(super) async fn prune(shared: &Arc<Shared>) -> Result<ArchivePruned, Failure> {
    let archive = open(shared, false)?;
    let cannot = |error: ArchiveError| failure("cannot clean the archive", &error);
    prepare(shared, &archive, false).await.map_err(cannot)?;
    let pruned = forget(shared, &archive).await.map_err(cannot)?;
    let kept = {
        let archive = archive.clone();
        work(shared, "listing the snapshots".into(), Beside::Others, move || archive.snapshots()).await
    };
    let kept = kept.map_err(cannot)?.len() as u64;
    Ok(ArchivePruned { forgotten: pruned.forgotten, kept, freed: pruned.freed })
}

async fn forget(shared: &Arc<Shared>, archive: &Archive) -> Result<Pruned, ArchiveError> {
    let (archive, keep) = (archive.clone(), shared.config.archive.keep());
    let pruned = work(shared, "cleaning the archive".into(), Beside::Nothing, move || {
        let mut folders: BTreeMap<FolderId, Vec<Snapshot>> = BTreeMap::new();
        for snapshot in archive.snapshots()? {
            folders.entry(snapshot.folder).or_default().push(snapshot);
        }
        let mut forget = Vec::new();
        for snapshots in folders.into_values() {
            let taken: Vec<decide::Taken> =
                snapshots.iter().map(|one| decide::Taken { at_ms: one.at_ms, whole: one.whole }).collect();
            let kept = decide::kept(&taken, keep);
            forget.extend(snapshots.into_iter().zip(kept).filter(|(_, kept)| !kept).map(|(snapshot, _)| snapshot));
        }
        archive.prune(&forget)
    })
    .await;
    tried(shared, pruned.as_ref().err());
    if pruned.is_ok() {
        let now = clock::wall_ms();
        let _ = note(shared, |notes| notes.pruned_ms = Some(now));
    }
    pruned
}

impl Health {
    /// Why the last try for a folder failed.
    pub(super) fn of(&self, folder: FolderId) -> Option<String> {
        self.folders.get(&folder).map(|(_, why)| why.clone())
    }
}
