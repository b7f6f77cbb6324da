//! Mass changes: one or two people change all files of a directory within the guard's window, while machines die and links
//! are cut; people say what becomes of what is held. What must come of it is known file by file.

use std::collections::{BTreeMap, BTreeSet};

use lanyard::base::{NodeId, RelPath};
use lanyard::logic::sync::index::{EntryId, Look};
use lanyard::wire::batch::What;
use lanyard::wire::statement::Range;

use super::{Message, World};
use crate::disk::Body;
use crate::guard::{LIMIT, Said, WINDOW_MS, is_rejected};
use crate::node::{Node, content};
use crate::user::path;

/// Files of a directory.
const FILES: usize = 12;
/// Verdicts within which nothing is held any more. Far above what was ever seen.
const VERDICTS_MAX: usize = 30;

/// What one person does to every file of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mass {
    Delete,
    Edit,
    /// Random bytes take the place of what was there.
    Encrypt,
    /// Random bytes under a further ending; what was there is deleted.
    Lock,
    // What an office does on a busy day:
    Rename,
    /// An edit every two hours, while no other machine can be reached.
    Backlog,
}

impl Mass {
    fn is_honest(self) -> bool {
        matches!(self, Self::Rename | Self::Backlog)
    }

    /// How many files this may cost a machine before somebody has decided.
    fn limit(self) -> usize {
        // A deletion may be known before the file with the further ending.
        if self == Self::Encrypt { LIMIT / 2 } else { LIMIT }
    }
}

/// A mass change under way.
#[derive(Clone, Debug)]
pub(super) struct Burst {
    author: NodeId,
    at: usize,
    mass: Mass,
    /// What was there before.
    before: BTreeMap<RelPath, Vec<u8>>,
    /// What is still to be done.
    left: Vec<RelPath>,
    /// All that was written since.
    written: BTreeSet<Vec<u8>>,
    /// Verdicts that were given before.
    since: usize,
    /// How often each machine died meanwhile.
    deaths: Vec<u64>,
}

impl World {
    /// Mass changes, one after the other, in an office that was at rest.
    pub(crate) fn mass_changes(&mut self, count: usize) -> Result<(), String> {
        for node in &mut self.nodes {
            // Clocks were set right.
            node.skew_ms %= 5_000;
            node.turn_guard_on();
        }
        self.heal()?;
        for number in 0..count {
            self.mass_change(number)?;
        }
        Ok(())
    }

    fn mass_change(&mut self, number: usize) -> Result<(), String> {
        let writers = (0..self.nodes.len()).filter(|at| !self.oracle.readers.contains(at));
        let mut authors: Vec<usize> = writers.collect();
        self.rng.shuffle(&mut authors);
        authors.truncate(1 + usize::from(self.rng.percent(40)));
        let honest = self.rng.percent(30);
        let first = self.archive.len();
        for at in authors {
            let mass = match (honest, self.rng.below(4)) {
                (true, 0 | 1) => Mass::Rename,
                (true, _) => Mass::Backlog,
                (false, 0) => Mass::Delete,
                (false, 1) => Mass::Edit,
                (false, 2) => Mass::Encrypt,
                (false, _) => Mass::Lock,
            };
            let before = self.fill(at, &format!("mass{number}-{at}"));
            let left = before.keys().cloned().collect();
            let (author, since, deaths) = (self.nodes[at].writer.node, self.verdicts.len(), vec![0; self.nodes.len()]);
            let written = BTreeSet::new();
            self.faults.masses += 1;
            self.bursts.push(Burst { author, at, mass, before, left, written, since, deaths });
        }
        self.now_ms += 3 * WINDOW_MS;
        let bursts = std::mem::take(&mut self.bursts);
        self.heal()?;
        self.bursts = bursts;
        self.now_ms += 3 * WINDOW_MS;
        self.calm = true;
        self.fret(honest)?;
        self.settle_bursts(honest)?;
        self.calm = false;
        let bursts = std::mem::take(&mut self.bursts);
        for burst in &bursts {
            self.judge_burst(burst, first)?;
            if self.verdicts[burst.since..].iter().any(|said| !said.release) {
                burst.before.values().chain(&burst.written).for_each(|bytes| self.oracle.decided_about(bytes));
            }
        }
        self.judge()
    }

    fn fill(&mut self, at: usize, dir: &str) -> BTreeMap<RelPath, Vec<u8>> {
        let mut before = BTreeMap::new();
        self.sit_down(at, |desk| {
            desk.disk.put(&path(dir), Body::Dir, 0o755, false);
            for n in 0..FILES {
                let (name, bytes) = (path(&format!("{dir}/{n}")), format!("{dir} file {n}").into_bytes());
                desk.write(&name, bytes.clone());
                before.insert(name, bytes);
            }
            desk.disk.flush_all();
            Some(())
        });
        before
    }

