//! Which node is meant, where it is, and which key it must have: pure.

use protocol::{PublicKey, fleet::MachineStatus, node_api::NODE_API_PORT};
use std::{fmt, net::IpAddr, str::FromStr};

/// A node as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `KEY@HOST` or `KEY@HOST:PORT`: nobody has to be asked.
    At(Target),
    /// A node's key.
    Key(PublicKey),
    /// An address: who should be there, the provisioner says.
    Address(IpAddr, u16),
    /// A machine's name, its MAC address, or the beginning of a node's key.
    Name(String),
}

/// A node: where it is, and by which key it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The key that it must show.
    pub key: PublicKey,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The machine's name for people, where it is known.
    pub name: Option<String>,
}

/// It is not clear which node is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nobody to ask.
    #[error(
        "which machine {0} is, a provisioner knows: name it by --provisioner URL (or ALIA_PROVISIONER, \
         or `alia init --provisioner`), or give the node as KEY@ADDRESS"
    )]
    NoProvisioner(String),
    /// The provisioner does not answer.
    #[error("the provisioner {provisioner}: {why}; is it running, and is this its address?")]
    Provisioner {
        /// Its address.
        provisioner: String,
        /// What is wrong.
        why: String,
    },
    /// No such machine.
    #[error("the provisioner knows no machine {0}: `alia node list` shows those that it knows")]
    Unknown(String),
    /// More than one.
    #[error("{wanted} may be {several}: name one by its whole key or MAC address")]
    Several {
        /// What was given.
        wanted: String,
        /// Which it may be.
        several: String,
    },
    /// Known, but not taken in.
    #[error(
        "{0} was not taken in yet, so it has no key to be known by: `alia node list` shows its problem"
    )]
    NotTakenIn(String),
    /// Nothing to approve.
    #[error("no key of {0} waits for approval: `alia node list` shows what its machines wait for")]
    NothingWaits(String),
    /// The provisioner does not take the approval.
    #[error(
        "{name} was not approved ({why}); approve with the owner's key (--key FILE, --home DIR)"
    )]
    NotApproved {
        /// The machine.
        name: String,
        /// What the provisioner says.
        why: String,
    },
    /// Known, but nowhere.
    #[error("where {0} is, is not known: give it as KEY@ADDRESS")]
    Nowhere(String),
    /// The text is nothing of these.
    #[error("{0:?} is no node: KEY@ADDRESS has a key of 64 hex digits and a host")]
    Malformed(String),
}

impl TargetError {
    pub(super) fn several(wanted: String, machines: &[&MachineStatus]) -> Self {
        let name = |machine: &&MachineStatus| format!("{} ({})", machine.name, machine.mac);
        let several = machines.iter().take(5).map(name).collect::<Vec<_>>().join(" or ");
        Self::Several { wanted, several }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place();
        match &self.name {
            Some(name) => write!(f, "{name} ({place})"),
            None => write!(f, "{} ({place})", self.key.short()),
        }
    }
}

impl Target {
    /// Host and port.
    pub fn place(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(target) => fmt::Display::fmt(target, f),
            Self::Key(key) => fmt::Display::fmt(key, f),
            Self::Address(address, NODE_API_PORT) => fmt::Display::fmt(address, f),
            Self::Address(address, port) => write!(f, "{address} port {port}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for Wanted {
    type Err = TargetError;
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let text = text.trim();
        if let Some((key, place)) = text.split_once('@') {
            let malformed = || TargetError::Malformed(text.chars().take(100).collect());
            let key = key.parse().map_err(|_| malformed())?;
            let (host, port) = place_of(place).ok_or_else(malformed)?;
            return Ok(Self::At(Target { key, host, port, name: None }));
        }
        if let Ok(key) = text.parse() {
            return Ok(Self::Key(key));
        }
        // Not every host is an address: a word with a colon may be a MAC address.
        if let Some((host, port)) = place_of(text)
            && let Ok(address) = host.parse()
        {
            return Ok(Self::Address(address, port));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

/// `10.0.0.3`, `10.0.0.3:7443`, `fd00::3`, `[fd00::3]:7443`, `bear.example:7443`.
fn place_of(text: &str) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address.to_string(), NODE_API_PORT));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, NODE_API_PORT),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    (!host.is_empty() && host.chars().all(plain)).then(|| (host.to_owned(), port))
}

/// The least digits of a key that name it.
pub(super) const LEAST_DIGITS: usize = 6;

