//! `lanyard doctor`: silent on a healthy machine, and each planted problem is found, named and given a remedy.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::lab::{Host, Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};

/// Where Debian and Ubuntu put the library.
const LIBRARIES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];
/// Findings change with what the node notices. A guess: it looks at its disk every few seconds.
const NOTICED: Duration = Duration::from_secs(40);

/// What the doctor finds: the names of its checks, and everything it says.
fn examined(node: &Node<'_>) -> (Vec<String>, String) {
    let said = node.lanyard(&["doctor", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let found = found.as_array().expect("a list").clone();
    assert_eq!(said.code, i32::from(!found.is_empty()), "{said}");
    for one in &found {
        assert!(one["remedy"].as_str().is_some_and(|remedy| remedy.len() > 10), "{one}");
    }
    (found.iter().filter_map(|one| one["check"].as_str().map(str::to_owned)).collect(), said.stdout)
}

#[track_caller]
fn finds(node: &Node<'_>, checks: &[&str]) {
    eventually(&format!("the doctor finds {checks:?}"), NOTICED, || {
        let (found, said) = examined(node);
        if found == checks { Ok(()) } else { Err(said) }
    });
}

/// Two admins, each with the folder `Shared`.
fn healthy<'lab>(h1: &'lab Host<'lab>, h2: &'lab Host<'lab>, under: Vec<String>) -> (Node<'lab>, Node<'lab>) {
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    b.under = under;
    a.ordinary = true;
    a.mkdir("Shared");
    b.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    let code = a.invite(&["--role", "admin"]);
    b.lanyard(&["join", &code]).ok();
    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
    (a, b)
}

#[test]
fn what_is_planted_is_found_and_what_is_put_right_is_not_said_any_more() {
    let Some(lab) = Lab::open("doctor") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, b) = healthy(&h1, &h2, Vec::new());
    finds(&a, &[]);
    finds(&b, &[]);
    assert_eq!(a.lanyard(&["doctor"]).ok().stdout, "nothing found\n");

    // The firewall of this machine drops multicast; then that of the other does.
    h1.block_multicast();
    finds(&a, &["multicast"]);
    finds(&b, &["multicast"]);
    h1.sh("nft delete table inet mute").ok();
    finds(&a, &[]);

    // The port is blocked.
    h1.sh("nft add table inet shut; nft add chain inet shut i '{ type filter hook input priority 0; }'
         nft add rule inet shut i tcp flags syn tcp dport 47474 drop")
        .ok();
    finds(&a, &["firewall"]);
    h1.sh("nft delete table inet shut").ok();

    // One admin is left.
    a.lanyard(&["role", "workshop", "member"]).ok();
    finds(&a, &["admins"]);
    a.lanyard(&["role", "workshop", "admin"]).ok();

    // The folder's directory, and the place of its versions, are locked.
    let shared = a.path("Shared");
    let lock = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    for path in [shared.clone(), shared.join(".lanyard/versions")] {
        lock(&path, 0o000);
        finds(&a, &["permissions"]);
        lock(&path, 0o700);
        finds(&a, &[]);
    }

    // The marker is gone, as when a disk is not mounted.
    let (marker, aside) = (shared.join(".lanyard/marker"), a.path("marker"));
    fs::rename(&marker, &aside).expect("a rename");
    finds(&a, &["marker"]);
    fs::rename(&aside, &marker).expect("a rename");
    finds(&a, &[]);

    // Without a node: another program has its port, and its configuration has a mistake.
    a.stop();
    finds(&a, &[]);
    let mut other = h1.node("other");
    other.up(&[]);
    finds(&a, &["port"]);
    fs::write(a.home().join("config.toml"), "prot = 1\n").expect("a file");
    finds(&a, &["configuration", "port"]);
}

#[test]
fn a_clock_that_is_off_by_a_day_is_found() {
    let Some(library) = LIBRARIES.into_iter().find(|path| Path::new(path).exists()) else {
        let _closed = writeln!(std::io::stderr(), "SKIPPED: doctor and clocks: faketime is not installed");
        return;
    };
    let Some(lab) = Lab::open("doctor clock") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let under = [
        "env",
        &format!("LD_PRELOAD={library}"),
        "FAKETIME=+1d",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        "DONT_FAKE_MONOTONIC=1",
        "NO_FAKE_STAT=1",
    ];
    let (a, b) = healthy(&h1, &h2, under.map(str::to_owned).to_vec());
    finds(&a, &["clock"]);
    finds(&b, &["clock"]);
    assert!(
        examined(&b).1.contains("24 hours ahead of that of front-desk") || examined(&b).1.contains("23 hours ahead")
    );
}

#[test]
fn few_watches_and_a_disk_that_is_nearly_full_are_found() {
    let Some(lab) = Lab::open("doctor limits") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    // The limit holds in a user namespace only.
    let limited = "echo 10 >/proc/sys/user/max_inotify_watches; exec \"$@\"";
    let under = ["unshare", "-Ur", "sh", "-ec", limited, "sh"].map(str::to_owned).to_vec();
    let (a, b) = healthy(&h1, &h2, under);
    for number in 0..20 {
        b.mkdir(&format!("Shared/{number}"));
    }
    finds(&b, &["watches"]);
    finds(&a, &[]);

    let disk = a.path("disk");
    fs::create_dir(&disk).expect("a directory");
    h1.sh(&format!("mount -t tmpfs -o size=40m tmpfs {}", disk.display())).ok();
    a.lanyard(&["share", disk.to_str().expect("UTF-8"), "--name", "small"]).ok();
    finds(&a, &[]);
    fs::write(h1.seen(&disk).join("large"), vec![7; 39 << 20]).expect("it fits");
    finds(&a, &["space"]);
}
