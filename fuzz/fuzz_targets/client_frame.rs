//! Searches for bytes that break `proto::check::client_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proto::check::client_frame(bytes));
