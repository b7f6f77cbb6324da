//! Disks that take names for one that differ only in case or in the Unicode form of their letters: those of Windows and
//! macOS, and some directories of Linux. A name that arrives must not go under another's, nor into another's directory.
//!
//! Whether a disk does so is found out with a file of our own, once a start. Where it does, a name that is there counts only
//! if its directory lists these very bytes.

use std::io;

use super::primitives::{Open, Place};
use super::{DiskError, Folder, scan, stage};
use crate::base::RelPath;
use crate::base::path::fold;

/// A name with a letter of two cases and one of two forms.
const PROBE: &str = "Probe-\u{fc}";
/// The same in other eyes: by case, by form.
const AS_TWIN: [&str; 2] = ["pROBE-\u{fc}", "Probe-u\u{308}"];

/// Finds out what the disk does, for `of`.
pub(super) fn probe(folder: &Folder) -> Result<(), DiskError> {
    let place = stage::tmp().below(PROBE);
    let fail = |error| DiskError::new("try names in", &stage::tmp(), error);
    match folder.disk.open(&place, Open::Create) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail(error)),
        _ => {}
    }
    let folds = AS_TWIN.iter().any(|twin| folder.disk.look(&stage::tmp().below(twin)).is_ok());
    folder.folds.store(folds, std::sync::atomic::Ordering::Relaxed);
    folder.disk.remove(&place, false).map_err(fail)
}

/// The name that the disk takes `path` for, or one of the directories above it; `None` where it has its own or none.
pub fn of(folder: &Folder, path: &RelPath) -> Result<Option<Vec<u8>>, DiskError> {
    if !folder.folds.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(None);
    }
    let mut above: Vec<RelPath> = path.ancestors().collect();
    above.reverse();
    for at in above.iter().chain([path]) {
        let place = Place::shared(at);
        match folder.disk.look(&place) {
            Err(error) if scan::is_absent(&error) => return Ok(None),
            Err(error) => return Err(DiskError::new("look at", &place, error)),
            Ok(_) => {}
        }
        let (mut own, mut twin) = (false, None);
        let name = at.name().unwrap_or_default();
        let key = folded(name);
        let listed = folder.disk.list(&place.parent(), &mut |listed, _| {
            own |= listed == name;
            if folded(listed) == key {
                twin = Some(listed.to_vec());
            }
        });
        listed.map_err(|error| DiskError::new("list", &place.parent(), error))?;
        if let (false, Some(twin)) = (own, twin) {
            return Ok(Some(place.parent().below(twin).as_bytes().to_vec()));
        }
    }
    Ok(None)
}

fn folded(name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len());
    fold(name, &mut key);
    key
}
