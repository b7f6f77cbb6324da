//! The decided cases of `docs/spec/freezes.md`, one test each: what does not count first.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use super::cases::{at, expel, folder, grant, key, name, node, office, path, say, union};
use super::*;
use crate::base::{BatchHash, EntryHash, FolderId, GroupId, Hlc, Level, Role, StatementId, Writer};
use crate::wire::batch::{Batch, Header};
use crate::wire::codec::List;
use crate::wire::statement::{
    Body, FolderFrontier, Fork, Frontier, Grant, Group, Range, Reinstate, RetireFolder, Revoke, Seal, SetRole,
    Statement, Subject, Verdict, Vouch,
};

const DAY: u64 = SEAL_AFTER_MS;

fn writer(n: u8) -> Writer {
    Writer { node: node(n), incarnation: 1 }
}

fn hash(n: u8) -> BatchHash {
    BatchHash([n; 32])
}

/// Every log as this node has it: batch `n` ends with number `n`, and has hash `n`.
fn own_log(_: Writer, seq: u64) -> Result<Holds, Infallible> {
    let n = u8::try_from(seq).expect("a short log");
    Ok((seq <= 20).then(|| (seq, hash(n))))
}

fn known(folder: FolderId, n: u8, seq: u8) -> FolderFrontier {
    FolderFrontier { folder, frontier: Frontier { writer: writer(n), seq: u64::from(seq), batch: hash(seq) } }
}

/// Signs with what is known: the folder, and these frontiers in it.
fn say_knowing(set: &mut StatementSet, who: u8, body: Body, folder: FolderId, of: &[(u8, u8)]) -> Statement {
    say_with(set, who, 10, body, folder, of)
}

fn say_with(set: &mut StatementSet, who: u8, ms: u64, body: Body, folder: FolderId, of: &[(u8, u8)]) -> Statement {
    let mut frontiers = vec![FolderFrontier::holds(folder)];
    frontiers.extend(of.iter().map(|(n, seq)| known(folder, *n, *seq)));
    frontiers.sort();
    let statement = draft(set, &key(who), at(ms), body, List::new(frontiers).expect("few"));
    set.insert(statement.clone()).expect("fits");
    statement
}

/// What `n` wrote as its entry `seq`, knowing `heads`, at time 10.
fn verdict(set: &StatementSet, folder: FolderId, heads: &[StatementId], n: u8, seq: u64) -> Result<(), VoidEntry> {
    verdict_at(set, folder, heads, writer(n), seq, "a", 10)
}

fn verdict_at(
    set: &StatementSet,
    folder: FolderId,
    heads: &[StatementId],
    writer: Writer,
    seq: u64,
    on: &str,
    at_ms: u64,
) -> Result<(), VoidEntry> {
    let judge = Judge::new(Arc::new(set.clone()));
    let view = judge.view(folder, heads).expect("all there");
    let written = Written { writer, seq, path: &path(on), at_ms };
    judge.judge(&view, &written, own_log).unwrap_or_else(|never| match never {})
}

/// A folder of node 1 in which everyone may write, and the heads that everyone knows.
fn shared() -> (StatementSet, FolderId, Vec<StatementId>) {
    let mut set = office();
    let folder = folder(&mut set, 1);
    say(&mut set, 1, grant(folder, Subject::Everyone, "", Level::Write));
    let heads = set.heads();
    (set, folder, heads)
}

#[test]
fn what_an_expelled_node_wrote_unknown_to_who_expelled_it_does_not_count() {
    let (mut set, folder, heads) = shared();
    let out = say_knowing(&mut set, 1, expel(4), folder, &[(4, 5)]);
    assert_eq!(verdict(&set, folder, &heads, 4, 6), Err(VoidEntry::Frozen(out.id())));
    assert_eq!(verdict(&set, folder, &set.heads(), 4, 6), Err(VoidEntry::NotPermitted(node(4))));
    let other = Writer { incarnation: 2, ..writer(4) };
    assert_eq!(verdict_at(&set, folder, &heads, other, 1, "a", 10), Err(VoidEntry::Frozen(out.id())));
    assert_eq!(verdict(&set, folder, &heads, 4, 5), Ok(()));
    assert_eq!(verdict(&set, folder, &heads, 5, 9), Ok(()));
}

