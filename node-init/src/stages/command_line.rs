//! Stage `command-line`: what the boot script tells this machine.
//!
//! Nothing vouches for the kernel command line: it names the provisioner and the key that its
//! answers must be signed with, and everything else comes signed by that key.

use crate::{http::Base, kernel, kernel::Kernel, mac::Mac};
use protocol::{
    ChainId, Digest, PublicKey,
    boot::{ARG_BOOTIF, ARG_CHAIN, ARG_NETWORK, ARG_PROVISIONER, ARG_PROVISIONER_KEY, ARG_RELEASE},
    network::NetworkConfig,
};
use std::fmt::Display;

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
    parse(&kernel::text(kernel, FILE).ok_or(CommandLineError::Unreadable)?)
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

/// Reads a command line; of an argument that stands twice the last counts, as for the kernel.
pub fn parse(line: &str) -> Result<Arguments, CommandLineError> {
    Ok(Arguments {
        provisioner: wanted(line, ARG_PROVISIONER)?,
        key: wanted(line, ARG_PROVISIONER_KEY)?,
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
    let Some(value) = words(line).filter_map(value).last() else { return Ok(None) };
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
    fn of_an_argument_that_stands_twice_the_last_counts() {
        let arguments = parse(&line("alia.chain=\"alia other\"")).unwrap();
        assert_eq!(arguments.chain.as_str(), "alia other");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_whose_it_is() {
        let error = parse("console=ttyS0").unwrap_err().to_string();
        assert!(error.contains("alia.provisioner") && error.contains("boot script"), "{error}");
        let error = parse(&line("alia.key=12")).unwrap_err().to_string();
        assert!(error.contains("alia.key is wrong") && error.contains("64 hex"), "{error}");
        let error = parse(&line("alia.provisioner=ftp://x")).unwrap_err().to_string();
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
