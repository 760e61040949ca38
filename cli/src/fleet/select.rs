//! Which machine is meant: pure.

use protocol::fleet::MachineStatus;

/// It is not clear which machine is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// None of that name.
    #[error("the provisioner knows no machine {0}: `alia fleet list` shows those that it knows")]
    None(String),
    /// More than one.
    #[error("{wanted} may be {several}: name one by its MAC address")]
    Several {
        /// What was given.
        wanted: String,
        /// Which it may be.
        several: String,
    },
}

/// Whether a text is a MAC address, and its usual form.
pub fn mac(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase().replace('-', ":");
    let parts: Vec<&str> = text.split(':').collect();
    let hex = |part: &&str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    (parts.len() == 6 && parts.iter().all(hex)).then_some(text)
}

/// The MAC address of the one that is meant, among those that a search for it found: one whose name,
/// serial number, address or key it is, or the only one of which it is a part.
///
/// # Errors
/// [`Unclear`].
pub fn one(wanted: &str, found: &[MachineStatus]) -> Result<String, Unclear> {
    let is = |machine: &&MachineStatus| {
        let texts =
            [machine.serial.as_deref(), machine.address.as_deref(), machine.uuid.as_deref()];
        machine.name == wanted
            || texts.into_iter().flatten().any(|text| text == wanted)
            || machine.node.is_some_and(|node| node.to_string() == wanted)
    };
    let whole: Vec<&MachineStatus> = found.iter().filter(is).collect();
    let found = if whole.is_empty() { found.iter().collect() } else { whole };
    match found.as_slice() {
        [machine] => Ok(machine.mac.clone()),
        [] => Err(Unclear::None(wanted.into())),
        several => {
            let name = |machine: &&MachineStatus| format!("{} ({})", machine.name, machine.mac);
            let several: Vec<String> = several.iter().take(5).map(name).collect();
            Err(Unclear::Several { wanted: wanted.into(), several: several.join(" or ") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(n: u8, name: &str, serial: &str) -> MachineStatus {
        serde_json::from_value(serde_json::json!({
            "mac": format!("52:54:00:00:00:0{n}"), "name": name, "serial": serial,
            "first_seen": 0, "last_seen": 0,
        }))
        .unwrap()
    }

    #[test]
    fn a_whole_name_goes_before_a_part_of_one() {
        let found = [machine(1, "bear", "A"), machine(2, "bear-2", "B")];
        assert_eq!(one("bear", &found).unwrap(), "52:54:00:00:00:01");
        assert_eq!(one("B", &found).unwrap(), "52:54:00:00:00:02");
        assert_eq!(one("bea", &found[..1]).unwrap(), "52:54:00:00:00:01");
        assert!(one("bea", &found).unwrap_err().to_string().contains("or bear-2 (52:54"));
        assert!(matches!(one("wolf", &[]), Err(Unclear::None(_))));
    }

    #[test]
    fn mac_addresses_are_known_as_people_write_them() {
        assert_eq!(mac("52-54-00-AA-00-01").as_deref(), Some("52:54:00:aa:00:01"));
        for bad in ["52:54:00:aa:00", "52:54:00:aa:00:0g", "bear"] {
            assert_eq!(mac(bad), None, "{bad}");
        }
    }
}
