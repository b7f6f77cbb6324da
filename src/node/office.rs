//! What members say of themselves to those that may be coordinator, and what these keep of it: one place to look.
//!
//! Page: `docs/spec/reports.md`. Every member that may be coordinator collects, so that none has to begin anew when it
//! takes over. What a member may not see is left out by whoever reports to it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tracing::warn;

use super::audit::{folder_ref, line_of, parse};
use super::folder::State;
use super::record::Place;
use super::{Shared, archive, lock, shown, standing};
use crate::base::{FolderId, NodeId};
use crate::logic::office::{Copies, Heard, Office, Output};
use crate::logic::policy::Policy;
use crate::shell::lines::{LineFiles, LineLog};
use crate::shell::{clock, disk, rt};
use crate::wire::api::{
    AUDIT_ENTRIES_MAX, Alert, AuditAfter, AuditEntry, Deed, DiskRoom, Failure, FolderCopies, FolderHealth, FolderState,
    Health, NodeHealth, UtcTime,
};
use crate::wire::codec::{List, Text};
use crate::wire::report::{
    self, AuditLines, Doing, FolderReport, LINE_BYTES_MAX, LINES_BYTES_MAX, LINES_MAX, Report, ReportedAlert, Room,
};

/// Lines of one member's log that are collected when there is much: the newest.
const BACKLOG_MAX: u64 = 4096;
/// Messages of lines that are asked for in a row, from one report to the next.
const ROUNDS_MAX: u32 = (BACKLOG_MAX / LINES_MAX as u64) as u32 + 1;
/// Size of one file of a member's collected log, and how many there are. A guess: what it keeps itself, by half.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
const LOG_FILES: u32 = 2;

/// What was collected of the others.
#[derive(Default)]
pub(super) struct Desk {
    office: Mutex<Office>,
    logs: Mutex<BTreeMap<NodeId, Collected>>,
    /// Why this node could not be coordinator when it was last looked at.
    unfit: Mutex<Option<String>>,
}

struct Collected {
    log: LineLog,
    /// Up to which number it is here.
    last: u64,
    /// How often more may be asked for.
    rounds: u32,
}

impl Shared {
    /// Whether this node may be coordinator, and so collects.
    pub(super) fn collects(&self) -> bool {
        self.mesh.policy().is_some_and(|policy| policy.eligible(self.mesh.node()).is_some())
    }

    /// What this node says of itself to a peer; `None`: that one does not collect.
    pub(super) fn report_to(&self, peer: NodeId) -> Option<Report> {
        let policy = self.mesh.policy().filter(|policy| policy.eligible(peer).is_some())?;
        let now = clock::wall_ms();
        let visible = policy.visible_folders(peer, now);
        let running = self.folders();
        let may_see_all = running.keys().all(|folder| policy.reads_all(peer, *folder, now));
        let folders: Vec<FolderReport> = running
            .keys()
            .filter(|id| visible.contains(id))
            .filter_map(|id| self.folder_report(&policy, *id))
            .collect();
        let alerts = shown::alerts(self, Some(&policy));
        let count = u16::try_from(alerts.len()).unwrap_or(u16::MAX);
        let newest = alerts.into_iter().rev().filter(|_| may_see_all).take(report::ALERTS_MAX);
        let listed = newest.map(|alert| ReportedAlert {
            since_ms: alert.since.as_ms(),
            what: Text::truncated(&alert.what),
            hint: alert.hint.map(|hint| Text::truncated(&hint)),
        });
        Some(Report {
            version: Text::truncated(crate::wire::versions::SOFTWARE),
            clock_ms: now,
            disk: room(&self.places.state),
            folders: List::truncated(folders),
            alerts: count,
            listed: List::truncated(listed.collect()),
            audit: self.audit.last(),
        })
    }

