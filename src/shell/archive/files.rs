//! The repository's files on a local disk, laid out as restic lays them out.
//!
//! Rules: a file is whole and durable under its name, or not there (written aside, flushed, renamed, its directory flushed);
//! nobody but the owner can read it; once told to stop, nothing more is written; the first failure is remembered with its
//! cause, which the library's own errors lose. What a crash leaves is named `NAME-tmp-`, as restic does.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustic_core::repofile::FileType;
use rustic_core::{BytesList, ErrorKind, Id, ReadBackend, RusticError, RusticResult, WriteBackend};

use super::trouble::Trouble;

/// Ending of files that are being written.
const ASIDE: &str = "-tmp-";

/// See the module.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    stop: Arc<AtomicBool>,
    failed: Mutex<Option<(PathBuf, io::Error)>>,
    /// While something is missing in a snapshot, its record is not written: whoever takes it marks it first.
    holds: Mutex<Option<Arc<Trouble>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Files {
    pub(super) fn new(root: &Path, stop: Arc<AtomicBool>) -> Self {
        Self { root: root.to_path_buf(), stop, failed: Mutex::default(), holds: Mutex::default() }
    }

    /// The first failure of the disk since the last call.
    pub(super) fn take_failure(&self) -> Option<(PathBuf, io::Error)> {
        lock(&self.failed).take()
    }

    /// From now on a snapshot's record is written only if nothing is missing in it; `None`: whatever is missing.
    pub(super) fn hold_incomplete(&self, trouble: Option<Arc<Trouble>>) {
        *lock(&self.holds) = trouble;
    }

    fn dir_of(&self, tpe: FileType, name: &str) -> PathBuf {
        match tpe {
            FileType::Config => self.root.clone(),
            FileType::Pack => self.root.join("data").join(&name[..2]),
            _ => self.root.join(tpe.dirname()),
        }
    }

    /// Where a file is.
    pub(super) fn path(&self, tpe: FileType, id: &Id) -> PathBuf {
        let name = match tpe {
            FileType::Config => "config".to_owned(),
            _ => id.to_hex().as_str().to_owned(),
        };
        self.dir_of(tpe, &name).join(name)
    }

    fn fail(&self, verb: &str, path: &Path, error: io::Error) -> Box<RusticError> {
        let copy = match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        };
        lock(&self.failed).get_or_insert_with(|| (path.to_path_buf(), copy));
        RusticError::with_source(ErrorKind::InputOutput, format!("cannot {verb} {}", path.display()), error)
    }

    /// Every file of a type with its length.
    fn all(&self, tpe: FileType) -> io::Result<Vec<(Id, u32)>> {
        let mut found = Vec::new();
        let mut list = |dir: &Path| -> io::Result<()> {
            let entries = match fs::read_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                // Anything else there is none of the repository's files.
                let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<Id>().ok()) else { continue };
                let meta = match entry.metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    meta => meta?,
                };
                if meta.is_file() {
                    found.push((id, u32::try_from(meta.len()).unwrap_or(u32::MAX)));
                }
            }
            Ok(())
        };
        match tpe {
            FileType::Config => match fs::metadata(self.root.join("config")) {
                Ok(meta) => found.push((Id::default(), u32::try_from(meta.len()).unwrap_or(u32::MAX))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            FileType::Pack => {
                for first in 0..=u8::MAX {
                    list(&self.root.join("data").join(format!("{first:02x}")))?;
                }
            }
            _ => list(&self.root.join(tpe.dirname()))?,
        }
        Ok(found)
    }

    fn write(&self, path: &Path, content: BytesList) -> io::Result<()> {
        let dir = path.parent().unwrap_or(&self.root);
        let made = make_dir(dir)?;
        let mut aside = path.as_os_str().to_os_string();
        aside.push(ASIDE);
        let aside = PathBuf::from(aside);
        let put = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
            for piece in content.slice() {
                file.write_all(piece)?;
            }
            file.sync_all()?;
            fs::rename(&aside, path)
        };
        put().inspect_err(|_| {
            // The first failure is the one that is told.
            let _ = fs::remove_file(&aside);
        })?;
        File::open(dir)?.sync_all()?;
        if made && let Some(above) = dir.parent() {
            File::open(above)?.sync_all()?;
        }
        Ok(())
    }

    /// Removes what a crash left half written. Returns how much that was.
    pub(super) fn tidy(&self) -> io::Result<usize> {
        let mut stale = Vec::new();
        let mut look = |dir: PathBuf| -> io::Result<()> {
            let entries = match fs::read_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_name().to_string_lossy().ends_with(ASIDE) {
                    stale.push(entry.path());
                }
            }
            Ok(())
        };
        look(self.root.clone())?;
        for dir in ["index", "keys", "snapshots"] {
            look(self.root.join(dir))?;
        }
        for first in 0..=u8::MAX {
            look(self.root.join("data").join(format!("{first:02x}")))?;
        }
        stale.iter().try_for_each(fs::remove_file)?;
        Ok(stale.len())
    }

    /// Moves a damaged file out of the repository, to `damaged/` beside it.
    pub(super) fn set_aside(&self, tpe: FileType, id: &Id) -> io::Result<()> {
        let (from, dir) = (self.path(tpe, id), self.root.join("damaged"));
        make_dir(&dir)?;
        let name = format!("{}-{}", tpe.dirname(), id.to_hex().as_str());
        fs::rename(from, dir.join(name))
    }
}

