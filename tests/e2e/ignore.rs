//! `.lanyardignore`: what is not shared stays where it is.

use std::fs;
use std::path::Path;

use crate::lab::{Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};

fn is(path: &Path, wanted: Option<&str>) -> Result<(), String> {
    let found = fs::read_to_string(path).ok();
    if found.as_deref() == wanted { Ok(()) } else { Err(format!("{} is {found:?}, not {wanted:?}", path.display())) }
}

fn settle(nodes: &[&Node<'_>]) {
    for node in nodes {
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
    }
}

#[test]
fn what_is_ignored_is_neither_sent_nor_deleted_and_the_rule_reaches_everybody() {
    let Some(lab) = Lab::open("ignore") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("laptop"));
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    fs::create_dir(here.join("project")).expect("a directory");
    fs::write(here.join("project/plan"), "plan").expect("a file");
    fs::write(here.join("notes.tmp"), "known before").expect("a file");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("all is there", CONVERGE_MAX, || is(&there.join("notes.tmp"), Some("known before")));
    settle(&[&a, &b]);

    fs::write(here.join(".lanyardignore"), "*.tmp\nproject/build/\n").expect("a file");
    eventually("the rule arrives", CONVERGE_MAX, || is(&there.join(".lanyardignore"), Some("*.tmp\nproject/build/\n")));
    settle(&[&a, &b]);
    for root in [&here, &there] {
        fs::create_dir(root.join("project/build")).expect("a directory");
        fs::write(root.join("project/build/output"), root.display().to_string()).expect("a file");
    }
    fs::write(here.join("notes.tmp"), "changed").expect("a file");
    fs::remove_file(there.join("notes.tmp")).expect("a file");
    fs::write(there.join("other.tmp"), "only there").expect("a file");
    fs::write(there.join("shared"), "from there").expect("a file");
    eventually("the rest is shared", CONVERGE_MAX, || is(&here.join("shared"), Some("from there")));
    settle(&[&a, &b]);
    is(&here.join("notes.tmp"), Some("changed")).expect("a deletion of what is ignored stays local");
    is(&there.join("notes.tmp"), None).expect("a change of what is ignored stays local");
    is(&here.join("other.tmp"), None).expect("what is ignored is not sent");
    for root in [&here, &there] {
        is(&root.join("project/build/output"), Some(&root.display().to_string())).expect("each keeps its own");
    }

    // A directory is deleted elsewhere: what is ignored in it stays.
    fs::remove_dir_all(there.join("project")).expect("a directory");
    eventually("the plan goes", CONVERGE_MAX, || is(&here.join("project/plan"), None));
    settle(&[&a, &b]);
    is(&here.join("project/build/output"), Some(&here.display().to_string())).expect("ignoring never deletes");

    // Nothing is ignored any more: all is shared.
    fs::remove_file(here.join(".lanyardignore")).expect("a file");
    eventually("it is sent now", CONVERGE_MAX, || is(&here.join("other.tmp"), Some("only there")));
    eventually("its own build too", CONVERGE_MAX, || {
        is(&there.join("project/build/output"), Some(&here.display().to_string()))
    });
    settle(&[&a, &b]);
}

#[test]
fn who_may_only_write_cannot_change_what_is_ignored() {
    let Some(lab) = Lab::open("ignore: rights") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("laptop"));
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    fs::write(here.join("plan"), "plan").expect("a file");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("all is there", CONVERGE_MAX, || is(&there.join("plan"), Some("plan")));
    settle(&[&a, &b]);
    fs::write(there.join(".lanyardignore"), "*\n").expect("a file");
    eventually("it stays there", CONVERGE_MAX, || match b.folder("Shared")["local_only"].as_u64() {
        Some(1) => Ok(()),
        other => Err(format!("{other:?} local changes")),
    });
    settle(&[&a, &b]);
    is(&here.join(".lanyardignore"), None).expect("not allowed");
    fs::write(here.join("plan"), "second plan").expect("a file");
    a.lanyard(&["grant", "laptop", "Shared", "manage"]).ok();
    eventually("now it may", CONVERGE_MAX, || is(&here.join(".lanyardignore"), Some("*\n")));
}
