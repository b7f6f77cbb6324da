//! The mesh as this node knows it: statements, the policy they add up to, what the node remembers.
//!
//! One lock, short sections, no waiting inside. A statement is in the journal before it is in the set, and in the
//! set before anyone is told of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use async_channel::Sender;
use ed25519_dalek::SigningKey;
use tracing::info;

use super::record::{MeshRecord, Record, RecordError};
use crate::base::time::HlcClock;
use crate::base::{DiscoveryKey, FolderId, Level, MeshId, NodeId, RelPath, StatementId};
use crate::logic::policy::{self, Exchange, PlanRefused, Policy, PolicyCache, Refused, StatementSet};
use crate::logic::sync::replica::Rules;
use crate::shell::home::{self, HomeError, Journal};
use crate::shell::net::KeyRing;
use crate::shell::{clock, entropy};
use crate::wire::codec::{self, DecodeError, List};
use crate::wire::message::{KeyInUse, Message};
use crate::wire::signed::Signed;
use crate::wire::statement::{Body, Found, Name, Statement};

/// Policies as of earlier heads, kept to judge batches. A guess: as many as machines that are away for a while.
const POLICIES_MAX: usize = 32;
/// Discovery keys kept: the one in use and those that members may still have who were away.
const KEYS_MAX: usize = crate::shell::net::KEYS_MAX;

