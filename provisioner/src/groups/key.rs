//! What can be set of a machine: one table, from which documents are checked and `docs/configuration.md`
//! is made.

use super::{Jobs, Json, Site};
use crate::{
    config::{is_plain_url, is_word},
    dhcp::settings::BootMethod,
    tftp::care::Care,
};
use protocol::{boot::Scratch, network::NetworkConfig, pieces::Subnet};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Write as _;

/// The longest name of a machine.
pub const MAX_NAME_LEN: usize = 64;
/// The most kernel arguments of a machine, and bytes of them: a command line has 2,048, of which ours
/// and a long `network` take most.
pub const MAX_ARGUMENTS: usize = 32;
const MAX_ARGUMENTS_LEN: usize = 512;
/// The most parameter servers, and quirks, that a machine names.
const MAX_LIST: usize = 16;
const MAX_URL_LEN: usize = 200;
const MAX_DISK_LEN: usize = 200;
/// Who gave less would be of no use: a piece of 256 KiB takes three seconds so.
const MIN_PEER_RATE: u32 = 100_000;

/// What a value is read with.
pub struct Reading<'a> {
    /// What front-ends know.
    pub site: &'a Site,
    /// The document's owners.
    pub owners: &'a [String],
}

/// Something that can be set.
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it takes, for people.
    pub form: &'static str,
    /// What holds where nobody sets it.
    pub default: &'static str,
    /// What it does, and from when on.
    pub about: &'static str,
    /// Whether a single machine alone has it.
    pub machine_alone: bool,
    /// A value as it is kept, or what is wrong with it.
    pub read: fn(&Json, &Reading<'_>) -> Result<Json, String>,
}

/// All of them, in the order of the documentation.
pub const KEYS: [Key; 17] = [
    Key {
        name: "name",
        form: "a text of 1 to 64 bytes",
        default: "`node-` and half of the MAC address",
        about: "what the machine is called: on the page at once, by the machine itself from its next boot on",
        machine_alone: true,
        read: name,
    },
    Key {
        name: "flavour",
        form: "a name given to `serve --flavour NAME=FOLDER`",
        default: "the image of `--image`",
        about: "the image that its boot script loads, from the next boot on; a signed UKI is one for all",
        machine_alone: false,
        read: flavour,
    },
    Key {
        name: "network",
        form: "`nic=…,vlan=42,ip=10.1.2.3/24,gateway=10.1.2.1` ([hardware.md](hardware.md))",
        default: "DHCP on the NIC that booted",
        about: "how it joins its network: in its boot script for the first contact, and in its settings after it was \
                taken in. A UKI's command line is signed, so that it has the settings alone",
        machine_alone: false,
        read: network,
    },
    Key {
        name: "owner",
        form: "a name of the table `owner`",
        default: "who signed `--delegation`",
        about: "whose account its work is paid to: the owner's delegation that the node gets when it is next taken in",
        machine_alone: false,
        read: owner,
    },
    Key {
        name: "jobs",
        form: "`\"all\"`, `\"none\"`, or a list of parameter servers, `http://HOST:PORT`",
        default: "`\"all\"`",
        about: "whose work it takes: those of `--parameter-server`, nobody's, or these; from when it is next taken in",
        machine_alone: false,
        read: jobs,
    },
    Key {
        name: "scratch",
        form: "`\"memory\"`, `\"disk\"` or `{ erase = \"ID of the disk\" }`",
        default: "`\"memory\"`",
        about: "room for what does not fit in its memory, from when it is next taken in; `erase` loses what is on that disk",
        machine_alone: false,
        read: scratch,
    },
    Key {
        name: "kernel-arguments",
        form: "a list of words",
        default: "none",
        about: "what stands on its kernel's command line after `--kernel-argument`'s, from the next boot on. In a boot \
                script alone: a UKI's command line is signed and one for all",
        machine_alone: false,
        read: kernel_arguments,
    },
    Key {
        name: "quirks",
        form: "a list of names ([quirks.md](quirks.md))",
        default: "what fits the machine",
        about: "what its firmware needs, by the names of the tables; strongest first",
        machine_alone: false,
        read: quirks,
    },
    Key {
        name: "boot-method",
        form: "`\"file\"` or `\"boot-server\"`",
        default: "`\"file\"`",
        about: "how its firmware takes its boot file; `boot-server` where it insists on port 4011",
        machine_alone: false,
        read: boot_method,
    },
    Key {
        name: "replace-ipxe",
        form: "`true` or `false`",
        default: "`false`",
        about: "load our iPXE over the one in its NIC's ROM",
        machine_alone: false,
        read: switch,
    },
    Key {
        name: "https",
        form: "`true` or `false`",
        default: "as `--http-boot` says",
        about: "whether its HTTP boot gets an https URL",
        machine_alone: false,
        read: switch,
    },
    Key {
        name: "blksize",
        form: "8 to 65464",
        default: "what it asks for, within the MTU",
        about: "the most bytes of a TFTP block; 512 refuses the option",
        machine_alone: false,
        read: blksize,
    },
    Key {
        name: "window",
        form: "1 to 64",
        default: "what it asks for",
        about: "the most TFTP blocks before an ACK; 1 refuses the option",
        machine_alone: false,
        read: window,
    },
    Key {
        name: "rate",
        form: "at least 10000",
        default: "no limit",
        about: "the most bytes a second by TFTP",
        machine_alone: false,
        read: rate,
    },
    Key {
        name: "peers",
        form: "`true` or `false`",
        default: "`true`",
        about: "whether it fetches its root from other machines of its site too, and gives to them \
                ([peers.md](peers.md)); from the next boot on, and within a minute for what it gives",
        machine_alone: false,
        read: switch,
    },
    Key {
        name: "peer-rate",
        form: "at least 100000",
        default: "67108864",
        about: "the most bytes a second that it gives to other machines; within a minute",
        machine_alone: false,
        read: peer_rate,
    },
    Key {
        name: "site",
        form: "a network, `10.0.0.0/16`",
        default: "our own network, else the machine's /24 or /64, if its address is a private one",
        about: "which machines are one site: with them alone it shares",
        machine_alone: false,
        read: subnet,
    },
];

