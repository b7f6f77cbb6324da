//! Inviting and joining: carries the messages of `logic::pairing`, finds the node that shows a code.

mod handed;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use tracing::{info, warn};

pub(super) use self::handed::Handed;
use super::audit::Refusal;
use super::mesh::MeshHandle;
use super::outside::{self, Make, Reach};
use super::{Shared, inbox, lock, places, sharing, standing};
use crate::base::{FolderId, Level, NodeId, Role};
use crate::logic::pairing::{
    Binding, Invitation, InvitationState, Inviter, InviterOutput, Joined, Joiner, JoinerOutput, JoinerStart, Secret,
    admission_statements,
};
use crate::logic::policy::{evaluate, plan_admission};
use crate::shell::net::dial;
use crate::shell::net::interfaces::Selection;
use crate::shell::net::pair::PairStream;
use crate::shell::{clock, entropy, rt};
use crate::wire::announce;
use crate::wire::api::{
    self, Deed, Event, Failure, FailureKind, FolderBrief, Invite, Join, JoinStep, Merged, MeshRef, NodeRef, PathText,
    Standing, UtcTime,
};
use crate::wire::code::{CODE_NUMBER_MAX, Code, Ticket};
use crate::wire::codec::{List, Text};
use crate::wire::message::KeyInUse;
use crate::wire::pairing::{Admission, Message};
use crate::wire::statement::Name;

/// Invitations open at once: as many as a code has numbers would let a passer-by guess more often.
const OPEN_MAX: usize = 8;
/// Ended invitations whose outcome can still be asked for.
const ENDED_MAX: usize = 32;
/// Numbers that tickets are given, above those of codes.
const TICKET_NUMBERS: u16 = 9_900;
/// Longest life of an invitation: a day. A code has 22 bits and one guess, a ticket far more.
const LIFE_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// How long a joiner waits for statements beyond those of its admission: a link is up within a second.
const RULES_MS_MAX: u64 = 30_000;
/// How often it looks.
const RULES_LOOK_MS: u64 = 50;
/// How long a joiner looks for the node that shows its code.
const SEARCH_MS: u64 = 15_000;
/// After the first answer, how long it waits for a second one: two nodes with one number are an attack or an accident.
const SECOND_MS: u64 = 400;
/// Announced invitations that are remembered.
const FOUND_MAX: usize = 64;

/// The invitations of this node, and those that others announce.
#[derive(Default)]
pub(super) struct Invitations {
    open: Mutex<BTreeMap<u16, Open>>,
    ended: Mutex<Vec<(String, api::InvitationOutcome)>>,
    /// Those that the next run of the node goes on with.
    handed: Mutex<Vec<String>>,
    found: Mutex<BTreeMap<String, (announce::Invitation, Vec<SocketAddr>)>>,
}

struct Open {
    id: String,
    inviter: Inviter,
    /// Where answers for each channel go.
    streams: BTreeMap<Binding, Sender<Option<Message>>>,
    /// Dropped when the invitation ends.
    _alive: Sender<()>,
    ended: Receiver<()>,
}

impl Invitations {
    /// Another node announces an invitation.
    pub(super) fn found(&self, instance: String, invitation: announce::Invitation, addrs: Vec<SocketAddr>) {
        let mut found = lock(&self.found);
        if found.len() < FOUND_MAX || found.contains_key(&instance) {
            found.insert(instance, (invitation, addrs));
        }
    }

    /// It does so no more.
    pub(super) fn gone(&self, instance: &str) {
        lock(&self.found).remove(instance);
    }

    /// What this node has to announce: the numbers of open invitations.
    pub(super) fn announced(&self, mesh: &MeshHandle) -> Vec<announce::Invitation> {
        let Some(policy) = mesh.policy() else { return Vec::new() };
        let numbers: Vec<u16> = lock(&self.open).keys().copied().collect();
        numbers.into_iter().map(|number| announce::Invitation::new(number, policy.mesh_name())).collect()
    }

