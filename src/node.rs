//! The running node: events in, decisions by `logic`, effects by `shell`.

pub mod api;
pub mod config;
pub mod places;

use crate::wire::api::Failure;

/// Runs a node until it is told to end.
pub fn run(_options: config::Options) -> Result<(), Failure> {
    Err(Failure::failed("this build has no node"))
}
