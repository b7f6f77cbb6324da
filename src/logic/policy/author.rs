//! Writing statements: first whether this node may say it (`plan_*`), then the statement itself (`draft`).
//!
//! A plan that is refused here would be void everywhere. A plan that succeeds can still become void: by a removal
//! that this node has not heard of yet.

use ed25519_dalek::SigningKey;

use super::evaluate::{FOLDERS_MAX, checked_name, folder_name};
use super::permit::Refused;
use super::set::StatementSet;
use super::state::{Policy, Wanted};
use crate::base::{FolderId, GroupId, Hlc, Level, NodeId, RelPath, Role, StatementId, Writer};
use crate::wire::codec::List;
use crate::wire::statement::{
    Admit, Body, Copies, CreateFolder, Eligible, Expel, FRONTIERS_MAX, FolderFrontier, Fork, Found, Grant, Group, Head,
    Name, Named, PARENTS_MAX, RANGES_MAX, Range, Reinstate, Rename, RetireFolder, Revoke, Seal, SetRole, Statement,
    Subject, Verdict, Vouch,
};

/// Why this node may not sign a statement. Nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanRefused {
    /// The rules do not permit it.
    #[error(transparent)]
    Rules(#[from] Refused),
    /// Only an admin may.
    #[error("only an admin may do this; admins are {}", .admins.join(", "))]
    NotAnAdmin {
        /// The names of those who may.
        admins: Vec<String>,
    },
    /// Only who has `manage` may.
    #[error("only an admin, or who has 'manage' on all of {folder_name}/{path}, may do this")]
    MayNotManage {
        /// The folder's name.
        folder_name: String,
        /// On what.
        path: RelPath,
    },
    /// The node is no member.
    #[error("{} is no member of this mesh", .0.short())]
    NoSuchMember(NodeId),
    /// There is no such group.
    #[error("there is no group {}", &.0.to_hex()[..8])]
    NoSuchGroup(GroupId),
    /// The name cannot be used.
    #[error("'{0}' cannot be a name")]
    BadName(String),
    /// The name is longer than `NAME_MAX`.
    #[error("the name '{0}' is longer than 255 bytes")]
    LongName(String),
    /// A group has too many members.
    #[error("a group has at most 256 members, this has {0}")]
    LargeGroup(usize),
    /// This node has created as many folders as it may.
    #[error("this node has created {FOLDERS_MAX} folders already, the most that one may")]
    TooManyFolders,
    /// The rule would end before it begins.
    #[error("the rule would end in the past")]
    Past,
    /// A vouch names nothing.
    #[error("there is nothing to keep")]
    NothingToKeep,
    /// The last admin cannot go while others stay.
    #[error("this is the only admin; name another first")]
    LastAdmin,
    /// The paper key is that of another mesh.
    #[error("this is not the recovery key of the mesh '{0}'")]
    OtherRecoveryKey(String),
    /// The machine that is to be the new admin cannot be removed by the same word.
    #[error("this machine is to be the new admin: it cannot be removed too")]
    RemovesItself,
}

/// The founding statement of a new mesh; its id is the mesh's.
pub fn found(found: Found, key: &SigningKey, time: Hlc) -> Statement {
    let head = Head {
        mesh: None,
        issuer: NodeId(key.verifying_key().to_bytes()),
        counter: 1,
        parents: List::default(),
        time,
        scope: None,
        frontiers: List::default(),
    };
    Statement::sign(head, Body::Found(found), key)
}

/// The number of the next statement that `issuer` signs on top of `set`.
pub fn next_counter(set: &StatementSet, issuer: NodeId) -> u64 {
    set.last_counter(issuer) + 1
}

/// Signs `body` on top of all that `set` holds. `frontiers`: for statements that can lower a level.
///
/// The set must hold every statement that this key ever signed: a node that lost some must fetch them first, else it
/// numbers two statements alike.
pub fn draft(
    set: &StatementSet,
    key: &SigningKey,
    time: Hlc,
    body: Body,
    frontiers: List<FolderFrontier, FRONTIERS_MAX>,
) -> Statement {
    let issuer = NodeId(key.verifying_key().to_bytes());
    let head = Head {
        mesh: Some(set.mesh()),
        issuer,
        counter: next_counter(set, issuer),
        parents: List::truncated(parents(set, issuer)),
        time,
        scope: scope(&body),
        frontiers,
    };
    Statement::sign(head, body, key)
}

