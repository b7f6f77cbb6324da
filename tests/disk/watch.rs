//! The watcher on real inotify: every change is hinted, or covered by a rescan.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::time::Duration;

use async_channel::Receiver;
use futures_lite::FutureExt;
use lanyard::base::RelPath;
use lanyard::shell::disk::Folder;
use lanyard::shell::disk::scan::{Seen, scan};
use lanyard::shell::disk::watch::{Hint, Watch};

use crate::{folder, path};

fn watch(capacity: usize) -> (tempfile::TempDir, Folder, Watch, Receiver<Hint>) {
    let (dir, folder) = folder();
    let (sender, hints) = async_channel::bounded(capacity);
    let watch = Watch::start(dir.path(), sender).expect("watches");
    (dir, folder, watch, hints)
}

/// The next hint, or a failed test if none comes.
fn next(hints: &Receiver<Hint>) -> Hint {
    let late = async {
        async_io::Timer::after(Duration::from_secs(20)).await;
        panic!("no hint came")
    };
    futures_lite::future::block_on(async { hints.recv().await.expect("watched") }.or(late))
}

/// Takes hints, and what a scan finds where one asks for it, until `wanted` is among them.
fn until_seen(folder: &Folder, hints: &Receiver<Hint>, wanted: &RelPath) -> Vec<Hint> {
    let mut taken = Vec::new();
    for _ in 0..1000 {
        let hint = next(hints);
        let mut found = matches!(&hint, Hint::Changed { path, settled: true } if path == wanted);
        if let Hint::Rescan(dir) = &hint {
            let _ = scan(folder, dir, &mut |seen| {
                found |= matches!(&seen, Seen::Entry { path, .. } if path == wanted);
                ControlFlow::Continue(())
            });
        }
        taken.push(hint);
        if found {
            return taken;
        }
    }
    panic!("{wanted} was not hinted: {taken:?}");
}

#[test]
fn a_saved_file_is_settled_when_it_is_closed() {
    let (dir, folder, _watch, hints) = watch(64);
    fs::write(dir.path().join("f"), "x").expect("written");
    let taken = until_seen(&folder, &hints, &path("f"));
    assert!(taken.contains(&Hint::Changed { path: path("f"), settled: false }), "{taken:?}");
}

#[test]
fn a_file_in_directories_made_at_once_is_found_by_their_rescan() {
    let (dir, folder, _watch, hints) = watch(64);
    for n in 0..20 {
        let deep = dir.path().join(format!("new{n}/a/b/c"));
        fs::create_dir_all(&deep).expect("made");
        fs::write(deep.join("f"), "x").expect("written");
        until_seen(&folder, &hints, &path(format!("new{n}/a/b/c/f")));
    }
}

#[test]
fn what_comes_after_the_rescan_of_a_new_directory_is_hinted() {
    let (dir, folder, _watch, hints) = watch(64);
    fs::create_dir(dir.path().join("d")).expect("made");
    while next(&hints) != Hint::Rescan(path("d")) {}
    fs::write(dir.path().join("d/f"), "x").expect("written");
    until_seen(&folder, &hints, &path("d/f"));
}

#[test]
fn a_directory_moved_within_or_into_the_folder_is_rescanned_under_its_new_name() {
    let (dir, folder, _watch, hints) = watch(64);
    let outside = tempfile::tempdir_in(dir.path().parent().expect("a parent")).expect("a directory");
    fs::create_dir(outside.path().join("in")).expect("made");
    fs::write(outside.path().join("in/f"), "x").expect("written");
    fs::rename(outside.path().join("in"), dir.path().join("in")).expect("moved in");
    until_seen(&folder, &hints, &path("in/f"));
    fs::rename(dir.path().join("in"), dir.path().join("moved")).expect("moved");
    let taken = until_seen(&folder, &hints, &path("moved/f"));
    assert!(taken.contains(&Hint::Changed { path: path("in"), settled: true }), "{taken:?}");
    fs::write(dir.path().join("moved/g"), "x").expect("written");
    until_seen(&folder, &hints, &path("moved/g"));
}

#[test]
fn links_and_removals_are_settled_at_once() {
    let (dir, folder, _watch, hints) = watch(64);
    fs::write(dir.path().join("f"), "x").expect("written");
    until_seen(&folder, &hints, &path("f"));
    symlink("/etc", dir.path().join("link")).expect("linked");
    until_seen(&folder, &hints, &path("link"));
    fs::hard_link(dir.path().join("f"), dir.path().join("hard")).expect("linked");
    until_seen(&folder, &hints, &path("hard"));
    fs::remove_file(dir.path().join("f")).expect("removed");
    until_seen(&folder, &hints, &path("f"));
}

#[test]
fn reading_and_lanyards_own_directory_give_no_hints() {
    let (dir, folder, _watch, hints) = watch(64);
    let own = dir.path().join(".lanyard");
    fs::write(own.join("tmp/x"), "x").expect("written");
    fs::create_dir(own.join("versions/d")).expect("made");
    fs::write(own.join("versions/d/x"), "x").expect("written");
    let _ = scan(&folder, &RelPath::root(), &mut |_| ControlFlow::Continue(()));
    // Hints keep the order of events: what comes first is what came first.
    fs::write(dir.path().join("mark"), "x").expect("written");
    let taken = until_seen(&folder, &hints, &path("mark"));
    let others = taken.iter().filter(|h| !matches!(h, Hint::Changed { path: p, .. } if *p == path("mark"))).count();
    assert_eq!(others, 0, "{taken:?}");
}

#[test]
fn hints_that_did_not_fit_become_one_rescan_of_the_root() {
    let (dir, _folder, _watch, hints) = watch(2);
    for n in 0..100 {
        fs::write(dir.path().join(format!("f{n}")), "x").expect("written");
    }
    let mut rescanned = false;
    for _ in 0..300 {
        rescanned = next(&hints) == Hint::Rescan(RelPath::root());
        if rescanned {
            break;
        }
    }
    assert!(rescanned);
}

#[test]
fn a_dropped_watch_closes_its_channel() {
    let (_dir, _folder, watch, hints) = watch(2);
    drop(watch);
    let late = async {
        async_io::Timer::after(Duration::from_secs(20)).await;
        panic!("the channel stays open")
    };
    futures_lite::future::block_on(async { while hints.recv().await.is_ok() {} }.or(late));
}
