//! QEMU machines without disks that boot from the network by real firmware.

use crate::{
    accel::Accelerator,
    console::Console,
    error::{At, Error},
    service::{Service, ServiceSpec},
    swtpm::Swtpm,
};
use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

/// A machine's firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, with the boot ROM of QEMU's network card (iPXE).
    SeaBios,
    /// UEFI: OVMF's code, and the template of its variables, of which each machine gets a copy.
    Ovmf {
        /// `OVMF_CODE_4M.fd`.
        code: PathBuf,
        /// `OVMF_VARS_4M.fd`.
        variables: PathBuf,
    },
    /// UEFI that boots what is signed alone: OVMF built with SMM, which keeps its variables from
    /// the system that it booted.
    OvmfSecure {
        /// `OVMF_CODE_4M.secboot.fd`.
        code: PathBuf,
        /// Variables with keys in them: `OVMF_VARS_4M.ms.fd`, or as
        /// [`crate::efi_variables::Variables`] writes them.
        variables: PathBuf,
    },
}

impl Firmware {
    /// `bios` or `uefi`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SeaBios => "bios",
            Self::Ovmf { .. } | Self::OvmfSecure { .. } => "uefi",
        }
    }

    /// Code and variables, where it has flash for them.
    fn flash(&self) -> Option<(&Path, &Path)> {
        match self {
            Self::SeaBios => None,
            Self::Ovmf { code, variables } | Self::OvmfSecure { code, variables } => {
                Some((code, variables))
            }
        }
    }
}

/// What a machine boots from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BootsFrom {
    /// The network: PXE first, where firmware has both.
    #[default]
    Network,
    /// The network by UEFI HTTP boot alone.
    Http,
    /// The same, with the CAs of this file in its firmware: an EFI_SIGNATURE_LIST, as
    /// `image::secure_boot::signature_list` writes it. OVMF takes it into its TlsCaCertificate
    /// (`OvmfPkg/RUNTIME_CONFIG.md` in EDK2).
    Https(PathBuf),
    /// The network by IPv6 alone: PXE first.
    Network6,
    /// The network by IPv6 and UEFI HTTP boot alone.
    Http6,
    /// The same, with CAs as [`BootsFrom::Https`] has them.
    Https6(PathBuf),
    /// A stick with this content. What is written to it is lost with the machine.
    Stick(PathBuf),
    /// A SATA disk, likewise.
    Disk(PathBuf),
    /// A CD.
    Cd(PathBuf),
}

/// What a machine's processor says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Processor {
    /// That it is virtual.
    #[default]
    Virtual,
    /// That it is real: AMD's under emulation, the host's under KVM.
    Real,
    /// That it is real, and without what AMD's alone have.
    NotAmd,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// Its name, and its log's.
    pub name: String,
    /// Its firmware.
    pub firmware: Firmware,
    /// What runs its processors.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory: u32,
    /// Processors.
    pub processors: u32,
    /// What they say of themselves.
    pub processor: Processor,
    /// Its network card's address, lower case with colons.
    pub mac: String,
    /// The TAP device that the card is plugged into; empty for QEMU's own network behind NAT, as a
    /// home has it: addresses, and not a word about booting.
    pub tap: String,
    /// Where it boots from.
    pub boots: BootsFrom,
    /// The SMBIOS UUID, with dashes.
    pub uuid: String,
    /// The SMBIOS serial number.
    pub serial: String,
    /// How much processor time it leaves to others: 0 none, 19 nearly all.
    pub nice: u8,
    /// Its TPM 2.0, if it has one: a chip whose state lies in `folder` ([`Swtpm::state`]).
    pub tpm: Option<Swtpm>,
    /// More devices, in QEMU's words: `VGA`, `i6300esb`.
    pub devices: Vec<String>,
    /// What its maker put into SMBIOS's type 11, if anything.
    pub oem_string: Option<String>,
    /// What its clock shows at the start, UTC, where that is not the time: `1970-01-02T00:00:00`.
    pub clock: Option<String>,
    /// Folder for its log, its firmware's variables and its TPM's state.
    pub folder: PathBuf,
}

impl MachineSpec {
    /// Where the machine's variables lie.
    fn variables(&self) -> PathBuf {
        self.folder.join(format!("{}.vars", self.name))
    }

    /// QEMU's control socket, relative to `folder`: a socket's path has 107 bytes at most.
    fn qmp(&self) -> String {
        format!("{}.qmp", self.name)
    }

