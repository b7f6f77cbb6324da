//! Freezes, over random offices: whatever the order in which statements and batches come, and whatever was pruned in
//! between, the files are the same; and what a node does after it was removed reaches nobody.
//!
//! A case: four nodes write, sign and meet as a seed says. Then two onlookers get all that was ever signed, each in an
//! order of its own; one prunes as it goes, the other never; then they ask each other for what is missing.
//!
//! `FREEZE_CASES` says how many cases; 10,000 take some minutes without optimisation.

use std::collections::BTreeSet;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use lanyard::base::time::HlcClock;
use lanyard::base::{
    ContentId, FileInfo, FileTime, FolderId, GroupId, Hlc, Kind, Level, MeshId, NodeId, RelPath, Role, VersionVector,
    Writer,
};
use lanyard::logic::policy::{
    Ask, Judge, Policy, StatementSet, VoidEntry, Written, draft, evaluate, found, freeze_frontiers, permit,
};
use lanyard::logic::sync::conflict::{self, Main};
use lanyard::logic::sync::index::{self, EntryId, IndexError, Look, MemoryIndex, Walk};
use lanyard::logic::sync::rejudge::{self, Verdicts};
use lanyard::logic::sync::replica::{self, Author, Authored, Found, Received, Rules, Seen};
use lanyard::wire::batch::{Header, Salted, What};
use lanyard::wire::codec::List;
use lanyard::wire::message::Hole;
use lanyard::wire::statement::{
    Admit, Body, CreateFolder, Expel, FolderFrontier, Found as Founding, Grant, Group, Name, Range, Revoke, Seal,
    SetRole, Statement, Subject, Verdict, Vouch,
};

const NODES: usize = 4;
const PATHS: [&str; 3] = ["a", "b", "d/c"];
const DAY: u64 = lanyard::logic::policy::SEAL_AFTER_MS;

struct Rng(u64);

impl Rng {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % most
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

fn key(at: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(at).expect("few nodes") + 1; 32])
}

fn node(at: usize) -> NodeId {
    NodeId(key(at).verifying_key().to_bytes())
}

fn writer(at: usize) -> Writer {
    Writer { node: node(at), incarnation: 1 }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

fn path(at: usize) -> RelPath {
    RelPath::new(PATHS[at % PATHS.len()]).expect("valid")
}

/// The judge as `node::mesh` wraps it.
struct Bench<'a>(&'a Judge, FolderId);

impl Bench<'_> {
    fn why(&self, header: &Header, seq: u64, path: &RelPath, look: &dyn Look) -> index::Result<Option<VoidEntry>> {
        let Ok(view) = self.0.view(self.1, &header.heads) else { panic!("judged before its statements came") };
        let written = Written { writer: header.writer, seq, path, at_ms: header.time.ms };
        let holds = |writer: Writer, seq: u64| {
            let batch = look.batch_of(EntryId { writer, seq })?;
            Ok::<_, IndexError>(batch.map(|(_, batch)| (batch.header().last(), batch.hash())))
        };
        Ok(self.0.judge(&view, &written, holds)?.err())
    }
}

impl Verdicts for Bench<'_> {
    fn counts(&self, header: &Header, seq: u64, path: &RelPath, look: &dyn Look) -> index::Result<bool> {
        Ok(self.why(header, seq, path, look)?.is_none())
    }

    fn is_rejected(&self, header: &Header, seq: u64, path: &RelPath, look: &dyn Look) -> index::Result<bool> {
        Ok(matches!(self.why(header, seq, path, look)?, Some(VoidEntry::Rejected(_))))
    }
}

struct AsOf<'a>(&'a Policy, FolderId, u64);

impl Rules for AsOf<'_> {
    fn permits(&self, node: NodeId, path: &RelPath, level: Level) -> bool {
        permit(self.0, node, &Ask { folder: self.1, path: path.clone(), level }, self.2).is_ok()
    }
}

/// Reads everything: an onlooker is asked by an onlooker.
struct Open;

impl Rules for Open {
    fn permits(&self, _: NodeId, _: &RelPath, _: Level) -> bool {
        true
    }
}

/// One machine: what it knows of statements and of the folder.
#[derive(Clone)]
struct Machine {
    set: Arc<StatementSet>,
    index: MemoryIndex,
    /// Batches that came before what they have seen, or before the statements that they name.
    parked: Vec<Authored>,
    prunes: bool,
}

