//! See `ir_hostile::data::image`.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| ir_hostile::data::image(content));