/// What `known` (how far the logs reach of the folders that this node holds, each with its `FolderFrontier::holds`)
/// must say in a statement of this sentence: the logs of those whom it can lower. One list a statement; where that
/// is too long, several equal statements in a row carry it.
pub fn freeze_frontiers(
    policy: &Policy,
    body: &Body,
    known: &[FolderFrontier],
) -> Vec<List<FolderFrontier, FRONTIERS_MAX>> {
    let nobody = NodeId([0; 32]);
    let of_subject = |subject: Subject, node: NodeId| match subject {
        Subject::Node(subject) => node == subject || node == nobody,
        Subject::Group(_) | Subject::Everyone => true,
    };
    let is_named = |f: &FolderFrontier| {
        let node = f.frontier.writer.node;
        match body {
            Body::Expel(expel) => node == expel.node || node == nobody,
            Body::Group(group) => {
                let before = policy.groups.get(&group.group);
                let was = before.is_some_and(|g| g.members.contains(&node) || g.disputed.contains(&node));
                was || group.members.contains(&node) || node == nobody
            }
            Body::Grant(grant) => f.folder == grant.folder && of_subject(grant.subject, node),
            Body::Revoke(revoke) => f.folder == revoke.folder && of_subject(revoke.subject, node),
            Body::RetireFolder(retire) => f.folder == retire.folder,
            _ => false,
        }
    };
    let mut named: Vec<FolderFrontier> = known.iter().filter(|f| is_named(f)).copied().collect();
    named.sort_unstable();
    named.dedup_by_key(|f| (f.folder, f.frontier.writer));
    if named.is_empty() {
        return vec![List::default()];
    }
    named.chunks(FRONTIERS_MAX).map(|chunk| List::truncated(chunk.to_vec())).collect()
}

/// The heads, at most `PARENTS_MAX`, always with one that stands on the issuer's own last statement.
fn parents(set: &StatementSet, issuer: NodeId) -> Vec<StatementId> {
    let mut heads = set.heads();
    if heads.len() > PARENTS_MAX {
        let own = set.last_of(issuer).map(|slot| set.statement(slot).id());
        let stands_on_own = |head: &StatementId| own.is_some_and(|own| *head == own || set.is_ancestor(&own, head));
        let depth = |head: &StatementId| set.slot(head).map(|slot| set.depth(slot));
        heads.sort_by_key(|head| std::cmp::Reverse((stands_on_own(head), depth(head))));
        heads.truncate(PARENTS_MAX);
        heads.sort_unstable();
    }
    heads
}

fn scope(body: &Body) -> Option<FolderId> {
    match body {
        Body::Grant(b) => Some(b.folder),
        Body::Revoke(b) => Some(b.folder),
        Body::RetireFolder(b) => Some(b.folder),
        Body::Rename(Rename { what: Named::Folder(folder), .. }) => Some(*folder),
        Body::Vouch(b) => Some(b.folder),
        Body::Verdict(b) => Some(b.folder),
        Body::Fork(b) => Some(b.folder),
        Body::Reinstate(b) => Some(b.folder),
        _ => None,
    }
}

/// What `me` signs to take in `node` with a role and folders; less what is so already. It may be a member: then
/// only what differs is signed, so that an admission that was cut off can be repeated.
pub fn plan_admission(
    policy: &Policy,
    me: NodeId,
    node: NodeId,
    name: &str,
    role: Role,
    folders: &[(FolderId, Level)],
) -> Result<Vec<Body>, PlanRefused> {
    must_be_admin(policy, me)?;
    let mut bodies = Vec::new();
    if policy.role(node) != Some(role) {
        bodies.push(plan_admit(policy, me, node, name, role)?);
    }
    for (folder, level) in folders {
        must_manage(policy, me, *folder, &RelPath::root(), 0)?;
        let (folder, level) = (*folder, *level);
        bodies.push(Body::Grant(Grant {
            folder,
            subject: Subject::Node(node),
            path: RelPath::root(),
            level,
            not_after: None,
        }));
    }
    Ok(bodies)
}

