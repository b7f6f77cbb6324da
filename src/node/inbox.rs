//! What the node's main loop is told, from wherever it happened.

use std::net::SocketAddr;

use super::api::Call;
use super::mesh::Change;
use super::relay;
use crate::base::{FolderId, NodeId};
use crate::logic::peering;
use crate::shell::net::dial::DialError;
use crate::shell::net::interfaces::Changed;
use crate::shell::net::link::{Link, LinkId};
use crate::shell::net::listen::{Inbound, Turned};
use crate::shell::net::mdns;
use crate::wire::message::Address;

/// One thing to see to.
pub(crate) enum Event {
    Call(Call),
    Inbound(Inbound),
    /// Somebody was not let in.
    Turned(Turned),
    Dialled(peering::DialId, Box<Result<Link, DialError>>),
    LinkEnded(LinkId, String),
    Relay(relay::Event),
    Mdns(mdns::Event),
    Mesh(Change),
    Network(Changed),
    Told(NodeId, Vec<Address>),
    Configured(Vec<SocketAddr>),
    /// Folders were started or stopped.
    Folders,
    /// A folder is not received any more.
    Dropped(FolderId),
    /// This node has joined the mesh of another, whose addresses are in the record.
    Joined(NodeId),
    /// Invitations were opened or have ended.
    Invitations,
    /// The configuration is to be read again.
    Reload,
    /// Whether this node is coordinator: it alone has the office's name.
    Office(bool),
    /// To end, for the next run of the node.
    Anew,
    Stop,
}
