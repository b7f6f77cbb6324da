//! Members that cannot reach each other are connected through a relay, which sees ciphertext only.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, RecvFlags, SocketType};
use serde_json::Value;

use crate::lab::{Host, Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};

/// What the secret file says, over and over: a search in what was captured finds any part of it.
const SECRET: &str = "the salary of everybody in this office, ";

/// How `of` sees `who` among the members.
fn seen(of: &Node<'_>, who: &Node<'_>) -> Value {
    let outcome = of.lanyard(&["nodes", "--json"]);
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
    let nodes = document.as_array().cloned().unwrap_or_default();
    nodes.into_iter().find(|node| node["name"] == who.name.as_str()).unwrap_or_default()
}

/// Whether two nodes list each other as connected through `via`, or directly.
fn connected(a: &Node<'_>, b: &Node<'_>, via: Option<&Node<'_>>) -> Result<(), String> {
    for (of, who) in [(a, b), (b, a)] {
        let seen = seen(of, who);
        let wanted = via.map(|relay| relay.name.as_str());
        if seen["connected"] != true || seen["via"].as_str() != wanted {
            return Err(format!("{} sees {seen}, wanted via {wanted:?}", of.name));
        }
    }
    Ok(())
}

#[track_caller]
fn travels(from: &Path, to: &Path, name: &str, bytes: &[u8]) {
    fs::write(from.join(name), bytes).expect("a file");
    eventually(&format!("{name} travels"), CONVERGE_MAX, || match fs::read(to.join(name)) {
        Ok(there) if there == bytes => Ok(()),
        Ok(there) => Err(format!("{} of {} bytes, or others", there.len(), bytes.len())),
        Err(error) => Err(error.to_string()),
    });
}

/// Everything that crosses a host's network card while it lives: this program again, inside the host.
struct Capture {
    child: Child,
    file: PathBuf,
}

#[test]
fn what_passes_a_network_card_is_written_down() {
    // Not a test by itself: nothing to do unless another test started this program.
    let Some(file) = std::env::var_os("LANYARD_CAPTURE") else { return };
    let socket = net::socket(AddressFamily::PACKET, SocketType::RAW, Some(net::eth::ALL)).expect("a packet socket");
    // Where that much is not allowed, packets are lost and not all is seen; what is seen is still searched.
    let _ = net::sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20);
    let mut file = fs::File::create(file).expect("a file");
    let mut frame = vec![0; 128 * 1024];
    // Ended by who started it; the bound is for one that forgets.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(300) {
        let (bytes, _) = net::recv(&socket, &mut frame[..], RecvFlags::empty()).expect("a frame");
        file.write_all(&frame[..bytes]).expect("room for it");
    }
}

