//! Heartbeats of the election: who says to be coordinator, and what the sender hears of it.
//!
//! Page: `docs/spec/election.md`. A claim is signed by who makes it, so that members can pass it on and add nothing.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::codec::{self, Bytes, DecodeError};
use crate::base::{MeshId, NodeId};

/// Highest term. Every number up to here is exact in JSON; at one election a second it lasts 285 million years.
pub const TERM_MAX: u64 = (1 << 53) - 1;

const DOMAIN: &[u8] = b"lanyard 1 claim signature\0";

/// What a member tells those it is linked to. Each replaces the one before.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The newest claim that the sender follows or makes; none where there is none, or where the receiver hears it itself.
    pub claim: Option<SignedClaim>,
    /// The coordinator whose heartbeats reach the sender over a link of its own.
    pub hears: Option<Hears>,
    /// The sender would be coordinator: it is eligible and fit for it.
    pub candidate: bool,
}

/// See `Heartbeat::hears`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Hears {
    /// The coordinator.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
}

/// A node's word that it is coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Who.
    pub node: NodeId,
    /// In which term. A node makes claims of a term in one life only.
    pub term: u64,
    /// Grows with each claim of the term, so that a claim that is passed on ages.
    pub beat: u64,
    /// The node had company in this term: it has not made itself coordinator of nobody.
    pub settled: bool,
    /// What it does.
    pub state: ClaimState,
}

/// See `Claim::state`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ClaimState {
    /// It serves.
    Serves,
    /// It serves until this node does.
    Hands(NodeId),
    /// It serves no more; the last claim of its term.
    Over,
}

/// A claim with the signature of its maker.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SignedClaim {
    /// The claim.
    pub claim: Claim,
    /// Ed25519 by `claim.node`, 64 bytes; none as long as it was not signed.
    pub signature: Bytes<64>,
}

impl Claim {
    fn signed(&self, mesh: MeshId) -> Vec<u8> {
        [DOMAIN, mesh.0.as_slice(), &codec::encode(self)].concat()
    }

    /// Signs the claim for one mesh.
    pub fn sign(self, mesh: MeshId, key: &SigningKey) -> SignedClaim {
        let signature = key.sign(&self.signed(mesh)).to_bytes().to_vec();
        SignedClaim { claim: self, signature: Bytes::new(signature).expect("64 bytes") }
    }

    /// The claim before it is signed.
    pub fn unsigned(self) -> SignedClaim {
        SignedClaim { claim: self, signature: Bytes::default() }
    }
}

impl SignedClaim {
    /// Checks that the claim's node made it for this mesh; weak keys never verify.
    pub fn verify(&self, mesh: MeshId) -> Result<(), DecodeError> {
        let bad = || DecodeError::BadSignature("claim");
        let key = VerifyingKey::from_bytes(self.claim.node.as_bytes()).map_err(|_| bad())?;
        let signature: [u8; 64] = (*self.signature).try_into().map_err(|_| bad())?;
        key.verify_strict(&self.claim.signed(mesh), &Signature::from_bytes(&signature)).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_verifies_for_its_node_mesh_and_words_alone() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let node = NodeId(key.verifying_key().to_bytes());
        let claim = Claim { node, term: 3, beat: 9, settled: true, state: ClaimState::Serves };
        let mesh = MeshId([1; 32]);
        let signed = claim.sign(mesh, &key);
        assert_eq!(signed.verify(mesh), Ok(()));
        assert!(signed.verify(MeshId([2; 32])).is_err());
        for changed in [
            Claim { term: 4, ..claim },
            Claim { beat: 10, ..claim },
            Claim { settled: false, ..claim },
            Claim { state: ClaimState::Over, ..claim },
            Claim { node: NodeId([3; 32]), ..claim },
        ] {
            assert!(SignedClaim { claim: changed, ..signed.clone() }.verify(mesh).is_err(), "{changed:?}");
        }
        assert!(claim.unsigned().verify(mesh).is_err());
    }
}
