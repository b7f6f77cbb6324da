//! The policy, over random offices: nodes that sign anything they like, on stale views, with cloned keys.
//!
//! A case is a list of steps. A step lets one node sign one sentence on its own view of the set, without asking
//! whether it may, or lets two nodes exchange what they know.

use ed25519_dalek::SigningKey;
use lanyard::base::{FolderId, GroupId, Hlc, Level, NodeId, RelPath, Role, StatementId};
use lanyard::logic::policy::{Exchange, Inserted, Policy, StatementSet, draft, evaluate, found, policy_at};
use lanyard::wire::codec::List;
use lanyard::wire::message::Message;
use lanyard::wire::statement::{
    Admit, Body, Copies, CreateFolder, Eligible, Expel, Found, Grant, Group, Name, Named, Rename, RetireFolder, Revoke,
    SetRole, Statement, Subject,
};
use proptest::prelude::*;

const NODES: usize = 5;
const PATHS: [&str; 7] = ["", "a", "A", "a/b", "A/B/c", "z", "gr\u{fc}n"];
const LEVELS: [Level; 4] = [Level::None, Level::Read, Level::Write, Level::Manage];

type Step = (u8, u8, u8, u8, u8);

fn key(at: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(at).expect("few nodes") + 1; 32])
}

fn node(at: usize) -> NodeId {
    NodeId(key(at % NODES).verifying_key().to_bytes())
}

fn recovery() -> NodeId {
    NodeId(key(100).verifying_key().to_bytes())
}

fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

fn path(at: u8) -> RelPath {
    RelPath::new(PATHS[usize::from(at) % PATHS.len()]).expect("valid")
}

fn time(ms: u64) -> Hlc {
    Hlc { ms, count: 0 }
}

/// An office: every node's own view, a stale copy of each (a restored backup), and all that was ever signed.
struct Office {
    views: Vec<StatementSet>,
    stale: Vec<StatementSet>,
    signed: Vec<Statement>,
    folders: Vec<FolderId>,
    clock: u64,
}

impl Office {
    /// Node 0 founds, and admits the others: nodes below `admins` as admins.
    fn open(admins: usize) -> Self {
        let body = Found { name: name("office"), node_name: name("n0"), nonce: [0; 16], recovery: recovery() };
        let first = found(body, &key(0), time(1));
        let mut set = StatementSet::new(lanyard::base::MeshId(first.id().0));
        set.insert(first.clone()).expect("founding");
        let views = vec![set; NODES];
        let mut office = Self { stale: views.clone(), views, signed: vec![first], folders: Vec::new(), clock: 1 };
        for at in 1..NODES {
            let role = if at < admins { Role::Admin } else { Role::Member };
            office.sign(0, Body::Admit(Admit { node: node(at), name: name("n"), role }));
        }
        office.meet_all();
        office.stale = office.views.clone();
        office
    }

    fn sign(&mut self, at: usize, body: Body) -> Statement {
        self.clock += 1;
        let statement = draft(&self.views[at], &key(at), time(self.clock), body, List::default());
        self.views[at].insert(statement.clone()).expect("its own statement fits");
        if matches!(statement.body(), Body::CreateFolder(_)) {
            self.folders.push(FolderId(statement.id().0));
        }
        self.signed.push(statement.clone());
        statement
    }

    fn meet(&mut self, a: usize, b: usize) {
        let known: Vec<Statement> = self.views[b].in_order().cloned().collect();
        for statement in known {
            // A view may hold enough histories of one equivocator already.
            let _ = self.views[a].insert(statement);
        }
    }

    fn meet_all(&mut self) {
        for at in 1..NODES {
            self.meet(0, at);
        }
        for at in 1..NODES {
            self.meet(at, 0);
        }
    }

    fn step(&mut self, (who, what, x, y, z): Step) {
        let at = usize::from(who) % NODES;
        match what % 16 {
            14 => self.meet(at, usize::from(x) % NODES),
            // A backup comes back, at most often enough to stay below the bound on histories.
            15 => {
                if x < 64 {
                    std::mem::swap(&mut self.views[at], &mut self.stale[at]);
                }
            }
            _ => {
                let body = self.body(what, x, y, z);
                self.sign(at, body);
            }
        }
    }