    fn folder_report(&self, policy: &Policy, folder: FolderId) -> Option<FolderReport> {
        let status = self.folder(folder)?.status();
        let root = self.root_of(folder)?;
        let doing = match status.state {
            State::Idle => Doing::Idle,
            State::Scanning => Doing::Scanning,
            State::Syncing => Doing::Syncing,
            State::Held => Doing::Held,
            State::Error => Doing::Error,
        };
        Some(FolderReport {
            folder,
            doing,
            need_files: status.need.files,
            need_bytes: status.need.bytes,
            disk: room(&root),
            holds: self.holds(policy, folder),
        })
    }

    fn root_of(&self, folder: FolderId) -> Option<PathBuf> {
        self.mesh.record().place(folder).and_then(Place::at).map(super::places::to_path)
    }

    /// A hash of how far a folder's logs reach, where this node has all of the folder on its disk.
    fn holds(&self, policy: &Policy, folder: FolderId) -> Option<[u8; 32]> {
        let handle = self.folder(folder)?;
        let status = handle.status();
        let is_whole = matches!(self.mesh.record().place(folder), Some(Place::At(_)))
            && policy.reads_all(self.mesh.node(), folder, clock::wall_ms());
        let at_rest = status.state == State::Idle && status.need.files == 0;
        if is_whole && at_rest { handle.reach().ok() } else { None }
    }

    /// A member said how it is. Returns the number after which lines of its audit log are to be asked for.
    pub(super) fn take_report(&self, from: NodeId, report: Report) -> Option<u64> {
        if !self.collects() {
            return None;
        }
        let theirs = report.audit;
        lock(&self.desk.office).handle_report(clock::boottime_ms(), clock::wall_ms(), from, report);
        let mut logs = lock(&self.desk.logs);
        let collected = self.collected(&mut logs, from)?;
        collected.rounds = ROUNDS_MAX;
        if theirs < collected.last {
            // Its log began anew.
            collected.last = 0;
        }
        (theirs > collected.last).then_some(collected.last)
    }

    /// Lines of a member's audit log. Returns the number after which more are to be asked for.
    pub(super) fn take_lines(&self, from: NodeId, said: &AuditLines) -> Option<u64> {
        if !self.collects() {
            return None;
        }
        let theirs = lock(&self.desk.office).heard(from).map_or(0, |heard| heard.report.audit);
        let mut logs = lock(&self.desk.logs);
        let collected = self.collected(&mut logs, from)?;
        if collected.rounds == 0 || said.through <= collected.last {
            return None;
        }
        collected.rounds -= 1;
        for (seq, line) in said.lines.iter().filter(|(seq, _)| *seq > collected.last && *seq <= said.through) {
            // What is no entry, or says another number, is not kept.
            let Some(entry) = parse(line).filter(|entry| entry.seq == *seq) else { continue };
            if let Err(error) = collected.log.append(&line_of(&entry)) {
                warn!(%error, from = %from.short(), "an audit log cannot be collected now");
                return None;
            }
        }
        collected.last = said.through;
        (collected.rounds > 0 && said.through < theirs).then_some(collected.last)
    }

