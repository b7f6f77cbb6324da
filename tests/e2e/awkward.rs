//! Awkward files: names that other systems cannot have, trees that are deep or wide, what cannot be read or written, what
//! is no file at all. What can be carried is carried byte for byte; the rest is said, waits, and holds up nothing else.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Host, Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree;

/// Two nodes with one folder.
struct Pair<'lab> {
    a: Node<'lab>,
    b: Node<'lab>,
    here: PathBuf,
    there: PathBuf,
}

impl<'lab> Pair<'lab> {
    /// Without root's right to read what a mode forbids, where `ordinary`.
    fn open(hosts: &'lab (Host<'lab>, Host<'lab>), ordinary: bool) -> Self {
        let (mut a, mut b) = (hosts.0.node("front-desk"), hosts.1.node("laptop"));
        (a.ordinary, b.ordinary) = (ordinary, ordinary);
        let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
        a.up(&["Shared"]);
        b.up(&["Shared"]);
        a.admit(&b, &[]);
        fs::write(here.join("first"), "first").expect("a file");
        let pair = Self { a, b, here, there };
        pair.arrives("first", "first");
        pair
    }

    /// Both have the same tree.
    #[track_caller]
    fn same(&self, what: &str) {
        eventually(what, CONVERGE_MAX, || tree::same(&self.here, &self.there));
    }

    #[track_caller]
    fn arrives(&self, name: &str, text: &str) {
        eventually(&format!("{name} arrives"), CONVERGE_MAX, || is(&self.there.join(name), text));
    }
}

fn hosts(lab: &Lab) -> (Host<'_>, Host<'_>) {
    (lab.host(), lab.host())
}

