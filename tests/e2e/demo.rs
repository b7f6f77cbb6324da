//! `lanyard demo`: what a visitor runs first.

use std::fs;
use std::time::Duration;

use crate::lab::{Lab, finish};
use crate::node::LANYARD;

#[test]
fn the_demo_shows_a_file_arriving_and_cleans_up() {
    let Some(lab) = Lab::open("demo") else { return };
    let host = lab.host();
    let node = host.node("visitor");
    let before = fs::read_dir(node.path("")).map(Iterator::count).unwrap_or(0);

    // In a process namespace of its own, so that nothing it starts can outlive this test.
    let mut command = host.bounded(Duration::from_secs(60), "unshare");
    command.args(["-p", "--fork", "--kill-child", "setpriv"]).args(node.environment()).args([LANYARD, "demo"]);
    let shown = finish(command, "lanyard demo").ok();

    assert!(!shown.stdout.trim().is_empty(), "it says what it does: {shown}");
    assert_eq!(
        fs::read_dir(node.path("")).map(Iterator::count).unwrap_or(0),
        before,
        "it cleans up in the home directory"
    );
    assert!(!node.home().exists() || fs::read_dir(node.home()).is_ok_and(|mut entries| entries.next().is_none()));
    // None of its nodes is left in this host's network.
    let left = host.sh("ss -Hltn 2>/dev/null || cat /proc/net/tcp | grep ' 0A ' || true");
    assert_eq!(left.stdout.trim(), "", "something still listens");
}
