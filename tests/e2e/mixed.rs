//! A mesh of mixed versions: members of a later lanyard beside the present one.
//!
//! The later ones are this program as `the_later_hand`: it speaks the protocol through the library's own links and says
//! what only a later version says. What the present nodes do not know they pass over or hand on unchanged; what may not be
//! passed over they name; and they go on syncing. The last test is about a member with which there is no common version.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use ed25519_dalek::SigningKey;
use lanyard::base::{ContentId, Hlc, RelPath, StatementId, Writer};
use lanyard::shell::net::listen::{Bound, Door, Place};
use lanyard::shell::net::{DialError, Inbound};
use lanyard::shell::rt;
use lanyard::wire::batch::{Entry, Owner, Xattr};
use lanyard::wire::codec::{self, Bytes, List, Text};
use lanyard::wire::envelope::Envelope;
use lanyard::wire::message::{Frontiers, Message, Purpose, Subscribe};
use lanyard::wire::signed::{Domain, Signed};
use lanyard::wire::statement::{Head, Statement};
use lanyard::wire::versions::Speaks;
use serde_json::{Value, json};

use crate::hostile::{Hand, Log, file, folder, id_of, text};
use crate::lab::{Host, Lab, eventually, finish};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree;

/// Kinds that no version has given yet.
const LATER_MESSAGE: u16 = 0x0399;
const LATER_REPORT: u16 = 0x0349;
const LATER_STATEMENT: u16 = 0x01f0;
const LATER_RULE: u16 = 0x01f1;
const LATER_WORDS: &[u8] = b"a sentence that only a later version can read";
const LATER_SOFTWARE: &str = "lanyard 9.0.0";
const LATER_FILE: &str = "from a later version.txt";
const LATER_CONTENT: &[u8] = b"written by a later version";
/// How long attempts to connect are counted.
const COUNTED: Duration = Duration::from_secs(15);

// ---- the later hand ---------------------------------------------------------------------------------------------

#[test]
fn the_later_hand() {
    // Not a test by itself: nothing to do unless another test started this program.
    let Ok(task) = std::env::var("LANYARD_LATER") else { return };
    let task: Value = serde_json::from_str(&task).expect("a task");
    let mut hand = Hand::new(&task);
    hand.dialler.hello.software = Text::truncated(LATER_SOFTWARE);
    hand.dialler.speaks = Speaks { links: vec![2, 1], ..Speaks::default() };
    match text(&task, "do") {
        "say" => say(&mut hand, &task),
        "stop" => stop(&mut hand, &task),
        "take" => take(&mut hand, &task),
        "part" => part(&mut hand, &task),
        verb => panic!("{verb}?"),
    }
}

/// A statement of a later kind, with a sentence.
fn later(hand: &Hand, kind: u16, critical: bool, counter: u64, heads: &[StatementId], task: &Value) -> Signed {
    let head = Head {
        mesh: Some(hand.mesh),
        issuer: hand.me(),
        counter,
        parents: List::truncated(heads.to_vec()),
        time: Hlc { ms: 1_900_000_000_000, count: 0 },
        scope: critical.then(|| folder(task, "ledger")),
        frontiers: List::default(),
    };
    let body = [codec::encode(&head).as_slice(), LATER_WORDS].concat();
    Signed::sign(Domain::Statement, Envelope::seal(kind, critical, &body), &hand.key)
}

/// An entry in which a later version uses every field that is reserved.
fn later_entry(hand: &Hand, writer: Writer) -> lanyard::wire::batch::Salted {
    let mut salted = hand.entry(LATER_FILE, file(LATER_CONTENT), &[(writer, 1)]);
    salted.entry = Entry {
        previous: Some(ContentId([5; 32])),
        moved_from: Some(RelPath::new("before.txt").expect("a path")),
        on_behalf_of: Some(lanyard::base::PassId([6; 16])),
        owner: Some(Owner { user: Text::truncated("anna"), group: Text::truncated("office") }),
        xattrs: List::truncated(vec![Xattr {
            name: Text::truncated("user.colour"),
            value: Bytes::new(b"green".to_vec()).expect("short"),
        }]),
        ..salted.entry
    };
    salted
}

fn log<'a>(hand: &Hand, heads: &'a [StatementId]) -> Log<'a> {
    let writer = Writer { node: hand.me(), incarnation: 7 };
    Log { writer, first: 1, previous: None, heads, ms: 1_900_000_000_000 }
}

