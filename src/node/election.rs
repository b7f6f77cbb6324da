//! The election as it runs: heartbeats of the links in, the machine's decisions out, the term on disk.
//!
//! A task of its own, so that a heartbeat waits behind nothing that the main loop does. What a coordinator does asks
//! `Elections::leads` before each act: it is true for the time of the lease only, whatever happens to the task.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use event_listener::{Event as Signal, EventListener};
use futures_lite::future;
use tracing::{debug, info, warn};

use super::{Shared, inbox, lock};
use crate::base::{MeshId, NodeId};
use crate::logic::election::{CannotStepDown, Election, Output, Timing};
use crate::shell::net::ear::Ear;
use crate::shell::net::link::LinkSender;
use crate::shell::{clock, rt};
use crate::wire::api::{self, Term};
use crate::wire::heartbeat::{Claim, Hears, Heartbeat, SignedClaim};

mod commands;
mod term;

pub(super) use commands::{allow, coordinator, step_down};

/// A disk that could not hold a term is tried again after this time. A guess.
const DISK_AGAIN_MS: u64 = 60_000;
/// Said while a term cannot be made durable.
const NOT_DURABLE: &str = "this machine cannot be coordinator: its term cannot be written";
/// How long a node that ends waits for its successor, beyond what the machine itself does.
const FAREWELL_MS: u64 = 500;

/// What the task is told, besides heartbeats.
enum Input {
    Linked(NodeId, LinkSender),
    Unlinked(NodeId),
    /// The statements have changed, or there is another mesh.
    Rules,
    Fit(bool),
    StepDown(Sender<Result<NodeId, CannotStepDown>>),
    Stop,
}

/// What others may know of the election.
#[derive(Clone, Default)]
struct View {
    coordinator: Option<Hears>,
    /// It is this node.
    leading: bool,
    candidates: Vec<NodeId>,
    fit: bool,
    /// The name that is published, and why it is another one than asked for.
    host: Option<(String, Option<String>)>,
}

/// The election, shared by all parts of the node.
pub(super) struct Elections {
    inputs: Sender<Input>,
    inbox: Mutex<Option<Receiver<Input>>>,
    ear: Ear,
    view: Mutex<View>,
    changed: Signal,
    lease_ms: AtomicU64,
    term: AtomicU64,
}

impl Elections {
    /// An election that does not run yet.
    pub(super) fn new() -> Self {
        let (inputs, inputs_in) = async_channel::unbounded();
        Self {
            inputs,
            inbox: Mutex::new(Some(inputs_in)),
            ear: Ear::new(),
            view: Mutex::new(View { fit: true, ..View::default() }),
            changed: Signal::new(),
            lease_ms: AtomicU64::new(0),
            term: AtomicU64::new(0),
        }
    }

    /// Where links put the heartbeats that they hear.
    pub(super) fn ear(&self) -> Ear {
        self.ear.clone()
    }

    /// Heartbeats to this member go over this link from now on.
    pub(super) fn linked(&self, node: NodeId, link: LinkSender) {
        self.tell(Input::Linked(node, link));
    }

    /// There is no link to this member any more.
    pub(super) fn unlinked(&self, node: NodeId) {
        self.tell(Input::Unlinked(node));
    }

    /// The statements have changed.
    pub(super) fn rules_changed(&self) {
        self.tell(Input::Rules);
    }

    /// Whether this node can do a coordinator's work: with a full disk or a broken archive it cannot.
    pub(super) fn set_fit(&self, fit: bool) {
        self.tell(Input::Fit(fit));
    }

    /// The term in which this node is coordinator now. Asked before each act as one.
    pub(super) fn leads(&self) -> Option<u64> {
        let leads = clock::boottime_ms() < self.lease_ms.load(Ordering::Acquire);
        leads.then(|| self.term.load(Ordering::Acquire))
    }

    /// The coordinator, as far as this node knows.
    pub(super) fn coordinator(&self) -> Option<Hears> {
        let view = lock(&self.view).clone();
        // This node's own word ends with its lease, also where the task could not say so yet.
        view.coordinator.filter(|_| !view.leading || self.leads().is_some())
    }

    /// Notified when there is another coordinator, or none.
    pub(super) fn changed(&self) -> EventListener {
        self.changed.listen()
    }

    /// The name under which this node is published as coordinator.
    pub(super) fn published(&self, host: Option<(String, Option<String>)>) {
        lock(&self.view).host = host;
    }

    fn tell(&self, input: Input) {
        // The task ends with the node.
        let _ = self.inputs.try_send(input);
    }

    /// Runs the election until the node ends.
    pub(super) fn start(&self, shared: &Arc<Shared>) {
        let Some(inbox) = lock(&self.inbox).take() else { return };
        let shared = shared.clone();
        rt::spawn(async move { Task::new(shared).run(inbox).await });
    }

