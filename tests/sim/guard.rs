//! The guard of a machine of the office, and what its people say to it. Stands where `node::folder::guard` stands in the
//! product; what is held and let go is the product's decision. Verdicts are a model: who said what, knowing what.

use std::collections::{BTreeMap, BTreeSet};

use lanyard::base::{Level, NodeId, RelPath, Writer};
use lanyard::logic::sync::guard::losses::{self, Asking, Decisions};
use lanyard::logic::sync::guard::{self, Guard, Limits};
use lanyard::logic::sync::index::{self, EntryId, Index, Look};
use lanyard::logic::sync::reconcile::Action;
use lanyard::logic::sync::rejudge::{self, Verdicts};
use lanyard::logic::sync::replica::Rules;
use lanyard::shell::disk::chunk;
use lanyard::wire::batch::Header;
use lanyard::wire::statement::Range;

use crate::node::{Got, Node, Office, Ready};
use crate::plant::Plant;

/// Paths that one person may take contents away from within the window.
pub(crate) const LIMIT: usize = 4;
/// The window.
pub(crate) const WINDOW_MS: u64 = 3_600_000;
/// So few are let go at once that machines die between.
const PAGE: usize = 2;

/// A verdict.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) range: Range,
    pub(crate) release: bool,
    /// What its author knew of.
    pub(crate) after: BTreeSet<usize>,
}

impl Said {
    fn is_about(&self, id: EntryId) -> bool {
        self.range.writer == id.writer && (self.range.first..=self.range.last).contains(&id.seq)
    }
}

/// Whether a change was rejected, by these verdicts: a release takes back only what its author knew of.
pub(crate) fn is_rejected(said: &BTreeMap<usize, Said>, id: EntryId, is_meant: &dyn Fn(&Range) -> bool) -> bool {
    let about = || said.iter().filter(|(_, said)| said.is_about(id));
    let mut rejects = about().filter(|(_, said)| !said.release && is_meant(&said.range));
    rejects.any(|(number, _)| !about().any(|(_, later)| later.release && later.after.contains(number)))
}

/// The rules of the office and the verdicts that a machine knows.
pub(crate) struct Known<'a> {
    pub(crate) office: &'a Office,
    pub(crate) said: BTreeMap<usize, Said>,
    plant: Plant,
}

impl Known<'_> {
    fn rejects(&self, id: EntryId, index: &dyn Look) -> index::Result<bool> {
        if self.said.is_empty() {
            return Ok(false);
        }
        let mut other = BTreeSet::new();
        for (number, said) in &self.said {
            let Range { writer, last, batch, .. } = said.range;
            let here = index.batch_of(EntryId { writer, seq: last })?;
            if here.is_some_and(|(_, here)| here.hash() != batch) {
                other.insert(*number);
            }
        }
        let of = |range: &Range| self.said.iter().all(|(n, said)| said.range != *range || !other.contains(n));
        Ok(is_rejected(&self.said, id, &of))
    }
}

impl Verdicts for Known<'_> {
    fn counts(&self, header: &Header, seq: u64, path: &RelPath, index: &dyn Look) -> index::Result<bool> {
        let may = self.office.permits(header.writer.node, path, Level::Write);
        Ok(may && !self.rejects(EntryId { writer: header.writer, seq }, index)?)
    }

    fn is_rejected(&self, header: &Header, seq: u64, _: &RelPath, index: &dyn Look) -> index::Result<bool> {
        self.rejects(EntryId { writer: header.writer, seq }, index)
    }
}

impl Decisions for Known<'_> {
    fn is_released(&self, id: EntryId) -> bool {
        self.said.values().any(|said| said.release && (said.is_about(id) || self.plant == Plant::ReleaseAll))
    }

    fn decided_to(&self, log: Writer) -> Option<u64> {
        self.said.values().filter(|said| said.range.writer == log).map(|said| said.range.last).max()
    }
}

