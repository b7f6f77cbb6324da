//! The audit log of this node: who changed what, and what was refused, from whom and why.
//!
//! Page: `docs/spec/audit.md`. Every place that refuses says so by `Shared::refuse`; statements are noted as they come
//! into force or lose it. What one source can write is bounded by `logic::audit`, what all can by the files' sizes.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing::warn;

use super::{Shared, config, lock};
use crate::base::{FolderId, NodeId, RelPath, StatementId};
use crate::logic::audit::{Counted, Damper};
use crate::logic::policy::{self, Policy};
use crate::shell::lines::{LineFiles, LineLog};
use crate::shell::{clock, rt};
use crate::wire::api::{
    AUDIT_ENTRIES_MAX, AuditAfter, AuditEntry, Deed, Event, Failure, FolderRef, NodeRef, PathText, UtcTime, Verdict,
};

/// Lines at the end of the log that are looked at for the last number: some may be torn or of a later version.
const LAST_LINES: usize = 64;

/// The log, and what bounds it.
pub(super) struct AuditLog {
    inner: Mutex<Inner>,
    files: LineFiles,
}

struct Inner {
    log: LineLog,
    next: u64,
    damper: Damper<Source>,
    /// Statements that had no effect when last looked at.
    void: BTreeSet<StatementId>,
    failed: bool,
}

/// Who is refused, as far as the bounds tell them apart.
type Source = (Deed, Option<NodeId>, Option<IpAddr>);

/// Something that this node did not let through.
pub(super) struct Refusal {
    deed: Deed,
    text: String,
    why: String,
    by: Option<NodeId>,
    from: Option<NodeId>,
    address: Option<IpAddr>,
    folder: Option<FolderId>,
    path: Option<RelPath>,
    statement: Option<StatementId>,
}

impl Refusal {
    /// What was tried, and why it was refused.
    pub(super) fn new(deed: Deed, text: impl Into<String>, why: impl Into<String>) -> Self {
        let (text, why) = (text.into(), why.into());
        Self { deed, text, why, by: None, from: None, address: None, folder: None, path: None, statement: None }
    }

    /// Who tried.
    pub(super) fn by(self, node: NodeId) -> Self {
        Self { by: Some(node), ..self }
    }

    /// Which peer it came from.
    pub(super) fn from(self, peer: NodeId) -> Self {
        Self { from: Some(peer), ..self }
    }

    /// From where on the network.
    pub(super) fn address(self, address: IpAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    /// In which folder.
    pub(super) fn folder(self, folder: FolderId) -> Self {
        Self { folder: Some(folder), ..self }
    }

    /// On which path.
    pub(super) fn path(self, path: &RelPath) -> Self {
        Self { path: Some(path.clone()), ..self }
    }

    /// Which statement.
    pub(super) fn statement(self, statement: StatementId) -> Self {
        Self { statement: Some(statement), ..self }
    }
}

impl AuditLog {
    /// Opens the log in the state directory. `policy`: what is in force now, so that only changes are noted.
    pub(super) fn open(state: &Path, config: config::Audit, policy: Option<&Policy>) -> io::Result<Self> {
        let bytes_max = config.file_mib * 1024 * 1024;
        let files =
            LineFiles { dir: state.to_path_buf(), name: String::from("audit"), bytes_max, count_max: config.files };
        let log = LineLog::open(files.clone())?;
        let last = files.newest(LAST_LINES)?.iter().filter_map(|line| parse(line)).map(|entry| entry.seq).max();
        let void = policy.map(|policy| policy.void().keys().copied().collect()).unwrap_or_default();
        let inner = Inner { log, next: last.map_or(1, |seq| seq + 1), damper: Damper::default(), void, failed: false };
        Ok(Self { inner: Mutex::new(inner), files })
    }

    /// The highest number given so far; 0: none.
    pub(super) fn last(&self) -> u64 {
        lock(&self.inner).next - 1
    }

    /// Where the log is.
    pub(super) fn files(&self) -> &LineFiles {
        &self.files
    }

    /// Gives an entry its number and writes it. Returns whether this is the first failure to.
    fn write(&self, entry: &mut AuditEntry) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        entry.seq = inner.next;
        inner.next += 1;
        let written = inner.log.append(&line_of(entry));
        let news = !std::mem::replace(&mut inner.failed, written.is_err());
        if news { written } else { Ok(()) }
    }
}

/// An entry from its line.
pub(super) fn parse(line: &str) -> Option<AuditEntry> {
    serde_json::from_str(line).ok()
}

/// The line of an entry.
pub(super) fn line_of(entry: &AuditEntry) -> String {
    serde_json::to_string(entry).expect("entries have only text keys")
}

impl Shared {
    /// Something was refused: noted, unless its source fills the log; then only counted.
    pub(super) fn refuse(&self, refusal: Refusal) {
        let source = (refusal.deed, refusal.from.or(refusal.by), refusal.address);
        if !lock(&self.audit.inner).damper.handle_refusal(clock::wall_ms(), source) {
            return;
        }
        let policy = self.mesh.policy();
        let node = |id: NodeId| self.node_ref(policy.as_deref(), id);
        let entry = AuditEntry {
            why: Some(refusal.why),
            by: refusal.by.or(refusal.from).map(node),
            from: refusal.from.filter(|from| refusal.by.is_some_and(|by| by != *from)).map(node),
            address: refusal.address.map(|address| address.to_string()),
            folder: refusal.folder.map(|id| folder_ref(policy.as_deref(), id)),
            path: refusal.path.map(|path| PathText::from_bytes(path.as_bytes())),
            statement: refusal.statement.map(|id| id.to_hex()),
            ..self.blank(policy.as_deref(), Verdict::Refused, refusal.deed, refusal.text)
        };
        self.note(entry);
    }

