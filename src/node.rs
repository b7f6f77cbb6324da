//! The running node: events in, decisions by `logic`, effects by `shell`.

pub mod api;
