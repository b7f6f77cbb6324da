//! A member that lies in every way it can. It is a real member with a real key; only its program is not ours.
//!
//! `the_hostile_hand` speaks the protocol through the library's own links and says what no honest node says. The
//! tests then look at the honest nodes, and at every byte that they sent it.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use ed25519_dalek::SigningKey;
use lanyard::base::{ContentId, DiscoveryKey, FileTime, FolderId, Hlc, Level, MeshId, NodeId, RelPath, Role};
use lanyard::base::{StatementId, VersionVector, Writer};
use lanyard::shell::keystore::Keystore;
use lanyard::shell::net::link::Limits;
use lanyard::shell::net::{Dialler, Event, Incoming, KeyRing, LinkId, LinkSender};
use lanyard::shell::rt;
use lanyard::wire::batch::{Batch, Entry, Header, Packed, Salted, What};
use lanyard::wire::chunker::chunks_of;
use lanyard::wire::codec::{Bytes, List, Text};
use lanyard::wire::message::{
    Answer, BatchPush, Content, ContentWant, EntryWant, Frontiers, Hello, Inline, Message, Part, Purpose, Subscribe,
};
use lanyard::wire::statement::{Admit, Body, Expel, Grant, Head, Name, Statement, Subject};
use lanyard::wire::versions::Speaks;
use serde_json::{Value, json};

use crate::lab::{Host, Lab, eventually, finish};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree;

/// Names and contents that the hostile member may not read.
const SECRET_NAME: &str = "canary-name-41c7";
const SECRET_TEXT: &str = "canary-text-9e02 ";
/// How long a target may take to answer one lie.
const LISTEN: Duration = Duration::from_millis(250);

// ---- the hand ---------------------------------------------------------------------------------------------------

/// The hostile program: what it knows, and everything that was ever sent to it.
pub(crate) struct Hand {
    pub(crate) key: SigningKey,
    pub(crate) dialler: Dialler,
    pub(crate) target: SocketAddr,
    pub(crate) victim: NodeId,
    pub(crate) mesh: MeshId,
    record: fs::File,
}

pub(crate) struct Line {
    pub(crate) sender: LinkSender,
    incoming: Receiver<Incoming>,
}

impl Hand {
    pub(crate) fn new(task: &Value) -> Self {
        let home = PathBuf::from(text(task, "home"));
        let key = Keystore::open(&home.join("state/key")).expect("the member's key").key().clone();
        let node: Value =
            serde_json::from_slice(&fs::read(home.join("state/node.json")).expect("its record")).expect("JSON");
        let keys = node["mesh"]["keys"].as_array().expect("keys");
        let discovery = keys.iter().map(|key| DiscoveryKey(bytes(text(key, "key"))));
        let hello = Hello { software: Text::truncated("hostile"), purpose: Purpose::Control, run: 66, port: 0 };
        let dialler = Dialler {
            key: key.clone(),
            ring: KeyRing::new(discovery.collect()),
            is_member: Arc::new(|_| true),
            hello,
            speaks: Speaks::default(),
        };
        let record = fs::File::options().create(true).append(true).open(text(task, "record")).expect("a record");
        Self {
            key,
            dialler,
            target: text(task, "target").parse().expect("an address"),
            victim: NodeId::from_text(text(task, "victim")).expect("an id"),
            mesh: MeshId(bytes(text(task, "mesh"))),
            record,
        }
    }

    pub(crate) fn me(&self) -> NodeId {
        NodeId(self.key.verifying_key().to_bytes())
    }

    pub(crate) fn dial(&self, purpose: Purpose) -> Option<Line> {
        let link = rt::block_on(self.dialler.dial(self.target, Some(self.victim), purpose)).ok()?;
        let (sender, incoming) = async_channel::bounded(1024);
        Some(Line { sender: link.start(LinkId(1), Limits::of(purpose), sender), incoming })
    }

