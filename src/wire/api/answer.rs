//! What a node answers.

use serde::{Deserialize, Serialize};

use super::{
    Allowed, ArchiveAnswer, AuditEntry, Checkup, Conflicts, Coordinator, Decided, Expelled, Group, Health, HeldBurst,
    Kept, Late, LateCount, PathText, Recovered, Reinstated, Renamed, Resolved, Restored, Retired, Reverted,
    RoleChanged, Ruled, Rules, SteppedDown, UtcTime, Verified, Versions, WantedCopies,
};
use crate::base::{Level, Role};

/// The answer to a `Request`; in JSON just what it holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// To `Request::Status`.
    Status(Status),
    /// To `Request::Nodes`.
    Nodes(Vec<Member>),
    /// To `Request::Folders`.
    Folders(Vec<Folder>),
    /// To `Request::Share`.
    Shared(Shared),
    /// To `Request::Get`.
    Got(Got),
    /// To `Request::Drop`.
    Dropped(Dropped),
    /// To `Request::Invite`.
    Invitation(Invitation),
    /// To `Request::InviteOutcome`.
    InvitationOutcome(InvitationOutcome),
    /// To `Request::Join`.
    Joined(Joined),
    /// To `Request::Leave`.
    Left(Left),
    /// To `Request::Wait`.
    Waited(Waited),
    /// To `Request::Shutdown`.
    Stopping(Stopping),
    /// To `Request::Rules`.
    Rules(Rules),
    /// To `Request::Grant` and `Request::Revoke`.
    Ruled(Ruled),
    /// To `Request::Expel`.
    Expelled(Expelled),
    /// To `Request::Role`.
    RoleChanged(RoleChanged),
    /// To `Request::Groups`.
    Groups(Vec<Group>),
    /// To `Request::Group`.
    Group(Group),
    /// To `Request::Rename`.
    Renamed(Renamed),
    /// To `Request::Retire`.
    Retired(Retired),
    /// To `Request::Revert`.
    Reverted(Reverted),
    /// To `Request::Allow`.
    Allowed(Allowed),
    /// To `Request::Coordinator`.
    Coordinator(Coordinator),
    /// To `Request::StepDown`.
    SteppedDown(SteppedDown),
    /// To `Request::Recover`.
    Recovered(Recovered),
    /// To `Request::Audit`.
    Audit(Vec<AuditEntry>),
    /// To `Request::Late`.
    Late(Late),
    /// To `Request::KeepLate`.
    Kept(Kept),
    /// To `Request::Reinstate`.
    Reinstated(Reinstated),
    /// To `Request::Guard`.
    Held(Vec<HeldBurst>),
    /// To `Request::Decide`.
    Decided(Decided),
    /// To `Request::Verify`.
    Verified(Vec<Verified>),
    /// To `Request::Doctor`.
    Checkup(Checkup),
    /// To `Request::Versions`.
    Versions(Versions),
    /// To `Request::Restore`.
    Restored(Restored),
    /// To `Request::Conflicts`.
    Conflicts(Conflicts),
    /// To `Request::ResolveConflict`.
    Resolved(Resolved),
    /// To `Request::Health`.
    Health(Health),
    /// To `Request::Copies`.
    Copies(WantedCopies),
    /// To `Request::Archive`.
    Archive(Box<ArchiveAnswer>),
}

/// Files and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Number of files.
    pub files: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

/// A node by id and name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRef {
    /// Text form of the node id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A mesh by id and name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MeshRef {
    /// Mesh id in hexadecimal.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// This node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ThisNode {
    /// Text form of the node id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Version of the running program.
    pub version: String,
    /// Where it listens for peers; empty while it cannot.
    #[serde(default)]
    pub listen: Vec<String>,
    /// Whether it reaches only its folders and its own directories: by Landlock, where the kernel has it.
    #[serde(default)]
    pub confined: bool,
}

/// What this node is to its mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// There is no mesh yet.
    NoMesh,
    /// It founded its mesh and nobody else is in it.
    Alone,
    /// A member.
    Member,
    /// An admin.
    Admin,
    /// Its membership was taken away.
    Expelled,
}

/// Answer to `Request::Status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub node: ThisNode,
    /// Its mesh; null where there is none.
    pub mesh: Option<MeshRef>,
    /// What it is there.
    pub standing: Standing,
    /// Address of its page; null where there is none.
    pub page: Option<String>,
    /// The other members.
    pub peers: Vec<Peer>,
    /// Folders, received here or only offered.
    pub folders: Vec<Folder>,
    /// The coordinator; null where none is elected.
    pub coordinator: Option<Term>,
    /// What needs a person.
    #[serde(default)]
    pub alerts: Vec<Alert>,
}

