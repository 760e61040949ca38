//! A medium's files apart, for the EFI System Partition of a disk that is there: a machine without a
//! stick. They stand in one folder there; firmware starts [`STARTED`].

use super::{MediumError, create};
use fatfs::{FileSystem, FsOptions};
use gpt::{GptConfig, disk::LogicalBlockSize, partition_types::EFI};
use protocol::medium::{Record, fill};
use std::{
    fs,
    io::{self, Cursor, Read},
    path::Path,
};

/// What firmware starts.
pub const STARTED: &str = "BOOTX64.EFI";
/// Where a medium has them.
const FOLDER: &str = "EFI/BOOT";
/// A medium has five, and one folder of them.
const MOST: usize = 16;

/// A file: its path below the folder, and its content.
pub type File = (String, Vec<u8>);

/// The files of a medium, as they are in it.
///
/// # Errors
/// Where the medium has none: another version of us made it.
pub fn files(medium: &mut [u8]) -> Result<Vec<File>, MediumError> {
    let unread = |error: &dyn std::fmt::Display| MediumError::NoFiles(error.to_string());
    let config = GptConfig::new().logical_block_size(LogicalBlockSize::Lb512);
    let table =
        config.open_from_device(Cursor::new(&mut *medium)).map_err(|error| unread(&error))?;
    let system = table.partitions().values().find(|partition| partition.part_type_guid == EFI);
    let system = system.ok_or_else(|| unread(&"it has no EFI System Partition"))?;
    let block = |number: u64| usize::try_from(number.saturating_mul(512)).unwrap_or(usize::MAX);
    let range = block(system.first_lba)..block(system.last_lba.saturating_add(1));
    drop(table);
    let volume = medium.get_mut(range).ok_or_else(|| unread(&"its partition ends behind it"))?;
    let longest = volume.len() as u64;
    let read = || -> io::Result<Vec<File>> {
        let system = FileSystem::new(Cursor::new(volume), FsOptions::new())?;
        let folder = system.root_dir().open_dir(FOLDER)?;
        let mut files = Vec::new();
        let mut folders = vec![(String::new(), folder)];
        // One below the other, and no deeper.
        while let Some((above, folder)) = folders.pop() {
            for entry in folder.iter() {
                let entry = entry?;
                let name = entry.file_name();
                if [".", ".."].contains(&name.as_str()) {
                    continue;
                }
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                if !name.chars().all(plain) || files.len() + folders.len() >= MOST {
                    return Err(io::Error::other("its files are not what a medium has"));
                }
                if entry.is_dir() && above.is_empty() {
                    folders.push((format!("{name}/"), entry.to_dir()));
                } else if entry.is_file() {
                    let mut content = Vec::new();
                    entry.to_file().take(longest).read_to_end(&mut content)?;
                    files.push((format!("{above}{name}"), content));
                }
            }
        }
        Ok(files)
    };
    let files = read().map_err(|error| unread(&error))?;
    match files.iter().any(|(name, _)| name.eq_ignore_ascii_case(STARTED)) {
        true => Ok(files),
        false => Err(unread(&"it has nothing that firmware starts")),
    }
}

/// Makes a medium an owner's and writes its files to a folder: the token's secret is in one of them.
/// Nothing that is there is overwritten.
///
/// # Errors
/// [`MediumError`].
pub fn write(folder: &Path, mut medium: Vec<u8>, record: &Record) -> Result<(), MediumError> {
    fill(&mut medium, record)?;
    let files = files(&mut medium)?;
    let there = files.iter().map(|(name, _)| folder.join(name)).find(|path| path.exists());
    if let Some(path) = there {
        return Err(MediumError::File(path, io::ErrorKind::AlreadyExists.into()));
    }
    for (name, content) in files {
        let path = folder.join(name);
        let above = path.parent().map_or(Ok(()), fs::create_dir_all);
        above.map_err(|error| MediumError::File(path.clone(), error))?;
        create(&path, &content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::stick;
    use protocol::{
        SecretKey,
        medium::{Grant, Granted, blank},
    };

    fn medium() -> Vec<u8> {
        let record = "EFI/BOOT/BOOTX64.EFI.extra.d/alia-medium.cred";
        let files: [(&str, &[u8]); 2] = [(stick::STARTED, &[7; 70_001]), (record, &blank())];
        stick::build_small(&files).unwrap()
    }

    fn record() -> Record {
        let key = |seed: u8| SecretKey::from_seed([seed; 32]);
        let (token, provisioner) = (key(2).public(), key(4).public());
        let grant = Grant { token, provisioner, issued: 1, expires: 2 };
        let granted = Granted::sign(&"alia-test".parse().unwrap(), grant, &key(1));
        Record { token: key(2), granted }
    }

    #[test]
    fn a_folder_has_what_the_medium_has_and_the_owners_record_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("aliaos");
        write(&target, medium(), &record()).unwrap();
        assert_eq!(fs::read(target.join(STARTED)).unwrap(), [7; 70_001]);
        let written = fs::read(target.join("BOOTX64.EFI.extra.d/alia-medium.cred")).unwrap();
        assert!(written.starts_with(&record().to_bytes().unwrap()));
        let again = write(&target, medium(), &record()).unwrap_err();
        assert!(matches!(again, MediumError::File(..)), "{again}");
    }

    #[test]
    fn what_has_no_such_files_is_told_and_never_panics() {
        let mut empty = stick::build_small(&[("a", b"b")]).unwrap();
        for mut bytes in [vec![], vec![0; 4096], medium()[..1 << 20].to_vec()] {
            assert!(matches!(files(&mut bytes), Err(MediumError::NoFiles(_))));
        }
        assert!(files(&mut empty).is_err());
        let whole = medium();
        for at in (512..(1 << 20) + 90_000).step_by(997) {
            let mut altered = whole.clone();
            altered[at] ^= 0x55;
            let _ = files(&mut altered);
        }
    }
}
