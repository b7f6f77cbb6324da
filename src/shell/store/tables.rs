//! The tables of the index file, and the few calls on them.
//!
//! Page: `docs/spec/index.md`. All keys and values are bytes; numbers in keys are big-endian, so that their order is
//! that of the numbers. The database below panics on some damaged files instead of returning an error: every call
//! goes through `guarded`, and its panic becomes `Fault::Corrupt`.

use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{
    AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition, WriteTransaction,
};

use crate::logic::sync::index::Walk;

type Bytes = &'static [u8];
type Row<'a> = (AccessGuard<'a, Bytes>, AccessGuard<'a, Bytes>);
/// Looks at a key and its value, and says whether to go on.
type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<Walk>;
type Definition = TableDefinition<'static, Bytes, Bytes>;

/// Version of the tables and their values. See `super::upgrade` for what a change of it needs; `HOME_FORMAT` grows with it.
pub(super) const SCHEMA: u32 = 2;
/// Key in `meta`: `SCHEMA`, 4 bytes. Every later version keeps this table and key, so that an older program can tell.
pub(super) const SCHEMA_KEY: &[u8] = b"schema";
/// Key in `meta`: files on disk and their bytes, 8 bytes each.
pub(super) const TOTALS_KEY: &[u8] = b"totals";

/// What went wrong below the index, without the name of the file.
#[derive(Debug)]
pub(super) enum Fault {
    /// What the file says cannot be.
    Corrupt(String),
    /// The file could not be read or written.
    Io(io::Error),
    /// An earlier failure closed the file; it must be opened again.
    Stale,
}

/// Result of a call on a table.
pub(super) type Result<T> = std::result::Result<T, Fault>;

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error) if is_damage(&error) => Self::Corrupt(error.to_string()),
            StorageError::Io(error) => Self::Io(error),
            StorageError::PreviousIo | StorageError::DatabaseClosed => Self::Stale,
            other => Self::Corrupt(other.to_string()),
        }
    }
}

macro_rules! from_errors {
    ($($error:ident),+) => {
        $(impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Self {
                match error {
                    redb::$error::Storage(error) => error.into(),
                    other => Self::Corrupt(other.to_string()),
                }
            }
        })+
    };
}

from_errors!(TableError, TransactionError, CommitError, DatabaseError);

/// A file that ends early or says nonsense is damaged; any other failure is the disk's.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}

/// Makes a call into the database and turns its panic into a fault.
pub(super) fn guarded<R, E: Into<Fault>>(call: impl FnOnce() -> std::result::Result<R, E>) -> Result<R> {
    // What a panic leaves half done is never used again: the store closes the file on `Fault::Corrupt`.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(Into::into),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(Fault::Corrupt(text.unwrap_or_default()))
        }
    }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// All tables, opened once a transaction.
        pub(super) struct Tables<T> {
            $($(#[$doc])* pub(super) $name: T,)+
        }

        impl Tables<ReadOnlyTable<Bytes, Bytes>> {
            /// Opens them as they were when the transaction began.
            pub(super) fn read(txn: &ReadTransaction) -> Result<Self> {
                guarded(|| Ok::<_, redb::TableError>(Self {
                    $($name: txn.open_table(Definition::new(stringify!($name)))?,)+
                }))
            }
        }

        impl<'txn> Tables<Table<'txn, Bytes, Bytes>> {
            /// Opens them for change, and makes those that are not there yet.
            pub(super) fn write(txn: &'txn WriteTransaction) -> Result<Self> {
                guarded(|| Ok::<_, redb::TableError>(Self {
                    $($name: txn.open_table(Definition::new(stringify!($name)))?,)+
                }))
            }
        }
    };
}

tables! {
    /// Schema version, totals.
    meta,
    /// Path key: `PathRecord`.
    paths,
    /// Writer (node 32, incarnation 8): `Log`.
    logs,
    /// Arrival number 8: `Signed` of the header.
    batches,
    /// Writer number 4, sequence number of the last entry 8: arrival number 8.
    ends,
    /// Writer number 4, sequence number 8: path key.
    entries,
    /// The same: `Salted`.
    voids,
    /// Path key, NUL NUL, writer (node 32, incarnation 8), sequence number 8: `Salted`.
    kept,
    /// Path key: empty.
    local,
    /// The same: `HoleReason`, for entries that a later one superseded.
    superseded,
    /// The same, for entries that a peer withheld or did not have: these are asked for again.
    missing,
    /// Content id 32: `ChunkList`.
    lists,
    /// Content id 32, path key: empty.
    places,
    /// Path key: content id, where `places` runs ahead of `paths`.
    announced,
    /// First 16 bytes of a chunk's hash: content id 32, offset 8.
    chunks,
    /// Path key: empty.
    needs,
    /// Text: the value as it was given.
    notes,
}

/// Reading one table, in a snapshot or in a change.
pub(super) trait Rows: ReadableTable<Bytes, Bytes> {
    /// What `read` makes of the value of a key.
    fn find<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        guarded(|| self.get(key).map(|value| value.map(|value| read(value.value()))))
    }

    /// Shows the rows from `from` on, in the order of their keys.
    fn scan(&self, from: &[u8], visit: Visit<'_>) -> Result<()> {
        self.scan_bound(Bound::Included(from), visit)
    }

    /// Shows the rows after a bound, in the order of their keys.
    fn scan_bound(&self, from: Bound<&[u8]>, visit: Visit<'_>) -> Result<()> {
        let mut rows = guarded(|| self.range::<&[u8]>((from, Bound::Unbounded)))?;
        while let Some((key, value)) = guarded(|| rows.next().transpose().inspect(touch))? {
            if visit(key.value(), value.value())? == Walk::Enough {
                break;
            }
        }
        Ok(())
    }

    /// The key of the last row, as a number.
    fn last_number(&self) -> Result<Option<u64>> {
        let key =
            guarded(|| self.last().map(|row| row.map(|(key, _)| key.value().try_into().map(u64::from_be_bytes))))?;
        key.transpose().map_err(|_| Fault::Corrupt("number is malformed".into()))
    }

    /// How many rows there are; kept by the database, not counted.
    fn count(&self) -> Result<u64> {
        guarded(|| self.len())
    }
}

impl<T: ReadableTable<Bytes, Bytes>> Rows for T {}

/// Looks at a row once while panics are caught: one that lies outside its page shows here.
fn touch(row: &Option<Row<'_>>) {
    if let Some((key, value)) = row {
        let _ = (key.value(), value.value());
    }
}

/// Changing one table.
pub(super) trait RowsMut {
    /// Puts a row; returns what `read` makes of the value before.
    fn put<R>(&mut self, key: &[u8], value: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>>;
    /// Removes a row; returns what `read` makes of its value.
    fn take<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>>;
}

impl RowsMut for Table<'_, Bytes, Bytes> {
    fn put<R>(&mut self, key: &[u8], value: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        guarded(|| self.insert(key, value).map(|before| before.map(|before| read(before.value()))))
    }

    fn take<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        guarded(|| self.remove(key).map(|before| before.map(|before| read(before.value()))))
    }
}
