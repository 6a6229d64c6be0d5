//! See `ir_hostile::data::photograph`.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| ir_hostile::data::photograph(content));
