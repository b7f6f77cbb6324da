//! The mass-change guard at work: what takes a content away from this disk asks it first; what it holds waits for a
//! verdict, off the list of names that differ.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::place::{Ready, is_small};
use super::worker::{TurnError, Worker};
use crate::base::{NodeId, RelPath, Writer};
use crate::logic::sync::guard::{self, Burst, Guard, Limits, Loss, Watched};
use crate::logic::sync::index::{EntryId, Head, Index, IndexError, Look, PathRecord, Walk};
use crate::logic::sync::reconcile::{self, Action, Target};
use crate::shell::disk::chunk;
use crate::shell::store::Store;
use crate::wire::batch::What;

/// Other names of a content that are looked at before it counts as lost.
const PLACES_MAX: usize = 8;
/// Bytes of a file that are looked at to tell encrypted ones. A guess: enough for any document's head and body.
const LOOKED_BYTES: usize = 64 * 1024;
/// Entries that are let go in one transaction after a verdict.
const PAGE: usize = 1024;

/// A held burst, as `guard` lists it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::node) struct Held {
    /// Deletions that wait.
    pub(in crate::node) deletions: u64,
    /// Replacements that wait.
    pub(in crate::node) replacements: u64,
    /// Some of the names.
    pub(in crate::node) paths: Vec<RelPath>,
}

/// Takes up what the guard of this folder remembered.
pub(super) fn recall(store: &Store, limits: Limits) -> Result<Guard, IndexError> {
    let mut guard = Guard::new(limits);
    store.read(|look| {
        let nodes: BTreeSet<NodeId> = look.frontiers()?.into_iter().map(|frontier| frontier.writer.node).collect();
        for node in nodes {
            // What cannot be read was written by another version: the guard then begins anew.
            let known = look.note(&note_of(node))?.and_then(|bytes| postcard::from_bytes::<Watched>(&bytes).ok());
            if let Some(watched) = known {
                guard.recall(node, watched);
            }
        }
        Ok::<_, IndexError>(guard)
    })
}

fn note_of(node: NodeId) -> String {
    format!("guard/{}", node.to_hex())
}

fn remember(index: &mut dyn Index, guard: &Guard, node: NodeId) -> Result<(), IndexError> {
    let Some(watched) = guard.memory_of(node) else { return Ok(()) };
    index.put_note(&note_of(node), &postcard::to_allocvec(watched).expect("plain values"))
}

impl Worker {
    /// Of these actions, those that may be carried out now.
    pub(super) fn let_through(&mut self, actions: Vec<Ready>) -> Result<Vec<Ready>, TurnError> {
        let takes_away = |action: &Action| {
            action.copy_of.is_none() && action.expected.is_some() && !matches!(action.target, Target::Meta { .. })
        };
        let going: BTreeSet<RelPath> =
            actions.iter().filter(|(a, _)| takes_away(a)).map(|(action, _)| action.name.clone()).collect();
        if going.is_empty() {
            return Ok(actions);
        }
        let store = self.setup.store.clone();
        let own = self.writer.node;
        let mut through = Vec::with_capacity(actions.len());
        let mut asked: BTreeSet<NodeId> = BTreeSet::new();
        let before: BTreeSet<NodeId> = self.guard.bursts().map(|(node, _)| node).collect();
        store.write(false, |index| {
            for (action, source) in actions {
                let loss = if takes_away(&action) { self.loss(index, &action, source.as_ref(), &going)? } else { None };
                let held = loss.is_some_and(|loss| {
                    let is_free = loss.id.writer.node == own || self.rules.is_released(loss.id);
                    asked.insert(loss.id.writer.node);
                    !is_free && self.guard.holds(loss)
                });
                if held {
                    index.put_need(&action.name, false)?;
                } else {
                    through.push((action, source));
                }
            }
            asked.iter().try_for_each(|node| remember(index, &self.guard, *node))
        })?;
        let new: Vec<NodeId> =
            self.guard.bursts().map(|(node, _)| node).filter(|node| !before.contains(node)).collect();
        for node in new {
            let (who, what) = (self.setup.shared.name_of(node), self.burst_text(node));
            let hint = format!(
                "'lanyard guard' shows what; 'lanyard guard release {who}' lets it happen, 'lanyard guard reject {who}' brings back what was before"
            );
            self.setup.shared.alert(what, Some(hint));
        }
        Ok(through)
    }

