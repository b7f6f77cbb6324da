//! Bytes a second over one bulk link on loopback, both ends in this process, as chunks of 256 KiB.
fn main() {}