    fn body(&self, what: u8, x: u8, y: u8, z: u8) -> Body {
        let target = node(usize::from(x));
        let folder = match self.folders.len() {
            0 => FolderId([9; 32]),
            count => self.folders[usize::from(x) % count],
        };
        let group = GroupId([y % 2; 16]);
        let subject = match y % 8 {
            0 | 1 => Subject::Everyone,
            2 => Subject::Group(GroupId([z % 2; 16])),
            _ => Subject::Node(node(usize::from(y))),
        };
        let role = if y.is_multiple_of(2) { Role::Member } else { Role::Admin };
        let level = LEVELS[usize::from(z) % 4];
        match what % 16 {
            0 => Body::Admit(Admit { node: target, name: name("again"), role }),
            1 => Body::Expel(Expel { node: target }),
            2 => Body::SetRole(SetRole { node: target, role }),
            3 => Body::Rename(Rename { what: Named::Folder(folder), name: name("renamed") }),
            4 => {
                let mut members = vec![target, node(usize::from(z))];
                members.sort();
                members.dedup();
                Body::Group(Group { group, name: name("g"), members: List::new(members).expect("two") })
            }
            5 => Body::CreateFolder(CreateFolder { name: name("folder") }),
            6 => Body::Revoke(Revoke { folder, subject, path: path(z) }),
            7 if z == 7 => Body::RetireFolder(RetireFolder { folder }),
            7 if z > 200 => Body::Copies(Copies { folder, nodes: z - 200, server: z.is_multiple_of(2) }),
            8 => Body::Eligible(Eligible { node: target, priority: (z > 100).then_some(u16::from(z)) }),
            _ => Body::Grant(Grant { folder, subject, path: path(z / 4), level, not_after: (z > 200).then_some(40) }),
        }
    }

    fn union(&self) -> StatementSet {
        let mut set = StatementSet::new(self.views[0].mesh());
        for statement in &self.signed {
            let _ = set.insert(statement.clone());
        }
        set
    }
}

/// All levels that anyone has anywhere, at a time before and one after the rules with an end.
fn levels(policy: &Policy, folders: &[FolderId]) -> Vec<(NodeId, FolderId, RelPath, u64, Level)> {
    let mut levels = Vec::new();
    for at in 0..NODES {
        for folder in folders {
            for which in 0..PATHS.len() {
                for now in [1, 1000] {
                    let path = path(u8::try_from(which).expect("few"));
                    let level = policy.level(node(at), *folder, &path, now);
                    levels.push((node(at), *folder, path, now, level));
                }
            }
        }
    }
    levels
}

