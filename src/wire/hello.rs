//! The first bytes of a connection, before TLS: proof that the dialler knows the mesh's discovery key.
//!
//! Page: `docs/spec/links.md`. The listener sends a fresh nonce of 32 bytes; the dialler answers with a nonce
//! of its own and a MAC over both. All of it looks like random bytes, and a recorded answer fits no later nonce.

use crate::base::DiscoveryKey;

/// Bytes that the listener sends first.
pub const CHALLENGE_BYTES: usize = 32;
/// Bytes of the dialler's answer: nonce, MAC.
pub const ANSWER_BYTES: usize = 64;

/// Label of the keying material that binds pairing to its TLS channel.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-lanyard-1-pairing";

/// The answer of a member.
pub fn answer(key: &DiscoveryKey, challenge: &[u8; CHALLENGE_BYTES], nonce: &[u8; 32]) -> [u8; ANSWER_BYTES] {
    let mut bytes = [0; ANSWER_BYTES];
    bytes[..32].copy_from_slice(nonce);
    bytes[32..].copy_from_slice(mac(key, challenge, nonce).as_bytes());
    bytes
}

/// Whether an answer proves knowledge of `key`. Takes the same time for every wrong answer.
pub fn proves(key: &DiscoveryKey, challenge: &[u8; CHALLENGE_BYTES], answer: &[u8; ANSWER_BYTES]) -> bool {
    let nonce: [u8; 32] = answer[..32].try_into().expect("32 of 64 bytes");
    let sent: [u8; 32] = answer[32..].try_into().expect("32 of 64 bytes");
    mac(key, challenge, &nonce) == blake3::Hash::from_bytes(sent)
}

fn mac(key: &DiscoveryKey, challenge: &[u8; CHALLENGE_BYTES], nonce: &[u8; 32]) -> blake3::Hash {
    let key = blake3::derive_key("lanyard 1 dial proof", &key.0);
    blake3::keyed_hash(&key, &[challenge.as_slice(), nonce].concat())
}

/// The tag by which members recognise an announcement: a MAC over its random instance name, 16 bytes.
pub fn tag(key: &DiscoveryKey, instance: &str) -> [u8; 16] {
    let key = blake3::derive_key("lanyard 1 announcement tag", &key.0);
    let mac = blake3::keyed_hash(&key, instance.as_bytes());
    mac.as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_fits_its_key_and_its_challenge_only() {
        let key = DiscoveryKey([1; 32]);
        let recorded = answer(&key, &[2; 32], &[3; 32]);
        assert!(proves(&key, &[2; 32], &recorded));
        assert!(!proves(&key, &[9; 32], &recorded));
        assert!(!proves(&DiscoveryKey([9; 32]), &[2; 32], &recorded));
    }
}
