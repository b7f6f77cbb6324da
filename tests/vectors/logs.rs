//! Vectors of logs: batch headers, packed entries, contents.

use lanyard::base::{
    BatchHash, ContentId, FileTime, FolderId, Hlc, MeshId, Mode, PassId, RelPath, StatementId, VersionVector, Writer,
};
use lanyard::wire::batch::{Batch, Entry, Header, Owner, Packed, Salted, What, Xattr};
use lanyard::wire::chunker::chunks_of;
use lanyard::wire::codec::{self, Bytes, List, Text};
use lanyard::wire::content::{ChunkRecord, Leaf, LeafHash, Leaves, content_id, leaf_hash};
use lanyard::wire::envelope::{Envelope, kind};
use lanyard::wire::signed::{Domain, Signed};
use serde::Serialize;

use crate::file::{Case, case};
use crate::statements::{key, writer};

const BATCH: &str = "batch";
const ENTRIES: &str = "packed entries";

pub(crate) fn read_batch(_: &str, bytes: &[u8]) -> Result<String, String> {
    let signed = codec::decode::<Signed>("batch", bytes, 256 * 1024).map_err(|e| e.to_string())?;
    let batch = Batch::open(signed).map_err(|e| e.to_string())?;
    Ok(format!("{}, entries {} to {}", batch.hash().to_hex(), batch.header().first, batch.header().last()))
}

fn header() -> Header {
    Header {
        mesh: MeshId([0xee; 32]),
        folder: FolderId([0xf0; 32]),
        writer: writer(1),
        first: 1,
        previous: None,
        heads: List::new(vec![StatementId([3; 32]), StatementId([4; 32])]).expect("two"),
        time: Hlc { ms: 1_800_000_000_000, count: 0 },
        entries: List::new(items().iter().map(|salted| salted.entry.hash(&salted.salt)).collect()).expect("few"),
    }
}

pub(crate) fn batches() -> Vec<Case> {
    let bent = |bend: &dyn Fn(&mut Header)| {
        let mut header = header();
        bend(&mut header);
        codec::encode(Batch::sign(header, &key()).signed())
    };
    let sealed = |kind: u16, critical: bool, body: &[u8]| {
        codec::encode(&Signed::sign(Domain::Batch, Envelope::seal(kind, critical, body), &key()))
    };
    let body = codec::encode(&header());
    let good = Batch::sign(header(), &key());
    let with = |signature: Vec<u8>| {
        codec::encode(&Signed {
            envelope: good.signed().envelope.clone(),
            signature: Bytes::new(signature).expect("64"),
        })
    };
    let hashes = |count: usize| {
        let Header { mesh, folder, writer, first, previous, heads, time, .. } = header();
        let hashes = vec![[7u8; 32]; count];
        sealed(kind::BATCH, true, &codec::encode(&(mesh, folder, writer, first, previous, heads, time, hashes)))
    };
    let previous = Some(BatchHash([8; 32]));
    vec![
        case(BATCH, "the first batch", bent(&|_| ())),
        case(BATCH, "a later batch", bent(&|h| (h.first, h.previous) = (1025, previous))),
        case(BATCH, "1024 entries", hashes(1024)),
        case(BATCH, "no policy heads", bent(&|h| h.heads = List::default())),
        case(BATCH, "nothing", []),
        case(BATCH, "first entry 0", bent(&|h| h.first = 0)),
        case(BATCH, "a later batch without the one before", bent(&|h| h.first = 2)),
        case(BATCH, "a first batch with one before", bent(&|h| h.previous = previous)),
        case(BATCH, "no entries", bent(&|h| h.entries = List::default())),
        case(BATCH, "1025 entries", hashes(1025)),
        case(BATCH, "numbers that overflow", bent(&|h| (h.first, h.previous) = (u64::MAX - 1, previous))),
        case(BATCH, "heads out of order", {
            bent(&|h| h.heads = List::new(vec![StatementId([4; 32]), StatementId([3; 32])]).expect("two"))
        }),
        case(BATCH, "a head twice", {
            bent(&|h| h.heads = List::new(vec![StatementId([3; 32]), StatementId([3; 32])]).expect("two"))
        }),
        case(BATCH, "a writer who did not sign", bent(&|h| h.writer = writer(2))),
        case(BATCH, "signed as a statement", {
            codec::encode(&Signed::sign(Domain::Statement, good.signed().envelope.to_vec(), &key()))
        }),
        case(BATCH, "a signature of zeros", with(vec![0; 64])),
        case(BATCH, "no signature", with(Vec::new())),
        case(BATCH, "not critical", sealed(kind::BATCH, false, &body)),
        case(BATCH, "a statement's kind", sealed(kind::GRANT, true, &body)),
        case(BATCH, "the reserved kind", sealed(kind::COLLAPSE, true, &body)),
        case(BATCH, "a byte after the header", sealed(kind::BATCH, true, &[&body[..], &[0]].concat())),
        case(BATCH, "a header cut short", sealed(kind::BATCH, true, &body[..body.len() - 1])),
        case(BATCH, "an incarnation in too many bytes", {
            // After mesh, folder and node, the incarnation 1 << 56 has nine bytes; a tenth may follow with nothing in it.
            let (before, after) = body.split_at(96 + 8);
            assert_eq!(after[0], 0x01);
            sealed(kind::BATCH, true, &[before, &[0x81, 0x00], &after[1..]].concat())
        }),
    ]
}

