//! Commands about work that does not count: which it is, keeping it, letting a node go on whose log forked.
//!
//! What is listed here is what this node was sent, so what it may read. Keeping is signed: every node then judges the
//! same entries anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::audit::folder_ref;
use super::folder::{FolderHandle, NotCounted};
use super::rules::{folders_meant, known_folders, not_allowed, unclear};
use super::{Shared, standing};
use crate::base::{FolderId, NodeId, RelPath};
use crate::logic::policy::{self, Policy, Unclear, VoidEntry, find_folder, find_node, find_path};
use crate::shell::clock;
use crate::wire::api::{
    Failure, KeepLate, Kept, KeptIn, LATE_CHANGES_MAX, Late, LateChange, LateCount, LateIn, LateReason, NodeRef,
    PathText, ReinstateNode, Reinstated, UtcTime,
};
use crate::wire::statement::Range;

/// Entries of one folder that are looked at for `late`. A guess: a week's work of a machine that was away.
const LOOKED_MAX: usize = 100_000;
/// Entries that are looked at to count them for `status`, which is asked for often. A guess: a few milliseconds.
const COUNTED_MAX: usize = 2_000;

/// What does not count, of the folders that are received here.
pub(super) fn late(shared: &Shared, ask: &LateIn) -> Result<Late, Failure> {
    let policy = standing::must_have_mesh(shared)?;
    let (places, inside) = places(shared, &policy, ask.folder.as_deref(), ask.path.as_ref())?;
    let mut changes = Vec::new();
    for (folder, handle) in places {
        let entries = not_counted(&policy, folder, &handle)?;
        let meant = entries.into_iter().filter(|entry| entry.path.starts_with(&inside));
        changes.extend(meant.map(|entry| change(shared, &policy, folder, &entry)));
    }
    changes.sort_by(|a, b| {
        let key = |c: &LateChange| (!c.reason.is_late(), c.folder.name.clone(), c.path.to_bytes(), c.at);
        key(a).cmp(&key(b))
    });
    let more = changes.len().saturating_sub(LATE_CHANGES_MAX) as u64;
    changes.truncate(LATE_CHANGES_MAX);
    Ok(Late { changes, more })
}

/// Signs that changes of a node count which came too late.
pub(super) async fn keep(shared: &Arc<Shared>, ask: KeepLate) -> Result<Kept, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let (places, inside) = places(shared, &policy, ask.folder.as_deref(), ask.path.as_ref())?;
    let on = match places.as_slice() {
        [(folder, _)] => format!(" on {}", policy::place(&policy, *folder, &inside)),
        _ => String::new(),
    };
    let mut found: BTreeMap<FolderId, Vec<NotCounted>> = BTreeMap::new();
    for (folder, handle) in places {
        found.insert(folder, not_counted(&policy, folder, &handle)?);
    }
    let authors = found.values().flatten().map(|entry| entry.id.writer.node).collect();
    let nothing = |name: &str| {
        Failure::failed(format!("there is no change of {name}{on} that does not count"))
            .hint("'lanyard late' lists what there is")
    };
    let Some(node) = author_of(&policy, &authors, &ask.node)? else { return Err(nothing(&ask.node)) };
    let named = shared.node_ref(Some(&policy), node);
    found.values_mut().for_each(|entries| {
        entries.retain(|entry| entry.id.writer.node == node && entry.path.starts_with(&inside));
    });
    if found.values().all(Vec::is_empty) {
        return Err(nothing(&named.name));
    }
    found.values_mut().for_each(|entries| entries.retain(|entry| reason(&entry.why).can_be_kept()));
    found.retain(|_, entries| !entries.is_empty());
    if found.is_empty() {
        return Err(Failure::failed(format!("the changes of {}{on} cannot be kept", named.name))
            .why(format!("{} signed two histories, and nobody can know which of them is meant", named.name))
            .hint(format!(
                "'lanyard reinstate {}' lets it sign its changes anew; what was replaced is in .lanyard/versions",
                named.name
            )));
    }
    let now = clock::wall_ms();
    let ids = shared.mesh.sign(|policy| {
        let mut bodies = Vec::new();
        for (folder, entries) in &found {
            let one = |entry: &NotCounted| {
                let (writer, seq) = (entry.id.writer, entry.id.seq);
                Range { writer, first: seq, last: seq, batch: entry.batch }
            };
            let ranges = entries.iter().map(one).collect();
            let planned = policy::plan_vouch(policy, shared.mesh.node(), *folder, ranges, now);
            let what = || format!("cannot keep changes of {} in the folder {}", named.name, name(policy, *folder));
            bodies.extend(planned.map_err(|error| not_allowed(policy, what(), &error))?);
        }
        Ok::<_, Failure>(bodies)
    })?;
    let kept = |(folder, entries): (FolderId, Vec<NotCounted>)| {
        let paths: BTreeSet<&RelPath> = entries.iter().map(|entry| &entry.path).collect();
        let paths = paths.into_iter().take(LATE_CHANGES_MAX);
        KeptIn {
            folder: folder_ref(Some(&policy), folder),
            paths: paths.map(|path| PathText::from_bytes(path.as_bytes())).collect(),
            count: entries.len() as u64,
        }
    };
    let folders = found.into_iter().map(kept).collect();
    Ok(Kept { node: named.clone(), folders, statements: ids.iter().map(|id| id.to_hex()).collect() })
}

