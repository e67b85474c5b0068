//! Searches for bytes that break `client::check::journal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| client::check::journal(bytes));
