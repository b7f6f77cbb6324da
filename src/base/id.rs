//! Identities: 32-byte values that name nodes, statements, folders, batches and contents.
//!
//! A node id is an Ed25519 public key. Its text form is lower-case RFC 4648 base32 without padding over
//! the 32 key bytes and a 3-byte checksum: 56 letters in 7 groups of 8, so that a typing error is found
//! before it is looked up. The first group is the short form; it is for display only.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

/// Letters in one group of the text form of a node id.
const GROUP: usize = 8;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The bytes of the identity.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Lower-case hexadecimal, for logs and JSON.
            pub fn to_hex(&self) -> String {
                data_encoding::HEXLOWER.encode(&self.0)
            }

            /// Reads what `to_hex` writes; `None` for anything else.
            pub fn from_hex(text: &str) -> Option<Self> {
                let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
                Some(Self(bytes.try_into().ok()?))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.to_hex()[..8])
            }
        }
    };
}

id!(
    /// A node: its Ed25519 public key.
    NodeId, 32
);
id!(
    /// A mesh: the id of its founding statement.
    MeshId, 32
);
id!(
    /// A signed statement: the hash of its envelope.
    StatementId, 32
);
id!(
    /// A folder: the id of the statement that created it.
    FolderId, 32
);
id!(
    /// A group of nodes, chosen at random when it is made.
    GroupId, 16
);
id!(
    /// A pass: access for a person without a node.
    PassId, 16
);
id!(
    /// A batch of entries: the hash of its signed header.
    BatchHash, 32
);
id!(
    /// One entry of a batch: the salted hash of its expanded form.
    EntryHash, 32
);
id!(
    /// The content of a file: hash over chunker version, length and chunk list.
    ContentId, 32
);
id!(
    /// One chunk: BLAKE3 of its bytes.
    ChunkHash, 32
);

/// The secret of a mesh under which its members recognise each other's announcements.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DiscoveryKey(pub [u8; 32]);

impl fmt::Debug for DiscoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiscoveryKey(secret)")
    }
}

impl Drop for DiscoveryKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// Why a text is not a node id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeIdError {
    /// The text has the wrong number of letters.
    #[error("a node id has 56 letters and digits, this has {0}")]
    Length(usize),
    /// A letter that base32 does not have.
    #[error("a node id has only the letters a-z and the digits 2-7")]
    Letter,
    /// The checksum differs: a letter was mistyped.
    #[error("the node id has a typing error: its checksum does not fit")]
    Checksum,
}

impl NodeId {
    /// The text form: 56 letters in groups of 8, joined by `-`.
    pub fn to_text(&self) -> String {
        let mut bytes = self.0.to_vec();
        bytes.extend_from_slice(&checksum(&self.0));
        let letters = BASE32_NOPAD.encode(&bytes).to_lowercase();
        let groups: Vec<&str> =
            (0..letters.len()).step_by(GROUP).map(|at| &letters[at..(at + GROUP).min(letters.len())]).collect();
        groups.join("-")
    }

    /// The first group of the text form, for display. Several nodes may share it.
    pub fn short(&self) -> String {
        self.to_text()[..GROUP].to_string()
    }

    /// Reads the text form, forgiving case, blanks and missing dashes, and nothing else.
    pub fn from_text(text: &str) -> Result<Self, NodeIdError> {
        let letters: String =
            text.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_ascii_uppercase()).collect();
        if letters.chars().count() != 56 {
            return Err(NodeIdError::Length(letters.chars().count()));
        }
        let bytes = BASE32_NOPAD.decode(letters.as_bytes()).map_err(|_| NodeIdError::Letter)?;
        let (key, sum) = bytes.split_at(32);
        let key: [u8; 32] = key.try_into().expect("35 bytes split at 32");
        if sum != checksum(&key) {
            return Err(NodeIdError::Checksum);
        }
        Ok(Self(key))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

fn checksum(key: &[u8; 32]) -> [u8; 3] {
    let hash = blake3::derive_key("lanyard 1 node id checksum", key);
    [hash[0], hash[1], hash[2]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_survives_its_text_form() {
        let id = NodeId([7; 32]);
        assert_eq!(NodeId::from_text(&id.to_text()), Ok(id));
        assert_eq!(NodeId::from_text(&id.to_text().to_uppercase().replace('-', " ")), Ok(id));
        assert_eq!(id.short().len(), 8);
        assert_eq!(id.to_text().len(), 62);
    }

    #[test]
    fn every_single_typing_error_is_caught() {
        let text = NodeId([42; 32]).to_text();
        for at in 0..text.len() {
            if text.as_bytes()[at] == b'-' {
                continue;
            }
            let mut typed = text.clone().into_bytes();
            typed[at] = if typed[at] == b'a' { b'b' } else { b'a' };
            let typed = String::from_utf8(typed).expect("ascii");
            assert!(NodeId::from_text(&typed).is_err(), "{typed}");
        }
    }
}
