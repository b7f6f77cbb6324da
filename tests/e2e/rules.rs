//! The access rules by the commands that people use: who may do what, what is refused, and what the log says of it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::lab::{Host, Lab, Outcome, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree;

/// A started admin with `Shared`, and a started member that receives it below `In`.
fn admin_and_member<'lab>(h1: &'lab Host<'lab>, h2: &'lab Host<'lab>) -> (Node<'lab>, Node<'lab>) {
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    fs::write(a.mkdir("Shared").join("plan.txt"), "first").expect("a file");
    a.up(&["Shared"]);
    b.up(&[]);
    a.admit(&b, &["--into", &b.path("In").display().to_string()]);
    arrives(&b.path("In/Shared/plan.txt"), "first");
    (a, b)
}

#[track_caller]
fn arrives(path: &Path, text: &str) {
    eventually(&format!("{} holds {text:?}", path.display()), CONVERGE_MAX, || {
        let found = fs::read_to_string(path).unwrap_or_default();
        if found == text { Ok(()) } else { Err(format!("it holds {found:?}")) }
    });
}

/// Waits until the rules give this node that level on the folder's root.
#[track_caller]
fn has_level(node: &Node<'_>, folder: &str, level: &str) {
    eventually(&format!("{} has {level} on {folder}", node.name), CONVERGE_MAX, || {
        let found = node.folder(folder)["level"].clone();
        if found == level { Ok(()) } else { Err(found.to_string()) }
    });
}

#[track_caller]
fn says(outcome: &Outcome, needle: &str) {
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(said.contains(needle), "expected it to say {needle:?}: {outcome}");
}

/// Every line of a node's audit log.
#[track_caller]
fn audit(node: &Node<'_>, args: &[&str]) -> Vec<Value> {
    let outcome = node.lanyard(&[&["audit", "--json"], args].concat());
    assert_eq!(outcome.code, 0, "{outcome}");
    outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("one document a line")).collect()
}

#[test]
fn names_that_mean_nothing_or_too_much_are_refused_by_name_and_nothing_is_signed() {
    let Some(lab) = Lab::open("rules: names") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = admin_and_member(&h1, &h2);
    let before = audit(&a, &[]).len();
    let short = b.id().split('-').next().expect("groups").to_string();

    // What is named, what exit status it gives, what it says.
    let cases: [(&[&str], i32, &str); 20] = [
        (&["grant", "nobody", "Shared", "read"], 1, "no node or group named nobody"),
        (&["grant", "everyone", "Nowhere", "read"], 1, "no folder named Nowhere"),
        (&["grant", "everyone", "Nowhere:x", "read"], 1, "no folder named Nowhere"),
        (&["grant", "everyone", "Shared:../x", "read"], 1, "../x is no path in a folder"),
        (&["grant", "everyone", "Shared", "all"], 2, "all"),
        (&["grant", "everyone", "Shared", "read", "--until", "2020-01-01"], 2, "in the past"),
        (&["grant", "everyone", "Shared", "read", "--until", "soon"], 2, "say a day"),
        (&["grant", "group:books", "Shared", "read"], 1, "no group named books"),
        (&["revoke", "workshop", "Shared"], 1, "no rule for workshop on Shared"),
        (&["revoke", "everyone", "Shared:plan.txt"], 1, "no rule for everyone on Shared/plan.txt"),
        (&["rules", "Nowhere"], 1, "no folder named Nowhere"),
        (&["expel", "nobody"], 1, "no node named nobody"),
        (&["expel", "front-desk"], 1, "lanyard leave"),
        (&["role", "nobody", "admin"], 1, "no node named nobody"),
        (&["role", "front-desk", "member"], 4, "only admin"),
        (&["group", "create", "everyone"], 1, "everyone"),
        (&["group", "add", "books", "workshop"], 1, "no group named books"),
        (&["rename", "workshop", "front-desk"], 1, "another node is named front-desk"),
        (&["retire", "Nowhere"], 1, "no folder named Nowhere"),
        (&["revert", "Shared"], 1, "only here"),
    ];
    for (args, code, needle) in cases {
        let outcome = a.lanyard(args);
        assert_eq!(outcome.code, code, "{args:?}: {outcome}");
        says(&outcome, needle);
    }
    assert_eq!(audit(&a, &[]).len(), before, "something was signed");
    // By its short id, its id, and letter case aside, the node is found.
    for name in [short.as_str(), b.id().as_str(), "WORKSHOP"] {
        a.lanyard(&["grant", name, "Shared", "read"]).ok();
    }
    let rules = a.json(&["rules", "Shared"]);
    let of_b: Vec<&Value> =
        rules.as_array().expect("an array").iter().filter(|rule| rule["subject"]["name"] == "workshop").collect();
    assert_eq!(of_b.len(), 1, "{rules}");
    assert_eq!((&of_b[0]["level"], &of_b[0]["by"]["name"]), (&"read".into(), &"front-desk".into()));
}

