//! The office: nodes, links that lose, delay, double, reorder and cut, deaths and restarts, and healing.

use std::collections::{BTreeMap, BTreeSet};

use lanyard::base::{ContentId, RelPath};
use lanyard::logic::sync::index::Look;
use lanyard::logic::sync::reconcile::{Action, Target};
use lanyard::logic::sync::replica::Authored;
use lanyard::wire::statement::Frontier;

use crate::disk::{Body, Tree};
use crate::node::{Acted, Node, Office, Parcel};
use crate::oracle::Oracle;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::user::{self, Deed, Desk, User};

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
}

#[derive(Clone, Debug)]
enum Message {
    Frontiers(Vec<Frontier>),
    Parcel(Box<Parcel>),
}

/// How often things went wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) deeds: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) cuts: u64,
    pub(crate) deaths: u64,
    pub(crate) surprises: u64,
    pub(crate) clock_jumps: u64,
    pub(crate) copies: u64,
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
    queue: Vec<(usize, usize, Message)>,
    faulty: bool,
    /// Machines die at commits also while the office heals.
    fragile: bool,
    pub(crate) faults: Faults,
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
        let users = vec![User::default(); setup.nodes];
        let now_ms = 1_790_000_000_000;
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
        for _ in 0..self.setup.steps {
            self.step()?;
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
        match self.rng.below(100) {
            0..22 => {
                self.deed(at);
            }
            22..36 => self.look(at),
            36..50 => self.announce(at)?,
            50..52 => self.hasty(at)?,
            52..72 => self.deliver()?,
            72..88 => self.apply(at, 3)?,
            88..92 => self.greet(at),
            92..95 => self.cut_or_mend(),
            95..99 => self.die_or_start(at),
            _ => self.jump_clock(at),
        }
        Ok(())
    }

    /// A person does something. The watcher may or may not notice.
    pub(crate) fn deed(&mut self, at: usize) -> Option<Deed> {
        let node = &mut self.nodes[at];
        let now_ms = node.local_ms(self.now_ms);
        let mut desk = Desk {
            node: at,
            disk: &mut node.disk,
            user: &mut self.users[at],
            oracle: &mut self.oracle,
            rng: &mut self.rng,
            now_ms,
        };
        let deed = (0..6).find_map(|_| desk.act())?;
        self.faults.deeds += 1;
        if self.oracle.readers.contains(&at) {
            let families = deed.paths.iter().filter_map(user::owner);
            self.oracle.touched_by_readers.extend(deed.paths.iter().cloned().chain(families));
        }
        if self.nodes[at].up && self.rng.percent(85) {
            self.nodes[at].hints.extend(deed.paths.iter().cloned());
        }
        self.note(|| deed.text.clone());
        Some(deed)
    }

    /// Somebody saves, the node looks and announces, and they save again: all within one step of the clock that
    /// stamps files.
    fn hasty(&mut self, at: usize) -> Result<(), String> {
        if self.deed(at).is_none() {
            return Ok(());
        }
        self.look(at);
        self.announce(at)?;
        let node = &mut self.nodes[at];
        let now_ms = node.local_ms(self.now_ms);
        let (user, oracle, rng) = (&mut self.users[at], &mut self.oracle, &mut self.rng);
        let mut desk = Desk { node: at, disk: &mut node.disk, user, oracle, rng, now_ms };
        let Some(deed) = desk.save_again() else { return Ok(()) };
        self.faults.deeds += 1;
        if self.oracle.readers.contains(&at) {
            let families = deed.paths.iter().filter_map(user::owner);
            self.oracle.touched_by_readers.extend(deed.paths.iter().cloned().chain(families));
        }
        self.note(|| deed.text.clone());
        Ok(())
    }

    /// Everybody at this machine throws away every conflict copy.
    pub(crate) fn delete_copies(&mut self, at: usize) -> usize {
        let copies: Vec<RelPath> = self.nodes[at].disk.paths().into_iter().filter(user::is_copy).collect();
        for copy in &copies {
            if let Some(item) = self.nodes[at].disk.item(copy).cloned() {
                self.oracle.discarded(at, &item.body);
                self.oracle.renewed(&item.body);
            }
            if let Some(item) = user::owner(copy).and_then(|owner| self.nodes[at].disk.item(&owner).cloned()) {
                self.oracle.renewed(&item.body);
            }
            self.nodes[at].disk.remove(copy);
            self.note(|| format!("user {at} deletes copy {copy}"));
        }
        copies.len()
    }

    /// A scan: of everything when due, else of one hint.
    fn look(&mut self, at: usize) {
        let everything = self.rng.percent(15);
        let node = &mut self.nodes[at];
        if !node.up {
            return;
        }
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
        // Nothing is announced before the first full scan after a start.
        if !self.nodes[at].up || self.nodes[at].scan_due || self.nodes[at].candidates.is_empty() {
            return Ok(());
        }
        let dies = self.faulty && self.rng.percent(4);
        let now_ms = self.now_ms;
        let (signed, died) = self.nodes[at].announce(&self.rules, &mut self.rng, now_ms, dies);
        let text: Vec<String> = signed.iter().flat_map(|s| &s.entries).map(describe).collect();
        self.note(|| format!("node {at} signs {}{}", text.join(", "), if died { " and dies" } else { "" }));
        if died {
            self.faults.deaths += 1;
            if self.setup.plant != Plant::PushBeforeDurable {
                return Ok(());
            }
        }
        // A death after the index is durable and before anything is sent.
        if self.faulty && !died && self.rng.percent(3) {
            self.archive.extend(signed);
            self.nodes[at].die();
            self.faults.deaths += 1;
            self.note(|| format!("node {at} dies before it sends"));
            return Ok(());
        }
        for authored in signed {
            for to in 0..self.nodes.len() {
                let linked = to != at && self.nodes[to].up && self.links[&(at.min(to), at.max(to))];
                if linked && self.nodes[at].up {
                    let parcel = self.nodes[at].parcel(authored.batch.clone(), self.nodes[to].writer.node, &self.rules);
                    self.queue.push((at, to, Message::Parcel(Box::new(parcel))));
                } else if linked {
                    self.queue.push((at, to, Message::Parcel(Box::new(Parcel::whole(&authored)))));
                }
            }
            if !died {
                self.archive.push(authored);
            }
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), String> {
        if self.queue.is_empty() {
            return Ok(());
        }
        let mut take = 0;
        if self.faulty && self.rng.percent(20) {
            take = self.rng.below(self.queue.len());
            self.faults.reordered += u64::from(take > 0);
        }
        let (from, to, message) = self.queue.remove(take);
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
            self.queue.push((from, to, message.clone()));
        }
        self.handle(from, to, message)
    }

    fn handle(&mut self, from: usize, to: usize, message: Message) -> Result<(), String> {
        match message {
            Message::Frontiers(theirs) => {
                let most = if self.faulty { 1 + self.rng.below(8) } else { usize::MAX };
                let reader = self.nodes[from].writer.node;
                for parcel in self.nodes[to].parcels_for(&theirs, reader, &self.rules, most) {
                    self.queue.push((to, from, Message::Parcel(Box::new(parcel))));
                }
                Ok(())
            }
            Message::Parcel(parcel) => {
                let drop = self.rng.percent(10);
                self.nodes[to].receive(*parcel, &self.rules, self.now_ms, drop)
            }
        }
    }

    /// Tells every neighbour how far this node is.
    fn greet(&mut self, at: usize) {
        let ours = self.nodes[at].index.frontiers().expect("memory");
        for to in 0..self.nodes.len() {
            if self.connected(at, to) {
                self.queue.push((at, to, Message::Frontiers(ours.clone())));
            }
        }
    }

    fn cut_or_mend(&mut self) {
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
            self.queue.retain(|(from, to, _)| (*from.min(to), *from.max(to)) != pair);
        }
    }

    fn die_or_start(&mut self, at: usize) {
        if self.nodes[at].up {
            if self.rng.percent(70) {
                return;
            }
            self.nodes[at].die();
            self.faults.deaths += 1;
            self.note(|| format!("node {at} dies"));
        } else {
            self.nodes[at].start();
            self.greet(at);
            self.note(|| format!("node {at} starts"));
        }
    }

    fn jump_clock(&mut self, at: usize) {
        let hour = 3_600_000;
        self.nodes[at].skew_ms += i64::try_from(self.rng.below(2 * hour)).expect("small") - hour as i64;
        self.faults.clock_jumps += 1;
    }

    /// Plans some needed paths and carries out what can be: what is put before what is removed, deepest last.
    fn apply(&mut self, at: usize, most: usize) -> Result<(), String> {
        if !self.nodes[at].up || self.nodes[at].scan_due {
            return Ok(());
        }
        let mut needs = self.nodes[at].index.needs(None, usize::MAX).expect("memory");
        if self.faulty {
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
        for action in puts.into_iter().chain(removals) {
            if self.faulty && self.rng.percent(15) {
                // The user is quicker.
                self.deed(at);
            }
            let bytes = action.target.content().and_then(|(id, _)| self.fetch(at, id));
            let dies = (self.faulty && self.rng.percent(2)) || (self.fragile && self.rng.percent(15));
            let now_ms = self.now_ms;
            let acted = self.nodes[at].act(&action, bytes, now_ms, dies);
            self.note(|| format!("node {at} {acted:?} {} := {:?}", action.name, action.target));
            match acted {
                Acted::Done => self.faults.copies += u64::from(action.copy_of.is_some()),
                Acted::Differs => self.faults.surprises += 1,
                Acted::Waits => {}
                Acted::Died => {
                    self.faults.deaths += 1;
                    // The index never heard that its user could see this: what they do to it counts as done unseen.
                    if let Some(item) = self.nodes[at].disk.item(&action.name) {
                        self.oracle.renewed(&item.body);
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A content from this disk, or from a neighbour that has it.
    fn fetch(&mut self, at: usize, id: ContentId) -> Option<Vec<u8>> {
        if let Some(bytes) = self.nodes[at].local(id) {
            return Some(bytes);
        }
        for peer in 0..self.nodes.len() {
            let reached = self.connected(at, peer) && !(self.faulty && self.rng.percent(15));
            if reached && let Some(bytes) = self.nodes[peer].local(id) {
                return Some(bytes);
            }
        }
        None
    }

    /// Everything works again; runs until all is at rest. Then nothing may differ and nobody may have more to say.
    pub(crate) fn heal(&mut self) -> Result<(), String> {
        self.faulty = false;
        self.note(|| "healing".into());
        for at in 0..self.nodes.len() {
            if !self.nodes[at].up {
                self.nodes[at].start();
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
        let before: Vec<(Vec<Frontier>, Tree, u64)> = self.nodes.iter().map(state).collect();
        for at in 0..self.nodes.len() {
            self.nodes[at].up = true;
            self.nodes[at].scan_due = false;
            self.nodes[at].hints.clear();
            self.nodes[at].candidates.clear();
            self.nodes[at].scan(&RelPath::root());
            self.announce(at)?;
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
        Ok(before != after)
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
                    self.queue.push((peer, at, Message::Parcel(Box::new(parcel))));
                }
            }
        }
        Ok(())
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
        self.nodes[at].scan_due = false;
        self.nodes[at].scan(&RelPath::root());
        self.announce(at)
    }

    pub(crate) fn deliver_all(&mut self) -> Result<(), String> {
        self.faulty = false;
        while !self.queue.is_empty() {
            self.deliver()?;
        }
        Ok(())
    }

    /// Judges an office at rest.
    pub(crate) fn judge(&self) -> Result<(), String> {
        let first = self.nodes[0].disk.tree();
        for node in &self.nodes {
            let tree = node.disk.tree();
            if self.oracle.readers.contains(&node.at) {
                self.judge_reader(&first, &tree)?;
                self.oracle.judge(node.at, &tree)?;
                continue;
            }
            let needs = node.index.needs(None, 4).expect("memory");
            if tree != first {
                return Err(format!("divergence of node 0 and {}: {}", node.at, difference(&first, &tree)));
            }
            if !needs.is_empty() {
                return Err(format!("node {} is at rest and still needs {needs:?}", node.at));
            }
            self.oracle.judge(node.at, &tree)?;
        }
        Ok(())
    }

    /// A reader differs only where its own user did something.
    fn judge_reader(&self, office: &Tree, own: &Tree) -> Result<(), String> {
        let touched = &self.oracle.touched_by_readers;
        let excused = |path: &RelPath| {
            let owner = user::owner(path);
            let disputed = |t: &RelPath| owner.as_ref().is_some_and(|owner| t.starts_with(owner));
            touched.iter().any(|t| t.starts_with(path) || path.starts_with(t) || disputed(t))
        };
        let only = |tree: &Tree| -> Tree {
            tree.iter().filter(|(path, _)| !excused(path)).map(|(p, v)| (p.clone(), v.clone())).collect()
        };
        let (office, own) = (only(office), only(own));
        if office == own { Ok(()) } else { Err(format!("the reader differs: {}", difference(&office, &own))) }
    }

    /// All that was ever signed reaches a new node in some order, with its clock anywhere: the same files come out.
    pub(crate) fn replay(&self, rng: &mut Rng) -> Result<(), String> {
        let mut node = Node::new(self.nodes.len(), rng, Plant::Nothing);
        let mut parcels: Vec<Parcel> = self.archive.iter().map(Parcel::whole).collect();
        rng.shuffle(&mut parcels);
        for parcel in parcels {
            node.receive(parcel, &self.rules, self.now_ms, false)?;
        }
        if !node.parked.is_empty() {
            return Err(format!("{} batches stay early for ever", node.parked.len()));
        }
        for _ in 0..ROUNDS_MAX {
            let mut needs = node.index.needs(None, usize::MAX).expect("memory");
            if needs.is_empty() {
                break;
            }
            rng.shuffle(&mut needs);
            for path in needs {
                for action in node.plan(&path, self.now_ms) {
                    let wanted = action.target.content().map(|(id, _)| id);
                    let bytes = wanted.and_then(|id| self.nodes.iter().chain([&node]).find_map(|n| n.local(id)));
                    node.act(&action, bytes, self.now_ms, false);
                }
            }
        }
        let (tree, office) = (node.disk.tree(), self.nodes[0].disk.tree());
        if tree == office { Ok(()) } else { Err(format!("another order: {}", difference(&office, &tree))) }
    }

    /// What a node's index says, for people.
    pub(crate) fn records(&self, at: usize) -> String {
        let index = &self.nodes[at].index;
        let mut text = format!("needs {:?}", index.needs(None, usize::MAX).expect("memory"));
        for frontier in index.frontiers().expect("memory") {
            text += &format!("\n  log {}:{}", &frontier.writer.node.short()[..3], frontier.seq);
        }
        for parcel in &self.nodes[at].parked {
            text += &format!("\n  parked {parcel:?}").chars().take(80).collect::<String>();
        }
        index
            .walk(&RelPath::root(), &mut |path, record| {
                let heads: Vec<String> = record.heads.iter().map(|head| describe(&head.salted)).collect();
                let disk = record.disk.map(|disk| (disk.what, disk.version));
                let (of, copies, local) = (record.copy_of, record.copies, record.local_only);
                text += &format!("\n  record {path}: {heads:?} disk {disk:?} copy of {of:?} copies {copies:?} {local}");
                lanyard::logic::sync::index::Walk::On
            })
            .expect("memory");
        text
    }

    /// With everything at rest, one person does one thing: then exactly that is everywhere.
    pub(crate) fn one_at_a_time(&mut self, deeds: usize) -> Result<(), String> {
        for _ in 0..deeds {
            let at = self.rng.below(self.nodes.len());
            if self.oracle.readers.contains(&at) {
                continue;
            }
            self.now_ms += 5000;
            let before = self.nodes[at].disk.tree();
            let Some(deed) = self.deed(at) else { continue };
            let wanted = self.nodes[at].disk.tree();
            self.fragile = true;
            let healed = self.heal();
            self.fragile = false;
            healed?;
            self.judge()?;
            let family = |path: &RelPath| user::owner(path).unwrap_or_else(|| path.clone());
            let disputed: BTreeSet<RelPath> =
                before.keys().chain(wanted.keys()).filter(|path| user::is_copy(path)).map(family).collect();
            let settles = deed
                .paths
                .iter()
                .any(|path| disputed.iter().any(|owner| owner.starts_with(&family(path)) || path.starts_with(owner)));
            if settles {
                continue;
            }
            let got = self.nodes[0].disk.tree();
            let unexplained = |path: &&RelPath| {
                let idle_dir = matches!(wanted.get(*path), Some((Body::Dir, ..)))
                    && !got.contains_key(*path)
                    && !got.keys().any(|p| p.starts_with(path));
                wanted.get(*path) != got.get(*path) && !idle_dir
            };
            if let Some(path) = wanted.keys().chain(got.keys()).find(unexplained) {
                return Err(format!(
                    "'{}' did not become so: {path} is {:?}, not {:?}",
                    deed.text,
                    got.get(path),
                    wanted.get(path)
                ));
            }
        }
        Ok(())
    }
}

fn state(node: &Node) -> (Vec<Frontier>, Tree, u64) {
    (node.index.frontiers().expect("memory"), node.disk.tree(), node.disk.versions.len() as u64)
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

pub(crate) fn difference(left: &Tree, right: &Tree) -> String {
    let paths: BTreeSet<&RelPath> = left.keys().chain(right.keys()).collect();
    let differing = paths.into_iter().filter(|path| left.get(*path) != right.get(*path));
    let shown: Vec<String> =
        differing.take(4).map(|path| format!("{path}: {} / {}", show(left.get(path)), show(right.get(path)))).collect();
    shown.join("; ")
}

fn show(item: Option<&(Body, u16, lanyard::base::FileTime)>) -> String {
    match item {
        None => "nothing".into(),
        Some((Body::File(bytes), mode, mtime)) => {
            format!("{} {mode:o} {}.{}", String::from_utf8_lossy(bytes), mtime.secs, mtime.nanos)
        }
        Some((other, mode, _)) => format!("{other:?} {mode:o}"),
    }
}
