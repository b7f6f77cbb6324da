//! The disk: one shared folder, from a hint that something changed to a new version swapped into place.
//!
//! Files are the pipeline, in order of travel: `watch` (a hint), `scan` (the truth), `chunk` (contents read), `stage`
//! (contents written aside), `commit` (swapped in), `versions` (what was replaced); `export` writes elsewhere. All code is synchronous over the
//! `Disk` trait of `primitives`; callers run whole jobs on a thread for blocking work.
//!
//! `.lanyard/` in the root is lanyard's own: `marker` names the folder, so that an empty mount point is not taken for
//! a folder whose files were all deleted; `tmp/` holds what is being written, `versions/` what was replaced.

pub mod attributes;
pub mod chunk;
pub mod commit;
pub mod export;
pub mod group;
pub mod primitives;
pub mod real;
pub mod scan;
pub mod stage;
pub mod stream;
pub mod twins;
pub mod versions;
pub mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::{FolderId, Kind, Mode, mode_for_group};
use primitives::{Disk, Look, Make, Open, Place, leads_out};
use real::RealDisk;

/// Bytes of a marker at most: 64 hexadecimal digits and a line end, and room for a blank or two.
const MARKER_BYTES_MAX: usize = 80;

/// Why a call on a folder failed. Unless a function says otherwise, it left the tree as it was.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file system or the user's quota is full: free space and try again.
    #[error("cannot {doing} {place}: the disk is full")]
    Full {
        /// What was being done.
        doing: &'static str,
        /// To what.
        place: String,
        /// The system's word.
        source: io::Error,
    },
    /// A symbolic link or a mount stands where a directory was: nothing behind it was touched.
    #[error("cannot {doing} {place}: a symbolic link or another file system is in the way")]
    InTheWay {
        /// What was being done.
        doing: &'static str,
        /// To what.
        place: String,
        /// The system's word.
        source: io::Error,
    },
    /// Anything else that the system refused.
    #[error("cannot {doing} {place}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        place: String,
        /// The system's word.
        source: io::Error,
    },
}

impl DiskError {
    fn new(doing: &'static str, place: &Place, source: io::Error) -> Self {
        Self::named(doing, place.to_string(), source)
    }

    fn named(doing: &'static str, place: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { doing, place, source },
            _ if leads_out(&source) => Self::InTheWay { doing, place, source },
            _ => Self::Io { doing, place, source },
        }
    }

    /// The same failure for another order of the same group.
    fn again(&self) -> Self {
        let copy = |source: &io::Error| match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => source.kind().into(),
        };
        match self {
            Self::Full { doing, place, source } => Self::Full { doing, place: place.clone(), source: copy(source) },
            Self::InTheWay { doing, place, source } => {
                Self::InTheWay { doing, place: place.clone(), source: copy(source) }
            }
            Self::Io { doing, place, source } => Self::Io { doing, place: place.clone(), source: copy(source) },
        }
    }

    /// What the system said.
    pub fn cause(&self) -> &io::Error {
        let (Self::Full { source, .. } | Self::InTheWay { source, .. } | Self::Io { source, .. }) = self;
        source
    }

    /// Whether freeing space would help.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// Why a folder's marker does not vouch for it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// No marker: the disk is not mounted, or this was never a shared folder here.
    #[error("{0} has no folder marker: its disk may not be mounted")]
    Missing(String),
    /// The marker names another folder.
    #[error("{path} is marked as another folder, {found:?}")]
    Other {
        /// Where.
        path: String,
        /// The folder it is.
        found: FolderId,
    },
    /// The marker is not one.
    #[error("the folder marker of {0} is damaged")]
    Damaged(String),
    /// Another directory stands at the folder's path now.
    #[error("{0} was replaced by another directory")]
    Moved(String),
    /// It could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Free and all bytes of the file system that a path is on; `None` where the system does not say.
