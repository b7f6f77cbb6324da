//! Extended attributes and owners: carried between those who opted in, kept by those who did not, never a conflict by themselves.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::XattrFlags;
use serde_json::Value;

use crate::lab::{Host, Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).expect("an attribute");
}

fn remove(path: &Path, name: &str) {
    rustix::fs::removexattr(path, name).expect("an attribute");
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 65_536];
    let length = rustix::fs::getxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn has(path: &Path, name: &str, wanted: Option<&[u8]>) -> Result<(), String> {
    let found = attribute(path, name);
    if found.as_deref() == wanted { Ok(()) } else { Err(format!("{name} of {} is {found:?}", path.display())) }
}

fn is(path: &Path, wanted: &str) -> Result<(), String> {
    let found = fs::read_to_string(path).map_err(|error| error.to_string())?;
    if found == wanted { Ok(()) } else { Err(format!("{} is {found:?}", path.display())) }
}

fn opt_in(node: &Node<'_>, text: &str) {
    let home = node.home();
    let home = if home.starts_with(node.host.lab().dir()) { home } else { node.host.seen(&home) };
    fs::create_dir_all(&home).expect("a home");
    fs::write(home.join("config.toml"), format!("name = \"{}\"\n[folder.Shared]\n{text}\n", node.name))
        .expect("a configuration");
}

/// Whether files of the lab can have attributes; else the test is skipped aloud.
fn can(lab: &Lab, test: &str) -> bool {
    let probe = lab.dir().join("probe");
    fs::write(&probe, "probe").expect("a file");
    let can = rustix::fs::setxattr(&probe, "user.probe", b"1", XattrFlags::empty()).is_ok();
    if !can {
        writeln!(std::io::stderr(), "SKIPPED: {test}: this file system has no attributes of users").expect("stderr");
    }
    can
}

fn in_step(nodes: &[&Node<'_>]) {
    for node in nodes {
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
    }
}

fn notice(node: &Node<'_>, kind: &str) -> Option<Value> {
    let folder = node.folder("Shared");
    folder["notices"].as_array()?.iter().find(|notice| notice["kind"] == kind).cloned()
}

#[track_caller]
fn says(node: &Node<'_>, kind: &str, path: &str) {
    eventually(&format!("{} says {kind}", node.name), CONVERGE_MAX, || {
        let said = notice(node, kind).unwrap_or(Value::Null);
        let told = said["paths"].as_array().is_some_and(|all| all.iter().any(|one| one == path));
        if told { Ok(()) } else { Err(format!("{path} is not in {said}; {}", node.folder("Shared"))) }
    });
}

fn no_copies(dirs: &[&Path]) {
    for dir in dirs {
        let names = fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.file_name());
        let copies: Vec<_> = names.filter(|name| name.to_string_lossy().contains("(conflict ")).collect();
        assert!(copies.is_empty(), "{}: {copies:?}", dir.display());
    }
}