impl Machine {
    fn learn(&mut self, statements: impl Iterator<Item = Statement>, folder: FolderId, at: usize) {
        let set = Arc::make_mut(&mut self.set);
        statements.for_each(|statement| {
            set.insert(statement).expect("in bounds");
        });
        let judge = Judge::new(self.set.clone());
        rejudge::rejudge(&mut self.index, &Bench(&judge, folder), node(at)).expect("memory");
    }

    fn take(&mut self, batches: impl Iterator<Item = Authored>, folder: FolderId) {
        let judge = Judge::new(self.set.clone());
        let ids = (self.set.mesh(), folder);
        let mut waiting: Vec<Authored> = self.parked.drain(..).chain(batches).collect();
        loop {
            let before = waiting.len();
            waiting.retain(|authored| {
                if !authored.batch.header().heads.iter().all(|id| self.set.contains(id)) {
                    return true;
                }
                let entries = authored.entries.iter().cloned().enumerate().collect();
                let received =
                    replica::receive(&mut self.index, ids, &Bench(&judge, folder), &authored.batch, entries, &[]);
                received.expect("sound") == Received::Early
            });
            if waiting.len() == before {
                break;
            }
        }
        self.parked = waiting;
        if self.prunes {
            rejudge::prune(&mut self.index, u64::MAX, &|_| true).expect("memory");
        }
    }

    fn known(&self, folder: FolderId) -> Vec<FolderFrontier> {
        let mut known = vec![FolderFrontier::holds(folder)];
        let frontiers = self.index.frontiers().expect("memory");
        known.extend(frontiers.into_iter().map(|frontier| FolderFrontier { folder, frontier }));
        known
    }

    /// What is under each name and beside it.
    fn files(&self) -> Vec<(RelPath, Option<EntryId>, Vec<EntryId>)> {
        let mut files = Vec::new();
        let show = &mut |path: RelPath, record: index::PathRecord| {
            let view = conflict::view(&record, false);
            let main = match view.main {
                Main::Head(head) => Some(head.id),
                _ => None,
            };
            let beside: Vec<EntryId> = view.losers.iter().map(|head| head.id).collect();
            if main.is_some() || !beside.is_empty() {
                files.push((path, main, beside));
            }
            Walk::On
        };
        self.index.walk(&RelPath::root(), show).expect("memory");
        files
    }

    /// Asks `other` for what it knows to be missing.
    fn ask(&mut self, other: &Self, folder: FolderId) {
        let judge = Judge::new(self.set.clone());
        let ids = (self.set.mesh(), folder);
        for _ in 0..50 {
            let holes = self.index.holes_to_ask(999).expect("memory");
            let mut news = false;
            for id in holes {
                let Some((_, batch)) = other.index.batch_of(id).expect("memory") else { continue };
                let push = replica::push_again(&other.index, batch.clone(), node(0), &Open).expect("memory");
                let entries: Vec<(usize, Salted)> =
                    push.entries.into_iter().map(|(at, salted)| (usize::from(at), salted)).collect();
                let bench = Bench(&judge, folder);
                let holes: &[Hole] = &push.holes;
                replica::receive(&mut self.index, ids, &bench, &batch, entries, holes).expect("sound");
                news |= self.index.hole(id).expect("memory").is_none();
            }
            if !news {
                return;
            }
        }
    }
}

struct Office {
    rng: Rng,
    folder: FolderId,
    machines: Vec<Machine>,
    statements: Vec<Statement>,
    batches: Vec<Authored>,
    clock: u64,
}

impl Office {
    fn open(seed: u64) -> Self {
        let body = Founding {
            name: name("office"),
            node_name: name("n0"),
            nonce: [0; 16],
            recovery: NodeId(key(100).verifying_key().to_bytes()),
        };
        let first = found(body, &key(0), Hlc { ms: 1, count: 0 });
        let mut set = StatementSet::new(MeshId(first.id().0));
        set.insert(first.clone()).expect("founding");
        let machine = Machine { set: Arc::new(set), index: MemoryIndex::default(), parked: Vec::new(), prunes: false };
        let folder = FolderId([0; 32]);
        let mut office = Self {
            rng: Rng(seed),
            folder,
            machines: vec![machine; NODES],
            statements: vec![first],
            batches: Vec::new(),
            clock: 1,
        };
        for at in 1..NODES {
            let role = if at == 1 { Role::Admin } else { Role::Member };
            office.sign(0, Body::Admit(Admit { node: node(at), name: name("n"), role }));
        }
        office.folder = FolderId(office.sign(0, Body::CreateFolder(CreateFolder { name: name("f") })).id().0);
        let folder = office.folder;
        let all =
            Grant { folder, subject: Subject::Everyone, path: RelPath::root(), level: Level::Write, not_after: None };
        office.sign(0, Body::Grant(all));
        for at in 1..NODES {
            office.meet(at, 0);
        }
        office
    }

