//! A kernel module as Debian packs it.
#![no_main]

use image::kmod;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(module) = kmod::unpacked(bytes) {
        let _ = image::elf::modinfo(&module);
    }
});
