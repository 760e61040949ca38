//! Whether KVM works here, found out by booting a guest in it.
//!
//! That /dev/kvm opens says little: in a virtual machine it can be there and yet run no real
//! kernel (seen: KVM without hardware support, where QEMU aborts because a CPU register cannot be
//! set, and where guests stop at the first BMI2 instruction, which KVM's emulator does not know).
//! So two guests are booted with the very CPU that machines would get: a boot sector that goes to
//! 64-bit mode and executes such an instruction, and then, where an image is at hand, its kernel.

use std::{
    fmt, fs,
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What runs the machines' processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's software emulation.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

impl Accelerator {
    /// QEMU's arguments. Either shows the guest AVX2 where the host has it: emulation has had it
    /// since QEMU 7.2.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => &["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// The processor's model among them.
    pub fn model(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max",
        }
    }
}

/// What was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What to use.
    pub accelerator: Accelerator,
    /// For people.
    pub reason: String,
}

/// What both guests print when they live. node-init does with `alia.probe` on its command line.
pub const PROBE_LINE: &str = "alia probe ok";
/// The longest a boot sector may take; it needs 0.2 s even under emulation.
const SECTOR_LIMIT: Duration = Duration::from_secs(10);
/// The longest a kernel may take; it needs a second or two under KVM.
const KERNEL_LIMIT: Duration = Duration::from_secs(30);

/// Probes KVM, with the kernel and initramfs in `image` when there are any.
pub fn probe(image: Option<&Path>) -> Choice {
    let tcg = |reason: String| Choice { accelerator: Accelerator::Tcg, reason };
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        return tcg(format!("software emulation: /dev/kvm: {error}"));
    }
    let started = Instant::now();
    if let Err(why) = boot_sector(Accelerator::Kvm) {
        return tcg(format!("software emulation: /dev/kvm opens, but a guest dies in it: {why}"));
    }
    if let Some(image) = image.filter(|image| image.join("initramfs.zst").exists())
        && let Err(why) = boot_kernel(Accelerator::Kvm, image)
    {
        return tcg(format!("software emulation: /dev/kvm opens, but a kernel dies in it: {why}"));
    }
    let seconds = started.elapsed().as_secs_f32();
    let reason = format!("KVM: a guest booted in it in {seconds:.1} s");
    Choice { accelerator: Accelerator::Kvm, reason }
}

/// Boots the boot sector below.
pub fn boot_sector(accelerator: Accelerator) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let disk = folder.path().join("disk");
    let mut sector = BOOT_SECTOR.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    fs::write(&disk, sector).map_err(|error| error.to_string())?;
    let mut qemu = qemu(accelerator, 16);
    qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-boot", "a"]);
    qemu.arg("-drive").arg(format!("format=raw,if=floppy,readonly=on,file={}", disk.display()));
    run(qemu, SECTOR_LIMIT).map(drop)
}

/// Boots an image's kernel with node-init in its probe mode.
pub fn boot_kernel(accelerator: Accelerator, image: &Path) -> Result<(), String> {
    probe_kernel(accelerator, image, "").map(drop)
}

/// Boots an image's kernel with node-init in its probe mode and more words on its command line;
/// gives what it printed.
pub fn probe_kernel(accelerator: Accelerator, image: &Path, words: &str) -> Result<String, String> {
    probe_kernel_within(accelerator, image, words, KERNEL_LIMIT)
}

/// The same, of an image that takes longer.
pub fn probe_kernel_within(
    accelerator: Accelerator,
    image: &Path,
    words: &str,
    limit: Duration,
) -> Result<String, String> {
    let mut qemu = qemu(accelerator, 512);
    qemu.arg("-kernel").arg(image.join("vmlinuz")).arg("-initrd").arg(image.join("initramfs.zst"));
    // A panic ends QEMU (-no-reboot) at once.
    qemu.args(["-append", &format!("console=ttyS0 quiet panic=-1 alia.probe {words}")]);
    run(qemu, limit)
}

fn qemu(accelerator: Accelerator, megabytes: u32) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(accelerator.arguments()).args(["-m", &megabytes.to_string()]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-serial", "stdio"]);
    command
}