    /// Waits until an invitation has ended, and says how.
    pub(super) async fn outcome(&self, id: &str) -> Result<api::InvitationOutcome, Failure> {
        let waiting = lock(&self.open).values().find(|open| open.id == id).map(|open| open.ended.clone());
        if let Some(ended) = waiting {
            // It ends by itself at the latest when its life is over.
            let _ = ended.recv().await;
        }
        if lock(&self.handed).iter().any(|handed| handed == id) {
            return Err(Failure::new(FailureKind::Anew, "the node starts anew and goes on with its invitations"));
        }
        let outcome = lock(&self.ended).iter().find(|(known, _)| known == id).map(|(_, outcome)| outcome.clone());
        outcome.ok_or_else(|| Failure::failed("there is no such invitation any more"))
    }
}

/// Opens an invitation; founds a mesh where there is none.
pub(super) async fn invite(shared: &Arc<Shared>, ask: Invite) -> Result<api::Invitation, Failure> {
    let _one = shared.changing.lock().await;
    standing::must_belong(shared)?;
    let founded = sharing::found_if_none(shared)?;
    let policy = shared.mesh.need_policy()?;
    let me = shared.mesh.node();
    if !policy.is_admin(me) {
        let admins: Vec<String> = policy.admins().into_iter().map(|node| shared.name_of(node)).collect();
        return Err(Failure::refused("only an admin can invite").hint(format!("ask an admin: {}", admins.join(", "))));
    }
    if ask.expires_ms == 0 || ask.expires_ms > LIFE_MS_MAX {
        return Err(Failure::usage("an invitation lasts up to 24 hours"));
    }
    let mut granted: Vec<(FolderId, Level)> = Vec::new();
    for one in &ask.folders {
        granted.push((standing::find_folder(shared, &one.folder)?, one.level));
    }
    let briefs: Vec<FolderBrief> = granted
        .iter()
        .filter_map(|(folder, level)| {
            let brief = standing::brief(shared, &policy, *folder, me)?;
            Some(FolderBrief { level: *level, path: None, ..brief })
        })
        .collect();
    let now = clock::wall_ms();
    let expires_at_ms = now + ask.expires_ms;
    let office = policy.mesh_name().to_string();
    let opened = open_one(shared, &ask, granted, &office, expires_at_ms)?;
    let Opened { id, number, code, ticket } = opened;
    end_in_time(shared, number, expires_at_ms);
    let _ = shared.to_loop.send(inbox::Event::Invitations).await;
    Ok(api::Invitation {
        id,
        code,
        ticket,
        expires_at: UtcTime::from_ms(expires_at_ms),
        role: ask.role,
        folders: briefs,
        mesh: standing::mesh_ref(&policy),
        founded,
    })
}

/// Ends an invitation when its time is over.
fn end_in_time(shared: &Arc<Shared>, number: u16, expires_at_ms: u64) {
    let later = shared.clone();
    rt::spawn(async move {
        rt::sleep(Duration::from_millis(expires_at_ms.saturating_sub(clock::wall_ms()))).await;
        let outputs =
            with(&later, number, |inviter, out| inviter.handle_time(clock::wall_ms().max(expires_at_ms), out));
        act(&later, number, outputs);
    });
}

struct Opened {
    id: String,
    number: u16,
    code: Option<String>,
    ticket: Option<String>,
}

/// Opens an invitation under a free number.
fn open_one(
    shared: &Shared,
    ask: &Invite,
    granted: Vec<(FolderId, Level)>,
    office: &str,
    expires_at_ms: u64,
) -> Result<Opened, Failure> {
    let mut open = lock(&shared.invitations.open);
    if open.len() >= OPEN_MAX {
        return Err(Failure::failed(format!("{OPEN_MAX} invitations are open already"))
            .hint("wait until they are used or expire"));
    }
    // A random start: two inviting machines, or an invitation and the one before it, rarely have the same number.
    // Tickets have numbers of their own, so that no code is ever tried on them.
    let (least, count) = if ask.ticket { (CODE_NUMBER_MAX + 1, TICKET_NUMBERS) } else { (1, CODE_NUMBER_MAX) };
    let start = u16::from_be_bytes(entropy::bytes()) % count;
    let number = (0..count)
        .map(|step| least + (start + step) % count)
        .find(|number| !open.contains_key(number))
        .ok_or_else(|| Failure::failed("no number is free"))?;
    let seed: [u8; 32] = entropy::bytes();
    let (code, ticket, secret) = if ask.ticket {
        let ticket = Ticket {
            number,
            secret: seed,
            addresses: List::truncated(own_addresses(shared)),
            office: Name::truncated(office),
            expires_at_ms,
        };
        (None, Some(ticket.to_text()), seed)
    } else {
        let code = Code::from_seed(number, &seed).ok_or_else(|| Failure::failed("no number is free"))?;
        (Some(code.to_string()), None, code.secret())
    };
    let id = data_encoding::HEXLOWER.encode(&entropy::bytes::<8>());
    let inviter =
        Inviter::open(Invitation { number, secret: Secret(secret), role: ask.role, folders: granted, expires_at_ms });
    let (alive, ended) = async_channel::bounded(1);
    open.insert(number, Open { id: id.clone(), inviter, streams: BTreeMap::new(), _alive: alive, ended });
    Ok(Opened { id, number, code, ticket })
}

