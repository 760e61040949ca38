//! A unified kernel image: systemd's EFI stub with kernel, initramfs and command line as sections
//! of one PE file, which firmware verifies and loads as one
//! (<https://uapi-group.org/specifications/specs/unified_kernel_image/>).
//!
//! Sections are appended as systemd's `ukify` does it, so that the stub finds what it looks for and
//! firmware has one layout to cope with. Pure, and the same bytes for the same inputs; what signs
//! it comes after ([`crate::secure_boot`]).

use crate::error::{At, Error};
use object::{
    LittleEndian as LE, U16, U32,
    pe::{self, ImageDosHeader, ImageNtHeaders64, ImageSectionHeader},
    pod,
};
use protocol::{
    ChainId, Digest, PublicKey,
    boot::{
        ARG_CHAIN, ARG_PROVISIONER, ARG_PROVISIONER_KEY, ARG_RELEASE, ImageFile, ImageManifest,
    },
};
use std::{fs, ops::Range, path::Path};

/// The package with the stub.
pub const STUB_PACKAGE: &str = "systemd-boot-efi";
/// The stub in that package.
pub const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// Header of `.sbat` (<https://github.com/rhboot/shim/blob/main/SBAT.md>); shim loads nothing
/// without one. The generation of ours is counted up when a release must be refused by all.
const SBAT: &str = "aliaos,1,aliaOS,aliaos-uki,1,https://uapi-group.org\n";
/// Where the data directories stand in the optional header, and the certificates among them.
const CERTIFICATES: usize = 4;
/// Windows' loader takes 96; nothing here comes near.
const MAX_SECTIONS: usize = 32;
/// Where appended sections begin in the file: a CD's sector, so that a loader for BIOS finds kernel and
/// initramfs where they are ([`crate::bios`]). What is between them belongs to the section before: a gap
/// is what programs that verify signatures differ about.
const PLACES: usize = 2_048;
/// A PE file's offsets have 32 bits; half of that is what firmware can be trusted with.
const MAX_LEN: usize = 1 << 31;

/// What a UKI is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// systemd's stub.
    pub stub: &'a [u8],
    /// os-release(5), for people and boot menus.
    pub os_release: &'a str,
    /// The kernel's command line, fixed by the signature.
    pub command_line: &'a str,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel_release: &'a str,
    /// The kernel.
    pub kernel: &'a [u8],
    /// The initramfs.
    pub initramfs: &'a [u8],
    /// Archives of microcode one after the other, or nothing. The stub puts them before the
    /// initramfs.
    pub microcode: &'a [u8],
}

/// What a UKI tells its machines, the same to all of them: what differs comes later, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The provisioner's base URL.
    pub provisioner: String,
    /// Its key, which machines pin.
    pub key: PublicKey,
    /// The chain.
    pub chain: ChainId,
    /// The digest of the image's manifest.
    pub release: Digest,
    /// Kernel consoles; the last is where node-init writes.
    pub consoles: Vec<String>,
    /// More kernel arguments.
    pub arguments: Vec<String>,
}

impl Site {
    /// The kernel's command line.
    pub fn command_line(&self) -> String {
        let own = [
            format!("{ARG_PROVISIONER}={}", self.provisioner),
            format!("{ARG_PROVISIONER_KEY}={}", self.key),
            format!("{ARG_CHAIN}={}", self.chain.as_str()),
            format!("{ARG_RELEASE}={}", self.release),
        ];
        let consoles = self.consoles.iter().map(|console| format!("console={console}"));
        // The last resort where PID 1 itself is gone: restart, and boot anew.
        let last = ["panic=10".to_string()].into_iter().chain(self.arguments.iter().cloned());
        own.into_iter().chain(consoles).chain(last).collect::<Vec<_>>().join(" ")
    }
}

/// Why there is no UKI, or why bytes are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// The stub or file is no PE file for x86-64.
    #[error("not an EFI program for x86-64: {0}")]
    NotEfi(&'static str),
    /// The stub already carries a signature.
    #[error("the stub is signed already; take the unsigned one of {STUB_PACKAGE}")]
    Signed,
    /// No room in the stub for what is added.
    #[error("the stub has no room for {0}; take that of another {STUB_PACKAGE}")]
    NoRoom(&'static str),
    /// Too much for one file.
    #[error("kernel and initramfs are too large for one EFI program: {0} bytes")]
    TooLarge(usize),
    /// A command line that the stub would cut.
    #[error("the command line has a character that is not printable ASCII, or more than 2,047")]
    CommandLine,
}

/// A section of a UKI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name: `.linux`.
    pub name: String,
    /// Where it lies in memory, from the image's base.
    pub address: u32,
    /// Where its content lies in the file.
    pub content: Range<usize>,
}

