//! One machine of the office: its index, its disk, its clock, and the steps that a running node takes around the
//! product's decisions. Stands where `node::folder` and the disk shell stand in the product.

use std::collections::BTreeSet;

use ed25519_dalek::SigningKey;
use lanyard::base::time::HlcClock;
use lanyard::base::{ContentId, FileInfo, FolderId, Level, MeshId, NodeId, RelPath, Writer};
use lanyard::logic::sync::index::{self, Index, Look, MemoryIndex, Walk};
use lanyard::logic::sync::reconcile::{self, Action, Target};
use lanyard::logic::sync::rejudge::Verdicts;
use lanyard::logic::sync::replica::{self, Author, Authored, Found, Push, Received, Reject, Rules, Seen};
use lanyard::logic::sync::scan::{Candidate, Join};
use lanyard::wire::batch::{Batch, Header, Packed, What};
use lanyard::wire::codec::{self, Bytes};
use lanyard::wire::content::{ChunkList, ChunkRecord};
use lanyard::wire::message::{Hole, HoleReason};
use lanyard::wire::signed::Signed;

use crate::disk::{Body, Disk, Item};
use crate::plant::{Plant, Planted};
use crate::rng::Rng;

pub(crate) const MESH: MeshId = MeshId([1; 32]);
pub(crate) const FOLDER: FolderId = FolderId([2; 32]);
/// Most batches kept that came before what they have seen.
const PARKED_MAX: usize = 1024;

/// Everyone reads, all but some write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Office {
    pub(crate) readers: BTreeSet<NodeId>,
}

impl Rules for Office {
    fn permits(&self, node: NodeId, _: &RelPath, level: Level) -> bool {
        level <= Level::Read || !self.readers.contains(&node)
    }
}

impl Verdicts for Office {
    fn counts(&self, header: &Header, _: u64, path: &RelPath, _: &dyn Look) -> index::Result<bool> {
        Ok(self.permits(header.writer.node, path, Level::Write))
    }
}

/// A batch as it travels.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    signed: Signed,
    packed: Vec<u8>,
    holes: Vec<Hole>,
}

impl Parcel {
    /// A batch with all its entries.
    pub(crate) fn whole(authored: &Authored) -> Self {
        let entries = (0..).zip(authored.entries.iter().cloned()).collect();
        Self::of(&Push { batch: authored.batch.clone(), entries, holes: Vec::new() })
    }

    pub(crate) fn of(push: &Push) -> Self {
        Self { signed: push.batch.signed().clone(), packed: codec::encode(&push.pack()), holes: push.holes.clone() }
    }
}

pub(crate) struct Node {
    pub(crate) at: usize,
    pub(crate) key: SigningKey,
    pub(crate) writer: Writer,
    pub(crate) index: MemoryIndex,
    pub(crate) disk: Disk,
    pub(crate) hlc: HlcClock,
    /// How far this machine's clock is off.
    pub(crate) skew_ms: i64,
    pub(crate) up: bool,
    pub(crate) plant: Plant,
    /// Names that may have changed: hints of the watcher, and what a commit found otherwise than expected.
    pub(crate) hints: BTreeSet<RelPath>,
    pub(crate) scan_due: bool,
    /// What a walk found, not yet read.
    pub(crate) candidates: Vec<RelPath>,
    pub(crate) parked: Vec<Parcel>,
    /// Signs without asking whether it may.
    pub(crate) rogue: bool,
}

/// The content id of some bytes; model files are below one chunk's least size.
pub(crate) fn content(bytes: &[u8]) -> (ContentId, ChunkList) {
    let records = if bytes.is_empty() { Vec::new() } else { vec![ChunkRecord::of(bytes)] };
    let list = ChunkList { records };
    (list.id(), list)
}

fn what(body: &Body) -> What {
    match body {
        Body::File(bytes) => What::File { bytes: bytes.len() as u64, content: content(bytes).0 },
        Body::Dir => What::Dir,
        Body::Link(target) => What::Symlink(Bytes::new(target.clone()).expect("a short target")),
    }
}

