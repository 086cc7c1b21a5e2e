//! See `everwire_fuzz::deflate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| everwire_fuzz::deflate::run(data));
