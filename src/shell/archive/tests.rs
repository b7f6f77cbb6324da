//! The archive over real directories, without a node.

use std::fs;
use std::io::{Read, Write};

use rustic_core::{ReadSource, ReadSourceOpen};

use super::*;
use crate::base::RelPath;

const FOLDER: FolderId = FolderId([7; 32]);

struct Place {
    dir: tempfile::TempDir,
    archive: Archive,
    disk: Folder,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("plans")).expect("made");
        let disk = Folder::open(&dir.path().join("plans")).expect("opens");
        let archive = Archive::new(&dir.path().join("archive"), &fresh_key(), Arc::default(), Arc::default());
        assert!(archive.prepare(true).expect("made"));
        Self { dir, archive, disk }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.dir.path().join("plans").join(name);
        fs::create_dir_all(path.parent().expect("above")).expect("made");
        fs::write(path, bytes).expect("written");
    }

    fn take(&self, at_ms: u64) -> Result<TakenNow> {
        let take = Take { folder: FOLDER, name: "plans", host: "attic", disk: &self.disk, at_ms, afresh: false };
        self.archive.take(&take)
    }

    fn content(&self, past: &Past, at: usize, name: &str) -> Option<Vec<u8>> {
        let snapshot = past.of(FOLDER).nth(at).expect("a snapshot");
        let items = past.items(snapshot, &RelPath::root(), &mut |_| true).expect("listed");
        let item = items.get(&RelPath::new(name).expect("valid"))?;
        let mut bytes = Vec::new();
        past.read(item, &mut bytes).expect("read");
        Some(bytes)
    }
}

#[test]
fn what_was_there_comes_back_and_what_is_unchanged_takes_no_room() {
    let place = Place::new();
    place.write("a/one", "one");
    place.write(".lanyard/marker", "not ours");
    let first = place.take(1_000).expect("taken");
    assert_eq!((first.files, first.bytes, first.missed_count), (1, 3, 0));
    assert_eq!(place.take(2_000).expect("taken").added, 0);
    place.write("a/one", "other");
    place.take(3_000).expect("taken");

    let past = place.archive.past().expect("opens");
    assert_eq!(place.content(&past, 0, "a/one").as_deref(), Some(&b"other"[..]));
    assert_eq!(place.content(&past, 2, "a/one").as_deref(), Some(&b"one"[..]));
    let newest = past.of(FOLDER).next().expect("a snapshot");
    let names = past.items(newest, &RelPath::root(), &mut |_| true).expect("listed");
    assert_eq!(names.keys().map(|path| path.to_string()).collect::<Vec<_>>(), ["a", "a/one"]);
    assert_eq!(place.content(&past, 0, "b"), None);
    let all = place.archive.snapshots().expect("listed");
    assert_eq!(all.iter().map(|one| one.at_ms).collect::<Vec<_>>(), [1_000, 2_000, 3_000]);
    place.archive.prune(&all[..2]).expect("pruned");
    assert_eq!(place.archive.snapshots().expect("listed").len(), 1);
    assert_eq!(place.archive.check(true).expect("checked").count, 0);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_left_out_or_in_the_end_taken_as_it_was_read() {
    let place = Place::new();
    place.write("log", "first line");
    for unsteady in [false, true] {
        let trouble = Arc::new(Trouble::default());
        let source = Source {
            folder: place.disk.clone(),
            top: PathBuf::from("/plans"),
            trouble: trouble.clone(),
            stop: Arc::default(),
            unsteady,
        };
        let entry = source.entries().flatten().find(|entry| entry.open.is_some()).expect("the file");
        let mut reading = entry.open.expect("a file").open().expect("opens");
        let path = place.dir.path().join("plans/log");
        let before = fs::read(&path).expect("read");
        fs::OpenOptions::new().append(true).open(&path).expect("opens").write_all(b", more").expect("written");
        let mut bytes = Vec::new();
        let read = reading.read_to_end(&mut bytes);
        assert_eq!((read.is_ok(), trouble.found().changed), (unsteady, 1));
        assert!(!unsteady || bytes == before, "as far as it reached when it was seen");
    }
}

#[test]
fn an_archive_that_is_not_ours_away_or_in_use_is_left_alone() {
    let place = Place::new();
    let root = place.dir.path().join("archive");
    let other = Archive::new(&root, &fresh_key(), Arc::default(), Arc::default());
    assert!(matches!(other.snapshots(), Err(ArchiveError::NotOurs { .. })));
    let away = Archive::new(&place.dir.path().join("away"), &fresh_key(), Arc::default(), Arc::default());
    assert!(matches!(away.prepare(false), Err(ArchiveError::Missing { .. })));
    let foreign = Archive::new(&place.dir.path().join("plans/.."), &fresh_key(), Arc::default(), Arc::default());
    assert!(matches!(foreign.prepare(true), Err(ArchiveError::Broken { .. })), "a directory with something in it");
    let broken = Archive::new(&root, b"{}", Arc::default(), Arc::default());
    assert!(matches!(broken.snapshots(), Err(ArchiveError::Key)));
    fs::write(root.join("locks").join("5".repeat(64)), "").expect("written");
    assert!(matches!(place.take(1_000), Err(ArchiveError::InUse { .. })));
    assert!(matches!(place.archive.prune(&[]), Err(ArchiveError::InUse { .. })));
}

#[test]
fn what_an_unclean_stop_left_is_put_right() {
    let place = Place::new();
    place.write("one", "one");
    place.take(1_000).expect("taken");
    let root = place.dir.path().join("archive");
    fs::write(root.join(BUSY), "").expect("written");
    // The index was not written any more, and a file is half there.
    for file in fs::read_dir(root.join("index")).expect("listed").flatten() {
        fs::remove_file(file.path()).expect("removed");
    }
    let half = root.join("index").join(format!("{}-tmp-", "a".repeat(64)));
    fs::write(&half, "half").expect("written");
    assert!(place.archive.is_unclean());
    assert!(!place.archive.prepare(true).expect("ready"));
    assert!(!half.exists() && !place.archive.is_unclean());
    assert_eq!(place.archive.check(true).expect("checked").count, 0);
    let past = place.archive.past().expect("opens");
    assert_eq!(place.content(&past, 0, "one").as_deref(), Some(&b"one"[..]));
}

#[test]
fn once_told_to_stop_nothing_more_is_written() {
    let place = Place::new();
    place.write("one", "one");
    place.archive.stop.store(true, Ordering::Relaxed);
    assert!(matches!(place.take(1_000), Err(ArchiveError::Stopped)));
    place.archive.stop.store(false, Ordering::Relaxed);
    assert!(place.archive.is_unclean());
    place.archive.prepare(true).expect("ready");
    assert!(place.archive.snapshots().expect("listed").is_empty());
    place.take(1_000).expect("taken");
}
