//! Bad input: each gets a clear error that names the object, the exit code of the contract, and costs nothing.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::lab::{Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree;

#[test]
fn without_a_node_commands_exit_3_and_unknown_ones_exit_2() {
    let Some(lab) = Lab::open("no node") else { return };
    let host = lab.host();
    let node = host.node("nobody");
    for command in ["status", "nodes", "folders", "leave"] {
        node.lanyard(&[command]).exits(3).names("up");
    }
    node.lanyard(&["status", "--json"]).exits(3);
    node.lanyard(&["frobnicate"]).exits(2);
    node.lanyard(&["up", "--port", "banana"]).exits(2);
}

#[test]
fn a_second_node_on_the_same_home_is_refused() {
    let Some(lab) = Lab::open("second node") else { return };
    let host = lab.host();
    let mut node = host.node("first");
    node.mkdir("Shared");
    node.up(&["Shared"]);
    node.up_to_its_end(&[]).exits(1).names(&node.home().display().to_string());
    node.must_be_alive();
    assert!(!node.folder("Shared").is_null());
    // A node that was killed leaves its lock and socket behind: the next start is not kept out by them.
    node.kill9();
    node.up(&[]);
}

#[test]
fn paths_that_cannot_be_shared_are_named() {
    let Some(lab) = Lab::open("bad paths") else { return };
    let host = lab.host();
    let mut node = host.node("node");
    node.ordinary = true;
    node.mkdir("Shared/inside");
    node.mkdir("Around/Shared2");
    fs::write(node.path("file.txt"), "not a directory").expect("a file");
    let locked = node.mkdir("locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).expect("a mode");
    node.up(&["Shared", "Around/Shared2"]);

    for name in ["file.txt", "Shared/inside", "Around", "Shared", "locked", "not/there/yet"] {
        let path = node.path(name).display().to_string();
        node.lanyard(&["share", &path]).exits(1).names(&path);
    }
    let count = node.json(&["folders"]).as_array().map(Vec::len);
    assert_eq!(count, Some(2), "a refused share left a folder behind");
    assert!(!node.path("not").exists());

    // The last component is made, and said.
    let fresh = node.path("fresh").display().to_string();
    let made = node.lanyard(&["share", &fresh]).ok();
    assert!(node.path("fresh").is_dir());
    assert!(format!("{}{}", made.stdout, made.stderr).contains(&fresh), "{made}");

    // `up PATH` ends the same way.
    node.stop();
    let file = node.path("file.txt");
    node.up_to_its_end(&[&file]).exits(1).names(&file.display().to_string());
    let gone = node.path("nowhere/at/all");
    node.up_to_its_end(&[&gone]).exits(1).names(&gone.display().to_string());
}

#[test]
fn a_wrong_mistyped_used_or_expired_code_joins_nothing() {
    let Some(lab) = Lab::open("bad codes") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    a.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&[]);

    // Typing errors are caught here, before anything is asked of anyone.
    for code in ["", "harvest", "4-harvest", "4-harvset-violin", "x-harvest-violin", "4-harvest-violin-piano"] {
        let refused = b.lanyard(&["join", code]);
        assert!(matches!(refused.code, 1 | 2), "{refused}");
        assert!(code.split('-').any(|part| refused.stderr.contains(part)), "{refused}");
        assert!(code != "4-harvset-violin" || refused.stderr.contains("harvset"), "{refused}");
    }
    // Nobody shows this code.
    let refused = b.lanyard(&["join", "4-harvest-violin"]);
    assert!(matches!(refused.code, 1 | 5), "{refused}");
    assert_eq!(b.mesh(), None);

    // A wrong guess at an open invitation: the words of another one with this one's number.
    let (right, other) = (a.invite(&[]), a.invite(&[]));
    let number = right.split('-').next().unwrap_or_default();
    let words = other.split_once('-').map(|(_, words)| words).unwrap_or_default();
    let wrong = format!("{number}-{words}");
    if wrong != other && wrong != right {
        let refused = b.lanyard(&["join", &wrong]);
        assert!(matches!(refused.code, 1 | 2), "{refused}");
        assert_eq!(b.mesh(), None);
        // One guess, then the invitation is void.
        let refused = b.lanyard(&["join", &right]);
        assert!(refused.code != 0, "a second guess was allowed: {refused}");
        assert_eq!(b.mesh(), None);
    }

    let late = a.invite(&["--expires", "1s"]);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let refused = b.lanyard(&["join", &late]);
    assert!(matches!(refused.code, 1 | 5), "{refused}");
    assert_eq!(b.mesh(), None);

    // And a good one still works.
    a.admit(&b, &[]);
    assert_eq!(a.mesh(), b.mesh());
}

