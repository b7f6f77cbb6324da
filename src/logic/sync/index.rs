//! What a node knows about one folder: heads, what is on its disk, logs, holes, chunk lists.
//!
//! `Index` is the contract that decisions are written against. `shell::store` keeps it in a database;
//! `MemoryIndex` keeps it in maps, for simulation. One call sequence on either gives the same answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::attributes::Attributes;
use crate::base::{ChunkHash, ContentId, FileInfo, RelPath, VersionVector, Writer};
use crate::wire::batch::{Batch, Salted, What};
use crate::wire::content::ChunkList;
use crate::wire::message::HoleReason;
use crate::wire::statement::Frontier;

/// Names one entry: whose log, which number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct EntryId {
    /// Whose log.
    pub writer: Writer,
    /// Sequence number.
    pub seq: u64,
}

/// A version of a path that no other known version has seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// Which entry.
    pub id: EntryId,
    /// The entry with its salt.
    pub salted: Salted,
}

impl Head {
    /// What the path became.
    pub fn what(&self) -> &What {
        &self.salted.entry.what
    }

    /// What it has seen.
    pub fn version(&self) -> &VersionVector {
        &self.salted.entry.version
    }

    /// Whether there is something, not a tombstone.
    pub fn is_live(&self) -> bool {
        !matches!(self.what(), What::Tombstone { .. })
    }
}

/// What this node last put or saw under a name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OnDisk {
    /// What the file system said.
    pub info: FileInfo,
    /// What it is; never a tombstone.
    pub what: What,
    /// What a user who edits it has seen; empty for a directory that is there only for what is below it.
    pub version: VersionVector,
    /// It was looked at so shortly after a change that a further change may have left no trace: look again.
    pub recheck: bool,
    /// Extended attributes and owner, as far as they are looked at.
    pub attributes: Attributes,
    /// The disk refused part of what its version says of them: it is not tried again before the next version or start.
    pub unmet: bool,
}

impl OnDisk {
    /// A thing of which nothing else is known.
    pub fn new(info: FileInfo, what: What, version: VersionVector) -> Self {
        Self { info, what, version, recheck: false, attributes: Attributes::default(), unmet: false }
    }
}

/// All that is known about one name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PathRecord {
    /// Versions, none of which has seen another; sorted by id.
    pub heads: Vec<Head>,
    /// What is on this disk.
    pub disk: Option<OnDisk>,
    /// This name holds a conflict copy: of which path, of which version.
    pub copy_of: Option<(RelPath, EntryId)>,
    /// Names of the conflict copies of this path on this disk.
    pub copies: Vec<RelPath>,
    /// Changed here without the right to write; never spread, never replaced.
    pub local_only: bool,
}

impl PathRecord {
    /// Whether any version is not a tombstone.
    pub fn is_live(&self) -> bool {
        self.heads.iter().any(Head::is_live)
    }

    /// Whether nothing at all is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The file content that is on this disk under this name, and its bytes.
    pub fn content_on_disk(&self) -> Option<(ContentId, u64)> {
        match self.disk.as_ref()?.what {
            What::File { bytes, content } => Some((content, bytes)),
            _ => None,
        }
    }

    /// The version with this id.
    pub fn head(&self, id: EntryId) -> Option<&Head> {
        self.heads.iter().find(|head| head.id == id)
    }
}

/// The index could not be read or written. The transaction that met it leaves no trace.
#[derive(Debug, thiserror::Error)]
#[error("the folder's index failed")]
pub struct IndexError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Result of a call on an index.
pub type Result<T> = std::result::Result<T, IndexError>;

/// Where a chunk can be read on this disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkPlace {
    /// The file.
    pub path: RelPath,
    /// Where in it, bytes.
    pub offset: u64,
}

/// How much is on this disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Regular files.
    pub files: u64,
    /// Bytes of their contents.
    pub bytes: u64,
}

impl Totals {
    /// These totals after one name changed from one content, with its bytes, to another.
    pub fn changed(self, before: Option<(ContentId, u64)>, now: Option<(ContentId, u64)>) -> Self {
        let count = |held: Option<(ContentId, u64)>| held.map_or((0, 0), |(_, bytes)| (1, bytes));
        let (gone, came) = (count(before), count(now));
        Self {
            files: self.files.wrapping_sub(gone.0).wrapping_add(came.0),
            bytes: self.bytes.wrapping_sub(gone.1).wrapping_add(came.1),
        }
    }
}

