//! Configuration: flags, and one TOML file whose keys are the flags' names. A flag outweighs the
//! file.

use crate::{
    dhcp::{
        pool::Pool,
        settings::{BootMethod, HttpBoot, Mode},
    },
    dhcp6::pool::Pool6,
    groups::{Values, reader::is_name},
    machine::Mac,
    quirks::{Hand, Set},
    store::Place,
};
use clap::{Args, CommandFactory, Parser, ValueEnum};
use protocol::{
    ChainId,
    boot::{MAX_TIME_SERVERS, Scratch},
    network::NetworkConfig,
    node_api::{MAX_OPERATORS, Operator},
};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    collections::BTreeMap,
    fmt::Display,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    str::FromStr,
};

/// How `provisioner serve` is told what to do.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// A TOML file with any of these options as keys (without the dashes), and a table
    /// [machine."52:54:00:12:34:56"] for each machine that needs its own name, quirks (names from
    /// the table, docs/quirks.md), boot-method ("file", or "boot-server" where firmware insists on
    /// port 4011), replace-ipxe (true where the iPXE in its NIC's ROM does not do), https, blksize,
    /// window or rate (of TFTP, at most), network (how it joins its network, docs/hardware.md) or
    /// scratch ("memory", "disk", or {erase = "ID of the disk"})
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// The interface to serve; needed where the host has more than one. DHCP and TFTP answer
    /// there and nowhere else
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub interface: Option<String>,
    /// Our address on it, where it has several
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub address: Option<Ipv4Addr>,
    /// full: we are the network's only DHCP server. proxy: another one gives the addresses (a
    /// router at home), we only say what to boot. off: machines find us by other means
    #[arg(long, value_enum, value_name = "PART", help_heading = "Network")]
    pub dhcp: Option<Part>,
    /// Addresses to give out in full mode [default: the upper half of the network]. With the prefix
    /// of a network that is not ours (10.1.0.100-10.1.0.199/24) they are for the machines behind a
    /// relay there, and for those alone
    #[arg(long, value_name = "FIRST-LAST[/PREFIX]", help_heading = "Network")]
    #[serde(deserialize_with = "as_text")]
    pub pool: Option<Pool>,
    /// The way out of the network, told in full mode
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub router: Vec<Ipv4Addr>,
    /// DNS servers, told in full mode
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub dns: Vec<Ipv4Addr>,
    /// full: we are the network's only DHCPv6 server, and send router advertisements where nobody
    /// else does. off: machines boot by IPv4. Never full unless you say so, whatever addresses this
    /// host has: where there is IPv6 there mostly is a router that gives addresses, and a second
    /// server on its network would be obeyed too. (A proxy beside another server there is not in
    /// DHCPv6.) [default: off]
    #[arg(long, value_enum, value_name = "PART", help_heading = "Network")]
    pub dhcp6: Option<Part6>,
    /// Our IPv6 address on the interface, where it has several; TFTP, scripts, page and API are
    /// there too, without DHCPv6 as well [default with --dhcp6 full: a global or unique local one]
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub address6: Option<Ipv6Addr>,
    /// IPv6 addresses to give out: on our own link, or on another one that a relay is on [default:
    /// ::1:0 to ::1:ffff of our network]
    #[arg(long, value_name = "FIRST-LAST", help_heading = "Network")]
    #[serde(deserialize_with = "as_text")]
    pub pool6: Option<Pool6>,
    /// DNS servers, told by DHCPv6 and router advertisements
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub dns6: Vec<Ipv6Addr>,
    /// This host is the way out of the network by IPv6: our router advertisements say so
    #[arg(long, help_heading = "Network")]
    pub router6: bool,
    /// How long a lease lasts [default: 3600]
    #[arg(long, value_name = "SECONDS", help_heading = "Network",
          value_parser = clap::value_parser!(u32).range(120..))]
    pub lease_seconds: Option<u32>,
    /// Port for boot scripts, images, page and API [default: 8080]
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub http_port: Option<u16>,
    /// Port for the same by TLS [default: 8443]
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub https_port: Option<u16>,
    /// Port for TFTP; firmware knows only 69 [default: 69]
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub tftp_port: Option<u16>,

    /// A host name of ours, for our certificate
    #[arg(long, value_name = "HOST", help_heading = "TLS")]
    pub name: Vec<String>,
    /// The folder of our own CA, made at the first start; all front-ends of one fleet have the same
    /// [default: beside the database]
    #[arg(long, value_name = "FOLDER", help_heading = "TLS")]
    pub tls: Option<PathBuf>,
    /// A certificate to show instead of our own CA's: a chain as PEM, ours first. Read again when
    /// it changes
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_certificate: Option<PathBuf>,
    /// Its key, as PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_key: Option<PathBuf>,

    /// What UEFI HTTP boot is told to fetch by: https needs our CA in firmware (`provisioner ca`)
    /// [default: http]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "What is booted")]
    pub http_boot: Option<HttpBoot>,
    /// The image to boot: a folder with manifest.json
    #[arg(long, value_name = "FOLDER", help_heading = "What is booted")]
    pub image: Option<PathBuf>,
    /// Another image to boot, for machines whose configuration has this flavour
    /// (docs/configuration.md)
    #[arg(long, value_name = "NAME=FOLDER", help_heading = "What is booted")]
    #[serde(deserialize_with = "as_texts")]
    pub flavour: Vec<Flavour>,
    /// The folder of iPXE's files (Debian's package ipxe has them in /usr/lib/ipxe)
    #[arg(long, value_name = "FOLDER", help_heading = "What is booted")]
    pub ipxe: Option<PathBuf>,
    /// iPXE for BIOS in that folder [default: undionly.kpxe]
    #[arg(long, value_name = "NAME", help_heading = "What is booted")]
    pub bios_file: Option<String>,
    /// iPXE for UEFI in that folder [default: snponly.efi]
    #[arg(long, value_name = "NAME", help_heading = "What is booted")]
    pub uefi_file: Option<String>,
    /// A signed unified kernel image, as `cargo xtask uki` makes it: UEFI firmware gets it instead
    /// of iPXE, and verifies it where Secure Boot is on
    #[arg(long, value_name = "FILE", help_heading = "What is booted")]
    pub uki: Option<PathBuf>,
    /// The medium for miners at home, as `cargo xtask medium` makes it: opens /miners to strangers,
    /// who register addresses of theirs and get it (docs/home.md)
    #[arg(long, value_name = "FILE", help_heading = "What is booted")]
    pub medium: Option<PathBuf>,
    /// What kinds of firmware need, in a TOML file of the built-in table's form (docs/quirks.md),
    /// which it outweighs
    #[arg(long, value_name = "FILE", help_heading = "What is booted")]
    pub quirks: Option<PathBuf>,
    /// Kernel consoles; the last is where node-init writes [default: tty1 ttyS0,115200]
    #[arg(long, value_name = "CONSOLE", help_heading = "What is booted")]
    pub console: Vec<String>,
    /// More kernel arguments
    #[arg(
        long,
        value_name = "ARGUMENT",
        help_heading = "What is booted",
        allow_hyphen_values = true
    )]
    pub kernel_argument: Vec<String>,

    /// The database: a file of SQLite, made where it is not there, or postgresql://USER@HOST/NAME,
    /// which several front-ends share (a password goes into PGPASSWORD) [default: provisioner.sqlite]
    #[arg(long, value_name = "FILE or URL", help_heading = "Taking machines in")]
    #[serde(deserialize_with = "as_text")]
    pub database: Option<Place>,
    /// The authority that a PostgreSQL on another host is known by, as PEM [default: those that this
    /// host trusts]
    #[arg(long, value_name = "FILE", help_heading = "Taking machines in")]
    pub database_ca: Option<PathBuf>,
    /// Our secret key, as `provisioner key` makes it; machines pin its public half
    #[arg(long, value_name = "FILE", help_heading = "Taking machines in")]
    pub key: Option<PathBuf>,
    /// The owner's signed delegation to our key, as JSON
    #[arg(long, value_name = "FILE", help_heading = "Taking machines in")]
    pub delegation: Option<PathBuf>,
    /// automatic: every machine is taken in. by-hand: a node key that was not seen on its machine
    /// before waits until `provisioner approve` [default: by-hand]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Taking machines in")]
    pub approval: Option<Approval>,
    /// The chain's id
    #[arg(long, value_name = "ID", help_heading = "Taking machines in")]
    pub chain: Option<ChainId>,
    /// CometBFT RPC addresses, as machines reach them
    #[arg(long, value_name = "URL", help_heading = "Taking machines in")]
    pub ledger: Vec<String>,
    /// Parameter servers, as machines reach them
    #[arg(long, value_name = "URL", help_heading = "Taking machines in")]
    pub parameter_server: Vec<String>,
    /// Who may speak to machines' API besides their owner, who always may: a public key, and
    /// `:reader` for one that may only look [default role: operator]
    #[arg(long, value_name = "KEY[:ROLE]", help_heading = "Taking machines in")]
    #[serde(deserialize_with = "as_texts")]
    pub operator: Vec<Operator>,

    /// NTP servers for nodes, names or addresses [default: those that DHCP names]
    #[arg(long, value_name = "HOST", help_heading = "Taking machines in")]
    pub time_server: Vec<String>,

    /// Whom to run as once all ports are taken, where we are started as root: a user of this host.
    /// It needs no rights but to its files [default: who started us]
    #[arg(long, value_name = "NAME", help_heading = "Running")]
    pub user: Option<String>,
    /// Neither Landlock nor the ban on new privileges, to find out whether they are in the way
    #[arg(long, help_heading = "Running")]
    pub unconfined: bool,
    /// How the log is written [default: text]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Running")]
    pub log_format: Option<LogFormat>,

    /// Machines that need something of their own.
    #[arg(skip)]
    pub machine: BTreeMap<String, MachineOptions>,
}

