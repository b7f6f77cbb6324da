//! What the local API asks, answered. One command a task; those that change mesh or folders take turns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::folder::FolderHandle;
use super::mesh::MeshError;
use super::record::Place;
use super::{
    Shared, archive, audit, conflicts, doctor, election, guard, late, lock, office, outside, pairing, past, receiving,
    restore, rules, running, sharing, verify,
};
use crate::base::{FolderId, Level, NodeId, RelPath, Role, StatementId};
use crate::logic::policy::{PlanRefused, Policy, plan_leave};
use crate::logic::sync::notices::{Kind, Told};
use crate::shell::{clock, rt};
use crate::wire::api::{
    Alert, Amount, Event, Failure, Folder, FolderBrief, FolderState, Left, Member, MeshRef, Notice, NoticeKind,
    PathText, Peer, Request, Response, Share, Standing, Status, Stopping, ThisNode, UtcTime, Wait, Waited,
};
use crate::wire::statement::Body;

/// How long a leaving node gives its peers to hear of it.
const FAREWELL_MS: u64 = 1_000;
/// Names listed of one notice. A guess: a page full.
const NOTICE_PATHS_MAX: usize = 50;

/// Answers one request.
pub(super) async fn handle(shared: &Arc<Shared>, request: Request) -> Result<Response, Failure> {
    if request.route().0 != "GET" && !matches!(request, Request::Shutdown) {
        outside::rejoined(shared).await;
    }
    if signs(&request) {
        shared.mesh.settle().await;
    }
    match request {
        Request::Status => Ok(Response::Status(status(shared))),
        Request::Nodes => Ok(Response::Nodes(nodes(shared))),
        Request::Folders => Ok(Response::Folders(folders(shared))),
        Request::Share(Share { path, name, everyone }) => {
            let path = sharing::to_path(&path);
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
        Request::Audit(ask) => audit::entries(shared, ask).await.map(Response::Audit),
        Request::Shutdown => {
            let _ = shared.to_loop.send(running::Event::Stop).await;
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

/// This node, its mesh, peers, folders.
pub(super) fn status(shared: &Shared) -> Status {
    let me = shared.mesh.node();
    let policy = shared.mesh.policy();
    let peers = nodes(shared).into_iter().filter(|member| !member.this);
    let addresses = crate::shell::net::interfaces::Selection::default().addresses().unwrap_or_default();
    Status {
        node: ThisNode {
            id: me.to_text(),
            name: own_name(shared),
            version: env!("CARGO_PKG_VERSION").to_string(),
            confined: shared.outside.is_confined(),
            listen: addresses.into_iter().map(|ip| std::net::SocketAddr::new(ip, shared.port).to_string()).collect(),
        },
        mesh: policy.as_ref().filter(|policy| policy.is_member(me)).map(|policy| mesh_ref(policy)),
        standing: standing(shared),
        page: None,
        peers: peers
            .map(|member| Peer {
                id: member.id,
                name: member.name,
                connected: member.connected,
                address: member.address,
                via: member.via,
                apart: member.apart,
            })
            .collect(),
        folders: folders(shared),
        coordinator: election::known(shared),
        alerts: alerts(shared, policy.as_deref()),
    }
}

/// What this node does, in one line for the service manager.
pub(super) fn in_a_line(shared: &Shared) -> String {
    let Some(policy) = shared.mesh.policy() else { return String::from("in no mesh yet: share a directory, or join") };
    let others = policy.members().filter(|(node, _)| *node != shared.mesh.node()).count();
    let connected = lock(&shared.connected).len();
    let running: Vec<_> = shared.folders().into_values().map(|handle| handle.status()).collect();
    let need: u64 = running.iter().map(|status| status.need.files).sum();
    let stuck = running.iter().filter(|status| status.problem.is_some()).count();
    let mut line = format!("{connected} of {others} machines connected, folders: {}", running.len());
    if need > 0 {
        line.push_str(&format!(", receiving {need} files"));
    }
    if stuck > 0 {
        line.push_str(&format!(", with a problem: {stuck}"));
    }
    line
}

/// What needs a person: what happened, and what is so all the time.
pub(super) fn alerts(shared: &Shared, policy: Option<&Policy>) -> Vec<Alert> {
    let mut alerts = lock(&shared.alerts).clone();
    let me = shared.mesh.node();
    alerts.extend(policy.into_iter().flat_map(|policy| office::not_held(shared, policy)));
    alerts.extend(policy.into_iter().flat_map(|policy| policy.stopped().map(|scope| stopped(shared, scope))));
    let Some(policy) = policy.filter(|policy| policy.is_member(me) && policy.members().count() > 1) else {
        return alerts;
    };
    if let [only] = policy.admins()[..] {
        let since = policy.member(only).map_or(0, |member| member.since.ms);
        let name = shared.name_of(only);
        let hint = match only == me {
            true => "make a second machine an admin: 'lanyard role NODE admin'; keep the printed recovery key safe",
            false => {
                "ask for a second admin: 'lanyard role NODE admin' there; the printed recovery key helps if it is lost"
            }
        };
        alerts.push(Alert {
            since: UtcTime::from_ms(since),
            what: format!("there is only one admin, {name}: should that machine be lost, nobody can change the rules"),
            hint: Some(hint.into()),
        });
    }
    alerts
}

/// A rule of a later lanyard has stopped a folder, or all of them.
fn stopped(shared: &Shared, scope: Option<FolderId>) -> Alert {
    let what = scope.map_or("every folder".to_string(), |folder| format!("'{}'", folder_name(shared, folder)));
    Alert {
        since: UtcTime::from_ms(0),
        what: format!(
            "a rule for {what} was signed by a later lanyard: nothing is sent or taken there until this machine has one that knows it"
        ),
        hint: Some("install the newest lanyard of the office on this machine; files and rules stay as they are".into()),
    }
}

fn own_name(shared: &Shared) -> String {
    let policy = shared.mesh.policy();
    let named = policy.and_then(|policy| policy.name(shared.mesh.node()).map(str::to_owned));
    named.unwrap_or_else(|| shared.mesh.record().name)
}

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

pub(super) fn must_have_mesh(shared: &Shared) -> Result<Arc<Policy>, Failure> {
    must_belong(shared)?;
    shared.mesh.policy().ok_or_else(|| {
        Failure::refused("this node belongs to no mesh")
            .hint("join one with `lanyard join CODE`, or share a directory with `lanyard share PATH`")
    })
}

/// Every member, this node first, then by name.
pub(super) fn nodes(shared: &Shared) -> Vec<Member> {
    let Some(policy) = shared.mesh.policy() else { return Vec::new() };
    let record = shared.mesh.record();
    let me = shared.mesh.node();
    let one = |(node, member): (NodeId, &crate::logic::policy::Member)| {
        let way = shared.way_to(node);
        let via = way.as_ref().and_then(|way| way.via).map(|relay| shared.name_of(relay));
        let address = way.map(|way| way.address);
        let contact = record.members.get(&node.to_hex());
        let last_seen = match &address {
            Some(_) => Some(clock::wall_ms()),
            None => contact.and_then(|contact| contact.last_seen_ms),
        };
        Member {
            id: node.to_text(),
            name: member.name.clone(),
            role: member.role,
            priority: policy.eligible(node),
            this: node == me,
            connected: node == me || address.is_some(),
            address,
            via,
            version: shared.software_of(node),
            apart: shared.gap_to(node),
            last_seen: last_seen.filter(|_| node != me).map(UtcTime::from_ms),
        }
    };
    let mut members: Vec<Member> = policy.members().map(one).collect();
    members.sort_by(|a, b| (!a.this, &a.name, &a.id).cmp(&(!b.this, &b.name, &b.id)));
    members
}

/// Every folder that this node may see, by name.
fn folders(shared: &Shared) -> Vec<Folder> {
    let Some(policy) = shared.mesh.policy() else { return Vec::new() };
    let visible = policy.visible_folders(shared.mesh.node(), clock::wall_ms());
    let mut folders: Vec<Folder> = visible.into_iter().filter_map(|id| folder(shared, id)).collect();
    folders.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    folders
}

/// One folder as the API shows it.
pub(super) fn folder(shared: &Shared, id: FolderId) -> Option<Folder> {
    let policy = shared.mesh.policy()?;
    let state = policy.folder(id)?;
    let record = shared.mesh.record();
    let place = record.place(id).and_then(Place::at).cloned();
    let running = shared.folder(id).map(|handle| handle.status());
    let nothing = Amount { files: 0, bytes: 0 };
    let (state_word, why) = match &running {
        Some(status) => (status.state.word(), status.problem.clone()),
        None if place.is_some() => (FolderState::Error, Some(String::from("it is not running; see the alerts"))),
        None => (FolderState::Offered, None),
    };
    let (late, forked) = late::noted(shared, &policy, id);
    Some(Folder {
        id: id.to_hex(),
        name: state.name.clone(),
        path: place,
        level: policy.level(shared.mesh.node(), id, &RelPath::root(), clock::wall_ms()),
        state: state_word,
        why,
        local: running.as_ref().map_or(nothing, |s| Amount { files: s.local.files, bytes: s.local.bytes }),
        need: running.as_ref().map_or(nothing, |s| Amount { files: s.need.files, bytes: s.need.bytes }),
        local_only: running.as_ref().map_or(0, |s| s.local_only),
        waiting: running.as_ref().map_or(0, |s| s.waiting),
        late,
        forked,
        parts: record.place(id).map(|place| place.inside().to_vec()).unwrap_or_default(),
        notices: running.map(|status| status.notices.iter().map(notice).collect()).unwrap_or_default(),
    })
}

/// What is unusual about names, as the API shows it.
fn notice(told: &Told) -> Notice {
    Notice {
        kind: match told.kind {
            Kind::Unreadable => NoticeKind::Unreadable,
            Kind::Closed => NoticeKind::Closed,
            Kind::Unwritable => NoticeKind::Unwritable,
            Kind::Twin => NoticeKind::Twin,
            Kind::Unnamable => NoticeKind::Unnamable,
            Kind::Special => NoticeKind::Special,
            Kind::Clash => NoticeKind::Clash,
            Kind::Foreign => NoticeKind::Foreign,
            Kind::Attributes => NoticeKind::Attributes,
            Kind::Owner => NoticeKind::Owner,
        },
        what: told.text.clone(),
        count: told.count,
        paths: told.paths.iter().take(NOTICE_PATHS_MAX).map(|path| PathText::from_bytes(path)).collect(),
        hint: told.kind.hint().to_owned(),
    }
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
    end_folders(shared).await;
    Ok(Left { mesh, dissolved: false, already: false })
}

/// Ends a mesh that has no other member.
pub(super) async fn dissolve(shared: &Arc<Shared>) -> Result<(), Failure> {
    end_folders(shared).await;
    shared.mesh.forget().map_err(|error| Failure::failed("cannot dissolve the mesh").because(&error))
}

/// Ends every folder; files stay.
pub(super) async fn end_folders(shared: &Arc<Shared>) {
    for (folder, root) in sharing::placed(shared) {
        sharing::end(shared, folder, &root).await;
    }
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
    let folders: Vec<Folder> = wanted.keys().filter_map(|id| folder(shared, *id)).collect();
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

/// Tells who became or is no longer a member.
pub(super) fn tell_members(shared: &Shared, taken: &[StatementId]) {
    let Some(policy) = shared.mesh.policy() else { return };
    for statement in taken.iter().filter_map(|id| shared.mesh.statement(*id)) {
        match statement.body() {
            Body::Admit(admit) if policy.is_member(admit.node) => {
                shared.tell(Event::Admitted {
                    id: admit.node.to_text(),
                    name: admit.name.to_string(),
                    role: admit.role,
                });
            }
            Body::Expel(expel) if policy.was_expelled(expel.node) => {
                let expelled = statement.head().issuer != expel.node;
                let (id, name) = (expel.node.to_text(), shared.name_of(expel.node));
                shared.tell(Event::Left { id, name, expelled });
            }
            _ => {}
        }
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

impl From<MeshError> for Failure {
    fn from(error: MeshError) -> Self {
        match &error {
            MeshError::Plan(plan) => refused(plan),
            MeshError::None => Failure::refused("this node belongs to no mesh"),
            _ => Failure::failed("the mesh cannot be changed").because(&error),
        }
    }
}
