//! iPXE scripts, as text made of values.
//!
//! Two of them: `entry`, the same for every machine, asks for the second with what iPXE knows of
//! the machine; `machine` loads kernel and initramfs. Neither ever hangs: what fails is said on
//! the screen with iPXE's reason, tried again after a few seconds, and after so many tries the
//! machine restarts, because a NIC that hangs comes back by that alone.

use crate::{groups::Settings, image::Image, machine::Mac};
use protocol::{
    ChainId, PublicKey,
    boot::{
        ARG_BOOTIF, ARG_CHAIN, ARG_NETWORK, ARG_PROVISIONER, ARG_PROVISIONER_KEY, ARG_RELEASE,
        ImageFile, Microcode,
    },
    fleet::MachineState,
};
use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

/// Seconds between two tries.
const PAUSE: u32 = 5;
/// Tries before the machine restarts: ten minutes of a provisioner that is away cost some
/// restarts, and none of them costs a walk to the machine.
const TRIES: u32 = 24;

/// The name that a UKI is served under.
pub const UKI_FILE: &str = "aliaos.efi";

/// Where a BIOS boots, the kernel's own start asks it for 1024x768 at 16 bits a pixel, the mode that
/// video BIOSes have in common, and leaves a frame buffer to it as UEFI does. Of a machine that has no
/// such mode it would ask a person for another for 30 s, so iPXE tries first; back to text, which many
/// firmwares show on a serial line too.
const SET_VIDEO: [&str; 5] = [
    "iseq ${platform} pcbios || goto watched",
    "console --x 1024 --y 768 || goto watched",
    "set video vga=791",
    "console ||",
    ":watched",
];

/// What every machine's script is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Base of our URLs.
    pub base_url: String,
    /// Base of our URLs for who came by IPv6, where we listen there.
    pub base_url6: Option<String>,
    /// What we serve, where there is an image.
    pub image: Option<Image>,
    /// Our key, which nodes pin.
    pub key: Option<PublicKey>,
    /// The chain.
    pub chain: Option<ChainId>,
    /// Consoles, in the kernel's form; the last one is /dev/console.
    pub consoles: Vec<String>,
    /// More kernel arguments.
    pub arguments: Vec<String>,
    /// Other images, for machines that are of such a flavour.
    pub flavours: BTreeMap<String, Image>,
}

impl Setup {
    /// Base of the URLs that a client is given: it may have no addresses but of the family that it
    /// came by.
    pub fn base(&self, peer: SocketAddr) -> &str {
        match (&self.base_url6, peer.ip().to_canonical()) {
            (Some(base), IpAddr::V6(_)) => base,
            _ => &self.base_url,
        }
    }

    /// The image of a flavour, or that of all machines.
    pub fn image_of(&self, flavour: Option<&str>) -> Option<&Image> {
        flavour.map_or(self.image.as_ref(), |flavour| self.flavours.get(flavour))
    }

    /// The image of that digest.
    pub fn image_by(&self, digest: &str) -> Option<&Image> {
        let mut all = self.image.iter().chain(self.flavours.values());
        all.find(|image| image.digest.to_string() == digest)
    }
}

/// `GET /boot.ipxe`: asks for the machine's own script.
pub fn entry(base_url: &str) -> String {
    let ask = format!(
        "chain --replace --autofree {base_url}/boot/${{netX/mac:hexhyp}}.ipxe\
         ?uuid=${{uuid}}&serial=${{serial:uristring}}&arch=${{buildarch}}&platform=${{platform}}"
    );
    retrying(&format!("asking {base_url} what to boot"), &[], &[must(&ask)])
}

/// Boots in a row that did not come to stand, after which the next ones are slowed down. Long before
/// that a machine is told to be a rescue, which does not end by itself: what boots still dies before it
/// is told.
pub const MOST_IN_A_ROW: u32 = 8;
/// Minutes between two boots then.
pub const SLOWED: u32 = 10;

/// `GET /boot/{mac}.ipxe`: loads the image; `attempt` says which boot in a row this is that none
/// before it came to stand.
pub fn machine(setup: &Setup, base: &str, mac: Mac, own: &Settings, attempt: u32) -> String {
    let Some(image) = setup.image_of(own.flavour.as_deref()) else {
        // Asked for anew, not only tried anew: there may be an image by then.
        let lacks = match &own.flavour {
            None => "no image yet; give it one by --image".to_string(),
            Some(flavour) => format!("no image of flavour {flavour}; give it one by --flavour"),
        };
        return waiting(&format!("{base} has {lacks}"), base);
    };
    let manifest = &image.manifest;
    let url = |file: &str| format!("{base}/image/{}/{file}?mac={}", image.digest, mac.hyphenated());
    let (kernel, initramfs) = (&manifest.kernel.file, &manifest.initramfs.file);
    let microcode = &manifest.microcode;
    let arguments = command_line(setup, base, image, mac, own);
    let steps = [
        must("imgfree"),
        must(&format!("kernel --name {kernel} {} ${{first}} ${{video}} {arguments}", url(kernel))),
        "isset ${microcode} || goto initramfs".to_string(),
        must(&format!("initrd --name ${{microcode}} {}", url("${microcode}"))),
        ":initramfs".to_string(),
        must(&format!("initrd --name {initramfs} {}", url(initramfs))),
        must("boot"),
    ];
    let what = format!("aliaOS {} (Linux {})", manifest.version, manifest.kernel_release);
    let mut before = SET_VIDEO.map(String::from).to_vec();
    before.extend(choose_microcode(microcode));
    if is_slowed(attempt) {
        let failed = attempt - 1;
        before.extend([
            format!("echo aliaOS: {failed} boots in a row died before the machine could say why"),
            format!("echo aliaOS: {base}/machines/{mac} has what is known of them"),
            format!("echo aliaOS: trying again in {SLOWED} minutes; a key does so now"),
            // A key ends it with an error.
            format!("sleep {} ||", SLOWED * 60),
        ]);
    }
    retrying(&format!("loading {what} from {base}"), &before, &steps)
}

