//! Statements: the signed sentences of the policy.
//!
//! Page: `docs/spec/formats/statements.md`. The body of the envelope is the common head followed by the
//! sentence of the envelope's kind; a node that does not know the kind still reads the head.

use ed25519_dalek::SigningKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::codec::{self, DecodeError, List, Text};
use super::envelope::{Envelope, kind};
use super::signed::{Domain, Signed};
use crate::base::{
    BatchHash, FolderId, GroupId, Hlc, Level, MeshId, NodeId, PassId, RelPath, Role, StatementId, Writer,
};

/// Longest envelope of a statement. Largest legal one: an `Expel` with `FRONTIERS_MAX` frontiers, about 118 KiB.
pub const STATEMENT_BYTES_MAX: usize = 128 * 1024;
/// Most heads that a statement or batch names. 50 machines that all sign at once stay below it.
pub const PARENTS_MAX: usize = 64;
/// Most frontiers that one statement carries; a wider freeze takes several statements.
pub const FRONTIERS_MAX: usize = 1024;
/// Most members of a group. Far above the 50 machines of an office.
pub const GROUP_MAX: usize = 256;
/// Most runs of entries that one `Vouch` keeps. A guess: late work comes in few runs.
pub const RANGES_MAX: usize = 256;
/// Longest name of a node, folder, group, pass or mesh, in bytes. One file name component.
pub const NAME_MAX: usize = 255;

/// A name for people.
pub type Name = Text<NAME_MAX>;

/// What every statement says beside its sentence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The mesh; `None` only in `Found`, whose own id becomes the mesh's.
    pub mesh: Option<MeshId>,
    /// Who signs: a node, or the recovery key of the mesh.
    pub issuer: NodeId,
    /// The issuer's own number for this statement: 1, 2, 3 … without gaps.
    pub counter: u64,
    /// The newest statements that the issuer knew, sorted, none an ancestor of another. Empty only in `Found`.
    pub parents: List<StatementId, PARENTS_MAX>,
    /// When, for people.
    pub time: Hlc,
    /// What a node that does not know the kind must stop serving: one folder, or (`None`) the mesh.
    pub scope: Option<FolderId>,
    /// For statements that can lower a level: the logs of those it affects, as the issuer knew them, sorted.
    pub frontiers: List<FolderFrontier, FRONTIERS_MAX>,
}

/// How far one writer's log of one folder reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct FolderFrontier {
    /// The folder.
    pub folder: FolderId,
    /// Whose log.
    pub frontier: Frontier,
}

impl FolderFrontier {
    /// Says that the issuer holds a folder's index: a writer of it that is not named has written nothing there that
    /// the issuer knew. Of no writer; sorts before all others.
    pub fn holds(folder: FolderId) -> Self {
        let writer = Writer { node: NodeId([0; 32]), incarnation: 0 };
        Self { folder, frontier: Frontier { writer, seq: 0, batch: BatchHash([0; 32]) } }
    }
}

/// A point in one writer's log: nobody can grow another branch below it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Frontier {
    /// Whose log.
    pub writer: Writer,
    /// The last entry's sequence number.
    pub seq: u64,
    /// The hash of the batch that ends with it.
    pub batch: BatchHash,
}

/// The sentence of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// The mesh is founded; the issuer is its first admin.
    Found(Found),
    /// A node becomes a member.
    Admit(Admit),
    /// A node's membership ends; a node may always say it of itself.
    Expel(Expel),
    /// A node's role changes.
    SetRole(SetRole),
    /// Something gets a new name.
    Rename(Rename),
    /// A named set of nodes, replacing its earlier members.
    Group(Group),
    /// A folder exists; its id is this statement's id, its creator has `manage`.
    CreateFolder(CreateFolder),
    /// A subject has a level on a path and all below it.
    Grant(Grant),
    /// The grants of one subject on one path are withdrawn.
    Revoke(Revoke),
    /// A folder is shared no more.
    RetireFolder(RetireFolder),
    /// A node may be coordinator.
    Eligible(Eligible),
    /// Access for a person without a node.
    Pass(Pass),
    /// Entries above a freeze are kept.
    Vouch(Vouch),
    /// Of these writers, only what lies at or below the head's frontiers counts.
    Seal(Seal),
    /// What the mass-change guard held is released or rejected.
    Verdict(Verdict),
    /// A writer signed two histories.
    Fork(Fork),
    /// A frozen writer's node goes on.
    Reinstate(Reinstate),
    /// How many machines shall hold all of a folder.
    Copies(Copies),
    /// A kind that a later version gave; kept and relayed.
    Unknown {
        /// The envelope's kind.
        kind: u16,
        /// Whether the scope must stop until this node is upgraded.
        critical: bool,
    },
}

