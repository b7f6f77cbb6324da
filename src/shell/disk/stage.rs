//! Contents written aside, in `.lanyard/tmp/` on the file system of the folder, until they are whole.
//!
//! - A small content is one call: `stage_small`.
//! - A large one is a `Partial` named after its content, so that it is found again after a crash; `verified` tells
//!   which chunks it holds, by hashing, never by a note that could lie.
//! - Only lanyard's own staged contents are ever in `tmp/`: what a swap takes out of the folder goes to `versions/` in
//!   the same step, so that `clean` can delete without looking.
//!
//! `flush` makes a group durable before any of it is swapped in.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::attributes::{self, Attached, Raw};
use super::primitives::{Disk, DiskFile, Look, Make, Open, Place};
use super::{DiskError, Folder, chunk};
use crate::base::{ContentId, FileInfo, FileTime, Kind, Mode};
use crate::shell::entropy;
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList, ChunkRecord};

/// Ending of the name of a partial content.
const PART: &[u8] = b".part";
/// How long a partial content is kept for resuming: a week, a guess above holidays' long weekends.
pub const PART_AGE_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// Bytes written to a partial content before their way to the disk is started.
const WRITING_BYTES: u64 = 8 * 1024 * 1024;
/// Files flushed one by one; more are flushed by one call for the whole file system. Measured with `benches/disk.rs`
/// on ext4, new files of 50 KiB, one by one against all at once: 1 file 12 against 12 ms, 4 files 31 against 8 ms,
/// 16 files 43 against 2 ms, 64 files 333 against 6 ms, 1,000 files 708 against 42 ms. Four, not one, because the call
/// for all also waits for whatever other programs have just written.
pub(super) const FLUSH_EACH_MAX: usize = 4;

/// Bytes copied at a time. A guess: few calls, little memory.
const COPY_BYTES: usize = 256 * 1024;

/// Where contents are staged.
pub(super) fn tmp() -> Place {
    Place::own().below("tmp")
}

/// A whole content written aside, to be given to `commit`. Dropping a small one removes it; a large one stays for
/// resuming.
pub struct Staged {
    disk: Arc<dyn Disk>,
    place: Place,
    info: FileInfo,
    durable: bool,
    resumable: bool,
    gone: bool,
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Staged").field(&self.place).finish()
    }
}

