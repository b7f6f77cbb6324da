//! An index that an earlier version wrote: brought up to date where it lies, whole at every moment, or left alone.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use lanyard::base::RelPath;
use lanyard::logic::sync::index::{Head, Index, PathRecord, Result, Walk};
use lanyard::shell::store::{Condition, Store, StoreError};
use lanyard::wire::batch::What;
use lanyard::wire::codec::Bytes;
use lanyard::wire::message::HoleReason;
use redb::ReadableDatabase;

use crate::office::{batch, content, contents, file, fill, id, list, path, record, salted, writer};

const CACHE_BYTES: usize = 1024 * 1024;
/// Files of the sample, beside one of everything else.
const FILES: u64 = 40;
/// The pages of an index file that are not all zeros: number, length without the zeros at the end, bytes.
const SCHEMA_1: &str = "tests/store/schema-1.pages";
const PAGE: usize = 4096;
/// The version of this program.
const SCHEMA: u32 = 2;

/// One of everything that an index keeps, over two transactions.
fn sample(path: &Path) {
    let store = Store::open(path, CACHE_BYTES).unwrap().store;
    store.write(true, |index| fill(index, 0, FILES)).unwrap();
    store.write(true, unusual).unwrap();
}

fn unusual(index: &mut dyn Index) -> Result<()> {
    for n in 0..3 {
        let next = batch(&*index, n, 5)?;
        index.put_batch(&next)?;
    }
    index.put_chunk_list(content(0), &list(0), &path(0))?;
    index.put_path(&path(0), &record(&path(0), Some(id(1, 1)), Some(file(0))))?;
    index.put_entry_path(id(1, 1), &path(0))?;
    // A tombstone, a directory, a link, a conflict with its copy, and a change that may not spread.
    let gone = What::Tombstone { deleted: Some(content(1)) };
    let head = |n: usize, what: What, id| Head { id, salted: salted(path(n), what, id) };
    let heads = vec![head(3, gone, id(1, 2))];
    index.put_path(&path(3), &PathRecord { heads, ..PathRecord::default() })?;
    let dir = PathRecord { heads: vec![head(6, What::Dir, id(1, 3))], ..record(&path(6), None, Some(What::Dir)) };
    index.put_path(&path(6), &dir)?;
    let link = What::Symlink(Bytes::new(b"../somewhere".to_vec()).unwrap());
    let mut linked = record(&path(7), None, Some(link.clone()));
    linked.heads.push(head(7, link, id(1, 4)));
    index.put_path(&path(7), &linked)?;
    let mut conflict = record(&path(4), Some(id(0, FILES + 1)), Some(file(0)));
    conflict.heads.push(head(4, file(2), id(2, 1)));
    conflict.copies.push(path(5));
    index.put_path(&path(4), &conflict)?;
    index.put_chunk_list(content(2), &list(2), &path(5))?;
    let copy_of = Some((path(4), id(2, 1)));
    let mut copy = PathRecord { copy_of, ..record(&path(5), None, Some(file(2))) };
    copy.disk.as_mut().unwrap().recheck = true;
    copy.disk.as_mut().unwrap().version.advance(writer(2), 1);
    index.put_path(&path(5), &copy)?;
    index.put_path(&path(1), &PathRecord { local_only: true, ..record(&path(1), None, Some(file(3))) })?;
    // Holes, what has no effect, what was superseded, and notes.
    index.put_hole(id(2, 2), Some(HoleReason::Superseded(writer(1), 1)))?;
    index.put_hole(id(2, 3), Some(HoleReason::Withheld))?;
    index.put_hole(id(2, 4), Some(HoleReason::Missing))?;
    index.put_void(id(2, 5), Some(&salted(path(2), file(1), id(2, 5))))?;
    index.put_kept(&path(0), &head(0, file(1), id(2, 1)))?;
    index.put_need(&path(4), true)?;
    index.put_note("incarnation", &7_u64.to_be_bytes())
}

