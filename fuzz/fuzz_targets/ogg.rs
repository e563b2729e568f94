//! See `greenroom::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greenroom::fuzz::run("ogg", bytes));
