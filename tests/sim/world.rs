//! The office: nodes, links that lose, delay, double, reorder and cut, disks that fail, fill and are pulled, deaths and
//! power cuts, clocks that jump, members that lie, and healing.

mod burst;
mod judge;
mod large;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};

use lanyard::base::{BatchHash, RelPath};
use lanyard::logic::sync::index::Look;
use lanyard::logic::sync::reconcile::{Action, Target};
use lanyard::logic::sync::replica::{Authored, SCANNED_NOTE};
use lanyard::wire::batch::{Entry, What};
use lanyard::wire::content::CHUNK_BYTES_MIN;
use lanyard::wire::statement::Frontier;

use crate::calls::Visitor;
use crate::disk::{Cut, Item, Tree};
use crate::faults::Faults;
use crate::guard::Said;
use crate::node::{Acted, Announced, Got, Node, Office, PARKED_MAX, Ready, content};
use crate::oracle::Oracle;
use crate::parcel::Parcel;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::user::{self, Deed, Desk, User};

/// Messages on their way at once. Far above what was ever seen: what nodes say is bounded by what there is to say.
const QUEUE_MAX: usize = 4_000;
/// Rounds within which a healed office must come to rest. Far above what was ever seen.
const ROUNDS_MAX: usize = 60;

/// What kind of office a run has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) steps: usize,
    pub(crate) plant: Plant,
    /// The last node may only read.
    pub(crate) reader: bool,
    /// The reader signs what it may not.
    pub(crate) rogue: bool,
    /// This node sends forged batches, wrong contents and wrong frontiers besides the right ones.
    pub(crate) liar: Option<usize>,
    /// A node loses its index once.
    pub(crate) forgets: bool,
    /// The state of a node is put back from a backup once: with its files or without.
    pub(crate) put_back: Option<bool>,
    /// Some files have several chunks.
    pub(crate) large: bool,
    /// In the end mass changes come, which are held.
    pub(crate) guard: bool,
}

#[derive(Clone, Debug)]
enum Message {
    /// How far a node is, and whether it has history.
    Frontiers(Vec<Frontier>, bool),
    Parcel(Box<Parcel>),
    /// The number of a verdict.
    Said(usize),
}

/// A message on its way.
#[derive(Clone, Debug)]
struct Letter {
    from: usize,
    to: usize,
    message: Message,
    /// Not before this moment.
    due_ms: u64,
}

pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) nodes: Vec<Node>,
    users: Vec<User>,
    pub(crate) rules: Office,
    pub(crate) oracle: Oracle,
    rng: Rng,
    now_ms: u64,
    links: BTreeMap<(usize, usize), bool>,
    queue: Vec<Letter>,
    faulty: bool,
    /// Machines die at commits also while the office heals.
    fragile: bool,
    pub(crate) faults: Faults,
    /// A node whose state was put back and that has met nobody since, and what its users had discarded before.
    unaware: Option<(usize, std::collections::BTreeSet<Vec<u8>>)>,
    /// All verdicts.
    verdicts: Vec<Said>,
    /// Mass changes under way.
    bursts: Vec<burst::Burst>,
    /// Nobody else changes anything between two calls of lanyard.
    calm: bool,
    /// All that was ever signed and sent.
    pub(crate) archive: Vec<Authored>,
    pub(crate) trace: Vec<String>,
    tracing: bool,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut rng = Rng::new(setup.seed);
        let mut nodes: Vec<Node> = (0..setup.nodes).map(|at| Node::new(at, &mut rng, setup.plant)).collect();
        let mut rules = Office::default();
        let mut oracle = Oracle::default();
        if setup.reader {
            let last = nodes.last_mut().expect("an office has nodes");
            last.rogue = setup.rogue;
            rules.readers.insert(last.writer.node);
            oracle.readers.insert(last.at);
        }
        let pairs = (0..setup.nodes).flat_map(|a| (a + 1..setup.nodes).map(move |b| (a, b)));
        let links = pairs.map(|pair| (pair, true)).collect();
        let users = vec![User::new(setup.large); setup.nodes];
        let now_ms = 1_790_000_000_000;
        for node in &mut nodes {
            node.set_clock(now_ms);
            node.disk().flush_all();
            node.start();
        }
        Self {
            setup,
            nodes,
            users,
            rules,
            oracle,
            rng,
            now_ms,
            links,
            queue: Vec::new(),
            faulty: true,
            fragile: false,
            faults: Faults::default(),
            unaware: None,
            verdicts: Vec::new(),
            bursts: Vec::new(),
            calm: false,
            archive: Vec::new(),
            trace: Vec::new(),
            tracing: std::env::var_os("SIM_TRACE").is_some(),
        }
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.tracing {
            let text = text();
            self.trace.push(text);
        }
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        a != b && self.nodes[a].up && self.nodes[b].up && self.links[&(a.min(b), a.max(b))]
    }

    /// A run with everything that can go wrong.
    pub(crate) fn trouble(&mut self) -> Result<(), String> {
        let mut backup = None;
        for step in 0..self.setup.steps {
            self.faults.steps += 1;
            self.step()?;
            match self.setup.put_back {
                Some(_) if step == self.setup.steps / 4 => backup = Some(self.back_up()),
                Some(with_files) if step == self.setup.steps / 2 => self.put_back(backup.take(), with_files)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        self.now_ms += match self.rng.below(100) {
            0..3 => self.rng.below(60_000),
            3..40 => 0,
            _ => self.rng.below(25),
        } as u64;
        let at = self.rng.below(self.nodes.len());
        match self.rng.below(200) {
            0..44 => {
                self.deed(at);
            }
            44..72 => self.look(at)?,
            72..98 => self.announce(at)?,
            98..103 => self.hasty(at)?,
            103..143 => self.deliver()?,
            143..172 => self.apply(at, 3)?,
            172..178 => self.greet(at),
            178..183 => self.cut_or_mend(),
            183..190 => self.die_or_start(at)?,
            190..197 => self.harm_or_mend_disk(at),
            197 if self.setup.forgets => self.forget(at),
            _ => self.jump_clock(at),
        }
        self.within_bounds()
    }

    /// A person does something. The watcher may or may not notice.
    pub(crate) fn deed(&mut self, at: usize) -> Option<Deed> {
        let deed = self.sit_down(at, |desk| (0..6).find_map(|_| desk.act()))?;
        self.noticed(at, &deed, true);
        Some(deed)
    }

    /// A person at a machine; nobody works on a disk that was pulled.
    fn sit_down<T>(&mut self, at: usize, act: impl FnOnce(&mut Desk<'_>) -> Option<T>) -> Option<T> {
        self.users[at].is_anew = self.is_anew(at);
        self.users[at].is_after_cut = self.nodes[at].outage.is_some();
        let node = &self.nodes[at];
        node.set_clock(self.now_ms);
        let mut disk = node.disk();
        if disk.calls.pulled {
            return None;
        }
        let (user, oracle, rng) = (&mut self.users[at], &mut self.oracle, &mut self.rng);
        act(&mut Desk { node: at, disk: &mut disk, user, oracle, rng })
    }

    /// Whether what equals a deleted file is taken for that old file.
    fn is_anew(&self, at: usize) -> bool {
        let is_unaware = self.unaware.as_ref().is_some_and(|(node, _)| *node == at);
        is_unaware || self.nodes[at].index.note(SCANNED_NOTE).expect("memory").is_none()
    }

    fn noticed(&mut self, at: usize, deed: &Deed, watched: bool) {
        self.faults.deeds += 1;
        if self.oracle.readers.contains(&at) {
            let families = deed.paths.iter().filter_map(user::owner);
            self.oracle.touched_by_readers.extend(deed.paths.iter().cloned().chain(families));
        }
        if watched && self.nodes[at].up && self.rng.percent(85) {
            self.nodes[at].hints.extend(deed.paths.iter().cloned());
        }
        self.note(|| deed.text.clone());
    }

    /// A person will do something between two calls of lanyard.
    fn invite(&mut self, at: usize, chance: usize, calls: usize, names: &[RelPath]) {
        if !self.faulty || self.calm || !self.rng.percent(chance) {
            return;
        }
        self.users[at].is_anew = self.is_anew(at);
        self.users[at].is_after_cut = self.nodes[at].outage.is_some();
        let visitor = Visitor {
            // Mostly late: what is staged first is nobody's yet.
            after: if self.rng.percent(60) { calls * 2 / 3 + self.rng.below(calls / 3) } else { self.rng.below(calls) },
            open: if self.rng.percent(60) {
                let name = self.rng.pick(names).cloned();
                name.map(|name| (name.clone(), self.item(at, &name).map(|item| item.body)))
            } else {
                None
            },
            node: at,
            user: std::mem::take(&mut self.users[at]),
            oracle: std::mem::take(&mut self.oracle),
            rng: Rng::new(self.rng.next()),
            deeds: Vec::new(),
        };
        self.nodes[at].disk().calls.visitor = Some(Box::new(visitor));
    }

    fn see_off(&mut self, at: usize) {
        let Some(visitor) = self.nodes[at].disk().calls.visitor.take() else { return };
        let Visitor { user, oracle, deeds, .. } = *visitor;
        self.users[at] = user;
        self.oracle = oracle;
        for deed in deeds {
            self.faults.between += 1;
            self.noticed(at, &deed, true);
        }
    }

    /// Somebody saves, the node looks and announces, and they save again: all within one step of the clock that
    /// stamps files.
    fn hasty(&mut self, at: usize) -> Result<(), String> {
        if self.deed(at).is_none() {
            return Ok(());
        }
        self.look(at)?;
        self.announce(at)?;
        if let Some(deed) = self.sit_down(at, |desk| desk.save_again()) {
            self.noticed(at, &deed, false);
        }
        Ok(())
    }

    /// Everybody at this machine throws away every conflict copy.
    pub(crate) fn delete_copies(&mut self, at: usize) -> usize {
        let copies: Vec<RelPath> = self.nodes[at].disk().paths().into_iter().filter(user::is_copy).collect();
        for copy in &copies {
            if let Some(item) = self.item(at, copy) {
                self.oracle.discarded(at, &item.body);
                self.oracle.renewed(&item.body);
            }
            if let Some(item) = user::owner(copy).and_then(|owner| self.item(at, &owner)) {
                self.oracle.renewed(&item.body);
            }
            self.nodes[at].disk().remove(copy);
            self.note(|| format!("user {at} deletes copy {copy}"));
        }
        copies.len()
    }

    fn item(&self, at: usize, path: &RelPath) -> Option<Item> {
        self.nodes[at].disk().item(path)
    }

    /// A scan: of everything when due, else of one hint.
    fn look(&mut self, at: usize) -> Result<(), String> {
        let everything = self.rng.percent(15);
        if !self.nodes[at].up || !self.nodes[at].complete || self.nodes[at].asking.is_some() {
            return Ok(());
        }
        self.nodes[at].set_clock(self.now_ms);
        self.invite(at, 15, 12, &[]);
        self.look_now(at, everything);
        self.see_off(at);
        Ok(())
    }

    fn look_now(&mut self, at: usize, everything: bool) {
        let node = &mut self.nodes[at];
        if node.scan_due || everything {
            node.scan_due = false;
            node.hints.clear();
            node.scan(&RelPath::root());
            self.note(|| format!("node {at} scans all"));
        } else if let Some(hint) = node.hints.pop_first() {
            node.scan(&hint);
            self.note(|| format!("node {at} scans {hint}"));
        }
    }

    fn announce(&mut self, at: usize) -> Result<(), String> {
        // Nothing is announced before the first full scan after a start, without history, or while peers are asked.
        if !self.nodes[at].up || self.nodes[at].scan_due || !self.nodes[at].complete || self.nodes[at].asking.is_some()
        {
            return Ok(());
        }
        if self.nodes[at].candidates.is_empty() {
            self.has_looked(at);
            return Ok(());
        }
        let dies = self.faulty && self.rng.percent(4);
        let now_ms = self.now_ms;
        self.nodes[at].set_clock(now_ms);
        self.invite(at, 15, 12, &[]);
        let Announced { signed, lost, died } = self.nodes[at].announce(&self.rules, &mut self.rng, now_ms, dies);
        let visited = self.faults.between;
        self.see_off(at);
        if visited == self.faults.between {
            self.no_false_deletion(at, signed.iter().chain(&lost))?;
        }
        let text: Vec<String> = signed.iter().chain(&lost).flat_map(|s| &s.entries).map(describe).collect();
        self.note(|| format!("node {at} signs {}{}", text.join(", "), if died { " and dies" } else { "" }));
        if died {
            self.perish(at)?;
            self.archive.extend(signed);
            if self.setup.plant == Plant::PushBeforeDurable {
                self.push(at, &lost);
            }
            return Ok(());
        }
        self.has_looked(at);
        // A death after the index is durable and before anything is sent.
        if self.faulty && self.rng.percent(3) {
            self.archive.extend(signed);
            self.note(|| format!("node {at} dies before it sends"));
            return self.perish(at);
        }
        self.push(at, &signed);
        self.archive.extend(signed);
        Ok(())
    }

    /// Nothing is announced as deleted that is on the disk as it was. A loser that somebody gave the name ends as a copy.
    fn no_false_deletion<'a>(&self, at: usize, signed: impl Iterator<Item = &'a Authored>) -> Result<(), String> {
        let disk = self.nodes[at].disk();
        for Entry { path, what, .. } in signed.flat_map(|signed| &signed.entries).map(|salted| &salted.entry) {
            if let (What::Tombstone { deleted: Some(id) }, Some(bytes)) = (what, disk.file(path))
                && content(bytes).0 == *id
                && !self.users[at].has_decided(path)
            {
                return Err(format!("node {at} announces {path} as deleted, and it is there"));
            }
        }
        Ok(())
    }

    /// Sends batches to every neighbour.
    fn push(&mut self, at: usize, signed: &[Authored]) {
        for authored in signed {
            for to in 0..self.nodes.len() {
                let linked = to != at && self.nodes[to].up && self.links[&(at.min(to), at.max(to))];
                if linked && self.nodes[at].up {
                    let parcel = self.nodes[at].parcel(authored.batch.clone(), self.nodes[to].writer.node, &self.rules);
                    self.send_parcel(at, to, parcel);
                } else if linked {
                    self.send_parcel(at, to, Parcel::whole(authored));
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        self.queue.push(Letter { from, to, message, due_ms: self.now_ms });
    }

    /// A liar sends a twisted batch first.
    fn send_parcel(&mut self, from: usize, to: usize, parcel: Parcel) {
        if self.setup.liar == Some(from) && self.rng.percent(40) {
            let lie = parcel.clone().twisted(&mut self.rng);
            self.faults.lies += 1;
            self.send(from, to, Message::Parcel(Box::new(lie)));
        }
        let parcel = if self.rng.percent(10) { parcel.raw() } else { parcel };
        self.send(from, to, Message::Parcel(Box::new(parcel)));
    }

    fn deliver(&mut self) -> Result<(), String> {
        let due = self.queue.iter().position(|letter| letter.due_ms <= self.now_ms || !self.faulty);
        let Some(mut take) = due else { return Ok(()) };
        if self.faulty && self.rng.percent(20) {
            let other = self.rng.below(self.queue.len());
            if self.queue[other].due_ms <= self.now_ms && other > take {
                self.faults.reordered += 1;
                take = other;
            }
        }
        let mut letter = self.queue.remove(take);
        let (from, to) = (letter.from, letter.to);
        if !self.connected(from, to) && self.faulty {
            self.faults.lost += 1;
            return Ok(());
        }
        if self.faulty && self.rng.percent(6) {
            self.faults.lost += 1;
            return Ok(());
        }
        if self.faulty && self.rng.percent(6) {
            self.faults.doubled += 1;
            self.queue.push(letter.clone());
        }
        if self.faulty && self.rng.percent(6) {
            self.faults.delayed += 1;
            letter.due_ms = self.now_ms + self.rng.below(2_000) as u64;
            self.queue.push(letter);
            return Ok(());
        }
        self.handle(from, to, letter.message)
    }

    fn handle(&mut self, from: usize, to: usize, message: Message) -> Result<(), String> {
        match message {
            Message::Said(number) => self.hear(to, number),
            Message::Frontiers(theirs, complete) => {
                let most = if self.faulty { 1 + self.rng.below(8) } else { usize::MAX };
                let reader = self.nodes[from].writer.node;
                for parcel in self.nodes[to].parcels_for(&theirs, reader, &self.rules, most) {
                    self.send_parcel(to, from, parcel);
                }
                let said = (self.nodes[from].writer.node, complete, theirs.as_slice());
                self.ask(to, Some(said))
            }
            Message::Parcel(parcel) => {
                let drop = self.rng.percent(10);
                self.nodes[to].receive(*parcel, &self.rules, self.now_ms, drop)?;
                self.ask(to, None)?;
                if std::mem::take(&mut self.nodes[to].dropped) && self.connected(from, to) {
                    let (ours, complete) = self.says(to);
                    self.send(to, from, Message::Frontiers(ours, complete));
                }
                Ok(())
            }
        }
    }

    fn has_looked(&mut self, at: usize) {
        self.nodes[at].has_looked();
        if self.nodes[at].looked
            && let Some((_, before)) = self.unaware.take_if(|(node, _)| *node == at)
        {
            self.oracle.discarded_unaware(at, &before);
        }
    }

    fn says(&self, at: usize) -> (Vec<Frontier>, bool) {
        (self.nodes[at].index.frontiers().expect("memory"), self.nodes[at].complete)
    }

    /// Tells every neighbour how far this node is.
    fn greet(&mut self, at: usize) {
        let (ours, complete) = self.says(at);
        for to in 0..self.nodes.len() {
            if !self.connected(at, to) {
                continue;
            }
            if self.setup.liar == Some(at) && self.rng.percent(40) {
                let mut lies = ours.clone();
                for lie in &mut lies {
                    let by = self.rng.below(9) as u64;
                    (lie.seq, lie.batch) = ((lie.seq + by).saturating_sub(4), BatchHash(self.rng.bytes()));
                }
                self.faults.lies += 1;
                let complete = self.rng.percent(30);
                self.send(at, to, Message::Frontiers(lies, complete));
            }
            self.send(at, to, Message::Frontiers(ours.clone(), complete));
        }
        self.tell_verdicts(at);
    }

    /// Memory is bounded, and only whole contents that somebody saved were ever put under a name.
    fn within_bounds(&mut self) -> Result<(), String> {
        for node in &self.nodes {
            if node.parked.len() > PARKED_MAX {
                return Err(format!("memory: node {} parks {} batches", node.at, node.parked.len()));
            }
            for bytes in std::mem::take(&mut node.disk().calls.shown) {
                if !self.oracle.knows(&bytes) {
                    let text = crate::large::text(&bytes);
                    return Err(format!("node {} showed bytes that nobody saved: {text:?}", node.at));
                }
            }
        }
        self.within_limits()?;
        let waiting = self.queue.len();
        if waiting > QUEUE_MAX { Err(format!("memory: {waiting} messages are on their way")) } else { Ok(()) }
    }

    /// Plans some needed paths and carries out what can be: what is put before what is removed, deepest last.
    fn apply(&mut self, at: usize, most: usize) -> Result<(), String> {
        if !self.nodes[at].up || self.nodes[at].scan_due || !self.nodes[at].looked {
            return Ok(());
        }
        self.nodes[at].set_clock(self.now_ms);
        let mut needs = self.nodes[at].index.needs(None, usize::MAX).expect("memory");
        if self.faulty && most < usize::MAX {
            let start = self.rng.below(needs.len().max(1));
            needs = needs.into_iter().skip(start).take(most).collect();
        }
        let mut actions: Vec<Action> = Vec::new();
        for path in needs {
            for action in self.nodes[at].plan(&path, self.now_ms) {
                if actions.iter().all(|other| other.name != action.name) {
                    actions.push(action);
                }
            }
        }
        let (mut puts, mut removals): (Vec<Action>, Vec<Action>) =
            actions.into_iter().partition(|action| action.target != Target::Nothing);
        puts.sort_by(|a, b| a.name.cmp(&b.name));
        removals.sort_by(|a, b| b.name.cmp(&a.name));
        let mut ready: Vec<Ready> = Vec::new();
        let mut whole = BTreeSet::new();
        for action in puts {
            // A content that came chunk by chunk is one file; another name of it comes after this one.
            let id = action.target.content().map(|(id, _)| id);
            let got = if id.is_some_and(|id| whole.contains(&id)) { None } else { self.fetch(at, &action) };
            if let (Some(id), Some(Got::Whole(..))) = (id, &got) {
                whole.insert(id);
            }
            ready.push((action, got));
            if self.nodes[at].disk().calls.dead {
                return self.died_fetching(at);
            }
        }
        self.nodes[at].disk().calls.fuse = None;
        self.act(at, ready)?;
        if self.nodes[at].up {
            self.act(at, removals.into_iter().map(|action| (action, None)).collect())?;
        }
        self.within_bounds()
    }

    fn act(&mut self, at: usize, ready: Vec<Ready>) -> Result<(), String> {
        if ready.is_empty() {
            return Ok(());
        }
        // About as many calls as the group takes.
        let calls = 2 + ready.iter().map(|(_, bytes)| if bytes.is_some() { 14 } else { 5 }).sum::<usize>();
        if (self.faulty && self.rng.percent(10)) || (self.fragile && self.rng.percent(15)) {
            let fuse = self.rng.below(calls);
            self.nodes[at].disk().calls.fuse = Some(fuse);
        }
        // Nobody makes a file with the very name that a copy is about to have.
        let names = ready.iter().map(|(action, _)| action.name.clone());
        let names: Vec<RelPath> = names.filter(|name| !user::is_copy(name) || self.item(at, name).is_some()).collect();
        self.invite(at, 50, calls, &names);
        let now_ms = self.now_ms;
        let acted = self.nodes[at].act_all(ready, now_ms);
        let visited = self.faults.between;
        self.see_off(at);
        let visited = visited != self.faults.between;
        let died = {
            let mut disk = self.nodes[at].disk();
            disk.calls.fuse = None;
            disk.calls.dead
        };
        for (action, how) in &acted {
            self.note(|| format!("node {at} {how:?} {} := {:?}", action.name, action.target));
            match how {
                Acted::Done => self.faults.copies += u64::from(action.copy_of.is_some()),
                Acted::Differs => self.faults.surprises += 1,
                Acted::Waits => {}
                Acted::Failed | Acted::Died => {
                    // The index never heard that its user could see this: what they do to it counts as done unseen.
                    if let Some(item) = self.item(at, &action.name) {
                        self.oracle.renewed(&item.body);
                    }
                }
            }
        }
        if visited && (died || acted.iter().any(|(_, how)| *how == Acted::Failed)) {
            // What was saved in that very moment may have been taken out already, and is a version then.
            let versions = self.nodes[at].disk().versions();
            self.oracle.power_failed(&Cut { unsure: versions, ..Cut::default() });
        }
        if died {
            self.nodes[at].disk().calls.dead = true;
            self.perish(at)?;
        }
        Ok(())
    }

    /// A content from this disk, or from a neighbour that has it.
    fn fetch(&mut self, at: usize, action: &Action) -> Option<Got> {
        let (id, bytes) = action.target.content()?;
        if let Some(bytes) = self.nodes[at].local(id) {
            return Some(Got::Bytes(bytes));
        }
        let path = action.copy_of.as_ref().map_or(&action.name, |(owner, _)| owner);
        // What comes back after a verdict lies among the versions.
        if self.setup.guard
            && let Some(bytes) = self.nodes[at].serve(path, id, self.nodes[at].writer.node)
        {
            return Some(Got::Bytes(bytes));
        }
        if bytes > CHUNK_BYTES_MIN as u64 {
            return self.fetch_in_parts(at, path, id);
        }
        let asker = self.nodes[at].writer.node;
        for peer in 0..self.nodes.len() {
            let reached = self.connected(at, peer) && !(self.faulty && self.rng.percent(15));
            if !reached {
                continue;
            }
            let Some(mut bytes) = self.nodes[peer].serve(path, id, asker) else { continue };
            if self.faulty && self.setup.liar == Some(peer) && self.rng.percent(30) {
                self.faults.lies += 1;
                bytes.reverse();
                bytes.push(b'!');
            }
            if let Some(bytes) = self.nodes[at].verified(id, bytes) {
                return Some(Got::Bytes(bytes));
            }
        }
        None
    }

    /// Everything works again; runs until all is at rest. Then nothing may differ and nobody may have more to say.
    pub(crate) fn heal(&mut self) -> Result<(), String> {
        self.faulty = false;
        self.note(|| "healing".into());
        for at in 0..self.nodes.len() {
            self.mend_disk(at);
            if !self.nodes[at].up {
                self.start(at);
            }
        }
        self.links.values_mut().for_each(|up| *up = true);
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            quiet = if self.round()? { 0 } else { quiet + 1 };
            if quiet == 3 {
                self.faulty = true;
                return Ok(());
            }
        }
        let needs: Vec<_> = self.nodes.iter().map(|n| n.index.needs(None, 4).expect("memory")).collect();
        Err(format!("no rest after {ROUNDS_MAX} rounds; needs {needs:?}"))
    }

    /// One round of everything; returns whether anything happened.
    fn round(&mut self) -> Result<bool, String> {
        self.now_ms += 1000;
        self.faults.rounds += 1;
        let before: Vec<(Vec<Frontier>, Tree, u64)> = self.nodes.iter().map(state).collect();
        let deaths = self.faults.deaths;
        for at in 0..self.nodes.len() {
            if !self.nodes[at].up {
                self.start(at);
            }
            self.look_at_all(at)?;
            self.greet(at);
            self.want_holes(at)?;
        }
        let mut budget = 100_000;
        while !self.queue.is_empty() {
            self.deliver()?;
            budget -= 1;
            if budget == 0 {
                return Err("messages without end".into());
            }
        }
        for at in 0..self.nodes.len() {
            self.apply(at, usize::MAX)?;
        }
        let after: Vec<(Vec<Frontier>, Tree, u64)> = self.nodes.iter().map(state).collect();
        let asks = self.nodes.iter().any(|node| node.asking.is_some());
        Ok(asks || before != after || deaths != self.faults.deaths)
    }

    fn look_at_all(&mut self, at: usize) -> Result<(), String> {
        if self.nodes[at].complete && self.nodes[at].asking.is_none() {
            self.nodes[at].set_clock(self.now_ms);
            self.nodes[at].scan_due = false;
            self.nodes[at].hints.clear();
            self.nodes[at].candidates.clear();
            self.nodes[at].scan(&RelPath::root());
        }
        self.announce(at)
    }

    /// Asks all peers for entries that are missing here.
    fn want_holes(&mut self, at: usize) -> Result<(), String> {
        let holes = self.nodes[at].index.holes_to_ask(64).expect("memory");
        for id in holes {
            for peer in 0..self.nodes.len() {
                if !self.connected(at, peer) {
                    continue;
                }
                if let Some((_, batch)) = self.nodes[peer].index.batch_of(id).expect("memory") {
                    let parcel = self.nodes[peer].parcel(batch, self.nodes[at].writer.node, &self.rules);
                    self.send_parcel(peer, at, parcel);
                }
            }
        }
        Ok(())
    }

    /// All that went wrong so far.
    pub(crate) fn sum(&self) -> Faults {
        let mut sum = self.faults;
        for node in &self.nodes {
            let calls = node.disk().calls.faults;
            sum.held += node.held;
            (sum.failed, sum.full, sum.torn) =
                (sum.failed + calls.failed, sum.full + calls.full, sum.torn + calls.torn);
        }
        sum
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// One node looks at everything and tells the others, who listen and do nothing yet.
    pub(crate) fn scan_and_send(&mut self, at: usize) -> Result<(), String> {
        self.faulty = false;
        self.look_at_all(at)
    }

    pub(crate) fn deliver_all(&mut self) -> Result<(), String> {
        self.faulty = false;
        while !self.queue.is_empty() {
            self.deliver()?;
        }
        Ok(())
    }
}

/// The name that a path belongs to: a conflict copy to the one it is a copy of.
fn family(path: &RelPath) -> RelPath {
    user::owner(path).unwrap_or_else(|| path.clone())
}

fn state(node: &Node) -> (Vec<Frontier>, Tree, u64) {
    let disk = node.disk();
    (node.index.frontiers().expect("memory"), disk.tree(), disk.versions().len() as u64)
}

fn describe(salted: &lanyard::wire::batch::Salted) -> String {
    let entry = &salted.entry;
    let version: Vec<String> =
        entry.version.components().iter().map(|(w, n)| format!("{}:{n}", &w.node.short()[..3])).collect();
    let what = match &entry.what {
        lanyard::wire::batch::What::File { content, .. } => content.to_hex()[..6].to_string(),
        other => format!("{other:?}").chars().take(20).collect(),
    };
    format!("{}={what}{{{}}}", entry.path, version.join(" "))
}
