//! The worker's disk side: plans what is missing, stages, flushes, swaps in, notes what is there.

use std::ops::ControlFlow;

use tracing::{debug, info};

use super::apply::{Wanted, author_of};
use super::fetcher::{Arrived, Data, Order};
use super::unusual;
use super::worker::{TurnError, Worker};
use crate::base::path::escape;
use crate::base::{ContentId, FileInfo, Kind, NodeId, RelPath};
use crate::logic::sync::attributes::Attributes;
use crate::logic::sync::fetch::Want;
use crate::logic::sync::ignore;
use crate::logic::sync::index::IndexError;
use crate::logic::sync::notices::Kind as Notice;
use crate::logic::sync::reconcile::{self, Action, Target};
use crate::shell::clock;
use crate::shell::disk::chunk;
use crate::shell::disk::commit::{self, CommitOrder, Outcome, Put};
use crate::shell::disk::stage::{self, Partial, Staged};
use crate::shell::disk::versions::Sought;
use crate::shell::disk::{DiskError, Folder, scan, twins};
use crate::wire::api::{Change, Event, PathText};
use crate::wire::batch::What;
use crate::wire::chunker::chunks_of;
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList};

/// Contents placed by one flush: files and bytes.
const PLACE_FILES_MAX: usize = 1024;
/// See `PLACE_FILES_MAX`.
const PLACE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Names below a directory that are looked at before it stays for their sake.
const LOOKED_MAX: usize = 10_000;
/// While the disk is full it is tried again this often. A guess: soon enough after somebody made room.
const FULL_MS: u64 = 5_000;
/// Removals that wait for what may be copied from them are looked at again after this long.
const REMOVALS_MS: u64 = 100;

/// So many removals at once wait until nothing more is heard for a while: those of a large rename come before what appears.
const REMOVALS_MANY: usize = 32;
/// See `REMOVALS_MANY`. A guess: a batch follows the one before it within some round trips.
const REMOVALS_QUIET_MS: u64 = 1_500;
/// See `REMOVALS_MANY`: no longer than this.
const REMOVALS_WAIT_MS_MAX: u64 = 15_000;

/// An action, with the bytes it needs.
pub(super) type Ready = (Action, Option<Contents>);
/// Bytes, and what they are.
pub(super) type Contents = (Source, ChunkList);

impl Worker {
    pub(super) fn plan(&mut self) -> Result<(), TurnError> {
        let store = self.setup.store.clone();
        let (mesh, folder) = (self.setup.shared.mesh.clone(), self.setup.folder);
        let may_read = |node: NodeId, path: &RelPath| mesh.may_read(folder, node, path);
        let pass = store.write(false, |index| self.apply.pass(index, &may_read))?;
        debug!(
            folder = %self.setup.name,
            now = pass.now.len(),
            puts = pass.puts.len(),
            removals = pass.removals.len(),
            complete = pass.complete,
            "planned"
        );
        self.unsent.extend(pass.forgotten.into_iter().map(Order::Forget));
        let mut placed: Vec<Ready> = pass.now.into_iter().map(|a| (a, None)).collect();
        let mut wants_waiting = !pass.complete;
        let mut bytes = 0;
        for wanted in pass.puts {
            let Some((content, length)) = wanted.action.target.content() else { continue };
            if bytes > PLACE_BYTES_MAX {
                self.apply.touch();
                wants_waiting = true;
                break;
            }
            if let Some((data, list)) = self.at_hand(&wanted, content, length) {
                bytes += data.len();
                placed.push((wanted.action, Some((Source::Bytes(data), list))));
            } else if self.apply.has_room(length) || self.apply.is_awaited(content) {
                let Wanted { action, author, .. } = wanted;
                if self.apply.wait_for(content, length, author, &action) {
                    let path = action.copy_of.map_or(action.name, |(owner, _)| owner);
                    self.unsent.push_back(Order::Want(Want { content, bytes: length, path }, author));
                }
            } else {
                wants_waiting = true;
            }
        }
        self.inline.clear();
        self.place(placed)?;
        // What appears may still be copied from what goes: removals come last. Of many, what appears may not have been
        // heard of yet.
        let now = clock::boottime_ms();
        let since = *self.removals_since_ms.get_or_insert(now);
        let more_comes = pass.removals.len() >= REMOVALS_MANY
            && now < self.took_ms + REMOVALS_QUIET_MS
            && now < since + REMOVALS_WAIT_MS_MAX;
        let may_be_source = |action: &Action| {
            more_comes
                || wants_waiting
                || (self.apply.awaits_large() && action.expected.is_some_and(|info| !is_small(info.bytes)))
        };
        let (kept, removals): (Vec<Action>, Vec<Action>) = pass.removals.into_iter().partition(may_be_source);
        self.removals_ms = (!kept.is_empty()).then(|| clock::boottime_ms() + REMOVALS_MS);
        if kept.is_empty() {
            self.removals_since_ms = None;
        }
        self.place(removals.into_iter().map(|action| (action, None)).collect())
    }

