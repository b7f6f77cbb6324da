//! Any sequence of calls gives the same answers on the index in memory and in the file, across reopening.

use std::collections::BTreeSet;

use lanyard::base::RelPath;
use lanyard::logic::sync::index::{Head, Index, IndexError, Look, MemoryIndex, PathRecord, Result, Walk};
use lanyard::shell::store::{Condition, Store};
use lanyard::wire::batch::What;
use lanyard::wire::message::HoleReason;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::office::{
    CONTENTS, NOTES, PATHS, SEQS, WRITERS, batch, chunk, content, file, id, list, path, record, salted, writer,
};

const CACHE_BYTES: usize = 1024 * 1024;

#[derive(Clone, Debug)]
enum Call {
    Path { at: usize, head: Option<(u8, u64)>, disk: Option<u8>, dir: bool },
    Batch { by: u8, entries: u64 },
    EntryPath { by: u8, seq: u64, at: usize },
    Void { by: u8, seq: u64, held: bool },
    ForgetEntry { by: u8, seq: u64 },
    Kept { by: u8, seq: u64, at: usize, held: bool },
    Hole { by: u8, seq: u64, reason: Option<HoleReason> },
    List { content: u8, at: usize },
    Need { at: usize, needed: bool },
    Note { at: usize, value: Vec<u8> },
}

#[derive(Clone, Debug)]
enum Step {
    Change { calls: Vec<Call>, durable: bool, fails: bool },
    Sync,
    Reopen,
}

fn call() -> impl Strategy<Value = Call> {
    let at = 0..PATHS.len();
    let (by, seq) = (0..WRITERS, 1..SEQS);
    let reason = prop_oneof![
        Just(None),
        Just(Some(HoleReason::Withheld)),
        Just(Some(HoleReason::Missing)),
        (0..WRITERS, 1..SEQS).prop_map(|(by, seq)| Some(HoleReason::Superseded(writer(by), seq))),
    ];
    prop_oneof![
        4 => (at.clone(), proptest::option::of((by.clone(), seq.clone())), proptest::option::of(0..CONTENTS), any::<bool>())
            .prop_map(|(at, head, disk, dir)| Call::Path { at, head, disk, dir }),
        2 => (by.clone(), 1..4_u64).prop_map(|(by, entries)| Call::Batch { by, entries }),
        1 => (by.clone(), seq.clone(), at.clone()).prop_map(|(by, seq, at)| Call::EntryPath { by, seq, at }),
        2 => (by.clone(), seq.clone(), any::<bool>()).prop_map(|(by, seq, held)| Call::Void { by, seq, held }),
        1 => (by.clone(), seq.clone()).prop_map(|(by, seq)| Call::ForgetEntry { by, seq }),
        2 => (by.clone(), seq.clone(), at.clone(), any::<bool>())
            .prop_map(|(by, seq, at, held)| Call::Kept { by, seq, at, held }),
        3 => (by, seq, reason).prop_map(|(by, seq, reason)| Call::Hole { by, seq, reason }),
        4 => (0..CONTENTS, at.clone()).prop_map(|(content, at)| Call::List { content, at }),
        2 => (at, any::<bool>()).prop_map(|(at, needed)| Call::Need { at, needed }),
        1 => (0..NOTES.len(), vec(any::<u8>(), 0..3)).prop_map(|(at, value)| Call::Note { at, value }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (vec(call(), 0..12), any::<bool>(), proptest::bool::weighted(0.2))
            .prop_map(|(calls, durable, fails)| Step::Change { calls, durable, fails }),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
    ]
}

fn make(index: &mut dyn Index, call: &Call) -> Result<()> {
    match call {
        Call::Path { at, head, disk, dir } => {
            let disk = if *dir && disk.is_some() { Some(What::Dir) } else { disk.map(file) };
            let record = record(&path(*at), head.map(|(by, seq)| id(by, seq)), disk);
            // A directory here is also one that was changed without the right to.
            index.put_path(&path(*at), &PathRecord { local_only: *dir, ..record })
        }
        Call::Batch { by, entries } => {
            let batch = batch(&*index, *by, *entries)?;
            index.put_batch(&batch)
        }
        Call::EntryPath { by, seq, at } => index.put_entry_path(id(*by, *seq), &path(*at)),
        Call::Void { by, seq, held } => {
            let salted = salted(path(0), file(1), id(*by, *seq));
            index.put_void(id(*by, *seq), held.then_some(&salted))
        }
        Call::ForgetEntry { by, seq } => index.forget_entry(id(*by, *seq)),
        Call::Kept { by, seq, at, held: false } => index.forget_kept(&path(*at), id(*by, *seq)),
        Call::Kept { by, seq, at, held: true } => {
            let id = id(*by, *seq);
            index.put_kept(&path(*at), &Head { id, salted: salted(path(*at), file(1), id) })
        }
        Call::Hole { by, seq, reason } => index.put_hole(id(*by, *seq), *reason),
        Call::List { content: n, at } => index.put_chunk_list(content(*n), &list(*n), &path(*at)),
        Call::Need { at, needed } => index.put_need(&path(*at), *needed),
        Call::Note { at, value } => index.put_note(NOTES[*at], value),
    }
}

/// Every answer to every question about the small folder.
fn answers(look: &dyn Look) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut say = |answer: &dyn std::fmt::Debug| all.push(format!("{answer:?}"));
    for at in 0..PATHS.len() {
        say(&look.path(&path(at))?);
        say(&look.needs(Some(&path(at)), 2)?);
        say(&(look.kept(&path(at))?, look.local_only(Some(&path(at)), 2)?));
        for top in [RelPath::root(), path(at), path(at + 1)] {
            let mut seen = Vec::new();
            look.walk_from(&top, &path(at), &mut |path, record| {
                seen.push((path, record));
                if seen.len() < 3 { Walk::On } else { Walk::Enough }
            })?;
            say(&seen);
        }
    }
    let mut seen = Vec::new();
    look.walk(&RelPath::root(), &mut |path, _| {
        seen.push(path);
        Walk::On
    })?;
    say(&seen);
    for by in 0..=WRITERS {
        say(&look.frontier(writer(by))?);
        for seq in 0..=SEQS {
            let id = id(by, seq);
            say(&(look.entries_after(Some(id), 2)?, look.voids_after(Some(id), 2)?));
            say(&look.superseded_by(&BTreeSet::from([id]))?);
            say(&(look.batch_of(id)?, look.entry_path(id)?, look.void(id)?, look.hole(id)?));
        }
    }
    for n in 0..CONTENTS {
        say(&(look.chunk_list(content(n))?, look.place_of_chunk(chunk(n).hash)?));
        say(&(look.places_of(content(n), 0)?, look.places_of(content(n), 2)?, look.places_of(content(n), 99)?));
    }
    for from in 0..3 {
        let mut seen = Vec::new();
        look.arrivals(from, &mut |at, batch| {
            seen.push((at, batch));
            if seen.len() < 4 { Walk::On } else { Walk::Enough }
        })?;
        say(&seen);
    }
    say(&(look.frontiers()?, look.need_count()?, look.totals()?, look.needs(None, 0)?, look.needs(None, 99)?));
    say(&(look.entries_after(None, 0)?, look.entries_after(None, 99)?, look.voids_after(None, 3)?));
    say(&(look.local_only(None, 0)?, look.local_only(None, 99)?, look.local_only_count()?));
    say(&(look.holes_to_ask(0)?, look.holes_to_ask(2)?, look.holes_to_ask(99)?));
    NOTES.iter().try_for_each(|key| look.note(key).map(|note| say(&note)))?;
    Ok(all)
}

