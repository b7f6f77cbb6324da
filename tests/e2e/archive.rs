//! The archive: what restic finds in it, after normal work and after the worst; and what comes back from it.
//!
//! restic is the witness: it shares no code with the library that writes the archive.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Host, Lab, Outcome, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree::{self, Dice};

/// Where Debian and Ubuntu put the library.
const FAKETIME: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];
/// Until a killed process is gone. A guess.
const GONE_MAX: Duration = Duration::from_secs(20);

/// Whether restic is here; says aloud if not.
fn has_restic(test: &str) -> bool {
    let found = ["/usr/bin/restic", "/usr/local/bin/restic"].iter().any(|path| Path::new(path).exists());
    if !found {
        let _closed = writeln!(std::io::stderr(), "SKIPPED: {test}: restic is not installed");
    }
    found
}

fn repository(node: &Node<'_>) -> PathBuf {
    node.home().join("state/archive/repository")
}

/// Runs restic on an archive.
fn restic(host: &Host<'_>, repository: &Path, password: &str, args: &str) -> Outcome {
    let at = repository.display();
    host.sh(&format!("RESTIC_PASSWORD='{password}' restic --no-cache -r '{at}' {args}"))
}

/// Has restic check everything and restore the last snapshot, which must be what the folder is.
#[track_caller]
fn restic_agrees(node: &Node<'_>, password: &str, root: &Path, into: &str) {
    let at = repository(node);
    restic(node.host, &at, password, "check --read-data").ok();
    let target = node.path(into);
    restic(node.host, &at, password, &format!("restore latest --target '{}'", target.display())).ok();
    let restored = target.join(root.file_name().expect("a name"));
    tree::same(root, &restored).unwrap_or_else(|why| panic!("what restic restores differs: {why}"));
}

/// From now on the node takes snapshots only when it is asked.
fn by_hand(node: &Node<'_>, more: &str) {
    fs::create_dir_all(node.home()).expect("a home");
    fs::write(node.home().join("config.toml"), format!("name = \"{}\"\n[archive]\nenabled = false\n{more}", node.name))
        .expect("written");
}

/// An archive on a node that shares `Shared`; returns the folder and the recovery password.
#[track_caller]
fn archived(node: &mut Node<'_>) -> (PathBuf, String) {
    node.mkdir("Shared");
    if !node.home().exists() {
        by_hand(node, "");
    }
    node.up(&["Shared"]);
    let name = node.name.clone();
    node.lanyard(&["coordinator", "allow", &name]).ok();
    let taken = snapshot(node);
    (node.path("Shared"), password(&taken))
}

#[track_caller]
fn snapshot(node: &Node<'_>) -> Value {
    node.lanyard(&["wait", "--timeout", "60s"]).ok();
    node.lanyard(&["archive", "snapshot", "--json"]).ok().json()
}

#[track_caller]
fn password(taken: &Value) -> String {
    taken["password"].as_str().unwrap_or_else(|| panic!("no password in {taken}")).to_owned()
}

#[track_caller]
fn write(path: PathBuf, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(path, bytes).expect("a file");
}

/// Every pack of an archive.
fn packs(repository: &Path) -> Vec<PathBuf> {
    let dirs = fs::read_dir(repository.join("data")).into_iter().flatten().flatten();
    let files = dirs.flat_map(|dir| fs::read_dir(dir.path()).into_iter().flatten().flatten());
    files.map(|file| file.path()).filter(|path| path.file_name().is_some_and(|name| name.len() == 64)).collect()
}