/// Messages, a statement and an entry of a later version, all of which may be passed over.
fn say(hand: &mut Hand, task: &Value) {
    let heads = &hand.heads()[..1];
    let log = log(hand, heads);
    let statement = later(hand, LATER_STATEMENT, false, 1, heads, task);
    let entry = later_entry(hand, log.writer);
    let push = hand.push(folder(task, "open"), log, &[entry], &[LATER_CONTENT]);
    let messages = vec![
        Message::Unknown(LATER_MESSAGE),
        Message::Unknown(LATER_REPORT),
        Message::Statements(List::truncated(vec![statement])),
        push,
        Message::Unknown(LATER_MESSAGE),
    ];
    let line = hand.dial(Purpose::Control).expect("a link in the version that both speak");
    for message in messages {
        rt::block_on(line.sender.send(message)).expect("the link stands");
    }
    // It stands still, and does so after everything was read.
    (0..4).for_each(|_| drop(hand.hear(&line)));
    rt::block_on(line.sender.send(Message::Unknown(LATER_MESSAGE))).expect("the link stands");
}

/// A rule of a later version that may not be passed over.
fn stop(hand: &mut Hand, task: &Value) {
    let heads = &hand.heads()[..1];
    let rule = later(hand, LATER_RULE, true, 2, heads, task);
    hand.say(Purpose::Control, vec![Message::Statements(List::truncated(vec![rule]))]);
}

/// Another later one takes all that there is, and finds it whole.
fn take(hand: &mut Hand, task: &Value) {
    let open = folder(task, "open");
    let (mut statements, mut wanted): (Vec<Signed>, Vec<StatementId>) = (Vec::new(), hand.heads());
    assert!(!wanted.is_empty(), "the target announces what it has");
    // Bounded: each round asks for the parents of what came.
    for _ in 0..20 {
        let ask = vec![Message::StatementWant(List::truncated(wanted.clone()))];
        let heard = hand.say(Purpose::Control, ask);
        let came = heard.into_iter().filter_map(|message| match message {
            Message::Statements(came) => Some(came.to_vec()),
            _ => None,
        });
        statements.extend(came.flatten());
        let opened: Vec<Statement> = statements.iter().filter_map(|one| Statement::open(one.clone()).ok()).collect();
        let has = |id: &StatementId| opened.iter().any(|statement| statement.id() == *id);
        wanted = opened.iter().flat_map(|one| one.head().parents.to_vec()).filter(|id| !has(id)).collect();
        if wanted.is_empty() {
            break;
        }
    }
    for (kind, critical) in [(LATER_STATEMENT, false), (LATER_RULE, true)] {
        let found = statements.iter().find_map(|one| Envelope::open(&one.envelope).ok().filter(|e| e.kind == kind));
        let found = found.unwrap_or_else(|| panic!("no statement of kind {kind:#06x} was handed on"));
        assert_eq!(found.critical, critical);
        assert!(found.body.ends_with(LATER_WORDS), "its sentence is whole");
    }
    let ask = vec![
        Message::Subscribe(Subscribe { folder: open, receives: true }),
        Message::Frontiers(Frontiers { folder: open, complete: false, frontiers: List::default() }),
    ];
    let mut heard = hand.say(Purpose::Control, ask);
    if let Some(line) = hand.dial(Purpose::Control) {
        heard.extend((0..2).flat_map(|_| hand.hear(&line)).collect::<Vec<_>>());
    }
    let entries = heard.into_iter().filter_map(|message| match message {
        Message::BatchPush(push) => push.entries.unpack().ok(),
        _ => None,
    });
    let mut entries = entries.flatten().map(|(_, salted)| salted);
    let path = RelPath::new(LATER_FILE).expect("a path");
    let found = entries.find(|salted| salted.entry.path == path).expect("the entry was handed on");
    let writer = found.entry.version.components().first().expect("its own number").0;
    assert_eq!(found, later_entry(hand, writer), "with every reserved field");
}

