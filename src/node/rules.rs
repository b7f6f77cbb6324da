//! Commands about the access rules: names become ids, a plan says whether this node may, then it is signed.
//!
//! Nothing is signed for a name that means several things or nothing. Whether there is no such folder or none that this
//! node may see is not told apart.

use std::sync::Arc;

use super::audit::folder_ref;
use super::folder::FolderEvent;
use super::{Shared, standing};
use crate::base::{FolderId, GroupId, Level, NodeId, RelPath, StatementId};
use crate::logic::policy::{
    self, PlanRefused, Policy, RuleInForce, Unclear, find_folder, find_group, find_node, find_path, find_place,
    find_subject,
};
use crate::shell::{clock, entropy};
use crate::wire::api::{
    AskCopies, ChangeGroup, ChangeRole, ExpelNode, Expelled, Failure, FailureKind, GrantRule, Group, GroupStep,
    MemberLevel, PathText, RecoverMesh, Recovered, RenameThing, Renamed, RetireFolder, Retired, RevertChanges,
    Reverted, RevokeRule, RoleChanged, Rule, Ruled, Rules, RulesOf, Standings, SubjectRef, Thing, Until, UtcTime,
    WantedCopies,
};
use crate::wire::recovery::RecoveryKey;
use crate::wire::statement::{Body, Grant, Named, Subject};

/// Paths that the answer to `revert` names.
const REVERTED_MAX: usize = 1000;

/// The rules in force, and what they add up to.
pub(super) fn rules(shared: &Shared, ask: &RulesOf) -> Result<Rules, Failure> {
    let policy = standing::must_have_mesh(shared)?;
    let now = clock::wall_ms();
    let (mut folders, _) = folders_meant(shared, &policy, ask.folder.as_deref())?;
    let name = |id: &FolderId| policy.folder(*id).map(|state| state.name.clone()).unwrap_or_default();
    folders.sort_by_key(|id| (name(id), *id));
    let in_force = |listed: &RuleInForce| listed.rule.not_after.is_none_or(|last| last >= now);
    let mut rules = Vec::new();
    let mut standings = Vec::new();
    for folder in folders {
        rules.extend(policy.rules(folder).iter().filter(|r| in_force(r)).map(|r| rule(shared, &policy, folder, r)));
        let mut members: Vec<MemberLevel> = policy
            .members()
            .map(|(node, _)| MemberLevel {
                node: shared.node_ref(Some(&policy), node),
                level: policy.level(node, folder, &RelPath::root(), now),
            })
            .collect();
        members.sort_by(|a, b| (&a.node.name, &a.node.id).cmp(&(&b.node.name, &b.node.id)));
        standings.push(Standings { folder: folder_ref(Some(&policy), folder), members });
    }
    let admins = policy.admins().into_iter().map(|node| shared.node_ref(Some(&policy), node)).collect();
    Ok(Rules { rules, standings, admins })
}

/// Signs a rule.
pub(super) async fn grant(shared: &Arc<Shared>, ask: GrantRule) -> Result<Ruled, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let now = clock::wall_ms();
    let subject = find_subject(&policy, &ask.subject).map_err(unclear)?;
    let (folder, path) = find_place(&policy, &known_folders(shared, &policy), &ask.at).map_err(unclear)?;
    let not_after = ask.until.map(|until| match until {
        Until::At(time) => time.as_ms(),
        Until::AfterMs(span) => now.saturating_add(span),
    });
    if let Some(end) = not_after.filter(|end| *end <= now) {
        let place = policy::place(&policy, folder, &path);
        return Err(Failure::usage(format!("the rule on {place} would end on {}", UtcTime::from_ms(end)))
            .why(format!("that is in the past: it is {} now", UtcTime::from_ms(now)))
            .hint("say a later --until, or 'none' as the level to take access away now"));
    }
    let level = ask.level;
    let what = || {
        let place = policy::place(&policy, folder, &path);
        format!("cannot grant '{level}' on {place} to {}", policy::subject(&policy, subject))
    };
    let grant = Grant { folder, subject, path: path.clone(), level, not_after };
    let id = sign(shared, what, |policy, me| policy::plan_grant(policy, me, grant, now))?;
    ruled(shared, &policy, (folder, path, subject), (id, Some(level), not_after))
}

