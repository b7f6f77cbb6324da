//! The worker's local side: looks at the disk, reads contents, signs what changed.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use tracing::{debug, info, warn};

use super::FolderEvent;
use super::local::Look as Due;
use super::unusual::{self, Met};
use super::worker::{NOTE_TIME, TurnError, Worker};
use crate::base::path::IGNORE_FILE;
use crate::base::{FileInfo, Kind, RelPath};
use crate::logic::sync::attributes::Attributes;
use crate::logic::sync::ignore::{self, Ignored};
use crate::logic::sync::index::{Index, IndexError, Look, Walk};
use crate::logic::sync::notices::Kind as Notice;
use crate::logic::sync::outage::{self, Outage};
use crate::logic::sync::own;
use crate::logic::sync::replica::{self, Author, Found, Seen};
use crate::logic::sync::scan::{Candidate, Join, is_as_known};
use crate::node::outside;
use crate::shell::disk::chunk::{self, ReadError};
use crate::shell::disk::{Folder, MarkerError, scan};
use crate::shell::{clock, entropy, rt};
use crate::wire::batch::What;
use crate::wire::codec::Bytes;
use crate::wire::content::ChunkList;

/// Contents read in one turn: files and bytes. Guesses: about 30 ms of work, and a few batches a second at least.
const READ_FILES_MAX: usize = 512;
/// See `READ_FILES_MAX`.
const READ_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A larger file is read by a thread of its own, so that small changes do not wait for it.
const LARGE_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Large files read at once: one may wait for the disk while another is hashed.
const LARGE_MAX: usize = 2;
/// Single looks in one turn.
const LOOKS_MAX: usize = 2048;
/// How often a folder that is away is looked for. A guess: a person who mounts its disk waits no longer.
const AWAY_MS: u64 = 5_000;

/// Entries that are looked at in one transaction after a power cut.
const AGAIN: usize = 1_024;

impl Worker {
    /// Checks that the folder is where it was; while it is not, it is looked for every few seconds.
    pub(super) fn check_marker(&mut self) -> Result<(), MarkerError> {
        let checked = outside::check_marker(&self.setup.shared, &self.setup.disk, self.setup.folder);
        if checked.is_err() {
            self.next_scan_ms = self.next_scan_ms.min(clock::boottime_ms() + AWAY_MS);
        }
        checked
    }

    /// Looks at what is due, reads what has to be read, signs what changed.
    pub(super) fn look(&mut self, now: u64) -> Result<(), TurnError> {
        let looks = self.local.due(now, LOOKS_MAX);
        if !looks.is_empty()
            && let Err(error) = self.check_marker()
        {
            self.problem(crate::node::reasons(&error).join(": "));
            return Ok(());
        }
        let disk = self.setup.disk.clone();
        for look in &looks {
            if let Due::One(path) = look
                && self.unusual.notices.has(Notice::Closed, path.as_bytes())
            {
                self.enter_again(path.clone());
            }
        }
        let (candidates, met) = self.setup.store.read(|index| {
            let (mut candidates, mut all_met) = (Vec::new(), Vec::new());
            // What is below a directory that is gone was said with it.
            let mut gone: Option<&RelPath> = None;
            for look in &looks {
                let mut met = Met::default();
                match look {
                    Due::One(path) if gone.is_some_and(|gone| path.starts_with(gone)) => {}
                    Due::Below(start) => {
                        look_below(index, &disk, start, &mut candidates, &mut met)?;
                        all_met.push((start.clone(), met));
                    }
                    Due::One(path) if look_at(index, &disk, path, &mut candidates, &mut met)? => {
                        gone = Some(path);
                        all_met.push((path.clone(), met));
                    }
                    Due::One(_) => {}
                }
            }
            Ok::<_, TurnError>((candidates, all_met))
        })?;
        met.iter().for_each(|(start, met)| self.note_met(start, met));
        let candidates = self.shared_ones(candidates)?;
        if self.asking.is_some() {
            return self.let_wait(&looks, &candidates);
        }
        let mut found = Vec::new();
        for candidate in candidates {
            match candidate {
                Candidate::Differs(path, info) if info.kind == Kind::File => {
                    self.local.to_read.push_back((path, info));
                }
                Candidate::Differs(path, info) => {
                    let Some(what) = self.what_is(&path, &info) else { continue };
                    found.push(Found { path, seen: Some(Seen::new(info, what)) });
                }
                Candidate::Gone(path) => self.local.gone(path, now),
            }
        }
        self.sign(found, Vec::new())?;
        self.read_some()?;
        let gone = self.local.take_gone(now);
        if !gone.is_empty() {
            let mut found = Vec::new();
            for path in gone {
                // Something may be there again by now.
                match scan::info(&self.setup.disk, &path) {
                    Ok(None) => found.push(Found { path, seen: None }),
                    Ok(Some(_)) => self.local.hint(path, true, now),
                    Err(error) => warn!(%path, %error, "cannot be looked at; what is known of it stays"),
                }
            }
            self.sign(found, Vec::new())?;
        }
        Ok(())
    }

