//! What is being done to bring the disk to what the index says.
//!
//! Names wait in the index until they are as they should be; here is only what is under way: contents asked of the
//! fetcher with the names that wait for them, removals that wait for everything that appears, names that failed
//! and are tried again later.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{ContentId, FileInfo, NodeId, RelPath};
use crate::logic::sync::ignore::Ignored;
use crate::logic::sync::index::{Index, IndexError};
use crate::logic::sync::reconcile::{self, Action, Target};
use crate::logic::sync::reuse;
use crate::logic::sync::selection::Selection;
use crate::wire::batch::What;
use crate::wire::content::CHUNK_BYTES_MAX;

/// How many names one pass plans; the rest is planned by the next pass.
const PASS_MAX: usize = 1024;
/// A name whose action failed is tried again after this long.
const RETRY_MS: u64 = 5_000;
/// A name that a user just changed is planned again after this long: its change is looked at first.
const CHANGED_MS: u64 = 100;
/// Contents asked of the fetcher at once: small ones and large ones. It queues no more than that.
const WAITING_MAX: [usize; 2] = [2048, 3];

/// Places of one content that are tried before it is asked of a peer.
const PLACES_MAX: usize = 4;

/// What one pass found to do.
#[derive(Default)]
pub(super) struct Pass {
    /// Can be done without a content: directories, links, modes and times.
    pub(super) now: Vec<Action>,
    /// Need a content first.
    pub(super) puts: Vec<Wanted>,
    /// Removals, deepest first.
    pub(super) removals: Vec<Action>,
    /// Whether every name that differs was planned in this pass.
    pub(super) complete: bool,
    /// Contents that no name waits for any more.
    pub(super) forgotten: Vec<ContentId>,
}

/// An action that needs a content.
pub(super) struct Wanted {
    /// What is to be done.
    pub(super) action: Action,
    /// Whose entry it carries out: only what that node may read is reused for it.
    pub(super) author: NodeId,
    /// Files here that have the content and that the author may read.
    pub(super) places: Vec<(RelPath, FileInfo)>,
}

/// Whether a node may read a path.
pub(super) type MayReadAt<'a> = dyn Fn(NodeId, &RelPath) -> bool + 'a;

/// Names that wait for a content: what is planned anew, and the name itself (a conflict copy is planned with its path).
type Waiting = Vec<(RelPath, RelPath)>;

/// What is under way.
#[derive(Default)]
pub(super) struct Apply {
    /// By content: small or large, for whose entry it is fetched, the names.
    waiting: BTreeMap<ContentId, (usize, NodeId, Waiting)>,
    counts: [usize; 2],
    names: BTreeMap<RelPath, ContentId>,
    /// How many names wait that are planned with this path.
    planned: BTreeMap<RelPath, usize>,
    /// Of those, the paths of which something new was said since: what is waited for may be wanted no more.
    renewed: BTreeSet<RelPath>,
    all_renewed: bool,
    later: BTreeMap<RelPath, u64>,
    cursor: Option<RelPath>,
    dirty: bool,
    again: bool,
    /// Nothing that appears was met since the first page.
    only_goes: bool,
    /// Nothing that appears is among those that differ, as far as all pages were looked at.
    settled: bool,
    selection: Selection,
    ignored: Ignored,
}

fn class(bytes: u64) -> usize {
    usize::from(bytes > CHUNK_BYTES_MAX as u64)
}

impl Apply {
    /// From now on this is wanted here. What is more than before has to be marked.
    pub(super) fn select(&mut self, selection: Selection) {
        self.selection = selection;
        self.touch();
    }

    /// From now on this is not received here.
    pub(super) fn ignore(&mut self, ignored: Ignored) {
        self.ignored = ignored;
        self.touch();
    }

