//! The mesh as this node knows it: statements, the policy they add up to, what the node remembers.
//!
//! One lock, short sections, no waiting inside. A statement is in the journal before it is in the set, and in the
//! set before anyone is told of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_channel::Sender;
use ed25519_dalek::SigningKey;
use tracing::{info, warn};

use super::record::{MeshRecord, Record, RecordError};
use crate::base::time::HlcClock;
use crate::base::{DiscoveryKey, FolderId, Level, MeshId, NodeId, RelPath, StatementId, Writer};
use crate::logic::policy::{
    self, Exchange, Judge, PlanRefused, Policy, PolicyCache, Refused, StatementSet, View, VoidEntry, Written,
};
use crate::logic::sync::guard::losses::Decisions;
use crate::logic::sync::index::{self, EntryId, IndexError, Look};
use crate::logic::sync::rejudge::Verdicts;
use crate::logic::sync::replica::Rules;
use crate::shell::home::{self, HomeError, Journal};
use crate::shell::net::KeyRing;
use crate::shell::store::Store;
use crate::shell::{clock, entropy, rt};
use crate::wire::batch::Header;
use crate::wire::codec::{self, DecodeError, List};
use crate::wire::message::{KeyInUse, Message};
use crate::wire::signed::Signed;
use crate::wire::statement::{Body, FRONTIERS_MAX, FolderFrontier, Found, Name, Statement};

/// Policies as of earlier heads, kept to judge batches. A guess: as many as machines that are away for a while.
const POLICIES_MAX: usize = 32;
/// After a start, signing waits this long for the statements of a peer, no longer: who is alone may sign. A guess: links
/// come up within a second.
const ASK_MS_MAX: u64 = 3_000;
/// How often it is looked whether they are here.
const ASK_POLL: Duration = Duration::from_millis(20);
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
    set: Arc<StatementSet>,
    /// Made when it is asked for, and again after the set changed.
    judge: Option<Arc<Judge>>,
    journal: Journal,
    cache: PolicyCache,
    policy: Arc<Policy>,
}

impl Current {
    fn set_mut(&mut self) -> &mut StatementSet {
        self.judge = None;
        Arc::make_mut(&mut self.set)
    }

    fn judge(&mut self) -> Arc<Judge> {
        self.judge.get_or_insert_with(|| Arc::new(Judge::new(self.set.clone()))).clone()
    }
}

/// The frontiers of one statement.
type Frontiers = List<FolderFrontier, FRONTIERS_MAX>;

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
    /// Since the start a peer had no statement that is not here.
    exchanged: Arc<AtomicBool>,
    started_ms: u64,
    /// Folders held here: how far their logs reach goes into statements that lower somebody.
    held: Arc<Mutex<BTreeMap<FolderId, Store>>>,
}

/// The rules of one folder as of all that was known when they were made.
#[derive(Clone)]
pub(super) struct FolderRules {
    policy: Option<Arc<Policy>>,
    judge: Option<Arc<Judge>>,
    heads: Vec<StatementId>,
    folder: FolderId,
    at_ms: u64,
    /// A node whose log forked and that was not reinstated.
    suspended: Option<NodeId>,
}

impl FolderRules {
    /// The heads, sorted.
    pub(super) fn heads(&self) -> &[StatementId] {
        &self.heads
    }

    /// Looks at the clock again: rules end by it.
    pub(super) fn refresh(&mut self) {
        self.at_ms = clock::wall_ms();
    }

    /// Whether `writer` signed two histories, as far as the statements say.
    pub(super) fn is_forked(&self, writer: Writer) -> bool {
        self.common(writer).is_some()
    }

    /// The last number that both histories of a forked log share.
    pub(super) fn common(&self, writer: Writer) -> Option<u64> {
        Some(self.judge.as_ref()?.forked(self.folder, writer)?.1)
    }

    /// Logs that forked and whose nodes nobody has let go on since.
    pub(super) fn not_reinstated(&self) -> BTreeSet<Writer> {
        self.judge.as_ref().map(|judge| judge.not_reinstated(self.folder)).unwrap_or_default()
    }

    /// What this node writes as `writer` stays local while it would not count.
    pub(super) fn suspend(&mut self, writer: Writer) {
        let may = self.judge.as_ref().is_none_or(|judge| judge.may_go_on(self.folder, writer));
        self.suspended = (!may).then_some(writer.node);
    }

    /// Whether what this node writes stays local because its log forked.
    pub(super) fn is_suspended(&self, node: NodeId) -> bool {
        self.suspended == Some(node)
    }

    /// Whether all of these statements are here.
    pub(super) fn knows(&self, heads: &[StatementId]) -> bool {
        self.judge.as_ref().is_some_and(|judge| heads.iter().all(|id| judge.set().contains(id)))
    }