/// Speaks version 9 alone: dials, and then listens as the member that it is, counting who comes.
fn part(hand: &mut Hand, task: &Value) {
    hand.dialler.speaks = Speaks { links: vec![9], relays: vec![9], pairings: vec![9] };
    let target = hand.target;
    let error = rt::block_on(hand.dialler.dial(target, None, Purpose::Control)).expect_err("nothing in common");
    let DialError::Versions { met } = error else { panic!("{error:?}") };
    assert_eq!((met.node, &met.apart.theirs[..]), (Some(hand.victim), &[1][..]));
    assert!(met.apart.software.as_deref().is_some_and(|software| software.starts_with("lanyard 0.")), "{met:?}");
    let (sender, inbound) = async_channel::unbounded();
    let door = Door {
        key: SigningKey::from_bytes(&hand.key.to_bytes()),
        ring: hand.dialler.ring.clone(),
        is_member: hand.dialler.is_member.clone(),
        hello: hand.dialler.hello.clone(),
        speaks: hand.dialler.speaks.clone(),
    };
    let _listener = Bound::new(Place::Fixed(47474)).expect("the member's port").serve(door, sender);
    let count = PathBuf::from(text(task, "count"));
    let until = Instant::now() + COUNTED;
    let mut met = Vec::new();
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match rt::block_on(rt::timeout(left, inbound.recv())) {
            Ok(Ok(Inbound::Apart(apart))) => met.push(apart),
            Ok(other) => panic!("something else than a farewell: {other:?}"),
            Err(_) => break,
        }
        fs::write(&count, met.len().to_string()).expect("the count");
    }
    assert!(met.iter().all(|met| met.apart.theirs == [1]), "{met:?}");
}

// ---- the tests --------------------------------------------------------------------------------------------------

fn hand(host: &Host<'_>, task: &Value) -> Command {
    let program = std::env::current_exe().expect("this program has a path").display().to_string();
    let mut command = host.bounded(Duration::from_secs(100), &program);
    command.args(["--exact", "mixed::the_later_hand", "--nocapture"]).env("LANYARD_LATER", task.to_string());
    command
}

fn task(lab: &Lab, verb: &str, hand: &Node<'_>, target: &Node<'_>) -> Value {
    json!({
        "do": verb,
        "home": hand.home(),
        "record": lab.dir().join("record"),
        "count": lab.dir().join("count"),
        "mesh": target.mesh().expect("a mesh"),
        "victim": target.id(),
        "target": format!("{}:47474", target.host.address()),
        "open": id_of(target, "Open"),
        "ledger": target.folder("Ledger")["id"].as_str().unwrap_or_default(),
    })
}

/// What a node says of one member.
fn member(node: &Node<'_>, name: &str) -> Value {
    let nodes = node.json(&["nodes"]);
    let found = nodes.as_array().and_then(|nodes| nodes.iter().find(|one| one["name"] == name).cloned());
    found.unwrap_or_else(|| panic!("{name} is no member: {nodes}"))
}

fn alerts(node: &Node<'_>) -> String {
    node.json(&["status"])["alerts"].to_string()
}

