//! Statements in a sentence, for people: the audit log and its readers.

use super::state::Policy;
use crate::base::{FolderId, NodeId, RelPath};
use crate::wire::api::UtcTime;
use crate::wire::statement::{Body, Named, Subject};

/// What `issuer` did by saying `body`, in words: `granted 'read' on plans/2026 to workshop`. Names are those of now.
pub fn sentence(policy: &Policy, issuer: NodeId, body: &Body) -> String {
    let node = |id: NodeId| node_name(policy, id);
    match body {
        Body::Found(b) => format!("founded the mesh '{}'", b.name),
        Body::Admit(b) => format!("admitted {} as {}", node(b.node), b.role),
        Body::Expel(b) if b.node == issuer => String::from("left the mesh"),
        Body::Expel(b) => format!("removed {}", node(b.node)),
        Body::SetRole(b) => format!("made {} {}", node(b.node), b.role),
        Body::Rename(b) => match b.what {
            Named::Mesh => format!("named the mesh '{}'", b.name),
            Named::Node(id) => format!("named node {} '{}'", id.short(), b.name),
            Named::Folder(id) => format!("named folder {} '{}'", &id.to_hex()[..8], b.name),
        },
        Body::Group(b) => {
            let members: Vec<String> = b.members.iter().map(|member| node(*member)).collect();
            match members.is_empty() {
                true => format!("made the group {} of nobody", b.name),
                false => format!("made the group {} of {}", b.name, members.join(", ")),
            }
        }
        Body::CreateFolder(b) => format!("shared the folder {}", b.name),
        Body::Grant(b) => {
            let until = b.not_after.map(|ms| format!(" until {}", UtcTime::from_ms(ms))).unwrap_or_default();
            let (place, whom) = (place(policy, b.folder, &b.path), subject(policy, b.subject));
            format!("granted '{}' on {place} to {whom}{until}", b.level)
        }
        Body::Revoke(b) => {
            format!("withdrew the rule on {} for {}", place(policy, b.folder, &b.path), subject(policy, b.subject))
        }
        Body::RetireFolder(b) => format!("retired the folder {}", folder_name(policy, b.folder)),
        Body::Eligible(b) => match b.priority {
            Some(priority) => format!("let {} be coordinator, with priority {priority}", node(b.node)),
            None => format!("let {} be coordinator no more", node(b.node)),
        },
        Body::Pass(b) => format!("made the pass {}", b.name),
        Body::Seal(_) => String::from("sealed an expired rule"),
        Body::Vouch(b) => format!("kept late changes in the folder {}", folder_name(policy, b.folder)),
        Body::Verdict(b) => {
            let decided = if b.release { "released" } else { "rejected" };
            format!(
                "{decided} held changes of {} in the folder {}",
                node_name(policy, b.range.writer.node),
                folder_name(policy, b.folder)
            )
        }
        Body::Fork(b) => format!("showed that {} signed two histories", node(b.writer.node)),
        Body::Reinstate(b) => format!("took {} in again after two histories", node(b.writer.node)),
        Body::Copies(b) => {
            let wanted = match (b.nodes, b.server) {
                (0, false) => String::from("no number of copies any more"),
                (0, true) => String::from("a copy on the office's server"),
                (nodes, false) => format!("copies on {nodes} machines"),
                (nodes, true) => format!("copies on {nodes} machines beside the office's server"),
            };
            format!("asked for {wanted} of the folder {}", folder_name(policy, b.folder))
        }
        Body::Unknown { kind, .. } => {
            format!("signed a statement of kind {kind:#06x}, which this version does not know")
        }
    }
}

/// The folder that a statement is about.
pub fn folder_of(body: &Body) -> Option<FolderId> {
    match body {
        Body::Grant(b) => Some(b.folder),
        Body::Revoke(b) => Some(b.folder),
        Body::RetireFolder(b) => Some(b.folder),
        Body::Vouch(b) => Some(b.folder),
        Body::Verdict(b) => Some(b.folder),
        Body::Fork(b) => Some(b.folder),
        Body::Reinstate(b) => Some(b.folder),
        Body::Copies(b) => Some(b.folder),
        Body::Rename(b) => match b.what {
            Named::Folder(folder) => Some(folder),
            Named::Mesh | Named::Node(_) => None,
        },
        _ => None,
    }
}

/// A node by its name, or by the short form of its id; the recovery key by what it is.
pub fn node_name(policy: &Policy, node: NodeId) -> String {
    if policy.recovery() == Some(node) {
        return String::from("the recovery key");
    }
    policy.name(node).map_or_else(|| node.short(), str::to_owned)
}

/// `FOLDER`, or `FOLDER/PATH`.
pub fn place(policy: &Policy, folder: FolderId, path: &RelPath) -> String {
    let name = folder_name(policy, folder);
    if path.is_root() { name } else { format!("{name}/{path}") }
}

/// Whom a rule is about.
pub fn subject(policy: &Policy, subject: Subject) -> String {
    match subject {
        Subject::Everyone => String::from("everyone"),
        Subject::Node(node) => node_name(policy, node),
        Subject::Group(group) => policy
            .groups
            .get(&group)
            .map_or_else(|| format!("group {}", &group.to_hex()[..8]), |state| format!("group {}", state.name)),
    }
}

fn folder_name(policy: &Policy, folder: FolderId) -> String {
    policy.folder(folder).map_or_else(|| folder.to_hex()[..8].to_string(), |state| state.name.clone())
}
