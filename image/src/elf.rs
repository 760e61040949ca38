//! What an ELF file asks for: libraries, its interpreter, and a kernel module's own description.
//! Pure; foreign bytes are refused, never trusted.

use object::{
    Endianness,
    elf::{DT_NEEDED, EM_X86_64, FileHeader64},
    read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader},
};

/// Why bytes are not an ELF file of ours.
#[derive(Debug, thiserror::Error)]
#[error("not an ELF file for x86-64: {0}")]
pub struct NotElf(String);

impl From<object::Error> for NotElf {
    fn from(error: object::Error) -> Self {
        Self(error.to_string())
    }
}

/// What a program or library is loaded with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The loader's path, in programs that are not static.
    pub interpreter: Option<String>,
    /// `DT_NEEDED`, in order.
    pub libraries: Vec<String>,
}

fn parse(bytes: &[u8]) -> Result<(&FileHeader64<Endianness>, Endianness), NotElf> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    if header.e_machine(endian) != EM_X86_64 {
        return Err(NotElf(format!("machine {}", header.e_machine(endian))));
    }
    Ok((header, endian))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string()
}

/// What a program or library asks for.
pub fn needs(bytes: &[u8]) -> Result<Needs, NotElf> {
    let (header, endian) = parse(bytes)?;
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, bytes)? {
        if let Some(path) = segment.interpreter(endian, bytes)? {
            needs.interpreter = Some(text(path));
        }
    }
    let sections = header.sections(endian, bytes)?;
    if let Some((entries, strings)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, strings)?;
        for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
            needs.libraries.push(text(entry.string(endian, strings)?));
        }
    }
    Ok(needs)
}

/// A section's content; none where there is no such section.
pub(crate) fn section<'a>(bytes: &'a [u8], name: &[u8]) -> Result<Option<&'a [u8]>, NotElf> {
    let (header, endian) = parse(bytes)?;
    let sections = header.sections(endian, bytes)?;
    match sections.section_by_name(endian, name) {
        Some((_, section)) => Ok(Some(section.data(endian, bytes)?)),
        None => Ok(None),
    }
}

/// A kernel module's `.modinfo`: its `key=value` pairs in order.
pub fn modinfo(bytes: &[u8]) -> Result<Vec<(String, String)>, NotElf> {
    let Some(content) = section(bytes, b".modinfo")? else {
        return Err(NotElf("it has no .modinfo section, so it is no kernel module".into()));
    };
    Ok(content
        .split(|byte| *byte == 0)
        .filter_map(|pair| {
            let pair = String::from_utf8_lossy(pair);
            pair.split_once('=').map(|(key, value)| (key.to_string(), value.to_string()))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn this_test_needs_libc_and_a_loader() {
        let bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = needs(&bytes).unwrap();
        assert!(needs.libraries.iter().any(|name| name == "libc.so.6"), "{needs:?}");
        assert_eq!(needs.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert!(modinfo(&bytes).is_err());
    }

    #[test]
    fn broken_files_are_refused() {
        let bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(needs(b"").is_err());
        assert!(needs(b"\x7fELF but not really an ELF file").is_err());
        // Cut where its section headers, at the end, are missing.
        assert!(needs(&bytes[..bytes.len() / 2]).is_err());
        let mut other = bytes.clone();
        other[18] = 183; // e_machine: AArch64
        assert!(needs(&other).unwrap_err().to_string().contains("183"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(mut bytes: Vec<u8>, elf: bool) {
            if elf {
                bytes.splice(..0, *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0");
            }
            let _ = needs(&bytes);
            let _ = modinfo(&bytes);
        }
    }
}
