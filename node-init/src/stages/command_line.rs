//! Stage `command-line`: what the boot script tells this machine.
//!
//! What vouches for the kernel command line, if anything does, is said by
//! [`super::verified_by`]: it names the provisioner and the key that its
//! answers must be signed with, and everything else comes signed by that key.

use crate::{
    http::Base,
    kernel,
    kernel::Kernel,
    mac::Mac,
    stages::verified_by::{self, VerifiedBy},
};
use protocol::{
    ChainId, Digest, PublicKey,
    boot::{ARG_BOOTIF, ARG_CHAIN, ARG_NETWORK, ARG_PROVISIONER, ARG_PROVISIONER_KEY, ARG_RELEASE},
    network::NetworkConfig,
};
use std::{fmt::Display, io, path::Path};

/// With this word on it, PID 1 prints [`PROBE_OK`] and powers the machine off: a guest that is
/// there to show that guests run.
pub const PROBE: &str = "alia.probe";
/// With this word beside [`PROBE`], it sets the kernel's settings before and prints them all, each
/// line after [`SETTING`].
pub const SETTINGS: &str = "alia.settings";
/// Begins the line of a setting.
pub const SETTING: &str = "setting ";
/// With this word beside [`PROBE`], `alia.modules=a,b`, it loads these modules before, with what they
/// need, and prints what the kernel says to each, in a line after [`MODULE`].
pub const MODULES: &str = "alia.modules=";
/// Begins the line of a module.
pub const MODULE: &str = "module ";
/// What a probe prints.
pub const PROBE_OK: &str = "alia probe ok";

const FILE: &str = "/proc/cmdline";
/// What firmware says of the machine (SMBIOS), as the kernel hands it on.
const SMBIOS: &str = "/sys/firmware/dmi/tables/DMI";
const MOST_SMBIOS: usize = 1 << 20;
/// An OEM string (SMBIOS type 11) that begins so is put behind the signed command line by systemd's
/// stub, under Secure Boot too (systemd-stub(7)).
const APPENDED: &[u8] = b"io.systemd.stub.kernel-cmdline-extra";

/// What the command line says.
#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    /// Where the provisioner is.
    pub provisioner: Base,
    /// Whose signature its answers carry.
    pub key: PublicKey,
    /// The chain.
    pub chain: ChainId,
    /// The image that was booted.
    pub release: Digest,
    /// The NIC that firmware booted from, where the boot script knew it.
    pub boot_nic: Option<Mac>,
    /// How the machine joins its network, where the boot script says.
    pub network: Option<NetworkConfig>,
}

/// The command line cannot be used. The boot script is the provisioner's.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum CommandLineError {
    /// It cannot be read.
    #[error("{FILE} cannot be read; see the stage \"mounts\"")]
    Unreadable,
    /// An argument is not there.
    #[error("the kernel command line has no {0}=...; the provisioner's boot script sets it")]
    Missing(&'static str),
    /// An argument is there twice and says two things: the second may be a stranger's.
    #[error("the kernel command line has {0} twice, with different values; leave one of them")]
    Twice(&'static str),
    /// What firmware verified is not all that there is.
    #[error(
        "this machine's firmware has an OEM string (SMBIOS type 11) that adds words to the signed \
         command line: nothing is believed of it; take the string away, with the maker's or the \
         virtual machine's settings"
    )]
    Appended,
    /// Whether there is more than firmware verified cannot be told.
    #[error(
        "what firmware may have added to the signed command line is not known: {SMBIOS}: {0}; update \
         this machine's firmware, or boot it without Secure Boot"
    )]
    NoTable(io::ErrorKind),
    /// An argument says nothing sensible.
    #[error("the kernel command line's {name} is wrong: {reason}; mend the boot script")]
    Wrong {
        /// Which.
        name: &'static str,
        /// Why.
        reason: String,
    },
}