#[test]
fn restic_finds_exactly_the_folder_and_each_machine_keeps_its_own() {
    if !has_restic("archive") {
        return;
    }
    let Some(lab) = Lab::open("archive") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("server"), h2.node("standby"));
    b.up(&[]);
    let root = a.mkdir("Shared");
    tree::office(&root, 200, 5, tree::OFFICE);
    tree::garnish(&root);
    // The restic of Debian 12 restores the text of a link as UTF-8 only; lanyard's own restore is tested with it below.
    fs::remove_file(root.join("odd/link to bytes")).expect("removed");
    by_hand(&a, "");
    a.up(&["Shared"]);

    a.lanyard(&["archive", "snapshot"]).exits(4).names("keeps no archive");
    a.lanyard(&["archive", "check"]).exits(1).names("no archive");
    a.lanyard(&["coordinator", "allow", "server"]).ok();
    let taken = snapshot(&a);
    let secret = password(&taken);
    assert_eq!(taken["snapshots"][0]["missing_count"], 0, "{taken}");
    restic_agrees(&a, &secret, &root, "one");

    // What is unchanged adds no contents; what is changed is in the next.
    let again = snapshot(&a);
    assert!(again["password"].is_null(), "it is told once: {again}");
    assert_eq!(again["snapshots"][0]["added"], 0, "{again}");
    write(root.join("plans/new"), "new");
    fs::remove_file(root.join("odd/script.sh")).expect("removed");
    snapshot(&a);
    restic_agrees(&a, &secret, &root, "two");
    let status = a.json(&["archive", "status"]);
    assert_eq!(status["folders"][0]["snapshots"], 3, "{status}");
    assert!(status["password"].is_string() && status["problem"].is_null(), "{status}");
    a.lanyard(&["archive", "check", "--read-data"]).ok();

    // Thinned to one an hour, what is left is whole.
    let pruned = a.json(&["archive", "prune"]);
    assert_eq!((&pruned["forgotten"], &pruned["kept"]), (&2.into(), &1.into()), "{pruned}");
    restic_agrees(&a, &secret, &root, "three");

    // A new password, and the one before opens nothing any more.
    let fresh = password(&a.lanyard(&["archive", "password", "--new", "--json"]).ok().json());
    restic(&h1, &repository(&a), &fresh, "snapshots").ok();
    assert_ne!(restic(&h1, &repository(&a), &secret, "snapshots").code, 0);

    // Another machine takes over: its own archive, its own password.
    a.admit(&b, &[]);
    eventually("the folder is received", CONVERGE_MAX, || {
        let path = b.folder("Shared")["path"].as_str().map(PathBuf::from).ok_or("no path yet")?;
        tree::same(&root, &path)
    });
    a.lanyard(&["coordinator", "allow", "standby"]).ok();
    // It does so by itself; nobody has seen a password yet.
    eventually("it keeps one, too", CONVERGE_MAX, || {
        let status = b.json(&["archive", "status"]);
        if status["folders"][0]["snapshots"] == 1 { Ok(()) } else { Err(status.to_string()) }
    });
    let secret = password(&b.lanyard(&["archive", "password", "--new", "--json"]).ok().json());
    a.kill9();
    let theirs = PathBuf::from(b.folder("Shared")["path"].as_str().expect("a path"));
    write(theirs.join("plans/while the server is off"), "saved");
    snapshot(&b);
    restic_agrees(&b, &secret, &theirs, "four");
    a.up(&[]);
    eventually("it catches up", CONVERGE_MAX, || tree::same(&root, &theirs));
    snapshot(&a);
    restic_agrees(&a, &fresh, &root, "five");
    b.lanyard(&["coordinator", "deny", "standby"]).exits(4);
    a.lanyard(&["coordinator", "deny", "standby"]).ok();
    eventually("it keeps none any more", CONVERGE_MAX, || {
        let outcome = b.lanyard(&["archive", "snapshot"]);
        if outcome.code == 4 { Ok(()) } else { Err(outcome.to_string()) }
    });
}