#[test]
fn a_frontier_holds_for_its_own_branch_only() {
    let (mut set, folder, heads) = shared();
    let elsewhere = FolderFrontier { folder, frontier: Frontier { writer: writer(4), seq: 5, batch: hash(99) } };
    let frontiers = List::new(vec![FolderFrontier::holds(folder), elsewhere]).expect("two");
    let out = draft(&set, &key(1), at(10), expel(4), frontiers);
    set.insert(out.clone()).expect("fits");
    assert_eq!(verdict(&set, folder, &heads, 4, 3), Err(VoidEntry::Frozen(out.id())));
}

#[test]
fn a_right_that_is_given_again_does_not_bring_late_work_back() {
    let (mut set, folder, heads) = shared();
    let lowering = say_knowing(&mut set, 1, grant(folder, Subject::Node(node(4)), "", Level::Read), folder, &[(4, 5)]);
    say_knowing(&mut set, 1, grant(folder, Subject::Node(node(4)), "", Level::Write), folder, &[(4, 5)]);
    assert_eq!(verdict(&set, folder, &heads, 4, 6), Err(VoidEntry::Frozen(lowering.id())));
    assert_eq!(verdict(&set, folder, &set.heads(), 4, 7), Ok(()));
}

#[test]
fn every_sentence_that_lowers_freezes_those_it_lowers() {
    let (base, folder, _) = shared();
    let group = GroupId([1; 16]);
    let members = |who: &[u8]| {
        let mut members: Vec<_> = who.iter().map(|n| node(*n)).collect();
        members.sort();
        Body::Group(Group { group, name: name("g"), members: List::new(members).expect("few") })
    };
    let mut grouped = base.clone();
    say(&mut grouped, 1, members(&[4, 5]));
    say(&mut grouped, 1, grant(folder, Subject::Group(group), "g", Level::Write));
    say(&mut grouped, 1, grant(folder, Subject::Everyone, "g", Level::Read));
    say(&mut grouped, 1, grant(folder, Subject::Everyone, "only", Level::Write));
    let on = |subject, on: &str| Body::Revoke(Revoke { folder, subject, path: path(on) });
    let cases = [
        ("x", grant(folder, Subject::Everyone, "", Level::Read)),
        ("x/y", grant(folder, Subject::Everyone, "x", Level::None)),
        ("X", grant(folder, Subject::Node(node(4)), "x", Level::None)),
        ("g/x", members(&[5])),
        ("g/x", on(Subject::Group(group), "g")),
        ("x", on(Subject::Everyone, "")),
        ("x", Body::RetireFolder(RetireFolder { folder })),
    ];
    for (place, body) in cases {
        let (mut set, heads) = (grouped.clone(), grouped.heads());
        assert_eq!(verdict_at(&set, folder, &heads, writer(4), 6, place, 10), Ok(()), "{body:?}");
        let s = say_knowing(&mut set, 1, body.clone(), folder, &[(4, 5)]);
        let late = verdict_at(&set, folder, &heads, writer(4), 6, place, 10);
        assert_eq!(late, Err(VoidEntry::Frozen(s.id())), "{body:?}");
        assert_eq!(verdict_at(&set, folder, &heads, writer(4), 5, place, 10), Ok(()), "{body:?}");
    }
}

#[test]
fn what_lowers_somebody_else_or_elsewhere_freezes_nobody() {
    let (mut set, folder, heads) = shared();
    say_knowing(&mut set, 1, grant(folder, Subject::Node(node(5)), "", Level::None), folder, &[]);
    say_knowing(&mut set, 1, grant(folder, Subject::Everyone, "b", Level::None), folder, &[]);
    say_knowing(&mut set, 1, Body::SetRole(SetRole { node: node(2), role: Role::Member }), folder, &[]);
    assert_eq!(verdict(&set, folder, &heads, 4, 6), Ok(()));
    assert_eq!(verdict(&set, folder, &heads, 2, 6), Ok(()));
}

#[test]
fn what_a_removed_admin_gave_at_the_same_time_carries_nobody() {
    for body in [expel(2), Body::SetRole(SetRole { node: node(2), role: Role::Member })] {
        let mut base = office();
        let folder = folder(&mut base, 1);
        let (mut left, mut right) = (base.clone(), base.clone());
        say_knowing(&mut left, 1, body, folder, &[]);
        say(&mut right, 2, grant(folder, Subject::Node(node(5)), "", Level::Write));
        let heads = right.heads();
        assert_eq!(verdict(&right, folder, &heads, 5, 1), Ok(()), "it looked well to who did not know");
        let set = union(&[&left, &right]);
        assert_eq!(verdict(&set, folder, &heads, 5, 1), Err(VoidEntry::NotPermitted(node(5))));
    }
}

