//! Secret keys as files: 64 hex digits and a newline, mode 0600.

use protocol::{SecretKey, key::KeyError};
use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Reading or writing failed.
    #[error("the key file {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "the key file {path} has mode {mode:o}: others may have read the key; if none did, `chmod 600 {path}`, otherwise make a new key"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error("the key file {path}: {source}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
}

/// Reads a key file.
///
/// # Errors
/// [`KeyFileError`], also where others may read the file.
pub fn read(path: &Path) -> Result<SecretKey, KeyFileError> {
    let file = |source| KeyFileError::File { path: path.into(), source };
    let mode = fs::metadata(path).map_err(file)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.into(), mode });
    }
    let text = fs::read_to_string(path).map_err(file)?;
    SecretKey::from_hex(&text).map_err(|source| KeyFileError::Content { path: path.into(), source })
}

/// Makes a fresh key in a new file; an existing file is never overwritten.
///
/// # Errors
/// [`KeyFileError`], also where the file is there already.
pub fn create(path: &Path) -> Result<SecretKey, KeyFileError> {
    let file = |source| KeyFileError::File { path: path.into(), source };
    let key = SecretKey::generate()
        .map_err(|source| KeyFileError::Content { path: path.into(), source })?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(file)?;
    }
    let mut options = fs::OpenOptions::new();
    let mut fresh = options.write(true).create_new(true).mode(0o600).open(path).map_err(file)?;
    writeln!(fresh, "{}", key.to_hex()).and_then(|()| fresh.sync_all()).map_err(file)?;
    Ok(key)
}

/// Reads a key file, making it where there is none.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_or_create(path: &Path) -> Result<SecretKey, KeyFileError> {
    match read(path) {
        Err(KeyFileError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            create(path)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_kept_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/owner.key");
        let made = read_or_create(&path).unwrap();
        assert_eq!(read_or_create(&path).unwrap().public(), made.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(create(&path).is_err());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner.key");
        create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner.key");
        create(&path).unwrap();
        fs::write(&path, "hello").unwrap();
        assert!(matches!(read(&path), Err(KeyFileError::Content { .. })));
    }
}
