//! The main loop: one event at a time, none of them slow.
//!
//! Whom to dial and which link to use is decided by `logic::peering`; here its outputs become dials, sessions and
//! timers. Everything that waits (a dial, an API call, a pairing) is a task that sends an event when it is done.

mod office;
mod surroundings;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future;
use tracing::{debug, info, warn};

use self::surroundings::{read_record, watch_signals};
use super::api::events::EventBus;
use super::api::{Access, ApiServer, CALLS_MAX, Call};
use super::audit::{AuditLog, Refusal};
use super::config::{Config, ConfigError, HostPort, LogLevel, Options};
use super::inbox::Event;
use super::mesh::{Change, MeshHandle};
use super::outside::{self, End, Outside};
use super::places::Scope;
use super::relay::Relaying;
use super::session::{INCOMING_MAX, Order, Orders, Session};
use super::{Shared, Way, archive, commands, one_line, pairing, reasons, sharing, shown};
use crate::base::NodeId;
use crate::logic::peering::runs::Runs;
use crate::logic::peering::{self, Output, Peering, Settings, Up};
use crate::shell::keystore::Keystore;
use crate::shell::net::dial::{DialError, Dialler};
use crate::shell::net::interfaces::{self, Changed, Selection};
use crate::shell::net::link::{Limits, Link, LinkId, LinkSender};
use crate::shell::net::listen::{Bound, Door, Inbound, Listener, Place};
use crate::shell::net::{KeyRing, mdns};
use crate::shell::systemd::{self, Pulse};
use crate::shell::{clock, entropy, rt};
use crate::wire::api::{self, Deed, Failure, FailureKind, Started};
use crate::wire::codec::Text;
use crate::wire::message::{Address, Bye, Hello, Purpose};
use crate::wire::relay::Answer;
use crate::wire::versions::{SOFTWARE, Speaks};

/// Events that wait for the loop.
const EVENTS_MAX: usize = 256;
/// Dials at once. A guess: every member of a small office after a power cut, in a few rounds.
const DIALS_MAX: usize = 8;
/// How often what was noted of members is written down, and the random names are renewed.
const NOTE_MS: u64 = 60_000;
/// How long a stop may take before the process ends all the same.
const STOP_MS_MAX: u64 = 8_000;
/// How often random announced names are renewed: a day's work leaves no trail that outlives it.
const ROTATE_MS: u64 = 4 * 60 * 60 * 1000;

/// How often configured names are looked up.
const RESOLVE_EVERY: Duration = Duration::from_secs(60);

struct Running {
    shared: Arc<Shared>,
    peering: Peering,
    dialler: Dialler,
    listener: Listener,
    mdns: Option<mdns::Mdns>,
    relaying: Relaying,
    sessions: BTreeMap<LinkId, OneLink>,
    links_made: u64,
    /// How often a link was declared the one to send on.
    turns: u64,
    /// Which members seem to run twice.
    runs: Runs,
    /// Why the last link to each member ended.
    last_end: BTreeMap<NodeId, String>,
    selection: Selection,
    wake_ms: Option<u64>,
    note_ms: u64,
    /// When it next says how it is, where somebody collects that.
    report_ms: Option<u64>,
    /// When the next rule ends.
    expiry_ms: Option<u64>,
    rotate_ms: u64,
    pulse: Pulse,
    set_log_level: Box<dyn Fn(LogLevel) + Send + Sync>,
    events: Receiver<Event>,
    own: Sender<Event>,
}

struct OneLink {
    orders: Orders,
    sender: LinkSender,
    purpose: Purpose,
    peer: NodeId,
    remote: SocketAddr,
    via: Option<NodeId>,
}

/// Runs a node until it is told to stop, by a signal or over its API.
pub fn run(options: Options) -> Result<(), Failure> {
    outside::around(options, |options, outside| rt::block_on(start(options, outside)))
}

