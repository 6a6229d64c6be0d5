//! See `run_folder` in `crates/ir-cli/src/hostile.rs`. `ir` is a program and no library, so the
//! modules that read and draw run folders are compiled in here.

#![no_main]
#![allow(dead_code, unused_imports, reason = "a program's other commands use the rest")]

#[path = "../../crates/ir-cli/src/claims/mod.rs"]
mod claims;
#[path = "../../crates/ir-cli/src/family.rs"]
mod family;
#[path = "../../crates/ir-cli/src/figures/mod.rs"]
mod figures;
#[path = "../../crates/ir-cli/src/files.rs"]
mod files;
#[path = "../../crates/ir-cli/src/group.rs"]
mod group;
#[path = "../../crates/ir-cli/src/hostile.rs"]
mod hostile;
#[path = "../../crates/ir-cli/src/run/mod.rs"]
mod run;
#[path = "../../crates/ir-cli/src/text.rs"]
mod text;

libfuzzer_sys::fuzz_target!(|content: &[u8]| hostile::run_folder(content));