/// Puts a UKI together.
pub fn build(parts: &Parts<'_>) -> Result<Vec<u8>, UkiError> {
    let line = parts.command_line;
    // The kernel's COMMAND_LINE_SIZE is 2,048.
    if line.len() > 2_047 || !line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Err(UkiError::CommandLine);
    }
    let whole =
        parts.stub.len() + parts.kernel.len() + parts.initramfs.len() + parts.microcode.len();
    if whole > MAX_LEN {
        return Err(UkiError::TooLarge(whole));
    }
    let mut file = File::read(parts.stub)?;
    file.extend_sbat(SBAT)?;
    if !accepts_nx(parts.kernel) {
        // Both must agree, or firmware that enforces it stops the kernel.
        file.clear_nx()?;
    }
    // In ukify's order. The kernel's release is text for people and for `bootctl`.
    file.append(".osrel", parts.os_release.as_bytes())?;
    file.append(".cmdline", line.as_bytes())?;
    file.append(".uname", parts.kernel_release.as_bytes())?;
    file.append(".linux", parts.kernel)?;
    file.append(".initrd", parts.initramfs)?;
    if !parts.microcode.is_empty() {
        file.append(".ucode", parts.microcode)?;
    }
    Ok(file.bytes)
}

/// A UKI and what it tells its machines.
#[derive(Clone, Debug)]
pub struct Uki {
    /// The file, not signed yet.
    pub bytes: Vec<u8>,
    /// Its command line.
    pub command_line: String,
}

/// The UKI of an image's folder, for the site that `site` makes of its manifest; with the microcode
/// of every maker or none: firmware chooses nothing.
///
/// # Errors
/// [`Error::Altered`] where a file is not the manifest's: what is signed, machines run unasked.
pub fn of_image(
    folder: &Path,
    stub: &Path,
    with_microcode: bool,
    site: impl FnOnce(&ImageManifest) -> Site,
) -> Result<Uki, Error> {
    let read = |path: &Path| fs::read(path).at(path);
    let manifest_path = folder.join("manifest.json");
    let manifest: ImageManifest = serde_json::from_slice(&read(&manifest_path)?)
        .map_err(|error| Error::bad_file(&manifest_path, error))?;
    let version = &manifest.version;
    let command_line = site(&manifest).command_line();
    let mut microcode = Vec::new();
    let archives = [&manifest.microcode.amd, &manifest.microcode.intel];
    for file in archives.into_iter().flatten().filter(|_| with_microcode) {
        microcode.extend(named(folder, file)?);
    }
    let bytes = build(&Parts {
        stub: &read(stub)?,
        os_release: &format!(
            "ID=aliaos\nNAME=aliaOS\nVERSION_ID={version}\nPRETTY_NAME=\"aliaOS {version}\"\n"
        ),
        command_line: &command_line,
        kernel_release: &manifest.kernel_release,
        kernel: &named(folder, &manifest.kernel)?,
        initramfs: &named(folder, &manifest.initramfs)?,
        microcode: &microcode,
    });
    let bytes = bytes.map_err(|error| Error::bad_file(folder, error))?;
    Ok(Uki { bytes, command_line })
}

/// A file that an image's manifest names, as it names it.
fn named(folder: &Path, file: &ImageFile) -> Result<Vec<u8>, Error> {
    let path = folder.join(&file.file);
    let bytes = fs::read(&path).at(&path)?;
    let found = Digest::of_bytes(&bytes);
    if found != file.digest {
        return Err(Error::Altered { path, found, wanted: file.digest });
    }
    Ok(bytes)
}

/// The sections of an EFI program.
pub fn sections(bytes: &[u8]) -> Result<Vec<Section>, UkiError> {
    let file = File::layout(bytes)?;
    let headers = file.sections(bytes)?;
    let section = |header: &ImageSectionHeader| {
        let at = header.pointer_to_raw_data.get(LE) as usize;
        let length = header.virtual_size.get(LE).min(header.size_of_raw_data.get(LE)) as usize;
        let content = at..at.saturating_add(length);
        bytes.get(content.clone()).ok_or(UkiError::NotEfi("a section lies behind its end"))?;
        let name = String::from_utf8_lossy(&header.name).trim_end_matches('\0').to_string();
        Ok(Section { name, address: header.virtual_address.get(LE), content })
    };
    headers.iter().map(section).collect()
}

