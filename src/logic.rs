//! Decisions: no async, clock, entropy, disk or socket; inputs in, outputs back.

pub mod archive;
pub mod audit;
pub mod doctor;
pub mod election;
pub mod load;
pub mod office;
pub mod pairing;
pub mod peering;
pub mod policy;
pub mod relay;
pub mod retention;
pub mod sync;
pub mod versions;