/// See `Body::Found`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Found {
    /// The office's name.
    pub name: Name,
    /// The founder's name.
    pub node_name: Name,
    /// Makes two foundings of one node different.
    pub nonce: [u8; 16],
    /// Public key of the paper recovery key; it ranks above every admin.
    pub recovery: NodeId,
}

/// See `Body::Admit`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Admit {
    /// The new member.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// Its role.
    pub role: Role,
}

/// See `Body::Expel`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Expel {
    /// Who leaves.
    pub node: NodeId,
}

/// See `Body::SetRole`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SetRole {
    /// Whose role.
    pub node: NodeId,
    /// The role from now on.
    pub role: Role,
}

/// What a `Rename` names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Named {
    /// The mesh.
    Mesh,
    /// A node.
    Node(NodeId),
    /// A folder.
    Folder(FolderId),
}

/// See `Body::Rename`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rename {
    /// What gets the name.
    pub what: Named,
    /// The name.
    pub name: Name,
}

/// See `Body::Group`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Which group.
    pub group: GroupId,
    /// Its name.
    pub name: Name,
    /// Its members, sorted.
    pub members: List<NodeId, GROUP_MAX>,
}

/// See `Body::CreateFolder`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateFolder {
    /// Its name: one checked path component.
    pub name: Name,
}

/// Whom a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Subject {
    /// Every member.
    Everyone,
    /// The members of a group.
    Group(GroupId),
    /// One node.
    Node(NodeId),
}

/// See `Body::Grant`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Where.
    pub folder: FolderId,
    /// To whom.
    pub subject: Subject,
    /// On what, with all below it; the root for the whole folder.
    pub path: RelPath,
    /// What they may do.
    pub level: Level,
    /// Until when, milliseconds since 1970 UTC; `None` for ever.
    pub not_after: Option<u64>,
}

/// See `Body::Revoke`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revoke {
    /// Where.
    pub folder: FolderId,
    /// Whose grants.
    pub subject: Subject,
    /// On exactly which path.
    pub path: RelPath,
}

/// See `Body::RetireFolder`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RetireFolder {
    /// Which.
    pub folder: FolderId,
}

/// See `Body::Eligible`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Eligible {
    /// Which node.
    pub node: NodeId,
    /// Higher is preferred; `None`: not eligible any more.
    pub priority: Option<u16>,
}

/// See `Body::Copies`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Copies {
    /// Of which folder.
    pub folder: FolderId,
    /// On how many machines, those that may be coordinator not counted; 0 with `server` unset: no wish any more.
    pub nodes: u8,
    /// Whether one that may be coordinator shall hold it as well.
    pub server: bool,
}

/// One line of a pass.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PassGrant {
    /// Where.
    pub folder: FolderId,
    /// On what.
    pub path: RelPath,
    /// What its holder may do.
    pub level: Level,
}

/// See `Body::Pass`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pass {
    /// Which pass; a later statement about the same one replaces this.
    pub pass: PassId,
    /// Its holder's name.
    pub name: Name,
    /// Verifier of its secret.
    pub verifier: [u8; 32],
    /// What it opens; empty: revoked.
    pub grants: List<PassGrant, 64>,
    /// Until when, milliseconds since 1970 UTC.
    pub not_after: u64,
}

/// A run of one writer's entries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Range {
    /// Whose.
    pub writer: Writer,
    /// The first number.
    pub first: u64,
    /// The last number and the batch that ends with it or holds it.
    pub last: u64,
    /// Pins the branch.
    pub batch: BatchHash,
}

/// See `Body::Vouch`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vouch {
    /// Where.
    pub folder: FolderId,
    /// Which entries.
    pub ranges: List<Range, RANGES_MAX>,
}

/// See `Body::Seal`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seal {
    /// The grant whose expiry is sealed.
    pub grant: StatementId,
}

/// See `Body::Verdict`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Where.
    pub folder: FolderId,
    /// Which entries.
    pub range: Range,
    /// Applied, or undone.
    pub release: bool,
}