/// Whether a boot is held up: an end to machines that restart for ever.
pub fn is_slowed(attempt: u32) -> bool {
    attempt > MOST_IN_A_ROW
}

/// Sets `microcode` to the archive of this processor's maker, by what iPXE can ask of a processor
/// (CPUID; Intel's and AMD's manuals have the bits): without long mode it cannot ask at all; a
/// virtual one (leaf 1, ECX 31) takes none; SSE4a (leaf 8000_0001, ECX 6) is AMD's alone.
fn choose_microcode(microcode: &Microcode) -> Vec<String> {
    let set = |file: &ImageFile| format!("set microcode {}", file.file);
    let choose = match (&microcode.amd, &microcode.intel) {
        (None, None) => return Vec::new(),
        (Some(amd), Some(intel)) => format!("&& {} || {}", set(amd), set(intel)),
        (Some(amd), None) => format!("&& {} ||", set(amd)),
        (None, Some(intel)) => format!("|| {}", set(intel)),
    };
    vec![
        "cpuid --ext 29 || goto chosen".to_string(),
        "cpuid --ecx 31 && goto chosen ||".to_string(),
        format!("cpuid --ext --ecx 6 {choose}"),
        // It must stand before the initramfs wherever the kernel reads files by these arguments.
        "isset ${microcode} && set first initrd=${microcode} ||".to_string(),
        ":chosen".to_string(),
    ]
}

/// For a machine that an operator has put aside.
pub fn barred(base_url: &str, state: MachineState) -> String {
    let state = state.as_str();
    format!(
        "#!ipxe\necho aliaOS: this machine is {state}: an operator has to let it out first\n\
         echo aliaOS: asking again in {SLOWED} minutes; a key does so now\nsleep {} ||\n\
         chain --replace --autofree {base_url}/boot.ipxe || reboot\n",
        SLOWED * 60
    )
}

/// For a machine that the image cannot run on.
pub fn unsupported(arch: &str) -> String {
    let text = format!(
        "this machine's iPXE is for {arch}, and there are images for x86-64 alone; \
         take it off this network or boot it otherwise"
    );
    format!(
        "#!ipxe\necho aliaOS: {text}\necho aliaOS: going on with the next boot device in 30 s\nsleep 30\nexit 1\n"
    )
}

/// The kernel's command line.
pub fn command_line(setup: &Setup, base: &str, image: &Image, mac: Mac, own: &Settings) -> String {
    let mut line = format!("initrd={}", image.manifest.initramfs.file);
    let mut argument = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = write!(line, " {name}={value}");
    };
    argument(ARG_PROVISIONER, base);
    if let Some(key) = &setup.key {
        argument(ARG_PROVISIONER_KEY, &key.to_string());
    }
    if let Some(chain) = &setup.chain {
        argument(ARG_CHAIN, chain.as_str());
    }
    argument(ARG_RELEASE, &image.digest.to_string());
    argument(ARG_BOOTIF, &format!("01-{}", mac.hyphenated()));
    if let Some(network) = &own.network {
        argument(ARG_NETWORK, &network.to_string());
    }
    for console in &setup.consoles {
        argument("console", console);
    }
    // The last resort where PID 1 itself is gone: restart, and boot anew.
    argument("panic", "10");
    for more in setup.arguments.iter().chain(&own.kernel_arguments) {
        let _ = write!(line, " {more}");
    }
    line
}

/// A step without which there is nothing to go on with.
fn must(step: &str) -> String {
    format!("{step} || goto failed")
}

/// Lines that run once, and steps that are tried again from the first one.
fn retrying(what: &str, before: &[String], steps: &[String]) -> String {
    let before: String = before.iter().map(|line| format!("{line}\n")).collect();
    let mut script = format!("#!ipxe\nset tries:int32 0\n{before}:again\necho aliaOS: {what}\n");
    for step in steps {
        let _ = writeln!(script, "{step}");
    }
    let _ = write!(
        script,
        ":failed\n\
         echo aliaOS: that failed (${{errno}}): trying again in {PAUSE} s\n\
         sleep {PAUSE}\n\
         inc tries\n\
         iseq ${{tries}} {TRIES} && reboot || goto again\n"
    );
    script
}

/// Waits, then starts over.
fn waiting(why: &str, base_url: &str) -> String {
    format!(
        "#!ipxe\necho aliaOS: {why}\necho aliaOS: asking again in {PAUSE} s\nsleep {PAUSE}\n\
         chain --replace --autofree {base_url}/boot.ipxe || reboot\n"
    )
}