#[test]
fn what_a_manager_gave_while_it_was_lowered_carries_nobody_above_that_freeze() {
    let mut base = office();
    let folder = folder(&mut base, 1);
    say(&mut base, 1, grant(folder, Subject::Node(node(4)), "", Level::Manage));
    let (mut left, mut right) = (base.clone(), base.clone());
    let lowering =
        say_knowing(&mut left, 1, grant(folder, Subject::Node(node(4)), "", Level::Write), folder, &[(4, 3)]);
    say(&mut right, 4, grant(folder, Subject::Node(node(5)), "", Level::Write));
    let heads = right.heads();
    let set = union(&[&left, &right]);
    assert_eq!(verdict(&set, folder, &heads, 5, 1), Err(VoidEntry::Frozen(lowering.id())));
    assert_eq!(verdict(&set, folder, &heads, 4, 9), Ok(()), "it may write still");
}

#[test]
fn who_expels_without_holding_a_folder_leaves_it_open_until_an_admin_seals_it() {
    let (mut set, folder, heads) = shared();
    let out = say(&mut set, 1, expel(4));
    assert_eq!(verdict(&set, folder, &heads, 4, 6), Ok(()));
    let held = [FolderFrontier::holds(folder), known(folder, 4, 5)];
    let judge = |set: &StatementSet| Judge::new(Arc::new(set.clone()));
    assert_eq!(judge(&set).seals_due(node(4), 10, &held), [], "only an admin's node seals");
    assert_eq!(judge(&set).seals_due(node(2), 10, &held), [(out.id(), held.to_vec())]);
    let seal = Body::Seal(Seal { grant: out.id() });
    let by_member = say_knowing(&mut set, 5, seal.clone(), folder, &[]);
    assert_eq!(evaluate(&set).void().get(&by_member.id()), Some(&Void::NotAnAdmin(node(5))));
    assert_eq!(verdict(&set, folder, &heads, 4, 6), Ok(()));
    say_knowing(&mut set, 2, seal, folder, &[(4, 5)]);
    assert_eq!(verdict(&set, folder, &heads, 4, 6), Err(VoidEntry::Frozen(out.id())));
    assert_eq!(verdict(&set, folder, &heads, 4, 5), Ok(()));
    assert_eq!(judge(&set).seals_due(node(3), 10, &held), []);
}

#[test]
fn after_its_seal_nothing_rests_on_a_grant_that_has_ended() {
    let mut base = office();
    let folder = folder(&mut base, 1);
    let ending =
        Grant { folder, subject: Subject::Node(node(4)), path: path(""), level: Level::Write, not_after: Some(100) };
    let ending = say(&mut base, 1, Body::Grant(ending));
    say(&mut base, 1, grant(folder, Subject::Everyone, "open", Level::Write));
    let heads = base.heads();
    let seal = Body::Seal(Seal { grant: ending.id() });
    assert_eq!(verdict_at(&base, folder, &heads, writer(4), 6, "a", 101), Err(VoidEntry::NotPermitted(node(4))));
    let judge = Judge::new(Arc::new(base.clone()));
    let held = [FolderFrontier::holds(folder), known(folder, 4, 5)];
    assert_eq!(judge.seals_due(node(1), 99 + DAY, &held), []);
    assert_eq!(judge.seals_due(node(1), 100 + DAY, &held), [(ending.id(), held.to_vec())]);
    let mut early = base.clone();
    say_with(&mut early, 1, 99 + DAY, seal.clone(), folder, &[(4, 5)]);
    assert_eq!(verdict(&early, folder, &heads, 4, 6), Ok(()), "too early");
    let mut set = base;
    say_with(&mut set, 1, 100 + DAY, seal, folder, &[(4, 5)]);
    assert_eq!(verdict(&set, folder, &heads, 4, 6), Err(VoidEntry::Sealed(ending.id())));
    assert_eq!(verdict(&set, folder, &set.heads(), 4, 6), Err(VoidEntry::Sealed(ending.id())));
    assert_eq!(verdict(&set, folder, &heads, 4, 5), Ok(()));
    assert_eq!(verdict_at(&set, folder, &heads, writer(4), 6, "open/x", 10), Ok(()), "it rests on another rule");
}