    /// QEMU's arguments. Pure.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |text: &str| words.extend(text.split(' ').map(OsString::from));
        add("-nodefaults -no-user-config -display none -serial stdio");
        // Firmware's screen on the serial line too.
        let secure = matches!(self.firmware, Firmware::OvmfSecure { .. });
        add(if secure { "-machine q35,graphics=off,smm=on" } else { "-machine q35,graphics=off" });
        if secure {
            add("-global driver=cfi.pflash01,property=secure,value=on");
            // It has none, and would wait a minute for one after each file that it refuses.
            add("-fw_cfg name=opt/org.tianocore/IPv6PXESupport,string=no");
        }
        add(&self.accelerator.arguments().join(" "));
        // Of two the last counts.
        let model = self.accelerator.model();
        match self.processor {
            Processor::Virtual => {}
            Processor::Real => add(&format!("-cpu {model},-hypervisor")),
            Processor::NotAmd => add(&format!("-cpu {model},-hypervisor,-sse4a")),
        }
        if let Some(clock) = &self.clock {
            add(&format!("-rtc base={clock}"));
        }
        add(&format!("-m {} -smp {} -uuid {}", self.memory, self.processors, self.uuid));
        // Without randomness newer OVMF offers no network boot.
        add("-device virtio-rng-pci");
        match self.tap.as_str() {
            "" => add("-netdev user,id=net"),
            tap => add(&format!("-netdev tap,id=net,ifname={tap},script=no,downscript=no")),
        }
        let index = match &self.boots {
            BootsFrom::Network => "bootindex=1,",
            BootsFrom::Http | BootsFrom::Https(_) => {
                add("-fw_cfg name=opt/org.tianocore/IPv4PXESupport,string=no");
                // Or PXE would be tried by IPv6 first.
                add("-fw_cfg name=opt/org.tianocore/IPv6Support,string=no");
                "bootindex=1,"
            }
            // Without IPv4 altogether, or each of its ways would be tried for a minute.
            BootsFrom::Network6 => {
                add("-fw_cfg name=opt/org.tianocore/IPv4Support,string=no");
                "bootindex=1,"
            }
            BootsFrom::Http6 | BootsFrom::Https6(_) => {
                add("-fw_cfg name=opt/org.tianocore/IPv4Support,string=no");
                add("-fw_cfg name=opt/org.tianocore/IPv6PXESupport,string=no");
                // OVMF 2025.02 does not wait until its address is known to be its own, and fails
                // at once (edk2's pull request 11096 mends that): some seconds at its menu.
                add("-boot menu=on,splash-time=8000");
                "bootindex=1,"
            }
            BootsFrom::Stick(_) | BootsFrom::Disk(_) | BootsFrom::Cd(_) => "",
        };
        let card = format!("-device virtio-net-pci,netdev=net,{index}mac={}", self.mac);
        match &self.firmware {
            Firmware::SeaBios => add(&card),
            // No boot ROM on the card, or QEMU's iPXE would answer instead of the firmware.
            Firmware::Ovmf { .. } | Firmware::OvmfSecure { .. } => {
                add(&format!("{card},romfile="));
            }
        }
        for device in &self.devices {
            add(&format!("-device {device}"));
        }
        add(&format!("-qmp unix:{},server=on,wait=off", self.qmp()));
        if let BootsFrom::Stick(_) = &self.boots {
            add("-device qemu-xhci -device usb-storage,drive=stick,bootindex=1");
        }
        if let BootsFrom::Disk(_) = &self.boots {
            add("-device ide-hd,drive=stick,bus=ide.0,bootindex=1");
        }
        if let BootsFrom::Cd(_) = &self.boots {
            add("-device ide-cd,drive=stick,bus=ide.0,bootindex=1");
        }
        if let BootsFrom::Https(cas) | BootsFrom::Https6(cas) = &self.boots {
            words.push("-fw_cfg".into());
            let cas = cas.to_string_lossy().replace(',', ",,");
            words.push(format!("name=etc/edk2/https/cacerts,file={cas}").into());
        }
        words.push("-smbios".into());
        words.push(
            format!(
                "type=1,manufacturer=aliaOS lab,product={},serial={},uuid={}",
                self.firmware.name(),
                self.serial,
                self.uuid
            )
            .into(),
        );
        if let Some(text) = &self.oem_string {
            words.push("-smbios".into());
            words.push(format!("type=11,value={}", text.replace(',', ",,")).into());
        }
        if self.tpm.is_some() {
            // Both interfaces that PCs have are in use here.
            let device = match &self.firmware {
                Firmware::SeaBios => "tpm-tis",
                Firmware::Ovmf { .. } | Firmware::OvmfSecure { .. } => "tpm-crb",
            };
            let words_of = format!(
                "-chardev socket,id=tpm,path={} -tpmdev emulator,id=tpm0,chardev=tpm -device \
                 {device},tpmdev=tpm0",
                Swtpm::control(&self.name)
            );
            words.extend(words_of.split(' ').map(OsString::from));
        }
        let drive = |options: &str, path: &Path| {
            // A comma in a value is written twice.
            let path = path.to_string_lossy().replace(',', ",,");
            [OsString::from("-drive"), format!("{options},format=raw,file={path}").into()]
        };
        if let Some((code, _)) = self.firmware.flash() {
            words.extend(drive("if=pflash,unit=0,readonly=on", code));
            words.extend(drive("if=pflash,unit=1", &self.variables()));
        }
        if let BootsFrom::Stick(path) | BootsFrom::Disk(path) = &self.boots {
            words.extend(drive("if=none,id=stick,snapshot=on", path));
        }
        if let BootsFrom::Cd(path) = &self.boots {
            words.extend(drive("if=none,id=stick,media=cdrom,readonly=on", path));
        }
        words
    }
}

