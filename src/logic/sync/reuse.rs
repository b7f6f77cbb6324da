//! Which bytes on this disk may go where: into what somebody wrote, or to a peer that asks.
//!
//! Rule: bytes are taken only from a place that everyone whom they are for may read: the peer that asks for them, and
//! the node whose entry names them. Else a writer who learned the hash of a content that it may not read could
//! name it in an entry of its own, and an honest node would put the content there, or hand it out.

use super::index::{ChunkPlace, Head, Look, Result};
use crate::base::{ChunkHash, ContentId, FileInfo, FileTime, NodeId, RelPath};
use crate::wire::batch::What;

/// Places of one content that are looked at. A guess: whoever has more copies than this has the next one too.
const PLACES_MAX: usize = 16;

/// Files here that have a content and that `may_read` permits; at most `most`.
pub fn places_for(
    look: &(impl Look + ?Sized),
    content: ContentId,
    most: usize,
    may_read: &dyn Fn(&RelPath) -> bool,
) -> Result<Vec<(RelPath, FileInfo)>> {
    let mut places = Vec::new();
    for path in look.places_of(content, PLACES_MAX)? {
        if places.len() < most
            && may_read(&path)
            && let Some(disk) = look.path(&path)?.and_then(|record| record.disk)
        {
            places.push((path, disk.info));
        }
    }
    Ok(places)
}

/// A place here that had a chunk and that `may_read` permits.
pub fn chunk_for(look: &dyn Look, chunk: ChunkHash, may_read: &dyn Fn(&RelPath) -> bool) -> Result<Option<ChunkPlace>> {
    Ok(look.place_of_chunk(chunk)?.filter(|place| may_read(&place.path)))
}

/// Where the bytes of a content may be taken from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// This file of the folder.
    File(RelPath, FileInfo),
    /// The kept versions of the path itself, as far as one of them has it: its length, and the times it had there.
    Versions(u64, Vec<FileTime>),
}

/// Where the bytes may be taken from that are sent to `peer`, which asks for the content of an entry at `path`: that file
/// itself, another that both the peer and the entry's author may read, or what was at `path` before. The entry may
/// be one that a later one superseded: who may read a path now may read what it had.
pub fn place_to_serve(
    look: &dyn Look,
    path: &RelPath,
    content: ContentId,
    peer: NodeId,
    may_read: &dyn Fn(NodeId, &RelPath) -> bool,
) -> Result<Option<Source>> {
    let entries = entries_with(look, path, content)?;
    let Some(Head { salted, .. }) = entries.first() else { return Ok(None) };
    let What::File { bytes, .. } = salted.entry.what else { return Ok(None) };
    let disk = look.path(path)?.and_then(|record| record.disk);
    if let Some(disk) = disk.filter(|disk| disk.what.content() == Some(content)) {
        return Ok(Some(Source::File(path.clone(), disk.info)));
    }
    let for_both = |at: &RelPath| may_read(peer, at) && entries.iter().any(|head| may_read(head.id.writer.node, at));
    Ok(Some(match places_for(look, content, 1, &for_both)?.pop() {
        Some((at, info)) => Source::File(at, info),
        None => Source::Versions(bytes, times(&entries)),
    }))
}

/// The modification times with which a path had a content, as far as its entries are kept.
pub fn times_of(look: &(impl Look + ?Sized), path: &RelPath, content: ContentId) -> Result<Vec<FileTime>> {
    Ok(times(&entries_with(look, path, content)?))
}

/// The entries of a path that gave it a content, superseded ones too.
fn entries_with(look: &(impl Look + ?Sized), path: &RelPath, content: ContentId) -> Result<Vec<Head>> {
    let mut entries = look.path(path)?.unwrap_or_default().heads;
    entries.extend(look.kept(path)?);
    entries.retain(|head| head.what().content() == Some(content) && head.is_live());
    Ok(entries)
}

