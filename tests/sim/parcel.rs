//! A batch as it travels between machines of the office, and what a liar makes of it.

use lanyard::logic::sync::replica::{Authored, Push};
use lanyard::wire::batch::{Batch, Packed};
use lanyard::wire::codec::{self, Bytes};
use lanyard::wire::message::{Hole, HoleReason};
use lanyard::wire::signed::Signed;

use crate::rng::Rng;

/// A signed batch on its way.
#[derive(Clone, Debug)]
pub(crate) enum Sheet {
    /// As an honest node sent it. Its signature was checked often enough where it came from.
    Known(Box<Batch>),
    Raw(Signed),
}

/// A batch as it travels.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) sheet: Sheet,
    pub(crate) packed: Vec<u8>,
    pub(crate) holes: Vec<Hole>,
    /// Somebody changed it on purpose.
    pub(crate) is_lie: bool,
}

impl Parcel {
    /// A batch with all its entries.
    pub(crate) fn whole(authored: &Authored) -> Self {
        let entries = (0..).zip(authored.entries.iter().cloned()).collect();
        Self::of(&Push { batch: authored.batch.clone(), entries, holes: Vec::new() })
    }

    pub(crate) fn of(push: &Push) -> Self {
        let (sheet, packed) = (Sheet::Known(Box::new(push.batch.clone())), codec::encode(&push.pack()));
        Self { sheet, packed, holes: push.holes.clone(), is_lie: false }
    }

    /// The same as it comes over a wire: nothing about it is known.
    pub(crate) fn raw(mut self) -> Self {
        if let Sheet::Known(batch) = self.sheet {
            self.sheet = Sheet::Raw(batch.signed().clone());
        }
        self
    }

    /// What a lying member makes of it: other signed bytes, another signature, other entries, or a claim that it
    /// lacks them.
    pub(crate) fn twisted(self, rng: &mut Rng) -> Self {
        let mut parcel = self.raw();
        parcel.is_lie = true;
        let Sheet::Raw(signed) = &mut parcel.sheet else { return parcel };
        let flip = |bytes: &[u8], rng: &mut Rng| {
            let mut bytes = bytes.to_vec();
            let at = rng.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
            bytes
        };
        match rng.below(4) {
            0 => signed.envelope = Bytes::new(flip(&signed.envelope, rng)).expect("as long as before"),
            1 => signed.signature = Bytes::new(flip(&signed.signature, rng)).expect("as long as before"),
            2 => parcel.packed = flip(&parcel.packed, rng),
            _ => {
                let reason = if rng.percent(50) { HoleReason::Missing } else { HoleReason::Withheld };
                parcel.packed = codec::encode(&Packed::pack([]));
                parcel.holes = (0..64).map(|index| Hole { index, reason }).collect();
            }
        }
        parcel
    }
}
