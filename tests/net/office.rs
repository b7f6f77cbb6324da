//! Nodes for tests: a key, a mesh, a port on loopback.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use ed25519_dalek::SigningKey;
use lanyard::base::{DiscoveryKey, NodeId};
use lanyard::shell::net::link::Limits;
use lanyard::shell::net::listen::{Bound, Door, Place};
use lanyard::shell::net::{Dialler, Event, Inbound, Incoming, IsMember, KeyRing, Link, LinkId, LinkSender, Listener};
use lanyard::shell::rt;
use lanyard::wire::codec::{Bytes, Text};
use lanyard::wire::message::{Answer, Content, Hello, Message, Purpose};
use lanyard::wire::versions::Speaks;

/// The discovery key of the office.
pub(crate) fn office_key() -> DiscoveryKey {
    DiscoveryKey([1; 32])
}

/// One node that listens.
pub(crate) struct Node {
    pub(crate) key: SigningKey,
    pub(crate) ring: KeyRing,
    pub(crate) listener: Listener,
    pub(crate) inbound: Receiver<Inbound>,
    pub(crate) dialler: Dialler,
}

pub(crate) fn id(seed: u8) -> NodeId {
    NodeId(SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes())
}

pub(crate) fn hello() -> Hello {
    Hello { software: Text::truncated("test"), purpose: Purpose::Control, run: 1, port: 0 }
}

impl Node {
    /// A node whose members are those of these seeds.
    pub(crate) fn new(seed: u8, members: &[u8], discovery: DiscoveryKey) -> Self {
        Self::speaking(seed, members, discovery, Speaks::default())
    }

    /// One that speaks other versions.
    pub(crate) fn speaking(seed: u8, members: &[u8], discovery: DiscoveryKey, speaks: Speaks) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let ring = KeyRing::new(vec![discovery]);
        let members: BTreeSet<NodeId> = members.iter().map(|s| id(*s)).collect();
        let is_member: IsMember = Arc::new(move |node| members.contains(&node));
        let hello = hello();
        let (sender, inbound) = async_channel::bounded(8);
        let door = Door {
            key: key.clone(),
            ring: ring.clone(),
            is_member: is_member.clone(),
            hello: hello.clone(),
            speaks: speaks.clone(),
        };
        let listener = Bound::new(Place::Fixed(0)).expect("a free port").serve(door, sender);
        let dialler = Dialler { key: key.clone(), ring: ring.clone(), is_member, hello, speaks };
        Self { key, ring, listener, inbound, dialler }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.listener.port()))
    }

    /// The next link that comes in.
    pub(crate) async fn link(&self) -> Link {
        match within(self.inbound.recv()).await.expect("the listener runs") {
            Inbound::Link(link) => link,
            Inbound::Pairing(_) | Inbound::Relay(_) | Inbound::Apart(_) => panic!("something else than a link"),
        }
    }
}

/// One end of a link that runs.
pub(crate) struct End {
    pub(crate) sender: LinkSender,
    pub(crate) incoming: Receiver<Incoming>,
}

pub(crate) fn start(link: Link, limits: Limits, capacity: usize) -> End {
    let (sender, incoming) = async_channel::bounded(capacity);
    End { sender: link.start(LinkId(7), limits, sender), incoming }
}

impl End {
    pub(crate) async fn next(&self) -> Event {
        within(self.incoming.recv()).await.expect("the link says how it ends").event
    }

    pub(crate) async fn message(&self) -> Message {
        match self.next().await {
            Event::Message(message) => message,
            Event::Closed(error) => panic!("closed: {error}"),
        }
    }

    pub(crate) async fn closed(&self) -> lanyard::shell::net::LinkError {
        loop {
            if let Event::Closed(error) = self.next().await {
                return error;
            }
        }
    }
}

/// Two members and a link between them: the dialler's end, the listener's end.
pub(crate) async fn linked(limits: Limits) -> (Node, Node, End, End) {
    let (a, b) = (Node::new(1, &[1, 2], office_key()), Node::new(2, &[1, 2], office_key()));
    let dialled = a.dialler.dial(b.addr(), Some(id(2)), Purpose::Control).await.expect("a link");
    let accepted = b.link().await;
    (a, b, start(dialled, limits, 16), start(accepted, limits, 16))
}

pub(crate) fn content(request: u64, bytes: usize) -> Message {
    let bytes = vec![request as u8; bytes];
    Message::Content(Content { request, answer: Answer::Bytes(Bytes::new(bytes).expect("fits")) })
}

/// A bound for what must happen, far above what it takes: a test that hangs fails.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    rt::timeout(Duration::from_secs(30), future).await.expect("it happens")
}
