//! The running node: events in, decisions by `logic`, effects by `shell`.

pub mod api;
pub mod config;
pub mod places;