/// Runs a node to its end.
async fn start(options: Options, outside: Outside) -> Result<End, Failure> {
    let Options { places, config, name, port, share, set_log_level, started } = options;
    // Before anything is made or opened; and again when no other lanyard can have it.
    places.check_format().map_err(|error| error.to_failure())?;
    let goes_on = outside.goes_on;
    let handed = outside.invitations.clone();
    // What the command line said was done by the run before this one; another free port would be another machine's
    // surprise.
    let (name, share) = if goes_on { (None, Vec::new()) } else { (name, share) };
    let port = port.filter(|port| !goes_on || *port != 0);
    places.make().map_err(|error| error.to_failure())?;
    let _lock = places.lock().map_err(|error| error.to_failure())?;
    places.check_format().map_err(|error| error.to_failure())?;
    places.stamp().map_err(|error| Failure::failed("cannot use this node's home").because(&error))?;
    let key_path = places.key();
    let keystore = Keystore::open_or_create(&key_path, entropy::bytes()).map_err(|error| {
        let kind = if error.is_future() { FailureKind::TooOld } else { FailureKind::Failed };
        Failure::new(kind, "cannot use this node's key").because(&error)
    })?;
    let key = Arc::new(keystore.key().clone());
    let (record, first_start) = read_record(&places.state, name.as_deref(), config.name.as_ref().map(|n| n.as_str()))?;

    let (own, events) = async_channel::bounded(EVENTS_MAX);
    let (changes, changed) = async_channel::unbounded();
    let ring = KeyRing::new(Vec::new());
    let mesh = MeshHandle::open(&places.state, record, key.clone(), ring.clone(), changes)
        .map_err(|error| Failure::failed("cannot read what this node knows of its mesh").because(&error))?;

    let wanted = port.or(config.port);
    let place = match (wanted, mesh.record().port) {
        (Some(port), _) => Place::Fixed(port),
        (None, Some(port)) => Place::Preferred(port),
        (None, None) => Place::Usual,
    };
    let bound = Bound::new(place).map_err(|error| {
        Failure::failed("cannot listen for other nodes").because(&error).hint("choose another port with --port")
    })?;
    let listen_port = bound.port();
    mesh.remember(|record| record.port = Some(listen_port))
        .map_err(|error| Failure::failed("cannot write this node's record").because(&error))?;

    let api =
        ApiServer::bind(&places.socket, if places.scope == Scope::Service { Access::Group } else { Access::Owner })
            .map_err(|error| Failure::failed("cannot offer the local API").because(&error))?;
    let bus = EventBus::new();
    let is_member = {
        let mesh = mesh.clone();
        Arc::new(move |node| mesh.is_member(node))
    };
    let hello = Hello {
        software: Text::truncated(SOFTWARE),
        purpose: Purpose::Control,
        run: entropy::u64(),
        port: listen_port,
    };
    let selection = config.selection();
    let dialler = Dialler {
        key: keystore.key().clone(),
        ring: ring.clone(),
        is_member: is_member.clone(),
        hello: hello.clone(),
        speaks: Speaks::default(),
    };
    let (inbound, came_in) = async_channel::bounded(16);
    let door = Door { key: keystore.key().clone(), ring: ring.clone(), is_member, hello, speaks: Speaks::default() };
    let listener = bound.serve(door, inbound);
    let turned = listener.refused();
    let (heard, hears) = async_channel::bounded(64);
    let mdns = config.discovery.mdns.then(|| {
        let config = mdns::Config { port: listen_port, interfaces: selection.clone(), mdns_port: mdns_sd::MDNS_PORT };
        mdns::Mdns::start(config, ring.clone(), heard)
    });
    let (network, net_changes) = async_channel::bounded(4);
    if let Err(error) = interfaces::watch(selection.clone(), network) {
        warn!(%error, "changes of the network are noticed late");
    }

    let audit = AuditLog::open(&places.state, config.audit, mesh.policy().as_deref()).map_err(|error| {
        Failure::failed(format!("cannot open the audit log in {}", places.state.display())).because(&error)
    })?;
    let shared = Arc::new(Shared {
        mesh,
        bus: bus.clone(),
        reads: super::reads::Reads::new(config.limits.reads as usize),
        audit,
        live: Mutex::new(config.clone()),
        config,
        places,
        outside,
        port: listen_port,
        folders: Mutex::default(),
        connected: Mutex::default(),
        clocks: Mutex::default(),
        alerts: Mutex::default(),
        programs: super::versions::Programs::default(),
        desk: super::office::Desk::default(),
        invitations: pairing::Invitations::default(),
        archive: archive::Keeper::default(),
        election: super::election::Elections::new(),
        changing: async_lock::Mutex::new(()),
        to_loop: own.clone(),
    });
    let (calls, called) = async_channel::bounded(CALLS_MAX);
    let calling = called.clone();
    let serving = rt::spawn(api.serve(calls, bus.clone()));
    forward(called, own.clone(), Event::Call);
    forward(came_in, own.clone(), Event::Inbound);
    forward(turned, own.clone(), Event::Turned);
    forward(hears, own.clone(), Event::Mdns);
    forward(changed, own.clone(), Event::Mesh);
    forward(net_changes, own.clone(), Event::Network);
    let told_to_end = Arc::new(AtomicBool::new(false));
    watch_signals(own.clone(), told_to_end.clone());
    resolve_configured(&shared, own.clone());

    shared.election.start(&shared);
    sharing::start_all(&shared).await;
    archive::start(&shared);
    let running = Running {
        peering: Peering::new(Settings {
            own: shared.mesh.node(),
            seed: entropy::u64(),
            dials_max: DIALS_MAX,
            loopback: selection.loopback,
        }),
        shared: shared.clone(),
        dialler,
        listener,
        mdns,
        relaying: Relaying::new(&shared.config.relay, own.clone()),
        sessions: BTreeMap::new(),
        links_made: 0,
        turns: 0,
        runs: Runs::default(),
        last_end: BTreeMap::new(),
        selection,
        wake_ms: None,
        note_ms: clock::boottime_ms() + NOTE_MS,
        report_ms: None,
        expiry_ms: None,
        rotate_ms: clock::boottime_ms() + ROTATE_MS,
        pulse: Pulse::of_process(),
        set_log_level,
        events,
        own,
    };
    let looping = rt::spawn(running.run());
    shared.invitations.go_on(&shared, handed);
    let mut began = goes_on;
    match ready(&shared, share, first_start).await {
        Ok(_) if goes_on => {
            info!("runs again");
            systemd::ready();
            // What was offered while this run's places were closed to the one before.
            let shared = shared.clone();
            rt::spawn(async move { sharing::follow_rules(&shared).await });
        }
        Ok(ready) => {
            began = true;
            started(ready);
            systemd::ready();
        }
        Err(failure) if failure.kind == FailureKind::Anew => {}
        Err(failure) => {
            let _ = shared.to_loop.send(Event::Stop).await;
            looping.await;
            return Err(failure);
        }
    }
    let anew = looping.await;
    let peers = super::lock(&shared.connected).keys().copied().collect();
    let invitations = if anew { shared.invitations.hand_over() } else { Vec::new() };
    // Who still waits for an answer is told.
    calling.close();
    bus.close();
    let _ = rt::timeout(Duration::from_secs(1), serving).await;
    // A signal that came meanwhile is for this process, too.
    Ok(if anew && !told_to_end.load(Ordering::Relaxed) {
        End::Anew { began, invitations, peers }
    } else {
        End::Stopped
    })
}

