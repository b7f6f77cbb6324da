//! The outside: keystore.