/// A key by its name.
pub fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The one of `known` that is most like `text`.
pub fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.min_by_key(|known| strsim::damerau_levenshtein(text, known))
}

/// The table as Markdown, for the documentation.
pub fn table() -> String {
    let mut text = String::from("| key | takes | default | what it does |\n|---|---|---|---|\n");
    for key in &KEYS {
        let alone = if key.machine_alone { " (a single machine's alone)" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {}{alone} |",
            key.name, key.form, key.default, key.about
        );
    }
    text
}

/// A value of a type, as that type writes it.
fn typed<T: DeserializeOwned + Serialize>(value: &Json) -> Result<(T, Json), String> {
    let read: T = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    let written = serde_json::to_value(&read).map_err(|error| error.to_string())?;
    Ok((read, written))
}

/// Whether a text is one line of so many bytes at most.
pub(super) fn is_line(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn known<'a>(
    what: &str,
    name: &str,
    all: impl Iterator<Item = &'a str> + Clone,
    mend: &str,
) -> Result<(), String> {
    if all.clone().any(|known| known == name) {
        return Ok(());
    }
    let shown: String = name.chars().take(40).collect();
    Err(match nearest(name, all) {
        Some(nearest) => format!("there is no {what} {shown:?}: did you mean {nearest:?}?"),
        None => format!("there is no {what} {shown:?}: {mend}"),
    })
}

fn name(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    let (name, json) = typed::<String>(value)?;
    is_line(&name, MAX_NAME_LEN)
        .then_some(json)
        .ok_or_else(|| "1 to 64 bytes without control characters are wanted".into())
}

fn flavour(value: &Json, with: &Reading<'_>) -> Result<Json, String> {
    let (name, json) = typed::<String>(value)?;
    let all = with.site.flavours.iter().map(String::as_str);
    known("flavour", &name, all, "give one to `serve --flavour NAME=FOLDER`").map(|()| json)
}

fn network(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    let (_, json) = typed::<NetworkConfig>(value)?;
    Ok(json)
}

fn owner(value: &Json, with: &Reading<'_>) -> Result<Json, String> {
    let (name, json) = typed::<String>(value)?;
    let all = with.owners.iter().map(String::as_str);
    known("owner", &name, all, "put the owner's delegation into the table `owner`").map(|()| json)
}

