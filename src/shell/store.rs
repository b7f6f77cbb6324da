//! The outside: store.
