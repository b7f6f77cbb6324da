//! Judging entries: whether what one node wrote counts, under all statements that are known.
//!
//! Three questions, each answered by signed data alone:
//! 1. could its author write there, by what its batch names and its ancestors? What a removal makes void counts for
//!    nobody, also where the author could not know of the removal;
//! 2. *freezes*: does a lowering statement that the author did not name leave it the right, or does that statement's
//!    issuer say that it knew the entry already? Each statement is asked on its own, so that a later grant does not
//!    bring late work back;
//! 3. is it above a fork, or above the seal of the expired grant that it rests on?
//!
//! Page: `docs/spec/freezes.md`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::evaluate::{Evaluation, MissingStatements, lowers};
use super::membership::Standing;
use super::permit::needed;
use super::rules::Who;
use super::set::{Clock, Slot, StatementSet};
use super::state::Rule;
use super::timeline::Timeline;
use crate::base::{BatchHash, FolderId, GroupId, Level, NodeId, RelPath, StatementId, Writer};
use crate::wire::statement::{Body, FolderFrontier, Range, Subject};

/// How long after the end of a grant its seal may be signed: until then a late batch may still come in. A day: a
/// machine that was off overnight.
pub const SEAL_AFTER_MS: u64 = 24 * 60 * 60 * 1000;

/// What an entry says of itself that decides whether it counts.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Whose log.
    pub writer: Writer,
    /// Its number.
    pub seq: u64,
    /// Its path.
    pub path: &'a RelPath,
    /// The signed time of its batch, milliseconds.
    pub at_ms: u64,
}

/// Why an entry does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoidEntry {
    /// A statement of a later version stops the folder or the mesh on this node.
    #[error("statement {} needs a newer version of lanyard", &.0.to_hex()[..8])]
    Stopped(StatementId),
    /// Its author could not write there by what it knew, less what a removal made void.
    #[error("{} could not write there when it signed this", .0.short())]
    NotPermitted(NodeId),
    /// A statement that its author had not seen takes the right, and its issuer did not know the entry.
    #[error("above the freeze of statement {}", &.0.to_hex()[..8])]
    Frozen(StatementId),
    /// It rests on a grant that has ended and was sealed, and the seal does not know it.
    #[error("above the seal of grant {}", &.0.to_hex()[..8])]
    Sealed(StatementId),
    /// Its writer signed two histories; this is above the last number that both share.
    #[error("its writer signed two histories, which statement {} proves", &.0.to_hex()[..8])]
    Forked(StatementId),
    /// It belongs to a burst of changes that was rejected.
    #[error("rejected by statement {}", &.0.to_hex()[..8])]
    Rejected(StatementId),
    /// Its author knew that its node had signed two histories, and nobody has let it go on.
    #[error("its node signed two histories and was not reinstated, see statement {}", &.0.to_hex()[..8])]
    Suspended(StatementId),
}

/// The batch that holds a number in a log as it is known here: its last number and its hash.
pub type Holds = Option<(u64, BatchHash)>;

/// Judges entries under one set of statements.
pub struct Judge {
    it: Evaluation<Arc<StatementSet>>,
    freezes: Vec<Freeze>,
    /// What issuers knew when they lowered: of one statement, or of several equal ones in a row.
    runs: Vec<Known>,
    /// What seals say, by the sealed statement.
    seals: BTreeMap<StatementId, Vec<(Slot, Known)>>,
    /// Grants with an end that were sealed after it.
    ended: Vec<(Slot, FolderId)>,
    /// Folders in which somebody who is no admin signed rules.
    delegated: BTreeSet<FolderId>,
}

/// An effective statement that can lower a level.
struct Freeze {
    slot: Slot,
    run: usize,
}

/// How far logs reached, as an issuer knew them.
#[derive(Clone, Debug, Default)]
struct Known {
    frontiers: BTreeMap<(FolderId, Writer), Vec<(u64, BatchHash)>>,
    folders: BTreeSet<FolderId>,
}