    /// Everything that comes within `LISTEN`; kept, byte by byte.
    pub(crate) fn hear(&mut self, line: &Line) -> Vec<Message> {
        let mut heard = Vec::new();
        let until = std::time::Instant::now() + LISTEN;
        while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
            match rt::block_on(rt::timeout(left, line.incoming.recv())) {
                Ok(Ok(Incoming { event: Event::Message(message), .. })) => {
                    self.record.write_all(&message.encode()).expect("the record");
                    // Packed entries share the starts of their paths: kept expanded too.
                    if let Message::BatchPush(push) = &message {
                        for (_, salted) in push.entries.clone().unpack().unwrap_or_default() {
                            self.record.write_all(salted.entry.path.as_bytes()).expect("the record");
                        }
                    }
                    heard.push(message);
                }
                _ => break,
            }
        }
        heard
    }

    /// Sends messages on a fresh link and hears the answers.
    pub(crate) fn say(&mut self, purpose: Purpose, messages: Vec<Message>) -> Vec<Message> {
        let Some(line) = self.dial(purpose) else { return Vec::new() };
        let mut heard = self.hear(&line);
        for message in messages {
            let _ = rt::block_on(line.sender.send(message));
        }
        heard.extend(self.hear(&line));
        heard
    }

    /// The statements that the target announces, newest first.
    pub(crate) fn heads(&mut self) -> Vec<StatementId> {
        let heard = self.say(Purpose::Control, Vec::new());
        let heads = heard.into_iter().find_map(|message| match message {
            Message::StatementHeads(ids) => Some(ids.to_vec()),
            _ => None,
        });
        heads.unwrap_or_default()
    }

    /// How far the logs of a folder reach, as the target says.
    fn frontiers(&mut self, folder: FolderId) -> Vec<lanyard::wire::statement::Frontier> {
        let ask = vec![Message::Subscribe(Subscribe { folder, receives: true })];
        let heard = self.say(Purpose::Control, ask);
        let said = heard.into_iter().find_map(|message| match message {
            Message::Frontiers(said) if said.folder == folder => Some(said.frontiers.to_vec()),
            _ => None,
        });
        said.unwrap_or_default()
    }

    pub(crate) fn entry(&self, path: &str, what: What, version: &[(Writer, u64)]) -> Salted {
        let mut vector = VersionVector::default();
        version.iter().for_each(|(writer, number)| vector.advance(*writer, *number));
        let path = RelPath::new(path).expect("a path");
        let time = Hlc { ms: 1_900_000_000_000, count: 0 };
        Salted { salt: [7; 16], entry: Entry::new(path, what, 0o644, FileTime::default(), time, vector) }
    }

    pub(crate) fn push(&self, folder: FolderId, log: Log<'_>, entries: &[Salted], contents: &[&[u8]]) -> Message {
        let header = Header {
            mesh: self.mesh,
            folder,
            writer: log.writer,
            first: log.first,
            previous: log.previous.map(Batch::hash),
            heads: List::truncated(log.heads.to_vec()),
            time: Hlc { ms: log.ms, count: 0 },
            entries: List::truncated(entries.iter().map(|salted| salted.entry.hash(&salted.salt)).collect()),
        };
        let inline = |(index, bytes): (usize, &&[u8])| Inline {
            index: u16::try_from(index).expect("few"),
            bytes: Bytes::new(bytes.to_vec()).expect("small"),
        };
        Message::BatchPush(BatchPush {
            folder,
            header: Batch::sign(header, &self.key).signed().clone(),
            entries: Packed::pack(entries.iter().enumerate().map(|(at, s)| (u16::try_from(at).expect("few"), s))),
            holes: List::default(),
            contents: List::truncated(contents.iter().enumerate().map(inline).collect()),
        })
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Log<'a> {
    pub(crate) writer: Writer,
    pub(crate) first: u64,
    pub(crate) previous: Option<&'a Batch>,
    pub(crate) heads: &'a [StatementId],
    pub(crate) ms: u64,
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let hex = hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16));
    hex.collect::<Result<Vec<u8>, _>>().expect("hex").try_into().expect("the right length")
}

pub(crate) fn folder(task: &Value, key: &str) -> FolderId {
    FolderId(bytes(text(task, key)))
}

pub(crate) fn file(content: &[u8]) -> What {
    What::File { bytes: content.len() as u64, content: chunks_of(content).id() }
}