pub(crate) fn read_entries(_: &str, bytes: &[u8]) -> Result<String, String> {
    let packed = codec::decode::<Packed>("packed entries", bytes, 1_114_112).map_err(|e| e.to_string())?;
    let entries = packed.unpack().map_err(|e| e.to_string())?;
    let show = |(at, salted): &(usize, Salted)| {
        let hash = salted.entry.hash(&salted.salt).to_hex();
        format!("{at} \"{}\" {} of {} writers", salted.entry.path, &hash, salted.entry.version.components().len())
    };
    Ok(entries.iter().map(show).collect::<Vec<String>>().join("; "))
}

fn version(components: &[(u8, u64)]) -> VersionVector {
    let mut version = VersionVector::default();
    for (n, number) in components {
        version.advance(writer(*n), *number);
    }
    version
}

/// Entries of all sorts; the last has every reserved field.
pub(crate) fn items() -> Vec<Salted> {
    let path = |text: &str| RelPath::new(text).expect("valid");
    let time = Hlc { ms: 1_800_000_000_000, count: 0 };
    let entry = |at: u64, text: &str, what: What, mode: Mode| {
        let mtime = FileTime { secs: 1_799_999_999, nanos: 123_456_789 };
        Entry::new(path(text), what, mode, mtime, time, version(&[(1, at), (2, 40)]))
    };
    let file = |n: u8| What::File { bytes: 300, content: ContentId([n; 32]) };
    let link = What::Symlink(Bytes::new(b"../caf\xe9".to_vec()).expect("short"));
    let mut rare = entry(5, "plans/roof.pdf", file(6), 0o640);
    rare.previous = Some(ContentId([5; 32]));
    rare.moved_from = Some(path("roof.pdf"));
    rare.on_behalf_of = Some(PassId([4; 16]));
    rare.owner = Some(Owner { user: Text::new("ann").expect("short"), group: Text::new("office").expect("short") });
    let xattr = Xattr { name: Text::new("user.note").expect("short"), value: Bytes::new(vec![1, 2]).expect("short") };
    rare.xattrs = List::new(vec![xattr]).expect("one");
    let entries = vec![
        entry(1, "plans", What::Dir, 0o755),
        entry(2, "plans/office.pdf", file(5), 0o644),
        entry(3, "plans/old.pdf", What::Tombstone { deleted: Some(ContentId([4; 32])) }, 0),
        entry(4, "plans/readme", link, 0),
        rare,
    ];
    entries.into_iter().zip(1..).map(|(entry, n)| Salted { salt: [n; 16], entry }).collect()
}

/// The layout of packed entries, for those that no packer makes.
#[derive(Serialize, Clone)]
struct Item {
    index: u16,
    salt: [u8; 16],
    shared: u16,
    suffix: Bytes<8192>,
    what: What,
    mode: Mode,
    mtime: FileTime,
    time: Hlc,
    version: Vec<(u16, u64)>,
    rare: Option<u8>,
}

fn item(index: u16, shared: u16, suffix: &[u8]) -> Item {
    Item {
        index,
        salt: [9; 16],
        shared,
        suffix: Bytes::new(suffix.to_vec()).expect("short"),
        what: What::Dir,
        mode: 0o755,
        mtime: FileTime::default(),
        time: Hlc::default(),
        version: vec![(0, 1)],
        rare: None,
    }
}

fn pack(items: &[Item]) -> Vec<u8> {
    codec::encode(&(vec![writer(1)], items))
}

fn bent(bend: impl Fn(&mut Item)) -> Vec<u8> {
    let mut item = item(0, 0, b"a");
    bend(&mut item);
    pack(&[item])
}

