//! The API's manners: whatever comes in over the socket gets an answer or a failure in JSON, within bounds.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use lanyard::node::api::Call;
use lanyard::wire::api::{Event, Failure, FailureKind, REQUEST_BYTES_MAX, Response};
use serde_json::Value;

use crate::node::Node;

fn nodes() -> Node {
    Node::answering(|_| Ok(Response::Nodes(Vec::new())))
}

/// The status and the body of an answer.
fn parts(answer: &str) -> (u16, Value) {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    let body = answer.split_once("\r\n\r\n").expect("a head").1;
    (status, serde_json::from_str(body).expect("JSON"))
}

#[test]
fn what_is_no_request_gets_its_status_and_a_failure_in_json() {
    let node = nodes();
    let long = format!(
        "POST /v1/drop HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{}",
        REQUEST_BYTES_MAX + 1,
        " ".repeat(REQUEST_BYTES_MAX + 1)
    );
    let cases = [
        ("GET /v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        ("POST /v1/nodes HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 405),
        ("POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 404),
        ("POST /v1/drop HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{", 400),
        ("POST /v1/drop HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", 400),
        ("POST /v1/leave HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n{\"now\":true}", 400),
        (long.as_str(), 413),
    ];
    for (bytes, expected) in cases {
        let (status, body) = parts(&node.raw(bytes));
        let shown: String = bytes.chars().take(60).collect();
        assert_eq!(status, expected, "{shown}");
        assert_eq!(body["kind"], "usage", "{shown}");
        assert!(body["what"].is_string(), "{shown}");
    }
    assert!(node.asked.lock().expect("no panic").is_empty(), "none of it reached the node");
}

#[test]
fn garbage_ends_the_connection_and_nothing_else() {
    let node = nodes();
    for garbage in [&b"\x16\x03\x01\x02\x00\x01"[..], b"hello\r\n\r\n", &[0xff; 4096], b""] {
        let answer = node.raw_bytes(garbage, true);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(2 * REQUEST_BYTES_MAX));
    let answer = node.raw_bytes(endless.as_bytes(), true);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(node.run(&["nodes"]).status, 0);
}

#[test]
fn the_socket_is_for_its_owner_alone() {
    let node = nodes();
    let found = std::fs::metadata(&node.places.socket).expect("it is there");
    assert_eq!(found.mode() & 0o777, 0o600);
    assert!(!node.places.socket.with_extension("new").exists());
}

#[test]
fn one_connection_too_many_is_told_so_and_room_comes_back() {
    let node = nodes();
    let mut held: Vec<UnixStream> = Vec::new();
    // Each asks once, so that it is certain to be served before the next one comes.
    for _ in 0..64 {
        let mut stream = UnixStream::connect(&node.places.socket).expect("connected");
        stream.write_all(b"GET /v1/nodes HTTP/1.1\r\nhost: x\r\n\r\n").expect("written");
        let mut first = [0; 12];
        stream.read_exact(&mut first).expect("answered");
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    let ran = node.run(&["nodes"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.starts_with("error: too many programs talk to this node at once"), "{}", ran.stderr);
    drop(held);
    // The server learns of each end by itself; until then it may still refuse.
    let again = (0..200).any(|_| node.run(&["nodes"]).status == 0);
    assert!(again, "room came back");
}

#[test]
fn a_call_whose_client_went_away_is_abandoned() {
    let (taken, calls) = mpsc::channel::<Call>();
    let node = Node::start(move |call| taken.send(call).expect("the test waits"));
    let mut stream = UnixStream::connect(&node.places.socket).expect("connected");
    stream
        .write_all(b"POST /v1/wait HTTP/1.1\r\nhost: x\r\ncontent-length: 19\r\n\r\n{\"timeout_ms\":5000}")
        .expect("sent");
    let call = calls.recv_timeout(Duration::from_secs(30)).expect("the call arrives");
    assert!(!call.reply.is_abandoned());
    drop(stream);
    // Another request through the same server, again and again, until it has seen the end of the first.
    let noticed = (0..1000).any(|_| {
        std::thread::yield_now();
        node.raw("GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n");
        call.reply.is_abandoned()
    });
    assert!(noticed);
}

#[test]
fn a_node_that_ends_answers_what_waits_and_ends_every_stream() {
    let (taken, calls) = mpsc::channel::<Call>();
    let mut node = Node::start(move |call| taken.send(call).expect("the test waits"));
    let mut events = node.command(&["events", "--json"]);
    let events = events.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let following = events.spawn().expect("it runs");
    let waiting = node.command(&["wait"]).stderr(std::process::Stdio::piped()).spawn().expect("it runs");
    let _unanswered = calls.recv_timeout(Duration::from_secs(30)).expect("the call arrives");
    while !node.events.is_followed() {
        std::thread::yield_now();
    }
    node.end();
    let waited = crate::node::finish(waiting.wait_with_output().expect("it ends"));
    assert_eq!(waited.status, 3, "{}", waited.stderr);
    assert!(waited.stderr.starts_with("error: the node is ending"), "{}", waited.stderr);
    let followed = crate::node::finish(following.wait_with_output().expect("it ends"));
    assert_eq!((followed.status, followed.stderr.as_str()), (0, "the node ended.\n"));
}

#[test]
fn a_node_that_starts_anew_to_do_what_is_asked_is_asked_again() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let node = Node::answering(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0..3 => Err(Failure::new(FailureKind::Anew, "the node starts anew to open /srv/plans")),
        _ => Ok(Response::Nodes(Vec::new())),
    });
    let ran = node.run(&["nodes"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}

#[test]
fn every_kind_of_failure_has_its_exit_status_and_its_words() {
    let kinds = [
        (FailureKind::Failed, 1),
        (FailureKind::Usage, 2),
        (FailureKind::NoNode, 3),
        (FailureKind::Refused, 4),
        (FailureKind::TimedOut, 5),
        (FailureKind::TooOld, 6),
    ];
    for (kind, expected) in kinds {
        let node = Node::answering(move |_| {
            Err(Failure::new(kind, "cannot replace plans/office.pdf")
                .why("no space left on device")
                .hint("free 40 MB on /srv/share; syncing resumes by itself"))
        });
        for args in [&["nodes"][..], &["--json", "nodes"]] {
            let ran = node.run(args);
            assert_eq!((ran.status, ran.stdout.as_str()), (expected, ""));
            assert_eq!(
                ran.stderr,
                "error: cannot replace plans/office.pdf\n  caused by: no space left on device\n  \
                 hint: free 40 MB on /srv/share; syncing resumes by itself\n"
            );
        }
    }
}

#[test]
fn a_failures_text_cannot_steer_the_terminal() {
    let node = Node::answering(|_| Err(Failure::failed("no folder \u{1b}[2J\u{202e}x")));
    assert_eq!(node.run(&["nodes"]).stderr, "error: no folder \\u{1b}[2J\\u{202e}x\n");
}

#[test]
fn an_answer_of_another_kind_is_a_failure_with_a_hint() {
    let node = Node::answering(|_| Ok(Response::Nodes(Vec::new())));
    let ran = node.run(&["status"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.starts_with("error: the node's answer makes no sense here"), "{}", ran.stderr);
}

#[test]
fn events_reach_two_followers_as_server_sent_events() {
    let node = nodes();
    let mut streams: Vec<UnixStream> = Vec::new();
    for _ in 0..2 {
        let mut stream = UnixStream::connect(&node.places.socket).expect("connected");
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
        streams.push(stream);
    }
    let mut seen: Vec<String> = streams.iter_mut().map(|stream| read_until(stream, ": following\n\n")).collect();
    node.events.tell(lanyard::wire::api::UtcTime::from_ms(0), Event::FolderOffered { folder: "plans".into() });
    for (stream, seen) in streams.iter_mut().zip(&mut seen) {
        seen.push_str(&read_until(stream, "}\n\n"));
        assert!(seen.contains("content-type: text/event-stream"), "{seen}");
        let event = "event: folder_offered\ndata: {\"at\":\"1970-01-01T00:00:00.000Z\",\"event\":\"folder_offered\"";
        assert!(seen.contains(event), "{seen}");
    }
}

fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(end.as_bytes()) && seen.len() < 65_536 {
        stream.read_exact(&mut byte).expect("more comes");
        seen.push(byte[0]);
    }
    String::from_utf8(seen).expect("UTF-8")
}
