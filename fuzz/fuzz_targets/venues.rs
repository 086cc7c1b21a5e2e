//! See `everwire_fuzz::venues`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| everwire_fuzz::venues::run(data));
