//! Tests: members that play foul once they are linked. They can write what the types do not let honest code send.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use ed25519_dalek::SigningKey;

use super::link::{Event, Incoming, Limits, LinkError, LinkId, LinkSender};
use super::listen::{Bound, Door, Inbound, Place};
use super::{Dialler, KeyRing};
use crate::base::{DiscoveryKey, NodeId};
use crate::shell::rt;
use crate::wire::codec::Text;
use crate::wire::message::{Bye, Hello, Message, Purpose};
use crate::wire::versions::Speaks;

async fn linked() -> [(LinkSender, Receiver<Incoming>); 2] {
    let ring = KeyRing::new(vec![DiscoveryKey([1; 32])]);
    let [a, b] = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let hello = Hello { software: Text::truncated("test"), purpose: Purpose::Control, run: 1, port: 0 };
    let (sender, inbound) = async_channel::bounded(1);
    let door = Door {
        key: b,
        ring: ring.clone(),
        is_member: Arc::new(|_| true),
        hello: hello.clone(),
        speaks: Speaks::default(),
    };
    let listener = Bound::new(Place::Fixed(0)).expect("a free port").serve(door, sender);
    let dialler = Dialler { key: a, ring, is_member: Arc::new(|_| true), hello, speaks: Speaks::default() };
    let addr = ([127, 0, 0, 1], listener.port()).into();
    let dialled = dialler.dial(addr, None, Purpose::Control).await.expect("a link");
    let Ok(Inbound::Link(accepted)) = inbound.recv().await else { panic!("no link") };
    [dialled, accepted].map(|link| {
        let (sender, incoming) = async_channel::bounded(4);
        (link.start(LinkId(1), Limits::of(Purpose::Control), sender), incoming)
    })
}

async fn closed(incoming: &Receiver<Incoming>) -> LinkError {
    let end = async {
        loop {
            if let Event::Closed(error) = incoming.recv().await.expect("the link says how it ends").event {
                return error;
            }
        }
    };
    rt::timeout(Duration::from_secs(30), end).await.expect("it ends")
}

fn framed(envelope: &[u8]) -> Vec<u8> {
    [&(envelope.len() as u32).to_be_bytes()[..], envelope].concat()
}

#[test]
fn garbage_overlong_frames_and_unknown_critical_kinds_end_the_link_with_the_reason() {
    let mut trailing = Message::Pong(1).encode();
    trailing.push(0);
    trailing[6] += 1;
    let cases = [
        (u32::MAX.to_be_bytes().to_vec(), "more than the"),
        (framed(b"\x03\x02\x01\0\0\0\x05garbage"), "envelope is malformed"),
        (framed(b""), "envelope is malformed"),
        (framed(&[0x03, 0x99, 1, 0, 0, 0, 0]), "unknown kind 0x0399"),
        (framed(&trailing), "canonical"),
        (framed(&[0x03, 0x31, 1, 0, 0, 0, 4, 0x80, 0x00, 0, 0]), "canonical"),
    ];
    for (bytes, reason) in cases {
        rt::block_on(async {
            let [(bad, bad_incoming), (_good, good_incoming)] = linked().await;
            bad.write_raw(bytes.clone());
            let LinkError::Protocol { peer, source } = closed(&good_incoming).await else { panic!("{bytes:02x?}") };
            assert_eq!(peer, NodeId(SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes()));
            assert!(source.to_string().contains(reason), "{source}");
            let told = closed(&bad_incoming).await;
            assert!(matches!(told, LinkError::Bye { bye: Bye::Protocol, .. }), "{told:?}");
        });
    }
}

#[test]
fn a_peer_that_asks_for_a_thousand_signs_of_life_and_reads_none_costs_no_memory() {
    rt::block_on(async {
        let [(bad, _bad_incoming), (good, _good_incoming)] = linked().await;
        let pings: VecDeque<u8> = (0..1_000).flat_map(|n| framed(&Message::Ping(n).encode())).collect();
        bad.write_raw(pings.into());
        let flooded = async {
            while good.counters().bytes_in() < 10_000 {
                rt::sleep(Duration::from_millis(5)).await;
            }
        };
        rt::timeout(Duration::from_secs(30), flooded).await.expect("they arrive");
        assert_eq!(good.queued_bytes(), 0);
        assert!(!good.is_closed());
    });
}
