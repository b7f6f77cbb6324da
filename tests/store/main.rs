//! The index database: the same answers as the index in memory, and nothing lost by damage, a full disk or a kill.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod damage;
mod equal;
mod failure;
mod office;
mod upgrade;
