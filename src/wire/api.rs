//! Shapes of the local API: what the command line asks a node, and what it answers.
//!
//! Page: `docs/spec/api.md`. HTTP/1.1 with JSON over a Unix socket; each request is one route, reads are `GET`,
//! the rest is `POST` with a JSON object. A failure is a `Failure` with a 4xx or 5xx status. `GET /v1/events` is a
//! stream of server-sent events (`Stamped`). Rules of every shape:
//! 1. a request with a field that this node does not know is refused, for it may mean something; an answer may
//!    have more fields than its reader knows;
//! 2. times are RFC 3339 in UTC (`UtcTime`), durations end in `_ms`, paths are in the escaped form (`PathText`),
//!    node ids in their text form, mesh and folder ids in hexadecimal.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use crate::base::{Level, Role};

mod answer;
mod archive;
mod audit;
mod coordinator;
mod doctor;
mod event;
mod failure;
mod guard;
mod late;
mod office;
mod past;
mod rules;
mod text;
mod verify;

pub use answer::{
    Alert, Amount, Behind, Dropped, Folder, FolderBrief, FolderState, Founded, Got, Invitation, InvitationOutcome,
    InvitationState, Joined, Left, Member, Merged, MeshRef, NodeRef, Notice, NoticeKind, Peer, Response, Shared,
    Standing, Started, Status, Stopping, Term, ThisNode, VersionGap, Waited,
};
pub use archive::{
    ArchiveAnswer, ArchiveChecked, ArchivePassword, ArchivePruned, ArchiveStatus, ArchivedFolder, AskArchive,
    SnapshotFailed, SnapshotTaken, SnapshotsTaken,
};
pub use audit::{AUDIT_ENTRIES_MAX, AuditAfter, AuditEntry, Deed, Verdict};
pub use coordinator::{AllowNode, Allowed, Coordinator, EligibleNode, PRIORITY_USUAL, SteppedDown};
pub use doctor::{Checkup, Finding, FolderCheck, PeerCheck, Room};
pub use event::{Change, Event, JoinStep, Stamped};
pub use failure::{Failure, FailureKind};
pub use guard::{DecideHeld, Decided, HELD_PATHS_MAX, HeldBurst};
pub use late::{
    KeepLate, Kept, KeptIn, LATE_CHANGES_MAX, Late, LateChange, LateCount, LateIn, LateReason, ReinstateNode,
    Reinstated,
};
pub use office::{AskCopies, DiskRoom, FolderCopies, FolderHealth, Health, NodeHealth, WantedCopies};
pub use past::{
    ConflictCopy, ConflictSide, Conflicts, ConflictsIn, KeepSide, KeptVersion, Moment, NotRestored, PAST_MAX,
    ResolveConflict, Resolved, RestoreAt, Restored, Versions, VersionsBelow, VersionsOf,
};
pub use rules::{
    ChangeGroup, ChangeRole, ExpelNode, Expelled, FolderRef, GrantRule, Group, GroupStep, MemberLevel, RecoverMesh,
    Recovered, RenameThing, Renamed, RetireFolder, Retired, RevertChanges, Reverted, RevokeRule, RoleChanged, Rule,
    Ruled, Rules, RulesOf, Secret, Standings, SubjectRef, Thing, Until,
};
pub use text::{PathText, UtcTime};
pub use verify::{DAMAGED_LISTED_MAX, REPAIR_MS_MAX, Unread, Verified, VerifyFolders};

/// Longest body of a request. A guess with room: the longest honest one is a ticket of some 2 KiB.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Longest body of an answer that a client reads. A guess: 50 members and 5,000 folders at 1 KiB each fit.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest one event of the stream that a client reads: a path at its longest, fully escaped, and its frame.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;
/// The route of the stream of events.
pub const EVENTS_PATH: &str = "/v1/events";

