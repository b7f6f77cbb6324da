//! Announcing this node on the local network and finding others: DNS-SD over multicast DNS (RFC 6762, RFC 6763).
//!
//! Rules:
//! 1. nothing that is announced names the node, its mesh, its people or its folders, and the names change with every
//!    start and every few hours; only an open invitation shows a number and the office's name, under names of its own;
//! 2. members recognise each other by a tag under the discovery key; who has another key is not reported;
//! 3. what strangers announce is bounded before it is kept;
//! 4. the library's thread is supervised: if it dies, it is started again.
//!
//! What is found is a hint of where to dial. That a node is gone is noticed by its link. Page: `docs/spec/discovery.md`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use data_encoding::BASE32_NOPAD;
use futures_lite::future::{self, or};
use mdns_sd::{IfKind, IfPredicate, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};

use super::interfaces::Selection;
use super::{KeyRing, random};
use crate::shell::rt;
use crate::wire::announce::{Announcement, INSTANCE_BYTES_MAX, Invitation, SERVICE};
use crate::wire::hello;

mod office;

pub use office::Office;
use office::{Asked, Publishing};

/// Instances of others that are remembered. Guess: an office of 50 with invitations and stale names.
const SEEN_MAX: usize = 512;
/// Addresses of one instance that are looked at.
const ADDRS_MAX: usize = 16;
/// Own instance names that are remembered, as others' caches may echo them.
const OWN_MAX: usize = 16;
/// How long names are kept: hours, so that a name tells nobody a machine's working days.
const ROTATE_MS: u64 = 4 * 60 * 60 * 1000;
/// When to ask again after the start, in ms. Who answered another node within the last second may not answer again at
/// once (RFC 6762 section 6); these make sure that an answer comes within the second second.
const ASK_AGAIN_MS: [u64; 3] = [400, 1_100, 1_500];
/// The library looks for changed addresses only when told to; it then does so after a second.
const ADDRESS_CHECK_MS: u64 = 1_500;
/// Waits before the library's thread is started again.
const RESTART_MS_MIN: u64 = 500;
const RESTART_MS_MAX: u64 = 60_000;
/// Time for the goodbye.
const GOODBYE_MS_MAX: u64 = 500;

/// What to announce and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// The port on which this node listens.
    pub port: u16,
    /// On which interfaces.
    pub interfaces: Selection,
    /// The port of multicast DNS; another than `mdns_sd::MDNS_PORT` only for tests that must not meet real nodes.
    pub mdns_port: u16,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A member or an open invitation, or its addresses changed.
    Found {
        /// Its random name.
        instance: String,
        /// Where it listens; IPv6 addresses of one link have their scope.
        addrs: Vec<SocketAddr>,
        /// The invitation; `None` for a member.
        invitation: Option<Invitation>,
    },
    /// The office's name is this node's now.
    Office {
        /// The host name, such as `office.local`.
        host: String,
        /// Why it is another one than the mesh's name asks for.
        taken: Option<String>,
    },
    /// It said goodbye, or its announcement ran out.
    Gone {
        /// Its random name.
        instance: String,
    },
}

enum Command {
    Office(Option<Office>),
    Invite(Vec<Invitation>),
    Rotate,
    KeysChanged,
    NetworkChanged,
    Stop(Sender<()>),
}

/// The announcements of this node. Dropping it ends them without a goodbye; `stop` says one.
#[derive(Debug)]
pub struct Mdns {
    commands: Sender<Command>,
}

impl Mdns {
    /// Starts to announce (if the ring has a key) and to look for others; what is found goes to `events`.
    pub fn start(config: Config, ring: KeyRing, events: Sender<Event>) -> Self {
        let (commands, received) = async_channel::bounded(16);
        let speaker = Speaker {
            config,
            ring,
            events,
            commands: received,
            member: None,
            invited: Vec::new(),
            invitations: Vec::new(),
            office: None,
            own: VecDeque::new(),
            seen: BTreeMap::new(),
        };
        rt::spawn(speaker.supervise());
        Self { commands }
    }

    /// Announces these open invitations and no others, each under a name of its own.
    pub async fn invite(&self, invitations: Vec<Invitation>) {
        self.command(Command::Invite(invitations)).await;
    }

    /// Publishes the office's name, as its coordinator alone does, or takes it back.
    pub async fn office(&self, office: Option<Office>) {
        self.command(Command::Office(office)).await;
    }

