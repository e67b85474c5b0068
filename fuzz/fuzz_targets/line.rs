//! Searches for bytes that break `godwit::check::line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| godwit::check::line(bytes));