/// Shares what the command line named, and says what runs.
async fn ready(shared: &Arc<Shared>, share: Vec<std::path::PathBuf>, first_start: bool) -> Result<Started, Failure> {
    let mut shares = Vec::new();
    let mut founded = None;
    // Before anything is done: what is founded is told once.
    sharing::reach_at_start(shared, &share)?;
    for path in share {
        if let Some(done) = sharing::share_at_start(shared, &path).await? {
            founded = founded.or(done.founded.clone());
            shares.push(done);
        }
    }
    Ok(Started {
        status: shown::status(shared),
        first_start,
        founded,
        shared: shares,
        home: api::PathText::from_bytes(shared.places.state.as_os_str().as_encoded_bytes()),
        socket: api::PathText::from_bytes(shared.places.socket.as_os_str().as_encoded_bytes()),
    })
}

fn forward<T: Send + 'static>(from: Receiver<T>, to: Sender<Event>, as_event: fn(T) -> Event) {
    rt::spawn(async move {
        while let Ok(item) = from.recv().await {
            if to.send(as_event(item)).await.is_err() {
                return;
            }
        }
    });
}

/// Looks up the configured peers now and then: names may get other addresses.
fn resolve_configured(shared: &Arc<Shared>, to: Sender<Event>) {
    let shared = Arc::downgrade(shared);
    rt::spawn(async move {
        let mut configured = false;
        loop {
            let Some(names) = shared.upgrade().map(|shared| super::lock(&shared.live).peers.clone()) else { return };
            if names.is_empty() && !configured {
                rt::sleep(RESOLVE_EVERY).await;
                continue;
            }
            configured = !names.is_empty();
            let found = rt::spawn_blocking(move || {
                let look_up = |name: &HostPort| name.as_str().to_socket_addrs().map(Vec::from_iter).unwrap_or_default();
                names.iter().flat_map(look_up).collect::<Vec<_>>()
            });
            if to.send(Event::Configured(found.await)).await.is_err() {
                return;
            }
            rt::sleep(RESOLVE_EVERY).await;
        }
    });
}