impl Staged {
    /// What was staged: kind, length, and the rest as it is on the disk.
    pub fn info(&self) -> &FileInfo {
        &self.info
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// It was moved to where it belongs: nothing is left to remove.
    pub(super) fn forget(mut self) {
        self.gone = true;
    }

    /// Sets mode and time, before the flush that makes them durable.
    pub(super) fn set(&mut self, mode: Mode, mtime: FileTime) -> Result<(), DiskError> {
        let set = || -> io::Result<FileInfo> {
            let file = self.disk.open(&self.place, Open::Attributes)?;
            file.set(mode, Some(mtime))?;
            info_of(&*file)
        };
        let info = set().map_err(|e| DiskError::new("set mode and time of", &self.place, e))?;
        self.durable &= (info.mode, info.mtime) == (self.info.mode, self.info.mtime);
        self.info = info;
        Ok(())
    }

    /// Sets extended attributes, as far as the disk takes them, before mode and time: a file for reading only takes none.
    pub(super) fn dress(&mut self, attached: &Attached, now: Raw) {
        // Only one that is resumed may have some from before.
        let is_bare = attached.is_empty() && now.is_empty() && !self.resumable;
        if !is_bare
            && self.disk.has_attributes()
            && let Ok(file) = self.disk.open(&self.place, Open::Attributes)
        {
            self.durable &= !attributes::dress(&*file, attached, now);
        }
    }

    /// Gives it to user and group, as far as this node may, after mode and time: then it may be somebody else's.
    pub(super) fn give(&mut self, attached: &Attached) {
        if attached.user.is_none() && attached.group.is_none() {
            return;
        }
        let given = || -> io::Result<Option<FileInfo>> {
            let file = self.disk.open(&self.place, Open::Attributes)?;
            if attributes::give(&*file, attached) { info_of(&*file).map(Some) } else { Ok(None) }
        };
        if let Ok(Some(info)) = given() {
            (self.info, self.durable) = (info, false);
        }
    }

    fn flush(&self) -> Result<(), DiskError> {
        let flush = || self.disk.open(&self.place, Open::Attributes)?.flush();
        flush().map_err(|e| DiskError::new("flush", &self.place, e))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.gone && !self.resumable {
            // What stays is removed by `clean`.
            let _ = self.disk.remove(&self.place, false);
        }
    }
}

/// Stages a content that is in memory.
pub fn stage_small(folder: &Folder, bytes: &[u8]) -> Result<Staged, DiskError> {
    let place = tmp().below(format!("{:016x}.new", entropy::u64()));
    let write = || -> io::Result<FileInfo> {
        let file = folder.disk.open(&place, Open::Create)?;
        file.write_at(bytes, 0)?;
        info_of(&*file)
    };
    match write() {
        Ok(info) => {
            Ok(Staged { disk: folder.disk.clone(), place, info, durable: false, resumable: false, gone: false })
        }
        Err(error) => {
            let _ = folder.disk.remove(&place, false);
            Err(DiskError::new("write", &place, error))
        }
    }
}

/// Stages a copy of a file of the folder, durable, with this mode and time, and its attributes with a change.
pub(super) fn stage_copy(
    folder: &Folder,
    of: &Place,
    (mode, mtime): (Mode, FileTime),
    attached: &Attached,
) -> Result<Staged, DiskError> {
    let mut staged = stage_small(folder, &[])?;
    let copy = || -> io::Result<()> {
        let (from, to) = (folder.disk.open(of, Open::ReadAll)?, folder.disk.open(&staged.place, Open::Resume)?);
        let mut piece = vec![0; COPY_BYTES];
        let mut at = 0;
        loop {
            let read = from.read_at(&mut piece, at)?;
            if read == 0 {
                return Ok(());
            }
            to.write_at(&piece[..read], at)?;
            at += read as u64;
        }
    };
    copy().map_err(|e| DiskError::new("copy", of, e))?;
    staged.dress(attached, attributes::now(folder, of));
    staged.set(mode, mtime)?;
    staged.give(attached);
    staged.flush()?;
    Ok(staged)
}

/// Stages a symbolic link. It needs no flush: the directory it is moved to is flushed.
pub(super) fn stage_symlink(folder: &Folder, target: &[u8], mtime: FileTime) -> Result<Staged, DiskError> {
    let place = tmp().below(format!("{:016x}.new", entropy::u64()));
    let make = || {
        folder.disk.make(&place, Make::Symlink(target, mtime))?;
        match folder.disk.look(&place)? {
            Look::Plain(info) => Ok(info),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    };
    match make() {
        Ok(info) => Ok(Staged { disk: folder.disk.clone(), place, info, durable: true, resumable: false, gone: false }),
        Err(error) => Err(DiskError::new("make the link", &place, error)),
    }
}

/// Makes a group of staged contents durable; all or none are so afterwards. After an error their content cannot be
/// trusted to be on the disk: drop them.
///
/// Few files are flushed one by one, many by one call for the file system: see `FLUSH_EACH_MAX`.
pub fn flush(folder: &Folder, group: &mut [&mut Staged]) -> Result<(), DiskError> {
    let count = group.iter().filter(|s| !s.durable).count();
    if count > FLUSH_EACH_MAX {
        folder.disk.flush_all().map_err(|e| DiskError::new("flush", &tmp(), e))?;
    } else {
        for staged in group.iter().filter(|s| !s.durable) {
            staged.flush()?;
        }
    }
    for staged in group {
        staged.durable = true;
    }
    Ok(())
}

/// Removes what earlier runs left, except partial contents that may still be resumed. Call it before anything is
/// staged. Returns how many were removed.
pub fn clean(folder: &Folder, now_ms: u64) -> Result<usize, DiskError> {
    let fail = |e| DiskError::new("clean", &tmp(), e);
    let mut stale = Vec::new();
    folder
        .disk
        .list(&tmp(), &mut |name, look| {
            // By ctime: the mtime may be set to that of the file to come.
            let young = |info: FileInfo| info.ctime.to_ms().saturating_add(PART_AGE_MS_MAX) > now_ms;
            match look {
                Ok(Look::Plain(info)) if info.kind == Kind::Dir => {}
                Ok(Look::Plain(info)) if name.ends_with(PART) && young(info) => {}
                _ => stale.push(tmp().below(name)),
            }
        })
        .map_err(fail)?;
    for place in &stale {
        match folder.disk.remove(place, false) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
    }
    Ok(stale.len())
}

/// A large content being put together. Shared by all who write chunks of it.
pub struct Partial {
    disk: Arc<dyn Disk>,
    place: Place,
    file: Box<dyn DiskFile>,
    bytes: u64,
    unstarted: Mutex<Vec<(u64, u64)>>,
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partial").field("place", &self.place).field("bytes", &self.bytes).finish()
    }
}

impl Partial {
    /// Opens the partial content, or makes it and reserves its space: a full disk is noticed here, before anything is
    /// fetched.
    pub fn open_or_create(folder: &Folder, content: ContentId, bytes: u64) -> Result<Self, DiskError> {
        let place = part(content);
        let fail = |e| DiskError::new("write", &place, e);
        let mut file = folder.disk.open(&place, Open::Resume).map_err(fail)?;
        if info_of(&*file).map_err(fail)?.bytes > bytes {
            // No chunk of this content lies there.
            folder.disk.remove(&place, false).map_err(fail)?;
            file = folder.disk.open(&place, Open::Create).map_err(fail)?;
        }
        if let Err(error) = file.reserve(bytes) {
            if info_of(&*file).is_ok_and(|info| info.bytes == 0) {
                let _ = folder.disk.remove(&place, false);
            }
            return Err(DiskError::new("reserve space for", &place, error));
        }
        Ok(Self { disk: folder.disk.clone(), place, file, bytes, unstarted: Mutex::default() })
    }

