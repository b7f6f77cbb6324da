//! Any bytes as a request of the local API.
#![no_main]

#[allow(dead_code, reason = "each target runs one of the decoders")]
#[path = "../decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::api(bytes));