    fn sign(&mut self, at: usize, body: Body) -> Statement {
        let known = self.machines[at].known(self.folder);
        let lists = freeze_frontiers(&evaluate(&self.machines[at].set), &body, &known);
        self.sign_with(at, body, lists.into_iter().next().unwrap_or_default())
    }

    fn sign_with(&mut self, at: usize, body: Body, frontiers: List<FolderFrontier, 1024>) -> Statement {
        self.clock += 1;
        let set = &self.machines[at].set;
        let statement = draft(set, &key(at), Hlc { ms: self.clock, count: 0 }, body, frontiers);
        self.statements.push(statement.clone());
        let folder = self.folder;
        self.machines[at].learn(std::iter::once(statement.clone()), folder, at);
        statement
    }

    /// `at` learns all that `from` knows.
    fn meet(&mut self, at: usize, from: usize) {
        let folder = self.folder;
        let statements: Vec<Statement> = self.machines[from].set.in_order().cloned().collect();
        let mut known = Vec::new();
        let index = &self.machines[from].index;
        index
            .arrivals(0, &mut |_, batch| {
                known.push(batch.hash());
                Walk::On
            })
            .expect("memory");
        let batches: Vec<Authored> =
            self.batches.iter().filter(|authored| known.contains(&authored.batch.hash())).cloned().collect();
        self.machines[at].learn(statements.into_iter(), folder, at);
        self.machines[at].take(batches.into_iter(), folder);
    }

    /// A user saves or deletes. A rogue signs though it may not, and names older heads than it knows.
    fn write(&mut self, at: usize, rogue: bool) {
        self.clock += 1;
        let (now, folder) = (self.clock, self.folder);
        let name = path(self.rng.below(PATHS.len()));
        let machine = &mut self.machines[at];
        let policy = evaluate(&machine.set);
        let mut record = machine.index.path(&name).expect("memory").unwrap_or_default();
        // The disk is as the heads say.
        let seen = |n: u8| Seen {
            info: FileInfo {
                kind: Kind::File,
                bytes: u64::from(n),
                mode: 0o644,
                mtime: FileTime { secs: i64::try_from(now).expect("small"), nanos: 0 },
                ctime: FileTime::default(),
                inode: 1,
            },
            what: What::File { bytes: u64::from(n), content: ContentId([n; 32]) },
            recheck: false,
            attributes: Default::default(),
        };
        let mut version = VersionVector::default();
        record.heads.iter().for_each(|head| version.join(head.version()));
        if let Some(What::File { bytes, content }) = record.heads.first().map(|head| head.what().clone()) {
            let what = What::File { bytes, content };
            record.disk = Some(index::OnDisk::new(seen(0).info, what, version));
            record.local_only = false;
            index::Index::put_path(&mut machine.index, &name, &record).expect("memory");
        }
        let content = u8::try_from(self.rng.below(250)).expect("small");
        let gone = self.rng.below(6) == 0;
        let found = Found { path: name, seen: (!gone).then(|| seen(content)) };
        let rules = AsOf(&policy, folder, now);
        let mut heads = machine.set.heads();
        if rogue {
            // Anything older that it knows, as far as its own last batch allows: nothing forbids it to go back.
            let older: Vec<_> = machine.set.in_order().map(Statement::id).collect();
            heads = vec![older[4 + self.rng.below(older.len() - 4)]];
        }
        let author = Author {
            mesh: machine.set.mesh(),
            folder,
            writer: writer(at),
            key: &key(at),
            heads,
            rules: if rogue { &Open } else { &rules },
            seed: [u8::try_from(now % 250).expect("small"); 32],
            late: None,
        };
        let mut hlc = HlcClock::default();
        let signed = replica::author(&mut machine.index, &author, &mut hlc, now, vec![found]).expect("memory");
        self.batches.extend(signed);
        // An author shows what counts, also where that is not what it signed.
        let judge = Judge::new(self.machines[at].set.clone());
        rejudge::rejudge(&mut self.machines[at].index, &Bench(&judge, folder), node(at)).expect("memory");
    }

