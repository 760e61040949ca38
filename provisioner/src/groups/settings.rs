//! A machine's effective values, typed.

use super::Values;
use crate::{
    dhcp::settings::BootMethod,
    quirks::{Hand, Set},
};
use protocol::{boot::Scratch, network::NetworkConfig, pieces::Subnet};
use serde::{Deserialize, Serialize};

/// What holds for a machine. None and empty: what holds for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Settings {
    /// What it is called.
    pub name: Option<String>,
    /// Which image it boots.
    pub flavour: Option<String>,
    /// How it joins its network.
    pub network: Option<NetworkConfig>,
    /// Whose its nodes are.
    pub owner: Option<String>,
    /// Whose work it takes.
    pub jobs: Jobs,
    /// Room for what does not fit in its memory.
    pub scratch: Scratch,
    /// More kernel arguments.
    pub kernel_arguments: Vec<String>,
    /// Entries of the tables of quirks, strongest first.
    pub quirks: Vec<String>,
    /// How its firmware takes its boot file.
    pub boot_method: Option<BootMethod>,
    /// Whether the iPXE in its NIC's ROM is to load ours first.
    pub replace_ipxe: Option<bool>,
    /// Whether its HTTP boot takes HTTPS alone.
    pub https: Option<bool>,
    /// The most bytes of a TFTP block.
    pub blksize: Option<u16>,
    /// The most TFTP blocks before an ACK.
    pub window: Option<u16>,
    /// The most bytes a second by TFTP.
    pub rate: Option<u32>,
    /// Whether it fetches from other machines of its site, and gives to them.
    pub peers: Option<bool>,
    /// The most bytes a second that it gives.
    pub peer_rate: Option<u32>,
    /// The network that is its site.
    pub site: Option<Subnet>,
}

/// Whose work a machine takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Jobs {
    /// That of all parameter servers that are configured.
    #[default]
    All,
    /// Nobody's.
    None,
    /// That of these parameter servers.
    Servers(Vec<String>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(String),
    Servers(Vec<String>),
}

impl TryFrom<Written> for Jobs {
    type Error = &'static str;
    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Word(word) if word == "all" => Ok(Self::All),
            Written::Word(word) if word == "none" => Ok(Self::None),
            Written::Word(_) => Err("\"all\", \"none\" or a list of parameter servers is wanted"),
            Written::Servers(servers) => Ok(Self::Servers(servers)),
        }
    }
}

impl From<Jobs> for Written {
    fn from(jobs: Jobs) -> Self {
        match jobs {
            Jobs::All => Self::Word("all".into()),
            Jobs::None => Self::Word("none".into()),
            Jobs::Servers(servers) => Self::Servers(servers),
        }
    }
}

impl Jobs {
    /// The parameter servers that a machine is told, of those that all are told.
    pub fn servers(&self, all: &[String]) -> Vec<String> {
        match self {
            Self::All => all.to_vec(),
            Self::None => vec![],
            Self::Servers(servers) => servers.clone(),
        }
    }
}

impl Settings {
    /// Of values that were checked. A value that an older program took and this one does not is left
    /// out, and all others count.
    pub fn of(values: &Values) -> Self {
        let read = |values: &Values| {
            let map = values.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            serde_json::from_value::<Self>(serde_json::Value::Object(map))
        };
        read(values).unwrap_or_else(|_| {
            let alone = |(key, value): &(&String, &super::Json)| {
                read(&Values::from([((*key).clone(), (*value).clone())])).is_ok()
            };
            let good = values.iter().filter(alone).map(|(key, value)| (key.clone(), value.clone()));
            read(&good.collect()).unwrap_or_default()
        })
    }

    /// What is said of its firmware.
    pub fn hand(&self) -> Hand {
        let set = Set {
            boot_method: self.boot_method,
            replace_ipxe: self.replace_ipxe,
            https: self.https,
            blksize: self.blksize,
            window: self.window,
            rate: self.rate,
            ..Set::default()
        };
        Hand { set, names: self.quirks.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_become_typed_and_one_that_cannot_be_read_takes_no_other_with_it() {
        let values: Values = [
            ("window".to_string(), json!(2)),
            ("jobs".to_string(), json!(["http://10.0.0.1:7000"])),
            ("scratch".to_string(), json!({ "erase": "nvme-A_1" })),
        ]
        .into();
        let settings = Settings::of(&values);
        assert_eq!(settings.hand().set.window, Some(2));
        assert_eq!(settings.scratch, Scratch::Erase("nvme-A_1".into()));
        let all = vec!["http://10.0.0.9:7000".to_string()];
        assert_eq!(settings.jobs.servers(&all), ["http://10.0.0.1:7000"]);
        assert_eq!(Jobs::All.servers(&all), all);
        assert!(Jobs::None.servers(&all).is_empty());
        let mut odd = values;
        odd.insert("rate".into(), json!("fast"));
        assert_eq!(Settings::of(&odd), settings);
    }
}
