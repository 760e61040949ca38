//! Bochs: a machine whose CPU no CPU at hand need resemble. Slow, and the only free emulator that
//! has AVX-512; QEMU is for all else.
//!
//! Of the newer suite's packages, unpacked with every library that it needs and run by the loader
//! among them: nothing is installed, and the host's own libraries do not matter.

use crate::{
    disk,
    error::{At, Error},
    service::{Service, ServiceSpec},
};
use image::{Packages, tools::Tools};
use std::{fs, path::PathBuf};

/// The emulator, its screen (there is no package with none), its BIOS, the BIOS of its graphics
/// card, and the descriptions of terminals that the screen asks for.
pub const PACKAGES: [&str; 5] = ["bochs", "bochs-term", "bochsbios", "vgabios", "ncurses-base"];

/// Of the packages' tree: the program, what it reads, and its plugins.
const PROGRAM: &str = "usr/bin/bochs-bin";
const SHARE: &str = "usr/share/bochs";
const PLUGINS: &str = "usr/lib/x86_64-linux-gnu/bochs/plugins";

/// A CPU that Bochs can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// AVX2 and FMA, and no AVX-512.
    Haswell,
    /// AVX-512 F, CD, BW, DQ and VL.
    SkylakeX,
}

impl Cpu {
    /// Bochs's name for it.
    pub fn model(self) -> &'static str {
        match self {
            Self::Haswell => "corei7_haswell_4770",
            Self::SkylakeX => "corei7_skylake_x",
        }
    }
}

/// A machine with one CPU and one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its name, and its log's.
    pub name: String,
    /// Its CPU.
    pub cpu: Cpu,
    /// Memory in MiB.
    pub memory: u32,
    /// Folder for its disk, `NAME.disk`, its log, and Bochs's own log, `NAME.bochs`.
    pub folder: PathBuf,
}

impl Guest {
    /// Bochs's configuration. Its paths are relative to `folder` or to its environment, so that no
    /// character of theirs can mean anything in it. Pure.
    pub fn configuration(&self, disk_len: usize) -> String {
        let Self { name, cpu, memory, .. } = self;
        let cylinders = disk_len / disk::CYLINDER;
        let (heads, sectors) = (disk::HEADS, disk::SECTORS);
        format!(
            "cpu: model={cpu}, count=1, ips=50000000, reset_on_triple_fault=0\n\
             memory: guest={memory}, host={memory}\n\
             romimage: file=$BXSHARE/BIOS-bochs-latest\n\
             vgaromimage: file=$BXSHARE/VGABIOS-lgpl-latest\n\
             ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
             ata0-master: type=disk, path={name}.disk, mode=flat, cylinders={cylinders}, heads={heads}, spt={sectors}\n\
             boot: disk\n\
             com1: enabled=1, mode=file, dev=/dev/stdout\n\
             display_library: term\n\
             speaker: enabled=0\n\
             sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy\n\
             clock: sync=none\n\
             log: {name}.bochs\n\
             panic: action=fatal\n\
             error: action=report, cpu0=ignore\n\
             info: action=ignore\n\
             debug: action=ignore\n",
            cpu = cpu.model(),
        )
    }
}

/// The emulator, unpacked.
#[derive(Clone, Debug)]
pub struct Bochs {
    tools: Tools,
}

impl Bochs {
    /// Fetches and unpacks it.
    pub fn fetch(packages: &Packages) -> Result<Self, Error> {
        let tools = Tools::fetch(packages, &PACKAGES)?;
        for file in [PROGRAM, SHARE, PLUGINS] {
            tools.has(file)?;
        }
        Ok(Self { tools })
    }

    /// Switches a machine on that boots from `disk`, as [`disk::build`] makes it. Its first serial
    /// line is the service's console. Bochs ends when the machine is switched off, as a failure:
    /// what counts is what the machine said.
    pub fn start(&self, guest: &Guest, disk: &[u8]) -> Result<Service, Error> {
        fs::create_dir_all(&guest.folder).at(guest.folder.display())?;
        let folder = guest.folder.canonicalize().at(guest.folder.display())?;
        let write = |name: String, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).at(path.display())
        };
        write(format!("{}.disk", guest.name), disk)?;
        let configuration = format!("{}.bochsrc", guest.name);
        write(configuration.clone(), guest.configuration(disk.len()).as_bytes())?;
        let mut spec = ServiceSpec::new(&guest.name, self.tools.loader(), &folder)
            .args(self.tools.arguments(PROGRAM))
            .args(["-q", "-f", &configuration]);
        let set = |name: &str, file: &str| {
            (name.into(), self.tools.tree().join(file).to_string_lossy().into_owned())
        };
        spec.environment = vec![
            set("BXSHARE", SHARE),
            set("LTDL_LIBRARY_PATH", PLUGINS),
            set("TERMINFO", "usr/share/terminfo"),
            ("TERM".into(), "vt100".into()),
            ("LC_ALL".into(), "C".into()),
        ];
        Service::start(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_the_disk_by_its_geometry() {
        let guest = Guest {
            name: "skylake".into(),
            cpu: Cpu::SkylakeX,
            memory: 512,
            folder: "a folder, odd".into(),
        };
        let text = guest.configuration(3 * disk::CYLINDER);
        assert!(text.contains("path=skylake.disk, mode=flat, cylinders=3, heads=16, spt=63"));
        assert!(text.contains("model=corei7_skylake_x") && !text.contains("odd"));
    }
}
