//! What goes wrong in an office: links, machines, disks, indexes and clocks.

use std::collections::BTreeSet;

use lanyard::base::{NodeId, RelPath, Writer};
use lanyard::logic::sync::index::{Look, MemoryIndex, PathRecord, Walk};
use lanyard::logic::sync::own::{self, Asking};
use lanyard::wire::statement::Frontier;

use super::World;
use crate::disk::{Tree, bytes_of};
use crate::node::{BOOT_MS, content};
use crate::plant::Plant;

/// Those who ask count steps and rounds, not the clock, which may jump by a minute between two messages: so long is a step.
const ASKING_STEP_MS: u64 = 1_000;
/// And a round of healing.
const ASKING_ROUND_MS: u64 = 50_000;

/// The state of a machine, and its files.
pub(super) struct Backup {
    at: usize,
    state: (MemoryIndex, Writer),
    files: Tree,
}

impl World {
    pub(super) fn cut_or_mend(&mut self) {
        let pairs: Vec<(usize, usize)> = self.links.keys().copied().collect();
        let Some(pair) = self.rng.pick(&pairs).copied() else { return };
        let now = !self.links[&pair];
        // Most of the time an office works.
        if !now && self.rng.percent(65) {
            return;
        }
        self.links.insert(pair, now);
        self.note(|| format!("link {pair:?} {}", if now { "up" } else { "down" }));
        if now {
            self.greet(pair.0);
            self.greet(pair.1);
        } else {
            self.faults.cuts += 1;
            self.queue.retain(|letter| (letter.from.min(letter.to), letter.from.max(letter.to)) != pair);
        }
    }

    pub(super) fn die_or_start(&mut self, at: usize) -> Result<(), String> {
        if self.nodes[at].up {
            if self.rng.percent(70) {
                return Ok(());
            }
            self.note(|| format!("node {at} dies"));
            self.perish(at)
        } else {
            self.start(at);
            Ok(())
        }
    }

    pub(super) fn start(&mut self, at: usize) {
        self.nodes[at].set_clock(self.now_ms);
        if self.nodes[at].outage.is_some() {
            self.not_announced(at);
            self.now_ms += BOOT_MS;
        }
        self.nodes[at].start();
        // Links to it are new.
        self.nodes.iter_mut().for_each(|node| _ = node.linked.remove(&at));
        if self.setup.plant != Plant::SignBeforeAsking {
            self.nodes[at].asking = Some(Asking::new(!self.nodes[at].complete));
        }
        self.greet(at);
        self.note(|| format!("node {at} starts"));
    }

    /// A process dies, or the power of its machine fails.
    pub(super) fn perish(&mut self, at: usize) -> Result<(), String> {
        self.faults.deaths += 1;
        self.died(at);
        if !self.faulty || self.rng.percent(50) {
            self.nodes[at].die();
            return Ok(());
        }
        self.nodes[at].set_clock(self.now_ms);
        let cut = self.nodes[at].lose_power();
        self.not_announced(at);
        self.note(|| format!("node {at} loses power: {cut:?}"));
        self.faults.power_cuts += 1;
        self.faults.forgotten += cut.forgotten;
        self.oracle.power_failed(&cut);
        match cut.half {
            Some(path) => Err(format!("half a file: {path} of node {at} is not whole after a power cut")),
            None => Ok(()),
        }
    }

    /// What was done to announced files and not noticed before the power failed, or before the node was up again, may be taken for what the cut took back: what
    /// is missing comes again, what is there becomes a version.
    fn not_announced(&mut self, at: usize) {
        let (mut missing, mut other) = (BTreeSet::new(), Vec::new());
        let mut note = |path, record: PathRecord| {
            let known = record.disk.and_then(|disk| disk.what.content());
            let there = self.nodes[at].disk().file(&path).cloned();
            if !record.heads.is_empty() && known != there.as_ref().map(|bytes| content(bytes).0) {
                missing.extend(known);
                other.extend(there);
            }
            Walk::On
        };
        self.nodes[at].index.walk(&RelPath::root(), &mut note).expect("memory");
        self.oracle.not_announced(&|bytes| missing.contains(&content(bytes).0), other);
    }

    /// A disk begins to fail, fills up or is pulled, or is well again.
    pub(super) fn harm_or_mend_disk(&mut self, at: usize) {
        let kind = self.rng.below(6);
        let mut disk = self.nodes[at].disk();
        let calls = &mut disk.calls;
        if calls.failing > 0 || calls.full || calls.pulled {
            drop(disk);
            if kind < 3 {
                self.mend_disk(at);
            }
            return;
        }
        match kind {
            0 | 1 => calls.failing = 6,
            2 | 3 => calls.full = true,
            4 => calls.pulled = true,
            _ => return,
        }
        drop(disk);
        self.faults.pulled += u64::from(kind == 4);
        self.note(|| format!("the disk of node {at} {}", ["fails", "fails", "is full", "is full", "is pulled"][kind]));
        if kind == 4 && self.rng.percent(50) {
            self.nodes[at].die();
            self.faults.deaths += 1;
            self.start(at);
        }
    }

