//! Searches for bytes that break `logic::check::stages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logic::check::stages(bytes));
