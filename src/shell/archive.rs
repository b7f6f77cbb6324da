//! The archive: snapshots of folders in a repository of restic's format, which restic itself can check and restore.
//!
//! Everything that names the library is below here, behind calls without type parameters: its generics take half a minute to
//! compile for whoever calls them. All calls are synchronous and belong on the blocking pool. Who calls keeps to one rule:
//! `prune`, `repair` and `prepare` alone, everything else side by side, for the library keeps no locks; restic's are heeded.
//! What the library does wrong is made good here: `trouble` counts what it only warns of, `files` keeps the disk's word and
//! stops, `past` reads back with bounded memory.

mod check;
mod error;
mod files;
mod past;
mod source;
#[cfg(test)]
mod tests;
mod trouble;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustic_core::jiff::{Timestamp, tz::TimeZone};
use rustic_core::repofile::{FileType, MasterKey, SnapshotFile, SnapshotId};
use rustic_core::{
    BackupOptions, ConfigOptions, Credentials, Id, KeyOptions, OpenStatus, ParentOptions, Progress, ProgressBars,
    ProgressType, PruneOptions, ReadBackend, RepairIndexOptions, Repository, RepositoryBackends, RepositoryOptions,
    RusticError, RusticProgress, RusticResult, SnapshotGroupCriterion, StringList,
};

use self::files::Files;
use self::source::Source;
use self::trouble::Trouble;
use super::disk::Folder;
use super::{clock, rt};
use crate::base::FolderId;

pub use self::check::{Checked, Damaged};
pub use self::error::ArchiveError;
pub use self::past::{Item, ItemKind, Past};
pub use self::trouble::{LISTED_MAX, Missed};

/// Size of a pack. Measured: with packs of 8 MiB a backup stays near 75 MB of memory; the library's own choice grows with the
/// repository.
const PACK_SIZE: &str = "8MiB";
/// A file that changes while it is read is tried so often. A guess.
const PASSES: usize = 3;
/// Between two of these passes.
const PASS_MS: u64 = 1_000;
/// A lock of restic older than this is left from a crash. Source: restic refreshes every 5 minutes and calls 30 stale.
const LOCK_AGE_MS_MAX: u64 = 30 * 60 * 1000;
/// The tag of lanyard's own snapshots: others are neither restored from nor forgotten.
const TAG: &str = "lanyard";
/// The tag of a snapshot in which something is missing.
const TAG_INCOMPLETE: &str = "incomplete";
/// There while something is written; found at the start: the last work did not end well.
const BUSY: &str = "lanyard.busy";

type Result<T> = std::result::Result<T, ArchiveError>;
type Open = Repository<OpenStatus>;

/// How far work is.
#[derive(Debug, Default)]
pub struct Meter {
    done: AtomicU64,
    total: AtomicU64,
}

impl Meter {
    /// Begins anew; `total` bytes are expected, 0: not known.
    pub fn start(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// Bytes done, and expected.
    pub fn read(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// The library's bars: bytes are counted, the rest is not shown.
#[derive(Clone, Debug)]
struct Bars(Arc<Meter>);

impl ProgressBars for Bars {
    fn progress(&self, kind: ProgressType, _: &str) -> Progress {
        match kind {
            ProgressType::Bytes => Progress::new(self.clone()),
            ProgressType::Spinner | ProgressType::Counter => Progress::hidden(),
        }
    }
}

impl RusticProgress for Bars {
    fn is_hidden(&self) -> bool {
        false
    }
    fn set_length(&self, bytes: u64) {
        self.0.total.store(bytes, Ordering::Relaxed);
    }
    fn set_title(&self, _: &str) {}
    fn inc(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
    }
    fn finish(&self) {}
}

/// A repository on a local disk. Opened for each call: nothing of it stays in memory in between.
#[derive(Clone, Debug)]
pub struct Archive {
    root: PathBuf,
    key: Secret,
    stop: Arc<AtomicBool>,
    meter: Arc<Meter>,
}

/// The master key, as the library writes it.
#[derive(Clone)]
struct Secret(zeroize::Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What to take a snapshot of.
pub struct Take<'a> {
    /// The folder.
    pub folder: FolderId,
    /// Its name.
    pub name: &'a str,
    /// Whose snapshot it is: the node's name.
    pub host: &'a str,
    /// Its open disk.
    pub disk: &'a Folder,
    /// The time that it gets, milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// Read everything, also what seems unchanged.
    pub afresh: bool,
}

/// A snapshot that was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakenNow {
    /// Its id, as restic shows it.
    pub id: String,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that it added to the archive.
    pub added: u64,
    /// Some of what is not in it as it should be.
    pub missed: Vec<Missed>,
    /// How much that is.
    pub missed_count: u64,
}

/// A snapshot in the archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    id: SnapshotId,
    tree: rustic_core::TreeId,
    /// Of which folder.
    pub folder: FolderId,
    /// When, milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// Whether everything is in it.
    pub whole: bool,
}

/// What was cleaned away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// Snapshots that were forgotten.
    pub forgotten: u64,
    /// Bytes that were freed.
    pub freed: u64,
}