/// The mesh could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeshError {
    /// A file of the home failed.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The node's record failed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The journal of statements holds something else.
    #[error("{} holds a statement that is not one of this mesh", .0.display())]
    Journal(PathBuf),
    /// There is no mesh.
    #[error("this node belongs to no mesh")]
    None,
    /// The rules do not allow it.
    #[error(transparent)]
    Plan(#[from] PlanRefused),
    /// A peer's statements are malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// What others are told when the mesh changed.
#[derive(Debug)]
pub(super) enum Change {
    /// These statements are new.
    Statements(Vec<StatementId>),
    /// A peer should be asked for statements.
    Ask(NodeId),
    /// There is another discovery key.
    Key,
    /// This node is in another mesh, whose statements so far are these.
    Begun(Vec<StatementId>),
    /// A peer sent a statement that is not taken, and why.
    Refused(NodeId, StatementId, String),
}

struct Current {
    set: StatementSet,
    journal: Journal,
    cache: PolicyCache,
    policy: Arc<Policy>,
}

struct Inner {
    record: Record,
    state: PathBuf,
    current: Option<Current>,
    clock: HlcClock,
}

/// The mesh, shared by all parts of the node.
#[derive(Clone)]
pub(super) struct MeshHandle {
    inner: Arc<Mutex<Inner>>,
    node: NodeId,
    key: Arc<SigningKey>,
    ring: KeyRing,
    changes: Sender<Change>,
}

/// The rules of one folder as of some heads.
#[derive(Clone, Debug)]
pub(super) struct FolderRules {
    policy: Option<Arc<Policy>>,
    heads: Vec<StatementId>,
    folder: FolderId,
    at_ms: u64,
}

impl FolderRules {
    /// The heads, sorted.
    pub(super) fn heads(&self) -> &[StatementId] {
        &self.heads
    }
}

impl Rules for FolderRules {
    fn permits(&self, node: NodeId, path: &RelPath, level: Level) -> bool {
        let ask = policy::Ask { folder: self.folder, path: path.clone(), level };
        self.policy.as_ref().is_some_and(|policy| policy::permit(policy, node, &ask, self.at_ms).is_ok())
    }
}

impl MeshHandle {
    /// Reads what the node has in `state`.
    pub(super) fn open(
        state: &Path,
        record: Record,
        key: Arc<SigningKey>,
        ring: KeyRing,
        changes: Sender<Change>,
    ) -> Result<Self, MeshError> {
        let node = NodeId(key.verifying_key().to_bytes());
        let mut inner = Inner { state: state.to_path_buf(), current: None, clock: HlcClock::default(), record };
        if let Some(mesh) = inner.record.mesh.as_ref().and_then(MeshRecord::id) {
            inner.current = Some(load(&journal_path(&inner.state, mesh), mesh, &mut inner.clock)?);
            ring.replace(keys(&inner.record).into_iter().map(|key| key.key).collect());
        }
        Ok(Self { inner: Arc::new(Mutex::new(inner)), node, key, ring, changes })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every section leaves whole values behind, also when it panics half way.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// This node.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// This node's key.
    pub(super) fn key(&self) -> Arc<SigningKey> {
        self.key.clone()
    }

    /// The policy, where there is a mesh.
    pub(super) fn policy(&self) -> Option<Arc<Policy>> {
        self.lock().current.as_ref().map(|current| current.policy.clone())
    }

    /// The policy, or that there is no mesh.
    pub(super) fn need_policy(&self) -> Result<Arc<Policy>, MeshError> {
        self.policy().ok_or(MeshError::None)
    }

    /// Whether a node is a member now.
    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.policy().is_some_and(|policy| policy.is_member(node))
    }

    /// The rules of a folder, as of all that is known.
    pub(super) fn rules(&self, folder: FolderId) -> FolderRules {
        let inner = self.lock();
        let current = inner.current.as_ref();
        FolderRules {
            policy: current.map(|c| c.policy.clone()),
            heads: current.map(|c| c.set.heads()).unwrap_or_default(),
            folder,
            at_ms: clock::wall_ms(),
        }
    }

    /// The rules of a folder as of some heads; `None` where statements are missing. `at_ms`: the signed time.
    pub(super) fn rules_at(&self, folder: FolderId, heads: &[StatementId], at_ms: u64) -> Option<FolderRules> {
        let mut inner = self.lock();
        let current = inner.current.as_mut()?;
        let policy = current.cache.policy_at(&current.set, heads).ok()?;
        Some(FolderRules { policy: Some(policy), heads: heads.to_vec(), folder, at_ms })
    }

    /// Whether a node may read a path now.
    pub(super) fn may_read(&self, folder: FolderId, node: NodeId, path: &RelPath) -> bool {
        self.rules(folder).permits(node, path, Level::Read)
    }

    /// A permit to read, or why not.
    pub(super) fn permit_read(
        &self,
        folder: FolderId,
        node: NodeId,
        path: &RelPath,
    ) -> Option<Result<policy::Permit, Refused>> {
        let policy = self.policy()?;
        let ask = policy::Ask { folder, path: path.clone(), level: Level::Read };
        Some(policy::permit(&policy, node, &ask, clock::wall_ms()))
    }

    /// Whether no other member may read a folder: then its history is what is here.
    pub(super) fn is_alone(&self, folder: FolderId) -> bool {
        let Some(policy) = self.policy() else { return true };
        let now = clock::wall_ms();
        policy
            .members()
            .all(|(node, _)| node == self.node || policy.level(node, folder, &RelPath::root(), now) < Level::Read)
    }

    /// A peer should be asked for what it knows.
    pub(super) fn ask_statements(&self, peer: NodeId) {
        // A full queue means that much is going on already: the batch that asked is offered again.
        let _ = self.changes.try_send(Change::Ask(peer));
    }

    /// What the node remembers.
    pub(super) fn record(&self) -> Record {
        self.lock().record.clone()
    }

    /// Changes what the node remembers, durably.
    pub(super) fn remember(&self, change: impl FnOnce(&mut Record)) -> Result<(), MeshError> {
        let mut inner = self.lock();
        change(&mut inner.record);
        Ok(inner.record.write(&record_path(&inner.state))?)
    }

    /// Changes what the node remembers, without writing it down at once.
    pub(super) fn note(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.lock().record);
    }

    /// Founds a mesh. Returns its id and the seed of its recovery key, which is kept nowhere.
    pub(super) fn found(&self, name: &str) -> Result<(MeshId, [u8; 32]), MeshError> {
        let seed: [u8; 32] = entropy::bytes();
        let recovery = NodeId(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
        let mut inner = self.lock();
        let body = Found {
            name: Name::truncated(name),
            node_name: Name::truncated(&inner.record.name),
            nonce: entropy::bytes(),
            recovery,
        };
        let time = inner.clock.tick(clock::wall_ms());
        let founding = policy::found(body, &self.key, time);
        let mesh = MeshId(founding.id().0);
        let key = KeyInUse { epoch: 0, key: DiscoveryKey(entropy::bytes()) };
        let begun = vec![founding.id()];
        self.begin(&mut inner, mesh, key, vec![founding])?;
        drop(inner);
        self.changed(Change::Begun(begun));
        self.changed(Change::Key);
        info!(mesh = name, "founded");
        Ok((mesh, seed))
    }

    /// Becomes a member of the mesh whose statements these are, in place of any other.
    pub(super) fn adopt(&self, mesh: MeshId, key: KeyInUse, statements: Vec<Statement>) -> Result<(), MeshError> {
        let mut inner = self.lock();
        let begun = statements.iter().map(Statement::id).collect();
        self.begin(&mut inner, mesh, key, statements)?;
        drop(inner);
        self.changed(Change::Begun(begun));
        self.changed(Change::Key);
        Ok(())
    }

    /// The journal first, then the record that names the mesh: a crash in between leaves the old mesh in force.
    /// Each mesh has a journal of its own.
    fn begin(
        &self,
        inner: &mut Inner,
        mesh: MeshId,
        key: KeyInUse,
        statements: Vec<Statement>,
    ) -> Result<(), MeshError> {
        let path = journal_path(&inner.state, mesh);
        home::remove(&path)?;
        let (mut journal, _) = Journal::open(&path)?;
        let records: Vec<Vec<u8>> = statements.iter().map(|s| codec::encode(s.signed())).collect();
        journal.append(records.iter().map(Vec::as_slice))?;
        drop(journal);
        let mut record = inner.record.clone();
        record.mesh = Some(MeshRecord::new(mesh, std::slice::from_ref(&key)));
        record.folders.clear();
        record.members.clear();
        let before = inner.record.mesh.as_ref().and_then(MeshRecord::id).filter(|before| *before != mesh);
        record.write(&record_path(&inner.state))?;
        inner.record = record;
        inner.current = Some(load(&journal_path(&inner.state, mesh), mesh, &mut inner.clock)?);
        self.ring.replace(vec![key.key]);
        before.map_or(Ok(()), |before| Ok(home::remove(&journal_path(&inner.state, before))?))
    }

    /// The mesh is over for this node: it has left, or dissolved it.
    pub(super) fn forget(&self) -> Result<(), MeshError> {
        let mut inner = self.lock();
        let mut record = inner.record.clone();
        let before = record.mesh.take().as_ref().and_then(MeshRecord::id);
        record.folders.clear();
        record.members.clear();
        record.write(&record_path(&inner.state))?;
        inner.record = record;
        inner.current = None;
        if let Some(before) = before {
            home::remove(&journal_path(&inner.state, before))?;
        }
        self.ring.replace(Vec::new());
        drop(inner);
        self.changed(Change::Key);
        Ok(())
    }

    /// Signs what `plan` comes to under the policy as it is, one statement after the other.
    pub(super) fn sign<E: From<MeshError>>(
        &self,
        plan: impl FnOnce(&Policy) -> Result<Vec<Body>, E>,
    ) -> Result<Vec<StatementId>, E> {
        self.sign_as(&self.key, plan)
    }

    /// The same with another key than this node's: the recovery key.
    pub(super) fn sign_as<E: From<MeshError>>(
        &self,
        key: &SigningKey,
        plan: impl FnOnce(&Policy) -> Result<Vec<Body>, E>,
    ) -> Result<Vec<StatementId>, E> {
        let mut inner = self.lock();
        let Inner { current, clock: hlc, .. } = &mut *inner;
        let current = current.as_mut().ok_or(MeshError::None)?;
        let bodies = plan(&current.policy)?;
        let mut ids = Vec::new();
        for body in bodies {
            let time = hlc.tick(clock::wall_ms());
            let statement = policy::draft(&current.set, key, time, body, List::default());
            current.journal.append([codec::encode(statement.signed()).as_slice()]).map_err(MeshError::from)?;
            let id = statement.id();
            current.set.insert(statement).expect("what is drafted on a set fits it");
            ids.push(id);
        }
        current.policy = current.cache.current(&current.set);
        drop(inner);
        self.changed(Change::Statements(ids.clone()));
        Ok(ids)
    }

    /// Takes a peer's message about statements; returns what to send back.
    pub(super) fn exchange(
        &self,
        exchange: &mut Exchange,
        from: NodeId,
        message: Message,
    ) -> Result<Vec<Message>, MeshError> {
        let mut inner = self.lock();
        let Inner { current, clock: hlc, .. } = &mut *inner;
        let current = current.as_mut().ok_or(MeshError::None)?;
        match message {
            Message::StatementHeads(heads) => Ok(exchange.handle_heads(&current.set, &heads)),
            Message::StatementWant(ids) => Ok(exchange.handle_want(&current.set, &ids)),
            Message::Statements(statements) => {
                let received = exchange.handle_statements(&mut current.set, statements.into_vec())?;
                for (id, why) in &received.refused {
                    self.changed(Change::Refused(from, *id, why.to_string()));
                }
                if !received.taken.is_empty() {
                    let taken = received.taken.iter().filter_map(|id| current.set.get(id));
                    let records: Vec<Vec<u8>> = taken.map(|statement| codec::encode(statement.signed())).collect();
                    current.journal.append(records.iter().map(Vec::as_slice))?;
                    let times = received.taken.iter().filter_map(|id| current.set.get(id)).map(|s| s.head().time);
                    times.for_each(|time| hlc.observe(time, clock::wall_ms()));
                    current.policy = current.cache.current(&current.set);
                    drop(inner);
                    self.changed(Change::Statements(received.taken));
                }
                Ok(received.replies)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// One statement of the set.
    pub(super) fn statement(&self, id: StatementId) -> Option<Statement> {
        self.lock().current.as_ref()?.set.get(&id).cloned()
    }

    /// What opens an exchange with a peer.
    pub(super) fn announce(&self, exchange: &Exchange) -> Vec<Message> {
        let inner = self.lock();
        inner.current.as_ref().map(|current| exchange.announce(&current.set)).unwrap_or_default()
    }

    /// What a peer is told of new statements.
    pub(super) fn news(&self, exchange: &mut Exchange, taken: &[StatementId]) -> Vec<Message> {
        let inner = self.lock();
        inner.current.as_ref().map(|current| exchange.news(&current.set, taken)).unwrap_or_default()
    }

    /// The mesh, the key in use, and what `choose` takes of the statements: what a new member is given.
    pub(super) fn admission<T>(&self, choose: impl FnOnce(&StatementSet) -> T) -> Option<(MeshId, KeyInUse, T)> {
        let inner = self.lock();
        let current = inner.current.as_ref()?;
        let key = keys(&inner.record).into_iter().next()?;
        Some((current.set.mesh(), key, choose(&current.set)))
    }

    /// The discovery key in use.
    pub(super) fn key_in_use(&self) -> Option<KeyInUse> {
        keys(&self.lock().record).into_iter().next()
    }

    /// A peer says which key is in use. A newer one is taken if an admin says so; returns whether it was.
    pub(super) fn offer_key(&self, from: NodeId, offered: KeyInUse) -> Result<bool, MeshError> {
        let mut inner = self.lock();
        let is_admin = inner.current.as_ref().is_some_and(|current| current.policy.is_admin(from));
        let known = keys(&inner.record);
        if !is_admin || known.first().is_some_and(|newest| *newest >= offered) {
            return Ok(false);
        }
        self.use_key(&mut inner, offered)?;
        drop(inner);
        self.changed(Change::Key);
        Ok(true)
    }

    /// Rotates the key where members were expelled since; only an admin's node does.
    pub(super) fn rotate_key(&self) -> Result<bool, MeshError> {
        let mut inner = self.lock();
        let Some(current) = inner.current.as_ref() else { return Ok(false) };
        let epoch = current.policy.discovery_epoch();
        let newest = keys(&inner.record).first().map_or(0, |key| key.epoch);
        if !current.policy.is_admin(self.node) || epoch <= newest {
            return Ok(false);
        }
        self.use_key(&mut inner, KeyInUse { epoch, key: DiscoveryKey(entropy::bytes()) })?;
        drop(inner);
        self.changed(Change::Key);
        Ok(true)
    }

    fn use_key(&self, inner: &mut Inner, key: KeyInUse) -> Result<(), MeshError> {
        let Some(mesh) = inner.record.mesh.as_ref().and_then(MeshRecord::id) else { return Ok(()) };
        let mut all = keys(&inner.record);
        all.insert(0, key);
        all.truncate(KEYS_MAX);
        inner.record.mesh = Some(MeshRecord::new(mesh, &all));
        inner.record.write(&record_path(&inner.state))?;
        self.ring.replace(all.into_iter().map(|key| key.key).collect());
        Ok(())
    }

    fn changed(&self, change: Change) {
        // The receiver is the node's main loop; it outlives every handle but during the end of the node.
        let _ = self.changes.try_send(change);
    }
}

fn keys(record: &Record) -> Vec<KeyInUse> {
    record.mesh.as_ref().map(MeshRecord::keys).unwrap_or_default()
}

/// The node's record in its state directory.
pub(super) fn record_path(state: &Path) -> PathBuf {
    state.join("node.json")
}

fn journal_path(state: &Path, mesh: MeshId) -> PathBuf {
    state.join(format!("statements-{}", &mesh.to_hex()[..16]))
}

fn load(path: &Path, mesh: MeshId, hlc: &mut HlcClock) -> Result<Current, MeshError> {
    let (journal, records) = Journal::open(path)?;
    let mut set = StatementSet::new(mesh);
    for record in records {
        let bad = || MeshError::Journal(path.to_path_buf());
        let signed: Signed = codec::decode("statement", &record, record.len()).map_err(|_| bad())?;
        let statement = Statement::open(signed).map_err(|_| bad())?;
        hlc.observe(statement.head().time, clock::wall_ms());
        set.insert(statement).map_err(|_| bad())?;
    }
    let mut cache = PolicyCache::new(POLICIES_MAX);
    let policy = cache.current(&set);
    Ok(Current { set, journal, cache, policy })
}