/// Files below `dir` whose name contains one of `words`.
fn named(dir: &Path, words: &[&str]) -> Vec<PathBuf> {
    let items = tree::listing(dir).into_iter().filter(|item| item.kind == tree::Kind::File);
    let paths = items.map(|item| dir.join(std::ffi::OsStr::from_bytes(&item.path)));
    paths
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            words.iter().any(|word| name.contains(word))
        })
        .collect()
}

/// The one file of a node's home that holds its index.
#[track_caller]
fn index_of(node: &Node<'_>) -> PathBuf {
    let found = named(&node.home(), &["index", ".redb"]);
    let all: Vec<String> =
        tree::listing(&node.home()).iter().map(|item| item.path.escape_ascii().to_string()).collect();
    assert!(!found.is_empty(), "no index among {all:?}");
    found.into_iter().max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len())).expect("not empty")
}

#[test]
fn a_damaged_index_is_rebuilt_from_the_files() {
    let Some(lab) = Lab::open("damaged index") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    tree::office(&here, 200, 4, tree::OFFICE);
    fs::write(here.join("doomed"), "to be deleted while the other is off").expect("a file");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("the tree arrived", CONVERGE_MAX, || tree::same(&here, &there));
    let id = b.id();

    for (round, damage) in ["garbage", "half", "a flipped middle", "nothing"].into_iter().enumerate() {
        let before = tree::snapshot(&here);
        b.stop();
        let index = index_of(&b);
        let mut bytes = fs::read(&index).expect("an index");
        match damage {
            "garbage" => bytes = tree::Dice(9).bytes(bytes.len()),
            "half" => bytes.truncate(bytes.len() / 2),
            "a flipped middle" => {
                let (from, to) = (bytes.len() / 4, bytes.len() / 4 * 3);
                bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0xff);
            }
            _ => bytes.clear(),
        }
        fs::write(&index, &bytes).expect("an index");
        b.up(&[]);
        eventually(damage, CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
        a.lanyard(&["wait", "--timeout", "60s"]).ok();
        b.lanyard(&["wait", "--timeout", "60s"]).ok();

        assert_eq!(b.id(), id, "{damage}: the key is not in the index");
        let lines = tree::diff(&before, &tree::snapshot(&here));
        assert!(lines.is_empty(), "{damage}: the healthy side changed: {lines:#?}");
        eventually(damage, CONVERGE_MAX, || tree::same(&here, &there));
        // It still follows, in both directions.
        fs::write(here.join("to"), format!("{round}")).expect("a file");
        fs::write(there.join("from"), format!("{round}")).expect("a file");
        eventually(damage, CONVERGE_MAX, || {
            tree::same(&here, &there)?;
            let text = fs::read_to_string(here.join("from")).unwrap_or_default();
            if text == format!("{round}") { Ok(()) } else { Err(format!("{text:?}")) }
        });
    }
    let conflicts =
        tree::listing(&here).iter().filter(|item| String::from_utf8_lossy(&item.path).contains("(conflict ")).count();
    assert_eq!(conflicts, 0);
}

#[test]
fn a_damaged_configuration_is_named_and_left_alone() {
    let Some(lab) = Lab::open("damaged configuration") else { return };
    let host = lab.host();
    let mut node = host.node("node");
    node.mkdir("Shared");
    node.up(&["Shared"]);
    let id = node.id();
    node.stop();
    let config = node.home().join("config.toml");
    let good = fs::read(&config).ok();

    for bad in ["peers = [", "peers = 5\n", "\u{0}\u{1}\u{2}", "version = 999\n", "pears = []\n"] {
        fs::write(&config, bad).expect("a configuration");
        let status = if bad.starts_with("version") { 6 } else { 1 };
        node.up_to_its_end(&[]).exits(status).names("config.toml");
        assert_eq!(fs::read_to_string(&config).ok().as_deref(), Some(bad), "it was overwritten");
    }

    match good {
        Some(bytes) => fs::write(&config, bytes).expect("a configuration"),
        None => fs::remove_file(&config).expect("a configuration"),
    }
    node.up(&[]);
    assert_eq!(node.id(), id);
    assert!(!node.folder("Shared").is_null());
}

