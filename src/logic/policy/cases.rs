//! The decided cases of `docs/spec/policy.md`, one test each.

use ed25519_dalek::SigningKey;

use super::*;
use crate::base::{FolderId, GroupId, Hlc, Level, MeshId, NodeId, RelPath, Role, StatementId};
use crate::wire::codec::List;
use crate::wire::message::Message;
use crate::wire::statement::{
    Admit, Body, Copies, CreateFolder, Eligible, Expel, Found, Grant, Group, Head, Name, Named, Pass, Rename,
    RetireFolder, Revoke, SetRole, Statement, Subject,
};

const RECOVERY: u8 = 99;

pub(super) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub(super) fn node(n: u8) -> NodeId {
    NodeId(key(n).verifying_key().to_bytes())
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::new(text).expect("valid")
}

pub(super) fn at(ms: u64) -> Hlc {
    Hlc { ms, count: 0 }
}

/// Node 1 founds; 2 and 3 are admins, admitted in this order; 4, 5 and 6 are members.
pub(super) fn office() -> StatementSet {
    let body = Found { name: name("office"), node_name: name("one"), nonce: [0; 16], recovery: node(RECOVERY) };
    let first = found(body, &key(1), at(1));
    let mut set = StatementSet::new(MeshId(first.id().0));
    set.insert(first).expect("founding");
    for n in 2..=6 {
        let role = if n <= 3 { Role::Admin } else { Role::Member };
        say(&mut set, 1, Body::Admit(Admit { node: node(n), name: name("n"), role }));
    }
    set
}

pub(super) fn say(set: &mut StatementSet, who: u8, body: Body) -> Statement {
    say_at(set, who, 10, body)
}

pub(super) fn say_at(set: &mut StatementSet, who: u8, ms: u64, body: Body) -> Statement {
    let statement = draft(set, &key(who), at(ms), body, List::default());
    set.insert(statement.clone()).expect("fits");
    statement
}

/// All that several views know.
pub(super) fn union(views: &[&StatementSet]) -> StatementSet {
    let mut set = views[0].clone();
    for statement in views[1..].iter().flat_map(|view| view.in_order()) {
        set.insert(statement.clone()).expect("fits");
    }
    set
}

pub(super) fn folder(set: &mut StatementSet, who: u8) -> FolderId {
    FolderId(say(set, who, Body::CreateFolder(CreateFolder { name: name("books") })).id().0)
}

pub(super) fn grant(folder: FolderId, subject: Subject, on: &str, level: Level) -> Body {
    Body::Grant(Grant { folder, subject, path: path(on), level, not_after: None })
}

pub(super) fn expel(n: u8) -> Body {
    Body::Expel(Expel { node: node(n) })
}

fn level(set: &StatementSet, who: u8, folder: FolderId, on: &str) -> Level {
    evaluate(set).level(node(who), folder, &path(on), 10)
}

fn void(set: &StatementSet, id: StatementId) -> Option<Void> {
    evaluate(set).void().get(&id).cloned()
}

// The set.

#[test]
fn a_statement_of_another_mesh_is_refused() {
    let mut set = office();
    let other = found(
        Found { name: name("x"), node_name: name("x"), nonce: [1; 16], recovery: node(RECOVERY) },
        &key(1),
        at(1),
    );
    assert!(matches!(set.insert(other), Err(NotTaken::OtherMesh(_))));
}

#[test]
fn a_stranger_is_refused_even_when_a_member_says_that_it_admits_it() {
    let mut set = office();
    let admitted = say(&mut set, 4, Body::Admit(Admit { node: node(7), name: name("x"), role: Role::Admin }));
    assert_eq!(void(&set, admitted.id()), Some(Void::NotAnAdmin(node(4))));
    let statement = draft(&set, &key(7), at(1), expel(1), List::default());
    assert!(matches!(set.insert(statement), Err(NotTaken::Stranger { .. })));
}

#[test]
fn a_number_that_skips_or_repeats_is_refused_or_kept_as_evidence() {
    let mut set = office();
    let head = |counter| Head { counter, ..draft(&set, &key(4), at(1), expel(4), List::default()).head().clone() };
    let skipping = Statement::sign(head(2), expel(4), &key(4));
    let (one, other) = (
        Statement::sign(head(1), Body::CreateFolder(CreateFolder { name: name("a") }), &key(4)),
        Statement::sign(head(1), Body::CreateFolder(CreateFolder { name: name("b") }), &key(4)),
    );
    assert!(matches!(set.insert(skipping), Err(NotTaken::Counter { found: 2, expected: 1, .. })));
    set.insert(one.clone()).expect("the first");
    assert_eq!(set.equivocations(), []);
    set.insert(other.clone()).expect("kept as evidence");
    let pair = Equivocation { issuer: node(4), one: one.id().min(other.id()), other: one.id().max(other.id()) };
    assert_eq!(set.equivocations(), [pair]);
}

