//! What is read of /sys, whose texts are devices' own: read with care.

use crate::kernel::Kernel;
use std::path::{Path, PathBuf};

/// The longest string that is kept, in characters: SMBIOS strings are rarely above 64.
const MAX_STRING: usize = 128;

/// The devices of a folder, by name and place.
pub(super) fn devices(
    kernel: &dyn Kernel,
    folder: &str,
) -> impl Iterator<Item = (String, PathBuf)> {
    let folder = PathBuf::from(folder);
    let entries = kernel.list(&folder).unwrap_or_default();
    entries.into_iter().map(move |entry| (entry.name.clone(), folder.join(entry.name)))
}

/// The name of a device's driver.
pub(super) fn driver(kernel: &dyn Kernel, device: &Path) -> Option<String> {
    kernel.link_name(&device.join("driver")).ok().map(|name| string(&name))
}

/// A number as /sys writes it: `0x8086`.
pub(super) fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// A foreign string: cut, one line, no control characters.
pub(super) fn string(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.chars().map(printable).take(MAX_STRING).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn foreign_strings_are_cut_and_have_no_control_characters(bytes: Vec<u8>) {
            let foreign = String::from_utf8_lossy(&bytes);
            hex(&foreign);
            let text = string(&foreign.repeat(3));
            prop_assert!(text.chars().count() <= MAX_STRING);
            prop_assert!(!text.chars().any(char::is_control));
        }
    }
}