#[test]
fn the_hostile_hand() {
    // Not a test by itself: nothing to do unless another test started this program.
    let Ok(task) = std::env::var("LANYARD_HOSTILE") else { return };
    let task: Value = serde_json::from_str(&task).expect("a task");
    let mut hand = Hand::new(&task);
    match text(&task, "do") {
        "lie" => lie(&mut hand, &task),
        "equivocate" => equivocate(&mut hand, &task),
        verb => panic!("{verb}?"),
    }
}

/// Every lie but equivocation.
fn lie(hand: &mut Hand, task: &Value) {
    let (open, locked, secret) = (folder(task, "open"), folder(task, "locked"), folder(task, "secret"));
    let secret_content = ContentId(bytes(text(task, "secret_content")));
    let secret_bytes = task["secret_bytes"].as_u64().expect("a number");
    let all_heads = hand.heads();
    assert!(!all_heads.is_empty(), "the target does not answer a member at all");
    let heads = &all_heads[..1];
    let me = hand.me();
    // Each target hears of other logs: whoever shows two histories of one is found out, which is another test.
    let base = task["base"].as_u64().expect("a number");
    let own = |incarnation| Writer { node: me, incarnation: base + incarnation };
    let mine = own(1);
    let log = Log { writer: mine, first: 1, previous: None, heads, ms: 1_900_000_000_000 };

    // The control: what it may write, it can.
    let honest = hand.entry(&format!("from the hand {base}"), file(b"hello"), &[(mine, 1)]);
    let message = hand.push(open, log, &[honest], &[b"hello"]);
    hand.say(Purpose::Control, vec![message]);

    // Writes with read only, in one folder and below one path; also back-dated, and naming only the oldest statement.
    for (at, (to, path)) in
        [(locked, "rules.txt"), (locked, "new.txt"), (open, "salaries/mine.txt"), (secret, "in.txt")]
            .into_iter()
            .enumerate()
    {
        for (variant, ms) in [(0, 1_900_000_000_000), (1, 1_000_000_000_000), (2, 1_900_000_000_000)] {
            let writer = own(100 + 10 * at as u64 + variant);
            let heads = if variant == 2 { &all_heads[all_heads.len() - 1..] } else { heads };
            let entry = hand.entry(path, file(b"overwritten"), &[(writer, 1)]);
            let message = hand.push(to, Log { writer, heads, ms, ..log }, &[entry], &[b"overwritten"]);
            hand.say(Purpose::Control, vec![message]);
        }
    }
    // Deletes what it may only read.
    let writer = own(200);
    let gone = hand.entry("rules.txt", What::Tombstone { deleted: None }, &[(writer, 1)]);
    let message = hand.push(locked, Log { writer, ..log }, &[gone], &[]);
    hand.say(Purpose::Control, vec![message]);

    // Forges the author: the victim's own log, signed with the wrong key.
    for frontier in hand.frontiers(open) {
        let writer = frontier.writer;
        let entry = hand.entry("hello.txt", file(b"forged"), &[(writer, frontier.seq + 1)]);
        let message = hand.push(open, Log { writer, first: frontier.seq + 1, ..log }, &[entry], &[b"forged"]);
        hand.say(Purpose::Control, vec![message]);
        // Claims to have seen what nobody wrote, so as to win against every later edit.
        let writer = own(300);
        let entry = hand.entry("hello.txt", file(b"won"), &[(writer, 1), (frontier.writer, u64::MAX / 2)]);
        let message = hand.push(open, Log { writer, ..log }, &[entry], &[b"won"]);
        hand.say(Purpose::Control, vec![message]);
    }

    // Replays what it was sent, as it is and with other entries under the same signature.
    let ask = vec![Message::Frontiers(Frontiers { folder: open, complete: false, frontiers: List::default() })];
    let mut pushes: Vec<Message> = Vec::new();
    // A busy machine may answer after `hear` has stopped listening.
    for _ in 0..20 {
        let subscribe = Message::Subscribe(Subscribe { folder: open, receives: true });
        let heard = hand.say(Purpose::Control, [vec![subscribe], ask.clone()].concat());
        pushes = heard.into_iter().filter(|message| matches!(message, Message::BatchPush(_))).collect();
        if !pushes.is_empty() {
            break;
        }
    }
    assert!(!pushes.is_empty(), "a member that may read is sent what there is");
    for push in pushes {
        let Message::BatchPush(mut other) = push.clone() else { continue };
        let entry = hand.entry("hello.txt", file(b"swapped"), &[(mine, 1)]);
        other.entries = Packed::pack([(0, &entry)]);
        hand.say(Purpose::Control, vec![push]);
        hand.say(Purpose::Control, vec![Message::BatchPush(other)]);
    }

    // Announces one content and serves another.
    let writer = own(400);
    let promised = vec![b'p'; 200_000];
    let entry = hand.entry("promised.bin", file(&promised), &[(writer, 1)]);
    let message = hand.push(open, Log { writer, ..log }, &[entry], &[]);
    if let (Some(control), Some(bulk)) = (hand.dial(Purpose::Control), hand.dial(Purpose::Bulk)) {
        hand.hear(&control);
        let _ = rt::block_on(control.sender.send(message));
        for _ in 0..4 {
            for want in hand.hear(&bulk) {
                let Message::ContentWant(ContentWant { request, .. }) = want else { continue };
                let answer = Answer::Bytes(Bytes::new(vec![b'x'; 200_000]).expect("fits"));
                let _ = rt::block_on(bulk.sender.send(Message::Content(Content { request, answer })));
            }
        }
    }

    // Knows the hash of a content that it may not read: asks for it, and names it as its own in a folder that it may read.
    let writer = own(500);
    let stolen = What::File { bytes: secret_bytes, content: secret_content };
    let entry = hand.entry("stolen.txt", stolen, &[(writer, 1)]);
    let message = hand.push(open, Log { writer, ..log }, &[entry], &[]);
    hand.say(Purpose::Control, vec![message]);
    let secret_path = RelPath::new(format!("{SECRET_NAME}.txt")).expect("a path");
    let salary_path = RelPath::new(format!("salaries/{SECRET_NAME}.txt")).expect("a path");
    let stolen_path = RelPath::new("stolen.txt").expect("a path");
    let hello_path = RelPath::new("hello.txt").expect("a path");
    let asks = [
        (secret, secret_path.clone()),
        (open, secret_path),
        (open, salary_path),
        (open, stolen_path),
        (open, hello_path),
        (locked, RelPath::root()),
    ];
    let want = |(request, (folder, path)): (usize, (FolderId, RelPath))| {
        let part = Part::Whole;
        Message::ContentWant(ContentWant { request: request as u64, folder, path, content: secret_content, part })
    };
    let wants: Vec<Message> = asks.into_iter().enumerate().map(want).collect();
    hand.say(Purpose::Bulk, wants.clone());
    hand.say(Purpose::Control, wants);

    // Asks for entries that it may not see, by number, in both folders.
    let victim = hand.victim;
    let writers: Vec<Writer> = [open, secret].into_iter().flat_map(|f| hand.frontiers(f)).map(|f| f.writer).collect();
    for writer in writers.into_iter().filter(|writer| writer.node == victim) {
        for folder in [open, secret] {
            let numbers = List::truncated((1..=50).collect());
            hand.say(Purpose::Control, vec![Message::EntryWant(EntryWant { folder, writer, numbers })]);
        }
    }
    hand.say(
        Purpose::Control,
        vec![
            Message::Subscribe(Subscribe { folder: secret, receives: true }),
            Message::Frontiers(Frontiers { folder: secret, complete: true, frontiers: List::default() }),
            Message::Applied(Frontiers { folder: secret, complete: true, frontiers: List::default() }),
        ],
    );

    // Says who may do what.
    let stranger = NodeId(SigningKey::from_bytes(&[99; 32]).verifying_key().to_bytes());
    let grant = |folder, path: &str| {
        let path = RelPath::new(path).expect("a path");
        Body::Grant(Grant { folder, subject: Subject::Node(me), path, level: Level::Manage, not_after: None })
    };
    let bodies = [
        grant(secret, ""),
        grant(open, "salaries"),
        grant(locked, ""),
        Body::Admit(Admit { node: stranger, name: Name::truncated("friend"), role: Role::Admin }),
        Body::Expel(Expel { node: victim }),
    ];
    let mut parents = heads.to_vec();
    let mut statements = Vec::new();
    for (at, body) in bodies.into_iter().enumerate() {
        let head = Head {
            mesh: Some(hand.mesh),
            issuer: me,
            counter: at as u64 + 1,
            parents: List::truncated(parents.clone()),
            time: Hlc { ms: 1_900_000_000_000, count: 0 },
            scope: None,
            frontiers: List::default(),
        };
        let statement = Statement::sign(head, body, &hand.key);
        parents = vec![statement.id()];
        statements.push(statement.signed().clone());
    }
    hand.say(Purpose::Control, vec![Message::Statements(List::truncated(statements))]);
    // What is slow in coming is heard too.
    if let Some(line) = hand.dial(Purpose::Control) {
        (0..8).for_each(|_| drop(hand.hear(&line)));
    }
}

