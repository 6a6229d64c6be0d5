//! See `ir_hostile::data::parquet`.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| ir_hostile::data::parquet(content));
