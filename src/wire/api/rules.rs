//! Shapes about the access rules: who may do what, who is in which group, who is a member.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::{Level, NodeRef, PathText, Role, UtcTime};

/// See `Request::Rules`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesOf {
    /// Name or id of the one folder; every folder where none is given.
    #[serde(default)]
    pub folder: Option<String>,
}

/// See `Request::Grant`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRule {
    /// `everyone`, or a node or group by name or id.
    pub subject: String,
    /// `FOLDER` or `FOLDER:SUBPATH`, the sub-path in the escaped form.
    pub at: String,
    /// What the subject may do there.
    pub level: Level,
    /// Until when; for good where nothing is said.
    #[serde(default)]
    pub until: Option<Until>,
}

/// When a rule ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// At this moment.
    At(UtcTime),
    /// So many milliseconds after it was signed.
    AfterMs(u64),
}

/// See `Request::Revoke`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRule {
    /// As in `GrantRule`.
    pub subject: String,
    /// As in `GrantRule`.
    pub at: String,
}

/// See `Request::Expel`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpelNode {
    /// Name or id of the node.
    pub node: String,
}

/// See `Request::Eligible`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetEligible {
    /// Name or id of the node.
    pub node: String,
    /// Higher is preferred; null: it may not be coordinator any more.
    pub priority: Option<u16>,
}

/// See `Request::Role`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRole {
    /// Name or id of the node.
    pub node: String,
    /// What it is from now on.
    pub role: Role,
}

/// What is done to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupStep {
    /// It is made, with these members.
    Create,
    /// These become members.
    Add,
    /// These are members no more.
    Remove,
}

/// See `Request::Group`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeGroup {
    /// What is done.
    pub step: GroupStep,
    /// The group's name, or the id of one that exists.
    pub group: String,
    /// Names or ids of nodes.
    #[serde(default)]
    pub nodes: Vec<String>,
}

/// What is given a name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// The mesh.
    Mesh,
    /// A node, by name or id.
    Node(String),
    /// A folder, by name or id.
    Folder(String),
}

/// See `Request::Rename`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameThing {
    /// What.
    pub what: Thing,
    /// Its new name.
    pub name: String,
}

/// See `Request::Retire`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetireFolder {
    /// Name or id of the folder.
    pub folder: String,
}

/// See `Request::Revert`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevertChanges {
    /// Name or id of the folder.
    pub folder: String,
    /// Only this path in it and what is below.
    #[serde(default)]
    pub path: Option<PathText>,
}

/// See `Request::Recover`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverMesh {
    /// The recovery key as it was printed.
    pub key: Secret,
    /// Nodes to remove, by name or id: a machine that was stolen.
    #[serde(default)]
    pub expel: Vec<String>,
}

/// Text that is shown nowhere but where it was typed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A folder by id and name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FolderRef {
    /// Folder id in hexadecimal.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Whom a rule is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SubjectRef {
    /// Every member.
    Everyone,
    /// The members of a group.
    Group {
        /// Group id in hexadecimal.
        id: String,
        /// Its name.
        name: String,
    },
    /// One node.
    Node {
        /// Text form of the node id.
        id: String,
        /// Its name.
        name: String,
    },
}

impl SubjectRef {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Everyone => "everyone",
            Self::Group { name, .. } | Self::Node { name, .. } => name,
        }
    }
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// Where.
    pub folder: FolderRef,
    /// On what, with all below it; empty for the whole folder.
    pub path: PathText,
    /// Whom it is about.
    pub subject: SubjectRef,
    /// What the subject may do; null where earlier rules were withdrawn.
    pub level: Option<Level>,
    /// Who signed it.
    pub by: NodeRef,
    /// When it was signed, by the signer's clock.
    pub since: UtcTime,
    /// Until when; null for good.
    pub until: Option<UtcTime>,
    /// It only lowers: who signed it lost the right to at the same time.
    pub contested: bool,
    /// Its statement, in hexadecimal.
    pub statement: String,
}

/// What one node may do in a folder as a whole, all rules taken together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Standings {
    /// Where.
    pub folder: FolderRef,
    /// Every member with its level on the folder's root, by name.
    pub members: Vec<MemberLevel>,
}

/// See `Standings`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberLevel {
    /// Who.
    pub node: NodeRef,
    /// What it may do.
    pub level: Level,
}

/// Answer to `Request::Rules`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rules {
    /// The rules in force, by folder, path and subject.
    pub rules: Vec<Rule>,
    /// What they add up to.
    pub standings: Vec<Standings>,
    /// Who may change every rule.
    pub admins: Vec<NodeRef>,
}

/// Answer to `Request::Grant` and `Request::Revoke`: the rule as it is now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ruled {
    /// What was signed.
    pub rule: Rule,
    /// What the subject may do there now by all rules together; null for groups and everyone.
    #[serde(default)]
    pub comes_to: Option<Level>,
    /// Whether somebody may read less than before: what is on their disks already cannot be recalled.
    #[serde(default)]
    pub lowers_read: bool,
    /// What this node may do there now, where that is less than before; else null.
    #[serde(default)]
    pub lowers_own: Option<Level>,
}

/// Answer to `Request::Expel`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Expelled {
    /// Who.
    pub node: NodeRef,
    /// The statement, in hexadecimal.
    pub statement: String,
}

/// Answer to `Request::Eligible`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EligibleSet {
    /// Who.
    pub node: NodeRef,
    /// With which priority; null: not eligible.
    pub priority: Option<u16>,
    /// The statement, in hexadecimal; null if it was so already.
    pub statement: Option<String>,
}

/// Answer to `Request::Role`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoleChanged {
    /// Who.
    pub node: NodeRef,
    /// What it is.
    pub role: Role,
    /// The statement, in hexadecimal; null where it was so already.
    pub statement: Option<String>,
}

/// A group of nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Group id in hexadecimal.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its members, by name.
    pub members: Vec<NodeRef>,
    /// Nodes that two admins disagreed on at the same time: rules on the group count for them only where they lower.
    #[serde(default)]
    pub disputed: Vec<NodeRef>,
}

/// Answer to `Request::Rename`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Renamed {
    /// The name before.
    pub before: String,
    /// The name now.
    pub name: String,
    /// The statement, in hexadecimal.
    pub statement: String,
}

/// Answer to `Request::Retire`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retired {
    /// Which folder.
    pub folder: FolderRef,
    /// The statement, in hexadecimal.
    pub statement: String,
}

/// Answer to `Request::Revert`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reverted {
    /// Which folder.
    pub folder: FolderRef,
    /// What was taken back, in the order of paths; at most 1,000 of them.
    pub paths: Vec<PathText>,
    /// How many there were.
    pub count: u64,
}

/// Answer to `Request::Recover`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recovered {
    /// This node, an admin now.
    pub node: NodeRef,
    /// Who was removed.
    pub expelled: Vec<NodeRef>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_by_what_prints_requests() {
        let ask = RecoverMesh { key: Secret("harvest".into()), expel: Vec::new() };
        assert!(!format!("{ask:?}").contains("harvest"));
        assert_eq!(serde_json::to_value(&ask).expect("JSON")["key"], "harvest");
    }

    #[test]
    fn a_subject_says_what_it_is() {
        let everyone = serde_json::to_value(SubjectRef::Everyone).expect("JSON");
        assert_eq!(everyone, serde_json::json!({"kind": "everyone"}));
        let until: Until = serde_json::from_str("{\"after_ms\": 5}").expect("a span");
        assert_eq!(until, Until::AfterMs(5));
    }
}
