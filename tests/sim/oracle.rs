//! The reference: what users did, and what must therefore be true in the end. It shares no code with the product.
//!
//! Every save has bytes of its own, so that a content is known by its bytes wherever it turns up.

use std::collections::{BTreeMap, BTreeSet};

use lanyard::base::RelPath;

use crate::disk::{Body, Cut, Tree};

/// What became of one content by users' hands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// Nodes whose user overwrote or deleted it, having it on the disk.
    pub(crate) discarded: BTreeSet<usize>,
    /// It was renamed, touched, restored or had part in settling a conflict: a deletion elsewhere may have lost to that.
    pub(crate) renewed: bool,
    /// Saved by a user whose node may write.
    pub(crate) shared: bool,
    /// A power cut came before it was on the disk, or undid what was done to it: nothing is promised.
    pub(crate) unsure: bool,
    /// Something else took its name.
    pub(crate) replaced: bool,
    /// It lay on a node that lost its index: as an old version that nobody knows, it may come back as a conflict copy.
    pub(crate) unknown: bool,
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
    /// What power cuts left of files that somebody was writing.
    torn: BTreeSet<Vec<u8>>,
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

    /// The power failed at a node, before all that its user did was on the disk.
    pub(crate) fn power_failed(&mut self, cut: &Cut) {
        for bytes in &cut.unsure {
            if let Some(fate) = self.fates.get_mut(bytes) {
                fate.unsure = true;
            }
        }
        self.torn.extend(cut.torn.iter().cloned());
    }

    /// The power failed before it was noticed that these are missing and `other` are there instead.
    pub(crate) fn not_announced(&mut self, is_missing: &dyn Fn(&[u8]) -> bool, other: Vec<Vec<u8>>) {
        for (_, fate) in self.fates.iter_mut().filter(|(bytes, _)| is_missing(bytes)) {
            fate.renewed = true;
        }
        self.power_failed(&Cut { unsure: other, ..Cut::default() });
    }

    /// Somebody decided what becomes of a content: that is judged by itself.
    pub(crate) fn decided_about(&mut self, bytes: &[u8]) {
        self.fates.entry(bytes.to_vec()).or_default().unsure = true;
    }

    /// Whether these bytes may be under a name at all: somebody saved them, or a power cut left them.
    pub(crate) fn knows(&self, bytes: &[u8]) -> bool {
        self.fates.contains_key(bytes) || self.torn.contains(bytes)
    }

    /// Something else took the name of a content.
    pub(crate) fn replaced(&mut self, body: &Body) {
        if let Body::File(bytes) = body
            && let Some(fate) = self.fates.get_mut(bytes)
        {
            fate.replaced = true;
        }
    }

    /// A node lost its index, with all that its user did while it was not looking; these contents are on its disk.
    pub(crate) fn forgotten(&mut self, node: usize, there: &Tree) {
        for fate in self.fates.values_mut().filter(|fate| fate.discarded.contains(&node)) {
            fate.renewed = true;
        }
        for (body, ..) in there.values() {
            if let Body::File(bytes) = body
                && let Some(fate) = self.fates.get_mut(bytes)
            {
                fate.unknown = true;
            }
        }
    }

    /// What the users of a node discarded so far.
    pub(crate) fn discarded_by(&self, node: usize) -> BTreeSet<Vec<u8>> {
        let theirs = self.fates.iter().filter(|(_, fate)| fate.discarded.contains(&node));
        theirs.map(|(bytes, _)| bytes.clone()).collect()
    }

    /// What was discarded on a node, but for `before`, while it did not know what it had itself signed: a name that was
    /// missing then may come back.
    pub(crate) fn discarded_unaware(&mut self, node: usize, before: &BTreeSet<Vec<u8>>) {
        for (bytes, fate) in &mut self.fates {
            fate.renewed |= fate.discarded.contains(&node) && !before.contains(bytes);
        }
    }

    /// What must be and must not be in the files of a node after everything came to rest.
    /// `settled` leaves out names that wait for a content that is nowhere; `is_late`: of such a name.
    pub(crate) fn judge(
        &self,
        node: usize,
        tree: &Tree,
        settled: &Tree,
        is_late: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), String> {
        let (there, settled) = (contents(tree), contents(settled));
        let reader = self.readers.contains(&node);
        for (bytes, fate) in &self.fates {
            let name = crate::large::text(bytes);
            let by_writers = fate.discarded.iter().any(|who| !self.readers.contains(who));
            let by_anyone = !fate.discarded.is_empty();
            if !reader && !fate.shared && there.contains(bytes) {
                return Err(format!("authority: {name} was saved without the right to write and node {node} shows it"));
            }
            if fate.unsure {
                continue;
            }
            let own = fate.saved_on.contains(&node) && !by_anyone;
            if !reader && fate.shared && !by_anyone && !there.contains(bytes) && !is_late(bytes) {
                return Err(format!("loss: {name} was saved, nobody discarded it, and node {node} does not show it"));
            }
            if reader && own && !there.contains(bytes) {
                return Err(format!("loss: the reader {node} saved {name} and it was taken away"));
            }
            let may_come_back = fate.renewed || (fate.unknown && fate.replaced);
            if !reader && by_writers && !may_come_back && settled.contains(bytes) {
                return Err(format!("resurrection: {name} was discarded and node {node} shows it again"));
            }
        }
        if let Some(stranger) = there.iter().find(|bytes| !self.knows(bytes)) {
            return Err(format!("node {node} shows bytes that nobody saved: {}", crate::large::text(stranger)));
        }
        Ok(())
    }
}

fn contents(tree: &Tree) -> BTreeSet<&Vec<u8>> {
    tree.values().filter_map(|(body, ..)| if let Body::File(bytes) = body { Some(bytes) } else { None }).collect()
}