    /// What changes when the verdict on any entry of the folder may; `None`: nothing is judged for now.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        let judge = self.judge.as_ref()?;
        judge.stopped(self.folder).is_none().then(|| judge.digest(self.folder))
    }

    /// Judges entries of the folder.
    pub(super) fn verdicts(&self) -> FolderVerdicts {
        FolderVerdicts {
            judge: self.judge.clone(),
            folder: self.folder,
            views: RefCell::default(),
            any_void: false.into(),
        }
    }
}

/// Views kept by one `FolderVerdicts`: entries come in runs of one batch, and batches mostly name the same heads.
const VIEWS_MAX: usize = 8;

/// Judges entries of one folder; for one thread, for a while.
pub(super) struct FolderVerdicts {
    judge: Option<Arc<Judge>>,
    folder: FolderId,
    views: RefCell<Vec<(Vec<StatementId>, Rc<View>)>>,
    /// Whether anything was found that does not count.
    any_void: std::cell::Cell<bool>,
}

impl FolderVerdicts {
    /// Whether any entry that was judged does not count: what it superseded is missing then.
    pub(super) fn any_void(&self) -> bool {
        self.any_void.get()
    }

    fn view(&self, judge: &Judge, heads: &[StatementId]) -> Option<Rc<View>> {
        let mut views = self.views.borrow_mut();
        if let Some((_, view)) = views.iter().find(|(of, _)| of == heads) {
            return Some(view.clone());
        }
        let view = Rc::new(judge.view(self.folder, heads).ok()?);
        views.insert(0, (heads.to_vec(), view.clone()));
        views.truncate(VIEWS_MAX);
        Some(view)
    }

    /// Why an entry does not count; `None`: it does, or its statements are not here.
    pub(super) fn why(
        &self,
        header: &Header,
        seq: u64,
        path: &RelPath,
        look: &dyn Look,
    ) -> index::Result<Option<VoidEntry>> {
        let Some(judge) = &self.judge else { return Ok(None) };
        let Some(view) = self.view(judge, &header.heads) else { return Ok(None) };
        let entry = Written { writer: header.writer, seq, path, at_ms: header.time.ms };
        let holds = |writer: Writer, seq: u64| {
            let batch = look.batch_of(EntryId { writer, seq })?;
            Ok::<_, IndexError>(batch.map(|(_, batch)| (batch.header().last(), batch.hash())))
        };
        Ok(judge.judge(&view, &entry, holds)?.err())
    }
}

impl Verdicts for FolderVerdicts {
    fn counts(&self, header: &Header, seq: u64, path: &RelPath, look: &dyn Look) -> index::Result<bool> {
        let known = self.judge.as_ref().is_some_and(|judge| self.view(judge, &header.heads).is_some());
        let counts = known && self.why(header, seq, path, look)?.is_none();
        self.any_void.set(self.any_void.get() || !counts);
        Ok(counts)
    }

    fn is_rejected(&self, header: &Header, seq: u64, path: &RelPath, look: &dyn Look) -> index::Result<bool> {
        Ok(matches!(self.why(header, seq, path, look)?, Some(VoidEntry::Rejected(_))))
    }

    fn common(&self, log: Writer) -> Option<u64> {
        Some(self.judge.as_ref()?.forked(self.folder, log)?.1)
    }
}

impl Decisions for FolderRules {
    fn is_released(&self, id: EntryId) -> bool {
        self.judge.as_ref().is_some_and(|judge| judge.is_released(self.folder, id.writer, id.seq))
    }

    fn decided_to(&self, log: Writer) -> Option<u64> {
        self.judge.as_ref()?.decided_to(self.folder, log)
    }
}

impl Rules for FolderRules {
    fn permits(&self, node: NodeId, path: &RelPath, level: Level) -> bool {
        let level = policy::needed(path, level);
        let ask = policy::Ask { folder: self.folder, path: path.clone(), level };
        if level >= Level::Write && self.suspended == Some(node) {
            return false;
        }
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
        let (inner, started_ms) = (Arc::new(Mutex::new(inner)), clock::boottime_ms());
        Ok(Self { inner, node, key, ring, changes, exchanged: Arc::default(), started_ms, held: Arc::default() })
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

    /// Whether this node knows what it has signed itself, as far as others can tell it. Put back from a backup, it would
    /// number two statements alike.
    pub(super) fn is_settled(&self) -> bool {
        let is_alone = || self.policy().is_none_or(|policy| policy.members().all(|(node, _)| node == self.node));
        let is_late = clock::boottime_ms() >= self.started_ms + ASK_MS_MAX;
        self.exchanged.load(Ordering::Acquire) || is_late || is_alone()
    }

    /// Waits until statements may be signed; not for long.
    pub(super) async fn settle(&self) {
        while !self.is_settled() {
            rt::sleep(ASK_POLL).await;
        }
    }

    /// Whether a node is a member now.
    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.policy().is_some_and(|policy| policy.is_member(node))
    }

