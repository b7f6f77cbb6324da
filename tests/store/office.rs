//! A small folder to put into an index: few names, writers and contents, so that calls meet each other.

use ed25519_dalek::SigningKey;
use lanyard::base::{
    ChunkHash, ContentId, FileInfo, FileTime, FolderId, Hlc, Kind, MeshId, NodeId, RelPath, VersionVector, Writer,
};
use lanyard::logic::sync::index::{EntryId, Head, Index, Look, OnDisk, PathRecord, Result, Walk};
use lanyard::shell::store::Store;
use lanyard::wire::batch::{Batch, Entry, Header, Salted, What};
use lanyard::wire::codec::List;
use lanyard::wire::content::{ChunkList, ChunkRecord};

/// Names that sort otherwise as text than in a depth-first walk, and one that is not UTF-8.
pub(crate) const PATHS: [&[u8]; 8] = [b"a", b"a/b", b"a/b/c", b"a-", b"a.b", b"caf\xe9", b"z", b"z/y"];
pub(crate) const WRITERS: u8 = 3;
pub(crate) const CONTENTS: u8 = 4;
pub(crate) const SEQS: u64 = 12;
pub(crate) const NOTES: [&str; 2] = ["state", "seed"];

pub(crate) fn path(n: usize) -> RelPath {
    RelPath::new(PATHS[n % PATHS.len()]).unwrap()
}

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n + 1; 32])
}

pub(crate) fn writer(n: u8) -> Writer {
    Writer { node: NodeId(key(n).verifying_key().to_bytes()), incarnation: u64::from(n % 2) }
}

pub(crate) fn id(n: u8, seq: u64) -> EntryId {
    EntryId { writer: writer(n), seq }
}

pub(crate) fn chunk(n: u8) -> ChunkRecord {
    ChunkRecord { hash: ChunkHash(*blake3::hash(&[n]).as_bytes()), bytes: u32::from(n) + 1 }
}

/// Neighbours share a chunk; the last content is empty.
pub(crate) fn list(n: u8) -> ChunkList {
    let records = if n + 1 == CONTENTS { Vec::new() } else { vec![chunk(n), chunk(n + 1)] };
    ChunkList { records }
}

pub(crate) fn content(n: u8) -> ContentId {
    list(n).id()
}

pub(crate) fn file(n: u8) -> What {
    What::File { bytes: list(n).bytes(), content: content(n) }
}

pub(crate) fn salted(path: RelPath, what: What, id: EntryId) -> Salted {
    let mut version = VersionVector::default();
    version.advance(id.writer, id.seq);
    let time = Hlc { ms: 1_700_000_000_000 + id.seq, count: 0 };
    Salted { salt: [id.seq as u8; 16], entry: Entry::new(path, what, 0, FileTime::default(), time, version) }
}

pub(crate) fn on_disk(what: What) -> OnDisk {
    let kind = what.kind().unwrap_or(Kind::File);
    let info =
        FileInfo { kind, bytes: 3, mode: 0o644, mtime: FileTime::default(), ctime: FileTime::default(), inode: 9 };
    OnDisk::new(info, what, VersionVector::default())
}

/// A record with one head and, if `disk` says so, something on the disk.
pub(crate) fn record(path: &RelPath, head: Option<EntryId>, disk: Option<What>) -> PathRecord {
    let heads = head.map(|id| Head { id, salted: salted(path.clone(), file(0), id) });
    PathRecord { heads: heads.into_iter().collect(), disk: disk.map(on_disk), ..PathRecord::default() }
}

/// The next batch of a writer.
pub(crate) fn batch(look: &dyn Look, n: u8, entries: u64) -> Result<Batch> {
    let frontier = look.frontier(writer(n))?;
    let first = frontier.map_or(1, |f| f.seq + 1);
    let hashes = (first..first + entries.max(1)).map(|seq| salted(path(0), file(0), id(n, seq)));
    let header = Header {
        mesh: MeshId([1; 32]),
        folder: FolderId([2; 32]),
        writer: writer(n),
        first,
        previous: frontier.map(|f| f.batch),
        heads: List::default(),
        time: Hlc { ms: first, count: 0 },
        entries: List::new(hashes.map(|salted| salted.entry.hash(&salted.salt)).collect()).unwrap(),
    };
    Ok(Batch::sign(header, &key(n)))
}

/// Files `from..to`, each with all that an index keeps of it.
pub(crate) fn fill(index: &mut dyn Index, from: u64, to: u64) -> Result<()> {
    for n in from..to {
        let path = numbered(n);
        let chunk = ChunkRecord { hash: ChunkHash(*blake3::hash(&n.to_be_bytes()).as_bytes()), bytes: 10 };
        let list = ChunkList { records: vec![chunk] };
        let what = What::File { bytes: 10, content: list.id() };
        index.put_chunk_list(list.id(), &list, &path)?;
        index.put_path(&path, &record(&path, Some(id(0, n + 1)), Some(what)))?;
        index.put_entry_path(id(0, n + 1), &path)?;
        index.put_need(&path, n % 3 == 0)?;
    }
    let batch = batch(&*index, 0, to - from)?;
    index.put_batch(&batch)
}

pub(crate) fn numbered(n: u64) -> RelPath {
    RelPath::new(format!("dir-{}/file-{n:05}", n / 20)).unwrap()
}

/// Everything that `fill` put, as it can be read back.
pub(crate) fn contents(store: &Store) -> Result<Vec<String>> {
    store.read(|look| {
        let mut all = vec![format!("{:?} {:?} {}", look.totals()?, look.frontiers()?, look.need_count()?)];
        let mut paths = Vec::new();
        look.walk(&RelPath::root(), &mut |path, record| {
            all.push(format!("{path} {record:?}"));
            paths.push((path, record));
            Walk::On
        })?;
        look.arrivals(0, &mut |at, batch| {
            all.push(format!("{at} {batch:?}"));
            Walk::On
        })?;
        for (path, record) in paths {
            for head in &record.heads {
                all.push(format!("{:?} {:?}", look.entry_path(head.id)?, look.batch_of(head.id)?.map(|(at, _)| at)));
            }
            let Some((content, _)) = record.content_on_disk() else { continue };
            let list = look.chunk_list(content)?.unwrap_or_default();
            let places = list.records.iter().map(|record| look.place_of_chunk(record.hash));
            all.push(format!("{path} {:?} {list:?}", look.places_of(content, 9)?));
            all.push(format!("{:?}", places.collect::<Result<Vec<_>>>()?));
        }
        all.push(format!("{:?}", look.needs(None, usize::MAX)?));
        Ok(all)
    })
}
