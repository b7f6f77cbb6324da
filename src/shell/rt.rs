//! The outside: rt.
