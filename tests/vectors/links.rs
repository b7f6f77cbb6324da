//! Vectors of links: the proof before TLS, messages between members, messages of pairing.

use lanyard::base::{ChunkHash, ContentId, DiscoveryKey, FolderId, Hlc, MeshId, RelPath, StatementId};
use lanyard::wire::batch::{Batch, Header, Packed};
use lanyard::wire::codec::{Bytes, List, Text};
use lanyard::wire::content::{ChunkRecord, LeafHash};
use lanyard::wire::envelope::{Envelope, kind};
use lanyard::wire::heartbeat::{Claim, ClaimState, Hears, Heartbeat};
use lanyard::wire::hello;
use lanyard::wire::message::{
    Address, Answer, BatchPush, Bye, Content, ContentWant, EntryWant, Frontiers, Have, Hello, Hole, HoleReason, Inline,
    KeyInUse, Message, Part, Purpose, RelayCall, Subscribe,
};
use lanyard::wire::pairing::{self, Admission, Confirm, Refusal, Reply, Start};
use lanyard::wire::relay::{self, Meeting};
use lanyard::wire::report::{AuditLines, Doing, FolderReport, Report, ReportedAlert, Room};
use lanyard::wire::statement::{Body, CreateFolder, Frontier, Head, Statement};
use lanyard::wire::versions::Versions;

use crate::file::{Case, case};
use crate::statements::{key, name, node, writer};

const FOLDER: FolderId = FolderId([0xf0; 32]);

/// The discovery key of the vectors.
fn discovery() -> DiscoveryKey {
    DiscoveryKey([0xd0; 32])
}

pub(crate) fn read_dial(read_as: &str, bytes: &[u8]) -> Result<String, String> {
    match read_as {
        "instance name text" => {
            let name = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
            Ok(data_encoding::HEXLOWER.encode(&hello::tag(&discovery(), name)))
        }
        _ => {
            let (challenge, answer) = bytes.split_first_chunk::<32>().ok_or("too short")?;
            let answer: &[u8; 64] = answer.try_into().map_err(|_| "not 64 bytes".to_string())?;
            let proves = hello::proves(&discovery(), challenge, answer);
            proves.then(|| "proves".to_string()).ok_or_else(|| "proves nothing".to_string())
        }
    }
}

pub(crate) fn dial() -> Vec<Case> {
    const AS: &str = "challenge and answer";
    let answered = |key: u8, asked: u8, nonce: u8| hello::answer(&DiscoveryKey([key; 32]), &[asked; 32], &[nonce; 32]);
    let exchange = |asked: u8, answer: &[u8]| [&[asked; 32], answer].concat();
    let good = answered(0xd0, 1, 2);
    let flipped = |at: usize| {
        let mut answer = good;
        answer[at] ^= 1;
        answer
    };
    vec![
        case(AS, "a member's answer", exchange(1, &good)),
        case("instance name text", "a tag", "k3v9q0m2x8"),
        case(AS, "an answer under another key", exchange(1, &answered(0xd1, 1, 2))),
        case(AS, "a recorded answer to a new challenge", exchange(3, &good)),
        case(AS, "another nonce", exchange(1, &flipped(0))),
        case(AS, "one bit of the proof flipped", exchange(1, &flipped(63))),
        case(AS, "the challenge sent back", exchange(1, &[1; 64])),
        case(AS, "zeros", [0; 96]),
        case(AS, "an answer cut short", exchange(1, &good[..63])),
    ]
}

pub(crate) fn read_message(_: &str, bytes: &[u8]) -> Result<String, String> {
    let message = Message::decode(bytes).map_err(|e| e.to_string())?;
    let text = format!("{message:?}");
    Ok(text.split(['(', ' ']).next().unwrap_or_default().to_string())
}

fn push() -> BatchPush {
    let items = crate::logs::items();
    let header = Header {
        mesh: MeshId([0xee; 32]),
        folder: FOLDER,
        writer: writer(1),
        first: 1,
        previous: None,
        heads: List::default(),
        time: Hlc::default(),
        entries: List::new(items.iter().map(|s| s.entry.hash(&s.salt)).collect()).expect("few"),
    };
    let holes = vec![
        Hole { index: 2, reason: HoleReason::Superseded(writer(2), 41) },
        Hole { index: 3, reason: HoleReason::Withheld },
        Hole { index: 4, reason: HoleReason::Missing },
    ];
    BatchPush {
        folder: FOLDER,
        header: Batch::sign(header, &key()).signed().clone(),
        entries: Packed::pack([(0, &items[0]), (1, &items[1])]),
        holes: List::new(holes).expect("three"),
        contents: List::new(vec![Inline { index: 1, bytes: Bytes::new(b"hello".to_vec()).expect("short") }])
            .expect("one"),
    }
}