/// Makes a directory for the owner alone; returns whether it was not there.
pub(super) fn make_dir(dir: &Path) -> io::Result<bool> {
    if dir.is_dir() {
        return Ok(false);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    Ok(true)
}

impl ReadBackend for Files {
    fn location(&self) -> String {
        format!("local:{}", self.root.display())
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.all(tpe).map_err(|error| self.fail("list", &self.root.join(tpe.dirname()), error))
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        let path = self.path(tpe, id);
        fs::read(&path).map(Bytes::from).map_err(|error| self.fail("read", &path, error))
    }

    fn read_partial(&self, tpe: FileType, id: &Id, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        let path = self.path(tpe, id);
        let read = || {
            let file = File::open(&path)?;
            let end = u64::from(offset) + u64::from(length);
            // Before memory is taken for it: the length comes from a file that may be damaged.
            if file.metadata()?.len() < end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, u64::from(offset))?;
            Ok(Bytes::from(bytes))
        };
        read().map_err(|error| self.fail("read", &path, error))
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.path(tpe, id).display().to_string()
    }
}

impl WriteBackend for Files {
    fn create(&self) -> RusticResult<()> {
        let make = || {
            for dir in ["keys", "snapshots", "index", "data", "locks"] {
                make_dir(&self.root.join(dir))?;
            }
            // The library and restic expect all of them.
            (0..=u8::MAX).try_for_each(|first| make_dir(&self.root.join("data").join(format!("{first:02x}"))).map(drop))
        };
        make().map_err(|error| self.fail("make", &self.root, error))
    }

    fn write_bytes(&self, tpe: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        let path = self.path(tpe, id);
        if self.stop.load(Ordering::Relaxed) {
            return Err(RusticError::new(ErrorKind::Other, "the work was stopped"));
        }
        let is_held = lock(&self.holds).as_ref().is_some_and(|trouble| trouble.found().count > 0);
        if tpe == FileType::Snapshot && is_held {
            return Ok(());
        }
        self.write(&path, content).map_err(|error| self.fail("write", &path, error))
    }

    fn remove(&self, tpe: FileType, id: &Id, _: bool) -> RusticResult<()> {
        let path = self.path(tpe, id);
        if self.stop.load(Ordering::Relaxed) {
            return Err(RusticError::new(ErrorKind::Other, "the work was stopped"));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.fail("remove", &path, error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files(dir: &Path) -> Files {
        Files::new(&dir.join("archive"), Arc::default())
    }

    fn id(digit: char) -> Id {
        digit.to_string().repeat(64).parse().expect("an id")
    }

    #[test]
    fn a_file_is_whole_private_and_read_within_its_length_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path());
        files.create().expect("made");
        files.write_bytes(FileType::Pack, &id('a'), false, b"0123456789".to_vec().into()).expect("written");
        let path = files.path(FileType::Pack, &id('a'));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(files.list_with_size(FileType::Pack).expect("listed"), [(id('a'), 10)]);
        assert_eq!(files.read_partial(FileType::Pack, &id('a'), false, 3, 4).expect("read"), "3456".as_bytes());
        files.read_partial(FileType::Pack, &id('a'), false, 8, u32::MAX).expect_err("beyond the end");
        let (failed, error) = files.take_failure().expect("remembered");
        assert_eq!((failed, error.kind()), (path, io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn what_a_crash_left_is_removed_and_nothing_is_written_once_stopped() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path());
        files.create().expect("made");
        let half = dir.path().join("archive/data/aa").join(format!("{}-tmp-", "a".repeat(64)));
        fs::write(&half, "half").expect("written");
        assert_eq!(files.tidy().expect("tidied"), 1);
        assert!(!half.exists());
        files.stop.store(true, Ordering::Relaxed);
        files.write_bytes(FileType::Key, &id('b'), false, b"x".to_vec().into()).expect_err("stopped");
        assert!(files.list_with_size(FileType::Key).expect("listed").is_empty());
    }

    #[test]
    fn the_record_of_a_snapshot_that_lacks_something_waits_for_its_mark() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path());
        files.create().expect("made");
        let trouble = Arc::new(Trouble::default());
        files.hold_incomplete(Some(trouble.clone()));
        let write = |digit| files.write_bytes(FileType::Snapshot, &id(digit), false, b"x".to_vec().into());
        write('a').expect("whole");
        trouble.missed(crate::base::RelPath::root(), "unreadable".into());
        write('b').expect("held");
        files.hold_incomplete(None);
        write('c').expect("marked");
        let mut found = files.list(FileType::Snapshot).expect("listed");
        found.sort();
        assert_eq!(found, [id('a'), id('c')]);
    }
}