    /// Names may have been added to those that differ.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
        self.again = true;
    }

    /// Something new was said of a path. Nobody may have any more what its name waits for.
    pub(super) fn renew(&mut self, path: &RelPath) {
        if self.planned.contains_key(path) {
            self.renewed.insert(path.clone());
        }
    }

    /// The same of all paths.
    pub(super) fn renew_all(&mut self) {
        self.all_renewed = true;
        self.touch();
    }

    /// Plans the next names; `None` where nothing has changed since the last pass.
    pub(super) fn pass(&mut self, index: &mut dyn Index, may_read: &MayReadAt<'_>) -> Result<Pass, IndexError> {
        let mut pass = Pass { forgotten: self.give_up(index)?, ..Pass::default() };
        let names = index.needs(self.cursor.as_ref(), PASS_MAX)?;
        let last_page = names.len() < PASS_MAX;
        let whole = self.cursor.is_none() && last_page;
        // A name before the page may have been touched since its own page was planned: then once more from the start.
        let begins = self.cursor.is_none();
        self.only_goes |= begins;
        let again = !begins && self.again;
        if begins || last_page {
            self.again = false;
        }
        self.cursor = if last_page { None } else { names.last().cloned() };
        self.dirty = !last_page || again;
        let mut barren = None;
        for name in names {
            if self.names.contains_key(&name) {
                self.only_goes = false;
                continue;
            }
            if self.later.contains_key(&name) {
                continue;
            }
            let record = index.path(&name)?;
            let is_dir = record.as_ref().is_some_and(|record| record.heads.iter().any(|h| *h.what() == What::Dir));
            let unwanted = !self.selection.covers(&name) && record.is_none_or(|record| record.disk.is_none());
            if unwanted || self.ignored.covers(&name, is_dir) {
                index.put_need(&name, false)?;
                continue;
            }
            let actions = reconcile::plan_after(index, &name, &mut barren)?;
            if actions.is_empty() {
                index.put_need(&name, false)?;
            }
            for action in actions {
                match action.target {
                    Target::Nothing => pass.removals.push(action),
                    _ if action.target.content().is_some() => pass.puts.push(wanted(index, action, may_read)?),
                    _ => pass.now.push(action),
                }
            }
        }
        pass.removals.reverse();
        if !pass.puts.is_empty() {
            (self.only_goes, self.settled) = (false, false);
        }
        if last_page {
            self.settled = self.only_goes;
        }
        pass.complete = whole || self.settled;
        Ok(pass)
    }

    /// Whether a content of this length may be asked of the fetcher now.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.counts[class(bytes)] < WAITING_MAX[class(bytes)]
    }

    /// A name waits for a content from now on. Returns whether it is the first to.
    pub(super) fn wait_for(&mut self, content: ContentId, bytes: u64, author: NodeId, action: &Action) -> bool {
        let name = action.name.clone();
        let planned = action.copy_of.as_ref().map_or_else(|| name.clone(), |(owner, _)| owner.clone());
        self.names.insert(name.clone(), content);
        *self.planned.entry(planned.clone()).or_default() += 1;
        if let Some((_, _, names)) = self.waiting.get_mut(&content) {
            names.push((planned, name));
            return false;
        }
        self.counts[class(bytes)] += 1;
        self.waiting.insert(content, (class(bytes), author, vec![(planned, name)]));
        true
    }

    /// Whether a large content is awaited, whose chunks may be copied from files that are here.
    pub(super) fn awaits_large(&self) -> bool {
        self.counts[1] > 0
    }

    /// For whose entry a content is fetched: what is at hand for it is at hand for nobody else.
    pub(super) fn fetched_for(&self, content: ContentId) -> Option<NodeId> {
        self.waiting.get(&content).map(|(_, author, _)| *author)
    }

    /// Whether any name waits for this content.
    pub(super) fn is_awaited(&self, content: ContentId) -> bool {
        self.waiting.contains_key(&content)
    }

    /// A content is here or given up: the names that waited for it are planned again.
    pub(super) fn release(&mut self, content: ContentId) -> Vec<(RelPath, RelPath)> {
        let Some((class, _, names)) = self.waiting.remove(&content) else { return Vec::new() };
        self.counts[class] -= 1;
        names.iter().for_each(|(planned, name)| self.waits_no_more(planned, name));
        self.touch();
        names
    }

    fn waits_no_more(&mut self, planned: &RelPath, name: &RelPath) {
        self.names.remove(name);
        if let Some(count) = self.planned.get_mut(planned) {
            *count -= 1;
            if *count == 0 {
                self.planned.remove(planned);
            }
        }
    }

    /// Names whose content is wanted no more are planned anew; returns the contents that then no name waits for.
    fn give_up(&mut self, index: &mut dyn Index) -> Result<Vec<ContentId>, IndexError> {
        let (renewed, all) = (std::mem::take(&mut self.renewed), std::mem::take(&mut self.all_renewed));
        if renewed.is_empty() && !all {
            return Ok(Vec::new());
        }
        let mut outdated = Vec::new();
        for (content, (_, _, names)) in &self.waiting {
            for (planned, name) in names.iter().filter(|(planned, _)| all || renewed.contains(planned)) {
                let wants = |action: &Action| {
                    action.name == *name && action.target.content().is_some_and(|(wanted, _)| wanted == *content)
                };
                if !reconcile::plan(index, planned)?.iter().any(wants) {
                    outdated.push((*content, planned.clone(), name.clone()));
                }
            }
        }
        let mut forgotten = Vec::new();
        for (content, planned, name) in outdated {
            self.waits_no_more(&planned, &name);
            let Some((class, _, names)) = self.waiting.get_mut(&content) else { continue };
            names.retain(|(_, waiting)| *waiting != name);
            if names.is_empty() {
                self.counts[*class] -= 1;
                self.waiting.remove(&content);
                forgotten.push(content);
            }
        }
        Ok(forgotten)
    }

    /// An action failed: its name is planned again later.
    pub(super) fn failed(&mut self, name: RelPath, now_ms: u64) {
        self.later.insert(name, now_ms + RETRY_MS);
    }

    /// A name was changed by its user meanwhile: a little later.
    pub(super) fn changed(&mut self, name: RelPath, now_ms: u64) {
        self.later.insert(name, now_ms + CHANGED_MS);
    }

    /// Whether a pass is due.
    pub(super) fn is_due(&mut self, now_ms: u64) -> bool {
        let before = self.later.len();
        self.later.retain(|_, until| *until > now_ms);
        self.dirty |= self.later.len() < before;
        self.dirty
    }

    /// When the next pass is due; `None`: when something happens.
    pub(super) fn wake_ms(&self) -> Option<u64> {
        if self.dirty { Some(0) } else { self.later.values().min().copied() }
    }

    /// Whether nothing is under way or put off.
    pub(super) fn is_idle(&self) -> bool {
        !self.dirty && self.waiting.is_empty() && self.later.is_empty()
    }
}

/// Whose entry an action carries out.
pub(super) fn author_of(index: &dyn Index, action: &Action) -> Result<NodeId, IndexError> {
    let content = action.target.content().map(|(content, _)| content);
    let record = index.path(&action.name)?.unwrap_or_default();
    let head = record.heads.iter().find(|head| head.what().content() == content);
    Ok(match (&action.copy_of, head) {
        (Some((_, id)), _) => id.writer.node,
        (None, Some(head)) => head.id.writer.node,
        (None, None) => NodeId([0; 32]),
    })
}

fn wanted(index: &mut dyn Index, action: Action, may_read: &MayReadAt<'_>) -> Result<Wanted, IndexError> {
    let author = author_of(index, &action)?;
    let readable = |path: &RelPath| may_read(author, path);
    let places = match action.target.content() {
        Some((content, _)) => reuse::places_for(index, content, PLACES_MAX, &readable)?,
        None => Vec::new(),
    };
    Ok(Wanted { action, author, places })
}
