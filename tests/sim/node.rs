//! One machine of the office: its index, its disk, its clock, and the steps that a running node takes around the
//! product's decisions. Stands where `node::folder` stands in the product; looking, reading, staging and swapping are
//! the product's own, over a model disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, MutexGuard};

use ed25519_dalek::SigningKey;
use lanyard::base::time::HlcClock;
use lanyard::base::{ContentId, FileInfo, FolderId, Hlc, Kind, Level, MeshId, NodeId, RelPath, Writer};
use lanyard::logic::sync::guard::{Guard, Limits};
use lanyard::logic::sync::index::{EntryId, Index, Look, MemoryIndex, Walk};
use lanyard::logic::sync::outage::{self, Outage};
use lanyard::logic::sync::own::{self, Asking, Heard, Waiting};
use lanyard::logic::sync::reconcile::{self, Action, Target};
use lanyard::logic::sync::replica::{self, Author, Authored, Found, Received, Reject, Rules, Seen};
use lanyard::logic::sync::reuse::{self, Source};
use lanyard::logic::sync::scan::{Candidate, Join};
use lanyard::logic::sync::verify;
use lanyard::shell::disk::chunk::{self, ReadError};
use lanyard::shell::disk::commit::{self, CommitOrder, Outcome, Put};
use lanyard::shell::disk::stage::Partial;
use lanyard::shell::disk::versions::{self, Shelf, Sought};
use lanyard::shell::disk::{DiskError, Folder, scan, stage};
use lanyard::wire::batch::{Batch, Packed, What};
use lanyard::wire::chunker::chunks_of;
use lanyard::wire::codec::{self, Bytes};
use lanyard::wire::content::ChunkList;
use lanyard::wire::message::{Hole, HoleReason};
use lanyard::wire::statement::Frontier;

use crate::calls::Drive;
use crate::disk::{Cut, Disk, Tree};
use crate::guard::Said;
use crate::parcel::{Parcel, Sheet};
use crate::plant::{Plant, Planted};
use crate::rng::Rng;

pub(crate) const MESH: MeshId = MeshId([1; 32]);
pub(crate) const FOLDER: FolderId = FolderId([2; 32]);
/// Most batches kept that came before what they have seen. As in `node::folder::parked`.
pub(crate) const PARKED_MAX: usize = 64;
/// Note in the index: the last hybrid time given out. As in `node::folder::worker`.
const NOTE_TIME: &str = "time";

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

pub(crate) struct Node {
    pub(crate) at: usize,
    pub(crate) key: SigningKey,
    pub(crate) writer: Writer,
    pub(crate) index: MemoryIndex,
    /// What a death leaves of the index, where its last transactions were not durable.
    safe_index: Option<MemoryIndex>,
    /// The database may forget transactions that were not made durable.
    pub(crate) forgetful: bool,
    drive: Drive,
    pub(crate) folder: Folder,
    /// Contents on their way here: for which path they come, and which chunks are here.
    pub(crate) partials: BTreeMap<ContentId, (RelPath, ChunkList, Vec<bool>)>,
    /// For a planted bug: a durable note of what came.
    pub(crate) noted_chunks: BTreeMap<ContentId, Vec<bool>>,
    /// An empty directory where the disk should be mounted.
    empty: Option<Drive>,
    pub(crate) hlc: HlcClock,
    /// How far this machine's clock is off.
    pub(crate) skew_ms: i64,
    pub(crate) up: bool,
    pub(crate) plant: Plant,
    /// Names that may have changed: hints of the watcher, and what a commit found otherwise than expected.
    pub(crate) hints: BTreeSet<RelPath>,
    pub(crate) scan_due: bool,
    /// Everything was looked at and announced since the start.
    pub(crate) looked: bool,
    /// What a walk found, not yet read.
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) parked: Vec<Parcel>,
    /// A batch was dropped because too many wait: somebody has to send it again.
    pub(crate) dropped: bool,
    /// Signs without asking whether it may.
    pub(crate) rogue: bool,
    /// Asks peers how far the logs reach, before it signs.
    pub(crate) asking: Option<Asking>,
    /// Part of its log was forgotten, and its disk was not looked at since.
    pub(crate) forgot: bool,
    /// Its power failed, and what it announced since may not have reached its disk.
    pub(crate) outage: Option<Outage>,
    /// To which others it had a link when it was last asked about.
    pub(crate) linked: BTreeSet<usize>,
    /// The arrival number of the first batch that came since the start.
    pub(crate) first_arrival: u64,
    pub(crate) complete: bool,
    /// What holds bursts of changes, and when; `limit` 0: never.
    pub(crate) guard: Guard,
    pub(crate) limits: Limits,
    /// How often something had to wait.
    pub(crate) held: u64,
    /// Verdicts that came here, by their number in the office.
    pub(crate) said: BTreeMap<usize, Said>,
    /// For a planted bug: when everything was looked at last.
    looked_ms: u64,
}