fn own_addresses(shared: &Shared) -> Vec<Text<64>> {
    let selection = Selection { loopback: shared.config.discovery.loopback, ..Selection::default() };
    let addresses = selection.addresses().unwrap_or_default();
    addresses.into_iter().map(|ip| Text::truncated(&SocketAddr::new(ip, shared.port).to_string())).collect()
}

/// Runs one step of an inviter; returns what it wants done.
fn with(shared: &Shared, number: u16, step: impl FnOnce(&mut Inviter, &mut Vec<InviterOutput>)) -> Vec<InviterOutput> {
    let mut out = Vec::new();
    if let Some(open) = lock(&shared.invitations.open).get_mut(&number) {
        step(&mut open.inviter, &mut out);
    }
    out
}

/// Carries out what an inviter decided, in order.
fn act(shared: &Arc<Shared>, number: u16, outputs: Vec<InviterOutput>) {
    for output in outputs {
        match output {
            InviterOutput::Send(to, message) => deliver(shared, number, to, Some(message)),
            InviterOutput::Close(to) => deliver(shared, number, to, None),
            InviterOutput::Admit(admitting) => {
                let to = admitting.to;
                let admitted = admit(shared, &admitting);
                let outputs = with(shared, number, |inviter, out| match admitted {
                    Ok(admission) => inviter.admit(to, admission, out),
                    Err(failure) => {
                        warn!(why = ?failure.why, "{}", failure.what);
                        inviter.fail(to, out);
                    }
                });
                act(shared, number, outputs);
                finish(shared, number);
            }
            InviterOutput::Ended(state) => ended(shared, number, state),
        }
    }
}

fn deliver(shared: &Shared, number: u16, to: Binding, message: Option<Message>) {
    if let Some(open) = lock(&shared.invitations.open).get(&number)
        && let Some(stream) = open.streams.get(&to)
    {
        // A stream that is gone has taken its joiner with it.
        let _ = stream.try_send(message);
    }
}

/// Signs the admission of a joiner that has proven the code.
fn admit(shared: &Arc<Shared>, admitting: &crate::logic::pairing::Admitting) -> Result<Admission, Failure> {
    let me = shared.mesh.node();
    let ids = shared.mesh.sign(|policy| {
        let name = free_name(policy, &admitting.name, admitting.joiner);
        plan_admission(policy, me, admitting.joiner, &name, admitting.role, &admitting.folders)
            .map_err(|error| standing::refused(&error))
    })?;
    let (mesh, key, statements) = shared
        .mesh
        .admission(|set| admission_statements(set, &ids))
        .ok_or_else(|| Failure::failed("the mesh has ended meanwhile"))?;
    info!(node = %admitting.joiner.short(), name = %admitting.name, "admitted");
    Ok(Admission {
        mac: [0; 32],
        inviter: me,
        mesh,
        discovery: key.key,
        statements,
        addresses: List::truncated(own_addresses(shared)),
    })
}

/// Two members with one name would be hard to tell apart.
fn free_name(policy: &crate::logic::policy::Policy, wanted: &str, node: NodeId) -> String {
    let taken = |name: &str| policy.members().any(|(other, member)| other != node && member.name == name);
    let wanted = if wanted.trim().is_empty() { "node" } else { wanted.trim() };
    let numbered = (2..1000).map(|n| format!("{wanted}-{n}"));
    std::iter::once(wanted.to_string()).chain(numbered).find(|name| !taken(name)).unwrap_or_else(|| wanted.to_string())
}