#[test]
fn a_kill_during_a_snapshot_leaves_an_archive_that_restic_finds_sound() {
    if !has_restic("archive kill") {
        return;
    }
    let Some(lab) = Lab::alone("archive-kill") else { return };
    let host = lab.host();
    let mut a = host.node("server");
    let (root, secret) = archived(&mut a);
    let mut dice = Dice(std::env::var("LANYARD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11));
    let at = repository(&a);
    for round in 0..3u64 {
        tree::big_file(&root.join(format!("scan {round}.tif")), 48 << 20, round + 1);
        a.lanyard(&["wait", "--timeout", "60s"]).ok();
        // After some of the six packs that this makes, before the record of the snapshot.
        let wanted = packs(&at).len() + dice.between(1, 5) as usize;
        let running = a.spawn(&["archive", "snapshot"]);
        eventually("it is in the middle", CONVERGE_MAX, || {
            let there = packs(&at).len();
            if there >= wanted { Ok(()) } else { Err(format!("{there} packs of {wanted}")) }
        });
        a.kill9();
        drop(running);
        // A lock, or an unfinished snapshot, is nothing that restic stumbles over.
        restic(&host, &at, &secret, "check --read-data").ok();
        a.up(&[]);
        eventually("a snapshot", GONE_MAX, || {
            let outcome = a.lanyard(&["archive", "snapshot"]);
            if outcome.code == 0 { Ok(()) } else { Err(outcome.to_string()) }
        });
        restic_agrees(&a, &secret, &root, &format!("round {round}"));
        let half = host.sh(&format!("find '{}' -name '*-tmp-*' | wc -l", at.display())).ok();
        assert_eq!(half.stdout.trim(), "0", "what was half written is gone");
    }
}

#[test]
fn a_folder_is_brought_back_to_yesterday_by_one_command() {
    let Some(library) = FAKETIME.into_iter().find(|path| Path::new(path).exists()) else {
        let _closed = writeln!(std::io::stderr(), "SKIPPED: archive: faketime is not installed");
        return;
    };
    let Some(lab) = Lab::open("archive-past") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("server"), h2.node("laptop"));
    // Yesterday.
    a.under =
        ["env", &format!("LD_PRELOAD={library}"), "FAKETIME=-1d", "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"]
            .map(str::to_owned)
            .into();
    let root = a.mkdir("Shared");
    for (name, text) in [("report", "yesterday's report"), ("plans/office", "walls"), ("plans/garden", "trees")] {
        write(root.join(name), text);
    }
    tree::big_file(&root.join("film"), 5 << 20, 3);
    fs::set_permissions(root.join("report"), fs::Permissions::from_mode(0o640)).expect("a mode");
    std::os::unix::fs::symlink("plans/office", root.join("current")).expect("a link");
    tree::garnish(&root);
    by_hand(&a, "");
    a.up(&["Shared"]);
    a.lanyard(&["coordinator", "allow", "server"]).ok();
    snapshot(&a);
    let yesterday = h1.sh("date -u -d '-1 day +2 seconds' +%Y-%m-%dT%H:%M:%SZ").ok().stdout.trim().to_owned();
    let then = tree::snapshot(&root);
    std::thread::sleep(Duration::from_secs(3));
    a.stop();
    a.under.clear();

    // Today everything is saved over, and partly thrown away: nobody but the archive has what was.
    a.up(&[]);
    b.up(&[]);
    a.admit(&b, &["--into", &b.path("In").display().to_string()]);
    write(root.join("report"), "today's report");
    write(root.join("plans/office"), "other walls");
    fs::remove_file(root.join("plans/garden")).expect("removed");
    tree::big_file(&root.join("film"), 5 << 20, 4);
    write(root.join("today"), "not there yesterday");
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    let theirs = b.path("In/Shared");
    eventually("it is everywhere", CONVERGE_MAX, || tree::same(&root, &theirs));

    let elsewhere = a.path("elsewhere");
    a.lanyard(&["restore", "Shared", "--at", &yesterday, "--to", &elsewhere.display().to_string()]).ok();
    let differs = tree::diff(&then, &tree::snapshot(&elsewhere));
    assert!(differs.is_empty(), "elsewhere: {differs:?}");

    let said = a.lanyard(&["restore", "Shared", "--at", &yesterday, "--json"]).ok().json();
    assert!(said["archived"].as_u64() >= Some(4) && said["archived_at"].is_string(), "{said}");
    let differs = tree::diff(&then, &tree::snapshot(&root));
    assert!(differs.is_empty(), "in place: {differs:?}");
    // It is a change like any other: it is signed, and spreads.
    eventually("it is yesterday everywhere", CONVERGE_MAX, || tree::same(&root, &theirs));

    // A place that the history does not know, on a machine without an archive, is named as before.
    b.lanyard(&["restore", "Shared/nothing", "--at", &yesterday]).exits(1).names("nothing");
}

#[test]
fn a_damaged_archive_is_found_said_and_repaired_from_the_folder() {
    if !has_restic("archive damage") {
        return;
    }
    let Some(lab) = Lab::open("archive-damage") else { return };
    let host = lab.host();
    let mut a = host.node("server");
    let root = a.mkdir("Shared");
    tree::office(&root, 60, 9, tree::OFFICE);
    let (root, secret) = archived_at(&mut a, root);
    write(root.join("later"), "later");
    snapshot(&a);
    let at = repository(&a);
    let mut all = packs(&at);
    all.sort_by_key(|path| fs::metadata(path).map(|meta| meta.len()).unwrap_or(0));
    let largest = all.pop().expect("a pack");
    let file = fs::File::options().read(true).write(true).open(&largest).expect("a pack");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1000).expect("read");
    file.write_all_at(&[byte[0] ^ 0x40], 1000).expect("damaged");

    // That a disk has changed a bit is seen only by reading it.
    a.lanyard(&["archive", "check"]).ok();
    let found = a.lanyard(&["archive", "check", "--read-data"]).exits(1);
    assert!(found.stdout.contains(largest.file_name().and_then(|name| name.to_str()).expect("a name")), "{found}");
    let status = a.json(&["archive", "status"]);
    assert!(status["problem"].as_str().is_some_and(|problem| problem.contains("damaged")), "{status}");
    assert!(a.lanyard(&["status"]).stdout.contains("damaged"), "it is an alert");

    let repaired = a.lanyard(&["archive", "check", "--repair", "--json"]).ok().json();
    assert_eq!((&repaired["repaired"], &repaired["lost"]), (&true.into(), &false.into()), "{repaired}");
    a.lanyard(&["archive", "check", "--read-data"]).ok();
    restic_agrees(&a, &secret, &root, "repaired");
    assert!(a.json(&["archive", "status"])["problem"].is_null());

    // What is nowhere any more is lost, and older snapshots say so.
    let before = packs(&at);
    write(root.join("only once"), tree::Dice(4).bytes(300_000));
    snapshot(&a);
    let fresh = packs(&at).into_iter().filter(|pack| !before.contains(pack));
    let gone = fresh.max_by_key(|pack| fs::metadata(pack).map_or(0, |meta| meta.len())).expect("a fresh pack");
    write(root.join("only once"), "something else");
    snapshot(&a);
    fs::remove_file(gone).expect("removed");
    a.lanyard(&["archive", "check"]).exits(1);
    let repaired = a.lanyard(&["archive", "check", "--repair", "--json"]).ok().json();
    assert_eq!((&repaired["repaired"], &repaired["lost"]), (&true.into(), &true.into()), "{repaired}");
    restic_agrees(&a, &secret, &root, "again");
}

