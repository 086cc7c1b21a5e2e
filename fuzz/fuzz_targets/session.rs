//! See `everwire_fuzz::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| everwire_fuzz::session::run(data));
