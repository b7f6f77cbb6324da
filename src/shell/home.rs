//! Files of the node's home: replaced whole and durably, or appended to.
//!
//! A replaced file is at every moment the old or the new one. An appended record that was cut off by a crash is
//! dropped at the next opening; the records before it stay.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest record of a journal. Above every signed statement.
const RECORD_BYTES_MAX: u32 = 256 * 1024;
/// First bytes of a journal; the digit is its version.
const JOURNAL_MAGIC: &[u8; 18] = b"lanyard journal 1\n";

/// A file of the home could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The system said no.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what its name says, or of a later version.
    #[error("{} is not a journal of this version of lanyard", path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    move |source| HomeError::Io { verb, path: path.to_path_buf(), source }
}

/// Reads a whole file; `None` where there is none.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Makes `bytes` the content of a file that only its owner can read, durably.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        sync_parent(path)
    };
    write().map_err(failed("write", path))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a file if it is there.
pub fn remove(path: &Path) -> Result<(), HomeError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes a directory that only its owner can enter, with those above it.
pub fn make_dir(path: &Path) -> Result<(), HomeError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))
}

/// A file of records that only grows.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens or makes a journal; returns its records in order.
    pub fn open(path: &Path) -> Result<(Self, Vec<Vec<u8>>), HomeError> {
        let io = || failed("open", path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io())?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io())?;
        if bytes.len() < JOURNAL_MAGIC.len() && JOURNAL_MAGIC.starts_with(&bytes) {
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(io())?;
            file.write_all(JOURNAL_MAGIC).and_then(|()| file.sync_all()).map_err(io())?;
            sync_parent(path).map_err(io())?;
            return Ok((Self { file, path: path.to_path_buf() }, Vec::new()));
        }
        let Some(mut rest) = bytes.strip_prefix(JOURNAL_MAGIC) else {
            return Err(HomeError::NotAJournal { path: path.to_path_buf() });
        };
        let mut records = Vec::new();
        while let Some((record, after)) = next_record(rest) {
            records.push(record.to_vec());
            rest = after;
        }
        let whole = (bytes.len() - rest.len()) as u64;
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::Start(whole))).map_err(io())?;
        Ok((Self { file, path: path.to_path_buf() }, records))
    }

    /// Appends records, durably, all in one flush.
    pub fn append<'a>(&mut self, records: impl IntoIterator<Item = &'a [u8]>) -> Result<(), HomeError> {
        let mut bytes = Vec::new();
        for record in records {
            let length = u32::try_from(record.len()).expect("a record is far below 4 GiB");
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&blake3::hash(record).as_bytes()[..4]);
            bytes.extend_from_slice(record);
        }
        self.file.write_all(&bytes).and_then(|()| self.file.sync_data()).map_err(failed("append to", &self.path))
    }
}

/// Layout of a record: length `u32`, the first four bytes of its BLAKE3, its bytes.
fn next_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length);
    if length > RECORD_BYTES_MAX {
        return None;
    }
    let record = rest.get(..length as usize)?;
    (blake3::hash(record).as_bytes()[..4] == *sum).then(|| (record, &rest[length as usize..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_cut_off_by_a_crash_is_dropped_and_the_others_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("journal");
        let (mut journal, _) = Journal::open(&path).expect("new");
        journal.append([b"one".as_slice(), b"two"]).expect("room");
        let whole = std::fs::metadata(&path).expect("there").len();
        journal.append([b"three".as_slice()]).expect("room");
        let file = OpenOptions::new().write(true).open(&path).expect("there");
        file.set_len(whole + 9).expect("shorter");
        let (mut journal, records) = Journal::open(&path).expect("whole again");
        assert_eq!(records, [b"one".to_vec(), b"two".to_vec()]);
        journal.append([b"four".as_slice()]).expect("room");
        let (_, records) = Journal::open(&path).expect("whole");
        assert_eq!(records.last(), Some(&b"four".to_vec()));
    }

    #[test]
    fn a_file_that_is_no_journal_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("journal");
        std::fs::write(&path, b"lanyard journal 9\nxxxx").expect("room");
        assert!(matches!(Journal::open(&path), Err(HomeError::NotAJournal { .. })));
        assert_eq!(std::fs::read(&path).expect("there"), b"lanyard journal 9\nxxxx");
    }
}
