//! The worker's part in changes that this node makes by a command: they go to the disk like those of others, and are
//! signed like those of its user. What they replace is kept like all that a change replaces.

use tracing::debug;

use super::worker::{TurnError, Worker};
use crate::base::{FileInfo, RelPath};
use crate::logic::sync::reconcile::Target;
use crate::logic::sync::replica::{Found, Seen};
use crate::shell::clock;
use crate::shell::disk::commit::{self, CommitOrder, Outcome, Put};
use crate::shell::disk::stage::Staged;
use crate::wire::batch::What;
use crate::wire::content::ChunkList;

/// One change to make.
pub(in crate::node) struct Change {
    /// The name.
    pub(in crate::node) path: RelPath,
    /// What is there now, as far as this node knows.
    pub(in crate::node) expected: Option<FileInfo>,
    /// What shall be there.
    pub(in crate::node) target: Target,
    /// For a file to be put: its content.
    pub(in crate::node) content: Option<(Staged, ChunkList)>,
}

/// Why a change was not made. What is there stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::node) enum NotMade {
    /// A user changed it meanwhile; once that is known it can be tried again.
    Changed,
    /// For this reason.
    For(String),
}

impl Worker {
    /// Makes changes, signs them, and says which were not made; in the order of `changes`.
    pub(super) fn make(&mut self, changes: Vec<Change>) -> Result<Vec<Result<(), NotMade>>, TurnError> {
        let refuse = |count: usize, why: String| Ok(vec![Err(NotMade::For(why)); count]);
        // What may not be signed yet is made all the same, and waits like what users change.
        let waits = self.asking.is_some();
        if !self.complete || !(self.looked || waits) {
            return refuse(changes.len(), "the folder is still being looked through after the start".into());
        }
        let disk = self.setup.disk.clone();
        if let Err(error) = self.check_marker() {
            return refuse(changes.len(), error.to_string());
        }
        let count = changes.len();
        let mut made = Vec::with_capacity(count);
        let mut orders = Vec::with_capacity(changes.len());
        for Change { path, expected, target, content } in changes {
            let (staged, list) = content.unzip();
            let what = match &target {
                Target::Nothing => None,
                Target::Put { what, .. } | Target::Meta { what, .. } => Some(what.clone()),
            };
            made.push((path.clone(), what, list));
            let Some(put) = put_of(target, expected, staged) else {
                return refuse(count, format!("the content of {path} is not at hand"));
            };
            orders.push(CommitOrder::new(path, expected, put));
        }
        let outcomes = commit::commit(&disk, orders);
        let (mut found, mut lists, mut results) = (Vec::new(), Vec::new(), Vec::new());
        let now = clock::boottime_ms();
        for ((path, what, list), outcome) in made.into_iter().zip(outcomes) {
            results.push(match outcome {
                Outcome::Done { .. } if waits => {
                    self.local.hint(path, true, now);
                    Ok(())
                }
                Outcome::Done { info } => {
                    lists.extend(list.map(|list| (path.clone(), list)));
                    let seen = info.zip(what).map(|(info, what)| {
                        let is_file = matches!(what, What::File { .. });
                        let attributes = if is_file { self.attributes_of(&path) } else { Default::default() };
                        Seen { attributes, ..Seen::new(info, what) }
                    });
                    found.push(Found { path, seen });
                    Ok(())
                }
                Outcome::LocalChange { .. } => {
                    self.local.hint(path, true, now);
                    Err(NotMade::Changed)
                }
                Outcome::NotEmpty { .. } => {
                    self.local.look_below(path);
                    Err(NotMade::For("something in it is not shared, or a conflict copy: it stays".into()))
                }
                Outcome::Failed { error, .. } => Err(NotMade::For(crate::node::reasons(&error).join(": "))),
            });
        }
        debug!(folder = %self.setup.name, made = found.len(), "changes by command");
        self.sign(found, lists)?;
        Ok(results)
    }
}

fn put_of(target: Target, there: Option<FileInfo>, staged: Option<Staged>) -> Option<Put> {
    Some(match (target, staged) {
        (Target::Put { mode, mtime, .. }, Some(staged)) => Put::File { staged, mode, mtime },
        (Target::Put { what: What::Symlink(text), mtime, .. }, None) => Put::Symlink { target: text.to_vec(), mtime },
        (Target::Put { what: What::Dir, mode, .. }, None) => Put::Dir { mode },
        (Target::Meta { what: What::Dir, mode, .. }, _) => Put::Meta { mode, mtime: None },
        (Target::Meta { what: What::Symlink(_), mtime, .. }, _) => {
            Put::Meta { mode: there.map_or(0, |info| info.mode), mtime: Some(mtime) }
        }
        (Target::Meta { mode, mtime, .. }, _) => Put::Meta { mode, mtime: Some(mtime) },
        (Target::Nothing, _) => Put::Remove,
        (Target::Put { .. }, _) => return None,
    })
}
