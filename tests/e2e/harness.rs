//! The lab itself, tested without the product: what the other tests rely on is so.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::lab::{Host, Lab, eventually, finish};
use crate::tree::{self, Dice, OFFICE};

/// A port where nothing listens: a refusal is an answer.
const CLOSED: u16 = 9;

/// This test binary again, inside a host: what a small tool would do, without needing one installed.
fn hand(host: &Host<'_>, task: &str) -> Command {
    let program = std::env::current_exe().expect("this program has a path").display().to_string();
    let mut command = host.bounded(Duration::from_secs(8), &program);
    command.args(["--exact", "harness::the_hand_of_other_tests", "--nocapture"]).env("LANYARD_HAND", task);
    command
}

#[test]
fn the_hand_of_other_tests() {
    // Not a test by itself: nothing to do unless another test started this program.
    let Ok(task) = std::env::var("LANYARD_HAND") else { return };
    let (verb, address) = task.split_once(' ').expect("a verb and an address");
    match verb {
        "hear" => {
            let socket = UdpSocket::bind("0.0.0.0:5353").expect("the port is free in a fresh host");
            let own: Ipv4Addr = address.parse().expect("an address");
            socket.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &own).expect("multicast");
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
            println!("\nlistening");
            socket.recv(&mut [0; 99]).expect("a datagram");
        }
        "say" => {
            let socket = UdpSocket::bind((address, 0)).expect("a socket");
            socket.send_to(b"hello", "224.0.0.251:5353").map(|_| ()).unwrap_or(());
        }
        "send" => {
            // Counted whether or not anybody takes it.
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            for _ in 0..4 {
                socket.send_to(&[7; 1000], address).map(|_| ()).unwrap_or(());
            }
        }
        _ => {
            let address = address.parse().expect("an address and a port");
            match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}"),
            }
        }
    }
}

fn reaches(from: &Host<'_>, to: &str) -> bool {
    finish(hand(from, &format!("reach {to}:{CLOSED}")), "reach").code == 0
}

fn hears(from: &Host<'_>, to: &Host<'_>) -> bool {
    let mut ear = hand(to, &format!("hear {}", to.address()));
    let mut ear = ear.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("nsenter is here");
    let lines = BufReader::new(ear.stdout.take().expect("piped")).lines();
    for line in lines.map_while(Result::ok) {
        if line == "listening" {
            let _ = finish(hand(from, &format!("say {}", from.address())), "say");
        }
    }
    ear.wait().is_ok_and(|status| status.success())
}

#[test]
fn hosts_reach_each_other_and_hear_multicast_until_it_is_blocked_or_they_are_parted() {
    let Some(lab) = Lab::open("harness") else { return };
    let (a, b, c) = (lab.host(), lab.host(), lab.host());

    assert!(reaches(&a, &b.address()) && reaches(&b, &c.address()));
    assert!(hears(&a, &b) && hears(&b, &a));

    let before = (a.wire_bytes(), b.wire_bytes());
    finish(hand(&a, &format!("send {}:{CLOSED}", b.address())), "send").ok();
    assert!(a.wire_bytes() - before.0 > 4000 && b.wire_bytes() - before.1 > 4000, "both directions count");

    lab.partition(&a, &b);
    assert!(!reaches(&a, &b.address()) && !reaches(&b, &a.address()));
    assert!(reaches(&a, &c.address()) && reaches(&b, &c.address()));
    lab.heal();
    eventually("healed", Duration::from_secs(5), || {
        if reaches(&a, &b.address()) { Ok(()) } else { Err("no answer".to_owned()) }
    });

    b.set_address(77);
    assert_eq!(b.address(), "10.9.0.77");
    assert!(reaches(&a, &b.address()) && !reaches(&a, "10.9.0.3"));

    b.block_multicast();
    assert!(!hears(&a, &b) && !hears(&b, &a) && hears(&a, &c) && reaches(&a, &b.address()));
}