pub(crate) fn entries() -> Vec<Case> {
    let all = items();
    let packed = |places: &[usize]| {
        codec::encode(&Packed::pack(places.iter().map(|at| (u16::try_from(*at).expect("few"), &all[*at]))))
    };
    let two_writers = |version: &[(u16, u64)]| {
        let mut writers: Vec<Writer> = vec![writer(1), writer(2)];
        writers.sort();
        codec::encode(&(writers, vec![Item { version: version.to_vec(), ..item(0, 0, b"a") }]))
    };
    let file = |bytes: &[u8]| Bytes::<8192>::new(bytes.to_vec()).expect("short");
    let long_name = vec![b'x'; 256];
    let deep = vec!["a"; 513].join("/");
    let wide = [vec![vec![b'y'; 255]; 15].join(&b'/'), vec![b'z'; 200]].join(&b'/');
    let many: Vec<Item> = (0..200).map(|at| if at == 0 { item(0, 0, &wide) } else { item(at, 4040, b"") }).collect();
    let good = packed(&[0, 1, 2, 3, 4]);
    let link = |bytes: usize| {
        let before = (0u16, [9u8; 16], 0u16, file(b"a"));
        let after = (0u16, FileTime::default(), Hlc::default(), vec![(0u16, 1u64)], None::<u8>);
        codec::encode(&(vec![writer(1)], vec![(before, 2u8, file(&vec![b't'; bytes]), after)]))
    };
    vec![
        case(ENTRIES, "no entries", packed(&[])),
        case(ENTRIES, "five entries of all sorts", good.clone()),
        case(ENTRIES, "two of five, the others withheld", packed(&[1, 4])),
        case(ENTRIES, "a path that shares less than it could", pack(&[item(0, 0, b"ab"), item(1, 0, b"ac")])),
        case(ENTRIES, "a symlink of 4095 bytes", link(4095)),
        case(ENTRIES, "nothing", []),
        case(ENTRIES, "entries cut short", &good[..good.len() - 1]),
        case(ENTRIES, "a byte after the entries", [&good[..], &[0]].concat()),
        case(ENTRIES, "places out of order", pack(&[item(1, 0, b"a"), item(0, 0, b"b")])),
        case(ENTRIES, "a place twice", pack(&[item(1, 0, b"a"), item(1, 0, b"b")])),
        case(ENTRIES, "the first path shares", pack(&[item(0, 1, b"a")])),
        case(ENTRIES, "more shared than the path before has", pack(&[item(0, 0, b"ab"), item(1, 3, b"c")])),
        case(ENTRIES, "the root", pack(&[item(0, 0, b"")])),
        case(ENTRIES, "a path that leaves", pack(&[item(0, 0, b"../a")])),
        case(ENTRIES, "a path that leaves once it is joined", pack(&[item(0, 0, b"a/.x"), item(1, 3, b"./b")])),
        case(ENTRIES, "a path in lanyard's own directory", pack(&[item(0, 0, b".lanyard/x")])),
        case(ENTRIES, "a path with a NUL", pack(&[item(0, 0, b"a\0")])),
        case(ENTRIES, "a name of 256 bytes", pack(&[item(0, 0, &long_name)])),
        case(ENTRIES, "513 names", pack(&[item(0, 0, deep.as_bytes())])),
        case(ENTRIES, "a suffix of 4096 bytes", pack(&[item(0, 0, &[b'a'; 4096])])),
        case(ENTRIES, "paths that expand beyond 512 KiB", pack(&many)),
        case(ENTRIES, "setuid", bent(|i| i.mode = 0o4755)),
        case(ENTRIES, "mode bits beyond all", bent(|i| i.mode = 0o1000)),
        case(
            ENTRIES,
            "a symlink with a mode",
            bent(|i| i.what = What::Symlink(Bytes::new(vec![b'a']).expect("short"))),
        ),
        case(ENTRIES, "a tombstone with a mode", bent(|i| i.what = What::Tombstone { deleted: None })),
        case(ENTRIES, "a thousand million nanoseconds", bent(|i| i.mtime.nanos = 1_000_000_000)),
        case(ENTRIES, "a version by a writer who is not listed", bent(|i| i.version = vec![(1, 1)])),
        case(ENTRIES, "a version with number 0", bent(|i| i.version = vec![(0, 0)])),
        case(ENTRIES, "a version with a writer twice", bent(|i| i.version = vec![(0, 1), (0, 2)])),
        case(ENTRIES, "a version out of order", two_writers(&[(1, 1), (0, 1)])),
        case(ENTRIES, "a version of 257 components", bent(|i| i.version = vec![(0, 1); 257])),
        case(ENTRIES, "a kind of file that is not there", {
            let mut bytes = pack(&[item(0, 0, b"a")]);
            // A list of one writer (its incarnation has nine bytes), one item: place, salt, shared, suffix, then the kind.
            let at = 1 + 32 + 9 - usize::from(writer(1).incarnation >> 56 == 0) + 1 + 1 + 16 + 1 + 2;
            assert_eq!(bytes[at], 1);
            bytes[at] = 4;
            bytes
        }),
        case(ENTRIES, "a symlink of 4096 bytes", link(4096)),
        case(ENTRIES, "4097 writers announced", [0x81, 0x20]),
        case(ENTRIES, "1025 entries announced", [0x00, 0x81, 0x08]),
        case(ENTRIES, "33 attributes announced", {
            let mut bytes = bent(|i| i.rare = Some(0));
            bytes.extend([0, 0, 0, 33]);
            bytes
        }),
    ]
}