/// Whether a kernel says that it runs where data is not executable.
fn accepts_nx(kernel: &[u8]) -> bool {
    let flags = || {
        let layout = File::layout(kernel).ok()?;
        let (headers, _) = pod::from_bytes::<ImageNtHeaders64>(kernel.get(layout.pe..)?).ok()?;
        Some(headers.optional_header.dll_characteristics.get(LE))
    };
    flags().is_some_and(|flags| flags & pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT != no_flags())
}

fn no_flags() -> pe::DllFlags {
    pe::DllFlags(0)
}

/// Where things are in a PE file.
#[derive(Clone, Copy)]
struct Layout {
    /// The PE header.
    pe: usize,
    /// The table of sections.
    table: usize,
    /// How many there are.
    count: usize,
}

/// A PE file that grows.
struct File {
    bytes: Vec<u8>,
    layout: Layout,
    /// Of the file, and of memory.
    alignment: (usize, usize),
    headers: usize,
}

impl Layout {
    fn sections<'a>(&self, bytes: &'a [u8]) -> Result<&'a [ImageSectionHeader], UkiError> {
        let short = UkiError::NotEfi("its table of sections is cut short");
        let table = bytes.get(self.table..).ok_or(short.clone())?;
        Ok(pod::slice_from_bytes(table, self.count).map_err(|()| short)?.0)
    }
}

impl File {
    fn layout(bytes: &[u8]) -> Result<Layout, UkiError> {
        let short = |()| UkiError::NotEfi("it is cut short");
        let (dos, _) = pod::from_bytes::<ImageDosHeader>(bytes).map_err(short)?;
        if dos.e_magic.get(LE) != pe::IMAGE_DOS_SIGNATURE {
            return Err(UkiError::NotEfi("it does not begin with MZ"));
        }
        let pe = dos.e_lfanew.get(LE) as usize;
        let rest = bytes.get(pe..).ok_or(()).map_err(short)?;
        let (headers, _) = pod::from_bytes::<ImageNtHeaders64>(rest).map_err(short)?;
        let (coff, optional) = (&headers.file_header, &headers.optional_header);
        if headers.signature.get(LE) != pe::IMAGE_NT_SIGNATURE
            || coff.machine.get(LE) != pe::IMAGE_FILE_MACHINE_AMD64
            || optional.magic.get(LE) != pe::IMAGE_NT_OPTIONAL_HDR64_MAGIC
        {
            return Err(UkiError::NotEfi("no PE32+ header for that machine"));
        }
        let optional_at = pe + size_of::<u32>() + size_of::<pe::ImageFileHeader>();
        let table = optional_at + usize::from(coff.size_of_optional_header.get(LE));
        let count = usize::from(coff.number_of_sections.get(LE));
        if count > MAX_SECTIONS {
            return Err(UkiError::NotEfi("it has too many sections"));
        }
        let layout = Layout { pe, table, count };
        layout.sections(bytes)?;
        Ok(layout)
    }

    fn read(stub: &[u8]) -> Result<Self, UkiError> {
        let layout = Self::layout(stub)?;
        let mut file = Self { bytes: stub.to_vec(), layout, alignment: (0, 0), headers: 0 };
        let optional = file.nt()?.optional_header;
        let (on_disk, in_memory) =
            (optional.file_alignment.get(LE), optional.section_alignment.get(LE));
        let aligned = |size: u32| size.is_power_of_two() && size <= 1 << 16;
        if !(aligned(on_disk) && aligned(in_memory)) {
            return Err(UkiError::NotEfi("its alignment is none"));
        }
        file.alignment = (on_disk as usize, in_memory as usize);
        file.headers = optional.size_of_headers.get(LE) as usize;
        if file.certificates()? != 0 {
            return Err(UkiError::Signed);
        }
        Ok(file)
    }

    /// Bytes of signatures.
    fn certificates(&self) -> Result<u32, UkiError> {
        let directories = self.layout.pe + size_of::<ImageNtHeaders64>();
        let at = directories + CERTIFICATES * size_of::<pe::ImageDataDirectory>();
        let none = UkiError::NotEfi("it has no table of data directories");
        let bytes = self.bytes.get(at..self.layout.table).ok_or(none.clone())?;
        let (entry, _) = pod::from_bytes::<pe::ImageDataDirectory>(bytes).map_err(|()| none)?;
        Ok(entry.size.get(LE))
    }