/// Signs two histories and shows each target one of them.
fn equivocate(hand: &mut Hand, task: &Value) {
    let open = folder(task, "open");
    let heads = hand.heads();
    let content = text(task, "content").as_bytes().to_vec();
    // Both histories of the first log are equally long; of the second, one target is shown more.
    for (incarnation, path, length) in
        [(900, "two-faced.txt", 1), (901, "long-faced.txt", task["length"].as_u64().expect("a number"))]
    {
        let writer = Writer { node: hand.me(), incarnation };
        let mut previous = None;
        for number in 1..=length {
            let heads = &heads[..1];
            let log = Log { writer, first: number, previous: previous.as_ref(), heads, ms: 1_900_000_000_000 };
            let entry = hand.entry(path, file(&content), &[(writer, number)]);
            let message = hand.push(open, log, &[entry], &[&content]);
            let Message::BatchPush(push) = &message else { unreachable!("a push") };
            previous = Some(Batch::open(push.header.clone()).expect("its own batch"));
            hand.say(Purpose::Control, vec![message]);
        }
    }
}

// ---- the tests --------------------------------------------------------------------------------------------------

fn hand(host: &Host<'_>, task: &Value) -> Command {
    let program = std::env::current_exe().expect("this program has a path").display().to_string();
    let mut command = host.bounded(Duration::from_secs(100), &program);
    command.args(["--exact", "hostile::the_hostile_hand", "--nocapture"]).env("LANYARD_HOSTILE", task.to_string());
    command
}