    /// The rules of a folder, as of all that is known.
    pub(super) fn rules(&self, folder: FolderId) -> FolderRules {
        let mut inner = self.lock();
        let current = inner.current.as_mut();
        let (policy, judge, heads) = match current {
            Some(current) => (Some(current.policy.clone()), Some(current.judge()), current.set.heads()),
            None => (None, None, Vec::new()),
        };
        FolderRules { policy, judge, heads, folder, at_ms: clock::wall_ms(), suspended: None }
    }

    /// A folder is held here from now on.
    pub(super) fn hold(&self, folder: FolderId, store: Store) {
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(folder, store);
    }

    /// A folder is held here no more.
    pub(super) fn let_go(&self, folder: FolderId) {
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&folder);
    }

    /// How far the logs of the folders held here reach, as far as this node has their history.
    fn known(&self) -> Vec<FolderFrontier> {
        let held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut known = Vec::new();
        for (folder, store) in held {
            let frontiers = store.read::<_, IndexError>(|look| {
                Ok(match look.note(super::folder::NOTE_COMPLETE)? {
                    Some(_) => Some(look.frontiers()?),
                    None => None,
                })
            });
            match frontiers {
                Ok(Some(frontiers)) => {
                    known.push(FolderFrontier::holds(folder));
                    known.extend(frontiers.into_iter().map(|frontier| FolderFrontier { folder, frontier }));
                }
                Ok(None) => {}
                // Not named, it stays open until it is sealed.
                Err(error) => warn!(folder = ?folder, %error, "what is known of a folder cannot be read now"),
            }
        }
        known
    }

    /// Signs the seals that are due; only an admin's node has any.
    pub(super) fn seal_due(&self) -> Result<Vec<StatementId>, MeshError> {
        if !self.is_settled() || !self.policy().is_some_and(|policy| policy.is_admin(self.node)) {
            return Ok(Vec::new());
        }
        let known = self.known();
        let mut inner = self.lock();
        let Some(current) = inner.current.as_mut() else { return Ok(Vec::new()) };
        let due = current.judge().seals_due(self.node, clock::wall_ms(), &known);
        let policy = current.policy.clone();
        let mut bodies = Vec::new();
        for (statement, frontiers) in due {
            let body = policy::plan_seal(&policy, self.node, statement)?;
            bodies.extend(frontiers.chunks(FRONTIERS_MAX).map(|chunk| (body.clone(), List::truncated(chunk.to_vec()))));
        }
        if bodies.is_empty() {
            return Ok(Vec::new());
        }
        let ids = Self::write_down(&self.key, &mut inner, bodies)?;
        drop(inner);
        self.changed(Change::Statements(ids.clone()));
        Ok(ids)
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
        // Nothing was signed in it yet.
        self.exchanged.store(true, Ordering::Release);
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

    /// Signs what `plan` comes to under the policy as it is, one statement after the other. Those that can lower
    /// somebody say how far the logs reach that are here.
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
        let known = self.known();
        let mut inner = self.lock();
        let policy = inner.current.as_ref().ok_or(MeshError::None)?.policy.clone();
        let mut bodies = Vec::new();
        for body in plan(&policy)? {
            let frontiers = policy::freeze_frontiers(&policy, &body, &known);
            bodies.extend(frontiers.into_iter().map(|frontiers| (body.clone(), frontiers)));
        }
        let ids = Self::write_down(key, &mut inner, bodies)?;
        drop(inner);
        self.changed(Change::Statements(ids.clone()));
        Ok(ids)
    }

    fn write_down(
        key: &SigningKey,
        inner: &mut Inner,
        bodies: Vec<(Body, Frontiers)>,
    ) -> Result<Vec<StatementId>, MeshError> {
        let Inner { current, clock: hlc, .. } = inner;
        let current = current.as_mut().ok_or(MeshError::None)?;
        let mut ids = Vec::new();
        for (body, frontiers) in bodies {
            let time = hlc.tick(clock::wall_ms());
            let statement = policy::draft(&current.set, key, time, body, frontiers);
            current.journal.append([codec::encode(statement.signed()).as_slice()])?;
            let id = statement.id();
            current.set_mut().insert(statement).expect("what is drafted on a set fits it");
            ids.push(id);
        }
        current.policy = current.cache.current(&current.set);
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
            Message::StatementHeads(heads) => {
                let replies = exchange.handle_heads(&current.set, &heads);
                self.exchanged.fetch_or(replies.is_empty(), Ordering::AcqRel);
                Ok(replies)
            }
            Message::StatementWant(ids) => Ok(exchange.handle_want(&current.set, &ids)),
            Message::Statements(statements) => {
                let received = exchange.handle_statements(current.set_mut(), statements.into_vec())?;
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
                self.exchanged.fetch_or(received.replies.is_empty(), Ordering::AcqRel);
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
    Ok(Current { set: Arc::new(set), judge: None, journal, cache, policy })
}
