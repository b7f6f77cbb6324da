//! Effects: one file per outside thing, each thin, none of them deciding.
#![allow(clippy::disallowed_methods, reason = "the shell is where time and chance come from; see .clippy.toml")]

#[cfg(feature = "archive")]
pub mod archive;
pub mod clock;
pub mod confine;
pub mod disk;
pub mod entropy;
pub mod home;
pub mod keystore;
pub mod lines;
pub mod net;
pub mod rt;
pub mod store;
pub mod systemd;
pub mod users;
