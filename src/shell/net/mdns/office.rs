//! The office's name: a host and a service that follow the coordinator from machine to machine.
//!
//! Before a name is announced it is asked for. Nobody answers, or a member does (the coordinator before, whom the
//! others' caches still know): it is taken, with the cache-flush bit, so that caches forget the other machine (RFC 6762
//! section 10.2). Anybody else has it: the next one is tried, `office-2`. So no probing (section 8.1) is done: against
//! the coordinator before, it would lose the name. What is announced is announced again now and then, because a late
//! goodbye of the one before makes caches forget the name as a whole.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use async_channel::Sender;
use futures_lite::future;
use mdns_sd::{HostnameResolutionEvent, ServiceDaemon, ServiceInfo};

use super::Event;
use crate::wire::announce::{OFFICE_SERVICE, host_label, office_instance};

/// How long an answer is waited for. Who told others of its name within the last second may not say it again at once (RFC
/// 6762 section 6), so a second question, one second later, is answered at the latest.
const ASK_MS: u64 = 1_500;
/// How often the announcement is repeated. A guess: so long may a name be gone after a late goodbye.
const AGAIN_MS: u64 = 10_000;
/// Names that are tried: `office` to `office-9`.
const NAMES_MAX: u32 = 9;

/// What the coordinator publishes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Office {
    /// The mesh's name.
    pub name: String,
    /// Where members are or were: a name that one of them has is the office's.
    pub members: BTreeSet<IpAddr>,
}

/// The office's name on its way to the network, or there.
pub(super) struct Publishing {
    office: Office,
    number: u32,
    taken: Option<String>,
    asked: Option<mdns_sd::Receiver<HostnameResolutionEvent>>,
    answered: BTreeSet<IpAddr>,
    info: Option<ServiceInfo>,
    again: Instant,
}

/// What happened to a name that was asked for.
pub(super) enum Asked {
    Found(BTreeSet<IpAddr>),
    Over,
}

impl Publishing {
    pub(super) fn new(office: Office, now: Instant) -> Self {
        let again = now + Duration::from_millis(AGAIN_MS);
        Self { office, number: 1, taken: None, asked: None, answered: BTreeSet::new(), info: None, again }
    }

    fn host(&self) -> String {
        format!("{}.local", host_label(&self.office.name, self.number))
    }

    /// Whether it is the same name; what is known of members is taken over.
    pub(super) fn is_same(&mut self, office: &Office) -> bool {
        let same = self.office.name == office.name;
        if same {
            self.office.members.clone_from(&office.members);
        }
        same
    }

    /// Asks who has the name.
    pub(super) fn ask(&mut self, daemon: &ServiceDaemon) -> mdns_sd::Result<()> {
        self.answered.clear();
        self.info = None;
        self.asked = Some(daemon.resolve_hostname(&format!("{}.", self.host()), Some(ASK_MS))?);
        Ok(())
    }

    /// Waits for what is heard of the name that was asked for.
    pub(super) async fn heard(&self) -> Asked {
        let Some(asked) = &self.asked else { return future::pending().await };
        match asked.recv_async().await {
            Ok(HostnameResolutionEvent::AddressesFound(_, found)) => {
                Asked::Found(found.iter().map(mdns_sd::ScopedIp::to_ip_addr).collect())
            }
            Ok(HostnameResolutionEvent::SearchTimeout(_)) | Err(_) => Asked::Over,
            Ok(_) => Asked::Found(BTreeSet::new()),
        }
    }

    /// Takes what was heard: announces the name, or asks for the next one.
    pub(super) async fn take(
        &mut self,
        daemon: &ServiceDaemon,
        heard: Asked,
        own: &BTreeSet<IpAddr>,
        port: u16,
        events: &Sender<Event>,
    ) -> mdns_sd::Result<()> {
        match heard {
            Asked::Found(found) => {
                tracing::debug!(host = self.host(), ?found, "asked who has the office's name");
                self.answered.extend(found);
            }
            Asked::Over => self.asked = None,
        }
        let is_ours = self.answered.iter().any(|at| self.office.members.contains(at) || own.contains(at));
        if !is_ours && self.asked.is_some() {
            return Ok(());
        }
        if !is_ours && !self.answered.is_empty() {
            let others: Vec<String> = self.answered.iter().map(ToString::to_string).collect();
            self.taken = Some(format!("{} is the name of another machine ({})", self.host(), others.join(", ")));
            if self.number < NAMES_MAX {
                self.number += 1;
                return self.ask(daemon);
            }
            tracing::warn!(host = self.host(), "every name for the office is taken; it has none now");
            return Ok(());
        }
        if self.asked.take().is_some() {
            daemon.stop_resolve_hostname(&format!("{}.", self.host()))?;
        }
        self.announce(daemon, port)?;
        let event = Event::Office { host: self.host(), taken: self.taken.clone() };
        // Whoever listens ends with the node.
        let _ = events.send(event).await;
        Ok(())
    }

    fn announce(&mut self, daemon: &ServiceDaemon, port: u16) -> mdns_sd::Result<()> {
        let instance = office_instance(&self.office.name, self.number);
        let host = format!("{}.", self.host());
        let texts = [("v", "1")];
        let mut info = ServiceInfo::new(OFFICE_SERVICE, &instance, &host, "", port, &texts[..])?.enable_addr_auto();
        info.set_requires_probe(false);
        daemon.register(info.clone())?;
        self.info = Some(info);
        Ok(())
    }

    /// When the announcement is due again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.info.as_ref().map(|_| self.again)
    }

    /// Says it again, if it is time, or now.
    pub(super) fn again(&mut self, daemon: &ServiceDaemon, now: Instant, due: bool) -> mdns_sd::Result<()> {
        let Some(info) = self.info.as_ref().filter(|_| due || self.again <= now) else { return Ok(()) };
        self.again = now + Duration::from_millis(AGAIN_MS);
        daemon.register(info.clone())
    }

    /// The announcement to take back.
    pub(super) fn info(self) -> Option<ServiceInfo> {
        self.info
    }
}