/// Everything that `sample` put, as it can be read back.
fn everything(store: &Store) -> Result<Vec<String>> {
    let mut all = contents(store)?;
    store.read(|look| {
        all.push(format!("{:?}", look.local_only(None, 99)?));
        all.push(format!("{:?} {:?}", look.entries_after(None, 999)?, look.voids_after(None, 99)?));
        all.push(format!("{:?} {:?}", look.holes_to_ask(99)?, look.note("incarnation")?));
        all.push(format!("{:?}", look.superseded_by(&[id(1, 1)].into())?));
        look.walk(&RelPath::root(), &mut |path, _| {
            all.push(format!("{:?}", look.kept(&path).unwrap()));
            Walk::On
        })?;
        for n in 0..3 {
            let holes = (1..=5).map(|seq| look.hole(id(n, seq))).collect::<Result<Vec<_>>>()?;
            all.push(format!("{holes:?} {:?}", look.void(id(n, 5))?));
        }
        Ok(all)
    })
}

fn pages_of(bytes: &[u8]) -> Vec<u8> {
    let mut pages = u64::to_be_bytes(bytes.len() as u64).to_vec();
    for (number, page) in bytes.chunks(PAGE).enumerate() {
        let length = page.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if length > 0 {
            pages.extend(u32::try_from(number).unwrap().to_be_bytes());
            pages.extend(u16::try_from(length).unwrap().to_be_bytes());
            pages.extend(&page[..length]);
        }
    }
    pages
}

/// Writes the index that the first version left.
fn unpack(to: &Path) {
    unpack_pages(&fs::read(SCHEMA_1).unwrap(), to);
}

fn unpack_pages(pages: &[u8], to: &Path) {
    let (length, mut rest) = pages.split_first_chunk().unwrap();
    let file = fs::File::create(to).unwrap();
    file.set_len(u64::from_be_bytes(*length)).unwrap();
    while let Some((number, after)) = rest.split_first_chunk() {
        let (length, after) = after.split_first_chunk().unwrap();
        let (page, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        file.write_all_at(page, u64::from(u32::from_be_bytes(*number)) * PAGE as u64).unwrap();
        rest = after;
    }
}

fn schema_of(path: &Path) -> u32 {
    let database = redb::Database::open(path).unwrap();
    let txn = database.begin_read().unwrap();
    let meta = txn.open_table(redb::TableDefinition::<&[u8], &[u8]>::new("meta")).unwrap();
    u32::from_be_bytes(meta.get(&b"schema"[..]).unwrap().unwrap().value().try_into().unwrap())
}

/// What an index of this version says that was made by the calls that made the fixture.
fn expected(dir: &Path) -> Vec<String> {
    let fresh = dir.join("fresh.redb");
    sample(&fresh);
    everything(&Store::open(&fresh, CACHE_BYTES).unwrap().store).unwrap()
}

#[test]
fn an_index_of_the_first_version_is_brought_up_to_date_and_nothing_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let copy = dir.path().join("index.schema-1.redb");
    let expected = expected(dir.path());
    unpack(&path);
    assert_eq!(schema_of(&path), 1);

    let opened = Store::open(&path, CACHE_BYTES).unwrap();

    assert_eq!(opened.condition, Condition::Existing);
    assert!(everything(&opened.store).unwrap() == expected, "something is missing");
    opened.store.write(true, |index| fill(index, FILES + 6, FILES + 9)).unwrap();
    let after = everything(&opened.store).unwrap();
    drop(opened);
    assert_eq!(schema_of(&path), SCHEMA);
    let again = Store::open(&path, CACHE_BYTES).unwrap();
    assert!(everything(&again.store).unwrap() == after);

    // Who goes back to the version before puts the copy in its place, and may come again.
    drop(again);
    assert_eq!(schema_of(&copy), 1);
    fs::rename(&copy, &path).unwrap();
    let back = Store::open(&path, CACHE_BYTES).unwrap();
    assert!(everything(&back.store).unwrap() == expected, "something is missing");
}

#[test]
fn without_room_for_a_copy_nothing_is_touched_and_it_is_said_how_much_is_missing() {
    let Some(small) = SmallDisk::mount("4m") else { return };
    let path = small.path().join("index.redb");
    unpack(&path);

    let error = Store::open(&path, CACHE_BYTES).unwrap_err();

    assert!(matches!(error, StoreError::NoRoom { .. }), "{error:?}");
    assert!(error.to_string().contains("is of an earlier version"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.starts_with("free ")), "{:?}", error.hint());
    assert_eq!(schema_of(&path), 1);
    assert_eq!(fs::read_dir(small.path()).unwrap().count(), 1);

    small.grow("64m");
    let opened = Store::open(&path, CACHE_BYTES).unwrap();
    assert_eq!(opened.condition, Condition::Existing);
    assert!(everything(&opened.store).unwrap() == expected(small.path()), "something is missing");
}

