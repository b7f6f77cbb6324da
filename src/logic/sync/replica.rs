//! One node's copy of a folder: what its user changed becomes signed entries, what others signed becomes heads.
//!
//! Three rules carry it:
//! 1. an own change names what its author had *seen on disk*, not what had arrived unseen: else an edit made
//!    before a change was shown would count as made after it, and the change would be lost;
//! 2. a batch is taken whole, in its writer's order, after everything that its entries have seen;
//! 3. whether an entry has an effect depends on signed statements and headers alone: see `policy::Judge`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ed25519_dalek::SigningKey;

use super::attributes::{self, Attributes, Said};
use super::conflict::{self, Main};
use super::index::{EntryId, Head, Index, OnDisk, PathRecord, Result};
use super::own::Waiting;
use super::reconcile;
use super::rejudge::{self, Verdicts};
use crate::base::time::HlcClock;
use crate::base::{
    Causality, FileInfo, FileTime, FolderId, Hlc, Kind, Level, MeshId, Mode, NodeId, RelPath, StatementId,
    VersionVector, Writer,
};
use crate::wire::batch::{BATCH_BYTES_MAX, Batch, ENTRIES_MAX, Entry, Header, Salted, VERSION_MAX, What};
use crate::wire::codec::{self, List};
use crate::wire::message::{Hole, HoleReason};
use crate::wire::statement::Frontier;

pub use super::push::{Push, catch_up, push_again, push_of};

/// Note in the index, set by the node when the first full scan since the index was made is over. Before that a file
/// without record may be older than its deletion; after it, it is newer.
pub const SCANNED_NOTE: &str = "scanned";

/// Who may do what in one folder, as of some policy heads.
pub trait Rules {
    /// Whether `node` has at least `level` on `path`.
    fn permits(&self, node: NodeId, path: &RelPath, level: Level) -> bool;
}

/// What signing needs.
pub struct Author<'a> {
    /// The mesh.
    pub mesh: MeshId,
    /// The folder.
    pub folder: FolderId,
    /// This node's log.
    pub writer: Writer,
    /// This node's key.
    pub key: &'a SigningKey,
    /// The policy heads this node knows, sorted.
    pub heads: Vec<StatementId>,
    /// The rules at these heads.
    pub rules: &'a dyn Rules,
    /// Fresh randomness for salts.
    pub seed: [u8; 32],
    /// Changes that were made before this node could sign them; `None`: what is found was made just now.
    pub late: Option<&'a Waiting>,
}

/// What the disk shows under one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The name.
    pub path: RelPath,
    /// What is there; `None`: nothing.
    pub seen: Option<Seen>,
}

/// See `Found`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// What the file system said.
    pub info: FileInfo,
    /// What it is; never a tombstone.
    pub what: What,
    /// Whether a further change may have left no trace.
    pub recheck: bool,
    /// Extended attributes and owner of a file, as far as they are looked at.
    pub attributes: Attributes,
}

impl Seen {
    /// A thing of which nothing else is looked at.
    pub fn new(info: FileInfo, what: What) -> Self {
        Self { info, what, recheck: false, attributes: Attributes::default() }
    }

    /// As what is on the disk, of this version.
    pub(super) fn of_version(self, version: VersionVector) -> OnDisk {
        let Self { info, what, recheck, attributes } = self;
        OnDisk { info, what, version, recheck, attributes, unmet: false }
    }
}

/// A batch that this node signed, with its entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authored {
    /// The signed header.
    pub batch: Batch,
    /// All its entries in order.
    pub entries: Vec<Salted>,
}

/// One entry to be, without its number.
struct Draft {
    path: RelPath,
    what: What,
    mode: Mode,
    mtime: FileTime,
    time: Option<Hlc>,
    base: VersionVector,
    /// What it says of attributes; `None`: what the look at the disk makes of the version before.
    says: Option<Said>,
    disk: After,
}

/// What is on the disk under the name of an entry to be.
enum After {
    /// This, as it was just seen.
    Shows(Seen),
    /// Nothing.
    Nothing,
    /// What is known already: the entry is a decision about versions, not about what has the name.
    AsBefore,
}