impl Running {
    /// Returns whether it is to be started anew.
    async fn run(mut self) -> bool {
        self.begin().await;
        let anew = loop {
            match self.next().await {
                Some(Event::Stop) => break false,
                Some(Event::Anew) => break true,
                Some(event) => self.handle(event).await,
                None => self.tick().await,
            }
            let shared = &self.shared;
            self.pulse.turned(clock::boottime_ms(), || shown::in_a_line(shared));
        };
        // A service that says it is stopping is stopped.
        if anew {
            systemd::reloading()
        } else {
            systemd::stopping()
        }
        if rt::timeout(Duration::from_millis(STOP_MS_MAX), self.stop()).await.is_err() {
            warn!("some parts did not stop in time; what they had to do is done at the next start");
        }
        anew
    }

    async fn begin(&mut self) {
        let now = clock::boottime_ms();
        let mut out = Vec::new();
        self.members_changed(&mut out);
        self.own_addresses(&mut out);
        self.expiry_ms = self.next_expiry(clock::wall_ms());
        self.report();
        for (node, contact) in self.shared.mesh.record().members {
            let Some(node) = NodeId::from_hex(&node) else { continue };
            for addr in contact.addresses.iter().filter_map(|addr| addr.parse().ok()) {
                self.peering.handle_last_known(now, node, addr, &mut out);
            }
        }
        self.act(out).await;
    }

    async fn next(&self) -> Option<Event> {
        let timers = [Some(self.note_ms), self.report_ms, self.wake_ms];
        let wake = timers.into_iter().flatten().min().unwrap_or(self.note_ms).saturating_sub(clock::boottime_ms());
        // Rules end at a time of the calendar, and the clock may be set meanwhile; all else takes its time.
        let expiry = self.expiry_ms.map_or(wake, |at| at.saturating_sub(clock::wall_ms()));
        let wait = Duration::from_millis(wake.min(expiry).min(NOTE_MS));
        let wait = self.pulse.wait_max(clock::boottime_ms()).map_or(wait, |beat| beat.min(wait));
        let event = async { Some(self.events.recv().await.unwrap_or(Event::Stop)) };
        let timer = async {
            rt::sleep(wait).await;
            None
        };
        future::or(event, timer).await
    }

    async fn tick(&mut self) {
        let now = clock::boottime_ms();
        if self.wake_ms.is_some_and(|at| at <= now) {
            self.wake_ms = None;
            let mut out = Vec::new();
            self.peering.handle_tick(now, &mut out);
            self.act(out).await;
        }
        if self.note_ms <= now {
            self.note_ms = now + NOTE_MS;
            self.write_record();
            self.shared.note_counted();
        }
        if self.report_ms.is_some_and(|at| at <= now) {
            self.report();
        }
        let wall = clock::wall_ms();
        if self.expiry_ms.is_some_and(|at| at <= wall) {
            self.expiry_ms = self.next_expiry(wall);
            let shared = self.shared.clone();
            rt::spawn(async move { sharing::follow_rules(&shared).await });
        }
        if self.rotate_ms <= now
            && let Some(mdns) = &self.mdns
        {
            self.rotate_ms = now + ROTATE_MS;
            mdns.rotate().await;
        }
    }

    fn next_expiry(&self, now: u64) -> Option<u64> {
        self.shared.mesh.policy().and_then(|policy| policy.next_expiry(now))
    }

    fn write_record(&self) {
        if let Err(error) = self.shared.mesh.remember(|_| {}) {
            warn!(error = %reasons(&error).join(": "), "this node's record cannot be written");
        }
    }

