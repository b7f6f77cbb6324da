//! `Look` and `Index` over the tables of one transaction.
//!
//! One implementation of `Look` serves snapshots and changes alike. It must give the same answers as `MemoryIndex`
//! for every sequence of calls: `tests/store` compares them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::Path;

use redb::Table;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::tables::{self, Fault, Rows, RowsMut, TOTALS_KEY, Tables};
use crate::base::{BatchHash, ChunkHash, ContentId, NodeId, RelPath, Writer};
use crate::logic::sync::index::{ChunkPlace, EntryId, Head, Index, IndexError, Look, PathRecord, Result, Totals, Walk};
use crate::wire::batch::{Batch, Salted};
use crate::wire::codec;
use crate::wire::content::ChunkList;
use crate::wire::message::HoleReason;
use crate::wire::signed::Signed;
use crate::wire::statement::Frontier;

/// How much of a chunk's hash is its key: enough that two chunks never share it by accident, and callers verify.
const CHUNK_KEY: usize = 16;

/// The value of a row in `logs`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Log {
    /// Stands for the writer in keys.
    number: u32,
    /// How far it reaches; `None`: only mentioned so far.
    reached: Option<(u64, BatchHash)>,
}

/// What one transaction shows.
pub(super) struct View<'a, T> {
    tables: Tables<T>,
    path: &'a Path,
    for_group: bool,
    /// The writer that was looked up last: entries come in runs of one writer.
    last_log: Cell<Option<(Writer, Log)>>,
    totals: Cell<Option<Totals>>,
    totals_changed: bool,
    /// The first failure: a change that met one is not committed.
    fault: RefCell<Option<Failed>>,
}

/// What kind of failure a transaction met.
#[derive(Clone, Debug)]
pub(super) enum Failed {
    /// The file is damaged, and how.
    Corrupt(String),
    /// The disk failed.
    Io,
}

impl Failed {
    pub(super) fn of(fault: &Fault) -> Self {
        match fault {
            Fault::Corrupt(why) => Self::Corrupt(why.clone()),
            Fault::Io(_) | Fault::Stale => Self::Io,
        }
    }
}

impl<'a, T> View<'a, T> {
    pub(super) fn new(tables: Tables<T>, path: &'a Path, for_group: bool) -> Self {
        Self {
            tables,
            path,
            for_group,
            last_log: Cell::new(None),
            totals: Cell::new(None),
            totals_changed: false,
            fault: RefCell::new(None),
        }
    }

    /// The first failure, if any.
    pub(super) fn failed(&self) -> Option<Failed> {
        self.fault.borrow().clone()
    }

    /// Names a fault for the caller and remembers it for the end of the transaction.
    fn fail(&self, fault: Fault) -> IndexError {
        self.fault.borrow_mut().get_or_insert(Failed::of(&fault));
        IndexError(Box::new(StoreError::of(self.path, fault)))
    }

    fn ok<R>(&self, result: tables::Result<R>) -> Result<R> {
        result.map_err(|fault| self.fail(fault))
    }
}

