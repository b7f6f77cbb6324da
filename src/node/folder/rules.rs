//! What the worker does when the rules change: judges all entries anew, tells what became of them, goes on under a new
//! incarnation after a fork, and lets go of superseded entries that nobody needs any more.

use tracing::{debug, info, warn};

use super::worker::{TurnError, Worker};
use crate::base::{Level, NodeId, RelPath};
use crate::logic::policy::{PlanRefused, plan_fork};
use crate::logic::retention::NEEDED_MS;
use crate::logic::sync::index::{EntryId, Index, IndexError};
use crate::logic::sync::local_only;
use crate::logic::sync::rejudge::{self, Rejudged};
use crate::logic::sync::replica::Rules;
use crate::node::mesh::MeshError;
use crate::shell::clock;
use crate::wire::batch::Batch;
use crate::wire::codec::List;
use crate::wire::message::{EntryWant, Frontiers, Message};
use crate::wire::statement::{Body, Fork};

/// Note in the index: the folder's history was merged, or begins here.
pub(in crate::node) const NOTE_COMPLETE: &str = "complete";
/// Note in the index: under which rules all entries were judged last.
const NOTE_JUDGED: &str = "judged";

impl Worker {
    /// Takes the rules as they are now, and judges all entries anew where these may make a difference.
    pub(super) fn renew_rules(&mut self) -> Result<(), TurnError> {
        self.rules = self.setup.shared.mesh.rules(self.setup.folder);
        self.leave_fork()?;
        self.rules.suspend(self.writer);
        if let Some(digest) = self.rules.digest() {
            let (rules, own) = (&self.rules, self.writer.node);
            let store = self.setup.store.clone();
            let (done, regained) = store.write(true, |index| {
                let mut done = Rejudged::default();
                if index.note(NOTE_JUDGED)?.as_deref() != Some(digest.as_slice()) {
                    done = rejudge::rejudge(index, &rules.verdicts(), own)?;
                    index.put_note(NOTE_JUDGED, &digest)?;
                }
                let may = |path: &RelPath| rules.permits(own, path, Level::Write);
                Ok::<_, IndexError>((done, local_only::regain(index, &may)?))
            })?;
            if !done.lost.is_empty() || !done.back.is_empty() {
                info!(folder = %self.setup.name, lost = done.lost.len(), back = done.back.len(), "entries were judged anew");
                self.applied_due = true;
            }
            let now = clock::boottime_ms();
            regained.into_iter().for_each(|path| self.local.hint(path, true, now));
        }
        self.follow_verdicts()?;
        self.apply.renew_all();
        self.parked.retry();
        let links: Vec<_> = self.peers.iter().map(|(_, peer)| peer.link.clone()).collect();
        for link in links {
            self.ask_holes(&link)?;
        }
        self.seal();
        Ok(())
    }

    /// Signs what has to be sealed, where this is an admin's node.
    pub(super) fn seal(&self) {
        match self.setup.shared.mesh.seal_due() {
            Ok(ids) if ids.is_empty() => {}
            Ok(ids) => info!(seals = ids.len(), "sealed what had been left open"),
            Err(error) => warn!(%error, "what is due cannot be sealed now; it is tried again"),
        }
    }

    /// A log that forked is over: its node goes on under a new incarnation.
    fn leave_fork(&mut self) -> Result<(), TurnError> {
        if !self.rules.is_forked(self.writer) {
            return Ok(());
        }
        let store = self.setup.store.clone();
        store.write(true, |index| self.begin_anew(index))?;
        warn!(folder = %self.setup.name, "this node has signed two histories: it goes on under a new incarnation");
        Ok(())
    }

    /// A log that has another batch at a peer than here is another history: the peer is asked for that batch. Nobody
    /// would send it unasked, where both reach equally far.
    pub(super) fn ask_other_histories(&mut self, from: NodeId, said: &Frontiers) -> Result<(), TurnError> {
        let Some(link) = self.peers.get_mut(from).map(|peer| peer.link.clone()) else { return Ok(()) };
        let wanted = self.setup.store.read(|look| {
            let mut wanted = Vec::new();
            for theirs in said.frontiers.iter().filter(|theirs| !self.rules.is_forked(theirs.writer)) {
                if look.frontier(theirs.writer)?.is_none_or(|ours| ours == *theirs || ours.seq < theirs.seq) {
                    continue;
                }
                let here = look.batch_of(EntryId { writer: theirs.writer, seq: theirs.seq })?;
                if here.is_some_and(|(_, batch)| batch.hash() != theirs.batch) {
                    wanted.push(*theirs);
                }
            }
            Ok::<_, IndexError>(wanted)
        })?;
        for theirs in wanted {
            let numbers = List::truncated(vec![theirs.seq]);
            let want = EntryWant { folder: self.setup.folder, writer: theirs.writer, numbers };
            // A full queue: it is asked again at its next word.
            let _ = link.try_send(Message::EntryWant(want));
        }
        Ok(())
    }

    /// Two histories under one signature: signs the proof, or asks for the batch that begins the difference.
    pub(super) fn prove_fork(&mut self, index: &dyn Index, batch: &Batch) -> Result<(), IndexError> {
        let header = batch.header();
        let known = index.batch_of(EntryId { writer: header.writer, seq: header.first })?;
        if let Some(fork) = known.and_then(|(_, known)| Fork::of(&known, batch)) {
            self.forks.push(fork);
        } else if let Some(before) = header.first.checked_sub(1).filter(|before| *before > 0) {
            let numbers = List::truncated(vec![before]);
            let want = EntryWant { folder: self.setup.folder, writer: header.writer, numbers };
            for (_, peer) in self.peers.iter() {
                // A full queue: the next batch of that history leads here again.
                let _ = peer.link.try_send(Message::EntryWant(want.clone()));
            }
        }
        Ok(())
    }

    /// Signs the proofs of forks that this turn found.
    pub(super) fn sign_forks(&mut self) {
        if !self.setup.shared.mesh.is_settled() {
            return;
        }
        for fork in std::mem::take(&mut self.forks) {
            let me = self.writer.node;
            let signed = self.setup.shared.mesh.sign(|policy| {
                let body: Result<Body, PlanRefused> = plan_fork(policy, me, fork);
                Ok::<_, MeshError>(vec![body?])
            });
            if let Err(error) = signed {
                warn!(folder = %self.setup.name, %error, "a fork cannot be proven to the others now");
            }
        }
    }

    /// Lets go of superseded entries that every member who reads here has the successor of, a while after.
    pub(super) fn let_go(&self, now: u64) -> Result<(), TurnError> {
        let Some(policy) = self.setup.shared.mesh.policy() else { return Ok(()) };
        let reads = |node| policy.level(node, self.setup.folder, &RelPath::root(), now) >= Level::Read;
        let members = policy.members().filter(|(node, _)| *node != self.writer.node && reads(*node));
        let mut applied = Vec::new();
        for (node, _) in members {
            let Some((_, peer)) = self.peers.iter().find(|(peer, _)| **peer == node) else { return Ok(()) };
            applied.push(&peer.applied);
        }
        let everywhere = |id: EntryId| {
            applied.iter().all(|frontiers| frontiers.iter().any(|f| f.writer == id.writer && f.seq >= id.seq))
        };
        // As long as their contents may be kept, and as long as they may be needed.
        let until = now.saturating_sub(self.setup.retention.keep_ms.max(NEEDED_MS));
        let pruned = self.setup.store.write(false, |index| rejudge::prune(index, until, &everywhere))?;
        debug!(folder = %self.setup.name, pruned, "superseded entries");
        Ok(())
    }
}