/// A fresh master key, to be kept secret.
pub fn fresh_key() -> zeroize::Zeroizing<Vec<u8>> {
    let key = serde_json::to_vec(&MasterKey::new());
    zeroize::Zeroizing::new(key.expect("a key has only text keys"))
}

/// Bytes free, and bytes in all, of the file system that holds `root`, or will hold it.
pub fn room(root: &Path) -> Option<(u64, u64)> {
    let there = root.ancestors().find(|dir| dir.is_dir())?;
    let found = rustix::fs::statvfs(there).ok()?;
    Some((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
}

impl Archive {
    /// The archive in `root`, opened with `key`; nothing is looked at yet. Once `stop` is set, work ends with
    /// `ArchiveError::Stopped`.
    pub fn new(root: &Path, key: &[u8], stop: Arc<AtomicBool>, meter: Arc<Meter>) -> Self {
        Self { root: root.to_path_buf(), key: Secret(key.to_vec().into()), stop, meter }
    }

    /// Whether a repository is there.
    pub fn is_made(&self) -> bool {
        self.root.join("config").exists()
    }

    /// Whether the last work on it did not end well: `prepare` puts it right.
    pub fn is_unclean(&self) -> bool {
        self.root.join(BUSY).exists()
    }

    /// Makes the repository if `may_make` and there is none, and puts right what an unclean stop left. Returns whether it
    /// was made.
    pub fn prepare(&self, may_make: bool) -> Result<bool> {
        let made = match self.is_made() {
            true => false,
            false if may_make => {
                self.make()?;
                true
            }
            false => return Err(ArchiveError::Missing { path: self.root.clone() }),
        };
        self.with("open the archive", |files, repo| {
            if self.is_unclean() {
                let archive = self.root.display();
                tracing::warn!(%archive, "the last work on the archive did not end well: looking through it");
                self.must_be_free()?;
                files.tidy().map_err(|error| self.io(self.root.clone(), error))?;
                repo.repair_index(&RepairIndexOptions::default(), false).map_err(Failed::Library)?;
                self.mark_busy(false)?;
            }
            Ok(())
        })?;
        Ok(made)
    }

    fn make(&self) -> Result<()> {
        let empty = match std::fs::read_dir(&self.root) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(self.io(self.root.clone(), error)),
        };
        let half_made = self.root.join("keys").is_dir() && self.root.join("data").is_dir();
        if !empty && !half_made {
            let why = format!("{} is not empty and is no archive", self.root.display());
            return Err(ArchiveError::Broken { doing: "make the archive", why });
        }
        files::make_dir(&self.root).map_err(|error| self.io(self.root.clone(), error))?;
        let files = Arc::new(Files::new(&self.root, self.stop.clone()));
        self.guarded("make the archive", &files, || {
            let mut config = ConfigOptions::default();
            config.set_datapack_size = PACK_SIZE.parse().ok();
            config.set_datapack_growfactor = Some(0);
            config.set_treepack_growfactor = Some(0);
            let repo = self.repository(&files).map_err(Failed::Library)?;
            repo.init(&self.credentials()?, &KeyOptions::default(), &config).map_err(Failed::Library)?;
            Ok(())
        })
    }

    /// Takes a snapshot; one in which something is missing is marked, and says what.
    pub fn take(&self, take: &Take<'_>) -> Result<TakenNow> {
        self.must_be_free()?;
        self.mark_busy(true)?;
        let taken = self.passes(take);
        // What was stopped or failed half way is put right at the next start.
        if taken.is_ok() {
            self.mark_busy(false)?;
        }
        taken
    }

    fn passes(&self, take: &Take<'_>) -> Result<TakenNow> {
        let mut before: Option<SnapshotId> = None;
        for pass in 1.. {
            let (taken, id, changed) = self.pass(take, before, pass == PASSES)?;
            if let Some(before) = before.replace(id).filter(|before| *before != id) {
                self.with("forget a snapshot", |_, repo| repo.delete_snapshots(&[before]).map_err(Failed::Library))?;
            }
            if changed == 0 || pass == PASSES {
                return Ok(taken);
            }
            rt::block_on(rt::sleep(Duration::from_millis(PASS_MS)));
        }
        unreachable!("the passes end")
    }

    /// One pass. Returns also how many files changed while they were read.
    fn pass(&self, take: &Take<'_>, before: Option<SnapshotId>, unsteady: bool) -> Result<(TakenNow, SnapshotId, u64)> {
        let parent = match before {
            _ if take.afresh && before.is_none() => None,
            Some(before) => Some(before),
            None => {
                let snapshots = self.snapshots()?.into_iter().filter(|snapshot| snapshot.folder == take.folder);
                snapshots.max_by_key(|snapshot| snapshot.at_ms).map(|snapshot| snapshot.id)
            }
        };
        self.with("take a snapshot", |files, repo| {
            let trouble = Arc::new(Trouble::default());
            let top = PathBuf::from("/").join(take.name);
            let source = Source {
                folder: take.disk.clone(),
                top: top.clone(),
                trouble: trouble.clone(),
                stop: self.stop.clone(),
                unsteady,
            };
            let parents = ParentOptions::default()
                .group_by(SnapshotGroupCriterion::new())
                .force(parent.is_none())
                .parents(parent.iter().map(|id| id.to_hex().as_str().to_owned()).collect::<Vec<_>>());
            let options = BackupOptions::default().no_scan(true).parent_opts(parents);
            let repo = repo.to_indexed_ids().map_err(Failed::Library)?;
            files.hold_incomplete(Some(trouble.clone()));
            let taken = repo.archive(&options, &source, self.record(take)?, &[top]);
            files.hold_incomplete(None);
            let mut snapshot = taken.map_err(Failed::Library)?;
            if self.stop.load(Ordering::Relaxed) {
                return Err(ArchiveError::Stopped.into());
            }
            let found = trouble.found();
            if found.count > 0 {
                snapshot.tags.add(TAG_INCOMPLETE.to_owned());
                snapshot.description = Some(describe(&found));
                let (time, tree) = (snapshot.time.clone(), snapshot.tree);
                repo.save_snapshots(vec![snapshot.clone()]).map_err(Failed::Library)?;
                let saved = repo.get_matching_snapshots(|one| one.time == time && one.tree == tree);
                let saved = saved.map_err(Failed::Library)?;
                snapshot.id = saved.first().map_or(snapshot.id, |saved| saved.id);
            }
            let summary = snapshot.summary.clone().unwrap_or_default();
            let taken = TakenNow {
                id: snapshot.id.to_hex().as_str().to_owned(),
                files: summary.total_files_processed,
                bytes: summary.total_bytes_processed,
                added: summary.data_added_packed,
                missed: found.listed,
                missed_count: found.count,
            };
            Ok((taken, snapshot.id, found.changed))
        })
    }

    fn record(&self, take: &Take<'_>) -> std::result::Result<SnapshotFile, Failed> {
        let at = i64::try_from(take.at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
        let mut tags = StringList::default();
        tags.add(TAG.to_owned());
        tags.add(take.folder.to_hex());
        Ok(SnapshotFile {
            time: at.to_zoned(TimeZone::UTC),
            program_version: concat!("lanyard ", env!("CARGO_PKG_VERSION")).to_owned(),
            hostname: take.host.to_owned(),
            username: TAG.to_owned(),
            tags,
            ..Default::default()
        })
    }

    /// Every snapshot that lanyard took, oldest first.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.with("list the snapshots", |_, repo| {
            let mut all: Vec<Snapshot> = own(&repo)?;
            all.sort_by_key(|snapshot| snapshot.at_ms);
            Ok(all)
        })
    }

    /// Opens it for reading back.
    pub fn past(&self) -> Result<Past> {
        self.with("open the archive", |files, repo| {
            let snapshots = own(&repo)?;
            Ok(Past::new(repo.to_indexed().map_err(Failed::Library)?, files.clone(), snapshots))
        })
    }

    /// Forgets snapshots and frees what only they used.
    pub fn prune(&self, forget: &[Snapshot]) -> Result<Pruned> {
        self.must_be_free()?;
        self.mark_busy(true)?;
        let pruned = self.with("clean the archive", |_, repo| {
            let ids: Vec<SnapshotId> = forget.iter().map(|snapshot| snapshot.id).collect();
            repo.delete_snapshots(&ids).map_err(Failed::Library)?;
            let options = PruneOptions::default().instant_delete(true);
            let plan = repo.prune_plan(&options).map_err(Failed::Library)?;
            let sizes = plan.stats.size_sum();
            let freed = sizes.remove + sizes.repackrm + plan.stats.size_unref;
            repo.prune(&options, plan).map_err(Failed::Library)?;
            Ok(Pruned { forgotten: ids.len() as u64, freed })
        })?;
        self.mark_busy(false)?;
        Ok(pruned)
    }

    /// Lets a password open it, for use with restic; takes back the one before, if its id is given. Returns the new one's id.
    pub fn add_password(&self, password: &str, host: &str, instead_of: Option<&str>) -> Result<String> {
        self.with("add a password", |files, repo| {
            let options =
                KeyOptions::default().hostname(Some(host.to_owned())).username(Some(TAG.to_owned())).with_created(true);
            let id = repo.add_key(password, &options).map_err(Failed::Library)?;
            if let Some(old) = instead_of.and_then(|old| old.parse::<Id>().ok()) {
                rustic_core::WriteBackend::remove(&**files, FileType::Key, &old, false).map_err(Failed::Library)?;
            }
            Ok(id.to_hex().as_str().to_owned())
        })
    }

    /// Bytes that the repository takes.
    pub fn bytes(&self) -> Result<u64> {
        let files = Files::new(&self.root, self.stop.clone());
        let mut sum = 0;
        for tpe in [FileType::Key, FileType::Snapshot, FileType::Index, FileType::Pack] {
            let listed = files.list_with_size(tpe).map_err(|error| self.failed("read the archive", &files, &error))?;
            sum += listed.iter().map(|(_, bytes)| u64::from(*bytes)).sum::<u64>();
        }
        Ok(sum)
    }

    /// Refuses while restic works on it: its locks are fresh files.
    fn must_be_free(&self) -> Result<()> {
        let dir = self.root.join("locks");
        let entries = match std::fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|error| self.io(dir, error))?,
        };
        let now = clock::wall_ms();
        let is_fresh = |entry: std::fs::DirEntry| {
            let modified = entry.metadata().and_then(|meta| meta.modified()).ok();
            let since = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            since.is_some_and(|since| u128::from(now.saturating_sub(LOCK_AGE_MS_MAX)) < since.as_millis())
        };
        match entries.flatten().any(is_fresh) {
            true => Err(ArchiveError::InUse { path: self.root.clone() }),
            false => Ok(()),
        }
    }

    fn mark_busy(&self, busy: bool) -> Result<()> {
        let path = self.root.join(BUSY);
        let done = match busy {
            true => std::fs::write(&path, b""),
            false => match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            },
        };
        done.map_err(|error| self.io(path, error))
    }

    /// Opens the repository and works on it.
    fn with<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Arc<Files>, Open) -> std::result::Result<T, Failed>,
    ) -> Result<T> {
        if !self.is_made() {
            return Err(ArchiveError::Missing { path: self.root.clone() });
        }
        let files = Arc::new(Files::new(&self.root, self.stop.clone()));
        self.guarded(doing, &files, || {
            let credentials = self.credentials()?;
            let opened = self.repository(&files).and_then(|repo| repo.open(&credentials));
            let repo = opened.map_err(|error| match files.take_failure() {
                Some((path, source)) => Failed::Told(self.io(path, source)),
                None => {
                    tracing::debug!(error = error.display_log(), "not opened");
                    Failed::Told(ArchiveError::NotOurs { path: self.root.clone() })
                }
            })?;
            work(&files, repo)
        })
    }

    /// The library's failures, and its panics, in our words.
    fn guarded<T>(
        &self,
        doing: &'static str,
        files: &Files,
        work: impl FnOnce() -> std::result::Result<T, Failed>,
    ) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Failed::Told(error))) => Err(error),
            Ok(Err(Failed::Library(error))) => Err(self.failed(doing, files, &error)),
            Err(_) => match files.take_failure() {
                Some((path, source)) => Err(self.io(path, source)),
                None => Err(ArchiveError::Broken { doing, why: "the library gave up; the log says more".into() }),
            },
        }
    }

    fn failed(&self, doing: &'static str, files: &Files, error: &RusticError) -> ArchiveError {
        if self.stop.load(Ordering::Relaxed) {
            return ArchiveError::Stopped;
        }
        match files.take_failure() {
            Some((path, source)) => self.io(path, source),
            None => ArchiveError::Broken { doing, why: plain(&error.display_log()) },
        }
    }

    fn io(&self, path: PathBuf, source: io::Error) -> ArchiveError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ArchiveError::Full { path, source },
            _ => ArchiveError::Io { path, source },
        }
    }

    fn repository(&self, files: &Arc<Files>) -> RusticResult<Repository<()>> {
        let backends = RepositoryBackends::new(files.clone(), None);
        let options = RepositoryOptions::default().no_cache(true);
        Repository::new_with_progress(&options, &backends, Bars(self.meter.clone()))
    }

    fn credentials(&self) -> std::result::Result<Credentials, Failed> {
        let key: MasterKey = serde_json::from_slice(&self.key.0).map_err(|_| ArchiveError::Key)?;
        Ok(Credentials::Masterkey(key))
    }
}