    /// What an action takes away; `None`: it is nobody's change.
    fn loss(
        &self,
        index: &dyn Index,
        action: &Action,
        source: Option<&super::place::Contents>,
        going: &BTreeSet<RelPath>,
    ) -> Result<Option<Loss>, IndexError> {
        let Some(record) = index.path(&action.name)? else { return Ok(None) };
        let Some(head) = asked_for_by(&record, &action.target) else { return Ok(None) };
        let Some(disk) = &record.disk else { return Ok(None) };
        // What is on the disk was made by somebody who knew that entry: the rules take it back, not the entry's author.
        if disk.version.seen(head.id.writer) >= head.id.seq {
            return Ok(None);
        }
        let (entry, is_removal) = (&head.salted.entry, action.target == Target::Nothing);
        let name = guard::name_key(&action.name);
        let Some(content) = disk.what.content() else {
            // Directories and links carry nothing; a directory waits with what is in it.
            return Ok(is_removal.then_some(Loss { id: head.id, name, at_ms: entry.time.ms, weight: 0 }));
        };
        let elsewhere = index.places_of(content, PLACES_MAX)?.into_iter().any(|place| !going.contains(&place));
        let weight = match () {
            () if elsewhere => 0,
            () if is_removal && comes_back_renamed(index, &action.name, head.id.writer.node)? => guard::HARM,
            () if is_removal && goes_with_its_directory(index, &action.name)? => guard::WITH_DIRECTORY,
            () if !is_removal && self.looks_encrypted(action, source) => guard::HARM,
            () => guard::CHANGE,
        };
        let at_ms =
            if is_removal { entry.time.ms } else { guard::made_at(entry.time.ms, entry.mtime, disk.info.mtime) };
        Ok(Some(Loss { id: head.id, name, at_ms, weight }))
    }

    /// Whether a file that was not random becomes so.
    fn looks_encrypted(&self, action: &Action, source: Option<&super::place::Contents>) -> bool {
        let start = |bytes: &[u8]| guard::looks_random(&bytes[..bytes.len().min(LOOKED_BYTES)]);
        let becomes = source.and_then(|(source, _)| source.bytes()).is_some_and(start);
        let was = || {
            let info = action.expected.filter(|info| is_small(info.bytes))?;
            chunk::read_small(&self.setup.disk, &action.name, &info).ok()
        };
        becomes && !was().is_some_and(|bytes| start(&bytes))
    }

    /// Lets go of what was decided about.
    pub(super) fn follow_verdicts(&mut self) -> Result<(), TurnError> {
        let logs: Vec<Writer> = self.guard.bursts().flat_map(|(_, burst)| burst.held.keys().copied()).collect();
        for log in logs {
            let Some(last) = self.rules.decided_to(log) else { continue };
            let Some((from, to)) = self.guard.decided(log, last) else { continue };
            let store = self.setup.store.clone();
            let mut after = EntryId { writer: log, seq: from.saturating_sub(1) };
            loop {
                let more = store.write(false, |index| {
                    let page = index.entries_after(Some(after), PAGE)?;
                    let within = page.iter().take_while(|(id, _)| id.writer == log && id.seq <= to);
                    let mut marked = 0;
                    for (id, path) in within {
                        reconcile::mark(index, path)?;
                        (after, marked) = (*id, marked + 1);
                    }
                    remember(index, &self.guard, log.node)?;
                    Ok::<_, IndexError>(marked == PAGE)
                })?;
                if !more {
                    break;
                }
            }
            if self.guard.bursts().all(|(node, _)| node != log.node) {
                self.setup.shared.over(&self.burst_text(log.node));
            }
            info!(folder = %self.setup.name, node = %log.node.short(), from, to, "what was held was decided about");
        }
        self.apply.touch();
        Ok(())
    }

    fn burst_text(&self, node: NodeId) -> String {
        let (who, folder) = (self.setup.shared.name_of(node), &self.setup.name);
        format!("{who} deletes or replaces much in folder {folder}; the rest of it is held")
    }

    /// Whether anything is held.
    pub(super) fn holds_any(&self) -> bool {
        self.guard.bursts().next().is_some()
    }
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
fn comes_back_renamed(index: &dyn Index, name: &RelPath, author: NodeId) -> Result<bool, IndexError> {
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
fn goes_with_its_directory(index: &dyn Index, name: &RelPath) -> Result<bool, IndexError> {
    let Some(parent) = name.parent().filter(|parent| !parent.is_root()) else { return Ok(false) };
    Ok(index.path(&parent)?.is_some_and(|record| !record.heads.is_empty() && !record.is_live()))
}

/// What is held of a burst: at most `most` entries are looked at, `listed` of them named.
pub(in crate::node) fn held(look: &dyn Look, burst: &Burst, most: usize, listed: usize) -> Result<Held, IndexError> {
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
        if left == 0 {
            warn!(node = %log.node.short(), most, "more is held than is counted");
        }
    }
    Ok(held)
}
