//! Searches for bytes that break `proto::check::between_nodes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proto::check::between_nodes(bytes));