    /// The bytes of a small content, where they came along or are on this disk.
    fn at_hand(&mut self, wanted: &Wanted, content: ContentId, length: u64) -> Option<(Vec<u8>, ChunkList)> {
        if !is_small(length) {
            return None;
        }
        if length == 0 {
            let list = ChunkList::default();
            return (list.id() == content).then(|| (Vec::new(), list));
        }
        let checked = |bytes: Vec<u8>| {
            let list = chunks_of(&bytes);
            (list.id() == content).then_some((bytes, list))
        };
        if let Some(came_along) = self.inline.get(&(content, wanted.author)).cloned().and_then(checked) {
            return Some(came_along);
        }
        let mut read = wanted.places.iter().filter_map(|(at, info)| chunk::read_small(&self.setup.disk, at, info).ok());
        if let Some(found) = read.find_map(checked) {
            return Some(found);
        }
        // A version that comes back is not in any file; what replaced it here put it into the versions of its path.
        let path = wanted.action.copy_of.as_ref().map_or(&wanted.action.name, |(owner, _)| owner);
        let sought = Sought { content, bytes: length, mtimes: Vec::new() };
        let (version, list) = self.shelf.find(&self.setup.disk, path, &sought)?;
        Some((chunk::read_small_at(&self.setup.disk, &version.place, &version.info).ok()?, list))
    }

    /// Places contents that the fetcher completed.
    pub(super) fn place_ready(&mut self) -> Result<(), TurnError> {
        if self.ready.is_empty() {
            return Ok(());
        }
        let mut bytes = 0;
        let mut count = 0;
        let mut fits = |arrived: &Arrived| {
            count += 1;
            bytes += arrived.list.bytes().min(CHUNK_BYTES_MAX as u64) as usize;
            count <= PLACE_FILES_MAX && bytes <= PLACE_BYTES_MAX
        };
        let take = self.ready.iter().take_while(|a| fits(a)).count().max(1);
        let batch: Vec<Arrived> = self.ready.drain(..take).collect();
        let store = self.setup.store.clone();
        let placed = store.write(false, |index| {
            let mut placed: Vec<Ready> = Vec::new();
            for Arrived { content, list, data } in batch {
                let mut data = Some(data);
                let fetched_for = self.apply.fetched_for(content);
                for (planned, name) in self.apply.release(content) {
                    // What was wanted when it was asked for may have been replaced since.
                    let fresh = reconcile::plan(index, &planned)?.into_iter().find(|action| {
                        action.name == name && action.target.content().is_some_and(|(c, _)| c == content)
                    });
                    let Some(action) = fresh else { continue };
                    // It may have been put together from what only the author it was fetched for may read.
                    if fetched_for != Some(author_of(&*index, &action)?) {
                        continue;
                    }
                    // Of several names one takes it; the others then find it on this disk.
                    if let Some(data) = data.take() {
                        let source = match data {
                            Data::Bytes(bytes) => Source::Bytes(bytes),
                            Data::Partial(partial) => Source::Partial(partial),
                        };
                        placed.push((action, Some((source, list.clone()))));
                    }
                }
            }
            Ok::<_, IndexError>(placed)
        })?;
        self.place(placed)
    }

