//! Decisions: no async, clock, entropy, disk or socket; inputs in, outputs back.

pub mod audit;
pub mod election;
pub mod pairing;
pub mod peering;
pub mod policy;
pub mod retention;
pub mod sync;
