//! Commands about conflict copies: which there are, and ending a conflict one way or another.
//!
//! Ending one is an ordinary change of this node: what goes is kept like all that a change replaces.

use std::sync::Arc;

use super::folder::{Back, Change, NotMade, Wanted};
use super::past::{Spot, spot};
use super::{Shared, reasons};
use crate::base::path::NAME_BYTES_MAX;
use crate::base::{FileInfo, Level, NodeId, RelPath};
use crate::logic::policy;
use crate::logic::sync::conflict::{self, Main};
use crate::logic::sync::index::{Head, IndexError, Look, PathRecord, Walk};
use crate::logic::sync::reconcile::{self, Target};
use crate::logic::sync::replica::Rules;
use crate::shell::disk::scan;
use crate::shell::rt;
use crate::wire::api::{
    ConflictCopy, ConflictSide, Conflicts, ConflictsIn, Failure, KeepSide, PAST_MAX, PathText, ResolveConflict,
    Resolved, UtcTime,
};
use crate::wire::batch::What;

/// Ordinary names that are tried for a copy.
const NAMES_MAX: usize = 100;
/// Names of a folder looked at in one step.
const PAGE: usize = 1024;

/// A path in conflict.
struct Conflict {
    path: RelPath,
    record: PathRecord,
    /// What has the name; `None`: a directory that nobody announced.
    current: Option<Head>,
    /// What lies beside, with its name.
    others: Vec<(RelPath, Head)>,
}

/// Every conflict copy of the folders that are received here.
pub(super) async fn conflicts(shared: &Arc<Shared>, ask: ConflictsIn) -> Result<Conflicts, Failure> {
    let spots = match &ask.folder {
        Some(name) => vec![spot(shared, name, None)?],
        None => {
            let ids: Vec<String> = shared.folders().into_keys().map(|id| id.to_hex()).collect();
            ids.iter().filter_map(|id| spot(shared, id, None).ok()).collect()
        }
    };
    let shared = shared.clone();
    rt::spawn_blocking(move || {
        let mut listed = Vec::new();
        for spot in spots {
            let found = spot.handle.back().store.read(|look| all(look)).map_err(|error: IndexError| {
                Failure::failed(format!("cannot list the conflicts of folder {}", spot.named.name)).because(&error)
            })?;
            for conflict in found {
                for (copy, head) in &conflict.others {
                    listed.push(ConflictCopy {
                        folder: spot.named.clone(),
                        path: PathText::from_bytes(conflict.path.as_bytes()),
                        copy: PathText::from_bytes(copy.as_bytes()),
                        current: conflict.current.as_ref().map(|head| side(&shared, &spot, head)),
                        other: side(&shared, &spot, head),
                    });
                }
            }
        }
        listed.sort_by(|a, b| (&a.folder.name, &a.path, &a.copy).cmp(&(&b.folder.name, &b.path, &b.copy)));
        let more = listed.len().saturating_sub(PAST_MAX) as u64;
        listed.truncate(PAST_MAX);
        Ok(Conflicts { conflicts: listed, more })
    })
    .await
}

fn side(shared: &Shared, spot: &Spot, head: &Head) -> ConflictSide {
    let bytes = match head.what() {
        What::File { bytes, .. } => *bytes,
        _ => 0,
    };
    let node = head.id.writer.node;
    ConflictSide {
        by: shared.node_ref(Some(&spot.policy), node),
        this: node == shared.mesh.node(),
        at: UtcTime::from_ms(head.salted.entry.time.ms),
        bytes,
    }
}

fn all(look: &dyn Look) -> Result<Vec<Conflict>, IndexError> {
    let mut found = Vec::new();
    let mut from = Some(RelPath::root());
    while let Some(start) = from.take() {
        let mut page = Vec::new();
        let mut seen = 0;
        look.walk_from(&RelPath::root(), &start, &mut |path, record| {
            if seen == PAGE {
                from = Some(path);
                return Walk::Enough;
            }
            seen += 1;
            if record.heads.iter().any(|head| head.is_live()) {
                let may_be = record.heads.len() > 1 || !record.copies.is_empty();
                // A file that somebody put something below lies beside its directory.
                let is_file = record.disk.as_ref().is_some_and(|disk| disk.what == What::Dir) && !is_dir(&record);
                if may_be || is_file {
                    page.push((path, record));
                }
            }
            Walk::On
        })?;
        for (path, record) in page {
            found.extend(at(look, path, record)?);
        }
    }
    Ok(found)
}

fn is_dir(record: &PathRecord) -> bool {
    record.heads.iter().any(|head| *head.what() == What::Dir)
}