impl<T: Rows> View<'_, T> {
    /// The value of a key, decoded.
    fn value<V: Serialize + DeserializeOwned>(&self, table: &T, what: &'static str, key: &[u8]) -> Result<Option<V>> {
        self.ok(table.find(key, |bytes| decode(what, bytes)).and_then(Option::transpose))
    }

    fn log(&self, writer: Writer) -> Result<Option<Log>> {
        if let Some((_, log)) = self.last_log.get().filter(|(last, _)| *last == writer) {
            return Ok(Some(log));
        }
        let log: Option<Log> = self.value(&self.tables.logs, "log", &writer_key(writer))?;
        self.last_log.set(log.map(|log| (writer, log)));
        Ok(log)
    }

    /// The key of an entry; `None`: nothing of its writer is known.
    fn key(&self, id: EntryId) -> Result<Option<[u8; 12]>> {
        Ok(self.log(id.writer)?.map(|log| entry_key(log.number, id.seq)))
    }

    fn of_entry<V: Serialize + DeserializeOwned>(
        &self,
        table: &T,
        what: &'static str,
        id: EntryId,
    ) -> Result<Option<V>> {
        let Some(key) = self.key(id)? else { return Ok(None) };
        self.value(table, what, &key)
    }

    /// All writers with what is known of their logs, sorted.
    fn logs(&self) -> Result<Vec<(Writer, Log)>> {
        let mut logs = Vec::new();
        self.ok(self.tables.logs.scan(&[], &mut |key, value| {
            logs.push((writer_of(key)?, decode("log", value)?));
            Ok(Walk::On)
        }))?;
        Ok(logs)
    }

    /// Rows of a table of entries after one, sorted by entry, at most `most`.
    fn rows_after<V>(
        &self,
        table: &T,
        after: Option<EntryId>,
        most: usize,
        read: impl Fn(&[u8]) -> tables::Result<V>,
    ) -> Result<Vec<(EntryId, V)>> {
        let mut rows = Vec::new();
        if most == 0 || self.ok(table.count())? == 0 {
            return Ok(rows);
        }
        for (writer, log) in self.logs()? {
            let from = match after {
                Some(after) if writer < after.writer => continue,
                Some(after) if writer == after.writer => after.seq.saturating_add(1),
                _ => 0,
            };
            self.ok(table.scan(&entry_key(log.number, from), &mut |key, value| {
                if key[..4] != log.number.to_be_bytes() {
                    return Ok(Walk::Enough);
                }
                rows.push((EntryId { writer, seq: number(&key[4..])? }, read(value)?));
                Ok(if rows.len() < most { Walk::On } else { Walk::Enough })
            }))?;
            if rows.len() >= most {
                break;
            }
        }
        Ok(rows)
    }

    fn batch(&self, arrival: &[u8]) -> Result<Option<Batch>> {
        self.ok(self.tables.batches.find(arrival, open_batch).and_then(Option::transpose))
    }
}

