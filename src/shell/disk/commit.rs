//! The swap: staged contents, directories, links and removals take their place in the folder.
//!
//! Rules, in the order in which they hold:
//! 1. what is swapped in is durable before, and reported only when its name is durable too: two flushes a group;
//! 2. nothing is replaced but what the index believes is there: a file is looked at before, taken out in one step with
//!    putting the new one in (`Rename::Exchange`), and compared after; if it was edited between, it is put back;
//! 3. nothing taken out is deleted: it is in `versions/` from the very step that took it out. A program that still
//!    has it open writes there, and nothing is lost;
//! 4. modes are exact; missing directories above a path are made; a directory without write permission for its owner
//!    is opened for the moment.
//!
//! After a crash at any point a path holds the old or the new content, and `versions/` whatever is not at the path:
//! the staged content is moved into `versions/` first and exchanged from there.

use std::collections::BTreeSet;
use std::io;

use super::attributes::{self, Attached, Raw};
use super::primitives::{Look, Make, Open, Place, Rename};
use super::scan::{self, look};
use super::stage::{self, FLUSH_EACH_MAX, Staged};
use super::{DiskError, Folder, versions};
use crate::base::{FileInfo, FileTime, Kind, Mode, RelPath};

/// Mode of directories made because something lies below them; their own entry sets the right one.
const PARENT_MODE: Mode = 0o755;
/// What the owner needs to change the names in a directory.
const OWNER_MAY_CHANGE: Mode = 0o300;
/// What the owner needs to change a file.
const OWNER_MAY_WRITE: Mode = 0o200;
/// Tries of one step: as it is, after making the directories above, after opening the directory.
const TRIES_MAX: usize = 3;

/// One change of one path.
#[derive(Debug)]
pub struct CommitOrder {
    /// Where.
    pub path: RelPath,
    /// What the index believes is there now.
    pub expected: Option<FileInfo>,
    /// What shall be there.
    pub put: Put,
    /// For a file: what changes of its extended attributes and its owner. A new content keeps the others of the old one.
    pub attached: Attached,
}

impl CommitOrder {
    /// A change of nothing beside what is put.
    pub fn new(path: RelPath, expected: Option<FileInfo>, put: Put) -> Self {
        Self { path, expected, put, attached: Attached::default() }
    }
}

/// What shall be at a path.
#[derive(Debug)]
pub enum Put {
    /// A file.
    File {
        /// Its content.
        staged: Staged,
        /// Its permission bits.
        mode: Mode,
        /// Its time.
        mtime: FileTime,
    },
    /// A directory.
    Dir {
        /// Its permission bits.
        mode: Mode,
    },
    /// A symbolic link.
    Symlink {
        /// Its text.
        target: Vec<u8>,
        /// Its time.
        mtime: FileTime,
    },
    /// What is there, with another mode or time.
    Meta {
        /// Permission bits.
        mode: Mode,
        /// The time, if it changes too. Directories keep theirs.
        mtime: Option<FileTime>,
    },
    /// Nothing.
    Remove,
}

/// What became of an order.
#[derive(Debug)]
pub enum Outcome {
    /// Done and durable; this is there now.
    Done {
        /// `None` after a removal.
        info: Option<FileInfo>,
    },
    /// Something else than expected was there: it was left, or put back.
    LocalChange {
        /// What is there now.
        found: Option<FileInfo>,
        /// The staged content, for another try, unless a local program removed it on the way.
        staged: Option<Staged>,
    },
    /// The directory to remove or replace has something in it.
    NotEmpty {
        /// The staged content, for another try.
        staged: Option<Staged>,
    },
    /// The system refused. What was at the path is there still or, if only the last flush failed, the new thing is
    /// there but may not survive a power cut.
    Failed {
        /// Why.
        error: DiskError,
        /// The staged content, for another try, if it can be trusted.
        staged: Option<Staged>,
    },
}