/// Lets a node go on that signed two histories.
pub(super) async fn reinstate(shared: &Arc<Shared>, ask: ReinstateNode) -> Result<Reinstated, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let node = find_node(&policy, &ask.node).map_err(unclear)?;
    let named = shared.node_ref(Some(&policy), node);
    let (mut folders, on) = folders_meant(shared, &policy, ask.folder.as_deref())?;
    folders.retain(|folder| policy.folder(*folder).is_some_and(|state| !state.retired));
    let logs = |folder: &FolderId| shared.mesh.rules(*folder).not_reinstated();
    let forked: Vec<_> = folders
        .into_iter()
        .flat_map(|folder| logs(&folder).into_iter().map(move |writer| (folder, writer)))
        .filter(|(_, writer)| writer.node == node)
        .collect();
    if forked.is_empty() {
        return Err(Failure::failed(format!("{} need not be reinstated{on}", named.name))
            .why("it has not signed two histories, or goes on already"));
    }
    let now = clock::wall_ms();
    let ids = shared.mesh.sign(|policy| {
        let plan = |(folder, writer): &(FolderId, _)| {
            let what = || format!("cannot reinstate {} in the folder {}", named.name, name(policy, *folder));
            policy::plan_reinstate(policy, shared.mesh.node(), *folder, *writer, now)
                .map_err(|error| not_allowed(policy, what(), &error))
        };
        forked.iter().map(plan).collect::<Result<Vec<_>, Failure>>()
    })?;
    let folders: BTreeSet<FolderId> = forked.into_iter().map(|(folder, _)| folder).collect();
    Ok(Reinstated {
        node: named.clone(),
        folders: folders.into_iter().map(|folder| folder_ref(Some(&policy), folder)).collect(),
        statements: ids.iter().map(|id| id.to_hex()).collect(),
    })
}

/// What `status` says of a folder: whose changes came too late, and which members wait to be reinstated.
pub(super) fn noted(shared: &Shared, policy: &Policy, folder: FolderId) -> (Vec<LateCount>, Vec<NodeRef>) {
    let mut counts: BTreeMap<NodeId, u64> = BTreeMap::new();
    if let Some(handle) = shared.folder(folder) {
        // An index that cannot be read now says so by the folder's state.
        let entries = handle.not_counted(COUNTED_MAX).unwrap_or_default();
        for entry in entries.iter().filter(|entry| reason(&entry.why).is_late()) {
            *counts.entry(entry.id.writer.node).or_default() += 1;
        }
    }
    let of = |node| shared.node_ref(Some(policy), node);
    let logs = shared.mesh.rules(folder).not_reinstated();
    let nodes: BTreeSet<NodeId> = logs.into_iter().map(|log| log.node).filter(|node| policy.is_member(*node)).collect();
    let counts = counts.into_iter().map(|(node, count)| LateCount { node: of(node), count });
    (counts.collect(), nodes.into_iter().map(of).collect())
}