impl<T: Rows> Look for View<'_, T> {
    fn is_for_group(&self) -> bool {
        self.for_group
    }

    fn path(&self, path: &RelPath) -> Result<Option<PathRecord>> {
        self.value(&self.tables.paths, "path record", &path.to_key())
    }

    fn walk_from(
        &self,
        top: &RelPath,
        from: &RelPath,
        visit: &mut dyn FnMut(RelPath, PathRecord) -> Walk,
    ) -> Result<()> {
        self.ok(self.tables.paths.scan(&from.to_key(), &mut |key, value| {
            let path = path_of(key)?;
            if !path.starts_with(top) {
                return Ok(Walk::Enough);
            }
            Ok(visit(path, decode("path record", value)?))
        }))
    }

    fn frontier(&self, writer: Writer) -> Result<Option<Frontier>> {
        let reached = self.log(writer)?.and_then(|log| log.reached);
        Ok(reached.map(|(seq, batch)| Frontier { writer, seq, batch }))
    }

    fn frontiers(&self) -> Result<Vec<Frontier>> {
        let reached = self.logs()?.into_iter().filter_map(|(writer, log)| Some((writer, log.reached?)));
        Ok(reached.map(|(writer, (seq, batch))| Frontier { writer, seq, batch }).collect())
    }

    fn arrivals(&self, from: u64, visit: &mut dyn FnMut(u64, Batch) -> Walk) -> Result<()> {
        self.ok(self
            .tables
            .batches
            .scan(&from.to_be_bytes(), &mut |key, value| Ok(visit(number(key)?, open_batch(value)?))))
    }

    fn arrival_count(&self) -> Result<u64> {
        let last = self.ok(self.tables.batches.last_number())?;
        Ok(last.map_or(0, |last| last + 1))
    }

    fn batch_of(&self, id: EntryId) -> Result<Option<(u64, Batch)>> {
        let Some(key) = self.key(id)? else { return Ok(None) };
        let mut end = None;
        self.ok(self.tables.ends.scan(&key, &mut |ending, arrival| {
            if ending[..4] == key[..4] {
                end = Some(number(arrival)?);
            }
            Ok(Walk::Enough)
        }))?;
        let Some(arrival) = end else { return Ok(None) };
        let batch = self.batch(&arrival.to_be_bytes())?;
        Ok(batch.filter(|batch| batch.header().first <= id.seq).map(|batch| (arrival, batch)))
    }

    fn entry_path(&self, id: EntryId) -> Result<Option<RelPath>> {
        let Some(key) = self.key(id)? else { return Ok(None) };
        self.ok(self.tables.entries.find(&key, path_of).and_then(Option::transpose))
    }

    fn void(&self, id: EntryId) -> Result<Option<Salted>> {
        self.of_entry(&self.tables.voids, "void entry", id)
    }

    fn kept(&self, path: &RelPath) -> Result<Vec<Head>> {
        let prefix = kept_prefix(path);
        let mut kept = Vec::new();
        self.ok(self.tables.kept.scan(&prefix, &mut |key, value| {
            let Some(id) = key.strip_prefix(prefix.as_slice()) else { return Ok(Walk::Enough) };
            let (writer, seq) = id.split_at_checked(40).ok_or_else(|| malformed("entry"))?;
            let id = EntryId { writer: writer_of(writer)?, seq: number(seq)? };
            kept.push(Head { id, salted: decode("entry", value)? });
            Ok(Walk::On)
        }))?;
        Ok(kept)
    }

    fn entries_after(&self, after: Option<EntryId>, most: usize) -> Result<Vec<(EntryId, RelPath)>> {
        self.rows_after(&self.tables.entries, after, most, path_of)
    }

    fn voids_after(&self, after: Option<EntryId>, most: usize) -> Result<Vec<(EntryId, Salted)>> {
        self.rows_after(&self.tables.voids, after, most, |bytes| decode("void entry", bytes))
    }

    fn superseded_by(&self, later: &BTreeSet<EntryId>) -> Result<Vec<EntryId>> {
        let all =
            self.rows_after(&self.tables.superseded, None, usize::MAX, |bytes| decode::<HoleReason>("hole", bytes))?;
        let is_by = |reason: &HoleReason| match reason {
            HoleReason::Superseded(writer, seq) => later.contains(&EntryId { writer: *writer, seq: *seq }),
            _ => false,
        };
        Ok(all.into_iter().filter(|(_, reason)| is_by(reason)).map(|(id, _)| id).collect())
    }

    fn local_only(&self, after: Option<&RelPath>, most: usize) -> Result<Vec<RelPath>> {
        let mut local = Vec::new();
        let after = after.map(RelPath::to_key);
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        if most > 0 {
            self.ok(self.tables.local.scan_bound(from, &mut |key, _| {
                local.push(path_of(key)?);
                Ok(if local.len() < most { Walk::On } else { Walk::Enough })
            }))?;
        }
        Ok(local)
    }

    fn local_only_count(&self) -> Result<u64> {
        self.ok(self.tables.local.count())
    }

    fn hole(&self, id: EntryId) -> Result<Option<HoleReason>> {
        match self.of_entry(&self.tables.superseded, "hole", id)? {
            None => self.of_entry(&self.tables.missing, "hole", id),
            superseded => Ok(superseded),
        }
    }

    fn chunk_list(&self, content: ContentId) -> Result<Option<ChunkList>> {
        self.value(&self.tables.lists, "chunk list", &content.0)
    }

    fn places_of(&self, content: ContentId, most: usize) -> Result<Vec<RelPath>> {
        let mut places = Vec::new();
        if most == 0 {
            return Ok(places);
        }
        self.ok(self.tables.places.scan(&content.0, &mut |key, _| {
            let Some(path) = key.strip_prefix(&content.0) else { return Ok(Walk::Enough) };
            places.push(path_of(path)?);
            Ok(if places.len() < most { Walk::On } else { Walk::Enough })
        }))?;
        Ok(places)
    }

    fn place_of_chunk(&self, chunk: ChunkHash) -> Result<Option<ChunkPlace>> {
        let found = self.tables.chunks.find(&chunk.0[..CHUNK_KEY], chunk_place);
        let Some((content, offset)) = self.ok(found.and_then(Option::transpose))? else { return Ok(None) };
        let path = self.places_of(content, 1)?.pop();
        Ok(path.map(|path| ChunkPlace { path, offset }))
    }

    fn needs(&self, after: Option<&RelPath>, most: usize) -> Result<Vec<RelPath>> {
        let mut needs = Vec::new();
        if most == 0 {
            return Ok(needs);
        }
        let after = after.map(RelPath::to_key);
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.ok(self.tables.needs.scan_bound(from, &mut |key, _| {
            needs.push(path_of(key)?);
            Ok(if needs.len() < most { Walk::On } else { Walk::Enough })
        }))?;
        Ok(needs)
    }

    fn need_count(&self) -> Result<u64> {
        self.ok(self.tables.needs.count())
    }

    fn totals(&self) -> Result<Totals> {
        if let Some(totals) = self.totals.get() {
            return Ok(totals);
        }
        let totals = self.ok(self.tables.meta.find(TOTALS_KEY, read_totals).and_then(Option::transpose))?;
        let totals = totals.unwrap_or_default();
        self.totals.set(Some(totals));
        Ok(totals)
    }

    fn holes_to_ask(&self, most: usize) -> Result<Vec<EntryId>> {
        let mut holes = Vec::new();
        if self.ok(self.tables.missing.count())? == 0 {
            return Ok(holes);
        }
        for (writer, log) in self.logs()? {
            if holes.len() >= most {
                break;
            }
            self.ok(self.tables.missing.scan(&entry_key(log.number, 0), &mut |key, _| {
                if key[..4] != log.number.to_be_bytes() {
                    return Ok(Walk::Enough);
                }
                holes.push(EntryId { writer, seq: number(&key[4..])? });
                Ok(if holes.len() < most { Walk::On } else { Walk::Enough })
            }))?;
        }
        Ok(holes)
    }

    fn note(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.ok(self.tables.notes.find(key.as_bytes(), <[u8]>::to_vec))
    }
}