pub(crate) fn id_of(node: &Node<'_>, name: &str) -> String {
    node.folder(name)["id"].as_str().unwrap_or_else(|| panic!("no folder {name}")).to_owned()
}

#[test]
fn a_member_that_lies_in_every_way_changes_nothing_and_learns_nothing() {
    let Some(lab) = Lab::open("hostile") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b, mut m) = (h1.node("front-desk"), h2.node("workshop"), h3.node("mallory"));
    let (open, locked, secret) = (a.mkdir("Open"), a.mkdir("Locked"), a.mkdir("Secret"));
    let (content, other) = (SECRET_TEXT.repeat(100), SECRET_TEXT.repeat(101));
    fs::create_dir(open.join("salaries")).expect("a directory");
    for (path, text) in [
        (open.join("hello.txt"), "hello from the office"),
        (open.join(format!("salaries/{SECRET_NAME}.txt")), content.as_str()),
        (locked.join("rules.txt"), "the rules"),
        (secret.join(format!("{SECRET_NAME}.txt")), content.as_str()),
        // Nothing about these is known to it, not even a hash.
        (open.join(format!("salaries/{SECRET_NAME}-2.txt")), other.as_str()),
        (secret.join(format!("{SECRET_NAME}-2.txt")), other.as_str()),
    ] {
        fs::write(path, text).expect("a file");
    }
    a.up(&[]);
    a.lanyard(&["share", &secret.display().to_string(), "--everyone", "none"]).ok();
    a.lanyard(&["share", &locked.display().to_string(), "--everyone", "read"]).ok();
    b.up(&[]);
    a.admit(&b, &["--into", &b.path("In").display().to_string()]);
    m.up(&[]);
    a.admit(&m, &["--no-folders"]);
    // The path below which the hostile member may not read is closed before the folder has any history.
    a.lanyard(&["share", &open.display().to_string()]).ok();
    a.lanyard(&["grant", "mallory", "Open:salaries", "none"]).ok();
    a.lanyard(&["grant", "workshop", "Secret", "write"]).ok();
    let there = b.path("In");
    for name in ["Open", "Locked", "Secret"] {
        let here = a.path(name);
        eventually(&format!("{name} arrives"), CONVERGE_MAX, || tree::same(&here, &there.join(name)));
    }
    eventually("the hostile member knows of it", CONVERGE_MAX, || {
        if m.folder("Open").is_null() { Err("not yet".to_owned()) } else { Ok(()) }
    });
    m.stop();

    let record = lab.dir().join("record");
    let task = |node: &Node<'_>, verb: &str| {
        json!({
            "do": verb,
            "base": u64::from(node.host.number()) * 10_000,
            "home": m.home(),
            "record": record,
            "mesh": a.mesh().expect("a mesh"),
            "victim": node.id(),
            "target": format!("{}:47474", node.host.address()),
            "open": id_of(&a, "Open"),
            "locked": id_of(&a, "Locked"),
            "secret": id_of(&a, "Secret"),
            "secret_content": chunks_of(content.as_bytes()).id().to_hex(),
            "secret_bytes": content.len(),
        })
    };
    let before = [("Locked", tree::snapshot(&locked)), ("Secret", tree::snapshot(&secret))];
    let nodes = a.json(&["nodes"]).as_array().map(Vec::len);
    let rules = a.json(&["rules"]);
    finish(hand(m.host, &task(&a, "lie")), "the hand, to front-desk").ok();
    finish(hand(m.host, &task(&b, "lie")), "the hand, to workshop").ok();

    for node in [&a, &b] {
        let root = |name: &str| if node.name == a.name { a.path(name) } else { there.join(name) };
        eventually("the control: what it may write arrives", CONVERGE_MAX, || {
            let count = |item: &tree::Item| item.path.starts_with(b"from the hand") && item.size == 5;
            match tree::listing(&root("Open")).iter().filter(|item| count(item)).count() {
                2 => Ok(()),
                count => Err(format!("{count} of 2")),
            }
        });
        for (name, items) in &before {
            assert_eq!(
                tree::diff(items, &tree::snapshot(&root(name))),
                Vec::<String>::new(),
                "{} on {}",
                name,
                node.name
            );
        }
        let hello = fs::read_to_string(root("Open").join("hello.txt")).expect("it is still there");
        assert_eq!(hello, "hello from the office", "on {}", node.name);
        let mut names: Vec<String> =
            tree::listing(&root("Open")).into_iter().map(|item| String::from_utf8(item.path).expect("UTF-8")).collect();
        names.retain(|name| !name.starts_with("from the hand"));
        let secret_file = format!("salaries/{SECRET_NAME}.txt");
        let other_file = format!("salaries/{SECRET_NAME}-2.txt");
        assert_eq!(names, ["hello.txt", "salaries", &other_file, &secret_file], "on {}", node.name);
        assert_eq!(node.json(&["nodes"]).as_array().map(Vec::len), nodes, "who is a member");
        assert_eq!(node.json(&["rules"]), rules, "who may do what, on {}", node.name);
        let status = node.lanyard(&["audit", "--json"]);
        assert!(status.stdout.contains(&m.name), "what it tried is in the audit log of {}: {status}", node.name);
    }

    let told = fs::read(&record).expect("the record");
    let content_id = chunks_of(other.as_bytes()).id();
    let plain = blake3::hash(other.as_bytes());
    let name = blake3::hash(SECRET_NAME.as_bytes());
    let needles: [(&str, &[u8]); 5] = [
        ("a name", SECRET_NAME.as_bytes()),
        ("a content", SECRET_TEXT.as_bytes()),
        ("a content id", content_id.as_bytes()),
        ("a hash of a content", plain.as_bytes()),
        ("a hash of a name", name.as_bytes()),
    ];
    let has = |needle: &[u8]| told.windows(needle.len()).any(|window| window == needle);
    assert!(has(b"hello.txt") && has(b"hello from the office"), "the control: the record has what it may read");
    for (what, needle) in needles {
        assert!(!has(needle), "{what} that it may not read was sent to it");
    }
}