/// See `Body::Fork`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fork {
    /// Where.
    pub folder: FolderId,
    /// Whose log forked.
    pub writer: Writer,
    /// The last number that both histories share.
    pub common: u64,
    /// The signed header of the first batch after `common` in one history.
    pub left: ForkSide,
    /// The same in the other history.
    pub right: ForkSide,
}

impl Fork {
    /// The proof that two of its writer's batches follow one and the same: returns the last number that both
    /// histories share. `None`: it proves nothing.
    pub fn proof(&self, mesh: MeshId) -> Option<u64> {
        let open = |side: &ForkSide| {
            let signed = Signed {
                envelope: codec::Bytes::new(side.header.to_vec())?,
                signature: codec::Bytes::new(side.signature.to_vec())?,
            };
            let batch = Batch::open(signed).ok()?;
            let header = batch.header();
            let is_meant = (header.mesh, header.folder, header.writer) == (mesh, self.folder, self.writer);
            (is_meant && header.first.checked_sub(1) == Some(self.common)).then_some(batch)
        };
        let (left, right) = (open(&self.left)?, open(&self.right)?);
        let one_past = left.header().previous == right.header().previous;
        (one_past && left.hash() != right.hash()).then_some(self.common)
    }

    /// Writes down what two batches prove; `None`: they prove nothing.
    pub fn of(one: &Batch, other: &Batch) -> Option<Self> {
        let side = |batch: &Batch| {
            let signed = batch.signed();
            Some(ForkSide {
                header: codec::Bytes::new(signed.envelope.to_vec())?,
                signature: codec::Bytes::new(signed.signature.to_vec())?,
            })
        };
        let header = one.header();
        let (left, right) = if one.hash() < other.hash() { (one, other) } else { (other, one) };
        let fork = Self {
            folder: header.folder,
            writer: header.writer,
            common: header.first.checked_sub(1)?,
            left: side(left)?,
            right: side(right)?,
        };
        fork.proof(header.mesh).is_some().then_some(fork)
    }
}

/// One side of a fork: a signed batch header, which has at most 1,024 entry hashes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForkSide {
    /// Envelope of the batch header.
    pub header: codec::Bytes<{ 48 * 1024 }>,
    /// Its signature.
    pub signature: codec::Bytes<64>,
}

/// See `Body::Reinstate`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reinstate {
    /// Where.
    pub folder: FolderId,
    /// Whose log was frozen.
    pub writer: Writer,
}

/// A statement, decoded. Only `Statement::open` makes one from bytes, and only with a good signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    id: StatementId,
    head: Head,
    body: Body,
    signed: Signed,
}

impl Statement {
    /// Signs a sentence.
    pub fn sign(head: Head, body: Body, key: &SigningKey) -> Self {
        let sentence = body.encode();
        let mut bytes = codec::encode(&head);
        bytes.extend_from_slice(&sentence);
        let envelope = Envelope::seal(body.kind(), body.is_critical(), &bytes);
        let signed = Signed::sign(Domain::Statement, envelope, key);
        Self { id: StatementId(signed.hash(Domain::Statement)), head, body, signed }
    }

    /// Reads and verifies a signed statement. It may still be one that the policy refuses.
    pub fn open(signed: Signed) -> Result<Self, DecodeError> {
        const WHAT: &str = "statement";
        if signed.envelope.len() > STATEMENT_BYTES_MAX {
            return Err(DecodeError::TooLong { what: WHAT, bytes: signed.envelope.len(), max: STATEMENT_BYTES_MAX });
        }
        let envelope = Envelope::open(&signed.envelope)?;
        let (head, sentence) = codec::decode_prefix::<Head>(WHAT, envelope.body)?;
        let body = Body::decode(envelope.kind, envelope.critical, sentence)?;
        check_head(&head, &body)?;
        signed.verify(Domain::Statement, WHAT, head.issuer)?;
        Ok(Self { id: StatementId(signed.hash(Domain::Statement)), head, body, signed })
    }

    /// Its id.
    pub fn id(&self) -> StatementId {
        self.id
    }

    /// Issuer, counter, parents, time.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Its sentence.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The bytes as they travel and are stored.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }
}

fn check_head(head: &Head, body: &Body) -> Result<(), DecodeError> {
    let founding = matches!(body, Body::Found(_));
    let rooted = founding == head.mesh.is_none() && founding == head.parents.is_empty();
    let sorted = head.parents.windows(2).all(|pair| pair[0] < pair[1])
        && head.frontiers.windows(2).all(|pair| {
            let key = |f: &FolderFrontier| (f.folder, f.frontier.writer);
            key(&pair[0]) < key(&pair[1])
        });
    let members_sorted = match body {
        Body::Group(group) => group.members.windows(2).all(|pair| pair[0] < pair[1]),
        _ => true,
    };
    if rooted && sorted && members_sorted && head.counter > 0 {
        Ok(())
    } else {
        Err(DecodeError::Malformed("statement"))
    }
}

