//! Vectors of statements: one of each kind under fixed keys, and what must be refused.

use ed25519_dalek::SigningKey;
use lanyard::base::{
    BatchHash, FolderId, GroupId, Hlc, Level, MeshId, NodeId, PassId, RelPath, Role, StatementId, Writer,
};
use lanyard::wire::codec::{self, Bytes, List};
use lanyard::wire::envelope::{Envelope, kind};
use lanyard::wire::signed::{Domain, Signed};
use lanyard::wire::statement::{
    Admit, Body, Copies, CreateFolder, Eligible, Expel, FolderFrontier, Fork, ForkSide, Found, Frontier, Grant, Group,
    Head, Name, Named, Pass, PassGrant, Range, Reinstate, Rename, RetireFolder, Revoke, Seal, SetRole, Statement,
    Subject, Verdict, Vouch,
};

use crate::file::{Case, case};

const AS: &str = "statement";
const FOLDER: FolderId = FolderId([0xf0; 32]);

/// The key that signs; also the fuzz targets'.
pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

/// A node of its own for each number.
pub(crate) fn node(n: u8) -> NodeId {
    NodeId(SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes())
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

pub(crate) fn writer(n: u8) -> Writer {
    Writer { node: node(n), incarnation: u64::from(n) << 56 }
}

pub(crate) fn read(_: &str, bytes: &[u8]) -> Result<String, String> {
    let signed = codec::decode::<Signed>("statement", bytes, 256 * 1024).map_err(|e| e.to_string())?;
    let statement = Statement::open(signed).map_err(|e| e.to_string())?;
    let Head { counter, parents, .. } = statement.head();
    let body = match statement.body() {
        Body::Unknown { kind, critical } => format!("unknown {kind:#06x}, critical {critical}"),
        known => format!("{:#06x}", known.kind()),
    };
    Ok(format!("{} {body}, counter {counter}, {} parents", statement.id().to_hex(), parents.len()))
}

fn head() -> Head {
    Head {
        mesh: Some(MeshId([0xee; 32])),
        issuer: node(1),
        counter: 7,
        parents: List::new(vec![StatementId([3; 32]), StatementId([4; 32])]).expect("two"),
        time: Hlc { ms: 1_800_000_000_000, count: 1 },
        scope: None,
        frontiers: List::default(),
    }
}

fn founding() -> Head {
    Head { mesh: None, counter: 1, parents: List::default(), ..head() }
}

fn frontier(folder: FolderId, n: u8, seq: u64) -> FolderFrontier {
    FolderFrontier { folder, frontier: Frontier { writer: writer(n), seq, batch: BatchHash([n; 32]) } }
}

fn range() -> Range {
    Range { writer: writer(2), first: 3, last: 9, batch: BatchHash([9; 32]) }
}

fn found() -> Body {
    let (name, node_name) = (name("Harvest & Daughters"), name("front-desk"));
    Body::Found(Found { name, node_name, nonce: [5; 16], recovery: node(9) })
}

fn admit() -> Body {
    Body::Admit(Admit { node: node(2), name: name("workshop"), role: Role::Member })
}

fn grant() -> Grant {
    let path = RelPath::new("plans/2026").expect("valid");
    Grant {
        folder: FOLDER,
        subject: Subject::Node(node(2)),
        path,
        level: Level::Write,
        not_after: Some(1_900_000_000_000),
    }
}

/// The statement as it travels.
fn signed(head: &Head, body: Body) -> Vec<u8> {
    codec::encode(Statement::sign(head.clone(), body, &key()).signed())
}

/// A statement with a head and a sentence that no honest node would put together, and a good signature.
fn raw(kind: u16, critical: bool, head: &[u8], sentence: &[u8]) -> Vec<u8> {
    let envelope = Envelope::seal(kind, critical, &[head, sentence].concat());
    codec::encode(&Signed::sign(Domain::Statement, envelope, &key()))
}

/// An `Expel` of node 2 under a bent head.
fn bent(bend: impl Fn(&mut Head)) -> Vec<u8> {
    let mut head = head();
    bend(&mut head);
    raw(kind::EXPEL, true, &codec::encode(&head), &node(2).0)
}

/// A grant whose sentence is bent byte by byte.
fn bent_grant(bend: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut sentence = codec::encode(&grant());
    bend(&mut sentence);
    raw(kind::GRANT, true, &codec::encode(&head()), &sentence)
}

fn accepts() -> Vec<Case> {
    let one = |name: &str, body: Body| case(AS, name, signed(&head(), body));
    let mut frozen = head();
    frozen.frontiers = List::new(vec![frontier(FOLDER, 2, 9), frontier(FOLDER, 1, 4)]).expect("two");
    let mut scoped = head();
    scoped.scope = Some(FOLDER);
    let mut sorted = frozen.frontiers.to_vec();
    sorted.sort();
    frozen.frontiers = List::new(sorted).expect("two");
    let mut members = vec![node(1), node(2), node(3)];
    members.sort();
    let group = Group { group: GroupId([6; 16]), name: name("office"), members: List::new(members).expect("three") };
    let side = |n: u8| ForkSide {
        header: Bytes::new(vec![n; 40]).expect("short"),
        signature: Bytes::new(vec![n; 64]).expect("64"),
    };
    let pass_grant = PassGrant { folder: FOLDER, path: RelPath::root(), level: Level::Read };
    let pass = Pass {
        pass: PassId([8; 16]),
        name: name("auditor"),
        verifier: [7; 32],
        grants: List::new(vec![pass_grant]).expect("one"),
        not_after: 1_900_000_000_000,
    };
    let ranges = List::new(vec![range()]).expect("one");
    vec![
        case(AS, "found", signed(&founding(), found())),
        one("admit", admit()),
        case(AS, "expel with frontiers", signed(&frozen, Body::Expel(Expel { node: node(2) }))),
        one("set role", Body::SetRole(SetRole { node: node(2), role: Role::Admin })),
        one("rename the mesh", Body::Rename(Rename { what: Named::Mesh, name: name("Büro") })),
        one("rename a folder", Body::Rename(Rename { what: Named::Folder(FOLDER), name: name("") })),
        one("group", Body::Group(group)),
        one("create folder", Body::CreateFolder(CreateFolder { name: name("Shared") })),
        case(AS, "grant", signed(&scoped, Body::Grant(grant()))),
        one("grant to everyone on the whole folder for ever", {
            Body::Grant(Grant { subject: Subject::Everyone, path: RelPath::root(), not_after: None, ..grant() })
        }),
        one("revoke", {
            Body::Revoke(Revoke { folder: FOLDER, subject: Subject::Group(GroupId([6; 16])), path: RelPath::root() })
        }),
        one("retire folder", Body::RetireFolder(RetireFolder { folder: FOLDER })),
        one("eligible", Body::Eligible(Eligible { node: node(2), priority: Some(300) })),
        one("pass", Body::Pass(pass)),
        one("vouch", Body::Vouch(Vouch { folder: FOLDER, ranges })),
        one("seal", Body::Seal(Seal { grant: StatementId([3; 32]) })),
        one("verdict", Body::Verdict(Verdict { folder: FOLDER, range: range(), release: false })),
        one("fork", Body::Fork(Fork { folder: FOLDER, writer: writer(2), common: 8, left: side(1), right: side(2) })),
        one("reinstate", Body::Reinstate(Reinstate { folder: FOLDER, writer: writer(2) })),
        one("copies", Body::Copies(Copies { folder: FOLDER, nodes: 2, server: true })),
        case(AS, "a later kind that is critical", raw(0x01ff, true, &codec::encode(&scoped), b"whatever")),
        case(AS, "a later kind that is not", raw(0x01fe, false, &codec::encode(&head()), b"")),
    ]
}

fn refused_heads() -> Vec<Case> {
    let ids = |list: &[u8]| List::new(list.iter().map(|n| StatementId([*n; 32])).collect()).expect("few");
    let encoded = codec::encode(&head());
    let over_long = {
        // The counter, 7, follows option, mesh and issuer.
        let at = 1 + 32 + 32;
        assert_eq!(encoded[at], 7);
        [&encoded[..at], &[0x87, 0x00], &encoded[at + 1..]].concat()
    };
    let many_parents = {
        let parents: List<StatementId, 65> = List::new((0..65).map(|n| StatementId([n; 32])).collect()).expect("65");
        let head = head();
        codec::encode(&(head.mesh, head.issuer, head.counter, parents, head.time, head.scope, head.frontiers))
    };
    let expel = |head: &[u8]| raw(kind::EXPEL, true, head, &node(2).0);
    vec![
        case(AS, "counter 0", bent(|h| h.counter = 0)),
        case(AS, "no mesh", bent(|h| h.mesh = None)),
        case(AS, "no parents", bent(|h| h.parents = List::default())),
        case(AS, "parents out of order", bent(|h| h.parents = ids(&[4, 3]))),
        case(AS, "a parent twice", bent(|h| h.parents = ids(&[3, 3]))),
        case(AS, "65 parents", expel(&many_parents)),
        case(AS, "frontiers out of order", {
            bent(|h| {
                h.frontiers = List::new(vec![frontier(FOLDER, 1, 4), frontier(FolderId([1; 32]), 1, 4)]).expect("two")
            })
        }),
        case(AS, "two frontiers of one log", {
            bent(|h| h.frontiers = List::new(vec![frontier(FOLDER, 1, 4), frontier(FOLDER, 1, 5)]).expect("two"))
        }),
        case(AS, "found with a mesh", raw(kind::FOUND, true, &codec::encode(&head()), &founding_sentence())),
        case(AS, "found with a mesh and no parents", {
            let head = Head { mesh: Some(MeshId([0; 32])), ..founding() };
            raw(kind::FOUND, true, &codec::encode(&head), &founding_sentence())
        }),
        case(AS, "found with a parent", {
            let head = Head { parents: ids(&[3]), ..founding() };
            raw(kind::FOUND, true, &codec::encode(&head), &founding_sentence())
        }),
        case(AS, "a number of the head in two bytes", expel(&over_long)),
        case(AS, "a head cut short", raw(kind::EXPEL, true, &encoded[..40], b"")),
        case(AS, "an issuer who did not sign", bent(|h| h.issuer = node(2))),
        case(AS, "an issuer that is no key", bent(|h| h.issuer = NodeId([2; 32]))),
    ]
}

fn founding_sentence() -> Vec<u8> {
    let envelope = Statement::sign(founding(), found(), &key()).signed().envelope.to_vec();
    envelope[7 + codec::encode(&founding()).len()..].to_vec()
}

fn refused_sentences() -> Vec<Case> {
    let head = codec::encode(&head());
    let good = node(2).0;
    let admit = |name: &[u8], role: u8| {
        let sentence = [&good[..], &codec::encode(&name.len()), name, &[role]].concat();
        raw(kind::ADMIT, true, &head, &sentence)
    };
    let group = |members: &[u8]| {
        let members: Vec<NodeId> = members.iter().map(|n| NodeId([*n; 32])).collect();
        raw(kind::GROUP, true, &head, &codec::encode(&(GroupId([6; 16]), name("g"), members)))
    };
    let grant_path = |path: &[u8]| {
        let sentence =
            (FOLDER, Subject::Everyone, Bytes::<4096>::new(path.to_vec()).expect("short"), Level::Read, None::<u64>);
        raw(kind::GRANT, true, &head, &codec::encode(&sentence))
    };
    // Folder, then the subject's variant.
    let subject_at = 32;
    vec![
        case(AS, "a sentence cut short", raw(kind::EXPEL, true, &head, &good[..31])),
        case(AS, "a byte after the sentence", raw(kind::EXPEL, true, &head, &[&good[..], &[0]].concat())),
        case(AS, "no sentence", raw(kind::EXPEL, true, &head, b"")),
        case(AS, "a critical kind that says it is not", raw(kind::EXPEL, false, &head, &good)),
        case(AS, "a rename that says it is critical", raw(kind::RENAME, true, &head, &[0, 1, b'x'])),
        case(AS, "a message's kind", raw(kind::PING, true, &head, &good)),
        case(AS, "a batch's kind", raw(kind::BATCH, true, &head, &good)),
        case(AS, "kind 0", raw(0, false, &head, &good)),
        case(AS, "the kind just beyond the range", raw(0x0200, false, &head, &good)),
        case(AS, "a role that is not there", admit(b"x", 2)),
        case(AS, "a name of 256 bytes", admit(&[b'x'; 256], 0)),
        case(AS, "a name that is no UTF-8", admit(&[0xff], 0)),
        case(AS, "members out of order", group(&[2, 1])),
        case(AS, "a member twice", group(&[1, 1])),
        case(AS, "257 members", {
            let members: Vec<NodeId> = (0..257u16).map(|n| NodeId([(n / 64) as u8; 32])).collect();
            raw(kind::GROUP, true, &head, &codec::encode(&(GroupId([6; 16]), name("g"), members)))
        }),
        case(AS, "a subject that is not there", bent_grant(|s| s[subject_at] = 3)),
        case(
            AS,
            "a subject's number in two bytes",
            bent_grant(|s| drop(s.splice(subject_at..=subject_at, [0x82, 0x00]))),
        ),
        case(AS, "a grant outside the folder", grant_path(b"../other")),
        case(AS, "a grant on an absolute path", grant_path(b"/etc")),
        case(AS, "a grant in lanyard's own directory", grant_path(b".lanyard")),
        case(AS, "a pass with 65 lines", {
            let lines = vec![(FOLDER, RelPath::root(), Level::Read); 65];
            raw(kind::PASS, true, &head, &codec::encode(&(PassId([8; 16]), name("p"), [7u8; 32], lines, 1u64)))
        }),
        case(AS, "a verdict of two", {
            raw(kind::VERDICT, true, &head, &[codec::encode(&(FOLDER, range())), vec![2]].concat())
        }),
    ]
}

fn refused_envelopes() -> Vec<Case> {
    let good = Statement::sign(head(), admit(), &key());
    let bytes = codec::encode(good.signed());
    let with = |envelope: &[u8], signature: &[u8]| {
        codec::encode(&Signed {
            envelope: Bytes::new(envelope.to_vec()).expect("bounded"),
            signature: Bytes::new(signature.to_vec()).expect("64 bytes"),
        })
    };
    let (envelope, signature) = (&good.signed().envelope, &good.signed().signature);
    let flip = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    // s + L for the group order L: the same point equation, another encoding (RFC 8032, section 5.1.7).
    let malleated = {
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut signature = signature.to_vec();
        let mut carry = 0;
        for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        signature
    };
    // The neutral point as key and R, s = 0: fits every message unless small-order keys are refused.
    let weak = {
        let mut head = head();
        let mut neutral = [0; 32];
        neutral[0] = 1;
        head.issuer = NodeId(neutral);
        let envelope = Envelope::seal(kind::EXPEL, true, &[codec::encode(&head), node(2).0.to_vec()].concat());
        with(&envelope, &[&neutral[..], &[0; 32]].concat())
    };
    let long = Envelope::seal(0x01ff, false, &[codec::encode(&head()), vec![0; 128 * 1024]].concat());
    let unknown_flag = {
        let mut envelope = envelope.to_vec();
        envelope[2] = 3;
        codec::encode(&Signed::sign(Domain::Statement, envelope, &key()))
    };
    vec![
        case(AS, "nothing", []),
        case(AS, "a statement cut short", &bytes[..bytes.len() - 1]),
        case(AS, "a byte after the signature", [&bytes[..], &[0]].concat()),
        case(AS, "one bit of the signature flipped", with(envelope, &flip(signature, 10))),
        case(AS, "one bit of the sentence flipped", with(&flip(envelope, envelope.len() - 3), signature)),
        case(AS, "a signature of 63 bytes", with(envelope, &signature[..63])),
        case(AS, "no signature", with(envelope, b"")),
        case(AS, "the signature's other form", with(envelope, &malleated)),
        case(AS, "a small-order key", weak),
        case(AS, "signed as a batch", codec::encode(&Signed::sign(Domain::Batch, envelope.to_vec(), &key()))),
        case(AS, "an envelope cut short", {
            codec::encode(&Signed::sign(Domain::Statement, envelope[..envelope.len() - 1].to_vec(), &key()))
        }),
        case(AS, "an unknown flag", unknown_flag),
        case(AS, "an envelope beyond 128 KiB", codec::encode(&Signed::sign(Domain::Statement, long, &key()))),
        case(AS, "an envelope announced beyond 160 KiB", [0x81, 0x80, 0x0a]),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    [accepts(), refused_heads(), refused_sentences(), refused_envelopes()].into_iter().flatten().collect()
}