#[test]
fn many_histories_of_one_issuer_are_left_out_unless_others_stand_on_them() {
    let base = office();
    let branch = |n: u8| {
        let mut view = base.clone();
        let statement = say(&mut view, 4, Body::CreateFolder(CreateFolder { name: name(&format!("f{n}")) }));
        (view, statement)
    };
    let mut set = base.clone();
    for n in 0..8 {
        set.insert(branch(n).1).expect("within the bound");
    }
    let (mut view, ninth) = branch(9);
    assert!(matches!(set.insert(ninth.clone()), Err(NotTaken::Equivocation { .. })));
    let stands_on_it = say(&mut view, 1, expel(5));
    assert_eq!(set.insert(stands_on_it), Ok(Inserted::Parked(vec![ninth.id()])));
    assert!(matches!(set.insert(ninth), Ok(Inserted::Accepted { taken, .. }) if taken.len() == 2));
}

#[test]
fn a_parent_that_another_parent_stands_on_is_refused() {
    let mut set = office();
    let head = draft(&set, &key(4), at(1), expel(4), List::default()).head().clone();
    let mut parents = vec![head.parents[0], StatementId(set.mesh().0)];
    parents.sort();
    let head = Head { parents: List::new(parents).expect("two"), ..head };
    assert!(matches!(set.insert(Statement::sign(head, expel(4), &key(4))), Err(NotTaken::Parents(_))));
}