impl Node {
    /// The rules with what this machine knows of verdicts.
    pub(crate) fn known<'a>(&self, office: &'a Office) -> Known<'a> {
        Known { office, said: self.said.clone(), plant: self.plant }
    }

    /// From now on bursts are held.
    pub(crate) fn turn_guard_on(&mut self) {
        let window_ms = if self.plant == Plant::WindowTooShort { WINDOW_MS / 1_000_000 } else { WINDOW_MS };
        self.limits = Limits { limit: LIMIT as u32 * guard::CHANGE, window_ms };
        self.recall_guard();
    }

    /// After a start: what the guard remembered, and what was decided about and not let go of yet.
    pub(crate) fn recall_guard(&mut self) {
        self.guard = match self.plant {
            Plant::GuardForgets => Guard::new(self.limits),
            _ => losses::recall(&self.index, self.limits).expect("memory"),
        };
        self.follow_verdicts(usize::MAX);
    }

    /// Of these actions, those that may be carried out now.
    pub(crate) fn let_through(&mut self, actions: Vec<Ready>, now_ms: u64) -> (Vec<Ready>, Vec<Action>) {
        if self.limits.limit == 0 || !actions.iter().any(|(action, _)| losses::takes_away(action)) {
            return (actions, Vec::new());
        }
        // What is not at hand yet is asked about once it is.
        let (actions, mut through): (Vec<Ready>, Vec<Ready>) =
            actions.into_iter().partition(|(action, got)| action.target.content().is_none() || got.is_some());
        let random: Vec<bool> = actions.iter().map(|(action, got)| self.becomes_random(action, got.as_ref())).collect();
        let named: Vec<&Action> = actions.iter().map(|(action, _)| action).collect();
        let office = Office::default();
        let known = self.known(&office);
        let asking = Asking { own: self.writer.node, decisions: &known, becomes_random: &|at: usize| random[at] };
        let mut guard = self.guard.clone();
        self.not_durable();
        let asked = losses::ask(&mut guard, &mut self.planted(now_ms), &asking, &named).expect("memory");
        self.guard = guard;
        if asked.must_last() && self.plant != Plant::CountsLate {
            self.durable();
        }
        self.held += asked.held.len() as u64;
        let mut held = Vec::new();
        for (at, ready) in actions.into_iter().enumerate() {
            if asked.held.contains(&at) { held.push(ready.0) } else { through.push(ready) }
        }
        (through, held)
    }

    fn becomes_random(&self, action: &Action, got: Option<&Got>) -> bool {
        let Some(Got::Bytes(bytes)) = got else { return false };
        let was = || chunk::read_small(&self.folder, &action.name, &action.expected?).ok();
        guard::looks_random(bytes) && !was().is_some_and(|bytes| guard::looks_random(&bytes))
    }

    /// A verdict is known here from now on. The machine dies after so many pages of what it lets go of.
    pub(crate) fn hear(&mut self, number: usize, said: Said, office: &Office, pages: usize) {
        self.said.insert(number, said);
        let known = self.known(office);
        let own: NodeId = self.writer.node;
        rejudge::rejudge(&mut self.index, &known, own).expect("memory");
        self.durable();
        self.follow_verdicts(pages);
    }

    fn follow_verdicts(&mut self, mut pages: usize) {
        let office = Office::default();
        let known = self.known(&office);
        for log in losses::decided_logs(&self.guard, &known) {
            let mut after = None;
            loop {
                if pages == 0 {
                    return self.die();
                }
                pages -= 1;
                self.not_durable();
                let mut guard = self.guard.clone();
                let needed = self.index.needs(None, usize::MAX).expect("memory");
                let most = if self.plant == Plant::LetGoForgets { usize::MAX } else { PAGE };
                after = losses::let_go(&mut guard, &mut self.index, &known, log, (after, most)).expect("memory");
                if self.plant == Plant::LetGoForgets {
                    self.forget_needs(&needed);
                }
                self.guard = guard;
                if after.is_none() {
                    break;
                }
            }
        }
    }

    /// For a planted bug: of the names that differ since, only some do.
    fn forget_needs(&mut self, before: &[RelPath]) {
        let needs = self.index.needs(None, usize::MAX).expect("memory");
        for path in needs.iter().filter(|path| !before.contains(path)).skip(PAGE) {
            self.index.put_need(path, false).expect("memory");
        }
    }
}