pub fn room(path: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some((found.f_bavail.checked_mul(found.f_frsize)?, found.f_blocks.checked_mul(found.f_frsize)?))
}

/// An open shared folder. Clones share the handle.
#[derive(Clone)]
pub struct Folder {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// Kept versions are dated no earlier, milliseconds since 1970 UTC.
    not_before_ms: Arc<AtomicU64>,
    /// Whether what is placed is made for its group, too.
    for_group: bool,
    /// The disk takes names for one that differ in case or in the form of their letters.
    folds: Arc<AtomicBool>,
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Folder").field(&self.path).finish()
    }
}

impl Folder {
    /// Opens the directory at `path`. Nothing is made in it: it may be the mount point of a disk that is away.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let disk = RealDisk::open(path).map_err(|e| DiskError::named("open", path.display().to_string(), e))?;
        Ok(Self::over(path, Arc::new(disk)))
    }

    /// A folder on the given disk; `path` is for messages and for `check_marker`.
    pub fn over(path: &Path, disk: Arc<dyn Disk>) -> Self {
        Self { path: path.to_path_buf(), disk, not_before_ms: Arc::default(), folds: Arc::default(), for_group: false }
    }

    /// The same folder, shared by a group of people: what is placed there, its group may change as its owner may.
    pub fn for_group(self) -> Self {
        Self { for_group: true, ..self }
    }

    /// The mode that a shared thing gets here.
    fn placed_mode(&self, mode: Mode) -> Mode {
        if self.for_group { mode_for_group(mode) } else { mode }
    }

    /// From now on kept versions are dated no earlier than this, whatever the clock says: one that is behind would let them
    /// seem old once it is set right.
    pub fn date_versions_from(&self, ms: u64) {
        self.not_before_ms.store(ms, Ordering::Relaxed);
    }

    fn version_ms(&self) -> u64 {
        super::clock::wall_ms().max(self.not_before_ms.load(Ordering::Relaxed))
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Marks the directory as the folder `id` and makes `.lanyard/`. Marking it again as the same folder changes
    /// nothing; the marker of another folder is left and refused.
    pub fn create_marker(&self, id: FolderId) -> Result<(), MarkerError> {
        match self.marker() {
            Ok(found) if found == id => {}
            Ok(found) => return Err(MarkerError::Other { path: self.name(), found }),
            Err(MarkerError::Missing(_)) => {
                self.make_own_dir(&Place::own())?;
                self.write_marker(id)?;
            }
            Err(error) => return Err(error),
        }
        self.make_own_dir(&stage::tmp())?;
        self.make_own_dir(&versions::top())?;
        Ok(twins::probe(self)?)
    }

    /// Checks that the folder's path still leads to this directory and that it is marked as `id`.
    pub fn check_marker(&self, id: FolderId) -> Result<(), MarkerError> {
        let now = match RealDisk::open(&self.path) {
            Ok(disk) => Self::over(&self.path, Arc::new(disk)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(MarkerError::Missing(self.name())),
            Err(error) => return Err(DiskError::named("open", self.name(), error).into()),
        };
        let found = now.marker()?;
        if found != id {
            return Err(MarkerError::Other { path: self.name(), found });
        }
        let inode = |folder: &Self| match folder.disk.look(&Place::own()) {
            Ok(Look::Plain(info)) => Some(info.inode),
            _ => None,
        };
        match (inode(self), inode(&now)) {
            (Some(own), Some(seen)) if own == seen => Ok(()),
            _ => Err(MarkerError::Moved(self.name())),
        }
    }

    /// Makes everything on the folder's file system durable, what other programs wrote too.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.disk.flush_all().map_err(|error| DiskError::new("flush", &Place::root(), error))
    }

    /// Takes the mark away: the directory is no folder of this node any more. What else is in `.lanyard/` stays.
    pub fn unmark(&self) -> Result<(), DiskError> {
        let place = marker();
        match self.disk.remove(&place, false) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError::new("remove", &place, error)),
            _ => Ok(()),
        }
    }

    /// The folder this directory is marked as.
    pub fn marker(&self) -> Result<FolderId, MarkerError> {
        let place = marker();
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => MarkerError::Missing(self.name()),
            io::ErrorKind::InvalidInput => MarkerError::Damaged(self.name()),
            _ => DiskError::new("read", &place, error).into(),
        };
        let mut text = [0; MARKER_BYTES_MAX];
        let length = self.disk.open(&place, Open::Read).and_then(|file| file.read_at(&mut text, 0)).map_err(fail)?;
        std::str::from_utf8(&text[..length])
            .ok()
            .and_then(|text| FolderId::from_hex(text.trim()))
            .ok_or_else(|| MarkerError::Damaged(self.name()))
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Written aside and renamed, so that a crash leaves no half marker.
    fn write_marker(&self, id: FolderId) -> Result<(), DiskError> {
        let aside = Place::own().below("marker.new");
        let write = || -> io::Result<()> {
            match self.disk.remove(&aside, false) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = self.disk.open(&aside, Open::Create)?;
            file.write_at(format!("{}\n", id.to_hex()).as_bytes(), 0)?;
            file.flush()?;
            self.disk.rename(&aside, &marker(), primitives::Rename::NoReplace)?;
            self.disk.open(&Place::own(), Open::Attributes)?.flush()?;
            self.disk.open(&Place::root(), Open::Attributes)?.flush()
        };
        write().map_err(|e| DiskError::new("write", &marker(), e))
    }

    fn make_own_dir(&self, place: &Place) -> Result<(), DiskError> {
        match self.disk.make(place, Make::Dir(0o700)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match self.disk.look(place) {
                Ok(Look::Plain(info)) if info.kind == Kind::Dir => Ok(()),
                Ok(_) => Err(DiskError::new("use", place, io::ErrorKind::NotADirectory.into())),
                Err(error) => Err(DiskError::new("look at", place, error)),
            },
            result => result.map_err(|e| DiskError::new("make", place, e)),
        }
    }
}