impl Known {
    fn add(&mut self, known: &FolderFrontier) {
        self.folders.insert(known.folder);
        let at = self.frontiers.entry((known.folder, known.frontier.writer)).or_default();
        at.push((known.frontier.seq, known.frontier.batch));
    }
}

/// What an author knew, of one folder.
pub struct View {
    folder: FolderId,
    closure: Clock,
    contested: BTreeSet<Slot>,
    /// Whether a point of a log is on the branch that is known here; each is looked up once.
    pinned: RefCell<BTreeMap<(Writer, u64, BatchHash), bool>>,
}

impl Judge {
    /// Prepares for one set.
    pub fn new(set: Arc<StatementSet>) -> Self {
        let it = Evaluation::prepare(set, None);
        let mut judge = Self {
            freezes: Vec::new(),
            runs: Vec::new(),
            seals: BTreeMap::new(),
            ended: Vec::new(),
            delegated: it.delegated.iter().map(|(_, folder)| *folder).collect(),
            it,
        };
        judge.gather_freezes();
        judge.gather_seals();
        judge
    }

    /// The statements it judges under.
    pub fn set(&self) -> &StatementSet {
        &self.it.set
    }

    fn gather_freezes(&mut self) {
        let set = self.it.set.clone();
        let mut run_of: BTreeMap<Slot, usize> = BTreeMap::new();
        for slot in set.ordered_slots().filter(|slot| lowers(set.statement(*slot).body())) {
            let statement = set.statement(slot);
            // A freeze that is too wide for one statement is continued by equal ones, void or not.
            let before = set.previous_in_lane(slot).filter(|before| set.statement(*before).body() == statement.body());
            let run = before.and_then(|before| run_of.get(&before).copied()).unwrap_or_else(|| {
                self.runs.push(Known::default());
                self.runs.len() - 1
            });
            run_of.insert(slot, run);
            statement.head().frontiers.iter().for_each(|known| self.runs[run].add(known));
            if !self.it.void.contains_key(&statement.id()) {
                self.freezes.push(Freeze { slot, run });
            }
        }
    }

    fn gather_seals(&mut self) {
        let set = self.it.set.clone();
        for (sealed, seals) in &self.it.seals {
            let Some(target) = set.slot(sealed) else { continue };
            for (slot, is_admin) in seals {
                let head = set.statement(*slot).head();
                let mut known = Known::default();
                let may = |folder: FolderId| *is_admin || self.it.manages_root(*slot, head.issuer, folder);
                head.frontiers.iter().filter(|f| may(f.folder)).for_each(|f| known.add(f));
                if let Body::Grant(grant) = set.statement(target).body()
                    && grant.not_after.is_some_and(|end| head.time.ms >= end.saturating_add(SEAL_AFTER_MS))
                    && known.folders.contains(&grant.folder)
                    && !self.ended.contains(&(target, grant.folder))
                {
                    self.ended.push((target, grant.folder));
                }
                self.seals.entry(*sealed).or_default().push((*slot, known));
            }
        }
    }

    /// What somebody knew of a folder who knew `heads` and their ancestors.
    pub fn view(&self, folder: FolderId, heads: &[StatementId]) -> Result<View, MissingStatements> {
        let set = self.set();
        let missing: Vec<StatementId> = heads.iter().filter(|id| !set.contains(id)).copied().collect();
        if !missing.is_empty() {
            return Err(MissingStatements(missing));
        }
        let mut closure = Clock::default();
        heads.iter().filter_map(|id| set.slot(id)).for_each(|slot| set.close_over(&mut closure, slot));
        let contested = self.contested(folder, &closure, None);
        Ok(View { folder, closure, contested, pinned: RefCell::default() })
    }