    /// Takes new random names at once.
    pub async fn rotate(&self) {
        self.command(Command::Rotate).await;
    }

    /// The keys in the ring have changed: announces under the new one and looks again at what was found.
    pub async fn keys_changed(&self) {
        self.command(Command::KeysChanged).await;
    }

    /// Addresses have changed, or the machine was suspended: announces and asks again.
    pub async fn network_changed(&self) {
        self.command(Command::NetworkChanged).await;
    }

    /// Says goodbye, within a bounded time, and ends.
    pub async fn stop(self) {
        let (done, stopped) = async_channel::bounded(1);
        self.command(Command::Stop(done)).await;
        // A closed channel is an end as well.
        let _ = rt::timeout(Duration::from_millis(4 * GOODBYE_MS_MAX), stopped.recv()).await;
    }

    async fn command(&self, command: Command) {
        // The task ends only with its commands or when nobody takes events any more: then the node stops.
        let _ = self.commands.send(command).await;
    }
}

struct Speaker {
    config: Config,
    ring: KeyRing,
    events: Sender<Event>,
    commands: Receiver<Command>,
    /// The names under which this node is announced now.
    member: Option<ServiceInfo>,
    invited: Vec<(Invitation, ServiceInfo)>,
    invitations: Vec<Invitation>,
    office: Option<Publishing>,
    own: VecDeque<String>,
    seen: BTreeMap<String, Seen>,
}

struct Seen {
    addrs: Vec<SocketAddr>,
    announcement: Announcement,
    reported: bool,
}

/// Why one life of the library's thread ended.
enum Ended {
    Stopped,
    Died(mdns_sd::Error),
}

enum Wake {
    Asked(Asked),
    Heard(Option<ServiceEvent>),
    Command(Option<Command>),
    Time,
}

impl From<mdns_sd::Error> for Ended {
    fn from(error: mdns_sd::Error) -> Self {
        Self::Died(error)
    }
}

impl Speaker {
    async fn supervise(mut self) {
        let mut wait_ms = RESTART_MS_MIN;
        loop {
            let started = Instant::now();
            match self.live().await {
                Ok(()) | Err(Ended::Stopped) => return,
                Err(Ended::Died(error)) => {
                    tracing::warn!(%error, "discovery on the local network failed; it is started again");
                }
            }
            if started.elapsed() > Duration::from_millis(RESTART_MS_MAX) {
                wait_ms = RESTART_MS_MIN;
            }
            rt::sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(RESTART_MS_MAX);
        }
    }

