//! Searches for bytes that break `conn::check::link`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| conn::check::link(bytes));