    fn step(&mut self) {
        let at = self.rng.below(NODES);
        let (x, y) = (self.rng.below(NODES), self.rng.below(NODES));
        let folder = self.folder;
        let subject = if y == 0 { Subject::Everyone } else { Subject::Node(node(y)) };
        let admin = self.rng.below(2);
        let place = if self.rng.below(2) == 0 { RelPath::root() } else { path(y) };
        match self.rng.below(20) {
            0..8 => self.write(at, false),
            8 => self.write(2 + at % 2, true),
            9..13 => self.meet(at, x),
            13 if x > 0 => {
                self.sign(admin, Body::Expel(Expel { node: node(x) }));
            }
            14 => {
                let level = [Level::None, Level::Read, Level::Write, Level::Manage][x];
                let not_after = (x == 2).then_some(self.clock + 5);
                self.sign(admin, Body::Grant(Grant { folder, subject, path: place, level, not_after }));
            }
            15 => {
                let member = 1 + self.rng.below(3);
                let body = match x {
                    0 => Body::Revoke(Revoke { folder, subject, path: place }),
                    1 => Body::Admit(Admit { node: node(y), name: name("n"), role: Role::Member }),
                    2 => Body::SetRole(SetRole { node: node(1), role: Role::Member }),
                    _ => Body::Grant(Grant { folder, subject, path: place, level: Level::Write, not_after: None }),
                };
                self.sign(if x == 3 { member } else { admin }, body);
            }
            16 => {
                let members = List::new(BTreeSet::from([node(x), node(y)]).into_iter().collect()).expect("two");
                self.sign(admin, Body::Group(Group { group: GroupId([1; 16]), name: name("g"), members }));
                let group = Subject::Group(GroupId([1; 16]));
                let rule = Grant { folder, subject: group, path: path(x), level: Level::None, not_after: None };
                self.sign(admin, Body::Grant(rule));
            }
            17 => self.vouch(admin),
            18 => {
                self.clock += DAY;
                let known = self.machines[admin].known(folder);
                let judge = Judge::new(self.machines[admin].set.clone());
                for (statement, frontiers) in judge.seals_due(node(admin), self.clock, &known) {
                    self.sign_with(admin, Body::Seal(Seal { grant: statement }), List::truncated(frontiers));
                }
            }
            _ => self.decide(admin),
        }
    }

    /// An admin keeps some late work that it sees.
    fn vouch(&mut self, at: usize) {
        let index = &self.machines[at].index;
        let voids = index.voids_after(None, 99).expect("memory");
        if voids.is_empty() {
            return;
        }
        let id = voids[self.rng.below(voids.len())].0;
        let Some((_, batch)) = index.batch_of(id).expect("memory") else { return };
        let range = Range { writer: id.writer, first: id.seq, last: id.seq, batch: batch.hash() };
        let ranges = List::new(vec![range]).expect("one");
        self.sign(at, Body::Vouch(Vouch { folder: self.folder, ranges }));
    }

    /// An admin lets some change that it knows happen, or takes it back.
    fn decide(&mut self, at: usize) {
        let known: Vec<Range> = self.machines[at]
            .index
            .frontiers()
            .expect("memory")
            .into_iter()
            .map(|f| Range { writer: f.writer, first: f.seq.max(2) - 1, last: f.seq, batch: f.batch })
            .collect();
        if known.is_empty() {
            return;
        }
        let range = known[self.rng.below(known.len())].clone();
        let release = self.rng.below(2) == 0;
        self.sign(at, Body::Verdict(Verdict { folder: self.folder, range, release }));
    }