#[test]
fn what_a_later_version_says_is_passed_over_or_named_and_handed_on_whole() {
    let Some(lab) = Lab::open("mixed") else { return };
    let (h1, h2, h3, h4) = (lab.host(), lab.host(), lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let (mut later, mut latest) = (h3.node("later"), h4.node("latest"));
    fs::write(a.mkdir("Open").join("hello.txt"), "hello").expect("a file");
    fs::write(a.mkdir("Ledger").join("books.txt"), "the books").expect("a file");
    a.up(&["Open", "Ledger"]);
    b.up(&[]);
    a.admit(&b, &["--into", &b.path("In").display().to_string()]);
    for node in [&mut later, &mut latest] {
        node.up(&[]);
        a.admit(node, &["--no-folders"]);
    }
    a.lanyard(&["role", "later", "admin"]).ok();
    let (open, ledger) = ((a.path("Open"), b.path("In/Open")), (a.path("Ledger"), b.path("In/Ledger")));
    eventually("the folders arrive", CONVERGE_MAX, || {
        tree::same(&open.0, &open.1).and_then(|()| tree::same(&ledger.0, &ledger.1))
    });
    eventually("the later one knows that it is an admin", CONVERGE_MAX, || {
        match member(&later, "later")["role"].as_str() {
            Some("admin") if !later.folder("Open").is_null() => Ok(()),
            role => Err(format!("{role:?}")),
        }
    });
    later.stop();
    latest.stop();

    finish(hand(&h3, &task(&lab, "say", &later, &a)), "a later version speaks").ok();
    for (node, root) in [(&a, &open.0), (&b, &open.1)] {
        eventually("its file is on both", CONVERGE_MAX, || {
            let found = fs::read(root.join(LATER_FILE)).unwrap_or_default();
            if found == LATER_CONTENT { Ok(()) } else { Err(format!("{found:?} on {}", node.name)) }
        });
    }
    assert_eq!(member(&a, "later")["version"], LATER_SOFTWARE, "its program is shown");
    assert!(member(&a, "later")["apart"].is_null());
    assert_eq!(member(&a, "front-desk")["version"], member(&a, "workshop")["version"]);

    // A rule that may not be passed over stops its folder, in words, and nothing else.
    finish(hand(&h3, &task(&lab, "stop", &later, &a)), "a later version signs a rule").ok();
    for node in [&a, &b] {
        eventually("the rule is named", CONVERGE_MAX, || {
            let alerts = alerts(node);
            if alerts.contains("a rule for 'Ledger' was signed by a later lanyard") { Ok(()) } else { Err(alerts) }
        });
    }
    fs::write(ledger.0.join("books.txt"), "the books, corrected").expect("an edit");
    fs::write(open.0.join("after.txt"), "there").expect("a file");
    fs::write(open.1.join("back.txt"), "and back").expect("a file");
    eventually("the other folder goes on both ways", CONVERGE_MAX, || {
        tree::same(&open.0, &open.1)?;
        match tree::listing(&open.0).len() {
            4 => Ok(()),
            count => Err(format!("{count} of 4")),
        }
    });
    assert_eq!(fs::read_to_string(ledger.0.join("books.txt")).ok().as_deref(), Some("the books, corrected"));
    assert_eq!(fs::read_to_string(ledger.1.join("books.txt")).ok().as_deref(), Some("the books"));

    // From the node that it never spoke with, another later one gets all of it.
    eventually("it was handed on", CONVERGE_MAX, || {
        let done = finish(hand(&h4, &task(&lab, "take", &latest, &b)), "another later version takes it");
        if done.code == 0 { Ok(()) } else { Err(done.to_string()) }
    });
    a.must_be_alive();
    b.must_be_alive();
}

#[test]
fn a_member_without_a_common_version_is_named_on_both_sides_left_alone_and_taken_back() {
    let Some(lab) = Lab::open("apart") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut later) = (h1.node("front-desk"), h2.node("later"));
    fs::write(a.mkdir("Open").join("hello.txt"), "hello").expect("a file");
    later.mkdir("Open");
    a.up(&["Open"]);
    later.up(&["Open"]);
    a.admit(&later, &[]);
    eventually("it arrives", CONVERGE_MAX, || tree::same(&a.path("Open"), &later.path("Open")));
    later.stop();

    let task = task(&lab, "part", &later, &a);
    let command = hand(&h2, &task);
    thread::scope(|scope| {
        let running = scope.spawn(move || finish(command, "a later version without version 1").ok());
        let gap = eventually("its gap is shown", CONVERGE_MAX, || match &member(&a, "later")["apart"] {
            Value::Null => Err(alerts(&a)),
            gap => Ok(gap.clone()),
        });
        assert_eq!((&gap["behind"], &gap["theirs"], &gap["ours"]), (&json!("this"), &json!([9]), &json!([1])));
        let why = gap["why"].as_str().unwrap_or_default();
        for word in ["'later' runs lanyard 9.0.0", "version 9", "version 1", "this machine needs a newer lanyard"] {
            assert!(why.contains(word), "{word}: {why}");
        }
        assert_eq!(gap["hint"].as_str().map(|hint| hint.starts_with("install lanyard 9.0.0 or later")), Some(true));
        for command in ["status", "nodes"] {
            let said = a.lanyard(&[command]).ok();
            assert!(said.stdout.contains("away: this machine needs a newer lanyard"), "{said}");
        }
        let doctor = a.lanyard(&["doctor"]).exits(1);
        assert!(doctor.stdout.contains("version: 'later' runs lanyard 9.0.0"), "{doctor}");
        assert!(a.log_text().contains("'later' runs lanyard 9.0.0"), "{}", a.log_tail());
        running.join().expect("the later hand");
    });
    // One address, tried at most once in 30 s after it was found to speak another version; news of the network begins anew.
    let came: u64 = fs::read_to_string(lab.dir().join("count")).map_or(0, |text| text.parse().expect("a number"));
    println!("apart: {came} attempts in {} s", COUNTED.as_secs());
    assert!(came <= 5, "{came} attempts in {COUNTED:?}");
    assert_eq!(alerts(&a).matches("'later' runs").count(), 1, "{}", alerts(&a));

    // What was saved meanwhile on both sides arrives once there is a common version.
    fs::write(a.path("Open/here.txt"), "here").expect("a file");
    fs::write(later.path("Open/there.txt"), "there").expect("a file");
    later.up(&[]);
    eventually("both have both", CONVERGE_MAX, || {
        tree::same(&a.path("Open"), &later.path("Open"))?;
        match tree::listing(&a.path("Open")).len() {
            3 => Ok(()),
            count => Err(format!("{count} of 3")),
        }
    });
    assert!(member(&a, "later")["apart"].is_null() && !alerts(&a).contains("'later' runs"), "{}", alerts(&a));
    a.must_be_alive();
}