/// Carries out `orders` in their order, as one group; the outcomes are in the same order.
pub fn commit(folder: &Folder, orders: Vec<CommitOrder>) -> Vec<Outcome> {
    let mut jobs: Vec<Result<Job, Box<Outcome>>> = orders.into_iter().map(|order| prepare(folder, order)).collect();

    let mut group: Vec<&mut Staged> =
        jobs.iter_mut().filter_map(|job| job.as_mut().ok()).filter_map(|job| job.work.staged()).collect();
    if let Err(error) = stage::flush(folder, &mut group) {
        for job in &mut jobs {
            if job.as_mut().is_ok_and(|job| job.work.staged().is_some()) {
                *job = Err(Box::new(Outcome::Failed { error: error.again(), staged: None }));
            }
        }
    }

    let mut commit = Commit {
        folder,
        now_ms: folder.version_ms(),
        touched: BTreeSet::new(),
        made: BTreeSet::new(),
        opened: Vec::new(),
    };
    let mut outcomes: Vec<Outcome> =
        jobs.into_iter().map(|job| job.map_or_else(|ended| *ended, |job| commit.run(job))).collect();
    if let Err(error) = commit.finish() {
        for outcome in &mut outcomes {
            if matches!(outcome, Outcome::Done { .. }) {
                *outcome = Outcome::Failed { error: error.again(), staged: None };
            }
        }
    }
    outcomes
}

/// An order whose new thing is ready beside the folder.
struct Job {
    path: RelPath,
    expected: Option<FileInfo>,
    work: Work,
}

enum Work {
    Place(Staged),
    Dir(Mode),
    Meta(Mode, Option<FileTime>, Attached),
    Remove,
}

impl Work {
    fn staged(&mut self) -> Option<&mut Staged> {
        match self {
            Self::Place(staged) => Some(staged),
            _ => None,
        }
    }
}

fn prepare(folder: &Folder, order: CommitOrder) -> Result<Job, Box<Outcome>> {
    let CommitOrder { path, expected, put, attached } = order;
    let failed = |error| Box::new(Outcome::Failed { error, staged: None });
    if path.is_root() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "the root is not replicated");
        return Err(failed(DiskError::new("change", &Place::root(), error)));
    }
    let work = match put {
        Put::File { mut staged, mode, mtime } => {
            let replaces = expected.is_some_and(|old| old.kind == Kind::File);
            let now = if replaces { attributes::now(folder, &Place::shared(&path)) } else { Raw::new() };
            staged.dress(&attached, now);
            if let Err(error) = staged.set(folder.placed_mode(mode), mtime) {
                return Err(Box::new(Outcome::Failed { error, staged: Some(staged) }));
            }
            staged.give(&attached);
            Work::Place(staged)
        }
        Put::Symlink { target, mtime } => Work::Place(stage::stage_symlink(folder, &target, mtime).map_err(failed)?),
        // A link has no mode, and its time is set on a new one: there is no handle to set it through.
        Put::Meta { mtime, .. } if expected.is_some_and(|old| old.kind == Kind::Symlink) => {
            let text = scan::link_text(folder, &path).map_err(failed)?;
            match (text, mtime) {
                (Some(text), Some(mtime)) => Work::Place(stage::stage_symlink(folder, &text, mtime).map_err(failed)?),
                (Some(_), None) => return Err(Box::new(Outcome::Done { info: expected })),
                (None, _) => {
                    let found = look(folder, &Place::shared(&path)).map_err(failed)?;
                    return Err(Box::new(Outcome::LocalChange { found, staged: None }));
                }
            }
        }
        Put::Meta { mode, mtime } => Work::Meta(folder.placed_mode(mode), mtime, attached),
        Put::Dir { mode } => Work::Dir(folder.placed_mode(mode)),
        Put::Remove => Work::Remove,
    };
    Ok(Job { path, expected, work })
}

