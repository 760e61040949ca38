//! Where things are in the project's folder.

use std::path::{Path, PathBuf};

/// The project's folder.
pub fn root() -> PathBuf {
    // xtask is run where it was built: its manifest is one folder below the root.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Packages, tools and compressed parts that outlive `cargo clean`.
pub fn cache() -> PathBuf {
    std::env::var_os("ALIA_CACHE").map_or_else(|| root().join(".cache"), PathBuf::from)
}

/// The user's own keys, which no checkout and no cache holds.
pub fn keys() -> PathBuf {
    std::env::var_os("ALIA_KEYS").map_or_else(|| root().join("keys"), PathBuf::from)
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A program built by [`crate::build::programs`].
pub fn program(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// node-init as images take it.
pub fn init() -> PathBuf {
    target().join("x86_64-unknown-linux-gnu/init/node-init")
}

/// The folder of the image built last.
pub fn image() -> PathBuf {
    target().join("image")
}
