//! Contents read from the folder: cut and hashed, or served as ranges.
//!
//! Rules:
//! 1. a chunk list is given out only for a file that was the same before and after it was read;
//! 2. files are read by calls, never mapped: a file cut short under a map would end the process;
//! 3. memory stays at a few MiB for a file of any size.
//!
//! Large files use two threads: one reads and hashes (0.2 + 0.25 s a GiB), the other finds the cuts (0.6 s a GiB),
//! which bounds the whole.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::primitives::{DiskFile, Look, Open, Place};
use super::{DiskError, Folder, scan};
use crate::base::{FileInfo, Kind, RelPath};
use crate::wire::chunker::{Cutter, chunks_of};
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList, ChunkRecord, LEAF_MAX, LEAVES_MAX};

/// Files up to here are read whole and cut by the caller's thread: below it a second thread costs more than it gains.
/// A guess near the size of one block.
const WHOLE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Fresh bytes in one block of the pipeline. A guess: large against the half MiB carried over, small against caches.
const BLOCK_BYTES: usize = 2 * 1024 * 1024;
/// Blocks in the pipeline: one being cut, one being hashed, one ready.
const BLOCKS: usize = 3;
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
    let reading = Reading::open(folder, path, Some(expected), Open::ReadAll)?;
    let list = if expected.bytes <= WHOLE_BYTES_MAX {
        chunks_of(&reading.whole(expected)?)
    } else {
        reading.pipelined(expected)?
    };
    reading.check(expected)?;
    if list.records.len() > LEAF_MAX * LEAVES_MAX {
        return Err(ReadError::TooLarge);
    }
    Ok(list)
}

/// Reads a whole small file that is still `expected`; the caller knows that `expected.bytes` is small.
pub fn read_small(folder: &Folder, path: &RelPath, expected: &FileInfo) -> Result<Vec<u8>, ReadError> {
    if expected.bytes > WHOLE_BYTES_MAX {
        return Err(ReadError::TooLarge);
    }
    let reading = Reading::open(folder, path, Some(expected), Open::Read)?;
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
    if length > RANGE_BYTES_MAX {
        return Err(ReadError::TooLarge);
    }
    let reading = Reading::open(folder, path, expected, Open::Read)?;
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
    fn open(folder: &Folder, path: &RelPath, expected: Option<&FileInfo>, how: Open) -> Result<Self, ReadError> {
        let place = Place::shared(path);
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

    fn pipelined(&self, expected: &FileInfo) -> Result<ChunkList, ReadError> {
        let (to_cut, fresh) = sync_channel(BLOCKS);
        let (to_hash, cut) = sync_channel(BLOCKS);
        let (file, bytes) = (&*self.file, expected.bytes);
        let records = std::thread::scope(|scope| {
            // Each side owns its ends, so that one that gives up wakes the other.
            let feeder = scope.spawn(move || feed(file, bytes, to_cut, cut));
            find_cuts(fresh, to_hash);
            feeder.join()
        });
        match records {
            Ok(Ok(Some(records))) => Ok(ChunkList { records }),
            Ok(Ok(None)) => Err(ReadError::Changed(self.now()?)),
            Ok(Err(error)) => Err(self.fail(error)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Bytes on their way through the pipeline: room for what the block before left over, then fresh bytes.
struct Block {
    data: Vec<u8>,
    start: usize,
    end: usize,
    cuts: Vec<usize>,
    last: bool,
}

/// Reads `bytes` bytes into blocks, and hashes those that come back cut. `None` if the file is shorter.
fn feed(
    file: &dyn DiskFile,
    bytes: u64,
    to_cut: SyncSender<Block>,
    cut: Receiver<Block>,
) -> io::Result<Option<Vec<ChunkRecord>>> {
    let mut spare: Vec<Block> = (0..BLOCKS)
        .map(|_| Block {
            data: vec![0; CHUNK_BYTES_MAX + BLOCK_BYTES],
            start: 0,
            end: 0,
            cuts: Vec::new(),
            last: false,
        })
        .collect();
    let mut records = Vec::new();
    let mut offset = 0;
    loop {
        while offset < bytes
            && let Some(mut block) = spare.pop()
        {
            let wanted = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(BLOCK_BYTES);
            block.start = CHUNK_BYTES_MAX;
            block.end = CHUNK_BYTES_MAX + wanted;
            if file.read_at(&mut block.data[CHUNK_BYTES_MAX..block.end], offset)? < wanted {
                return Ok(None);
            }
            offset += wanted as u64;
            block.last = offset == bytes;
            to_cut.send(block).expect("the cutter waits for the last block");
        }
        let mut block = cut.recv().expect("the cutter sends back every block");
        let mut at = block.start;
        for length in block.cuts.drain(..) {
            records.push(ChunkRecord::of(&block.data[at..at + length]));
            at += length;
        }
        if block.last {
            return Ok(Some(records));
        }
        spare.push(block);
    }
}

/// Cuts blocks until the last, or until the feeder gave up.
fn find_cuts(fresh: Receiver<Block>, to_hash: SyncSender<Block>) {
    let cutter = Cutter::default();
    let mut carried: Vec<u8> = Vec::with_capacity(CHUNK_BYTES_MAX);
    for mut block in fresh {
        block.start -= carried.len();
        block.data[block.start..CHUNK_BYTES_MAX].copy_from_slice(&carried);
        let mut at = block.start;
        // A cut may depend on the next `CHUNK_BYTES_MAX` bytes: fewer are carried over, unless they are the last.
        while block.end - at >= CHUNK_BYTES_MAX || (block.last && at < block.end) {
            let length = cutter.cut(&block.data[at..block.end]);
            block.cuts.push(length);
            at += length;
        }
        carried.clear();
        carried.extend_from_slice(&block.data[at..block.end]);
        let last = block.last;
        if to_hash.send(block).is_err() || last {
            return;
        }
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
        fn streaming_cuts_exactly_where_the_whole_is_cut(seed: u64, bytes in 0usize..12_000_000) {
            let (dir, folder) = folder();
            let content = content(seed, bytes);
            std::fs::write(dir.path().join("f"), &content).expect("written");
            let list = read_content(&folder, &path("f"), &info(&folder, "f")).expect("reads");
            prop_assert_eq!(list, chunks_of(&content));
        }
    }

    #[test]
    fn sizes_around_the_limits_are_cut_like_the_whole() {
        let (dir, folder) = folder();
        let block = BLOCK_BYTES;
        for bytes in [0, 1, 65_535, 65_536, 65_537, block, block + 1, 2 * block, 2 * block + CHUNK_BYTES_MAX] {
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
            let mut reading = Reading::open(&folder, &path("f"), Some(&expected), Open::ReadAll).expect("opens");
            reading.file = Box::new(Unsteady { file: reading.file, target, change, reads: 0.into() });

            let result = reading.pipelined(&expected).and_then(|list| reading.check(&expected).map(|()| list));

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