/// Turns what the disk shows into signed batches, stored in the index. What is as known, equal to a version that
/// waits to be applied, or not permitted becomes no entry.
pub fn author(
    index: &mut dyn Index,
    author: &Author<'_>,
    clock: &mut HlcClock,
    now_ms: u64,
    found: Vec<Found>,
) -> Result<Vec<Authored>> {
    let mut drafts = Vec::new();
    let mut settled = BTreeMap::new();
    for found in found {
        absorb(index, author, now_ms, found, &mut drafts, &mut settled)?;
    }
    decide(drafts.as_mut(), settled);
    let mut signed = Vec::new();
    let mut next = index.frontier(author.writer)?;
    let mut entries: Vec<Salted> = Vec::new();
    let mut bytes = 0;
    let mut drafts = VecDeque::from(drafts);
    while let Some(mut draft) = drafts.pop_front() {
        let kept = keep_own(index, author, &mut draft)?;
        let number = next.map_or(0, |f| f.seq) + entries.len() as u64 + 1;
        let path = draft.path.clone();
        let salted = write(index, author, clock, now_ms, draft, number)?;
        match kept {
            Kept::Nothing => {}
            Kept::Again(before) => renew_copies(index, &path, before, EntryId { writer: author.writer, seq: number })?,
            Kept::Beside(beside) => drafts.push_front(*beside),
        }
        bytes += codec::encode(&salted.entry).len();
        entries.push(salted);
        if entries.len() == ENTRIES_MAX || bytes > BATCH_BYTES_MAX / 2 {
            let authored = sign(index, author, clock.tick(now_ms), next, std::mem::take(&mut entries))?;
            next = index.frontier(author.writer)?;
            bytes = 0;
            signed.push(authored);
        }
    }
    if !entries.is_empty() {
        signed.push(sign(index, author, clock.tick(now_ms), next, entries)?);
    }
    Ok(signed)
}

/// Conflicts that were settled in one look at the disk: the losers of each path, together.
type Settled = BTreeMap<RelPath, (What, VersionVector)>;

/// Who changed a name and settled its conflict in one look decided both in one entry. Settled alone, a conflict
/// ends by a tombstone that has seen the losers and nothing else, so that it cannot touch what has the name, here or
/// where that was changed or deleted at the same time.
fn decide(drafts: &mut Vec<Draft>, mut settled: Settled) {
    for draft in drafts.iter_mut() {
        if let Some((_, lost)) = settled.remove(&draft.path) {
            draft.base.join(&lost);
        }
    }
    for (path, (lost, base)) in settled {
        let what = What::Tombstone { deleted: lost.content() };
        let (mtime, disk) = (FileTime::default(), After::AsBefore);
        drafts.push(Draft { path, what, mode: 0, mtime, time: None, base, says: None, disk });
    }
}

/// What becomes of an own version that an entry would end without meaning to.
enum Kept {
    /// There is none.
    Nothing,
    /// The entry is this version anew.
    Again(EntryId),
    /// It becomes a file beside.
    Beside(Box<Draft>),
}

