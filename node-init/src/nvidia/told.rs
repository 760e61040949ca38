//! What the driver and the kernel say of cards and device files.

/// The longest name of a card that is kept.
const MAX_NAME: usize = 64;

/// A card, as /proc/driver/nvidia/gpus/ADDRESS/information describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Information {
    /// `NVIDIA H100 PCIe`.
    pub name: Option<String>,
    /// The number of its device file.
    pub minor: Option<u32>,
}

/// Reads it: `Device Minor: 0` and the like, one a line.
pub fn information(text: &str) -> Information {
    let field = |wanted: &str| {
        let value =
            |line: &str| Some(line.strip_prefix(wanted)?.strip_prefix(':')?.trim().to_owned());
        text.lines().find_map(value)
    };
    let printable = |name: String| -> String {
        name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect()
    };
    Information {
        name: field("Model").map(printable).filter(|name| !name.is_empty()),
        minor: field("Device Minor").and_then(|minor| minor.parse().ok()),
    }
}

/// The number that the kernel gave a driver of character devices, by /proc/devices.
pub fn major(devices: &str, driver: &str) -> Option<u32> {
    let characters = devices.lines().take_while(|line| !line.starts_with("Block devices"));
    let mut entries = characters.filter_map(|line| line.trim().split_once(' '));
    entries.find(|(_, name)| *name == driver)?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_card_tells_its_name_and_its_device_file() {
        // As the driver's nv_procfs_read_gpu_info writes it.
        let text = "Model: \t\t NVIDIA H100 PCIe\nIRQ:   \t\t 84\nGPU UUID: \t GPU-1\n\
                    Bus Type: \t PCIe\nDevice Minor: \t 3\nGPU Excluded:\t No\n";
        let wanted = Information { name: Some("NVIDIA H100 PCIe".into()), minor: Some(3) };
        assert_eq!(information(text), wanted);
        assert_eq!(information("Device Minor: many\n"), Information::default());
    }

    #[test]
    fn a_drivers_number_is_found_among_character_devices_alone() {
        let text = "Character devices:\n  1 mem\n195 nvidia\n511 nvidia-uvm\n\nBlock devices:\n\
                    240 nvidia-caps\n";
        assert_eq!(major(text, "nvidia-uvm"), Some(511));
        assert_eq!(major(text, "nvidia"), Some(195));
        assert_eq!(major(text, "nvidia-caps"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(Model|Device Minor|Character devices:|[0-9: \t]|\n|\\PC){0,40}") {
            let told = information(&text);
            prop_assert!(told.name.is_none_or(|name| !name.contains(char::is_control)));
            major(&text, "nvidia-uvm");
        }
    }
}