/// A disk in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir.path());
        let done = mount.stderr(Stdio::null()).status();
        if !done.is_ok_and(|status| status.success()) {
            writeln!(std::io::stderr(), "SKIPPED: an upgrade on a full disk needs the right to mount").expect("stderr");
            return None;
        }
        Some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.path()).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Where the child finds its index.
const CHILD_PATH: &str = "LANYARD_TEST_OLD_INDEX";
/// The calls at which the child is killed, each at its every occurrence.
const CALLS: [&str; 8] =
    ["copy_file_range", "ftruncate", "pwrite64", "fsync", "fdatasync", "rename", "openat", "close"];
/// So often a call is not made.
const TIMES_MAX: u32 = 400;

#[test]
fn a_program_killed_at_any_call_of_an_upgrade_loses_nothing() {
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        writeln!(std::io::stderr(), "SKIPPED: killing an upgrade at its every call needs strace").expect("stderr");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let expected = expected(dir.path());
    let (mut kills, mut schemas) = (0, BTreeSet::new());
    for call in CALLS {
        for n in 1..=TIMES_MAX {
            let home = dir.path().join(format!("{call}-{n}"));
            fs::create_dir(&home).unwrap();
            let path = home.join("index.redb");
            unpack(&path);
            if !is_killed(&path, call, n) {
                break;
            }
            kills += 1;
            // The copy is whole as soon as it has its name; the file is of one version or the other.
            let copy = home.join("index.schema-1.redb");
            let spare = home.join("spare.redb");
            fs::copy(&path, &spare).unwrap();
            let stands = schema_of(&spare);
            schemas.insert(stands);
            assert!(stands == 1 || copy.exists(), "{call} {n}: it was changed before it was copied");
            if copy.exists() {
                assert_eq!(schema_of(&copy), 1, "{call} {n}");
            }

            let opened = Store::open(&path, CACHE_BYTES).unwrap_or_else(|error| panic!("{call} {n}: {error:?}"));

            assert_eq!(opened.condition, Condition::Existing, "{call} {n}");
            assert!(everything(&opened.store).unwrap() == expected, "{call} {n}: something is missing");
            drop(opened);
            assert_eq!(schema_of(&path), SCHEMA, "{call} {n}");
            fs::remove_dir_all(&home).unwrap();
        }
    }
    println!("{kills} kills in an upgrade, the file then of versions {schemas:?}");
    assert!(kills > 20 && schemas == [1, SCHEMA].into(), "{kills} {schemas:?}");
}

/// Opens an index in a process that is killed when it makes a call for the `n`-th time after it began to open.
fn is_killed(path: &Path, call: &str, n: u32) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={n}");
    let mut child = Command::new("strace");
    child.args(["-f", "-q", "-o", "/dev/null", "-P"]).arg(path);
    for beside in ["index.schema-1-new.redb", "index.schema-1.redb", ""] {
        child.arg("-P").arg(path.with_file_name(beside));
    }
    child.args(["-e", &format!("trace={call}"), "-e", &inject]).arg(std::env::current_exe().unwrap());
    child.args(["--exact", "upgrade::child_that_opens", "--test-threads=1"]).env(CHILD_PATH, path);
    let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success() || status.code().is_none() || status.code() == Some(137), "{status}");
    !status.success()
}

#[test]
fn child_that_opens() {
    let Some(path) = std::env::var_os(CHILD_PATH) else { return };
    let opened = Store::open(Path::new(&path), CACHE_BYTES).unwrap();
    assert_eq!(opened.condition, Condition::Existing);
}

/// The fixture was made by this at schema 1, and is made anew by nobody: who changes the schema next adds one beside it.
#[test]
fn a_packed_index_is_the_file_it_was_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    sample(&path);
    let bytes = fs::read(&path).unwrap();
    let pages = pages_of(&bytes);
    unpack_pages(&pages, &path);
    assert!(fs::read(&path).unwrap() == bytes);
    if let Some(to) = std::env::var_os("LANYARD_BLESS_INDEX") {
        fs::write(to, pages).unwrap();
    }
}