    /// Everything goes on while machines die, and people change and decide.
    fn fret(&mut self, honest: bool) -> Result<(), String> {
        for _ in 0..60 + self.rng.below(100) {
            self.faults.steps += 1;
            let at = self.rng.below(self.nodes.len());
            match self.rng.below(100) {
                0..22 => self.change_next(at),
                22..36 if self.nodes[at].up => self.look_at_all(at)?,
                36..60 => self.deliver()?,
                60..80 => self.apply(at, usize::MAX)?,
                80..85 => self.greet(at),
                85..89 => self.cut_or_mend(),
                89..93 => self.die_or_start(at)?,
                93..96 if !honest => self.harm_or_mend_disk(at),
                96..100 => self.decide(at)?,
                _ => {}
            }
            self.within_bounds()?;
        }
        Ok(())
    }

    /// What is left is done, and what is held is decided about, until nothing is.
    fn settle_bursts(&mut self, honest: bool) -> Result<(), String> {
        while self.bursts.iter().any(|burst| !burst.left.is_empty()) {
            for at in 0..self.nodes.len() {
                self.mend_disk(at);
                self.change_next(at);
            }
        }
        self.heal()?;
        for _ in 0..VERDICTS_MAX {
            let holding: Vec<usize> = self.nodes.iter().filter(|n| holds(n).next().is_some()).map(|n| n.at).collect();
            let Some(at) = self.rng.pick(&holding).copied() else { return Ok(()) };
            if honest {
                return Err(format!("honest work is held at node {at}"));
            }
            self.decide(at)?;
            self.heal()?;
        }
        Err(format!("something is held after {VERDICTS_MAX} verdicts"))
    }

    /// The person at this machine changes the next file.
    fn change_next(&mut self, at: usize) {
        let Some(number) = self.bursts.iter().position(|burst| burst.at == at && !burst.left.is_empty()) else {
            return;
        };
        let mass = self.bursts[number].mass;
        self.now_ms += if mass == Mass::Backlog { 2 * WINDOW_MS } else { self.rng.below(60_000) as u64 };
        let name = self.bursts[number].left[0].clone();
        let mut bytes = self.bursts[number].before[&name].clone();
        let other = |ending: &str| path(&format!("{name}{ending}"));
        bytes.extend(b" and more");
        if matches!(mass, Mass::Encrypt | Mass::Lock) {
            bytes = (0..40).flat_map(|_| self.rng.bytes()).collect();
        }
        let deed = self.sit_down(at, |desk| {
            desk.disk.calls.full = false;
            let deed = match mass {
                Mass::Delete => desk.delete(&name),
                Mass::Rename => desk.rename(&name, &other("-new")),
                Mass::Edit | Mass::Encrypt | Mass::Backlog => {
                    desk.write(&name, bytes.clone());
                    desk.deed(format!("overwrites {name}"), &[&name])
                }
                Mass::Lock => {
                    desk.write(&other(".locked"), bytes.clone());
                    desk.delete(&name);
                    desk.deed(format!("locks {name}"), &[&name])
                }
            };
            desk.disk.flush_all();
            deed
        });
        let Some(deed) = deed else { return };
        self.bursts[number].left.remove(0);
        self.bursts[number].written.insert(bytes);
        self.noticed(at, &deed, true);
        if mass == Mass::Backlog {
            self.links.iter_mut().filter(|(pair, _)| pair.0 == at || pair.1 == at).for_each(|(_, up)| *up = false);
            self.queue.retain(|letter| letter.from != at);
        }
    }

