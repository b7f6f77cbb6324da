//! The outside: clock.
