//! Pairing under every order of messages, with loss, duplication, delay, relays, expiry, crashes and guesses.
//!
//! The world: one inviter with one invitation, joiner 0 who knows the code, joiner 1 who guesses (or knows it too). The
//! machines are the product's; only the key exchange is symbolic: a key is the hash of secret and both messages.
//!
//! A message that was sent stays in the network and may be delivered any number of times, on its own channel or, by a
//! relay, on another one; not delivering it is its loss. In the lossless world each is delivered once, in any order.
//!
//! That the checker can find bugs is shown by planted ones: see `Plant`.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use ed25519_dalek::SigningKey;
use lanyard::base::{DiscoveryKey, Hlc, MeshId, NodeId, Role};
use lanyard::logic::pairing::{
    Admitting, Binding, Invitation, InvitationState, Inviter, InviterOutput, Joiner, JoinerOutput, JoinerStart, Pake,
    Secret, Side, admission_statements,
};
use lanyard::logic::policy::{StatementSet, draft, evaluate, found, plan_admission};
use lanyard::wire::codec::List;
use lanyard::wire::pairing::{Admission, Message};
use lanyard::wire::statement::{Found, Name};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// The exchange as its designers mean it: whoever has the secret and both messages has the key, nobody else.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Symbolic;

impl Pake for Symbolic {
    fn message(side: Side, _: &Secret, seed: &Secret) -> Vec<u8> {
        let mut message = vec![if side == Side::Joiner { 0x41 } else { 0x42 }];
        message.extend_from_slice(&seed.0);
        message
    }

    fn key(side: Side, secret: &Secret, seed: &Secret, theirs: &[u8]) -> Option<[u8; 32]> {
        let ours = Self::message(side, secret, seed);
        let (a, b) = if side == Side::Joiner { (&ours[..], theirs) } else { (theirs, &ours[..]) };
        let fits = a.first() == Some(&0x41) && b.first() == Some(&0x42);
        fits.then(|| *blake3::hash(&[&secret.0, a, b].concat()).as_bytes())
    }
}

/// A planted bug: an exchange whose key does not depend on the secret.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Broken;

impl Pake for Broken {
    fn message(side: Side, secret: &Secret, seed: &Secret) -> Vec<u8> {
        Symbolic::message(side, secret, seed)
    }

    fn key(side: Side, _: &Secret, seed: &Secret, theirs: &[u8]) -> Option<[u8; 32]> {
        Symbolic::key(side, &Secret([0; 32]), seed, theirs)
    }
}

/// A bug that the world gives its inviter or its joiners.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Plant {
    Nothing,
    /// A wrong guess leaves the invitation open.
    StaysOpenAfterAGuess,
    /// An admission leaves the invitation open.
    StaysOpenAfterUse,
    /// The inviter's clock stands still.
    NeverExpires,
    /// A message is lost although the world is lossless.
    LosesTheReply,
}

/// What can happen to messages and joiners.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Network {
    /// Each message is delivered once, in any order.
    Lossless,
    /// Messages are lost, doubled and late; joiner 0 may crash once and come back; the invitation may end.
    Lossy,
    /// The same, and messages are passed on over the other joiner's channel too.
    Relayed,
}

const NUMBER: u16 = 4;
const EXPIRES_MS: u64 = 1000;
const JOINERS: usize = 2;