pub(crate) fn read_content(read_as: &str, bytes: &[u8]) -> Result<String, String> {
    let hex = |hash: LeafHash| data_encoding::HEXLOWER.encode(&hash.0);
    match read_as {
        "chunk list leaf" => codec::decode::<Leaf>("leaf", bytes, 1_114_112)
            .map(|leaf| format!("{}, {} records", hex(leaf_hash(&leaf)), leaf.len()))
            .map_err(|e| e.to_string()),
        "leaf hashes" => codec::decode::<Leaves>("leaves", bytes, 1_114_112)
            .map(|leaves| format!("{}, of 1000000 bytes", content_id(1_000_000, &leaves).to_hex()))
            .map_err(|e| e.to_string()),
        "length and seed text" => {
            let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
            let (length, seed) = text.split_once(" bytes of ").ok_or("no length and seed")?;
            let length: usize = length.parse().map_err(|_| "no length")?;
            let list = chunks_of(&stream(length, seed));
            let sizes: Vec<String> = list.records.iter().map(|r| r.bytes.to_string()).collect();
            Ok(format!("{}, chunks {}", list.id().to_hex(), sizes.join(" ")))
        }
        _ => panic!("no such type: {read_as}"),
    }
}

/// Bytes that anyone can make: the extended output of BLAKE3 over the seed; `zeros` are zeros.
fn stream(length: usize, seed: &str) -> Vec<u8> {
    let mut bytes = vec![0; length];
    if seed != "zeros" {
        blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    }
    bytes
}

pub(crate) fn contents() -> Vec<Case> {
    const LEAF: &str = "chunk list leaf";
    const LEAVES: &str = "leaf hashes";
    const STREAM: &str = "length and seed text";
    let record = ChunkRecord { hash: lanyard::base::ChunkHash([7; 32]), bytes: 7 };
    let leaf = codec::encode(&vec![record; 3]);
    vec![
        case(STREAM, "an empty content", "0 bytes of zeros"),
        case(STREAM, "one byte", "1 bytes of zeros"),
        case(STREAM, "zeros are cut at the largest size", "2500000 bytes of zeros"),
        case(STREAM, "a content of several chunks", "3000000 bytes of lanyard"),
        case(LEAF, "three records", leaf.clone()),
        case(LEAF, "a full leaf", codec::encode(&vec![record; 4096])),
        case(LEAVES, "two leaves", codec::encode(&vec![LeafHash([1; 32]), LeafHash([2; 32])])),
        case(LEAF, "nothing", []),
        case(LEAF, "a leaf of 4097 records", codec::encode(&vec![record; 4097])),
        case(LEAF, "4097 records announced", [0x81, 0x20]),
        case(LEAF, "records cut short", &leaf[..leaf.len() - 1]),
        case(LEAF, "a byte after the records", [&leaf[..], &[0]].concat()),
        case(LEAF, "a length in too many bytes", [&[1][..], &[7; 32], &[0x80, 0x80, 0x00]].concat()),
        case(LEAF, "a length beyond 32 bits", [&[1][..], &[7; 32], &[0x80, 0x80, 0x80, 0x80, 0x10]].concat()),
        case(LEAVES, "16385 leaves", codec::encode(&vec![LeafHash([0; 32]); 16_385])),
        case(LEAVES, "16385 leaves announced", [0x81, 0x80, 0x01]),
        case(LEAVES, "a hash cut short", [&[1][..], &[7; 31]].concat()),
        case(STREAM, "no length", "some bytes of zeros"),
    ]
}
