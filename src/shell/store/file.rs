//! Opening the index file: made whole, verified page by page, or set aside.
//!
//! A new file is built under another name and renamed when it is whole, so that an index without its tables is
//! always a damaged one. What is set aside is kept for whoever wants to look at it; nothing reads it again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadableDatabase};

use super::tables::{Fault, Rows, RowsMut, SCHEMA, SCHEMA_KEY, Tables, guarded};
use super::{Condition, StoreError, upgrade};

/// Most damaged files that are kept; the last is replaced. A guess: whoever has this many has a broken disk.
const ASIDE_MAX: u32 = 8;

/// Opens the index at `path`, or makes an empty one where there is none or a damaged one.
pub(super) fn open_or_make(path: &Path, cache_bytes: usize) -> Result<(Database, Condition), StoreError> {
    let of = |fault| StoreError::of(path, fault);
    let condition = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match last_aside(path) {
            // The program stopped between setting a file aside and making a new one.
            Some(aside) => Condition::SetAside { aside, why: String::new() },
            None => Condition::New,
        },
        Err(error) => return Err(of(Fault::Io(error))),
        Ok(_) => match verified(path, cache_bytes) {
            Ok(database) => return Ok((database, Condition::Existing)),
            Err(StoreError::Corrupt { why, .. }) => {
                let aside = set_aside(path).map_err(|error| of(Fault::Io(error)))?;
                Condition::SetAside { aside, why }
            }
            Err(error) => return Err(error),
        },
    };
    Ok((make(path, cache_bytes).map_err(of)?, condition))
}

/// Opens an index that this process had open before.
pub(super) fn open_again(path: &Path, cache_bytes: usize) -> Result<Database, Fault> {
    verified(path, cache_bytes).map_err(|error| match error {
        StoreError::Corrupt { why, .. } => Fault::Corrupt(why),
        StoreError::Full { source, .. } | StoreError::Io { source, .. } | StoreError::Denied { source, .. } => {
            Fault::Io(source)
        }
        other => Fault::Io(io::Error::other(other)),
    })
}

/// Opens a file that is there, and brings one of an earlier version up to date.
fn verified(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    let of = |fault| StoreError::of(path, fault);
    let database = whole(path, cache_bytes)?;
    match schema(&database).map_err(of)? {
        SCHEMA => {
            upgrade::let_go_of_copies(path);
            Ok(database)
        }
        0 => Err(of(Fault::Corrupt("it has no schema version".into()))),
        found if found < SCHEMA => {
            // Closed, it is copied as it lies there.
            guarded(|| {
                drop(database);
                Ok::<_, Fault>(())
            })
            .map_err(of)?;
            upgrade::copy(path, found)?;
            let database = whole(path, cache_bytes)?;
            upgrade::run(&database, path).map_err(of)?;
            Ok(database)
        }
        found => Err(StoreError::Future { path: path.to_path_buf(), found, known: SCHEMA }),
    }
}

/// Opens a file that is there. Every page is checked against its checksum: damage that is not found here would be
/// believed, and an index that is wrong about the own log makes it fork.
fn whole(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    let of = |fault| StoreError::of(path, fault);
    if fs::metadata(path).map_err(|error| of(Fault::Io(error)))?.len() == 0 {
        return Err(of(Fault::Corrupt("it is empty".into())));
    }
    let opened = guarded(|| {
        // The error is looked at outside: being in use is neither damage nor a failure of the disk.
        Ok::<_, Fault>(Builder::new().set_cache_size(cache_bytes).set_check_integrity_on_open(true).open(path))
    });
    match opened.map_err(of)? {
        Ok(database) => Ok(database),
        Err(DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) => {
            Err(StoreError::AlreadyOpen { path: path.to_path_buf() })
        }
        Err(DatabaseError::Storage(error)) => Err(of(error.into())),
        Err(error) => Err(of(Fault::Corrupt(error.to_string()))),
    }
}

/// The schema version; 0 where there is none.
fn schema(database: &Database) -> Result<u32, Fault> {
    let txn = guarded(|| database.begin_read())?;
    let definition = redb::TableDefinition::<&[u8], &[u8]>::new("meta");
    let meta = guarded(|| txn.open_table(definition))?;
    schema_of(&meta)
}

/// The same of an open table.
pub(super) fn schema_of(meta: &impl Rows) -> Result<u32, Fault> {
    let found = meta.find(SCHEMA_KEY, |value| value.try_into().map_or(0, u32::from_be_bytes))?;
    Ok(found.unwrap_or(0))
}

/// Makes an empty index with all its tables, durable before it has its name.
fn make(path: &Path, cache_bytes: usize) -> Result<Database, Fault> {
    let new = sibling(path, "new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Fault::Io(error)),
        _ => {}
    }
    let database = guarded(|| Builder::new().set_cache_size(cache_bytes).create(&new))?;
    let txn = guarded(|| database.begin_write())?;
    Tables::write(&txn)?.meta.put(SCHEMA_KEY, &SCHEMA.to_be_bytes(), |_| ())?;
    guarded(|| txn.commit())?;
    fs::rename(&new, path).and_then(|()| sync_parent(path)).map_err(Fault::Io)?;
    Ok(database)
}

/// Gives a damaged file another name and returns it.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let names = (1..=ASIDE_MAX).map(|n| aside_name(path, n));
    let free = names.into_iter().find(|name| fs::symlink_metadata(name).is_err());
    let aside = free.unwrap_or_else(|| aside_name(path, ASIDE_MAX));
    fs::rename(path, &aside)?;
    sync_parent(path)?;
    Ok(aside)
}

fn last_aside(path: &Path) -> Option<PathBuf> {
    (1..=ASIDE_MAX).rev().map(|n| aside_name(path, n)).find(|name| fs::symlink_metadata(name).is_ok())
}

fn aside_name(path: &Path, n: u32) -> PathBuf {
    sibling(path, &format!("corrupt-{n}"))
}

/// `index.redb` with `new` becomes `index.new.redb`.
pub(super) fn sibling(path: &Path, mark: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(mark);
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// A rename is durable once its directory is.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()
}
