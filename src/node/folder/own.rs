//! The worker's care for this node's own log: asks before it signs, and goes on under a new incarnation where others
//! have more of the log than it has.

use std::collections::BTreeMap;

use tracing::info;

use super::rules::NOTE_COMPLETE;
use super::worker::{NOTE_INCARNATION, TurnError, Worker};
use crate::base::{RelPath, Writer};
use crate::logic::sync::index::{Index, IndexError};
use crate::logic::sync::own::{self, Heard};
use crate::shell::entropy;
use crate::wire::codec::List;
use crate::wire::message::{EntryWant, Message};

/// So long is waited for what peers passed over. A guess: some round trips; what does not come lies beside as a conflict.
const RECALL_MS: u64 = 3_000;
/// So much of it is asked for.
const RECALL_MAX: usize = 8_192;
/// Names looked at in one step.
const PAGE: usize = 1_024;

impl Worker {
    /// Nothing is signed before the index of one who has the history is merged, unless there is nobody else. After a
    /// start this node's own log may have been longer.
    pub(super) fn find_history(&mut self, now: u64) -> Result<(), TurnError> {
        let Some(asking) = &self.asking else { return Ok(()) };
        let common = |log| self.rules.common(log);
        let heard = self.setup.store.read(|look| asking.heard(look, &common, self.took_ms, now))?;
        let answered = heard != Heard::NotYet;
        let differs = self.forgot || self.waiting.count() > 0;
        if answered && differs && self.recalls(now)? {
            return Ok(());
        }
        if answered && differs {
            self.expect_copies()?;
        }
        if answered || self.setup.shared.mesh.is_alone(self.setup.folder) {
            (self.asking, self.recall_ms) = (None, None);
            if heard == Heard::Enough {
                let store = self.setup.store.clone();
                store.write(true, |index| self.begin_anew(index))?;
                info!(folder = %self.setup.name, "not all that peers claim to have came: this node goes on under a new incarnation");
            }
            if !self.complete {
                self.complete = true;
                self.report_due = true;
                self.setup.store.write(true, |index| index.put_note(NOTE_COMPLETE, &[1]))?;
            }
            self.local.look_below(RelPath::root());
        }
        Ok(())
    }

    /// Whether what users change waits for a peer, and none can be reached.
    pub(super) fn is_cut_off(&self) -> bool {
        self.complete && self.asking.is_some() && self.peers.iter().next().is_none()
    }

    fn expect_copies(&self) -> Result<(), TurnError> {
        let mut after = None;
        loop {
            after = self.setup.store.write(false, |index| own::expect_copies(index, after.as_ref(), PAGE))?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// What differs on the disk may be what this node knew before its state was put back, and that may be superseded
    /// since: peers are asked for it once. Whether it is still awaited.
    fn recalls(&mut self, now: u64) -> Result<bool, TurnError> {
        let passed = self.setup.store.read(|look| own::passed_over(look, self.first_arrival, RECALL_MAX))?;
        if let Some(until) = self.recall_ms {
            return Ok(now < until && !passed.is_empty());
        }
        let mut of: BTreeMap<Writer, Vec<u64>> = BTreeMap::new();
        passed.iter().for_each(|id| of.entry(id.writer).or_default().push(id.seq));
        for (writer, numbers) in &of {
            for numbers in numbers.chunks(1024) {
                let numbers = List::truncated(numbers.to_vec());
                let want = EntryWant { folder: self.setup.folder, writer: *writer, numbers };
                for (_, peer) in self.peers.iter() {
                    // A full queue: what does not come is taken for a change of this node's user.
                    let _ = peer.link.try_send(Message::EntryWant(want.clone()));
                }
            }
        }
        self.recall_ms = Some(now + RECALL_MS);
        Ok(!passed.is_empty())
    }

    /// Others have more of this node's log than it has: it was put back from a backup, or a copy of it signed that.
    /// Nothing is signed on top.
    pub(super) fn forget(&mut self, index: &mut dyn Index) -> Result<(), IndexError> {
        self.begin_anew(index)?;
        self.forgot = !self.looked;
        info!(folder = %self.setup.name, "this node had signed more than it knew: it goes on under a new incarnation");
        if self.looked {
            let name = &self.setup.name;
            let what = format!("this machine signed changes of folder {name} that it does not know any more");
            let hint = "put back from a backup, it goes on by itself; if a copy of it runs elsewhere: stop the copy, \
                        delete its lanyard home and start it, so that it joins as a machine of its own";
            self.setup.shared.alert(what, Some(hint.into()));
        }
        Ok(())
    }

    /// What is signed from now on begins a log of its own.
    pub(super) fn begin_anew(&mut self, index: &mut dyn Index) -> Result<(), IndexError> {
        let incarnation = entropy::u64();
        index.put_note(NOTE_INCARNATION, &incarnation.to_be_bytes())?;
        self.writer = Writer { node: self.writer.node, incarnation };
        Ok(())
    }
}