impl View<'_, Table<'_, &'static [u8], &'static [u8]>> {
    /// Writes what is kept until the end of the transaction.
    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(totals) = self.totals.get().filter(|_| self.totals_changed) {
            let value = [totals.files.to_be_bytes(), totals.bytes.to_be_bytes()].concat();
            let put = self.tables.meta.put(TOTALS_KEY, &value, |_| ());
            self.ok(put)?;
        }
        Ok(())
    }

    /// What is known of a log, numbered if it is new.
    fn log_or_new(&mut self, writer: Writer) -> Result<Log> {
        if let Some(log) = self.log(writer)? {
            return Ok(log);
        }
        let known = self.ok(self.tables.logs.count())?;
        let number = u32::try_from(known).map_err(|_| self.fail(Fault::Corrupt("too many writers".into())))?;
        let log = Log { number, reached: None };
        self.put_log(writer, log)?;
        Ok(log)
    }

    fn put_log(&mut self, writer: Writer, log: Log) -> Result<()> {
        let put = self.tables.logs.put(&writer_key(writer), &codec::encode(&log), |_| ());
        self.ok(put)?;
        self.last_log.set(Some((writer, log)));
        Ok(())
    }

    /// A name has a content no more; the last one takes what is known of the content with it.
    fn give_up(&mut self, content: ContentId, path_key: &[u8]) -> Result<()> {
        let taken = self.tables.places.take(&place_key(content, path_key), |_| ());
        self.ok(taken)?;
        if !self.places_of(content, 1)?.is_empty() {
            return Ok(());
        }
        let list = self.tables.lists.take(&content.0, |bytes| decode::<ChunkList>("chunk list", bytes));
        let list = self.ok(list.and_then(Option::transpose))?.unwrap_or_default();
        for record in list.records {
            let key = &record.hash.0[..CHUNK_KEY];
            let of = self.tables.chunks.find(key, chunk_place);
            if self.ok(of.and_then(Option::transpose))?.is_some_and(|(of, _)| of == content) {
                let taken = self.tables.chunks.take(key, |_| ());
                self.ok(taken)?;
            }
        }
        Ok(())
    }
}