/// A failure inside of a call.
enum Failed {
    Library(Box<RusticError>),
    Told(ArchiveError),
}

impl From<ArchiveError> for Failed {
    fn from(error: ArchiveError) -> Self {
        Self::Told(error)
    }
}

fn own(repo: &Open) -> std::result::Result<Vec<Snapshot>, Failed> {
    let all = repo.get_all_snapshots().map_err(Failed::Library)?;
    Ok(all.iter().filter_map(own_one).collect())
}

fn own_one(snapshot: &SnapshotFile) -> Option<Snapshot> {
    let tags: Vec<&str> = snapshot.tags.iter().map(String::as_str).collect();
    let folder = tags.iter().find_map(|tag| FolderId::from_hex(tag)).filter(|_| tags.contains(&TAG))?;
    Some(Snapshot {
        id: snapshot.id,
        tree: snapshot.tree,
        folder,
        at_ms: u64::try_from(snapshot.time.timestamp().as_millisecond()).unwrap_or(0),
        whole: !tags.contains(&TAG_INCOMPLETE),
    })
}

fn describe(found: &trouble::Found) -> String {
    let listed = found.listed.iter().map(|missed| format!("{}: {}", missed.path, missed.why));
    let more = (found.count > found.listed.len() as u64).then(|| "and more".to_owned());
    format!("not whole: {}", listed.chain(more).collect::<Vec<_>>().join("; "))
}

/// One line, for people.
fn plain(error: &impl ToString) -> String {
    let text = error.to_string();
    let line: String = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    line.trim_start_matches("Error: ").trim_end_matches('.').chars().take(300).collect()
}
