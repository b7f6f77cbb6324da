//! What members say to each other.

use std::time::Duration;

use lanyard::shell::net::link::{Limits, ProtocolError, SendError};
use lanyard::shell::net::{DialError, LinkError};
use lanyard::shell::rt::{self, block_on};
use lanyard::wire::message::{Bye, Message, Purpose, Subscribe};

use crate::office::*;

fn subscribe(n: u8) -> Message {
    Message::Subscribe(Subscribe { folder: lanyard::base::FolderId([n; 32]), receives: true })
}

#[test]
fn two_members_link_up_and_exchange_messages_both_ways() {
    block_on(async {
        let (a, b, to_b, to_a) = linked(Limits::of(Purpose::Control)).await;
        assert_eq!(to_b.sender.peer(), id(2));
        assert_eq!(to_a.sender.peer(), id(1));
        for n in 0..50 {
            to_b.sender.send(content(n, n as usize * 20_000)).await.expect("open");
            to_a.sender.send(subscribe(n as u8)).await.expect("open");
            assert_eq!(to_a.message().await, content(n, n as usize * 20_000));
            assert_eq!(to_b.message().await, subscribe(n as u8));
        }
        let sent: u64 = (0..50).map(|n| n * 20_000).sum();
        let wire = to_b.sender.counters().bytes_out();
        assert!(wire > sent && wire < sent + sent / 50 + 10_000, "{wire} bytes for {sent}");
        assert!(to_a.sender.counters().bytes_in() <= wire);
        drop((a, b));
    });
}

#[test]
fn a_link_that_is_closed_says_why_at_both_ends_and_sends_what_was_queued_first() {
    block_on(async {
        let (_a, _b, to_b, to_a) = linked(Limits::of(Purpose::Control)).await;
        for n in 0..10 {
            to_b.sender.send(content(n, 100_000)).await.expect("open");
        }
        to_b.sender.close(Bye::Stopping);
        assert!(to_b.sender.is_closed());
        for n in 0..10 {
            assert_eq!(to_a.message().await, content(n, 100_000));
        }
        assert!(matches!(to_a.closed().await, LinkError::Bye { bye: Bye::Stopping, .. }));
        assert!(matches!(to_b.closed().await, LinkError::Closed { bye: Bye::Stopping, .. }));
        assert!(matches!(to_b.sender.send(subscribe(1)).await, Err(SendError::Closed)));
        assert!(matches!(to_a.sender.try_send(subscribe(1)), Err(SendError::Closed)));
    });
}

#[test]
fn a_full_queue_makes_the_sender_wait_and_loses_nothing() {
    block_on(async {
        let limits = Limits { queue_bytes_max: 2 << 20, ..Limits::of(Purpose::Control) };
        let (_a, _b, to_b, to_a) = linked(limits).await;
        let mut queued = 0;
        // Nobody takes what arrives: first the buffers on the way fill, then the queue.
        let full = loop {
            match to_b.sender.try_send(content(queued, 1 << 20)) {
                Ok(()) => queued += 1,
                Err(SendError::Full(message)) => break *message,
                Err(error) => panic!("{error}"),
            }
            assert!(queued < 200, "the queue is bounded");
            assert!(to_b.sender.queued_bytes() <= (2 << 20) + (1 << 20) + 100);
        };
        assert_eq!(full, content(queued, 1 << 20));
        let sender = to_b.sender.clone();
        let waiting = rt::spawn(async move { sender.send(full).await });
        for n in 0..=queued {
            assert_eq!(to_a.message().await, content(n, 1 << 20));
        }
        within(waiting).await.expect("sent at last");
    });
}

#[test]
fn a_consumer_that_is_busy_for_long_is_not_taken_for_a_dead_peer() {
    block_on(async {
        let limits = Limits { ping_ms: 100, silence_ms_max: 1_000, ..Limits::of(Purpose::Control) };
        let (_a, _b, to_b, to_a) = linked(limits).await;
        let count = 60;
        let sender = to_b.sender.clone();
        let sending = rt::spawn(async move {
            for n in 0..count {
                sender.send(content(n, 1 << 20)).await.expect("open");
            }
        });
        // Three times the silence that is allowed.
        rt::sleep(Duration::from_millis(3_000)).await;
        for n in 0..count {
            assert_eq!(to_a.message().await, content(n, 1 << 20));
        }
        within(sending).await;
        assert!(!to_b.sender.is_closed() && !to_a.sender.is_closed());
    });
}

#[test]
fn an_idle_link_stays_up_by_signs_of_life_alone() {
    block_on(async {
        let limits = Limits { ping_ms: 50, silence_ms_max: 1_000, ..Limits::of(Purpose::Control) };
        let (_a, _b, to_b, to_a) = linked(limits).await;
        let before = to_b.sender.counters().bytes_in();
        rt::sleep(Duration::from_millis(2_000)).await;
        assert!(!to_b.sender.is_closed() && !to_a.sender.is_closed());
        let heard = to_b.sender.counters().bytes_in() - before;
        assert!(heard > 0 && heard < 80 * 100, "{heard} bytes in 40 intervals");
    });
}

