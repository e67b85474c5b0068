//! Searches for bytes that break `proto::check::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proto::check::records(bytes));