    async fn handle(&mut self, event: Event) {
        let now = clock::boottime_ms();
        let mut out = Vec::new();
        match event {
            Event::Call(Call { request, reply }) => {
                let shared = self.shared.clone();
                rt::spawn(async move {
                    let answer = commands::handle(&shared, request).await;
                    reply.answer(answer);
                });
            }
            Event::Inbound(Inbound::Link(link)) => self.link_up(link, None, &mut out),
            Event::Inbound(Inbound::Relay(stream)) => self.relaying.opened(stream),
            Event::Inbound(Inbound::Apart(met)) => drop(self.shared.cannot_talk(&met)),
            Event::Relay(event) => self.relay(event),
            Event::Turned(refused) => {
                let mut refusal = Refusal::new(Deed::Connect, "tried to connect", refused.why).address(refused.from);
                if let Some(node) = refused.node {
                    refusal = refusal.by(node);
                }
                self.shared.refuse(refusal);
            }
            Event::Inbound(Inbound::Pairing(stream)) => pairing::answer(self.shared.clone(), stream),
            Event::Dialled(dial, result) => match *result {
                Ok(link) => self.link_up(link, Some(dial), &mut out),
                Err(error) => {
                    debug!(error = %reasons(&error).join(": "), "not reached");
                    match error {
                        DialError::Relay { relay, answer: Answer::Busy(retry_ms) } => {
                            self.peering.handle_relay_busy(now, relay, retry_ms);
                            self.peering.handle_dial_failed(now, dial, &mut out);
                        }
                        DialError::Versions { met } => {
                            let node = self.shared.cannot_talk(&met);
                            self.peering.handle_apart(now, dial, node, &mut out);
                        }
                        _ => self.peering.handle_dial_failed(now, dial, &mut out),
                    }
                }
            },
            Event::LinkEnded(link, why) => self.link_ended(link, &why, &mut out),
            Event::Mdns(mdns::Event::Found { instance, addrs, invitation: None }) => {
                self.peering.handle_found(now, &instance, &addrs, &mut out);
            }
            Event::Mdns(mdns::Event::Found { instance, addrs, invitation: Some(invitation) }) => {
                self.shared.invitations.found(instance, invitation, addrs);
            }
            Event::Mdns(mdns::Event::Gone { instance }) => {
                self.shared.invitations.gone(&instance);
                self.peering.handle_gone(now, &instance, &mut out);
            }
            Event::Mesh(change) => self.mesh_changed(change, &mut out).await,
            Event::Network(changed) => {
                info!(?changed, "the network changed");
                self.own_addresses(&mut out);
                self.peering.handle_network_changed(now, &mut out);
                if let Some(mdns) = &self.mdns {
                    mdns.network_changed().await;
                }
                if changed == Changed::Resumed {
                    sharing::look_again(&self.shared).await;
                }
            }
            Event::Told(by, addresses) => {
                debug!(by = %by.short(), addresses = addresses.len(), "told");
                let told: Vec<(NodeId, SocketAddr)> =
                    addresses.iter().filter_map(|told| Some((told.node, told.at.parse().ok()?))).collect();
                self.peering.handle_told(now, &told, &mut out);
            }
            Event::Configured(addrs) => self.peering.handle_configured(now, &addrs, &mut out),
            Event::Folders => self.order(|_| Order::Folders),
            Event::Dropped(folder) => self.order(|_| Order::Dropped(folder)),
            Event::Joined(inviter) => {
                self.members_changed(&mut out);
                let record = self.shared.mesh.record();
                let contact = record.members.get(&inviter.to_hex());
                for addr in contact.iter().flat_map(|c| &c.addresses).filter_map(|addr| addr.parse().ok()) {
                    self.peering.handle_last_known(now, inviter, addr, &mut out);
                }
            }
            Event::Invitations => {
                let open = self.shared.invitations.announced(&self.shared.mesh);
                self.listener.set_pairing(!open.is_empty());
                if let Some(mdns) = &self.mdns {
                    mdns.invite(open).await;
                }
            }
            Event::Reload => self.reload(),
            Event::Office(leads) => self.office(leads).await,
            Event::Mdns(mdns::Event::Office { host, taken }) => self.shared.election.published(Some((host, taken))),
            Event::Anew | Event::Stop => {}
        }
        self.act(out).await;
    }

    /// Reads the configuration again. One that cannot be used changes nothing.
    fn reload(&mut self) {
        systemd::reloading();
        match Config::read(&self.shared.places.config) {
            Ok(config) => {
                (self.set_log_level)(config.log.level);
                if config.needs_restart(&self.shared.config) {
                    info!("the configuration was read again; some of it counts from the next start");
                } else {
                    info!("the configuration was read again");
                }
                *super::lock(&self.shared.live) = config;
            }
            // Its directory was made since the start, or it is a link to elsewhere now.
            Err(ConfigError::Unreadable { .. }) if self.shared.outside.can_read_config() => {
                outside::anew(&self.shared);
            }
            Err(error) => {
                let failure = error.to_failure();
                self.shared.alert(one_line(&failure), failure.hint);
            }
        }
        systemd::ready();
    }

