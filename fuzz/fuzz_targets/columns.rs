//! Searches for bytes that break `storage::cql::check::columns`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| storage::cql::check::columns(bytes));
