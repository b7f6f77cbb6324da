//! What a node may do: its role in the mesh, its level on a folder or path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A node's role in its mesh.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May share folders and use what it is granted.
    Member,
    /// May also admit and expel nodes and change every rule.
    Admin,
}

/// What a subject may do on a folder or a path in it. Each level includes those below.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing, not even to see that it is there.
    None,
    /// List and receive.
    Read,
    /// Change.
    Write,
    /// Grant levels to others on this folder.
    Manage,
}

/// A word that is no role or level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is not one of {known}")]
pub struct UnknownWord {
    word: String,
    known: &'static str,
}

impl FromStr for Level {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "none" => Ok(Self::None),
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "manage" => Ok(Self::Manage),
            _ => Err(UnknownWord { word: word.into(), known: "none, read, write, manage" }),
        }
    }
}

impl FromStr for Role {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "member" => Ok(Self::Member),
            "admin" => Ok(Self::Admin),
            _ => Err(UnknownWord { word: word.into(), known: "member, admin" }),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
            Self::Manage => "manage",
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Member => "member",
            Self::Admin => "admin",
        })
    }
}
