//! The state table of CLI.md, cell by cell: what each command that brings a node into being does in each state.
//!
//! One test a column; within it the cells follow in an order that keeps the state until the last one ends it.

use std::fs;

use crate::lab::{Host, Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree;

fn path(node: &Node<'_>, name: &str) -> String {
    node.path(name).display().to_string()
}

/// Demands that `needle` was said on either stream, whatever the letter case.
#[track_caller]
fn says(outcome: &crate::lab::Outcome, needle: &str) {
    let said = format!("{}{}", outcome.stdout, outcome.stderr).to_lowercase();
    assert!(said.contains(needle), "expected it to say {needle:?}: {outcome}");
}

/// A started admin with `Shared`, and a started member that joined it without folders.
fn admin_and_member<'lab>(h1: &'lab Host<'lab>, h2: &'lab Host<'lab>) -> (Node<'lab>, Node<'lab>) {
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    a.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&[]);
    a.admit(&b, &["--no-folders"]);
    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
    (a, b)
}

/// Waits until the node is told of a folder of that name.
#[track_caller]
fn is_offered(node: &Node<'_>, name: &str) {
    eventually(&format!("{} is offered {name}", node.name), CONVERGE_MAX, || {
        let folders = node.json(&["folders"]);
        let found = folders.as_array().is_some_and(|all| {
            all.iter().any(|folder| folder["name"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(name)))
        });
        if found { Ok(()) } else { Err(folders.to_string()) }
    });
}

#[test]
fn a_node_with_no_mesh_yet() {
    let Some(lab) = Lab::open("states: no mesh") else { return };
    let (h1, h2, h3, h4) = (lab.host(), lab.host(), lab.host(), lab.host());

    // up: runs, offers join and share
    let mut first = h1.node("first");
    first.up(&[]);
    eventually("it offers join and share", CONVERGE_MAX, || {
        let text = first.log_text();
        if text.contains("join") && text.contains("share") { Ok(()) } else { Err(text) }
    });
    assert_eq!(first.mesh(), None);
    // get FOLDER PATH, leave: exit 4
    first.lanyard(&["get", "Shared", &path(&first, "Shared")]).exits(4);
    assert!(!first.path("Shared").exists(), "a refused get made a directory");
    first.lanyard(&["leave"]).exits(4);
    // invite: founds the mesh, invites
    assert_eq!(first.mesh(), None);
    let code = first.invite(&[]);
    assert!(first.mesh().is_some());
    // join CODE: joins
    let mut joiner = h2.node("joiner");
    joiner.up(&[]);
    joiner.lanyard(&["join", &code]).ok();
    assert_eq!(joiner.mesh(), first.mesh());
    // up PATH: founds the mesh, shares
    let mut second = h3.node("second");
    second.mkdir("Shared");
    second.up(&["Shared"]);
    assert!(second.mesh().is_some() && !second.folder("Shared").is_null());
    // share PATH: founds the mesh, shares; makes the last component
    let mut third = h4.node("third");
    third.up(&[]);
    let shared = third.lanyard(&["share", &path(&third, "Made")]).ok();
    assert!(third.path("Made").is_dir(), "{shared}");
    assert!(third.mesh().is_some() && third.folder("Made")["level"] == "manage", "{}", third.folder("Made"));
}

#[test]
fn a_node_that_founded_a_mesh_and_is_alone() {
    let Some(lab) = Lab::open("states: alone") else { return };
    let host = lab.host();
    let mut node = host.node("alone");
    fs::write(node.mkdir("Shared").join("file"), "kept").expect("a file");
    node.up(&["Shared"]);
    let mesh = node.mesh();
    assert!(mesh.is_some());

    // up: runs
    node.stop();
    node.up(&[]);
    assert_eq!(node.mesh(), mesh);
    // up PATH: shares
    node.stop();
    node.mkdir("Two");
    node.up(&["Two"]);
    assert!(!node.folder("Two").is_null() && !node.folder("Shared").is_null());
    // share PATH: shares
    node.lanyard(&["share", &path(&node, "Three")]).ok();
    assert!(!node.folder("Three").is_null());
    // get FOLDER PATH: exit 4
    node.lanyard(&["get", "Elsewhere", &path(&node, "Elsewhere")]).exits(4);
    // invite: invites
    assert!(!node.invite(&[]).is_empty());
    assert_eq!(node.mesh(), mesh);
    // leave: dissolves, files stay
    node.lanyard(&["leave"]).ok();
    assert_eq!(node.mesh(), None);
    assert_eq!(fs::read_to_string(node.path("Shared/file")).ok().as_deref(), Some("kept"));
}