fn want(part: Part) -> Message {
    let path = RelPath::new("plans/office.pdf").expect("valid");
    Message::ContentWant(ContentWant { request: 300, folder: FOLDER, path, content: ContentId([5; 32]), part })
}

fn answer(answer: Answer) -> Message {
    Message::Content(Content { request: 300, answer })
}

fn statement() -> Statement {
    let head = Head {
        mesh: Some(MeshId([0xee; 32])),
        issuer: node(1),
        counter: 2,
        parents: List::new(vec![StatementId([3; 32])]).expect("one"),
        time: Hlc::default(),
        scope: None,
        frontiers: List::default(),
    };
    Statement::sign(head, Body::CreateFolder(CreateFolder { name: name("Shared") }), &key())
}

fn report() -> Report {
    let room = Room { free: 1 << 30, total: 1 << 40 };
    let folder = FolderReport {
        folder: FOLDER,
        doing: Doing::Syncing,
        need_files: 3,
        need_bytes: 300,
        disk: room,
        holds: Some([4; 32]),
    };
    let alert = ReportedAlert {
        since_ms: 1_772_357_400_005,
        what: Text::new("the disk is full").expect("short"),
        hint: Some(Text::new("free some room").expect("short")),
    };
    Report {
        version: Text::new("lanyard 0.1.0").expect("short"),
        clock_ms: 1_772_357_400_006,
        disk: room,
        folders: List::new(vec![folder]).expect("one"),
        alerts: 2,
        listed: List::new(vec![alert]).expect("one"),
        audit: 301,
    }
}

fn all_messages() -> Vec<(&'static str, Message)> {
    let hello = Hello {
        software: Text::new("lanyard 0.1.0").expect("short"),
        purpose: Purpose::Bulk,
        run: 1 << 63,
        port: 47474,
    };
    let frontier = Frontier { writer: writer(1), seq: 5, batch: lanyard::base::BatchHash([8; 32]) };
    let frontiers = || Frontiers { folder: FOLDER, complete: true, frontiers: List::new(vec![frontier]).expect("one") };
    let numbers = List::new(vec![1, 300]).expect("two");
    let leaf = List::new(vec![ChunkRecord { hash: ChunkHash([7; 32]), bytes: 5 }]).expect("one");
    let leaves = List::new(vec![LeafHash([6; 32])]).expect("one");
    vec![
        ("hello", Message::Hello(hello)),
        ("ping", Message::Ping(1)),
        ("pong", Message::Pong(u64::MAX)),
        ("bye", Message::Bye(Bye::Busy)),
        ("statement heads", Message::StatementHeads(List::new(vec![StatementId([3; 32])]).expect("one"))),
        ("statement want", Message::StatementWant(List::default())),
        ("statements", Message::Statements(List::new(vec![statement().signed().clone()]).expect("one"))),
        ("discovery key", Message::DiscoveryKey(KeyInUse { epoch: 2, key: discovery() })),
        ("addresses", {
            let at = Text::new("192.0.2.7:47474").expect("short");
            Message::Addresses(List::new(vec![Address { node: node(2), at }]).expect("one"))
        }),
        ("clock", Message::Clock(1_700_000_000_000)),
        ("frontiers", Message::Frontiers(frontiers())),
        ("batch push", Message::BatchPush(push())),
        ("entry want", Message::EntryWant(EntryWant { folder: FOLDER, writer: writer(1), numbers })),
        ("subscribe", Message::Subscribe(Subscribe { folder: FOLDER, receives: true })),
        ("applied", Message::Applied(frontiers())),
        ("content want, whole", want(Part::Whole)),
        ("content want, leaf", want(Part::Leaf(1))),
        ("content want, chunk", want(Part::Chunk { index: 4097, hash: ChunkHash([7; 32]) })),
        ("content, bytes", answer(Answer::Bytes(Bytes::new(b"hello".to_vec()).expect("short")))),
        ("content, leaf", answer(Answer::Leaf { leaf, leaves })),
        ("content, absent", answer(Answer::Absent)),
        ("content, refused", answer(Answer::Refused)),
        ("content, busy", answer(Answer::Busy(250))),
        ("report", Message::Report(Box::new(report()))),
        ("audit want", Message::AuditWant(300)),
        ("audit lines", {
            let line = Text::new("{\"seq\":301}").expect("short");
            Message::AuditLines(AuditLines { lines: List::new(vec![(301, line)]).expect("one"), through: 302 })
        }),
        ("have", {
            let path = RelPath::new("plans/office.pdf").expect("valid");
            let chunks = Bytes::new(vec![0b1010_0001, 1]).expect("short");
            Message::Have(Have { folder: FOLDER, path, content: ContentId([5; 32]), first: 32_768, chunks })
        }),
        ("relay call", {
            let meeting = Meeting([9; 16]);
            Message::RelayCall(RelayCall { meeting, from: node(2), purpose: Purpose::Bulk })
        }),
        ("heartbeat, no coordinator", Message::Heartbeat(Heartbeat { claim: None, hears: None, candidate: false })),
        ("heartbeat, heard", {
            let hears = Some(Hears { node: node(2), term: 300 });
            Message::Heartbeat(Heartbeat { claim: None, hears, candidate: true })
        }),
        ("heartbeat, serves", heartbeat(ClaimState::Serves)),
        ("heartbeat, hands over", heartbeat(ClaimState::Hands(node(2)))),
        ("heartbeat, over", heartbeat(ClaimState::Over)),
        ("a later kind that may be ignored", Message::Unknown(0x03ff)),
    ]
}