/// As [`archived`], with a folder that has its files already.
#[track_caller]
fn archived_at(node: &mut Node<'_>, root: PathBuf) -> (PathBuf, String) {
    let (same, secret) = archived(node);
    assert_eq!(same, root);
    (root, secret)
}

#[test]
fn what_cannot_be_read_or_written_is_said_and_never_taken_for_whole() {
    let Some(lab) = Lab::open("archive-bad") else { return };
    let host = lab.host();
    let mut a = host.node("server");
    a.ordinary = true;
    let disk = lab.dir().join("small");
    fs::create_dir_all(&disk).expect("a directory");
    host.sh(&format!("mount -t tmpfs -o size=6m none '{}'", disk.display())).ok();
    let root = a.mkdir("Shared");
    write(root.join("open"), "open");
    write(root.join("secret"), "secret");
    by_hand(&a, &format!("path = \"{}/archive\"\n", disk.display()));
    let (root, _) = archived_at(&mut a, root);

    // A file that nobody can read.
    fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o000)).expect("locked");
    let said = a.lanyard(&["archive", "snapshot"]).exits(1);
    assert!(said.stdout.contains("secret: ") && said.stderr.contains("not in the snapshot"), "{said}");
    let status = a.json(&["archive", "status"]);
    assert_eq!(status["folders"][0]["incomplete"], true, "{status}");
    assert!(a.lanyard(&["status"]).stdout.contains("not whole"), "it is an alert");
    fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o600)).expect("unlocked");
    snapshot(&a);
    let status = a.json(&["archive", "status"]);
    assert_eq!(status["folders"][0]["incomplete"], false, "{status}");

    // A full disk.
    tree::big_file(&root.join("film"), 12 << 20, 5);
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    a.lanyard(&["archive", "snapshot"]).exits(1).names("disk is full");
    let status = a.json(&["archive", "status"]);
    assert!(status["problem"].as_str().is_some_and(|problem| problem.contains("full")), "{status}");
    a.lanyard(&["status"]).ok();
    host.sh(&format!("mount -o remount,size=64m '{}'", disk.display())).ok();
    snapshot(&a);
    assert!(a.json(&["archive", "status"])["problem"].is_null());
    a.lanyard(&["archive", "check", "--read-data"]).ok();

    // Another tool works on it: a fresh lock of restic's.
    let locks = disk.join("archive/locks");
    host.sh(&format!("touch '{}/{}'", locks.display(), "5".repeat(64))).ok();
    a.lanyard(&["archive", "prune"]).exits(1).names("in use by another tool");
    a.lanyard(&["archive", "snapshot"]).exits(1).names("in use by another tool");
    host.sh(&format!("touch -d '-1 hour' '{}/{}'", locks.display(), "5".repeat(64))).ok();
    a.lanyard(&["archive", "prune"]).ok();

    // A key that is not the one that made it, none at all, and a disk that is away.
    let key = a.home().join("state/archive/key");
    let right = fs::read(&key).expect("a key");
    let other = String::from_utf8(right.clone()).expect("text").replacen("\"k\":\"", "\"k\":\"AAAA", 1);
    fs::write(&key, other).expect("written");
    a.lanyard(&["archive", "snapshot"]).exits(1);
    fs::remove_file(&key).expect("removed");
    a.lanyard(&["archive", "snapshot"]).exits(1).names("key of the archive");
    fs::write(&key, &right).expect("written");
    a.lanyard(&["archive", "snapshot"]).exits(1).names("others can read it");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("private");
    a.lanyard(&["archive", "snapshot"]).ok();
    host.sh(&format!("mount -t tmpfs none '{}'", disk.display())).ok();
    a.lanyard(&["archive", "snapshot"]).exits(1).names("no archive in");
    host.sh(&format!("umount '{}'", disk.display())).ok();
    a.lanyard(&["archive", "snapshot"]).ok();
}
