//! The index database at the size of an office folder: 50,000 files.
//!
//! Prints figures and asserts none: they are the machine's as much as the program's.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a bench reads the clock and stops at the first failure"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use lanyard::base::{
    ChunkHash, FileInfo, FileTime, FolderId, Hlc, Kind, MeshId, NodeId, RelPath, VersionVector, Writer,
};
use lanyard::logic::sync::index::{EntryId, Head, Index, IndexError, OnDisk, PathRecord, Walk};
use lanyard::shell::store::Store;
use lanyard::wire::batch::{Batch, Entry, Header, Salted, What};
use lanyard::wire::codec::List;
use lanyard::wire::content::{ChunkList, ChunkRecord};

const FILES: u64 = 50_000;
const GROUP: u64 = 1024;
const CACHE_BYTES: usize = 16 * 1024 * 1024;
const GETS: u64 = 100_000;
const COMMITS: usize = 300;

fn main() {
    let dir = tempfile::tempdir_in(std::env::var_os("BENCH_DIR").unwrap_or_else(|| ".".into())).unwrap();
    let path = dir.path().join("index.redb");
    let store = Store::open(&path, CACHE_BYTES).unwrap().store;
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);

    let start = Instant::now();
    let mut previous = None;
    for first in (0..FILES).step_by(usize::try_from(GROUP).unwrap()) {
        let group = first..(first + GROUP).min(FILES);
        previous = Some(store.write(false, |index| insert(index, &key, group, previous.as_ref())).unwrap());
    }
    store.sync().unwrap();
    let took = start.elapsed();
    println!("insert {FILES} in groups of {GROUP}: {:.2} s, {:.0}/s", took.as_secs_f64(), rate(FILES, took));
    println!("file: {:.1} MB, memory: {}", megabytes(&path), resident());

    let start = Instant::now();
    store
        .read(|look| {
            for n in 0..GETS {
                assert!(look.path(&path_of(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % FILES))?.is_some());
            }
            Ok::<_, IndexError>(())
        })
        .unwrap();
    println!("random gets: {:.0}/s", rate(GETS, start.elapsed()));

    let start = Instant::now();
    let mut rows = 0;
    store
        .read(|look| {
            look.walk(&RelPath::root(), &mut |_, _| {
                rows += 1;
                Walk::On
            })
        })
        .unwrap();
    println!("walk: {:.0} rows/s", rate(rows, start.elapsed()));

    let start = Instant::now();
    for _ in 0..10_000 {
        store.read(|look| look.need_count()).unwrap();
    }
    println!("small reads: {:.0}/s", rate(10_000, start.elapsed()));

    for durable in [true, false] {
        let mut took: Vec<Duration> = Vec::new();
        for n in 0..COMMITS as u64 {
            let first = FILES + u64::from(durable) * COMMITS as u64 + n;
            let start = Instant::now();
            previous =
                Some(store.write(durable, |index| insert(index, &key, first..first + 1, previous.as_ref())).unwrap());
            took.push(start.elapsed());
        }
        took.sort();
        let at = |share: usize| took[COMMITS * share / 100].as_secs_f64() * 1000.0;
        println!("one file a commit, durable {durable}: median {:.2} ms, p99 {:.2} ms", at(50), at(99));
    }
    println!("file: {:.1} MB, memory: {}", megabytes(&path), resident());

    drop(store);
    let start = Instant::now();
    let opened = Store::open(&path, CACHE_BYTES).unwrap();
    println!("open, every page verified: {:.0} ms, {:?}", start.elapsed().as_secs_f64() * 1000.0, opened.condition);
}

/// What taking one group of own files puts into the index.
fn insert(
    index: &mut dyn Index,
    key: &ed25519_dalek::SigningKey,
    group: std::ops::Range<u64>,
    previous: Option<&Batch>,
) -> Result<Batch, IndexError> {
    let writer = Writer { node: NodeId(key.verifying_key().to_bytes()), incarnation: 1 };
    let first = previous.map_or(1, |batch| batch.header().last() + 1);
    let mut hashes = Vec::new();
    for (at, n) in group.enumerate() {
        let path = path_of(n);
        let chunk = ChunkRecord { hash: ChunkHash(*blake3::hash(&n.to_be_bytes()).as_bytes()), bytes: 20_000 };
        let list = ChunkList { records: vec![chunk] };
        let what = What::File { bytes: 20_000, content: list.id() };
        let id = EntryId { writer, seq: first + at as u64 };
        let mut version = VersionVector::default();
        version.advance(writer, id.seq);
        let mtime = FileTime { secs: 1_700_000_000, nanos: 123_456_789 };
        let time = Hlc { ms: 1_700_000_000_000, count: 0 };
        let entry = Entry::new(path.clone(), what.clone(), 0o644, mtime, time, version.clone());
        let salted = Salted { salt: [n as u8; 16], entry };
        hashes.push(salted.entry.hash(&salted.salt));
        let info = FileInfo { kind: Kind::File, bytes: 20_000, mode: 0o644, mtime, ctime: mtime, inode: 1_000_000 + n };
        let disk = Some(OnDisk::new(info, what, version));
        index.put_chunk_list(list.id(), &list, &path)?;
        let heads = vec![Head { id, salted }];
        index.put_path(&path, &PathRecord { heads, disk, ..PathRecord::default() })?;
        index.put_entry_path(id, &path)?;
    }
    let header = Header {
        mesh: MeshId([1; 32]),
        folder: FolderId([2; 32]),
        writer,
        first,
        previous: previous.map(Batch::hash),
        heads: List::default(),
        time: Hlc { ms: 1_700_000_000_000, count: 0 },
        entries: List::truncated(hashes),
    };
    let batch = Batch::sign(header, key);
    index.put_batch(&batch)?;
    Ok(batch)
}

/// Names of about 60 bytes in a tree of directories.
fn path_of(n: u64) -> RelPath {
    RelPath::new(format!("departments/projects-{:03}/customer-{:03}/report-{n:08}-final.odt", n / 1000, n / 50))
        .unwrap()
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn megabytes(path: &Path) -> f64 {
    std::fs::metadata(path).unwrap().len() as f64 / 1e6
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().replace('\t', " ");
    format!("{} {}", of("VmRSS"), of("VmHWM"))
}