fn heartbeat(state: ClaimState) -> Message {
    let claim = Claim { node: node(1), term: 3, beat: 300, settled: true, state };
    Message::Heartbeat(Heartbeat { claim: Some(claim.sign(MeshId([0xee; 32]), &key())), hears: None, candidate: true })
}

pub(crate) fn messages() -> Vec<Case> {
    const AS: &str = "message";
    let seal = |kind: u16, body: &[u8]| Envelope::seal(kind, true, body);
    let refused = |name: &str, kind: u16, body: &[u8]| case(AS, name, seal(kind, body));
    let have = |critical: bool, path: &[u8], rest: &[u8]| {
        Envelope::seal(kind::HAVE, critical, &[&[0; 32][..], path, &[0; 32], rest].concat())
    };
    let mut cases: Vec<Case> = all_messages().iter().map(|(name, m)| case(AS, name, m.encode())).collect();
    cases.extend([
        case(AS, "content, without its critical bit", [3, 0x31, 0, 0, 0, 0, 3, 0xac, 2, 2]),
        case(AS, "addresses, with a critical bit", [3, 0x14, 1, 0, 0, 0, 1, 0]),
        case(
            AS,
            "a report with a critical bit",
            Message::Report(Box::new(report()))
                .encode()
                .iter()
                .enumerate()
                .map(|(at, byte)| if at == 2 { 1 } else { *byte })
                .collect::<Vec<u8>>(),
        ),
        case(AS, "audit lines that go on", Envelope::seal(kind::AUDIT_LINES, false, &[0, 1, 7])),
        case(AS, "a report of nothing", Envelope::seal(kind::REPORT, false, b"")),
        case(AS, "have, with a critical bit", have(true, b"\x01a", &[0, 0])),
        case(AS, "have of a path outside the folder", have(false, b"\x04../a", &[0, 0])),
        case(AS, "have without a map", have(false, b"\x01a", &[0])),
        case(AS, "have with a map of 4,097 bytes", have(false, b"\x01a", &[&[0, 0x81, 0x20][..], &[0; 4097]].concat())),
        case(AS, "heartbeat, with a critical bit", seal(kind::HEARTBEAT, &[0, 0, 0])),
        case(AS, "heartbeat, cut short", Envelope::seal(kind::HEARTBEAT, false, &[0, 0])),
        case(AS, "heartbeat with a third answer to yes or no", Envelope::seal(kind::HEARTBEAT, false, &[0, 0, 2])),
        case(AS, "heartbeat with a state that is not there", {
            let claim = [&[1][..], &[7; 32], &[3, 9, 1, 3, 0], &[0, 0]].concat();
            Envelope::seal(kind::HEARTBEAT, false, &claim)
        }),
        case(AS, "heartbeat with a signature of 65 bytes", {
            let claim = [&[1][..], &[7; 32], &[3, 9, 1, 0, 65], &[0; 65], &[0, 0]].concat();
            Envelope::seal(kind::HEARTBEAT, false, &claim)
        }),
        case(AS, "heartbeat with a term in more bytes than it needs", {
            let claim = [&[1][..], &[7; 32], &[0x83, 0x00, 9, 1, 0, 0], &[0, 0]].concat();
            Envelope::seal(kind::HEARTBEAT, false, &claim)
        }),
        case(AS, "nothing", []),
        case(AS, "a later kind that is critical", seal(0x03ff, b"")),
        case(AS, "a statement's kind", seal(kind::GRANT, b"")),
        case(AS, "a batch's kind", seal(kind::BATCH, b"")),
        case(AS, "a pairing message's kind", seal(kind::PAIR_DONE, b"")),
        case(AS, "an unknown flag", [3, 2, 4, 0, 0, 0, 1, 7]),
        refused("ping without its number", kind::PING, b""),
        refused("ping with two numbers", kind::PING, &[1, 2]),
        refused("ping with a number in two bytes", kind::PING, &[0x81, 0x00]),
        refused("bye with a reason that is not there", kind::BYE, &[5]),
        refused("hello with a purpose that is not there", kind::HELLO, &[0, 2, 1, 1]),
        refused("hello with 65 bytes of software", kind::HELLO, &[&[65][..], &[b'x'; 65], &[0, 1, 1]].concat()),
        refused("hello with a port beyond 65535", kind::HELLO, &[0, 0, 1, 0x80, 0x80, 0x04]),
        refused("hello cut short", kind::HELLO, &[0, 0]),
        refused("257 statement heads", kind::STATEMENT_HEADS, &[&[0x81, 0x02][..], &[0; 257 * 32]].concat()),
        refused("1025 statements wanted", kind::STATEMENT_WANT, &[0x81, 0x08]),
        refused("1025 statements", kind::STATEMENTS, &[0x81, 0x08]),
        refused("a statement of more than 160 KiB", kind::STATEMENTS, &[1, 0x81, 0x80, 0x0a]),
        refused("a signature of 65 bytes", kind::STATEMENTS, &[&[1, 0, 65][..], &[0; 65]].concat()),
        refused("a discovery key cut short", kind::DISCOVERY_KEY, &[0; 32]),
        refused("257 addresses", kind::ADDRESSES, &[0x81, 0x02]),
        refused("4097 frontiers", kind::FRONTIERS, &[&[0; 33][..], &[0x81, 0x20]].concat()),
        refused("1025 numbers wanted", kind::ENTRY_WANT, &[&[0; 65][..], &[0x81, 0x08]].concat()),
        refused("subscribe with two for a bool", kind::SUBSCRIBE, &[&[0; 32][..], &[2]].concat()),
        refused("content wanted outside the folder", kind::CONTENT_WANT, &{
            let mut body = vec![1];
            body.extend([0; 32]);
            body.extend(b"\x04../a");
            body.extend([0; 33]);
            body
        }),
        refused(
            "a part that is not there",
            kind::CONTENT_WANT,
            &[&[1][..], &[0; 32], b"\x01a", &[0; 32], &[3]].concat(),
        ),
        refused("a leaf beyond 32 bits", kind::CONTENT_WANT, &{
            [&[1][..], &[0; 32], b"\x01a", &[0; 32], &[1, 0x80, 0x80, 0x80, 0x80, 0x10]].concat()
        }),
        refused("an answer that is not there", kind::CONTENT, &[1, 5]),
        refused("busy without a time", kind::CONTENT, &[1, 4]),
        refused("busy for longer than 32 bits", kind::CONTENT, &[1, 4, 0x80, 0x80, 0x80, 0x80, 0x10]),
        case(AS, "relay call, with a critical bit", Envelope::seal(kind::RELAY_CALL, true, &[0; 49])),
        case(AS, "relay call for a purpose that is not there", {
            Envelope::seal(kind::RELAY_CALL, false, &[&[0; 48][..], &[2]].concat())
        }),
        case(AS, "relay call cut short", Envelope::seal(kind::RELAY_CALL, false, &[0; 48])),
        refused("a relay's own message", kind::RELAY_ASK, &[0; 33]),
        refused("content of more than 1 MiB", kind::CONTENT, &{
            [&[1, 0, 0x81, 0x80, 0x40][..], &vec![0; 1024 * 1024 + 1]].concat()
        }),
        refused("an empty body", kind::CONTENT, b""),
        refused(
            "a push whose header is announced beyond its bound",
            kind::BATCH_PUSH,
            &[&[0; 32][..], &[0x81, 0x80, 0x0a]].concat(),
        ),
        refused("1025 holes", kind::BATCH_PUSH, &[&[0; 32][..], &[0, 0, 0, 0, 0x81, 0x08]].concat()),
        refused("65 contents in a push", kind::BATCH_PUSH, &[&[0; 32][..], &[0, 0, 0, 0, 0, 65]].concat()),
        refused("a content of more than 64 KiB in a push", kind::BATCH_PUSH, &{
            [&[0; 32][..], &[0, 0, 0, 0, 0, 1, 0, 0x81, 0x80, 0x04], &[0; 64 * 1024 + 1]].concat()
        }),
        refused("a reason for a hole that is not there", kind::BATCH_PUSH, &{
            [&[0; 32][..], &[0, 0, 0, 0, 1, 0, 3, 0]].concat()
        }),
    ]);
    cases
}

