#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| seamless_fuzz::properties::check("unit", data));
