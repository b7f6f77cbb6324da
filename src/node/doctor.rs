//! The check-up: measures what a node needs of its machine, and has `logic::doctor` say what is wrong.
//!
//! A running node measures what it alone sees, as its own user and within its own sandbox; the command measures the
//! machine. Without a node the record tells where the folders are.

use std::net::SocketAddr;
use std::path::Path;

use rustix::fs::Access;

use super::config::{Config, ConfigError};
use super::folder::FolderHandle;
use super::mesh::record_path;
use super::places::{Places, Scope, Surroundings};
use super::record::{Place, Record};
use super::stamp::StampError;
use super::{Shared, archive, lock, one_line, places};
use crate::base::{FolderId, NodeId};
use crate::logic::doctor::{self, Measured, Multicast, Port};
use crate::shell::clock;
use crate::shell::disk::Folder;
use crate::shell::net::listen::PORT;
use crate::shell::net::probe;
use crate::wire::api::{Checkup, Failure, Finding, FolderCheck, PathText, PeerCheck, Room};

/// Where the kernel says how many watches there may be: for a user of the machine, and within a namespace.
const WATCH_LIMITS: [&str; 2] = ["/proc/sys/fs/inotify/max_user_watches", "/proc/sys/user/max_inotify_watches"];

/// What the running node measures.
pub(super) fn checkup(shared: &Shared) -> Checkup {
    let policy = shared.mesh.policy();
    let connected = lock(&shared.connected).clone();
    let clocks = lock(&shared.clocks).clone();
    // What the peers' clocks show now, if nobody has set them since.
    let (since_boot, wall) = (signed(clock::boottime_ms()), signed(clock::wall_ms()));
    let record = shared.mesh.record();
    let folders = record.folders.iter().filter_map(|(id, place)| {
        let id = FolderId::from_hex(id)?;
        let name = super::standing::folder_name(shared, id);
        Some(of_folder(id, &name, place.at()?, shared.folder(id).as_ref()))
    });
    Checkup {
        port: shared.port,
        members: policy.as_ref().map_or(0, |policy| policy.members().count() as u64),
        admins: policy.iter().flat_map(|policy| policy.admins()).map(|admin| shared.name_of(admin)).collect(),
        peers: connected
            .iter()
            .map(|(node, way)| PeerCheck {
                name: shared.name_of(*node),
                address: way.address.clone(),
                ahead_ms: clocks.get(node).map(|theirs| theirs.saturating_add(since_boot).saturating_sub(wall)),
            })
            .collect(),
        folders: folders.collect(),
        state: room(&shared.places.state),
        archive_age_ms: archive::age_ms(shared),
        apart: policy.iter().flat_map(|policy| policy.members()).filter_map(|(node, _)| shared.gap_to(node)).collect(),
    }
}

fn of_folder(id: FolderId, name: &str, at: &PathText, running: Option<&FolderHandle>) -> FolderCheck {
    let root = places::to_path(at);
    let status = running.map(FolderHandle::status);
    let marker = Folder::open(&root).map_err(|error| error.to_string());
    let marker = marker.and_then(|folder| folder.check_marker(id).map_err(|error| error.to_string()));
    let denied = |path: &Path| {
        let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        path.exists() && rustix::fs::access(path, all).is_err()
    };
    let own = root.join(".lanyard");
    let locked =
        [root.clone(), own.clone(), own.join("versions"), own.join("tmp")].into_iter().find(|path| denied(path));
    FolderCheck {
        name: name.to_string(),
        path: at.clone(),
        problem: status.as_ref().and_then(|status| status.problem.clone()),
        watched: status.is_none_or(|status| status.watched),
        // What may not be entered says nothing about its marker.
        marker: marker.err().filter(|_| locked.is_none()),
        locked: locked.as_deref().map(places::to_text),
        room: room(&root),
    }
}

fn room(path: &Path) -> Option<Room> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Room { path: places::to_text(path), free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}