#[test]
fn a_damaged_key_is_named_and_never_replaced() {
    let Some(lab) = Lab::open("damaged key") else { return };
    let host = lab.host();
    let mut node = host.node("node");
    node.up(&[]);
    let id = node.id();
    node.stop();
    let keys = named(&node.home(), &["key"]);
    assert_eq!(keys.len(), 1, "one key file: {keys:?}");
    let key = &keys[0];
    let mode = fs::metadata(key).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let good = fs::read(key).expect("a key");

    for bad in [&b""[..], &b"garbage"[..], &good[..good.len() / 2]] {
        fs::write(key, bad).expect("a key");
        let name = key.file_name().unwrap_or_default().to_string_lossy().into_owned();
        node.up_to_its_end(&[]).exits(1).names(&name);
        assert_eq!(fs::read(key).ok().as_deref(), Some(bad), "it was overwritten");
    }

    fs::write(key, &good).expect("a key");
    node.up(&[]);
    assert_eq!(node.id(), id);
}

#[test]
fn names_that_are_not_utf_8_travel() {
    let Some(lab) = Lab::open("names") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    for name in [
        &b"caf\xe9"[..],
        b"\xff\xfe\xfd",
        b"line\nbreak",
        b"tab\there",
        b" leading and trailing ",
        b"-rf",
        b"\x1b[31mred",
    ] {
        fs::write(here.join(std::ffi::OsStr::from_bytes(name)), name).expect("a file");
    }
    // Two names that look the same are two files.
    fs::write(here.join("re\u{301}sume\u{301}"), "decomposed").expect("a file");
    fs::write(here.join("r\u{e9}sum\u{e9}"), "composed").expect("a file");
    eventually("all names arrived", CONVERGE_MAX, || {
        tree::same(&here, &there)?;
        let count = tree::listing(&there).len();
        if count == 9 { Ok(()) } else { Err(format!("{count}")) }
    });
    // Nothing a name holds reaches the terminal as a command, and JSON stays JSON.
    let said = b.lanyard(&["folders"]).ok();
    assert!(!said.stdout.contains('\u{1b}'), "{said}");
    b.json(&["folders"]);
    b.json(&["status"]);
}

#[test]
fn a_folder_whose_disk_is_not_there_stops_and_spreads_no_deletions() {
    let Some(lab) = Lab::open("not mounted") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    tree::office(&here, 50, 6, tree::OFFICE);
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("the tree arrived", CONVERGE_MAX, || tree::same(&here, &there));
    let before = tree::snapshot(&there);

    a.stop();
    let aside = a.path("unplugged");
    fs::rename(&here, &aside).expect("a rename");
    fs::create_dir(&here).expect("an empty mount point");
    a.up(&[]);
    eventually("the folder reports it", CONVERGE_MAX, || {
        let folder = a.folder("Shared");
        if folder["state"] == "error" { Ok(()) } else { Err(folder.to_string()) }
    });
    let lines = tree::diff(&before, &tree::snapshot(&there));
    assert!(lines.is_empty(), "deletions were spread: {lines:#?}");
    assert!(tree::listing(&here).is_empty(), "an empty mount point was filled");

    // The disk is back: so is the folder.
    a.stop();
    fs::remove_dir_all(&here).expect("an empty mount point");
    fs::rename(&aside, &here).expect("a rename");
    fs::write(there.join("later"), "made meanwhile").expect("a file");
    a.up(&[]);
    eventually("both are the same", CONVERGE_MAX, || {
        tree::same(&here, &there)?;
        if here.join("later").exists() { Ok(()) } else { Err("not yet".to_owned()) }
    });
}
