//! Writes seeds as libFuzzer reads them: `seeds FOLDER` makes `FOLDER/TARGET/NAME`.

use protocol::Digest;
use std::{fs, path::PathBuf};

fn main() -> fuzz::seeds::Anything<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("seeds FOLDER")?);
    for (target, inputs) in fuzz::seeds::all()? {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        for input in inputs {
            // Named by its content.
            fs::write(folder.join(&Digest::of_bytes(&input).to_string()[..16]), input)?;
        }
    }
    Ok(())
}
