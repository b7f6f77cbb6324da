//! Faults: the real binary, killed at system calls, on disks that fill, fail and lose power, with clocks that jump and cables
//! that are pulled. After each: whole files only, both sides the same again, nothing lost.
//!
//! The lab and the nodes are those of `tests/e2e`. The default run is short; `LANYARD_KILLS`, `LANYARD_CHAOS_S`,
//! `LANYARD_CUTS` and `LANYARD_LOCKS` make it longer, `LANYARD_SEED` repeats a run. What needs root or a tool that is missing says SKIPPED.

#![allow(clippy::disallowed_methods, reason = "tests wait for real processes by the real clock")]

#[path = "../e2e/lab.rs"]
#[allow(dead_code, reason = "shared with tests/e2e, which uses all of it")]
mod lab;
#[path = "../e2e/node.rs"]
#[allow(dead_code, reason = "shared with tests/e2e, which uses all of it")]
mod node;
#[path = "../e2e/tree.rs"]
#[allow(dead_code, reason = "shared with tests/e2e, which uses all of it")]
mod tree;

mod office;

mod chaos;
mod clock;
mod disk;
mod kill;
mod locks;
mod power;
mod saving;
mod slow_disk;
mod watch;
