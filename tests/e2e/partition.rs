//! A removal while the office is cut in two: what the removed machine did meanwhile is undone alike everywhere.

use std::fs;
use std::path::Path;

use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::tree;

fn is(path: &Path, wanted: Option<&str>) -> Result<(), String> {
    let found = fs::read_to_string(path).ok();
    if found.as_deref() == wanted { Ok(()) } else { Err(format!("{} is {found:?}, not {wanted:?}", path.display())) }
}

#[test]
fn what_an_expelled_admin_did_behind_a_cut_is_undone_on_every_node_and_kept_on_its_own() {
    let Some(lab) = Lab::open("partition") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b, mut c) = (h1.node("front-desk"), h2.node("laptop"), h3.node("workshop"));
    for node in [&a, &b, &c] {
        node.mkdir("Shared");
    }
    let (here, lost, there) = (a.path("Shared"), b.path("Shared"), c.path("Shared"));
    for (name, text) in [("plan", "first plan"), ("list", "first list"), ("gone later", "still here")] {
        fs::write(here.join(name), text).expect("a file");
    }
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    c.up(&["Shared"]);
    let code = a.invite(&["--role", "admin"]);
    b.lanyard(&["join", &code]).ok();
    a.admit(&c, &[]);
    fs::write(lost.join("from the laptop"), "before the cut").expect("a file");
    for tree in [&lost, &there] {
        eventually("in step", CONVERGE_MAX, || tree::same(&here, tree));
    }
    eventually("the earlier work is everywhere", CONVERGE_MAX, || {
        is(&here.join("from the laptop"), Some("before the cut"))
    });
    for node in [&a, &b, &c] {
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
    }

    // The front desk is alone on its side; the laptop goes on with the workshop.
    lab.partition(&h1, &h2);
    lab.partition(&h1, &h3);
    a.lanyard(&["expel", "laptop"]).ok();
    fs::write(lost.join("plan"), "the laptop's plan").expect("a file");
    fs::write(lost.join("from the laptop"), "after the cut").expect("a file");
    fs::write(lost.join("new"), "new after the cut").expect("a file");
    fs::remove_file(lost.join("gone later")).expect("a file");
    b.lanyard(&["grant", "front-desk", "Shared", "none"]).ok();
    eventually("the workshop follows the laptop", CONVERGE_MAX, || tree::same(&lost, &there));
    // What honest people do on top of it stands.
    fs::write(there.join("list"), "the workshop's list").expect("a file");
    fs::write(there.join("new"), "edited by the workshop").expect("a file");
    eventually("the laptop follows the workshop", CONVERGE_MAX, || tree::same(&lost, &there));

    lab.heal();
    for (name, wanted) in [
        ("plan", Some("first plan")),
        ("list", Some("the workshop's list")),
        ("from the laptop", Some("before the cut")),
        ("new", Some("edited by the workshop")),
        ("gone later", Some("still here")),
    ] {
        for root in [&here, &there] {
            eventually("the late work is undone, the rest stands", CONVERGE_MAX, || is(&root.join(name), wanted));
        }
    }
    eventually("both sides agree", CONVERGE_MAX, || tree::same(&here, &there));
    assert_eq!(a.json(&["rules"]), c.json(&["rules"]), "who may do what is the same on both");
    let names = |document: serde_json::Value| -> Vec<String> {
        let nodes = document.as_array().cloned().unwrap_or_default();
        let mut names: Vec<String> = nodes.iter().filter_map(|n| n["name"].as_str()).map(str::to_owned).collect();
        names.sort();
        names
    };
    for node in [&a, &c] {
        assert_eq!(names(node.json(&["nodes"])), ["front-desk", "workshop"], "on {}", node.name);
    }
    // The laptop's own machine still holds its own work, and the workshop keeps what it took back.
    is(&lost.join("plan"), Some("the laptop's plan")).expect("nothing is taken from the laptop's disk");
    let kept = h3.sh(&format!("grep -rl \"the laptop's plan\" '{}'", there.join(".lanyard/versions").display()));
    assert!(!kept.stdout.is_empty(), "what was undone is kept in the versions: {kept}");
}

