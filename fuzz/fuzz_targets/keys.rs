//! Searches for bytes that break `godwit::check::keys`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| godwit::check::keys(bytes));