    /// What differs is counted, and found again once it may be signed.
    fn let_wait(&mut self, looks: &[Due], candidates: &[Candidate]) -> Result<(), TurnError> {
        let differing = self.setup.store.read(|look| {
            let mut differing = BTreeSet::new();
            for candidate in candidates {
                let (path, info) = match candidate {
                    Candidate::Differs(path, info) => (path, Some(*info)),
                    Candidate::Gone(path) => (path, None),
                };
                // One that is only to be looked at once more has not changed.
                let known = look.path(path)?.and_then(|record| record.disk).map(|disk| disk.info);
                if known != info && differing.len() < own::WAITING_MAX {
                    differing.insert(path.clone());
                }
            }
            Ok::<_, IndexError>(differing)
        })?;
        let now = clock::wall_ms();
        for look in looks {
            match look {
                Due::Below(top) => self.waiting.handle_look_below(top, &differing, now),
                Due::One(path) => self.waiting.handle_look_at(path, &differing, now),
            }
        }
        Ok(())
    }

    /// Those that are not ignored; what is ignored may have changed with them.
    fn shared_ones(&mut self, candidates: Vec<Candidate>) -> Result<Vec<Candidate>, TurnError> {
        let path_of = |candidate: &Candidate| match candidate {
            Candidate::Differs(path, _) | Candidate::Gone(path) => path.clone(),
        };
        if candidates.iter().any(|candidate| ignore::is_the_file(&path_of(candidate))) {
            self.renew_ignored()?;
        }
        let ignored = &self.ignored;
        self.setup.store.read(|look| {
            let is_shared = |candidate: &Candidate| {
                let is_dir = match candidate {
                    Candidate::Differs(_, info) => info.kind == Kind::Dir,
                    Candidate::Gone(path) => look.path(path)?.and_then(|r| r.disk).is_some_and(|d| d.what == What::Dir),
                };
                Ok::<_, IndexError>(!ignored.covers(&path_of(candidate), is_dir))
            };
            let mut shared = Vec::with_capacity(candidates.len());
            for candidate in candidates {
                if is_shared(&candidate)? {
                    shared.push(candidate);
                }
            }
            Ok::<_, TurnError>(shared)
        })
    }

    /// Reads `.lanyardignore` again, and looks at everything where it has changed.
    pub(super) fn renew_ignored(&mut self) -> Result<(), TurnError> {
        let (ignored, wrong) = read_ignored(&self.setup.disk);
        if let Some(line) = wrong.first() {
            self.problem(format!("{} has a line that is no pattern and is left out: {line}", IGNORE_FILE));
        }
        let store = self.setup.store.clone();
        if !store.read(|look| ignored.is_followed(look))? {
            let mut from = Some(RelPath::root());
            while let Some(at) = from {
                from = store.write(false, |index| ignored.follow(index, &at))?;
            }
            self.local.look_below(RelPath::root());
        }
        self.apply.ignore(ignored.clone());
        self.ignored = ignored;
        Ok(())
    }

    fn what_is(&self, path: &RelPath, info: &FileInfo) -> Option<What> {
        match info.kind {
            Kind::Dir => Some(What::Dir),
            // One that cannot be read is looked at again with the next change or look at everything.
            Kind::Symlink => {
                scan::link_text(&self.setup.disk, path).ok().flatten().and_then(Bytes::new).map(What::Symlink)
            }
            Kind::File => None,
        }
    }

    /// Reads the next files, as many as a turn may.
    fn read_some(&mut self) -> Result<(), TurnError> {
        let mut found = Vec::new();
        let mut lists = Vec::new();
        let mut bytes = 0;
        while found.len() < READ_FILES_MAX && bytes < READ_BYTES_MAX {
            let Some((path, info)) = self.local.to_read.pop_front() else { break };
            if info.bytes >= LARGE_BYTES_MIN {
                self.read_large(path, info);
                continue;
            }
            bytes += info.bytes;
            match chunk::read_content(&self.setup.disk, &path, &info) {
                Ok(list) => {
                    self.was_read(&path);
                    let attributes = self.attributes_of(&path);
                    found.push(seen_file(path.clone(), info, &list, attributes));
                    lists.push((path, list));
                }
                Err(error) => self.not_read(path, error),
            }
        }
        self.sign(found, lists)
    }

