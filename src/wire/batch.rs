//! Batches: signed, hash-chained runs of one writer's entries.
//!
//! Page: `docs/spec/formats/batches.md`. A header signs the list of its entries' salted hashes; the entries
//! travel beside it, so that a superseded one can be dropped and a forbidden one withheld, and the signature
//! still verifies. Hashes are over the expanded entry; `Packed` is how entries travel.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::codec::{self, Bytes, DecodeError, List, Text};
use super::envelope::{Envelope, kind};
use super::signed::{Domain, Signed};
use super::statement::PARENTS_MAX;
use crate::base::file::MODE_BITS;
use crate::base::{
    BatchHash, ContentId, EntryHash, FileTime, FolderId, Hlc, Kind, MeshId, Mode, PassId, RelPath, StatementId,
    VersionVector, Writer,
};

/// Most entries of a batch.
pub const ENTRIES_MAX: usize = 1024;
/// Most bytes of a batch's expanded entries together, so that header and entries fit one frame.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Most components of one entry's version vector. Far above the machines of an office and their incarnations.
pub const VERSION_MAX: usize = 256;
/// Most writers that the entries of one push name together.
pub const WRITERS_MAX: usize = 4096;
/// Longest symlink target. Source: Linux `PATH_MAX`.
pub const TARGET_BYTES_MAX: usize = 4095;
/// Longest entry, expanded.
pub const ENTRY_BYTES_MAX: usize = 64 * 1024;

/// What a batch signs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The mesh.
    pub mesh: MeshId,
    /// The folder.
    pub folder: FolderId,
    /// Whose log.
    pub writer: Writer,
    /// Sequence number of the first entry; the others follow without gaps. The first ever is 1.
    pub first: u64,
    /// Hash of the writer's batch before; `None` in the first.
    pub previous: Option<BatchHash>,
    /// The policy heads that the writer knew, sorted.
    pub heads: List<StatementId, PARENTS_MAX>,
    /// When it was signed.
    pub time: Hlc,
    /// One hash an entry, in order; at least one.
    pub entries: List<EntryHash, ENTRIES_MAX>,
}

impl Header {
    /// Sequence number of the last entry.
    pub fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }
}

/// What a path became.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum What {
    /// A regular file.
    File {
        /// Length in bytes.
        bytes: u64,
        /// Its content.
        content: ContentId,
    },
    /// A directory.
    Dir,
    /// A symbolic link and its text.
    Symlink(Bytes<TARGET_BYTES_MAX>),
    /// Gone.
    Tombstone {
        /// What was deleted, for a file: an equal one that turns up later follows the tombstone.
        deleted: Option<ContentId>,
    },
}

impl What {
    /// The kind of file; `None` for a tombstone.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::File { .. } => Some(Kind::File),
            Self::Dir => Some(Kind::Dir),
            Self::Symlink(_) => Some(Kind::Symlink),
            Self::Tombstone { .. } => None,
        }
    }

    /// The content, for a file.
    pub fn content(&self) -> Option<ContentId> {
        match self {
            Self::File { content, .. } => Some(*content),
            _ => None,
        }
    }
}

/// Owner and group by name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// User name.
    pub user: Text<64>,
    /// Group name.
    pub group: Text<64>,
}

/// One extended attribute.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Xattr {
    /// Its full name.
    pub name: Text<255>,
    /// Its value.
    pub value: Bytes<4096>,
}

/// Most extended attributes of one entry.
pub const XATTRS_MAX: usize = 32;
/// The extended attributes of one file.
pub type Xattrs = List<Xattr, XATTRS_MAX>;

/// What one writer says about one path, expanded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Where; never the root.
    pub path: RelPath,
    /// What it became.
    pub what: What,
    /// Permission bits, within `MODE_BITS`; 0 for symlinks and tombstones.
    pub mode: Mode,
    /// Modification time; writers put zero for directories and tombstones, readers pass over it.
    pub mtime: FileTime,
    /// When it was authored.
    pub time: Hlc,
    /// What it has seen, with its own number as the writer's component.
    pub version: VersionVector,
    /// The content before; reserved.
    pub previous: Option<ContentId>,
    /// Where it was before a rename; reserved.
    pub moved_from: Option<RelPath>,
    /// The pass on whose behalf a node wrote it; reserved.
    pub on_behalf_of: Option<PassId>,
    /// Owner and group of a file, where somebody has said.
    pub owner: Option<Owner>,
    /// Extended attributes of a file, ascending by name. One with no name is none: see the page.
    pub xattrs: Xattrs,
}