/// What can be known without a node.
fn without_node(places: &Places) -> Checkup {
    let mut checkup = Checkup { port: PORT, state: room(&places.state), ..Checkup::default() };
    let Ok(Some(record)) = Record::read(&record_path(&places.state)) else { return checkup };
    checkup.port = record.port.unwrap_or(PORT);
    let place = |(id, place): (&String, &Place)| {
        let (id, at) = (FolderId::from_hex(id)?, place.at()?);
        let name = Path::new(at.as_str()).file_name().map(|name| name.to_string_lossy().into_owned());
        Some(of_folder(id, &name.unwrap_or_default(), at, None))
    };
    checkup.folders = record.folders.iter().filter_map(place).collect();
    checkup
}

/// Examines this machine. `told` is what the node says, where one runs.
pub fn examine(home: Option<&Path>, told: Option<Checkup>) -> Result<Vec<Finding>, Failure> {
    let own = Places::of_node(home, &Surroundings::of_process()).map_err(|error| error.to_failure())?;
    // Whose node it is that runs, the node's own state directory says.
    let state = told.as_ref().and_then(|told| told.state.as_ref()).map(|room| places::to_path(&room.path));
    let service = Places::of_system_service();
    let is_service = match &state {
        Some(state) => *state == service.state,
        // Nothing runs: the one home that there is, is meant.
        None => home.is_none() && !own.state.exists() && service.state.exists(),
    };
    let places = if is_service { service } else { own };
    let read = Config::read(&places.config);
    // The service's configuration is no business of every account.
    let unreadable = matches!(&read, Err(ConfigError::Unreadable { .. })) && places.scope == Scope::Service;
    let configuration = read.as_ref().err().filter(|_| !unreadable).map(|error| {
        let failure = error.to_failure();
        (one_line(&failure), failure.hint.unwrap_or_default())
    });
    // A node that runs may use its home; and the service's home is no business of every account.
    let format = places.check_format().err().filter(|error| {
        told.is_none() && !(matches!(error, StampError::Unreadable { .. }) && places.scope == Scope::Service)
    });
    let format = format.map(|error| {
        let failure = error.to_failure();
        (one_line(&failure), failure.hint.unwrap_or_default())
    });
    let config = read.unwrap_or_default();
    let runs = told.is_some();
    let node = told.unwrap_or_else(|| without_node(&places));
    let selection = config.selection();
    let peers: Vec<SocketAddr> = node.peers.iter().filter_map(|peer| peer.address.parse().ok()).collect();
    let unknown = |error: &std::io::Error| Failure::failed("cannot look at this machine's network").because(error);
    let multicast = match probe::multicast(&selection) {
        _ if !config.discovery.mdns => None,
        Ok(None) => None,
        Ok(Some(heard)) => {
            let near = probe::neighbours(&selection, &peers).map_err(|error| unknown(&error))?;
            Some(Multicast {
                unsent: None,
                heard_itself: heard.itself,
                heard: heard.others.iter().map(ToString::to_string).collect(),
                neighbours: near.iter().map(ToString::to_string).collect(),
            })
        }
        Err(error) => Some(Multicast { unsent: Some(error.to_string()), ..Multicast::default() }),
    };
    let port = match runs {
        true if probe::takes_connections(&selection, node.port).map_err(|error| unknown(&error))? => Port::Good,
        true => Port::Silent,
        false if probe::is_free(node.port) => Port::Good,
        false => Port::Taken,
    };
    let limit = |path: &&str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let watches_max = WATCH_LIMITS.iter().filter_map(limit).min();
    Ok(doctor::findings(&Measured { node, runs, format, configuration, multicast, port, watches_max }))
}

/// A peer said what its clock shows.
pub(super) fn note_clock(shared: &Shared, peer: NodeId, theirs_ms: u64) {
    lock(&shared.clocks).insert(peer, signed(theirs_ms).saturating_sub(signed(clock::boottime_ms())));
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
