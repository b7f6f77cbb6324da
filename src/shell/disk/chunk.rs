//! Contents read from the folder: cut and hashed, or served as ranges.
//!
//! Rules:
//! 1. a chunk list is given out only for a file that was the same before and after it was read;
//! 2. files are read by calls, never mapped: a file cut short under a map would end the process;
//! 3. memory stays at a few MiB for a file of any size.
//!
//! Large files are cut in pieces, one thread each: finding the cuts is two thirds of the work, and each is found from
//! the one before, so that splitting it by kinds of work would leave all others waiting for the cutter.

use std::io;

use super::primitives::{DiskFile, Look, Open, Place};
use super::{DiskError, Folder, scan};
use crate::base::{FileInfo, Kind, RelPath};
use crate::wire::chunker::{Cutter, chunks_of};
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList, ChunkRecord, LEAF_MAX, LEAVES_MAX};

/// Files up to here are read whole and cut by the caller's thread. A guess: starting a thread costs as much as cutting
/// 50 KiB, and small files come in crowds that keep all cores busy anyway.
const WHOLE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Smallest piece of a large file that is worth a thread of its own. A guess: ten times what joining cuts again.
const PIECE_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// Most threads for one file; the disk is the limit before.
const PIECES_MAX: u64 = 4;
/// Bytes of one thread's buffer: four of the largest chunks, of which at most one is moved to its front at each refill.
const BUFFER_BYTES: usize = 4 * CHUNK_BYTES_MAX;
/// Largest range read at once. One chunk.
pub const RANGE_BYTES_MAX: usize = CHUNK_BYTES_MAX;

/// Why a content was not read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not, or did not stay, what was expected: look again.
    #[error("the file changed while it was read")]
    Changed(FileInfo),
    /// No file is there any more.
    #[error("the file is gone")]
    Gone,
    /// The file has more chunks than a content may have.
    #[error("the file is larger than a shared file can be")]
    TooLarge,
    /// The system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Reads, cuts and hashes a whole file that is still `expected`.
pub fn read_content(folder: &Folder, path: &RelPath, expected: &FileInfo) -> Result<ChunkList, ReadError> {
    read_content_at(folder, &Place::shared(path), expected)
}

/// The same at any place.
pub fn read_content_at(folder: &Folder, place: &Place, expected: &FileInfo) -> Result<ChunkList, ReadError> {
    let reading = Reading::open(folder, place, Some(expected), Open::ReadAll)?;
    let list = if expected.bytes <= WHOLE_BYTES_MAX {
        chunks_of(&reading.whole(expected)?)
    } else {
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        reading.in_pieces(expected, (expected.bytes / PIECE_BYTES_MIN).clamp(1, cores.min(PIECES_MAX)))?
    };
    reading.check(expected)?;
    if list.records.len() > LEAF_MAX * LEAVES_MAX {
        return Err(ReadError::TooLarge);
    }
    Ok(list)
}

/// Reads a whole small file that is still `expected`; the caller knows that `expected.bytes` is small.
pub fn read_small(folder: &Folder, path: &RelPath, expected: &FileInfo) -> Result<Vec<u8>, ReadError> {
    read_small_at(folder, &Place::shared(path), expected)
}

/// The same at any place.
pub fn read_small_at(folder: &Folder, place: &Place, expected: &FileInfo) -> Result<Vec<u8>, ReadError> {
    if expected.bytes > WHOLE_BYTES_MAX {
        return Err(ReadError::TooLarge);
    }
    let reading = Reading::open(folder, place, Some(expected), Open::Read)?;
    let bytes = reading.whole(expected)?;
    reading.check(expected)?;
    Ok(bytes)
}

/// Reads a range of at most `RANGE_BYTES_MAX` bytes. With `expected` the file must be that, before and after; a
/// range that goes beyond the end is `Changed` either way.
pub fn read_range(
    folder: &Folder,
    path: &RelPath,
    offset: u64,
    length: usize,
    expected: Option<&FileInfo>,
) -> Result<Vec<u8>, ReadError> {
    read_range_at(folder, &Place::shared(path), offset, length, expected)
}

/// The same at any place.
pub fn read_range_at(
    folder: &Folder,
    place: &Place,
    offset: u64,
    length: usize,
    expected: Option<&FileInfo>,
) -> Result<Vec<u8>, ReadError> {
    if length > RANGE_BYTES_MAX {
        return Err(ReadError::TooLarge);
    }
    let reading = Reading::open(folder, place, expected, Open::Read)?;
    let mut bytes = vec![0; length];
    let read = reading.file.read_at(&mut bytes, offset).map_err(|e| reading.fail(e))?;
    if read < length {
        return Err(ReadError::Changed(reading.now()?));
    }
    if let Some(expected) = expected {
        reading.check(expected)?;
    }
    Ok(bytes)
}