    fn read_large(&mut self, path: RelPath, info: FileInfo) {
        if self.local.reading.len() >= LARGE_MAX || self.local.reading.contains_key(&path) {
            let now = clock::boottime_ms();
            self.local.hint(path, false, now);
            return;
        }
        self.local.reading.insert(path.clone(), info);
        let (disk, events) = (self.setup.disk.clone(), self.own_events.clone());
        rt::thread("read", move || {
            let read = chunk::read_content(&disk, &path, &info);
            // A worker that has ended needs no word.
            let _ = events.send_blocking(FolderEvent::Read(path, info, read));
        });
    }

    pub(super) fn sign_read(
        &mut self,
        path: RelPath,
        info: FileInfo,
        read: Result<ChunkList, ReadError>,
    ) -> Result<(), TurnError> {
        match read {
            Ok(list) => {
                self.was_read(&path);
                let attributes = self.attributes_of(&path);
                let found = seen_file(path.clone(), info, &list, attributes);
                self.sign(vec![found], vec![(path, list)])
            }
            Err(error) => {
                self.not_read(path, error);
                Ok(())
            }
        }
    }

    fn not_read(&mut self, path: RelPath, error: ReadError) {
        let now = clock::boottime_ms();
        match error {
            ReadError::Changed(_) => self.local.again(path, now),
            ReadError::Gone => self.local.hint(path, true, now + 1),
            ReadError::Disk(error) => {
                self.unusual.notices.add(Notice::Unreadable, path.as_bytes(), &unusual::cause(&error));
            }
            other => self.unusual.notices.add(Notice::Unreadable, path.as_bytes(), &other.to_string()),
        }
    }

    fn was_read(&mut self, path: &RelPath) {
        self.local.calm(path);
        self.unusual.notices.remove(Notice::Unreadable, path.as_bytes());
    }