/// Admits `node`, or admits it again.
pub fn plan_admit(policy: &Policy, me: NodeId, node: NodeId, name: &str, role: Role) -> Result<Body, PlanRefused> {
    must_be_admin(policy, me)?;
    let name = Name::new(name).ok_or_else(|| PlanRefused::LongName(name.to_string()))?;
    Ok(Body::Admit(Admit { node, name, role }))
}

/// Leaves the mesh. Being alone in it, a node may go; being its only admin among others, it may not.
pub fn plan_leave(policy: &Policy, me: NodeId) -> Result<Body, PlanRefused> {
    must_be_member(policy, me)?;
    if policy.admins() == [me] && policy.members().count() > 1 {
        return Err(PlanRefused::LastAdmin);
    }
    Ok(Body::Expel(Expel { node: me }))
}

/// Expels another node.
pub fn plan_expel(policy: &Policy, me: NodeId, node: NodeId) -> Result<Body, PlanRefused> {
    if node == me {
        return plan_leave(policy, me);
    }
    must_be_admin(policy, me)?;
    must_know(policy, node)?;
    Ok(Body::Expel(Expel { node }))
}

/// What the recovery key signs so that `node` is an admin and `expelled` are out; less what is so already. The removals
/// come first: what they void is void for what follows.
pub fn plan_recovery(
    policy: &Policy,
    recovery: NodeId,
    node: NodeId,
    name: &str,
    expelled: &[NodeId],
) -> Result<Vec<Body>, PlanRefused> {
    if policy.recovery() != Some(recovery) {
        return Err(PlanRefused::OtherRecoveryKey(policy.mesh_name().to_string()));
    }
    let mut bodies = Vec::new();
    for gone in expelled {
        if *gone == node {
            return Err(PlanRefused::RemovesItself);
        }
        must_know(policy, *gone)?;
        bodies.push(Body::Expel(Expel { node: *gone }));
    }
    match policy.role(node) {
        Some(Role::Admin) => {}
        Some(Role::Member) => bodies.push(Body::SetRole(SetRole { node, role: Role::Admin })),
        None => bodies.push(Body::Admit(Admit { node, name: plan_name(name)?, role: Role::Admin })),
    }
    Ok(bodies)
}

/// Changes the role of a member.
pub fn plan_set_role(policy: &Policy, me: NodeId, node: NodeId, role: Role) -> Result<Body, PlanRefused> {
    must_be_admin(policy, me)?;
    must_know(policy, node)?;
    if role == Role::Member && policy.admins() == [node] {
        return Err(PlanRefused::LastAdmin);
    }
    Ok(Body::SetRole(SetRole { node, role }))
}

/// Gives something a name.
pub fn plan_rename(policy: &Policy, me: NodeId, what: Named, name: &str) -> Result<Body, PlanRefused> {
    match what {
        Named::Node(node) if node == me => must_be_member(policy, me)?,
        Named::Mesh | Named::Node(_) => must_be_admin(policy, me)?,
        Named::Folder(folder) => {
            must_manage(policy, me, folder, &RelPath::root(), 0)?;
            folder_name(name).map_err(|_| PlanRefused::BadName(name.to_string()))?;
        }
    }
    Ok(Body::Rename(Rename { what, name: plan_name(name)? }))
}

/// Names a group of nodes.
pub fn plan_group(
    policy: &Policy,
    me: NodeId,
    group: GroupId,
    name: &str,
    mut members: Vec<NodeId>,
) -> Result<Body, PlanRefused> {
    must_be_admin(policy, me)?;
    members.sort_unstable();
    members.dedup();
    let count = members.len();
    let members = List::new(members).ok_or(PlanRefused::LargeGroup(count))?;
    Ok(Body::Group(Group { group, name: plan_name(name)?, members }))
}

