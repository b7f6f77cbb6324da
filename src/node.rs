//! The running node: events in, decisions by `logic`, effects by `shell`.
//!
//! `run` sets everything up and hands over to the main loop in `running`. What all parts share is in `Shared`;
//! each link has a session, each folder a worker, each API call a task of its own.

pub mod api;
#[cfg(feature = "archive")]
mod archive;
#[cfg(not(feature = "archive"))]
#[path = "node/no_archive.rs"]
mod archive;
mod audit;
mod commands;
pub mod config;
mod conflicts;
pub mod doctor;
mod election;
mod folder;
mod guard;
mod inbox;
mod late;
mod mesh;
mod office;
mod outside;
mod pairing;
mod past;
pub mod places;
mod reads;
mod receiving;
mod record;
mod relay;
mod restore;
mod rules;
mod running;
mod session;
mod sharing;
mod shown;
pub mod stamp;
mod standing;
mod verify;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_channel::Sender;

use self::api::events::EventBus;
use self::config::Config;
use self::folder::FolderHandle;
use self::mesh::MeshHandle;
use self::places::Places;
use crate::base::{FolderId, NodeId};
use crate::shell::clock;
use crate::wire::api::{Alert, Event, Failure, UtcTime};
use crate::wire::message::Address;

pub use running::run;

/// Bits of a request number below the folder's slot: a node asks fewer than 2^48 times in one run.
const SLOT_SHIFT: u32 = 48;
/// Alerts kept for `status`. A guess: more than a person reads.
const ALERTS_MAX: usize = 20;

/// How a member is connected.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Way {
    /// `HOST:PORT` of the connection.
    address: String,
    /// The relay that is there, where the member cannot be reached directly.
    via: Option<NodeId>,
}

/// What all parts of a node share.
struct Shared {
    mesh: MeshHandle,
    bus: EventBus,
    audit: audit::AuditLog,
    config: Config,
    /// As read last: `peers`, `receive_into` and the log's level may change while the node runs.
    live: Mutex<Config>,
    places: Places,
    /// What is open to this node, and the way to more.
    outside: outside::Outside,
    /// The port on which this node listens.
    port: u16,
    folders: Mutex<BTreeMap<FolderId, (u16, FolderHandle)>>,
    connected: Mutex<BTreeMap<NodeId, Way>>,
    /// Who is answered when contents are asked for.
    reads: reads::Reads,
    /// By how many milliseconds members' clocks are ahead of this machine's time since it was booted.
    clocks: Mutex<BTreeMap<NodeId, i64>>,
    alerts: Mutex<Vec<Alert>>,
    /// Which lanyard the members run.
    programs: versions::Programs,
    /// What the others said of themselves.
    desk: office::Desk,
    invitations: pairing::Invitations,
    #[cfg_attr(not(feature = "archive"), allow(dead_code, reason = "it keeps nothing then"))]
    archive: archive::Keeper,
    election: election::Elections,
    /// Held by commands that change mesh or folders: one at a time.
    changing: async_lock::Mutex<()>,
    to_loop: Sender<inbox::Event>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Values are replaced whole under these locks: a panic leaves none half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The running folders.
    fn folders(&self) -> BTreeMap<FolderId, FolderHandle> {
        lock(&self.folders).iter().map(|(id, (_, handle))| (*id, handle.clone())).collect()
    }

    /// One running folder.
    fn folder(&self, folder: FolderId) -> Option<FolderHandle> {
        lock(&self.folders).get(&folder).map(|(_, handle)| handle.clone())
    }

    /// The folder that asked for content under this number.
    fn folder_of_request(&self, request: u64) -> Option<FolderHandle> {
        let folders = lock(&self.folders);
        let found = folders.values().find(|(slot, _)| u64::from(*slot) == request >> SLOT_SHIFT);
        found.map(|(_, handle)| handle.clone())
    }

    /// A member told where others were reached.
    async fn told(&self, by: NodeId, addresses: Vec<Address>) {
        let _ = self.to_loop.send(inbox::Event::Told(by, addresses)).await;
    }

    /// A relay calls this node to a meeting.
    async fn called(&self, relay: NodeId, call: crate::wire::message::RelayCall) {
        let _ = self.to_loop.send(inbox::Event::Relay(relay::Event::Called(relay, call))).await;
    }

    /// A name for a node: its name in the mesh, or the short form of its id.
    fn name_of(&self, node: NodeId) -> String {
        let policy = self.mesh.policy();
        let name = policy.as_ref().and_then(|policy| policy.name(node).map(str::to_owned));
        name.unwrap_or_else(|| node.short())
    }

    /// How a member is connected, if it is.
    fn way_to(&self, node: NodeId) -> Option<Way> {
        lock(&self.connected).get(&node).cloned()
    }

    /// Two machines show one key: a copy of a disk, started beside the machine that it is a copy of.
    fn run_twice(&self, node: NodeId, [here, there]: [IpAddr; 2]) {
        let name = self.name_of(node);
        let what = format!("two machines are '{name}' at once, at {here} and at {there}: one is a copy of the other");
        let hint = "stop the copy, delete its lanyard home (its key is there; the shared files may stay) and start it: \
                    then it joins with a code of 'lanyard invite' as a machine of its own";
        self.alert(what, Some(hint.into()));
    }

    /// Every address at which a member is connected, or was last.
    fn addresses(&self) -> BTreeSet<IpAddr> {
        let record = self.mesh.record();
        let known = record.members.values().flat_map(|contact| contact.addresses.iter().cloned());
        let connected = lock(&self.connected).values().map(|way| way.address.clone()).collect::<Vec<_>>();
        known.chain(connected).filter_map(|at| at.parse::<std::net::SocketAddr>().ok()).map(|at| at.ip()).collect()
    }

    /// Tells what happened.
    fn tell(&self, event: Event) {
        self.bus.tell(UtcTime::from_ms(clock::wall_ms()), event);
    }

    /// Something needs a person: told now, and shown by `status` for a while.
    fn alert(&self, what: String, hint: Option<String>) {
        tracing::warn!(hint = hint.as_deref().unwrap_or_default(), "{what}");
        let mut alerts = lock(&self.alerts);
        alerts.retain(|alert| alert.what != what);
        if alerts.len() == ALERTS_MAX {
            alerts.remove(0);
        }
        alerts.push(Alert { since: UtcTime::from_ms(clock::wall_ms()), what: what.clone(), hint: hint.clone() });
        drop(alerts);
        self.tell(Event::Alert { what, hint });
    }

    /// What was wrong is so no longer.
    fn over(&self, what: &str) {
        lock(&self.alerts).retain(|alert| alert.what != what);
    }
}

/// A failure and why, in one line.
fn one_line(failure: &Failure) -> String {
    std::iter::once(failure.what.as_str()).chain(failure.why.iter().map(String::as_str)).collect::<Vec<_>>().join(": ")
}

/// An error and what caused it, nearest first.
fn reasons(error: &dyn Error) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        reasons.push(error.to_string());
        next = error.source();
    }
    reasons
}
