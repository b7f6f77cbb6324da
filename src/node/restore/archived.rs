//! What the kept versions do not have comes from the archive: names of which it is not known what they were, contents that
//! nobody has any more, and places that the folder's own history does not reach back to.
//!
//! It goes into the folder like everything that a restore brings: as changes of this node, signed, with what they replace
//! kept. `read` is needed now, whatever the rules were when the snapshot was taken.

use std::collections::{BTreeMap, BTreeSet};

use super::{BATCH_BYTES_MAX, BATCH_MAX, Job, Lost, Way};
use crate::base::{Level, RelPath};
use crate::logic::sync::history::Step;
use crate::logic::sync::index::IndexError;
use crate::logic::sync::reconcile::{self, Target};
use crate::logic::sync::replica::Rules;
use crate::node::archive::{Archived, Reader};
use crate::node::folder::Content;
use crate::node::reasons;
use crate::shell::archive::{ArchiveError, Item, ItemKind};
use crate::wire::api::{Failure, UtcTime};
use crate::wire::batch::What;
use crate::wire::codec::Bytes;
use crate::wire::content::CHUNK_BYTES_MAX;

impl Job {
    /// Brings back from the archive what is `lost`; what it does not have either has failed, with the reason that it had.
    pub(super) fn bring_lost(&mut self, lost: BTreeMap<RelPath, Lost>, way: &mut Way<'_>) {
        if lost.is_empty() {
            return;
        }
        let (reader, found) = match self.search(&lost) {
            Ok(Some(found)) => found,
            Ok(None) => {
                lost.into_iter().for_each(|(path, lost)| self.fail(path, lost.why));
                return;
            }
            Err(failure) => {
                let why = failure.why.first().cloned().unwrap_or_else(|| failure.what.clone());
                let also = |lost: Lost| format!("{}; nor has the archive: {why}", lost.why);
                lost.into_iter().for_each(|(path, lost)| self.fail(path, also(lost)));
                return;
            }
        };
        for (path, lost) in lost.iter().filter(|(path, _)| !found.contains_key(path)) {
            self.fail(path.clone(), format!("{}, nor in the archive", lost.why));
        }
        self.bring_archived(&reader, found, &lost, way);
    }

    /// Brings back a place that the history does not know. Returns whether the archive has it.
    pub(super) fn bring_all_archived(&mut self, way: &mut Way<'_>) -> Result<bool, Failure> {
        let Some(reader) = Reader::open(&self.shared, self.spot.folder)? else { return Ok(false) };
        let found = reader.all(&self.spot.path, self.at_ms).map_err(|error| self.unreadable(&error))?;
        if found.is_empty() {
            return Ok(false);
        }
        self.bring_archived(&reader, found, &BTreeMap::new(), way);
        Ok(true)
    }

    fn unreadable(&self, error: &ArchiveError) -> Failure {
        Failure::failed(format!("cannot look up {} in the archive", self.spot.shown())).because(error)
    }

    fn search(&self, lost: &BTreeMap<RelPath, Lost>) -> Result<Option<(Reader, BTreeMap<RelPath, Archived>)>, Failure> {
        let Some(reader) = Reader::open(&self.shared, self.spot.folder)? else { return Ok(None) };
        let names = |known: bool| -> BTreeSet<RelPath> {
            let picked = lost.iter().filter(|(_, lost)| lost.step.is_some() == known);
            picked.map(|(path, _)| path.clone()).collect()
        };
        let (top, broken) = (&self.spot.path, |error: ArchiveError| self.unreadable(&error));
        let mut found = reader.at(top, names(false), self.at_ms).map_err(broken)?;
        // Of these it is known what they were: the same length and time show it, the content proves it.
        let fits = &mut |path: &RelPath, item: &Item| match lost.get(path).and_then(|lost| lost.step.as_ref()) {
            Some(Step { target: Target::Put { what: What::File { bytes, .. }, mtime, .. }, .. }) => {
                item.kind == ItemKind::File(*bytes) && item.mtime == *mtime
            }
            _ => false,
        };
        let broken = |error: ArchiveError| self.unreadable(&error);
        found.extend(reader.ever(top, fits, &names(true)).map_err(broken)?);
        Ok(Some((reader, found)))
    }