/// Creates a folder; its creator will have `manage`.
pub fn plan_create_folder(policy: &Policy, me: NodeId, name: &str) -> Result<Body, PlanRefused> {
    must_be_member(policy, me)?;
    folder_name(name).map_err(|_| PlanRefused::BadName(name.to_string()))?;
    if policy.created_by.get(&me).is_some_and(|created| *created >= FOLDERS_MAX) {
        return Err(PlanRefused::TooManyFolders);
    }
    Ok(Body::CreateFolder(CreateFolder { name: plan_name(name)? }))
}

/// Gives a subject a level.
pub fn plan_grant(policy: &Policy, me: NodeId, grant: Grant, now_ms: u64) -> Result<Body, PlanRefused> {
    must_manage(policy, me, grant.folder, &grant.path, now_ms)?;
    match grant.subject {
        Subject::Everyone => {}
        Subject::Node(node) => must_know(policy, node)?,
        Subject::Group(group) if policy.groups.contains_key(&group) => {}
        Subject::Group(group) => return Err(PlanRefused::NoSuchGroup(group)),
    }
    if grant.not_after.is_some_and(|last| last <= now_ms) {
        return Err(PlanRefused::Past);
    }
    Ok(Body::Grant(grant))
}

/// Withdraws what a subject was granted on exactly one path.
pub fn plan_revoke(
    policy: &Policy,
    me: NodeId,
    folder: FolderId,
    subject: Subject,
    path: RelPath,
    now_ms: u64,
) -> Result<Body, PlanRefused> {
    must_manage(policy, me, folder, &path, now_ms)?;
    Ok(Body::Revoke(Revoke { folder, subject, path }))
}

/// Shares a folder no more.
pub fn plan_retire(policy: &Policy, me: NodeId, folder: FolderId, now_ms: u64) -> Result<Body, PlanRefused> {
    must_manage(policy, me, folder, &RelPath::root(), now_ms)?;
    Ok(Body::RetireFolder(RetireFolder { folder }))
}

/// Says whether a node may be coordinator.
pub fn plan_eligible(policy: &Policy, me: NodeId, node: NodeId, priority: Option<u16>) -> Result<Body, PlanRefused> {
    must_be_admin(policy, me)?;
    must_know(policy, node)?;
    Ok(Body::Eligible(Eligible { node, priority }))
}

/// Says on how many machines a folder shall be.
pub fn plan_copies(
    policy: &Policy,
    me: NodeId,
    folder: FolderId,
    wanted: Wanted,
    now_ms: u64,
) -> Result<Body, PlanRefused> {
    must_manage(policy, me, folder, &RelPath::root(), now_ms)?;
    Ok(Body::Copies(Copies { folder, nodes: wanted.nodes, server: wanted.server }))
}

/// Keeps entries that do not count: late work above a freeze. What is above a fork cannot be kept. Each of `entries` is a
/// range; ranges that follow each other become one, and more than `RANGES_MAX` take several statements.
pub fn plan_vouch(
    policy: &Policy,
    me: NodeId,
    folder: FolderId,
    entries: Vec<Range>,
    now_ms: u64,
) -> Result<Vec<Body>, PlanRefused> {
    must_manage(policy, me, folder, &RelPath::root(), now_ms)?;
    let runs = runs(entries);
    if runs.is_empty() {
        return Err(PlanRefused::NothingToKeep);
    }
    let vouch = |ranges: &[Range]| Body::Vouch(Vouch { folder, ranges: List::truncated(ranges.to_vec()) });
    Ok(runs.chunks(RANGES_MAX).map(vouch).collect())
}

/// Says what becomes of held bursts of changes: they are applied, or everybody goes back to what was before. Each range is
/// pinned by the batch that holds its end.
pub fn plan_verdicts(
    policy: &Policy,
    me: NodeId,
    folder: FolderId,
    ranges: Vec<Range>,
    release: bool,
    now_ms: u64,
) -> Result<Vec<Body>, PlanRefused> {
    must_manage(policy, me, folder, &RelPath::root(), now_ms)?;
    Ok(ranges.into_iter().map(|range| Body::Verdict(Verdict { folder, range, release })).collect())
}

