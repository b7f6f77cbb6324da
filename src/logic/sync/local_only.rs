//! Changes that stay on this machine because it may not write there: which they are, and taking them back.
//!
//! They are never spread, and never replaced unless their user says so. Taken back, the version that others have comes
//! back as any other change does: what it replaces goes to the kept versions.

use super::index::{Index, Look, Result, Walk};
use super::reconcile;
use crate::base::RelPath;

/// Names looked at in one step.
const PAGE: usize = 1024;

/// Every name at or below `path` with a change that is only here, in the order of paths.
fn below(index: &(impl Look + ?Sized), path: &RelPath) -> Result<Vec<RelPath>> {
    let mut found = Vec::new();
    index.walk(path, &mut |name, record| {
        if record.local_only {
            found.push(name);
        }
        Walk::On
    })?;
    Ok(found)
}

/// Gives every such name at or below `path` back to its versions; returns them. The disk follows by the next plan.
pub fn take_back(index: &mut (impl Index + ?Sized), path: &RelPath) -> Result<Vec<RelPath>> {
    let names = below(index, path)?;
    for name in &names {
        let Some(mut record) = index.path(name)? else { continue };
        record.local_only = false;
        let owner = record.copy_of.as_ref().map(|(owner, _)| owner.clone());
        index.put_path(name, &record)?;
        reconcile::mark(index, name)?;
        if let Some(owner) = owner {
            reconcile::mark(index, &owner)?;
        }
    }
    Ok(names)
}

/// Local changes that `may` permits now: those to look at again, so that they are signed. A deletion that was not
/// permitted is not carried out later: the file comes back.
pub fn regain(index: &mut dyn Index, may: &dyn Fn(&RelPath) -> bool) -> Result<Vec<RelPath>> {
    let mut regained = Vec::new();
    let mut after: Option<RelPath> = None;
    loop {
        let page = index.local_only(after.as_ref(), PAGE)?;
        let Some(last) = page.last().cloned() else { return Ok(regained) };
        after = Some(last);
        for path in page.into_iter().filter(|path| may(path)) {
            let mut record = index.path(&path)?.unwrap_or_default();
            match record.disk.as_mut() {
                Some(disk) => disk.recheck = true,
                None => record.local_only = false,
            }
            index.put_path(&path, &record)?;
            if record.disk.is_some() {
                regained.push(path);
            } else {
                reconcile::mark(index, &path)?;
            }
        }
    }
}
