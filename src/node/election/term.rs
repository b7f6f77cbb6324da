//! The highest term that this node claimed, in a small file of its own: `election.json` in the state directory.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::base::MeshId;
use crate::shell::home::{self, HomeError};

#[derive(Serialize, Deserialize)]
struct Claimed {
    mesh: String,
    term: u64,
}

/// The term claimed in this mesh; 0 where there was none, or where nobody can tell. A node that begins anew claims a
/// term that the others know to be old, hears theirs, and goes on above.
pub(super) fn read(path: &Path, mesh: MeshId) -> u64 {
    let bytes = match home::read(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return 0,
        Err(error) => {
            warn!(%error, "the last election term cannot be read");
            return 0;
        }
    };
    match serde_json::from_slice::<Claimed>(&bytes) {
        Ok(claimed) if claimed.mesh == mesh.to_hex() => claimed.term,
        Ok(_) => 0,
        Err(error) => {
            warn!(file = %path.display(), %error, "the last election term cannot be read");
            0
        }
    }
}

/// Makes the term durable.
pub(super) fn write(path: &Path, mesh: MeshId, term: u64) -> Result<(), HomeError> {
    let bytes = serde_json::to_vec(&Claimed { mesh: mesh.to_hex(), term }).expect("a record has only text keys");
    home::replace(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_of_one_mesh_and_a_damaged_file_says_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("election.json");
        let (here, there) = (MeshId([1; 32]), MeshId([2; 32]));
        assert_eq!(read(&path, here), 0);
        write(&path, here, 7).expect("room");
        assert_eq!((read(&path, here), read(&path, there)), (7, 0));
        std::fs::write(&path, "{\"mesh\":").expect("room");
        assert_eq!(read(&path, here), 0);
    }
}