#[test]
fn late_work_is_listed_and_what_an_admin_keeps_counts_on_every_node() {
    let Some(lab) = Lab::open("partition: late") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b, mut c) = (h1.node("front-desk"), h2.node("laptop"), h3.node("workshop"));
    for node in [&a, &b, &c] {
        node.mkdir("Shared");
    }
    let (here, lost, there) = (a.path("Shared"), b.path("Shared"), c.path("Shared"));
    fs::write(here.join("plan"), "first plan").expect("a file");
    fs::write(here.join("list"), "first list").expect("a file");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    c.up(&["Shared"]);
    a.admit(&b, &[]);
    a.admit(&c, &[]);
    for tree in [&lost, &there] {
        eventually("in step", CONVERGE_MAX, || tree::same(&here, tree));
    }
    for node in [&a, &b, &c] {
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
    }
    assert_eq!(a.json(&["late"]), serde_json::json!([]), "nothing is late yet");
    a.lanyard(&["late", "keep", "laptop"]).exits(1).names("laptop");
    a.lanyard(&["late", "keep", "nobody"]).exits(1).names("nobody");
    a.lanyard(&["late", "Nowhere"]).exits(1).names("Nowhere");

    // The workshop hears of the late work before it hears of the removal.
    lab.partition(&h1, &h2);
    lab.partition(&h1, &h3);
    a.lanyard(&["expel", "laptop"]).ok();
    for text in ["draft of the laptop", "the laptop's plan"] {
        fs::write(lost.join("plan"), text).expect("a file");
        eventually("the workshop follows", CONVERGE_MAX, || is(&there.join("plan"), Some(text)));
    }
    fs::write(lost.join("list"), "the laptop's list").expect("a file");
    eventually("the workshop follows the laptop", CONVERGE_MAX, || tree::same(&lost, &there));
    lab.heal();
    for root in [&here, &there] {
        eventually("the late work is undone", CONVERGE_MAX, || is(&root.join("plan"), Some("first plan")));
        eventually("the late work is undone", CONVERGE_MAX, || is(&root.join("list"), Some("first list")));
    }

    for node in [&a, &c] {
        eventually("it is listed", CONVERGE_MAX, || {
            let late = node.json(&["late", "Shared"]);
            let changes = late.as_array().cloned().unwrap_or_default();
            let paths: Vec<&str> = changes.iter().filter_map(|change| change["path"].as_str()).collect();
            let sound = changes.iter().all(|c| c["node"]["name"] == "laptop" && c["reason"] == "frozen");
            if paths == ["list", "plan", "plan"] && sound { Ok(()) } else { Err(late.to_string()) }
        });
        let said = node.lanyard(&["status"]).ok().stdout;
        assert!(said.contains("3 changes of laptop came too late: 'lanyard late' lists them"), "{said}");
    }
    let said = a.lanyard(&["late"]).ok().stdout;
    assert!(said.contains("front-desk removed laptop"), "{said}");
    c.lanyard(&["late", "keep", "laptop", "Shared/plan"]).exits(4).names("front-desk");
    a.lanyard(&["late", "keep", "laptop", "Shared/nothing"]).exits(1).names("Shared/nothing");
    let kept = a.json(&["late", "keep", "laptop", "Shared/plan"]);
    assert_eq!((&kept["folders"][0]["count"], &kept["node"]["name"]), (&2.into(), &"laptop".into()), "{kept}");
    for root in [&here, &there] {
        eventually("what was kept is there", CONVERGE_MAX, || is(&root.join("plan"), Some("the laptop's plan")));
    }
    for node in [&a, &c] {
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
        let late = node.json(&["late", "Shared"]);
        assert_eq!(late.as_array().map(Vec::len), Some(1), "only the list is still late: {late}");
    }
    for root in [&here, &there] {
        is(&root.join("list"), Some("first list")).expect("what was not kept stays undone");
    }
}