struct World<P> {
    plant: Plant,
    /// Joiner 1 guesses; else it knows the code.
    guesser: bool,
    network: Network,
    admissions: Vec<Admission>,
    pake: PhantomData<fn() -> P>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State<P: Pake> {
    inviter: Inviter<P>,
    joiners: [Process<P>; JOINERS],
    network: BTreeSet<Packet>,
    expired: bool,
    /// Whom the inviter signed an admission for, in order.
    admitted: Vec<usize>,
    guessed: bool,
    admitted_after_guess: bool,
    admitted_after_expiry: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Process<P: Pake> {
    machine: Option<Joiner<P>>,
    attempts: u8,
    /// What it has stored: it is a member.
    joined: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Packet {
    channel: Channel,
    to_inviter: bool,
    bytes: Vec<u8>,
}

/// One connection of one joiner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Channel {
    joiner: usize,
    attempt: u8,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Action {
    Start(usize),
    Deliver(Packet),
    /// Somebody passes a packet on over another joiner's current channel.
    Relay(Packet, Channel),
    Crash(usize),
    Expire,
}

fn key(n: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(n).expect("few") + 1; 32])
}

fn node(n: usize) -> NodeId {
    NodeId(key(n).verifying_key().to_bytes())
}

fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

/// What the node of the inviter would sign for each joiner; the same every time, so it is made once.
fn admissions() -> Vec<Admission> {
    let hlc = Hlc { ms: 1, count: 0 };
    let body = Found { name: name("o"), node_name: name("i"), nonce: [0; 16], recovery: node(9) };
    let first = found(body, &key(8), hlc);
    let sign = |joiner: usize| {
        let mut set = StatementSet::new(MeshId(first.id().0));
        set.insert(first.clone()).expect("founding");
        let bodies = plan_admission(&evaluate(&set), node(8), node(joiner), "j", Role::Member, &[]).expect("an admin");
        for body in bodies {
            set.insert(draft(&set, &key(8), hlc, body, List::default())).expect("its own");
        }
        Admission {
            mac: [0; 32],
            inviter: node(8),
            mesh: set.mesh(),
            discovery: DiscoveryKey([5; 32]),
            statements: admission_statements(&set, &[]),
            addresses: List::default(),
        }
    };
    (0..JOINERS).map(sign).collect()
}

impl<P: Pake> World<P> {
    fn new(plant: Plant, guesser: bool, network: Network) -> Self {
        Self { plant, guesser, network, admissions: admissions(), pake: PhantomData }
    }

    fn secret(&self, joiner: usize) -> Secret {
        Secret([if joiner == 1 && self.guesser { 8 } else { 7 }; 32])
    }

    fn binding(channel: Channel) -> Binding {
        let mut binding = [0; 32];
        binding[0] = u8::try_from(channel.joiner).expect("few") + 1;
        binding[1] = channel.attempt;
        Binding(binding)
    }

    fn now(&self, state: &State<P>) -> u64 {
        if state.expired && self.plant != Plant::NeverExpires { EXPIRES_MS } else { 0 }
    }

    fn start(&self, state: &mut State<P>, joiner: usize) {
        let process = &mut state.joiners[joiner];
        process.attempts += 1;
        let channel = Channel { joiner, attempt: process.attempts };
        let mut seed = [9; 32];
        seed[0] = u8::try_from(joiner).expect("few");
        seed[1] = process.attempts;
        let start = JoinerStart {
            number: NUMBER,
            secret: self.secret(joiner),
            me: node(joiner),
            name: name("j"),
            binding: Self::binding(channel),
            seed: Secret(seed),
        };
        let mut out = Vec::new();
        process.machine = Some(Joiner::start(start, &mut out));
        self.joiner_outputs(state, channel, out);
    }

    fn deliver(&self, state: &mut State<P>, packet: &Packet, over: Channel) {
        let message = Message::decode(&packet.bytes).expect("what was sent");
        if packet.to_inviter {
            self.to_inviter(state, message, over);
        } else if state.joiners[over.joiner].attempts == over.attempt
            && let Some(mut machine) = state.joiners[over.joiner].machine.take()
        {
            let mut out = Vec::new();
            let result = machine.handle(message, &mut out);
            // A process that is done or has failed closes its channel.
            state.joiners[over.joiner].machine = (result.is_ok() && !machine.has_ended()).then_some(machine);
            self.joiner_outputs(state, over, out);
        }
    }

    fn to_inviter(&self, state: &mut State<P>, message: Message, over: Channel) {
        let now = self.now(state);
        let binding = Self::binding(over);
        let before = state.inviter.clone();
        let mut out = Vec::new();
        match message {
            Message::Start(start) => {
                let mut seed = [3; 32];
                seed[0] = u8::try_from(over.joiner).expect("few");
                seed[1] = over.attempt;
                state.inviter.handle_start(now, binding, node(over.joiner), &start, Secret(seed), &mut out);
            }
            Message::Confirm(confirm) => state.inviter.handle_confirm(now, binding, &confirm, &mut out),
            _ => return,
        }
        if state.inviter.state() == InvitationState::WrongCode && before.state() == InvitationState::Open {
            state.guessed = true;
            if self.plant == Plant::StaysOpenAfterAGuess {
                state.inviter = before.clone();
            }
        }
        let admitting: Option<Admitting> = out.iter().find_map(|output| match output {
            InviterOutput::Admit(admitting) => Some(admitting.clone()),
            _ => None,
        });
        if let Some(admitting) = admitting {
            let joiner = (0..JOINERS).find(|at| node(*at) == admitting.joiner).expect("one of ours");
            state.admitted.push(joiner);
            state.admitted_after_guess |= state.guessed;
            state.admitted_after_expiry |= state.expired;
            state.inviter.admit(admitting.to, self.admissions[joiner].clone(), &mut out);
            if self.plant == Plant::StaysOpenAfterUse {
                state.inviter = before;
            }
        }
        for output in out {
            if let InviterOutput::Send(to, message) = output {
                let channel = if to == binding { Some(over) } else { Self::channel_of(state, to) };
                let lost = self.plant == Plant::LosesTheReply && matches!(message, Message::Reply(_));
                if let Some(channel) = channel
                    && !lost
                {
                    state.network.insert(Packet { channel, to_inviter: false, bytes: message.encode() });
                }
            }
        }
    }