fn ended(shared: &Arc<Shared>, number: u16, state: InvitationState) {
    let (word, node) = match state {
        InvitationState::Open => return,
        InvitationState::Used(node) => (api::InvitationState::Used, Some(node)),
        InvitationState::Expired => (api::InvitationState::Expired, None),
        InvitationState::WrongCode | InvitationState::Cancelled => (api::InvitationState::Void, None),
    };
    let Some(id) = lock(&shared.invitations.open).get(&number).map(|open| open.id.clone()) else { return };
    if let Some(node) = node {
        // Told once the admission is signed: then the node has its name.
        lock(&shared.invitations.ended).push((
            id,
            api::InvitationOutcome { state: word, node: Some(NodeRef { id: node.to_text(), name: node.short() }) },
        ));
        return;
    }
    if state == InvitationState::WrongCode {
        let text = "tried to join with a wrong code";
        shared.refuse(Refusal::new(Deed::Join, text, "one guess is all there is: the invitation is void"));
        shared.alert(
            String::from("somebody tried to join with a wrong code; the invitation is void"),
            Some(String::from("if it was a typing error, open another one with `lanyard invite`")),
        );
    }
    lock(&shared.invitations.ended).push((id, api::InvitationOutcome { state: word, node: None }));
    finish(shared, number);
}

/// Takes an ended invitation away and tells who waits for it.
fn finish(shared: &Arc<Shared>, number: u16) {
    let Some(open) = lock(&shared.invitations.open).remove(&number) else { return };
    let mut ended = lock(&shared.invitations.ended);
    if let Some((_, outcome)) = ended.iter_mut().find(|(id, _)| *id == open.id) {
        if let Some(node) = &mut outcome.node
            && let Ok(id) = NodeId::from_text(&node.id)
        {
            node.name = shared.name_of(id);
        }
        shared.tell(Event::Invitation { id: open.id.clone(), state: outcome.state });
    }
    let surplus = ended.len().saturating_sub(ENDED_MAX);
    ended.drain(..surplus);
    drop(ended);
    // The messages that end the channels were handed over already; the streams close by themselves.
    let _ = shared.to_loop.try_send(inbox::Event::Invitations);
}

/// Serves one connection of somebody who wants to join.
pub(super) fn answer(shared: Arc<Shared>, mut stream: PairStream) {
    rt::spawn(async move {
        let binding = Binding(stream.channel_binding);
        let peer = stream.peer;
        let Ok(Message::Start(start)) = stream.recv().await else { return };
        let number = start.number;
        let (to, answers) = async_channel::bounded(8);
        match lock(&shared.invitations.open).get_mut(&number) {
            Some(open) => {
                open.streams.insert(binding, to);
            }
            None => {
                drop(to);
            }
        }
        if lock(&shared.invitations.open).get(&number).is_none() {
            let refusal = Message::Refused(crate::wire::pairing::Refusal::NoInvitation);
            let _ = stream.send(&refusal).await;
            stream.close().await;
            return;
        }
        let seed = Secret(entropy::bytes());
        let outputs = with(&shared, number, |inviter, out| {
            inviter.handle_start(clock::wall_ms(), binding, peer, &start, seed, out)
        });
        act(&shared, number, outputs);
        if let Ok(Some(reply)) = answers.recv().await
            && stream.send(&reply).await.is_ok()
            && let Ok(Message::Confirm(confirm)) = stream.recv().await
        {
            let shared_too = shared.clone();
            // Signing writes to the disk.
            rt::spawn_blocking(move || {
                let outputs = with(&shared_too, number, |inviter, out| {
                    inviter.handle_confirm(clock::wall_ms(), binding, &confirm, out);
                });
                act(&shared_too, number, outputs);
            })
            .await;
            while let Ok(Some(message)) = answers.recv().await {
                if stream.send(&message).await.is_err() {
                    break;
                }
                if matches!(message, Message::Admit(_)) {
                    // Whether the joiner has stored it shows when it connects as a member.
                    let _ = stream.recv().await;
                    break;
                }
            }
        }
        let _ = with(&shared, number, |inviter, _| inviter.handle_closed(binding));
        if let Some(open) = lock(&shared.invitations.open).get_mut(&number) {
            open.streams.remove(&binding);
        }
        stream.close().await;
    });
}

/// What the person who joins has in hand.
struct Asked {
    number: u16,
    secret: [u8; 32],
    at: Vec<SocketAddr>,
}

