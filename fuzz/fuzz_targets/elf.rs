//! An ELF file of a package: what it needs, a kernel module's description, and a Go program's build.
#![no_main]

use fuzz::target;
use image::{elf, golang, kmod::Module};

target!(|bytes: &[u8]| {
    if let Ok(needs) = elf::needs(bytes) {
        let names = needs.libraries.iter().chain(&needs.interpreter);
        // A name stands once in the file; entries of 16 bytes each may name it again.
        assert!(needs.libraries.len() <= bytes.len() / 16);
        assert!(names.map(String::len).max().unwrap_or_default() <= 3 * bytes.len());
    }
    if let Ok(info) = elf::modinfo(bytes) {
        let total: usize = info.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(total <= 3 * bytes.len());
        Module::new("kernel/x.ko".into(), &info).soft_names().count();
    }
    if let Ok(build) = golang::build(bytes) {
        // Each has a line of its own.
        assert!(build.modules.len() <= bytes.len());
    }
});
