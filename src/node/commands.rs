//! What the local API asks, answered. One command a task; those that change mesh or folders take turns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::folder::FolderHandle;
use super::mesh::MeshError;
use super::standing::{find_folder, mesh_ref, refused, standing};
use super::{
    Shared, archive, audit, conflicts, doctor, election, guard, inbox, late, lock, office, outside, pairing, past,
    places, receiving, restore, rules, sharing, shown, verify,
};
use crate::base::{FolderId, Level};
use crate::logic::policy::plan_leave;
use crate::shell::rt;
use crate::wire::api::{
    Failure, Folder, FolderState, Left, Request, Response, Share, Standing, Stopping, Wait, Waited,
};

/// How long a leaving node gives its peers to hear of it.
const FAREWELL_MS: u64 = 1_000;

/// Answers one request.
pub(super) async fn handle(shared: &Arc<Shared>, request: Request) -> Result<Response, Failure> {
    if request.route().0 != "GET" && !matches!(request, Request::Shutdown) {
        outside::rejoined(shared).await;
    }
    if signs(&request) {
        shared.mesh.settle().await;
    }
    match request {
        Request::Status => Ok(Response::Status(shown::status(shared))),
        Request::Nodes => Ok(Response::Nodes(shown::nodes(shared))),
        Request::Folders => Ok(Response::Folders(shown::folders(shared))),
        Request::Share(Share { path, name, everyone }) => {
            let path = places::to_path(&path);
            sharing::share(shared, &path, name, everyone.unwrap_or(Level::Write)).await.map(Response::Shared)
        }
        Request::Get(get) => receiving::get(shared, get).await.map(Response::Got),
        Request::Drop(drop) => receiving::drop_folder(shared, drop).await.map(Response::Dropped),
        Request::Invite(invite) => pairing::invite(shared, invite).await.map(Response::Invitation),
        Request::InviteOutcome(asked) => shared.invitations.outcome(&asked.id).await.map(Response::InvitationOutcome),
        Request::Join(join) => pairing::join(shared, join).await.map(Response::Joined),
        Request::Leave => leave(shared).await.map(Response::Left),
        Request::Wait(wait) => wait_for(shared, wait).await.map(Response::Waited),
        Request::Rules(ask) => rules::rules(shared, &ask).map(Response::Rules),
        Request::Grant(ask) => rules::grant(shared, ask).await.map(Response::Ruled),
        Request::Revoke(ask) => rules::revoke(shared, ask).await.map(Response::Ruled),
        Request::Expel(ask) => rules::expel(shared, ask).await.map(Response::Expelled),
        Request::Role(ask) => rules::role(shared, ask).await.map(Response::RoleChanged),
        Request::Groups => rules::groups(shared).map(Response::Groups),
        Request::Group(ask) => rules::change_group(shared, ask).await.map(Response::Group),
        Request::Rename(ask) => rules::rename(shared, ask).await.map(Response::Renamed),
        Request::Retire(ask) => rules::retire(shared, ask).await.map(Response::Retired),
        Request::Versions(ask) => past::versions(shared, ask).await.map(Response::Versions),
        Request::Restore(ask) => restore::restore(shared, ask).await.map(Response::Restored),
        Request::Conflicts(ask) => conflicts::conflicts(shared, ask).await.map(Response::Conflicts),
        Request::ResolveConflict(ask) => conflicts::resolve(shared, ask).await.map(Response::Resolved),
        Request::Revert(ask) => rules::revert(shared, ask).await.map(Response::Reverted),
        Request::Recover(ask) => rules::recover(shared, ask).await.map(Response::Recovered),
        Request::Late(ask) => late::late(shared, &ask).map(Response::Late),
        Request::KeepLate(ask) => late::keep(shared, ask).await.map(Response::Kept),
        Request::Reinstate(ask) => late::reinstate(shared, ask).await.map(Response::Reinstated),
        Request::Coordinator => election::coordinator(shared).map(Response::Coordinator),
        Request::Allow(ask) => election::allow(shared, ask).await.map(Response::Allowed),
        Request::StepDown => election::step_down(shared).await.map(Response::SteppedDown),
        Request::Guard => guard::held(shared).map(Response::Held),
        Request::Verify(ask) => verify::verify(shared, ask).await.map(Response::Verified),
        Request::Decide(ask) => guard::decide(shared, ask).await.map(Response::Decided),
        Request::Doctor => {
            let shared = shared.clone();
            Ok(Response::Checkup(rt::spawn_blocking(move || doctor::checkup(&shared)).await))
        }
        Request::Health => {
            let shared = shared.clone();
            rt::spawn_blocking(move || office::health(&shared)).await.map(Response::Health)
        }
        Request::Copies(ask) => rules::copies(shared, ask).await.map(Response::Copies),
        Request::Archive(ask) => archive::asked(shared, ask).await.map(|answer| Response::Archive(Box::new(answer))),
        Request::Audit(ask) if ask.office => office::entries(shared, ask).await.map(Response::Audit),
        Request::Audit(ask) => audit::entries(shared, ask).await.map(Response::Audit),
        Request::Shutdown => {
            let _ = shared.to_loop.send(inbox::Event::Stop).await;
            Ok(Response::Stopping(Stopping { id: shared.mesh.node().to_text() }))
        }
    }
}

