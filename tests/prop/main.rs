//! Properties that hold for every input, on random ones.

mod freeze;
mod policy;
mod swarm;
