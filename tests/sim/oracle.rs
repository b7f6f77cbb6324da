//! The reference: what users did, and what must therefore be true in the end. It shares no code with the product.
//!
//! Every save has bytes of its own, so that a content is known by its bytes wherever it turns up.

use std::collections::{BTreeMap, BTreeSet};

use lanyard::base::RelPath;

use crate::disk::{Body, Tree};

/// What became of one content by users' hands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// Nodes whose user overwrote or deleted it, having it on the disk.
    pub(crate) discarded: BTreeSet<usize>,
    /// It was renamed, touched, restored or had part in settling a conflict: a deletion elsewhere may have lost to that.
    pub(crate) renewed: bool,
    /// Saved by a user whose node may write.
    pub(crate) shared: bool,
    /// Saved on these nodes.
    pub(crate) saved_on: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    fates: BTreeMap<Vec<u8>, Fate>,
    /// Nodes that may not write.
    pub(crate) readers: BTreeSet<usize>,
    /// Names that users of such nodes did something to.
    pub(crate) touched_by_readers: BTreeSet<RelPath>,
}

impl Oracle {
    pub(crate) fn saved(&mut self, node: usize, bytes: &[u8]) {
        let shared = !self.readers.contains(&node);
        let fate = self.fates.entry(bytes.to_vec()).or_default();
        // Saved again: a restored file, or the same bytes on two machines.
        fate.renewed |= !fate.saved_on.is_empty();
        fate.saved_on.insert(node);
        fate.discarded.remove(&node);
        fate.shared |= shared;
    }

    pub(crate) fn discarded(&mut self, node: usize, body: &Body) {
        if let Body::File(bytes) = body
            && let Some(fate) = self.fates.get_mut(bytes)
        {
            fate.discarded.insert(node);
        }
    }

    pub(crate) fn renewed(&mut self, body: &Body) {
        if let Body::File(bytes) = body
            && let Some(fate) = self.fates.get_mut(bytes)
        {
            fate.renewed = true;
        }
    }

    /// What must be and must not be in the files of a node after everything came to rest.
    pub(crate) fn judge(&self, node: usize, tree: &Tree) -> Result<(), String> {
        let there: BTreeSet<&Vec<u8>> = tree
            .values()
            .filter_map(|(body, ..)| if let Body::File(bytes) = body { Some(bytes) } else { None })
            .collect();
        let reader = self.readers.contains(&node);
        for (bytes, fate) in &self.fates {
            let name = String::from_utf8_lossy(bytes);
            let by_writers = fate.discarded.iter().any(|who| !self.readers.contains(who));
            let by_anyone = !fate.discarded.is_empty();
            let own = fate.saved_on.contains(&node) && !by_anyone;
            if !reader && fate.shared && !by_anyone && !there.contains(bytes) {
                return Err(format!("loss: {name} was saved, nobody discarded it, and node {node} does not show it"));
            }
            if reader && own && !there.contains(bytes) {
                return Err(format!("loss: the reader {node} saved {name} and it was taken away"));
            }
            if !reader && by_writers && !fate.renewed && there.contains(bytes) {
                return Err(format!("resurrection: {name} was discarded and node {node} shows it again"));
            }
            if !reader && !fate.shared && there.contains(bytes) {
                return Err(format!("authority: {name} was saved without the right to write and node {node} shows it"));
            }
        }
        if let Some(stranger) = there.iter().find(|bytes| !self.fates.contains_key(**bytes)) {
            return Err(format!("node {node} shows bytes that nobody saved: {}", String::from_utf8_lossy(stranger)));
        }
        Ok(())
    }
}
