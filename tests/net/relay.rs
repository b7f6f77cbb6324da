//! A relay between two that are not connected: real sockets, real TLS, on loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lanyard::shell::net::link::Limits;
use lanyard::shell::net::relay::{Pace, join};
use lanyard::shell::net::{DialError, Inbound, LinkError, RelayStream};
use lanyard::shell::rt::{self, block_on};
use lanyard::wire::message::Purpose;
use lanyard::wire::relay::{Answer, Ask, Meeting, Message};

use crate::office::{End, Node, content, id, office_key, start, within};

const MEETING: Meeting = Meeting([7; 16]);

/// What comes to the relay next, and what it wants.
async fn comes(relay: &Node) -> (RelayStream, Message) {
    let Inbound::Relay(mut stream) = within(relay.inbound.recv()).await.expect("the listener runs") else {
        panic!("not to the relay")
    };
    let message = within(stream.first()).await.expect("it says what it wants");
    (stream, message)
}

fn pace() -> Pace {
    Arc::new(|_| Duration::ZERO)
}

/// Node 1 and node 2, linked through node 3.
struct Joined {
    _nodes: [Node; 3],
    to_two: End,
    to_one: End,
    stop: async_channel::Sender<()>,
    moved: rt::JoinHandle<u64>,
}

async fn joined(purpose: Purpose, pace: Pace) -> Joined {
    let [one, two, relay] = [1, 2, 3].map(|n| Node::new(n, &[1, 2, 3], office_key()));
    let at = relay.addr();
    let asking = {
        let dialler = one.dialler.clone();
        rt::spawn(async move { dialler.dial_through(at, id(3), id(2), purpose).await })
    };
    let (caller, asked) = comes(&relay).await;
    assert_eq!((caller.peer, asked), (id(1), Message::Ask(Ask { to: id(2), purpose })));
    let coming = {
        let (dialler, guests) = (two.dialler.clone(), two.listener.guests());
        rt::spawn(async move {
            let tunnel = dialler.meet(at, id(3), MEETING).await.expect("joined");
            guests.welcome(tunnel, id(1)).await;
        })
    };
    let (called, met) = comes(&relay).await;
    assert_eq!((called.peer, met), (id(2), Message::Meet(MEETING)));
    let (stop, stopped) = async_channel::bounded(1);
    let moved = rt::spawn(join(caller, called, pace, stopped));
    let dialled = within(asking).await.expect("a link through the relay");
    let accepted = two.link().await;
    within(coming).await;
    assert_eq!((dialled.peer, dialled.via, dialled.hello.purpose), (id(2), Some(id(3)), purpose));
    assert_eq!((accepted.peer, accepted.via, accepted.hello.purpose), (id(1), Some(id(3)), purpose));
    assert_eq!(dialled.remote, at, "what is at the other end of the wire is the relay");
    let limits = Limits::of(purpose);
    let (to_two, to_one) = (start(dialled, limits, 16), start(accepted, limits, 16));
    Joined { _nodes: [one, two, relay], to_two, to_one, stop, moved }
}

#[test]
fn two_talk_through_a_relay_as_they_do_directly_and_the_last_word_arrives() {
    block_on(async {
        let Joined { _nodes, to_two, to_one, stop: _stop, moved } = joined(Purpose::Bulk, pace()).await;
        for n in 0..20 {
            to_two.sender.send(content(n, 1 << 20)).await.expect("open");
            to_one.sender.send(content(100 + n, 70_000)).await.expect("open");
            assert_eq!(to_one.message().await, content(n, 1 << 20));
            assert_eq!(to_two.message().await, content(100 + n, 70_000));
        }
        to_two.sender.close(lanyard::wire::message::Bye::Duplicate);
        let LinkError::Bye { bye, peer } = to_one.closed().await else { panic!("the last word was lost") };
        assert_eq!((bye, peer), (lanyard::wire::message::Bye::Duplicate, id(1)));
        assert!(within(moved).await > 20 << 20, "all of it went through the relay");
    });
}