/// Who decides that a machine is taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// Nobody: whoever boots here is one of ours.
    Automatic,
    /// An operator, once for each node key.
    #[default]
    ByHand,
}

/// How the log is written, to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object a line, for programs.
    Json,
}

/// An image by a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flavour {
    /// The name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
}

/// Why a text names no flavour.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no NAME=FOLDER with a name of 1 to 40 of a-z, 0-9, - and _")]
pub struct NotAFlavour(String);

impl FromStr for Flavour {
    type Err = NotAFlavour;
    fn from_str(text: &str) -> Result<Self, NotAFlavour> {
        let refused = || NotAFlavour(text.chars().take(80).collect());
        let (name, folder) = text.split_once('=').ok_or_else(refused)?;
        if !is_name(name) || folder.is_empty() {
            return Err(refused());
        }
        Ok(Self { name: name.into(), folder: folder.into() })
    }
}

/// Our part in DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The network's one DHCP server.
    Full,
    /// Beside another one.
    Proxy,
    /// None.
    Off,
}

impl Part {
    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Proxy => "proxy",
            Self::Off => "off",
        }
    }

    /// What the DHCP server is to do, if anything.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Self::Full => Some(Mode::Full),
            Self::Proxy => Some(Mode::Proxy),
            Self::Off => None,
        }
    }
}