    fn collected<'a>(&self, logs: &'a mut BTreeMap<NodeId, Collected>, of: NodeId) -> Option<&'a mut Collected> {
        match logs.entry(of) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(free) => {
                let files = collected_files(&self.places.state, of);
                let newest = files.newest(1).unwrap_or_default();
                let last = newest.iter().filter_map(|line| parse(line)).map(|entry| entry.seq).max();
                match std::fs::create_dir_all(&files.dir).and_then(|()| LineLog::open(files)) {
                    Ok(log) => Some(free.insert(Collected { log, last: last.unwrap_or(0), rounds: 0 })),
                    Err(error) => {
                        warn!(%error, of = %of.short(), "an audit log cannot be collected now");
                        None
                    }
                }
            }
        }
    }

    /// The lines of this node's audit log above a number, for a peer that collects; `None`: it does not.
    pub(super) fn lines_for(&self, peer: NodeId, after: u64) -> Option<AuditLines> {
        let policy = self.mesh.policy().filter(|policy| policy.eligible(peer).is_some())?;
        let now = clock::wall_ms();
        let last = self.audit.last();
        let wanted = usize::try_from(last.saturating_sub(after).min(BACKLOG_MAX)).unwrap_or(0);
        let newest = self.audit.files().newest(wanted).unwrap_or_default();
        let (mut lines, mut bytes, mut through) = (Vec::new(), 0, last.max(after));
        for entry in newest.iter().filter_map(|line| parse(line)).filter(|entry| entry.seq > after) {
            if !may_see(&policy, peer, &entry, now) {
                continue;
            }
            let line = line_of(&entry);
            if line.len() > LINE_BYTES_MAX {
                continue;
            }
            if lines.len() == LINES_MAX || bytes + line.len() > LINES_BYTES_MAX {
                through = lines.last().map_or(after, |(seq, _)| *seq);
                break;
            }
            bytes += line.len();
            lines.push((entry.seq, Text::truncated(&line)));
        }
        Some(AuditLines { lines: List::truncated(lines), through })
    }

    /// What is looked at again and again where this node may be coordinator.
    pub(super) fn look_after_office(&self) {
        self.judge_fitness();
        self.look_at_copies();
    }

    /// A machine that cannot keep the archive steps aside, and says why.
    fn judge_fitness(&self) {
        let why = if self.collects() { archive::fit(self).err() } else { None };
        let before = std::mem::replace(&mut *lock(&self.desk.unfit), why.clone());
        if before == why {
            return;
        }
        self.election.set_fit(why.is_none());
        let what = |why: &str| format!("this machine steps aside as the office's server: {why}");
        before.iter().for_each(|why| self.over(&what(why)));
        if let Some(why) = why {
            let hint = "another machine that may be it takes over; 'lanyard archive status' says more";
            self.alert(what(&why), Some(hint.into()));
        }
    }

    /// Looks whether folders are on as many machines as was asked for.
    fn look_at_copies(&self) {
        let Some(policy) = self.mesh.policy().filter(|_| self.collects()) else { return };
        let members = policy.members().map(|(node, _)| node).collect();
        let mut out = Vec::new();
        let known: Vec<(FolderId, Copies)> =
            self.folders().into_keys().filter_map(|folder| Some((folder, self.copies_of(&policy, folder)?))).collect();
        let mut office = lock(&self.desk.office);
        office.handle_members(&members);
        office.handle_copies(clock::boottime_ms(), known, &mut out);
        drop(office);
        for output in out {
            match output {
                Output::TooFew(folder, copies) => {
                    let name = folder_ref(Some(&policy), folder).name;
                    let held: Vec<String> =
                        copies.servers.iter().chain(&copies.nodes).map(|node| self.name_of(*node)).collect();
                    let hint = format!(
                        "on {} so far: receive it on another machine with 'lanyard get {name}', or ask for fewer copies",
                        held.join(", ")
                    );
                    self.alert(too_few(&name), Some(hint));
                }
                Output::Enough(folder) => self.over(&too_few(&folder_ref(Some(&policy), folder).name)),
            }
        }
    }

    fn copies_of(&self, policy: &Policy, folder: FolderId) -> Option<Copies> {
        let holds = self.holds(policy, folder)?;
        let is_server = |node| policy.eligible(node).is_some();
        let own = (self.mesh.node(), holds);
        Some(lock(&self.desk.office).copies(folder, policy.copies(folder), own, &is_server))
    }
}