#[test]
fn a_node_that_is_alone_and_joins_another_mesh() {
    let Some(lab) = Lab::open("states: alone joins") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    for node in [&a, &b] {
        for dir in ["Shared", "Prices"] {
            fs::write(node.mkdir(dir).join(format!("of {}", node.name)), &node.name).expect("a file");
        }
    }
    fs::write(b.mkdir("Own").join("own"), "own").expect("a file");
    a.up(&["Shared"]);
    a.lanyard(&["share", &path(&a, "Prices"), "--everyone", "read"]).ok();
    b.up(&["Shared", "Prices", "Own"]);

    let code = a.invite(&[]);
    let joined = b.lanyard(&["join", &code]).ok();

    // own mesh dissolves, says so
    says(&joined, "dissolve");
    assert_eq!(a.mesh(), b.mesh());
    // an own folder merges into the folder of the same name if this node may write there
    eventually("Shared merged", CONVERGE_MAX, || tree::same(&a.path("Shared"), &b.path("Shared")));
    assert_eq!(a.folder("Shared")["id"], b.folder("Shared")["id"]);
    assert_eq!(tree::listing(&a.path("Shared")).len(), 2);
    // else it becomes a new folder of the joined mesh
    is_offered(&a, "Own");
    let status = b.json(&["status"]);
    let prices = path(&b, "Prices");
    let at_prices = status["folders"].as_array().into_iter().flatten().find(|folder| folder["path"] == prices.as_str());
    let at_prices = at_prices.unwrap_or_else(|| panic!("no folder at {prices}: {status}"));
    assert_ne!(at_prices["id"], a.folder("Prices")["id"]);
    assert_eq!(at_prices["level"], "manage", "its maker has manage");
    assert!(!a.path("Prices/of workshop").exists(), "nothing was written where only reading is allowed");
    assert_eq!(fs::read_to_string(b.path("Prices/of workshop")).ok().as_deref(), Some("workshop"));
}

#[test]
fn a_member() {
    let Some(lab) = Lab::open("states: member") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, mut b) = admin_and_member(&h1, &h2);

    // up: runs
    b.stop();
    b.up(&[]);
    assert_eq!(b.mesh(), a.mesh());
    // up PATH, share PATH: shares, its maker has manage
    b.stop();
    b.mkdir("One");
    b.up(&["One"]);
    b.lanyard(&["share", &path(&b, "Two")]).ok();
    for name in ["One", "Two"] {
        assert_eq!(b.folder(name)["level"], "manage", "{}", b.folder(name));
        is_offered(&a, name);
    }
    // invite: exit 4, names the admins
    b.lanyard(&["invite", "--no-wait"]).exits(4).names("front-desk");
    // join CODE: exit 4, leave first
    let code = a.invite(&[]);
    b.lanyard(&["join", &code]).exits(4).names("leave");
    assert_eq!(b.mesh(), a.mesh());
    get_over_existing_files(&a, &b);
    // leave: leaves, files stay
    b.lanyard(&["leave"]).ok();
    assert_eq!(b.mesh(), None);
    assert!(b.path("Docs/equal").exists() && b.path("One").is_dir());
    eventually("the admin sees that it left", CONVERGE_MAX, || {
        let nodes = a.json(&["nodes"]);
        if nodes.as_array().is_some_and(|all| all.len() == 1) { Ok(()) } else { Err(nodes.to_string()) }
    });
}