/// An own number stands for all smaller ones, so an entry ends every earlier own version of its path, also one that
/// its author did not mean: an own loser beside the file that was edited, or the own file that has the name when a
/// copy is deleted. Such a version is signed again: as the outcome of a deletion, or as a file of its own under
/// the name of its copy.
fn keep_own(index: &mut dyn Index, author: &Author<'_>, draft: &mut Draft) -> Result<Kept> {
    let Some(mut record) = index.path(&draft.path)? else { return Ok(Kept::Nothing) };
    let is_unseen = |head: &&Head| head.id.writer == author.writer && !draft.base.covers(head.version());
    let own: Vec<Head> = record.heads.iter().filter(is_unseen).cloned().collect();
    own.iter().for_each(|head| draft.base.join(head.version()));
    let on_disk = record.disk.as_ref().map(|disk| &disk.what);
    let shows = |head: &Head| head.is_live() && !conflict::is_passed_over(&record, head);
    let unmeant = |head: &&Head| shows(head) && *head.what() != draft.what && on_disk != Some(head.what());
    let is_end = matches!(draft.what, What::Tombstone { .. });
    let Some(head) =
        own.iter().find(|head| unmeant(head) || (is_end && matches!(draft.disk, After::AsBefore) && head.is_live()))
    else {
        return Ok(Kept::Nothing);
    };
    let entry = &head.salted.entry;
    if is_end {
        (draft.what, draft.mode, draft.mtime) = (entry.what.clone(), entry.mode, entry.mtime);
        draft.time = Some(entry.time);
        draft.says = Some(Said::of(entry));
        return Ok(Kept::Again(head.id));
    }
    if entry.what == What::Dir {
        return Ok(Kept::Nothing);
    }
    let Some(copy) = reconcile::copy_name(&*index, &draft.path, head)? else { return Ok(Kept::Nothing) };
    record.copies.retain(|name| *name != copy);
    index.put_path(&draft.path, &record)?;
    Ok(Kept::Beside(Box::new(Draft {
        path: copy,
        what: entry.what.clone(),
        mode: entry.mode,
        mtime: entry.mtime,
        time: Some(entry.time),
        base: VersionVector::default(),
        says: Some(Said::of(entry)),
        disk: After::AsBefore,
    })))
}

/// The copies of a version that was signed again are copies of the new one.
fn renew_copies(index: &mut dyn Index, path: &RelPath, before: EntryId, now: EntryId) -> Result<()> {
    for name in index.path(path)?.unwrap_or_default().copies {
        let Some(mut copy) = index.path(&name)? else { continue };
        if let Some((_, of)) = copy.copy_of.as_mut().filter(|(_, of)| *of == before) {
            *of = now;
            index.put_path(&name, &copy)?;
        }
    }
    Ok(())
}

fn sign(
    index: &mut dyn Index,
    author: &Author<'_>,
    time: Hlc,
    previous: Option<Frontier>,
    entries: Vec<Salted>,
) -> Result<Authored> {
    let header = Header {
        mesh: author.mesh,
        folder: author.folder,
        writer: author.writer,
        first: previous.map_or(1, |f| f.seq + 1),
        previous: previous.map(|f| f.batch),
        heads: List::truncated(author.heads.clone()),
        time,
        entries: List::truncated(entries.iter().map(|s| s.entry.hash(&s.salt)).collect()),
    };
    let batch = Batch::sign(header, author.key);
    index.put_batch(&batch)?;
    Ok(Authored { batch, entries })
}

/// Gives a draft its number and puts it into the path's record.
fn write(
    index: &mut dyn Index,
    author: &Author<'_>,
    clock: &mut HlcClock,
    now_ms: u64,
    draft: Draft,
    number: u64,
) -> Result<Salted> {
    let id = EntryId { writer: author.writer, seq: number };
    let time = draft.time.unwrap_or_else(|| clock.tick(now_ms));
    let mut record = index.path(&draft.path)?.unwrap_or_default();
    let says = match (&draft.what, &draft.disk) {
        (What::File { .. }, After::Shows(seen)) => {
            let before = attributes::before(&*index, &draft.path, &record, &draft.base, author.writer.node)?;
            let says = draft.says.unwrap_or_else(|| attributes::of_edit(&record, &before, &seen.attributes));
            let xattrs = attributes::listed(&record, &draft.what, (&before, &says), seen, author.writer);
            Said { xattrs, ..says }
        }
        _ => draft.says.unwrap_or_default(),
    };
    let mut version = draft.base;
    version.advance(author.writer, number);
    let mut entry = Entry::new(draft.path.clone(), draft.what.clone(), draft.mode, draft.mtime, time, version.clone());
    (entry.xattrs, entry.owner) = (says.xattrs, says.owner);
    let salt = blake3::keyed_hash(&author.seed, &number.to_be_bytes());
    let salt = salt.as_bytes()[..16].try_into().expect("16 of 32 bytes");
    let salted = Salted { salt, entry };
    let before = record.heads.clone();
    reconcile::merge(&mut record, Head { id, salted: salted.clone() });
    rejudge::keep_superseded(index, &draft.path, &before, &record)?;
    let shown = matches!(draft.disk, After::Shows(_));
    let alone = shown && record.heads.len() == 1 && record.copies.is_empty();
    record.disk = match draft.disk {
        After::Shows(seen) => Some(seen.of_version(version)),
        After::Nothing => None,
        After::AsBefore => record.disk.map(|disk| {
            let version = if disk.what == draft.what { version } else { disk.version };
            OnDisk { version, ..disk }
        }),
    };
    record.copy_of = None;
    record.local_only = false;
    index.put_path(&draft.path, &record)?;
    index.put_entry_path(id, &draft.path)?;
    // A file where others already put something below it gives the name to a directory.
    let is_dir = draft.what == What::Dir;
    let is_end = matches!(draft.what, What::Tombstone { .. });
    if !alone || is_end || (!is_dir && reconcile::lives_below(&*index, &draft.path)?) {
        reconcile::mark(index, &draft.path)?;
    }
    Ok(salted)
}

