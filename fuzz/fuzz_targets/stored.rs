//! Searches for bytes that break `storage::embedded::check::rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| storage::embedded::check::rows(bytes));