    /// Stages, flushes, swaps in, and notes what is there now.
    fn place(&mut self, actions: Vec<Ready>) -> Result<(), TurnError> {
        if actions.is_empty() {
            return Ok(());
        }
        let now = clock::boottime_ms();
        let disk = self.setup.disk.clone();
        if let Err(error) = self.check_marker() {
            self.problem(crate::node::reasons(&error).join(": "));
            actions.into_iter().for_each(|(action, _)| self.apply.failed(action.name, now));
            return Ok(());
        }
        let actions = self.let_through(actions)?;
        let mut orders = Vec::with_capacity(actions.len());
        let mut done = Vec::with_capacity(actions.len());
        for (action, source) in actions {
            if self.is_paused(now) {
                break;
            }
            // On a disk that takes its name for another's it would go under the other's name, or into the other directory.
            if action.expected.is_none()
                && let Ok(Some(twin)) = twins::of(&disk, &action.name)
            {
                let why = format!("this disk takes it for {}", escape(&twin));
                self.cannot_place(Notice::Twin, &action.name, &why);
                self.apply.failed(action.name, now);
                continue;
            }
            let (file, list) = match source.map(|(source, list)| (stage(&disk, source), list)) {
                None => (None, None),
                Some((Ok(staged), list)) => (Some(staged), Some(list)),
                Some((Err(error), _)) => {
                    self.put_off(&action, &error, now);
                    continue;
                }
            };
            let Some(put) = put_of(&action, file) else { continue };
            let attached = self.attached_to(&action);
            orders.push(CommitOrder { path: action.name.clone(), expected: action.expected, put, attached });
            done.push((action, list));
        }
        let outcomes = commit::commit(&disk, orders);
        let shown: Vec<Attributes> =
            done.iter().zip(&outcomes).map(|((action, _), outcome)| self.attributes_after(action, outcome)).collect();
        let store = self.setup.store.clone();
        let (now, wall) = (clock::boottime_ms(), clock::wall_ms());
        store.write(true, |index| {
            for (((action, list), outcome), shown) in done.iter().zip(&outcomes).zip(shown) {
                if let Outcome::Done { info } = outcome {
                    if let (Some(list), Some(_)) = (list, info) {
                        index.put_chunk_list(list.id(), list, &action.name)?;
                    }
                    let recheck = info.is_some_and(|info| info.kind == Kind::File && info.may_change_unseen(wall));
                    // What this node just wrote itself cannot have been changed before it had the name.
                    let recheck = recheck && matches!(action.target, Target::Meta { .. });
                    reconcile::done(index, action, *info, recheck, shown)?;
                }
            }
            Ok::<_, IndexError>(())
        })?;
        self.apply.touch();
        self.unusual.names_changed(now);
        for ((action, _), outcome) in done.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Done { info } => {
                    self.was_placed(&action.name);
                    if ignore::is_the_file(&action.name) {
                        self.renew_ignored()?;
                    }
                    self.tell_done(&action, info);
                }
                Outcome::LocalChange { .. } => {
                    debug!(folder = %self.setup.name, name = %action.name, "changed here meanwhile: looked at first");
                    self.local.hint(action.name.clone(), true, now);
                    self.apply.changed(action.name, now);
                }
                Outcome::NotEmpty { .. } => {
                    if self.holds_only_local(&action.name)? {
                        // It stays, with what is not shared in it.
                        self.setup.store.write(false, |index| index.put_need(&action.name, false))?;
                        continue;
                    }
                    // Something is in it that is not known yet: looked at before it is tried again.
                    self.local.look_below(action.name.clone());
                    self.apply.failed(action.name, now);
                }
                Outcome::Failed { error, .. } => self.put_off(&action, &error, now),
            }
        }
        Ok(())
    }

    fn put_off(&mut self, action: &Action, error: &DiskError, now: u64) {
        if matches!(error, DiskError::Full { .. }) {
            return self.pause(error, now);
        }
        // Without the name of the file written aside, which is another one at each try.
        self.cannot_place(Notice::Unwritable, &action.name, &unusual::cause(error));
        self.apply.failed(action.name.clone(), now);
    }

    /// Whether everything below a directory is ignored or may not spread.
    fn holds_only_local(&self, dir: &RelPath) -> Result<bool, TurnError> {
        let mut below = Vec::new();
        let walked = scan::scan(&self.setup.disk, dir, &mut |seen| {
            let scan::Seen::Entry { path, info } = seen else { return ControlFlow::Break(()) };
            if below.len() == LOOKED_MAX {
                return ControlFlow::Break(());
            }
            below.push((path, info.kind));
            ControlFlow::Continue(())
        });
        if walked.is_break() {
            return Ok(false);
        }
        self.setup.store.read(|look| {
            for (path, kind) in &below {
                let is_local = look.path(path)?.is_some_and(|record| record.local_only);
                // A directory is as what is in it.
                if *path != *dir && *kind != Kind::Dir && !is_local && !self.ignored.covers(path, false) {
                    return Ok(false);
                }
            }
            Ok::<_, TurnError>(true)
        })
    }

    /// There is no room: nothing is received for a while. Names wait where they are, in the index.
    pub(super) fn pause(&mut self, error: &DiskError, now: u64) {
        debug!(folder = %self.setup.name, %error, "no room");
        let root = crate::base::path::escape(self.setup.root.as_os_str().as_encoded_bytes());
        self.problem(format!("the disk that holds {root} is full: receiving waits until there is room"));
        self.pause_until_ms = Some(now + FULL_MS);
    }

    /// Whether it still waits for room.
    pub(super) fn is_paused(&self, now: u64) -> bool {
        self.pause_until_ms.is_some_and(|until| now < until)
    }

    /// Whose change an action carried out.
    fn author_of(&self, action: &Action) -> NodeId {
        let record = self.setup.store.read::<_, IndexError>(|look| look.path(&action.name));
        let record = record.ok().flatten().unwrap_or_default();
        let newest = record.heads.iter().max_by_key(|head| head.salted.entry.time);
        newest.map_or(self.writer.node, |head| head.id.writer.node)
    }

    fn tell_done(&self, action: &Action, info: Option<FileInfo>) {
        if !self.setup.shared.bus.is_followed() {
            return;
        }
        let path = PathText::from_bytes(action.name.as_bytes());
        let folder = self.setup.name.clone();
        let event = match (&action.target, info, &action.copy_of) {
            (Target::Put { .. }, Some(_), Some((owner, _))) => {
                info!(folder = %folder, path = %owner, copy = %action.name, "both contents of a conflict are kept");
                let path = PathText::from_bytes(owner.as_bytes());
                Event::Conflict { folder, path, copy: PathText::from_bytes(action.name.as_bytes()) }
            }
            (_, _, Some(_)) => return,
            (target, info, None) => {
                let change = match (target, action.expected) {
                    (Target::Nothing, _) => Change::Deleted,
                    (_, None) => Change::Created,
                    (_, Some(_)) => Change::Changed,
                };
                let by = self.setup.shared.name_of(self.author_of(action));
                let bytes = info.map_or(0, |info| info.bytes);
                Event::FileReceived { folder, path, change, bytes, by }
            }
        };
        self.setup.shared.tell(event);
    }
}