pub(crate) fn read_relay(_: &str, bytes: &[u8]) -> Result<String, String> {
    relay::Message::decode(bytes).map(|message| format!("{message:?}")).map_err(|e| e.to_string())
}

pub(crate) fn relay_messages() -> Vec<Case> {
    const AS: &str = "relay message";
    let ask = relay::Message::Ask(relay::Ask { to: node(2), purpose: Purpose::Bulk });
    let answer = |answer| relay::Message::Answer(answer).encode();
    let refused = |name: &str, kind: u16, body: &[u8]| case(AS, name, Envelope::seal(kind, true, body));
    vec![
        case(AS, "ask", ask.encode()),
        case(AS, "meet", relay::Message::Meet(Meeting([9; 16])).encode()),
        case(AS, "joined", answer(relay::Answer::Joined)),
        case(AS, "busy", answer(relay::Answer::Busy(10_000))),
        case(AS, "away", answer(relay::Answer::Away)),
        case(AS, "refused", answer(relay::Answer::Refused)),
        case(AS, "nothing", []),
        case(AS, "ask, without its critical bit", Envelope::seal(kind::RELAY_ASK, false, &[0; 33])),
        case(AS, "an unknown flag", [5, 2, 3, 0, 0, 0, 0]),
        refused("ask with an address instead of a member", kind::RELAY_ASK, b"192.0.2.7:47474"),
        refused("ask for a purpose that is not there", kind::RELAY_ASK, &[&[0; 32][..], &[2]].concat()),
        refused("ask cut short", kind::RELAY_ASK, &[0; 32]),
        refused("a byte after ask", kind::RELAY_ASK, &[0; 34]),
        refused("meet cut short", kind::RELAY_MEET, &[0; 15]),
        refused("a byte after meet", kind::RELAY_MEET, &[0; 17]),
        refused("an answer that is not there", kind::RELAY_ANSWER, &[4]),
        refused("an answer in two bytes", kind::RELAY_ANSWER, &[0x80, 0x00]),
        refused("busy without a time", kind::RELAY_ANSWER, &[1]),
        refused("busy for longer than 32 bits", kind::RELAY_ANSWER, &[1, 0x80, 0x80, 0x80, 0x80, 0x10]),
        refused("joined with a time", kind::RELAY_ANSWER, &[0, 1]),
        refused("a member's message", kind::PING, &[1]),
        refused("a kind that nobody gave yet", 0x0504, &[]),
    ]
}