fn is(path: &Path, wanted: &str) -> Result<(), String> {
    let found = fs::read_to_string(path).map_err(|error| error.to_string());
    if found.as_deref() == Ok(wanted) { Ok(()) } else { Err(format!("{} is {found:?}", path.display())) }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// What `status` says of a folder's names, by kind.
fn notice(node: &Node<'_>, kind: &str) -> Option<Value> {
    let folder = node.folder("Shared");
    folder["notices"].as_array()?.iter().find(|notice| notice["kind"] == kind).cloned()
}

#[track_caller]
fn says(node: &Node<'_>, kind: &str, paths: &[&str]) {
    eventually(&format!("{} says {kind}", node.name), CONVERGE_MAX, || {
        let said = notice(node, kind).unwrap_or(Value::Null);
        let told = |path: &&&str| said["paths"].as_array().is_some_and(|all| all.iter().any(|one| one == **path));
        match paths.iter().find(|path| !told(path)) {
            None if !said.is_null() => Ok(()),
            missing => Err(format!("{missing:?} is not in {said}")),
        }
    });
}

#[track_caller]
fn says_no_more(node: &Node<'_>, kind: &str) {
    eventually(&format!("{} says {kind} no more", node.name), CONVERGE_MAX, || match notice(node, kind) {
        None => Ok(()),
        Some(said) => Err(said.to_string()),
    });
}

#[track_caller]
fn alerts(node: &Node<'_>, words: &str) {
    eventually(&format!("{} alerts of {words}", node.name), CONVERGE_MAX, || {
        let status = node.json(&["status"]);
        let told = status["alerts"].to_string().contains(words);
        if told { Ok(()) } else { Err(status["alerts"].to_string()) }
    });
}

#[test]
fn every_name_that_this_system_has_travels_byte_for_byte() {
    let Some(lab) = Lab::open("awkward names") else { return };
    let hosts = hosts(&lab);
    let pair = Pair::open(&hosts, false);
    let long = "ü".repeat(127);
    let names: [&[u8]; 14] = [
        b"CON",
        b"aux.txt",
        b"nul",
        b"ends with a dot.",
        b"ends with a blank ",
        b"a:b",
        b"what?*<>|\"\\",
        b"new\nline",
        b"\x01\x1b[31mred\x7f",
        b"latin \xe9\xff",
        b"-rf",
        b"~",
        b" ",
        long.as_bytes(),
    ];
    for name in names {
        fs::write(pair.here.join(OsStr::from_bytes(name)), name).expect("a file");
        let dir = pair.there.join("dirs").join(OsStr::from_bytes(name));
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("inside"), name).expect("a file");
    }
    pair.same("all names are on both");

    // Two edits of one file with the longest name: the copy's name is shortened, not refused.
    let hosts_apart = (&hosts.0, &hosts.1);
    lab.partition(hosts_apart.0, hosts_apart.1);
    fs::write(pair.here.join(&long), "edited here").expect("a file");
    fs::write(pair.there.join(&long), "edited there").expect("a file");
    for node in [&pair.a, &pair.b] {
        // Apart there is nobody to wait for: a short bound is enough for the edit to be signed.
        let _ = node.lanyard(&["wait", "--timeout", "3s"]);
    }
    lab.heal();
    eventually("both contents are on both", CONVERGE_MAX, || {
        let texts = |root: &Path| {
            let mut texts: Vec<String> = fs::read_dir(root)
                .expect("a directory")
                .flatten()
                .filter_map(|at| fs::read_to_string(at.path()).ok())
                .collect();
            texts.retain(|text| text.starts_with("edited"));
            texts.sort();
            texts
        };
        let both = [texts(&pair.here), texts(&pair.there)];
        if both.iter().all(|texts| *texts == ["edited here", "edited there"]) {
            Ok(())
        } else {
            Err(format!("{both:?}"))
        }
    });
    pair.same("also the conflict copy");

    // Shown so that they cannot steer a terminal, and as JSON that is read back to the same bytes.
    let text = pair.a.lanyard(&["conflicts", "Shared"]).ok().stdout;
    assert!(text.contains("conflict") && !text.contains('\x1b'), "{text}");
    fs::write(pair.here.join(OsStr::from_bytes(b"\x01\x1b[31mred\x7f")), "again").expect("a file");
    pair.same("the edit arrives");
    let versions = pair.b.lanyard(&["versions", "Shared", "--json"]).ok().stdout;
    assert!(versions.contains(r"\\x01\\x1b[31mred\\x7f"), "{versions}");
    let shown = pair.b.lanyard(&["versions", "Shared"]).ok().stdout;
    assert!(!shown.contains('\x1b') && shown.contains("[31mred"), "{shown}");
}

#[test]
fn a_tree_of_300_levels_is_made_moved_and_deleted_from_either_side() {
    let Some(lab) = Lab::open("awkward deep") else { return };
    let hosts = hosts(&lab);
    let pair = Pair::open(&hosts, false);
    let deep = |root: &Path| (0..299).fold(root.join("deep"), |dir, _| dir.join("d"));
    fs::create_dir_all(deep(&pair.here)).expect("directories");
    fs::write(deep(&pair.here).join("bottom"), "deep down").expect("a file");
    eventually("the bottom arrives", CONVERGE_MAX, || is(&deep(&pair.there).join("bottom"), "deep down"));

    fs::write(deep(&pair.there).join("bottom"), "answered").expect("a file");
    eventually("it is answered", CONVERGE_MAX, || is(&deep(&pair.here).join("bottom"), "answered"));

    fs::rename(pair.there.join("deep/d"), pair.there.join("moved")).expect("a move");
    pair.same("the move arrives");
    assert!(pair.here.join("moved/d/d").is_dir() && !pair.here.join("deep/d").exists());

    fs::remove_dir_all(pair.here.join("moved")).expect("a deletion");
    eventually("the deletion arrives", CONVERGE_MAX, || {
        if pair.there.join("moved").exists() {
            Err("still there".to_owned())
        } else {
            tree::same(&pair.here, &pair.there)
        }
    });
}

