//! Those who are no members, or no longer, or play foul: each gets nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lanyard::base::DiscoveryKey;
use lanyard::shell::net::dial::dial_pairing;
use lanyard::shell::net::link::Limits;
use lanyard::shell::net::{DialError, Inbound, LinkError};
use lanyard::shell::rt::block_on;
use lanyard::wire::hello::{ANSWER_BYTES, CHALLENGE_BYTES};
use lanyard::wire::message::{Bye, Purpose};
use lanyard::wire::pairing::{Message as PairMessage, Refusal};

use crate::office::*;

/// What a listener sends to one who sends these bytes and then waits.
fn answers(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).expect("the listener accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let mut challenge = [0; CHALLENGE_BYTES];
    stream.read_exact(&mut challenge).expect("a challenge");
    stream.write_all(bytes).expect("sent");
    let mut answer = Vec::new();
    // A reset is an end as good as any.
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn who_does_not_know_the_discovery_key_gets_random_bytes_and_a_closed_connection() {
    let node = Node::new(1, &[1, 2], office_key());
    let http = [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0; 64]].concat();
    for bytes in [vec![0; ANSWER_BYTES], vec![0xff; 200], http] {
        assert_eq!(answers(node.addr(), &bytes), b"", "{bytes:02x?}");
    }
    let other = Node::new(2, &[1, 2], DiscoveryKey([9; 32]));
    let error = block_on(other.dialler.dial(node.addr(), None, Purpose::Control)).expect_err("a stranger");
    assert!(matches!(error, DialError::Handshake { .. }), "{error:?}");
    assert!(node.inbound.is_empty());
}

#[test]
fn a_node_that_says_nothing_is_cut_off() {
    let node = Node::new(1, &[1, 2], office_key());
    assert_eq!(answers(node.addr(), b""), b"");
}

/// Passes bytes on between a dialler and a node, and keeps a copy of both directions.
fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<[Vec<u8>; 2]>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    let record = Arc::new(Mutex::new([Vec::new(), Vec::new()]));
    let kept = record.clone();
    std::thread::spawn(move || {
        let (inner, _) = listener.accept().expect("one dialler");
        let outer = TcpStream::connect(to).expect("the node");
        let mut threads = Vec::new();
        for (direction, from, to) in [(0, &inner, &outer), (1, &outer, &inner)] {
            let mut from = from.try_clone().expect("a handle");
            let mut to = to.try_clone().expect("a handle");
            let kept = kept.clone();
            threads.push(std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = from.read(&mut buffer) {
                    kept.lock().expect("the record")[direction].extend_from_slice(&buffer[..n]);
                    if to.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
            }));
        }
        for thread in threads {
            thread.join().expect("no panic");
        }
    });
    (addr, record)
}

#[test]
fn a_replayed_handshake_gets_no_answer() {
    let (a, b) = (Node::new(1, &[1, 2], office_key()), Node::new(2, &[1, 2], office_key()));
    let (addr, record) = proxy(b.addr());
    let link = block_on(a.dialler.dial(addr, Some(id(2)), Purpose::Control)).expect("a link through the proxy");
    drop(link);
    let recorded = record.lock().expect("the record")[0].clone();
    assert!(recorded.len() > ANSWER_BYTES + 100, "an answer and a handshake were recorded");
    assert_eq!(answers(b.addr(), &recorded), b"", "no TLS for a replay");
}

#[test]
fn a_man_in_the_middle_sees_no_key_name_or_message_in_clear() {
    let (a, b) = (Node::new(1, &[1, 2], office_key()), Node::new(2, &[1, 2], office_key()));
    let (addr, record) = proxy(b.addr());
    block_on(async {
        let dialled = a.dialler.dial(addr, Some(id(2)), Purpose::Control).await.expect("a link");
        let accepted = b.link().await;
        let (to_b, to_a) =
            (start(dialled, Limits::of(Purpose::Control), 4), start(accepted, Limits::of(Purpose::Control), 4));
        to_b.sender.send(content(b'x'.into(), 5_000)).await.expect("open");
        to_a.message().await;
    });
    let record = record.lock().expect("the record");
    let (dialler, listener, key) = (id(1), id(2), office_key());
    let secrets: [&[u8]; 6] = [dialler.as_bytes(), listener.as_bytes(), &key.0, b"lanyard", b"test", &[b'x'; 16]];
    for seen in record.iter() {
        for secret in secrets {
            // The ALPN name, in the dialler's first message, is the one word that TLS leaves in clear.
            let times = seen.windows(secret.len()).filter(|window| *window == secret).count();
            let allowed = usize::from(secret == b"lanyard" && std::ptr::eq(seen, &record[0]));
            assert!(times <= allowed, "{secret:?} {times} times");
        }
    }
}

#[test]
fn a_man_in_the_middle_with_a_key_of_his_own_gets_no_link_even_if_he_knows_the_discovery_key() {
    let a = Node::new(1, &[1, 2], office_key());
    let mallory = Node::new(66, &[1, 2, 66], office_key());
    let error = block_on(a.dialler.dial(mallory.addr(), None, Purpose::Control)).expect_err("not a member");
    assert!(matches!(error, DialError::Handshake { .. }), "{error:?}");
    assert!(mallory.inbound.is_empty(), "the dialler did not show its key");
}