/// Where the bytes of a file to be are.
pub(super) enum Source {
    Bytes(Vec<u8>),
    Partial(Partial),
}

pub(super) fn is_small(bytes: u64) -> bool {
    bytes <= CHUNK_BYTES_MAX as u64
}

impl Source {
    /// The bytes, where they are in memory.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Partial(_) => None,
        }
    }
}

fn stage(disk: &Folder, source: Source) -> Result<Staged, DiskError> {
    match source {
        Source::Bytes(bytes) => stage::stage_small(disk, &bytes),
        Source::Partial(partial) => partial.finish(),
    }
}

fn put_of(action: &Action, file: Option<Staged>) -> Option<Put> {
    let there = action.expected.map(|info| info.mode);
    Some(match (&action.target, file) {
        (Target::Nothing, _) => Put::Remove,
        (Target::Put { what: What::File { .. }, mode, mtime }, Some(staged)) => {
            Put::File { staged, mode: *mode, mtime: *mtime }
        }
        (Target::Put { what: What::Dir, mode, .. }, _) => Put::Dir { mode: *mode },
        (Target::Put { what: What::Symlink(text), mtime, .. }, _) => {
            Put::Symlink { target: text.to_vec(), mtime: *mtime }
        }
        (Target::Meta { what: What::Dir, mode, .. }, _) => Put::Meta { mode: *mode, mtime: None },
        (Target::Meta { what: What::Symlink(_), mtime, .. }, _) => {
            Put::Meta { mode: there.unwrap_or_default(), mtime: Some(*mtime) }
        }
        (Target::Meta { mode, mtime, .. }, _) => Put::Meta { mode: *mode, mtime: Some(*mtime) },
        (Target::Put { .. }, _) => return None,
    })
}
