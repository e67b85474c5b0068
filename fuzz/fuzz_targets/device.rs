//! Searches for bytes that break `client::check::device`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| client::check::device(bytes));