/// Withdraws a rule.
pub(super) async fn revoke(shared: &Arc<Shared>, ask: RevokeRule) -> Result<Ruled, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let now = clock::wall_ms();
    let subject = find_subject(&policy, &ask.subject).map_err(unclear)?;
    let (folder, path) = find_place(&policy, &known_folders(shared, &policy), &ask.at).map_err(unclear)?;
    let (place, whom) = (policy::place(&policy, folder, &path), policy::subject(&policy, subject));
    let is_meant = |listed: &RuleInForce| listed.subject == subject && listed.path == path;
    if !policy.rules(folder).iter().any(is_meant) {
        let name = folder_ref(Some(&policy), folder).name;
        return Err(Failure::failed(format!("there is no rule for {whom} on {place}"))
            .hint(format!("'lanyard rules {name}' lists the rules; 'lanyard grant ... none' takes access away")));
    }
    let what = || format!("cannot withdraw the rule for {whom} on {place}");
    let on = path.clone();
    let id = sign(shared, what, |policy, me| policy::plan_revoke(policy, me, folder, subject, on, now))?;
    ruled(shared, &policy, (folder, path, subject), (id, None, None))
}

/// Says, or changes, on how many machines a folder shall be.
pub(super) async fn copies(shared: &Arc<Shared>, ask: AskCopies) -> Result<WantedCopies, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let folder = find_folder(&policy, &known_folders(shared, &policy), &ask.folder).map_err(unclear)?;
    let named = folder_ref(Some(&policy), folder);
    let members = policy.members().count();
    if let Some(nodes) = ask.nodes.filter(|nodes| usize::from(*nodes) > members) {
        return Err(Failure::usage(format!(
            "{nodes} copies of {} cannot be: there are {members} machines",
            named.name
        ))
        .hint("ask for fewer, or invite more machines first"));
    }
    let before = policy.copies(folder);
    let wanted =
        policy::Wanted { nodes: ask.nodes.unwrap_or(before.nodes), server: ask.server.unwrap_or(before.server) };
    let statement = match wanted == before {
        true => None,
        false => {
            let what = || format!("cannot change the number of copies of {}", named.name);
            let now = clock::wall_ms();
            let id = sign(shared, what, |policy, me| policy::plan_copies(policy, me, folder, wanted, now))?;
            Some(id.to_hex())
        }
    };
    Ok(WantedCopies { folder: named, nodes: wanted.nodes, server: wanted.server, statement })
}

/// Ends a node's membership.
pub(super) async fn expel(shared: &Arc<Shared>, ask: ExpelNode) -> Result<Expelled, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let node = find_node(&policy, &ask.node).map_err(unclear)?;
    let named = shared.node_ref(Some(&policy), node);
    if node == shared.mesh.node() {
        return Err(
            Failure::failed(format!("{} is this machine itself", named.name)).hint("'lanyard leave' leaves the mesh")
        );
    }
    let what = || format!("cannot remove {}", named.name);
    let id = sign(shared, what, |policy, me| policy::plan_expel(policy, me, node))?;
    Ok(Expelled { node: named.clone(), statement: id.to_hex() })
}

/// Makes a node an admin, or a plain member.
pub(super) async fn role(shared: &Arc<Shared>, ask: ChangeRole) -> Result<RoleChanged, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let node = find_node(&policy, &ask.node).map_err(unclear)?;
    let named = shared.node_ref(Some(&policy), node);
    if policy.role(node) == Some(ask.role) {
        return Ok(RoleChanged { node: named, role: ask.role, statement: None });
    }
    let what = || format!("cannot make {} {}", named.name, ask.role);
    let id = sign(shared, what, |policy, me| policy::plan_set_role(policy, me, node, ask.role))?;
    Ok(RoleChanged { node: named.clone(), role: ask.role, statement: Some(id.to_hex()) })
}

/// Every group, by name.
pub(super) fn groups(shared: &Shared) -> Result<Vec<Group>, Failure> {
    let policy = standing::must_have_mesh(shared)?;
    let mut groups: Vec<Group> = policy.groups().filter_map(|(id, _)| group(shared, &policy, id)).collect();
    groups.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(groups)
}