    /// Whether an entry of `view`'s folder counts. `holds`: the batch that holds a number in a log as it is known here.
    pub fn judge<E>(
        &self,
        view: &View,
        entry: &Written<'_>,
        holds: impl Fn(Writer, u64) -> Result<Holds, E>,
    ) -> Result<Result<(), VoidEntry>, E> {
        let folder = view.folder;
        if let Some(stopped) = self.stopped(folder) {
            return Ok(Err(VoidEntry::Stopped(stopped)));
        }
        if let Some(fork) = self.above_fork(folder, entry) {
            return Ok(Err(VoidEntry::Forked(fork)));
        }
        if self.is_vouched(folder, entry, &holds)? {
            return Ok(Ok(()));
        }
        if let Some(verdict) = self.rejected(folder, entry, &holds)? {
            return Ok(Err(VoidEntry::Rejected(verdict)));
        }
        if let Some(fork) = self.suspended(view, entry.writer) {
            return Ok(Err(VoidEntry::Suspended(fork)));
        }
        if !self.may_write(view, entry, None, None) {
            return Ok(Err(VoidEntry::NotPermitted(entry.writer.node)));
        }
        for freeze in &self.freezes {
            let seen = self.set().is_within(&view.closure, freeze.slot);
            if seen || !self.may_concern(freeze.slot, folder, entry) || self.knew(freeze, view, entry, &holds)? {
                continue;
            }
            if !self.may_write(view, entry, Some(freeze.slot), None) {
                return Ok(Err(VoidEntry::Frozen(self.set().statement(freeze.slot).id())));
            }
        }
        for (grant, of) in &self.ended {
            let id = self.set().statement(*grant).id();
            let rests = *of == folder && !self.may_write(view, entry, None, Some(*grant));
            if rests && !self.is_below_seal(&id, view, entry, &holds)? {
                return Ok(Err(VoidEntry::Sealed(id)));
            }
        }
        Ok(Ok(()))
    }

