//! What linked members say of the coordinator, the newest word of each: one that talks without end drowns nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_channel::{Receiver, Sender};

use crate::base::NodeId;
use crate::wire::heartbeat::Heartbeat;

/// Where links put the heartbeats that they hear. Clones are one ear.
#[derive(Clone, Debug)]
pub struct Ear {
    newest: Arc<Mutex<BTreeMap<NodeId, Heartbeat>>>,
    word: Sender<()>,
    words: Receiver<()>,
}

impl Ear {
    /// An ear that heard nothing yet.
    pub fn new() -> Self {
        let (word, words) = async_channel::bounded(1);
        Self { newest: Arc::default(), word, words }
    }

    /// A member says this; what it said before and was not taken yet is replaced.
    pub fn hear(&self, from: NodeId, heartbeat: Heartbeat) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).insert(from, heartbeat);
        // A full channel says already that there is something.
        let _ = self.word.try_send(());
    }

    /// Waits until somebody said something, and takes it.
    pub async fn heard(&self) -> BTreeMap<NodeId, Heartbeat> {
        // Never closed: this holds the other end, too.
        let _ = self.words.recv().await;
        std::mem::take(&mut *self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Ear {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::rt;

    #[test]
    fn one_that_talks_without_end_leaves_room_for_the_others() {
        let ear = Ear::new();
        let says = |candidate| Heartbeat { claim: None, hears: None, candidate };
        let (loud, quiet) = (NodeId([1; 32]), NodeId([2; 32]));
        ear.hear(quiet, says(true));
        (0..10_000).for_each(|n| ear.hear(loud, says(n == 9_999)));
        let heard = rt::block_on(ear.heard());
        assert_eq!(heard, BTreeMap::from([(loud, says(true)), (quiet, says(true))]));
        ear.hear(quiet, says(false));
        assert_eq!(rt::block_on(ear.heard()).len(), 1);
    }
}