    /// Somebody decides about what is held at this machine; now and then somebody elsewhere decides otherwise at once.
    fn decide(&mut self, at: usize) -> Result<(), String> {
        let held: Vec<NodeId> = holds(&self.nodes[at]).collect();
        let Some(author) = self.rng.pick(&held).copied().filter(|_| self.nodes[at].up) else { return Ok(()) };
        let release = self.rng.percent(50);
        let mut said: Vec<(usize, Said)> = self.verdicts_on(at, author, release);
        if self.rng.percent(40) {
            let mut others: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != at).collect();
            others.retain(|other| self.nodes[*other].up && holds(&self.nodes[*other]).any(|node| node == author));
            if let Some(other) = self.rng.pick(&others).copied() {
                self.faults.opposite += 1;
                said.extend(self.verdicts_on(other, author, !release));
            }
        }
        for (at, said) in said {
            let (first, last, by) =
                (said.range.first, said.range.last, if said.release { "released" } else { "rejected" });
            self.note(|| format!("{first} to {last} are {by} at node {at}"));
            self.verdicts.push(said);
            self.faults.verdicts += 1;
            self.hear(at, self.verdicts.len() - 1)?;
        }
        Ok(())
    }

    fn verdicts_on(&self, at: usize, author: NodeId, release: bool) -> Vec<(usize, Said)> {
        let node = &self.nodes[at];
        let after: BTreeSet<usize> = node.said.keys().copied().collect();
        let burst = node.guard.bursts().find(|(held, _)| *held == author).expect("held").1;
        let mut said = Vec::new();
        for (writer, stretch) in burst.held.iter().filter(|(_, stretch)| stretch.held_to > 0) {
            let batch = node.index.batch_of(EntryId { writer: *writer, seq: stretch.last }).expect("memory");
            let batch = batch.expect("it came").1.hash();
            let range = Range { writer: *writer, first: stretch.first, last: stretch.last, batch };
            said.push((at, Said { range, release, after: after.clone() }));
        }
        said
    }

    /// A verdict comes to a machine, which follows it and passes it on.
    pub(super) fn hear(&mut self, at: usize, number: usize) -> Result<(), String> {
        if !self.nodes[at].up || self.nodes[at].said.contains_key(&number) {
            return Ok(());
        }
        let pages = if self.faulty && self.rng.percent(20) { self.rng.below(4) } else { usize::MAX };
        self.nodes[at].hear(number, self.verdicts[number].clone(), &self.rules, pages);
        if !self.nodes[at].up {
            self.note(|| format!("node {at} dies while it follows a verdict"));
            return self.perish(at);
        }
        self.tell_verdicts(at);
        Ok(())
    }

    /// What a machine knows of verdicts goes to its neighbours.
    pub(super) fn tell_verdicts(&mut self, at: usize) {
        for number in self.nodes[at].said.keys().copied().collect::<Vec<_>>() {
            for to in (0..self.nodes.len()).filter(|to| self.connected(at, *to)).collect::<Vec<_>>() {
                if !self.nodes[to].said.contains_key(&number) {
                    self.send(at, to, Message::Said(number));
                }
            }
        }
    }

    pub(super) fn died(&mut self, at: usize) {
        self.bursts.iter_mut().for_each(|burst| burst.deaths[at] += 1);
    }

    /// On no machine but the author's is more gone than the limit, before somebody decided.
    pub(super) fn within_limits(&self) -> Result<(), String> {
        for burst in &self.bursts {
            for node in self.nodes.iter().filter(|node| node.at != burst.at) {
                let known =
                    || node.said.range(burst.since..).filter(|(_, said)| said.range.writer.node == burst.author);
                if burst.mass.is_honest() && holds(node).any(|held| held == burst.author) {
                    return Err(format!("honest work ({:?}) is held at node {}", burst.mass, node.at));
                }
                if burst.mass.is_honest() || known().any(|(_, said)| said.release) {
                    continue;
                }
                let disk = node.disk();
                let gone = burst.before.iter().filter(|(path, bytes)| disk.file(path) != Some(bytes)).count();
                let fresh = burst.before.keys().all(|path| disk.file(path).is_none());
                let most = burst.mass.limit() * (1 + known().count()) + burst.deaths[node.at] as usize;
                if gone > most && !fresh {
                    return Err(format!(
                        "{:?} took {gone} files away at node {}, more than {most}",
                        burst.mass, node.at
                    ));
                }
            }
        }
        Ok(())
    }

    /// Every file is what the last of its author's changes says that was not rejected, on every machine.
    fn judge_burst(&self, burst: &Burst, first: usize) -> Result<(), String> {
        let said: BTreeMap<usize, Said> = self.verdicts.iter().cloned().enumerate().collect();
        let mut want: BTreeMap<RelPath, Option<lanyard::base::ContentId>> = BTreeMap::new();
        for (path, bytes) in &burst.before {
            want.insert(path.clone(), Some(content(bytes).0));
        }
        let dir = burst.before.keys().next().and_then(RelPath::parent).expect("a directory");
        let mut filled: BTreeSet<RelPath> = BTreeSet::new();
        for signed in &self.archive[first..] {
            let header = signed.batch.header();
            for (seq, salted) in (header.first..).zip(&signed.entries) {
                let (id, entry) = (EntryId { writer: header.writer, seq }, &salted.entry);
                if !entry.path.starts_with(&dir) || entry.path == dir || id.writer.node != burst.author {
                    continue;
                }
                // The first entry of a file is what was there before.
                let is_before = burst.before.contains_key(&entry.path) && filled.insert(entry.path.clone());
                if !is_before && !is_rejected(&said, id, &|_| true) {
                    want.insert(entry.path.clone(), entry.what.content());
                }
                debug_assert!(!matches!(entry.what, What::Symlink(_)));
            }
        }
        for node in &self.nodes {
            for (path, want) in &want {
                let there = node.disk().file(path).map(|bytes| content(bytes).0);
                if there != *want {
                    let (mass, text) = (burst.mass, node.disk().file(path).map(|bytes| crate::large::text(bytes)));
                    return Err(format!("{mass:?}: {path} of node {} is {text:?}, which was not decided", node.at));
                }
            }
        }
        Ok(())
    }
}

/// Of whom a machine holds something.
fn holds(node: &Node) -> impl Iterator<Item = NodeId> {
    node.guard.bursts().map(|(node, _)| node)
}
