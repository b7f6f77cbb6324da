//! The outside: entropy.