/// Folders that are received here and meant, and the path in them.
fn places(
    shared: &Shared,
    policy: &Policy,
    folder: Option<&str>,
    path: Option<&PathText>,
) -> Result<(Vec<(FolderId, FolderHandle)>, RelPath), Failure> {
    let inside = path.map_or(Ok(RelPath::root()), |path| find_path(path.as_str())).map_err(unclear)?;
    let Some(wanted) = folder else { return Ok((shared.folders().into_iter().collect(), inside)) };
    let folder = find_folder(policy, &known_folders(shared, policy), wanted).map_err(unclear)?;
    let handle = shared.folder(folder).ok_or_else(|| {
        let name = name(policy, folder);
        Failure::failed(format!("folder {name} is not received here"))
            .hint(format!("receive it with `lanyard get {name} PATH`, or ask where it is received"))
    })?;
    Ok((vec![(folder, handle)], inside))
}

fn not_counted(policy: &Policy, folder: FolderId, handle: &FolderHandle) -> Result<Vec<NotCounted>, Failure> {
    handle.not_counted(LOOKED_MAX).map_err(|error| {
        Failure::failed(format!("cannot list the changes of folder {}", name(policy, folder))).because(&error)
    })
}

/// The node that a name or id means, of those whose changes do not count: it may be no member any more. `None`: a node
/// that has no such change.
fn author_of(policy: &Policy, authors: &BTreeSet<NodeId>, wanted: &str) -> Result<Option<NodeId>, Failure> {
    let is_meant = |node: &&NodeId| {
        let name = policy::node_name(policy, **node);
        name.to_lowercase() == wanted.to_lowercase() || node.short() == wanted || node.to_text() == wanted
    };
    let meant: Vec<NodeId> = authors.iter().filter(is_meant).copied().collect();
    match meant.as_slice() {
        [one] => Ok(Some(*one)),
        [] => match find_node(policy, wanted) {
            Ok(node) => Ok(Some(node)),
            Err(Unclear::Former(_)) => Ok(None),
            Err(error) => Err(unclear(error)),
        },
        several => {
            let candidates = several.iter().map(|node| format!("the node {}", node.to_text())).collect();
            Err(unclear(Unclear::Several { wanted: wanted.to_string(), candidates }))
        }
    }
}

fn name(policy: &Policy, folder: FolderId) -> String {
    folder_ref(Some(policy), folder).name
}

fn change(shared: &Shared, policy: &Policy, folder: FolderId, entry: &NotCounted) -> LateChange {
    LateChange {
        folder: folder_ref(Some(policy), folder),
        path: PathText::from_bytes(entry.path.as_bytes()),
        deleted: entry.deleted,
        node: shared.node_ref(Some(policy), entry.id.writer.node),
        at: UtcTime::from_ms(entry.at.ms),
        reason: reason(&entry.why),
        why: why(shared, policy, entry),
    }
}

fn reason(why: &VoidEntry) -> LateReason {
    match why {
        VoidEntry::Stopped(_) => LateReason::Stopped,
        VoidEntry::NotPermitted(_) => LateReason::NotPermitted,
        VoidEntry::Frozen(_) => LateReason::Frozen,
        VoidEntry::Sealed(_) => LateReason::Sealed,
        VoidEntry::Forked(_) => LateReason::Forked,
        VoidEntry::Suspended(_) => LateReason::Suspended,
        VoidEntry::Rejected(_) => LateReason::Rejected,
    }
}

/// Why an entry does not count, for people: by what others did, not by numbers.
fn why(shared: &Shared, policy: &Policy, entry: &NotCounted) -> String {
    let deed = |id| {
        let statement = shared.mesh.statement(id)?;
        let issuer = statement.head().issuer;
        let sentence = policy::sentence(policy, issuer, statement.body());
        Some(format!("{} {sentence}", policy::node_name(policy, issuer)))
    };
    let author = policy::node_name(policy, entry.id.writer.node);
    let known = match &entry.why {
        VoidEntry::Frozen(id) => deed(*id).map(|deed| format!("{deed}, before it had this change")),
        VoidEntry::Sealed(id) => deed(*id).map(|deed| format!("{deed}, and that has ended")),
        VoidEntry::NotPermitted(_) => Some(format!("{author} could not write there")),
        VoidEntry::Forked(_) => Some(format!("{author} signed two histories")),
        VoidEntry::Suspended(_) => Some(format!("{author} signed two histories and was not reinstated")),
        VoidEntry::Rejected(id) => deed(*id),
        VoidEntry::Stopped(_) => None,
    };
    known.unwrap_or_else(|| entry.why.to_string())
}