#[test]
fn only_something_that_lowers_and_counts_can_be_sealed() {
    let (mut set, folder, _) = shared();
    let void = say(&mut set, 5, grant(folder, Subject::Node(node(4)), "", Level::None));
    let renamed = say(&mut set, 1, Body::SetRole(SetRole { node: node(2), role: Role::Member }));
    for what in [void.id(), renamed.id(), StatementId([9; 32])] {
        let seal = say_knowing(&mut set, 1, Body::Seal(Seal { grant: what }), folder, &[]);
        assert_eq!(evaluate(&set).void().get(&seal.id()), Some(&Void::NothingToSeal(what)));
    }
}

#[test]
fn only_who_manages_the_folder_keeps_late_work_and_only_what_is_named() {
    let (mut base, folder, heads) = shared();
    let out = say_knowing(&mut base, 1, expel(4), folder, &[(4, 5)]);
    let range = |first, last, batch| Range { writer: writer(4), first, last, batch: hash(batch) };
    let vouch = |range| Body::Vouch(Vouch { folder, ranges: List::new(vec![range]).expect("one") });
    let frozen = Err(VoidEntry::Frozen(out.id()));
    for (who, kept, seq, expected) in [
        (5, range(6, 8, 8), 7, frozen.clone()),
        (4, range(6, 8, 8), 7, frozen.clone()),
        (2, range(6, 8, 99), 7, frozen.clone()),
        (2, range(6, 8, 8), 9, frozen.clone()),
        (2, range(6, 8, 8), 7, Ok(())),
        (1, range(7, 7, 7), 7, Ok(())),
    ] {
        let mut set = base.clone();
        say(&mut set, who, vouch(kept.clone()));
        assert_eq!(verdict(&set, folder, &heads, 4, seq), expected, "{who} keeps {kept:?}");
    }
}

#[test]
fn only_who_manages_the_folder_rejects_a_burst_and_only_what_is_named() {
    let (base, folder, heads) = shared();
    let verdict_on = |first, last, batch| {
        Body::Verdict(Verdict {
            folder,
            range: Range { writer: writer(4), first, last, batch: hash(batch) },
            release: false,
        })
    };
    for (who, body, seq, is_rejected) in [
        (5, verdict_on(6, 8, 8), 7, false),
        (4, verdict_on(6, 8, 8), 7, false),
        (2, verdict_on(6, 8, 99), 7, false),
        (2, verdict_on(6, 8, 8), 9, false),
        (2, verdict_on(6, 8, 8), 5, false),
        (2, verdict_on(6, 8, 8), 7, true),
        (1, verdict_on(7, 200, 9), 8, true),
    ] {
        let mut set = base.clone();
        let said = say(&mut set, who, body.clone());
        let expected = if is_rejected { Err(VoidEntry::Rejected(said.id())) } else { Ok(()) };
        assert_eq!(verdict(&set, folder, &heads, 4, seq), expected, "{who} says {body:?}");
    }
}

#[test]
fn of_two_verdicts_at_once_the_rejection_stands_until_somebody_releases_who_knows_it() {
    let (base, folder, heads) = shared();
    let body = |release| {
        Body::Verdict(Verdict {
            folder,
            range: Range { writer: writer(4), first: 6, last: 8, batch: hash(8) },
            release,
        })
    };
    let (mut one, mut other) = (base.clone(), base.clone());
    let rejected = say(&mut one, 1, body(false));
    say(&mut other, 2, body(true));
    let mut both = union(&[&one, &other]);
    let rejected = Err(VoidEntry::Rejected(rejected.id()));
    assert_eq!(verdict(&both, folder, &heads, 4, 7), rejected);
    say(&mut both, 2, body(true));
    assert_eq!(verdict(&both, folder, &heads, 4, 7), Ok(()));
    let again = say(&mut both, 1, body(false));
    assert_eq!(verdict(&both, folder, &heads, 4, 7), Err(VoidEntry::Rejected(again.id())));
}

fn batch(folder: FolderId, set: &StatementSet, n: u8, first: u64, previous: u8, content: u8) -> Batch {
    let header = Header {
        mesh: set.mesh(),
        folder,
        writer: writer(n),
        first,
        previous: Some(hash(previous)),
        heads: List::default(),
        time: Hlc::default(),
        entries: List::new(vec![EntryHash([content; 32])]).expect("one"),
    };
    Batch::sign(header, &key(n))
}