/// A file open for reading, and where it was.
struct Reading {
    file: Box<dyn DiskFile>,
    place: Place,
}

impl Reading {
    fn open(folder: &Folder, place: &Place, expected: Option<&FileInfo>, how: Open) -> Result<Self, ReadError> {
        let place = place.clone();
        let file = match folder.disk.open(&place, how) {
            Ok(file) => file,
            Err(error) if scan::is_absent(&error) || error.kind() == io::ErrorKind::InvalidInput => {
                // A directory, link or pipe took the place of the file: that is a change too.
                return Err(scan::look(folder, &place)?.map_or(ReadError::Gone, ReadError::Changed));
            }
            Err(error) => return Err(DiskError::new("read", &place, error).into()),
        };
        let reading = Self { file, place };
        if let Some(expected) = expected {
            reading.check(expected)?;
        }
        Ok(reading)
    }

    fn now(&self) -> Result<FileInfo, ReadError> {
        match self.file.look() {
            Ok(Look::Plain(info)) if info.kind == Kind::File => Ok(info),
            Ok(_) => Err(ReadError::Gone),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn check(&self, expected: &FileInfo) -> Result<(), ReadError> {
        let now = self.now()?;
        if now == *expected { Ok(()) } else { Err(ReadError::Changed(now)) }
    }

    fn fail(&self, error: io::Error) -> ReadError {
        DiskError::new("read", &self.place, error).into()
    }

    fn whole(&self, expected: &FileInfo) -> Result<Vec<u8>, ReadError> {
        // The callers bound it by `WHOLE_BYTES_MAX`.
        let mut bytes = vec![0; usize::try_from(expected.bytes).map_err(|_| ReadError::TooLarge)?];
        let read = self.file.read_at(&mut bytes, 0).map_err(|e| self.fail(e))?;
        if read < bytes.len() {
            return Err(ReadError::Changed(self.now()?));
        }
        Ok(bytes)
    }

    /// Cuts and hashes pieces of the file at the same time, and joins them.
    ///
    /// A piece begins somewhere, not at a cut; but as a cut depends only on the bytes since the last one, its cuts are
    /// those of the whole from the first place on where both have one, mostly two or three chunks on. Up to there the
    /// joiner cuts again.
    fn in_pieces(&self, expected: &FileInfo, pieces: u64) -> Result<ChunkList, ReadError> {
        let (file, bytes) = (&*self.file, expected.bytes);
        let border = |piece: u64| bytes / pieces * piece;
        let mut cut: Vec<io::Result<Option<Piece>>> = Vec::new();
        std::thread::scope(|scope| {
            let ends = (1..=pieces).map(|piece| if piece == pieces { bytes } else { border(piece) });
            let mut jobs = ends.enumerate().map(|(piece, end)| {
                let start = border(piece as u64);
                move || Piece::cut(file, start, end, bytes)
            });
            let first = jobs.next();
            let others: Vec<_> = jobs.map(|job| scope.spawn(job)).collect();
            cut.extend(first.map(|job| job()));
            for other in others {
                cut.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
        });
        match cut.into_iter().collect::<io::Result<Option<Vec<Piece>>>>().and_then(|cut| join(file, bytes, cut)) {
            Ok(Some(records)) => Ok(ChunkList { records }),
            Ok(None) => Err(ReadError::Changed(self.now()?)),
            Err(error) => Err(self.fail(error)),
        }
    }
}

/// The chunks of a piece of a file.
struct Piece {
    /// Where each begins, and what it is.
    chunks: Vec<(u64, ChunkRecord)>,
    /// Where the last ends: at or behind the next piece's border.
    end: u64,
}

impl Piece {
    /// Cuts from `start` until a chunk begins at or behind `end`. `None` if the file is shorter than `bytes`.
    fn cut(file: &dyn DiskFile, start: u64, end: u64, bytes: u64) -> io::Result<Option<Self>> {
        let mut stream = Stream::new(file, start, bytes);
        let mut chunks = Vec::new();
        while stream.offset < end {
            let offset = stream.offset;
            match stream.next()? {
                Some(record) => chunks.push((offset, record)),
                None => return Ok(None),
            }
        }
        Ok(Some(Self { chunks, end: stream.offset }))
    }
}

/// The chunk list of the whole from those of its pieces. `None` if the file got shorter.
fn join(file: &dyn DiskFile, bytes: u64, pieces: Option<Vec<Piece>>) -> io::Result<Option<Vec<ChunkRecord>>> {
    let Some(pieces) = pieces else { return Ok(None) };
    let mut records: Vec<ChunkRecord> = Vec::with_capacity(pieces.iter().map(|piece| piece.chunks.len()).sum());
    let mut stream = Stream::new(file, 0, bytes);
    for piece in &pieces {
        while stream.offset < piece.end {
            let met = piece.chunks.binary_search_by_key(&stream.offset, |(offset, _)| *offset);
            if let Ok(at) = met {
                records.extend(piece.chunks[at..].iter().map(|(_, record)| *record));
                stream.move_to(piece.end);
                break;
            }
            match stream.next()? {
                Some(record) => records.push(record),
                None => return Ok(None),
            }
        }
    }
    Ok(Some(records))
}

/// Chunks of a file, one after the other, through a bounded buffer.
struct Stream<'f> {
    file: &'f dyn DiskFile,
    cutter: Cutter,
    buffer: Vec<u8>,
    /// What of the buffer is read and not yet cut.
    ready: std::ops::Range<usize>,
    /// Where in the file that begins: the next chunk.
    offset: u64,
    /// Where the file ends.
    bytes: u64,
}

impl<'f> Stream<'f> {
    fn new(file: &'f dyn DiskFile, offset: u64, bytes: u64) -> Self {
        Self { file, cutter: Cutter::default(), buffer: Vec::new(), ready: 0..0, offset, bytes }
    }

    fn move_to(&mut self, offset: u64) {
        self.ready = 0..0;
        self.offset = offset;
    }

    /// The chunk at `offset`, which is before the end. `None` if the file is shorter than it was.
    fn next(&mut self) -> io::Result<Option<ChunkRecord>> {
        let left = self.bytes - self.offset;
        if self.ready.len() < CHUNK_BYTES_MAX && (self.ready.len() as u64) < left {
            // A cut may depend on so many bytes.
            self.buffer.resize(BUFFER_BYTES, 0);
            self.buffer.copy_within(self.ready.clone(), 0);
            self.ready = 0..self.ready.len();
            let end = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let fresh = &mut self.buffer[self.ready.end..end];
            let read = self.file.read_at(fresh, self.offset + self.ready.end as u64)?;
            if read < fresh.len() {
                return Ok(None);
            }
            self.ready.end = end;
        }
        let window = &self.buffer[self.ready.clone()];
        let length = self.cutter.cut(window);
        let record = ChunkRecord::of(&window[..length]);
        self.ready.start += length;
        self.offset += length as u64;
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path()).expect("opens");
        (dir, folder)
    }

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("valid")
    }