    /// After a power cut: what was announced shortly before is read again.
    pub(super) fn read_again(&self) -> Result<(), TurnError> {
        let Some(Outage { since_ms, .. }) = self.outage else { return Ok(()) };
        let mut after = None;
        loop {
            let (own, page) = (self.writer.node, (after, AGAIN));
            after = self.setup.store.write(false, |index| outage::read_again(index, own, since_ms, page))?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    pub(super) fn sign(&mut self, mut found: Vec<Found>, lists: Vec<(RelPath, ChunkList)>) -> Result<(), TurnError> {
        if found.is_empty() {
            return Ok(());
        }
        if let Some(outage) = self.outage {
            let own = self.writer.node;
            // A clock that was set back meanwhile makes files older.
            let outage = Outage { until_ms: outage.until_ms.min(clock::wall_ms()), ..outage };
            let back;
            (found, back) = self.setup.store.write(true, |index| outage::bring_back(index, found, own, outage))?;
            if back > 0 {
                info!(folder = %self.setup.name, back, "saved shortly before this machine went down: brought back from the others");
                self.apply.touch();
            }
        }
        if self.forgot {
            found = self.setup.store.write(true, |index| own::follow(index, found))?;
        }
        if !self.looked {
            let since = self.first_arrival;
            found = self.setup.store.write(false, |index| own::follow_deletions(index, found, since))?;
        }
        let now = clock::wall_ms();
        let names: Vec<RelPath> = found.iter().map(|found| found.path.clone()).collect();
        let Self { setup, rules, clock, writer, looked, waiting, .. } = self;
        let key = setup.shared.mesh.key();
        let author = Author {
            mesh: setup.mesh_id,
            folder: setup.folder,
            writer: *writer,
            key: &key,
            heads: rules.heads().to_vec(),
            rules,
            seed: entropy::bytes(),
            late: (!*looked).then_some(&*waiting),
        };
        let (signed, local_only) = setup.store.write(true, |index| {
            let is_local = |index: &dyn Index, name: &RelPath| {
                Ok::<_, IndexError>(index.path(name)?.is_some_and(|record| record.local_only))
            };
            let before = names.iter().map(|name| is_local(index, name)).collect::<Result<Vec<_>, _>>()?;
            for (path, list) in &lists {
                index.put_chunk_list(list.id(), list, path)?;
            }
            let signed = replica::author(index, &author, clock, now, found)?;
            let time = clock.tick(now).ms;
            index.put_note(NOTE_TIME, &time.to_be_bytes())?;
            let mut local_only = Vec::new();
            for (name, _) in names.iter().zip(before).filter(|(_, before)| !before) {
                if is_local(index, name)? {
                    local_only.push(name.clone());
                }
            }
            Ok::<_, IndexError>((signed, local_only))
        })?;
        self.unusual.names_changed(clock::boottime_ms());
        if !signed.is_empty() {
            debug!(folder = %setup.name, batches = signed.len(), "signed");
            names.iter().for_each(|name| self.apply.renew(name));
            self.apply.touch();
        }
        self.note_local_only(&local_only);
        Ok(())
    }
}

/// What is ignored by the file that lies in the folder now. One that cannot be read ignores nothing.
fn read_ignored(disk: &Folder) -> (Ignored, Vec<String>) {
    let Ok(path) = RelPath::new(IGNORE_FILE) else { return Default::default() };
    let info = scan::info(disk, &path).ok().flatten();
    let Some(info) = info.filter(|info| info.kind == Kind::File) else { return Default::default() };
    if info.bytes > ignore::BYTES_MAX {
        return (Ignored::default(), vec![format!("it is longer than {} bytes", ignore::BYTES_MAX)]);
    }
    // One that changes right now is read again with its next hint.
    chunk::read_small(disk, &path, &info).map(|text| Ignored::parse(&text)).unwrap_or_default()
}

fn seen_file(path: RelPath, info: FileInfo, list: &ChunkList, attributes: Attributes) -> Found {
    let what = What::File { bytes: list.bytes(), content: list.id() };
    let recheck = info.may_change_unseen(clock::wall_ms());
    Found { path, seen: Some(Seen { info, what, recheck, attributes }) }
}

/// Compares one name with the index. Returns whether something is there that is not shared, or no longer.
fn look_at(
    index: &dyn Look,
    disk: &Folder,
    path: &RelPath,
    candidates: &mut Vec<Candidate>,
    met: &mut Met,
) -> Result<bool, TurnError> {
    let known = index.path(path)?;
    let there = match scan::info(disk, path) {
        Ok(there) => there,
        Err(error) => {
            debug!(%path, %error, "cannot be looked at; what is known of it stays");
            let dir = path.parent().unwrap_or_default();
            met.note(Notice::Closed, dir.as_bytes(), unusual::cause(&error));
            return Ok(true);
        }
    };
    if there.is_none() && scan::is_special(disk, path) {
        met.note(Notice::Special, path.as_bytes(), "");
    }
    let is_gone = there.is_none();
    match there {
        Some(info) if known.as_ref().is_some_and(|known| is_as_known(known, &info)) => {}
        Some(info) => candidates.push(Candidate::Differs(path.clone(), info)),
        // What was below a directory went with it.
        None if known.is_some_and(|known| known.disk.is_some()) => index.walk(path, &mut |below, record| {
            if record.disk.is_some() {
                candidates.push(Candidate::Gone(below));
            }
            Walk::On
        })?,
        None => {}
    }
    Ok(is_gone)
}

/// Walks a directory and the index side by side.
fn look_below(
    index: &dyn Look,
    disk: &Folder,
    start: &RelPath,
    candidates: &mut Vec<Candidate>,
    met: &mut Met,
) -> Result<(), TurnError> {
    let mut join = Join::new(index, start.clone())?;
    let mut failed: Option<TurnError> = None;
    let mut last = RelPath::root();
    let _ = scan::scan(disk, start, &mut |seen| {
        let step = match seen {
            scan::Seen::Entry { path, info } => {
                last.clone_from(&path);
                join.saw(&path, &info, candidates)
            }
            scan::Seen::Unreadable { path, error } => {
                debug!(%path, %error, "cannot be looked into; what is known of it stays");
                // A directory that cannot be listed was seen itself; what cannot be seen lies in one that cannot be entered.
                let dir = if path == last { path.clone() } else { path.parent().unwrap_or_default() };
                met.note(Notice::Closed, dir.as_bytes(), unusual::cause(&error));
                join.unreadable(&path, candidates)
            }
            scan::Seen::BadName { dir, name, error } => {
                let dir = if dir.is_root() { Vec::new() } else { [dir.as_bytes(), b"/"].concat() };
                met.note(Notice::Unnamable, &[&dir[..], &name].concat(), error);
                Ok(())
            }
            scan::Seen::Special { path } => {
                met.note(Notice::Special, path.as_bytes(), "");
                Ok(())
            }
            scan::Seen::OtherFilesystem { path } => {
                met.note(Notice::Special, path.as_bytes(), "another disk is mounted there");
                Ok(())
            }
        };
        match step {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error.into());
                ControlFlow::Break(())
            }
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(join.finish(candidates)?)
}