/// Finds the node that is wanted among a provisioner's machines.
///
/// # Errors
/// [`TargetError`].
pub fn find(wanted: &Wanted, machines: &[MachineStatus]) -> Result<Target, TargetError> {
    let text = match wanted {
        Wanted::At(target) => return Ok(target.clone()),
        other => other.to_string(),
    };
    let is = |machine: &&MachineStatus| match wanted {
        Wanted::At(_) => false,
        Wanted::Key(key) => machine.node == Some(*key),
        Wanted::Address(address, _) => {
            machine.address.as_deref().and_then(|text| text.parse().ok()) == Some(*address)
        }
        Wanted::Name(name) => machine.name == *name || machine.mac.eq_ignore_ascii_case(name),
    };
    let mut found: Vec<&MachineStatus> = machines.iter().filter(is).collect();
    if found.is_empty() && text.len() >= LEAST_DIGITS {
        let begins = |key: PublicKey| key.to_string().starts_with(&text.to_lowercase());
        found.extend(machines.iter().filter(|machine| machine.node.is_some_and(begins)));
    }
    if let Wanted::Address(..) = wanted {
        // An address that was given on: the last who had it is there now.
        found.sort_by_key(|machine| std::cmp::Reverse(machine.last_seen));
        found.truncate(1);
    }
    let machine = match found.as_slice() {
        [machine] => machine,
        [] => return Err(TargetError::Unknown(text)),
        several => {
            return Err(TargetError::several(text, several));
        }
    };
    let key = machine.node.ok_or_else(|| TargetError::NotTakenIn(machine.name.clone()))?;
    let (host, port) = match wanted {
        Wanted::Address(address, port) => (Some(address.to_string()), *port),
        _ => (machine.address.clone(), NODE_API_PORT),
    };
    let host = host.ok_or_else(|| TargetError::Nowhere(machine.name.clone()))?;
    Ok(Target { key, host, port, name: Some(machine.name.clone()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::SecretKey;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; 32]).public()
    }

    fn machine(n: u8, name: &str, node: Option<u8>) -> MachineStatus {
        serde_json::from_value(serde_json::json!({
            "mac": format!("52:54:00:00:00:0{n}"), "name": name, "node": node.map(key),
            "address": format!("10.0.0.{n}"), "first_seen": 0, "last_seen": n,
        }))
        .unwrap()
    }

    fn fleet() -> Vec<MachineStatus> {
        vec![
            machine(1, "bear", Some(1)),
            machine(2, "fox", Some(2)),
            machine(3, "fox", Some(3)),
            machine(4, "new", None),
        ]
    }

    fn found(text: &str) -> Result<Target, TargetError> {
        find(&text.parse()?, &fleet())
    }

    #[test]
    fn a_node_is_found_by_name_key_the_beginning_of_it_mac_and_address() {
        let bear =
            Target { key: key(1), host: "10.0.0.1".into(), port: 7443, name: Some("bear".into()) };
        let (whole, short) = (key(1).to_string(), key(1).short());
        for text in ["bear", &whole, &short, "52:54:00:00:00:01", "10.0.0.1", "10.0.0.1:7443"] {
            assert_eq!(found(text), Ok(bear.clone()), "{text}");
        }
        assert_eq!(found("10.0.0.1:9").unwrap().port, 9);
    }

    #[test]
    fn what_is_not_clear_is_said_with_what_to_do() {
        let told = |text: &str| found(text).unwrap_err().to_string();
        assert!(told("wolf").contains("alia node list"), "{}", told("wolf"));
        assert!(told("fox").contains("fox (52:54:00:00:00:02) or fox"), "{}", told("fox"));
        assert!(told("new").contains("not taken in"), "{}", told("new"));
        assert!(told("xyz@10.0.0.1").contains("64 hex digits"));
    }

    #[test]
    fn a_key_with_an_address_needs_nobody() {
        for (text, host, port) in [
            ("10.0.0.9", "10.0.0.9", 7443),
            ("bear.example:99", "bear.example", 99),
            ("fd00::3", "fd00::3", 7443),
            ("[fd00::3]:99", "fd00::3", 99),
        ] {
            let target = find(&format!("{}@{text}", key(7)).parse().unwrap(), &[]).unwrap();
            assert_eq!((target.key, target.host.as_str(), target.port), (key(7), host, port));
        }
        let target = Target { key: key(7), host: "fd00::3".into(), port: 1, name: None };
        assert_eq!(target.place(), "[fd00::3]:1");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([0-9a-f]{0,64}|[@:.\\[\\]]|\\PC){0,12}") {
            let _ = found(&text);
        }
    }
}
