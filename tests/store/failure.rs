//! Failures that damage nothing: a full disk, a kill, a panic; and readers beside a writer.

use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lanyard::logic::sync::index::{IndexError, Look};
use lanyard::shell::store::{Condition, Store, StoreError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::office::{contents, fill};

const CACHE_BYTES: usize = 1024 * 1024;
/// Where a child finds its index.
const CHILD_PATH: &str = "LANYARD_TEST_INDEX";

fn note(look: &dyn Look, key: &str) -> Result<u64, IndexError> {
    Ok(look.note(key)?.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap())))
}

/// Runs one of the children below in a process of its own, where a write beyond a limit is an error, not a signal.
fn child(name: &str, path: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", name]).env(CHILD_PATH, path);
    command
}

/// `None`: not started by another test, so there is nothing to do.
fn path_for_child() -> Option<PathBuf> {
    std::env::var_os(CHILD_PATH).map(PathBuf::from)
}

#[test]
fn a_full_disk_takes_back_the_change_and_is_got_over_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");

    let output = child("failure::child_on_a_full_disk", &path).output().unwrap();

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    let opened = Store::open(&path, CACHE_BYTES).unwrap();
    assert_eq!(opened.condition, Condition::Existing);
    assert_eq!(opened.store.read(|look| note(look, "count")).unwrap(), 2);
}

#[test]
fn child_on_a_full_disk() {
    let Some(path) = path_for_child() else { return };
    let store = Store::open(&path, CACHE_BYTES).unwrap().store;
    let count = |n: u64| store.write(true, |index| index.put_note("count", &n.to_be_bytes()));
    count(1).unwrap();
    let before = contents(&store).unwrap();
    let length = std::fs::metadata(store.path()).unwrap().len();
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(length + 4096), maximum: limit.maximum }).unwrap();

    // Larger than the cache and than the file may become.
    let full = store.write(true, |index| fill(index, 0, 800).and_then(|()| fill(index, 800, 1_600))).unwrap_err();
    let meanwhile = contents(&store);
    setrlimit(Resource::Fsize, limit).unwrap();

    assert!(matches!(StoreError::behind(&full), Some(StoreError::Full { .. })), "{:?}", StoreError::behind(&full));
    assert_eq!(meanwhile.unwrap(), before);
    count(2).unwrap();
    store.write(true, |index| fill(index, 0, 100)).unwrap();
    assert!(contents(&store).unwrap().len() > before.len());
}

#[test]
fn what_was_durable_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    for kill_after in [1_u64, 7, 20] {
        let mut process = child("failure::child_that_writes", &path).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let durable = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok());
        let last = durable.take(usize::try_from(kill_after).unwrap()).last().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();

        let opened = Store::open(&path, CACHE_BYTES).unwrap();

        assert_eq!(opened.condition, Condition::Existing);
        let kept = opened.store.read(|look| note(look, "count")).unwrap();
        assert!(kept >= last, "{kept} of {last}");
        assert_eq!(opened.store.read(|look| Ok::<_, IndexError>(look.totals()?.files)).unwrap(), kept * 10);
    }
}

#[test]
fn child_that_writes() {
    let Some(path) = path_for_child() else { return };
    let store = Store::open(&path, CACHE_BYTES).unwrap().store;
    let first = store.read(|look| note(look, "count")).unwrap() + 1;
    println!();
    // Ends by itself if nobody kills it.
    for n in first..first + 2_000 {
        let durable = n % 2 == 0;
        store
            .write(durable, |index| {
                fill(index, (n - 1) * 10, n * 10)?;
                index.put_note("count", &n.to_be_bytes())
            })
            .unwrap();
        if durable {
            println!("durable {n}");
        }
    }
}

#[test]
fn a_panic_in_a_change_leaves_no_trace_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("index.redb"), CACHE_BYTES).unwrap().store;
    store.write(true, |index| fill(index, 0, 50)).unwrap();
    let before = contents(&store).unwrap();

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        store.write(true, |index| {
            fill(index, 50, 60).unwrap();
            let none: Option<()> = None;
            none.ok_or_else(|| -> IndexError { panic!("a bug of the caller") })
        })
    }));

    assert!(panicked.is_err());
    assert_eq!(contents(&store).unwrap(), before);
    store.write(true, |index| fill(index, 50, 60)).unwrap();
    let path = store.path().to_path_buf();
    drop(store);
    assert_eq!(Store::open(&path, CACHE_BYTES).unwrap().condition, Condition::Existing);
}

#[test]
fn readers_see_whole_changes_while_a_writer_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("index.redb"), CACHE_BYTES).unwrap().store;
    const CHANGES: u64 = 60;

    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let store = store.clone();
                scope.spawn(move || {
                    let mut last = 0;
                    while last < CHANGES {
                        let (left, files, right) = store
                            .read(|look| {
                                Ok::<_, IndexError>((note(look, "left")?, look.totals()?.files, note(look, "right")?))
                            })
                            .unwrap();
                        assert!(left == right && files == left * 5 && left >= last);
                        last = left;
                    }
                })
            })
            .collect();
        for n in 1..=CHANGES {
            store
                .write(n % 8 == 0, |index| {
                    index.put_note("left", &n.to_be_bytes())?;
                    fill(index, (n - 1) * 5, n * 5)?;
                    index.put_note("right", &n.to_be_bytes())
                })
                .unwrap();
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