    /// Hands over, if this node is coordinator, and returns once it is none.
    pub(super) async fn stop(&self) {
        if self.leads().is_none() {
            return;
        }
        self.tell(Input::Stop);
        let handed = async {
            loop {
                let changed = self.changed();
                if self.leads().is_none() {
                    return;
                }
                changed.await;
            }
        };
        let most = Duration::from_millis(Timing::OFFICE.hand_ms + FAREWELL_MS);
        if rt::timeout(most, handed).await.is_err() {
            warn!("nobody took over in time; the others notice that this node is gone");
        }
    }
}

/// What the task waits for.
enum Woken {
    Told(Option<Input>),
    Heard(BTreeMap<NodeId, Heartbeat>),
    Time,
}

/// The running election.
struct Task {
    shared: Arc<Shared>,
    machine: Election,
    mesh: Option<MeshId>,
    links: BTreeMap<NodeId, LinkSender>,
    wake_ms: Option<u64>,
    disk_again_ms: Option<u64>,
    /// The last claim of this node, signed: it goes to many.
    signed: Option<SignedClaim>,
    /// Bytes that had come from the coordinator when its life was last looked at.
    seen_bytes: u64,
}

impl Task {
    fn new(shared: Arc<Shared>) -> Self {
        let machine = Election::new(shared.mesh.node(), Timing::OFFICE, 0, clock::boottime_ms());
        let links = BTreeMap::new();
        Self { shared, machine, mesh: None, links, wake_ms: None, disk_again_ms: None, signed: None, seen_bytes: 0 }
    }

    async fn run(mut self, inputs: Receiver<Input>) {
        let ear = self.shared.election.ear();
        let out = self.rules();
        self.act(out).await;
        loop {
            let wake = self.wake_ms.into_iter().chain(self.disk_again_ms).min();
            let input = async { Woken::Told(inputs.recv().await.ok()) };
            let heartbeat = async { Woken::Heard(ear.heard().await) };
            let timer = async {
                match wake {
                    Some(at) => rt::sleep(Duration::from_millis(at.saturating_sub(clock::boottime_ms()))).await,
                    None => future::pending().await,
                }
                Woken::Time
            };
            match future::or(input, future::or(heartbeat, timer)).await {
                Woken::Told(Some(input)) => {
                    let out = self.take(input);
                    self.act(out).await;
                }
                Woken::Told(None) => return,
                Woken::Heard(heartbeats) => {
                    for (from, heartbeat) in heartbeats {
                        let out = self.hear(from, heartbeat);
                        self.act(out).await;
                    }
                }
                Woken::Time => {
                    let out = self.tick();
                    self.act(out).await;
                }
            }
        }
    }

    fn take(&mut self, input: Input) -> Vec<Output> {
        let now = clock::boottime_ms();
        let mut out = Vec::new();
        match input {
            Input::Linked(node, link) => {
                self.links.insert(node, link);
                self.machine.handle_linked(now, node, &mut out);
            }
            Input::Unlinked(node) => {
                self.links.remove(&node);
                self.machine.handle_unlinked(now, node, &mut out);
            }
            Input::Rules => out = self.rules(),
            Input::Fit(fit) => {
                lock(&self.shared.election.view).fit = fit;
                self.machine.handle_fit(now, fit, &mut out);
            }
            Input::StepDown(reply) => {
                let next = self.machine.handle_step_down(now, &mut out);
                // Who asked may have gone.
                let _ = reply.try_send(next);
            }
            Input::Stop => self.machine.handle_stop(now, &mut out),
        }
        out
    }

    /// What the statements say: in another mesh everything begins anew.
    fn rules(&mut self) -> Vec<Output> {
        let now = clock::boottime_ms();
        let policy = self.shared.mesh.policy();
        let own = self.shared.mesh.node();
        let policy = policy.filter(|policy| policy.is_member(own));
        let mesh = policy.as_ref().map(|policy| policy.mesh());
        let mut out = Vec::new();
        if self.mesh != mesh {
            self.machine.handle_eligible(now, BTreeMap::new(), &mut out);
            self.mesh = mesh;
            self.signed = None;
            let term = mesh.map_or(0, |mesh| term::read(&self.term_path(), mesh));
            self.machine = Election::new(own, Timing::OFFICE, term, now);
            for node in self.links.keys() {
                self.machine.handle_linked(now, *node, &mut out);
            }
        }
        let eligible = policy.map(|policy| policy.candidates().collect()).unwrap_or_default();
        self.machine.handle_eligible(now, eligible, &mut out);
        out
    }

    fn hear(&mut self, from: NodeId, heartbeat: Heartbeat) -> Vec<Output> {
        let mut out = Vec::new();
        let news = heartbeat.claim.as_ref().filter(|signed| self.machine.is_news(&signed.claim));
        if let (Some(mesh), Some(signed)) = (self.mesh, news)
            && let Err(error) = signed.verify(mesh)
        {
            // Whoever passes a claim on has checked it, too.
            warn!(peer = %from.short(), %error, "sent a claim that its coordinator did not sign");
            if let Some(link) = self.links.get(&from) {
                link.close(crate::wire::message::Bye::Protocol);
            }
            return out;
        }
        self.machine.handle_heartbeat(clock::boottime_ms(), from, heartbeat, &mut out);
        out
    }

