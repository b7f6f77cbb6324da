//! What is dropped on one node arrives on the others as it was, and what is there already is not sent.

use std::fs;
use std::process::Command;

use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::tree;

#[test]
fn two_nodes_that_both_shared_before_they_were_paired_become_one_mesh() {
    let Some(lab) = Lab::open("pairing") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    fs::write(a.mkdir("Shared").join("from a.txt"), "a").expect("a file");
    fs::write(b.mkdir("Shared").join("from b.txt"), "b").expect("a file");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    assert_ne!(a.mesh(), b.mesh());

    a.admit(&b, &[]);

    assert_eq!(a.mesh(), b.mesh());
    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
    eventually("the folders became one", CONVERGE_MAX, || {
        tree::same(&a.path("Shared"), &b.path("Shared"))?;
        if tree::listing(&a.path("Shared")).len() == 2 { Ok(()) } else { Err("not both files".to_owned()) }
    });
    assert_eq!(a.folder("Shared")["id"], b.folder("Shared")["id"]);
}

#[test]
fn invite_prints_its_code_alone_on_the_last_line_and_waits_until_it_is_used() {
    let Some(lab) = Lab::open("invite") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    a.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&[]);

    let shown = a.lanyard(&["invite", "--no-wait"]).ok();
    let code = shown.stdout.lines().last().unwrap_or_default().trim().to_owned();
    assert!(code.split('-').count() == 3 && !code.contains(' '), "a code alone on the last line: {shown}");
    b.lanyard(&["join", &code]).ok();
    assert_eq!(a.mesh(), b.mesh());

    let mut late = h3.node("late");
    late.up(&[]);
    let refused = late.lanyard(&["join", &code]);
    assert!(refused.code != 0 && late.mesh().is_none(), "a code is used once: {refused}");
    let mut waiting = a.spawn(&["invite"]);
    let code = waiting.code();
    late.lanyard(&["join", &code]).ok();
    waiting.finish("lanyard invite").ok();
    assert_eq!(a.mesh(), late.mesh());
}

#[test]
fn a_real_tree_arrives_identical() {
    let Some(lab) = Lab::alone("real tree") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let shared = a.mkdir("Shared");
    println!("real tree: {}", tree::real_tree(&shared));
    tree::garnish(&shared);
    let before = tree::snapshot(&shared);
    a.up(&["Shared"]);
    b.up(&[]);

    a.admit(&b, &["--into", &b.path("In").display().to_string()]);

    eventually("the folder is offered and taken", CONVERGE_MAX, || {
        let path = b.folder("Shared")["path"].as_str().map(str::to_owned);
        path.ok_or_else(|| "no path yet".to_owned())
    });
    let there = b.folder("Shared")["path"].as_str().map(std::path::PathBuf::from).expect("just seen");
    assert!(there.starts_with(b.path("In")), "received under --into: {}", there.display());
    eventually("the tree arrived", CONVERGE_MAX * 2, || tree::same(&shared, &there));
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    b.lanyard(&["wait", "--timeout", "60s"]).ok();
    let lines = tree::diff(&before, &tree::snapshot(&shared));
    assert!(lines.is_empty(), "sharing changed the original: {lines:#?}");

    // The state says the same as the disk.
    let files = before.iter().filter(|item| item.kind == tree::Kind::File).count() as u64;
    let folder = b.folder("Shared");
    assert_eq!(folder["need"]["files"], 0, "{folder}");
    assert!(folder["local"]["files"].as_u64().is_some_and(|counted| counted >= files), "{files} files: {folder}");
}

#[test]
fn equal_trees_on_both_sides_merge_without_transfer_and_without_conflicts() {
    let Some(lab) = Lab::alone("equal trees") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let shared = a.mkdir("Shared");
    let bytes = tree::office(&shared, 2000, 11, tree::OFFICE);
    tree::garnish(&shared);
    let copied = Command::new("cp").arg("-a").arg(&shared).arg(b.path("Shared")).status();
    assert!(copied.is_ok_and(|status| status.success()));
    // As after a copy without times: same bytes, other mtime.
    fs::File::open(b.path("Shared/odd/secret"))
        .and_then(|file| file.set_modified(std::time::SystemTime::now()))
        .expect("a time");
    let before = tree::listing(&shared).len();
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    let wire = h1.wire_bytes();

    a.admit(&b, &[]);
    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
    eventually("the folders became one", CONVERGE_MAX, || {
        let (x, y) = (a.folder("Shared"), b.folder("Shared"));
        if x["id"] == y["id"] && !x["id"].is_null() { Ok(()) } else { Err(format!("{x} | {y}")) }
    });
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    b.lanyard(&["wait", "--timeout", "60s"]).ok();
    eventually("both are the same", CONVERGE_MAX, || tree::same(&shared, &b.path("Shared")));

    let after = tree::listing(&shared);
    assert_eq!(after.len(), before, "nothing was added, a conflict copy neither");
    let sent = h1.wire_bytes() - wire;
    println!("equal trees: {sent} bytes on the wire for {bytes} bytes in 2,000 files");
    assert!(sent < bytes / 20, "{sent} bytes on the wire for {bytes} bytes that were there already");
}
