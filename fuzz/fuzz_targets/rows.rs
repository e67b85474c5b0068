//! Searches for bytes that break `logic::check::rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logic::check::rows(bytes));
