//! Changes that stay on this machine because it may not write there: which they are, and taking them back.
//!
//! They are never spread, and never replaced unless their user says so. Taken back, the version that others have comes
//! back as any other change does: what it replaces goes to the kept versions.

use super::index::{Index, Look, Result, Walk};
use super::reconcile;
use crate::base::RelPath;

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
