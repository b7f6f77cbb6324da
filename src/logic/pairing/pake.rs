//! The password-authenticated key exchange, behind a trait, so that the model check can use a symbolic one.
//!
//! Both functions are pure: a side is its secret and its seed, so a machine that holds these can be copied, hashed and
//! compared. The price is one more point multiplication an exchange.
//!
//! The crate `spake2` is not audited and not constant-time. What that could leak is a code of one guess that lives
//! ten minutes.

use std::fmt::Debug;
use std::hash::Hash;

use spake2::rand_core::{TryCryptoRng, TryRng};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use zeroize::Zeroize;

/// Which side of the exchange.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// The new machine.
    Joiner,
    /// The admin's machine.
    Inviter,
}

/// What code or ticket stands for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub [u8; 32]);

/// The key that both sides share if both had the same secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SessionKey(pub(super) [u8; 32]);

macro_rules! hidden {
    ($($name:ident),*) => {$(
        impl Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }
    )*};
}

hidden!(Secret, SessionKey);

/// A password-authenticated key exchange of one message each way.
pub trait Pake: Clone + PartialEq + Eq + Hash + Debug {
    /// The message of one side.
    fn message(side: Side, secret: &Secret, seed: &Secret) -> Vec<u8>;

    /// The shared key, given the other side's message; `None` if that is none.
    fn key(side: Side, secret: &Secret, seed: &Secret, theirs: &[u8]) -> Option<[u8; 32]>;
}

/// SPAKE2 over edwards25519.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Spake;

impl Spake {
    fn start(side: Side, secret: &Secret, seed: &Secret) -> (Spake2<Ed25519Group>, Vec<u8>) {
        let joiner = Identity::new(b"lanyard 1 joiner");
        let inviter = Identity::new(b"lanyard 1 inviter");
        let password = Password::new(secret.0);
        let numbers =
            Numbers(blake3::Hasher::new_derive_key("lanyard 1 pairing exchange").update(&seed.0).finalize_xof());
        match side {
            Side::Joiner => Spake2::start_a_with_rng(&password, &joiner, &inviter, numbers),
            Side::Inviter => Spake2::start_b_with_rng(&password, &joiner, &inviter, numbers),
        }
    }
}

impl Pake for Spake {
    fn message(side: Side, secret: &Secret, seed: &Secret) -> Vec<u8> {
        Self::start(side, secret, seed).1
    }

    fn key(side: Side, secret: &Secret, seed: &Secret, theirs: &[u8]) -> Option<[u8; 32]> {
        let (state, _) = Self::start(side, secret, seed);
        state.finish(theirs).ok()?.try_into().ok()
    }
}

/// Numbers that a secret seed of 32 random bytes stands for.
struct Numbers(blake3::OutputReader);

impl TryRng for Numbers {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(dst);
        Ok(())
    }
}

impl TryCryptoRng for Numbers {}