    fn tick(&mut self) -> Vec<Output> {
        let now = clock::boottime_ms();
        let mut out = Vec::new();
        let coordinator = self.machine.coordinator().map(|hears| hears.node);
        if let Some((node, link)) = coordinator.and_then(|node| Some((node, self.links.get(&node)?))) {
            let (bytes, waits) = link.life();
            if bytes != std::mem::replace(&mut self.seen_bytes, bytes) || !waits {
                self.machine.handle_sign_of_life(now, node, &mut out);
            }
        }
        if self.disk_again_ms.is_some_and(|at| at <= now) {
            self.disk_again_ms = None;
            self.machine.handle_fit(now, lock(&self.shared.election.view).fit, &mut out);
        }
        self.machine.handle_tick(now, &mut out);
        out
    }

    /// Carries out what was decided, in order.
    async fn act(&mut self, out: Vec<Output>) {
        let mut rest = out;
        while !rest.is_empty() {
            rest = self.act_once(rest).await;
        }
        let elections = &self.shared.election;
        elections.lease_ms.store(self.machine.lease_ms().unwrap_or(0), Ordering::Release);
        let mut view = lock(&elections.view);
        view.candidates = self.machine.candidates();
        view.leading = self.machine.lease_ms().is_some();
        let before = std::mem::replace(&mut view.coordinator, self.machine.coordinator());
        drop(view);
        if before != self.machine.coordinator() {
            self.changed();
        }
    }

    /// As far as it goes; returns what follows instead where a term could not be made durable.
    async fn act_once(&mut self, out: Vec<Output>) -> Vec<Output> {
        for output in out {
            match output {
                Output::Persist(term) => {
                    let (path, mesh) = (self.term_path(), self.mesh);
                    let written = rt::spawn_blocking(move || mesh.map(|mesh| term::write(&path, mesh, term)));
                    if let Some(Err(error)) = written.await {
                        let mut instead = Vec::new();
                        self.shared.alert(
                            String::from(NOT_DURABLE),
                            Some(format!("{}; it tries again by itself", super::reasons(&error).join(": "))),
                        );
                        let now = clock::boottime_ms();
                        self.disk_again_ms = Some(now + DISK_AGAIN_MS);
                        self.machine.handle_not_durable(now, &mut instead);
                        return instead;
                    }
                    self.shared.over(NOT_DURABLE);
                }
                Output::Lead(term) => {
                    self.shared.election.term.store(term, Ordering::Release);
                    let lease = self.machine.lease_ms().unwrap_or(0);
                    self.shared.election.lease_ms.store(lease, Ordering::Release);
                    info!(term, "this machine is the coordinator now");
                    self.publish(true);
                }
                Output::Yield => {
                    self.shared.election.lease_ms.store(0, Ordering::Release);
                    info!("this machine is not the coordinator any more");
                    self.publish(false);
                }
                Output::Follow(hears) => {
                    debug!(coordinator = %hears.node.short(), term = hears.term, "follows");
                }
                Output::Vacant => debug!("there is no coordinator"),
                Output::Send(to, heartbeat) => {
                    if let Some(heartbeat) = self.seal(heartbeat)
                        && let Some(link) = self.links.get(&to)
                    {
                        link.heartbeat(heartbeat);
                    }
                }
                Output::Wake { at_ms } => self.wake_ms = Some(at_ms),
            }
        }
        Vec::new()
    }

    /// Signs what this node claims itself.
    fn seal(&mut self, mut heartbeat: Heartbeat) -> Option<Heartbeat> {
        let own = self.shared.mesh.node();
        if let Some(signed) = heartbeat.claim.as_mut().filter(|signed| signed.claim.node == own) {
            *signed = self.sign(signed.claim)?;
        }
        Some(heartbeat)
    }

    fn sign(&mut self, claim: Claim) -> Option<SignedClaim> {
        if self.signed.as_ref().is_none_or(|signed| signed.claim != claim) {
            self.signed = Some(claim.sign(self.mesh?, &self.shared.mesh.key()));
        }
        self.signed.clone()
    }

    fn publish(&self, leads: bool) {
        let to_loop = self.shared.to_loop.clone();
        if let Err(error) = to_loop.try_send(inbox::Event::Office(leads)) {
            let event = error.into_inner();
            rt::spawn(async move { to_loop.send(event).await });
        }
    }

    fn changed(&self) {
        self.shared.election.changed.notify(usize::MAX);
        let coordinator = term_of(&self.shared, self.machine.coordinator());
        self.shared.tell(api::Event::Coordinator { coordinator });
    }

    fn term_path(&self) -> PathBuf {
        self.shared.places.state.join("election.json")
    }
}

/// A coordinator as the API shows it.
fn term_of(shared: &Shared, coordinator: Option<Hears>) -> Option<Term> {
    let Hears { node, term } = coordinator?;
    Some(Term { id: node.to_text(), name: shared.name_of(node), term })
}

/// The coordinator as `status` shows it.
pub(super) fn known(shared: &Shared) -> Option<Term> {
    term_of(shared, shared.election.coordinator())
}