    fn nt(&mut self) -> Result<&mut ImageNtHeaders64, UkiError> {
        let rest = self.bytes.get_mut(self.layout.pe..).unwrap_or_default();
        let headers = pod::from_bytes_mut(rest).map_err(|()| UkiError::NotEfi("it is cut short"));
        Ok(headers?.0)
    }

    fn clear_nx(&mut self) -> Result<(), UkiError> {
        let optional = &mut self.nt()?.optional_header;
        let mut flags = optional.dll_characteristics.get(LE);
        flags.0 &= !pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT.0;
        optional.dll_characteristics.set(LE, flags);
        Ok(())
    }

    /// Adds lines to the stub's own `.sbat`, in the room that is left in its section.
    fn extend_sbat(&mut self, lines: &str) -> Result<(), UkiError> {
        let no_room = || UkiError::NoRoom(".sbat");
        let headers = self.layout.sections(&self.bytes)?;
        let place = headers.iter().position(|header| header.name == *b".sbat\0\0\0");
        let place = place.ok_or(UkiError::NotEfi("it has no section .sbat"))?;
        let mut header = headers[place];
        let at = header.pointer_to_raw_data.get(LE) as usize;
        let (used, room) = (header.virtual_size.get(LE), header.size_of_raw_data.get(LE));
        let length = used as usize + lines.len();
        if length > room as usize {
            return Err(no_room());
        }
        let content = self.bytes.get_mut(at..at + room as usize).ok_or_else(no_room)?;
        content[used as usize..length].copy_from_slice(lines.as_bytes());
        header.virtual_size.set(LE, length as u32);
        self.put_header(place, &header)
    }

    fn put_header(&mut self, place: usize, header: &ImageSectionHeader) -> Result<(), UkiError> {
        let at = self.layout.table + place * size_of::<ImageSectionHeader>();
        let end = at + size_of::<ImageSectionHeader>();
        if end > self.headers {
            return Err(UkiError::NoRoom("a further section's header"));
        }
        let room = self.bytes.get_mut(at..end).ok_or(UkiError::NotEfi("it is cut short"))?;
        room.copy_from_slice(pod::bytes_of(header));
        Ok(())
    }

    /// Adds a section behind all others.
    fn append(&mut self, name: &'static str, content: &[u8]) -> Result<(), UkiError> {
        let (on_disk, in_memory) = self.alignment;
        let end = |header: &ImageSectionHeader| {
            header.virtual_address.get(LE) as usize + header.virtual_size.get(LE) as usize
        };
        let headers = self.layout.sections(&self.bytes)?;
        let address = headers.iter().map(end).max().unwrap_or(in_memory);
        let address = address.next_multiple_of(in_memory);
        let at = self.bytes.len().next_multiple_of(on_disk);
        let stored = (at + content.len()).next_multiple_of(on_disk.max(PLACES)) - at;
        let size_of_image = (address + content.len()).next_multiple_of(in_memory);

        let mut short_name = [0; 8];
        short_name[..name.len()].copy_from_slice(name.as_bytes());
        let kind = match name {
            // Where the kernel's own entry is called, as very old ones want it.
            ".linux" => pe::IMAGE_SCN_CNT_CODE,
            _ => pe::IMAGE_SCN_CNT_INITIALIZED_DATA,
        };
        let number = |value: usize| U32::new(LE, value as u32);
        let header = ImageSectionHeader {
            name: short_name,
            virtual_size: number(content.len()),
            virtual_address: number(address),
            size_of_raw_data: number(stored),
            pointer_to_raw_data: number(at),
            pointer_to_relocations: U32::new(LE, 0),
            pointer_to_linenumbers: U32::new(LE, 0),
            number_of_relocations: U16::new(LE, 0),
            number_of_linenumbers: U16::new(LE, 0),
            characteristics: U32::new(LE, kind | pe::IMAGE_SCN_MEM_READ),
        };
        self.put_header(self.layout.count, &header)?;
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(at + stored, 0);
        self.layout.count += 1;
        let count = self.layout.count as u16;
        let data = (kind == pe::IMAGE_SCN_CNT_INITIALIZED_DATA).then_some(content.len());
        let headers = self.nt()?;
        headers.file_header.number_of_sections.set(LE, count);
        let optional = &mut headers.optional_header;
        optional.size_of_image.set(LE, size_of_image as u32);
        let before = optional.size_of_initialized_data.get(LE);
        optional.size_of_initialized_data.set(LE, before + data.unwrap_or_default() as u32);
        optional.check_sum.set(LE, 0);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