impl Entry {
    /// An entry with nothing in the fields that most entries do not need.
    pub fn new(path: RelPath, what: What, mode: Mode, mtime: FileTime, time: Hlc, version: VersionVector) -> Self {
        Self {
            path,
            what,
            mode,
            mtime,
            time,
            version,
            previous: None,
            moved_from: None,
            on_behalf_of: None,
            owner: None,
            xattrs: List::default(),
        }
    }

    /// The salted hash that the batch signs.
    pub fn hash(&self, salt: &[u8; 16]) -> EntryHash {
        let mut hasher = blake3::Hasher::new_derive_key("lanyard 1 entry hash");
        hasher.update(salt);
        hasher.update(&codec::encode(self));
        EntryHash(*hasher.finalize().as_bytes())
    }

    fn check(&self) -> Result<(), DecodeError> {
        let plain = matches!(self.what, What::Symlink(_) | What::Tombstone { .. });
        let sound = !self.path.is_root()
            && self.mode & !MODE_BITS == 0
            && self.mtime.nanos < 1_000_000_000
            && !(plain && self.mode != 0)
            && self.version.components().len() <= VERSION_MAX;
        if sound { Ok(()) } else { Err(DecodeError::Malformed("entry")) }
    }
}

/// An entry with the salt of its hash. The salt keeps a withheld entry's hash from being guessed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Salted {
    /// 16 random bytes.
    pub salt: [u8; 16],
    /// The entry.
    pub entry: Entry,
}

/// A batch header with a good signature. Only `Batch::open` makes one from bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    hash: BatchHash,
    header: Header,
    signed: Signed,
}

impl Batch {
    /// Signs a header.
    pub fn sign(header: Header, key: &SigningKey) -> Self {
        let envelope = Envelope::seal(kind::BATCH, true, &codec::encode(&header));
        let signed = Signed::sign(Domain::Batch, envelope, key);
        Self { hash: BatchHash(signed.hash(Domain::Batch)), header, signed }
    }

    /// Reads and verifies a header.
    pub fn open(signed: Signed) -> Result<Self, DecodeError> {
        let batch = Self::open_stored(signed)?;
        batch.signed.verify(Domain::Batch, "batch", batch.header.writer.node)?;
        Ok(batch)
    }

    /// Reads a header that this node verified before it stored it.
    pub fn open_stored(signed: Signed) -> Result<Self, DecodeError> {
        let envelope = Envelope::open(&signed.envelope)?;
        if envelope.kind != kind::BATCH || !envelope.critical {
            return Err(DecodeError::UnknownKind(envelope.kind));
        }
        let header: Header = codec::decode("batch", envelope.body, envelope.body.len())?;
        let chained = (header.first == 1) == header.previous.is_none();
        let sorted = header.heads.windows(2).all(|pair| pair[0] < pair[1]);
        let counted = header.first.checked_add(ENTRIES_MAX as u64).is_some();
        if header.first == 0 || header.entries.is_empty() || !chained || !sorted || !counted {
            return Err(DecodeError::Malformed("batch"));
        }
        Ok(Self { hash: BatchHash(signed.hash(Domain::Batch)), header, signed })
    }

    /// The hash that the next batch names.
    pub fn hash(&self) -> BatchHash {
        self.hash
    }

    /// What was signed.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes as they travel and are stored.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// Whether the entry at `index` is this one: its hash is signed, and its own component is its number.
    pub fn holds(&self, index: usize, salted: &Salted) -> bool {
        let number = self.header.first + index as u64;
        self.header.entries.get(index) == Some(&salted.entry.hash(&salted.salt))
            && salted.entry.version.seen(self.header.writer) == number
    }
}