/// Makes a group, or changes who is in it.
pub(super) async fn change_group(shared: &Arc<Shared>, ask: ChangeGroup) -> Result<Group, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let (id, name, mut members) = match ask.step {
        GroupStep::Create => (GroupId(entropy::bytes()), new_group_name(&policy, &ask.group)?, Vec::new()),
        GroupStep::Add | GroupStep::Remove => {
            let id = find_group(&policy, &ask.group).map_err(unclear)?;
            let state = policy.groups().find(|(known, _)| *known == id).map(|(_, state)| state.clone());
            let state = state.unwrap_or_default();
            (id, state.name, state.members.into_iter().collect())
        }
    };
    for wanted in &ask.nodes {
        if ask.step == GroupStep::Remove {
            let node = member_of(&policy, &members, &name, wanted)?;
            members.retain(|member| *member != node);
        } else {
            members.push(find_node(&policy, wanted).map_err(unclear)?);
        }
    }
    let what = || format!("cannot {} the group {name}", if ask.step == GroupStep::Create { "make" } else { "change" });
    sign(shared, what, |policy, me| policy::plan_group(policy, me, id, &name, members))?;
    let policy = standing::must_have_mesh(shared)?;
    group(shared, &policy, id).ok_or_else(|| Failure::failed(format!("the group {name} has no effect")))
}

/// Gives the mesh, a node or a folder another name.
pub(super) async fn rename(shared: &Arc<Shared>, ask: RenameThing) -> Result<Renamed, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let name = ask.name.trim().to_string();
    let taken = |what: &str| Failure::failed(format!("another {what} is named {name}")).hint("choose another name");
    let (what, before) = match &ask.what {
        Thing::Mesh => (Named::Mesh, policy.mesh_name().to_string()),
        Thing::Node(wanted) => {
            let node = find_node(&policy, wanted).map_err(unclear)?;
            if policy.members().any(|(other, member)| other != node && member.name == name) {
                return Err(taken("node"));
            }
            (Named::Node(node), policy::node_name(&policy, node))
        }
        Thing::Folder(wanted) => {
            let folder = find_folder(&policy, &known_folders(shared, &policy), wanted).map_err(unclear)?;
            if policy.folders().any(|(other, state)| other != folder && state.name == name) {
                return Err(taken("folder"));
            }
            (Named::Folder(folder), folder_ref(Some(&policy), folder).name)
        }
    };
    let cannot = || format!("cannot name {before} '{name}'");
    let id = sign(shared, cannot, |policy, me| policy::plan_rename(policy, me, what, &name))?;
    Ok(Renamed { before: before.clone(), name: name.clone(), statement: id.to_hex() })
}

/// Shares a folder no more.
pub(super) async fn retire(shared: &Arc<Shared>, ask: RetireFolder) -> Result<Retired, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let folder = find_folder(&policy, &known_folders(shared, &policy), &ask.folder).map_err(unclear)?;
    let named = folder_ref(Some(&policy), folder);
    let what = || format!("cannot retire the folder {}", named.name);
    let id = sign(shared, what, |policy, me| policy::plan_retire(policy, me, folder, clock::wall_ms()))?;
    Ok(Retired { folder: named.clone(), statement: id.to_hex() })
}

/// Makes this node an admin by the recovery key. It need not be a member any more: who stole a founder's machine may
/// have removed it.
pub(super) async fn recover(shared: &Arc<Shared>, ask: RecoverMesh) -> Result<Recovered, Failure> {
    let _one = shared.changing.lock().await;
    let policy = shared.mesh.policy().ok_or_else(|| {
        Failure::refused("this machine knows nothing of a mesh that could be recovered").hint(
            "run this on a machine that is, or was, a member: the key signs, but the rules and files are on the members",
        )
    })?;
    let key = RecoveryKey::from_text(&ask.key.0).map_err(|error| {
        Failure::usage("the recovery key cannot be read")
            .because(&error)
            .hint("type its 24 words as they were printed; line ends, commas and letter case do not matter")
    })?;
    let expelled: Vec<NodeId> =
        ask.expel.iter().map(|wanted| find_node(&policy, wanted)).collect::<Result<_, _>>().map_err(unclear)?;
    let me = shared.mesh.node();
    let name = shared.mesh.record().name;
    let cannot = || Failure::refused(format!("cannot recover the mesh '{}'", policy.mesh_name()));
    shared.mesh.sign_as(&key.key(), |policy| {
        policy::plan_recovery(policy, key.id(), me, policy.name(me).unwrap_or(&name), &expelled)
            .map_err(|error| cannot().because(&error))
    })?;
    let policy = standing::must_have_mesh(shared)?;
    let node = |node: NodeId| shared.node_ref(Some(&policy), node);
    Ok(Recovered { node: node(me), expelled: expelled.into_iter().map(node).collect() })
}