    /// A number that changes whenever the verdict on any entry of a folder may.
    pub fn digest(&self, folder: FolderId) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("lanyard 1 judgement digest");
        for statement in self.set().in_order() {
            let id = statement.id();
            let is_void = self.it.void.contains_key(&id);
            let concerns = match statement.body() {
                Body::Grant(body) => body.folder == folder,
                Body::Revoke(body) => body.folder == folder,
                Body::RetireFolder(body) => body.folder == folder,
                Body::Vouch(body) => body.folder == folder,
                Body::Verdict(body) => body.folder == folder,
                Body::Fork(body) => body.folder == folder,
                Body::Reinstate(body) => body.folder == folder,
                Body::Expel(_) | Body::Group(_) | Body::Seal(_) => true,
                _ => false,
            };
            if is_void || concerns {
                hasher.update(&[u8::from(is_void)]);
                hasher.update(&id.0);
            }
        }
        hasher.update(&self.stopped(folder).map_or([0; 32], |id| id.0));
        *hasher.finalize().as_bytes()
    }

    /// The statement of a kind that this version does not know and because of which nothing is judged.
    pub fn stopped(&self, folder: FolderId) -> Option<StatementId> {
        self.it.stopped.get(&None).or_else(|| self.it.stopped.get(&Some(folder))).copied()
    }

    /// The statement that proves a fork of this log, and the last number that counts.
    pub fn forked(&self, folder: FolderId, writer: Writer) -> Option<(StatementId, u64)> {
        let forks = self.it.forks.get(&folder)?.iter().filter(|(_, of, _)| *of == writer);
        forks.min_by_key(|(_, _, common)| *common).map(|(slot, _, common)| (self.set().statement(*slot).id(), *common))
    }

    /// Logs of a folder that forked and whose nodes nobody has let go on since.
    pub fn not_reinstated(&self, folder: FolderId) -> BTreeSet<Writer> {
        let forks = self.it.forks.get(&folder).map(Vec::as_slice).unwrap_or_default();
        let logs = forks.iter().map(|(_, of, _)| *of);
        logs.filter(|of| !self.is_reinstated(folder, *of, &|_| true)).collect()
    }

    /// Whether somebody who may let the node of a forked log go on. A proof that comes after that, of whom the first one
    /// had not reached yet or who means harm, says nothing new: the log was over already.
    fn is_reinstated(&self, folder: FolderId, log: Writer, seen: &dyn Fn(Slot) -> bool) -> bool {
        let proofs = || self.it.forks.get(&folder).into_iter().flatten().filter(|(_, of, _)| *of == log);
        let knew_one = |slot: Slot| proofs().any(|(proof, _, _)| self.set().before(*proof, slot));
        let reinstated = self.it.reinstated.get(&folder).into_iter().flatten();
        reinstated.into_iter().any(|(slot, of)| *of == log && seen(*slot) && knew_one(*slot))
    }

    /// Whether what this log says next can count, as far as forks go: it has none, and its node was reinstated after
    /// every one it had.
    pub fn may_go_on(&self, folder: FolderId, writer: Writer) -> bool {
        self.forked(folder, writer).is_none()
            && self.view(folder, &self.set().heads()).is_ok_and(|view| self.suspended(&view, writer).is_none())
    }

    /// Nodes that a statement keeps from writing somewhere where they could before, by what its issuer knew.
    fn lowered(&self, slot: Slot, folder: FolderId, nodes: &BTreeSet<NodeId>) -> bool {
        let set = self.set();
        let Some(draft) = self.it.folders.get(&folder).filter(|draft| set.before(draft.created, slot)) else {
            return false;
        };
        let mut closure = Clock::default();
        set.statement(slot).head().parents.iter().filter_map(|id| set.slot(id)).for_each(|parent| {
            set.close_over(&mut closure, parent);
        });
        let contested = self.contested(folder, &closure, None);
        let view = View { folder, closure, contested, pinned: RefCell::default() };
        let at_ms = set.statement(slot).head().time.ms;
        let mut paths: BTreeSet<RelPath> = draft.shelf.paths().cloned().collect();
        paths.insert(RelPath::root());
        nodes.iter().any(|node| {
            paths.iter().any(|path| {
                let writer = Writer { node: *node, incarnation: 0 };
                let entry = Written { writer, seq: 1, path, at_ms };
                self.may_write(&view, &entry, None, None) && !self.may_write(&view, &entry, Some(slot), None)
            })
        })
    }

    /// What `me` should seal now: statements that leave a folder open which `known` says is held here, and grants
    /// whose end is a day ago. Each with the frontiers to sign it with.
    pub fn seals_due(
        &self,
        me: NodeId,
        now_ms: u64,
        known: &[FolderFrontier],
    ) -> Vec<(StatementId, Vec<FolderFrontier>)> {
        if self.it.membership.standing(me) != Standing::Admin {
            return Vec::new();
        }
        let folders: BTreeSet<FolderId> = known.iter().map(|f| f.folder).collect();
        let mut due = Vec::new();
        for freeze in &self.freezes {
            let statement = self.set().statement(freeze.slot);
            let id = statement.id();
            let seals = self.seals.get(&id).into_iter().flatten();
            let sealed: BTreeSet<FolderId> = seals.flat_map(|(_, known)| &known.folders).copied().collect();
            let mut open: BTreeSet<FolderId> = BTreeSet::new();
            for folder in &folders {
                let is_named = self.runs[freeze.run].folders.contains(folder) || sealed.contains(folder);
                let writers = known.iter().filter(|f| f.folder == *folder).map(|f| f.frontier.writer.node);
                let mut nodes: BTreeSet<NodeId> = writers.filter(|node| *node != NodeId([0; 32])).collect();
                if let Body::Expel(expel) = statement.body() {
                    nodes.insert(expel.node);
                }
                if !is_named && self.lowered(freeze.slot, *folder, &nodes) {
                    open.insert(*folder);
                }
            }
            if let Body::Grant(grant) = statement.body()
                && grant.not_after.is_some_and(|end| end.saturating_add(SEAL_AFTER_MS) <= now_ms)
                && grant.level >= Level::Write
                && folders.contains(&grant.folder)
                && !self.ended.contains(&(freeze.slot, grant.folder))
            {
                open.insert(grant.folder);
            }
            if !open.is_empty() {
                due.push((id, known.iter().filter(|f| open.contains(&f.folder)).copied().collect()));
            }
        }
        due
    }

    fn above_fork(&self, folder: FolderId, entry: &Written<'_>) -> Option<StatementId> {
        let (fork, common) = self.forked(folder, entry.writer)?;
        (entry.seq > common).then_some(fork)
    }

    fn suspended(&self, view: &View, writer: Writer) -> Option<StatementId> {
        let seen = |slot: Slot| self.set().is_within(&view.closure, slot);
        let forks = self.it.forks.get(&view.folder)?;
        let open = forks.iter().find(|(fork, of, _)| {
            of.node == writer.node && *of != writer && seen(*fork) && !self.is_reinstated(view.folder, *of, &seen)
        });
        open.map(|(fork, _, _)| self.set().statement(*fork).id())
    }

    fn is_vouched<E>(
        &self,
        folder: FolderId,
        entry: &Written<'_>,
        holds: &impl Fn(Writer, u64) -> Result<Holds, E>,
    ) -> Result<bool, E> {
        for range in self.it.vouches.get(&folder).into_iter().flatten() {
            if range.writer == entry.writer && (range.first..=range.last).contains(&entry.seq) {
                let held = holds(range.writer, range.last)?;
                if held.is_some_and(|(_, hash)| hash == range.batch) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The verdict that rejects an entry: one that nobody has released who knew of it.
    fn rejected<E>(
        &self,
        folder: FolderId,
        entry: &Written<'_>,
        holds: &impl Fn(Writer, u64) -> Result<Holds, E>,
    ) -> Result<Option<StatementId>, E> {
        let verdicts = self.it.verdicts.get(&folder).map(Vec::as_slice).unwrap_or_default();
        let about = |range: &Range| range.writer == entry.writer && (range.first..=range.last).contains(&entry.seq);
        for (slot, range, _) in verdicts.iter().filter(|(_, range, release)| !release && about(range)) {
            let taken_back = verdicts
                .iter()
                .any(|(later, range, release)| *release && about(range) && self.set().before(*slot, *later));
            // A log that does not reach that far yet shows no other history.
            let meant = holds(range.writer, range.last)?.is_none_or(|(_, hash)| hash == range.batch);
            if !taken_back && meant {
                return Ok(Some(self.set().statement(*slot).id()));
            }
        }
        Ok(None)
    }

    /// Whether somebody has released a change that the mass-change guard may hold.
    pub fn is_released(&self, folder: FolderId, writer: Writer, seq: u64) -> bool {
        self.it
            .verdicts
            .get(&folder)
            .into_iter()
            .flatten()
            .any(|(_, range, release)| *release && range.writer == writer && (range.first..=range.last).contains(&seq))
    }

    /// How far verdicts of either kind reach in a log; what comes later was not decided about.
    pub fn decided_to(&self, folder: FolderId, writer: Writer) -> Option<u64> {
        let verdicts = self.it.verdicts.get(&folder).into_iter().flatten();
        verdicts.filter(|(_, range, _)| range.writer == writer).map(|(_, range, _)| range.last).max()
    }

    /// Whether the issuer of a lowering statement, or who sealed it, knew an entry; or nobody has said yet what was
    /// known of its folder.
    fn knew<E>(
        &self,
        freeze: &Freeze,
        view: &View,
        entry: &Written<'_>,
        holds: &impl Fn(Writer, u64) -> Result<Holds, E>,
    ) -> Result<bool, E> {
        let run = &self.runs[freeze.run];
        if run.folders.contains(&view.folder) {
            return self.is_below(run, view, entry, holds);
        }
        self.is_below_seal(&self.set().statement(freeze.slot).id(), view, entry, holds)
    }

    /// Whether any seal of a statement that is about this folder knew the entry; `true` where there is none.
    fn is_below_seal<E>(
        &self,
        sealed: &StatementId,
        view: &View,
        entry: &Written<'_>,
        holds: &impl Fn(Writer, u64) -> Result<Holds, E>,
    ) -> Result<bool, E> {
        let mut any = false;
        for (_, known) in self.seals.get(sealed).into_iter().flatten() {
            if known.folders.contains(&view.folder) {
                any = true;
                if self.is_below(known, view, entry, holds)? {
                    return Ok(true);
                }
            }
        }
        Ok(!any)
    }

    fn is_below<E>(
        &self,
        known: &Known,
        view: &View,
        entry: &Written<'_>,
        holds: &impl Fn(Writer, u64) -> Result<Holds, E>,
    ) -> Result<bool, E> {
        for (seq, batch) in known.frontiers.get(&(view.folder, entry.writer)).into_iter().flatten() {
            if entry.seq > *seq {
                continue;
            }
            // What both histories share is on either branch.
            if self.forked(view.folder, entry.writer).is_some_and(|(_, common)| entry.seq <= common) {
                return Ok(true);
            }
            let key = (entry.writer, *seq, *batch);
            let pinned = view.pinned.borrow().get(&key).copied();
            let pinned = match pinned {
                Some(pinned) => pinned,
                None => {
                    // A log that does not reach that far yet shows no other branch.
                    let pinned = holds(entry.writer, *seq)?.is_none_or(|held| held == (*seq, *batch));
                    view.pinned.borrow_mut().insert(key, pinned);
                    pinned
                }
            };
            if pinned {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a lowering statement could matter to an entry at all. `true` only costs time.
    fn may_concern(&self, slot: Slot, folder: FolderId, entry: &Written<'_>) -> bool {
        let node = entry.writer.node;
        let (of, subject) = match self.set().statement(slot).body() {
            Body::Expel(expel) => return expel.node == node,
            Body::RetireFolder(retire) => return retire.folder == folder,
            // Who loses a group may lose what it handed on with it.
            Body::Group(_) => return true,
            Body::Grant(grant) => (grant.folder, grant.subject),
            Body::Revoke(revoke) => (revoke.folder, revoke.subject),
            _ => return false,
        };
        of == folder
            && (self.delegated.contains(&folder)
                || match subject {
                    Subject::Everyone | Subject::Group(_) => true,
                    Subject::Node(subject) => subject == node,
                })
    }

    fn contested(&self, folder: FolderId, closure: &Clock, extra: Option<Slot>) -> BTreeSet<Slot> {
        if !self.delegated.contains(&folder) {
            return BTreeSet::new();
        }
        self.it.contested(&|slot| extra == Some(slot) || self.set().is_within(closure, slot))
    }

    /// Whether an entry's author may write its path by what the view shows, `extra` with it, `without` as if it had
    /// ended.
    fn may_write(&self, view: &View, entry: &Written<'_>, extra: Option<Slot>, without: Option<Slot>) -> bool {
        let set = self.set();
        let node = entry.writer.node;
        let visible = |slot: Slot| extra == Some(slot) || set.is_within(&view.closure, slot);
        let Some(draft) = self.it.folders.get(&view.folder).filter(|draft| visible(draft.created)) else {
            return false;
        };
        if draft.retired.iter().any(|slot| visible(*slot))
            || self.it.membership.standing_in(node, &visible) == Standing::Out
        {
            return false;
        }
        let anew = extra.map(|extra| self.contested(view.folder, &view.closure, Some(extra)));
        let contested = anew.as_ref().unwrap_or(&view.contested);
        let words = |words: &Timeline<Rule>, each: &mut dyn FnMut(&Rule, bool)| {
            let in_force = words.in_force(set, |slot, _| visible(slot), |slot| contested.contains(&slot));
            for (slot, rule) in in_force.into_iter().filter(|(slot, _)| without != Some(*slot)) {
                each(rule, contested.contains(&slot));
            }
        };
        let level = |or_disputed: bool| {
            let in_group = |group: GroupId| {
                self.it.groups.get(&group).is_some_and(|versions| {
                    let newest = versions.in_force(set, |slot, _| visible(slot), |_| false);
                    let mut holds = newest.iter().map(|(_, (_, members))| members.contains(&node));
                    !newest.is_empty() && if or_disputed { holds.any(|held| held) } else { holds.all(|held| held) }
                })
            };
            draft.shelf.held(words, &Who { node, in_group: &in_group }, entry.path, entry.at_ms).level
        };
        let needed = needed(entry.path, Level::Write);
        level(false) >= needed && (self.it.groups.is_empty() || level(true) >= needed)
    }
}
