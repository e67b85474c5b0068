//! Searches for bytes that break `conn::check::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| conn::check::token(bytes));