/// The state of one group.
struct Commit<'f> {
    folder: &'f Folder,
    now_ms: u64,
    /// What must be flushed before anything is reported done.
    touched: BTreeSet<Place>,
    /// Directories made for what lies below them.
    made: BTreeSet<RelPath>,
    /// Directories opened for their owner, with the mode to give back.
    opened: Vec<(Place, Mode)>,
}

/// How taking out what was there ended.
enum Taken {
    Out,
    Ended(Outcome),
}

impl Commit<'_> {
    fn run(&mut self, job: Job) -> Outcome {
        let target = Place::shared(&job.path);
        match job.work {
            Work::Place(staged) => self.place(&job.path, &target, job.expected, staged),
            Work::Dir(mode) => self.dir(&job.path, &target, job.expected, mode),
            Work::Meta(mode, mtime, attached) => self.meta(&job.path, job.expected, mode, mtime, &attached),
            Work::Remove => match self.take_out(&job.path, &target, job.expected) {
                // Whoever took it away, it is gone: reported as a change, it would be announced as this user's deletion.
                Taken::Out | Taken::Ended(Outcome::LocalChange { found: None, .. }) => Outcome::Done { info: None },
                Taken::Ended(outcome) => outcome,
            },
        }
    }

    fn place(&mut self, path: &RelPath, target: &Place, expected: Option<FileInfo>, staged: Staged) -> Outcome {
        match expected {
            Some(old) if old.kind != Kind::Dir => self.exchange(path, target, &old, staged),
            Some(_) => match self.take_out(path, target, expected) {
                Taken::Out => self.place_new(path, target, staged),
                Taken::Ended(outcome) => with_staged(outcome, staged),
            },
            None => self.place_new(path, target, staged),
        }
    }

    fn place_new(&mut self, path: &RelPath, target: &Place, staged: Staged) -> Outcome {
        let disk = self.folder.disk.clone();
        match self.step(path, true, |_| disk.rename(staged.place(), target, Rename::NoReplace)) {
            Ok(()) => self.placed(target, staged),
            Err(error) if is_in_the_way(&error) => self.local_change(target, Some(staged)),
            Err(error) => failed("put in place", target, error, Some(staged)),
        }
    }

    fn exchange(&mut self, path: &RelPath, target: &Place, old: &FileInfo, staged: Staged) -> Outcome {
        match look(self.folder, target) {
            Ok(Some(found)) if found == *old => {}
            Ok(found) => return Outcome::LocalChange { found, staged: Some(staged) },
            Err(error) => return Outcome::Failed { error, staged: Some(staged) },
        }
        let disk = self.folder.disk.clone();
        let version = match versions::take(self.folder, staged.place(), path, self.now_ms) {
            Ok(version) => version,
            Err(error) => return failed("keep a version of", target, error, Some(staged)),
        };
        if let Err(error) = self.step(path, false, |_| disk.rename(&version, target, Rename::Exchange)) {
            let staged = self.back_to_staging(&version, staged);
            if scan::is_absent(&error) {
                return self.local_change(target, staged);
            }
            return failed("replace", target, error, staged);
        }
        match look(self.folder, &version) {
            Ok(Some(out)) if is_same(old, &out) => {
                if out.kind == Kind::File {
                    // Its user's program may not have flushed it, and now it may be the only place that has it.
                    self.touched.insert(version);
                }
                self.placed(target, staged)
            }
            Ok(_) => self.undo(target, &version, staged),
            Err(error) => {
                // It may be an edit: what came out has its name back, whatever it is.
                self.undo(target, &version, staged);
                Outcome::Failed { error, staged: None }
            }
        }
    }

    /// A local edit came out, and lies at `version`: gives it its name back.
    fn undo(&mut self, target: &Place, version: &Place, staged: Staged) -> Outcome {
        let disk = self.folder.disk.clone();
        self.touched.insert(target.parent());
        match disk.rename(version, target, Rename::Exchange) {
            Ok(()) => {
                match look(self.folder, version) {
                    Ok(Some(out)) if is_same(staged.info(), &out) => {
                        let staged = self.back_to_staging(version, staged);
                        return self.local_change(target, staged);
                    }
                    Ok(_) => {}
                    Err(_) => {
                        // Whatever lies there stays a version.
                        staged.forget();
                        return self.local_change(target, None);
                    }
                }
                // A program put yet another file over ours: that one is the newest and keeps the name, the edit
                // before it stays a version. If the name went away, there is nothing to give back to.
                staged.forget();
                if let Err(error) = disk.rename(version, target, Rename::Exchange)
                    && !scan::is_absent(&error)
                {
                    return failed("give the name back to", target, error, None);
                }
                self.local_change(target, None)
            }
            Err(error) if scan::is_absent(&error) => {
                staged.forget();
                // Taken again meanwhile: the edit stays a version.
                let _ = disk.rename(version, target, Rename::NoReplace);
                self.local_change(target, None)
            }
            Err(error) => {
                staged.forget();
                failed("give the name back to", target, error, None)
            }
        }
    }

    /// Takes away what is expected at `target`: a directory if empty, anything else into `versions/`.
    fn take_out(&mut self, path: &RelPath, target: &Place, expected: Option<FileInfo>) -> Taken {
        let found = match look(self.folder, target) {
            Ok(found) => found,
            Err(error) => return Taken::Ended(Outcome::Failed { error, staged: None }),
        };
        let (old, found) = match (expected, found) {
            (_, None) => return Taken::Out,
            (Some(old), Some(found)) => (old, found),
            (None, found) => return Taken::Ended(Outcome::LocalChange { found, staged: None }),
        };
        if old.kind == Kind::Dir && is_same(&old, &found) {
            return self.take_out_dir(path, target);
        }
        if found != old {
            return Taken::Ended(Outcome::LocalChange { found: Some(found), staged: None });
        }
        let (folder, now_ms) = (self.folder, self.now_ms);
        let version = match self.step(path, false, |_| versions::take(folder, target, path, now_ms)) {
            Ok(version) => version,
            Err(error) if scan::is_absent(&error) => return Taken::Out,
            Err(error) => return Taken::Ended(failed("remove", target, error, None)),
        };
        self.touched.insert(target.parent());
        match look(self.folder, &version) {
            Ok(Some(out)) if is_same(&old, &out) => {
                if out.kind == Kind::File {
                    self.touched.insert(version);
                }
                Taken::Out
            }
            _ => {
                // A local edit. If its name was taken again meanwhile, it stays a version.
                let _ = self.folder.disk.rename(&version, target, Rename::NoReplace);
                Taken::Ended(self.local_change(target, None))
            }
        }
    }

    fn take_out_dir(&mut self, path: &RelPath, target: &Place) -> Taken {
        let disk = self.folder.disk.clone();
        match self.step(path, false, |_| disk.remove(target, true)) {
            Ok(()) => {
                self.touched.insert(target.parent());
                Taken::Out
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Taken::Out,
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                Taken::Ended(Outcome::NotEmpty { staged: None })
            }
            Err(error) if is_in_the_way(&error) => Taken::Ended(self.local_change(target, None)),
            Err(error) => Taken::Ended(failed("remove", target, error, None)),
        }
    }

    fn dir(&mut self, path: &RelPath, target: &Place, expected: Option<FileInfo>, mode: Mode) -> Outcome {
        match expected {
            Some(old) if old.kind == Kind::Dir => return self.meta(path, expected, mode, None, &Attached::default()),
            Some(_) => match self.take_out(path, target, expected) {
                Taken::Out => {}
                Taken::Ended(outcome) => return outcome,
            },
            None if self.made.contains(path) => match look(self.folder, target) {
                Ok(found) => return self.meta(path, found, mode, None, &Attached::default()),
                Err(error) => return Outcome::Failed { error, staged: None },
            },
            None => {}
        }
        let disk = self.folder.disk.clone();
        match self.step(path, true, |_| disk.make(target, Make::Dir(mode))) {
            Ok(()) => {
                self.touched.extend([target.clone(), target.parent()]);
                match look(self.folder, target) {
                    Ok(info) => Outcome::Done { info },
                    Err(error) => Outcome::Failed { error, staged: None },
                }
            }
            Err(error) if is_in_the_way(&error) => self.local_change(target, None),
            Err(error) => failed("make", target, error, None),
        }
    }

    fn meta(
        &mut self,
        path: &RelPath,
        expected: Option<FileInfo>,
        mode: Mode,
        mtime: Option<FileTime>,
        attached: &Attached,
    ) -> Outcome {
        let target = &Place::shared(path);
        let found = match look(self.folder, target) {
            Ok(found) => found,
            Err(error) => return Outcome::Failed { error, staged: None },
        };
        let (Some(old), Some(now)) = (expected, found) else { return Outcome::LocalChange { found, staged: None } };
        let is_dir = old.kind == Kind::Dir;
        if !(old == now || is_dir && is_same(&old, &now)) {
            return Outcome::LocalChange { found, staged: None };
        }
        // A mode that is to come back after this group is replaced by the new one.
        self.opened.retain(|(place, _)| place != target);
        let set = || {
            let file = self.folder.disk.open(target, Open::Attributes)?;
            if file.look()? != Look::Plain(now) {
                return Ok(None);
            }
            if !attached.is_empty() {
                // One that is for reading only is opened for its owner for the moment.
                let writable = mode | OWNER_MAY_WRITE;
                if now.mode & OWNER_MAY_WRITE == 0 {
                    file.set(writable, None)?;
                }
                attributes::dress(&*file, attached, file.attributes().unwrap_or_default());
            }
            file.set(mode, mtime.filter(|_| !is_dir))?;
            if !attached.is_empty() {
                attributes::give(&*file, attached);
            }
            file.look().map(Some)
        };
        match set() {
            Ok(Some(Look::Plain(info))) => {
                self.touched.insert(target.clone());
                Outcome::Done { info: Some(info) }
            }
            Ok(_) => self.local_change(target, None),
            Err(error) if is_in_the_way(&error) => self.local_change(target, None),
            // Only its owner may: somebody else of the group. A copy is this node's own.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && now.kind == Kind::File => {
                match stage::stage_copy(self.folder, target, (mode, mtime.unwrap_or(now.mtime)), attached) {
                    Ok(staged) => self.exchange(path, target, &now, staged),
                    Err(error) => Outcome::Failed { error, staged: None },
                }
            }
            Err(error) => failed("set mode and time of", target, error, None),
        }
    }

    /// The staged thing lies at `target` now.
    fn placed(&mut self, target: &Place, staged: Staged) -> Outcome {
        self.touched.insert(target.parent());
        let put = *staged.info();
        staged.forget();
        // The rename moved the ctime on. If more than that differs, an edit followed at once: what was put is
        // reported, so that the next look finds the edit.
        let now = look(self.folder, target).ok().flatten().filter(|now| is_same(&put, now));
        Outcome::Done { info: Some(now.unwrap_or(put)) }
    }

    fn back_to_staging(&mut self, version: &Place, staged: Staged) -> Option<Staged> {
        match self.folder.disk.rename(version, staged.place(), Rename::NoReplace) {
            Ok(()) => Some(staged),
            Err(_) => {
                staged.forget();
                None
            }
        }
    }

    fn local_change(&self, target: &Place, staged: Option<Staged>) -> Outcome {
        match look(self.folder, target) {
            Ok(found) => Outcome::LocalChange { found, staged },
            Err(error) => Outcome::Failed { error, staged },
        }
    }

    /// Does `step`, making the directories above `path` or opening the nearest for its owner if that is what it lacks.
    fn step<T>(
        &mut self,
        path: &RelPath,
        makes: bool,
        mut step: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut result = step(self);
        for _ in 1..TRIES_MAX {
            let Err(error) = &result else { break };
            match error.kind() {
                io::ErrorKind::NotFound if makes => self.make_parents(path)?,
                io::ErrorKind::PermissionDenied if self.open_parent(path)? => {}
                _ => break,
            }
            result = step(self);
        }
        result
    }

    fn make_parents(&mut self, path: &RelPath) -> io::Result<()> {
        let mut above: Vec<RelPath> = path.ancestors().collect();
        above.reverse();
        let mode = self.folder.placed_mode(PARENT_MODE);
        for dir in above {
            let place = Place::shared(&dir);
            let disk = self.folder.disk.clone();
            match self.step(&dir, false, |_| disk.make(&place, Make::Dir(mode))) {
                Ok(()) => {
                    self.touched.extend([place.clone(), place.parent()]);
                    self.made.insert(dir);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the directory above `path` lacked permissions of its owner and has them now.
    fn open_parent(&mut self, path: &RelPath) -> io::Result<bool> {
        let place = Place::shared(path).parent();
        let Ok(Some(info)) = look(self.folder, &place) else { return Ok(false) };
        if info.kind != Kind::Dir || info.mode & OWNER_MAY_CHANGE == OWNER_MAY_CHANGE {
            return Ok(false);
        }
        self.folder.disk.open(&place, Open::Attributes)?.set(info.mode | OWNER_MAY_CHANGE, None)?;
        self.opened.push((place, info.mode));
        Ok(true)
    }

    /// Gives modes back and makes all names durable.
    fn finish(self) -> Result<(), DiskError> {
        let disk = &self.folder.disk;
        let mut first_error = Ok(());
        for (place, mode) in self.opened.iter().rev() {
            match disk.open(place, Open::Attributes).and_then(|dir| dir.set(*mode, None)) {
                Err(error) if !scan::is_absent(&error) && first_error.is_ok() => {
                    first_error = Err(DiskError::new("give its mode back to", place, error));
                }
                _ => {}
            }
        }
        let mut flush_all = self.touched.len() > FLUSH_EACH_MAX;
        for place in self.touched.iter().take(if flush_all { 0 } else { FLUSH_EACH_MAX }) {
            match disk.open(place, Open::Attributes).and_then(|file| file.flush()) {
                // Removed by a later order of the group.
                Err(error) if scan::is_absent(&error) => {}
                // It cannot be opened for reading, nor flushed by its handle.
                Err(_) => flush_all = true,
                Ok(()) => {}
            }
        }
        if flush_all {
            disk.flush_all().map_err(|e| DiskError::new("flush", &Place::root(), e))?;
        }
        first_error
    }
}

/// Whether what was found is what was expected, apart from the ctime, which renames change.
fn is_same(old: &FileInfo, found: &FileInfo) -> bool {
    old.kind == found.kind
        && match old.kind {
            Kind::File => {
                (old.inode, old.bytes, old.mtime, old.mode) == (found.inode, found.bytes, found.mtime, found.mode)
            }
            Kind::Symlink => (old.inode, old.mtime) == (found.inode, found.mtime),
            // Its times change with what is in it, and one directory is as good as another.
            Kind::Dir => old.mode == found.mode,
        }
}

/// Something else stands at the path, or above it where a directory should be.
fn is_in_the_way(error: &io::Error) -> bool {
    let taken = matches!(error.kind(), io::ErrorKind::AlreadyExists);
    taken || scan::is_absent(error) && error.kind() != io::ErrorKind::NotFound
}

fn failed(doing: &'static str, target: &Place, error: io::Error, staged: Option<Staged>) -> Outcome {
    Outcome::Failed { error: DiskError::new(doing, target, error), staged }
}

fn with_staged(outcome: Outcome, content: Staged) -> Outcome {
    let content = Some(content);
    match outcome {
        Outcome::LocalChange { found, .. } => Outcome::LocalChange { found, staged: content },
        Outcome::NotEmpty { .. } => Outcome::NotEmpty { staged: content },
        Outcome::Failed { error, .. } => Outcome::Failed { error, staged: content },
        done @ Outcome::Done { .. } => done,
    }
}