/// Runs a guest until its line comes, it ends, KVM gives up, or the time is up.
fn run(mut qemu: Command, limit: Duration) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let output = folder.path().join("output");
    let file = File::create(&output).map_err(|error| error.to_string())?;
    let errors = file.try_clone().map_err(|error| error.to_string())?;
    let mut child = qemu
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("qemu-system-x86_64: {error}"))?;
    let started = Instant::now();
    let verdict = loop {
        let ended = child.try_wait().ok().flatten();
        let text = fs::read(&output).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if text.contains(PROBE_LINE) {
            break Ok(text.into_owned());
        }
        // QEMU says this and then stops the guest, for good, without ending.
        if let Some(line) = text.lines().find(|line| line.contains("KVM internal error")) {
            break Err(line.trim().to_string());
        }
        if let Some(status) = ended {
            let error = text.lines().find(|line| line.contains("error") || line.contains("ssert"));
            break Err(error.map_or_else(|| status.to_string(), |line| line.trim().to_string()));
        }
        if started.elapsed() > limit {
            break Err(format!("nothing from it within {} s", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let _ = child.kill();
    let _ = child.wait();
    verdict
}

/// Runs at 0x7c00 in 16-bit mode: 64-bit mode by one 2 MiB page, one BMI2 instruction where CPUID
/// shows them, [`PROBE_LINE`] to the first serial port, and out by QEMU's exit device.
#[rustfmt::skip]
const BOOT_SECTOR: &[u8] = &[
    0xfa,                                     // cli
    0x31, 0xc0,                               // xor ax, ax
    0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0,       // mov ds, ax; mov es, ax; mov ss, ax
    0xbc, 0x00, 0x7c,                         // mov sp, 0x7c00
    0xbf, 0x00, 0x10,                         // mov di, 0x1000: three zeroed pages
    0x66, 0x31, 0xc0,                         // xor eax, eax
    0xb9, 0x00, 0x0c,                         // mov cx, 0xc00
    0xfc, 0x66, 0xf3, 0xab,                   // cld; rep stosd
    0xc7, 0x06, 0x00, 0x10, 0x03, 0x20,       // PML4[0] = 0x2003
    0xc7, 0x06, 0x00, 0x20, 0x03, 0x30,       // PDPT[0] = 0x3003
    0xc6, 0x06, 0x00, 0x30, 0x83,             // PD[0] = a present, writable 2 MiB page at 0
    0x0f, 0x20, 0xe0, 0x0c, 0x20,             // cr4 |= PAE
    0x0f, 0x22, 0xe0,
    0x66, 0xb8, 0x00, 0x10, 0x00, 0x00,       // cr3 = 0x1000
    0x0f, 0x22, 0xd8,
    0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0,       // EFER |= LME
    0x0f, 0x32, 0x0d, 0x00, 0x01, 0x0f, 0x30,
    0x0f, 0x01, 0x16, 0xb8, 0x7c,             // lgdt [0x7cb8]
    0x0f, 0x20, 0xc0,                         // cr0 |= PG | PE
    0x66, 0x0d, 0x01, 0x00, 0x00, 0x80,
    0x0f, 0x22, 0xc0,
    0xea, 0x5e, 0x7c, 0x08, 0x00,             // jmp 8:0x7c5e, 64-bit from here
    0x31, 0xc0, 0x0f, 0xa2,                   // cpuid(0)
    0x83, 0xf8, 0x07, 0x72, 0x14,             // no leaf 7: to the line
    0xb8, 0x07, 0x00, 0x00, 0x00,             // cpuid(7, 0)
    0x31, 0xc9, 0x0f, 0xa2,
    0x0f, 0xba, 0xe3, 0x08, 0x73, 0x05,       // no BMI2: to the line
    0xc4, 0xe2, 0x79, 0xf7, 0xcb,             // shlx ecx, ebx, eax
    0xbe, 0x95, 0x7c, 0x00, 0x00,             // mov esi, 0x7c95
    0xba, 0xf8, 0x03, 0x00, 0x00,             // mov edx, 0x3f8
    0xac, 0x84, 0xc0, 0x74, 0x03,             // next byte; 0 ends
    0xee, 0xeb, 0xf8,                         // out dx, al; again
    0xb0, 0x10, 0x66, 0xba, 0xf4, 0x00, 0xee, // out 0xf4, 0x10
    0xf4,                                     // hlt
    b'a', b'l', b'i', b'a', b' ', b'p', b'r', b'o', b'b', b'e', b' ', b'o', b'k', b'\n', 0,
    0x0f, 0x1f, 0x40, 0x00,                   // padding
    0, 0, 0, 0, 0, 0, 0, 0,                   // 0x7ca8: GDT: null,
    0, 0, 0, 0, 0, 0x9a, 0x20, 0,             // 64-bit code
    0x0f, 0x00, 0xa8, 0x7c, 0x00, 0x00,       // 0x7cb8: its limit and address
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_sector_has_its_parts_where_its_code_looks_for_them() {
        assert!(BOOT_SECTOR.len() <= 510);
        assert!(BOOT_SECTOR[0x95..].starts_with(format!("{PROBE_LINE}\n\0").as_bytes()));
        assert_eq!(BOOT_SECTOR[0xb8..], [0x0f, 0, 0xa8, 0x7c, 0, 0]);
        assert_eq!(BOOT_SECTOR[0x5e..0x62], [0x31, 0xc0, 0x0f, 0xa2]);
    }

    fn boots() -> bool {
        let boots = std::env::var_os("ALIA_BOOTS").is_some();
        if !boots {
            println!("skipped: ALIA_BOOTS is not set");
        }
        boots
    }

    /// Under emulation, where it must live: a probe that always says no would hide a working KVM.
    #[test]
    fn the_boot_sector_lives_under_emulation() {
        if !boots() {
            return;
        }
        boot_sector(Accelerator::Tcg).unwrap();
    }

    #[test]
    fn a_guest_that_dies_says_how() {
        if !boots() {
            return;
        }
        let mut guest = qemu(Accelerator::Tcg, 16);
        guest.args(["-device", "no-such-device"]);
        let why = run(guest, SECTOR_LIMIT).unwrap_err();
        assert!(why.contains("no-such-device") || why.contains("exit"), "{why}");
    }
}
