//! A file of a folder as a stream: for what takes it whole, piece by piece.

use std::io;

use super::primitives::{DiskFile, Look, Open, Place};
use super::{DiskError, Folder, scan};
use crate::base::{FileInfo, Kind, RelPath};
use crate::shell::disk::chunk::ReadError;

/// An open file that is read from its beginning up to the length that it was seen with.
pub struct FileStream {
    file: Box<dyn DiskFile>,
    place: Place,
    expected: FileInfo,
    offset: u64,
}

impl std::fmt::Debug for FileStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStream").field("place", &self.place).field("offset", &self.offset).finish()
    }
}

impl FileStream {
    /// Opens the file that was seen.
    pub fn open(folder: &Folder, path: &RelPath, expected: &FileInfo) -> Result<Self, ReadError> {
        let stream = Self::open_as_it_is(folder, path, expected)?;
        stream.check()?;
        Ok(stream)
    }

    /// Opens whatever file is there now: of one that is written all the time, as far as it reached when it was seen.
    pub fn open_as_it_is(folder: &Folder, path: &RelPath, expected: &FileInfo) -> Result<Self, ReadError> {
        let place = Place::shared(path);
        let file = match folder.disk.open(&place, Open::ReadAll) {
            Ok(file) => file,
            Err(error) if scan::is_absent(&error) || error.kind() == io::ErrorKind::InvalidInput => {
                return Err(scan::info(folder, path)?.map_or(ReadError::Gone, ReadError::Changed));
            }
            Err(error) => return Err(DiskError::new("read", &place, error).into()),
        };
        Ok(Self { file, place, expected: *expected, offset: 0 })
    }

    /// Whether it is still what was seen: asked after its end, it says so of all that was read.
    pub fn check(&self) -> Result<(), ReadError> {
        match self.file.look() {
            Ok(Look::Plain(info)) if info == self.expected => Ok(()),
            Ok(Look::Plain(info)) if info.kind == Kind::File => Err(ReadError::Changed(info)),
            Ok(_) => Err(ReadError::Gone),
            Err(error) => Err(DiskError::new("read", &self.place, error).into()),
        }
    }

    /// How much was read.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl io::Read for FileStream {
    /// Nothing more once the expected length is reached, also where the file has grown since.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.expected.bytes - self.offset).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..left], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Write;

    use super::*;

    #[test]
    fn what_was_seen_is_read_and_a_change_meanwhile_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path()).expect("opens");
        let path = RelPath::new("f").expect("valid");
        std::fs::write(dir.path().join("f"), "0123456789").expect("written");
        let expected = scan::info(&folder, &path).expect("looked").expect("there");

        let mut stream = FileStream::open(&folder, &path, &expected).expect("opens");
        let mut file = std::fs::OpenOptions::new().append(true).open(dir.path().join("f")).expect("opens");
        file.write_all(b"more").expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("reads");

        assert_eq!(text, "0123456789");
        assert!(matches!(stream.check(), Err(ReadError::Changed(_))));
        assert!(matches!(FileStream::open(&folder, &path, &expected), Err(ReadError::Changed(_))));
        std::fs::remove_file(dir.path().join("f")).expect("removed");
        assert!(matches!(FileStream::open(&folder, &path, &expected), Err(ReadError::Gone)));
    }
}