#[test]
fn attributes_travel_between_those_who_opted_in_and_survive_those_who_did_not() {
    let Some(lab) = Lab::open("attributes") else { return };
    if !can(&lab, "attributes") {
        return;
    }
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b, mut c) = (h1.node("front-desk"), h2.node("laptop"), h3.node("workshop"));
    let [at_a, at_b, at_c] = [&a, &b, &c].map(|node| node.mkdir("Shared"));
    fs::write(at_a.join("plan"), "plan").expect("a file");
    set(&at_a.join("plan"), "user.tag", b"red");
    // `workshop` does not carry them, and is the only way between the two that do.
    opt_in(&a, "attributes = true");
    opt_in(&b, "attributes = true");
    for (node, paths) in [(&mut a, ["Shared"].as_slice()), (&mut b, &["Shared"]), (&mut c, &["Shared"])] {
        node.start(paths);
        node.wait_until_up();
    }
    a.admit(&c, &[]);
    a.admit(&b, &[]);
    eventually("all know each other", CONVERGE_MAX, || {
        a.sees(&[&b, &c]).and_then(|()| b.sees(&[&a, &c])).and_then(|()| c.sees(&[&a, &b]))
    });
    lab.partition(&h1, &h2);
    let [file_a, file_b, file_c] = [&at_a, &at_b, &at_c].map(|dir| dir.join("plan"));
    eventually("the tag arrives", CONVERGE_MAX, || has(&file_b, "user.tag", Some(b"red")));
    eventually("the content arrives", CONVERGE_MAX, || is(&file_c, "plan"));
    has(&file_c, "user.tag", None).expect("who did not opt in has none");

    // Only attributes change: one gets another value, one comes, one goes.
    let inode = fs::metadata(&file_a).expect("a file").ino();
    set(&file_b, "user.tag", b"blue");
    set(&file_b, "user.more", &[0, 255]);
    eventually("the other tag arrives", CONVERGE_MAX, || has(&file_a, "user.tag", Some(b"blue")));
    eventually("and the second", CONVERGE_MAX, || has(&file_a, "user.more", Some(&[0, 255])));
    assert_eq!(fs::metadata(&file_a).expect("a file").ino(), inode, "the content was not written again");
    remove(&file_a, "user.more");
    eventually("it goes everywhere", CONVERGE_MAX, || has(&file_b, "user.more", None));

    // Also while one is off, and on a file that is for reading only.
    in_step(&[&a, &c, &b]);
    b.stop();
    set(&file_a, "user.tag", b"green");
    fs::write(at_a.join("fixed"), "fixed").expect("a file");
    set(&at_a.join("fixed"), "user.tag", b"1");
    let read_only = fs::Permissions::from_mode(0o444);
    fs::set_permissions(at_a.join("fixed"), read_only).expect("a mode");
    b.up(&[]);
    eventually("what changed meanwhile", CONVERGE_MAX, || has(&file_b, "user.tag", Some(b"green")));
    eventually("on a file for reading only", CONVERGE_MAX, || has(&at_b.join("fixed"), "user.tag", Some(b"1")));

    // Who keeps none edits, saves by rename and renames: nobody loses them.
    eventually("in the middle, too", CONVERGE_MAX, || is(&at_c.join("fixed"), "fixed"));
    in_step(&[&a, &c, &b]);
    fs::write(&file_c, "changed").expect("a file");
    fs::write(at_c.join("fixed.new"), "changed, too").expect("a file");
    fs::rename(at_c.join("fixed.new"), at_c.join("fixed")).expect("a save");
    for dir in [&at_a, &at_b] {
        eventually("the edit arrives with the tag", CONVERGE_MAX, || {
            is(&dir.join("plan"), "changed")?;
            has(&dir.join("plan"), "user.tag", Some(b"green"))?;
            is(&dir.join("fixed"), "changed, too")?;
            has(&dir.join("fixed"), "user.tag", Some(b"1"))
        });
    }
    in_step(&[&a, &c, &b]);
    fs::rename(&file_c, at_c.join("moved")).expect("a rename");
    for dir in [&at_a, &at_b] {
        eventually("the renamed file has its tag", CONVERGE_MAX, || {
            is(&dir.join("moved"), "changed")?;
            has(&dir.join("moved"), "user.tag", Some(b"green"))
        });
    }
    in_step(&[&a, &c, &b]);
    no_copies(&[&at_a, &at_b, &at_c]);
    has(&at_c.join("moved"), "user.tag", None).expect("it has none still");

    // Opted in later: what the versions have is put, nothing is lost.
    c.stop();
    opt_in(&c, "attributes = true");
    c.up(&[]);
    eventually("the tag arrives late", CONVERGE_MAX, || has(&at_c.join("moved"), "user.tag", Some(b"green")));
    in_step(&[&c, &a, &b]);
    has(&at_a.join("moved"), "user.tag", Some(b"green")).expect("it stays");
    has(&at_b.join("moved"), "user.tag", Some(b"green")).expect("it stays");
}

