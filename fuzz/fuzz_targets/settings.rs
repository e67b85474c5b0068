//! Searches for bytes that break `godwit::check::settings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| godwit::check::settings(bytes));