/// Whether a walk goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Walk {
    /// Show me the next.
    On,
    /// That is enough.
    Enough,
}

/// Some records, and the name with which the next ones begin.
pub type Page = (Vec<(RelPath, PathRecord)>, Option<RelPath>);

/// Reading what is known about a folder.
pub trait Look {
    /// The record of one name.
    fn path(&self, path: &RelPath) -> Result<Option<PathRecord>>;
    /// Whether a group of people shares the directory: modes that `mode_for_group` makes equal are equal there.
    fn is_for_group(&self) -> bool {
        false
    }
    /// Records at or below `top`, from `from` on, in depth-first order.
    fn walk_from(
        &self,
        top: &RelPath,
        from: &RelPath,
        visit: &mut dyn FnMut(RelPath, PathRecord) -> Walk,
    ) -> Result<()>;
    /// All records at or below `top`, in depth-first order.
    fn walk(&self, top: &RelPath, visit: &mut dyn FnMut(RelPath, PathRecord) -> Walk) -> Result<()> {
        self.walk_from(top, top, visit)
    }
    /// At most `most` records at or below `top`, from `from` on, in depth-first order, and where the next page begins.
    fn page(&self, top: &RelPath, from: &RelPath, most: usize) -> Result<Page> {
        let (mut page, mut next) = (Vec::new(), None);
        self.walk_from(top, from, &mut |path, record| {
            if page.len() == most {
                next = Some(path);
                return Walk::Enough;
            }
            page.push((path, record));
            Walk::On
        })?;
        Ok((page, next))
    }
    /// How far the log of one writer reaches.
    fn frontier(&self, writer: Writer) -> Result<Option<Frontier>>;
    /// How far all logs reach, sorted by writer.
    fn frontiers(&self) -> Result<Vec<Frontier>>;
    /// Batches in the order in which they arrived here, from arrival number `from` on.
    fn arrivals(&self, from: u64, visit: &mut dyn FnMut(u64, Batch) -> Walk) -> Result<()>;
    /// The arrival number that the next batch will have.
    fn arrival_count(&self) -> Result<u64>;
    /// The batch that holds an entry, with its arrival number.
    fn batch_of(&self, id: EntryId) -> Result<Option<(u64, Batch)>>;
    /// Which path an entry is about.
    fn entry_path(&self, id: EntryId) -> Result<Option<RelPath>>;
    /// An entry that was received and has no effect.
    fn void(&self, id: EntryId) -> Result<Option<Salted>>;
    /// Entries of one path that count and that a later one superseded, as far as they are kept; sorted by id.
    fn kept(&self, path: &RelPath) -> Result<Vec<Head>>;
    /// Entries that were received and count, after `after`, with their paths; sorted by id, at most `most`.
    fn entries_after(&self, after: Option<EntryId>, most: usize) -> Result<Vec<(EntryId, RelPath)>>;
    /// Entries that were received and have no effect, after `after`; sorted by id, at most `most`.
    fn voids_after(&self, after: Option<EntryId>, most: usize) -> Result<Vec<(EntryId, Salted)>>;
    /// Entries that are missing because one of these superseded them.
    fn superseded_by(&self, later: &BTreeSet<EntryId>) -> Result<Vec<EntryId>>;
    /// Names changed here without the right to write, after `after`, at most `most`.
    fn local_only(&self, after: Option<&RelPath>, most: usize) -> Result<Vec<RelPath>>;
    /// How many such names there are.
    fn local_only_count(&self) -> Result<u64>;
    /// Why an entry is missing.
    fn hole(&self, id: EntryId) -> Result<Option<HoleReason>>;
    /// The chunk list of a content, as long as a name on this disk has the content.
    fn chunk_list(&self, content: ContentId) -> Result<Option<ChunkList>>;
    /// Some names on this disk that have a content; at most `most`.
    fn places_of(&self, content: ContentId, most: usize) -> Result<Vec<RelPath>>;
    /// A place on this disk that had a chunk when it was last read.
    fn place_of_chunk(&self, chunk: ChunkHash) -> Result<Option<ChunkPlace>>;
    /// Names after `after` (`None`: from the start) that differ from what they should be; at most `most`.
    fn needs(&self, after: Option<&RelPath>, most: usize) -> Result<Vec<RelPath>>;
    /// How many such names there are.
    fn need_count(&self) -> Result<u64>;
    /// How many files are on this disk, and their bytes.
    fn totals(&self) -> Result<Totals>;
    /// Entries that a peer withheld or did not have; at most `most`.
    fn holes_to_ask(&self, most: usize) -> Result<Vec<EntryId>>;
    /// A small value kept beside the index.
    fn note(&self, key: &str) -> Result<Option<Vec<u8>>>;
}