pub(crate) fn read_versions(_: &str, bytes: &[u8]) -> Result<String, String> {
    Versions::decode(bytes).map(|versions| format!("{versions:?}")).map_err(|e| e.to_string())
}

pub(crate) fn versions() -> Vec<Case> {
    const AS: &str = "versions";
    let said = |software: &str, speaks: &[u16]| {
        Versions { software: Text::truncated(software), speaks: List::truncated(speaks.to_vec()) }.encode()
    };
    let refused = |name: &str, body: &[u8]| case(AS, name, Envelope::seal(kind::VERSIONS, true, body));
    vec![
        case(AS, "one version", said("lanyard 0.1.0", &[1])),
        case(AS, "several, newest first", said("lanyard 9.0.0", &[300, 2, 1])),
        case(AS, "to a stranger", said("", &[1])),
        case(AS, "none", said("lanyard", &[])),
        case(AS, "nothing", []),
        case(AS, "without its critical bit", Envelope::seal(kind::VERSIONS, false, &[0, 1, 1])),
        case(AS, "a hello", Envelope::seal(kind::HELLO, true, &[0, 1, 1])),
        refused("17 versions", &[&[0, 17][..], &[1; 17]].concat()),
        refused("software of 65 bytes", &[&[65][..], &[b'x'; 65], &[1, 1]].concat()),
        refused("software that is no UTF-8", &[1, 0xff, 1, 1]),
        refused("a version beyond 16 bits", &[0, 1, 0x80, 0x80, 0x04]),
        refused("a version in more bytes than it needs", &[0, 1, 0x81, 0x00]),
        refused("a byte after it", &[0, 1, 1, 0]),
        refused("cut short", &[0, 2, 1]),
    ]
}