#[test]
fn what_cannot_be_read_is_said_once_and_read_by_itself_when_it_can() {
    let Some(lab) = Lab::open("awkward unreadable") else { return };
    let hosts = hosts(&lab);
    let (mut a, mut b) = (hosts.0.node("front-desk"), hosts.1.node("laptop"));
    (a.ordinary, b.ordinary) = (true, true);
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    fs::create_dir_all(here.join("closed/below")).expect("directories");
    fs::create_dir_all(here.join("open/below")).expect("directories");
    fs::write(here.join("closed/below/inside"), "inside").expect("a file");
    fs::write(here.join("closed at start"), "secret").expect("a file");
    fs::create_dir(here.join("shut")).expect("a directory");
    fs::write(here.join("shut/unseen"), "unseen").expect("a file");
    chmod(&here.join("closed at start"), 0o000);
    chmod(&here.join("shut"), 0o000);
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("what can be read arrives", CONVERGE_MAX, || is(&there.join("closed/below/inside"), "inside"));
    says(&a, "unreadable", &["closed at start"]);
    says(&a, "closed", &["shut"]);
    alerts(&a, "closed at start (permission denied)");
    let log = a.log_text();
    assert_eq!(log.matches("closed at start (permission denied)").count(), 1, "{log}");
    assert!(!log.contains("found by looking now and then"), "one closed directory leaves the others watched: {log}");
    fs::write(here.join("open/below/new"), "new").expect("a file");
    eventually("the rest is watched", Duration::from_secs(15), || is(&there.join("open/below/new"), "new"));

    // A directory that is closed while the node runs: nothing in it counts as deleted, here or after a restart.
    chmod(&here.join("closed"), 0o000);
    says(&a, "closed", &["shut"]);
    a.lanyard(&["wait", "--timeout", "30s"]).ok();
    says(&a, "closed", &["closed", "shut"]);
    a.stop();
    a.up(&[]);
    says(&a, "closed", &["closed", "shut"]);
    a.lanyard(&["wait", "--timeout", "30s"]).ok();
    b.lanyard(&["wait", "--timeout", "30s"]).ok();
    chmod(&there.join("closed"), 0o755);
    is(&there.join("closed/below/inside"), "inside").expect("what cannot be seen is not deleted");

    for path in ["closed at start", "shut", "closed"] {
        chmod(&here.join(path), 0o755);
    }
    eventually("it is read now", CONVERGE_MAX, || is(&there.join("closed at start"), "secret"));
    eventually("it is looked into now", CONVERGE_MAX, || is(&there.join("shut/unseen"), "unseen"));
    says_no_more(&a, "closed");
    says_no_more(&a, "unreadable");
    fs::write(here.join("shut/later"), "later").expect("a file");
    eventually("and watched", Duration::from_secs(15), || is(&there.join("shut/later"), "later"));
    let status = a.json(&["status"]);
    assert!(!status["alerts"].to_string().contains("cannot be"), "{status}");
}

