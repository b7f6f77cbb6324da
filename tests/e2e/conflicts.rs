//! Two people edit the same file on two sides of a cut: both contents survive, on both sides.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::tree;

/// The contents of `NAME.EXT` and of its conflict copies, `NAME (conflict ...).EXT`.
fn contents(dir: &Path, stem: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(&format!("{stem}.")) || name.starts_with(&format!("{stem} (conflict "))
    });
    named.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect()
}

#[test]
fn concurrent_edits_keep_both_contents_on_both_nodes() {
    let Some(lab) = Lab::open("conflict") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    for name in ["both.txt", "equal.txt", "edited and deleted.txt"] {
        fs::write(here.join(name), "first").expect("a file");
    }
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("the tree arrived", CONVERGE_MAX, || {
        tree::same(&here, &there)?;
        if there.join("both.txt").exists() { Ok(()) } else { Err("not yet".to_owned()) }
    });

    lab.partition(&h1, &h2);
    fs::write(here.join("both.txt"), "edited at the front desk").expect("a file");
    fs::write(there.join("both.txt"), "edited in the workshop").expect("a file");
    fs::write(here.join("new.txt"), "made at the front desk").expect("a file");
    fs::write(there.join("new.txt"), "made in the workshop").expect("a file");
    fs::write(here.join("equal.txt"), "the same edit").expect("a file");
    fs::write(there.join("equal.txt"), "the same edit").expect("a file");
    fs::remove_file(here.join("edited and deleted.txt")).expect("a file");
    fs::write(there.join("edited and deleted.txt"), "an edit beats a deletion").expect("a file");
    // Both nodes must have noticed before they meet again, else there is no concurrency to test.
    for (node, root) in [(&a, &here), (&b, &there)] {
        let files = tree::listing(root).iter().filter(|item| item.kind == tree::Kind::File).count() as u64;
        eventually("the edits were scanned", CONVERGE_MAX, || {
            let folder = node.folder("Shared");
            if folder["local"]["files"] == files { Ok(()) } else { Err(format!("{files} files: {folder}")) }
        });
    }
    lab.heal();

    let both = |stem: &str, wanted: [&str; 2]| {
        let wanted: BTreeSet<String> = wanted.map(str::to_owned).into();
        eventually(&format!("both contents of {stem} on both nodes"), CONVERGE_MAX, || {
            let (x, y) = (contents(&here, stem), contents(&there, stem));
            if x == wanted && y == wanted { Ok(()) } else { Err(format!("{x:?} | {y:?}")) }
        });
    };
    both("both", ["edited at the front desk", "edited in the workshop"]);
    both("new", ["made at the front desk", "made in the workshop"]);
    eventually("the edit beat the deletion", CONVERGE_MAX, || {
        let text = fs::read_to_string(here.join("edited and deleted.txt")).unwrap_or_default();
        if text == "an edit beats a deletion" { Ok(()) } else { Err(format!("{text:?}")) }
    });
    assert_eq!(contents(&here, "equal").len(), 1);

    // The winner and the names of the losers are the same everywhere; three files, and one loser for each of two.
    let names = |root: &Path| {
        let listed = tree::snapshot(root).into_iter().filter(|item| item.kind == tree::Kind::File);
        listed.map(|item| (item.path, item.hash)).collect::<Vec<_>>()
    };
    eventually("the same names with the same contents", CONVERGE_MAX, || {
        let (x, y) = (names(&here), names(&there));
        if x == y { Ok(()) } else { Err(format!("{:#?}", tree::diff(&tree::snapshot(&here), &tree::snapshot(&there)))) }
    });
    assert_eq!(names(&here).len(), 4 + 2);

    // Nothing announces the derived copies as new files: a while later nothing has multiplied.
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    b.lanyard(&["wait", "--timeout", "60s"]).ok();
    a.stop();
    b.stop();
    a.up(&[]);
    b.up(&[]);
    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    b.lanyard(&["wait", "--timeout", "60s"]).ok();
    assert_eq!((names(&here).len(), names(&there).len()), (6, 6));

    // Deleting the copy on one side resolves it on both.
    for item in tree::listing(&here) {
        let name = String::from_utf8_lossy(&item.path).into_owned();
        if name.contains("(conflict ") {
            fs::remove_file(here.join(name)).expect("a conflict copy");
        }
    }
    eventually("deleting the copies resolved the conflicts", CONVERGE_MAX, || {
        let (x, y) = (names(&here), names(&there));
        if x == y && x.len() == 4 { Ok(()) } else { Err(format!("{} | {}", x.len(), y.len())) }
    });
}

#[test]
fn different_files_of_the_same_name_merge_when_nodes_with_trees_are_paired() {
    let Some(lab) = Lab::open("merge") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    fs::write(here.join("notes.txt"), "of the front desk").expect("a file");
    fs::write(there.join("notes.txt"), "of the workshop").expect("a file");
    fs::write(here.join("only here.txt"), "1").expect("a file");
    fs::write(there.join("only there.txt"), "2").expect("a file");
    a.up(&["Shared"]);
    b.up(&["Shared"]);

    a.admit(&b, &[]);

    let wanted: BTreeSet<String> = ["of the front desk".to_owned(), "of the workshop".to_owned()].into();
    eventually("the union on both", CONVERGE_MAX, || {
        let (x, y) = (contents(&here, "notes"), contents(&there, "notes"));
        let all = here.join("only there.txt").exists() && there.join("only here.txt").exists();
        if x == wanted && y == wanted && all { Ok(()) } else { Err(format!("{x:?} | {y:?} | {all}")) }
    });
}