/// Whether a request may come to a statement.
fn signs(request: &Request) -> bool {
    use Request as R;
    match request {
        R::Share(_) | R::Invite(_) | R::Leave | R::Grant(_) | R::Revoke(_) | R::Expel(_) | R::Role(_) => true,
        R::Group(_) | R::Rename(_) | R::Retire(_) | R::Restore(_) | R::Recover(_) | R::Decide(_) => true,
        R::KeepLate(_) | R::Reinstate(_) | R::Copies(_) | R::Allow(_) => true,
        R::Status | R::Nodes | R::Folders | R::Get(_) | R::Drop(_) | R::InviteOutcome(_) | R::Join(_) => false,
        R::Wait(_) | R::Rules(_) | R::Groups | R::Versions(_) | R::Conflicts(_) | R::ResolveConflict(_) => false,
        R::Revert(_) | R::Late(_) | R::Guard | R::Verify(_) | R::Audit(_) | R::Health => false,
        R::Coordinator | R::StepDown | R::Doctor => false,
        R::Archive(_) | R::Shutdown => false,
    }
}

async fn leave(shared: &Arc<Shared>) -> Result<Left, Failure> {
    let _one = shared.changing.lock().await;
    let policy = shared.mesh.policy().ok_or_else(|| Failure::refused("this node belongs to no mesh"))?;
    let mesh = mesh_ref(&policy);
    let me = shared.mesh.node();
    match standing(shared) {
        Standing::Expelled => return Ok(Left { mesh, dissolved: false, already: true }),
        Standing::Alone | Standing::NoMesh => {
            dissolve(shared).await?;
            return Ok(Left { mesh, dissolved: true, already: false });
        }
        Standing::Member | Standing::Admin => {}
    }
    shared.mesh.sign(|policy| Ok::<_, Failure>(vec![plan_leave(policy, me).map_err(|error| refused(&error))?]))?;
    // Peers hear of it over the links that are up; those that are away hear of it from them.
    rt::sleep(Duration::from_millis(FAREWELL_MS)).await;
    sharing::end_all(shared).await;
    Ok(Left { mesh, dissolved: false, already: false })
}

/// Ends a mesh that has no other member.
pub(super) async fn dissolve(shared: &Arc<Shared>) -> Result<(), Failure> {
    sharing::end_all(shared).await;
    shared.mesh.forget().map_err(|error| Failure::failed("cannot dissolve the mesh").because(&error))
}

async fn wait_for(shared: &Arc<Shared>, wait: Wait) -> Result<Waited, Failure> {
    let wanted: BTreeMap<FolderId, FolderHandle> = match &wait.folder {
        Some(name) => {
            let folder = find_folder(shared, name)?;
            let handle = shared.folder(folder).ok_or_else(|| {
                Failure::failed(format!("folder {name} is not received here"))
                    .hint(format!("receive it with `lanyard get {name} PATH`"))
            })?;
            BTreeMap::from([(folder, handle)])
        }
        None => {
            // Folders that were just offered are started first.
            drop(shared.changing.lock().await);
            shared.folders()
        }
    };
    let all = async {
        for handle in wanted.values() {
            handle.wait().await;
        }
    };
    let time = Duration::from_millis(wait.timeout_ms);
    let done = rt::timeout(time, all).await;
    let folders: Vec<Folder> = wanted.keys().filter_map(|id| shown::folder(shared, *id)).collect();
    if done.is_err() {
        let behind = folders.iter().filter(|folder| folder.need.files > 0 || folder.state != FolderState::Idle);
        let behind: Vec<String> =
            behind.map(|folder| format!("folder {} still needs {} files", folder.name, folder.need.files)).collect();
        let mut failure = Failure::timed_out(format!("not in sync after {} s", time.as_secs()));
        failure.why = behind;
        return Err(failure.hint("`lanyard status` shows what is going on; wait longer with --timeout"));
    }
    let connected = u32::try_from(lock(&shared.connected).len()).unwrap_or(u32::MAX);
    Ok(Waited { folders, connected })
}

impl From<MeshError> for Failure {
    fn from(error: MeshError) -> Self {
        match &error {
            MeshError::Plan(plan) => refused(plan),
            MeshError::None => Failure::refused("this node belongs to no mesh"),
            _ => Failure::failed("the mesh cannot be changed").because(&error),
        }
    }
}
