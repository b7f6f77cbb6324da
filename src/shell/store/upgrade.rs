//! An index of an earlier schema: copied first, then changed one version at a time.
//!
//! Page: `docs/spec/index.md`, "Changing the schema". Each step is one transaction that ends with the new number, so a
//! program that dies in between goes on where the file stands. The copy is whole before anything is changed.

use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use redb::{Database, Table};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::file::{sibling, sync_parent};
use super::tables::{Fault, Result, Rows, RowsMut, SCHEMA, SCHEMA_KEY, Tables, guarded};
use super::view::decode;
use super::{StoreError, file};
use crate::base::{FileInfo, RelPath, VersionVector};
use crate::logic::sync::index::{EntryId, Head, OnDisk, PathRecord, Walk};
use crate::shell::clock;
use crate::wire::batch::What;
use crate::wire::codec;

/// How long the copy of an earlier version is kept: a week, a guess at how long it takes to find that the new program will
/// not do. It is removed by the first opening after that.
const COPY_KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// What a change takes beyond the copy: every row may be written anew beside the old ones, and some room for the tree.
const SPARE_BYTES: u64 = 4 * 1024 * 1024;
/// Rows that are read before they are written.
const PAGE: usize = 256;

/// Copies a file that nobody has open. Nothing is touched where the disk has no room for the copy and the change.
pub(super) fn copy(path: &Path, schema: u32) -> std::result::Result<(), StoreError> {
    let of = |error| StoreError::of(path, Fault::Io(error));
    let bytes = fs::metadata(path).map_err(of)?.len();
    let needed = 2 * bytes + SPARE_BYTES;
    if let Some(free) = free_bytes(path)
        && free < needed
    {
        return Err(StoreError::NoRoom { path: path.to_path_buf(), needed, free });
    }
    let (copy, new) = (copy_name(path, schema), sibling(path, &format!("schema-{schema}-new")));
    let made = fs::copy(path, &new)
        .and_then(|_| fs::File::open(&new)?.sync_all())
        .and_then(|()| fs::rename(&new, &copy))
        .and_then(|()| sync_parent(path));
    made.map_err(|error| {
        // What stays of it is written over by the next try.
        let _ = fs::remove_file(&new);
        of(error)
    })
}

/// Changes an open index step by step until it is of this version.
pub(super) fn run(database: &Database, path: &Path) -> Result<()> {
    loop {
        let txn = guarded(|| database.begin_write())?;
        let mut tables = Tables::write(&txn)?;
        let found = file::schema_of(&tables.meta)?;
        match found {
            SCHEMA => return Ok(()),
            1 => attributes_of_files(&mut tables.paths)?,
            _ => return Err(Fault::Corrupt(format!("there is no way from schema version {found}"))),
        }
        tables.meta.put(SCHEMA_KEY, &(found + 1).to_be_bytes(), |_| ())?;
        drop(tables);
        guarded(|| txn.commit())?;
        info!(index = %path.display(), from = found, to = found + 1, "the index was brought up to date");
    }
}

/// Removes copies that have been kept long enough.
pub(super) fn let_go_of_copies(path: &Path) {
    let now = clock::wall_ms();
    for copy in (1..SCHEMA).map(|schema| copy_name(path, schema)) {
        let made = fs::metadata(&copy).and_then(|found| found.modified()).ok();
        let made = made.and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
        let Some(made_ms) = made.and_then(|made| u64::try_from(made.as_millis()).ok()) else { continue };
        if now.saturating_sub(made_ms) < COPY_KEPT_MS {
            continue;
        }
        match fs::remove_file(&copy) {
            Ok(()) => info!(copy = %copy.display(), "the copy from before the index was brought up to date is removed"),
            Err(error) => warn!(copy = %copy.display(), %error, "a copy of the index cannot be removed"),
        }
    }
}

fn copy_name(path: &Path, schema: u32) -> PathBuf {
    sibling(path, &format!("schema-{schema}"))
}

fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// `OnDisk` of schema 1.
#[derive(Serialize, Deserialize)]
struct OnDisk1 {
    info: FileInfo,
    what: What,
    version: VersionVector,
    recheck: bool,
}

/// `PathRecord` of schema 1.
#[derive(Serialize, Deserialize)]
struct PathRecord1 {
    heads: Vec<Head>,
    disk: Option<OnDisk1>,
    copy_of: Option<(RelPath, EntryId)>,
    copies: Vec<RelPath>,
    local_only: bool,
}

/// From 1 to 2: what is on the disk has attributes, none of which were looked at.
fn attributes_of_files(paths: &mut Table<'_, &'static [u8], &'static [u8]>) -> Result<()> {
    let mut last: Option<Vec<u8>> = None;
    loop {
        let mut page: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let after = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        paths.scan_bound(after, &mut |key, value| {
            let PathRecord1 { heads, disk, copy_of, copies, local_only } = decode("path record", value)?;
            let disk =
                disk.map(|disk| OnDisk { recheck: disk.recheck, ..OnDisk::new(disk.info, disk.what, disk.version) });
            let record = PathRecord { heads, disk, copy_of, copies, local_only };
            page.push((key.to_vec(), codec::encode(&record)));
            Ok(if page.len() < PAGE { Walk::On } else { Walk::Enough })
        })?;
        for (key, value) in &page {
            paths.put(key, value, |_| ())?;
        }
        match page.pop() {
            Some((key, _)) => last = Some(key),
            None => return Ok(()),
        }
    }
}

/// What a person may do about a file system without room for an upgrade.
pub(super) fn hint(needed: u64, free: u64) -> String {
    let missing = needed.saturating_sub(free).div_ceil(1_000_000);
    format!("free {missing} MB there and start again; nothing was changed, and the version before still opens it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_says_how_much_is_missing() {
        assert!(hint(70_000_000, 10_500_000).starts_with("free 60 MB"));
    }

    #[test]
    fn a_copy_is_kept_for_a_week_and_a_clock_that_is_wrong_removes_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("index.redb");
        let copy = copy_name(&path, 1);
        let aged = |ago_ms: i64| {
            fs::write(&copy, "copy").expect("written");
            let at = i64::try_from(clock::wall_ms()).expect("small") - ago_ms;
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(at).expect("after 1970"));
            fs::File::options().write(true).open(&copy).and_then(|file| file.set_modified(at)).expect("set");
            let_go_of_copies(&path);
            copy.exists()
        };
        let week = i64::try_from(COPY_KEPT_MS).expect("small");
        assert!(aged(0) && aged(week - 60_000) && aged(-week));
        assert!(!aged(week + 60_000));
    }
}