/// Another member, as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Text form of the node id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether there is a link now.
    pub connected: bool,
    /// `HOST:PORT` of the link, or the last known one.
    pub address: Option<String>,
    /// Name of the relay through which it is connected; null where it is reached directly.
    #[serde(default)]
    pub via: Option<String>,
    /// Why it cannot be talked to, where the two have no version in common; else null.
    #[serde(default)]
    pub apart: Option<VersionGap>,
}

/// Who needs a newer lanyard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behind {
    /// The machine that answers.
    This,
    /// The other one.
    That,
    /// The other one did not say what it speaks.
    Unknown,
}

/// A member with which this node has no version of the protocol in common.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VersionGap {
    /// Who needs a newer lanyard.
    pub behind: Behind,
    /// What is wrong, in words.
    pub why: String,
    /// What to do.
    pub hint: String,
    /// What this node speaks, newest first.
    pub ours: Vec<u16>,
    /// What the other speaks, newest first; empty where it did not say.
    pub theirs: Vec<u16>,
}

impl VersionGap {
    /// The state of the other machine, in a few words.
    pub fn word(&self) -> &'static str {
        match self.behind {
            Behind::This => "away: this machine needs a newer lanyard",
            Behind::That => "away: needs a newer lanyard",
            Behind::Unknown => "away: runs another lanyard",
        }
    }
}

/// A member, for `Request::Nodes`; this node too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Text form of the node id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Whether it is the node that answers.
    pub this: bool,
    /// Whether there is a link now; true for this node.
    pub connected: bool,
    /// `HOST:PORT` of the link, or the last known one.
    pub address: Option<String>,
    /// Name of the relay through which it is connected; null where it is reached directly.
    #[serde(default)]
    pub via: Option<String>,
    /// The program that it said it runs; null where it has said nothing since this node was started.
    #[serde(default)]
    pub version: Option<String>,
    /// Why it cannot be talked to, where the two have no version in common; else null.
    #[serde(default)]
    pub apart: Option<VersionGap>,
    /// The priority with which it may be coordinator; null where it may not.
    pub priority: Option<u16>,
    /// When it was last connected; null where it never was, and for this node.
    pub last_seen: Option<UtcTime>,
}

/// The elected coordinator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Term {
    /// Text form of the node id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Number of the term.
    pub term: u64,
}

/// What a folder is doing here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderState {
    /// It may be received here, and is not: `get` does.
    Offered,
    /// Nothing to do.
    Idle,
    /// Its files are being looked at.
    Scanning,
    /// Something is being received.
    Syncing,
    /// Receiving is paused; `why` says for what.
    Held,
    /// It stopped; `why` says for what.
    Error,
}

/// A folder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Folder {
    /// Folder id in hexadecimal.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it is on this machine; null while it is only offered.
    pub path: Option<PathText>,
    /// What this node may do there.
    pub level: Level,
    /// What it is doing.
    pub state: FolderState,
    /// Why it is held or in error.
    #[serde(default)]
    pub why: Option<String>,
    /// What is here.
    pub local: Amount,
    /// What is missing here.
    pub need: Amount,
    /// Changes made here that are not spread, because this node may not write there.
    #[serde(default)]
    pub local_only: u64,
    /// How many changes made here wait until another machine is reached: they are sent then.
    #[serde(default)]
    pub waiting: u64,
    /// Changes that came too late and do not count, by who made them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<LateCount>,
    /// Members that signed two histories of the folder: what they change waits until they are reinstated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forked: Vec<NodeRef>,
    /// The paths inside that are received here; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PathText>,
    /// What is unusual about names there, on this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
}

/// Names of a folder that are unusual in the same way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// In which way, in a word.
    pub kind: NoticeKind,
    /// In a sentence, with the first names.
    pub what: String,
    /// How many names are known.
    pub count: u64,
    /// The first names.
    pub paths: Vec<PathText>,
    /// What helps.
    pub hint: String,
}

