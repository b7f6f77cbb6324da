//! Without the archive: what the kept versions do not have stays as it is, and is named.

use std::collections::BTreeMap;

use super::{Job, Lost, Way};
use crate::base::RelPath;
use crate::wire::api::Failure;

impl Job {
    pub(super) fn bring_lost(&mut self, lost: BTreeMap<RelPath, Lost>, _: &mut Way<'_>) {
        lost.into_iter().for_each(|(path, lost)| self.fail(path, lost.why));
    }

    pub(super) fn bring_all_archived(&mut self, _: &mut Way<'_>) -> Result<bool, Failure> {
        Ok(false)
    }
}
