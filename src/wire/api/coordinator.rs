//! Shapes about the coordinator: who it is, who may be it.

use serde::{Deserialize, Serialize};

use super::{NodeRef, Term};

/// The priority of a node for which none is said: room for better and worse ones.
pub const PRIORITY_USUAL: u16 = 100;

/// Answer to `Request::Coordinator`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Coordinator {
    /// Who it is; null where there is none.
    pub coordinator: Option<Term>,
    /// Whether it is the node that answers.
    pub this: bool,
    /// The name under which it is found on the local network, such as `office.local`; null where this node does not know.
    pub host: Option<String>,
    /// Why `host` is another one than the mesh's name asks for.
    pub host_taken: Option<String>,
    /// Whether this node could do a coordinator's work now.
    pub fit: bool,
    /// Who may be coordinator, the preferred one first.
    pub eligible: Vec<EligibleNode>,
}

/// See `Coordinator::eligible`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EligibleNode {
    /// Who.
    pub node: NodeRef,
    /// The higher is preferred.
    pub priority: u16,
    /// Whether it is the coordinator.
    pub coordinator: bool,
    /// Whether it is this node, or connected to it.
    pub connected: bool,
    /// Whether it would be coordinator now: it is connected and fit.
    pub ready: bool,
}

/// See `Request::Allow`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowNode {
    /// Name or id of the node.
    pub node: String,
    /// The higher is preferred; it may not be coordinator where none is given.
    #[serde(default)]
    pub priority: Option<u16>,
}

/// Answer to `Request::Allow`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Allowed {
    /// Who.
    pub node: NodeRef,
    /// As it is now.
    pub priority: Option<u16>,
    /// The statement, in hexadecimal; null where it was so already.
    pub statement: Option<String>,
}

/// Answer to `Request::StepDown`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SteppedDown {
    /// Who is coordinator now; null where nobody was within the time.
    pub coordinator: Option<Term>,
}