impl Index for View<'_, Table<'_, &'static [u8], &'static [u8]>> {
    fn put_path(&mut self, path: &RelPath, record: &PathRecord) -> Result<()> {
        let key = path.to_key();
        let read = |bytes: &[u8]| decode::<PathRecord>("path record", bytes).map(|record| record.content_on_disk());
        let before = if record.is_empty() {
            self.tables.paths.take(&key, read)
        } else {
            self.tables.paths.put(&key, &codec::encode(record), read)
        };
        let before = self.ok(before.and_then(Option::transpose))?.flatten();
        let now = record.content_on_disk();
        if before != now {
            self.totals.set(Some(self.totals()?.changed(before, now)));
            self.totals_changed = true;
        }
        if record.local_only || self.ok(self.tables.local.count())? > 0 {
            let local = &mut self.tables.local;
            let done = if record.local_only { local.put(&key, &[], |_| ()) } else { local.take(&key, |_| ()) };
            self.ok(done)?;
        }
        let [before, now] = [before, now].map(|held| held.map(|(content, _)| content));
        let announced = if now.is_none() || now == before || self.ok(self.tables.announced.count())? == 0 {
            None
        } else {
            let taken = self.tables.announced.take(&key, content_of);
            self.ok(taken.and_then(Option::transpose))?
        };
        if let Some(now) = now.filter(|now| before != Some(*now)) {
            let put = self.tables.places.put(&place_key(now, &key), &[], |_| ());
            self.ok(put)?;
        }
        for gone in [before, announced].into_iter().flatten().filter(|gone| Some(*gone) != now) {
            self.give_up(gone, &key)?;
        }
        Ok(())
    }

    fn put_batch(&mut self, batch: &Batch) -> Result<()> {
        let header = batch.header();
        let arrival = self.arrival_count()?.to_be_bytes();
        let log = self.log_or_new(header.writer)?;
        self.put_log(header.writer, Log { reached: Some((header.last(), batch.hash())), ..log })?;
        let put = self.tables.ends.put(&entry_key(log.number, header.last()), &arrival, |_| ());
        self.ok(put)?;
        let put = self.tables.batches.put(&arrival, &codec::encode(batch.signed()), |_| ());
        self.ok(put).map(drop)
    }

    fn put_entry_path(&mut self, id: EntryId, path: &RelPath) -> Result<()> {
        let number = self.log_or_new(id.writer)?.number;
        let put = self.tables.entries.put(&entry_key(number, id.seq), &path.to_key(), |_| ());
        self.ok(put).map(drop)
    }

    fn forget_entry(&mut self, id: EntryId) -> Result<()> {
        let Some(key) = self.key(id)? else { return Ok(()) };
        let taken = self.tables.entries.take(&key, |_| ());
        self.ok(taken).map(drop)
    }

    fn put_void(&mut self, id: EntryId, salted: Option<&Salted>) -> Result<()> {
        let number = self.log_or_new(id.writer)?.number;
        let key = entry_key(number, id.seq);
        let done = match salted {
            Some(salted) => self.tables.voids.put(&key, &codec::encode(salted), |_| ()),
            None => self.tables.voids.take(&key, |_| ()),
        };
        self.ok(done).map(drop)
    }

    fn put_kept(&mut self, path: &RelPath, head: &Head) -> Result<()> {
        let put = self.tables.kept.put(&kept_key(path, head.id), &codec::encode(&head.salted), |_| ());
        self.ok(put).map(drop)
    }

    fn forget_kept(&mut self, path: &RelPath, id: EntryId) -> Result<()> {
        let taken = self.tables.kept.take(&kept_key(path, id), |_| ());
        self.ok(taken).map(drop)
    }

