//! Whether the image's driver drives a card, and why not.
//!
//! Cards are told by their PCI device id. The lists are the distribution's, put into the image when
//! it was built ([`protocol::nvidia::Driver`]); a card that no list has is newer than the driver, or
//! never was for computing.

use protocol::nvidia::Driver;

/// Turing's first id: NVIDIA's open modules drive nothing older, whose cards have no processor of
/// their own to run the driver (GSP). The last of Volta's is 1df6, the first of Turing's 1e02.
const TURING: u16 = 0x1e00;

/// Whether the driver drives the card of this device id.
///
/// # Errors
/// Why not, in a sentence for people.
pub fn decide(driver: &Driver, device: u16) -> Result<(), String> {
    let version = &driver.version;
    let listed =
        |branch: &u16| driver.branches.get(branch).is_some_and(|ids| ids.contains(&device));
    if driver.branch().is_some_and(|ours| listed(&ours)) {
        return match device >= TURING {
            true => Ok(()),
            false => Err(format!(
                "it is older than Turing, with which the open modules of driver {version} begin"
            )),
        };
    }
    if let Some(branch) = driver.branches.keys().rev().find(|branch| listed(branch)) {
        return Err(format!(
            "NVIDIA's branch {branch} is the last that drives it; this image has {version}"
        ));
    }
    let newest = driver.branches.values().flatten().max();
    match newest.is_none_or(|newest| device > *newest) {
        true => Err(format!("it is newer than driver {version}, which does not know it")),
        false => Err(format!("driver {version} does not list it")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn driver() -> Driver {
        Driver {
            version: "550.163.01".into(),
            modules: vec!["nvidia".into(), "nvidia_uvm".into()],
            lacks: String::new(),
            branches: [
                (340, vec![0x0405]),
                (390, vec![0x0fc0]),
                (535, vec![0x1db6, 0x1e02, 0x2684]),
                (550, vec![0x1db6, 0x1e02, 0x2684, 0x28f8]),
            ]
            .into(),
        }
    }

    #[test]
    fn cards_from_turing_to_the_newest_that_the_driver_lists_are_driven() {
        // TU102, AD102, and the last of the list.
        for device in [0x1e02, 0x2684, 0x28f8] {
            assert_eq!(decide(&driver(), device), Ok(()), "{device:04x}");
        }
    }

    #[test]
    fn older_and_newer_cards_and_those_of_no_list_are_left_each_for_its_reason() {
        let why = |device| decide(&driver(), device).unwrap_err();
        assert!(why(0x1db6).contains("older than Turing"));
        assert!(why(0x0fc0).contains("branch 390 is the last"));
        assert!(why(0x0405).contains("branch 340 is the last"));
        assert!(why(0x2900).contains("newer than driver 550.163.01"));
        assert!(why(0x2000).contains("does not list it"));
    }

    #[test]
    fn an_image_whose_driver_says_nothing_drives_nothing() {
        let empty = Driver::default();
        assert!(decide(&empty, 0x2684).is_err());
        let none = Driver { version: "nonsense".into(), ..driver() };
        assert!(decide(&none, 0x28f8).unwrap_err().contains("branch 550"));
    }
}