    /// One life of the library's thread.
    async fn live(&mut self) -> Result<(), Ended> {
        let daemon = ServiceDaemon::new_with_port(self.config.mdns_port)?;
        let lived = self.talk(&daemon).await;
        if let Ok(done) = daemon.shutdown() {
            // The thread says goodbye for what is still announced.
            let _ = rt::timeout(Duration::from_millis(GOODBYE_MS_MAX), done.recv_async()).await;
        }
        match lived {
            Ok(Some(done)) => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(()).await;
                Ok(())
            }
            Ok(None) => Err(Ended::Stopped),
            Err(error) => Err(error),
        }
    }

    async fn talk(&mut self, daemon: &ServiceDaemon) -> Result<Option<Sender<()>>, Ended> {
        // Changes of addresses are told by netlink.
        daemon.set_ip_check_interval(0)?;
        let selection = self.config.interfaces.clone();
        let unwanted = IfPredicate::new(move |i| !selection.takes(&i.name, i.is_loopback()));
        daemon.disable_interface(IfKind::Predicate(unwanted))?;
        let mut heard = daemon.browse(SERVICE)?;
        self.rename(daemon)?;
        if let Some(office) = &mut self.office {
            office.ask(daemon)?;
        }
        let mut times = Times::starting(Instant::now());
        loop {
            let office = self.office.as_ref();
            let next = office.and_then(Publishing::next).map_or(times.next(), |at| at.min(times.next()));
            let asked = async {
                match office {
                    Some(office) => Wake::Asked(office.heard().await),
                    None => future::pending().await,
                }
            };
            let wake = or(
                async { Wake::Command(self.commands.recv().await.ok()) },
                or(or(asked, async { Wake::Heard(heard.recv_async().await.ok()) }), async {
                    rt::sleep(next.saturating_duration_since(Instant::now())).await;
                    Wake::Time
                }),
            );
            match wake.await {
                Wake::Heard(Some(event)) => self.hear(event).await?,
                // The thread died, or more came than was taken: in the first case this fails.
                Wake::Heard(None) => heard = daemon.browse(SERVICE)?,
                Wake::Asked(asked) => {
                    let own = self.config.interfaces.addresses().unwrap_or_default().into_iter().collect();
                    if let Some(office) = &mut self.office {
                        office.take(daemon, asked, &own, self.config.port, &self.events).await?;
                    }
                }
                Wake::Command(Some(Command::Office(office))) => self.publish(daemon, office)?,
                Wake::Command(None) => return Ok(None),
                Wake::Command(Some(Command::Stop(done))) => {
                    self.goodbye(daemon).await;
                    return Ok(Some(done));
                }
                Wake::Command(Some(Command::Invite(invitations))) => {
                    self.invitations = invitations;
                    self.announce_invitations(daemon)?;
                }
                Wake::Command(Some(Command::Rotate)) => self.rename(daemon)?,
                Wake::Command(Some(Command::KeysChanged)) => {
                    self.rename(daemon)?;
                    self.look_again().await?;
                }
                Wake::Command(Some(Command::NetworkChanged)) => {
                    daemon.set_ip_check_interval(1)?;
                    times.network_changed(Instant::now());
                }
                Wake::Time => {
                    let due = times.take(Instant::now());
                    if let Some(office) = &mut self.office {
                        office.again(daemon, Instant::now(), due.addresses)?;
                    }
                    if due.addresses {
                        daemon.set_ip_check_interval(0)?;
                        let invited = self.invited.iter().map(|(_, info)| info);
                        for info in self.member.iter().chain(invited) {
                            daemon.register(info.clone())?;
                        }
                    }
                    if due.ask {
                        heard = daemon.browse(SERVICE)?;
                    }
                    if due.rotate {
                        self.rename(daemon)?;
                    }
                }
            }
        }
    }

    /// Takes the office's name back, and publishes the new one.
    fn publish(&mut self, daemon: &ServiceDaemon, office: Option<Office>) -> Result<(), Ended> {
        if let (Some(current), Some(office)) = (&mut self.office, &office)
            && current.is_same(office)
        {
            return Ok(());
        }
        if let Some(old) = self.office.take().and_then(Publishing::info) {
            daemon.unregister(old.get_fullname())?;
        }
        if let Some(office) = office {
            self.office.insert(Publishing::new(office, Instant::now())).ask(daemon)?;
        }
        Ok(())
    }

    /// Takes new names for all that is announced.
    fn rename(&mut self, daemon: &ServiceDaemon) -> Result<(), Ended> {
        if let Some(old) = self.member.take() {
            daemon.unregister(old.get_fullname())?;
        }
        if let Some(key) = self.ring.newest() {
            let instance = self.own_name();
            let tag = hello::tag(&key, &instance);
            self.member = Some(self.announce(daemon, &instance, &Announcement::Member(tag))?);
        }
        // Taken back first: each gets another name.
        for (_, old) in std::mem::take(&mut self.invited) {
            daemon.unregister(old.get_fullname())?;
        }
        self.announce_invitations(daemon)
    }

    fn announce_invitations(&mut self, daemon: &ServiceDaemon) -> Result<(), Ended> {
        let open = self.invitations.clone();
        let (kept, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.invited).into_iter().partition(|(invitation, _)| open.contains(invitation));
        self.invited = kept;
        for (_, old) in ended {
            daemon.unregister(old.get_fullname())?;
        }
        for invitation in open {
            if self.invited.iter().all(|(announced, _)| *announced != invitation) {
                let instance = self.own_name();
                let info = self.announce(daemon, &instance, &Announcement::Invitation(invitation.clone()))?;
                self.invited.push((invitation, info));
            }
        }
        Ok(())
    }

    fn announce(
        &self,
        daemon: &ServiceDaemon,
        instance: &str,
        announcement: &Announcement,
    ) -> Result<ServiceInfo, Ended> {
        let host = format!("{}.local.", random_name());
        let texts = announcement.texts();
        let mut info = ServiceInfo::new(SERVICE, instance, &host, "", self.config.port, &texts[..])?.enable_addr_auto();
        // Names of 128 random bits collide with nobody's: asking first whether they do takes a second.
        info.set_requires_probe(false);
        daemon.register(info.clone())?;
        Ok(info)
    }

    fn own_name(&mut self) -> String {
        let name = random_name();
        if self.own.len() >= OWN_MAX {
            self.own.pop_front();
        }
        self.own.push_back(name.clone());
        name
    }

    async fn hear(&mut self, event: ServiceEvent) -> Result<(), Ended> {
        match event {
            ServiceEvent::ServiceResolved(service) => self.found(&service).await,
            ServiceEvent::ServiceRemoved(_, fullname) => match instance_of(&fullname) {
                Some(instance) => match self.seen.remove(&instance) {
                    Some(seen) if seen.reported => self.report(Event::Gone { instance }).await,
                    _ => Ok(()),
                },
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    async fn found(&mut self, service: &ResolvedService) -> Result<(), Ended> {
        let Some(instance) = instance_of(service.get_fullname()) else { return Ok(()) };
        if self.own.contains(&instance) {
            return Ok(());
        }
        let texts = service.get_properties().iter().map(|text| (text.key(), text.val()));
        let Some(announcement) = Announcement::parse(texts) else { return Ok(()) };
        let addrs = addrs_of(service);
        if let Some(known) = self.seen.get(&instance)
            && known.addrs == addrs
            && known.announcement == announcement
        {
            return Ok(());
        }
        let wanted = self.wanted(&instance, &announcement);
        if self.seen.len() >= SEEN_MAX && !self.seen.contains_key(&instance) && !self.forget_one(wanted) {
            return Ok(());
        }
        let was_reported = self.seen.get(&instance).is_some_and(|seen| seen.reported);
        let seen = Seen { addrs, announcement, reported: wanted };
        let event = if wanted {
            Some(found_event(&instance, &seen))
        } else {
            was_reported.then(|| Event::Gone { instance: instance.clone() })
        };
        self.seen.insert(instance, seen);
        match event {
            Some(event) => self.report(event).await,
            None => Ok(()),
        }
    }

    fn wanted(&self, instance: &str, announcement: &Announcement) -> bool {
        match announcement {
            Announcement::Member(tag) => self.ring.recognises(instance, tag),
            Announcement::Invitation(_) => true,
        }
    }

    /// Makes room by forgetting a stranger; for a member, if need be, an invitation.
    fn forget_one(&mut self, for_wanted: bool) -> bool {
        let stranger = |s: &Seen| !s.reported;
        let invitation = |s: &Seen| matches!(s.announcement, Announcement::Invitation(_));
        let victim =
            self.seen.iter().find(|(_, s)| stranger(s)).or_else(|| self.seen.iter().find(|(_, s)| invitation(s)));
        let Some(victim) = victim.map(|(name, _)| name.clone()).filter(|_| for_wanted) else { return false };
        self.seen.remove(&victim);
        true
    }

    /// The ring has changed: what was a stranger may be a member now, and the other way round.
    async fn look_again(&mut self) -> Result<(), Ended> {
        let names: Vec<String> = self.seen.keys().cloned().collect();
        for instance in names {
            let Some(seen) = self.seen.get(&instance) else { continue };
            let wanted = self.wanted(&instance, &seen.announcement);
            if wanted == seen.reported {
                continue;
            }
            let event = if wanted { found_event(&instance, seen) } else { Event::Gone { instance: instance.clone() } };
            if let Some(seen) = self.seen.get_mut(&instance) {
                seen.reported = wanted;
            }
            self.report(event).await?;
        }
        Ok(())
    }

    async fn report(&self, event: Event) -> Result<(), Ended> {
        self.events.send(event).await.map_err(|_| Ended::Stopped)
    }

    async fn goodbye(&mut self, daemon: &ServiceDaemon) {
        let invited = std::mem::take(&mut self.invited).into_iter().map(|(_, info)| info);
        let office = self.office.take().and_then(Publishing::info);
        for info in self.member.take().into_iter().chain(invited).chain(office) {
            if let Ok(done) = daemon.unregister(info.get_fullname()) {
                let _ = rt::timeout(Duration::from_millis(GOODBYE_MS_MAX), done.recv_async()).await;
            }
        }
    }
}

/// What is to be done when.
struct Times {
    rotate: Instant,
    addresses: Option<Instant>,
    ask: Vec<Instant>,
}

struct Due {
    rotate: bool,
    addresses: bool,
    ask: bool,
}

impl Times {
    fn starting(now: Instant) -> Self {
        let ask = ASK_AGAIN_MS.map(|ms| now + Duration::from_millis(ms)).to_vec();
        Self { rotate: now + Duration::from_millis(ROTATE_MS), addresses: None, ask }
    }

    fn network_changed(&mut self, now: Instant) {
        self.addresses = Some(now + Duration::from_millis(ADDRESS_CHECK_MS));
        self.ask = [0, ADDRESS_CHECK_MS, 2 * ADDRESS_CHECK_MS].map(|ms| now + Duration::from_millis(ms)).to_vec();
    }

    fn next(&self) -> Instant {
        self.ask.iter().copied().chain(self.addresses).fold(self.rotate, Instant::min)
    }

    fn take(&mut self, now: Instant) -> Due {
        let before = self.ask.len();
        self.ask.retain(|at| *at > now);
        let due = Due {
            rotate: self.rotate <= now,
            addresses: self.addresses.is_some_and(|at| at <= now),
            ask: self.ask.len() < before,
        };
        if due.rotate {
            self.rotate = now + Duration::from_millis(ROTATE_MS);
        }
        if due.addresses {
            self.addresses = None;
        }
        due
    }
}

fn found_event(instance: &str, seen: &Seen) -> Event {
    let invitation = match &seen.announcement {
        Announcement::Invitation(invitation) => Some(invitation.clone()),
        Announcement::Member(_) => None,
    };
    Event::Found { instance: instance.to_string(), addrs: seen.addrs.clone(), invitation }
}

fn random_name() -> String {
    BASE32_NOPAD.encode(&random::<16>()).to_ascii_lowercase()
}

/// The instance's own name; names are compared without regard to case (RFC 1035 section 2.3.3).
fn instance_of(fullname: &str) -> Option<String> {
    let instance = fullname.strip_suffix(SERVICE)?.strip_suffix('.')?;
    (!instance.is_empty() && instance.len() <= INSTANCE_BYTES_MAX).then(|| instance.to_ascii_lowercase())
}

fn addrs_of(service: &ResolvedService) -> Vec<SocketAddr> {
    let port = service.get_port();
    let all: BTreeSet<SocketAddr> = service
        .get_addresses()
        .iter()
        .filter_map(|ip| match ip {
            ScopedIp::V6(v6) if v6.addr().is_unicast_link_local() => {
                Some(SocketAddrV6::new(*v6.addr(), port, 0, v6.scope_id().index).into())
            }
            other => Some(other.to_ip_addr()).filter(dialable).map(|ip| SocketAddr::new(ip, port)),
        })
        .collect();
    all.into_iter().filter(|addr| addr.port() != 0).take(ADDRS_MAX).collect()
}

/// Whether an address can be one machine's: what strangers announce must not make this node dial a group.
fn dialable(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !ip.is_multicast() && !ip.is_unspecified() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_named_by_one_bounded_label() {
        assert_eq!(instance_of("AbC._lanyard._tcp.local."), Some("abc".into()));
        assert_eq!(instance_of("._lanyard._tcp.local."), None);
        assert_eq!(instance_of("abc._other._tcp.local."), None);
        assert_eq!(instance_of(&format!("{}.{SERVICE}", "a".repeat(64))), None);
    }

    #[test]
    fn names_are_random_and_fit_a_label() {
        let (a, b) = (random_name(), random_name());
        assert_ne!(a, b);
        assert_eq!(a.len(), 26);
    }

    #[test]
    fn what_is_due_is_taken_once() {
        let start = Instant::now();
        let mut times = Times::starting(start);
        assert_eq!(times.next(), start + Duration::from_millis(ASK_AGAIN_MS[0]));
        assert!(times.take(start + Duration::from_secs(1)).ask);
        assert!(!times.take(start + Duration::from_secs(1)).ask);
        times.network_changed(start + Duration::from_secs(2));
        let due = times.take(start + Duration::from_secs(10));
        assert!(due.addresses && due.ask && !due.rotate);
        assert_eq!(times.next(), start + Duration::from_millis(ROTATE_MS));
    }
}
