//! lanyard: the machines of a small office as one mesh that shares folders under signed rules.
//!
//! Modules are layers, bottom up; imports point down only. `docs/ARCHITECTURE.md` shows the whole house.
#![warn(unreachable_pub, clippy::disallowed_methods, clippy::unwrap_used)]

pub mod base;
pub mod cli;
pub mod logic;
pub mod node;
pub mod shell;
pub mod wire;
