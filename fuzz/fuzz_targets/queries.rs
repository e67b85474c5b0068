//! Searches for bytes that break `logic::check::queries`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logic::check::queries(bytes));
