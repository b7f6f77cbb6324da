//! What goes wrong in an office: links, machines, disks, indexes and clocks.

use super::World;

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
        self.nodes[at].start();
        self.greet(at);
        self.note(|| format!("node {at} starts"));
    }

    /// A process dies, or the power of its machine fails.
    pub(super) fn perish(&mut self, at: usize) -> Result<(), String> {
        self.faults.deaths += 1;
        if !self.faulty || self.rng.percent(50) {
            self.nodes[at].die();
            return Ok(());
        }
        let cut = self.nodes[at].lose_power();
        self.note(|| format!("node {at} loses power: {cut:?}"));
        self.faults.power_cuts += 1;
        self.faults.forgotten += cut.forgotten;
        self.oracle.power_failed(&cut);
        match cut.half {
            Some(path) => Err(format!("half a file: {path} of node {at} is not whole after a power cut")),
            None => Ok(()),
        }
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

    pub(super) fn jump_clock(&mut self, at: usize) {
        let hour = 3_600_000;
        let span = if self.rng.percent(50) { hour } else { 5 * 365 * 24 * hour };
        let jump = i64::try_from(self.rng.below(2 * span)).expect("small") - span as i64;
        let ten_years = 10 * 365 * 24 * hour as i64;
        self.nodes[at].skew_ms = (self.nodes[at].skew_ms + jump).clamp(-ten_years, ten_years);
        self.faults.clock_jumps += 1;
        self.note(|| format!("the clock of node {at} jumps by {jump} ms"));
    }
}
