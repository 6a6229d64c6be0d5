//! See `ir_hostile::models::model_config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| ir_hostile::models::model_config(content));