/// A shuffle that a number names.
fn shuffled(statements: &[Statement], mut seed: u64) -> Vec<Statement> {
    let mut shuffled = statements.to_vec();
    for at in (1..shuffled.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(seed >> 33).expect("31 bits") % (at + 1);
        shuffled.swap(at, other);
    }
    shuffled
}

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 0..count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_policy_is_the_same_in_whatever_order_statements_arrive(steps in steps(60), seed in any::<u64>()) {
        let mut office = Office::open(3);
        steps.into_iter().for_each(|step| office.step(step));
        let set = office.union();
        let policy = evaluate(&set);
        let order: Vec<StatementId> = set.in_order().map(Statement::id).collect();
        for round in 0..20 {
            let mut other = StatementSet::new(set.mesh());
            for statement in shuffled(&office.signed, seed.wrapping_add(round)) {
                other.insert(statement).expect("in bounds");
            }
            prop_assert_eq!(other.parked(), (0, 0));
            prop_assert_eq!(other.heads(), set.heads());
            prop_assert_eq!(other.in_order().map(Statement::id).collect::<Vec<_>>(), order.clone());
            prop_assert_eq!(&evaluate(&other), &policy);
        }
    }

    #[test]
    fn the_policy_at_a_nodes_heads_is_the_policy_it_saw(steps in steps(40)) {
        let mut office = Office::open(3);
        steps.into_iter().for_each(|step| office.step(step));
        let set = office.union();
        for view in &office.views {
            prop_assert_eq!(policy_at(&set, &view.heads()).expect("all there"), evaluate(view));
        }
    }

    #[test]
    fn members_without_manage_widen_nobodys_rights(before in steps(30), after in steps(30)) {
        // Arrange: folders of the two admins; nobody else has manage anywhere.
        let mut office = Office::open(2);
        office.sign(0, Body::CreateFolder(CreateFolder { name: name("one") }));
        office.meet_all();
        office.sign(1, Body::CreateFolder(CreateFolder { name: name("two") }));
        office.meet_all();
        let folders = office.folders.clone();
        for (who, _, x, y, z) in before {
            if let Body::Grant(mut grant) = office.body(13, x, y, z) {
                grant.level = grant.level.min(Level::Write);
                office.sign(usize::from(who) % 2, Body::Grant(grant));
            }
        }
        office.meet_all();
        let policy = evaluate(&office.union());
        // Act: the members sign whatever they like.
        for (who, what, x, y, z) in after {
            office.step((2 + who % 3, what, x, y, z));
        }
        // Assert
        let later = evaluate(&office.union());
        prop_assert_eq!(later.admins(), policy.admins());
        for (old, new) in levels(&policy, &folders).into_iter().zip(levels(&later, &folders)) {
            prop_assert!(new.4 <= old.4, "{:?} became {:?}", old, new);
        }
        for (node, _) in later.members() {
            prop_assert!(policy.is_member(node));
        }
    }

    #[test]
    fn a_manager_of_one_directory_changes_nothing_outside_it(after in steps(40)) {
        let mut office = Office::open(1);
        office.sign(0, Body::CreateFolder(CreateFolder { name: name("one") }));
        let folder = office.folders[0];
        let rule = |subject, path: &str, level| {
            Body::Grant(Grant { folder, subject, path: RelPath::new(path).expect("valid"), level, not_after: None })
        };
        office.sign(0, rule(Subject::Everyone, "", Level::Read));
        office.sign(0, rule(Subject::Node(node(1)), "a", Level::Manage));
        office.meet_all();
        let policy = evaluate(&office.union());
        for (who, what, x, y, z) in after {
            office.step((1 + who % 4, what, x, y, z));
        }
        let later = evaluate(&office.union());
        for (old, new) in levels(&policy, &[folder]).into_iter().zip(levels(&later, &[folder])) {
            // A twin of `a` is inside it in this respect: rules on `a` may lower it, never raise it.
            let inside = old.2.starts_with(&RelPath::new("a").expect("valid"));
            prop_assert!(inside || new.4 <= old.4, "{:?} became {:?}", old, new);
        }
    }

    #[test]
    fn a_deny_never_widens_anyones_rights(steps in steps(60), at in 0..NODES, y in any::<u8>(), z in any::<u8>()) {
        let mut office = Office::open(2);
        office.sign(0, Body::CreateFolder(CreateFolder { name: name("one") }));
        office.meet_all();
        for step in steps {
            // Without removals: what a removed node denied is void with all else that it did.
            if !matches!(step.1 % 16, 0..=2) {
                office.step(step);
            }
        }
        let before = evaluate(&office.union());
        let folder = office.folders[usize::from(y) % office.folders.len()];
        let subject = match y % 4 {
            0 => Subject::Everyone,
            1 => Subject::Group(GroupId([z % 2; 16])),
            _ => Subject::Node(node(usize::from(z))),
        };
        office.sign(at, Body::Grant(Grant { folder, subject, path: path(z), level: Level::None, not_after: None }));
        let after = evaluate(&office.union());
        let folders = office.folders.clone();
        for (old, new) in levels(&before, &folders).into_iter().zip(levels(&after, &folders)) {
            prop_assert!(new.4 <= old.4, "{:?} became {:?}", old, new);
        }
    }

    #[test]
    fn nothing_that_a_removed_node_does_concurrently_counts(before in steps(30), after in steps(30)) {
        // Arrange: node 1 is an admin, and node 0, senior to it, expels it while node 1 is cut off.
        let mut office = Office::open(3);
        for (who, what, x, y, z) in before {
            // The founder stays, and nobody else is senior to node 1.
            if !matches!(what % 16, 0..=2 | 15) {
                office.step((who, what, x, y, z));
            }
        }
        office.meet_all();
        office.sign(0, Body::Expel(Expel { node: node(1) }));
        let expected = evaluate(&office.union());
        // Act
        for (_, what, x, y, z) in after {
            if what % 16 != 14 {
                office.step((1, what, x, y, z));
            }
        }
        // Assert
        let seen = evaluate(&office.union());
        prop_assert!(seen.was_expelled(node(1)));
        prop_assert_eq!(seen.members().collect::<Vec<_>>(), expected.members().collect::<Vec<_>>());
        prop_assert_eq!(seen.folders().collect::<Vec<_>>(), expected.folders().collect::<Vec<_>>());
        prop_assert_eq!(seen.groups().collect::<Vec<_>>(), expected.groups().collect::<Vec<_>>());
        prop_assert_eq!(seen.discovery_epoch(), expected.discovery_epoch());
    }

    #[test]
    fn two_to_four_sets_become_equal_in_bounded_rounds(steps in steps(80), parties in 2_usize..5) {
        let mut office = Office::open(3);
        steps.into_iter().for_each(|step| office.step(step));
        let mut sets: Vec<StatementSet> = office.views[..parties].to_vec();
        let rounds = reconcile(&mut sets);
        prop_assert!(rounds <= 40, "{} rounds", rounds);
        for set in &sets[1..] {
            prop_assert_eq!(set.heads(), sets[0].heads());
            prop_assert_eq!(set.len(), sets[0].len());
            prop_assert_eq!(&evaluate(set), &evaluate(&sets[0]));
        }
    }

    #[test]
    fn orphans_are_parked_within_bounds(orphans in prop::collection::vec((any::<u8>(), any::<[u8; 32]>()), 0..200)) {
        let office = Office::open(2);
        let mut set = office.union();
        for (at, parent) in orphans {
            let at = usize::from(at) % NODES;
            let mut head = draft(&set, &key(at), time(9), Body::Expel(Expel { node: node(at) }), List::default())
                .head()
                .clone();
            head.parents = List::new(vec![StatementId(parent)]).expect("one");
            let statement = Statement::sign(head, Body::Expel(Expel { node: node(at) }), &key(at));
            let parked = matches!(set.insert(statement), Ok(Inserted::Parked(_)));
            prop_assert!(parked);
            let (count, bytes) = set.parked();
            prop_assert!(count <= 4096 && bytes <= 8 << 20);
            prop_assert!(set.missing().len() <= count);
        }
        prop_assert_eq!(evaluate(&set), evaluate(&office.union()));
    }
}

