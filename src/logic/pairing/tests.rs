//! Pairing with the real exchange: what fits, and all that must not.

use ed25519_dalek::SigningKey;

use super::*;
use crate::base::{DiscoveryKey, Hlc, MeshId, Role};
use crate::logic::policy::{StatementSet, draft, evaluate, found, plan_admission};
use crate::wire::codec::{List, Text};
use crate::wire::pairing::{Confirm, Message, Refusal, Start};
use crate::wire::statement::{Body, Expel, Found, Name};

const HERE: Binding = Binding([1; 32]);
const THERE: Binding = Binding([2; 32]);

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn node(n: u8) -> NodeId {
    NodeId(key(n).verifying_key().to_bytes())
}

fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

fn hlc() -> Hlc {
    Hlc { ms: 1, count: 0 }
}

/// The mesh that node 1 founded.
fn office() -> StatementSet {
    let body = Found { name: name("office"), node_name: name("front"), nonce: [0; 16], recovery: node(99) };
    let first = found(body, &key(1), hlc());
    let mut set = StatementSet::new(MeshId(first.id().0));
    set.insert(first).expect("founding");
    set
}

fn invite() -> Inviter {
    Inviter::open(Invitation {
        number: 4,
        secret: Secret([7; 32]),
        role: Role::Member,
        folders: Vec::new(),
        expires_at_ms: 1000,
    })
}

fn join(secret: u8, who: u8, binding: Binding) -> (Joiner, Start) {
    let mut out = Vec::new();
    let start = JoinerStart {
        number: 4,
        secret: Secret([secret; 32]),
        me: node(who),
        name: name("new"),
        binding,
        seed: Secret([who; 32]),
    };
    let joiner = Joiner::start(start, &mut out);
    let [JoinerOutput::Send(Message::Start(start))] = &out[..] else { panic!("one start: {out:?}") };
    (joiner, start.clone())
}

/// Signs what admits the joiner, as the node does on `InviterOutput::Admit`.
fn admission(set: &mut StatementSet, admitting: &Admitting) -> Admission {
    let bodies =
        plan_admission(&evaluate(set), node(1), admitting.joiner, &admitting.name, admitting.role, &admitting.folders)
            .expect("node 1 is an admin");
    let mut own = Vec::new();
    for body in bodies {
        let statement = draft(set, &key(1), hlc(), body, List::default());
        own.push(statement.id());
        set.insert(statement).expect("its own");
    }
    Admission {
        mac: [0; 32],
        inviter: node(1),
        mesh: set.mesh(),
        discovery: DiscoveryKey([5; 32]),
        statements: admission_statements(set, &own),
        addresses: List::new(vec![Text::new("10.0.0.2:47474").expect("short")]).expect("one"),
    }
}

