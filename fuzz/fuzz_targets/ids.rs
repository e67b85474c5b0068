//! Searches for bytes that break `proto::check::ids`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proto::check::ids(bytes));