#[test]
fn changes_in_a_read_only_directory_are_carried_out_and_what_cannot_be_waits_alone() {
    let Some(lab) = Lab::open("awkward read-only") else { return };
    let hosts = hosts(&lab);
    let mut pair = Pair::open(&hosts, true);
    fs::create_dir_all(pair.here.join("fixed/in it")).expect("directories");
    for name in ["fixed/replaced", "fixed/deleted", "fixed/in it/replaced"] {
        fs::write(pair.here.join(name), "one").expect("a file");
    }
    for dir in ["fixed/in it", "fixed"] {
        chmod(&pair.here.join(dir), 0o555);
    }
    pair.same("a read-only directory arrives as it is");
    for dir in ["fixed", "fixed/in it"] {
        chmod(&pair.here.join(dir), 0o755);
    }
    fs::write(pair.here.join("fixed/replaced"), "two").expect("a file");
    fs::write(pair.here.join("fixed/in it/replaced"), "two").expect("a file");
    fs::remove_file(pair.here.join("fixed/deleted")).expect("a file");
    fs::write(pair.here.join("fixed/new"), "new").expect("a file");
    for dir in ["fixed/in it", "fixed"] {
        chmod(&pair.here.join(dir), 0o555);
    }
    pair.same("changes in it arrive");
    assert_eq!(fs::metadata(pair.there.join("fixed")).expect("there").mode() & 0o777, 0o555);

    // A directory that belongs to somebody else cannot be opened for the moment.
    fs::create_dir(pair.here.join("foreign")).expect("a directory");
    pair.same("a directory");
    pair.b.stop();
    let shown = pair.there.display().to_string();
    hosts.1.sh(&format!("mount -t tmpfs -o mode=0555 none '{shown}/foreign' && umount '{shown}/foreign'")).ok();
    hosts.1.sh(&format!("chattr +i '{shown}/foreign'"));
    let fixed = fs::write(pair.there.join("foreign/x"), "").is_err();
    pair.b.up(&[]);
    if fixed {
        fs::write(pair.here.join("foreign/waits"), "waits").expect("a file");
        says(&pair.b, "unwritable", &["foreign/waits"]);
        alerts(&pair.b, "foreign/waits");
        fs::write(pair.here.join("goes on"), "goes on").expect("a file");
        pair.arrives("goes on", "goes on");
        assert_eq!(pair.b.folder("Shared")["state"], "held");
        hosts.1.sh(&format!("chattr -i '{shown}/foreign'")).ok();
    } else {
        let why = "a directory cannot be made unchangeable here (chattr +i): that its entries wait alone was not tried";
        let _closed = writeln!(std::io::stderr(), "SKIPPED: awkward read-only: {why}");
        fs::write(pair.here.join("foreign/waits"), "waits").expect("a file");
    }
    pair.same("it is carried out by itself");
    says_no_more(&pair.b, "unwritable");
}

#[test]
fn pipes_and_sockets_are_said_and_never_block() {
    let Some(lab) = Lab::open("awkward special") else { return };
    let hosts = hosts(&lab);
    let pair = Pair::open(&hosts, false);
    let shown = pair.here.display().to_string();
    hosts.0.sh(&format!("mkfifo '{shown}/pipe' && mkdir '{shown}/d' && mkfifo '{shown}/d/pipe'")).ok();
    let _socket = std::os::unix::net::UnixListener::bind(pair.here.join("socket")).expect("a socket");
    says(&pair.a, "special", &["d/pipe", "pipe", "socket"]);
    fs::write(pair.here.join("after"), "after").expect("a file");
    pair.arrives("after", "after");
    assert!(!pair.there.join("pipe").exists() && !pair.there.join("d/pipe").exists());

    // A pipe in the place of a file: the file is gone, the pipe is not opened.
    fs::remove_file(pair.here.join("after")).expect("a file");
    hosts.0.sh(&format!("mkfifo '{shown}/after'")).ok();
    eventually("the file goes", CONVERGE_MAX, || {
        if pair.there.join("after").exists() { Err("still there".to_owned()) } else { Ok(()) }
    });
    // A pipe on the receiver's side is in the way of a file: it is not replaced, and said.
    hosts.1.sh(&format!("mkfifo '{}/taken'", pair.there.display())).ok();
    fs::write(pair.here.join("taken"), "taken").expect("a file");
    fs::write(pair.here.join("beside"), "beside").expect("a file");
    pair.arrives("beside", "beside");
    says(&pair.b, "special", &["taken"]);
    fs::remove_file(pair.there.join("taken")).expect("a pipe");
    pair.arrives("taken", "taken");
    for path in ["pipe", "d/pipe", "socket", "after"] {
        fs::remove_file(pair.here.join(path)).expect("a pipe");
    }
    says_no_more(&pair.a, "special");
}

