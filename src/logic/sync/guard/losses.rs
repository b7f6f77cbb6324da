//! What the guard is asked about: which changes take a content away from this disk, how much each weighs, which are let
//! through, and what a verdict lets go of.
//!
//! Rules:
//! 1. what is held leaves the list of names that differ, in the transaction that remembers the burst; a verdict puts it
//!    back before the burst is forgotten. So whatever a death cuts off, each held change is remembered or marked;
//! 2. what was let through counts after a death, too: see `Asked::counted`.

use std::collections::BTreeSet;

use super::{Burst, CHANGE, Guard, HARM, Limits, Loss, WITH_DIRECTORY, Watched, made_at, name_key};
use crate::base::{NodeId, RelPath, Writer};
use crate::logic::sync::index::{EntryId, Head, Index, Look, PathRecord, Result, Walk};
use crate::logic::sync::reconcile::{self, Action, Target};
use crate::wire::batch::What;

/// Other names of a content that are looked at before it counts as lost.
const PLACES_MAX: usize = 8;
/// Entries that are looked at between two reads of the index.
const PAGE: usize = 1024;

/// What signed verdicts say of changes.
pub trait Decisions {
    /// Whether somebody has released this change.
    fn is_released(&self, id: EntryId) -> bool;

    /// How far verdicts of either kind reach in a log.
    fn decided_to(&self, log: Writer) -> Option<u64>;
}

/// What the guard has to know besides the index.
pub struct Asking<'a> {
    /// This node: what its user did on this disk is held nowhere here.
    pub own: NodeId,
    /// What was decided already.
    pub decisions: &'a dyn Decisions,
    /// Whether the file of this action, which was not random, becomes so.
    pub becomes_random: &'a dyn Fn(usize) -> bool,
}

/// What the guard said to some actions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// Which of them have to wait, by their place.
    pub held: BTreeSet<usize>,
    /// How many were let through and take something away. Several must be durable as such before they are carried
    /// out: a death after that would let through as many again. One more a death is borne, for the sake of speed.
    pub counted: usize,
    /// Nodes of which nothing was held before.
    pub begun: Vec<NodeId>,
}

impl Asked {
    /// Whether what was remembered must be on the disk before the actions are carried out.
    pub fn must_last(&self) -> bool {
        self.counted > 1
    }
}

/// A held burst, as people are told of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Deletions that wait.
    pub deletions: u64,
    /// Replacements that wait.
    pub replacements: u64,
    /// Some of the names.
    pub paths: Vec<RelPath>,
    /// More is held than was looked at.
    pub is_cut: bool,
}

/// Takes up what the guard of a folder remembered.
pub fn recall(look: &(impl Look + ?Sized), limits: Limits) -> Result<Guard> {
    let mut guard = Guard::new(limits);
    let nodes: BTreeSet<NodeId> = look.frontiers()?.into_iter().map(|frontier| frontier.writer.node).collect();
    for node in nodes {
        // What cannot be read was written by another version: the guard then begins anew.
        let known = look.note(&note_of(node))?.and_then(|bytes| postcard::from_bytes::<Watched>(&bytes).ok());
        if let Some(watched) = known {
            guard.recall(node, watched);
        }
    }
    Ok(guard)
}

fn note_of(node: NodeId) -> String {
    format!("guard/{}", node.to_hex())
}

fn remember(index: &mut dyn Index, guard: &Guard, node: NodeId) -> Result<()> {
    let Some(watched) = guard.memory_of(node) else { return Ok(()) };
    index.put_note(&note_of(node), &postcard::to_allocvec(watched).expect("plain values"))
}

/// Whether the guard has a word in an action.
pub fn takes_away(action: &Action) -> bool {
    action.copy_of.is_none() && action.expected.is_some() && !matches!(action.target, Target::Meta { .. })
}