/// What a node can be asked. Events are asked of the API itself, see `EVENTS_PATH`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// This node, its mesh, peers, folders, coordinator, alerts. Answer: `Status`.
    Status,
    /// Every member. Answer: a list of `Member`.
    Nodes,
    /// Every folder that this node may see. Answer: a list of `Folder`.
    Folders,
    /// Share a directory. Answer: `Shared`.
    Share(Share),
    /// Receive a folder, or fetch one path of it. Answer: `Got`.
    Get(Get),
    /// Stop receiving a folder; files stay. Answer: `Dropped`.
    Drop(DropFolder),
    /// Open an invitation. Answer: `Invitation`.
    Invite(Invite),
    /// Answered once the invitation is used, expired or void. Answer: `InvitationOutcome`.
    InviteOutcome(InviteOutcome),
    /// Join a mesh; answered once admitted. Answer: `Joined`.
    Join(Join),
    /// Leave the mesh. Answer: `Left`.
    Leave,
    /// The rules in force, of one folder or of all. Answer: `Rules`.
    Rules(RulesOf),
    /// Sign a rule. Answer: `Ruled`.
    Grant(GrantRule),
    /// Withdraw a rule. Answer: `Ruled`.
    Revoke(RevokeRule),
    /// End a node's membership. Answer: `Expelled`.
    Expel(ExpelNode),
    /// Make a node an admin, or a plain member. Answer: `RoleChanged`.
    Role(ChangeRole),
    /// Every group. Answer: a list of `Group`.
    Groups,
    /// Make or change a group. Answer: `Group`.
    Group(ChangeGroup),
    /// Give the mesh, a node or a folder another name. Answer: `Renamed`.
    Rename(RenameThing),
    /// Share a folder no more. Answer: `Retired`.
    Retire(RetireFolder),
    /// Take back changes that stay on this machine because it may not write there. Answer: `Reverted`.
    Revert(RevertChanges),
    /// Changes that do not count, such as those that came too late. Answer: `Late`.
    Late(LateIn),
    /// Keep such changes after all. Answer: `Kept`.
    KeepLate(KeepLate),
    /// Let a node go on that signed two histories. Answer: `Reinstated`.
    Reinstate(ReinstateNode),
    /// What the mass-change guard holds. Answer: a list of `HeldBurst`.
    Guard,
    /// Let held changes of a node happen, or bring back what was before. Answer: `Decided`.
    Decide(DecideHeld),
    /// Read everything again. Answer: a list of `Verified`, once all was read and repaired that can be.
    Verify(VerifyFolders),
    /// Let a node be coordinator, or no longer. Answer: `Allowed`.
    Allow(AllowNode),
    /// The coordinator, and who may be it. Answer: `Coordinator`.
    Coordinator,
    /// Hand over to another node. Answer: `SteppedDown`, once the other one serves.
    StepDown,
    /// Make this node an admin by the paper recovery key. Answer: `Recovered`.
    Recover(RecoverMesh),
    /// What can be brought back of a path. Answer: `Versions`.
    Versions(VersionsOf),
    /// Bring a path back to what it was. Answer: `Restored`.
    Restore(RestoreAt),
    /// Conflict copies. Answer: `Conflicts`.
    Conflicts(ConflictsIn),
    /// End a conflict. Answer: `Resolved`.
    ResolveConflict(ResolveConflict),
    /// Every member as it last said, and where every folder is. Answer: `Health`.
    Health,
    /// Say, or change, on how many machines a folder shall be. Answer: `WantedCopies`.
    Copies(AskCopies),
    /// The archive. Answer: see `AskArchive`.
    Archive(AskArchive),
    /// The audit log. Answer: a list of `AuditEntry`.
    Audit(AuditAfter),
    /// What only the node can measure of its machine. Answer: `Checkup`.
    Doctor,
    /// Answered once this node has all it should have from connected peers, and told them all it has. Answer: `Waited`.
    Wait(Wait),
    /// End the node cleanly; answered before it ends. Answer: `Stopping`.
    Shutdown,
}

/// See `Request::Share`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Absolute path of the directory; its last component is made where it does not exist.
    pub path: PathText,
    /// Name of the folder; the directory's own where none is given.
    #[serde(default)]
    pub name: Option<String>,
    /// What every member may do there; write where nothing is said.
    #[serde(default)]
    pub everyone: Option<Level>,
}

/// See `Request::Get`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// Name or id of the folder.
    pub folder: String,
    /// Only this path inside the folder.
    #[serde(default)]
    pub inside: Option<PathText>,
    /// Absolute path to receive at; the node's own place for folders where none is given.
    #[serde(default)]
    pub path: Option<PathText>,
}

/// See `Request::Drop`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropFolder {
    /// Name or id of the folder.
    pub folder: String,
}

