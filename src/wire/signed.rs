//! Signed envelopes: the bytes that were signed, kept and verified raw.
//!
//! Page: `docs/spec/formats/encoding.md`. A signature covers a domain string and the envelope; the id of a
//! signed thing is a hash of the envelope alone, so that a second signature of one signer makes no second thing.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::codec::{Bytes, DecodeError};
use crate::base::NodeId;

/// Longest signed envelope: a batch header of 1,024 entry hashes and its heads fits four times. Bounds what is stored raw.
pub const SIGNED_BYTES_MAX: usize = 160 * 1024;

/// An envelope and the signature over it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Signed {
    /// The envelope.
    pub envelope: Bytes<SIGNED_BYTES_MAX>,
    /// Ed25519 signature, 64 bytes.
    pub signature: Bytes<64>,
}

/// What a signature or hash is for, so that one can never stand for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// A statement of the policy.
    Statement,
    /// A batch header.
    Batch,
}

impl Domain {
    fn signature(self) -> &'static [u8] {
        match self {
            Self::Statement => b"lanyard 1 statement signature\0",
            Self::Batch => b"lanyard 1 batch signature\0",
        }
    }

    fn hash(self) -> &'static str {
        match self {
            Self::Statement => "lanyard 1 statement id",
            Self::Batch => "lanyard 1 batch hash",
        }
    }
}

impl Signed {
    /// Signs an envelope.
    pub fn sign(domain: Domain, envelope: Vec<u8>, key: &SigningKey) -> Self {
        let signature = key.sign(&[domain.signature(), &envelope].concat());
        Self {
            envelope: Bytes::new(envelope).expect("what this node signs is within the bound"),
            signature: Bytes::new(signature.to_bytes().to_vec()).expect("64 bytes"),
        }
    }

    /// Checks the signature of `signer`; weak keys never verify.
    pub fn verify(&self, domain: Domain, what: &'static str, signer: NodeId) -> Result<(), DecodeError> {
        let bad = || DecodeError::BadSignature(what);
        let key = VerifyingKey::from_bytes(signer.as_bytes()).map_err(|_| bad())?;
        let signature: [u8; 64] = (*self.signature).try_into().map_err(|_| bad())?;
        let signed = [domain.signature(), &self.envelope].concat();
        key.verify_strict(&signed, &Signature::from_bytes(&signature)).map_err(|_| bad())
    }

    /// The id of what is signed.
    pub fn hash(&self, domain: Domain) -> [u8; 32] {
        blake3::derive_key(domain.hash(), &self.envelope)
    }
}