    fn channel_of(state: &State<P>, binding: Binding) -> Option<Channel> {
        (0..JOINERS)
            .map(|joiner| Channel { joiner, attempt: state.joiners[joiner].attempts })
            .find(|channel| Self::binding(*channel) == binding)
    }

    fn joiner_outputs(&self, state: &mut State<P>, channel: Channel, out: Vec<JoinerOutput>) {
        for output in out {
            match output {
                // The inviter has nothing to do on it.
                JoinerOutput::Send(Message::Done) => {}
                JoinerOutput::Send(message) => {
                    state.network.insert(Packet { channel, to_inviter: true, bytes: message.encode() });
                }
                JoinerOutput::Store(_) => state.joiners[channel.joiner].joined = true,
            }
        }
    }
}

impl<P: Pake + 'static> Model for World<P> {
    type State = State<P>;
    type Action = Action;

    fn init_states(&self) -> Vec<State<P>> {
        let invitation = Invitation {
            number: NUMBER,
            secret: self.secret(0),
            role: Role::Member,
            folders: Vec::new(),
            expires_at_ms: EXPIRES_MS,
        };
        let process = Process { machine: None, attempts: 0, joined: false };
        vec![State {
            inviter: Inviter::open(invitation),
            joiners: [process.clone(), process],
            network: BTreeSet::new(),
            expired: false,
            admitted: Vec::new(),
            guessed: false,
            admitted_after_guess: false,
            admitted_after_expiry: false,
        }]
    }

    fn actions(&self, state: &State<P>, actions: &mut Vec<Action>) {
        for (joiner, process) in state.joiners.iter().enumerate() {
            // Joiner 1 tries once; joiner 0 may come back after a crash.
            let may_try = if joiner == 0 && self.network != Network::Lossless { 2 } else { 1 };
            if process.machine.is_none() && !process.joined && process.attempts < may_try {
                actions.push(Action::Start(joiner));
            }
            if self.network != Network::Lossless && joiner == 0 && process.machine.is_some() && process.attempts == 1 {
                actions.push(Action::Crash(joiner));
            }
        }
        for packet in &state.network {
            actions.push(Action::Deliver(packet.clone()));
            let relays = self.network == Network::Relayed;
            for joiner in (0..JOINERS).filter(|joiner| relays && *joiner != packet.channel.joiner) {
                let channel = Channel { joiner, attempt: state.joiners[joiner].attempts };
                if channel.attempt > 0 {
                    actions.push(Action::Relay(packet.clone(), channel));
                }
            }
        }
        if self.network != Network::Lossless && !state.expired {
            actions.push(Action::Expire);
        }
    }

    fn next_state(&self, last: &State<P>, action: Action) -> Option<State<P>> {
        let mut state = last.clone();
        match action {
            Action::Start(joiner) => self.start(&mut state, joiner),
            Action::Deliver(packet) => {
                if self.network == Network::Lossless {
                    state.network.remove(&packet);
                }
                let channel = packet.channel;
                self.deliver(&mut state, &packet, channel);
            }
            Action::Relay(packet, channel) => self.deliver(&mut state, &packet, channel),
            Action::Crash(joiner) => state.joiners[joiner].machine = None,
            Action::Expire => state.expired = true,
        }
        // What nobody can take any more is not worth a state of its own.
        let State { network, joiners, .. } = &mut state;
        network.retain(|packet| {
            let process = &joiners[packet.channel.joiner];
            packet.to_inviter || (process.machine.is_some() && process.attempts == packet.channel.attempt)
        });
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("an invitation admits at most once", |_, state: &State<P>| state.admitted.len() <= 1),
            Property::always("nobody is admitted without the right code", |world: &Self, state: &State<P>| {
                !world.guesser || (!state.admitted.contains(&1) && !state.joiners[1].joined)
            }),
            Property::always("after a wrong guess nobody is admitted", |_, state: &State<P>| {
                !state.admitted_after_guess
            }),
            Property::always("after its end nobody is admitted", |_, state: &State<P>| !state.admitted_after_expiry),
            Property::always("who joined was admitted", |_, state: &State<P>| {
                (0..JOINERS).all(|at| !state.joiners[at].joined || state.admitted.contains(&at))
            }),
            Property::always(
                "no honest proof is taken for a guess on its own channel",
                |world: &Self, state: &State<P>| world.guesser || world.network == Network::Relayed || !state.guessed,
            ),
            Property::sometimes("somebody joins", |_, state: &State<P>| {
                state.joiners.iter().any(|process| process.joined)
            }),
        ];
        if self.network == Network::Lossless {
            properties.push(Property::eventually("when nothing is lost, one joins", |_, state: &State<P>| {
                state.joiners.iter().filter(|process| process.joined).count() == 1
            }));
        }
        properties
    }
}

