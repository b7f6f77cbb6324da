//! Discovery over real multicast, on loopback, on ports that no real node uses.

use std::collections::BTreeSet;

use async_channel::Receiver;
use lanyard::base::DiscoveryKey;
use lanyard::shell::net::KeyRing;
use lanyard::shell::net::interfaces::Selection;
use lanyard::shell::net::mdns::{Config, Event, Mdns};
use lanyard::shell::rt::block_on;
use lanyard::wire::announce::Invitation;

use crate::office::*;

struct Speaker {
    mdns: Mdns,
    ring: KeyRing,
    events: Receiver<Event>,
}

fn speaker(mdns_port: u16, port: u16, keys: Vec<DiscoveryKey>) -> Speaker {
    let (sender, events) = async_channel::bounded(64);
    let ring = KeyRing::new(keys);
    // Every name begins with nothing: all but loopback is ignored.
    let interfaces = Selection { loopback: true, ignored: vec![String::new()] };
    let mdns = Mdns::start(Config { port, interfaces, mdns_port }, ring.clone(), sender);
    Speaker { mdns, ring, events }
}

impl Speaker {
    /// Waits until what listens on this port is found.
    async fn finds(&self, port: u16) -> (String, Option<Invitation>) {
        loop {
            if let Event::Found { instance, addrs, invitation } = within(self.events.recv()).await.expect("runs") {
                assert!(addrs.iter().all(|addr| addr.ip().is_loopback()), "{addrs:?}");
                if addrs.iter().any(|addr| addr.port() == port) {
                    return (instance, invitation);
                }
            }
        }
    }

    /// Waits until all that listen on these ports are found, in any order.
    async fn finds_all(&self, ports: &[u16]) {
        let mut missing: BTreeSet<u16> = ports.iter().copied().collect();
        while !missing.is_empty() {
            if let Event::Found { addrs, .. } = within(self.events.recv()).await.expect("runs") {
                for addr in addrs {
                    missing.remove(&addr.port());
                }
            }
        }
    }

    /// Waits until this instance is gone.
    async fn loses(&self, instance: &str) {
        while within(self.events.recv()).await.expect("runs") != (Event::Gone { instance: instance.to_string() }) {}
    }
}

#[test]
fn members_find_each_other_and_nobody_else() {
    block_on(async {
        let a = speaker(15_353, 1001, vec![office_key()]);
        let b = speaker(15_353, 1002, vec![office_key()]);
        let stranger = speaker(15_353, 1003, vec![DiscoveryKey([9; 32])]);
        let c = speaker(15_353, 1004, vec![DiscoveryKey([8; 32]), office_key()]);
        let (instance, invitation) = a.finds(1002).await;
        assert_eq!(invitation, None);
        assert_eq!(b.finds(1001).await.1, None);
        // The third announces under a newer key that only it has; it still recognises those under the older one.
        c.finds_all(&[1001, 1002]).await;
        // By now everyone has heard everyone. The stranger is found by nobody, nor does it find anyone.
        assert!(stranger.events.is_empty());
        for event in std::iter::from_fn(|| a.events.try_recv().ok()) {
            assert!(!format!("{event:?}").contains("1003"), "{event:?}");
        }
        b.mdns.stop().await;
        a.loses(&instance).await;
    });
}

#[test]
fn an_invitation_is_shown_under_a_name_of_its_own_and_only_while_it_is_open() {
    block_on(async {
        let office = speaker(15_354, 1001, vec![office_key()]);
        let joiner = speaker(15_354, 1002, Vec::new());
        let member = speaker(15_354, 1003, vec![office_key()]);
        let (as_member, _) = member.finds(1001).await;
        assert!(joiner.events.is_empty());
        office.mdns.invite(vec![Invitation::new(4, "Harbour & Sons")]).await;
        let (instance, invitation) = joiner.finds(1001).await;
        assert_eq!(invitation, Some(Invitation::new(4, "Harbour & Sons")));
        assert_ne!(instance, as_member);
        office.mdns.invite(Vec::new()).await;
        joiner.loses(&instance).await;
    });
}

#[test]
fn a_key_that_is_learnt_later_shows_the_members_that_were_there_all_along() {
    block_on(async {
        let old = speaker(15_355, 1001, vec![office_key()]);
        let new = speaker(15_355, 1002, Vec::new());
        let third = speaker(15_355, 1003, vec![office_key()]);
        old.finds(1003).await;
        new.ring.replace(vec![office_key()]);
        new.mdns.keys_changed().await;
        new.finds_all(&[1001, 1003]).await;
        old.finds(1002).await;
        drop(third);
    });
}

#[test]
fn names_are_new_after_each_rotation() {
    block_on(async {
        let a = speaker(15_356, 1001, vec![office_key()]);
        let b = speaker(15_356, 1002, vec![office_key()]);
        let mut names = BTreeSet::new();
        names.insert(b.finds(1001).await.0);
        while names.len() < 3 {
            a.mdns.rotate().await;
            let known = names.len();
            while names.len() == known {
                names.insert(b.finds(1001).await.0);
            }
        }
    });
}

#[test]
fn the_announcement_holds_a_version_and_a_tag_and_nothing_else() {
    let node = speaker(15_357, 1001, vec![office_key()]);
    let witness = mdns_sd::ServiceDaemon::new_with_port(15_357).expect("a browser that is no node");
    let heard = witness.browse("_lanyard._tcp.local.").expect("browses");
    let service = block_on(within(async {
        loop {
            if let mdns_sd::ServiceEvent::ServiceResolved(service) = heard.recv_async().await.expect("runs") {
                break service;
            }
        }
    }));
    let keys: Vec<&str> = service.get_properties().iter().map(mdns_sd::TxtProperty::key).collect();
    assert_eq!(keys, ["v", "t"]);
    assert_eq!(service.get_property_val_str("t").map(str::len), Some(26));
    let host = service.get_hostname().trim_end_matches(".local.").to_string();
    assert_eq!(host.len(), 26, "a random host name: {host}");
    assert!(!service.get_fullname().contains(&host));
    block_on(node.mdns.stop());
    witness.shutdown().expect("shuts down");
}
