//! How this node stands to its mesh, and what is meant by names: what most commands ask first.

use std::sync::Arc;

use super::Shared;
use crate::base::{FolderId, NodeId, RelPath, Role};
use crate::logic::policy::{PlanRefused, Policy};
use crate::shell::clock;
use crate::wire::api::{Failure, FolderBrief, MeshRef, Standing};

/// A mesh by id and name.
pub(super) fn mesh_ref(policy: &Policy) -> MeshRef {
    MeshRef { id: policy.mesh().to_hex(), name: policy.mesh_name().to_string() }
}

/// How this node stands to a mesh.
pub(super) fn standing(shared: &Shared) -> Standing {
    let me = shared.mesh.node();
    let Some(policy) = shared.mesh.policy() else { return Standing::NoMesh };
    match policy.role(me) {
        None => Standing::Expelled,
        Some(_) if policy.members().count() == 1 => Standing::Alone,
        Some(Role::Admin) => Standing::Admin,
        Some(Role::Member) => Standing::Member,
    }
}

/// A node that was expelled, or has left, can do nothing in that mesh any more.
pub(super) fn must_belong(shared: &Shared) -> Result<(), Failure> {
    if standing(shared) == Standing::Expelled {
        return Err(Failure::refused("this node is no member of its mesh any more")
            .hint("ask for an invitation and run `lanyard join CODE`"));
    }
    Ok(())
}

/// The rules of the mesh that this node belongs to.
pub(super) fn must_have_mesh(shared: &Shared) -> Result<Arc<Policy>, Failure> {
    must_belong(shared)?;
    shared.mesh.policy().ok_or_else(|| {
        Failure::refused("this node belongs to no mesh")
            .hint("join one with `lanyard join CODE`, or share a directory with `lanyard share PATH`")
    })
}

/// A folder's name.
pub(super) fn folder_name(shared: &Shared, id: FolderId) -> String {
    let policy = shared.mesh.policy();
    policy.and_then(|policy| policy.folder(id).map(|state| state.name.clone())).unwrap_or_else(|| id.to_hex())
}

/// What a new member sees of a folder.
pub(super) fn brief(shared: &Shared, policy: &Policy, id: FolderId, node: NodeId) -> Option<FolderBrief> {
    let state = policy.folder(id)?;
    let path = match shared.mesh.record().place(id) {
        Some(place) if node == shared.mesh.node() => place.at().cloned(),
        _ => None,
    };
    let level = policy.level(node, id, &RelPath::root(), clock::wall_ms());
    Some(FolderBrief { name: state.name.clone(), level, path })
}

/// The folder that a name or id means, among those this node may see.
pub(super) fn find_folder(shared: &Shared, wanted: &str) -> Result<FolderId, Failure> {
    let policy = must_have_mesh(shared)?;
    let visible = policy.visible_folders(shared.mesh.node(), clock::wall_ms());
    let is_meant =
        |id: &FolderId| id.to_hex() == wanted || policy.folder(*id).is_some_and(|state| state.name == wanted);
    let meant: Vec<FolderId> = visible.iter().copied().filter(is_meant).collect();
    match meant.as_slice() {
        [one] => Ok(*one),
        [] => {
            let known: Vec<String> = visible.into_iter().map(|id| folder_name(shared, id)).collect();
            let hint = if known.is_empty() {
                String::from("no folder is shared with this node yet")
            } else {
                format!("folders shared with this node: {}", known.join(", "))
            };
            Err(Failure::failed(format!("there is no folder named {wanted}")).hint(hint))
        }
        _ => Err(Failure::failed(format!("several folders are named {wanted}"))
            .hint("name it by its id; `lanyard folders --json` shows it")),
    }
}

/// A refusal of the rules as the API says it.
pub(super) fn refused(error: &PlanRefused) -> Failure {
    let failure = Failure::refused("the rules do not allow this").because(error);
    match error {
        PlanRefused::NotAnAdmin { admins } => failure.hint(format!("ask an admin: {}", admins.join(", "))),
        PlanRefused::LastAdmin => failure.hint("invite another node with --role admin first"),
        _ => failure,
    }
}
