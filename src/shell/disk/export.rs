//! Files written to a directory that is no shared folder: what is brought back beside the folder it was in.
//!
//! Rules: nothing that is there is replaced; nothing is written outside of the directory, whatever links lie in it;
//! directories get their modes at the end, so that one that may not be changed can be filled.

use std::io;
use std::path::Path;

use super::primitives::{Make, Open, Place};
use super::{DiskError, Folder};
use crate::base::{FileTime, Mode, RelPath};

/// Mode of directories that are needed for what is in them.
const PARENT_MODE: Mode = 0o755;
/// What the owner needs to fill a directory.
const OWNER_MAY_FILL: Mode = 0o700;

/// A directory that is filled.
#[derive(Debug)]
pub struct Export {
    folder: Folder,
    /// Directories with the modes they are to have.
    modes: Vec<(Place, Mode)>,
}

impl Export {
    /// Opens the directory.
    pub fn open(dir: &Path) -> Result<Self, DiskError> {
        Ok(Self { folder: Folder::open(dir)?, modes: Vec::new() })
    }

    /// Makes a directory; one that is there is used as it is.
    pub fn dir(&mut self, path: &RelPath, mode: Mode) -> Result<(), DiskError> {
        self.parents(path)?;
        let place = Place::shared(path);
        if self.make_dir(&place, mode | OWNER_MAY_FILL)? {
            self.modes.push((place, mode));
        }
        Ok(())
    }

    /// Makes a symbolic link.
    pub fn symlink(&mut self, path: &RelPath, text: &[u8], mtime: FileTime) -> Result<(), DiskError> {
        self.parents(path)?;
        let place = Place::shared(path);
        self.folder.disk.make(&place, Make::Symlink(text, mtime)).map_err(|e| DiskError::new("make", &place, e))
    }

    /// Makes a file of what `read` gives piece by piece, from the offset it is asked for; nothing: that was all. What
    /// cannot be written whole is removed again.
    pub fn file(
        &mut self,
        path: &RelPath,
        (mode, mtime): (Mode, FileTime),
        read: &mut dyn FnMut(u64) -> Result<Vec<u8>, DiskError>,
    ) -> Result<(), DiskError> {
        self.parents(path)?;
        let place = Place::shared(path);
        let fail = |error| DiskError::new("write", &place, error);
        let file = self.folder.disk.open(&place, Open::Create).map_err(fail)?;
        let mut write = || {
            let mut offset = 0;
            loop {
                let piece = read(offset)?;
                if piece.is_empty() {
                    return file.set(mode, Some(mtime)).map_err(fail);
                }
                file.write_at(&piece, offset).map_err(fail)?;
                offset += piece.len() as u64;
            }
        };
        write().inspect_err(|_| {
            // The first failure is the one that is told.
            let _ = self.folder.disk.remove(&place, false);
        })
    }

    /// Gives the directories their modes and makes everything durable.
    pub fn finish(mut self) -> Result<(), DiskError> {
        while let Some((place, mode)) = self.modes.pop() {
            let set = || self.folder.disk.open(&place, Open::Attributes)?.set(mode, None);
            set().map_err(|e| DiskError::new("set the mode of", &place, e))?;
        }
        self.folder.disk.flush_all().map_err(|e| DiskError::new("flush", &Place::root(), e))
    }

    fn parents(&mut self, path: &RelPath) -> Result<(), DiskError> {
        let above: Vec<RelPath> = path.ancestors().collect();
        above.iter().rev().try_for_each(|dir| self.make_dir(&Place::shared(dir), PARENT_MODE).map(drop))
    }

    /// Returns whether it was not there.
    fn make_dir(&self, place: &Place, mode: Mode) -> Result<bool, DiskError> {
        match self.folder.disk.make(place, Make::Dir(mode)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(DiskError::new("make", place, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("valid")
    }

    fn write(export: &mut Export, at: &str, text: &'static str) -> Result<(), DiskError> {
        let meta = (0o640, FileTime { secs: 1_000_000_000, nanos: 5 });
        export.file(&path(at), meta, &mut |offset| Ok(text.as_bytes()[offset as usize..].to_vec()))
    }

    #[test]
    fn a_tree_is_written_with_modes_and_nothing_there_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("taken"), "mine").expect("written");
        let mut export = Export::open(dir.path()).expect("opens");
        export.dir(&path("locked"), 0o555).expect("made");
        write(&mut export, "locked/a/b", "text").expect("written");
        export.symlink(&path("link"), b"/nowhere", FileTime::default()).expect("made");
        write(&mut export, "taken", "other").expect_err("it is taken");
        export.finish().expect("flushed");

        assert_eq!(fs::read_to_string(dir.path().join("locked/a/b")).expect("a file"), "text");
        assert_eq!(fs::read_to_string(dir.path().join("taken")).expect("a file"), "mine");
        let mode = |name: &str| fs::metadata(dir.path().join(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode("locked"), mode("locked/a/b")), (0o555, 0o640));
        fs::set_permissions(dir.path().join("locked"), fs::Permissions::from_mode(0o755)).expect("opened");
    }

    #[test]
    fn no_link_leads_out_and_no_half_file_stays() {
        let (dir, outside) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
        symlink(outside.path(), dir.path().join("out")).expect("linked");
        let mut export = Export::open(dir.path()).expect("opens");
        write(&mut export, "out/file", "text").expect_err("a link is in the way");
        assert_eq!(fs::read_dir(outside.path()).expect("readable").count(), 0);

        let full = || DiskError::named("read", "it".into(), io::ErrorKind::StorageFull.into());
        let mut read = |offset| if offset == 0 { Ok(vec![1]) } else { Err(full()) };
        assert!(export.file(&path("half"), (0o600, FileTime::default()), &mut read).expect_err("full").is_full());
        assert!(!dir.path().join("half").exists());
    }
}