    fn put_hole(&mut self, id: EntryId, reason: Option<HoleReason>) -> Result<()> {
        let number = match reason {
            Some(_) => self.log_or_new(id.writer)?.number,
            None => match self.log(id.writer)? {
                Some(log) => log.number,
                None => return Ok(()),
            },
        };
        let key = entry_key(number, id.seq);
        let superseded = matches!(reason, Some(HoleReason::Superseded(..)));
        let value = reason.map(|reason| codec::encode(&reason));
        let tables = &mut self.tables;
        let set = |table: &mut Table<'_, _, _>, value: Option<&[u8]>| match value {
            Some(value) => table.put(&key, value, |_| ()),
            None => table.take(&key, |_| ()),
        };
        let value = value.as_deref();
        let done = set(&mut tables.superseded, value.filter(|_| superseded))
            .and_then(|_| set(&mut tables.missing, value.filter(|_| !superseded)));
        self.ok(done).map(drop)
    }

    fn put_chunk_list(&mut self, content: ContentId, list: &ChunkList, at: &RelPath) -> Result<()> {
        let mut offset: u64 = 0;
        for record in &list.records {
            let value = [&content.0[..], &offset.to_be_bytes()].concat();
            let put = self.tables.chunks.put(&record.hash.0[..CHUNK_KEY], &value, |_| ());
            self.ok(put)?;
            offset += u64::from(record.bytes);
        }
        let put = self.tables.lists.put(&content.0, &codec::encode(list), |_| ());
        self.ok(put)?;
        let key = at.to_key();
        let held = self.path(at)?.and_then(|record| record.content_on_disk());
        let before = if held.is_some_and(|(held, _)| held == content) {
            self.tables.announced.take(&key, content_of)
        } else {
            let put = self.tables.places.put(&place_key(content, &key), &[], |_| ());
            self.ok(put)?;
            self.tables.announced.put(&key, &content.0, content_of)
        };
        let before = self.ok(before.and_then(Option::transpose))?;
        match before.filter(|before| *before != content) {
            Some(before) => self.give_up(before, &key),
            None => Ok(()),
        }
    }

    fn put_need(&mut self, path: &RelPath, needed: bool) -> Result<()> {
        let key = path.to_key();
        let needs = &mut self.tables.needs;
        let done = if needed { needs.put(&key, &[], |_| ()) } else { needs.take(&key, |_| ()) };
        self.ok(done).map(drop)
    }

    fn put_note(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let put = self.tables.notes.put(key.as_bytes(), value, |_| ());
        self.ok(put).map(drop)
    }
}

/// No path has an empty component, so no other path's key begins like this.
fn kept_prefix(path: &RelPath) -> Vec<u8> {
    let mut key = path.to_key();
    key.extend([0, 0]);
    key
}

fn kept_key(path: &RelPath, id: EntryId) -> Vec<u8> {
    let mut key = kept_prefix(path);
    key.extend(writer_key(id.writer));
    key.extend(id.seq.to_be_bytes());
    key
}

fn writer_key(writer: Writer) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(&writer.node.0);
    key[32..].copy_from_slice(&writer.incarnation.to_be_bytes());
    key
}

fn writer_of(key: &[u8]) -> tables::Result<Writer> {
    let (node, incarnation) = key.split_at_checked(32).ok_or_else(|| malformed("writer"))?;
    let node = NodeId(node.try_into().map_err(|_| malformed("writer"))?);
    Ok(Writer { node, incarnation: number(incarnation)? })
}

fn entry_key(writer: u32, seq: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&writer.to_be_bytes());
    key[4..].copy_from_slice(&seq.to_be_bytes());
    key
}

fn place_key(content: ContentId, path_key: &[u8]) -> Vec<u8> {
    [&content.0, path_key].concat()
}

fn number(bytes: &[u8]) -> tables::Result<u64> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| malformed("number"))
}

fn path_of(key: &[u8]) -> tables::Result<RelPath> {
    RelPath::from_key(key).map_err(|_| malformed("path"))
}

fn content_of(bytes: &[u8]) -> tables::Result<ContentId> {
    bytes.try_into().map(ContentId).map_err(|_| malformed("content id"))
}

fn chunk_place(bytes: &[u8]) -> tables::Result<(ContentId, u64)> {
    let (content, offset) = bytes.split_at_checked(32).ok_or_else(|| malformed("chunk place"))?;
    Ok((content_of(content)?, number(offset)?))
}

fn read_totals(bytes: &[u8]) -> tables::Result<Totals> {
    let (files, bytes) = bytes.split_at_checked(8).ok_or_else(|| malformed("totals"))?;
    Ok(Totals { files: number(files)?, bytes: number(bytes)? })
}

fn open_batch(bytes: &[u8]) -> tables::Result<Batch> {
    let signed: Signed = decode("batch", bytes)?;
    Batch::open_stored(signed).map_err(|error| Fault::Corrupt(error.to_string()))
}

pub(super) fn decode<V: Serialize + DeserializeOwned>(what: &'static str, bytes: &[u8]) -> tables::Result<V> {
    codec::decode(what, bytes, bytes.len()).map_err(|error| Fault::Corrupt(error.to_string()))
}

fn malformed(what: &str) -> Fault {
    Fault::Corrupt(format!("{what} is malformed"))
}