#[test]
fn an_expelled_node_that_knows_the_key_is_told_and_gets_nothing_else() {
    let a = Node::new(1, &[1, 2], office_key());
    let b = Node::new(2, &[2], office_key());
    let error = block_on(a.dialler.dial(b.addr(), None, Purpose::Control)).expect_err("not a member there");
    let DialError::Link { source: LinkError::Bye { bye, .. }, .. } = error else { panic!("{error:?}") };
    assert_eq!(bye, Bye::NotAMember);
    assert!(b.inbound.is_empty());
}

#[test]
fn pairing_is_answered_only_while_an_invitation_is_open_and_binds_both_ends_to_the_channel() {
    block_on(async {
        let inviter = Node::new(1, &[1], office_key());
        let joiner = Node::new(5, &[5], DiscoveryKey([7; 32]));
        let refused = dial_pairing(inviter.addr(), &joiner.key).await.expect_err("no invitation");
        assert!(matches!(refused, DialError::Handshake { .. }), "{refused:?}");
        inviter.listener.set_pairing(true);
        let mut stream = dial_pairing(inviter.addr(), &joiner.key).await.expect("pairing");
        let Inbound::Pairing(mut other) = within(inviter.inbound.recv()).await.expect("a joiner") else {
            panic!("not pairing")
        };
        assert_eq!(stream.channel_binding, other.channel_binding);
        assert_eq!(other.peer, id(5));
        assert_ne!(stream.peer, id(1), "the inviter shows a throwaway key");
        stream.send(&PairMessage::Done).await.expect("sent");
        assert_eq!(other.recv().await.expect("received"), PairMessage::Done);
        other.send(&PairMessage::Refused(Refusal::WrongCode)).await.expect("sent");
        let closing = lanyard::shell::rt::spawn(other.close());
        assert_eq!(stream.recv().await.expect("received"), PairMessage::Refused(Refusal::WrongCode));
        drop(stream);
        within(closing).await;
        let second = dial_pairing(inviter.addr(), &joiner.key).await.expect("pairing");
        assert_ne!(second.peer, id(1));
        inviter.listener.set_pairing(false);
        dial_pairing(inviter.addr(), &joiner.key).await.expect_err("closed again");
    });
}

#[test]
fn strangers_that_hold_connections_open_keep_no_member_out() {
    let node = Node::new(2, &[1, 2], office_key());
    let mut open: Vec<TcpStream> = Vec::new();
    let mut refused = 0;
    for _ in 0..100 {
        let mut stream = TcpStream::connect(node.addr()).expect("the kernel accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        let mut challenge = [0; CHALLENGE_BYTES];
        match stream.read_exact(&mut challenge) {
            Ok(()) => open.push(stream),
            Err(_) => refused += 1,
        }
        // Who has used up its time makes room for another.
        open.retain(|stream| {
            stream.set_nonblocking(true).expect("a socket");
            let waits = stream.peek(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
            stream.set_nonblocking(false).expect("a socket");
            waits
        });
        assert!(open.len() <= 16, "{} at once", open.len());
    }
    assert!(refused > 0, "the rest was closed at once");
    for mut stream in open {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"", "cut off without a word");
    }
    let member = Node::new(1, &[1, 2], office_key());
    let link = block_on(async {
        // Attempts come back with time; a member simply dials again.
        for _ in 0..100 {
            if let Ok(link) = member.dialler.dial(node.addr(), Some(id(2)), Purpose::Control).await {
                return Some(link);
            }
            lanyard::shell::rt::sleep(Duration::from_millis(100)).await;
        }
        None
    });
    assert!(link.is_some());
}

#[test]
fn a_tls_client_that_proves_no_key_gets_no_link_in_whatever_version_it_speaks() {
    for alpn in [&b"lanyard/1"[..], b"lanyard/9", b"h2"] {
        let node = Node::new(2, &[1, 2], office_key());
        let mut stream = TcpStream::connect(node.addr()).expect("accepted");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        let mut challenge = [0; CHALLENGE_BYTES];
        stream.read_exact(&mut challenge).expect("a challenge");
        stream.write_all(&lanyard::wire::hello::answer(&office_key(), &challenge, &[3; 32])).expect("proven");
        let mut client = client_of(alpn);
        // Bounded: a handshake is a handful of flights.
        let ended = (0..10).try_for_each(|_| client.complete_io(&mut stream).map(drop));
        ended.expect_err("refused");
        assert!(node.inbound.is_empty());
    }
}

/// A TLS client that speaks only this protocol.
fn client_of(alpn: &[u8]) -> futures_rustls::rustls::ClientConnection {
    use futures_rustls::rustls::{self, ClientConfig, ClientConnection, RootCertStore};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    ClientConnection::new(Arc::new(config), "lanyard.invalid".try_into().expect("a name")).expect("a client")
}
