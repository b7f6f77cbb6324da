//! Damaged files: found at open or in use, set aside, replaced by an empty index; never a crash, never believed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use lanyard::shell::store::{Condition, Store, StoreError};

use crate::office::{contents, fill};

const CACHE_BYTES: usize = 1024 * 1024;
/// Flipped bytes tried over the whole file, beside every byte of its head.
const FLIPS: u64 = 120;
const SEED: u64 = 20_260_101;

/// An index with some files in it, closed, and all that it says after each of its commits.
fn sample(dir: &Path) -> (Vec<u8>, Vec<Vec<String>>) {
    let path = dir.join("sample.redb");
    let store = Store::open(&path, CACHE_BYTES).unwrap().store;
    let mut said = vec![contents(&store).unwrap()];
    for part in 0..3 {
        store.write(true, |index| fill(index, part * 100, part * 100 + 100)).unwrap();
        said.push(contents(&store).unwrap());
    }
    drop(store);
    (fs::read(&path).unwrap(), said)
}

/// Opens a damaged file. It may be whole after all, as one of its commits left it, or is set aside.
fn is_set_aside(path: &Path, bytes: &[u8], said: &[Vec<String>], what: &str) -> bool {
    fs::write(path, bytes).unwrap();
    let opened = Store::open(path, CACHE_BYTES).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let now = contents(&opened.store).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    match opened.condition {
        Condition::Existing => {
            assert!(said.contains(&now), "{what}: damage was believed");
            false
        }
        Condition::SetAside { aside, why } => {
            assert!(!why.is_empty(), "{what}");
            assert_eq!(now, said[0], "{what}: the new index is empty");
            fs::remove_file(aside).unwrap();
            true
        }
        Condition::New => panic!("{what}: the damaged file is gone"),
    }
}

#[test]
fn a_file_that_is_no_index_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, said) = sample(dir.path());
    let path = dir.path().join("index.redb");
    let garbage: Vec<u8> = (0..100_000_u32).map(|n| blake3::hash(&n.to_be_bytes()).as_bytes()[0]).collect();
    let headed = [&bytes[..4096], &garbage].concat();
    let zeros = vec![0; bytes.len()];

    for (what, bytes) in
        [("empty", &[][..]), ("text", b"hello"), ("noise", &garbage), ("head", &headed), ("zeros", &zeros)]
    {
        assert!(is_set_aside(&path, bytes, &said, what), "{what}");
    }
}

#[test]
fn a_truncated_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, said) = sample(dir.path());
    let path = dir.path().join("index.redb");

    for part in 1..24 {
        let length = bytes.len() * part / 24 + part % 3;
        assert!(is_set_aside(&path, &bytes[..length], &said, &format!("cut to {length}")));
    }
}

#[test]
fn a_flipped_byte_is_found_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, said) = sample(dir.path());
    let path = dir.path().join("index.redb");
    let spread = (0..FLIPS).map(|n| {
        let random = blake3::hash(&[SEED.to_be_bytes(), n.to_be_bytes()].concat());
        let random = u64::from_be_bytes(random.as_bytes()[..8].try_into().unwrap());
        usize::try_from(random % bytes.len() as u64).unwrap()
    });

    let mut found = 0;
    for at in (0..320).chain(spread) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        found += u32::from(is_set_aside(&path, &bytes, &said, &format!("bit flipped at {at}")));
    }

    assert!(found > 0, "not one of the flips hit anything");
}

#[test]
fn damage_that_comes_while_the_file_is_open_ends_in_an_error_and_a_fresh_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let noise = vec![0xa5; 4096];
    for first in [1_u64, 2, 9, 40] {
        let _ = fs::remove_file(&path);
        let store = Store::open(&path, 0).unwrap().store;
        store.write(true, |index| fill(index, 0, 400)).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let pages = file.metadata().unwrap().len() / 4096;
        for page in first..pages {
            file.write_all_at(&noise, page * 4096).unwrap();
        }

        let read = contents(&store).map(drop);
        let changed = store.write(true, |index| fill(index, 400, 500));

        for error in [read.err(), changed.err()].into_iter().flatten() {
            let corrupt = matches!(StoreError::behind(&error), Some(StoreError::Corrupt { .. }));
            assert!(corrupt, "{:?}", StoreError::behind(&error));
        }
        drop(store);
        let opened = Store::open(&path, CACHE_BYTES).unwrap();
        assert!(matches!(opened.condition, Condition::SetAside { .. }), "{:?}", opened.condition);
        opened.store.write(true, |index| fill(index, 0, 10)).unwrap();
        remove_asides(dir.path());
    }
}

fn remove_asides(dir: &Path) {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let asides: Vec<PathBuf> = names.filter(|path| path.to_string_lossy().contains("corrupt")).collect();
    asides.iter().for_each(|path| fs::remove_file(path).unwrap());
}

#[test]
fn damaged_files_are_kept_side_by_side_and_not_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");

    for n in 1..=10 {
        fs::write(&path, "damaged").unwrap();
        let opened = Store::open(&path, CACHE_BYTES).unwrap();
        let expected = dir.path().join(format!("index.corrupt-{}.redb", n.min(8)));
        assert!(matches!(opened.condition, Condition::SetAside { aside, .. } if aside == expected));
    }
}

#[test]
fn a_program_that_stopped_after_setting_a_file_aside_still_knows_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let aside = dir.path().join("index.corrupt-1.redb");
    fs::write(&aside, "damaged").unwrap();

    let opened = Store::open(&path, CACHE_BYTES).unwrap();

    assert_eq!(opened.condition, Condition::SetAside { aside, why: String::new() });
}

#[test]
fn an_index_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    drop(Store::open(&path, CACHE_BYTES).unwrap());
    let database = redb::Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&[u8], &[u8]>::new("meta");
    txn.open_table(meta).unwrap().insert(&b"schema"[..], &3_u32.to_be_bytes()[..]).unwrap();
    txn.commit().unwrap();
    drop(database);

    let error = Store::open(&path, CACHE_BYTES).unwrap_err();

    assert!(matches!(error, StoreError::Future { found: 3, known: 2, .. }), "{error:?}");
    assert!(error.to_string().contains("upgrade lanyard"));
    assert!(error.hint().is_some_and(|hint| hint.contains("install the version")));
    assert!(path.exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is made beside it");
}

#[test]
fn what_is_no_damage_sets_nothing_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let open = Store::open(&path, CACHE_BYTES).unwrap();
    assert_eq!(open.condition, Condition::New);
    assert!(matches!(Store::open(&path, CACHE_BYTES), Err(StoreError::AlreadyOpen { .. })));

    let directory = dir.path().join("directory.redb");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("file"), "").unwrap();
    assert!(matches!(Store::open(&directory, CACHE_BYTES), Err(StoreError::Io { .. })));

    let missing = dir.path().join("missing/index.redb");
    assert!(matches!(Store::open(&missing, CACHE_BYTES), Err(StoreError::Io { .. })));

    open.store.write(true, |index| index.put_note("still", b"open")).unwrap();
    let note = open.store.read(|look| look.note("still"));
    assert_eq!(note.unwrap().as_deref(), Some(&b"open"[..]));
}