    fn bring_archived(
        &mut self,
        reader: &Reader,
        found: BTreeMap<RelPath, Archived>,
        lost: &BTreeMap<RelPath, Lost>,
        way: &mut Way<'_>,
    ) {
        let me = self.shared.mesh.node();
        let rules = self.shared.mesh.rules(self.spot.folder);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for (path, archived) in found {
            let level = if matches!(way, Way::Export(_)) { Level::Read } else { Level::Write };
            if path.is_root() || !rules.permits(me, &path, level) {
                if !path.is_root() {
                    self.fail(path, "this machine may not do that there now".into());
                }
                continue;
            }
            let known = lost.get(&path).and_then(|lost| lost.step.as_ref());
            let prepared = match way {
                Way::Dry => {
                    self.count_archived(&archived);
                    continue;
                }
                _ => self.prepared(reader, &path, &archived.item, known, matches!(way, Way::Export(_))),
            };
            match prepared {
                Err(why) => self.fail(path, why),
                Ok(None) => self.done.archived_same += 1,
                Ok(Some((step, content))) => {
                    let length = match archived.item.kind {
                        ItemKind::File(length) => length,
                        _ => 0,
                    };
                    if batch.len() == BATCH_MAX || bytes + length > BATCH_BYTES_MAX || length > CHUNK_BYTES_MAX as u64 {
                        self.carry_out(std::mem::take(&mut batch), way);
                        bytes = 0;
                    }
                    bytes += length;
                    self.note_archived(&archived);
                    batch.push((step, content));
                }
            }
        }
        self.carry_out(batch, way);
    }

    fn carry_out(&mut self, batch: Vec<(Step, Option<Content>)>, way: &mut Way<'_>) {
        match way {
            Way::Dry => {}
            Way::InPlace => self.change(batch),
            Way::Export(to) => self.export(to, batch),
        }
    }

    fn note_archived(&mut self, archived: &Archived) {
        self.done.archived += 1;
        let at = UtcTime::from_ms(archived.at_ms);
        let before = self.done.archived_at.get_or_insert(at);
        if at.as_ms() < before.as_ms() {
            *before = at;
        }
    }

    fn count_archived(&mut self, archived: &Archived) {
        self.note_archived(archived);
        match archived.item.kind {
            ItemKind::File(bytes) => {
                self.done.files += 1;
                self.done.bytes += bytes;
            }
            ItemKind::Dir | ItemKind::Symlink(_) => self.done.others += 1,
        }
    }

    /// What brings one name back; `None`: it is so already. `known` is what the history says of it.
    fn prepared(
        &self,
        reader: &Reader,
        path: &RelPath,
        item: &Item,
        known: Option<&Step>,
        elsewhere: bool,
    ) -> Result<Option<(Step, Option<Content>)>, String> {
        let (what, content) = match &item.kind {
            ItemKind::Dir => (What::Dir, None),
            ItemKind::Symlink(text) => {
                let text = Bytes::new(text.clone()).ok_or("its text is too long for a link")?;
                (What::Symlink(text), None)
            }
            ItemKind::File(bytes) => {
                let content = self.back.written(*bytes, &mut |out| reader.read(item, out))?;
                (What::File { content: content.id(), bytes: *bytes }, Some(content))
            }
        };
        if let Some(known) = known {
            return match known.target.content() {
                Some((wanted, _)) if Some(wanted) == what.content() => Ok(Some((known.clone(), content))),
                _ => Err("its content is kept nowhere, and the archive has another".into()),
            };
        }
        let read = self.back.store.read::<_, IndexError>(|look| Ok((look.path(path)?, look.is_for_group())));
        let (record, for_group) = read.map_err(|error| reasons(&error).join(": "))?;
        let record = record.unwrap_or_default();
        let now = record.disk.filter(|_| !elsewhere && record.copy_of.is_none());
        let expected = now.as_ref().map(|disk| disk.info);
        let Some(target) = reconcile::differs(now.as_ref(), Some(&(what, item.mode, item.mtime)), for_group) else {
            return Ok(None);
        };
        let content = content.filter(|_| target.content().is_some());
        Ok(Some((Step { path: path.clone(), expected, target }, content)))
    }
}