#[test]
fn one_issuer_cannot_fill_the_parking_place_and_what_waits_comes_in_with_its_parents() {
    let mut ahead = office();
    let mut behind = office();
    let missing = say(&mut ahead, 1, expel(6));
    let child = say(&mut ahead, 1, expel(5));
    assert_eq!(behind.insert(child.clone()), Ok(Inserted::Parked(vec![missing.id()])));
    assert_eq!(behind.missing(), [missing.id()]);
    let mut parked = 1;
    for n in 0..1100_u32 {
        let mut head = child.head().clone();
        let mut parent = [7; 32];
        parent[..4].copy_from_slice(&n.to_be_bytes());
        head.parents = List::new(vec![StatementId(parent)]).expect("one");
        match behind.insert(Statement::sign(head, expel(5), &key(1))) {
            Ok(Inserted::Parked(_)) => parked += 1,
            Err(NotTaken::TooManyParked(issuer)) => assert_eq!(issuer, node(1)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((parked, behind.parked().0), (1024, 1024));
    assert!(matches!(behind.insert(missing), Ok(Inserted::Accepted { taken, .. }) if taken.len() == 2));
}

#[test]
fn what_stands_on_a_refused_statement_is_refused_too() {
    let mut set = office();
    let head = draft(&set, &key(4), at(1), expel(4), List::default()).head().clone();
    let bad = Statement::sign(Head { counter: 5, ..head.clone() }, expel(4), &key(4));
    let parents = List::new(vec![bad.id()]).expect("one");
    let on_it = Statement::sign(Head { counter: 6, parents, ..head }, expel(4), &key(4));
    assert!(matches!(set.insert(on_it), Ok(Inserted::Parked(_))));
    assert!(set.insert(bad).is_err());
    assert_eq!((set.parked(), set.missing()), ((0, 0), vec![]));
}

// Membership.

#[test]
fn members_cannot_admit_expel_or_promote() {
    let mut set = office();
    let folder = folder(&mut set, 1);
    for body in [
        Body::Admit(Admit { node: node(7), name: name("x"), role: Role::Member }),
        expel(5),
        Body::SetRole(SetRole { node: node(4), role: Role::Admin }),
        Body::Group(Group { group: GroupId([1; 16]), name: name("g"), members: List::default() }),
        Body::Eligible(Eligible { node: node(4), priority: Some(1) }),
        Body::Copies(Copies { folder, nodes: 1, server: false }),
        Body::Rename(Rename { what: Named::Mesh, name: name("mine") }),
        Body::Rename(Rename { what: Named::Node(node(5)), name: name("x") }),
        Body::RetireFolder(RetireFolder { folder }),
        grant(folder, Subject::Node(node(4)), "", Level::Read),
    ] {
        let statement = say(&mut set, 4, body);
        assert!(void(&set, statement.id()).is_some(), "{statement:?}");
    }
    assert_eq!(evaluate(&set).members().count(), 6);
}

#[test]
fn a_node_leaves_by_its_own_word_and_says_nothing_afterwards() {
    let mut set = office();
    say(&mut set, 4, expel(4));
    let late = say(&mut set, 4, Body::CreateFolder(CreateFolder { name: name("late") }));
    let policy = evaluate(&set);
    assert!(!policy.is_member(node(4)) && policy.was_expelled(node(4)));
    assert_eq!(policy.void().get(&late.id()), Some(&Void::NotAMember(node(4))));
    assert_eq!(policy.discovery_epoch(), 1);
    say(&mut set, 1, Body::Admit(Admit { node: node(4), name: name("back"), role: Role::Member }));
    assert!(evaluate(&set).is_member(node(4)));
}

#[test]
fn an_admission_that_did_not_see_the_removal_does_not_undo_it() {
    let base = office();
    let (mut left, mut right) = (base.clone(), base.clone());
    say(&mut left, 1, expel(4));
    say(&mut right, 2, Body::Admit(Admit { node: node(4), name: name("n"), role: Role::Admin }));
    assert!(!evaluate(&union(&[&left, &right])).is_member(node(4)));
}

#[test]
fn what_a_removed_admin_did_meanwhile_is_void_and_so_is_what_stands_on_it() {
    let base = office();
    let (mut left, mut right) = (base.clone(), base.clone());
    let removal = say(&mut left, 1, expel(2));
    let crony = say(&mut right, 2, Body::Admit(Admit { node: node(7), name: name("x"), role: Role::Admin }));
    let counter = say(&mut right, 7, expel(1));
    let set = union(&[&left, &right]);
    assert_eq!(void(&set, crony.id()), Some(Void::Removed { node: node(2), by: removal.id() }));
    assert_eq!(void(&set, counter.id()), Some(Void::NotAMember(node(7))));
    assert!(evaluate(&set).is_member(node(1)) && !evaluate(&set).is_member(node(7)));
}

#[test]
fn of_two_admins_who_expel_each_other_the_senior_stays() {
    let base = office();
    let (mut left, mut right) = (base.clone(), base.clone());
    say(&mut left, 3, expel(2));
    say(&mut right, 2, expel(3));
    let policy = evaluate(&union(&[&left, &right]));
    assert!(policy.is_admin(node(2)) && !policy.is_member(node(3)));
}

#[test]
fn two_admins_outrank_a_stolen_founders_machine_that_expels_them() {
    let base = office();
    let (mut two, mut three, mut thief) = (base.clone(), base.clone(), base.clone());
    say(&mut thief, 1, expel(2));
    say(&mut thief, 1, expel(3));
    say(&mut thief, 1, Body::Admit(Admit { node: node(7), name: name("x"), role: Role::Admin }));
    say(&mut two, 2, expel(1));
    let one_against_it = evaluate(&union(&[&two, &thief]));
    assert!(one_against_it.is_member(node(1)) && !one_against_it.is_member(node(2)));
    say(&mut three, 3, expel(1));
    let policy = evaluate(&union(&[&two, &three, &thief]));
    assert!(!policy.is_member(node(1)) && !policy.is_member(node(7)));
    assert!(policy.is_admin(node(2)) && policy.is_admin(node(3)));
}

#[test]
fn the_recovery_key_removes_a_stolen_founders_machine_and_names_a_new_admin_and_does_nothing_else() {
    let base = office();
    let (mut paper, mut thief) = (base.clone(), base.clone());
    for n in 2..=6 {
        say(&mut thief, 1, expel(n));
    }
    say(&mut paper, RECOVERY, expel(1));
    say(&mut paper, RECOVERY, Body::Admit(Admit { node: node(8), name: name("new"), role: Role::Admin }));
    let folder = say(&mut paper, RECOVERY, Body::CreateFolder(CreateFolder { name: name("x") }));
    let set = union(&[&paper, &thief]);
    let policy = evaluate(&set);
    assert!(!policy.is_member(node(1)) && policy.is_admin(node(8)) && policy.is_admin(node(2)));
    assert_eq!(void(&set, folder.id()), Some(Void::NotAMember(node(RECOVERY))));
    let mut set = set;
    let admitted = say(&mut set, 8, Body::Admit(Admit { node: node(RECOVERY), name: name("x"), role: Role::Member }));
    assert_eq!(void(&set, admitted.id()), Some(Void::RecoveryKey));
}

#[test]
fn a_demoted_admin_acted_as_a_member_meanwhile() {
    let base = office();
    let (mut left, mut right) = (base.clone(), base.clone());
    say(&mut left, 1, Body::SetRole(SetRole { node: node(2), role: Role::Member }));
    let admitted = say(&mut right, 2, Body::Admit(Admit { node: node(7), name: name("x"), role: Role::Admin }));
    let created = say(&mut right, 2, Body::CreateFolder(CreateFolder { name: name("mine") }));
    let set = union(&[&left, &right]);
    assert_eq!(void(&set, admitted.id()), Some(Void::NotAnAdmin(node(2))));
    assert_eq!(void(&set, created.id()), None);
    assert_eq!(evaluate(&set).role(node(2)), Some(Role::Member));
}

// Rules.

#[test]
fn without_a_rule_there_is_nothing_for_admins_either_and_the_creator_manages() {
    let mut set = office();
    let folder = folder(&mut set, 4);
    assert_eq!(level(&set, 4, folder, "a/b"), Level::Manage);
    assert_eq!(level(&set, 1, folder, ""), Level::None);
    assert_eq!(evaluate(&set).visible_folders(node(1), 10), []);
    assert_eq!(evaluate(&set).visible_folders(node(4), 10), [folder]);
}

#[test]
fn the_most_specific_path_wins_then_node_over_group_over_everyone() {
    let mut set = office();
    let (folder, group) = (folder(&mut set, 1), GroupId([1; 16]));
    let members = List::new({
        let mut members = vec![node(4), node(5)];
        members.sort();
        members
    });
    say(&mut set, 1, Body::Group(Group { group, name: name("g"), members: members.expect("two") }));
    say(&mut set, 1, grant(folder, Subject::Everyone, "", Level::Read));
    say(&mut set, 1, grant(folder, Subject::Group(group), "", Level::Write));
    say(&mut set, 1, grant(folder, Subject::Node(node(4)), "", Level::None));
    say(&mut set, 1, grant(folder, Subject::Everyone, "pay", Level::None));
    say(&mut set, 1, grant(folder, Subject::Node(node(4)), "pay/slips", Level::Read));
    let levels = |on: &str| [4, 5, 6].map(|n| level(&set, n, folder, on));
    assert_eq!(levels("x"), [Level::None, Level::Write, Level::Read]);
    assert_eq!(levels("pay/x"), [Level::None; 3]);
    assert_eq!(levels("pay/slips/x"), [Level::Read, Level::None, Level::None]);
    assert_eq!(levels("payroll"), [Level::None, Level::Write, Level::Read]);
    assert_eq!(evaluate(&set).visible_folders(node(4), 10), [folder]);
}

#[test]
fn of_concurrent_rules_the_lowest_counts_until_one_supersedes_both() {
    let mut base = office();
    let folder = folder(&mut base, 1);
    let (mut left, mut right) = (base.clone(), base.clone());
    say(&mut left, 1, grant(folder, Subject::Everyone, "", Level::Write));
    say(&mut right, 2, grant(folder, Subject::Everyone, "", Level::Read));
    let mut set = union(&[&left, &right]);
    assert_eq!(level(&set, 4, folder, ""), Level::Read);
    say(&mut set, 2, grant(folder, Subject::Everyone, "", Level::Write));
    assert_eq!(level(&set, 4, folder, ""), Level::Write);
    say(&mut set, 1, Body::Revoke(Revoke { folder, subject: Subject::Everyone, path: path("") }));
    assert_eq!(level(&set, 4, folder, ""), Level::None);
}

#[test]
fn a_grant_withdrawn_meanwhile_only_lowers() {
    let mut base = office();
    let folder = folder(&mut base, 1);
    say(&mut base, 1, grant(folder, Subject::Everyone, "", Level::Read));
    say(&mut base, 1, grant(folder, Subject::Node(node(4)), "", Level::Read));
    let (mut left, mut right) = (base.clone(), base.clone());
    say(&mut left, 1, Body::Revoke(Revoke { folder, subject: Subject::Node(node(4)), path: path("") }));
    say(&mut right, 2, grant(folder, Subject::Node(node(4)), "", Level::Write));
    assert_eq!(level(&union(&[&left, &right]), 4, folder, ""), Level::Read);
}

#[test]
fn a_rule_ends_at_its_time_and_what_is_handed_on_ends_no_later() {
    let mut set = office();
    let folder = folder(&mut set, 1);
    let until = |subject, level, not_after| {
        Body::Grant(Grant { folder, subject, path: path("a"), level, not_after: Some(not_after) })
    };
    say(&mut set, 1, until(Subject::Node(node(4)), Level::Manage, 100));
    say_at(&mut set, 4, 50, until(Subject::Node(node(5)), Level::Write, 1000));
    let late = say_at(&mut set, 4, 101, until(Subject::Node(node(6)), Level::Write, 1000));
    let policy = evaluate(&set);
    assert_eq!(policy.level(node(5), folder, &path("a"), 100), Level::Write);
    assert_eq!(policy.level(node(5), folder, &path("a"), 101), Level::None);
    assert!(matches!(policy.void().get(&late.id()), Some(Void::MayNotManage { .. })));
}

#[test]
fn a_manager_grants_on_its_path_and_no_further() {
    let mut set = office();
    let folder = folder(&mut set, 1);
    say(&mut set, 1, grant(folder, Subject::Node(node(4)), "a", Level::Manage));
    let inside = say(&mut set, 4, grant(folder, Subject::Node(node(5)), "a/b", Level::Manage));
    let beside = say(&mut set, 4, grant(folder, Subject::Node(node(5)), "b", Level::Read));
    let above = say(&mut set, 4, grant(folder, Subject::Node(node(5)), "", Level::Read));
    let twin = say(&mut set, 4, grant(folder, Subject::Node(node(5)), "A/x", Level::Read));
    assert_eq!(void(&set, inside.id()), None);
    for outside in [beside, above, twin] {
        assert!(matches!(void(&set, outside.id()), Some(Void::MayNotManage { .. })), "{outside:?}");
    }
    assert_eq!(level(&set, 5, folder, "a/b/c"), Level::Manage);
    assert_eq!(level(&set, 5, folder, "a/x"), Level::None);
}

#[test]
fn a_manager_who_is_kept_out_below_cannot_give_that_away() {
    let mut set = office();
    let folder = folder(&mut set, 4);
    say(&mut set, 1, grant(folder, Subject::Node(node(4)), "secret", Level::None));
    let through_another = say(&mut set, 4, grant(folder, Subject::Node(node(5)), "", Level::Manage));
    let beside = say(&mut set, 4, grant(folder, Subject::Node(node(5)), "open", Level::Manage));
    assert!(matches!(void(&set, through_another.id()), Some(Void::MayNotManage { .. })));
    assert_eq!(void(&set, beside.id()), None);
}

#[test]
fn a_rule_for_everyone_does_not_lock_the_manager_out_of_the_rules() {
    let mut set = office();
    let folder = folder(&mut set, 4);
    say(&mut set, 4, grant(folder, Subject::Everyone, "archive", Level::Read));
    assert_eq!(level(&set, 4, folder, "archive"), Level::Read);
    let own = say(&mut set, 4, grant(folder, Subject::Node(node(4)), "archive", Level::Write));
    assert_eq!(void(&set, own.id()), None);
}

#[test]
fn rules_of_a_manager_who_loses_manage_meanwhile_only_lower() {
    let mut base = office();
    let folder = folder(&mut base, 1);
    say(&mut base, 1, grant(folder, Subject::Node(node(4)), "", Level::Manage));
    say(&mut base, 1, grant(folder, Subject::Node(node(6)), "", Level::Write));
    let (mut left, mut right) = (base.clone(), base.clone());
    say(&mut left, 1, grant(folder, Subject::Node(node(4)), "", Level::Read));
    say(&mut right, 4, grant(folder, Subject::Node(node(5)), "", Level::Write));
    say(&mut right, 4, grant(folder, Subject::Node(node(6)), "", Level::Read));
    let set = union(&[&left, &right]);
    assert_eq!([4, 5, 6].map(|n| level(&set, n, folder, "")), [Level::Read, Level::None, Level::Read]);
    assert_eq!(evaluate(&set).rules(folder).iter().filter(|listed| listed.rule.contested).count(), 2);
}

#[test]
fn a_twin_name_is_no_way_around_a_rule() {
    let mut set = office();
    let folder = folder(&mut set, 1);
    say(&mut set, 1, grant(folder, Subject::Everyone, "", Level::Write));
    say(&mut set, 1, grant(folder, Subject::Everyone, "Geh\u{e4}lter", Level::None));
    for twin in ["Geh\u{e4}lter", "geh\u{e4}lter/x", "GEHA\u{308}LTER", "geha\u{308}lter/a/b"] {
        assert_eq!(level(&set, 4, folder, twin), Level::None, "{twin}");
    }
    say(&mut set, 1, grant(folder, Subject::Everyone, "", Level::None));
    say(&mut set, 1, grant(folder, Subject::Everyone, "Open", Level::Write));
    assert_eq!(level(&set, 4, folder, "open"), Level::None);
}

#[test]
fn a_retired_folder_and_a_member_that_is_gone_have_nothing() {
    let mut set = office();
    let folder = folder(&mut set, 4);
    say(&mut set, 4, grant(folder, Subject::Everyone, "", Level::Write));
    say(&mut set, 1, expel(5));
    assert_eq!(level(&set, 5, folder, ""), Level::None);
    say(&mut set, 4, Body::RetireFolder(RetireFolder { folder }));
    assert_eq!(level(&set, 6, folder, ""), Level::None);
    assert_eq!(evaluate(&set).folders().count(), 0);
    let late = say(&mut set, 1, grant(folder, Subject::Everyone, "", Level::Read));
    assert_eq!(void(&set, late.id()), Some(Void::Retired(folder)));
}

#[test]
fn the_hundred_and_first_folder_is_void_everywhere() {
    let mut set = office();
    let created: Vec<Statement> =
        (0..101).map(|_| say(&mut set, 4, Body::CreateFolder(CreateFolder { name: name("f") }))).collect();
    assert_eq!(void(&set, created[99].id()), None);
    assert_eq!(void(&set, created[100].id()), Some(Void::TooManyFolders(node(4))));
    assert_eq!(plan_create_folder(&evaluate(&set), node(4), "f"), Err(PlanRefused::TooManyFolders));
}

#[test]
fn names_that_would_leave_the_directory_are_void() {
    let mut set = office();
    for bad in ["", " ", "..", "a/b", ".lanyard", "a\nb"] {
        let created = say(&mut set, 4, Body::CreateFolder(CreateFolder { name: name(bad) }));
        assert!(matches!(void(&set, created.id()), Some(Void::BadName(_))), "{bad:?}");
    }
}

#[test]
fn things_that_do_not_exist_cannot_be_spoken_about() {
    let mut set = office();
    let folder = folder(&mut set, 1);
    let (nowhere, nobody, no_group) = (FolderId([9; 32]), node(50), GroupId([9; 16]));
    let cases = [
        (grant(nowhere, Subject::Everyone, "", Level::Read), Void::NoSuchFolder(nowhere)),
        (grant(folder, Subject::Node(nobody), "", Level::Read), Void::NoSuchMember(nobody)),
        (grant(folder, Subject::Group(no_group), "", Level::Read), Void::NoSuchGroup(no_group)),
        (Body::Expel(Expel { node: nobody }), Void::NoSuchMember(nobody)),
    ];
    for (body, reason) in cases {
        let statement = say(&mut set, 1, body);
        assert_eq!(void(&set, statement.id()), Some(reason));
    }
}

#[test]
fn a_sentence_of_a_later_version_stops_its_scope_if_its_issuer_may_say_such_things() {
    let pass = || {
        Body::Pass(Pass {
            pass: crate::base::PassId([1; 16]),
            name: name("guest"),
            verifier: [0; 32],
            grants: List::default(),
            not_after: 1,
        })
    };
    let mut set = office();
    let folder = folder(&mut set, 1);
    say(&mut set, 1, grant(folder, Subject::Everyone, "", Level::Read));
    let ask = Ask { folder, path: path(""), level: Level::Read };
    say(&mut set, 4, pass());
    assert!(permit(&evaluate(&set), node(5), &ask, 10).is_ok(), "a member stops nothing");
    let stopping = say(&mut set, 1, pass());
    assert_eq!(permit(&evaluate(&set), node(5), &ask, 10), Err(Refused::Stopped(stopping.id())));
}

// Permits and plans.

#[test]
fn a_refusal_says_who_lacks_what_where() {
    let mut set = office();
    let folder = folder(&mut set, 1);
    say(&mut set, 1, grant(folder, Subject::Everyone, "", Level::Read));
    let ask = Ask { folder, path: path("a"), level: Level::Write };
    let refused = permit(&evaluate(&set), node(4), &ask, 10).expect_err("read only");
    assert_eq!(refused.to_string(), "n has 'read' on books/a, this needs 'write'");
    assert!(matches!(permit(&evaluate(&set), node(50), &ask, 10), Err(Refused::NotAMember(_))));
    say(&mut set, 4, expel(4));
    assert!(matches!(permit(&evaluate(&set), node(4), &ask, 10), Err(Refused::Former { .. })));
    let nowhere = Ask { folder: FolderId([9; 32]), ..ask };
    assert!(matches!(permit(&evaluate(&set), node(5), &nowhere, 10), Err(Refused::NoSuchFolder(_))));
}

#[test]
fn plans_refuse_what_would_be_void_and_what_is_planned_has_effect() {
    let mut set = office();
    let folder = folder(&mut set, 4);
    let policy = evaluate(&set);
    let rule = |subject, not_after| Grant { folder, subject, path: path("a"), level: Level::Read, not_after };
    assert!(
        matches!(plan_expel(&policy, node(4), node(5)), Err(PlanRefused::NotAnAdmin { admins }) if admins.len() == 3)
    );
    assert!(matches!(
        plan_grant(&policy, node(5), rule(Subject::Everyone, None), 10),
        Err(PlanRefused::MayNotManage { .. })
    ));
    assert_eq!(plan_grant(&policy, node(4), rule(Subject::Everyone, Some(10)), 10), Err(PlanRefused::Past));
    assert_eq!(
        plan_grant(&policy, node(4), rule(Subject::Node(node(50)), None), 10),
        Err(PlanRefused::NoSuchMember(node(50)))
    );
    assert!(matches!(plan_leave(&policy, node(50)), Err(PlanRefused::Rules(Refused::NotAMember(_)))));
    let bodies = [
        plan_grant(&policy, node(4), rule(Subject::Everyone, None), 10),
        plan_revoke(&policy, node(4), folder, Subject::Everyone, path("a"), 10),
        plan_rename(&policy, node(4), Named::Folder(folder), "renamed"),
        plan_rename(&policy, node(4), Named::Node(node(4)), "me"),
        plan_retire(&policy, node(4), folder, 10),
        plan_leave(&policy, node(4)),
    ];
    for body in bodies {
        let statement = say(&mut set, 4, body.expect("permitted"));
        assert_eq!(void(&set, statement.id()), None);
    }
}

#[test]
fn the_last_admin_stays_while_others_do() {
    let mut set = office();
    say(&mut set, 1, expel(2));
    say(&mut set, 1, expel(3));
    assert_eq!(plan_leave(&evaluate(&set), node(1)), Err(PlanRefused::LastAdmin));
    assert_eq!(plan_set_role(&evaluate(&set), node(1), node(1), Role::Member), Err(PlanRefused::LastAdmin));
    for n in 4..=6 {
        say(&mut set, 1, expel(n));
    }
    assert!(plan_leave(&evaluate(&set), node(1)).is_ok());
}

#[test]
fn policies_at_heads_are_kept_by_heads_and_bounded() {
    let mut set = office();
    let mut cache = PolicyCache::new(2);
    let before = set.heads();
    let old = cache.policy_at(&set, &before).expect("all there");
    say(&mut set, 1, expel(4));
    assert!(!cache.current(&set).is_member(node(4)));
    let again = cache.policy_at(&set, &before).expect("all there");
    assert!(again.is_member(node(4)) && std::sync::Arc::ptr_eq(&old, &again));
    let unknown = [StatementId([1; 32])];
    assert_eq!(cache.policy_at(&set, &unknown), Err(MissingStatements(unknown.to_vec())));
}

// Exchange.

/// Delivers messages between two sets until none is left; returns how many it took and what the largest held.
fn exchange(one: &mut StatementSet, other: &mut StatementSet) -> (usize, usize) {
    let mut links = [Exchange::new(), Exchange::new()];
    let mut under_way: std::collections::VecDeque<(usize, Message)> = std::collections::VecDeque::new();
    under_way.extend(links[0].announce(one).into_iter().map(|message| (1, message)));
    under_way.extend(links[1].announce(other).into_iter().map(|message| (0, message)));
    let (mut count, mut largest) = (0, 0);
    while let Some((to, message)) = under_way.pop_front() {
        count += 1;
        assert!(count < 1000, "the exchange does not end");
        let set = if to == 0 { &mut *one } else { &mut *other };
        largest = largest.max(message.encode().len());
        let replies = match message {
            Message::StatementHeads(ids) => links[to].handle_heads(set, &ids),
            Message::StatementWant(ids) => links[to].handle_want(set, &ids),
            Message::Statements(signed) => {
                links[to].handle_statements(set, signed.into_vec()).expect("well signed").replies
            }
            _ => Vec::new(),
        };
        under_way.extend(replies.into_iter().map(|message| (1 - to, message)));
    }
    (count, largest)
}

fn many(set: &mut StatementSet, who: u8, count: usize) {
    for _ in 0..count {
        say(set, who, Body::CreateFolder(CreateFolder { name: name(&"n".repeat(255)) }));
    }
}

#[test]
fn sets_that_went_far_apart_become_equal_in_few_bounded_messages() {
    let mut one = office();
    many(&mut one, 4, 300);
    let mut other = one.clone();
    many(&mut one, 5, 1500);
    many(&mut other, 6, 700);
    let (messages, largest) = exchange(&mut one, &mut other);
    assert_eq!((one.heads(), one.len()), (other.heads(), other.len()));
    assert!(messages <= 20, "{messages} messages");
    assert!(largest <= MESSAGE_BYTES_MAX + 64 * 1024, "{largest} bytes");
}

#[test]
fn a_new_node_gets_everything_and_equal_sets_say_nothing_more() {
    let mut one = office();
    many(&mut one, 4, 100);
    let mut other = StatementSet::new(one.mesh());
    exchange(&mut one, &mut other);
    assert_eq!(evaluate(&one), evaluate(&other));
    assert_eq!(exchange(&mut one, &mut other).0, 2, "one announcement each way");
}

#[test]
fn a_peer_that_forgot_what_it_was_sent_gets_it_again() {
    let mut set = office();
    let wanted = say(&mut set, 1, expel(4));
    let mut link = Exchange::new();
    link.handle_heads(&set, &[wanted.id()]);
    let answer = link.handle_want(&set, &[wanted.id()]);
    assert_eq!(answer, [Message::Statements(List::truncated(vec![wanted.signed().clone()]))]);
}

#[test]
fn what_is_refused_is_not_asked_for_again() {
    let mut set = office();
    let stranger = draft(&set, &key(50), at(1), expel(50), List::default());
    let mut link = Exchange::new();
    assert_eq!(link.handle_heads(&set, &[stranger.id()]).len(), 1);
    let received = link.handle_statements(&mut set, vec![stranger.signed().clone()]).expect("well signed");
    assert!(matches!(received.refused[..], [(_, NotTaken::Stranger { .. })]));
    assert_eq!(received.replies, []);
    assert_eq!(link.handle_heads(&set, &[stranger.id()]), []);
}

#[test]
fn news_goes_at_once_to_peers_that_can_take_it_and_is_announced_to_others() {
    let mut set = office();
    let heads = set.heads();
    let new = say(&mut set, 1, expel(4));
    let mut in_step = Exchange::new();
    in_step.handle_heads(&set, &heads);
    assert!(matches!(in_step.news(&set, &[new.id()])[..], [Message::Statements(_)]));
    assert_eq!(in_step.news(&set, &[new.id()]), [], "once");
    assert!(matches!(Exchange::new().news(&set, &[new.id()])[..], [Message::StatementHeads(_)]));
}

#[test]
fn a_forged_statement_is_a_protocol_error_and_changes_nothing() {
    let mut set = office();
    let good = draft(&set, &key(1), at(1), expel(4), List::default());
    let mut forged = good.signed().clone();
    let mut bytes = forged.envelope.clone().into_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    forged.envelope = crate::wire::codec::Bytes::new(bytes).expect("as long as before");
    let before = set.len();
    assert!(Exchange::new().handle_statements(&mut set, vec![good.signed().clone(), forged]).is_err());
    assert_eq!(set.len(), before);
}

#[test]
fn of_concurrent_wishes_for_copies_all_count_and_a_later_one_replaces_them() {
    let mut base = office();
    let folder = folder(&mut base, 1);
    let copies = |nodes, server| Body::Copies(Copies { folder, nodes, server });
    let (mut left, mut right) = (base.clone(), base.clone());
    say(&mut left, 1, copies(2, false));
    say(&mut right, 2, copies(1, true));
    let mut set = union(&[&left, &right]);
    assert_eq!(evaluate(&set).copies(folder), Wanted { nodes: 2, server: true });
    say(&mut set, 1, copies(1, false));
    assert_eq!(evaluate(&set).copies(folder), Wanted { nodes: 1, server: false });
}