/// Decides what one look at the disk means: nothing new, a change to announce, or one that must stay local.
fn absorb(
    index: &mut dyn Index,
    author: &Author<'_>,
    now_ms: u64,
    found: Found,
    drafts: &mut Vec<Draft>,
    settled: &mut Settled,
) -> Result<()> {
    let Found { path, seen } = found;
    let mut record = index.path(&path)?.unwrap_or_default();
    let known = record.disk.clone();
    let own = author.writer.node;
    let before = attributes::before(&*index, &path, &record, &VersionVector::default(), own)?;
    let may = author.rules.permits(own, &path, Level::Write);
    let (known, seen) = match (known, seen) {
        (None, None) => return Ok(()),
        (Some(known), Some(seen))
            if is_same(&known, &seen)
                && attributes::is_same(&record, &known, &seen.attributes, &before)
                && !(record.local_only && may) =>
        {
            let attributes = seen.attributes.over(known.attributes.clone());
            // What a version says of what is seen for the first time is put there.
            let news = attributes != known.attributes;
            let unmet = known.unmet && !news;
            record.disk = Some(OnDisk { info: seen.info, recheck: seen.recheck, attributes, unmet, ..known });
            index.put_path(&path, &record)?;
            return if news { reconcile::mark(index, &path) } else { Ok(()) };
        }
        changed => changed,
    };
    if let Some((owner, loser)) = record.copy_of.clone() {
        if known.is_none()
            && let Some(seen) = &seen
        {
            // Put there by a commit that was interrupted before it was noted, or a user's file with that very name.
            let version = index.path(&owner)?.and_then(|owning| {
                owning.head(loser).filter(|head| *head.what() == seen.what).map(|head| head.version().clone())
            });
            if let Some(version) = version {
                record.disk = Some(seen.clone().of_version(version));
                index.put_path(&path, &record)?;
                return reconcile::mark(index, &owner);
            }
        }
        if known.is_none() && seen.is_some() {
            // A user's file with the name that a copy was about to have: it decides nothing about the conflict.
            record.copy_of = None;
            index.put_path(&path, &record)?;
            let mut owning = index.path(&owner)?.unwrap_or_default();
            owning.copies.retain(|name| *name != path);
            index.put_path(&owner, &owning)?;
            reconcile::mark(index, &owner)?;
            return absorb(index, author, now_ms, Found { path, seen }, drafts, settled);
        }
        if let Some(seen) = &seen
            && !record.heads.is_empty()
        {
            // The name has become that of a file of its own, which an interrupted commit put there.
            let mut freed = PathRecord { copy_of: None, ..record.clone() };
            if adopt(index, author, &path, &mut freed, seen)? || outdated(index, author, &path, &mut freed, seen)? {
                let mut owning = index.path(&owner)?.unwrap_or_default();
                owning.copies.retain(|name| *name != path);
                return index.put_path(&owner, &owning);
            }
        }
        let may = may && author.rules.permits(author.writer.node, &owner, Level::Write);
        return settle(index, may, (path, record), (owner, loser), seen, drafts, settled);
    }
    let implied = known.as_ref().is_some_and(|disk| disk.version == VersionVector::default());
    match (known, seen) {
        (Some(_), None) if implied => {
            record.disk = None;
            index.put_path(&path, &record)?;
            reconcile::mark(index, &path)
        }
        (Some(known), None) => {
            // Deleted here too, or by a commit that was interrupted before it was noted, or that takes a file away
            // before it makes the directory. The newer version has seen this one, and it beats a deletion.
            let was_ended = !record.is_live() && !record.heads.is_empty();
            if was_ended || is_outdated(index, &path, &record, &known)? {
                record.disk = None;
                record.local_only = false;
                index.put_path(&path, &record)?;
                return reconcile::mark(index, &path);
            }
            if !may {
                return stay_local(index, &path, record, None);
            }
            let what = What::Tombstone { deleted: known.what.content() };
            let base = known.version;
            let time = author.late.map(|late| late.time(&path, None, &record, &base, now_ms));
            let (mode, mtime) = (0, FileTime::default());
            drafts.push(Draft { path, what, mode, mtime, time, base, says: None, disk: After::Nothing });
            Ok(())
        }
        (known, Some(seen)) => {
            if !is_last(index, &path, &record, &seen)?
                && (adopt(index, author, &path, &mut record, &seen)?
                    || outdated(index, author, &path, &mut record, &seen)?)
            {
                return Ok(());
            }
            if !may {
                return stay_local(index, &path, record, Some(seen));
            }
            let unseen_live = known.is_none() && record.is_live();
            let base = match known {
                Some(known) => known.version,
                None if unseen_live => VersionVector::default(),
                None => joined(record.heads.iter()),
            };
            // A file that was here before its folder was joined counts as old as it is.
            let time = match unseen_live {
                true => Some(Hlc { ms: seen.info.mtime.to_ms().min(now_ms), count: 0 }),
                false => author.late.map(|late| late.time(&path, Some(&seen.info), &record, &base, now_ms)),
            };
            let is_new = record.disk.is_none() && record.heads.is_empty();
            let says = if is_new { attributes::of_renamed(&*index, &path, &seen)? } else { None };
            drafts.push(Draft { says, ..draft_of(path, seen, time, base) });
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

fn draft_of(path: RelPath, seen: Seen, time: Option<Hlc>, base: VersionVector) -> Draft {
    let mtime = if seen.info.kind == Kind::Dir { FileTime::default() } else { seen.info.mtime };
    let mode = if seen.info.kind == Kind::Symlink { 0 } else { seen.info.mode };
    Draft { path, what: seen.what.clone(), mode, mtime, time, base, says: None, disk: After::Shows(seen) }
}

fn joined<'a>(heads: impl Iterator<Item = &'a Head>) -> VersionVector {
    let mut version = VersionVector::default();
    heads.for_each(|head| version.join(head.version()));
    version
}

fn is_same(known: &OnDisk, seen: &Seen) -> bool {
    known.what == seen.what
        && match known.what {
            What::Dir => known.info.mode == seen.info.mode,
            What::Symlink(_) => known.info.mtime == seen.info.mtime,
            _ => known.info.mode == seen.info.mode && known.info.mtime == seen.info.mtime,
        }
}

/// What is on the disk is taken over where it equals the version that should have the name: it was there before the
/// folder was joined, or comes from a commit that was interrupted before it was noted. Until the first full scan
/// of a folder is over, what nobody knows follows the deletion of its equal; later it is a file that a user brought back.
fn adopt(
    index: &mut dyn Index,
    author: &Author<'_>,
    path: &RelPath,
    record: &mut PathRecord,
    seen: &Seen,
) -> Result<bool> {
    if record.heads.is_empty() {
        return Ok(false);
    }
    let below = seen.what == What::Dir && reconcile::lives_below(&*index, path)?;
    // Where the content is as before, mode and time must be the version's too: else a user changed them.
    let was_here = record.disk.as_ref().is_some_and(|disk| disk.what == seen.what);
    let before = attributes::before(&*index, path, record, &VersionVector::default(), author.writer.node)?;
    let is_new = |entry: &Entry| {
        let timed = entry.what != What::Dir;
        let exact = (entry.mode == seen.info.mode) && (!timed || entry.mtime == seen.info.mtime);
        let ours = attributes::may_be(record, seen, entry, &before);
        entry.what == seen.what && (!was_here || exact) && ours
    };
    let version = match conflict::view(record, below).main {
        Main::Head(head) if is_new(&head.salted.entry) => head.version().clone(),
        Main::ImpliedDir if seen.what == What::Dir && !was_here => VersionVector::default(),
        Main::Nothing
            if record.disk.is_none() && is_deleted(record, &seen.what) && index.note(SCANNED_NOTE)?.is_none() =>
        {
            joined(record.heads.iter())
        }
        _ => return Ok(false),
    };
    record.disk = Some(seen.clone().of_version(version));
    record.local_only = false;
    index.put_path(path, record)?;
    reconcile::mark(index, path)?;
    Ok(true)
}

/// What a commit that was interrupted put there before it could be noted may be superseded, or a loser, by the time it
/// is looked at: it is that version, nobody's edit. It can only be one that this node's user never had before their eyes: newer
/// than what was noted last or, where nothing was, neither made nor deleted here.
fn outdated(
    index: &mut dyn Index,
    author: &Author<'_>,
    path: &RelPath,
    record: &mut PathRecord,
    seen: &Seen,
) -> Result<bool> {
    if !record.is_live() {
        return Ok(false);
    }
    let mut kept = index.kept(path)?;
    kept.extend(record.heads.iter().cloned());
    let precedes = |old: &VersionVector, new: &VersionVector| old.compare(new) == Causality::Before;
    let own = |head: &Head| head.id.writer.node == author.writer.node;
    let is_new = |old: &Head| match &record.disk {
        Some(known) => precedes(&known.version, old.version()),
        None => !kept.iter().any(|head| own(head) && head.version().covers(old.version())),
    };
    let before = attributes::before(&*index, path, record, &VersionVector::default(), author.writer.node)?;
    let is_there = |entry: &Entry| {
        let exact = entry.mode == seen.info.mode || seen.info.kind == Kind::Symlink;
        let timed = entry.what == What::Dir || entry.mtime == seen.info.mtime;
        entry.what == seen.what && exact && timed && attributes::may_be(record, seen, entry, &before)
    };
    let placed = kept.iter().find(|old| is_there(&old.salted.entry) && is_new(old));
    let Some(version) = placed.map(|old| old.version().clone()) else { return Ok(false) };
    record.disk = Some(seen.clone().of_version(version));
    record.local_only = false;
    index.put_path(path, record)?;
    reconcile::mark(index, path)?;
    Ok(true)
}

/// Whether another version is to have the name, one that has seen what was under it or beside which that lies already:
/// then a commit took it away.
fn is_outdated(index: &dyn Index, path: &RelPath, record: &PathRecord, known: &OnDisk) -> Result<bool> {
    let below = reconcile::lives_below(index, path)?;
    let newer = |head: &Head| head.is_live() && known.version.compare(head.version()) == Causality::Before;
    match conflict::view(record, below).main {
        Main::Nothing => Ok(false),
        Main::Head(head) if *head.what() == known.what => Ok(false),
        // Superseded by the one that is to have the name, or by one that lost to that meanwhile.
        Main::Head(_) if record.heads.iter().any(newer) => Ok(true),
        Main::Head(_) | Main::ImpliedDir => Ok(lies_beside(index, path, record, &known.what)? == Some(true)),
    }
}

/// Whether what was under the name is a version that still counts and does not lie beside it: then no commit replaced
/// it, since that would have put it beside first, but a user did.
fn is_last(index: &dyn Index, path: &RelPath, record: &PathRecord, seen: &Seen) -> Result<bool> {
    let Some(disk) = record.disk.as_ref().filter(|disk| disk.what != seen.what) else { return Ok(false) };
    Ok(lies_beside(index, path, record, &disk.what)? == Some(false))
}

/// Whether a version that counts lies beside its name; `None`: there is none.
fn lies_beside(index: &dyn Index, path: &RelPath, record: &PathRecord, what: &What) -> Result<Option<bool>> {
    let shows = |head: &&Head| head.what() == what && !conflict::is_passed_over(record, head);
    let Some(head) = record.heads.iter().find(shows) else { return Ok(None) };
    let Some(copy) = reconcile::copy_name(index, path, head)? else { return Ok(None) };
    let beside = index.path(&copy)?.and_then(|copy| copy.disk);
    Ok(Some(beside.is_some_and(|beside| beside.what == *what)))
}

fn is_deleted(record: &PathRecord, what: &What) -> bool {
    let content = what.content();
    content.is_some()
        && record.heads.iter().any(|head| matches!(head.what(), What::Tombstone { deleted } if *deleted == content))
}

fn stay_local(index: &mut dyn Index, path: &RelPath, mut record: PathRecord, seen: Option<Seen>) -> Result<()> {
    let version = record.disk.take().map(|disk| disk.version).unwrap_or_default();
    record.disk = seen.map(|seen| seen.of_version(version));
    record.local_only = true;
    index.put_path(path, &record)
}

/// A user touched a conflict copy: that settles the conflict in favour of what has the name. A changed copy lives
/// on as a file of its own. A copy of what is under the name is only forgotten: a commit that was
/// interrupted before it was noted may have removed it, or the name is about to go to another.
fn settle(
    index: &mut dyn Index,
    may: bool,
    (path, mut record): (RelPath, PathRecord),
    (owner, loser): (RelPath, EntryId),
    seen: Option<Seen>,
    drafts: &mut Vec<Draft>,
    settled: &mut Settled,
) -> Result<()> {
    let mut owning = index.path(&owner)?.unwrap_or_default();
    let named = owning.disk.as_ref().map(|disk| disk.what.clone());
    let lost = owning.head(loser).map(|head| head.what().clone()).filter(|lost| named.as_ref() != Some(lost));
    if !may && (lost.is_some() || seen.is_some()) {
        return stay_local(index, &path, record, seen);
    }
    let says = seen.as_ref().and_then(|seen| {
        let change = attributes::Change {
            known: record.disk.as_ref().map(|disk| &disk.attributes),
            seen: &seen.attributes,
            own: false,
        };
        Some(attributes::announced(Said::of(&owning.head(loser)?.salted.entry), change))
    });
    record.copy_of = None;
    record.disk = None;
    index.put_path(&path, &record)?;
    owning.copies.retain(|name| *name != path);
    index.put_path(&owner, &owning)?;
    if let Some(seen) = seen {
        let says = says.filter(|_| matches!(seen.what, What::File { .. }));
        drafts.push(Draft { says, ..draft_of(path, seen, None, VersionVector::default()) });
    }
    let Some(lost) = lost else { return reconcile::mark(index, &owner) };
    // Equal losers go together: only one of them lies on the disk. One that is about to get the name goes alone.
    let below = reconcile::lives_below(&*index, &owner)?;
    let is_next = matches!(conflict::view(&owning, below).main, Main::Head(head) if *head.what() == lost);
    let is_meant = |head: &&Head| *head.what() == lost && (!is_next || head.id == loser);
    let twins = joined(owning.heads.iter().filter(is_meant));
    settled.entry(owner).or_insert_with(|| (lost, VersionVector::default())).1.join(&twins);
    Ok(())
}

/// What became of a batch that a peer sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Received {
    /// Taken; these paths have new heads.
    Taken(Vec<RelPath>),
    /// Nothing new in it.
    Known,
    /// It has seen entries, or follows a batch, that did not arrive yet: offer it again after they did.
    Early,
    /// Its writer signed another batch with the same numbers.
    Forked,
}

/// The peer that sent a batch broke the protocol. Nothing of the batch was taken.
#[derive(Debug, thiserror::Error)]
pub enum Reject {
    /// The batch is about another folder or mesh.
    #[error("the batch belongs to another folder")]
    OtherFolder,
    /// An entry is not the one that the header signs.
    #[error("entry {0} is not the one that its batch signs")]
    NotSigned(usize),
    /// Neither the entry nor a reason for its absence was sent.
    #[error("entry {0} is missing without a reason")]
    Unexplained(usize),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] super::index::IndexError),
}