/// Ranges without overlaps or gaps between neighbours. A longer run is pinned by the batch that holds its end: the
/// headers before it in the log hang on that one.
fn runs(mut entries: Vec<Range>) -> Vec<Range> {
    entries.sort_by_key(|range| (range.writer, range.first, range.last));
    let mut runs: Vec<Range> = Vec::new();
    for range in entries {
        match runs.last_mut() {
            Some(run) if run.writer == range.writer && range.first <= run.last.saturating_add(1) => {
                if range.last > run.last {
                    (run.last, run.batch) = (range.last, range.batch);
                }
            }
            _ => runs.push(range),
        }
    }
    runs
}

/// Seals a statement: see `Judge::seals_due`, which also gives the frontiers to sign it with.
pub fn plan_seal(policy: &Policy, me: NodeId, statement: StatementId) -> Result<Body, PlanRefused> {
    must_be_admin(policy, me)?;
    Ok(Body::Seal(Seal { grant: statement }))
}

/// Lets the node go on, under a new incarnation, whose log `writer` forked.
pub fn plan_reinstate(
    policy: &Policy,
    me: NodeId,
    folder: FolderId,
    writer: Writer,
    now_ms: u64,
) -> Result<Body, PlanRefused> {
    must_manage(policy, me, folder, &RelPath::root(), now_ms)?;
    Ok(Body::Reinstate(Reinstate { folder, writer }))
}

/// Says that a writer signed two histories; `fork` comes from `Fork::of` and so is proven.
pub fn plan_fork(policy: &Policy, me: NodeId, fork: Fork) -> Result<Body, PlanRefused> {
    must_be_member(policy, me)?;
    Ok(Body::Fork(fork))
}

fn plan_name(name: &str) -> Result<Name, PlanRefused> {
    checked_name(name).map_err(|_| PlanRefused::BadName(name.to_string()))?;
    Name::new(name).ok_or_else(|| PlanRefused::LongName(name.to_string()))
}

fn must_be_member(policy: &Policy, me: NodeId) -> Result<(), PlanRefused> {
    if policy.is_member(me) {
        return Ok(());
    }
    Err(PlanRefused::Rules(match policy.name(me) {
        Some(name) => Refused::Former { node: me, name: name.to_string() },
        None => Refused::NotAMember(me),
    }))
}

fn must_be_admin(policy: &Policy, me: NodeId) -> Result<(), PlanRefused> {
    must_be_member(policy, me)?;
    if policy.is_admin(me) {
        return Ok(());
    }
    let name = |node: NodeId| policy.name(node).unwrap_or_default().to_string();
    Err(PlanRefused::NotAnAdmin { admins: policy.admins().into_iter().map(name).collect() })
}

fn must_know(policy: &Policy, node: NodeId) -> Result<(), PlanRefused> {
    if policy.is_member(node) { Ok(()) } else { Err(PlanRefused::NoSuchMember(node)) }
}