    pub(super) fn mend_disk(&mut self, at: usize) {
        let was_pulled = {
            let mut disk = self.nodes[at].disk();
            (disk.calls.failing, disk.calls.full) = (0, false);
            std::mem::take(&mut disk.calls.pulled)
        };
        self.note(|| format!("the disk of node {at} is well"));
        if was_pulled {
            // Its folder is opened anew.
            self.nodes[at].die();
            self.start(at);
        }
    }

    /// A machine is set up anew over the files that it had.
    pub(super) fn forget(&mut self, at: usize) {
        self.setup.forgets = false;
        self.faults.rebuilt += 1;
        self.note(|| format!("node {at} loses its index"));
        let tree = self.nodes[at].disk().tree();
        self.oracle.forgotten(at, &tree);
        self.nodes[at].forget_all(&mut self.rng);
    }

    /// One node asks how far the logs reach, and goes on once it knows.
    pub(super) fn ask(&mut self, at: usize, said: Option<(NodeId, bool, &[Frontier])>) -> Result<(), String> {
        let now_ms = self.faults.steps * ASKING_STEP_MS + self.faults.rounds * ASKING_ROUND_MS;
        let plant = self.setup.plant;
        if plant == Plant::NoHistory {
            (self.nodes[at].complete, self.nodes[at].asking) = (true, None);
        }
        let Some(mut asking) = self.nodes[at].asking.take() else { return Ok(()) };
        for peer in 0..self.nodes.len() {
            let node = self.nodes[peer].writer.node;
            match self.connected(at, peer) {
                true if self.nodes[at].linked.insert(peer) => asking.handle_up(node, now_ms),
                true => {}
                false => {
                    self.nodes[at].linked.remove(&peer);
                    asking.handle_down(node);
                }
            }
        }
        if let Some((node, complete, frontiers)) = said {
            asking.handle_word(node, complete, frontiers);
        }
        self.nodes[at].asking = Some(asking);
        if !self.nodes[at].may_sign(now_ms) {
            return Ok(());
        }
        self.recall(at)?;
        own::expect_copies(&mut self.nodes[at].index, None, usize::MAX).expect("memory");
        let node = &mut self.nodes[at];
        (node.complete, node.asking) = (true, None);
        self.faults.asked += 1;
        self.note(|| format!("node {at} may sign"));
        Ok(())
    }

    /// What lies on the disk of a node whose state was put back may be superseded: peers are asked for it.
    fn recall(&mut self, at: usize) -> Result<(), String> {
        for id in self.nodes[at].passed_over() {
            for peer in (0..self.nodes.len()).filter(|peer| self.connected(at, *peer)).collect::<Vec<_>>() {
                let reader = self.nodes[at].writer.node;
                if let Some(parcel) = self.nodes[peer].parcel_again(id, reader, &self.rules) {
                    self.nodes[at].receive(parcel, &self.rules, self.now_ms, false)?;
                }
            }
        }
        Ok(())
    }

    /// A backup is made of a node that may write.
    pub(super) fn back_up(&mut self) -> Backup {
        let writers: Vec<usize> = (0..self.nodes.len()).filter(|at| !self.oracle.readers.contains(at)).collect();
        let at = *self.rng.pick(&writers).expect("somebody writes");
        self.note(|| format!("node {at} is backed up"));
        let (state, files) = (self.nodes[at].backup(), self.nodes[at].disk().tree());
        Backup { at, state, files }
    }

    /// Once the others have all that it said since, a machine is put back to the backup, while it reaches nobody.
    pub(super) fn put_back(&mut self, backup: Option<Backup>, with_files: bool) -> Result<(), String> {
        let Some(Backup { at, state, files }) = backup else { return Ok(()) };
        self.heal()?;
        self.faults.put_back += 1;
        self.note(|| format!("node {at} is put back to its backup{}", if with_files { " with its files" } else { "" }));
        self.unaware = Some((at, self.oracle.discarded_by(at)));
        if with_files {
            self.unsigned_is_back(&files);
        }
        self.nodes[at].put_back(state, with_files.then_some(&files));
        for (pair, up) in &mut self.links {
            *up &= pair.0 != at && pair.1 != at;
        }
        self.start(at);
        Ok(())
    }

    /// What was in a backup and never signed is known to nobody: it is a change like any other.
    fn unsigned_is_back(&mut self, files: &Tree) {
        let signed = self.archive.iter().flat_map(|signed| &signed.entries);
        let signed: BTreeSet<_> = signed.filter_map(|salted| salted.entry.what.content()).collect();
        for (body, ..) in files.values() {
            if bytes_of(body).is_some_and(|bytes| !signed.contains(&content(&bytes).0)) {
                self.oracle.renewed(body);
            }
        }
    }

    pub(super) fn jump_clock(&mut self, at: usize) {
        let hour = 3_600_000;
        let span = if self.rng.percent(50) { hour } else { 5 * 365 * 24 * hour };
        let jump = i64::try_from(self.rng.below(2 * span)).expect("small") - span as i64;
        let ten_years = 10 * 365 * 24 * hour as i64;
        self.nodes[at].skew_ms = (self.nodes[at].skew_ms + jump).clamp(-ten_years, ten_years);
        let local = self.nodes[at].local_ms(self.now_ms);
        if let Some(outage) = self.nodes[at].outage.as_mut() {
            outage.until_ms = outage.until_ms.min(local);
        }
        self.faults.clock_jumps += 1;
        self.note(|| format!("the clock of node {at} jumps by {jump} ms"));
    }
}