/// Reading and changing it, inside one transaction.
pub trait Index: Look {
    /// Replaces the record of a name; an empty one is removed. Keeps `places_of` and `totals` in step with `disk`. A
    /// content that no name has any more is forgotten, with its chunk list and the places of its chunks.
    fn put_path(&mut self, path: &RelPath, record: &PathRecord) -> Result<()>;
    /// Appends a batch to its writer's log.
    fn put_batch(&mut self, batch: &Batch) -> Result<()>;
    /// Notes which path an entry is about.
    fn put_entry_path(&mut self, id: EntryId, path: &RelPath) -> Result<()>;
    /// Forgets which path an entry is about: it does not count any more.
    fn forget_entry(&mut self, id: EntryId) -> Result<()>;
    /// Keeps an entry that has no effect; `None`: it has one now.
    fn put_void(&mut self, id: EntryId, salted: Option<&Salted>) -> Result<()>;
    /// Keeps an entry of a path that a later one superseded.
    fn put_kept(&mut self, path: &RelPath, head: &Head) -> Result<()>;
    /// Keeps it no more.
    fn forget_kept(&mut self, path: &RelPath, id: EntryId) -> Result<()>;
    /// Notes why an entry is missing; `None`: it is not.
    fn put_hole(&mut self, id: EntryId, reason: Option<HoleReason>) -> Result<()>;
    /// Keeps the chunk list of a content, and that `at` on this disk has it. The record of `at` may follow later:
    /// until then the content stays known, also when every other name gives it up, as in a rename, or when the record
    /// of `at` is put with nothing or with what it had first, as where a conflict is settled in the same look.
    fn put_chunk_list(&mut self, content: ContentId, list: &ChunkList, at: &RelPath) -> Result<()>;
    /// Notes whether a name differs from what it should be.
    fn put_need(&mut self, path: &RelPath, needed: bool) -> Result<()>;
    /// Keeps a small value.
    fn put_note(&mut self, key: &str, value: &[u8]) -> Result<()>;
}

/// An index in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryIndex {
    paths: BTreeMap<RelPath, PathRecord>,
    logs: BTreeMap<Writer, Frontier>,
    batches: Vec<Batch>,
    batch_ends: BTreeMap<EntryId, u64>,
    entries: BTreeMap<EntryId, RelPath>,
    voids: BTreeMap<EntryId, Salted>,
    kept: BTreeMap<(RelPath, EntryId), Salted>,
    holes: BTreeMap<EntryId, HoleReason>,
    lists: BTreeMap<ContentId, ChunkList>,
    places: BTreeSet<(ContentId, RelPath)>,
    announced: BTreeMap<RelPath, ContentId>,
    chunks: BTreeMap<ChunkHash, (ContentId, u64)>,
    totals: Totals,
    needs: BTreeSet<RelPath>,
    notes: BTreeMap<String, Vec<u8>>,
}

impl MemoryIndex {
    /// A name has a content no more; the last one takes what is known of the content with it.
    fn give_up(&mut self, content: ContentId, path: &RelPath) {
        self.places.remove(&(content, path.clone()));
        let from = (content, RelPath::root());
        if self.places.range(from..).next().is_some_and(|(other, _)| *other == content) {
            return;
        }
        let list = self.lists.remove(&content).unwrap_or_default();
        for record in list.records {
            if self.chunks.get(&record.hash).is_some_and(|(of, _)| *of == content) {
                self.chunks.remove(&record.hash);
            }
        }
    }
}

impl Look for MemoryIndex {
    fn path(&self, path: &RelPath) -> Result<Option<PathRecord>> {
        Ok(self.paths.get(path).cloned())
    }

    fn walk_from(
        &self,
        top: &RelPath,
        from: &RelPath,
        visit: &mut dyn FnMut(RelPath, PathRecord) -> Walk,
    ) -> Result<()> {
        for (path, record) in self.paths.range(from.clone()..) {
            if !path.starts_with(top) || visit(path.clone(), record.clone()) == Walk::Enough {
                break;
            }
        }
        Ok(())
    }

