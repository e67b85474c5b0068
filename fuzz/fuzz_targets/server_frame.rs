//! Searches for bytes that break `proto::check::server_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proto::check::server_frame(bytes));