pub(crate) fn read_pairing(_: &str, bytes: &[u8]) -> Result<String, String> {
    let message = pairing::Message::decode(bytes).map_err(|e| e.to_string())?;
    let text = format!("{message:?}");
    Ok(text.split(['(', ' ']).next().unwrap_or_default().to_string())
}

pub(crate) fn pairing_messages() -> Vec<Case> {
    const AS: &str = "pairing message";
    let exchange = || Bytes::new(vec![0x55; 33]).expect("short");
    let admission = Admission {
        mac: [1; 32],
        inviter: node(1),
        mesh: MeshId([0xee; 32]),
        discovery: discovery(),
        statements: List::new(vec![statement().signed().clone()]).expect("one"),
        addresses: List::new(vec![Text::new("192.0.2.7:47474").expect("short")]).expect("one"),
    };
    let start = pairing::Message::Start(Start { number: 4, joiner: node(2), exchange: exchange() }).encode();
    let refused = |name: &str, kind: u16, body: &[u8]| case(AS, name, Envelope::seal(kind, true, body));
    vec![
        case(AS, "start", start.clone()),
        case(AS, "reply", pairing::Message::Reply(Reply { exchange: exchange() }).encode()),
        case(AS, "confirm", pairing::Message::Confirm(Confirm { mac: [2; 32], name: name("workshop") }).encode()),
        case(AS, "admit", pairing::Message::Admit(admission).encode()),
        case(AS, "done", pairing::Message::Done.encode()),
        case(AS, "refused", pairing::Message::Refused(Refusal::WrongCode).encode()),
        case(AS, "done, without its critical bit", [4, 5, 0, 0, 0, 0, 0]),
        case(AS, "nothing", []),
        case(AS, "start cut short", &start[..start.len() - 1]),
        case(AS, "a byte after start", [&start[..], &[0]].concat()),
        refused("start with a number beyond 65535", kind::PAIR_START, &[&[0x80, 0x80, 0x04][..], &[0; 33]].concat()),
        refused("an exchange of 65 bytes", kind::PAIR_REPLY, &[&[65][..], &[0; 65]].concat()),
        refused("a mac cut short", kind::PAIR_CONFIRM, &[0; 31]),
        refused("a name of 256 bytes", kind::PAIR_CONFIRM, &[&[0; 32][..], &[0x80, 0x02], &[b'x'; 256]].concat()),
        refused("a name that is no UTF-8", kind::PAIR_CONFIRM, &[&[0; 32][..], &[1, 0xff]].concat()),
        refused("1025 statements", kind::PAIR_ADMIT, &[&[0; 128][..], &[0x81, 0x08]].concat()),
        refused("17 addresses", kind::PAIR_ADMIT, &[&[0; 128][..], &[0, 17], &[0; 17]].concat()),
        refused("an address of 65 bytes", kind::PAIR_ADMIT, &[&[0; 128][..], &[0, 1, 65], &[b'1'; 65]].concat()),
        refused("done with a body", kind::PAIR_DONE, &[0]),
        refused("a refusal that is not there", kind::PAIR_REFUSED, &[3]),
        refused("a refusal in two bytes", kind::PAIR_REFUSED, &[0x81, 0x00]),
        refused("a member's message", kind::PING, &[1]),
        refused("a kind that nobody gave yet", 0x0407, &[]),
        case(AS, "an unknown flag", [4, 5, 3, 0, 0, 0, 0]),
        case(AS, "a body announced beyond the frame", [4, 5, 1, 0, 1, 0, 0]),
    ]
}
