//! See `everwire_fuzz::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| everwire_fuzz::record::run(data));