#[test]
fn an_attribute_and_an_edit_on_two_sides_of_a_cut_end_in_one_file_with_both() {
    let Some(lab) = Lab::open("attributes cut") else { return };
    if !can(&lab, "attributes cut") {
        return;
    }
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("laptop"));
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    opt_in(&a, "attributes = true");
    for name in ["edited", "both tagged", "deleted"] {
        fs::write(here.join(name), "first").expect("a file");
    }
    a.start(&["Shared"]);
    a.wait_until_up();
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("all arrived", CONVERGE_MAX, || is(&there.join("deleted"), "first"));
    in_step(&[&a, &b]);
    b.stop();
    opt_in(&b, "attributes = true");
    b.up(&[]);
    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
    in_step(&[&a, &b]);

    lab.partition(&h1, &h2);
    for (at, text) in [1, 2].into_iter().zip(["second", "third"]) {
        // More than once on each side.
        fs::write(there.join("edited"), text).expect("a file");
        set(&here.join("edited"), "user.tag", format!("a{at}").as_bytes());
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    set(&there.join("both tagged"), "user.tag", b"older");
    std::thread::sleep(std::time::Duration::from_secs(1));
    set(&here.join("both tagged"), "user.tag", b"newer");
    fs::remove_file(there.join("deleted")).expect("a file");
    set(&here.join("deleted"), "user.tag", b"kept");
    std::thread::sleep(std::time::Duration::from_secs(2));
    lab.heal();

    for dir in [&here, &there] {
        eventually("one file with both", CONVERGE_MAX, || {
            is(&dir.join("edited"), "third")?;
            has(&dir.join("edited"), "user.tag", Some(b"a2"))?;
            is(&dir.join("both tagged"), "first")?;
            has(&dir.join("both tagged"), "user.tag", Some(b"newer"))?;
            is(&dir.join("deleted"), "first")?;
            has(&dir.join("deleted"), "user.tag", Some(b"kept"))
        });
    }
    in_step(&[&a, &b]);
    no_copies(&[&here, &there]);
    assert!(a.json(&["conflicts"]).as_array().is_none_or(Vec::is_empty), "no conflict");

    // The next edit has seen all of it.
    fs::write(here.join("edited"), "fourth").expect("a file");
    eventually("the next edit arrives", CONVERGE_MAX, || is(&there.join("edited"), "fourth"));
    in_step(&[&a, &b]);
    no_copies(&[&here, &there]);
}

#[test]
fn what_is_too_much_for_an_entry_or_a_file_system_is_said_and_the_file_travels() {
    let Some(lab) = Lab::open("attribute bounds") else { return };
    if !can(&lab, "attribute bounds") {
        return;
    }
    let (h1, h2) = (lab.host(), lab.host());
    let mut a = h1.node("front-desk");
    let bare = h2.sh("mkdir -p /run/bare; mount -t ramfs ramfs /run/bare").code == 0;
    let mut b = if bare { h2.node_at("laptop", Path::new("/run/bare")) } else { h2.node("laptop") };
    let here = a.mkdir("Shared");
    fs::create_dir_all(b.seen("Shared")).expect("a directory");
    let there = b.seen("Shared");
    fs::write(here.join("many"), "many").expect("a file");
    for n in 0..40 {
        set(&here.join("many"), &format!("user.n{n:02}"), b"x");
    }
    fs::write(here.join("tagged"), "tagged").expect("a file");
    set(&here.join("tagged"), "user.tag", b"red");
    opt_in(&a, "attributes = true");
    opt_in(&b, "attributes = true");
    a.start(&["Shared"]);
    a.wait_until_up();
    b.start(&["Shared"]);
    b.wait_until_up();
    a.admit(&b, &[]);

    eventually("the file with too many", CONVERGE_MAX, || is(&there.join("many"), "many"));
    eventually("the tagged file", CONVERGE_MAX, || is(&there.join("tagged"), "tagged"));
    says(&a, "attributes", "many");
    if !bare {
        has(&there.join("many"), "user.n31", Some(b"x")).expect("32 are carried");
        has(&there.join("many"), "user.n32", None).expect("no more are");
        writeln!(std::io::stderr(), "SKIPPED: a file system without attributes: mounting is not permitted here")
            .expect("stderr");
        return;
    }
    says(&b, "attributes", "tagged");
    // Where there are none, an edit drops none.
    in_step(&[&a, &b]);
    fs::write(there.join("many"), "edited").expect("a file");
    fs::write(there.join("tagged"), "edited").expect("a file");
    eventually("the edits arrive with all of them", CONVERGE_MAX, || {
        is(&here.join("tagged"), "edited")?;
        has(&here.join("tagged"), "user.tag", Some(b"red"))?;
        is(&here.join("many"), "edited")?;
        has(&here.join("many"), "user.n00", Some(b"x"))?;
        // Also those that were too many to be carried: a new content keeps what is only here.
        has(&here.join("many"), "user.n39", Some(b"x"))
    });
}

/// Gives a host users and groups of its own.
fn people(host: &Host<'_>, users: &[(&str, u32)], groups: &[(&str, u32)]) {
    let lines = |of: &[(&str, u32)], tail: &str| {
        of.iter().map(|(name, id)| format!("{name}:x:{id}:{tail}\n")).collect::<String>()
    };
    let users = lines(users, "100::/:/bin/sh");
    let groups = lines(groups, "");
    host.sh(&format!(
        "printf 'root:x:0:0::/root:/bin/sh\n{users}' > /run/passwd; printf 'root:x:0:\n{groups}' > /run/group
         mount --bind /run/passwd /etc/passwd; mount --bind /run/group /etc/group"
    ))
    .ok();
}