    fn frontier(&self, writer: Writer) -> Result<Option<Frontier>> {
        Ok(self.logs.get(&writer).copied())
    }

    fn frontiers(&self) -> Result<Vec<Frontier>> {
        Ok(self.logs.values().copied().collect())
    }

    fn arrivals(&self, from: u64, visit: &mut dyn FnMut(u64, Batch) -> Walk) -> Result<()> {
        let from = usize::try_from(from).expect("an index in memory is small");
        for (at, batch) in self.batches.iter().enumerate().skip(from) {
            if visit(at as u64, batch.clone()) == Walk::Enough {
                break;
            }
        }
        Ok(())
    }

    fn arrival_count(&self) -> Result<u64> {
        Ok(self.batches.len() as u64)
    }

    fn batch_of(&self, id: EntryId) -> Result<Option<(u64, Batch)>> {
        let Some((end, at)) = self.batch_ends.range(id..).next() else { return Ok(None) };
        let batch = &self.batches[usize::try_from(*at).expect("an index in memory is small")];
        let held = end.writer == id.writer && batch.header().first <= id.seq;
        Ok(held.then(|| (*at, batch.clone())))
    }

    fn entry_path(&self, id: EntryId) -> Result<Option<RelPath>> {
        Ok(self.entries.get(&id).cloned())
    }

    fn void(&self, id: EntryId) -> Result<Option<Salted>> {
        Ok(self.voids.get(&id).cloned())
    }

    fn kept(&self, path: &RelPath) -> Result<Vec<Head>> {
        let least = Writer { node: crate::base::NodeId([0; 32]), incarnation: 0 };
        let from = (path.clone(), EntryId { writer: least, seq: 0 });
        let of = self.kept.range(from..).take_while(|((of, _), _)| of == path);
        Ok(of.map(|((_, id), salted)| Head { id: *id, salted: salted.clone() }).collect())
    }

    fn entries_after(&self, after: Option<EntryId>, most: usize) -> Result<Vec<(EntryId, RelPath)>> {
        let beyond = self.entries.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
        Ok(beyond.take(most).map(|(id, path)| (*id, path.clone())).collect())
    }

    fn voids_after(&self, after: Option<EntryId>, most: usize) -> Result<Vec<(EntryId, Salted)>> {
        let beyond = self.voids.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
        Ok(beyond.take(most).map(|(id, salted)| (*id, salted.clone())).collect())
    }

    fn superseded_by(&self, later: &BTreeSet<EntryId>) -> Result<Vec<EntryId>> {
        let by = self.holes.iter().filter(|(_, reason)| match reason {
            HoleReason::Superseded(writer, seq) => later.contains(&EntryId { writer: *writer, seq: *seq }),
            _ => false,
        });
        Ok(by.map(|(id, _)| *id).collect())
    }

    fn local_only(&self, after: Option<&RelPath>, most: usize) -> Result<Vec<RelPath>> {
        let local = self.paths.iter().filter(|(_, record)| record.local_only);
        let beyond = local.filter(|(path, _)| after.is_none_or(|after| *path > after));
        Ok(beyond.take(most).map(|(path, _)| path.clone()).collect())
    }

    fn local_only_count(&self) -> Result<u64> {
        Ok(self.paths.values().filter(|record| record.local_only).count() as u64)
    }

    fn hole(&self, id: EntryId) -> Result<Option<HoleReason>> {
        Ok(self.holes.get(&id).copied())
    }

    fn chunk_list(&self, content: ContentId) -> Result<Option<ChunkList>> {
        Ok(self.lists.get(&content).cloned())
    }

    fn places_of(&self, content: ContentId, most: usize) -> Result<Vec<RelPath>> {
        let from = (content, RelPath::root());
        let places = self.places.range(from..).take_while(|(c, _)| *c == content);
        Ok(places.take(most).map(|(_, path)| path.clone()).collect())
    }

    fn place_of_chunk(&self, chunk: ChunkHash) -> Result<Option<ChunkPlace>> {
        let Some((content, offset)) = self.chunks.get(&chunk) else { return Ok(None) };
        let path = self.places_of(*content, 1)?.pop();
        Ok(path.map(|path| ChunkPlace { path, offset: *offset }))
    }

