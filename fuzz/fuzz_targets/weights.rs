//! See `ir_hostile::models::weights`.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| ir_hostile::models::weights(content));