/// Our part in DHCPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part6 {
    /// The network's one DHCPv6 server.
    Full,
    /// None.
    #[default]
    Off,
}

/// What one machine needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MachineOptions {
    /// What it is called.
    pub name: Option<String>,
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
    /// How it joins its network.
    pub network: Option<NetworkConfig>,
    /// Room for what does not fit in its memory.
    pub scratch: Option<Scratch>,
}

impl MachineOptions {
    /// What is said here, as `groups` has it.
    pub fn values(&self) -> Values {
        let all = serde_json::json!({
            "name": self.name,
            "quirks": Some(&self.quirks).filter(|quirks| !quirks.is_empty()),
            "boot-method": self.boot_method,
            "replace-ipxe": self.replace_ipxe,
            "https": self.https,
            "blksize": self.blksize,
            "window": self.window,
            "rate": self.rate,
            "network": self.network,
            "scratch": self.scratch,
        });
        let all = all.as_object().cloned().unwrap_or_default();
        all.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }

    /// What is said here of its firmware.
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

/// The keys of a machine's table.
pub(crate) const MACHINE_KEYS: [&str; 10] = [
    "name",
    "quirks",
    "boot-method",
    "replace-ipxe",
    "https",
    "blksize",
    "window",
    "rate",
    "network",
    "scratch",
];
/// The most host names of ours.
const MAX_HOSTS: usize = 16;
/// The most DNS servers told by IPv6: they are in every advertisement.
const MAX_DNS6: usize = 8;
/// The longest name of a machine.
const MAX_NAME_LEN: usize = 64;

/// The configuration is wrong. Whoever wrote it has to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It is not TOML, or a value is of the wrong kind.
    #[error("the configuration {path}: {source}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// The reason, with the place.
        source: Box<toml::de::Error>,
    },
    /// A key that nothing here knows.
    #[error("the configuration {path} has the unknown key {key:?}: did you mean {nearest:?}?")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The one most like it.
        nearest: String,
    },
    /// A value that cannot be.
    #[error("{what} {value:?}: {wanted}")]
    Value {
        /// Which option.
        what: &'static str,
        /// What it says.
        value: String,
        /// What is wanted.
        wanted: &'static str,
    },
}

