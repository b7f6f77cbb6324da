//! The outside: disk.