#[test]
fn an_edit_by_one_of_two_hard_links_is_seen_at_both() {
    let Some(lab) = Lab::open("awkward hard links") else { return };
    let hosts = hosts(&lab);
    let pair = Pair::open(&hosts, false);
    fs::write(pair.here.join("one"), "first").expect("a file");
    fs::hard_link(pair.here.join("one"), pair.here.join("two")).expect("a link");
    pair.same("both names arrive");
    fs::write(pair.here.join("one"), "second").expect("a file");
    pair.arrives("one", "second");
    // Only one of the names has an event of its own: a look at everything finds the other.
    pair.a.lanyard(&["wait", "--timeout", "60s"]).ok();
    pair.arrives("two", "second");
    pair.same("the edit is at both");
}

#[test]
fn twins_live_side_by_side_and_are_noticed_and_no_way_around_a_rule() {
    let Some(lab) = Lab::open("awkward twins") else { return };
    let hosts = hosts(&lab);
    let pair = Pair::open(&hosts, false);
    fs::create_dir(pair.here.join("Books")).expect("a directory");
    fs::write(pair.here.join("Books/year"), "secret").expect("a file");
    pair.same("the books");
    pair.a.lanyard(&["grant", "everyone", "Shared:Books", "read"]).ok();
    pair.a.lanyard(&["grant", "front-desk", "Shared:Books", "write"]).ok();
    let (nfc, nfd) = ("\u{fc}ber", "u\u{308}ber");
    for (name, text) in [("Datei.txt", "one"), ("datei.TXT", "two"), (nfc, "three"), (nfd, "four"), ("aux.txt", "five")]
    {
        fs::write(pair.here.join(name), text).expect("a file");
    }
    pair.same("each has its own content");
    for node in [&pair.a, &pair.b] {
        says(node, "clash", &["Datei.txt", "datei.TXT", nfc, nfd]);
        says(node, "foreign", &["aux.txt"]);
    }
    let text = pair.b.lanyard(&["folders"]).ok().stdout;
    assert!(text.contains("4 names differ from others only in case or form of letters: Datei.txt"), "{text}");
    for name in ["datei.TXT", nfd, "aux.txt"] {
        fs::remove_file(pair.there.join(name)).expect("a file");
    }
    for node in [&pair.a, &pair.b] {
        says_no_more(node, "clash");
        says_no_more(node, "foreign");
    }

    // A twin of a name with a rule is under that rule.
    fs::create_dir(pair.there.join("bOOKS")).expect("a directory");
    fs::write(pair.there.join("bOOKS/year"), "forged").expect("a file");
    eventually("it stays there", CONVERGE_MAX, || match pair.b.folder("Shared")["local_only"].as_u64() {
        Some(2) => Ok(()),
        other => Err(format!("{other:?} local changes")),
    });
    fs::write(pair.there.join("after"), "after").expect("a file");
    eventually("the rest goes on", CONVERGE_MAX, || is(&pair.here.join("after"), "after"));
    assert!(!pair.here.join("bOOKS").exists());
}

#[test]
fn a_file_and_a_directory_change_places() {
    let Some(lab) = Lab::open("awkward places") else { return };
    let hosts = hosts(&lab);
    let pair = Pair::open(&hosts, false);
    // As version control leaves it: objects that are read-only, empty files, deep names.
    let git = pair.here.join("project/.git");
    fs::create_dir_all(git.join("objects/ab")).expect("directories");
    fs::create_dir_all(git.join("refs/heads")).expect("directories");
    fs::write(git.join("HEAD"), "ref: refs/heads/main\n").expect("a file");
    fs::write(git.join("index.lock"), "").expect("a file");
    fs::write(git.join("objects/ab/cdef"), "object").expect("a file");
    chmod(&git.join("objects/ab/cdef"), 0o444);
    symlink("/etc/hostname", pair.here.join("project/outside")).expect("a link");
    pair.same("the project arrives");
    fs::rename(git.join("index.lock"), git.join("index")).expect("a rename");
    fs::remove_file(git.join("HEAD")).expect("a file");
    fs::create_dir(git.join("HEAD")).expect("a directory");
    fs::write(git.join("HEAD/now a directory"), "x").expect("a file");
    fs::remove_dir_all(git.join("refs")).expect("a directory");
    fs::write(git.join("refs"), "now a file").expect("a file");
    pair.same("a file became a directory, a directory a file");
    fs::remove_dir_all(git.join("HEAD")).expect("a directory");
    fs::write(git.join("HEAD"), "back").expect("a file");
    fs::remove_file(git.join("refs")).expect("a file");
    fs::create_dir(git.join("refs")).expect("a directory");
    pair.same("and back");
    assert_eq!(fs::read_link(pair.there.join("project/outside")).expect("a link"), Path::new("/etc/hostname"));
}