/// See `Request::Invite`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// Role of the new node.
    pub role: Role,
    /// How long the code is good for, in milliseconds.
    pub expires_ms: u64,
    /// Levels the new node is granted on top of what everyone may.
    #[serde(default)]
    pub folders: Vec<InviteFolder>,
    /// A ticket instead of a spoken code, for machines without a person in front.
    #[serde(default)]
    pub ticket: bool,
}

/// One `--folder NAME=LEVEL` of an invitation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteFolder {
    /// Name or id of the folder.
    pub folder: String,
    /// Level of the new node there.
    pub level: Level,
}

/// See `Request::InviteOutcome`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteOutcome {
    /// `Invitation::id`.
    pub id: String,
}

/// See `Request::Join`. Exactly one of `code` and `ticket` is given.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The spoken code.
    #[serde(default)]
    pub code: Option<String>,
    /// The text of a ticket.
    #[serde(default)]
    pub ticket: Option<String>,
    /// New name of this node.
    #[serde(default)]
    pub name: Option<String>,
    /// `HOST:PORT` of the inviting node, where it is not found by itself.
    #[serde(default)]
    pub at: Option<String>,
    /// Absolute path of the directory under which folders are received.
    #[serde(default)]
    pub into: Option<PathText>,
    /// Folders are only offered, not received.
    #[serde(default)]
    pub no_folders: bool,
}

/// See `Request::Wait`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// Name or id of the one folder to wait for; all where none is given.
    #[serde(default)]
    pub folder: Option<String>,
    /// Give up after this many milliseconds with a failure of kind `timed_out`.
    pub timeout_ms: u64,
}

