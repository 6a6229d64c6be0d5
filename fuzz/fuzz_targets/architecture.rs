//! See `ir_hostile::models::architecture`.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| ir_hostile::models::architecture(content));