fn times(entries: &[Head]) -> Vec<FileTime> {
    let mut times: Vec<FileTime> = entries.iter().map(|head| head.salted.entry.mtime).collect();
    times.sort_unstable();
    times.dedup();
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Hlc, Kind, VersionVector, Writer};
    use crate::logic::sync::index::{EntryId, Index, MemoryIndex, OnDisk, PathRecord};
    use crate::wire::batch::{Entry, Salted};
    use crate::wire::content::{ChunkList, ChunkRecord};

    const ATTACKER: NodeId = NodeId([1; 32]);
    const HONEST: NodeId = NodeId([2; 32]);

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("valid")
    }

    /// Only the honest one reads `secret`.
    fn may_read(node: NodeId, at: &RelPath) -> bool {
        node == HONEST || !at.starts_with(&path("secret"))
    }

    /// `secret/pay` is on this disk; the attacker's `public/x` names its content.
    fn office() -> (MemoryIndex, ContentId, ChunkHash) {
        let chunk = ChunkRecord::of(b"salaries");
        let list = ChunkList { records: vec![chunk] };
        let what = What::File { bytes: list.bytes(), content: list.id() };
        let time = FileTime::default();
        let info = FileInfo { kind: Kind::File, bytes: 8, mode: 0o600, mtime: time, ctime: time, inode: 1 };
        let mut index = MemoryIndex::default();
        for (by, at) in [(HONEST, "secret/pay"), (ATTACKER, "public/x")] {
            let writer = Writer { node: by, incarnation: 1 };
            let mut version = VersionVector::default();
            version.advance(writer, 1);
            let entry = Entry::new(path(at), what.clone(), 0o600, time, Hlc::default(), version.clone());
            let head = Head { id: EntryId { writer, seq: 1 }, salted: Salted { salt: [0; 16], entry } };
            let disk = (by == HONEST).then(|| OnDisk::new(info, what.clone(), version));
            index
                .put_path(&path(at), &PathRecord { heads: vec![head], disk, ..PathRecord::default() })
                .expect("memory");
        }
        index.put_chunk_list(list.id(), &list, &path("secret/pay")).expect("memory");
        (index, list.id(), chunk.hash)
    }

    #[test]
    fn who_knows_only_the_hash_of_a_content_gets_it_into_no_file_of_its_own() {
        let (index, content, chunk) = office();
        let places = |node| places_for(&index, content, 4, &|at| may_read(node, at)).expect("memory");
        let chunk = |node| chunk_for(&index, chunk, &|at| may_read(node, at)).expect("memory");
        assert_eq!((places(ATTACKER).len(), chunk(ATTACKER)), (0, None));
        assert_eq!((places(HONEST).len(), chunk(HONEST).is_some()), (1, true));
    }

    #[test]
    fn nobody_is_served_a_content_for_an_entry_whose_author_may_not_read_it() {
        let (index, content, _) = office();
        let serve = |at: &str, peer| place_to_serve(&index, &path(at), content, peer, &may_read).expect("memory");
        // Only what was at that path before, should it have been that.
        let before = Some(Source::Versions(8, vec![FileTime::default()]));
        assert_eq!(serve("public/x", ATTACKER), before);
        // An honest node that asked for it would put it where the attacker reads it.
        assert_eq!(serve("public/x", HONEST), before);
        assert!(matches!(serve("secret/pay", HONEST), Some(Source::File(..))));
        assert_eq!(serve("public/other", HONEST), None);
    }

    #[test]
    fn what_a_path_had_before_is_looked_for_in_its_versions() {
        let (mut index, content, _) = office();
        let at = path("secret/pay");
        let mut record = index.path(&at).expect("memory").expect("there");
        let old = record.heads.pop().expect("one");
        record.disk = None;
        index.put_path(&at, &record).expect("memory");
        let serve = |index: &MemoryIndex| place_to_serve(index, &at, content, HONEST, &may_read).expect("memory");
        assert_eq!(serve(&index), None, "no entry of the path is known to have had it");

        index.put_kept(&at, &old).expect("memory");
        assert_eq!(serve(&index), Some(Source::Versions(8, vec![FileTime::default()])));
    }
}