/// The conflict of a path, if there is one.
fn at(look: &dyn Look, path: RelPath, record: PathRecord) -> Result<Option<Conflict>, IndexError> {
    let below = !is_dir(&record) && reconcile::lives_below(look, &path)?;
    let view = conflict::view(&record, below);
    let current = match view.main {
        Main::Head(head) => Some(head.clone()),
        Main::Nothing | Main::ImpliedDir => None,
    };
    let mut others = Vec::new();
    for head in view.losers {
        if let Some(name) = reconcile::copy_name(look, &path, head)? {
            others.push((name, head.clone()));
        }
    }
    Ok((!others.is_empty()).then_some(Conflict { path, record, current, others }))
}

/// Ends a conflict.
pub(super) async fn resolve(shared: &Arc<Shared>, ask: ResolveConflict) -> Result<Resolved, Failure> {
    let spot = spot(shared, &ask.folder, Some(&ask.path))?;
    let shared = shared.clone();
    rt::spawn_blocking(move || {
        let back = spot.handle.back();
        Resolving { shared: &shared, spot: &spot, back }.run(ask.keep)
    })
    .await
}

struct Resolving<'a> {
    shared: &'a Shared,
    spot: &'a Spot,
    back: Back,
}

impl Resolving<'_> {
    fn run(mut self, keep: KeepSide) -> Result<Resolved, Failure> {
        let conflict = self.find()?;
        let (keep, others) =
            choose(keep, &conflict, self.shared.mesh.node()).map_err(|why| self.unclear(&conflict, why))?;
        let others: Vec<(RelPath, Head)> = others.into_iter().cloned().collect();
        self.check_rights(&conflict, &others)?;
        let (mut changes, mut also) = (Vec::new(), Vec::new());
        for (copy, head) in &others {
            let there = self.on_disk(copy)?;
            let put = match keep {
                KeepSide::Copy => Some((conflict.path.clone(), self.current_file(&conflict)?)),
                KeepSide::Both => {
                    let name = self.ordinary_name(&conflict.path, &also)?;
                    also.push(name.clone());
                    Some((name, None))
                }
                KeepSide::Current | KeepSide::Mine | KeepSide::Theirs => None,
            };
            if let Some((path, expected)) = put {
                changes.push(self.put(&conflict.path, path, expected, head)?);
            }
            changes.push(Change { path: copy.clone(), expected: Some(there), target: Target::Nothing, content: None });
        }
        let copies = others.len() as u64;
        let names: Vec<RelPath> = changes.iter().map(|change| change.path.clone()).collect();
        for (name, made) in names.iter().zip(self.back.make(changes)) {
            let failed = || Failure::failed(format!("cannot end the conflict on {}: {name} stays", self.spot.shown()));
            match made {
                Ok(()) => {}
                Err(NotMade::Changed) => {
                    return Err(failed().why("it was changed here meanwhile").hint("look at it, and try again"));
                }
                Err(NotMade::For(why)) => return Err(failed().why(why)),
            }
        }
        let text = |path: &RelPath| PathText::from_bytes(path.as_bytes());
        Ok(Resolved {
            folder: self.spot.named.clone(),
            path: text(&conflict.path),
            kept: keep,
            also: also.iter().map(text).collect(),
            copies,
        })
    }

    /// The conflict that is meant, of one copy where that is named.
    fn find(&self) -> Result<Conflict, Failure> {
        let path = &self.spot.path;
        let found = self.back.store.read(|look| {
            let record = look.path(path)?.unwrap_or_default();
            match (&record.copy_of, record.heads.is_empty()) {
                (Some((owner, _)), true) => {
                    let owning = look.path(owner)?.unwrap_or_default();
                    Ok(at(look, owner.clone(), owning)?.map(|mut conflict| {
                        conflict.others.retain(|(copy, _)| copy == path);
                        conflict
                    }))
                }
                _ if path.is_root() => Ok(None),
                _ => at(look, path.clone(), record),
            }
        });
        let found = found.map_err(|error: IndexError| self.failed().because(&error))?;
        found.filter(|conflict| !conflict.others.is_empty()).ok_or_else(|| {
            Failure::failed(format!("there is no conflict on {}", self.spot.shown()))
                .hint(format!("'lanyard conflicts {}' lists what there is", self.spot.named.name))
        })
    }

    fn failed(&self) -> Failure {
        Failure::failed(format!("cannot end the conflict on {}", self.spot.shown()))
    }

    fn unclear(&self, conflict: &Conflict, why: &str) -> Failure {
        let copies: Vec<String> = conflict.others.iter().map(|(copy, _)| copy.to_string()).collect();
        self.failed()
            .why(why)
            .hint(format!("name one copy, and say --keep current, copy or both: {}", copies.join(", ")))
    }

    fn check_rights(&self, conflict: &Conflict, others: &[(RelPath, Head)]) -> Result<(), Failure> {
        let rules = self.shared.mesh.rules(self.spot.folder);
        let me = self.shared.mesh.node();
        let mut names = others.iter().map(|(copy, _)| copy).chain([&conflict.path]);
        let barred = names.find(|name| rules.is_suspended(me) || !rules.permits(me, name, Level::Write));
        match barred {
            None => Ok(()),
            Some(name) => {
                let place = policy::place(&self.spot.policy, self.spot.folder, name);
                Err(Failure::refused(format!("cannot end the conflict on {}", self.spot.shown()))
                    .why(format!("this machine may not change {place}")))
            }
        }
    }

    /// What lies under the name of a copy.
    fn on_disk(&self, copy: &RelPath) -> Result<FileInfo, Failure> {
        let record = self.back.store.read(|look| look.path(copy));
        let record = record.map_err(|error: IndexError| self.failed().because(&error))?.unwrap_or_default();
        record.disk.filter(|_| record.copy_of.is_some()).map(|disk| disk.info).ok_or_else(|| {
            self.failed().why(format!("{copy} is not on this disk yet")).hint("try again when the folder is in step")
        })
    }

    /// What is under the name that the copy is to have.
    fn current_file(&self, conflict: &Conflict) -> Result<Option<FileInfo>, Failure> {
        match &conflict.record.disk {
            Some(disk) if disk.what == What::Dir => Err(self
                .failed()
                .why("a directory has the name")
                .hint("--keep both gives the copy an ordinary name of its own")),
            disk => Ok(disk.as_ref().map(|disk| disk.info)),
        }
    }

    fn put(
        &mut self,
        owner: &RelPath,
        path: RelPath,
        expected: Option<FileInfo>,
        head: &Head,
    ) -> Result<Change, Failure> {
        let entry = &head.salted.entry;
        let target = Target::Put { what: entry.what.clone(), mode: entry.mode, mtime: entry.mtime };
        let mut content = None;
        if let Some((id, bytes)) = target.content() {
            let wanted = Wanted { path: owner.clone(), content: id, bytes };
            let brought = self.back.bring(&[wanted]).pop().unwrap_or_else(|| Err("it is gone".into()));
            let brought = brought.map_err(|why| self.failed().why(why))?;
            let staged = brought.stage(self.back.disk());
            content = Some(staged.map_err(|error| self.failed().why(reasons(&error).join(": ")))?);
        }
        Ok(Change { path, expected, target, content })
    }

    /// `name (2).ext`, or the next number that is free.
    fn ordinary_name(&self, path: &RelPath, taken: &[RelPath]) -> Result<RelPath, Failure> {
        for number in 2..NAMES_MAX {
            let Some(name) = numbered(path, number) else { break };
            let known = self.back.store.read(|look| look.path(&name));
            let known = known.map_err(|error: IndexError| self.failed().because(&error))?.unwrap_or_default();
            let is_free = !known.is_live() && known.disk.is_none() && !taken.contains(&name);
            if is_free && matches!(scan::info(self.back.disk(), &name), Ok(None)) {
                return Ok(name);
            }
        }
        Err(self.failed().why("no ordinary name is free for the copy").hint("rename the copy by hand"))
    }
}

