//! The worker's part in changes that are only here: knowing them, saying so, taking them back.

use super::worker::{TurnError, Worker};
use crate::base::RelPath;
use crate::logic::sync::index::IndexError;
use crate::logic::sync::local_only;
use crate::node::audit::Refusal;
use crate::wire::api::Deed;

impl Worker {
    /// Names were looked at and differed: those that are changes only here are noted.
    pub(super) fn note_local_only(&mut self, names: &[RelPath]) -> Result<(), TurnError> {
        let now = self.setup.store.read(|look| {
            let mut now = Vec::with_capacity(names.len());
            for name in names {
                now.push(look.path(name)?.is_some_and(|record| record.local_only));
            }
            Ok::<_, IndexError>(now)
        })?;
        for (name, _) in names.iter().zip(now).filter(|(_, is_local)| *is_local) {
            let (shared, folder) = (&self.setup.shared, self.setup.folder);
            let text = format!("changed {}/{name} on this machine", self.setup.name);
            let why = "this machine may not write there: the change stays here and is not spread";
            let me = shared.mesh.node();
            shared.refuse(Refusal::new(Deed::Write, text, why).by(me).folder(folder).path(name));
        }
        Ok(())
    }

    /// Takes back the changes at and below a path; returns their names.
    pub(super) fn take_back(&mut self, path: &RelPath) -> Result<Vec<RelPath>, TurnError> {
        let store = self.setup.store.clone();
        let names = store.write(true, |index| local_only::take_back(index, path))?;
        self.apply.touch();
        Ok(names)
    }
}