    fn needs(&self, after: Option<&RelPath>, most: usize) -> Result<Vec<RelPath>> {
        let beyond = self.needs.iter().filter(|path| after.is_none_or(|after| *path > after));
        Ok(beyond.take(most).cloned().collect())
    }

    fn need_count(&self) -> Result<u64> {
        Ok(self.needs.len() as u64)
    }

    fn totals(&self) -> Result<Totals> {
        Ok(self.totals)
    }

    fn holes_to_ask(&self, most: usize) -> Result<Vec<EntryId>> {
        let open = self.holes.iter().filter(|(_, reason)| !matches!(reason, HoleReason::Superseded(..)));
        Ok(open.take(most).map(|(id, _)| *id).collect())
    }

    fn note(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.notes.get(key).cloned())
    }
}

impl Index for MemoryIndex {
    fn put_path(&mut self, path: &RelPath, record: &PathRecord) -> Result<()> {
        let before = self.paths.get(path).and_then(PathRecord::content_on_disk);
        let now = record.content_on_disk();
        self.totals = self.totals.changed(before, now);
        let [before, now] = [before, now].map(|held| held.map(|(content, _)| content));
        let announced = if now.is_some() && now != before { self.announced.remove(path) } else { None };
        if let Some(now) = now {
            self.places.insert((now, path.clone()));
        }
        for gone in [before, announced].into_iter().flatten().filter(|gone| Some(*gone) != now) {
            self.give_up(gone, path);
        }
        if record.is_empty() {
            self.paths.remove(path);
        } else {
            self.paths.insert(path.clone(), record.clone());
        }
        Ok(())
    }

    fn put_batch(&mut self, batch: &Batch) -> Result<()> {
        let header = batch.header();
        let seq = header.last();
        let frontier = Frontier { writer: header.writer, seq, batch: batch.hash() };
        self.logs.insert(header.writer, frontier);
        self.batch_ends.insert(EntryId { writer: header.writer, seq }, self.batches.len() as u64);
        self.batches.push(batch.clone());
        Ok(())
    }

    fn put_entry_path(&mut self, id: EntryId, path: &RelPath) -> Result<()> {
        self.entries.insert(id, path.clone());
        Ok(())
    }

    fn forget_entry(&mut self, id: EntryId) -> Result<()> {
        self.entries.remove(&id);
        Ok(())
    }

    fn put_void(&mut self, id: EntryId, salted: Option<&Salted>) -> Result<()> {
        match salted {
            Some(salted) => self.voids.insert(id, salted.clone()),
            None => self.voids.remove(&id),
        };
        Ok(())
    }

    fn put_kept(&mut self, path: &RelPath, head: &Head) -> Result<()> {
        self.kept.insert((path.clone(), head.id), head.salted.clone());
        Ok(())
    }

    fn forget_kept(&mut self, path: &RelPath, id: EntryId) -> Result<()> {
        self.kept.remove(&(path.clone(), id));
        Ok(())
    }

    fn put_hole(&mut self, id: EntryId, reason: Option<HoleReason>) -> Result<()> {
        match reason {
            Some(reason) => self.holes.insert(id, reason),
            None => self.holes.remove(&id),
        };
        Ok(())
    }

    fn put_chunk_list(&mut self, content: ContentId, list: &ChunkList, at: &RelPath) -> Result<()> {
        let mut offset = 0;
        for record in &list.records {
            self.chunks.insert(record.hash, (content, offset));
            offset += u64::from(record.bytes);
        }
        self.lists.insert(content, list.clone());
        let held = self.paths.get(at).and_then(PathRecord::content_on_disk);
        let before = if held.is_some_and(|(held, _)| held == content) {
            self.announced.remove(at)
        } else {
            self.places.insert((content, at.clone()));
            self.announced.insert(at.clone(), content)
        };
        if let Some(before) = before.filter(|before| *before != content) {
            self.give_up(before, at);
        }
        Ok(())
    }

    fn put_need(&mut self, path: &RelPath, needed: bool) -> Result<()> {
        if needed {
            self.needs.insert(path.clone());
        } else {
            self.needs.remove(path);
        }
        Ok(())
    }

    fn put_note(&mut self, key: &str, value: &[u8]) -> Result<()> {
        self.notes.insert(key.into(), value.into());
        Ok(())
    }
}