#[test]
fn who_shows_two_histories_is_found_out_and_everybody_holds_the_same() {
    let Some(lab) = Lab::open("equivocation") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b, mut m) = (h1.node("front-desk"), h2.node("workshop"), h3.node("mallory"));
    fs::write(a.mkdir("Open").join("hello.txt"), "hello from the office").expect("a file");
    a.up(&["Open"]);
    b.up(&[]);
    a.admit(&b, &["--into", &b.path("In").display().to_string()]);
    m.up(&[]);
    a.admit(&m, &["--no-folders"]);
    let (here, there) = (a.path("Open"), b.path("In/Open"));
    eventually("it arrives", CONVERGE_MAX, || tree::same(&here, &there));
    eventually("the hostile member knows of it", CONVERGE_MAX, || {
        if m.folder("Open").is_null() { Err("not yet".to_owned()) } else { Ok(()) }
    });
    m.stop();

    // Each is shown its history while it cannot compare.
    lab.partition(&h1, &h2);
    let record = lab.dir().join("record");
    for (node, content, length) in [(&a, "this to the front desk", 1), (&b, "that to the workshop", 3)] {
        let task = json!({
            "do": "equivocate",
            "home": m.home(),
            "record": record,
            "mesh": a.mesh().expect("a mesh"),
            "victim": node.id(),
            "target": format!("{}:47474", node.host.address()),
            "open": id_of(&a, "Open"),
            "content": content,
            "length": length,
        });
        finish(hand(m.host, &task), &format!("the hand, to {}", node.name)).ok();
    }
    for (root, content) in [(&here, "this to the front desk"), (&there, "that to the workshop")] {
        for name in ["two-faced.txt", "long-faced.txt"] {
            eventually("the control: each believes what it is shown", CONVERGE_MAX, || {
                let found = fs::read_to_string(root.join(name)).unwrap_or_default();
                if found == content { Ok(()) } else { Err(format!("{name}: {found:?}")) }
            });
        }
    }
    // What an honest node does on top of it must not wait for the other history.
    fs::write(there.join("long-faced.txt"), "edited by the workshop").expect("a file");
    b.lanyard(&["wait", "--timeout", "60s"]).ok();
    fs::write(there.join("honest.txt"), "after it").expect("a file");

    lab.heal();
    let names = |root: &std::path::Path| -> Vec<String> {
        tree::listing(root).into_iter().map(|item| String::from_utf8(item.path).expect("UTF-8")).collect()
    };
    for root in [&here, &there] {
        eventually("neither history counts, honest work does", CONVERGE_MAX, || {
            let names = names(root);
            if names == ["hello.txt", "honest.txt", "long-faced.txt"] { Ok(()) } else { Err(format!("{names:?}")) }
        });
    }
    for node in [&a, &b] {
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
    }
    tree::same(&here, &there).expect("both hold the same");
    assert_eq!(fs::read_to_string(here.join("long-faced.txt")).ok().as_deref(), Some("edited by the workshop"));
    for node in [&a, &b] {
        let audit = node.lanyard(&["audit", "--json"]).stdout;
        assert!(audit.contains("showed that mallory signed two histories"), "on {}: {audit}", node.name);
        let late = node.json(&["late", "Open"]);
        let late = late.as_array().expect("an array");
        assert!(late.iter().any(|change| change["path"] == "two-faced.txt"), "on {}: {late:?}", node.name);
        assert!(late.iter().all(|change| change["reason"] == "forked"), "on {}: {late:?}", node.name);
    }
    let said = a.lanyard(&["folders"]).ok();
    assert!(said.stdout.contains("mallory signed two histories"), "{said}");
    a.lanyard(&["late", "keep", "mallory", "Open"]).exits(1).names("two histories");
    b.lanyard(&["reinstate", "mallory"]).exits(4).names("front-desk");
    a.lanyard(&["reinstate", "workshop"]).exits(1).names("workshop");
}