/// get FOLDER PATH where PATH holds files: equal ones are taken over, others merge, below `write` they stay local.
fn get_over_existing_files(owner: &Node<'_>, getter: &Node<'_>) {
    for (name, everyone) in [("Docs", "write"), ("Manuals", "read")] {
        let dir = owner.mkdir(name);
        fs::write(dir.join("equal"), "the same").expect("a file");
        fs::write(dir.join("theirs"), "theirs").expect("a file");
        owner.lanyard(&["share", &path(owner, name), "--everyone", everyone]).ok();
        let dir = getter.mkdir(name);
        fs::write(dir.join("equal"), "the same").expect("a file");
        fs::write(dir.join("mine"), "mine").expect("a file");
        is_offered(getter, name);
        getter.lanyard(&["get", name, &path(getter, name)]).ok();
    }
    eventually("Docs became the union", CONVERGE_MAX, || {
        tree::same(&owner.path("Docs"), &getter.path("Docs"))?;
        let files = tree::listing(&owner.path("Docs")).len();
        if files == 3 { Ok(()) } else { Err(format!("{files} files")) }
    });
    eventually("Manuals arrived beside what was there", CONVERGE_MAX, || {
        let files = tree::listing(&getter.path("Manuals")).len();
        if files == 3 { Ok(()) } else { Err(format!("{files} files")) }
    });
    getter.lanyard(&["wait", "--timeout", "60s"]).ok();
    assert!(!owner.path("Manuals/mine").exists(), "a reader's file was spread");
    assert_eq!(fs::read_to_string(getter.path("Manuals/mine")).ok().as_deref(), Some("mine"));
}

#[test]
fn an_admin() {
    let Some(lab) = Lab::open("states: admin") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, b) = admin_and_member(&h1, &h2);

    // up: runs
    a.stop();
    a.up(&[]);
    assert_eq!(a.mesh(), b.mesh());
    // up PATH, share PATH: shares
    a.stop();
    a.mkdir("One");
    a.up(&["One"]);
    a.lanyard(&["share", &path(&a, "Two")]).ok();
    is_offered(&b, "One");
    is_offered(&b, "Two");
    // join CODE: exit 4, leave first
    let mut c = h3.node("office");
    c.mkdir("Shared");
    c.up(&["Shared"]);
    let code = c.invite(&[]);
    a.lanyard(&["join", &code]).exits(4).names("leave");
    // get FOLDER PATH: as a member
    fs::write(b.mkdir("Theirs").join("file"), "from the member").expect("a file");
    b.lanyard(&["share", &path(&b, "Theirs")]).ok();
    is_offered(&a, "Theirs");
    if !a.folder("Theirs")["path"].is_null() {
        a.lanyard(&["drop", "Theirs"]).ok();
    }
    fs::write(a.mkdir("Got").join("mine"), "mine").expect("a file");
    a.lanyard(&["get", "Theirs", &path(&a, "Got")]).ok();
    eventually("the folder is the union", CONVERGE_MAX, || tree::same(&a.path("Got"), &b.path("Theirs")));
    assert_eq!(tree::listing(&a.path("Got")).len(), 2);
    // leave: the last admin is asked to name another first
    let refused = a.lanyard(&["leave"]);
    assert!(matches!(refused.code, 1 | 4), "{refused}");
    refused.names("admin");
    assert_eq!(a.mesh(), b.mesh());
    // invite: invites, here another admin; then leave: leaves
    let code = a.invite(&["--role", "admin"]);
    c.lanyard(&["join", &code, "--no-folders"]).ok();
    assert_eq!(a.mesh(), c.mesh());
    a.lanyard(&["leave"]).ok();
    assert_eq!(a.mesh(), None);
    assert!(c.mesh().is_some() && !c.invite(&[]).is_empty(), "the other admin carries on");
}

#[test]
fn an_expelled_node() {
    let Some(lab) = Lab::open("states: expelled") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, mut b) = admin_and_member(&h1, &h2);
    let old = a.mesh();
    a.lanyard(&["expel", "workshop"]).ok();
    eventually("it knows", CONVERGE_MAX, || {
        let status = b.lanyard(&["status"]);
        if status.stdout.to_lowercase().contains("expelled") { Ok(()) } else { Err(status.to_string()) }
    });

    // up: runs, says so
    b.stop();
    b.up(&[]);
    eventually("it says that it was expelled", CONVERGE_MAX, || {
        let text = b.log_text().to_lowercase();
        if text.contains("expelled") { Ok(()) } else { Err(text) }
    });
    // share PATH, invite, get: exit 4; leave: done already
    b.lanyard(&["share", &path(&b, "New")]).exits(4);
    b.lanyard(&["invite", "--no-wait"]).exits(4);
    b.lanyard(&["get", "Shared", &path(&b, "Shared")]).exits(4);
    b.lanyard(&["leave"]).ok();
    // up PATH: exit 4
    b.stop();
    let new = b.mkdir("New");
    b.up_to_its_end(&[&new]).exits(4);
    // join CODE: joins anew
    b.up(&[]);
    a.admit(&b, &["--no-folders"]);
    assert_eq!(b.mesh(), old);
}
