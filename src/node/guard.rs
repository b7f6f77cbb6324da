//! Commands about bursts of changes that the mass-change guard holds: which they are, and what becomes of them.
//!
//! A verdict is signed: every node then does the same, also one that let all of it happen.

use std::sync::Arc;

use super::audit::folder_ref;
use super::folder::{FolderHandle, Held};
use super::rules::{folders_meant, known_folders, not_allowed, unclear};
use super::{Shared, standing};
use crate::base::{FolderId, NodeId};
use crate::logic::policy::{self, Policy, find_node};
use crate::logic::sync::guard::Burst;
use crate::logic::sync::index::IndexError;
use crate::shell::clock;
use crate::wire::api::{DecideHeld, Decided, Failure, HELD_PATHS_MAX, HeldBurst, PathText, UtcTime};

/// Entries of one burst that are looked at. A guess: a large folder that is deleted as a whole.
const LOOKED_MAX: usize = 200_000;

struct Found {
    folder: FolderId,
    handle: FolderHandle,
    node: NodeId,
    burst: Burst,
}

/// What is held in the folders that are received here.
pub(super) fn held(shared: &Shared) -> Result<Vec<HeldBurst>, Failure> {
    let policy = standing::must_have_mesh(shared)?;
    let of = |found: Found| {
        let Held { deletions, replacements, paths, .. } =
            found.handle.held(&found.burst, LOOKED_MAX, HELD_PATHS_MAX).map_err(|error| unreadable(&error))?;
        Ok(HeldBurst {
            folder: folder_ref(Some(&policy), found.folder),
            node: shared.node_ref(Some(&policy), found.node),
            deletions,
            replacements,
            from: UtcTime::from_ms(found.burst.from_ms),
            to: UtcTime::from_ms(found.burst.to_ms),
            paths: paths.iter().map(|path| PathText::from_bytes(path.as_bytes())).collect(),
        })
    };
    bursts(shared, known_folders(shared, &policy)).into_iter().map(of).collect()
}

/// Signs what becomes of the changes of a node that are held here.
pub(super) async fn decide(shared: &Arc<Shared>, ask: DecideHeld) -> Result<Decided, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let node = find_node(&policy, &ask.node).map_err(unclear)?;
    let named = shared.node_ref(Some(&policy), node);
    let (folders, on) = folders_meant(shared, &policy, ask.folder.as_deref())?;
    let found: Vec<Found> = bursts(shared, folders).into_iter().filter(|found| found.node == node).collect();
    if found.is_empty() {
        return Err(Failure::failed(format!("no changes of {}{on} are held here", named.name))
            .hint("'lanyard guard' lists what is held"));
    }
    let (now, verb) = (clock::wall_ms(), if ask.release { "release" } else { "reject" });
    let mut changes = 0;
    let mut planned = Vec::new();
    for Found { folder, handle, burst, .. } in &found {
        let held = handle.held(burst, LOOKED_MAX, 0).map_err(|error| unreadable(&error))?;
        changes += held.deletions + held.replacements;
        let mut ranges = Vec::new();
        for (log, stretch) in burst.held.iter().filter(|(_, stretch)| stretch.held_to > 0) {
            ranges.extend(handle.range(*log, *stretch).map_err(|error| unreadable(&error))?);
        }
        planned.push((*folder, ranges));
    }
    let ids = shared.mesh.sign(|policy| {
        let mut bodies = Vec::new();
        for (folder, ranges) in &planned {
            let what = || format!("cannot {verb} changes of {} in the folder {}", named.name, name(policy, *folder));
            let me = shared.mesh.node();
            let more = policy::plan_verdicts(policy, me, *folder, ranges.clone(), ask.release, now);
            bodies.extend(more.map_err(|error| not_allowed(policy, what(), &error))?);
        }
        Ok::<_, Failure>(bodies)
    })?;
    Ok(Decided {
        node: named,
        folders: planned.iter().map(|(folder, _)| folder_ref(Some(&policy), *folder)).collect(),
        changes,
        release: ask.release,
        statements: ids.iter().map(|id| id.to_hex()).collect(),
    })
}

fn bursts(shared: &Shared, folders: Vec<FolderId>) -> Vec<Found> {
    let of = |folder: FolderId| {
        let handle = shared.folder(folder)?;
        let bursts = handle.status().bursts;
        Some(bursts.into_iter().map(move |(node, burst)| Found { folder, handle: handle.clone(), node, burst }))
    };
    folders.into_iter().filter_map(of).flatten().collect()
}

fn name(policy: &Policy, folder: FolderId) -> String {
    folder_ref(Some(policy), folder).name
}

fn unreadable(error: &IndexError) -> Failure {
    Failure::failed("cannot read what is held").because(error)
}