fn belongs(path: &Path, wanted: (u32, u32)) -> Result<(), String> {
    let found = fs::metadata(path).map(|found| (found.uid(), found.gid())).map_err(|error| error.to_string())?;
    if found == wanted { Ok(()) } else { Err(format!("{} belongs to {found:?}", path.display())) }
}

#[test]
fn files_belong_to_the_same_names_where_the_node_may_give_them_away() {
    let Some(lab) = Lab::open("ownership") else { return };
    if !rustix::process::geteuid().is_root() {
        writeln!(std::io::stderr(), "SKIPPED: ownership: only root may give files away").expect("stderr");
        return;
    }
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    people(&h1, &[("ann", 20_001), ("bob", 20_002), ("only-here", 20_003)], &[("office", 20_050), ("print", 20_051)]);
    people(&h2, &[("ann", 30_001), ("bob", 30_002)], &[("office", 30_050), ("print", 30_051)]);
    let (mut a, mut b, mut c) = (h1.node("front-desk"), h2.node("laptop"), h3.node("workshop"));
    let [at_a, at_b, at_c] = [&a, &b, &c].map(|node| node.mkdir("Shared"));
    for (name, user, group) in
        [("plan", 20_001, 20_050), ("strange", 20_003, 20_050), ("roots", 0, 0), ("edited", 20_002, 20_051)]
    {
        fs::write(at_a.join(name), name).expect("a file");
        chown(at_a.join(name), Some(user), Some(group)).expect("given away");
    }
    for node in [&a, &b] {
        opt_in(node, "ownership = true");
    }
    for node in [&mut a, &mut b, &mut c] {
        node.start(&["Shared"]);
        node.wait_until_up();
    }
    a.admit(&b, &[]);
    a.admit(&c, &[]);

    eventually("ann's in the office", CONVERGE_MAX, || belongs(&at_b.join("plan"), (30_001, 30_050)));
    eventually("bob's", CONVERGE_MAX, || belongs(&at_b.join("edited"), (30_002, 30_051)));
    // A user who is not known there: the group is given, and the rest is said.
    eventually("nobody's in the office", CONVERGE_MAX, || belongs(&at_b.join("strange"), (0, 30_050)));
    says(&b, "owner", "strange");
    eventually("root's is the node's", CONVERGE_MAX, || belongs(&at_b.join("roots"), (0, 0)));
    eventually("who did not opt in has the contents", CONVERGE_MAX, || is(&at_c.join("edited"), "edited"));
    belongs(&at_c.join("plan"), (0, 0)).expect("nothing is given away there");

    // A file is given to somebody else, and a group that could be given changes.
    in_step(&[&a, &b, &c]);
    chown(at_b.join("plan"), Some(30_002), None).expect("given away");
    eventually("it is bob's", CONVERGE_MAX, || belongs(&at_a.join("plan"), (20_002, 20_050)));
    chown(at_b.join("strange"), None, Some(30_051)).expect("given away");
    eventually("its group is another, its user is not", CONVERGE_MAX, || {
        belongs(&at_a.join("strange"), (20_003, 20_051))
    });

    // Who did not opt in edits: to whom it belongs is kept, also over a restart.
    in_step(&[&a, &b, &c]);
    b.stop();
    fs::write(at_c.join("edited"), "changed").expect("a file");
    fs::write(at_c.join("strange"), "changed").expect("a file");
    eventually("the edit is here", CONVERGE_MAX, || {
        is(&at_a.join("edited"), "changed").and_then(|()| is(&at_a.join("strange"), "changed"))
    });
    b.up(&[]);
    eventually("the edit is there", CONVERGE_MAX, || {
        is(&at_b.join("edited"), "changed").and_then(|()| is(&at_b.join("strange"), "changed"))
    });
    in_step(&[&a, &b, &c]);
    belongs(&at_a.join("edited"), (20_002, 20_051)).expect("bob's");
    belongs(&at_b.join("edited"), (30_002, 30_051)).expect("bob's");
    belongs(&at_a.join("strange"), (20_003, 20_051)).expect("as it was");
    belongs(&at_b.join("strange"), (0, 30_051)).expect("as far as it can be");
    no_copies(&[&at_a, &at_b, &at_c]);
}
