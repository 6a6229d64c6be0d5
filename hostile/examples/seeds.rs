//! Writes the seed corpus of every fuzz target into a folder, one folder a target.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let out = std::env::args_os().nth(1).unwrap_or("fuzz/corpus".into());
    for (name, _) in ir_hostile::TARGETS {
        let folder = Path::new(&out).join(name);
        std::fs::create_dir_all(&folder)?;
        for (index, seed) in ir_hostile::seeds::of(name).into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}
