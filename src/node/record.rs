//! What a node remembers of itself beside its key and its statements: `node.json` in its state directory.
//!
//! The file holds the discovery keys, so only its owner can read it. It is small and replaced whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::{DiscoveryKey, FolderId, MeshId, NodeId, RelPath};
use crate::logic::sync::selection::Selection;
use crate::shell::home::{self, HomeError};
use crate::wire::api::PathText;
use crate::wire::message::KeyInUse;

/// Version of the file.
const VERSION: u32 = 1;
/// Addresses remembered per member. A guess: two networks with both families.
const ADDRESSES_MAX: usize = 8;

/// The record could not be used. The file is unchanged.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// It is not what was written.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// A later version wrote it.
    #[error("{} was written by a later version of lanyard (format {found}, this one knows {VERSION})", path.display())]
    Future {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl RecordError {
    /// Whether a later lanyard wrote it.
    pub(super) fn is_future(&self) -> bool {
        matches!(self, Self::Future { .. })
    }
}

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    version: u32,
    /// This node's name.
    pub(super) name: String,
    /// The mesh, where there is one.
    pub(super) mesh: Option<MeshRecord>,
    /// The port of the last run.
    pub(super) port: Option<u16>,
    /// Where folders are received; `None`: the configured place.
    pub(super) receive_into: Option<PathText>,
    /// Folders are received by themselves; else they are only offered.
    pub(super) receives: bool,
    /// Where each folder is, by its id in hexadecimal.
    pub(super) folders: BTreeMap<String, Place>,
    /// Where members were last reached, by id in hexadecimal.
    pub(super) members: BTreeMap<String, Contact>,
}

/// The mesh a node belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MeshRecord {
    id: String,
    keys: Vec<KeyRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRecord {
    epoch: u64,
    key: String,
}

/// Where a folder is, or that it was dropped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// It is shared or received here.
    At(PathText),
    /// Some paths of it are received here, with all below them.
    Parts {
        /// Where.
        at: PathText,
        /// Which, inside the folder.
        inside: Vec<PathText>,
    },
    /// It is not received here, on purpose.
    Dropped,
}

/// When and where a member was last reached.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contact {
    /// `address:port`, newest first.
    pub(super) addresses: Vec<String>,
    /// Milliseconds since 1970 UTC.
    pub(super) last_seen_ms: Option<u64>,
}

impl Place {
    /// Where the folder is; `None` if it is not here.
    pub(super) fn at(&self) -> Option<&PathText> {
        match self {
            Self::At(at) | Self::Parts { at, .. } => Some(at),
            Self::Dropped => None,
        }
    }

    /// The paths of it that are received, where not all are.
    pub(super) fn inside(&self) -> &[PathText] {
        match self {
            Self::Parts { inside, .. } => inside,
            Self::At(_) | Self::Dropped => &[],
        }
    }

    /// What of the folder is wanted here; `None` if it names too many paths.
    pub(super) fn selection(&self) -> Option<Selection> {
        let valid = |text: &PathText| RelPath::new(text.to_bytes()).ok();
        match self {
            Self::Parts { inside, .. } => Selection::of(inside.iter().filter_map(valid)),
            Self::At(_) | Self::Dropped => Some(Selection::all()),
        }
    }
}

impl Record {
    /// A node that has just been made.
    pub(super) fn new(name: String) -> Self {
        Self {
            version: VERSION,
            name,
            mesh: None,
            port: None,
            receive_into: None,
            receives: true,
            folders: BTreeMap::new(),
            members: BTreeMap::new(),
        }
    }

    /// Reads the file; `None` where there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Some(bytes) = home::read(path)? else { return Ok(None) };
        let damaged = |source| RecordError::Damaged { path: path.to_path_buf(), source };
        let Version { version: found } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if found > VERSION {
            return Err(RecordError::Future { path: path.to_path_buf(), found });
        }
        Ok(Some(serde_json::from_slice(&bytes).map_err(damaged)?))
    }

    /// Writes the file, durably.
    pub(super) fn write(&self, path: &Path) -> Result<(), RecordError> {
        let bytes = serde_json::to_vec_pretty(self).expect("a record has only text keys");
        Ok(home::replace(path, &bytes)?)
    }

    /// The place of a folder.
    pub(super) fn place(&self, folder: FolderId) -> Option<&Place> {
        self.folders.get(&folder.to_hex())
    }

    /// Remembers where a member was reached.
    pub(super) fn reached(&mut self, node: NodeId, address: String, now_ms: u64) {
        let contact = self.members.entry(node.to_hex()).or_default();
        contact.addresses.retain(|known| *known != address);
        contact.addresses.insert(0, address);
        contact.addresses.truncate(ADDRESSES_MAX);
        contact.last_seen_ms = Some(now_ms);
    }
}

impl MeshRecord {
    /// A mesh with its discovery keys, newest first.
    pub(super) fn new(id: MeshId, keys: &[KeyInUse]) -> Self {
        let record = |key: &KeyInUse| KeyRecord { epoch: key.epoch, key: data_encoding::HEXLOWER.encode(&key.key.0) };
        Self { id: id.to_hex(), keys: keys.iter().map(record).collect() }
    }

    /// The mesh.
    pub(super) fn id(&self) -> Option<MeshId> {
        MeshId::from_hex(&self.id)
    }

    /// The discovery keys, newest first.
    pub(super) fn keys(&self) -> Vec<KeyInUse> {
        let key = |record: &KeyRecord| {
            let bytes = data_encoding::HEXLOWER.decode(record.key.as_bytes()).ok()?;
            Some(KeyInUse { epoch: record.epoch, key: DiscoveryKey(bytes.try_into().ok()?) })
        };
        self.keys.iter().filter_map(key).collect()
    }
}
