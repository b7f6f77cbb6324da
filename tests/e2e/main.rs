//! End-to-end tests: the real binary, one network namespace a node, real multicast, no root needed.
//!
//! Each module is one promise of the product, driven through the command line's contract alone. Nothing here asserts on
//! wall-clock speed (that is `benches/office.rs`); the bounds are those after which something is broken, not slow.
//! Where the kernel permits no namespaces the tests say so aloud and pass; `LANYARD_LAB=require` makes that a failure.

#![allow(clippy::disallowed_methods, reason = "tests wait for real processes by the real clock")]

mod lab;
#[allow(dead_code, reason = "shared with tests/faults, which uses the rest")]
mod node;
mod tree;

mod archive;
mod attributes;
mod awkward;
mod backup;
mod bad_input;
mod browse;
mod confined;
mod conflicts;
mod coordinator;
mod crash;
mod demo;
mod discovery;
mod doctor;
mod follow;
mod guard;
mod harness;
mod home;
mod hostile;
mod ignore;
mod mixed;
mod network;
mod office;
mod partition;
mod parts;
mod relay;
mod rules;
mod service;
mod states;
mod strangers;
mod swarm;
mod transfer;
mod versions;
