//! Any bytes as the word of two ends without a common version.
#![no_main]

#[allow(dead_code, reason = "each target runs one of the decoders")]
#[path = "../decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::versions(bytes));
