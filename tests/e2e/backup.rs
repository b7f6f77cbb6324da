//! A machine whose state was put back from a backup: it signs a second history without meaning to, and nothing is lost.

use std::fs;
use std::path::Path;

use crate::lab::{Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree;

fn is(path: &Path, wanted: Option<&str>) -> Result<(), String> {
    let found = fs::read_to_string(path).ok();
    if found.as_deref() == wanted { Ok(()) } else { Err(format!("{} is {found:?}, not {wanted:?}", path.display())) }
}

/// Copies the home of a node that does not run, or puts a copy back.
fn copy(node: &Node<'_>, from: &Path, to: &Path) {
    let (from, to) = (from.display(), to.display());
    node.host.sh(&format!("rm -rf '{to}'; cp -a '{from}' '{to}'")).ok();
}

#[test]
fn after_a_restored_backup_nothing_is_lost_and_once_reinstated_the_machine_goes_on() {
    let Some(lab) = Lab::open("backup") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b, mut c) = (h1.node("front-desk"), h2.node("laptop"), h3.node("workshop"));
    for node in [&a, &b, &c] {
        node.mkdir("Shared");
    }
    let (here, mine, there) = (a.path("Shared"), b.path("Shared"), c.path("Shared"));
    fs::write(here.join("plan"), "first plan").expect("a file");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    c.up(&["Shared"]);
    a.admit(&b, &[]);
    a.admit(&c, &[]);
    fs::write(mine.join("early"), "before the backup").expect("a file");
    for root in [&here, &there] {
        eventually("in step", CONVERGE_MAX, || is(&root.join("early"), Some("before the backup")));
    }
    b.lanyard(&["wait", "--timeout", "60s"]).ok();

    b.stop();
    let backup = lab.dir().join("backup");
    copy(&b, &b.home(), &backup);
    b.up(&[]);
    fs::write(mine.join("plan"), "the laptop's plan").expect("a file");
    fs::write(mine.join("new"), "after the backup").expect("a file");
    for root in [&here, &there] {
        eventually("it spreads", CONVERGE_MAX, || tree::same(&mine, root));
    }
    b.stop();
    copy(&b, &backup, &b.home());

    // It signs before it hears how far it had come.
    lab.partition(&h1, &h2);
    lab.partition(&h2, &h3);
    b.up(&[]);
    fs::write(mine.join("new"), "after the restoration").expect("a file");
    for number in 0..3 {
        fs::write(mine.join(format!("more {number}")), "more").expect("a file");
        b.lanyard(&["wait", "--timeout", "60s"]).ok();
    }
    lab.heal();

    for node in [&a, &b, &c] {
        eventually("the fork is known", CONVERGE_MAX, || {
            let said = node.lanyard(&["folders"]).stdout;
            if said.contains("laptop signed two histories") { Ok(()) } else { Err(format!("{}: {said}", node.name)) }
        });
    }
    for root in [&here, &there] {
        eventually("what both histories share stands", CONVERGE_MAX, || {
            is(&root.join("plan"), Some("first plan"))?;
            is(&root.join("early"), Some("before the backup"))?;
            is(&root.join("new"), None)
        });
    }
    for node in [&a, &b, &c] {
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
    }
    tree::same(&here, &there).expect("the others hold the same");
    for (name, wanted) in [("plan", "the laptop's plan"), ("new", "after the restoration"), ("more 2", "more")] {
        is(&mine.join(name), Some(wanted)).expect("its own disk keeps its own work");
    }
    let kept = h1.sh(&format!("grep -rl 'after the backup' '{}'", here.join(".lanyard/versions").display()));
    assert!(!kept.stdout.is_empty(), "what was undone is kept in the versions: {kept}");

    // Until it is let go on, what it saves stays with it.
    fs::write(mine.join("waits"), "saved meanwhile").expect("a file");
    b.lanyard(&["wait", "--timeout", "60s"]).ok();
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    assert!(!here.join("waits").exists(), "it is not spread yet");
    let noted = b.lanyard(&["audit", "--refused"]).stdout;
    assert!(noted.contains("until an admin reinstates it"), "{noted}");
    c.lanyard(&["reinstate", "laptop", "Shared"]).exits(4).names("front-desk");
    let done = a.json(&["reinstate", "laptop", "Shared"]);
    assert_eq!(done["folders"][0]["name"], "Shared", "{done}");
    a.lanyard(&["reinstate", "laptop", "Shared"]).exits(1).names("laptop");
    eventually("its own node knows", CONVERGE_MAX, || is(&here.join("waits"), Some("saved meanwhile")));
    fs::write(mine.join("later"), "saved after it").expect("a file");
    for root in [&here, &there] {
        eventually("all converge", CONVERGE_MAX, || tree::same(&mine, root));
    }
    for (name, wanted) in [
        ("plan", "the laptop's plan"),
        ("new", "after the restoration"),
        ("later", "saved after it"),
        ("more 2", "more"),
    ] {
        is(&there.join(name), Some(wanted)).expect("its work is everywhere");
    }
    for node in [&a, &b, &c] {
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
        let said = node.lanyard(&["folders"]).ok().stdout;
        assert!(!said.contains("two histories") && !said.contains("only here"), "{}: {said}", node.name);
    }
}