/// Asks the guard about actions that are carried out together. What has to wait is no longer among the names that
/// differ.
pub fn ask(guard: &mut Guard, index: &mut dyn Index, asking: &Asking<'_>, actions: &[&Action]) -> Result<Asked> {
    let takers = || actions.iter().enumerate().filter(|(_, action)| takes_away(action));
    let going: BTreeSet<&RelPath> = takers().map(|(_, action)| &action.name).collect();
    let before: BTreeSet<NodeId> = guard.bursts().map(|(node, _)| node).collect();
    let mut asked = Asked::default();
    let mut of: BTreeSet<NodeId> = BTreeSet::new();
    for (at, action) in takers() {
        let becomes_random = || (asking.becomes_random)(at);
        let Some(loss) = loss(index, action, &becomes_random, &going)? else { continue };
        of.insert(loss.id.writer.node);
        let is_free = loss.id.writer.node == asking.own || asking.decisions.is_released(loss.id);
        if !is_free && guard.holds(loss) {
            asked.held.insert(at);
            index.put_need(&action.name, false)?;
        } else if !is_free && loss.weight > 0 {
            asked.counted += 1;
        }
    }
    for node in of {
        remember(index, guard, node)?;
    }
    asked.begun = guard.bursts().map(|(node, _)| node).filter(|node| !before.contains(node)).collect();
    Ok(asked)
}

/// What an action takes away; `None`: it is nobody's change.
fn loss(
    index: &dyn Index,
    action: &Action,
    becomes_random: &dyn Fn() -> bool,
    going: &BTreeSet<&RelPath>,
) -> Result<Option<Loss>> {
    let Some(record) = index.path(&action.name)? else { return Ok(None) };
    let Some(head) = asked_for_by(&record, &action.target) else { return Ok(None) };
    let Some(disk) = &record.disk else { return Ok(None) };
    // What is on the disk was made by somebody who knew that entry: the rules take it back, not the entry's author.
    if disk.version.seen(head.id.writer) >= head.id.seq {
        return Ok(None);
    }
    let (entry, is_removal) = (&head.salted.entry, action.target == Target::Nothing);
    let name = name_key(&action.name);
    let Some(content) = disk.what.content() else {
        // Directories and links carry nothing; a directory waits with what is in it.
        return Ok(is_removal.then_some(Loss { id: head.id, name, at_ms: entry.time.ms, weight: 0 }));
    };
    let elsewhere = index.places_of(content, PLACES_MAX)?.into_iter().any(|place| !going.contains(&place));
    let weight = match () {
        () if elsewhere => 0,
        () if is_removal && comes_back_renamed(index, &action.name, head.id.writer.node)? => HARM,
        () if is_removal && goes_with_its_directory(index, &action.name)? => WITH_DIRECTORY,
        () if !is_removal && becomes_random() => HARM,
        () => CHANGE,
    };
    let at_ms = if is_removal { entry.time.ms } else { made_at(entry.time.ms, entry.mtime, disk.info.mtime) };
    Ok(Some(Loss { id: head.id, name, at_ms, weight }))
}

/// Logs of a held burst that something was decided about.
pub fn decided_logs(guard: &Guard, decisions: &dyn Decisions) -> Vec<Writer> {
    let held = guard.bursts().flat_map(|(_, burst)| &burst.held);
    let is_decided = |log: Writer, first: u64| decisions.decided_to(log).is_some_and(|last| last >= first);
    held.filter(|(log, stretch)| is_decided(**log, stretch.first)).map(|(log, _)| *log).collect()
}

/// Marks held changes of a log that were decided about as names that differ, `most` of them after `after`; once all are, the
/// guard holds them no more. Returns after which to go on.
pub fn let_go(
    guard: &mut Guard,
    index: &mut dyn Index,
    decisions: &dyn Decisions,
    log: Writer,
    (after, most): (Option<EntryId>, usize),
) -> Result<Option<EntryId>> {
    let Some(last) = decisions.decided_to(log) else { return Ok(None) };
    let stretch = guard.bursts().find_map(|(_, burst)| burst.held.get(&log).copied());
    let Some(stretch) = stretch else { return Ok(None) };
    let (from, to) = (stretch.held_from, stretch.held_to.min(last));
    let after = after.unwrap_or(EntryId { writer: log, seq: from.saturating_sub(1) });
    let page = index.entries_after(Some(after), most)?;
    let within: Vec<_> = page.into_iter().take_while(|(id, _)| id.writer == log && id.seq <= to).collect();
    for (_, path) in &within {
        reconcile::mark(index, path)?;
    }
    if let Some((id, _)) = within.last().filter(|_| within.len() == most) {
        return Ok(Some(*id));
    }
    guard.decided(log, last);
    remember(index, guard, log.node)?;
    Ok(None)
}