#[test]
fn who_may_not_change_the_rules_is_told_whom_to_ask() {
    let Some(lab) = Lab::open("rules: refused") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = admin_and_member(&h1, &h2);
    let refused: [&[&str]; 9] = [
        &["grant", "workshop", "Shared", "manage"],
        &["grant", "everyone", "Shared:plan.txt", "none"],
        &["revoke", "everyone", "Shared"],
        &["expel", "front-desk"],
        &["role", "workshop", "admin"],
        &["group", "create", "books", "workshop"],
        &["rename", "--mesh", "Mine"],
        &["rename", "--folder", "Shared", "Mine"],
        &["retire", "Shared"],
    ];
    for args in refused {
        let outcome = b.lanyard(args);
        assert_eq!(outcome.code, 4, "{args:?}: {outcome}");
        says(&outcome, "ask an admin: front-desk");
    }
    // A manager of one path grants there, and no further.
    a.lanyard(&["grant", "workshop", "Shared:books", "manage"]).ok();
    eventually("it manages the path", CONVERGE_MAX, || {
        let outcome = b.lanyard(&["grant", "everyone", "Shared:books/2026", "read", "--until", "30d"]);
        if outcome.code == 0 { Ok(()) } else { Err(outcome.to_string()) }
    });
    b.lanyard(&["grant", "everyone", "Shared:plan.txt", "read"]).exits(4);
    // Its own name is its own.
    b.lanyard(&["rename", "workshop", "Werkstatt"]).ok();
    eventually("the name is known", CONVERGE_MAX, || {
        let nodes = a.json(&["nodes"]).to_string();
        if nodes.contains("Werkstatt") { Ok(()) } else { Err(nodes) }
    });
}

