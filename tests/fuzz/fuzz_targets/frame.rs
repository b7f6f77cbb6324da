//! Any bytes as the beginning of a frame.
#![no_main]

#[allow(dead_code, reason = "each target runs one of the decoders")]
#[path = "../decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::frame(bytes));
