//! Which bytes on this disk may go where: into what somebody wrote, or to a peer that asks.
//!
//! Rule: bytes are taken only from a place that everyone whom they are for may read: the peer that asks for them, and
//! the node whose entry names them. Else a writer who learned the hash of a content that it may not read could
//! name it in an entry of its own, and an honest node would put the content there, or hand it out.

use super::index::{ChunkPlace, Look, Result};
use crate::base::{ChunkHash, ContentId, FileInfo, NodeId, RelPath};

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

/// A file whose bytes may be sent to `peer`, which asks for the content of an entry at `path`: that file itself, or
/// another that both the peer and the entry's author may read.
pub fn place_to_serve(
    look: &dyn Look,
    path: &RelPath,
    content: ContentId,
    peer: NodeId,
    may_read: &dyn Fn(NodeId, &RelPath) -> bool,
) -> Result<Option<(RelPath, FileInfo)>> {
    let Some(record) = look.path(path)? else { return Ok(None) };
    let authors: Vec<NodeId> = record
        .heads
        .iter()
        .filter(|head| head.what().content() == Some(content))
        .map(|head| head.id.writer.node)
        .collect();
    if authors.is_empty() {
        return Ok(None);
    }
    if let Some(disk) = record.disk.filter(|disk| disk.what.content() == Some(content)) {
        return Ok(Some((path.clone(), disk.info)));
    }
    let for_both = |at: &RelPath| may_read(peer, at) && authors.iter().any(|author| may_read(*author, at));
    Ok(places_for(look, content, 1, &for_both)?.pop())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{FileTime, Hlc, Kind, VersionVector, Writer};
    use crate::logic::sync::index::{EntryId, Head, Index, MemoryIndex, OnDisk, PathRecord};
    use crate::wire::batch::{Entry, Salted, What};
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
            let disk = (by == HONEST).then(|| OnDisk { info, what: what.clone(), version, recheck: false });
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
        assert_eq!(serve("public/x", ATTACKER), None);
        // An honest node that asked for it would put it where the attacker reads it.
        assert_eq!(serve("public/x", HONEST), None);
        assert!(serve("secret/pay", HONEST).is_some());
        assert_eq!(serve("public/other", HONEST), None);
    }
}