fn as_text<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

fn as_texts<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

impl Options {
    /// The options of a file's text.
    pub fn from_toml(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let wrong = |source| ConfigError::Toml { path: path.into(), source: Box::new(source) };
        let table: toml::Table = text.parse().map_err(wrong)?;
        check_keys(path, table.keys(), &known_keys())?;
        for machine in table.get("machine").and_then(|m| m.as_table()).into_iter().flatten() {
            if let Some(keys) = machine.1.as_table() {
                check_keys(path, keys.keys(), &MACHINE_KEYS.map(String::from))?;
            }
        }
        toml::from_str(text).map_err(wrong)
    }

    /// These flags over what the file they name says, all checked.
    pub fn with_file(self) -> Result<Self, ConfigError> {
        let file = match &self.config {
            None => Self::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                Self::from_toml(path, &text)?
            }
        };
        let options = self.over(file);
        options.check()?;
        Ok(options)
    }

    pub(crate) fn over(self, file: Self) -> Self {
        fn list<T>(flags: Vec<T>, file: Vec<T>) -> Vec<T> {
            if flags.is_empty() { file } else { flags }
        }
        Self {
            config: self.config,
            interface: self.interface.or(file.interface),
            address: self.address.or(file.address),
            dhcp: self.dhcp.or(file.dhcp),
            pool: self.pool.or(file.pool),
            router: list(self.router, file.router),
            dns: list(self.dns, file.dns),
            dhcp6: self.dhcp6.or(file.dhcp6),
            address6: self.address6.or(file.address6),
            pool6: self.pool6.or(file.pool6),
            dns6: list(self.dns6, file.dns6),
            router6: self.router6 || file.router6,
            lease_seconds: self.lease_seconds.or(file.lease_seconds),
            http_port: self.http_port.or(file.http_port),
            https_port: self.https_port.or(file.https_port),
            tftp_port: self.tftp_port.or(file.tftp_port),
            name: list(self.name, file.name),
            tls: self.tls.or(file.tls),
            tls_certificate: self.tls_certificate.or(file.tls_certificate),
            tls_key: self.tls_key.or(file.tls_key),
            http_boot: self.http_boot.or(file.http_boot),
            image: self.image.or(file.image),
            flavour: list(self.flavour, file.flavour),
            ipxe: self.ipxe.or(file.ipxe),
            bios_file: self.bios_file.or(file.bios_file),
            uefi_file: self.uefi_file.or(file.uefi_file),
            uki: self.uki.or(file.uki),
            medium: self.medium.or(file.medium),
            quirks: self.quirks.or(file.quirks),
            console: list(self.console, file.console),
            kernel_argument: list(self.kernel_argument, file.kernel_argument),
            database: self.database.or(file.database),
            database_ca: self.database_ca.or(file.database_ca),
            key: self.key.or(file.key),
            delegation: self.delegation.or(file.delegation),
            approval: self.approval.or(file.approval),
            chain: self.chain.or(file.chain),
            ledger: list(self.ledger, file.ledger),
            parameter_server: list(self.parameter_server, file.parameter_server),
            operator: list(self.operator, file.operator),
            time_server: list(self.time_server, file.time_server),
            user: self.user.or(file.user),
            unconfined: self.unconfined || file.unconfined,
            log_format: self.log_format.or(file.log_format),
            machine: file.machine,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.mistakes().into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// All values that cannot be, each with its key in the file.
    pub(crate) fn mistakes(&self) -> Vec<(String, ConfigError)> {
        let mut wrong = Vec::new();
        let mut value = |key: &str, what, value: &str, wanted| {
            wrong.push((key.into(), ConfigError::Value { what, value: value.into(), wanted }));
        };
        let ledgers = self.ledger.iter().map(|url| ("ledger", url));
        let servers = self.parameter_server.iter().map(|url| ("parameter-server", url));
        for (key, url) in ledgers.chain(servers) {
            if !is_plain_url(url) {
                let wanted = "http://HOST:PORT without a final slash is wanted";
                value(key, "the address", url, wanted);
            }
        }
        for host in &self.name {
            if !matches!(ServerName::try_from(host.as_str()), Ok(ServerName::DnsName(_))) {
                let wanted = "a name as DNS has it is wanted, no address";
                value("name", "the host name", host, wanted);
            }
        }
        if self.name.len() > MAX_HOSTS {
            let given = self.name.join(", ");
            value("name", "the list of host names", &given, "at most 16 are wanted");
        }
        if self.time_server.len() > MAX_TIME_SERVERS {
            let given = self.time_server.join(", ");
            value("time-server", "the list of time servers", &given, "at most 8 are wanted");
        }
        // These become words of an iPXE script and of the kernel's command line.
        let words = self.console.iter().map(|word| ("console", word));
        let words = words.chain(self.kernel_argument.iter().map(|word| ("kernel-argument", word)));
        let words = words.chain(self.bios_file.iter().map(|word| ("bios-file", word)));
        for (key, word) in words.chain(self.uefi_file.iter().map(|word| ("uefi-file", word))) {
            if !is_word(word) {
                let wanted = "one word of printable ASCII is wanted, without ${";
                value(key, "the word", word, wanted);
            }
        }
        if self.dns6.len() > MAX_DNS6 {
            let count = self.dns6.len().to_string();
            value("dns6", "dns6", &count, "at most 8 DNS servers are told");
        }
        let only_full = self.pool6.is_some() || self.router6 || !self.dns6.is_empty();
        if only_full && self.dhcp6 != Some(Part6::Full) {
            let what = "pool6, dns6 and router6";
            let wanted = "they are for --dhcp6 full; say that too";
            value("pool6", what, "without DHCPv6", wanted);
        }
        if self.operator.len() > MAX_OPERATORS {
            let count = self.operator.len().to_string();
            value("operator", "operators", &count, "at most 64 are taken");
        }
        if self.lease_seconds.is_some_and(|seconds| seconds < 120) {
            let wanted = "firmware needs two minutes to boot";
            value("lease-seconds", "lease-seconds", "under 120", wanted);
        }
        for (mac, machine) in &self.machine {
            let key = format!("machine.{mac}");
            if mac.parse::<Mac>().is_err() {
                value(&key, "the table machine", mac, "a MAC address as its name is wanted");
            }
            let name = machine.name.as_deref().unwrap_or("machine");
            if name.is_empty() || name.len() > MAX_NAME_LEN || name.chars().any(char::is_control) {
                let wanted = "1 to 64 bytes without control characters";
                value(&format!("{key}.name"), "the name", name, wanted);
            }
            if machine.hand().set.care().check().is_err() {
                let wanted = "a blksize of 8 to 65464, a window of 1 to 64 and a rate of at least \
                              10000 are wanted";
                value(&key, "the machine", mac, wanted);
            }
        }
        wrong
    }

    /// What is said of machines' firmware by hand.
    pub fn hands(&self) -> BTreeMap<Mac, Hand> {
        self.machines().into_iter().map(|(mac, machine)| (mac, machine.hand())).collect()
    }

    /// Machines' own settings.
    pub fn machines(&self) -> BTreeMap<Mac, MachineOptions> {
        let parsed =
            |(mac, options): (&String, &MachineOptions)| Some((mac.parse().ok()?, options.clone()));
        self.machine.iter().filter_map(parsed).collect()
    }
}

/// Whether a text is an address as machines are told one: `http://HOST:PORT`.
pub fn is_plain_url(url: &str) -> bool {
    url.strip_prefix("http://").is_some_and(|rest| {
        !rest.is_empty() && !rest.ends_with('/') && rest.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// Whether a text can be a word of an iPXE script and of the kernel's command line.
pub fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic()) && !word.contains("${")
}

/// The names of all flags, which are the keys of the file.
pub(crate) fn known_keys() -> Vec<String> {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        _options: Options,
    }
    let flags = Flags::command();
    let flags = flags.get_arguments().filter_map(|flag| flag.get_long());
    flags.filter(|name| *name != "config").chain(["machine"]).map(String::from).collect()
}

fn check_keys<'a>(
    path: &Path,
    mut keys: impl Iterator<Item = &'a String>,
    known: &[String],
) -> Result<(), ConfigError> {
    let Some(key) = keys.find(|key| !known.contains(key)) else { return Ok(()) };
    let nearest = nearest(key, known);
    Err(ConfigError::UnknownKey { path: path.into(), key: key.clone(), nearest })
}