/// Joins the mesh that shows a code.
pub(super) async fn join(shared: &Arc<Shared>, ask: Join) -> Result<api::Joined, Failure> {
    let _one = shared.changing.lock().await;
    let standing = standing::standing(shared);
    if matches!(standing, Standing::Member | Standing::Admin) {
        return Err(Failure::refused("this node is a member of a mesh already")
            .hint("to join another one, first run `lanyard leave`"));
    }
    let asked = read(&ask)?;
    let into = match &ask.into {
        Some(path) => Some(usable_into(shared, path)?),
        None => None,
    };
    // Afterwards it would be too late to start anew for it.
    let usual = sharing::receive_into(shared);
    if into.is_none() && !ask.no_folders && matches!(outside::reach(shared, &usual, Make::All), Reach::Anew) {
        return Err(outside::asked_again(&usual));
    }
    if let Some(name) = &ask.name {
        if name.trim().is_empty() || Name::new(name.as_str()).is_none() {
            return Err(Failure::usage(format!("'{name}' cannot be a node's name")));
        }
        shared.mesh.remember(|record| record.name = name.clone())?;
    }
    shared.tell(Event::Joining { step: JoinStep::Searching });
    let found = if asked.at.is_empty() { search(shared, asked.number).await? } else { vec![asked.at.clone()] };
    shared.tell(Event::Joining { step: JoinStep::Connecting });
    let stream = reach(shared, asked.number, &found).await?;
    let joined = exchange(shared, &asked, stream).await?;
    shared.tell(Event::Joining { step: JoinStep::Admitted });
    take_over(shared, joined, into, ask.no_folders).await
}

fn read(ask: &Join) -> Result<Asked, Failure> {
    let at = match &ask.at {
        None => Vec::new(),
        Some(at) => {
            let found: Vec<SocketAddr> = at.to_socket_addrs().map(Iterator::collect).map_err(|error| {
                Failure::failed(format!("cannot find {at}")).because(&error).hint("give the address as HOST:PORT")
            })?;
            found
        }
    };
    match (&ask.code, &ask.ticket) {
        (Some(code), None) => {
            let code: Code = code.parse().map_err(|error| {
                Failure::usage("this is not a pairing code").because(&error).hint("read it again from the other screen")
            })?;
            Ok(Asked { number: code.number(), secret: code.secret(), at })
        }
        (None, Some(ticket)) => {
            let ticket = Ticket::from_text(ticket, clock::wall_ms()).map_err(|error| {
                Failure::failed("this ticket cannot be used")
                    .because(&error)
                    .hint("make a new one with `lanyard invite --ticket`")
            })?;
            let listed = ticket.addresses.iter().filter_map(|at| at.parse().ok());
            let at = if at.is_empty() { listed.collect() } else { at };
            Ok(Asked { number: ticket.number, secret: ticket.secret, at })
        }
        _ => Err(Failure::usage("joining takes a code or a ticket")),
    }
}

fn usable_into(shared: &Arc<Shared>, path: &PathText) -> Result<PathText, Failure> {
    let into = places::to_path(path);
    outside::open_all(shared, &into)?
        .map_err(|error| Failure::failed(format!("cannot receive into {}", into.display())).because(&error))?;
    Ok(path.clone())
}

/// Finds the nodes that announce an invitation with this number; more than one is an attack or an accident.
async fn search(shared: &Shared, number: u16) -> Result<Vec<Vec<SocketAddr>>, Failure> {
    let until = clock::wall_ms() + SEARCH_MS;
    let matching = || -> Vec<Vec<SocketAddr>> {
        let found = lock(&shared.invitations.found);
        nodes(found.values().filter(|(one, _)| one.number == number).map(|(_, addrs)| addrs.as_slice()))
    };
    while matching().is_empty() {
        if clock::wall_ms() > until {
            return Err(Failure::failed(format!("no node shows an invitation with number {number}")).hint(
                "check the number, and that both machines are on the same network; across networks, add `--at HOST:PORT` of the inviting machine",
            ));
        }
        rt::sleep(Duration::from_millis(50)).await;
    }
    rt::sleep(Duration::from_millis(SECOND_MS)).await;
    Ok(matching())
}