/// See `Notice`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// Files that cannot be read.
    Unreadable,
    /// Directories that cannot be looked into.
    Closed,
    /// Changes from elsewhere that cannot be carried out: they wait.
    Unwritable,
    /// The same, because this disk takes the name for another's.
    Twin,
    /// Names too deep or too long to be shared.
    Unnamable,
    /// Pipes, sockets, devices, mounted disks.
    Special,
    /// Names that Windows or macOS cannot tell apart.
    Clash,
    /// Names that Windows cannot have.
    Foreign,
    /// Extended attributes that are not carried.
    Attributes,
    /// Files that belong here to others than elsewhere.
    Owner,
}

/// A folder in a sentence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FolderBrief {
    /// Its name.
    pub name: String,
    /// What the node may do there.
    pub level: Level,
    /// Where it is received; null where it is only offered.
    #[serde(default)]
    pub path: Option<PathText>,
}

/// Something that needs a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Alert {
    /// Since when.
    pub since: UtcTime,
    /// What is wrong, naming the object.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A mesh that this request founded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Founded {
    /// The new mesh.
    pub mesh: MeshRef,
    /// The paper recovery key, shown this once; null where there is none.
    pub recovery_key: Option<String>,
}

/// Answer to `Request::Share`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shared {
    /// The folder.
    pub folder: Folder,
    /// Whether the directory was made.
    pub made_directory: bool,
    /// What everyone may do there.
    pub everyone: Level,
    /// The mesh, where there was none before.
    pub founded: Option<Founded>,
}

/// Answer to `Request::Get`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Got {
    /// The folder, as it is when receiving starts.
    pub folder: Folder,
    /// Where the folder, or the one path of it, is received.
    pub path: PathText,
    /// Whether the directory was made.
    pub made_directory: bool,
}

/// Answer to `Request::Drop`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dropped {
    /// The folder's name.
    pub name: String,
    /// Where its files stay.
    pub path: PathText,
}

/// Answer to `Request::Invite`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// Names it for `Request::InviteOutcome`.
    pub id: String,
    /// The code to say; null for a ticket.
    pub code: Option<String>,
    /// The ticket's text, one line; null for a code.
    pub ticket: Option<String>,
    /// Until when it is good.
    pub expires_at: UtcTime,
    /// Role of the new node.
    pub role: Role,
    /// What the new node will have.
    pub folders: Vec<FolderBrief>,
    /// The mesh it leads into.
    pub mesh: MeshRef,
    /// The mesh, where there was none before.
    pub founded: Option<Founded>,
}

/// How an invitation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvitationState {
    /// A node was admitted by it.
    Used,
    /// Its time was over.
    Expired,
    /// A wrong code was tried: one guess is all there is.
    Void,
}

/// Answer to `Request::InviteOutcome`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InvitationOutcome {
    /// How it ended.
    pub state: InvitationState,
    /// Who was admitted.
    pub node: Option<NodeRef>,
}

/// Answer to `Request::Join`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// The mesh.
    pub mesh: MeshRef,
    /// Who admitted this node.
    pub by: NodeRef,
    /// This node's role there.
    pub role: Role,
    /// The folders open to this node.
    pub folders: Vec<FolderBrief>,
    /// The own mesh that was dissolved by this.
    pub dissolved: Option<MeshRef>,
    /// What became of the folders of the dissolved mesh.
    #[serde(default)]
    pub merged: Vec<Merged>,
}

/// What became of one folder of a dissolved mesh.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Merged {
    /// Its name in the joined mesh.
    pub name: String,
    /// Where it is.
    pub path: PathText,
    /// Whether it merged into a folder of that name; else it became a new one.
    pub into_existing: bool,
}

/// Answer to `Request::Leave`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Left {
    /// The mesh that was left.
    pub mesh: MeshRef,
    /// Nobody else was in it: it is no more.
    pub dissolved: bool,
    /// It had been left, or this node expelled, before.
    pub already: bool,
}

/// Answer to `Request::Wait`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Waited {
    /// The folders waited for.
    pub folders: Vec<Folder>,
    /// How many peers were connected.
    pub connected: u32,
}

/// Answer to `Request::Shutdown`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stopping {
    /// Text form of the id of the node that ends.
    pub id: String,
}

/// What `up` says once the node runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Started {
    /// The node as it is now.
    pub status: Status,
    /// Whether its key was made just now.
    pub first_start: bool,
    /// The mesh, where there was none before.
    pub founded: Option<Founded>,
    /// The folders of `up PATH...`; those that were shared before are in `status`.
    pub shared: Vec<Shared>,
    /// Where its configuration, key and index are.
    pub home: PathText,
    /// Where the command line reaches it.
    pub socket: PathText,
}