#[test]
fn a_reader_keeps_its_change_to_itself_and_takes_it_back_with_one_command() {
    let Some(lab) = Lab::open("rules: local only") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, mut b) = admin_and_member(&h1, &h2);
    a.lanyard(&["grant", "everyone", "Shared", "read"]).ok();
    has_level(&b, "Shared", "read");
    let (here, there) = (a.path("Shared"), b.path("In/Shared"));

    fs::write(there.join("plan.txt"), "changed by a reader").expect("a file");
    fs::write(there.join("new.txt"), "made by a reader").expect("a file");
    eventually("both are shown as only here", CONVERGE_MAX, || {
        let found = b.folder("Shared")["local_only"].clone();
        if found == 2 { Ok(()) } else { Err(found.to_string()) }
    });
    says(&b.lanyard(&["folders"]), "2 changes only here");
    let noted = audit(&b, &["--refused"]);
    let of_plan = noted.iter().find(|entry| entry["path"] == "plan.txt").unwrap_or_else(|| panic!("{noted:?}"));
    assert_eq!((&of_plan["deed"], &of_plan["verdict"]), (&"write".into(), &"refused".into()));
    assert_eq!((&of_plan["by"]["name"], &of_plan["folder"]["name"]), (&"workshop".into(), &"Shared".into()));
    assert!(of_plan["why"].as_str().is_some_and(|why| why.contains("may not write")), "{of_plan}");

    // It stays over a restart, and what others do goes on around it. The log goes on too, and says nothing twice.
    b.stop();
    b.up(&[]);
    eventually("both are still shown", CONVERGE_MAX, || {
        let found = b.folder("Shared")["local_only"].clone();
        if found == 2 { Ok(()) } else { Err(found.to_string()) }
    });
    fs::write(here.join("other.txt"), "from the admin").expect("a file");
    arrives(&there.join("other.txt"), "from the admin");
    assert_eq!(fs::read_to_string(here.join("plan.txt")).ok().as_deref(), Some("first"));
    assert!(!here.join("new.txt").exists());
    assert_eq!(fs::read_to_string(there.join("plan.txt")).ok().as_deref(), Some("changed by a reader"));

    says(&b.lanyard(&["revert", "Shared/plan.txt"]), "1 change in Shared taken back");
    arrives(&there.join("plan.txt"), "first");
    assert!(there.join("new.txt").exists(), "only the one path was asked for");
    assert_eq!(b.folder("Shared")["local_only"], 1);
    b.lanyard(&["revert", "Shared"]).ok();
    eventually("both trees are the same", CONVERGE_MAX, || tree::same(&here, &there));
    let kept =
        b.host.sh(&format!("cat '{}'/.lanyard/versions/plan.txt~* '{0}'/.lanyard/versions/new.txt~*", there.display()));
    assert!(kept.stdout.contains("changed by a reader") && kept.stdout.contains("made by a reader"), "{kept}");
    assert_eq!(b.folder("Shared")["local_only"], 0);
    b.lanyard(&["revert", "Shared"]).exits(1);
    let noted = audit(&b, &[]);
    let numbers: Vec<u64> = noted.iter().filter_map(|entry| entry["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=noted.len() as u64).collect::<Vec<_>>());
    assert_eq!(noted.iter().filter(|entry| entry["path"] == "plan.txt").count(), 1, "{noted:?}");
}

#[test]
fn an_expelled_machine_is_cut_off_at_once_and_its_later_work_does_not_arrive() {
    let Some(lab) = Lab::open("rules: expel") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = admin_and_member(&h1, &h2);
    let (here, there) = (a.path("Shared"), b.path("In/Shared"));

    says(&a.lanyard(&["expel", "workshop"]).ok(), "workshop is no member any more");
    eventually("neither is connected", CONVERGE_MAX, || {
        let connected = (a.connected(), b.connected());
        if connected == (Vec::new(), Vec::new()) { Ok(()) } else { Err(format!("{connected:?}")) }
    });
    fs::write(there.join("later.txt"), "after it was removed").expect("a file");
    fs::write(here.join("inside.txt"), "for members").expect("a file");
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    b.lanyard(&["status"]).ok();
    std::thread::sleep(std::time::Duration::from_secs(3));

    assert!(!here.join("later.txt").exists() && !there.join("inside.txt").exists());
    assert_eq!(fs::read_to_string(there.join("later.txt")).ok().as_deref(), Some("after it was removed"));
    assert_eq!(a.json(&["nodes"]).as_array().map(Vec::len), Some(1));
    a.lanyard(&["expel", "workshop"]).exits(1);
    let done = audit(&a, &[]);
    assert!(done.iter().any(|e| e["verdict"] == "done" && e["text"] == "removed workshop"), "{done:?}");
}

#[test]
fn what_was_granted_until_a_time_ends_then_by_itself() {
    let Some(lab) = Lab::open("rules: until") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = admin_and_member(&h1, &h2);
    let (here, there) = (a.path("Shared"), b.path("In/Shared"));
    a.lanyard(&["grant", "workshop", "Shared", "read", "--until", "8s"]).ok();
    a.lanyard(&["grant", "everyone", "Shared", "none"]).ok();
    has_level(&b, "Shared", "read");
    fs::write(here.join("in-time.txt"), "in time").expect("a file");
    arrives(&there.join("in-time.txt"), "in time");

    eventually("it sees the folder no more", CONVERGE_MAX, || {
        let found = b.folder("Shared");
        if found.is_null() { Ok(()) } else { Err(found.to_string()) }
    });
    fs::write(here.join("late.txt"), "too late").expect("a file");
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!there.join("late.txt").exists());
    assert_eq!(fs::read_to_string(there.join("in-time.txt")).ok().as_deref(), Some("in time"), "files stay");
    let rules = a.json(&["rules", "Shared"]);
    assert!(rules.as_array().expect("an array").iter().all(|r| r["subject"]["name"] != "workshop"), "{rules}");
}

