//! Members that cannot reach each other are connected through a relay, which sees ciphertext only.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lanyard::base::{DiscoveryKey, NodeId};
use lanyard::shell::keystore::Keystore;
use lanyard::shell::net::link::Limits;
use lanyard::shell::net::{DialError, Dialler, KeyRing, LinkId};
use lanyard::shell::rt;
use lanyard::wire::codec::Text;
use lanyard::wire::message::{Hello, Message, Purpose, RelayCall};
use lanyard::wire::relay::{Answer, Meeting};
use lanyard::wire::versions::Speaks;
use rustix::net::{self, AddressFamily, RecvFlags, SocketType};
use serde_json::Value;

use crate::lab::{Host, Lab, eventually, finish};
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
    eventually("the workshop receives it", CONVERGE_MAX, || {
        let folder = nodes[1].folder("Shared");
        if folder["path"].is_string() { Ok(()) } else { Err(folder.to_string()) }
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

    let cut = Instant::now();
    lab.partition(&hosts[0], &hosts[1]);
    let capture = Capture::start(&hosts[2], &lab.dir().join("capture"));
    eventually("they meet at the server", CONVERGE_MAX, || connected(a, b, Some(c)));
    println!("cut off from each other, they met at the relay after {} ms", cut.elapsed().as_millis());
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

    let healed = Instant::now();
    lab.heal();
    // What is on its way while they move arrives, too.
    let moving = SECRET.repeat(400_000);
    travels(&here, &there, "moving", moving.as_bytes());
    eventually("they move to the direct way", CONVERGE_MAX * 2, || connected(a, b, None));
    println!("the direct way was open, they used it after {} ms", healed.elapsed().as_millis());
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

    let killed = Instant::now();
    nodes[2].kill9();

    fs::write(here.join("meanwhile"), b"nobody relays").expect("a file");
    eventually("they meet at the other", CONVERGE_MAX, || connected(&nodes[0], &nodes[1], Some(&nodes[3])));
    println!("their relay was killed, they met at the next after {} ms", killed.elapsed().as_millis());
    travels(&there, &here, "through the second", b"second");
    assert_eq!(fs::read(there.join("meanwhile")).expect("it travelled, too"), b"nobody relays");

    // Who is not eligible any more relays nothing from then on.
    nodes[0].lanyard(&["coordinator", "deny", "spare"]).ok();
    eventually("they are apart", CONVERGE_MAX, || {
        let seen = seen(&nodes[0], &nodes[1]);
        if seen["connected"] == false { Ok(()) } else { Err(seen.to_string()) }
    });
}

/// A member that wants of a relay what it must not get. It is a real member with a real key; only its program is not ours.
#[test]
fn the_hand_at_the_relay() {
    // Not a test by itself: nothing to do unless another test started this program.
    let Ok(task) = std::env::var("LANYARD_RELAY_HAND") else { return };
    let task: Value = serde_json::from_str(&task).expect("JSON");
    let text = |key: &str| task[key].as_str().unwrap_or_else(|| panic!("no {key}")).to_owned();
    let id = |key: &str| NodeId::from_text(&text(key)).expect("an id");
    let at = |key: &str| text(key).parse::<SocketAddr>().expect("an address");
    let state = PathBuf::from(text("home")).join("state");
    let key = Keystore::open(&state.join("key")).expect("the member's key").key().clone();
    let record: Value = serde_json::from_slice(&fs::read(state.join("node.json")).expect("its record")).expect("JSON");
    let discovery = record["mesh"]["keys"].as_array().expect("keys").iter().map(|key| {
        let hex = key["key"].as_str().expect("a key").as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex");
        DiscoveryKey(hex.chunks(2).map(byte).collect::<Vec<_>>().try_into().expect("32 bytes"))
    });
    let door = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = door.local_addr().expect("its address").port();
    let hello = Hello { software: Text::truncated("hostile"), purpose: Purpose::Control, run: 66, port };
    let me = NodeId(key.verifying_key().to_bytes());
    let dialler = Dialler {
        key,
        ring: KeyRing::new(discovery.collect()),
        is_member: Arc::new(|_| true),
        hello,
        speaks: Speaks::default(),
    };
    let (server, front) = (id("server"), id("front"));

    // Neither itself, nor the relay, nor a stranger; nor anybody where no admin allowed it; nor a meeting that is not.
    for (relay, addr, to) in [
        (server, at("server_at"), me),
        (server, at("server_at"), server),
        (server, at("server_at"), NodeId([9; 32])),
        (front, at("front_at"), server),
    ] {
        let answer = rt::block_on(dialler.dial_through(addr, relay, to, Purpose::Control)).expect_err("refused");
        assert!(matches!(answer, DialError::Relay { answer: Answer::Refused, .. }), "{to:?}: {answer:?}");
    }
    let guessed = rt::block_on(dialler.meet(at("server_at"), server, Meeting([7; 16]))).expect_err("refused");
    assert!(matches!(guessed, DialError::Relay { answer: Answer::Refused, .. }), "{guessed:?}");

    // A crowd of one: beyond what a pair may have all are sent away with a time.
    let asking: Vec<_> = (0..12)
        .map(|_| {
            let (dialler, addr) = (dialler.clone(), at("server_at"));
            rt::spawn(async move { dialler.dial_through(addr, server, front, Purpose::Bulk).await })
        })
        .collect();
    let answers: Vec<_> = asking.into_iter().map(rt::block_on).collect();
    let busy = |answer: &&Result<_, _>| match answer {
        Err(DialError::Relay { answer: Answer::Busy(retry_ms), .. }) => *retry_ms >= 500,
        _ => false,
    };
    let (made, busy) = (answers.iter().filter(|answer| answer.is_ok()).count(), answers.iter().filter(busy).count());
    assert!(made <= 2 && busy >= 6, "{made} made, {busy} of 12 told to come later");
    drop(answers);

    // Who may not relay calls others to a meeting: nobody comes.
    let link = rt::block_on(dialler.dial(at("front_at"), Some(front), Purpose::Control)).expect("a link");
    let (sender, incoming) = async_channel::bounded(1024);
    let link = link.start(LinkId(1), Limits::of(Purpose::Control), sender);
    for n in 0..50 {
        let call = RelayCall { meeting: Meeting([n; 16]), from: server, purpose: Purpose::Control };
        rt::block_on(link.send(Message::RelayCall(call))).expect("open");
    }
    door.set_nonblocking(true).expect("a socket");
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        // Others are told that a member is here, and may dial it.
        let came = door.accept().ok().map(|(_, from)| from.ip());
        assert_ne!(came, Some(at("front_at").ip()), "it came");
        let _ = rt::block_on(rt::timeout(Duration::from_millis(50), incoming.recv()));
    }
    assert!(!link.is_closed(), "and it is no reason to end the link");
}

#[test]
fn a_hostile_member_gets_nothing_of_a_relay_and_the_others_go_on() {
    let Some(lab) = Lab::open("hostile at the relay") else { return };
    let hosts = [lab.host(), lab.host(), lab.host()];
    let mut nodes = office(&hosts);
    nodes[1].stop();
    let at = |host: &Host<'_>| format!("{}:47474", host.address());
    let task = serde_json::json!({
        "home": nodes[1].home(), "front": nodes[0].id(), "front_at": at(&hosts[0]),
        "server": nodes[2].id(), "server_at": at(&hosts[2]),
    });
    let program = std::env::current_exe().expect("this program has a path").display().to_string();
    let mut hand = hosts[1].bounded(Duration::from_secs(90), &program);
    hand.args(["--exact", "relay::the_hand_at_the_relay", "--nocapture"]).env("LANYARD_RELAY_HAND", task.to_string());
    finish(hand, "the hand at the relay").ok();

    nodes[0].must_be_alive();
    nodes[2].must_be_alive();
    nodes[1].up(&[]);
    lab.partition(&hosts[0], &hosts[1]);
    eventually("the honest one is relayed", CONVERGE_MAX, || connected(&nodes[0], &nodes[1], Some(&nodes[2])));
}