/// A body where nothing is to be said.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Why bytes that came over HTTP are no request. Nothing was asked of the node.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// No such route.
    #[error("this node's API has no route {path}")]
    Route {
        /// What was asked for.
        path: String,
    },
    /// The route exists under the other method.
    #[error("{path} is asked with {method}")]
    Method {
        /// What was asked for.
        path: &'static str,
        /// How it should have been.
        method: &'static str,
    },
    /// The body is not the JSON that the route takes.
    #[error("the body of {path} is not what it takes")]
    Body {
        /// What was asked for.
        path: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// Every route: path, method.
const ROUTES: [(&str, &str); 41] = [
    ("/v1/status", "GET"),
    ("/v1/nodes", "GET"),
    ("/v1/folders", "GET"),
    ("/v1/share", "POST"),
    ("/v1/get", "POST"),
    ("/v1/drop", "POST"),
    ("/v1/invite", "POST"),
    ("/v1/invite/outcome", "POST"),
    ("/v1/join", "POST"),
    ("/v1/leave", "POST"),
    ("/v1/wait", "POST"),
    ("/v1/shutdown", "POST"),
    ("/v1/rules", "POST"),
    ("/v1/grant", "POST"),
    ("/v1/revoke", "POST"),
    ("/v1/expel", "POST"),
    ("/v1/role", "POST"),
    ("/v1/groups", "GET"),
    ("/v1/group", "POST"),
    ("/v1/rename", "POST"),
    ("/v1/retire", "POST"),
    ("/v1/revert", "POST"),
    ("/v1/recover", "POST"),
    ("/v1/audit", "POST"),
    ("/v1/late", "POST"),
    ("/v1/late/keep", "POST"),
    ("/v1/reinstate", "POST"),
    ("/v1/guard", "GET"),
    ("/v1/guard/decide", "POST"),
    ("/v1/verify", "POST"),
    ("/v1/versions", "POST"),
    ("/v1/restore", "POST"),
    ("/v1/conflicts", "POST"),
    ("/v1/conflicts/resolve", "POST"),
    ("/v1/doctor", "GET"),
    ("/v1/health", "GET"),
    ("/v1/copies", "POST"),
    ("/v1/archive", "POST"),
    ("/v1/coordinator/allow", "POST"),
    ("/v1/coordinator", "GET"),
    ("/v1/coordinator/step-down", "POST"),
];

impl Request {
    /// The request's method and path.
    pub fn route(&self) -> (&'static str, &'static str) {
        let at = match self {
            Self::Status => 0,
            Self::Nodes => 1,
            Self::Folders => 2,
            Self::Share(_) => 3,
            Self::Get(_) => 4,
            Self::Drop(_) => 5,
            Self::Invite(_) => 6,
            Self::InviteOutcome(_) => 7,
            Self::Join(_) => 8,
            Self::Leave => 9,
            Self::Wait(_) => 10,
            Self::Shutdown => 11,
            Self::Rules(_) => 12,
            Self::Grant(_) => 13,
            Self::Revoke(_) => 14,
            Self::Expel(_) => 15,
            Self::Role(_) => 16,
            Self::Groups => 17,
            Self::Group(_) => 18,
            Self::Rename(_) => 19,
            Self::Retire(_) => 20,
            Self::Revert(_) => 21,
            Self::Recover(_) => 22,
            Self::Audit(_) => 23,
            Self::Late(_) => 24,
            Self::KeepLate(_) => 25,
            Self::Reinstate(_) => 26,
            Self::Guard => 27,
            Self::Decide(_) => 28,
            Self::Verify(_) => 29,
            Self::Versions(_) => 30,
            Self::Restore(_) => 31,
            Self::Conflicts(_) => 32,
            Self::ResolveConflict(_) => 33,
            Self::Doctor => 34,
            Self::Health => 35,
            Self::Copies(_) => 36,
            Self::Archive(_) => 37,
            Self::Allow(_) => 38,
            Self::Coordinator => 39,
            Self::StepDown => 40,
        };
        let (path, method) = ROUTES[at];
        (method, path)
    }

    /// The request's body; empty for reads.
    pub fn body(&self) -> Vec<u8> {
        let json = match self {
            Self::Status
            | Self::Nodes
            | Self::Folders
            | Self::Groups
            | Self::Guard
            | Self::Health
            | Self::Doctor
            | Self::Coordinator => {
                return Vec::new();
            }
            Self::Allow(ask) => serde_json::to_vec(ask),
            Self::Share(ask) => serde_json::to_vec(ask),
            Self::Get(ask) => serde_json::to_vec(ask),
            Self::Drop(ask) => serde_json::to_vec(ask),
            Self::Invite(ask) => serde_json::to_vec(ask),
            Self::InviteOutcome(ask) => serde_json::to_vec(ask),
            Self::Join(ask) => serde_json::to_vec(ask),
            Self::Wait(ask) => serde_json::to_vec(ask),
            Self::Rules(ask) => serde_json::to_vec(ask),
            Self::Grant(ask) => serde_json::to_vec(ask),
            Self::Revoke(ask) => serde_json::to_vec(ask),
            Self::Expel(ask) => serde_json::to_vec(ask),
            Self::Role(ask) => serde_json::to_vec(ask),
            Self::Group(ask) => serde_json::to_vec(ask),
            Self::Rename(ask) => serde_json::to_vec(ask),
            Self::Retire(ask) => serde_json::to_vec(ask),
            Self::Revert(ask) => serde_json::to_vec(ask),
            Self::Recover(ask) => serde_json::to_vec(ask),
            Self::Audit(ask) => serde_json::to_vec(ask),
            Self::Late(ask) => serde_json::to_vec(ask),
            Self::KeepLate(ask) => serde_json::to_vec(ask),
            Self::Reinstate(ask) => serde_json::to_vec(ask),
            Self::Decide(ask) => serde_json::to_vec(ask),
            Self::Verify(ask) => serde_json::to_vec(ask),
            Self::Versions(ask) => serde_json::to_vec(ask),
            Self::Restore(ask) => serde_json::to_vec(ask),
            Self::Conflicts(ask) => serde_json::to_vec(ask),
            Self::ResolveConflict(ask) => serde_json::to_vec(ask),
            Self::Copies(ask) => serde_json::to_vec(ask),
            Self::Archive(ask) => serde_json::to_vec(ask),
            Self::Leave | Self::StepDown | Self::Shutdown => serde_json::to_vec(&Nothing {}),
        };
        json.expect("requests have only text keys")
    }

    /// Reads what `route` and `body` write. `body` is at most `REQUEST_BYTES_MAX` long. An empty body means `{}`.
    pub fn from_http(method: &str, path: &str, body: &[u8]) -> Result<Self, BadRequest> {
        let Some((path, expected)) = ROUTES.into_iter().find(|(known, _)| *known == path) else {
            return Err(BadRequest::Route { path: path.chars().take(100).collect() });
        };
        if method != expected {
            return Err(BadRequest::Method { path, method: expected });
        }
        Ok(match path {
            "/v1/status" => Self::Status,
            "/v1/nodes" => Self::Nodes,
            "/v1/folders" => Self::Folders,
            "/v1/share" => Self::Share(read(path, body)?),
            "/v1/get" => Self::Get(read(path, body)?),
            "/v1/drop" => Self::Drop(read(path, body)?),
            "/v1/invite" => Self::Invite(read(path, body)?),
            "/v1/invite/outcome" => Self::InviteOutcome(read(path, body)?),
            "/v1/join" => Self::Join(read(path, body)?),
            "/v1/leave" => read::<Nothing>(path, body).map(|_| Self::Leave)?,
            "/v1/wait" => Self::Wait(read(path, body)?),
            "/v1/groups" => Self::Groups,
            "/v1/rules" => Self::Rules(read(path, body)?),
            "/v1/grant" => Self::Grant(read(path, body)?),
            "/v1/revoke" => Self::Revoke(read(path, body)?),
            "/v1/expel" => Self::Expel(read(path, body)?),
            "/v1/role" => Self::Role(read(path, body)?),
            "/v1/group" => Self::Group(read(path, body)?),
            "/v1/rename" => Self::Rename(read(path, body)?),
            "/v1/retire" => Self::Retire(read(path, body)?),
            "/v1/revert" => Self::Revert(read(path, body)?),
            "/v1/recover" => Self::Recover(read(path, body)?),
            "/v1/audit" => Self::Audit(read(path, body)?),
            "/v1/late" => Self::Late(read(path, body)?),
            "/v1/late/keep" => Self::KeepLate(read(path, body)?),
            "/v1/reinstate" => Self::Reinstate(read(path, body)?),
            "/v1/guard" => Self::Guard,
            "/v1/doctor" => Self::Doctor,
            "/v1/guard/decide" => Self::Decide(read(path, body)?),
            "/v1/verify" => Self::Verify(read(path, body)?),
            "/v1/versions" => Self::Versions(read(path, body)?),
            "/v1/restore" => Self::Restore(read(path, body)?),
            "/v1/coordinator" => Self::Coordinator,
            "/v1/coordinator/step-down" => read::<Nothing>(path, body).map(|_| Self::StepDown)?,
            "/v1/conflicts" => Self::Conflicts(read(path, body)?),
            "/v1/conflicts/resolve" => Self::ResolveConflict(read(path, body)?),
            "/v1/health" => Self::Health,
            "/v1/copies" => Self::Copies(read(path, body)?),
            "/v1/archive" => Self::Archive(read(path, body)?),
            "/v1/coordinator/allow" => Self::Allow(read(path, body)?),
            _ => read::<Nothing>(path, body).map(|_| Self::Shutdown)?,
        })
    }
}

impl BadRequest {
    /// The HTTP status that says so.
    pub fn status(&self) -> u16 {
        match self {
            Self::Route { .. } => 404,
            Self::Method { .. } => 405,
            Self::Body { .. } => 400,
        }
    }

    /// The failure that says so.
    pub fn to_failure(&self) -> Failure {
        let failure = Failure::new(FailureKind::Usage, self.to_string());
        match self {
            Self::Route { .. } | Self::Method { .. } => {
                failure.hint("the command line and the node may be of different versions: update both")
            }
            Self::Body { source, .. } => failure.because(source),
        }
    }
}

fn read<T: DeserializeOwned>(path: &'static str, body: &[u8]) -> Result<T, BadRequest> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|source| BadRequest::Body { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_request() -> Vec<Request> {
        let path = PathText::from_bytes(b"/srv/caf\xe9");
        vec![
            Request::Status,
            Request::Nodes,
            Request::Coordinator,
            Request::StepDown,
            Request::Folders,
            Request::Share(Share { path: path.clone(), name: Some("plans".into()), everyone: Some(Level::Read) }),
            Request::Get(Get { folder: "plans".into(), inside: None, path: Some(path.clone()) }),
            Request::Drop(DropFolder { folder: "plans".into() }),
            Request::Invite(Invite {
                role: Role::Member,
                expires_ms: 600_000,
                folders: vec![InviteFolder { folder: "plans".into(), level: Level::Write }],
                ticket: false,
            }),
            Request::InviteOutcome(InviteOutcome { id: "4".into() }),
            Request::Join(Join {
                code: Some("4-harvest-violin".into()),
                ticket: None,
                name: None,
                at: Some("10.0.0.2:47474".into()),
                into: Some(path),
                no_folders: true,
            }),
            Request::Leave,
            Request::Allow(AllowNode { node: "attic".into(), priority: Some(PRIORITY_USUAL) }),
            Request::Archive(AskArchive::Check { read_data: true, repair: false }),
            Request::Wait(Wait { folder: None, timeout_ms: 60_000 }),
            Request::Shutdown,
            Request::Rules(RulesOf { folder: None }),
            Request::Grant(GrantRule {
                subject: "everyone".into(),
                at: "plans:2026/drafts".into(),
                level: Level::Read,
                until: Some(Until::AfterMs(5)),
            }),
            Request::Revoke(RevokeRule { subject: "workshop".into(), at: "plans".into() }),
            Request::Expel(ExpelNode { node: "workshop".into() }),
            Request::Role(ChangeRole { node: "workshop".into(), role: Role::Admin }),
            Request::Groups,
            Request::Group(ChangeGroup {
                step: GroupStep::Add,
                group: "accounting".into(),
                nodes: vec!["attic".into()],
            }),
            Request::Rename(RenameThing { what: Thing::Folder("plans".into()), name: "drawings".into() }),
            Request::Retire(RetireFolder { folder: "plans".into() }),
            Request::Revert(RevertChanges { folder: "plans".into(), path: None }),
            Request::Recover(RecoverMesh { key: Secret("aaaa".into()), expel: vec!["attic".into()] }),
            Request::Audit(AuditAfter { after: Some(7), limit: 100, refused: true, office: false }),
            Request::Late(LateIn { folder: Some("plans".into()), path: None }),
            Request::KeepLate(KeepLate { node: "laptop".into(), folder: None, path: None }),
            Request::Reinstate(ReinstateNode { node: "laptop".into(), folder: Some("plans".into()) }),
            Request::Guard,
            Request::Doctor,
            Request::Decide(DecideHeld { node: "laptop".into(), folder: None, release: false }),
            Request::Verify(VerifyFolders { folder: None, repair_ms: 1 }),
            Request::Versions(VersionsOf { folder: "plans".into(), path: None }),
            Request::Restore(RestoreAt {
                folder: "plans".into(),
                path: Some(PathText::from_bytes(b"office")),
                at: Moment::AgoMs(5),
                to: None,
                dry_run: true,
            }),
            Request::Health,
            Request::Copies(AskCopies { folder: "plans".into(), nodes: Some(2), server: None }),
            Request::Conflicts(ConflictsIn { folder: None }),
            Request::ResolveConflict(ResolveConflict {
                folder: "plans".into(),
                path: PathText::from_bytes(b"office"),
                keep: KeepSide::Mine,
            }),
        ]
    }

    #[test]
    fn every_request_survives_its_route_and_body() {
        for request in every_request() {
            let (method, path) = request.route();
            let back = Request::from_http(method, path, &request.body()).expect("own request");
            assert_eq!(back, request);
        }
        assert_eq!(every_request().len(), ROUTES.len());
    }

    #[test]
    fn what_is_asked_of_the_archive_has_no_more_than_its_own_fields() {
        let asked = Request::from_http("POST", "/v1/archive", b"{\"ask\":\"snapshot\"}").expect("sound");
        assert_eq!(asked, Request::Archive(AskArchive::Snapshot { folder: None }));
        for body in [&b"{\"ask\":\"prune\",\"all\":true}"[..], b"{\"ask\":\"burn\"}", b"{}"] {
            assert!(Request::from_http("POST", "/v1/archive", body).is_err());
        }
    }

    #[test]
    fn what_is_no_request_is_named() {
        let unknown = Request::from_http("GET", "/v1/nothing", b"").expect_err("no route");
        assert_eq!(unknown.status(), 404);
        let method = Request::from_http("GET", "/v1/share", b"").expect_err("wrong method");
        assert_eq!(method.status(), 405);
        for body in [&b"{"[..], b"[]", b"{}", b"{\"folder\":\"x\",\"force\":true}", b"\xff", b"{\"folder\":1}"] {
            let bad = Request::from_http("POST", "/v1/drop", body).expect_err("wrong body");
            assert_eq!(bad.status(), 400);
            assert_eq!(bad.to_failure().kind, FailureKind::Usage);
        }
        assert!(Request::from_http("POST", "/v1/leave", b"{\"now\":true}").is_err());
        assert!(Request::from_http("POST", "/v1/leave", b"").is_ok());
    }
}
