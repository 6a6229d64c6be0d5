//! See `ir_hostile::data::binary_batch`.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| ir_hostile::data::binary_batch(content));