/// Checks a world; returns the violated properties, and how many states were seen.
fn check<P: Pake + Send + Sync + 'static>(what: &str, world: World<P>, finish: HasDiscoveries) -> Vec<&'static str> {
    let names: Vec<(&'static str, bool)> = world
        .properties()
        .iter()
        .map(|property| (property.name, property.expectation == stateright::Expectation::Sometimes))
        .collect();
    let checker = world.checker().threads(2).finish_when(finish).spawn_bfs().join();
    println!("{what}: {} states explored, {} unique", checker.state_count(), checker.unique_state_count());
    let discoveries = checker.discoveries();
    // A discovery is a counterexample, but an example for what should sometimes be.
    let violated = names.into_iter().filter(|(name, sometimes)| discoveries.contains_key(name) != *sometimes);
    violated.map(|(name, _)| name).collect()
}

fn sound<P: Pake + Send + Sync + 'static>(what: &str, world: World<P>) {
    assert_eq!(check(what, world, HasDiscoveries::AllOf(BTreeSet::from(["never"]))), Vec::<&str>::new(), "{what}");
}

fn finds<P: Pake + Send + Sync + 'static>(what: &str, world: World<P>, violated: &'static str) {
    let found = check(what, world, HasDiscoveries::AllOf(BTreeSet::from([violated])));
    assert!(found.contains(&violated), "{what}: found {found:?}");
}

#[test]
fn one_who_knows_and_one_who_guesses_over_a_lossy_network() {
    sound("guesser, lossy", World::<Symbolic>::new(Plant::Nothing, true, Network::Lossy));
}

#[test]
fn one_who_knows_and_one_who_guesses_and_relays() {
    sound("guesser, relayed", World::<Symbolic>::new(Plant::Nothing, true, Network::Relayed));
}

#[test]
fn two_who_know_the_code_over_a_lossy_network() {
    sound("two who know, lossy", World::<Symbolic>::new(Plant::Nothing, false, Network::Lossy));
}

#[test]
fn when_nothing_is_lost_one_of_two_who_know_joins() {
    sound("two who know, lossless", World::<Symbolic>::new(Plant::Nothing, false, Network::Lossless));
}

#[test]
fn an_invitation_that_survives_a_wrong_guess_is_found() {
    let world = World::<Symbolic>::new(Plant::StaysOpenAfterAGuess, true, Network::Lossy);
    finds("planted: open after a guess", world, "after a wrong guess nobody is admitted");
}

#[test]
fn an_invitation_that_survives_its_use_is_found() {
    let world = World::<Symbolic>::new(Plant::StaysOpenAfterUse, false, Network::Lossy);
    finds("planted: open after use", world, "an invitation admits at most once");
}

#[test]
fn an_invitation_that_never_ends_is_found() {
    let world = World::<Symbolic>::new(Plant::NeverExpires, true, Network::Lossy);
    finds("planted: never expires", world, "after its end nobody is admitted");
}

#[test]
fn an_exchange_without_its_secret_is_found() {
    let world = World::<Broken>::new(Plant::Nothing, true, Network::Lossy);
    finds("planted: exchange ignores the code", world, "nobody is admitted without the right code");
}

#[test]
fn a_lost_message_is_found() {
    let world = World::<Symbolic>::new(Plant::LosesTheReply, false, Network::Lossless);
    finds("planted: reply lost", world, "when nothing is lost, one joins");
}