#[test]
fn an_ordinary_node_cannot_read_what_a_mode_forbids() {
    let Some(lab) = Lab::open("harness ordinary") else { return };
    let host = lab.host();
    let mut node = host.node("node");
    let path = node.path("locked");
    fs::write(&path, "x").expect("a file");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).expect("a mode");
    let reads = |node: &crate::node::Node<'_>| {
        let mut cat = host.bounded(Duration::from_secs(5), "setpriv");
        cat.args(node.environment()).arg("cat").arg(&path);
        finish(cat, "cat").code == 0
    };
    assert!(reads(&node));
    node.ordinary = true;
    assert!(!reads(&node));
}

#[test]
fn what_the_lab_started_ends_with_it() {
    let Some(lab) = Lab::open("harness end") else { return };
    let pids: Vec<u32> = {
        let host = lab.host();
        let mut child = host.command("sleep").arg("60").spawn().expect("nsenter is here");
        let pid = child.id();
        eventually("it runs", Duration::from_secs(5), || {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim() == "sleep" { Ok(()) } else { Err(name) }
        });
        child.kill().and_then(|()| child.wait()).expect("a child of ours");
        // A bounded command ends at its bound.
        let mut bounded = host.bounded(Duration::from_millis(200), "sleep");
        bounded.arg("60");
        assert_eq!(finish(bounded, "sleep").code, 137);
        vec![pid]
    };
    drop(lab);
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn a_comparison_of_trees_sees_every_kind_of_difference() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::create_dir(&a).expect("a directory");
    tree::office(&a, 60, 1, OFFICE);
    tree::garnish(&a);
    assert!(std::process::Command::new("cp").arg("-a").args([&a, &b]).status().is_ok_and(|status| status.success()));
    assert_eq!(tree::same(&a, &b), Ok(()));

    let mut seen = Vec::new();
    type Change = (&'static str, fn(&Path));
    let changes: [Change; 6] = [
        ("mode", |b| {
            std::fs::set_permissions(b.join("odd/secret"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .expect("a mode")
        }),
        ("time", |b| {
            let file = fs::File::open(b.join("odd/of 2001")).expect("a file");
            file.set_modified(std::time::UNIX_EPOCH + Duration::new(981_173_106, 123_456_788)).expect("a time");
        }),
        ("link", |b| {
            fs::remove_file(b.join("odd/dangling")).expect("a link");
            std::os::unix::fs::symlink("/nowhere/at al", b.join("odd/dangling")).expect("a link");
        }),
        ("bytes", |b| {
            let path = b.join("odd/script.sh");
            let when = fs::metadata(&path).and_then(|meta| meta.modified()).expect("a time");
            fs::write(&path, "SCRIPT.sh").expect("a file");
            fs::File::open(&path).and_then(|file| file.set_modified(when)).expect("a time");
        }),
        ("empty directory", |b| fs::remove_dir(b.join("odd/empty/inside an empty one")).expect("a directory")),
        ("new file", |b| fs::write(b.join("zz"), "").expect("a file")),
    ];
    for (what, change) in changes {
        change(&b);
        let lines = tree::diff(&tree::snapshot(&a), &tree::snapshot(&b));
        assert_eq!(lines.len(), seen.len() + 1, "{what}: {lines:?}");
        seen = lines;
    }
}

#[test]
fn the_same_seed_makes_the_same_tree() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let make = |name: &str, seed| {
        fs::create_dir(dir.path().join(name)).expect("a directory");
        tree::office(&dir.path().join(name), 100, seed, OFFICE);
        let items = tree::snapshot(&dir.path().join(name));
        items.into_iter().map(|item| (item.path, item.hash)).collect::<Vec<_>>()
    };
    assert_eq!(make("a", 5), make("b", 5));
    assert_ne!(make("c", 6), make("d", 5));
    assert_eq!(Dice(1).bytes(13).len(), 13);
}
