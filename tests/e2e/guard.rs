//! The mass-change guard: harm that one machine does is held on the others, what an office does on a busy day is not.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::lab::{Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree::{self, Dice, Item};

/// `count` text files in some directories.
fn write_texts(root: &Path, count: u64) {
    for n in 0..count {
        let dir = root.join(format!("d{}", n % 7));
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join(format!("letter {n}.txt")), format!("Dear customer {n},\n").repeat(200)).expect("a file");
    }
}

/// How many paths differ from what was.
fn changed(before: &[Item], root: &Path) -> usize {
    let now = tree::snapshot(root);
    let known =
        |items: &[Item], item: &Item| items.iter().any(|other| other.path == item.path && other.hash == item.hash);
    let gone = before.iter().filter(|item| !known(&now, item)).count();
    let new = now.iter().filter(|item| !before.iter().any(|other| other.path == item.path)).count();
    gone.max(new)
}

fn files(root: &Path) -> Vec<std::path::PathBuf> {
    let all = tree::listing(root).into_iter().filter(|item| item.kind == tree::Kind::File);
    all.map(|item| root.join(String::from_utf8(item.path).expect("plain names"))).collect()
}

fn is_held(node: &Node<'_>) -> Result<(), String> {
    let folder = node.folder("Shared");
    if folder["state"] == "held" { Ok(()) } else { Err(folder.to_string()) }
}

/// Three nodes with the same files; the first is the admin.
fn equal_trees(nodes: [&mut Node<'_>; 3], count: u64) -> Vec<Item> {
    let [a, b, c] = nodes;
    let here = a.mkdir("Shared");
    write_texts(&here, count);
    for node in [&mut *a, &mut *b, &mut *c] {
        node.mkdir("Shared");
        node.up(&["Shared"]);
    }
    a.admit(b, &[]);
    a.admit(c, &[]);
    for node in [&*b, &*c] {
        eventually("in step", CONVERGE_MAX, || tree::same(&here, &node.path("Shared")));
    }
    for node in [&*a, &*b, &*c] {
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
    }
    tree::snapshot(&here)
}

#[test]
fn ransomware_is_held_on_every_other_machine_and_one_command_brings_all_back() {
    let Some(lab) = Lab::open("guard: ransomware") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b, mut c) = (h1.node("front-desk"), h2.node("laptop"), h3.node("workshop"));
    let before = equal_trees([&mut a, &mut b, &mut c], 600);

    // A third is written over, a third is written anew under another ending, a third is deleted.
    let mut dice = Dice(7);
    for (n, path) in files(&b.path("Shared")).into_iter().enumerate() {
        let length = fs::metadata(&path).expect("a file").len() as usize;
        match n % 3 {
            0 => fs::write(&path, dice.bytes(length)).expect("a file"),
            1 => {
                fs::write(path.with_extension("txt.locked"), dice.bytes(length)).expect("a file");
                fs::remove_file(&path).expect("a file");
            }
            _ => fs::remove_file(&path).expect("a file"),
        }
    }
    fs::write(b.path("Shared").join("READ ME.txt"), "pay here").expect("a file");
    b.lanyard(&["wait", "--timeout", "60s"]).ok();
    for node in [&a, &c] {
        eventually("it is held", CONVERGE_MAX, || is_held(node));
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
        let now = tree::snapshot(&node.path("Shared"));
        let left =
            before.iter().filter(|item| now.iter().any(|other| other.path == item.path && other.hash == item.hash));
        let harmed = before.len() - left.count();
        assert!(harmed <= 100, "{harmed} paths were harmed on {}", node.name);
        let held = node.json(&["guard"]);
        assert_eq!(held[0]["node"]["name"], "laptop", "{held}");
        assert!(held[0]["deletions"].as_u64() > Some(100), "{held}");
        let status = node.lanyard(&["status"]).ok().stdout;
        assert!(status.contains("lanyard guard"), "{status}");
    }
    c.lanyard(&["guard", "reject", "laptop"]).exits(4).names("front-desk");
    a.lanyard(&["guard", "reject", "workshop"]).exits(1).names("workshop");
    a.lanyard(&["guard", "reject", "nobody"]).exits(1).names("nobody");

    // Held over a restart, too.
    c.stop();
    c.up(&[]);
    eventually("it is still held", CONVERGE_MAX, || is_held(&c));

    a.lanyard(&["guard", "reject", "laptop"]).ok();
    for node in [&a, &b, &c] {
        eventually(&format!("all is back on {}", node.name), Duration::from_secs(60), || {
            match changed(&before, &node.path("Shared")) {
                0 => Ok(()),
                n => Err(format!("{n} paths differ")),
            }
        });
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
        assert_eq!(node.json(&["guard"]), serde_json::json!([]));
        assert_eq!(node.folder("Shared")["state"], "idle");
    }
    // Work goes on.
    let path = b.path("Shared/d1/letter 1.txt");
    fs::write(&path, "a new letter").expect("a file");
    eventually("a save arrives", CONVERGE_MAX, || tree::same(&b.path("Shared"), &a.path("Shared")));
}