/// The entry that a target comes from.
fn asked_for_by<'a>(record: &'a PathRecord, target: &Target) -> Option<&'a Head> {
    let is_it = |head: &&Head| match target {
        Target::Nothing => !head.is_live(),
        Target::Put { what, .. } | Target::Meta { what, .. } => head.what() == what,
    };
    record.heads.iter().filter(is_it).max_by_key(|head| head.salted.entry.time)
}

/// Whether a deleted file left another one of the same name and a further ending, as programs leave it that encrypt.
fn comes_back_renamed(index: &dyn Index, name: &RelPath, author: NodeId) -> Result<bool> {
    let (Some(parent), Some(prefix)) = (name.parent(), RelPath::new([name.as_bytes(), b"."].concat()).ok()) else {
        return Ok(false);
    };
    let mut found = false;
    index.walk_from(&parent, &prefix, &mut |path, record| {
        found = path.as_bytes().starts_with(prefix.as_bytes())
            && record.heads.iter().any(|head| head.is_live() && head.id.writer.node == author);
        Walk::Enough
    })?;
    Ok(found)
}

/// Whether the directory that a file is in was deleted, too.
fn goes_with_its_directory(index: &dyn Index, name: &RelPath) -> Result<bool> {
    let Some(parent) = name.parent().filter(|parent| !parent.is_root()) else { return Ok(false) };
    Ok(index.path(&parent)?.is_some_and(|record| !record.heads.is_empty() && !record.is_live()))
}

