//! The mass-change guard at work: brings it what it has to see, and tells people what it holds. What takes a content
//! away, and what a verdict lets go of, is decided in `logic::sync::guard::losses`.

use tracing::info;

use super::place::{Contents, Ready, is_small};
use super::worker::{TurnError, Worker};
use crate::base::NodeId;
use crate::logic::sync::guard;
use crate::logic::sync::guard::losses::{self, Asked, Asking};
use crate::logic::sync::index::IndexError;
use crate::logic::sync::reconcile::Action;
use crate::shell::disk::chunk;

/// Bytes of a file that are looked at to tell encrypted ones. A guess: enough for any document's head and body.
const LOOKED_BYTES: usize = 64 * 1024;
/// Entries that are let go in one transaction after a verdict.
const PAGE: usize = 1024;

impl Worker {
    /// Of these actions, those that may be carried out now.
    pub(super) fn let_through(&mut self, actions: Vec<Ready>) -> Result<Vec<Ready>, TurnError> {
        if !actions.iter().any(|(action, _)| losses::takes_away(action)) {
            return Ok(actions);
        }
        let store = self.setup.store.clone();
        let becomes_random = |at: usize| {
            let (action, source) = &actions[at];
            self.becomes_random(action, source.as_ref())
        };
        let asking = Asking { own: self.writer.node, decisions: &self.rules, becomes_random: &becomes_random };
        let named: Vec<&Action> = actions.iter().map(|(action, _)| action).collect();
        let mut guard = self.guard.clone();
        let asked = store.write(false, |index| losses::ask(&mut guard, index, &asking, &named))?;
        if asked.must_last() {
            store.write(true, |_| Ok::<_, IndexError>(()))?;
        }
        self.guard = guard;
        let Asked { held, begun, .. } = asked;
        for node in begun {
            let (who, what) = (self.setup.shared.name_of(node), self.burst_text(node));
            let hint = format!(
                "'lanyard guard' shows what; 'lanyard guard release {who}' lets it happen, 'lanyard guard reject {who}' brings back what was before"
            );
            self.setup.shared.alert(what, Some(hint));
        }
        Ok(actions.into_iter().enumerate().filter(|(at, _)| !held.contains(at)).map(|(_, ready)| ready).collect())
    }

    /// Whether a file that was not random becomes so.
    fn becomes_random(&self, action: &Action, source: Option<&Contents>) -> bool {
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
        let store = self.setup.store.clone();
        for log in losses::decided_logs(&self.guard, &self.rules) {
            let mut after = None;
            loop {
                let mut guard = self.guard.clone();
                let from = (after, PAGE);
                after = store.write(false, |index| losses::let_go(&mut guard, index, &self.rules, log, from))?;
                self.guard = guard;
                if after.is_none() {
                    break;
                }
            }
            if self.guard.bursts().all(|(node, _)| node != log.node) {
                self.setup.shared.over(&self.burst_text(log.node));
            }
            info!(folder = %self.setup.name, node = %log.node.short(), "what was held was decided about");
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