#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("the caller changed its mind")]
    OnPurpose,
    #[error(transparent)]
    Index(#[from] IndexError),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_file_answers_as_the_index_in_memory_does(steps in vec(step(), 1..14)) {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("index.redb");
        let mut store = Store::open(&at, CACHE_BYTES).unwrap().store;
        let mut memory = MemoryIndex::default();
        for step in steps {
            match step {
                Step::Change { calls, durable, fails } => {
                    let mut changed = memory.clone();
                    calls.iter().try_for_each(|call| make(&mut changed, call)).unwrap();
                    let within = store.write(durable, |index| {
                        calls.iter().try_for_each(|call| make(index, call))?;
                        let within = answers(&*index)?;
                        if fails { Err(Stop::OnPurpose) } else { Ok(within) }
                    });
                    match within {
                        Ok(within) => {
                            memory = changed;
                            prop_assert_eq!(within, answers(&memory).unwrap());
                        }
                        Err(Stop::OnPurpose) => {}
                        Err(Stop::Index(error)) => panic!("{error:?}"),
                    }
                }
                Step::Sync => store.sync().unwrap(),
                Step::Reopen => {
                    drop(store);
                    let opened = Store::open(&at, CACHE_BYTES).unwrap();
                    prop_assert_eq!(opened.condition, Condition::Existing);
                    store = opened.store;
                }
            }
            prop_assert_eq!(store.read(answers).unwrap(), answers(&memory).unwrap());
        }
    }
}

#[test]
fn a_renamed_file_keeps_its_chunk_list_when_the_old_name_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("index.redb"), CACHE_BYTES).unwrap().store;
    let mut memory = MemoryIndex::default();
    let rename = |index: &mut dyn Index| {
        index.put_chunk_list(content(0), &list(0), &path(0))?;
        index.put_path(&path(0), &record(&path(0), None, Some(file(0))))?;
        index.put_chunk_list(content(0), &list(0), &path(6))?;
        index.put_path(&path(0), &record(&path(0), None, None))?;
        index.put_path(&path(6), &record(&path(6), None, Some(file(0))))
    };

    rename(&mut memory).unwrap();
    store.write(true, rename).unwrap();

    let kept = |look: &dyn Look| Ok::<_, IndexError>((look.chunk_list(content(0))?, look.places_of(content(0), 9)?));
    assert_eq!(kept(&memory).unwrap(), (Some(list(0)), vec![path(6)]));
    assert_eq!(store.read(kept).unwrap(), (Some(list(0)), vec![path(6)]));
}

#[test]
fn a_content_without_a_name_is_forgotten_with_its_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("index.redb"), CACHE_BYTES).unwrap().store;
    let edit = |index: &mut dyn Index| {
        index.put_chunk_list(content(0), &list(0), &path(0))?;
        index.put_path(&path(0), &record(&path(0), None, Some(file(0))))?;
        index.put_chunk_list(content(1), &list(1), &path(0))?;
        index.put_path(&path(0), &record(&path(0), None, Some(file(1))))
    };

    store.write(true, edit).unwrap();

    store
        .read(|look| {
            assert_eq!(look.chunk_list(content(0))?, None);
            assert_eq!(look.place_of_chunk(chunk(0).hash)?, None);
            assert!(look.place_of_chunk(chunk(1).hash)?.is_some(), "the next content has it too");
            assert_eq!(look.totals()?.files, 1);
            Ok::<_, IndexError>(())
        })
        .unwrap();
}
