//! The outside: net.