fn marker() -> Place {
    Place::own().below("marker")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: FolderId = FolderId([7; 32]);

    #[test]
    fn opening_makes_nothing_and_finds_no_marker() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path()).expect("opens");
        assert!(matches!(folder.check_marker(ID), Err(MarkerError::Missing(_))));
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_marked_folder_is_known_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path()).expect("opens");
        folder.create_marker(ID).expect("marks");
        folder.create_marker(ID).expect("marks again");
        folder.check_marker(ID).expect("is it");
        assert!(matches!(folder.check_marker(FolderId([8; 32])), Err(MarkerError::Other { .. })));
        assert!(matches!(folder.create_marker(FolderId([8; 32])), Err(MarkerError::Other { .. })));
    }

    #[test]
    fn a_disk_unmounted_or_replaced_under_an_open_folder_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("share");
        std::fs::create_dir(&path).expect("made");
        let folder = Folder::open(&path).expect("opens");
        folder.create_marker(ID).expect("marks");

        std::fs::rename(&path, dir.path().join("away")).expect("moved");
        assert!(matches!(folder.check_marker(ID), Err(MarkerError::Missing(_))));
        std::fs::create_dir(&path).expect("made");
        assert!(matches!(folder.check_marker(ID), Err(MarkerError::Missing(_))));
        Folder::open(&path).expect("opens").create_marker(ID).expect("marks");
        assert!(matches!(folder.check_marker(ID), Err(MarkerError::Moved(_))));
    }

    #[test]
    fn a_damaged_marker_is_neither_missing_nor_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path()).expect("opens");
        folder.create_marker(ID).expect("marks");
        std::fs::write(dir.path().join(".lanyard/marker"), "x").expect("written");
        assert!(matches!(folder.check_marker(ID), Err(MarkerError::Damaged(_))));
        assert!(matches!(folder.create_marker(ID), Err(MarkerError::Damaged(_))));
    }
}