/// Runs the exchange on links between all pairs until nothing is under way; returns how many rounds it took.
fn reconcile(sets: &mut [StatementSet]) -> usize {
    let count = sets.len();
    let mut links: Vec<Vec<Exchange>> = vec![vec![Exchange::new(); count]; count];
    let mut under_way: Vec<(usize, usize, Message)> = Vec::new();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            under_way.extend(links[from][to].announce(&sets[from]).into_iter().map(|m| (from, to, m)));
        }
    }
    for round in 0..1000 {
        if under_way.is_empty() {
            return round;
        }
        let mut next = Vec::new();
        for (from, to, message) in std::mem::take(&mut under_way) {
            let link = &mut links[to][from];
            let mut news = Vec::new();
            let replies = match message {
                Message::StatementHeads(ids) => link.handle_heads(&sets[to], &ids),
                Message::StatementWant(ids) => link.handle_want(&sets[to], &ids),
                Message::Statements(signed) => {
                    let received = link.handle_statements(&mut sets[to], signed.into_vec()).expect("well signed");
                    news = received.taken;
                    received.replies
                }
                _ => Vec::new(),
            };
            next.extend(replies.into_iter().map(|m| (to, from, m)));
            for other in (0..count).filter(|other| *other != to && *other != from) {
                next.extend(links[to][other].news(&sets[to], &news).into_iter().map(|m| (to, other, m)));
            }
        }
        under_way = next;
    }
    1000
}