/// A running machine. Dropping it pulls its plug.
pub struct Machine {
    spec: MachineSpec,
    qemu: Service,
    /// Where its serial line stood when it was last switched on.
    mark: usize,
    /// Ends after the machine.
    _tpm: Option<Service>,
}

impl Machine {
    /// Switches a machine on.
    pub fn start(mut spec: MachineSpec) -> Result<Self, Error> {
        std::fs::create_dir_all(&spec.folder).at(spec.folder.display())?;
        // QEMU runs in it.
        spec.folder = spec.folder.canonicalize().at(spec.folder.display())?;
        if let Some((_, variables)) = spec.firmware.flash() {
            std::fs::copy(variables, spec.variables()).at(variables.display())?;
        }
        let tpm = spec.tpm.as_ref().map(|tpm| tpm.for_machine(&spec.name, &spec.folder));
        let tpm = tpm.transpose()?;
        let service = ServiceSpec {
            nice: spec.nice,
            ..ServiceSpec::new(&spec.name, "qemu-system-x86_64", &spec.folder)
        };
        let qemu = Service::start(service.args(spec.arguments()))?;
        Ok(Self { spec, qemu, mark: 0, _tpm: tpm })
    }

    /// What it was made from.
    pub fn spec(&self) -> &MachineSpec {
        &self.spec
    }

    /// Its serial line, with times since it was switched on.
    pub fn console(&self) -> &Console {
        self.qemu.console()
    }

    /// QEMU's process, for what a service can do.
    pub fn qemu(&mut self) -> &mut Service {
        &mut self.qemu
    }

    /// Waits for a console line that contains `text`, since it was switched on.
    pub fn wait_line(
        &mut self,
        text: &str,
        limit: Duration,
    ) -> Result<crate::console::Line, Error> {
        self.qemu.wait_line(self.mark, text, limit)
    }

    /// Pulls the plug: what it had in memory is lost.
    pub fn kill(&mut self) {
        self.qemu.kill();
    }