    /// Length of the content.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes verified bytes.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if offset.saturating_add(bytes.len() as u64) > self.bytes {
            return Err(
                self.fail("write", io::Error::new(io::ErrorKind::InvalidInput, "beyond the end of the content"))
            );
        }
        if bytes.len() == CHUNK_BYTES_MAX && bytes.iter().all(|byte| *byte == 0) && self.leave_hole(offset) {
            return Ok(());
        }
        self.file.write_at(bytes, offset).map_err(|e| self.fail("write", e))?;
        // The last flush is short if the disk was kept busy on the way.
        let mut unstarted = self.unstarted.lock().unwrap_or_else(PoisonError::into_inner);
        match unstarted.last_mut() {
            Some((start, length)) if *start + *length == offset => *length += bytes.len() as u64,
            _ => unstarted.push((offset, bytes.len() as u64)),
        }
        if unstarted.iter().map(|(_, length)| length).sum::<u64>() >= WRITING_BYTES {
            let ranges = std::mem::take(&mut *unstarted);
            drop(unstarted);
            for (start, length) in ranges {
                self.file.start_writing(start, length);
            }
        }
        Ok(())
    }

    /// A chunk of zeros takes no space, as in the file that it comes from. Returns whether the file system can do that.
    fn leave_hole(&self, offset: u64) -> bool {
        let end = offset + CHUNK_BYTES_MAX as u64;
        // The file has to reach so far first: ext4 makes no hole behind the end.
        self.file.write_at(&[0], end - 1).is_ok() && self.file.punch(offset, CHUNK_BYTES_MAX as u64).is_ok()
    }

    /// Puts a chunk in place that is all zeros, as the holes of sparse files read. Returns whether this is one.
    pub fn put_zeros(&self, record: &ChunkRecord, offset: u64) -> bool {
        static ZEROS: OnceLock<ChunkRecord> = OnceLock::new();
        let zeros = ZEROS.get_or_init(|| ChunkRecord::of(&vec![0; CHUNK_BYTES_MAX]));
        record == zeros && offset.saturating_add(CHUNK_BYTES_MAX as u64) <= self.bytes && self.leave_hole(offset)
    }

    /// Reads what was written, to serve it while the rest still comes.
    pub fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, DiskError> {
        let mut bytes = vec![0; length.min(CHUNK_BYTES_MAX)];
        let read = self.file.read_at(&mut bytes, offset).map_err(|e| self.fail("read", e))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Takes over a chunk from a file of the folder, if that file has it there. Whatever is wrong with that file only
    /// means that it has not.
    pub fn copy_chunk(
        &self,
        folder: &Folder,
        from: &Place,
        from_offset: u64,
        record: &ChunkRecord,
        offset: u64,
    ) -> Result<bool, DiskError> {
        match chunk::read_range_at(folder, from, from_offset, record.bytes as usize, None) {
            Ok(bytes) if ChunkRecord::of(&bytes) == *record => self.write_at(offset, &bytes).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Which chunks of the list are here already, by their hash. Never-written ranges are not read.
    pub fn verified(&self, list: &ChunkList) -> Result<Vec<bool>, DiskError> {
        let fail = |e| self.fail("read", e);
        let mut have = Vec::with_capacity(list.records.len());
        let mut buffer = vec![0; CHUNK_BYTES_MAX];
        let mut offset = 0;
        let mut written = self.file.written(0).map_err(fail)?;
        for record in &list.records {
            let end = offset + u64::from(record.bytes);
            while let Some((_, stop)) = written
                && stop <= offset
            {
                written = self.file.written(stop).map_err(fail)?;
            }
            // Holes within a chunk read as zeros, and the hash tells.
            let touched = written.is_some_and(|(start, _)| start < end) && record.bytes as usize <= CHUNK_BYTES_MAX;
            have.push(
                touched && {
                    let bytes = &mut buffer[..record.bytes as usize];
                    self.file.read_at(bytes, offset).map_err(fail)? == bytes.len() && ChunkRecord::of(bytes) == *record
                },
            );
            offset = end;
        }
        Ok(have)
    }

    /// The content is whole and every chunk was verified: makes it durable and ready to be committed.
    pub fn finish(self) -> Result<Staged, DiskError> {
        self.file.flush().map_err(|e| self.fail("flush", e))?;
        let info = info_of(&*self.file).map_err(|e| self.fail("look at", e))?;
        if info.bytes != self.bytes {
            return Err(self.fail("finish", io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Staged { disk: self.disk, place: self.place, info, durable: true, resumable: true, gone: false })
    }

    /// Gives the content up and removes what was written.
    pub fn discard(self) -> Result<(), DiskError> {
        self.disk.remove(&self.place, false).map_err(|e| self.fail("remove", e))
    }

    fn fail(&self, doing: &'static str, error: io::Error) -> DiskError {
        DiskError::new(doing, &self.place, error)
    }
}

/// The contents that partial files are there for, so that the plan can resume them.
pub fn partials(folder: &Folder) -> Result<Vec<ContentId>, DiskError> {
    let mut found = Vec::new();
    folder
        .disk
        .list(&tmp(), &mut |name, _| {
            let hex = name.strip_suffix(PART).and_then(|hex| std::str::from_utf8(hex).ok());
            found.extend(hex.and_then(ContentId::from_hex));
        })
        .map_err(|e| DiskError::new("list", &tmp(), e))?;
    Ok(found)
}

/// Where a large content lies while it comes.
pub fn part(content: ContentId) -> Place {
    tmp().below([content.to_hex().as_bytes(), PART].concat())
}

fn info_of(file: &dyn DiskFile) -> io::Result<FileInfo> {
    match file.look()? {
        Look::Plain(info) => Ok(info),
        Look::Special | Look::Foreign => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::FolderId;
    use crate::base::RelPath;
    use crate::wire::chunker::chunks_of;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path()).expect("opens");
        folder.create_marker(FolderId([1; 32])).expect("marks");
        (dir, folder)
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut out);
        out
    }

    /// Chunks with their offsets.
    fn placed(list: &ChunkList) -> Vec<(u64, ChunkRecord)> {
        let mut offset = 0;
        let mut out = Vec::new();
        for record in &list.records {
            out.push((offset, *record));
            offset += u64::from(record.bytes);
        }
        out
    }

    fn slice<'c>(content: &'c [u8], offset: u64, record: &ChunkRecord) -> &'c [u8] {
        &content[offset as usize..][..record.bytes as usize]
    }

    #[test]
    fn a_small_content_that_is_not_committed_leaves_nothing() {
        let (dir, folder) = folder();
        let staged = stage_small(&folder, b"hello").expect("stages");
        assert_eq!(staged.info().bytes, 5);
        let count = || std::fs::read_dir(dir.path().join(".lanyard/tmp")).expect("readable").count();
        assert_eq!(count(), 1);
        drop(staged);
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_partial_content_resumes_from_what_is_really_there() {
        let (dir, folder) = folder();
        let content = noise(3 << 20);
        let list = chunks_of(&content);
        let chunks = placed(&list);
        assert!(chunks.len() >= 6);
        let partial = Partial::open_or_create(&folder, list.id(), list.bytes()).expect("opens");
        for (offset, record) in chunks.iter().skip(1) {
            partial.write_at(*offset, slice(&content, *offset, record)).expect("writes");
        }
        drop(partial);
        // A crash: the last chunk is cut short, one in the middle is garbage.
        let file = dir.path().join(format!(".lanyard/tmp/{}.part", list.id().to_hex()));
        let raw = std::fs::OpenOptions::new().write(true).open(&file).expect("opens");
        raw.set_len(list.bytes() - 10).expect("cut");
        std::os::unix::fs::FileExt::write_all_at(&raw, b"garbage", chunks[3].0 + 100).expect("writes");

        assert_eq!(partials(&folder).expect("lists"), [list.id()]);
        let partial = Partial::open_or_create(&folder, list.id(), list.bytes()).expect("opens");
        let have = partial.verified(&list).expect("reads");
        let missing: Vec<usize> = (0..have.len()).filter(|at| !have[*at]).collect();
        assert_eq!(missing, [0, 3, chunks.len() - 1]);
        for at in missing {
            let (offset, record) = &chunks[at];
            partial.write_at(*offset, slice(&content, *offset, record)).expect("writes");
        }
        assert!(partial.verified(&list).expect("reads").iter().all(|have| *have));
        partial.finish().expect("whole");
        assert_eq!(std::fs::read(&file).expect("kept for the commit"), content);
    }

    #[test]
    fn an_unfinished_content_is_not_staged() {
        let (_dir, folder) = folder();
        let content = noise(1 << 20);
        let list = chunks_of(&content);
        let partial = Partial::open_or_create(&folder, list.id(), list.bytes()).expect("opens");
        assert!(partial.write_at(list.bytes() - 1, b"too long").is_err());
        assert!(partial.finish().is_err());
    }

    #[test]
    fn a_file_too_long_for_the_content_is_started_anew() {
        let (dir, folder) = folder();
        let content = noise(1 << 20);
        let list = chunks_of(&content);
        std::fs::write(dir.path().join(format!(".lanyard/tmp/{}.part", list.id().to_hex())), noise(2 << 20))
            .expect("written");
        let partial = Partial::open_or_create(&folder, list.id(), list.bytes()).expect("opens");
        assert!(partial.verified(&list).expect("reads").iter().all(|have| !have));
    }

    #[test]
    fn a_chunk_is_copied_only_from_where_it_really_is() {
        let (dir, folder) = folder();
        let content = noise(2 << 20);
        let list = chunks_of(&content);
        let (offset, record) = placed(&list)[1];
        std::fs::write(dir.path().join("old"), &content).expect("written");
        let old = RelPath::new("old").expect("valid");
        let partial = Partial::open_or_create(&folder, list.id(), list.bytes()).expect("opens");

        assert!(!partial.copy_chunk(&folder, &Place::shared(&old), offset + 1, &record, offset).expect("copies"));
        let gone = RelPath::new("gone").expect("valid");
        assert!(!partial.copy_chunk(&folder, &Place::shared(&gone), offset, &record, offset).expect("copies"));
        assert!(partial.copy_chunk(&folder, &Place::shared(&old), offset, &record, offset).expect("copies"));
        let have = partial.verified(&list).expect("reads");
        assert_eq!(have.iter().filter(|have| **have).count(), 1);
        assert!(have[1]);
    }

    #[test]
    fn what_earlier_runs_left_is_removed_but_not_what_can_be_resumed() {
        let (dir, folder) = folder();
        std::mem::forget(stage_small(&folder, b"left by a crash"));
        let list = chunks_of(&noise(1 << 20));
        drop(Partial::open_or_create(&folder, list.id(), list.bytes()).expect("opens"));
        let now_ms = crate::shell::clock::wall_ms();

        assert_eq!(clean(&folder, now_ms).expect("cleans"), 1);
        assert_eq!(partials(&folder).expect("lists").len(), 1);
        assert_eq!(clean(&folder, now_ms + PART_AGE_MS_MAX + 1000).expect("cleans"), 1);
        assert_eq!(std::fs::read_dir(dir.path().join(".lanyard/tmp")).expect("readable").count(), 0);
    }
}
