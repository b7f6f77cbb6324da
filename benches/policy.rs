//! How long it takes to evaluate 10,000 statements: printed, for a set as an office makes it and for worse ones.
//!
//! `cargo bench --bench policy`. Budget: well under 100 ms on a small machine.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use lanyard::base::{FolderId, Hlc, Level, MeshId, NodeId, RelPath, Role};
use lanyard::logic::policy::{StatementSet, draft, evaluate, found, policy_at};
use lanyard::wire::codec::List;
use lanyard::wire::statement::{Admit, Body, CreateFolder, Expel, Found, Grant, Name, Statement, Subject};

const STATEMENTS: usize = 10_000;
const NODES: usize = 50;

fn main() {
    println!("{STATEMENTS} statements, {NODES} nodes; processor time, median of 7 evaluations");
    report("an office: 20 folders, grants by admins and managers, one view", &office(1));
    report("the same, signed on 10 views that meet every 200 statements", &office(10));
    report("one subject and one path, over and over, on 10 views", &hammered(10));
    report("a manager's rules on 5,000 paths, then on the root", &wide());
    report("admissions and expulsions in turn, on 2 views", &churn());
}

fn report(what: &str, set: &StatementSet) {
    let whole = median(|| {
        std::hint::black_box(evaluate(set));
    });
    let heads = set.heads();
    let at_heads = median(|| {
        std::hint::black_box(policy_at(set, &heads).expect("its own heads"));
    });
    let policy = evaluate(set);
    println!(
        "{:>8.1} ms, at heads {:>8.1} ms  {what} ({} statements, {} void)",
        whole.as_secs_f64() * 1e3,
        at_heads.as_secs_f64() * 1e3,
        set.len(),
        policy.void().len()
    );
}

/// Processor time of this process: other work on the machine does not count.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(now).expect("processor time is not negative")
}

fn median(work: impl Fn()) -> Duration {
    let mut times: Vec<Duration> = (0..7)
        .map(|_| {
            let start = cpu();
            work();
            cpu() - start
        })
        .collect();
    times.sort();
    times[3]
}

struct Office {
    views: Vec<StatementSet>,
    pending: Vec<Statement>,
    folders: Vec<FolderId>,
    clock: u64,
}

impl Office {
    fn open(views: usize) -> Self {
        let body = Found { name: name("office"), node_name: name("n0"), nonce: [0; 16], recovery: node(NODES) };
        let first = found(body, &key(0), Hlc { ms: 1, count: 0 });
        let mut set = StatementSet::new(MeshId(first.id().0));
        set.insert(first).expect("founding");
        let mut office = Self { views: vec![set], pending: Vec::new(), folders: Vec::new(), clock: 1 };
        for at in 1..NODES {
            let role = if at < 5 { Role::Admin } else { Role::Member };
            office.sign(0, 0, Body::Admit(Admit { node: node(at), name: name("n"), role }));
        }
        for at in 0..20 {
            let created = office.sign(0, 5 + at % 10, Body::CreateFolder(CreateFolder { name: name("folder") }));
            office.folders.push(FolderId(created.id().0));
        }
        office.views = vec![office.views[0].clone(); views];
        office.pending.clear();
        office
    }

    fn sign(&mut self, view: usize, at: usize, body: Body) -> Statement {
        self.clock += 1;
        let time = Hlc { ms: self.clock, count: 0 };
        let statement = draft(&self.views[view], &key(at), time, body, List::default());
        self.views[view].insert(statement.clone()).expect("fits");
        self.pending.push(statement.clone());
        statement
    }

    fn meet(&mut self) {
        for statement in std::mem::take(&mut self.pending) {
            for view in &mut self.views {
                view.insert(statement.clone()).expect("fits");
            }
        }
    }

    fn len(&self) -> usize {
        self.views[0].len() + self.pending.len()
    }

    fn close(mut self) -> StatementSet {
        self.meet();
        self.views.swap_remove(0)
    }
}

fn office(views: usize) -> StatementSet {
    let mut office = Office::open(views);
    while office.len() < STATEMENTS {
        let n = office.len();
        // The creator of a folder always signs on the same view: it is one machine.
        let folder = n % 20;
        let creator = 5 + folder % 10;
        let (at, view) = if n.is_multiple_of(3) { (n % 5, n % 5 % views) } else { (creator, creator % views) };
        let subject = if n.is_multiple_of(7) { Subject::Everyone } else { Subject::Node(node(n * 31 % NODES)) };
        let path = RelPath::new(["", "books", "books/2026", "plans/a/b/c"][n / 20 % 4]).expect("valid");
        let level = [Level::None, Level::Read, Level::Write][n / 80 % 3];
        let folder = office.folders[folder];
        office.sign(view, at, Body::Grant(Grant { folder, subject, path, level, not_after: None }));
        if office.pending.len() >= 200 {
            office.meet();
        }
    }
    office.close()
}

fn hammered(views: usize) -> StatementSet {
    let mut office = Office::open(views);
    let folder = office.folders[0];
    for at in 6..6 + views {
        let grant = Grant {
            folder,
            subject: Subject::Node(node(at)),
            path: RelPath::root(),
            level: Level::Manage,
            not_after: None,
        };
        office.sign(0, 0, Body::Grant(grant));
    }
    office.meet();
    while office.len() < STATEMENTS {
        let view = office.len() % views;
        let grant =
            Grant { folder, subject: Subject::Everyone, path: RelPath::root(), level: Level::Read, not_after: None };
        office.sign(view, 6 + view, Body::Grant(grant));
        if office.pending.len() >= 500 {
            office.meet();
        }
    }
    office.close()
}

fn wide() -> StatementSet {
    let mut office = Office::open(1);
    while office.len() < STATEMENTS {
        let n = office.len();
        let creator = 5 + n % 10;
        let folder = office.folders[n % 10];
        let text = if n < STATEMENTS / 2 { format!("p{n}") } else { String::new() };
        let subject = if n < STATEMENTS / 2 { Subject::Node(node(creator)) } else { Subject::Everyone };
        let level = if n < STATEMENTS / 2 { Level::Manage } else { Level::Read };
        let path = RelPath::new(text).expect("valid");
        office.sign(0, creator, Body::Grant(Grant { folder, subject, path, level, not_after: None }));
    }
    office.close()
}

fn churn() -> StatementSet {
    let mut office = Office::open(2);
    while office.len() < STATEMENTS {
        let n = office.len();
        let target = node(10 + n / 4 % 30);
        let (view, at) = if n.is_multiple_of(2) { (0, 0) } else { (1, 1) };
        let body = if (n / 2).is_multiple_of(2) {
            Body::Expel(Expel { node: target })
        } else {
            Body::Admit(Admit { node: target, name: name("n"), role: Role::Member })
        };
        office.sign(view, at, body);
        if office.pending.len() >= 100 {
            office.meet();
        }
    }
    office.close()
}

fn key(at: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(at).expect("few") + 1; 32])
}

fn node(at: usize) -> NodeId {
    NodeId(key(at).verifying_key().to_bytes())
}

fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}