/// Reads the running kernel's.
pub fn run(kernel: &dyn Kernel) -> Result<Arguments, CommandLineError> {
    if verified_by::run(kernel) == VerifiedBy::Firmware {
        let table = kernel.read(Path::new(SMBIOS), MOST_SMBIOS);
        let table = table.map_err(|error| CommandLineError::NoTable(error.kind()))?;
        if appends(&table) {
            return Err(CommandLineError::Appended);
        }
    }
    parse(&kernel::text(kernel, FILE).ok_or(CommandLineError::Unreadable)?)
}

/// Whether a table of SMBIOS has words for the command line. Pure.
fn appends(table: &[u8]) -> bool {
    table.windows(APPENDED.len()).any(|bytes| bytes.eq_ignore_ascii_case(APPENDED))
}

/// Whether the machine was only booted to see whether it boots.
pub fn is_probe(kernel: &dyn Kernel) -> bool {
    kernel::text(kernel, FILE).is_some_and(|line| words(&line).any(|word| word == PROBE))
}

/// Whether a probe is to print the kernel's settings.
pub fn wants_settings(kernel: &dyn Kernel) -> bool {
    kernel::text(kernel, FILE).is_some_and(|line| words(&line).any(|word| word == SETTINGS))
}

/// The modules that a probe is to load.
pub fn wanted_modules(kernel: &dyn Kernel) -> Vec<String> {
    let line = kernel::text(kernel, FILE).unwrap_or_default();
    let list = words(&line).find_map(|word| word.strip_prefix(MODULES).map(str::to_owned));
    list.unwrap_or_default().split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Reads a command line; an argument that stands twice says the same both times.
pub fn parse(line: &str) -> Result<Arguments, CommandLineError> {
    let provisioner: Base = wanted(line, ARG_PROVISIONER)?;
    let key = wanted(line, ARG_PROVISIONER_KEY)?;
    Ok(Arguments {
        provisioner: provisioner.known_by(key),
        key,
        chain: wanted(line, ARG_CHAIN)?,
        release: wanted(line, ARG_RELEASE)?,
        boot_nic: given(line, ARG_BOOTIF)?,
        network: given(line, ARG_NETWORK)?,
    })
}

/// White space parts words, but not between double quotes, which are dropped
/// (the kernel's own rule, `next_arg`).
fn words(line: &str) -> impl Iterator<Item = String> {
    let mut quoted = false;
    let parts = move |c: char| {
        quoted ^= c == '"';
        !quoted && c.is_ascii_whitespace()
    };
    line.split(parts).map(|word| word.replace('"', "")).filter(|word| !word.is_empty())
}

fn given<T>(line: &str, name: &'static str) -> Result<Option<T>, CommandLineError>
where
    T: std::str::FromStr,
    T::Err: Display,
{
    let value = |word: String| {
        let (key, value) = word.split_once('=')?;
        (key == name).then(|| value.to_owned())
    };
    let mut values = words(line).filter_map(value);
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) {
        return Err(CommandLineError::Twice(name));
    }
    let wrong = |error: T::Err| CommandLineError::Wrong { name, reason: error.to_string() };
    value.parse().map(Some).map_err(wrong)
}

fn wanted<T>(line: &str, name: &'static str) -> Result<T, CommandLineError>
where
    T: std::str::FromStr,
    T::Err: Display,
{
    given(line, name)?.ok_or(CommandLineError::Missing(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;

    fn line(extra: &str) -> String {
        let (key, release) = ("ab".repeat(32), "cd".repeat(32));
        format!(
            "initrd=initramfs.zst console=ttyS0 {ARG_PROVISIONER}=http://10.1.2.1:8080 \
             {ARG_PROVISIONER_KEY}={key} {ARG_CHAIN}=alia-test {ARG_RELEASE}={release} {extra}\n"
        )
    }

    #[test]
    fn the_boot_scripts_arguments_are_read() {
        let arguments = parse(&line("BOOTIF=01-52-54-00-12-34-56")).unwrap();
        assert_eq!(arguments.provisioner.to_string(), "http://10.1.2.1:8080");
        assert_eq!(arguments.key, PublicKey([0xab; 32]));
        assert_eq!(arguments.chain.as_str(), "alia-test");
        assert_eq!(arguments.release, Digest([0xcd; 32]));
        assert_eq!(arguments.boot_nic, Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])));
        assert_eq!(parse(&line("")).unwrap().boot_nic, None);
        let arguments = parse(&line("alia.net=vlan=42,ip=10.1.2.3/24")).unwrap();
        assert_eq!(arguments.network.unwrap().vlan, Some(42));
    }

    #[test]
    fn an_argument_that_says_two_things_is_not_believed() {
        let error = parse(&line("alia.chain=\"alia other\"")).unwrap_err();
        assert_eq!(error, CommandLineError::Twice(ARG_CHAIN));
        assert_eq!(parse(&line("alia.chain=alia-test")).unwrap().chain.as_str(), "alia-test");
    }

    #[test]
    fn words_behind_the_signed_command_line_are_refused() {
        let table = b"\x0b\x05\x01\x00\x01io.systemd.stub.kernel-cmdline-extra=alia.key=1\0\0";
        let with = |secure_boot, table: &[u8]| {
            let fake = Fake::new(&[(FILE, &line(""))]);
            let mut parameters = vec![0; 4_096];
            parameters[0x1ec] = secure_boot;
            let mut world = fake.world();
            world.files.insert("/sys/kernel/boot_params/data".into(), parameters);
            world.files.insert(SMBIOS.into(), table.to_vec());
            drop(world);
            run(&fake)
        };
        assert_eq!(with(3, table), Err(CommandLineError::Appended));
        assert!(with(3, b"an OEM string of another kind").is_ok());
        // Nobody vouches for the command line there.
        assert!(with(2, table).is_ok());
        let fake = Fake::new(&[(FILE, &line(""))]);
        let mut parameters = vec![0; 4_096];
        parameters[0x1ec] = 3;
        fake.world().files.insert("/sys/kernel/boot_params/data".into(), parameters);
        let error = run(&fake).unwrap_err();
        assert_eq!(error, CommandLineError::NoTable(io::ErrorKind::NotFound), "{error}");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_whose_it_is() {
        let error = parse("console=ttyS0").unwrap_err().to_string();
        assert!(error.contains("alia.provisioner") && error.contains("boot script"), "{error}");
        let wrong = |from: &str, to: &str| line("").replace(from, to);
        let error = parse(&wrong(&"ab".repeat(32), "12")).unwrap_err().to_string();
        assert!(error.contains("alia.key is wrong") && error.contains("64 hex"), "{error}");
        let error = parse(&wrong("http://", "ftp://")).unwrap_err().to_string();
        assert!(error.contains("http://"), "{error}");
        let error = parse(&line("alia.net=vlan=9999")).unwrap_err().to_string();
        assert!(error.contains("alia.net is wrong") && error.contains("1 to 4094"), "{error}");
        assert!(parse(&line("BOOTIF=eth0")).unwrap_err().to_string().contains("MAC address"));
    }

    #[test]
    fn a_probe_is_told_by_its_word_alone() {
        assert!(is_probe(&Fake::new(&[(FILE, "console=ttyS0 alia.probe panic=10\n")])));
        assert!(!is_probe(&Fake::new(&[(FILE, "alia.probes x=alia.probe\n")])));
        assert!(!is_probe(&Fake::new(&[])));
    }

    #[test]
    fn an_unreadable_command_line_is_an_error() {
        assert_eq!(run(&Fake::new(&[])), Err(CommandLineError::Unreadable));
        assert!(run(&Fake::new(&[(FILE, &line(""))])).is_ok());
    }

    proptest! {
        #[test]
        fn no_command_line_panics(text in "([a-zA-Z.=\"/: 0-9-]|alia\\.key=|BOOTIF=){0,60}") {
            let _ = parse(&text);
            let _ = parse(&line(&text));
        }
    }
}
