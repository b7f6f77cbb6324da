//! Ends of different versions: the newest common one is used; where there is none, both learn who the other is and
//! what it speaks.

use std::io::{Read, Write};
use std::net::TcpListener;

use lanyard::shell::net::dial::dial_pairing;
use lanyard::shell::net::{DialError, Inbound};
use lanyard::shell::rt::block_on;
use lanyard::wire::hello::{ANSWER_BYTES, CHALLENGE_BYTES};
use lanyard::wire::message::Purpose;
use lanyard::wire::versions::Speaks;

use crate::office::{Node, id, office_key, within};

fn speaks(versions: &[u16]) -> Speaks {
    Speaks { links: versions.to_vec(), relays: versions.to_vec(), pairings: versions.to_vec() }
}

fn pair(ours: &[u16], theirs: &[u16]) -> (Node, Node) {
    let node = |seed, versions| Node::speaking(seed, &[1, 2], office_key(), speaks(versions));
    (node(1, ours), node(2, theirs))
}

#[test]
fn a_later_node_that_still_speaks_version_1_has_a_link_in_it_whoever_dials() {
    block_on(async {
        for (ours, theirs) in [(&[1][..], &[2, 1][..]), (&[2, 1], &[1]), (&[3, 1], &[2, 1])] {
            let (a, b) = pair(ours, theirs);
            a.dialler.dial(b.addr(), Some(id(2)), Purpose::Control).await.expect("a link");
            assert_eq!(b.link().await.peer, id(1));
        }
    });
}

#[test]
fn without_a_common_version_each_end_learns_who_the_other_is_what_it_runs_and_what_it_speaks() {
    block_on(async {
        let (a, b) = pair(&[1], &[9, 8]);
        let error = a.dialler.dial(b.addr(), None, Purpose::Control).await.expect_err("nothing in common");
        let told = error.to_string();
        let DialError::Versions { met } = error else { panic!("{told}") };
        assert_eq!((met.node, met.remote), (Some(id(2)), b.addr()));
        assert_eq!((met.apart.ours, met.apart.theirs), (vec![1], vec![9, 8]));
        assert_eq!(met.apart.software.as_deref(), Some("test"));
        assert!(told.contains("versions 9, 8") && told.contains("this machine needs a newer lanyard"), "{told}");
        let Inbound::Apart(met) = within(b.inbound.recv()).await.expect("the listener runs") else { panic!("a link") };
        assert_eq!((met.node, met.apart.ours, met.apart.theirs), (Some(id(1)), vec![9, 8], vec![1]));
        assert!(b.inbound.is_empty());
    });
}

#[test]
fn a_relay_of_another_version_is_told_apart_from_one_that_refuses() {
    block_on(async {
        let (a, b) = pair(&[1], &[9]);
        let error =
            a.dialler.dial_through(b.addr(), id(2), id(3), Purpose::Control).await.expect_err("nothing in common");
        let DialError::Versions { met } = error else { panic!("{error}") };
        assert_eq!((met.node, met.apart.theirs), (Some(id(2)), vec![9]));
    });
}

#[test]
fn a_joiner_of_another_version_learns_which_versions_there_are_and_nothing_of_the_office() {
    block_on(async {
        let (a, b) = pair(&[1], &[9]);
        b.listener.set_pairing(true);
        let error = dial_pairing(b.addr(), &a.key).await.expect_err("nothing in common");
        let DialError::Versions { met } = error else { panic!("{error}") };
        assert_ne!(met.node, Some(id(2)), "the inviter's key is a throwaway one");
        assert_eq!((met.apart.ours, met.apart.theirs, met.apart.software), (vec![1], vec![9], None));
        assert!(b.inbound.is_empty());
    });
}

#[test]
fn a_listener_that_ends_the_handshake_over_the_version_is_told_apart_from_a_stranger() {
    block_on(async {
        let (a, _b) = pair(&[1], &[1]);
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = socket.local_addr().expect("its address");
        let listener = std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().expect("the dialler");
            stream.write_all(&[7; CHALLENGE_BYTES]).expect("a challenge");
            let mut answer = [0; ANSWER_BYTES];
            stream.read_exact(&mut answer).expect("an answer");
            let mut head = [0; 5];
            stream.read_exact(&mut head).expect("a record");
            let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
            stream.read_exact(&mut hello).expect("the client's hello");
            // A fatal alert, `no_application_protocol`: RFC 8446 section 6, RFC 7301 section 3.2.
            stream.write_all(&[0x15, 3, 3, 0, 2, 2, 120]).expect("an alert");
        });
        let error = a.dialler.dial(addr, Some(id(2)), Purpose::Control).await.expect_err("refused");
        listener.join().expect("the listener");
        let DialError::Versions { met } = error else { panic!("{error}") };
        assert_eq!((met.node, met.apart.theirs), (Some(id(2)), vec![]));
    });
}