#[test]
fn a_fork_freezes_both_histories_above_what_they_share_whoever_found_it() {
    let (mut set, folder, heads) = shared();
    let fork = Fork::of(&batch(folder, &set, 4, 4, 3, 1), &batch(folder, &set, 4, 4, 3, 2)).expect("two histories");
    let proof = say(&mut set, 6, Body::Fork(fork));
    assert_eq!(verdict(&set, folder, &heads, 4, 4), Err(VoidEntry::Forked(proof.id())));
    assert_eq!(verdict(&set, folder, &set.heads(), 4, 9), Err(VoidEntry::Forked(proof.id())));
    let ranges = List::new(vec![Range { writer: writer(4), first: 1, last: 9, batch: hash(9) }]).expect("one");
    say(&mut set, 1, Body::Vouch(Vouch { folder, ranges }));
    assert_eq!(verdict(&set, folder, &heads, 4, 4), Err(VoidEntry::Forked(proof.id())), "nobody keeps either");
    assert_eq!(verdict(&set, folder, &heads, 4, 3), Ok(()));
    assert_eq!(verdict(&set, folder, &heads, 5, 9), Ok(()));
}

#[test]
fn what_proves_no_fork_is_void() {
    let (mut set, folder, heads) = shared();
    let one = batch(folder, &set, 4, 4, 3, 1);
    let proper = Fork::of(&one, &batch(folder, &set, 4, 4, 3, 2)).expect("two histories");
    let other = batch(folder, &set, 5, 4, 3, 2);
    assert!(Fork::of(&one, &one).is_none(), "the same batch twice");
    assert!(Fork::of(&one, &batch(folder, &set, 4, 5, 3, 2)).is_none(), "other numbers");
    assert!(Fork::of(&one, &batch(folder, &set, 4, 4, 2, 2)).is_none(), "after another batch");
    assert!(Fork::of(&one, &other).is_none(), "by another writer");
    let lies = [
        Fork { common: 2, ..proper.clone() },
        Fork { writer: writer(5), ..proper.clone() },
        Fork { folder: FolderId([9; 32]), ..proper.clone() },
        Fork { right: proper.left.clone(), ..proper.clone() },
        Fork {
            right: crate::wire::statement::ForkSide {
                signature: proper.left.signature.clone(),
                ..proper.right.clone()
            },
            ..proper
        },
    ];
    for lie in lies {
        let whose = lie.writer.node;
        let said = say(&mut set, 1, Body::Fork(lie));
        assert_eq!(evaluate(&set).void().get(&said.id()), Some(&Void::NoProof(whose)));
    }
    assert_eq!(verdict(&set, folder, &heads, 4, 9), Ok(()));
}

#[test]
fn a_node_that_knows_of_its_fork_goes_on_once_it_is_reinstated() {
    let (mut set, folder, _) = shared();
    let fork = Fork::of(&batch(folder, &set, 4, 4, 3, 1), &batch(folder, &set, 4, 4, 3, 2)).expect("two histories");
    let proof = say(&mut set, 6, Body::Fork(fork));
    let next = Writer { incarnation: 2, ..writer(4) };
    let verdict = |set: &StatementSet| verdict_at(set, folder, &set.heads(), next, 1, "a", 10);
    let may_go_on = |set: &StatementSet, writer| Judge::new(Arc::new(set.clone())).may_go_on(folder, writer);
    assert_eq!(verdict(&set), Err(VoidEntry::Suspended(proof.id())));
    let reinstate = |writer| Body::Reinstate(Reinstate { folder, writer });
    say(&mut set, 4, reinstate(writer(4)));
    say(&mut set, 1, reinstate(writer(5)));
    assert_eq!(verdict(&set), Err(VoidEntry::Suspended(proof.id())));
    assert!(!may_go_on(&set, next));
    let waiting = |set: &StatementSet| Judge::new(Arc::new(set.clone())).not_reinstated(folder);
    assert_eq!(waiting(&set), [writer(4)].into());
    let mut apart = set.clone();
    say(&mut set, 1, reinstate(writer(4)));
    assert_eq!(verdict(&set), Ok(()));
    assert!(waiting(&set).is_empty());
    // Another proof, by who did not have the first one's end of it yet, takes nothing back.
    let again = Fork::of(&batch(folder, &set, 4, 4, 3, 1), &batch(folder, &set, 4, 4, 3, 3)).expect("two histories");
    let again = say(&mut apart, 5, Body::Fork(again));
    set.insert(again).expect("fits");
    assert_eq!(verdict(&set), Ok(()));
    assert!(waiting(&set).is_empty());
    assert!(may_go_on(&set, next) && !may_go_on(&set, writer(4)), "the forked log itself is over");
}