#[test]
fn a_group_is_granted_to_at_once_and_who_leaves_it_loses_that() {
    let Some(lab) = Lab::open("rules: group") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = admin_and_member(&h1, &h2);
    a.lanyard(&["grant", "everyone", "Shared", "read"]).ok();
    a.lanyard(&["group", "create", "accounting"]).ok();
    a.lanyard(&["grant", "accounting", "Shared", "write"]).ok();
    has_level(&b, "Shared", "read");
    a.lanyard(&["group", "add", "accounting", "workshop"]).ok();
    has_level(&b, "Shared", "write");
    says(&b.lanyard(&["group", "list"]), "accounting  workshop");
    a.lanyard(&["group", "remove", "accounting", "workshop"]).ok();
    has_level(&b, "Shared", "read");
    a.lanyard(&["group", "remove", "accounting", "workshop"]).exits(1);
    a.lanyard(&["group", "create", "accounting"]).exits(1);
}

#[test]
fn a_folder_gets_another_name_everywhere_and_a_retired_one_ends_everywhere_but_for_its_files() {
    let Some(lab) = Lab::open("rules: retire") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = admin_and_member(&h1, &h2);
    says(&a.lanyard(&["rename", "--folder", "Shared", "Drawings"]).ok(), "'Shared' is named 'Drawings' now");
    eventually("the name is known", CONVERGE_MAX, || {
        if b.folder("Drawings").is_null() { Err(b.json(&["folders"]).to_string()) } else { Ok(()) }
    });
    a.lanyard(&["rename", "--folder", "Drawings", "a/b"]).exits(1);
    let document = a.json(&["retire", "Drawings"]);
    assert_eq!(document["folder"]["name"], "Drawings");
    eventually("it is listed nowhere", CONVERGE_MAX, || {
        let folders = (a.json(&["folders"]), b.json(&["folders"]));
        let none = serde_json::json!([]);
        if folders == (none.clone(), none) { Ok(()) } else { Err(format!("{folders:?}")) }
    });
    for file in [a.path("Shared/plan.txt"), b.path("In/Shared/plan.txt")] {
        assert_eq!(fs::read_to_string(file).ok().as_deref(), Some("first"));
    }
    a.lanyard(&["retire", "Drawings"]).exits(1);
    a.lanyard(&["grant", "everyone", "Drawings", "read"]).exits(1);
    let told: Vec<String> =
        audit(&b, &[]).iter().filter_map(|entry| entry["text"].as_str().map(str::to_owned)).collect();
    assert!(told.iter().any(|text| text == "retired the folder Drawings"), "{told:?}");
}