/// What is held of a burst: at most `most` entries are looked at, `listed` of them named.
pub fn held(look: &dyn Look, burst: &Burst, most: usize, listed: usize) -> Result<Held> {
    let mut held = Held::default();
    for (log, stretch) in &burst.held {
        let (mut after, mut left) = (EntryId { writer: *log, seq: stretch.held_from.saturating_sub(1) }, most);
        while left > 0 {
            let page = look.entries_after(Some(after), PAGE.min(left))?;
            let within: Vec<_> =
                page.into_iter().take_while(|(id, _)| id.writer == *log && id.seq <= stretch.held_to).collect();
            let Some((last, _)) = within.last() else { break };
            (after, left) = (*last, left - within.len());
            for (id, path) in within {
                let Some(record) = look.path(&path)? else { continue };
                let Some(head) = record.head(id) else { continue };
                let Some(disk) = record.disk.as_ref().filter(|disk| disk.what != *head.what()) else { continue };
                match head.what() {
                    What::Tombstone { .. } if disk.what.content().is_some() => held.deletions += 1,
                    What::Tombstone { .. } => continue,
                    _ => held.replacements += 1,
                }
                if held.paths.len() < listed {
                    held.paths.push(path);
                }
            }
        }
        held.is_cut |= left == 0;
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::super::Stretch;
    use super::*;
    use crate::base::{ContentId, FileInfo, FileTime, Hlc, Kind, VersionVector};
    use crate::logic::sync::index::MemoryIndex;
    use crate::logic::sync::replica::Seen;
    use crate::wire::batch::{Entry, Salted};

    const LIMITS: Limits = Limits { limit: 2 * CHANGE, window_ms: 60_000 };
    const OWN: NodeId = NodeId([1; 32]);
    const LOG: Writer = Writer { node: NodeId([2; 32]), incarnation: 1 };

    struct Said(Option<u64>);

    impl Decisions for Said {
        fn is_released(&self, id: EntryId) -> bool {
            self.0.is_some_and(|last| id.seq <= last)
        }
        fn decided_to(&self, log: Writer) -> Option<u64> {
            self.0.filter(|_| log == LOG)
        }
    }

    fn path(n: u64) -> RelPath {
        RelPath::new(format!("plan {n}")).expect("valid")
    }

    /// A file is on the disk, and another node deleted it.
    fn deleted(index: &mut MemoryIndex, n: u64) -> Action {
        let content = ContentId([n as u8; 32]);
        let time = FileTime { secs: 1, nanos: 0 };
        let info = FileInfo { kind: Kind::File, bytes: 1, mode: 0o644, mtime: time, ctime: time, inode: n };
        let mut version = VersionVector::default();
        version.advance(LOG, n);
        let end = What::Tombstone { deleted: Some(content) };
        let entry = Entry::new(path(n), end, 0, FileTime::default(), Hlc { ms: n, count: 0 }, version.clone());
        let head = Head { id: EntryId { writer: LOG, seq: n }, salted: Salted { salt: [0; 16], entry } };
        let what = What::File { bytes: 1, content };
        let disk = Some(Seen::new(info, what).of_version(VersionVector::default()));
        index.put_entry_path(head.id, &path(n)).expect("memory");
        let record = PathRecord { heads: vec![head], disk, ..PathRecord::default() };
        index.put_path(&path(n), &record).expect("memory");
        index.put_need(&path(n), true).expect("memory");
        Action {
            name: path(n),
            expected: Some(info),
            target: Target::Nothing,
            version,
            copy_of: None,
            said: Default::default(),
        }
    }

    fn ask_all(guard: &mut Guard, index: &mut MemoryIndex, said: &Said, count: u64) -> Asked {
        let actions: Vec<Action> = (1..=count).map(|n| deleted(index, n)).collect();
        let named: Vec<&Action> = actions.iter().collect();
        ask(guard, index, &Asking { own: OWN, decisions: said, becomes_random: &|_| false }, &named).expect("memory")
    }

    #[test]
    fn what_is_held_differs_no_more_and_both_are_remembered_together() {
        let (mut guard, mut index) = (Guard::new(LIMITS), MemoryIndex::default());
        let asked = ask_all(&mut guard, &mut index, &Said(None), 5);
        assert_eq!((asked.held, asked.begun), ([2, 3, 4].into(), vec![LOG.node]));
        assert_eq!(index.needs(None, 9).expect("memory"), [path(1), path(2)]);
        let note = index.note(&note_of(LOG.node)).expect("memory").expect("remembered");
        let watched: Watched = postcard::from_bytes(&note).expect("as written");
        assert_eq!(Some(&watched), guard.memory_of(LOG.node));
        let stretch = Stretch { first: 1, last: 5, held_from: 3, held_to: 5 };
        assert_eq!(guard.bursts().next().expect("held").1.held[&LOG], stretch);
    }

    #[test]
    fn several_that_are_let_through_must_be_remembered_first_and_one_need_not() {
        for (count, must) in [(1, false), (2, true)] {
            let (mut guard, mut index) = (Guard::new(LIMITS), MemoryIndex::default());
            assert_eq!(ask_all(&mut guard, &mut index, &Said(None), count).must_last(), must);
        }
    }

    #[test]
    fn what_was_released_passes_whatever_is_held() {
        let (mut guard, mut index) = (Guard::new(LIMITS), MemoryIndex::default());
        assert_eq!(ask_all(&mut guard, &mut index, &Said(Some(5)), 7).held, BTreeSet::new());
    }

    #[test]
    fn a_burst_is_forgotten_once_all_of_it_differs_again() {
        let (mut guard, mut index) = (Guard::new(LIMITS), MemoryIndex::default());
        ask_all(&mut guard, &mut index, &Said(None), 5);
        let said = Said(Some(5));
        assert_eq!(decided_logs(&guard, &said), [LOG]);
        let mut after = None;
        for marked in [4, 5] {
            after = let_go(&mut guard, &mut index, &said, LOG, (after, 2)).expect("memory");
            assert_eq!(index.need_count().expect("memory"), marked);
            assert_eq!(guard.bursts().count(), usize::from(after.is_some()));
        }
        assert_eq!(decided_logs(&guard, &said), []);
    }
}