fn sent(out: &mut Vec<InviterOutput>, to: Binding) -> Message {
    let mut messages: Vec<Message> = out
        .drain(..)
        .filter_map(|output| match output {
            InviterOutput::Send(binding, message) if binding == to => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

/// Start and reply on one channel; returns the joiner's confirmation.
fn until_confirm(inviter: &mut Inviter, joiner: &mut Joiner, start: &Start, binding: Binding, seed: u8) -> Confirm {
    let mut out = Vec::new();
    inviter.handle_start(0, binding, start.joiner, start, Secret([seed; 32]), &mut out);
    let mut joined = Vec::new();
    joiner.handle(sent(&mut out, binding), &mut joined).expect("a reply");
    let [JoinerOutput::Send(Message::Confirm(confirm))] = &joined[..] else { panic!("one confirm: {joined:?}") };
    confirm.clone()
}

fn admitting(out: &[InviterOutput]) -> Option<Admitting> {
    out.iter().find_map(|output| match output {
        InviterOutput::Admit(admitting) => Some(admitting.clone()),
        _ => None,
    })
}

fn refusal(out: &[InviterOutput], to: Binding) -> Option<Refusal> {
    out.iter().find_map(|output| match output {
        InviterOutput::Send(binding, Message::Refused(why)) if *binding == to => Some(*why),
        _ => None,
    })
}

#[test]
fn the_right_code_makes_a_member() {
    let (mut inviter, mut set) = (invite(), office());
    let (mut joiner, start) = join(7, 2, HERE);
    let confirm = until_confirm(&mut inviter, &mut joiner, &start, HERE, 50);
    let mut out = Vec::new();
    inviter.handle_confirm(0, HERE, &confirm, &mut out);
    let wanted = admitting(&out).expect("admitted");
    assert_eq!((wanted.joiner, wanted.name.as_str()), (node(2), "new"));
    out.clear();
    inviter.admit(HERE, admission(&mut set, &wanted), &mut out);
    let mut end = Vec::new();
    joiner.handle(sent(&mut out, HERE), &mut end).expect("admitted");
    let [JoinerOutput::Store(joined), JoinerOutput::Send(Message::Done)] = &end[..] else { panic!("{end:?}") };
    assert_eq!((joined.inviter, joined.mesh, joined.complete), (node(1), set.mesh(), true));
    assert!(evaluate(&set).is_member(node(2)));
    assert_eq!(inviter.state(), InvitationState::Used(node(2)));
}

#[test]
fn a_wrong_code_voids_the_invitation_for_the_right_one_too() {
    let mut inviter = invite();
    let (mut wrong, wrong_start) = join(8, 3, HERE);
    let (mut right, right_start) = join(7, 2, THERE);
    let guess = until_confirm(&mut inviter, &mut wrong, &wrong_start, HERE, 50);
    let good = until_confirm(&mut inviter, &mut right, &right_start, THERE, 51);
    let mut out = Vec::new();
    inviter.handle_confirm(0, HERE, &guess, &mut out);
    assert_eq!(refusal(&out, HERE), Some(Refusal::WrongCode));
    assert_eq!(refusal(&out, THERE), Some(Refusal::NoInvitation));
    inviter.handle_confirm(0, THERE, &good, &mut out);
    assert_eq!(admitting(&out), None);
    assert_eq!(inviter.state(), InvitationState::WrongCode);
    assert_eq!(
        wrong.handle(Message::Refused(Refusal::WrongCode), &mut Vec::new()),
        Err(JoinError::WrongCode),
        "the person is told what to do"
    );
}

#[test]
fn a_man_in_the_middle_who_relays_gets_nothing() {
    // He ends the joiner's channel (HERE) and opens one of his own (THERE), and passes every message on.
    let mut inviter = invite();
    let (mut joiner, start) = join(7, 2, HERE);
    let mut out = Vec::new();
    inviter.handle_start(0, THERE, node(66), &start, Secret([50; 32]), &mut out);
    assert_eq!(refusal(&out, THERE), Some(Refusal::Failed), "his TLS key is not the joiner's");
    // He says that he is the joiner instead.
    out.clear();
    let renamed = Start { joiner: node(66), ..start };
    inviter.handle_start(0, THERE, node(66), &renamed, Secret([51; 32]), &mut out);
    let mut joined = Vec::new();
    joiner.handle(sent(&mut out, THERE), &mut joined).expect("a reply");
    let [JoinerOutput::Send(Message::Confirm(confirm))] = &joined[..] else { panic!("{joined:?}") };
    inviter.handle_confirm(0, THERE, confirm, &mut out);
    assert_eq!(admitting(&out), None);
    assert_eq!(refusal(&out, THERE), Some(Refusal::WrongCode));
    assert_eq!(inviter.state(), InvitationState::WrongCode);
}

#[test]
fn the_channel_alone_tells_a_relay_apart() {
    let mut inviter = invite();
    let (mut joiner, start) = join(7, 2, HERE);
    let confirm = until_confirm(&mut inviter, &mut joiner, &start, THERE, 50);
    let mut out = Vec::new();
    inviter.handle_confirm(0, THERE, &confirm, &mut out);
    assert_eq!(admitting(&out), None);
}

#[test]
fn a_false_inviter_learns_nothing_and_is_found_out() {
    let (mut joiner, start) = join(7, 2, HERE);
    let mut false_inviter: Inviter =
        Inviter::open(Invitation { secret: Secret([8; 32]), ..invite().invitation().clone() });
    let mut set = office();
    let confirm = until_confirm(&mut false_inviter, &mut joiner, &start, HERE, 50);
    // He cannot check the proof, so he answers as if it were right.
    let wanted = Admitting {
        to: HERE,
        joiner: node(2),
        name: confirm.name.to_string(),
        role: Role::Member,
        folders: Vec::new(),
    };
    let answer = Message::Admit(admission(&mut set, &wanted));
    assert_eq!(joiner.handle(answer, &mut Vec::new()), Err(JoinError::NotTheInviter));
    assert!(joiner.has_ended());
}

#[test]
fn an_invitation_admits_once_and_replays_get_nothing() {
    let mut inviter = invite();
    let (mut joiner, start) = join(7, 2, HERE);
    let confirm = until_confirm(&mut inviter, &mut joiner, &start, HERE, 50);
    let mut out = Vec::new();
    inviter.handle_confirm(0, HERE, &confirm, &mut out);
    assert!(admitting(&out).is_some());
    out.clear();
    inviter.handle_confirm(0, HERE, &confirm, &mut out);
    inviter.handle_start(0, THERE, node(2), &start, Secret([51; 32]), &mut out);
    assert_eq!(admitting(&out), None);
    assert_eq!(refusal(&out, THERE), Some(Refusal::NoInvitation));
}

#[test]
fn a_recorded_proof_fits_no_other_exchange() {
    let mut inviter = invite();
    let (mut joiner, start) = join(7, 2, HERE);
    let confirm = until_confirm(&mut inviter, &mut joiner, &start, HERE, 50);
    inviter.handle_closed(HERE);
    assert_eq!(inviter.state(), InvitationState::Open, "a lost channel is no guess");
    let mut out = Vec::new();
    inviter.handle_start(0, HERE, node(2), &start, Secret([51; 32]), &mut out);
    inviter.handle_confirm(0, HERE, &confirm, &mut out);
    assert_eq!(admitting(&out), None);
}

#[test]
fn an_expired_cancelled_or_unknown_invitation_is_refused() {
    let (_, start) = join(7, 2, HERE);
    let mut out = Vec::new();
    let mut late = invite();
    late.handle_start(1000, HERE, node(2), &start, Secret([50; 32]), &mut out);
    assert_eq!((refusal(&out, HERE), late.state()), (Some(Refusal::NoInvitation), InvitationState::Expired));
    let mut cancelled = invite();
    cancelled.cancel(&mut out);
    out.clear();
    cancelled.handle_start(0, HERE, node(2), &start, Secret([50; 32]), &mut out);
    assert_eq!(refusal(&out, HERE), Some(Refusal::NoInvitation));
    out.clear();
    let other = Start { number: 5, ..start };
    invite().handle_start(0, HERE, node(2), &other, Secret([50; 32]), &mut out);
    assert_eq!(refusal(&out, HERE), Some(Refusal::NoInvitation));
}

#[test]
fn a_proof_that_comes_after_the_end_is_late() {
    let mut inviter = invite();
    let (mut joiner, start) = join(7, 2, HERE);
    let confirm = until_confirm(&mut inviter, &mut joiner, &start, HERE, 50);
    let mut out = Vec::new();
    inviter.handle_confirm(1000, HERE, &confirm, &mut out);
    assert_eq!(admitting(&out), None);
    assert_eq!(inviter.state(), InvitationState::Expired);
}

#[test]
fn exchanges_under_way_are_bounded_and_cost_no_guess() {
    let mut inviter = invite();
    for n in 10..30 {
        let (_, start) = join(8, n, Binding([n; 32]));
        inviter.handle_start(0, Binding([n; 32]), node(n), &start, Secret([n; 32]), &mut Vec::new());
    }
    assert_eq!(inviter.state(), InvitationState::Open);
    let (mut joiner, start) = join(7, 2, HERE);
    let confirm = until_confirm(&mut inviter, &mut joiner, &start, HERE, 50);
    let mut out = Vec::new();
    inviter.handle_confirm(0, HERE, &confirm, &mut out);
    assert!(admitting(&out).is_some());
}

#[test]
fn garbage_for_an_exchange_message_is_a_wrong_guess_not_a_panic() {
    for bytes in [vec![], vec![0x41; 33], vec![0xff; 64], [vec![0x41], vec![0xff; 32]].concat()] {
        let mut inviter = invite();
        let start = Start { number: 4, joiner: node(2), exchange: codec::Bytes::new(bytes).expect("short") };
        let mut out = Vec::new();
        inviter.handle_start(0, HERE, node(2), &start, Secret([50; 32]), &mut out);
        inviter.handle_confirm(0, HERE, &Confirm { mac: [0; 32], name: name("x") }, &mut out);
        assert_eq!(admitting(&out), None);
        assert_eq!(inviter.state(), InvitationState::WrongCode);
    }
}

#[test]
fn a_joiner_that_crashed_after_its_admission_is_invited_again() {
    let (mut inviter, mut set) = (invite(), office());
    let (mut joiner, start) = join(7, 2, HERE);
    let confirm = until_confirm(&mut inviter, &mut joiner, &start, HERE, 50);
    let mut out = Vec::new();
    inviter.handle_confirm(0, HERE, &confirm, &mut out);
    admission(&mut set, &admitting(&out).expect("admitted"));
    let statements = set.len();
    // It never heard of it. A new invitation, a new exchange:
    let mut again = invite();
    let (mut joiner, start) = join(7, 2, THERE);
    let confirm = until_confirm(&mut again, &mut joiner, &start, THERE, 51);
    let mut out = Vec::new();
    again.handle_confirm(0, THERE, &confirm, &mut out);
    let admission = admission(&mut set, &admitting(&out).expect("admitted"));
    assert_eq!(set.len(), statements, "nothing is signed twice");
    out.clear();
    again.admit(THERE, admission, &mut out);
    joiner.handle(sent(&mut out, THERE), &mut Vec::new()).expect("joined");
}

#[test]
fn an_admission_that_does_not_add_up_is_refused() {
    let mut set = office();
    let wanted = Admitting { to: HERE, joiner: node(2), name: "new".into(), role: Role::Member, folders: Vec::new() };
    let good = admission(&mut set, &wanted);
    assert!(check_admission(good.clone(), node(2)).is_ok());
    assert_eq!(check_admission(good.clone(), node(3)), Err(JoinError::NotAdmitted));
    let member_invites = Admission { inviter: node(2), ..good.clone() };
    assert_eq!(check_admission(member_invites, node(2)), Err(JoinError::InviterNotAdmin(node(2))));
    let other_mesh = Admission { mesh: MeshId([9; 32]), ..good.clone() };
    assert!(matches!(check_admission(other_mesh, node(2)), Err(JoinError::Statement(_))));
    let none = Admission { statements: List::default(), ..good.clone() };
    assert_eq!(check_admission(none, node(2)), Err(JoinError::NoFounding));
    let expelled = draft(&set, &key(1), hlc(), Body::Expel(Expel { node: node(2) }), List::default());
    set.insert(expelled).expect("its own");
    let expelled = Admission { statements: admission_statements(&set, &[]), ..good.clone() };
    assert_eq!(check_admission(expelled, node(2)), Err(JoinError::NotAdmitted));
}

#[test]
fn a_large_mesh_hands_over_a_part_with_the_admission_in_it() {
    let mut set = office();
    for n in 0..1100 {
        let body = crate::logic::policy::plan_create_folder(&evaluate(&office()), node(1), &format!("f{n}"));
        let statement = draft(&set, &key(1), hlc(), body.expect("a founder may"), List::default());
        set.insert(statement).expect("its own");
    }
    let wanted = Admitting { to: HERE, joiner: node(2), name: "new".into(), role: Role::Member, folders: Vec::new() };
    let part = admission(&mut set, &wanted);
    assert_eq!(part.statements.len(), 1024);
    assert!(Message::Admit(part.clone()).encode().len() <= crate::wire::pairing::PAIRING_FRAME_BYTES_MAX);
    let joined = check_admission(part, node(2)).expect("its admission is in it");
    assert!(!joined.complete);
}

#[test]
fn the_exchange_and_its_proofs_never_change() {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let (secret, a, b) = (Secret([7; 32]), Secret([1; 32]), Secret([2; 32]));
    let from_joiner = Spake::message(Side::Joiner, &secret, &a);
    let from_inviter = Spake::message(Side::Inviter, &secret, &b);
    let key = Spake::key(Side::Joiner, &secret, &a, &from_inviter).expect("a key");
    assert_eq!(Spake::key(Side::Inviter, &secret, &b, &from_joiner), Some(key));
    let transcript = Transcript {
        binding: HERE,
        number: 4,
        joiner: NodeId([3; 32]),
        from_joiner: &from_joiner,
        from_inviter: &from_inviter,
    }
    .hash();
    let admission = Admission {
        mac: [9; 32],
        inviter: NodeId([4; 32]),
        mesh: MeshId([5; 32]),
        discovery: DiscoveryKey([6; 32]),
        statements: List::default(),
        addresses: List::new(vec![Text::new("10.0.0.2:47474").expect("short")]).expect("one"),
    };
    let key = SessionKey(key);
    let confirm = joiner_mac(&key, &transcript, "new");
    let admit = inviter_mac(&key, &transcript, &admission);
    let all = [from_joiner.as_slice(), &from_inviter, &key.0, &transcript, confirm.as_bytes(), admit.as_bytes()];
    assert_eq!(all.map(hex), VECTORS);
}

/// The joiner's message, the inviter's, key, transcript, both MACs; also in `docs/spec/pairing.md`.
const VECTORS: [&str; 6] = [
    "41f246141ed9d652d6d05f6d3f761fe0df7c0c7d10ac3d7b819a02013a9dda1e41",
    "42c7c7964155cb0333ae802838e68ff3d6524cff3e1d30b8af6ca92ec3d83b8f0e",
    "a7007568c43f7f6b4e7b32159e5e233d5672c1968b4ac409e54ee9e86abdf60a",
    "17a8f3e4864604562f0fd4ec4f685c88d33a6595f10d82136355e1401751b6b7",
    "3f340f9321357a5060a5b78cab2353b1cff14b6ada2f1af013c7e0723e6fc365",
    "e18fddf67eb072f0f867a92d538fa1573a335cd09a62b7d41d9a432573d3d1ec",
];
