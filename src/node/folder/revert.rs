//! The worker's part in changes that are only here: saying so, and taking them back.

use super::worker::{TurnError, Worker};
use crate::base::RelPath;
use crate::logic::sync::local_only;
use crate::node::audit::Refusal;
use crate::wire::api::Deed;

impl Worker {
    /// These names have changes that are only here from now on: the audit log says so.
    pub(super) fn note_local_only(&self, names: &[RelPath]) {
        for name in names {
            let (shared, folder) = (&self.setup.shared, self.setup.folder);
            let text = format!("changed {}/{name} on this machine", self.setup.name);
            let me = shared.mesh.node();
            let why = if self.rules.is_suspended(me) {
                "this machine signed two histories: the change stays here until an admin reinstates it"
            } else {
                "this machine may not write there: the change stays here and is not spread"
            };
            shared.refuse(Refusal::new(Deed::Write, text, why).by(me).folder(folder).path(name));
        }
    }

    /// Takes back the changes at and below a path; returns their names.
    pub(super) fn take_back(&mut self, path: &RelPath) -> Result<Vec<RelPath>, TurnError> {
        let store = self.setup.store.clone();
        let names = store.write(true, |index| local_only::take_back(index, path))?;
        self.apply.renew_all();
        Ok(names)
    }
}