/// Entries as they travel: a table of writers, paths that share the start of the one before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Packed {
    writers: List<Writer, WRITERS_MAX>,
    items: List<PackedEntry, ENTRIES_MAX>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct PackedEntry {
    index: u16,
    salt: [u8; 16],
    shared: u16,
    suffix: Bytes<4095>,
    what: What,
    mode: Mode,
    mtime: FileTime,
    time: Hlc,
    version: List<(u16, u64), VERSION_MAX>,
    rare: Option<Rare>,
}

/// What most entries do not have.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Rare {
    previous: Option<ContentId>,
    moved_from: Option<RelPath>,
    on_behalf_of: Option<PassId>,
    owner: Option<Owner>,
    xattrs: Xattrs,
}

impl Packed {
    /// Packs entries, each with its place in the batch, in ascending order of place. Ends early where the table of
    /// writers is full: `len` says how many went in.
    pub fn pack<'a>(entries: impl IntoIterator<Item = (u16, &'a Salted)>) -> Self {
        let mut writers: Vec<Writer> = Vec::new();
        let mut items = Vec::new();
        let mut before: &[u8] = &[];
        for (index, Salted { salt, entry }) in entries {
            if writers.len() + entry.version.components().len() > WRITERS_MAX {
                break;
            }
            let path = entry.path.as_bytes();
            let shared = path.iter().zip(before).take_while(|(a, b)| a == b).count();
            before = path;
            let version = entry.version.components().iter().map(|(writer, number)| {
                let at = writers.iter().position(|w| w == writer).unwrap_or_else(|| {
                    writers.push(*writer);
                    writers.len() - 1
                });
                (u16::try_from(at).expect("fewer than 65,536 writers"), *number)
            });
            let rare = Rare {
                previous: entry.previous,
                moved_from: entry.moved_from.clone(),
                on_behalf_of: entry.on_behalf_of,
                owner: entry.owner.clone(),
                xattrs: entry.xattrs.clone(),
            };
            items.push(PackedEntry {
                index,
                salt: *salt,
                shared: u16::try_from(shared).expect("a path is below 4,096 bytes"),
                suffix: Bytes::new(path[shared..].to_vec()).expect("a path is below 4,096 bytes"),
                what: entry.what.clone(),
                mode: entry.mode,
                mtime: entry.mtime,
                time: entry.time,
                version: List::new(version.collect()).expect("entries are checked when made"),
                rare: (!rare.is_empty()).then_some(rare),
            });
        }
        Self {
            writers: List::new(writers).expect("it was bounded entry by entry"),
            items: List::new(items).expect("a batch has at most 1,024 entries"),
        }
    }

    /// The entries with their places, expanded and checked, not yet compared with the header.
    pub fn unpack(self) -> Result<Vec<(usize, Salted)>, DecodeError> {
        const BAD: DecodeError = DecodeError::Malformed("entry");
        let mut entries: Vec<(usize, Salted)> = Vec::with_capacity(self.items.len());
        let mut expanded = 0;
        let mut before: Vec<u8> = Vec::new();
        for item in self.items.into_vec() {
            let ascending = entries.last().is_none_or(|(index, _)| *index < usize::from(item.index));
            let shared = before.get(..usize::from(item.shared)).ok_or(BAD)?;
            let path = [shared, &item.suffix].concat();
            expanded += path.len();
            if !ascending || expanded > BATCH_BYTES_MAX {
                return Err(BAD);
            }
            let version: Option<Vec<(Writer, u64)>> = item
                .version
                .iter()
                .map(|(at, number)| self.writers.get(usize::from(*at)).map(|writer| (*writer, *number)))
                .collect();
            let rare = item.rare.unwrap_or_default();
            let entry = Entry {
                path: RelPath::new(&path).map_err(|_| BAD)?,
                what: item.what,
                mode: item.mode,
                mtime: item.mtime,
                time: item.time,
                version: version.and_then(VersionVector::from_sorted).ok_or(BAD)?,
                previous: rare.previous,
                moved_from: rare.moved_from,
                on_behalf_of: rare.on_behalf_of,
                owner: rare.owner,
                xattrs: rare.xattrs,
            };
            entry.check()?;
            before = path;
            entries.push((usize::from(item.index), Salted { salt: item.salt, entry }));
        }
        Ok(entries)
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl Rare {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