    /// Statements are new here: each is noted with what became of it, and what they made void is too.
    pub(super) fn note_statements(&self, taken: &[StatementId]) {
        let Some(policy) = self.mesh.policy() else { return };
        let now: BTreeSet<StatementId> = policy.void().keys().copied().collect();
        let before = std::mem::replace(&mut lock(&self.audit.inner).void, now.clone());
        for id in taken {
            self.note_statement(&policy, *id, None);
        }
        let changed = before.symmetric_difference(&now).filter(|id| !taken.contains(id));
        for id in changed {
            let again = if now.contains(id) { "has no effect any more" } else { "has effect again" };
            self.note_statement(&policy, *id, Some(again));
        }
    }

    fn note_statement(&self, policy: &Policy, id: StatementId, again: Option<&str>) {
        let Some(statement) = self.mesh.statement(id) else { return };
        let issuer = statement.head().issuer;
        let why = policy.void().get(&id).map(ToString::to_string);
        let said = policy::sentence(policy, issuer, statement.body());
        let text = again.map_or_else(|| said.clone(), |again| format!("{said}; this {again}"));
        let verdict = if why.is_some() { Verdict::Refused } else { Verdict::Done };
        let entry = AuditEntry {
            why,
            by: Some(self.node_ref(Some(policy), issuer)),
            folder: policy::folder_of(statement.body()).map(|id| folder_ref(Some(policy), id)),
            statement: Some(id.to_hex()),
            signed_at: Some(UtcTime::from_ms(statement.head().time.ms)),
            ..self.blank(Some(policy), verdict, Deed::Statement, text)
        };
        self.note(entry);
    }

    /// Writes down what was only counted.
    pub(super) fn note_counted(&self) {
        let counted = lock(&self.audit.inner).damper.take_counted();
        let policy = self.mesh.policy();
        for Counted { source, count } in counted {
            let (deed, node, address) = source.unwrap_or((Deed::Connect, None, None));
            let text = if source.is_some() { "more of the same" } else { "more, from many sources" };
            let entry = AuditEntry {
                by: node.map(|id| self.node_ref(policy.as_deref(), id)),
                address: address.map(|address| address.to_string()),
                count,
                ..self.blank(policy.as_deref(), Verdict::Refused, deed, String::from(text))
            };
            self.note(entry);
        }
    }

    fn blank(&self, policy: Option<&Policy>, verdict: Verdict, deed: Deed, text: String) -> AuditEntry {
        AuditEntry {
            seq: 0,
            at: UtcTime::from_ms(clock::wall_ms()),
            verdict,
            deed,
            text,
            why: None,
            by: None,
            from: None,
            address: None,
            folder: None,
            path: None,
            statement: None,
            signed_at: None,
            mesh: policy.map(|policy| policy.mesh().to_hex()),
            count: 1,
            node: None,
        }
    }

    fn note(&self, mut entry: AuditEntry) {
        if let Err(error) = self.audit.write(&mut entry) {
            self.alert(
                format!("the audit log in {} cannot be written: {error}", self.audit.files.dir.display()),
                Some(String::from("free some room on that disk; what happens until then is not noted")),
            );
        }
        if entry.verdict == Verdict::Refused {
            let (by, why) = (entry.by.as_ref().map(|by| by.name.as_str()), entry.why.as_deref());
            warn!(by, from = entry.address, why, deed = ?entry.deed, "refused: {}", entry.text);
        }
        self.tell(Event::Audit { entry: Box::new(entry) });
    }

    /// A node by id and name.
    pub(super) fn node_ref(&self, policy: Option<&Policy>, node: NodeId) -> NodeRef {
        let name = policy.map_or_else(|| node.short(), |policy| policy::node_name(policy, node));
        NodeRef { id: node.to_text(), name }
    }
}

/// A folder by id and name.
pub(super) fn folder_ref(policy: Option<&Policy>, folder: FolderId) -> FolderRef {
    let state = policy.and_then(|policy| policy.folder(folder));
    let name = state.map_or_else(|| folder.to_hex()[..8].to_string(), |state| state.name.clone());
    FolderRef { id: folder.to_hex(), name }
}

/// What this node's own log holds.
pub(super) async fn entries(shared: &Arc<Shared>, ask: AuditAfter) -> Result<Vec<AuditEntry>, Failure> {
    shared.note_counted();
    let files = shared.audit.files.clone();
    let limit = ask.limit.min(AUDIT_ENTRIES_MAX) as usize;
    let read = rt::spawn_blocking(move || {
        let mut found = std::collections::VecDeque::new();
        files.read(&mut |line| {
            let Some(entry) = parse(line) else { return };
            let is_asked =
                ask.after.is_none_or(|after| entry.seq > after) && (!ask.refused || entry.verdict == Verdict::Refused);
            if !is_asked || (ask.after.is_some() && found.len() >= limit) {
                return;
            }
            found.push_back(entry);
            if found.len() > limit {
                found.pop_front();
            }
        })?;
        Ok::<_, io::Error>(Vec::from(found))
    });
    read.await.map_err(|error| Failure::failed("cannot read the audit log").because(&error))
}