    fn info(folder: &Folder, name: &str) -> FileInfo {
        scan::info(folder, &path(name)).expect("looked").expect("there")
    }

    /// Runs of one byte between runs of noise, so that natural and forced cuts both appear.
    fn content(seed: u64, bytes: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut out = Vec::with_capacity(bytes);
        while out.len() < bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match state >> 61 {
                0 => out.resize(out.len() + ((state >> 40) as usize & 0x1f_ffff), state as u8),
                _ => out.extend((0..65_536u64).map(|i| (state.wrapping_mul(2 * i + 1) >> 56) as u8)),
            }
        }
        out.truncate(bytes);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn streaming_cuts_exactly_where_the_whole_is_cut(seed: u64, bytes in 0usize..9_000_000) {
            let (dir, folder) = folder();
            let content = content(seed, bytes);
            std::fs::write(dir.path().join("f"), &content).expect("written");
            let expected = info(&folder, "f");
            let reading = Reading::open(&folder, &Place::shared(&path("f")), Some(&expected), Open::ReadAll).expect("opens");
            for pieces in 1..5 {
                let list = reading.in_pieces(&expected, pieces).expect("reads");
                prop_assert_eq!(list, chunks_of(&content));
            }
        }
    }

    #[test]
    fn sizes_around_the_limits_are_cut_like_the_whole() {
        let (dir, folder) = folder();
        let whole = WHOLE_BYTES_MAX as usize;
        let piece = PIECE_BYTES_MIN as usize;
        for bytes in [0, 1, 65_535, 65_536, 65_537, whole, whole + 1, 2 * piece - 1, 2 * piece + 1] {
            let content = content(bytes as u64, bytes);
            std::fs::write(dir.path().join("f"), &content).expect("written");
            let list = read_content(&folder, &path("f"), &info(&folder, "f")).expect("reads");
            assert_eq!(list, chunks_of(&content), "{bytes}");
        }
    }

    /// A file that is shorter, or changes, in the middle of being read.
    struct Unsteady {
        file: Box<dyn DiskFile>,
        target: std::path::PathBuf,
        change: fn(&std::path::Path),
        reads: std::sync::atomic::AtomicUsize,
    }

    impl DiskFile for Unsteady {
        fn look(&self) -> io::Result<Look> {
            self.file.look()
        }
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            if self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                (self.change)(&self.target);
            }
            self.file.read_at(buffer, offset)
        }
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.file.write_at(bytes, offset)
        }
        fn set(&self, mode: crate::base::Mode, mtime: Option<crate::base::FileTime>) -> io::Result<()> {
            self.file.set(mode, mtime)
        }
        fn reserve(&self, bytes: u64) -> io::Result<()> {
            self.file.reserve(bytes)
        }
        fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
            self.file.punch(offset, bytes)
        }
        fn start_writing(&self, offset: u64, bytes: u64) {
            self.file.start_writing(offset, bytes);
        }
        fn written(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
            self.file.written(offset)
        }
        fn flush(&self) -> io::Result<()> {
            self.file.flush()
        }
    }

    #[test]
    fn a_file_changed_while_it_is_read_gives_no_chunk_list() {
        let shorten: fn(&std::path::Path) = |p| {
            std::fs::OpenOptions::new().write(true).open(p).and_then(|f| f.set_len(100)).expect("shortened");
        };
        let rewrite: fn(&std::path::Path) = |p| {
            use std::os::unix::fs::FileExt;
            let file = std::fs::OpenOptions::new().write(true).open(p).expect("opened");
            file.write_all_at(b"edited", 7).expect("written");
        };
        for change in [shorten, rewrite] {
            let (dir, folder) = folder();
            let target = dir.path().join("f");
            std::fs::write(&target, content(1, 9 << 20)).expect("written");
            let expected = info(&folder, "f");
            let mut reading =
                Reading::open(&folder, &Place::shared(&path("f")), Some(&expected), Open::ReadAll).expect("opens");
            reading.file = Box::new(Unsteady { file: reading.file, target, change, reads: 0.into() });

            let result = reading.in_pieces(&expected, 2).and_then(|list| reading.check(&expected).map(|()| list));

            assert!(matches!(result, Err(ReadError::Changed(now)) if now != expected), "{result:?}");
        }
    }

    #[test]
    fn only_the_expected_file_is_read() {
        let (dir, folder) = folder();
        std::fs::write(dir.path().join("f"), "old").expect("written");
        let expected = info(&folder, "f");
        std::fs::write(dir.path().join("f"), "newer").expect("written");

        let now = info(&folder, "f");
        assert!(matches!(read_content(&folder, &path("f"), &expected), Err(ReadError::Changed(i)) if i == now));
        assert!(matches!(read_small(&folder, &path("f"), &expected), Err(ReadError::Changed(_))));
        assert_eq!(read_small(&folder, &path("f"), &now).expect("reads"), b"newer");
        assert!(matches!(read_content(&folder, &path("gone"), &now), Err(ReadError::Gone)));
    }

    #[test]
    fn neither_symlinks_nor_pipes_are_read() {
        let (dir, folder) = folder();
        symlink("/etc/passwd", dir.path().join("link")).expect("linked");
        let link = info(&folder, "link");
        assert!(matches!(read_content(&folder, &path("link"), &link), Err(ReadError::Changed(_))));
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("pipe"), rustix::fs::Mode::RWXU).expect("a pipe");
        assert!(matches!(read_range(&folder, &path("pipe"), 0, 1, None), Err(ReadError::Gone)));
    }

    #[test]
    fn ranges_are_served_within_the_file_only() {
        let (dir, folder) = folder();
        std::fs::write(dir.path().join("f"), "0123456789").expect("written");
        let now = info(&folder, "f");
        assert_eq!(read_range(&folder, &path("f"), 3, 4, Some(&now)).expect("reads"), b"3456");
        assert!(matches!(read_range(&folder, &path("f"), 8, 4, None), Err(ReadError::Changed(_))));
        assert!(matches!(read_range(&folder, &path("f"), u64::MAX, 4, None), Err(ReadError::Disk(_))));
        assert!(matches!(read_range(&folder, &path("f"), 0, RANGE_BYTES_MAX + 1, None), Err(ReadError::TooLarge)));
    }
}
