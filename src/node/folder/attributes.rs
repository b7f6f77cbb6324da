//! The worker's part in extended attributes and owners: read with a content, put with one, where the configuration says so.

use tracing::info;

use super::worker::{TurnError, Worker};
use crate::base::RelPath;
use crate::logic::sync::attributes::{self, Attributes, Looks, Said};
use crate::logic::sync::index::IndexError;
use crate::logic::sync::notices::Kind as Notice;
use crate::logic::sync::reconcile::{Action, Target};
use crate::shell::disk::attributes::{self as disk, Attached};
use crate::shell::disk::commit::Outcome;
use crate::shell::disk::scan;
use crate::wire::batch::What;

/// Note in the index: what was looked at at the last start.
const NOTE_LOOKS: &str = "attributes";

impl Worker {
    /// Other attributes may be looked at than at the last start: then every file is looked at again.
    pub(super) fn follow_attributes(&mut self) -> Result<(), TurnError> {
        let (store, looks) = (self.setup.store.clone(), self.setup.looks);
        let known = store.read(|look| look.note(NOTE_LOOKS))?.unwrap_or_else(|| Looks::default().note().to_vec());
        let changed = known != looks.note();
        if !changed && !looks.any() {
            return Ok(());
        }
        if changed {
            info!(folder = %self.setup.name, xattrs = looks.xattrs, owner = looks.owner, "which attributes are carried has changed");
        }
        let mut from = Some(RelPath::root());
        while let Some(at) = from {
            from = store.write(false, |index| attributes::follow(index, &at, looks, changed))?;
        }
        store.write(true, |index| index.put_note(NOTE_LOOKS, &looks.note()))?;
        Ok(())
    }

    /// The attributes of a file that lies there; nothing where they are not looked at.
    pub(super) fn attributes_of(&mut self, path: &RelPath) -> Attributes {
        let looks = self.setup.looks;
        if !looks.any() {
            return Attributes::default();
        }
        // What cannot be looked at stays as it was known.
        let Ok((raw, owner)) = disk::read(&self.setup.disk, path) else { return Attributes::default() };
        let (mut left_out, mut shown) = (0, Attributes::default());
        if looks.xattrs
            && let Some(raw) = raw
        {
            let (xattrs, beyond) = attributes::bounded(raw);
            (shown.xattrs, left_out) = (Some(xattrs), beyond);
        }
        if left_out > 0 {
            self.unusual.notices.add(Notice::Attributes, path.as_bytes(), "too many, or too large, to be carried");
        } else {
            self.unusual.notices.remove(Notice::Attributes, path.as_bytes());
        }
        if looks.owner {
            self.users.refresh();
            let names = self.users.names(owner);
            shown.owner = Some(names).filter(|names| !(names.user.is_empty() && names.group.is_empty()));
        }
        shown
    }

    /// What an action changes of a file's attributes, beside its content.
    pub(super) fn attached_to(&mut self, action: &Action) -> Attached {
        let looks = self.setup.looks;
        if !looks.any() || !is_file(action) {
            return Attached::default();
        }
        let known = self.setup.store.read::<_, IndexError>(|look| look.path(&action.name)).ok().flatten();
        let known = known.and_then(|record| record.disk).map(|disk| disk.attributes).unwrap_or_default();
        let mut attached = Attached::default();
        let Said { xattrs, owner } = &action.said;
        if looks.xattrs {
            let names = known.xattrs.iter().flat_map(|xattrs| xattrs.iter());
            attached.drop = names.map(|one| one.name.as_bytes().to_vec()).collect();
            attached.put = xattrs.iter().map(|one| (one.name.as_bytes().to_vec(), one.value.to_vec())).collect();
        }
        if let Some(owner) = owner.as_ref().filter(|_| looks.owner) {
            self.users.refresh();
            (attached.user, attached.group) = self.users.ids(owner);
        }
        attached
    }

    /// What is there after an action; what its version says and the disk refused is noticed.
    pub(super) fn attributes_after(&mut self, action: &Action, outcome: &Outcome) -> Attributes {
        let Outcome::Done { info: Some(info) } = outcome else { return Attributes::default() };
        let looks = self.setup.looks;
        if !looks.any() || !is_file(action) {
            return Attributes::default();
        }
        let shown = self.attributes_of(&action.name);
        let Said { xattrs, owner } = action.said.clone();
        // Changed at once by its user: the next look must find what differs from what was put.
        if !matches!(scan::info(&self.setup.disk, &action.name), Ok(Some(now)) if now == *info) {
            return Attributes { xattrs: looks.xattrs.then_some(xattrs), owner: owner.filter(|_| looks.owner) };
        }
        let refused = attributes::differ(&shown, &Said { xattrs: xattrs.clone(), owner: None });
        let has_none = self.setup.looks.xattrs && shown.xattrs.is_none() && !xattrs.is_empty();
        if refused || has_none {
            let why = if has_none { "this file system has none" } else { "this file system does not take all of them" };
            self.unusual.notices.add(Notice::Attributes, action.name.as_bytes(), why);
        }
        let said = owner.as_ref().map(|owner| format!("{}:{}", &*owner.user, &*owner.group)).unwrap_or_default();
        let only_owner = Attributes { xattrs: None, owner: shown.owner.clone() };
        if attributes::differ(&only_owner, &Said { owner, ..Said::default() }) {
            self.unusual.notices.add(Notice::Owner, action.name.as_bytes(), &format!("it is {said}'s"));
        } else {
            self.unusual.notices.remove(Notice::Owner, action.name.as_bytes());
        }
        shown
    }
}

fn is_file(action: &Action) -> bool {
    let (Target::Put { what, .. } | Target::Meta { what, .. }) = &action.target else { return false };
    matches!(what, What::File { .. })
}