fn must_manage(policy: &Policy, me: NodeId, folder: FolderId, path: &RelPath, now_ms: u64) -> Result<(), PlanRefused> {
    must_be_member(policy, me)?;
    let state = policy.folder(folder).ok_or(Refused::NoSuchFolder(folder))?;
    if state.retired {
        return Err(Refused::Retired(state.name.clone()).into());
    }
    if policy.is_admin(me) || policy.may_manage(me, folder, path, now_ms) {
        return Ok(());
    }
    Err(PlanRefused::MayNotManage { folder_name: state.name.clone(), path: path.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::MeshId;
    use crate::logic::policy::evaluate;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn node(n: u8) -> NodeId {
        NodeId(key(n).verifying_key().to_bytes())
    }

    /// Node 1 founds; 2 and 3 are members; 99 is the recovery key.
    fn office() -> StatementSet {
        let name = |text: &str| Name::new(text).expect("short");
        let first = Found { name: name("office"), node_name: name("one"), nonce: [0; 16], recovery: node(99) };
        let first = found(first, &key(1), Hlc::default());
        let mut set = StatementSet::new(MeshId(first.id().0));
        set.insert(first).expect("founding");
        for n in [2, 3] {
            say(&mut set, 1, Body::Admit(Admit { node: node(n), name: name("n"), role: Role::Member }));
        }
        set
    }

    fn say(set: &mut StatementSet, who: u8, body: Body) {
        let statement = draft(set, &key(who), Hlc::default(), body, List::default());
        set.insert(statement).expect("fits");
    }

    fn recover(set: &mut StatementSet, expelled: &[NodeId]) {
        let plan = plan_recovery(&evaluate(set), node(99), node(2), "two", expelled).expect("the key may");
        plan.into_iter().for_each(|body| say(set, 99, body));
    }

    #[test]
    fn the_recovery_key_makes_a_member_an_admin_and_removes_the_stolen_founder() {
        let mut set = office();
        recover(&mut set, &[node(1)]);
        let policy = evaluate(&set);
        assert!(policy.is_admin(node(2)) && !policy.is_member(node(1)) && policy.is_member(node(3)));
        assert_eq!(plan_recovery(&policy, node(99), node(2), "two", &[]), Ok(Vec::new()), "nothing is left to do");
    }

    #[test]
    fn the_key_prevails_over_a_stolen_founder_that_removes_everyone_at_the_same_time() {
        let mut set = office();
        let mut stolen = set.clone();
        recover(&mut set, &[node(1)]);
        for n in [2, 3] {
            say(&mut stolen, 1, Body::Expel(Expel { node: node(n) }));
        }
        for statement in stolen.in_order() {
            set.insert(statement.clone()).expect("fits");
        }
        let policy = evaluate(&set);
        assert!(policy.is_admin(node(2)) && policy.is_member(node(3)) && !policy.is_member(node(1)));
    }

    #[test]
    fn who_was_removed_by_the_stolen_machine_comes_back_by_the_key() {
        let mut set = office();
        say(&mut set, 1, Body::Expel(Expel { node: node(2) }));
        recover(&mut set, &[node(1)]);
        let policy = evaluate(&set);
        assert!(policy.is_admin(node(2)) && !policy.is_member(node(1)));
    }

    #[test]
    fn another_key_an_unknown_machine_and_ones_own_are_refused() {
        let policy = evaluate(&office());
        let plan = |recovery, expelled: &[NodeId]| plan_recovery(&policy, recovery, node(2), "two", expelled);
        assert_eq!(plan(node(98), &[]), Err(PlanRefused::OtherRecoveryKey("office".into())));
        assert_eq!(plan(node(99), &[node(7)]), Err(PlanRefused::NoSuchMember(node(7))));
        assert_eq!(plan(node(99), &[node(2)]), Err(PlanRefused::RemovesItself));
    }

    #[test]
    fn late_work_is_named_in_runs_and_a_statement_holds_at_most_256_of_them() {
        use crate::base::BatchHash;
        let writer = |n| Writer { node: node(n), incarnation: 1 };
        let one =
            |n: u8, seq: u64| Range { writer: writer(n), first: seq, last: seq, batch: BatchHash([seq as u8; 32]) };
        let run = |n: u8, first: u64, last: u64| Range { first, ..one(n, last) };
        assert_eq!(runs(vec![one(1, 3), one(1, 2), one(1, 7), one(1, 4), one(1, 4)]), [run(1, 2, 4), one(1, 7)]);
        let mut of_two = runs(vec![one(2, 5), one(3, 6), one(2, 4)]);
        of_two.sort_by_key(|range| range.first);
        assert_eq!(of_two, [run(2, 4, 5), one(3, 6)], "logs are not mixed");

        let mut set = office();
        say(&mut set, 1, Body::CreateFolder(CreateFolder { name: Name::new("plans").expect("short") }));
        let folder = FolderId(set.heads()[0].0);
        let policy = evaluate(&set);
        let apart: Vec<Range> = (1..=300).map(|n| one(2, 2 * n)).collect();
        let bodies = plan_vouch(&policy, node(1), folder, apart, 0).expect("the founder may");
        let lengths: Vec<usize> = bodies
            .iter()
            .map(|body| match body {
                Body::Vouch(vouch) => vouch.ranges.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lengths, [256, 44]);
        assert_eq!(plan_vouch(&policy, node(1), folder, Vec::new(), 0), Err(PlanRefused::NothingToKeep));
        assert!(matches!(
            plan_vouch(&policy, node(2), folder, vec![one(2, 1)], 0),
            Err(PlanRefused::MayNotManage { .. })
        ));
    }
}
