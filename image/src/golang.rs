//! What a Go program says of its own build: the compiler, and its modules by version and checksum.
//! Pure; foreign bytes are refused, never trusted.
//!
//! As debug/buildinfo of Go reads it from programs that Go 1.18 or newer linked.

use crate::elf::{self, NotElf};

/// Where a program has it.
const SECTION: &[u8] = b".go.buildinfo";
/// What that begins with. Behind it are the size of a pointer, and flags.
const MAGIC: &[u8] = b"\xff Go buildinf:";
const FLAGS: usize = 15;
/// Of the flags: both texts follow the header, and nothing is pointed to.
const INLINE: u8 = 2;
const HEADER: usize = 32;
/// What stands before and behind the list of modules, in bytes.
const FRAME: usize = 16;
/// A length has seven bits in each byte. No text here has as many as four of these can say.
const MAX_LENGTH_BYTES: usize = 4;

/// A module that is linked into a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its path: `github.com/cometbft/cometbft`.
    pub path: String,
    /// Its version.
    pub version: String,
    /// The checksum of its files that Go held it against (`h1:…`); empty where it names none.
    pub sum: String,
}

/// What a program was built with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// The compiler's version: `go1.26.8`.
    pub go: String,
    /// Its modules, the program's own first.
    pub modules: Vec<Module>,
}

/// Why bytes are no Go program that tells of itself.
#[derive(Debug, thiserror::Error)]
pub enum NotGo {
    /// It is no program for x86-64 at all.
    #[error(transparent)]
    NotElf(#[from] NotElf),
    /// Nothing in it says how it was built.
    #[error("it does not say how it was built, as programs of Go 1.18 or newer do: {0}")]
    Untold(&'static str),
}

/// Reads what a program says.
pub fn build(program: &[u8]) -> Result<Build, NotGo> {
    let section = elf::section(program, SECTION)?;
    read(section.ok_or(NotGo::Untold("it has no section .go.buildinfo"))?)
}

/// Reads the section's content.
fn read(section: &[u8]) -> Result<Build, NotGo> {
    let flags = section.get(FLAGS).copied().unwrap_or_default();
    if !section.starts_with(MAGIC) || flags & INLINE == 0 {
        return Err(NotGo::Untold("its section begins otherwise"));
    }
    let short = || NotGo::Untold("its section is cut short");
    let (go, rest) = section.get(HEADER..).and_then(text).ok_or_else(short)?;
    let (framed, _) = text(rest).ok_or_else(short)?;
    let list = framed.get(FRAME..framed.len().saturating_sub(FRAME)).ok_or_else(short)?;
    let utf8 =
        |bytes| std::str::from_utf8(bytes).map_err(|_| NotGo::Untold("what it says is not UTF-8"));
    Ok(Build { go: utf8(go)?.into(), modules: modules(utf8(list)?) })
}

/// A text behind its length, and what follows it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0;
    for (at, byte) in bytes.iter().enumerate().take(MAX_LENGTH_BYTES) {
        // The lowest bits come first; the highest bit says that more follow.
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return bytes.get(at + 1..)?.split_at_checked(length);
        }
    }
    None
}

/// The modules of a list: `mod`, `dep` or `=>`, path, version and checksum a line.
fn modules(list: &str) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for line in list.lines() {
        let mut words = line.split('\t');
        let kind = words.next().unwrap_or_default();
        let mut word = || words.next().unwrap_or_default().to_string();
        let module = Module { path: word(), version: word(), sum: word() };
        match kind {
            "mod" | "dep" => modules.push(module),
            // Linked in the place of the one before.
            "=>" => {
                if let Some(last) = modules.last_mut() {
                    *last = module;
                }
            }
            _ => {}
        }
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(go: &str, list: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([8, INLINE]);
        bytes.resize(HEADER, 0);
        let framed = [&[0xf9; FRAME][..], list.as_bytes(), &[0xf2; FRAME]].concat();
        for text in [go.as_bytes(), framed.as_slice()] {
            // Two bytes of length, whether or not one would do.
            bytes.extend([text.len() as u8 | 0x80, (text.len() >> 7) as u8]);
            bytes.extend(text);
        }
        bytes
    }

    #[test]
    fn a_program_tells_its_compiler_and_its_modules() {
        let list = "path\ta.test/x/cmd\nmod\ta.test/x\tv1.2.3\th1:own=\n\
                    dep\tb.test/y\tv0.1.0\th1:other=\ndep\tc.test/z\tv0.2.0\n\
                    =>\td.test/z\tv0.3.0\th1:instead=\nbuild\t-trimpath=true\n";
        let build = read(&section("go1.26.8", list)).unwrap();
        assert_eq!(build.go, "go1.26.8");
        let told: Vec<_> = build
            .modules
            .iter()
            .map(|module| (module.path.as_str(), module.version.as_str(), module.sum.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("a.test/x", "v1.2.3", "h1:own="),
                ("b.test/y", "v0.1.0", "h1:other="),
                ("d.test/z", "v0.3.0", "h1:instead="),
            ]
        );
    }

    #[test]
    fn what_is_no_go_program_is_refused() {
        let good = section("go1.26.8", "mod\ta.test/x\tv1\th1:x=\n");
        for length in 0..good.len() {
            assert!(read(&good[..length]).is_err(), "{length} of {} bytes", good.len());
        }
        let mut pointers = good.clone();
        pointers[FLAGS] = 0;
        assert!(read(&pointers).is_err());
        assert!(build(b"#!/bin/sh").unwrap_err().to_string().contains("ELF"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes: Vec<u8>, good: bool) {
            if good {
                let head = section("go1", "");
                bytes.splice(..0, head[..HEADER].iter().copied());
            }
            let _ = read(&bytes);
        }
    }
}
