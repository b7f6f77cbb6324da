//! The least node that finds, dials and keeps links: `Peering` fed by the real network. What it shows: the pieces fit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use ed25519_dalek::SigningKey;
use lanyard::base::NodeId;
use lanyard::logic::peering::{DialId, Output, Peering, Settings, Up};
use lanyard::shell::net::interfaces::{self, Changed, Selection};
use lanyard::shell::net::link::Limits;
use lanyard::shell::net::listen::{Bound, Door, Place};
use lanyard::shell::net::mdns::{self, Config, Mdns};
use lanyard::shell::net::{DialError, Dialler, Event, Inbound, Incoming, KeyRing, Link, LinkId, LinkSender, Listener};
use lanyard::shell::rt;
use lanyard::wire::codec::Text;
use lanyard::wire::message::{Hello, Purpose};
use lanyard::wire::versions::Speaks;

use crate::office::{id, office_key};

/// A node with discovery and links.
pub(crate) struct Mini {
    peering: Peering,
    links: BTreeMap<LinkId, LinkSender>,
    link_count: u64,
    started: Instant,
    wake: Option<Instant>,
    dialler: Dialler,
    dialled: (Sender<Dialled>, Receiver<Dialled>),
    incoming: (Sender<Incoming>, Receiver<Incoming>),
    inbound: Receiver<Inbound>,
    found: Receiver<mdns::Event>,
    changed: Receiver<Changed>,
    mdns: Mdns,
    _listener: Listener,
}

type Dialled = (DialId, SocketAddr, Result<Link, DialError>);

enum Wake {
    Inbound(Inbound),
    Dialled(Dialled),
    Incoming(Incoming),
    Found(mdns::Event),
    Changed,
    Time,
}

impl Mini {
    pub(crate) fn start(seed: u8, members: &[u8], interfaces: Selection, mdns_port: u16) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let ring = KeyRing::new(vec![office_key()]);
        let members: std::collections::BTreeSet<NodeId> = members.iter().map(|n| id(*n)).collect();
        let known = members.clone();
        let is_member: lanyard::shell::net::IsMember = Arc::new(move |node| known.contains(&node));
        let run = std::process::id().into();
        let bound = Bound::new(Place::Usual).expect("a free port");
        let port = bound.port();
        let hello = Hello { software: Text::truncated("mini"), purpose: Purpose::Control, run, port };
        let door = Door {
            key: key.clone(),
            ring: ring.clone(),
            is_member: is_member.clone(),
            hello: hello.clone(),
            speaks: Speaks::default(),
        };
        let (inbound_sender, inbound) = async_channel::bounded(8);
        let (found_sender, found) = async_channel::bounded(64);
        let (changed_sender, changed) = async_channel::bounded(4);
        interfaces::watch(interfaces.clone(), changed_sender).expect("netlink");
        let settings = Settings { own: id(seed), seed: seed.into(), dials_max: 16, loopback: interfaces.loopback };
        let mut node = Self {
            peering: Peering::new(settings),
            links: BTreeMap::new(),
            link_count: 0,
            started: Instant::now(),
            wake: None,
            dialler: Dialler { key, ring: ring.clone(), is_member, hello, speaks: Speaks::default() },
            dialled: async_channel::bounded(32),
            incoming: async_channel::bounded(64),
            inbound,
            found,
            changed,
            mdns: Mdns::start(Config { port, interfaces, mdns_port }, ring, found_sender),
            _listener: bound.serve(door, inbound_sender),
        };
        let mut out = Vec::new();
        node.peering.handle_members(0, members, &mut out);
        node.perform(out);
        node
    }

    pub(crate) fn link(&self, peer: u8, purpose: Purpose) -> Option<LinkId> {
        self.peering.link(id(peer), purpose)
    }

    pub(crate) async fn stop(self) {
        self.mdns.stop().await;
    }

    /// Lives until `done`.
    pub(crate) async fn live_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let wake = {
                use futures_lite::future::or;
                let wait =
                    self.wake.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
                or(
                    async { Wake::Inbound(self.inbound.recv().await.expect("runs")) },
                    or(
                        async { Wake::Dialled(self.dialled.1.recv().await.expect("runs")) },
                        or(
                            async { Wake::Incoming(self.incoming.1.recv().await.expect("runs")) },
                            or(
                                async { Wake::Found(self.found.recv().await.expect("runs")) },
                                or(
                                    async {
                                        self.changed.recv().await.expect("runs");
                                        Wake::Changed
                                    },
                                    async {
                                        rt::sleep(wait).await;
                                        Wake::Time
                                    },
                                ),
                            ),
                        ),
                    ),
                )
                .await
            };
            self.handle(wake).await;
        }
    }

    async fn handle(&mut self, wake: Wake) {
        let (now, mut out) = (self.started.elapsed().as_millis() as u64, Vec::new());
        match wake {
            Wake::Inbound(Inbound::Link(link)) => self.up(now, link, None, &mut out),
            Wake::Inbound(Inbound::Pairing(_) | Inbound::Relay(_) | Inbound::Apart(_)) => {}
            Wake::Dialled((dial, _, Ok(link))) => self.up(now, link, Some(dial), &mut out),
            Wake::Dialled((dial, addr, Err(error))) => {
                eprintln!("dial {addr}: {error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
                self.peering.handle_dial_failed(now, dial, &mut out);
            }
            Wake::Incoming(Incoming { link, event: Event::Closed(_) }) => {
                self.links.remove(&link);
                self.peering.handle_link_down(now, link, &mut out);
            }
            Wake::Incoming(_) => {}
            Wake::Found(mdns::Event::Found { instance, addrs, invitation: None }) => {
                self.peering.handle_found(now, &instance, &addrs, &mut out);
            }
            Wake::Found(mdns::Event::Found { .. } | mdns::Event::Office { .. }) => {}
            Wake::Found(mdns::Event::Gone { instance }) => self.peering.handle_gone(now, &instance, &mut out),
            Wake::Changed => {
                self.mdns.network_changed().await;
                self.peering.handle_network_changed(now, &mut out);
            }
            Wake::Time => {
                self.wake = None;
                self.peering.handle_tick(now, &mut out);
            }
        }
        self.perform(out);
    }

    fn up(&mut self, now: u64, link: Link, dial: Option<DialId>, out: &mut Vec<Output>) {
        self.link_count += 1;
        let number = LinkId(self.link_count);
        let Hello { purpose, run, port, .. } = link.hello.clone();
        let up = Up { link: number, peer: link.peer, purpose, run, dial, via: link.via, remote: link.remote, port };
        self.links.insert(number, link.start(number, Limits::of(purpose), self.incoming.0.clone()));
        self.peering.handle_link_up(now, up, out);
    }

    fn perform(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Dial { dial, addr, expected, purpose, .. } => {
                    let (dialler, sender) = (self.dialler.clone(), self.dialled.0.clone());
                    rt::spawn(async move {
                        let dialled = dialler.dial(addr, expected, purpose).await;
                        let _ = sender.send((dial, addr, dialled)).await;
                    });
                }
                Output::Close { link, bye } => {
                    if let Some(sender) = self.links.get(&link) {
                        sender.close(bye);
                    }
                }
                Output::Wake { at_ms } => self.wake = Some(self.started + Duration::from_millis(at_ms)),
                Output::Linked { .. } | Output::Unlinked { .. } | Output::Remember { .. } => {}
            }
        }
    }
}
