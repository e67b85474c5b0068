//! Searches for bytes that break `proto::check::framing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proto::check::framing(bytes));