/// The addresses of each node: names that share an address are one node's. It takes new names now and then, and when its
/// network changes, and who missed its goodbye knows it by the old one, too.
fn nodes<'a>(found: impl Iterator<Item = &'a [SocketAddr]>) -> Vec<Vec<SocketAddr>> {
    let mut nodes: Vec<Vec<SocketAddr>> = Vec::new();
    for addrs in found.filter(|addrs| !addrs.is_empty()) {
        let (same, others) =
            nodes.into_iter().partition(|node: &Vec<SocketAddr>| addrs.iter().any(|addr| node.contains(addr)));
        nodes = others;
        let mut node: Vec<SocketAddr> = same.concat();
        node.extend(addrs);
        let mut seen = BTreeSet::new();
        node.retain(|addr| seen.insert(*addr));
        nodes.push(node);
    }
    nodes
}

/// Reaches the node that was found. Of several only one may answer: the code is proved to no other.
async fn reach(shared: &Shared, number: u16, found: &[Vec<SocketAddr>]) -> Result<PairStream, Failure> {
    let key = shared.mesh.key();
    let (mut answered, mut last) = (Vec::new(), None);
    for addrs in found {
        for addr in addrs {
            match dial::dial_pairing(*addr, &key).await {
                Ok(stream) => {
                    answered.push(stream);
                    break;
                }
                Err(error) => last = Some(error),
            }
        }
    }
    if answered.len() > 1 {
        return Err(Failure::failed(format!("{} nodes show an invitation with number {number}", answered.len()))
            .hint("name the one you mean with `--at HOST:PORT`; its `lanyard status` shows the address"));
    }
    answered.pop().ok_or_else(|| {
        let failure = Failure::failed("cannot reach the inviting node");
        let failure = last.map_or(failure.clone(), |error| failure.because(&error));
        failure.hint("check that its invitation is still open, and that no firewall blocks its port")
    })
}

/// Proves the code at the other end of the stream.
async fn exchange(shared: &Shared, asked: &Asked, mut stream: PairStream) -> Result<Joined, Failure> {
    let cannot = || Failure::failed("pairing failed");
    let mut out = Vec::new();
    let mut joiner: Joiner = Joiner::start(
        JoinerStart {
            number: asked.number,
            secret: Secret(asked.secret),
            me: shared.mesh.node(),
            name: Name::truncated(&shared.mesh.record().name),
            binding: Binding(stream.channel_binding),
            seed: Secret(entropy::bytes()),
        },
        &mut out,
    );
    shared.tell(Event::Joining { step: JoinStep::Confirming });
    let mut joined = None;
    loop {
        for output in std::mem::take(&mut out) {
            match output {
                JoinerOutput::Send(message) => stream.send(&message).await.map_err(|error| cannot().because(&error))?,
                JoinerOutput::Store(stored) => joined = Some(*stored),
            }
        }
        if let Some(joined) = joined {
            stream.close().await;
            return Ok(joined);
        }
        let message = stream.recv().await.map_err(|error| cannot().because(&error))?;
        joiner
            .handle(message, &mut out)
            .map_err(|error| cannot().because(&error).hint("ask for a new invitation: a code is good for one try"))?;
    }
}