/// Takes back changes that this node may not spread.
pub(super) async fn revert(shared: &Arc<Shared>, ask: RevertChanges) -> Result<Reverted, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let folder = find_folder(&policy, &known_folders(shared, &policy), &ask.folder).map_err(unclear)?;
    let path = ask.path.as_ref().map_or(Ok(RelPath::root()), |path| find_path(path.as_str())).map_err(unclear)?;
    let named = folder_ref(Some(&policy), folder);
    let handle = shared.folder(folder).ok_or_else(|| {
        Failure::failed(format!("folder {} is not received here", named.name))
            .hint(format!("receive it with `lanyard get {} PATH`", named.name))
    })?;
    let (done, finished) = async_channel::bounded(1);
    handle.tell(FolderEvent::Revert(path.clone(), done)).await;
    let reverted = finished.recv().await.map_err(|_| {
        Failure::failed(format!("cannot take back changes in folder {}", named.name))
            .hint("`lanyard status` says what is the matter with it")
    })?;
    if reverted.is_empty() {
        let place = policy::place(&policy, folder, &path);
        return Err(Failure::failed(format!("there is no change on {place} that is only here"))
            .hint("changes that were shared with others are taken back by 'lanyard restore'"));
    }
    let count = reverted.len() as u64;
    let paths = reverted.iter().take(REVERTED_MAX).map(|path| PathText::from_bytes(path.as_bytes())).collect();
    Ok(Reverted { folder: named, paths, count })
}

/// Plans and signs one statement. `what`: what cannot be done, should the rules not allow it.
pub(super) fn sign(
    shared: &Shared,
    what: impl Fn() -> String,
    plan: impl FnOnce(&Policy, NodeId) -> Result<Body, PlanRefused>,
) -> Result<StatementId, Failure> {
    let me = shared.mesh.node();
    let ids = shared.mesh.sign(|policy| match plan(policy, me) {
        Ok(body) => Ok(vec![body]),
        Err(error) => Err(not_allowed(policy, what(), &error)),
    })?;
    ids.first().copied().ok_or_else(|| Failure::failed(what()))
}

pub(super) fn not_allowed(policy: &Policy, what: String, error: &PlanRefused) -> Failure {
    let failure = Failure::refused(what).because(error);
    match error {
        PlanRefused::NotAnAdmin { .. } | PlanRefused::MayNotManage { .. } => {
            let admins: Vec<&str> = policy.admins().into_iter().filter_map(|node| policy.name(node)).collect();
            failure.hint(format!("ask an admin: {}", admins.join(", ")))
        }
        // These are no matter of who may do what.
        PlanRefused::BadName(_) | PlanRefused::LongName(_) | PlanRefused::LargeGroup(_) => {
            Failure { kind: FailureKind::Failed, ..failure }
        }
        PlanRefused::LastAdmin => failure.hint("make another machine an admin first: 'lanyard role NODE admin'"),
        _ => failure,
    }
}

/// What a name means is said wrongly, or not clearly enough.
pub(super) fn unclear(error: Unclear) -> Failure {
    let hint = match &error {
        Unclear::Several { .. } => Some(String::from("name it by its id; for a group, 'group:NAME' says so")),
        Unclear::Former(_) => Some(String::from("'lanyard nodes' lists the members")),
        Unclear::BadPath(_) => Some(String::from("a path is relative to its folder, like 2026/drafts")),
        Unclear::NoFolder { known, .. } if known.is_empty() => {
            Some(String::from("no folder is shared with this node yet"))
        }
        Unclear::NoGroup { known, .. } if known.is_empty() => {
            Some(String::from("there is no group yet: 'lanyard group create NAME NODE...' makes one"))
        }
        other => Some(format!("there is: {}", other.known().join(", "))),
    };
    Failure { hint, ..Failure::failed(error.to_string()) }
}

/// Folders that may be named here: those this node may see, and to an admin every one.
pub(super) fn known_folders(shared: &Shared, policy: &Policy) -> Vec<FolderId> {
    let me = shared.mesh.node();
    match policy.is_admin(me) {
        true => policy.folders().map(|(id, _)| id).collect(),
        false => policy.visible_folders(me, clock::wall_ms()),
    }
}

/// The one folder that is named, or all; and where that is, for a sentence: ` in the folder NAME`, or nothing.
pub(super) fn folders_meant(
    shared: &Shared,
    policy: &Policy,
    wanted: Option<&str>,
) -> Result<(Vec<FolderId>, String), Failure> {
    let folders = known_folders(shared, policy);
    let Some(wanted) = wanted else { return Ok((folders, String::new())) };
    let folder = find_folder(policy, &folders, wanted).map_err(unclear)?;
    Ok((vec![folder], format!(" in the folder {}", folder_ref(Some(policy), folder).name)))
}

