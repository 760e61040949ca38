//! What a node boots, and the distribution packages that it is made of.
//!
//! - [`packages`] fetches distribution packages of a chosen suite by name, through apt and with
//!   its signature checks, into a cache; it installs nothing and leaves the host's package
//!   sources as they are.
//! - [`build`] makes the image: kernel, a zstd-compressed initramfs, the root that it mounts, and
//!   the manifest that the provisioner serves. [`recipe::Recipe`] (`image.toml`) says what goes in.
//! - [`nvidia`] builds NVIDIA's open modules for a kernel from source.
//! - [`buildroot`] takes what Buildroot built instead, with [`toolchain`] as its compiler.
//! - [`root`] makes the root: EROFS with its hash tree; by [`tools`] unpacked, not installed.
//!
//! The same inputs give the same bytes, whoever builds, where, and when: paths are sorted, times,
//! owners and inode numbers fixed, libraries taken from packages rather than from the host.
//!
//! **Never** hides a byte's origin: every file of an image is a package's (name, version and
//! SHA-256 are in the report), one of the programs given, the root of the owner's keys, or made here
//! from those; [`sbom`] names the origin of each. Never
//! installs a package, and never takes one that apt did not find signed.

pub mod bios;
pub mod build;
pub mod buildroot;
pub mod cpio;
pub mod drivers;
mod el_torito;
pub mod elf;
pub mod error;
pub mod firmware;
pub mod golang;
pub mod kernel;
pub mod kmod;
pub mod licences;
pub mod medium;
pub mod microcode;
pub mod nvidia;
pub mod packages;
pub mod picture;
pub mod recipe;
pub mod report;
pub mod root;
pub mod sbom;
pub mod secure_boot;
pub mod stick;
pub mod toolchain;
pub mod tools;
pub mod uki;

pub use build::{Build, Inputs};
pub use error::Error;
pub use packages::{Package, Packages};
pub use recipe::Recipe;