fn jobs(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    let (jobs, json) = typed::<Jobs>(value)
        .map_err(|_| "\"all\", \"none\" or a list of parameter servers is wanted".to_string())?;
    if let Jobs::Servers(servers) = jobs {
        let plain = |url: &String| is_plain_url(url) && url.len() <= MAX_URL_LEN;
        if !(1..=MAX_LIST).contains(&servers.len()) || !servers.iter().all(plain) {
            return Err("1 to 16 of http://HOST:PORT without a final slash are wanted".into());
        }
    }
    Ok(json)
}

fn scratch(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    let wanted = "\"memory\", \"disk\" or { erase = \"ID of the disk\" } is wanted";
    match typed::<Scratch>(value).map_err(|_| wanted.to_string())? {
        (Scratch::Erase(id), _) if !is_line(&id, MAX_DISK_LEN) => Err(wanted.into()),
        (_, json) => Ok(json),
    }
}

fn kernel_arguments(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    let (words, json) = typed::<Vec<String>>(value)?;
    if let Some(word) = words.iter().find(|word| !is_word(word)) {
        return Err(format!("{word:?}: one word of printable ASCII is wanted, without ${{"));
    }
    let ours = |word: &&String| RESERVED.iter().any(|start| word.starts_with(start));
    if let Some(word) = words.iter().find(ours) {
        return Err(format!("{word:?} is ours to say, or the key network's"));
    }
    let length: usize = words.iter().map(|word| word.len() + 1).sum();
    if words.len() > MAX_ARGUMENTS || length > MAX_ARGUMENTS_LEN {
        return Err("at most 32 words and 512 bytes are taken".into());
    }
    Ok(json)
}

/// Words of the command line by which a node knows its provisioner and itself.
const RESERVED: [&str; 3] = ["alia.", "BOOTIF=", "initrd="];

fn quirks(value: &Json, with: &Reading<'_>) -> Result<Json, String> {
    let (names, json) = typed::<Vec<String>>(value)?;
    if names.len() > MAX_LIST {
        return Err("at most 16 names are taken".into());
    }
    let all = || with.site.quirks.iter().map(String::as_str);
    names.iter().try_for_each(|name| known("quirk", name, all(), "look at docs/quirks.md"))?;
    Ok(json)
}

fn boot_method(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    let wanted = |_| "\"file\" or \"boot-server\" is wanted".to_string();
    typed::<BootMethod>(value).map(|(_, json)| json).map_err(wanted)
}

fn switch(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    typed::<bool>(value).map(|(_, json)| json).map_err(|_| "true or false is wanted".into())
}

fn blksize(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    cared(value, |blksize| Care { blksize: Some(blksize), ..Care::default() })
}

fn window(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    cared(value, |window| Care { window: Some(window), ..Care::default() })
}

fn rate(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    cared(value, |rate| Care { rate: Some(rate), ..Care::default() })
}

fn peer_rate(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    match typed::<u32>(value) {
        Ok((MIN_PEER_RATE.., json)) => Ok(json),
        _ => Err(format!("{MIN_PEER_RATE} bytes a second or more are wanted")),
    }
}

fn subnet(value: &Json, _: &Reading<'_>) -> Result<Json, String> {
    typed::<Subnet>(value).map(|(_, json)| json)
}

fn cared<T: DeserializeOwned + Serialize + Copy>(
    value: &Json,
    care: impl Fn(T) -> Care,
) -> Result<Json, String> {
    let (number, json) = typed::<T>(value)?;
    let wrong = |text: String| text.trim_start_matches("has a ").to_string();
    care(number).check().map(|()| json).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    /// `ALIA_WRITE_DOCS=1` writes it.
    #[test]
    fn the_documentation_has_these_keys() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        let text = fs::read_to_string(&path).unwrap();
        let marks = ["<!-- keys -->\n", "<!-- end -->"];
        let (before, rest) = text.split_once(marks[0]).unwrap();
        let (there, after) = rest.split_once(marks[1]).unwrap();
        if std::env::var_os("ALIA_WRITE_DOCS").is_some() {
            fs::write(&path, [before, marks[0], &table(), marks[1], after].concat()).unwrap();
            return;
        }
        assert_eq!(there, table(), "docs/configuration.md is old: ALIA_WRITE_DOCS=1 writes it");
    }

    #[test]
    fn a_key_that_the_programs_file_has_for_a_machine_is_one_here() {
        let all = crate::config::MACHINE_KEYS;
        assert!(all.iter().all(|name| key(name).is_some()), "{all:?}");
        let mut names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }
}