/// What became of an action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Acted {
    Done,
    /// The disk is otherwise than expected.
    Differs,
    /// The content is not at hand, or the parent directory is missing, or the directory is not empty.
    Waits,
    /// The machine died between the change of the disk and that of the index.
    Died,
}

impl Node {
    pub(crate) fn new(at: usize, rng: &mut Rng, plant: Plant) -> Self {
        let key = SigningKey::from_bytes(&rng.bytes());
        let writer = Writer { node: NodeId(key.verifying_key().to_bytes()), incarnation: rng.next() };
        let year = 365 * 86_400_000;
        let skew_ms = match rng.below(4) {
            0 => 0,
            1 => i64::try_from(rng.below(10_000)).expect("small") - 5_000,
            2 => i64::try_from(rng.below(year)).expect("small"),
            _ => -i64::try_from(rng.below(year)).expect("small"),
        };
        Self {
            at,
            key,
            writer,
            index: MemoryIndex::default(),
            disk: Disk::default(),
            hlc: HlcClock::default(),
            skew_ms,
            up: true,
            plant,
            hints: BTreeSet::new(),
            scan_due: true,
            candidates: Vec::new(),
            parked: Vec::new(),
            rogue: false,
        }
    }

    pub(crate) fn local_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add_signed(self.skew_ms)
    }

    fn planted(&mut self, now_ms: u64) -> Planted<'_> {
        let now_ms = self.local_ms(now_ms);
        Planted { inner: &mut self.index, plant: self.plant, own: self.writer, now_ms }
    }

    /// Dies: what was only in memory is gone. The disk stays.
    pub(crate) fn die(&mut self) {
        self.up = false;
        self.hints.clear();
        self.candidates.clear();
        self.parked.clear();
        self.hlc = HlcClock::default();
    }

    pub(crate) fn start(&mut self) {
        self.up = true;
        self.scan_due = true;
    }

    /// Walks the folder, or one path of it, and notes what must be read.
    pub(crate) fn scan(&mut self, top: &RelPath) {
        let mut out = Vec::new();
        let mut join = Join::new(&self.index, top.clone()).expect("memory");
        for (path, item) in self.disk.walk(top) {
            join.saw(&path, &item.info, &mut out).expect("memory");
            let known = self.index.path(&path).expect("memory").and_then(|record| record.disk);
            let looks_same = known.is_some_and(|disk| match self.plant {
                Plant::MtimeOnly => {
                    !disk.recheck && disk.info.mtime == item.info.mtime && disk.info.bytes == item.info.bytes
                }
                Plant::TrustFreshStamp => disk.info == item.info,
                _ => false,
            });
            if looks_same {
                out.retain(|found| !matches!(found, Candidate::Differs(other, _) if *other == path));
            }
        }
        join.finish(&mut out).expect("memory");
        let paths = out.into_iter().map(|found| match found {
            Candidate::Differs(path, _) | Candidate::Gone(path) => path,
        });
        self.candidates.extend(paths);
    }

    /// Reads what the walk noted and announces it. `None`: the machine died before the transaction was durable.
    pub(crate) fn announce(&mut self, rules: &Office, rng: &mut Rng, now_ms: u64, dies: bool) -> (Vec<Authored>, bool) {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort();
        candidates.dedup();
        let local = self.local_ms(now_ms);
        let found: Vec<Found> = candidates
            .into_iter()
            .map(|path| Found {
                seen: self.disk.item(&path).map(|item| Seen {
                    info: item.info,
                    what: what(&item.body),
                    recheck: item.info.may_change_unseen(local),
                }),
                path,
            })
            .collect();
        let before = dies.then(|| self.index.clone());
        let lists: Vec<(RelPath, ContentId, ChunkList)> = found
            .iter()
            .filter_map(|found| {
                let (id, list) = content(self.disk.file(&found.path)?);
                Some((found.path.clone(), id, list))
            })
            .collect();
        for (path, id, list) in lists {
            self.index.put_chunk_list(id, &list, &path).expect("memory");
        }
        if self.plant == Plant::BaseFromHeads || self.plant == Plant::EditSettles {
            self.pretend_seen(&found);
        }
        let everyone = Office::default();
        let author = Author {
            mesh: MESH,
            folder: FOLDER,
            writer: self.writer,
            key: &self.key.clone(),
            heads: Vec::new(),
            rules: if self.rogue { &everyone } else { rules },
            seed: rng.bytes(),
        };
        let mut hlc = self.hlc;
        let signed = replica::author(&mut self.planted(now_ms), &author, &mut hlc, local, found).expect("memory");
        self.hlc = hlc;
        if let Some(before) = before {
            self.index = before;
            self.die();
            return (signed, true);
        }
        // The first look at the whole folder is over.
        self.index.put_note(replica::SCANNED_NOTE, &[1]).expect("memory");
        (signed, false)
    }

    /// The planted bugs of a version that claims too much.
    fn pretend_seen(&mut self, found: &[Found]) {
        for found in found {
            let Some(mut record) = self.index.path(&found.path).expect("memory") else { continue };
            // A bug in saving, not in conflict copies.
            if self.plant == Plant::EditSettles && record.copies.is_empty() {
                continue;
            }
            let heads = record.heads.clone();
            if let Some(disk) = record.disk.as_mut() {
                heads.iter().for_each(|head| disk.version.join(head.version()));
            }
            self.index.put_path(&found.path, &record).expect("memory");
        }
    }

    /// Takes a batch, and then those that had waited for it.
    pub(crate) fn receive(&mut self, parcel: Parcel, rules: &Office, now_ms: u64, drop: bool) -> Result<(), String> {
        let mut waiting = vec![parcel];
        while let Some(parcel) = waiting.pop() {
            match self.take(&parcel, rules, now_ms, drop)? {
                Received::Taken(_) => waiting.append(&mut self.parked),
                Received::Known => {}
                Received::Early => {
                    if self.parked.len() < PARKED_MAX {
                        self.parked.push(parcel);
                    }
                }
                Received::Forked => return Err(format!("node {} was sent a fork", self.at)),
            }
        }
        Ok(())
    }

    fn take(&mut self, parcel: &Parcel, rules: &Office, now_ms: u64, drop: bool) -> Result<Received, String> {
        let batch = Batch::open(parcel.signed.clone()).map_err(|e| e.to_string())?;
        let packed: Packed = codec::decode("push", &parcel.packed, 1 << 20).map_err(|e| e.to_string())?;
        let mut entries = packed.unpack().map_err(|e| e.to_string())?;
        let mut holes = parcel.holes.clone();
        let local = self.local_ms(now_ms);
        let header = batch.header();
        if drop && self.plant == Plant::DropBatch {
            entries.clear();
            let gone =
                |at: usize| Hole { index: at as u16, reason: HoleReason::Superseded(header.writer, header.last()) };
            holes = (0..header.entries.len()).map(gone).collect();
        }
        let time = header.time;
        let everyone = Office::default();
        let rules = if self.plant == Plant::NoRules { &everyone } else { rules };
        let result = replica::receive(&mut self.planted(now_ms), (MESH, FOLDER), rules, &batch, entries, &holes);
        self.hlc.observe(time, local);
        result.map_err(|reject: Reject| format!("node {}: {reject}", self.at))
    }

    /// What is to be done for one needed path; forgets the need if that is nothing.
    pub(crate) fn plan(&mut self, path: &RelPath, now_ms: u64) -> Vec<Action> {
        let mut index = self.planted(now_ms);
        let mut actions = reconcile::plan(&mut index, path).expect("memory");
        if actions.is_empty() {
            index.put_need(path, false).expect("memory");
        }
        if self.plant == Plant::NoCopies {
            actions.retain(|action| action.copy_of.is_none() || action.target == Target::Nothing);
        }
        actions
    }

    /// Bytes of a content that are on this disk under a name. Kept versions are not served.
    pub(crate) fn local(&self, id: ContentId) -> Option<Vec<u8>> {
        let places = self.index.places_of(id, 8).expect("memory");
        places.iter().filter_map(|path| self.disk.file(path)).find(|bytes| content(bytes).0 == id).cloned()
    }

    /// Carries out one action if the disk is as expected.
    pub(crate) fn act(&mut self, action: &Action, bytes: Option<Vec<u8>>, now_ms: u64, dies: bool) -> Acted {
        let name = &action.name;
        let there = self.disk.item(name).cloned();
        if !self.is_expected(there.as_ref(), action) {
            self.hints.insert(name.clone());
            return Acted::Differs;
        }
        let local = self.local_ms(now_ms);
        if self.plant == Plant::DoneBeforeDisk && dies {
            let wished = match &action.target {
                Target::Put { what, mode, mtime } | Target::Meta { what, mode, mtime } => Some(FileInfo {
                    kind: what.kind().expect("never a tombstone"),
                    bytes: action.target.content().map_or(0, |(_, bytes)| bytes),
                    mode: *mode,
                    mtime: *mtime,
                    ctime: *mtime,
                    inode: 0,
                }),
                Target::Nothing => None,
            };
            reconcile::done(&mut self.planted(now_ms), action, wished, false).expect("memory");
            self.die();
            return Acted::Died;
        }
        match &action.target {
            Target::Nothing => {
                if self.disk.has_below(name) {
                    self.hints.insert(name.clone());
                    return Acted::Waits;
                }
                self.keep(there.as_ref());
                self.disk.remove(name);
            }
            Target::Put { what, mode, mtime } => {
                if !self.disk.has_room(name) {
                    self.hints.extend(name.ancestors());
                    return Acted::Waits;
                }
                if self.disk.has_below(name) {
                    self.hints.insert(name.clone());
                    return Acted::Waits;
                }
                let body = match (what, bytes) {
                    (What::File { .. }, Some(bytes)) => Body::File(bytes),
                    (What::File { .. }, None) | (What::Tombstone { .. }, _) => return Acted::Waits,
                    (What::Dir, _) => Body::Dir,
                    (What::Symlink(target), _) => Body::Link(target.to_vec()),
                };
                self.keep(there.as_ref());
                self.disk.remove(name);
                let is_dir = body == Body::Dir;
                self.disk.put(name, body, *mode, false, local);
                if !is_dir {
                    self.disk.touch(name, *mtime, local);
                }
            }
            Target::Meta { what, mode, mtime } => {
                self.disk.chmod(name, *mode, local);
                if *what != What::Dir {
                    self.disk.touch(name, *mtime, local);
                }
            }
        }
        if dies {
            self.die();
            return Acted::Died;
        }
        let info = self.disk.info(name);
        let recheck = info.is_some_and(|info| info.may_change_unseen(local));
        if let (Some(bytes), Some(_)) = (self.disk.file(name), action.target.content()) {
            let (id, list) = content(bytes);
            self.index.put_chunk_list(id, &list, name).expect("memory");
        }
        reconcile::done(&mut self.planted(now_ms), action, info, recheck).expect("memory");
        Acted::Done
    }

    fn is_expected(&self, there: Option<&Item>, action: &Action) -> bool {
        if self.plant == Plant::SkipExpected {
            return there.is_none_or(|item| item.body != Body::Dir || !self.disk.has_below(&action.name));
        }
        match (there, action.expected) {
            (None, None) => true,
            (Some(item), Some(expected)) if item.body == Body::Dir => {
                (item.info.kind, item.info.mode) == (expected.kind, expected.mode)
            }
            (Some(item), Some(expected)) => item.info == expected,
            _ => false,
        }
    }

    fn keep(&mut self, replaced: Option<&Item>) {
        if let Some(Item { body: Body::File(bytes), .. }) = replaced {
            self.disk.versions.push(bytes.clone());
        }
    }

    /// Parcels for a peer that has come this far.
    pub(crate) fn parcels_for(
        &self,
        theirs: &[lanyard::wire::statement::Frontier],
        reader: NodeId,
        rules: &Office,
        most: usize,
    ) -> Vec<Parcel> {
        let mut batches = Vec::new();
        replica::catch_up(&self.index, theirs, &mut |batch| {
            batches.push(batch);
            if batches.len() < most { Walk::On } else { Walk::Enough }
        })
        .expect("memory");
        batches.into_iter().map(|batch| self.parcel(batch, reader, rules)).collect()
    }

    pub(crate) fn parcel(&self, batch: Batch, reader: NodeId, rules: &Office) -> Parcel {
        Parcel::of(&replica::push_of(&self.index, batch, reader, rules).expect("memory"))
    }
}