#[test]
fn a_freeze_too_wide_for_one_statement_is_continued_by_an_equal_one() {
    let (base, folder, heads) = shared();
    let lowering = grant(folder, Subject::Everyone, "", Level::Read);
    let mut set = base.clone();
    let first = say_knowing(&mut set, 1, lowering.clone(), folder, &[(4, 5)]);
    assert_eq!(verdict(&set, folder, &heads, 5, 5), Err(VoidEntry::Frozen(first.id())));
    let mut apart = set.clone();
    say_knowing(&mut set, 1, lowering.clone(), folder, &[(5, 5)]);
    assert_eq!(verdict(&set, folder, &heads, 4, 5), Ok(()));
    assert_eq!(verdict(&set, folder, &heads, 5, 5), Ok(()));
    assert_eq!(verdict(&set, folder, &heads, 5, 6), Err(VoidEntry::Frozen(first.id())));
    say_knowing(&mut apart, 2, lowering, folder, &[(5, 5)]);
    assert_eq!(verdict(&apart, folder, &heads, 5, 5), Err(VoidEntry::Frozen(first.id())), "of another issuer");
}

#[test]
fn a_lowering_statement_names_the_logs_of_those_it_lowers() {
    let (mut set, one, _) = shared();
    let two = folder(&mut set, 2);
    let policy = evaluate(&set);
    let mut all = Vec::new();
    for folder in [one, two] {
        all.push(FolderFrontier::holds(folder));
        all.extend([known(folder, 4, 5), known(folder, 5, 6)]);
    }
    let named = |body: &Body| -> BTreeMap<FolderId, usize> {
        let mut count = BTreeMap::new();
        for f in freeze_frontiers(&policy, body, &all).iter().flat_map(|list| list.iter()) {
            *count.entry(f.folder).or_default() += 1;
        }
        count
    };
    assert_eq!(named(&expel(4)), BTreeMap::from([(one, 2), (two, 2)]));
    assert_eq!(named(&grant(one, Subject::Node(node(4)), "", Level::None)), BTreeMap::from([(one, 2)]));
    assert_eq!(named(&grant(one, Subject::Everyone, "", Level::None)), BTreeMap::from([(one, 3)]));
    assert_eq!(named(&Body::SetRole(SetRole { node: node(2), role: Role::Member })), BTreeMap::new());
    let many: Vec<FolderFrontier> = (0..1500)
        .map(|n| {
            let frontier = Frontier { writer: Writer { node: node(4), incarnation: n }, seq: 1, batch: hash(1) };
            FolderFrontier { folder: one, frontier }
        })
        .collect();
    let lists: Vec<usize> = freeze_frontiers(&policy, &expel(4), &many).iter().map(|list| list.len()).collect();
    assert_eq!(lists, [1024, 476]);
}

#[test]
fn a_stolen_founders_machine_that_expels_everyone_is_out_and_what_it_did_carries_nobody() {
    let (base, folder, heads) = shared();
    let (mut stolen, mut two, mut three) = (base.clone(), base.clone(), base.clone());
    for n in 2..=6 {
        say_knowing(&mut stolen, 1, expel(n), folder, &[]);
    }
    say(
        &mut stolen,
        1,
        Body::Admit(crate::wire::statement::Admit { node: node(7), name: name("x"), role: Role::Admin }),
    );
    say_knowing(&mut two, 2, expel(1), folder, &[(1, 5)]);
    say_knowing(&mut three, 3, expel(1), folder, &[(1, 5)]);
    let set = union(&[&stolen, &two, &three]);
    let policy = evaluate(&set);
    assert!(policy.was_expelled(node(1)) && !policy.is_member(node(7)));
    for n in 2..=6 {
        assert!(policy.is_member(node(n)));
        assert_eq!(verdict(&set, folder, &heads, n, 6), Ok(()));
    }
    assert!(matches!(verdict(&set, folder, &heads, 1, 6), Err(VoidEntry::Frozen(_))));
    assert!(matches!(verdict(&set, folder, &stolen.heads(), 1, 6), Err(VoidEntry::Frozen(_))));
    assert_eq!(verdict(&set, folder, &stolen.heads(), 7, 1), Err(VoidEntry::NotPermitted(node(7))));
    assert_eq!(verdict(&set, folder, &heads, 1, 5), Ok(()));
}
