//! See `ir_hostile::data::hub_reference`.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| ir_hostile::data::hub_reference(content));