impl Body {
    /// The envelope kind of this sentence.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Found(_) => kind::FOUND,
            Self::Admit(_) => kind::ADMIT,
            Self::Expel(_) => kind::EXPEL,
            Self::SetRole(_) => kind::SET_ROLE,
            Self::Rename(_) => kind::RENAME,
            Self::Group(_) => kind::GROUP,
            Self::CreateFolder(_) => kind::CREATE_FOLDER,
            Self::Grant(_) => kind::GRANT,
            Self::Revoke(_) => kind::REVOKE,
            Self::RetireFolder(_) => kind::RETIRE_FOLDER,
            Self::Eligible(_) => kind::ELIGIBLE,
            Self::Pass(_) => kind::PASS,
            Self::Vouch(_) => kind::VOUCH,
            Self::Seal(_) => kind::SEAL,
            Self::Verdict(_) => kind::VERDICT,
            Self::Fork(_) => kind::FORK,
            Self::Reinstate(_) => kind::REINSTATE,
            Self::Copies(_) => kind::COPIES,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// Names and wishes harm nobody who does not know them; every other sentence of version 1 changes rights.
    fn is_critical(&self) -> bool {
        match self {
            Self::Rename(_) | Self::Copies(_) => false,
            Self::Unknown { critical, .. } => *critical,
            _ => true,
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Found(b) => codec::encode(b),
            Self::Admit(b) => codec::encode(b),
            Self::Expel(b) => codec::encode(b),
            Self::SetRole(b) => codec::encode(b),
            Self::Rename(b) => codec::encode(b),
            Self::Group(b) => codec::encode(b),
            Self::CreateFolder(b) => codec::encode(b),
            Self::Grant(b) => codec::encode(b),
            Self::Revoke(b) => codec::encode(b),
            Self::RetireFolder(b) => codec::encode(b),
            Self::Eligible(b) => codec::encode(b),
            Self::Pass(b) => codec::encode(b),
            Self::Vouch(b) => codec::encode(b),
            Self::Seal(b) => codec::encode(b),
            Self::Verdict(b) => codec::encode(b),
            Self::Fork(b) => codec::encode(b),
            Self::Reinstate(b) => codec::encode(b),
            Self::Copies(b) => codec::encode(b),
            Self::Unknown { .. } => Vec::new(),
        }
    }

    fn decode(kind: u16, critical: bool, bytes: &[u8]) -> Result<Self, DecodeError> {
        fn take<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
            codec::decode("statement", bytes, STATEMENT_BYTES_MAX)
        }
        let body = match kind {
            kind::FOUND => Self::Found(take(bytes)?),
            kind::ADMIT => Self::Admit(take(bytes)?),
            kind::EXPEL => Self::Expel(take(bytes)?),
            kind::SET_ROLE => Self::SetRole(take(bytes)?),
            kind::RENAME => Self::Rename(take(bytes)?),
            kind::GROUP => Self::Group(take(bytes)?),
            kind::CREATE_FOLDER => Self::CreateFolder(take(bytes)?),
            kind::GRANT => Self::Grant(take(bytes)?),
            kind::REVOKE => Self::Revoke(take(bytes)?),
            kind::RETIRE_FOLDER => Self::RetireFolder(take(bytes)?),
            kind::ELIGIBLE => Self::Eligible(take(bytes)?),
            kind::PASS => Self::Pass(take(bytes)?),
            kind::VOUCH => Self::Vouch(take(bytes)?),
            kind::SEAL => Self::Seal(take(bytes)?),
            kind::VERDICT => Self::Verdict(take(bytes)?),
            kind::FORK => Self::Fork(take(bytes)?),
            kind::REINSTATE => Self::Reinstate(take(bytes)?),
            kind::COPIES => Self::Copies(take(bytes)?),
            _ if (0x0100..0x0200).contains(&kind) => return Ok(Self::Unknown { kind, critical }),
            _ => return Err(DecodeError::UnknownKind(kind)),
        };
        if critical != body.is_critical() {
            return Err(DecodeError::NotCanonical("statement"));
        }
        Ok(body)
    }
}