/// Files in the wide directory, unless `LANYARD_WIDE` says how many.
const WIDE: usize = 10_000;
/// Above that memory grows with the number of names (a guess: the index cache, a batch and a listing many times over).
const WIDE_KIB_MAX: u64 = 400 * 1024;

#[test]
fn a_wide_directory_is_shared_and_a_rename_in_it_noticed() {
    let Some(lab) = Lab::open("awkward wide") else { return };
    let hosts = hosts(&lab);
    let pair = Pair::open(&hosts, false);
    let count = std::env::var("LANYARD_WIDE").ok().and_then(|count| count.parse().ok()).unwrap_or(WIDE);
    let bound = CONVERGE_MAX * 4 + Duration::from_millis(20) * count as u32;
    let made = lab.dir().join("made");
    fs::create_dir(&made).expect("a directory");
    for number in 0..count {
        fs::write(made.join(format!("{number:06}.txt")), format!("{number}")).expect("a file");
    }
    let copied = {
        let start = std::time::Instant::now();
        let copy = std::process::Command::new("cp").arg("-a").arg(&made).arg(lab.dir().join("copy")).status();
        assert!(copy.is_ok_and(|status| status.success()), "cp -a failed");
        start.elapsed()
    };
    let start = std::time::Instant::now();
    fs::rename(&made, pair.here.join("wide")).expect("a move");
    let there = pair.there.join("wide");
    eventually("all files arrive", bound, || {
        let arrived = fs::read_dir(&there).map(Iterator::count).unwrap_or(0);
        if arrived == count { Ok(()) } else { Err(format!("{arrived} of {count}")) }
    });
    let shared = start.elapsed();
    let start = std::time::Instant::now();
    fs::rename(pair.here.join("wide/000007.txt"), pair.here.join("wide/renamed.txt")).expect("a rename");
    eventually("the rename arrives", bound, || {
        is(&there.join("renamed.txt"), "7")?;
        if there.join("000007.txt").exists() { Err("the old name is there".to_owned()) } else { Ok(()) }
    });
    let renamed = start.elapsed();
    let start = std::time::Instant::now();
    fs::remove_dir_all(pair.here.join("wide")).expect("a deletion");
    let kib = [pair.a.resident_kib(), pair.b.resident_kib()];
    // Held by the guard where it is on: there is nothing to wait for but that it is heard of.
    eventually("the deletion is heard of", bound, || {
        let folder = pair.b.folder("Shared");
        let gone = !there.exists() || folder["state"] == "held";
        if gone { Ok(()) } else { Err(folder.to_string()) }
    });
    println!(
        "{count} files in one directory: shared in {shared:.1?} (cp -a {copied:.1?}), a rename in it {renamed:.1?}, its \
         deletion heard of {:.1?}; resident {} and {} MiB",
        start.elapsed(),
        kib[0] / 1024,
        kib[1] / 1024
    );
    assert!(kib.iter().all(|kib| *kib < WIDE_KIB_MAX), "{kib:?} KiB resident");
}
