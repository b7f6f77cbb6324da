//! Randomness from the kernel: the only file that draws it.

/// Fills `buffer` with random bytes.
///
/// Panics if the kernel has no randomness to give: no key, nonce or code could then be made safely.
pub fn fill(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("the kernel gives random bytes");
}

/// An array of random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut buffer = [0; N];
    fill(&mut buffer);
    buffer
}

/// A random number.
pub fn u64() -> u64 {
    u64::from_le_bytes(bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(bytes::<32>(), bytes::<32>());
        assert_ne!(u64(), u64());
    }
}