fn new_group_name(policy: &Policy, name: &str) -> Result<String, Failure> {
    let name = name.trim();
    if name == "everyone" {
        return Err(Failure::failed("a group cannot be named everyone").hint("that word means every member already"));
    }
    if policy.groups().any(|(_, group)| group.name == name) {
        return Err(Failure::failed(format!("there is a group named {name} already"))
            .hint(format!("'lanyard group add {name} NODE...' adds nodes to it")));
    }
    Ok(name.to_string())
}

/// A member of a group by name or id; it may be no member of the mesh any more.
fn member_of(policy: &Policy, members: &[NodeId], group: &str, wanted: &str) -> Result<NodeId, Failure> {
    let is_meant =
        |node: &&NodeId| policy.name(**node) == Some(wanted) || node.short() == wanted || node.to_text() == wanted;
    let meant: Vec<NodeId> = members.iter().filter(is_meant).copied().collect();
    match meant.as_slice() {
        [one] => Ok(*one),
        _ => {
            let node = find_node(policy, wanted).map_err(unclear)?;
            match members.contains(&node) {
                true => Ok(node),
                false => Err(Failure::failed(format!("{wanted} is not in the group {group}"))
                    .hint("'lanyard group list' shows who is in it")),
            }
        }
    }
}

fn group(shared: &Shared, policy: &Policy, id: GroupId) -> Option<Group> {
    let (_, state) = policy.groups().find(|(known, _)| *known == id)?;
    let names = |nodes: &std::collections::BTreeSet<NodeId>| {
        let mut refs: Vec<_> = nodes.iter().map(|node| shared.node_ref(Some(policy), *node)).collect();
        refs.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        refs
    };
    let (members, disputed) = (names(&state.members), names(&state.disputed));
    Some(Group { id: id.to_hex(), name: state.name.clone(), members, disputed })
}

/// A rule as the API shows it.
fn rule(shared: &Shared, policy: &Policy, folder: FolderId, listed: &RuleInForce) -> Rule {
    Rule {
        folder: folder_ref(Some(policy), folder),
        path: PathText::from_bytes(listed.path.as_bytes()),
        subject: subject_ref(policy, listed.subject),
        level: listed.rule.level,
        by: shared.node_ref(Some(policy), listed.rule.by),
        since: UtcTime::from_ms(listed.rule.since.ms),
        until: listed.rule.not_after.map(UtcTime::from_ms),
        contested: listed.rule.contested,
        statement: listed.rule.statement.to_hex(),
    }
}

fn subject_ref(policy: &Policy, subject: Subject) -> SubjectRef {
    match subject {
        Subject::Everyone => SubjectRef::Everyone,
        Subject::Node(node) => SubjectRef::Node { id: node.to_text(), name: policy::node_name(policy, node) },
        Subject::Group(group) => {
            let state = policy.groups().find(|(id, _)| *id == group).map(|(_, state)| state.name.clone());
            SubjectRef::Group { id: group.to_hex(), name: state.unwrap_or_default() }
        }
    }
}

/// What was signed, and what it comes to.
fn ruled(
    shared: &Shared,
    before: &Policy,
    (folder, path, subject): (FolderId, RelPath, Subject),
    (id, level, not_after): (StatementId, Option<Level>, Option<u64>),
) -> Result<Ruled, Failure> {
    let policy = standing::must_have_mesh(shared)?;
    let now = clock::wall_ms();
    let reads = |policy: &Policy, node| policy.level(node, folder, &path, now) >= Level::Read;
    let lowers_read = policy.members().any(|(node, _)| reads(before, node) && !reads(&policy, node));
    let own = |policy: &Policy| policy.level(shared.mesh.node(), folder, &path, now);
    let lowers_own = Some(own(&policy)).filter(|level| *level < own(before));
    let comes_to = match subject {
        Subject::Node(node) => Some(policy.level(node, folder, &path, now)),
        Subject::Group(_) | Subject::Everyone => None,
    };
    let rule = Rule {
        folder: folder_ref(Some(&policy), folder),
        path: PathText::from_bytes(path.as_bytes()),
        subject: subject_ref(&policy, subject),
        level,
        by: shared.node_ref(Some(&policy), shared.mesh.node()),
        since: UtcTime::from_ms(shared.mesh.statement(id).map_or(now, |statement| statement.head().time.ms)),
        until: not_after.map(UtcTime::from_ms),
        contested: false,
        statement: id.to_hex(),
    };
    Ok(Ruled { rule, comes_to, lowers_read, lowers_own })
}