#[test]
fn a_large_rename_an_unpacked_archive_and_a_months_backlog_are_not_held() {
    let Some(lab) = Lab::open("guard: harmless") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b, mut c) = (h1.node("front-desk"), h2.node("laptop"), h3.node("workshop"));
    equal_trees([&mut a, &mut b, &mut c], 1_000);
    let (here, there) = (a.path("Shared"), b.path("Shared"));
    let quiet = |what: &str| {
        eventually(what, CONVERGE_MAX, || tree::same(&here, &there));
        for node in [&a, &c] {
            node.lanyard(&["wait", "--timeout", "60s"]).ok();
            assert_eq!(node.json(&["guard"]), serde_json::json!([]), "{what} on {}", node.name);
            assert!(!node.log_text().contains("is held"), "{what} on {}", node.name);
        }
    };

    // Every file gets another directory and name.
    fs::create_dir(there.join("archive")).expect("a directory");
    for (n, path) in files(&there).into_iter().enumerate() {
        fs::rename(&path, there.join(format!("archive/{n:04}.txt"))).expect("a file");
    }
    quiet("a rename of 1,000 files");

    write_texts(&there.join("unpacked"), 1_000);
    quiet("an unpacked archive");

    b.stop();
    let day = Duration::from_secs(24 * 3600);
    for (n, path) in files(&there.join("archive")).into_iter().take(400).enumerate() {
        fs::write(&path, format!("work of a month, number {n}")).expect("a file");
        let at = SystemTime::now() - day * 30 + day * 29 * n as u32 / 400;
        // Before the month, so that a save is later than what it replaces.
        fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(at)).expect("a time");
    }
    b.up(&[]);
    eventually("a month's backlog", CONVERGE_MAX, || tree::same(&here, &there));
}

#[test]
fn of_a_release_and_a_reject_at_the_same_time_all_end_with_the_same_files() {
    let Some(lab) = Lab::open("guard: two verdicts") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b, mut c) = (h1.node("front-desk"), h2.node("laptop"), h3.node("workshop"));
    let before = equal_trees([&mut a, &mut b, &mut c], 300);
    a.lanyard(&["role", "workshop", "admin"]).ok();
    for path in files(&b.path("Shared")) {
        fs::remove_file(path).expect("a file");
    }
    b.lanyard(&["wait", "--timeout", "60s"]).ok();
    for node in [&a, &c] {
        eventually("it is held", CONVERGE_MAX, || is_held(node));
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
    }

    lab.partition(&h1, &h3);
    lab.partition(&h1, &h2);
    a.lanyard(&["guard", "release", "laptop"]).ok();
    c.lanyard(&["guard", "reject", "laptop"]).ok();
    eventually("the release is followed behind the cut", CONVERGE_MAX, || match files(&a.path("Shared")).len() {
        0 => Ok(()),
        n => Err(format!("{n} files are left")),
    });
    lab.heal();
    for node in [&a, &b, &c] {
        eventually(&format!("the rejection stands on {}", node.name), Duration::from_secs(60), || {
            match changed(&before, &node.path("Shared")) {
                0 => Ok(()),
                n => Err(format!("{n} paths differ: {}", node.folder("Shared"))),
            }
        });
    }
}
