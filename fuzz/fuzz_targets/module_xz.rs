//! A kernel module as Debian packs it.
#![no_main]

use fuzz::target;
use image::kmod;

target!(|bytes: &[u8]| {
    if let Ok(module) = kmod::unpacked(bytes) {
        let _ = image::elf::modinfo(&module);
    }
});
