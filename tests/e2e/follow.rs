//! Renames, deletions and edits follow, from either side; what was only moved is not sent again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::tree::{self, Dice};

/// One change of a tree, as people and programs make them.
type Change = (&'static str, fn(&Path));

const CHANGES: [Change; 16] = [
    ("a file is edited in place", |root| fs::write(root.join("a/plan.txt"), "second version").expect("a file")),
    ("a file is saved by an editor: written aside, renamed over", |root| {
        fs::write(root.join("a/.plan.txt.swp"), "third version").expect("a file");
        fs::rename(root.join("a/.plan.txt.swp"), root.join("a/plan.txt")).expect("a rename");
    }),
    ("a file is appended to", |root| {
        use std::io::Write;
        let mut file = fs::File::options().append(true).open(root.join("a/log")).expect("a file");
        file.write_all(b"one more line\n").expect("an append");
    }),
    ("a file is renamed", |root| fs::rename(root.join("a/log"), root.join("b/journal")).expect("a rename")),
    ("a directory is renamed with all in it", |root| {
        fs::rename(root.join("many"), root.join("moved")).expect("a rename")
    }),
    ("a file is deleted", |root| fs::remove_file(root.join("a/plan.txt")).expect("a file")),
    ("a directory tree is deleted", |root| fs::remove_dir_all(root.join("moved/Workshop")).unwrap_or(())),
    ("a mode changes", |root| {
        fs::set_permissions(root.join("b/journal"), fs::Permissions::from_mode(0o750)).expect("a mode");
    }),
    ("a time changes", |root| {
        let file = fs::File::open(root.join("b/journal")).expect("a file");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 1)).expect("a time");
    }),
    ("a directory's mode changes", |root| {
        fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o700)).expect("a mode");
    }),
    ("a file becomes a directory", |root| {
        fs::remove_file(root.join("kind")).expect("a file");
        fs::create_dir(root.join("kind")).expect("a directory");
        fs::write(root.join("kind/inside"), "x").expect("a file");
    }),
    ("a directory becomes a symlink", |root| {
        fs::remove_dir_all(root.join("kind")).expect("a directory");
        symlink("a", root.join("kind")).expect("a symlink");
    }),
    ("a symlink points elsewhere", |root| {
        fs::remove_file(root.join("kind")).expect("a symlink");
        symlink("b", root.join("kind")).expect("a symlink");
    }),
    ("directories are made at once, with a file at the bottom", |root| {
        fs::create_dir_all(root.join("x/y/z/w")).expect("a directory");
        fs::write(root.join("x/y/z/w/file"), "deep").expect("a file");
    }),
    ("an empty directory is made", |root| fs::create_dir(root.join("hollow")).expect("a directory")),
    ("a name changes its letter case only", |root| fs::rename(root.join("x"), root.join("X")).expect("a rename")),
];

#[test]
fn renames_deletions_and_edits_follow_from_either_side() {
    let Some(lab) = Lab::open("follow") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let here = a.mkdir("Shared");
    let there = b.mkdir("Shared");
    for dir in ["a", "b", "many"] {
        fs::create_dir(here.join(dir)).expect("a directory");
    }
    fs::write(here.join("a/plan.txt"), "first version").expect("a file");
    fs::write(here.join("a/log"), "line\n").expect("a file");
    fs::write(here.join("kind"), "a file").expect("a file");
    tree::office(&here.join("many"), 200, 3, tree::OFFICE);
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("the tree arrived", CONVERGE_MAX, || tree::same(&here, &there));

    for (number, (what, change)) in CHANGES.iter().enumerate() {
        let (from, to) = if number % 2 == 0 { (&here, &there) } else { (&there, &here) };
        change(from);
        let want = tree::snapshot(from);
        eventually(what, CONVERGE_MAX, || {
            let lines = tree::diff(&want, &tree::snapshot(to));
            if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
        });
        let lines = tree::diff(&want, &tree::snapshot(from));
        assert!(lines.is_empty(), "{what}: undone where it was made: {lines:#?}");
    }
}

#[test]
fn a_large_file_that_is_renamed_or_slightly_changed_is_not_sent_again() {
    const SIZE: u64 = 64 << 20;
    let Some(lab) = Lab::alone("reuse") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let here = a.mkdir("Shared");
    let there = b.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    tree::big_file(&here.join("film.bin"), SIZE, 21);
    eventually("the file arrived", CONVERGE_MAX, || tree::same(&here, &there));

    let wire = h1.wire_bytes();
    fs::rename(here.join("film.bin"), here.join("renamed.bin")).expect("a rename");
    eventually("the rename followed", CONVERGE_MAX, || tree::same(&here, &there));
    let renamed = h1.wire_bytes() - wire;

    let wire = h1.wire_bytes();
    let mut bytes = fs::read(there.join("renamed.bin")).expect("a file");
    let middle = bytes.len() / 2;
    bytes.insert(middle, Dice(1).roll() as u8);
    fs::write(there.join("renamed.bin"), bytes).expect("a file");
    eventually("the insertion followed", CONVERGE_MAX, || tree::same(&here, &there));
    let inserted = h1.wire_bytes() - wire;

    println!("reuse: {renamed} bytes on the wire for a rename, {inserted} for one inserted byte, of {SIZE}");
    assert!(renamed < SIZE / 16, "{renamed} bytes for a rename");
    assert!(inserted < SIZE / 8, "{inserted} bytes for one inserted byte");
}

#[test]
fn what_changed_while_a_node_was_off_follows_when_it_is_back() {
    let Some(lab) = Lab::open("off and on") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let here = a.mkdir("Shared");
    let there = b.mkdir("Shared");
    tree::office(&here, 200, 9, tree::OFFICE);
    fs::write(here.join("doomed"), "1").expect("a file");
    fs::write(here.join("edited"), "1").expect("a file");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("the tree arrived", CONVERGE_MAX, || tree::same(&here, &there));

    b.stop();
    fs::remove_file(here.join("doomed")).expect("a file");
    fs::write(here.join("edited"), "by the node that ran").expect("a file");
    fs::write(there.join("offline"), "by hand, where the node is off").expect("a file");
    b.up(&[]);

    eventually("both are the same", CONVERGE_MAX, || {
        tree::same(&here, &there)?;
        let gone = !there.join("doomed").exists();
        if gone && here.join("offline").exists() { Ok(()) } else { Err("not yet".to_owned()) }
    });
    assert_eq!(fs::read_to_string(there.join("edited")).ok().as_deref(), Some("by the node that ran"));
}