#[test]
fn one_admin_alone_is_warned_of_until_there_is_a_second() {
    let Some(lab) = Lab::open("rules: one admin") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = admin_and_member(&h1, &h2);
    says(&a.lanyard(&["status"]), "there is only one admin, front-desk");
    says(&a.lanyard(&["role", "workshop", "admin"]).ok(), "workshop is now an admin");
    assert!(!a.json(&["status"])["alerts"].to_string().contains("only one admin"));
    eventually("it knows", CONVERGE_MAX, || {
        let outcome = b.lanyard(&["rename", "--mesh", "Our office"]);
        if outcome.code == 0 { Ok(()) } else { Err(outcome.to_string()) }
    });
    says(&a.lanyard(&["role", "front-desk", "member"]).ok(), "front-desk is now a plain member");
    a.lanyard(&["role", "front-desk", "admin"]).exits(4);
}

#[test]
fn the_paper_key_takes_the_mesh_back_from_a_stolen_founders_machine() {
    let Some(lab) = Lab::open("rules: recovery") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b, mut c) = (h1.node("front-desk"), h2.node("workshop"), h3.node("attic"));
    a.mkdir("Shared");
    a.up(&[]);
    let shared = a.json(&["share", &a.path("Shared").display().to_string()]);
    let key = shared["founded"]["recovery_key"].as_str().expect("a key").to_string();
    b.up(&[]);
    c.up(&[]);
    a.admit(&b, &["--no-folders"]);
    a.admit(&c, &["--no-folders"]);
    eventually("all see each other", CONVERGE_MAX, || b.sees(&[&a, &c]).and_then(|()| c.sees(&[&a, &b])));

    let wrong = b.host.sh(&pipe("harvest violin", &b, ""));
    assert_eq!(wrong.code, 2, "{wrong}");
    assert!(wrong.stderr.contains("24 words"), "{wrong}");
    let mistyped = format!("x{key}");
    let wrong = b.host.sh(&pipe(&mistyped, &b, ""));
    assert!(wrong.code == 2 && wrong.stderr.contains("word 1 is none"), "{wrong}");
    // A well-formed key of another mesh.
    let wrong = b.host.sh(&pipe(OTHER_KEY, &b, ""));
    assert!(wrong.code == 4 && wrong.stderr.contains("not the recovery key"), "{wrong}");

    let done = b.host.sh(&pipe(&key.to_uppercase(), &b, "--expel front-desk"));
    assert_eq!(done.code, 0, "{done}");
    says(&done, "workshop is an admin now");
    for node in [&b, &c] {
        eventually(&format!("{} has the founder out", node.name), CONVERGE_MAX, || {
            let nodes = node.json(&["nodes"]);
            let names: Vec<&str> =
                nodes.as_array().expect("an array").iter().filter_map(|n| n["name"].as_str()).collect();
            if names.contains(&"front-desk") { Err(format!("{names:?}")) } else { Ok(()) }
        });
    }
    // Whether the stolen machine has heard of it or not: what it signs now changes nothing for the others.
    a.lanyard(&["expel", "workshop"]);
    a.lanyard(&["expel", "attic"]);
    b.lanyard(&["role", "attic", "admin"]).ok();
    eventually("the others go on without it", CONVERGE_MAX, || {
        b.sees(&[&c]).and_then(|()| c.sees(&[&b]))?;
        let nodes = c.json(&["nodes"]).to_string();
        if nodes.contains("front-desk") || !nodes.contains("\"admin\"") { Err(nodes) } else { Ok(()) }
    });
}

/// A recovery key, but of another mesh: a test vector of BIP 39.
const OTHER_KEY: &str = "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth \
                         useful legal winner thank year wave sausage worth title";

/// A shell line that pipes a key into `recover`.
fn pipe(key: &str, node: &Node<'_>, args: &str) -> String {
    let environment: Vec<String> = node.environment().iter().map(|arg| format!("'{arg}'")).collect();
    let (home, lanyard) = (node.home().display().to_string(), crate::node::LANYARD);
    format!("printf '%s\\n' '{key}' | setpriv {} {lanyard} --home '{home}' recover {args}", environment.join(" "))
}