    /// Switches it on again after [`Machine::kill`] or its own end.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.qemu.kill();
        self.mark = self.qemu.console().mark();
        self.qemu.restart()
    }

    /// Presses the power button.
    pub fn press_power(&self) -> Result<(), Error> {
        self.command("system_powerdown", serde_json::json!({}))
    }

    /// Presses the reset button.
    pub fn reset(&self) -> Result<(), Error> {
        self.command("system_reset", serde_json::json!({}))
    }

    /// Presses a key of its keyboard, by QEMU's name for it: `ret`, `down`.
    pub fn press_key(&self, key: &str) -> Result<(), Error> {
        let key = serde_json::json!({ "type": "qcode", "data": key });
        self.command("send-key", serde_json::json!({ "keys": [key] }))
    }

    /// Writes what is on the display to `file` in the machine's folder, as PPM or as PNG by the
    /// name's end; the machine needs a display among its devices.
    pub fn screenshot(&self, file: &str) -> Result<PathBuf, Error> {
        let format = if file.ends_with(".png") { "png" } else { "ppm" };
        let arguments = serde_json::json!({ "filename": file, "format": format });
        self.command("screendump", arguments)?;
        Ok(self.spec.folder.join(file))
    }

    /// One command by QEMU's machine protocol: a greeting, the end of negotiation, the command;
    /// each answered by one line, events between.
    fn command(&self, name: &str, arguments: serde_json::Value) -> Result<(), Error> {
        let socket = self.spec.folder.join(self.spec.qmp());
        let mut stream = UnixStream::connect(&socket).at(socket.display())?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).at(socket.display())?;
        let mut lines = BufReader::new(stream.try_clone().at(socket.display())?).lines();
        let negotiated = serde_json::json!({ "execute": "qmp_capabilities" });
        for request in [negotiated, serde_json::json!({ "execute": name, "arguments": arguments })]
        {
            writeln!(stream, "{request}").at(socket.display())?;
            loop {
                let line = match lines.next() {
                    Some(line) => line.at(socket.display())?,
                    None => String::from("QEMU closed its control socket"),
                };
                if line.contains("\"return\"") {
                    break;
                }
                if !line.contains("\"QMP\"") && !line.contains("\"event\"") {
                    return Err(Error::Tool { tool: "qemu-system-x86_64", detail: line });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(firmware: Firmware) -> MachineSpec {
        MachineSpec {
            name: "m1".into(),
            firmware,
            accelerator: Accelerator::Tcg,
            memory: 1024,
            processors: 1,
            clock: None,
            processor: Default::default(),
            mac: "52:54:00:a1:1a:01".into(),
            tap: "tap-m1".into(),
            boots: BootsFrom::Network,
            uuid: "00000000-0000-4000-8000-000000000001".into(),
            serial: "LAB1".into(),
            nice: 19,
            tpm: None,
            devices: vec!["VGA".into()],
            oem_string: None,
            folder: "bed".into(),
        }
    }

    fn line(spec: &MachineSpec) -> String {
        let words = spec.arguments();
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn uefi_machines_boot_by_their_firmware_and_not_by_the_cards_rom() {
        let uefi = Firmware::Ovmf { code: "a,b/code.fd".into(), variables: "vars.fd".into() };
        let line = line(&spec(uefi));
        assert!(line.contains(",romfile= "), "{line}");
        assert!(line.contains("unit=0,readonly=on,format=raw,file=a,,b/code.fd"), "{line}");
        assert!(line.contains("unit=1,format=raw,file=bed/m1.vars"), "{line}");
    }

    #[test]
    fn secure_firmware_keeps_its_flash_from_the_system() {
        let secure = Firmware::OvmfSecure { code: "code.fd".into(), variables: "vars.fd".into() };
        let mut spec = spec(secure);
        spec.boots = BootsFrom::Stick("stick.img".into());
        let line = line(&spec);
        assert!(line.contains("smm=on") && line.contains("property=secure,value=on"), "{line}");
        assert!(line.contains("id=stick,snapshot=on,format=raw,file=stick.img"), "{line}");
        assert!(line.contains("usb-storage,drive=stick,bootindex=1"), "{line}");
        assert!(!line.contains("netdev=net,bootindex"), "the network is not booted from: {line}");
    }

    #[test]
    fn machines_that_boot_by_ipv6_have_no_ipv4_in_their_firmware() {
        let uefi = || Firmware::Ovmf { code: "code.fd".into(), variables: "vars.fd".into() };
        let with = |boots| line(&MachineSpec { boots, ..spec(uefi()) });
        let no = "name=opt/org.tianocore/IPv4Support,string=no";
        let pxe = "name=opt/org.tianocore/IPv6PXESupport,string=no";
        let (by_pxe, by_http) = (with(BootsFrom::Network6), with(BootsFrom::Http6));
        assert!(by_pxe.contains(no) && !by_pxe.contains(pxe), "{by_pxe}");
        assert!(by_http.contains(no) && by_http.contains(pxe), "{by_http}");
        assert!(by_http.contains("netdev=net,bootindex=1"), "{by_http}");
    }

    #[test]
    fn a_machine_without_a_tap_is_behind_nat() {
        let spec = MachineSpec { tap: String::new(), ..spec(Firmware::SeaBios) };
        let line = line(&spec);
        assert!(line.contains("-netdev user,id=net -device") && !line.contains("tap"), "{line}");
    }

    #[test]
    fn bios_machines_have_no_flash_and_keep_the_rom() {
        let line = line(&spec(Firmware::SeaBios));
        assert!(!line.contains("romfile") && !line.contains("pflash"), "{line}");
        assert!(line.contains("mac=52:54:00:a1:1a:01"), "{line}");
    }
}
