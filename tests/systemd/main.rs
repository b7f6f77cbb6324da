//! The service in a booted systemd: installed by its package or by itself, used by people, killed, hung, rebooted,
//! upgraded and removed. Needs root, and says aloud where it skips; `LANYARD_BOXES=require` makes that a failure.

#![allow(clippy::disallowed_methods, reason = "tests wait for real machines by the real clock")]

mod boxes;

mod downgrade;
mod life;
mod office;
mod package;
mod plain;
mod sandbox;
mod user;
