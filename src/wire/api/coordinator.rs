//! Shapes about the coordinator: who may be it.

use serde::{Deserialize, Serialize};

use super::NodeRef;

/// The priority of a node for which none is said: room for better and worse ones.
pub const PRIORITY_USUAL: u16 = 100;

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