    async fn mesh_changed(&mut self, change: Change, out: &mut Vec<Output>) {
        self.shared.election.rules_changed();
        if self.shared.election.leads().is_some() {
            // The mesh may have another name, and other members.
            self.office(true).await;
        }
        match change {
            Change::Statements(taken) => {
                self.shared.forget_programs();
                self.order(|_| Order::News(taken.clone()));
                self.members_changed(out);
                if let Err(error) = self.shared.mesh.rotate_key() {
                    warn!(error = %reasons(&error).join(": "), "the discovery key could not be changed");
                }
                shown::tell_members(&self.shared, &taken);
                self.shared.note_statements(&taken);
                self.expiry_ms = self.next_expiry(clock::wall_ms());
                self.report();
                let shared = self.shared.clone();
                rt::spawn(async move { sharing::follow_rules(&shared).await });
            }
            Change::Begun(statements) => {
                self.shared.note_statements(&statements);
                self.expiry_ms = self.next_expiry(clock::wall_ms());
                self.report();
            }
            Change::Refused(from, statement, why) => {
                let refusal = Refusal::new(Deed::Statement, "sent a statement that is not taken", why);
                self.shared.refuse(refusal.from(from).statement(statement));
            }
            Change::Ask(peer) => {
                self.order(|link| if link.peer == peer { Order::Ask } else { Order::News(Vec::new()) })
            }
            Change::Key => {
                self.members_changed(out);
                self.order(|_| Order::Key);
                if let Some(mdns) = &self.mdns {
                    mdns.keys_changed().await;
                }
            }
        }
    }

    fn own_addresses(&mut self, out: &mut Vec<Output>) {
        match self.selection.addresses() {
            Ok(addresses) => {
                let port = self.shared.port;
                let own = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
                self.peering.handle_own_addresses(clock::boottime_ms(), own, out);
            }
            Err(error) => warn!(%error, "this machine's addresses cannot be read"),
        }
    }

    fn link_up(&mut self, link: Link, dial: Option<peering::DialId>, out: &mut Vec<Output>) {
        self.links_made += 1;
        let id = LinkId(self.links_made);
        let (peer, purpose, remote, via) = (link.peer, link.hello.purpose, link.remote, link.via);
        let (run, port) = (link.hello.run, link.hello.port);
        if purpose == Purpose::Control
            && self.shared.mesh.is_member(peer)
            && let Some(places) = self.runs.handle_link_up(peer, run, remote.ip())
        {
            self.shared.run_twice(peer, places);
        }
        self.shared.talked(peer, &link.hello.software);
        let up = Up { link: peering::LinkId(id.0), peer, purpose, run, dial, via, remote, port };
        let (incoming, received) = async_channel::bounded(INCOMING_MAX);
        let (orders, ordered) = async_channel::bounded(64);
        let link = if purpose == Purpose::Control { link.with_heartbeats(self.shared.election.ear()) } else { link };
        let sender = link.start(id, Limits::of(purpose), incoming);
        let session = Session::new(self.shared.clone(), sender.clone(), purpose);
        let own = self.own.clone();
        rt::spawn(async move {
            let why = session.run(received, ordered).await;
            // The loop that is gone needs no word.
            let _ = own.send(Event::LinkEnded(id, why)).await;
        });
        self.sessions.insert(id, OneLink { orders, sender, purpose, peer, remote, via });
        self.peering.handle_link_up(clock::boottime_ms(), up, out);
    }

    fn link_ended(&mut self, link: LinkId, why: &str, out: &mut Vec<Output>) {
        if let Some(ended) = self.sessions.remove(&link) {
            debug!(peer = %ended.peer.short(), purpose = ?ended.purpose, why, "link ended");
            self.last_end.insert(ended.peer, why.to_string());
        }
        self.peering.handle_link_down(clock::boottime_ms(), peering::LinkId(link.0), out);
    }