/// Folders of which the office's server is to hold a copy and cannot, for those who can change that.
pub(super) fn not_held(shared: &Shared, policy: &Policy) -> Vec<Alert> {
    let (me, now) = (shared.mesh.node(), clock::wall_ms());
    let alert =
        |since: u64, what: String, hint: String| Alert { since: UtcTime::from_ms(since), what, hint: Some(hint) };
    let mut alerts = Vec::new();
    if policy.eligible(me).is_some() {
        let record = shared.mesh.record();
        for folder in policy.visible_folders(me, now) {
            let name = folder_ref(Some(policy), folder).name;
            let missing = match record.place(folder) {
                Some(Place::Dropped) => "was dropped here",
                Some(Place::Parts { .. }) => "is received here in part only",
                _ => continue,
            };
            let what = format!("folder {name} {missing}: as the office's server this machine holds no full copy");
            let since = policy.folder(folder).map_or(0, |state| state.created.ms);
            alerts.push(alert(since, what, format!("receive all of it with 'lanyard get {name}'")));
        }
    }
    if policy.is_admin(me) && policy.candidates().next().is_some() {
        for (folder, state) in policy.folders() {
            if policy.candidates().any(|(node, _)| policy.reads_all(node, folder, now)) {
                continue;
            }
            let (name, candidates) = (&state.name, policy.candidates());
            let one = candidates.map(|(node, _)| shared.name_of(node)).next().unwrap_or_default();
            let what = format!("folder {name} is not wholly open to the office's server: it is not backed up there");
            alerts.push(alert(state.created.ms, what, format!("open it with 'lanyard grant {one} {name} read'")));
        }
    }
    alerts
}

fn too_few(folder: &str) -> String {
    format!("folder {folder} is on fewer machines than was asked for")
}

fn collected_files(state: &Path, of: NodeId) -> LineFiles {
    LineFiles { dir: state.join("office"), name: of.to_hex(), bytes_max: LOG_BYTES_MAX, count_max: LOG_FILES }
}

/// Whether a peer may be shown an entry. Everybody has the statements; the rest names paths.
fn may_see(policy: &Policy, peer: NodeId, entry: &AuditEntry, now_ms: u64) -> bool {
    let folder = entry.folder.as_ref().filter(|_| entry.deed != Deed::Statement);
    let folder = folder.map(|folder| FolderId::from_hex(&folder.id));
    folder.is_none_or(|folder| folder.is_some_and(|folder| policy.reads_all(peer, folder, now_ms)))
}

fn room(path: &Path) -> Room {
    disk::room(path).map(|(free, total)| Room { free, total }).unwrap_or_default()
}

/// What the audit logs of the whole office hold.
pub(super) async fn entries(shared: &Arc<Shared>, ask: AuditAfter) -> Result<Vec<AuditEntry>, Failure> {
    shared.note_counted();
    let shared = shared.clone();
    let limit = ask.limit.min(AUDIT_ENTRIES_MAX) as usize;
    rt::spawn_blocking(move || collected(&shared, limit, ask.refused)).await
}

/// The collected logs with this node's own, the newest entries in order of time.
fn collected(shared: &Arc<Shared>, limit: usize, refused: bool) -> Result<Vec<AuditEntry>, Failure> {
    must_collect(shared)?;
    let policy = shared.mesh.policy();
    let known: Vec<NodeId> = std::fs::read_dir(shared.places.state.join("office"))
        .into_iter()
        .flatten()
        .filter_map(|file| NodeId::from_hex(file.ok()?.file_name().to_str()?.strip_suffix(".jsonl")?))
        .collect();
    let own = (shared.mesh.node(), shared.audit.files().clone());
    let others = known.into_iter().map(|node| (node, collected_files(&shared.places.state, node)));
    let mut all: Vec<AuditEntry> = Vec::new();
    for (node, files) in others.chain([own]) {
        let named = shared.node_ref(policy.as_deref(), node);
        files
            .read(&mut |line| {
                let Some(entry) = parse(line) else { return };
                if !refused || entry.verdict == crate::wire::api::Verdict::Refused {
                    all.push(AuditEntry { node: Some(named.clone()), ..entry });
                }
            })
            .map_err(|error| Failure::failed(format!("cannot read the log of {}", named.name)).because(&error))?;
        all.sort_by_key(|entry| entry.at.as_ms());
        let surplus = all.len().saturating_sub(limit);
        all.drain(..surplus);
    }
    Ok(all)
}

fn must_collect(shared: &Shared) -> Result<Arc<Policy>, Failure> {
    let policy = standing::must_have_mesh(shared)?;
    if policy.eligible(shared.mesh.node()).is_some() {
        return Ok(policy);
    }
    let servers: Vec<String> = policy.candidates().map(|(node, _)| shared.name_of(node)).collect();
    let failure = Failure::refused("this machine collects nothing from the others: it may not be the office's server");
    Err(failure.hint(match servers.is_empty() {
        true => String::from("an admin lets a machine be it with 'lanyard coordinator allow NODE'"),
        false => format!("ask on {}", servers.join(" or ")),
    }))
}