/// Takes a batch into the index. `verdicts` knows all statements that the batch names.
pub fn receive(
    index: &mut dyn Index,
    (mesh, folder): (MeshId, FolderId),
    verdicts: &dyn Verdicts,
    batch: &Batch,
    entries: Vec<(usize, Salted)>,
    holes: &[Hole],
) -> std::result::Result<Received, Reject> {
    let header = batch.header();
    if (header.mesh, header.folder) != (mesh, folder) {
        return Err(Reject::OtherFolder);
    }
    if let Some((at, _)) = entries.iter().find(|(at, salted)| !batch.holds(*at, salted)) {
        return Err(Reject::NotSigned(*at));
    }
    let writer = header.writer;
    let frontier = index.frontier(writer)?;
    let reached = frontier.map_or(0, |f| f.seq);
    let fills = header.last() <= reached;
    if fills {
        let id = EntryId { writer, seq: header.first };
        let stored = index.batch_of(id)?.map(|(_, stored)| stored.hash());
        if stored != Some(batch.hash()) {
            return Ok(Received::Forked);
        }
    } else if header.first != reached + 1 {
        return Ok(if header.first <= reached { Received::Forked } else { Received::Early });
    } else if header.previous != frontier.map(|f| f.batch) {
        return Ok(Received::Forked);
    }
    for (at, salted) in &entries {
        if has_seen_more(index, verdicts, (writer, header.first + *at as u64), &salted.entry.version)? {
            return Ok(Received::Early);
        }
    }
    let mut explained = vec![fills; header.entries.len()];
    entries.iter().for_each(|(at, _)| explained[*at] = true);
    for hole in holes {
        if let Some(slot) = explained.get_mut(usize::from(hole.index)) {
            *slot = true;
        }
    }
    if let Some(at) = explained.iter().position(|known| !known) {
        return Err(Reject::Unexplained(at));
    }
    if !fills {
        index.put_batch(batch)?;
        for hole in holes {
            let id = EntryId { writer, seq: header.first + u64::from(hole.index) };
            // What does not count here supersedes nothing here.
            let reason = match hole.reason {
                HoleReason::Superseded(writer, seq) if index.void(EntryId { writer, seq })?.is_some() => {
                    HoleReason::Missing
                }
                reason => reason,
            };
            index.put_hole(id, Some(reason))?;
        }
    }
    let mut void = BTreeSet::new();
    let mut changed = Vec::new();
    for (at, salted) in entries {
        let id = EntryId { writer, seq: header.first + at as u64 };
        if fills && index.hole(id)?.is_none() {
            continue;
        }
        index.put_hole(id, None)?;
        let path = salted.entry.path.clone();
        if !verdicts.counts(header, id.seq, &path, &*index)? {
            index.put_void(id, Some(&salted))?;
            void.insert(id);
            continue;
        }
        index.put_entry_path(id, &path)?;
        if rejudge::add(index, &path, Head { id, salted })? {
            reconcile::mark(index, &path)?;
            changed.push(path);
        }
    }
    rejudge::reopen(index, &void)?;
    if changed.is_empty() && fills { Ok(Received::Known) } else { Ok(Received::Taken(changed)) }
}

/// Whether a version names entries that did not arrive yet; the writer's own earlier ones did. What is above a fork
/// may never arrive: only one of the histories is taken anywhere, and neither counts.
fn has_seen_more(
    index: &dyn Index,
    verdicts: &dyn Verdicts,
    (own, number): (Writer, u64),
    version: &VersionVector,
) -> Result<bool> {
    debug_assert!(version.components().len() <= VERSION_MAX);
    for (writer, seen) in version.components() {
        let arrived = if *writer == own { number } else { index.frontier(*writer)?.map_or(0, |f| f.seq) };
        let common = verdicts.common(*writer).unwrap_or(u64::MAX);
        if (*seen).min(common) > arrived {
            return Ok(true);
        }
    }
    Ok(false)
}