    fn order(&self, order: impl Fn(&OneLink) -> Order) {
        for link in self.sessions.values() {
            if link.orders.try_send(order(link)).is_err() {
                // A session that does not take orders is stuck in a peer that takes nothing: it is made anew.
                link.sender.close(Bye::Busy);
            }
        }
    }

    /// Carries out what was decided.
    async fn act(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Dial { dial, addr, expected, via, purpose } => {
                    let (dialler, own) = (self.dialler.clone(), self.own.clone());
                    rt::spawn(async move {
                        let result = match (via, expected) {
                            (Some(relay), Some(to)) => dialler.dial_through(addr, relay, to, purpose).await,
                            _ => dialler.dial(addr, expected, purpose).await,
                        };
                        let _ = own.send(Event::Dialled(dial, Box::new(result))).await;
                    });
                }
                Output::Close { link, bye } => {
                    if let Some(link) = self.sessions.get(&LinkId(link.0))
                        && link.orders.try_send(Order::Close(bye)).is_err()
                    {
                        link.sender.close(bye);
                    }
                }
                Output::Linked { node, purpose, link } => self.linked(node, purpose, LinkId(link.0)),
                Output::Unlinked { node, purpose: Purpose::Control } => self.unlinked(node),
                Output::Unlinked { .. } => {}
                Output::Remember { node, addr } => {
                    let now = clock::wall_ms();
                    self.shared.mesh.note(|record| record.reached(node, addr.to_string(), now));
                    let told = Address { node, at: Text::truncated(&addr.to_string()) };
                    self.order(|link| {
                        Order::Addresses(if link.peer == node { Vec::new() } else { vec![told.clone()] })
                    });
                }
                Output::Wake { at_ms } => self.wake_ms = Some(at_ms),
            }
        }
    }

    /// From now on this link is the one to send on.
    fn linked(&mut self, node: NodeId, purpose: Purpose, link: LinkId) {
        let Some(one) = self.sessions.get(&link) else { return };
        self.turns += 1;
        let _ = one.orders.try_send(Order::Used(self.turns));
        if purpose == Purpose::Control {
            self.shared.election.linked(node, one.sender.clone());
            let way = Way { address: one.remote.to_string(), via: one.via };
            let known: Vec<Address> = self
                .shared
                .mesh
                .record()
                .members
                .iter()
                .filter_map(|(member, contact)| {
                    let member = NodeId::from_hex(member).filter(|member| *member != node)?;
                    let at = contact.addresses.first()?;
                    Some(Address { node: member, at: Text::truncated(at) })
                })
                .collect();
            let _ = one.orders.try_send(Order::Addresses(known));
            let name = self.shared.name_of(node);
            let before = super::lock(&self.shared.connected).insert(node, way.clone());
            let Way { address, via } = way;
            let via = via.map(|relay| self.shared.name_of(relay));
            match (before, &via) {
                (None, _) => {
                    info!(peer = %name, %address, via, "{name} is connected");
                    self.shared.tell(api::Event::PeerConnected { id: node.to_text(), name, address, via });
                }
                (Some(Way { via: Some(_), .. }), None) => {
                    info!(peer = %name, %address, "{name} is connected directly now")
                }
                (Some(Way { via: None, .. }), Some(relay)) => {
                    info!(peer = %name, relay, "{name} is connected through a relay now")
                }
                _ => {}
            }
        }
    }

    /// There is no link to this member any more.
    fn unlinked(&mut self, node: NodeId) {
        self.shared.election.unlinked(node);
        if super::lock(&self.shared.connected).remove(&node).is_none() {
            return;
        }
        let why = self.last_end.remove(&node).unwrap_or_else(|| String::from("the link has ended"));
        let (id, name) = (node.to_text(), self.shared.name_of(node));
        info!(peer = %name, why, "{name} is disconnected: {why}");
        self.shared.tell(api::Event::PeerDisconnected { id, name, why });
    }

    /// Says goodbye to everyone and ends the folders, all at once.
    async fn stop(mut self) {
        self.shared.election.stop().await;
        self.shared.tell(api::Event::Stopping);
        for link in self.sessions.values() {
            link.sender.close(Bye::Stopping);
        }
        let mdns = self.mdns.take();
        let goodbye = async {
            if let Some(mdns) = mdns {
                mdns.stop().await;
            }
        };
        future::zip(future::zip(goodbye, archive::stop(&self.shared)), sharing::stop_all(&self.shared)).await;
        self.write_record();
    }
}