    /// Gives all that was ever signed to a new machine, in an order of its own.
    fn onlooker(&mut self, prunes: bool, statements_first: bool) -> Machine {
        let folder = self.folder;
        let set = StatementSet::new(self.machines[0].set.mesh());
        let mut machine = Machine { set: Arc::new(set), index: MemoryIndex::default(), parked: Vec::new(), prunes };
        let (mut statements, mut batches) = (self.statements.clone(), self.batches.clone());
        self.rng.shuffle(&mut statements);
        self.rng.shuffle(&mut batches);
        if statements_first {
            machine.learn(statements.drain(..), folder, 9);
        }
        while !statements.is_empty() || !batches.is_empty() {
            let some = self.rng.below(4).min(statements.len());
            machine.learn(statements.drain(..some), folder, 9);
            let some = self.rng.below(4).min(batches.len());
            machine.take(batches.drain(..some), folder);
        }
        machine.take(std::iter::empty(), folder);
        machine
    }
}

fn cases() -> u64 {
    std::env::var("FREEZE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
}

#[test]
fn the_files_are_the_same_whatever_came_first_and_whatever_was_pruned() {
    let (mut void, mut asked) = (0, 0);
    for seed in 0..cases() {
        let mut office = Office::open(seed);
        let steps = 10 + office.rng.below(25);
        (0..steps).for_each(|_| office.step());
        let folder = office.folder;
        let mut one = office.onlooker(true, false);
        let mut other = office.onlooker(false, true);
        assert!(one.parked.is_empty() && other.parked.is_empty(), "seed {seed}: something still waits");
        asked += one.index.holes_to_ask(999).expect("memory").len();
        let before = other.clone();
        one.ask(&before, folder);
        other.ask(&one.clone(), folder);
        assert_eq!(one.files(), other.files(), "seed {seed}");
        void += one.index.voids_after(None, 999).expect("memory").len();
        // Whoever was there all the time shows the same, once it knows all.
        let mut member = office.machines[0].clone();
        member.learn(office.statements.clone().into_iter(), folder, 0);
        member.take(office.batches.clone().into_iter(), folder);
        member.ask(&one.clone(), folder);
        assert_eq!(member.files(), one.files(), "seed {seed}, the founder");
    }
    println!("{} cases, {void} void entries, {asked} pruned entries asked for again", cases());
    assert!(void > 0 && asked > 0, "nothing was put to the test");
}

#[test]
fn nothing_that_a_node_does_after_its_removal_reaches_an_honest_one() {
    let mut tried = 0;
    for seed in 0..cases().min(500) {
        let mut office = Office::open(seed);
        (0..12).for_each(|_| office.write(office.clock as usize % NODES, false));
        for at in [0, 1, 3] {
            office.meet(0, at);
        }
        // What the founder does not know of node 2 is late; node 2 goes on, cut off, and grants to node 3.
        office.sign(0, Body::Expel(Expel { node: node(2) }));
        office.meet(3, 0);
        let folder = office.folder;
        let mut honest = office.machines[0].clone();
        let expected = honest.files();
        let signed = office.batches.len();
        for round in 0..6 {
            let level = if round % 2 == 0 { Level::Manage } else { Level::None };
            let subject = Subject::Node(node(3));
            office.sign(2, Body::Grant(Grant { folder, subject, path: RelPath::root(), level, not_after: None }));
            office.write(2, round % 3 == 0);
        }
        let late: Vec<Authored> = office.batches.clone();
        tried += late.len() - signed;
        honest.learn(office.statements.clone().into_iter(), folder, 0);
        honest.take(late.into_iter(), folder);
        let by_removed = |machine: &Machine| {
            let known = office.machines[0].index.frontier(writer(2)).expect("memory").map_or(0, |f| f.seq);
            let files = machine.files();
            files.into_iter().any(|(_, main, beside)| {
                main.into_iter().chain(beside).any(|id| id.writer == writer(2) && id.seq > known)
            })
        };
        assert!(!by_removed(&honest), "seed {seed}: {:?} became {:?}", expected, honest.files());
    }
    assert!(tried > 0, "the removed node wrote nothing");
}

/// Which of all entries that were ever signed do not count under a set.
fn void_under(office: &Office, set: &StatementSet) -> BTreeSet<EntryId> {
    let judge = Judge::new(Arc::new(set.clone()));
    let mut all = MemoryIndex::default();
    // Each log as its writer has it.
    for authored in &office.batches {
        index::Index::put_batch(&mut all, &authored.batch).expect("memory");
    }
    let mut void = BTreeSet::new();
    for authored in &office.batches {
        let header = authored.batch.header();
        for (at, salted) in authored.entries.iter().enumerate() {
            let id = EntryId { writer: header.writer, seq: header.first + at as u64 };
            let bench = Bench(&judge, office.folder);
            if !bench.counts(header, id.seq, &salted.entry.path, &all).expect("memory") {
                void.insert(id);
            }
        }
    }
    void
}

fn union(office: &Office) -> StatementSet {
    let mut set = StatementSet::new(office.machines[0].set.mesh());
    office.statements.iter().for_each(|statement| {
        set.insert(statement.clone()).expect("in bounds");
    });
    set
}

#[test]
fn a_deny_lets_nothing_count_that_did_not() {
    let mut freed = 0;
    for seed in 0..cases().min(400) {
        let mut office = Office::open(seed);
        (0..25).for_each(|_| office.step());
        let before = void_under(&office, &union(&office));
        let (at, y) = (office.rng.below(2), office.rng.below(NODES));
        let subject = if y == 0 { Subject::Everyone } else { Subject::Node(node(y)) };
        let (folder, place) = (office.folder, path(y));
        let deny = Grant { folder, subject, path: place, level: Level::None, not_after: None };
        // One that continues the issuer's last sentence would only say more of what that knew.
        let is_last = office.statements.iter().rev().find(|s| s.head().issuer == node(at));
        if is_last.is_some_and(|last| *last.body() == Body::Grant(deny.clone())) {
            continue;
        }
        office.sign(at, Body::Grant(deny));
        let after = void_under(&office, &union(&office));
        assert!(after.is_superset(&before), "seed {seed}: {:?}", before.difference(&after).collect::<Vec<_>>());
        freed += after.len() - before.len();
    }
    assert!(freed > 0, "no deny did anything");
}

#[test]
fn members_who_manage_nothing_let_nothing_count_that_did_not() {
    let mut void = 0;
    for seed in 0..cases().min(400) {
        let mut office = Office::open(seed);
        let folder = office.folder;
        for round in 0..14 {
            let at = office.rng.below(NODES);
            office.write(at, false);
            if round % 3 == 0 {
                let (x, y) = (office.rng.below(3), 1 + office.rng.below(3));
                let level = [Level::None, Level::Read, Level::Write][x];
                let rule = Grant { folder, subject: Subject::Node(node(y)), path: path(x), level, not_after: None };
                let admin = office.rng.below(2);
                office.sign(admin, Body::Grant(rule));
            }
            if round % 4 == 0 {
                let (to, from) = (office.rng.below(NODES), office.rng.below(NODES));
                office.meet(to, from);
            }
        }
        let before = void_under(&office, &union(&office));
        for _ in 0..10 {
            let at = 2 + office.rng.below(2);
            let (x, y) = (office.rng.below(NODES), office.rng.below(NODES));
            let statement = office.statements[office.rng.below(office.statements.len())].id();
            let ranges = before.iter().map(|id| Range {
                writer: id.writer,
                first: 1,
                last: id.seq,
                batch: office.batches.iter().find(|b| b.batch.header().writer == id.writer).expect("its").batch.hash(),
            });
            let ranges = List::truncated(ranges.collect());
            let release = x > 1;
            let range = ranges.first().cloned();
            let body = match office.rng.below(8) {
                0 => Body::Vouch(Vouch { folder, ranges }),
                1 => Body::Seal(Seal { grant: statement }),
                2 => Body::Expel(Expel { node: node(x) }),
                3 => Body::Admit(Admit { node: node(y), name: name("n"), role: Role::Admin }),
                4 => Body::SetRole(SetRole { node: node(x), role: Role::Admin }),
                5 => Body::Revoke(Revoke { folder, subject: Subject::Node(node(y)), path: path(x) }),
                6 if range.is_some() => Body::Verdict(Verdict { folder, range: range.expect("there is one"), release }),
                _ => {
                    let subject = Subject::Node(node(y));
                    Body::Grant(Grant { folder, subject, path: RelPath::root(), level: Level::Manage, not_after: None })
                }
            };
            let known: Vec<FolderFrontier> = office.machines[at].known(folder);
            office.sign_with(at, body, List::truncated(known));
        }
        let after = void_under(&office, &union(&office));
        assert!(after.is_superset(&before), "seed {seed}: {:?}", before.difference(&after).collect::<Vec<_>>());
        void += before.len();
    }
    assert!(void > 0, "nothing was void");
}