fn numbered(path: &RelPath, number: usize) -> Option<RelPath> {
    let name = path.name()?;
    let dot = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0).unwrap_or(name.len());
    let (stem, extension) = name.split_at(dot);
    let mark = format!(" ({number})");
    let name = [stem, mark.as_bytes(), extension].concat();
    (name.len() <= NAME_BYTES_MAX).then(|| path.parent()?.join(&name).ok()).flatten()
}

/// Which side is meant, and which copies it is about.
fn choose(keep: KeepSide, conflict: &Conflict, me: NodeId) -> Result<(KeepSide, Vec<&(RelPath, Head)>), &'static str> {
    let all: Vec<&(RelPath, Head)> = conflict.others.iter().collect();
    let is_mine = |head: &Head| head.id.writer.node == me;
    let own_current = conflict.current.as_ref().is_some_and(is_mine);
    let own = all.iter().filter(|(_, head)| is_mine(head)).count();
    let unclear = "more than two versions, or both from one machine: it is not clear which is meant";
    match keep {
        KeepSide::Current => Ok((KeepSide::Current, all)),
        KeepSide::Both => Ok((KeepSide::Both, all)),
        KeepSide::Copy if all.len() == 1 => Ok((KeepSide::Copy, all)),
        KeepSide::Copy => Err("there are several copies"),
        KeepSide::Mine | KeepSide::Theirs if all.len() != 1 || own_current == (own == 1) => Err(unclear),
        KeepSide::Mine if own_current => Ok((KeepSide::Current, all)),
        KeepSide::Theirs if !own_current => Ok((KeepSide::Current, all)),
        KeepSide::Mine | KeepSide::Theirs => Ok((KeepSide::Copy, all)),
    }
}