#[test]
fn a_peer_that_falls_silent_is_noticed() {
    block_on(async {
        let quick = Limits { ping_ms: 20, silence_ms_max: 100, ..Limits::of(Purpose::Control) };
        let (a, b) = (Node::new(1, &[1, 2], office_key()), Node::new(2, &[1, 2], office_key()));
        let dialled = a.dialler.dial(b.addr(), None, Purpose::Control).await.expect("a link");
        // The other end is connected and never says anything.
        let silent = b.link().await;
        let to_b = start(dialled, quick, 16);
        assert!(matches!(to_b.closed().await, LinkError::Silent { peer, .. } if peer == id(2)));
        drop(silent);
    });
}

#[test]
fn a_second_hello_breaks_the_protocol_and_the_error_names_the_peer() {
    block_on(async {
        let (_a, _b, to_b, to_a) = linked(Limits::of(Purpose::Control)).await;
        to_b.sender.send(Message::Hello(hello())).await.expect("open");
        let error = to_a.closed().await;
        assert!(error.to_string().contains(&id(1).short()), "{error}");
        assert!(matches!(error, LinkError::Protocol { source: ProtocolError::OutOfPlace(_), .. }));
        assert!(matches!(to_b.closed().await, LinkError::Bye { bye: Bye::Protocol, .. }));
    });
}

#[test]
fn unknown_kinds_that_may_be_ignored_are_ignored() {
    block_on(async {
        let (_a, _b, to_b, to_a) = linked(Limits::of(Purpose::Control)).await;
        to_b.sender.send(Message::Unknown(0x0399)).await.expect("open");
        to_b.sender.send(subscribe(1)).await.expect("open");
        assert_eq!(to_a.message().await, subscribe(1));
    });
}

#[test]
fn the_dialler_gives_up_on_the_wrong_node_before_it_shows_who_it_is() {
    block_on(async {
        let (a, b) = (Node::new(1, &[1, 2, 3], office_key()), Node::new(2, &[1, 2, 3], office_key()));
        let error = a.dialler.dial(b.addr(), Some(id(3)), Purpose::Control).await.expect_err("not the expected one");
        assert!(matches!(error, DialError::Handshake { .. }), "{error:?}");
        assert!(error.to_string().contains(&b.addr().to_string()));
        assert!(b.inbound.is_empty());
    });
}

#[test]
fn a_node_never_links_with_itself() {
    block_on(async {
        let a = Node::new(1, &[1, 2], office_key());
        let error = a.dialler.dial(a.addr(), None, Purpose::Control).await.expect_err("itself");
        assert!(matches!(error, DialError::Handshake { .. }), "{error:?}");
    });
}

#[test]
fn nothing_listens_and_no_mesh_are_errors_that_say_so() {
    block_on(async {
        let a = Node::new(1, &[1], office_key());
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
        let error = a.dialler.dial(free, None, Purpose::Control).await.expect_err("nobody");
        assert!(matches!(error, DialError::Connect { .. }), "{error:?}");
        a.ring.replace(Vec::new());
        let error = a.dialler.dial(free, None, Purpose::Control).await.expect_err("no mesh");
        assert!(matches!(error, DialError::NoMesh));
    });
}

#[test]
fn an_older_key_of_the_ring_is_still_accepted_and_the_purpose_is_the_diallers() {
    block_on(async {
        let (a, b) = (Node::new(1, &[1, 2], office_key()), Node::new(2, &[1, 2], office_key()));
        b.ring.replace(vec![lanyard::base::DiscoveryKey([9; 32]), office_key()]);
        let dialled = a.dialler.dial(b.addr(), Some(id(2)), Purpose::Bulk).await.expect("a link");
        let accepted = b.link().await;
        assert_eq!((dialled.hello.purpose, accepted.hello.purpose), (Purpose::Bulk, Purpose::Bulk));
        assert_eq!(dialled.hello.port, b.listener.port());
        assert!(dialled.dialled && !accepted.dialled);
        accepted.refuse(Bye::Duplicate).await;
        let end = start(dialled, Limits::of(Purpose::Bulk), 1);
        assert!(matches!(end.closed().await, LinkError::Bye { bye: Bye::Duplicate, .. }));
    });
}

#[test]
fn a_node_that_was_away_while_the_key_changed_is_still_reached() {
    block_on(async {
        let (a, b) = (Node::new(1, &[1, 2], office_key()), Node::new(2, &[1, 2], office_key()));
        a.ring.replace(vec![lanyard::base::DiscoveryKey([9; 32]), office_key()]);
        a.dialler.dial(b.addr(), Some(id(2)), Purpose::Control).await.expect("a link under the older key");
        assert_eq!(b.link().await.peer, id(1));
    });
}
