//! Addresses change and multicast is dropped; peers are reached all the same.

use std::fs;
use std::path::Path;

use crate::lab::{Host, Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};

/// Writes a new file and returns when it is on the other node: the only proof that a link carries.
#[track_caller]
fn travels(from: &Path, to: &Path, name: &str) {
    fs::write(from.join(name), name).expect("a file");
    eventually(&format!("{name} travels"), CONVERGE_MAX, || {
        let there = fs::read_to_string(to.join(name)).unwrap_or_default();
        if there == name { Ok(()) } else { Err("not there".to_owned()) }
    });
}

/// Two members with one folder, `Shared`, in both users' homes.
fn pair<'lab>(h1: &'lab Host<'lab>, h2: &'lab Host<'lab>, join: &[&str]) -> (Node<'lab>, Node<'lab>) {
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    a.mkdir("Shared");
    b.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, join);
    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
    (a, b)
}

#[test]
fn a_node_whose_address_changes_is_reached_again() {
    let Some(lab) = Lab::open("address change") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = pair(&h1, &h2, &[]);
    travels(&a.path("Shared"), &b.path("Shared"), "before");

    h2.set_address(77);

    travels(&a.path("Shared"), &b.path("Shared"), "after, to it");
    travels(&b.path("Shared"), &a.path("Shared"), "after, from it");
    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
}

#[test]
fn without_multicast_a_member_is_reached_at_its_last_known_address() {
    let Some(lab) = Lab::open("last known address") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = pair(&h1, &h2, &[]);
    a.stop();
    b.stop();
    h1.block_multicast();
    h2.block_multicast();

    a.up(&[]);
    b.up(&[]);

    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
    travels(&a.path("Shared"), &b.path("Shared"), "file");
}

#[test]
fn without_multicast_a_configured_peer_is_reached() {
    let Some(lab) = Lab::open("configured peer") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = pair(&h1, &h2, &[]);
    a.stop();
    b.stop();
    h1.block_multicast();
    h2.block_multicast();
    // No last known address is right any more, on either side.
    h1.set_address(81);
    h2.set_address(82);
    // A host of the lab has one node, at the usual port.
    configure(&b, &format!("peers = [\"{}:47474\"]", h1.address()));

    a.up(&[]);
    b.up(&[]);

    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
    travels(&a.path("Shared"), &b.path("Shared"), "file");
}

#[test]
fn without_multicast_join_at_finds_the_inviter_and_members_tell_each_other() {
    let Some(lab) = Lab::open("join at") else { return };
    let hosts = [lab.host(), lab.host(), lab.host()];
    for host in &hosts {
        host.block_multicast();
    }
    let mut nodes = [hosts[0].node("front-desk"), hosts[1].node("workshop"), hosts[2].node("office")];
    for node in &mut nodes {
        node.mkdir("Shared");
        node.up(&["Shared"]);
    }
    let [a, b, c] = &nodes;
    let at = format!("{}:47474", hosts[0].address());

    a.admit(b, &["--at", &at]);
    a.admit(c, &["--at", &at]);

    eventually("the two that joined were told of each other", CONVERGE_MAX, || {
        b.sees(&[a, c]).and_then(|()| c.sees(&[a, b]))
    });
    // With the one that told them cut off, they still talk.
    nodes[0].stop();
    let [_, b, c] = &nodes;
    travels(&b.path("Shared"), &c.path("Shared"), "file");
}

/// Puts one top-level line into the node's configuration, which may exist.
fn configure(node: &Node<'_>, line: &str) {
    let path = node.home().join("config.toml");
    let old = fs::read_to_string(&path).unwrap_or_default();
    let key = line.split('=').next().unwrap_or_default().trim();
    let kept: Vec<&str> = old.lines().filter(|l| l.split('=').next().unwrap_or_default().trim() != key).collect();
    fs::write(&path, format!("{line}\n{}\n", kept.join("\n"))).expect("a configuration");
}
