//! The worker's remote side: takes batches that peers sent, parks those that came early.

use std::collections::VecDeque;

use tracing::warn;

use super::worker::{TurnError, Worker};
use crate::base::{NodeId, RelPath};
use crate::logic::sync::index::{EntryId, Index, IndexError};
use crate::logic::sync::own;
use crate::logic::sync::replica::{self, Received, Reject};
use crate::node::audit::Refusal;
use crate::node::mesh::FolderVerdicts;
use crate::shell::clock;
use crate::wire::api::Deed;
use crate::wire::batch::{Batch, What};
use crate::wire::message::{BatchPush, Bye, Message};
use crate::wire::statement::Frontier;

impl Worker {
    pub(super) fn take(&mut self, pushes: Vec<(NodeId, Box<BatchPush>)>) -> Result<(), TurnError> {
        let now = clock::boottime_ms();
        let mut queue: VecDeque<_> = pushes.into();
        queue.extend(self.parked.due());
        if queue.is_empty() && self.parked.wake_ms().is_none_or(|at| at > now) {
            return Ok(());
        }
        let store = self.setup.store.clone();
        let mut resend = Vec::new();
        let verdicts = self.rules.verdicts();
        store.write(true, |index| {
            while let Some((from, push)) = queue.pop_front() {
                match self.take_one(index, &verdicts, from, &push)? {
                    Taken::Yes => queue.extend(self.parked.advanced()),
                    Taken::No => {}
                    Taken::Early => {
                        if let Some(peer) = self.parked.park(from, push, now) {
                            resend.push(peer);
                        }
                    }
                }
            }
            Ok::<_, IndexError>(())
        })?;
        if verdicts.any_void() {
            let links: Vec<_> = self.peers.iter().map(|(_, peer)| peer.link.clone()).collect();
            links.iter().try_for_each(|link| self.ask_holes(link))?;
        }
        for peer in resend.into_iter().chain(self.parked.overdue(now)) {
            // What it depends on is not coming by itself: say again how far we are, the peer sends from there.
            if let Some(link) = self.peers.get_mut(peer).map(|peer| peer.link.clone()) {
                let frontiers = self.setup.store.read(|look| look.frontiers())?;
                // A full queue means that the peer is being sent to already; it reports by itself.
                let _ = link.try_send(Message::Frontiers(self.say(frontiers)));
            }
        }
        Ok(())
    }

    fn take_one(
        &mut self,
        index: &mut dyn Index,
        verdicts: &FolderVerdicts,
        from: NodeId,
        push: &BatchPush,
    ) -> Result<Taken, IndexError> {
        let opened = Batch::open(push.header.clone()).and_then(|batch| Ok((batch, push.entries.clone().unpack()?)));
        let (batch, entries) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.misbehaved(from, &error.to_string());
                return Ok(Taken::No);
            }
        };
        if !self.rules.knows(&batch.header().heads) {
            self.setup.shared.mesh.ask_statements(from);
            return Ok(Taken::Early);
        }
        for inline in push.contents.iter() {
            let what = entries.iter().find(|(at, _)| *at == usize::from(inline.index)).map(|(_, s)| &s.entry.what);
            if let Some(content) = what.and_then(What::content) {
                self.inline.insert((content, batch.header().writer.node), inline.bytes.to_vec());
            }
        }
        let header = batch.header();
        let author = header.writer.node;
        let numbered: Vec<(u64, RelPath)> =
            entries.iter().map(|(at, salted)| (header.first + *at as u64, salted.entry.path.clone())).collect();
        self.peers.showed(from, Frontier { writer: header.writer, seq: header.last(), batch: batch.hash() });
        let time = batch.header().time;
        let ids = (self.setup.mesh_id, self.setup.folder);
        let reached = index.frontier(header.writer)?;
        match replica::receive(index, ids, verdicts, &batch, entries, &push.holes) {
            Ok(Received::Taken(_)) => {
                // Mostly there is none, and nothing has to be looked up.
                for (seq, path) in numbered.iter().filter(|_| verdicts.any_void()) {
                    if index.void(EntryId { writer: header.writer, seq: *seq })?.is_some() {
                        self.refused_entry(author, from, path);
                    }
                }
                self.clock.observe(time, clock::wall_ms());
                if own::has_forgotten(self.writer, header.writer, reached, index.frontier(header.writer)?) {
                    self.forget(index)?;
                }
                if let Some(arrival) = index.arrival_count()?.checked_sub(1) {
                    self.peers.arrived(arrival, clock::boottime_ms());
                }
                self.took_ms = clock::boottime_ms();
                self.report_due = true;
                self.applied_due = true;
                numbered.iter().for_each(|(_, path)| self.apply.renew(path));
                self.apply.touch();
                Ok(Taken::Yes)
            }
            Ok(Received::Known) => Ok(Taken::No),
            Ok(Received::Early) => Ok(Taken::Early),
            Ok(Received::Forked) => {
                // What is known already is not said again at every batch; `folders` goes on saying it.
                if self.rules.is_forked(batch.header().writer) {
                    return Ok(Taken::No);
                }
                self.prove_fork(index, &batch)?;
                let writer = batch.header().writer.node;
                warn!(folder = %self.setup.name, node = %writer.short(), "two histories under one signature; the second one is not taken");
                self.refused(
                    from,
                    author,
                    "sent a second history of its folder's changes",
                    "one signature, two histories",
                );
                Ok(Taken::No)
            }
            Err(Reject::Index(error)) => Err(error),
            Err(reject) => {
                self.misbehaved(from, &reject.to_string());
                Ok(Taken::No)
            }
        }
    }

    fn misbehaved(&mut self, from: NodeId, why: &str) {
        warn!(folder = %self.setup.name, peer = %from.short(), why, "a peer broke the protocol; its link is closed");
        self.refused(from, from, "sent changes that break the protocol", why);
        if let Some(peer) = self.peers.get_mut(from) {
            peer.link.close(Bye::Protocol);
        }
    }

    fn refused(&self, from: NodeId, by: NodeId, text: &str, why: &str) {
        let refusal = Refusal::new(Deed::Protocol, text, why).by(by).from(from).folder(self.setup.folder);
        self.setup.shared.refuse(refusal);
    }

    fn refused_entry(&self, author: NodeId, from: NodeId, path: &RelPath) {
        let shared = &self.setup.shared;
        let text = format!("changed {}/{path}", self.setup.name);
        let why = format!("{} may not write there, by the rules it knew when it signed", shared.name_of(author));
        shared.refuse(Refusal::new(Deed::Write, text, why).by(author).from(from).folder(self.setup.folder).path(path));
    }
}

/// What became of a push.
enum Taken {
    Yes,
    No,
    Early,
}