impl Capture {
    fn start(host: &Host<'_>, file: &Path) -> Self {
        let program = std::env::current_exe().expect("this program has a path").display().to_string();
        let mut command = host.bounded(Duration::from_secs(300), &program);
        command.args(["--exact", "relay::what_passes_a_network_card_is_written_down", "--nocapture"]);
        command.env("LANYARD_CAPTURE", file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("this program runs again");
        let capture = Self { child, file: file.to_path_buf() };
        eventually("the capture has begun", Duration::from_secs(20), || {
            if file.exists() { Ok(()) } else { Err("no file".to_owned()) }
        });
        capture
    }

    /// Returns when this was seen: all that was sent before it was, too.
    fn has_seen(&self, mark: &[u8]) {
        eventually("the mark is captured", Duration::from_secs(20), || {
            let bytes = fs::read(&self.file).expect("a capture");
            if contains(&bytes, mark) { Ok(()) } else { Err(format!("{} bytes", bytes.len())) }
        });
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.file).expect("a capture")
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// An office where everybody is linked with everybody, and `server` and `spare` are eligible but may read nothing.
fn office<'lab>(hosts: &'lab [Host<'lab>]) -> Vec<Node<'lab>> {
    let names = ["front-desk", "workshop", "server", "spare"];
    let mut nodes: Vec<Node<'lab>> = hosts.iter().zip(names).map(|(host, name)| host.node(name)).collect();
    nodes[0].mkdir("Shared");
    nodes[0].up(&["Shared"]);
    for node in &mut nodes[1..] {
        node.up(&[]);
    }
    let (a, others) = nodes.split_first().expect("some");
    a.lanyard(&["grant", "everyone", "Shared", "none"]).ok();
    a.lanyard(&["grant", "front-desk", "Shared", "manage"]).ok();
    for node in others {
        a.admit(node, &[]);
    }
    a.lanyard(&["grant", "workshop", "Shared", "write"]).ok();
    for (at, relay) in nodes[2..].iter().enumerate() {
        let priority = (200 - at).to_string();
        a.lanyard(&["coordinator", "allow", &relay.name, "--priority", &priority]).ok();
    }
    let all: Vec<&Node<'_>> = nodes.iter().collect();
    for node in &nodes {
        let others: Vec<&Node<'_>> = all.iter().copied().filter(|other| other.name != node.name).collect();
        eventually("all are connected", CONVERGE_MAX, || node.sees(&others));
    }
    let b = &nodes[1];
    fs::create_dir_all(b.path("Shared")).expect("a directory");
    let there = b.path("Shared").display().to_string();
    eventually("the workshop may receive it", CONVERGE_MAX, || {
        let outcome = b.lanyard(&["get", "Shared", &there]);
        let has = !b.folder("Shared")["path"].is_null();
        if outcome.code == 0 || has { Ok(()) } else { Err(outcome.to_string()) }
    });
    nodes
}

/// Where a node has the folder.
fn place(node: &Node<'_>) -> PathBuf {
    node.folder("Shared")["path"].as_str().expect("it is received").into()
}

#[test]
fn two_that_are_cut_off_from_each_other_share_through_a_relay_that_may_read_nothing() {
    let Some(lab) = Lab::open("relay") else { return };
    let hosts = [lab.host(), lab.host(), lab.host()];
    let nodes = office(&hosts);
    let [a, b, c] = &nodes[..] else { panic!("three") };
    let (here, there) = (place(a), place(b));
    travels(&here, &there, "before", b"directly");
    assert!(connected(a, b, None).is_ok());

    lab.partition(&hosts[0], &hosts[1]);
    let capture = Capture::start(&hosts[2], &lab.dir().join("capture"));
    eventually("they meet at the server", CONVERGE_MAX, || connected(a, b, Some(c)));
    // Small ones travel on the control link, the large one on a link of its own; both go through the relay.
    let small = SECRET.repeat(100);
    let large = SECRET.repeat(200_000);
    travels(&here, &there, "small", small.as_bytes());
    travels(&here, &there, "large", large.as_bytes());
    travels(&there, &here, "back", small.as_bytes());
    let shown = a.lanyard(&["nodes"]).ok().stdout;
    assert!(shown.contains("connected via server"), "{shown}");
    assert!(a.lanyard(&["status"]).ok().stdout.contains("connected via server"));
    assert!(c.folder("Shared")["path"].is_null(), "the relay does not have the folder");
    // What is sent in the clear is found in what was captured; what went through the relay is not.
    let mark = "a mark in the clear";
    hosts[0].sh(&format!("bash -c 'echo {mark} > /dev/udp/{}/9'", hosts[2].address())).ok();
    capture.has_seen(mark.as_bytes());
    let bytes = capture.bytes();
    assert!(bytes.len() > large.len(), "{} bytes captured: what was shared passed here", bytes.len());
    assert!(!contains(&bytes, &SECRET.as_bytes()[..12]), "the relay saw a content");
    drop(capture);

    lab.heal();
    eventually("they move to the direct way", CONVERGE_MAX * 2, || connected(a, b, None));
    travels(&there, &here, "after", b"directly again");
    eventually("the relay is left", CONVERGE_MAX, || {
        let log = c.log_text();
        let (begun, ended) = (log.matches("relaying from").count(), log.matches("relayed from").count());
        if begun > 0 && begun == ended { Ok(()) } else { Err(format!("{begun} begun, {ended} ended")) }
    });
}

#[test]
fn when_the_relay_dies_another_one_takes_its_place() {
    let Some(lab) = Lab::open("relay dies") else { return };
    let hosts = [lab.host(), lab.host(), lab.host(), lab.host()];
    let mut nodes = office(&hosts);
    let (here, there) = (place(&nodes[0]), place(&nodes[1]));
    lab.partition(&hosts[0], &hosts[1]);
    eventually("they meet at the preferred one", CONVERGE_MAX, || connected(&nodes[0], &nodes[1], Some(&nodes[2])));
    travels(&here, &there, "through the first", b"first");

    nodes[2].kill9();

    fs::write(here.join("meanwhile"), b"nobody relays").expect("a file");
    eventually("they meet at the other", CONVERGE_MAX, || connected(&nodes[0], &nodes[1], Some(&nodes[3])));
    travels(&there, &here, "through the second", b"second");
    assert_eq!(fs::read(there.join("meanwhile")).expect("it travelled, too"), b"nobody relays");

    // Who is not eligible any more relays nothing from then on.
    nodes[0].lanyard(&["coordinator", "deny", "spare"]).ok();
    eventually("they are apart", CONVERGE_MAX, || {
        let seen = seen(&nodes[0], &nodes[1]);
        if seen["connected"] == false { Ok(()) } else { Err(seen.to_string()) }
    });
}
