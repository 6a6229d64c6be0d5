//! See `ir_hostile::data::class_names`.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| ir_hostile::data::class_names(content));
