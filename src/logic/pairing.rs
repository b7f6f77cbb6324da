//! Pairing: a new machine and an admin's machine that share a short code make the one a member of the other's mesh.
//!
//! 1. Both run SPAKE2 over the code, inside TLS with throwaway keys on the inviter's side.
//! 2. Every MAC covers the transcript: TLS channel binding, invitation number, joiner's id, both SPAKE2 messages. A man
//!    in the middle ends two channels with two bindings, so no MAC fits on the other side.
//! 3. The joiner proves first that it knows the code. One wrong proof and the invitation is void: one guess.
//! 4. Only then the inviter says who it is, admits the joiner, and proves that it knew the code too; its MAC covers both
//!    node ids and the whole admission.
//! 5. An invitation is good for one admission. A joiner that crashes after it is a member already; inviting it again
//!    signs only what is missing.
//!
//! Both machines are pure: seeds and times come in, messages go out. `tests/model` checks these very machines.
//!
//! Page: `docs/spec/pairing.md`. Source: RFC 9382 (SPAKE2) for the shape; key confirmation is our own, by BLAKE3.

mod inviter;
mod joiner;
mod pake;

pub use inviter::{
    ATTEMPTS_MAX, Admitting, INVITATION_MS_DEFAULT, Invitation, InvitationState, Inviter, InviterOutput,
};
pub use joiner::{JoinError, Joined, Joiner, JoinerOutput, JoinerStart, admission_statements, check_admission};
pub use pake::{Pake, Secret, Side, Spake};

use crate::base::NodeId;
use crate::wire::codec;
use crate::wire::pairing::Admission;
use pake::SessionKey;

/// Keying material that TLS exports: names one channel, and no two channels share it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Binding(pub [u8; 32]);

/// What both sides must have seen alike.
#[derive(Clone, Copy)]
struct Transcript<'a> {
    binding: Binding,
    number: u16,
    joiner: NodeId,
    from_joiner: &'a [u8],
    from_inviter: &'a [u8],
}

impl Transcript<'_> {
    fn hash(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_derive_key("lanyard 1 pairing transcript");
        hash.update(&self.binding.0);
        hash.update(&self.number.to_be_bytes());
        hash.update(self.joiner.as_bytes());
        for message in [self.from_joiner, self.from_inviter] {
            let length = u64::try_from(message.len()).expect("a length fits");
            hash.update(&length.to_be_bytes());
            hash.update(message);
        }
        *hash.finalize().as_bytes()
    }
}

/// The joiner's key confirmation. Compared as a hash, which takes the same time for every wrong one.
fn joiner_mac(key: &SessionKey, transcript: &[u8; 32], name: &str) -> blake3::Hash {
    let key = blake3::derive_key("lanyard 1 pairing joiner", &key.0);
    blake3::keyed_hash(&key, &[transcript, name.as_bytes()].concat())
}

/// The inviter's key confirmation, over the admission with its MAC field zero, and so over the inviter's id.
fn inviter_mac(key: &SessionKey, transcript: &[u8; 32], admission: &Admission) -> blake3::Hash {
    let key = blake3::derive_key("lanyard 1 pairing inviter", &key.0);
    let body = Admission { mac: [0; 32], ..admission.clone() };
    blake3::keyed_hash(&key, &[transcript.as_slice(), &codec::encode(&body)].concat())
}

#[cfg(test)]
mod tests;