/// Every member as it last said, and where every folder is.
pub(super) fn health(shared: &Arc<Shared>) -> Result<Health, Failure> {
    let policy = must_collect(shared)?;
    let me = shared.mesh.node();
    let own = shared.report_to(me);
    let mut nodes = Vec::new();
    for member in shown::nodes(shared) {
        let Some(node) = NodeId::from_text(&member.id).ok() else { continue };
        let heard = lock(&shared.desk.office).heard(node).cloned();
        let heard = match &own {
            Some(report) if node == me => {
                Some(Heard { report: report.clone(), at_ms: clock::boottime_ms(), skew_ms: 0 })
            }
            _ => heard,
        };
        let report = heard.as_ref().map(|heard| &heard.report);
        let ago = |heard: &Heard| clock::wall_ms().saturating_sub(clock::boottime_ms().saturating_sub(heard.at_ms));
        nodes.push(NodeHealth {
            node: shared.node_ref(Some(&policy), node),
            this: member.this,
            server: policy.eligible(node).is_some(),
            connected: member.connected,
            last_seen: member.last_seen,
            reported: heard.as_ref().map(|heard| UtcTime::from_ms(ago(heard))),
            version: report.map(|report| report.version.to_string()).or_else(|| shared.software_of(node)),
            apart: member.apart,
            clock_ahead_ms: heard.as_ref().map(|heard| heard.skew_ms),
            disk: report.map(|report| disk_room(report.disk)),
            in_sync: report
                .map(|report| report.folders.iter().all(|one| one.doing == Doing::Idle && one.need_files == 0)),
            folders: report.map(|report| folder_healths(&policy, report)).unwrap_or_default(),
            alerts: report.map_or(0, |report| u64::from(report.alerts)),
            listed: report.map(|report| report.listed.iter().map(alert).collect()).unwrap_or_default(),
        });
    }
    let mut folders: Vec<FolderCopies> =
        shared.folders().into_keys().map(|id| folder_copies(shared, &policy, id)).collect();
    folders.sort_by(|a, b| (&a.folder.name, &a.folder.id).cmp(&(&b.folder.name, &b.folder.id)));
    Ok(Health { nodes, folders })
}

fn folder_copies(shared: &Shared, policy: &Policy, id: FolderId) -> FolderCopies {
    let found = shared.copies_of(policy, id);
    let wanted = policy.copies(id);
    let held_by = found.as_ref().map(|copies| {
        copies.servers.iter().chain(&copies.nodes).map(|node| shared.node_ref(Some(policy), *node)).collect()
    });
    FolderCopies {
        folder: folder_ref(Some(policy), id),
        nodes: wanted.nodes,
        server: wanted.server,
        held_by,
        enough: found.as_ref().map(Copies::are_enough),
    }
}

fn folder_healths(policy: &Policy, report: &Report) -> Vec<FolderHealth> {
    let one = |one: &FolderReport| FolderHealth {
        folder: folder_ref(Some(policy), one.folder),
        state: match one.doing {
            Doing::Idle => FolderState::Idle,
            Doing::Scanning => FolderState::Scanning,
            Doing::Syncing => FolderState::Syncing,
            Doing::Held => FolderState::Held,
            Doing::Error => FolderState::Error,
        },
        need_files: one.need_files,
        need_bytes: one.need_bytes,
        disk: disk_room(one.disk),
    };
    report.folders.iter().map(one).collect()
}

fn disk_room(room: Room) -> DiskRoom {
    DiskRoom { free: room.free, total: room.total }
}

fn alert(reported: &ReportedAlert) -> Alert {
    Alert {
        since: UtcTime::from_ms(reported.since_ms),
        what: reported.what.to_string(),
        hint: reported.hint.as_ref().map(ToString::to_string),
    }
}