#[test]
fn who_reads_slowly_slows_the_other_down_and_the_relay_holds_little() {
    block_on(async {
        let passed = Arc::new(AtomicUsize::new(0));
        let counter = passed.clone();
        let counting: Pace = Arc::new(move |bytes| {
            counter.fetch_add(bytes, Ordering::Relaxed);
            Duration::ZERO
        });
        let Joined { _nodes, to_two, to_one, stop: _stop, .. } = joined(Purpose::Bulk, counting).await;
        let sender = to_two.sender.clone();
        let sending = rt::spawn(async move {
            for n in 0..200 {
                sender.send(content(n, 1 << 20)).await.expect("open");
            }
        });
        // Nobody takes what arrives: it stands still once every buffer on the way is full.
        let mut before = usize::MAX;
        while passed.load(Ordering::Relaxed) != before {
            before = passed.load(Ordering::Relaxed);
            rt::sleep(Duration::from_millis(1_500)).await;
        }
        assert!(before < 100 << 20, "{before} bytes are on the way of 200 MiB");
        for n in 0..200 {
            assert_eq!(to_one.message().await, content(n, 1 << 20));
        }
        within(sending).await;
    });
}

#[test]
fn a_relay_that_stops_relaying_ends_both_ends() {
    block_on(async {
        let Joined { _nodes, to_two, to_one, stop, moved } = joined(Purpose::Control, pace()).await;
        drop(stop);
        within(moved).await;
        assert!(matches!(to_two.closed().await, LinkError::Lost { peer, .. } if peer == id(2)));
        assert!(matches!(to_one.closed().await, LinkError::Lost { peer, .. } if peer == id(1)));
    });
}

#[test]
fn a_refusal_is_told_with_its_reason_and_its_time() {
    block_on(async {
        let [one, relay] = [1, 3].map(|n| Node::new(n, &[1, 2, 3], office_key()));
        for answer in [Answer::Busy(700), Answer::Away, Answer::Refused] {
            let (dialler, at) = (one.dialler.clone(), relay.addr());
            let asking = rt::spawn(async move { dialler.dial_through(at, id(3), id(2), Purpose::Control).await });
            let (stream, _) = comes(&relay).await;
            stream.refuse(answer).await;
            let error = within(asking).await.expect_err("refused");
            assert!(matches!(error, DialError::Relay { relay, answer: told } if (relay, told) == (id(3), answer)));
        }
    });
}

#[test]
fn a_relay_cannot_put_another_member_in_the_place_of_either_end() {
    block_on(async {
        let [one, two, relay, four] = [1, 2, 3, 4].map(|n| Node::new(n, &[1, 2, 3, 4], office_key()));
        let at = relay.addr();
        // Who really dials, whom it wants, who really comes, and whom that one expects.
        for (dials, wants, comes_really, expects) in [(&one, 2, &four, 1), (&four, 2, &two, 1)] {
            let dialler = dials.dialler.clone();
            let asking = rt::spawn(async move { dialler.dial_through(at, id(3), id(wants), Purpose::Control).await });
            let (caller, _) = comes(&relay).await;
            let (dialler, guests) = (comes_really.dialler.clone(), comes_really.listener.guests());
            let coming = rt::spawn(async move {
                let tunnel = dialler.meet(at, id(3), MEETING).await.expect("joined");
                guests.welcome(tunnel, id(expects)).await;
            });
            let (called, _) = comes(&relay).await;
            let (_stop, stopped) = async_channel::bounded(1);
            rt::spawn(join(caller, called, pace(), stopped));
            let dialled = within(asking).await;
            within(coming).await;
            assert!(comes_really.inbound.is_empty(), "nobody was let in");
            if comes_really.key.verifying_key() == four.key.verifying_key() {
                assert!(matches!(dialled, Err(DialError::Handshake { .. })), "it did not show who it is");
            }
        }
    });
}

#[test]
fn who_is_no_member_is_refused_by_a_relay_and_a_relay_that_is_another_is_not_asked() {
    block_on(async {
        let (stranger, relay) = (Node::new(5, &[1, 3, 5], office_key()), Node::new(3, &[1, 2, 3], office_key()));
        let error = stranger.dialler.dial_through(relay.addr(), id(3), id(1), Purpose::Control).await;
        assert!(matches!(error.expect_err("no member"), DialError::Relay { answer: Answer::Refused, .. }));
        assert!(relay.inbound.is_empty());
        let elsewhere = stranger.dialler.dial_through(relay.addr(), id(1), id(3), Purpose::Control).await;
        assert!(matches!(elsewhere.expect_err("another node than was expected"), DialError::Handshake { .. }));
    });
}