/// The one of the known keys that is most like it.
pub(crate) fn nearest(key: &str, known: &[String]) -> String {
    let distance = |known: &&String| strsim::damerau_levenshtein(key, known);
    known.iter().min_by_key(distance).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    use protocol::node_api::OperatorRole;

    fn read(text: &str) -> Result<Options, ConfigError> {
        Options::from_toml(Path::new("p.toml"), text)
    }

    #[test]
    fn a_file_may_hold_every_flag_and_machines() {
        let options = read(
            r#"
            interface = "br0"
            dhcp = "proxy"
            pool = "10.0.0.10-10.0.0.20"
            parameter-server = ["http://10.0.0.1:7000"]
            operator = ["0101010101010101010101010101010101010101010101010101010101010101:reader"]
            [machine."52:54:00:12:34:56"]
            name = "rack-1"
            boot-method = "boot-server"
            quirks = ["https-only"]
            window = 2
            network = "vlan=42,ip=dhcp"
            scratch = { erase = "nvme-QEMU_1" }
            https = true
            "#,
        )
        .unwrap();
        assert_eq!(options.dhcp, Some(Part::Proxy));
        assert_eq!(options.operator[0].role, OperatorRole::Reader);
        let machines = options.machines();
        let machine = &machines[&"52:54:00:12:34:56".parse().unwrap()];
        assert_eq!(machine.boot_method, Some(BootMethod::BootServer));
        let hand = machine.hand();
        assert_eq!((hand.set.window, hand.names.len()), (Some(2), 1));
        assert_eq!(hand.set.https, Some(true));
        assert_eq!(machine.network.as_ref().and_then(|network| network.vlan), Some(42));
        assert_eq!(machine.scratch, Some(Scratch::Erase("nvme-QEMU_1".into())));
        assert_eq!(machine.values().len(), 7);
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest() {
        let error = read("interfcae = 'br0'").unwrap_err().to_string();
        assert!(error.contains("\"interface\""), "{error}");
        let error = read("[machine.'52:54:00:12:34:56']\nnmae = 'x'").unwrap_err().to_string();
        assert!(error.contains("\"name\""), "{error}");
        let error =
            read("[machine.'52:54:00:12:34:56']\nnetwork = 'vlan=x'").unwrap_err().to_string();
        assert!(error.contains("is no vlan"), "{error}");
        let error = read("pool = 'nonsense'").unwrap_err().to_string();
        assert!(error.contains("FIRST-LAST"), "{error}");
    }

    #[test]
    fn a_transfer_that_cannot_be_is_refused_before_it_is_tried() {
        for bad in ["window = 0", "blksize = 4", "rate = 1"] {
            let options = read(&format!("[machine.'52:54:00:12:34:56']\n{bad}")).unwrap();
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains("52:54:00:12:34:56"), "{error}");
        }
    }

    #[test]
    fn a_flag_outweighs_the_file() {
        let flags = Options { http_port: Some(81), ..Options::default() };
        let both = flags.over(read("http-port = 80\ntftp-port = 70").unwrap());
        assert_eq!((both.http_port, both.tftp_port), (Some(81), Some(70)));
    }

    #[test]
    fn what_is_for_dhcpv6_alone_is_refused_without_it() {
        let pool = "dhcp6 = 'full'\npool6 = 'fd00:77::10-fd00:77::1f'\nrouter6 = true";
        let full = Options::default().over(read(pool).unwrap());
        assert!(full.check().is_ok());
        assert_eq!(full.pool6.map(|pool| pool.size()), Some(16));
        let off = Options { dhcp6: None, ..full };
        assert!(off.check().unwrap_err().to_string().contains("--dhcp6 full"));
        let error = read("pool6 = '10.0.0.1-10.0.0.9'").unwrap_err().to_string();
        assert!(error.contains("FIRST-LAST"), "{error}");
        assert!(read("dhcp6 = 'proxy'").is_err(), "there is no such thing");
    }

    #[test]
    fn what_would_break_a_script_or_never_be_reached_is_refused() {
        let check = |options: Options| options.check().unwrap_err().to_string();
        let word =
            |word: &str| Options { kernel_argument: vec![word.into()], ..Options::default() };
        for bad in ["a b", "a\nsanboot x", "", "${uuid}"] {
            assert!(check(word(bad)).contains("one word"), "{bad}");
        }
        let url = |url: &str| Options { ledger: vec![url.into()], ..Options::default() };
        let name = |name: &str| Options { name: vec![name.into()], ..Options::default() };
        for bad in ["10.0.0.1", "", "a b", "x/y"] {
            assert!(check(name(bad)).contains("as DNS has it"), "{bad}");
        }
        for bad in ["10.0.0.1:26657", "https://x", "http://x/", "http://"] {
            assert!(check(url(bad)).contains("http://HOST:PORT"), "{bad}");
        }
    }
}
