//! Figures of the disk shell on the disk it runs on: `cargo bench --bench disk [DIRECTORY]`.
//!
//! With a directory, that is scanned too. Everything else is made in a temporary directory and removed. Beside the
//! time on the wall stands the processor time, which means something on a busy machine too.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use lanyard::base::{FileTime, FolderId, RelPath};
use lanyard::shell::disk::commit::{CommitOrder, Outcome, Put, commit};
use lanyard::shell::disk::primitives::Place;
use lanyard::shell::disk::stage::{Partial, stage_small};
use lanyard::shell::disk::{Folder, chunk, scan};
use lanyard::wire::content::{CHUNK_BYTES_MAX, ChunkList};
use rustix::time::{ClockId, clock_gettime};

const GIB: f64 = (1u64 << 30) as f64;
const FILES: usize = 1000;
const SMALL_BYTES: usize = 50 * 1024;
const LARGE_BYTES: u64 = 2 << 30;

fn main() {
    for given in std::env::args().skip(1).filter(|arg| !arg.starts_with('-')) {
        scanned(Path::new(&given));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(dir.path()).expect("opens");
    folder.create_marker(FolderId([1; 32])).expect("marks");
    small(&folder);
    flushes(dir.path());
    scanned(dir.path());
    large(dir.path(), &folder);
}

fn scanned(root: &Path) {
    let folder = Folder::open(root).expect("opens");
    for round in ["first", "warm"] {
        let (mut entries, mut bytes) = (0u64, 0u64);
        let cpu_before = cpu(ClockId::ProcessCPUTime);
        let start = Instant::now();
        let _ = scan::scan(&folder, &RelPath::root(), &mut |seen| {
            if let scan::Seen::Entry { info, .. } = seen {
                entries += 1;
                bytes += info.bytes;
            }
            ControlFlow::Continue(())
        });
        println!(
            "scan {round}: {entries} entries, {bytes} bytes in {:.3} s, processor {:.3} s",
            start.elapsed().as_secs_f64(),
            cpu(ClockId::ProcessCPUTime) - cpu_before
        );
    }
}

/// Stages and commits groups of small files, new ones and replacements.
fn small(folder: &Folder) {
    let content = noise(SMALL_BYTES);
    let mut expected = vec![None; FILES];
    for round in ["new", "replaced", "replaced again"] {
        let cpu_before = cpu(ClockId::ProcessCPUTime);
        let start = Instant::now();
        let orders: Vec<CommitOrder> = (0..FILES)
            .map(|n| {
                let path = RelPath::new(format!("dir{}/file{n}", n % 20)).expect("valid");
                let staged = stage_small(folder, &content).expect("stages");
                CommitOrder::new(path, expected[n], Put::File { staged, mode: 0o644, mtime: FileTime::default() })
            })
            .collect();
        let staged = start.elapsed().as_secs_f64();
        for (n, outcome) in commit(folder, orders).into_iter().enumerate() {
            let Outcome::Done { info } = outcome else { panic!("{outcome:?}") };
            expected[n] = info;
        }
        let all = start.elapsed().as_secs_f64();
        println!(
            "{FILES} files of 50 KiB, {round}: staged in {staged:.3} s, durable in place after {all:.3} s, processor {:.3} s",
            cpu(ClockId::ProcessCPUTime) - cpu_before
        );
    }
}

/// What decides between flushing files one by one and all at once: `stage::FLUSH_EACH_MAX`.
fn flushes(dir: &Path) {
    let content = noise(SMALL_BYTES);
    for count in [1, 4, 8, 16, 64, FILES] {
        for how in ["each", "each, writing started first", "all"] {
            let own = dir.join(format!("flush {count} {how}"));
            fs::create_dir(&own).expect("made");
            let files: Vec<fs::File> = (0..count)
                .map(|n| {
                    let file = fs::File::create(own.join(n.to_string())).expect("made");
                    std::io::Write::write_all(&mut &file, &content).expect("written");
                    file
                })
                .collect();
            let start = Instant::now();
            match how {
                "all" => rustix::fs::syncfs(&files[0]).expect("flushed"),
                how => {
                    if how != "each" {
                        for file in &files {
                            let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
                        }
                    }
                    for file in &files {
                        file.sync_all().expect("flushed");
                    }
                }
            }
            println!("flush of {count} files, {how}: {:.4} s", start.elapsed().as_secs_f64());
        }
    }
}

/// Cuts and hashes a large file, and puts it together again.
fn large(root: &Path, folder: &Folder) {
    let block = noise(64 << 20);
    let path = root.join("large");
    {
        let file = fs::File::create(&path).expect("made");
        for n in 0..LARGE_BYTES / block.len() as u64 {
            // No two blocks alike, or the chunks would be.
            std::io::Write::write_all(&mut &file, &n.to_le_bytes()).expect("written");
            std::io::Write::write_all(&mut &file, &block[8..]).expect("written");
        }
        file.sync_all().expect("flushed");
    }
    let at = RelPath::new("large").expect("valid");
    let info = scan::info(folder, &at).expect("looked").expect("there");
    let mut list = ChunkList::default();
    for _ in 0..4 {
        let cpu_before = cpu(ClockId::ProcessCPUTime);
        let start = Instant::now();
        list = chunk::read_content(folder, &at, &info).expect("reads");
        let secs = start.elapsed().as_secs_f64();
        println!(
            "chunk 2 GiB: {} chunks in {secs:.3} s, {:.2} GiB/s, processor {:.3} s",
            list.records.len(),
            2.0 / secs,
            cpu(ClockId::ProcessCPUTime) - cpu_before
        );
    }
    assert!(list.records.iter().all(|r| r.bytes as usize <= CHUNK_BYTES_MAX));
    assert_eq!(info.bytes as f64 / GIB, 2.0);

    let start = Instant::now();
    let partial = Partial::open_or_create(folder, list.id(), list.bytes()).expect("opens");
    let mut offset = 0;
    for record in &list.records {
        assert!(partial.copy_chunk(folder, &Place::shared(&at), offset, record, offset).expect("copies"));
        offset += u64::from(record.bytes);
    }
    let written = start.elapsed().as_secs_f64();
    let staged = partial.finish().expect("whole");
    let flushed = start.elapsed().as_secs_f64();
    let put = Put::File { staged, mode: 0o644, mtime: FileTime::default() };
    let path = RelPath::new("copy").expect("valid");
    let outcomes = commit(folder, vec![CommitOrder::new(path, None, put)]);
    assert!(matches!(outcomes[0], Outcome::Done { .. }), "{outcomes:?}");
    println!(
        "2 GiB copied by verified chunks: written in {written:.3} s, flushed after {flushed:.3} s, in place after {:.3} s",
        start.elapsed().as_secs_f64()
    );

    let start = Instant::now();
    let partial = Partial::open_or_create(folder, list.id(), list.bytes()).expect("opens");
    let have = partial.verified(&list).expect("reads");
    println!("nothing of 2 GiB found in {:.4} s ({})", start.elapsed().as_secs_f64(), have.iter().any(|have| *have));
}

/// Processor seconds so far.
fn cpu(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}