/// Becomes a member: statements and key are stored, own folders merge or become new ones, others are received.
async fn take_over(
    shared: &Arc<Shared>,
    joined: Joined,
    into: Option<PathText>,
    no_folders: bool,
) -> Result<api::Joined, Failure> {
    let me = shared.mesh.node();
    let dissolved: Option<MeshRef> = match standing::standing(shared) {
        Standing::Alone => shared.mesh.policy().map(|policy| standing::mesh_ref(&policy)),
        _ => None,
    };
    let own: Vec<(String, std::path::PathBuf)> = sharing::placed(shared)
        .into_iter()
        .map(|(folder, root)| (standing::folder_name(shared, folder), root))
        .collect();
    sharing::end_all(shared).await;
    let inviter = joined.inviter;
    let mut set = crate::logic::policy::StatementSet::new(joined.mesh);
    for statement in &joined.statements {
        // They were checked when they came in.
        let _ = set.insert(statement.clone());
    }
    let epoch = evaluate(&set).discovery_epoch();
    shared.mesh.adopt(joined.mesh, KeyInUse { epoch, key: joined.discovery }, joined.statements)?;
    shared.mesh.remember(|record| {
        record.receives = !no_folders;
        record.receive_into = into.or(record.receive_into.take());
        for address in joined.addresses.iter().rev() {
            record.reached(inviter, address.clone(), clock::wall_ms());
        }
    })?;
    let _ = shared.to_loop.send(inbox::Event::Joined(inviter)).await;
    hear_all_rules(shared).await?;
    let policy = shared.mesh.need_policy()?;
    let now = clock::wall_ms();
    let mut merged = Vec::new();
    for (name, root) in own {
        let root_text = PathText::from_bytes(root.as_os_str().as_encoded_bytes());
        let existing = policy.visible_folders(me, now).into_iter().find(|id| {
            policy.folder(*id).is_some_and(|state| state.name == name)
                && policy.level(me, *id, &crate::base::RelPath::root(), now) >= Level::Write
        });
        let (folder, history) = match existing {
            Some(folder) => (folder, sharing::History::Fetched),
            None => match sharing::create(shared, &free_folder_name(&policy, &name), Level::Write) {
                Ok(folder) => (folder, sharing::History::Begins),
                Err(failure) => {
                    shared.alert(format!("{} is not shared any more: {}", root.display(), failure.what), failure.hint);
                    continue;
                }
            },
        };
        sharing::place(shared, folder, super::record::Place::At(places::to_text(&root)))?;
        sharing::start(shared, folder, root, history).await?;
        merged.push(Merged { name, path: root_text, into_existing: existing.is_some() });
    }
    let shared_too = shared.clone();
    rt::spawn(async move { sharing::follow_rules(&shared_too).await });
    let policy = shared.mesh.need_policy()?;
    let receives = shared.mesh.record().receives;
    let brief = |id| {
        let mut brief = standing::brief(shared, &policy, id, me)?;
        // It begins as soon as this command is done.
        if receives && shared.mesh.record().place(id).is_none() {
            brief.path = Some(places::to_text(&sharing::destined(shared, id, &brief.name)));
        }
        Some(brief)
    };
    let folders: Vec<FolderBrief> = policy.visible_folders(me, now).into_iter().filter_map(brief).collect();
    info!(mesh = policy.mesh_name(), by = %shared.name_of(inviter), "joined");
    Ok(api::Joined {
        mesh: standing::mesh_ref(&policy),
        by: NodeRef { id: inviter.to_text(), name: shared.name_of(inviter) },
        role: policy.role(me).unwrap_or(Role::Member),
        folders,
        dissolved,
        merged,
    })
}

/// Waits until the statements that found no room in the admission came over the link that follows it.
async fn hear_all_rules(shared: &Arc<Shared>) -> Result<(), Failure> {
    let me = shared.mesh.node();
    for _ in 0..RULES_MS_MAX / RULES_LOOK_MS {
        if shared.mesh.is_member(me) {
            return Ok(());
        }
        rt::sleep(Duration::from_millis(RULES_LOOK_MS)).await;
    }
    Err(Failure::failed("this machine was admitted, but the rules of the office have not arrived yet").hint(
        "they come by themselves once the machines reach each other; run `lanyard share` again for folders of your own",
    ))
}

/// A name that no folder of the mesh has: the own folder of a node that may not write to its namesake.
fn free_folder_name(policy: &crate::logic::policy::Policy, wanted: &str) -> String {
    let taken = |name: &str| policy.folders().any(|(_, state)| !state.retired && state.name == name);
    let numbered = (2..1000).map(|n| format!("{wanted} {n}"));
    std::iter::once(wanted.to_string()).chain(numbered).find(|name| !taken(name)).unwrap_or_else(|| wanted.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_known_by_an_old_name_too_is_one_node() {
        let addr = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let (before, both) = ([addr("10.0.0.1:47474")], [addr("10.0.0.1:47474"), addr("10.0.1.1:47474")]);
        let (after, other) = ([addr("10.0.1.1:47474")], [addr("10.0.0.1:47475")]);
        let found = |names: &[&[SocketAddr]]| nodes(names.iter().copied());
        assert_eq!(found(&[&before, &before]), [before.to_vec()]);
        assert_eq!(found(&[&before, &after, &both]), [both.to_vec()]);
        assert_eq!(found(&[&[], &before]), [before.to_vec()]);
        assert_eq!(found(&[&before, &other]).len(), 2, "another port is another node");
    }
}