/// So long takes a node to start after its machine's power failed: what is saved later has other times.
pub(crate) const BOOT_MS: u64 = 100;
/// No guard.
const OFF: Limits = Limits { limit: 0, window_ms: 0 };

/// The content id of some bytes.
pub(crate) fn content(bytes: &[u8]) -> (ContentId, ChunkList) {
    let list = chunks_of(bytes);
    (list.id(), list)
}

/// What became of actions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Acted {
    Done,
    /// The disk is otherwise than expected.
    Differs,
    /// The content is not at hand, or the directory is not empty.
    Waits,
    /// The disk refused.
    Failed,
    /// The machine died before the index knew.
    Died,
}

/// What a node signed.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) signed: Vec<Authored>,
    /// Signed in a transaction that was not durable when the machine died.
    pub(crate) lost: Vec<Authored>,
    pub(crate) died: bool,
}

/// A content that is at hand.
pub(crate) enum Got {
    Bytes(Vec<u8>),
    /// One that came chunk by chunk.
    Whole(Partial, ChunkList),
}

/// An action with the content it needs.
pub(crate) type Ready = (Action, Option<Got>);

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
        let mut disk = Disk::new(Rng::new(rng.next()));
        disk.calls.plant = plant;
        let drive = Drive::new(disk);
        let folder = open(&drive);
        folder.create_marker(FOLDER).expect("a sound disk");
        Self {
            at,
            key,
            writer,
            index: MemoryIndex::default(),
            safe_index: None,
            forgetful: rng.percent(25) || plant == Plant::CountsLate,
            drive,
            folder,
            partials: BTreeMap::new(),
            noted_chunks: BTreeMap::new(),
            empty: None,
            hlc: HlcClock::default(),
            skew_ms,
            up: true,
            plant,
            hints: BTreeSet::new(),
            scan_due: true,
            looked: false,
            candidates: Vec::new(),
            parked: Vec::new(),
            dropped: false,
            rogue: false,
            asking: None,
            forgot: false,
            outage: None,
            linked: BTreeSet::new(),
            first_arrival: 0,
            complete: true,
            guard: Guard::new(OFF),
            limits: OFF,
            held: 0,
            said: BTreeMap::new(),
            looked_ms: 0,
        }
    }

    pub(crate) fn local_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add_signed(self.skew_ms)
    }

    /// The disk with all that is on it, whether or not it can be reached.
    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.drive.lock()
    }

    pub(crate) fn set_clock(&self, now_ms: u64) {
        self.disk().now_ms = self.local_ms(now_ms);
    }

    pub(crate) fn planted(&mut self, now_ms: u64) -> Planted<'_> {
        let now_ms = self.local_ms(now_ms);
        Planted { inner: &mut self.index, plant: self.plant, own: self.writer, now_ms }
    }

    /// What follows may be forgotten by a death until the next durable transaction.
    pub(crate) fn not_durable(&mut self) {
        if self.forgetful && self.safe_index.is_none() {
            self.safe_index = Some(self.index.clone());
        }
    }

    pub(crate) fn durable(&mut self) {
        self.safe_index = None;
    }

    /// Dies: what was only in memory is gone. The disk stays.
    pub(crate) fn die(&mut self) {
        self.up = false;
        self.looked = false;
        self.hints.clear();
        self.candidates.clear();
        self.parked.clear();
        self.asking = None;
        self.forgot = false;
        self.partials.clear();
        self.hlc = HlcClock::default();
        if let Some(safe) = self.safe_index.take() {
            self.index = safe;
        }
    }

    /// Dies by a power cut: what was not flushed may be gone.
    pub(crate) fn lose_power(&mut self) -> Cut {
        self.die();
        let time = self.index.note(NOTE_TIME).expect("memory").and_then(|note| note.try_into().ok());
        let since_ms = time.map_or(0, u64::from_be_bytes).saturating_sub(outage::UNFLUSHED_MS_MAX);
        self.outage = Some(Outage { since_ms, until_ms: u64::MAX });
        self.disk().power_cut()
    }

    /// What a backup of its state has, without its files.
    pub(crate) fn backup(&self) -> (MemoryIndex, Writer) {
        (self.safe_index.clone().unwrap_or_else(|| self.index.clone()), self.writer)
    }

    /// Its state is put back from a backup, and with it `files`.
    pub(crate) fn put_back(&mut self, (index, writer): (MemoryIndex, Writer), files: Option<&Tree>) {
        self.die();
        (self.index, self.writer) = (index, writer);
        if let Some(files) = files {
            self.disk().put_back(files);
        }
    }

    /// Loses its index and all it knows, but not its files: a machine set up anew.
    pub(crate) fn forget_all(&mut self, rng: &mut Rng) {
        self.die();
        self.index = MemoryIndex::default();
        self.writer.incarnation = rng.next();
        self.noted_chunks.clear();
        self.said.clear();
        self.complete = false;
    }

    pub(crate) fn start(&mut self) {
        self.up = true;
        self.scan_due = true;
        self.first_arrival = self.index.arrival_count().expect("memory");
        let time = self.index.note(NOTE_TIME).expect("memory").and_then(|note| note.try_into().ok());
        self.hlc = HlcClock::starting_after(Hlc { ms: time.map_or(0, u64::from_be_bytes), count: 0 });
        self.linked.clear();
        if let Some(Outage { since_ms, .. }) = self.outage {
            let until_ms = self.disk().now_ms;
            self.outage = Some(Outage { since_ms, until_ms });
            outage::read_again(&mut self.index, self.writer.node, since_ms, (None, usize::MAX)).expect("memory");
        }
        let pulled = {
            let mut disk = self.disk();
            (disk.calls.dead, disk.calls.fuse) = (false, None);
            disk.calls.pulled
        };
        self.empty = pulled.then(|| Drive::new(Disk::new(Rng::new(0))));
        self.folder = open(self.empty.as_ref().unwrap_or(&self.drive));
        if self.empty.is_none() {
            let now_ms = self.disk().now_ms;
            // What stays is removed at the next start.
            let _ = stage::clean(&self.folder, now_ms);
        }
        self.recall_guard();
    }

    /// Whether the folder is the one that it should be.
    fn is_marked(&self) -> bool {
        self.plant == Plant::NoMarker || self.folder.marker().is_ok_and(|found| found == FOLDER)
    }

    /// Walks the folder, or one path of it, and notes what must be read.
    pub(crate) fn scan(&mut self, top: &RelPath) {
        if !self.is_marked() {
            self.scan_due = true;
            return;
        }
        let mut out = Vec::new();
        let mut join = Join::new(&self.index, top.clone()).expect("memory");
        let since = self.looked_ms;
        let flow = scan::scan(&self.folder, top, &mut |seen| {
            match seen {
                scan::Seen::Entry { path, info } => {
                    join.saw(&path, &info, &mut out).expect("memory");
                    if self.looks_same(&path, &info, since) {
                        out.retain(|found| !matches!(found, Candidate::Differs(other, _) if *other == path));
                    }
                }
                scan::Seen::Unreadable { .. } if self.plant == Plant::UnreadableIsGone => {}
                scan::Seen::Unreadable { path, .. } => join.unreadable(&path, &mut out).expect("memory"),
                other => panic!("nothing else is on a model disk: {other:?}"),
            }
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        join.finish(&mut out).expect("memory");
        self.candidates.append(&mut out);
        if top.is_root() {
            let now_ms = self.disk().now_ms;
            self.looked_ms = now_ms;
        }
    }

    /// The planted bugs of a scan that trusts too much.
    fn looks_same(&self, path: &RelPath, info: &FileInfo, since: u64) -> bool {
        let known = self.index.path(path).expect("memory").and_then(|record| record.disk);
        known.is_some_and(|disk| match self.plant {
            Plant::MtimeOnly => !disk.recheck && disk.info.mtime == info.mtime && disk.info.bytes == info.bytes,
            Plant::TrustFreshStamp => disk.info == *info,
            Plant::TrustClock => !disk.recheck && info.ctime.to_ms() + 1000 < since,
            _ => false,
        })
    }

    /// Reads what the walk noted and announces it: what appeared or changed first, then what is gone.
    pub(crate) fn announce(&mut self, rules: &Office, rng: &mut Rng, now_ms: u64, dies: bool) -> Announced {
        let candidates = std::mem::take(&mut self.candidates);
        let local = self.local_ms(now_ms);
        let (mut found, mut lists, mut gone) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut read = BTreeSet::new();
        for candidate in candidates {
            let (path, info) = match candidate {
                Candidate::Gone(path) => {
                    gone.insert(path);
                    continue;
                }
                Candidate::Differs(path, info) => (path, info),
            };
            if !read.insert(path.clone()) {
                continue;
            }
            // The product signs these in the very turn that saw them.
            let still = || scan::info(&self.folder, &path).is_ok_and(|now| now == Some(info));
            let what = match info.kind {
                Kind::Dir | Kind::Symlink if !still() => None,
                Kind::Dir => Some(What::Dir),
                Kind::Symlink => {
                    let text = scan::link_text(&self.folder, &path).ok().flatten();
                    text.and_then(Bytes::new).map(What::Symlink)
                }
                Kind::File => match chunk::read_content(&self.folder, &path, &info) {
                    Ok(list) => {
                        let what = What::File { bytes: list.bytes(), content: list.id() };
                        lists.push((path.clone(), list));
                        Some(what)
                    }
                    Err(ReadError::Changed(_) | ReadError::Gone) => None,
                    Err(_) => None,
                },
            };
            let Some(what) = what else {
                self.hints.insert(path);
                continue;
            };
            let recheck = info.kind == Kind::File && info.may_change_unseen(local);
            found.push(Found { path, seen: Some(Seen { recheck, ..Seen::new(info, what) }) });
        }
        let (dies_first, dies_then) = (dies && rng.percent(50), dies);
        let (signed, died) = self.sign(rules, rng, now_ms, (found, lists), dies_first);
        if died {
            return Announced { signed: Vec::new(), lost: signed, died };
        }
        let mut found = Vec::new();
        for path in gone {
            match scan::info(&self.folder, &path) {
                Ok(None) => found.push(Found { path, seen: None }),
                _ if self.plant == Plant::UnreadableIsGone => found.push(Found { path, seen: None }),
                // Something is there again, or what is known of it stays.
                Ok(Some(_)) => _ = self.hints.insert(path),
                Err(_) => {}
            }
        }
        let (more, died) = self.sign(rules, rng, now_ms, (found, Vec::new()), dies_then);
        let (more, lost) = if died { (Vec::new(), more) } else { (more, Vec::new()) };
        Announced { signed: signed.into_iter().chain(more).collect(), lost, died }
    }

    /// Everything was looked at: from now on a file that equals a deleted one was put back by a user.
    pub(crate) fn has_looked(&mut self) {
        if !self.looked && !self.scan_due && self.candidates.is_empty() {
            self.not_durable();
            self.index.put_note(replica::SCANNED_NOTE, &[1]).expect("memory");
            (self.looked, self.forgot, self.outage) = (true, false, None);
        }
    }

    fn sign(
        &mut self,
        rules: &Office,
        rng: &mut Rng,
        now_ms: u64,
        (mut found, lists): (Vec<Found>, Vec<(RelPath, ChunkList)>),
        dies: bool,
    ) -> (Vec<Authored>, bool) {
        let local = self.local_ms(now_ms);
        let before = dies.then(|| self.safe_index.clone().unwrap_or_else(|| self.index.clone()));
        for (path, list) in lists {
            self.index.put_chunk_list(list.id(), &list, &path).expect("memory");
        }
        if self.plant == Plant::BaseFromHeads || self.plant == Plant::EditSettles {
            self.pretend_seen(&found);
        }
        if self.forgot && self.plant != Plant::StaleWins {
            found = own::follow(&mut self.index, found).expect("memory");
        }
        if let Some(outage) = self.outage {
            (found, _) = outage::bring_back(&mut self.index, found, self.writer.node, outage).expect("memory");
        }
        if !self.looked && self.plant != Plant::StaleWins {
            found = own::follow_deletions(&mut self.index, found, self.first_arrival).expect("memory");
        }
        let everyone = Office::default();
        let waiting = Waiting::default();
        let author = Author {
            mesh: MESH,
            folder: FOLDER,
            writer: self.writer,
            key: &self.key.clone(),
            heads: Vec::new(),
            rules: if self.rogue { &everyone } else { rules },
            seed: rng.bytes(),
            late: (!self.looked).then_some(&waiting),
        };
        let mut hlc = self.hlc;
        let signed = replica::author(&mut self.planted(now_ms), &author, &mut hlc, local, found).expect("memory");
        self.hlc = hlc;
        let time = self.hlc.tick(local).ms;
        self.index.put_note(NOTE_TIME, &time.to_be_bytes()).expect("memory");
        if let Some(before) = before {
            self.safe_index = Some(before);
            self.die();
            return (signed, true);
        }
        self.durable();
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

    /// Takes a batch, and then those that had waited for it. An error says what was wrong with it.
    pub(crate) fn receive(&mut self, parcel: Parcel, rules: &Office, now_ms: u64, drop: bool) -> Result<(), String> {
        let mut waiting = vec![parcel];
        let mut wrong = Ok(());
        while let Some(parcel) = waiting.pop() {
            match self.take(&parcel, rules, now_ms, drop) {
                Ok(Received::Taken(_)) => waiting.append(&mut self.parked),
                Ok(Received::Known) => {}
                Ok(Received::Early) if self.parked.len() < PARKED_MAX => self.parked.push(parcel),
                Ok(Received::Early) => self.dropped = true,
                Ok(Received::Forked) => wrong = Err(format!("node {} was sent a fork", self.at)),
                Err(_) if parcel.is_lie => {}
                Err(why) => wrong = Err(why),
            }
        }
        wrong
    }

    fn take(&mut self, parcel: &Parcel, rules: &Office, now_ms: u64, drop: bool) -> Result<Received, String> {
        let batch = match &parcel.sheet {
            Sheet::Known(batch) => (**batch).clone(),
            Sheet::Raw(signed) => Batch::open(signed.clone()).map_err(|e| e.to_string())?,
        };
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
        let rules = self.known(if self.plant == Plant::NoRules { &everyone } else { rules });
        // A transaction: what is refused half way leaves no trace.
        let before = parcel.is_lie.then(|| self.index.clone());
        let writer = header.writer;
        let reached = self.index.frontier(writer).expect("memory");
        let result = replica::receive(&mut self.planted(now_ms), (MESH, FOLDER), &rules, &batch, entries, &holes);
        match (&result, before) {
            (Err(_), Some(before)) => self.index = before,
            _ => self.durable(),
        }
        if own::has_forgotten(self.writer, writer, reached, self.index.frontier(writer).expect("memory")) {
            self.begin_anew(now_ms);
            self.forgot = !self.looked;
        }
        self.hlc.observe(time, local);
        result.map_err(|reject: Reject| format!("node {}: {reject}", self.at))
    }

    /// Whether the index of one who has the history is merged, before which nothing is signed. Something comes all the time.
    pub(crate) fn may_sign(&mut self, now_ms: u64) -> bool {
        let Some(asking) = &self.asking else { return false };
        let heard = asking.heard(&self.index, &|_| None, u64::MAX / 2, now_ms).expect("memory");
        if heard == Heard::Enough {
            self.begin_anew(now_ms);
        }
        heard != Heard::NotYet
    }

    fn begin_anew(&mut self, now_ms: u64) {
        self.writer.incarnation = self.writer.incarnation.rotate_left(7) ^ now_ms;
    }

    /// What is to be done for one needed path; forgets the need if that is nothing.
    pub(crate) fn plan(&mut self, path: &RelPath, now_ms: u64) -> Vec<Action> {
        self.not_durable();
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

    /// Bytes of a content that are on this disk under a name.
    pub(crate) fn local(&self, id: ContentId) -> Option<Vec<u8>> {
        let places = reuse::places_for(&self.index, id, 4, &|_| true).expect("memory");
        let mut read = places.iter().filter_map(|(at, info)| chunk::read_small(&self.folder, at, info).ok());
        read.find(|bytes| content(bytes).0 == id)
    }

    /// Answers who asks for a content of a path.
    pub(crate) fn serve(&self, path: &RelPath, id: ContentId, peer: NodeId) -> Option<Vec<u8>> {
        match reuse::place_to_serve(&self.index, path, id, peer, &|_, _| true).expect("memory")? {
            Source::File(at, info) => chunk::read_small(&self.folder, &at, &info).ok(),
            Source::Versions(bytes, mtimes) => {
                let sought = Sought { content: id, bytes, mtimes };
                let fitting = Shelf::default().fitting(&self.folder, path, &sought);
                let (version, _) = versions::first_with(&self.folder, fitting, id)?;
                chunk::read_small_at(&self.folder, &version.place, &version.info).ok()
            }
        }
    }

    /// What a peer answered, if it is what was asked for.
    pub(crate) fn verified(&self, id: ContentId, bytes: Vec<u8>) -> Option<Vec<u8>> {
        if self.plant == Plant::ServeUnverified {
            return Some(bytes);
        }
        let list = chunks_of(&bytes);
        verify::whole(id, bytes, list).ok().map(|(bytes, _)| bytes.into_inner())
    }

    /// Carries out one action.
    pub(crate) fn act(&mut self, action: &Action, bytes: Option<Vec<u8>>, now_ms: u64) -> Acted {
        let acted = self.act_all(vec![(action.clone(), bytes.map(Got::Bytes))], now_ms);
        acted.into_iter().next().map_or(Acted::Waits, |(_, acted)| acted)
    }

    /// Stages, flushes and swaps in a group, and notes what is there now.
    pub(crate) fn act_all(&mut self, actions: Vec<Ready>, now_ms: u64) -> Vec<(Action, Acted)> {
        self.set_clock(now_ms);
        if !self.is_marked() {
            return Vec::new();
        }
        let (actions, held) = self.let_through(actions, now_ms);
        let mut acted: Vec<(Action, Acted)> = held.into_iter().map(|action| (action, Acted::Waits)).collect();
        let (mut orders, mut done) = (Vec::new(), Vec::new());
        for (action, bytes) in actions {
            let staged = match (action.target.content(), bytes) {
                (Some(_), None) => {
                    acted.push((action, Acted::Waits));
                    continue;
                }
                (Some(_), Some(got)) => match self.stage(got) {
                    Ok(staged) => Some(staged),
                    Err(_) => {
                        acted.push((action, Acted::Failed));
                        continue;
                    }
                },
                (None, _) => None,
            };
            let (file, list) = staged.map_or((None, None), |(staged, list)| (Some(staged), Some(list)));
            let mut expected = action.expected;
            if self.plant == Plant::SkipExpected {
                expected = scan::info(&self.folder, &action.name).ok().flatten();
            }
            orders.push(CommitOrder::new(action.name.clone(), expected, put_of(&action, file)));
            done.push((action, list));
        }
        if self.plant == Plant::DoneBeforeDisk {
            for (action, list) in &done {
                self.note(action, list.as_ref(), wished(action), now_ms);
            }
        }
        let outcomes = commit::commit(&self.folder, orders);
        if self.disk().calls.dead {
            if self.plant == Plant::DoneBeforeDisk {
                self.durable();
            }
            return done.into_iter().map(|(action, _)| (action, Acted::Died)).chain(acted).collect();
        }
        for ((action, list), outcome) in done.into_iter().zip(outcomes) {
            let how = match outcome {
                Outcome::Done { info } => {
                    self.note(&action, list.as_ref(), info, now_ms);
                    Acted::Done
                }
                Outcome::LocalChange { .. } => {
                    self.hints.insert(action.name.clone());
                    Acted::Differs
                }
                Outcome::NotEmpty { .. } => {
                    self.hints.insert(action.name.clone());
                    Acted::Waits
                }
                Outcome::Failed { .. } => Acted::Failed,
            };
            acted.push((action, how));
        }
        self.durable();
        acted
    }

    fn stage(&self, got: Got) -> Result<(stage::Staged, ChunkList), DiskError> {
        match got {
            Got::Bytes(bytes) => Ok((stage::stage_small(&self.folder, &bytes)?, chunks_of(&bytes))),
            Got::Whole(partial, list) => Ok((partial.finish()?, list)),
        }
    }

    fn note(&mut self, action: &Action, list: Option<&ChunkList>, info: Option<FileInfo>, now_ms: u64) {
        if let (Some(list), Some(_)) = (list, info) {
            self.index.put_chunk_list(list.id(), list, &action.name).expect("memory");
        }
        let local = self.local_ms(now_ms);
        let recheck = info.is_some_and(|info| info.kind == Kind::File && info.may_change_unseen(local));
        // As in `node::folder::place`.
        let recheck = recheck && matches!(action.target, Target::Meta { .. });
        reconcile::done(&mut self.planted(now_ms), action, info, recheck, Default::default()).expect("memory");
    }

    /// Parcels for a peer that has come this far.
    pub(crate) fn parcels_for(&self, theirs: &[Frontier], reader: NodeId, rules: &Office, most: usize) -> Vec<Parcel> {
        let mut batches = Vec::new();
        replica::catch_up(&self.index, theirs, &mut |batch| {
            batches.push(batch);
            if batches.len() < most { Walk::On } else { Walk::Enough }
        })
        .expect("memory");
        batches.into_iter().map(|batch| self.parcel(batch, reader, rules)).collect()
    }

    /// Entries that others passed over when they told this node what it had forgotten.
    pub(crate) fn passed_over(&self) -> BTreeSet<EntryId> {
        own::passed_over(&self.index, self.first_arrival, usize::MAX).expect("memory")
    }

    /// The batch of an entry, with what was superseded, if this node has it.
    pub(crate) fn parcel_again(&self, id: EntryId, reader: NodeId, rules: &Office) -> Option<Parcel> {
        let (_, batch) = self.index.batch_of(id).expect("memory")?;
        Some(Parcel::of(&replica::push_again(&self.index, batch, reader, rules).expect("memory")))
    }

    pub(crate) fn parcel(&self, batch: Batch, reader: NodeId, rules: &Office) -> Parcel {
        Parcel::of(&replica::push_of(&self.index, batch, reader, rules).expect("memory"))
    }
}

fn open(drive: &Drive) -> Folder {
    Folder::over(Path::new("/office"), Arc::new(drive.clone()))
}

/// As in `node::folder::place`.
fn put_of(action: &Action, file: Option<stage::Staged>) -> Put {
    let there = action.expected.map(|info| info.mode).unwrap_or_default();
    match (&action.target, file) {
        (Target::Put { mode, mtime, .. }, Some(staged)) => Put::File { staged, mode: *mode, mtime: *mtime },
        (Target::Put { what: What::Dir, mode, .. }, _) => Put::Dir { mode: *mode },
        (Target::Put { what: What::Symlink(text), mtime, .. }, _) => {
            Put::Symlink { target: text.to_vec(), mtime: *mtime }
        }
        (Target::Meta { what: What::Dir, mode, .. }, _) => Put::Meta { mode: *mode, mtime: None },
        (Target::Meta { what: What::Symlink(_), mtime, .. }, _) => Put::Meta { mode: there, mtime: Some(*mtime) },
        (Target::Meta { mode, mtime, .. }, _) => Put::Meta { mode: *mode, mtime: Some(*mtime) },
        (Target::Nothing, _) => Put::Remove,
        (Target::Put { what, .. }, None) => panic!("{what:?} is put without its bytes"),
    }
}

/// For a planted bug: what a change that is noted too early is said to have made.
fn wished(action: &Action) -> Option<FileInfo> {
    match &action.target {
        Target::Put { what, mode, mtime } | Target::Meta { what, mode, mtime } => Some(FileInfo {
            kind: what.kind().expect("never a tombstone"),
            bytes: action.target.content().map_or(0, |(_, bytes)| bytes),
            mode: *mode,
            mtime: *mtime,
            ctime: *mtime,
            inode: 0,
        }),
        Target::Nothing => None,
    }
}
