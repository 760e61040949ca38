//! What the kernel kept of its own death (pstore), read at the next boot, delivered, then erased.
//!
//! Where there is somewhere to keep it: UEFI variables (`efi-pstore`, loaded by modalias) or
//! firmware's error records (ERST). A log comes in parts of a kilobyte or so, a file each, whose
//! first line says which: `Panic#1 Part3`, part 1 being the end.

use crate::kernel::{Kernel, Mount};
use protocol::boot::MAX_CRASH_LEN;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where pstore shows them; the kernel makes the mount point.
const PSTORE: Mount =
    Mount { kind: "pstore", on: "/sys/fs/pstore", devices: false, programs: false, options: "" };
/// EBUSY: it is mounted already.
const BUSY: i32 = 16;
/// The largest part that is read: firmware's records have up to 64 KiB.
const MAX_PART: usize = 64 << 10;
/// The most parts that are read at one boot: some ten deaths in UEFI variables.
const MAX_PARTS: usize = 128;
/// The longest word for why in bytes.
const MAX_REASON: usize = 200;

/// A death.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The kernel's word for why.
    pub reason: String,
    /// The end of its log, at most [`MAX_CRASH_LEN`] bytes.
    pub text: String,
    /// The parts, to be erased once it is delivered.
    pub files: Vec<PathBuf>,
}

/// What a file's name and first line say of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Label {
    /// The backend, `efi_pstore`, and when it died, where the name tells: parts of one death.
    death: (String, u64),
    /// `Panic`, `Oops`, …
    kind: String,
    /// Counts up within a boot.
    number: u32,
}

/// Reads all deaths that are kept, in the order of their names.
pub fn read(kernel: &dyn Kernel) -> Vec<Crash> {
    match kernel.mount(&PSTORE) {
        Err(error) if error.raw_os_error() != Some(BUSY) => return Vec::new(),
        _ => {}
    }
    let folder = Path::new(PSTORE.on);
    let entries = kernel.list(folder).unwrap_or_default();
    let names = entries.into_iter().map(|entry| entry.name).filter(|name| is_log(name));
    let parts = names.take(MAX_PARTS).filter_map(|name| {
        let bytes = kernel.read(&folder.join(&name), MAX_PART).ok()?;
        Some((name, bytes))
    });
    assemble(parts.collect())
        .into_iter()
        .map(|crash| {
            let files = crash.files.into_iter().map(|file| folder.join(file)).collect();
            Crash { files, ..crash }
        })
        .collect()
}

/// Erases a death from where it is kept.
pub fn erase(kernel: &dyn Kernel, crash: &Crash) {
    for file in &crash.files {
        // What cannot be erased is delivered again; the provisioner keeps it once.
        let _ = kernel.remove(file);
    }
}

fn is_log(name: &str) -> bool {
    name.starts_with("dmesg-")
}

/// Puts parts together into deaths. Pure.
fn assemble(parts: Vec<(String, Vec<u8>)>) -> Vec<Crash> {
    let mut deaths: BTreeMap<Label, Vec<(u32, PathBuf, String)>> = BTreeMap::new();
    for (name, bytes) in parts {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (label, part, text) = label(&name, &text);
        deaths.entry(label).or_default().push((part, name.into(), text));
    }
    let crash = |(label, mut parts): (Label, Vec<(u32, PathBuf, String)>)| {
        // The end of the log is part 1.
        parts.sort_by_key(|(part, ..)| std::cmp::Reverse(*part));
        let text: String = parts.iter().map(|(_, _, text)| text.as_str()).collect();
        let files = parts.into_iter().map(|(_, file, _)| file).collect();
        Crash { reason: reason(&text, &label.kind), text: end(&text).to_owned(), files }
    };
    deaths.into_iter().map(crash).collect()
}

/// What a part belongs to, its number, and what follows its first line.
fn label(name: &str, text: &str) -> (Label, u32, String) {
    // `dmesg-efi_pstore-176373000100001`, `dmesg-erst-6930…`, with `.enc.z` where it could not be
    // unpacked.
    let rest = name.strip_prefix("dmesg-").unwrap_or(name);
    let (backend, id) = rest.rsplit_once('-').unwrap_or((rest, ""));
    let id: u64 = id.split('.').next().unwrap_or_default().parse().unwrap_or(0);
    // (time * 100 + part) * 1000 + count: drivers/firmware/efi/efi-pstore.c.
    let died = if backend == "efi_pstore" { id / 100_000 } else { 0 };
    let first = text.lines().next().unwrap_or_default();
    let header = first.split_once('#').and_then(|(kind, rest)| {
        let (number, part) = rest.split_once(" Part")?;
        let word = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric());
        word.then_some((kind.to_owned(), number.parse().ok()?, part.trim().parse().ok()?))
    });
    let death = (backend.to_owned(), died);
    match header {
        Some((kind, number, part)) => {
            let body = text.get(first.len() + 1..).unwrap_or_default().to_owned();
            (Label { death, kind, number }, part, body)
        }
        None => (Label { death, kind: "crash".to_owned(), number: 0 }, 0, text.to_owned()),
    }
}

/// The line that says why, without the kernel's time and level before it.
fn reason(text: &str, kind: &str) -> String {
    const WORDS: [&str; 4] =
        ["Kernel panic - not syncing", "BUG: ", "Oops: ", "general protection fault"];
    let line =
        WORDS.iter().find_map(|word| text.lines().find_map(|line| Some(&line[line.find(word)?..])));
    let line: String = line.unwrap_or(kind).chars().filter(|c| !c.is_control()).collect();
    crate::outbox::cut(&line, MAX_REASON).to_owned()
}

/// The end of a log that is too long.
fn end(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(MAX_CRASH_LEN))..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;

    const END: &str = "Panic#1 Part1\n<4>[   12.3] RIP: 0010:x\n<0>[   12.4] Kernel panic - not \
                       syncing: Attempted to kill init! exitcode=0x00000100\n";

    #[test]
    fn the_parts_of_a_death_are_put_together_and_two_deaths_are_told_apart() {
        let kernel = Fake::new(&[
            ("/sys/fs/pstore/dmesg-efi_pstore-176373000101001", END),
            ("/sys/fs/pstore/dmesg-efi_pstore-176373000102001", "Panic#1 Part2\n<6>[ 0.0] Linux\n"),
            ("/sys/fs/pstore/dmesg-efi_pstore-176374000101001", "Oops#1 Part1\nBUG: bad page\n"),
            ("/sys/fs/pstore/console-ramoops-0", "not a death\n"),
        ]);
        let crashes = read(&kernel);
        assert_eq!(kernel.world().mounts, ["/sys/fs/pstore"]);
        assert_eq!(crashes.len(), 2);
        assert_eq!(
            crashes[0].reason,
            "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"
        );
        assert!(crashes[0].text.starts_with("<6>[ 0.0] Linux\n<4>["), "{}", crashes[0].text);
        assert_eq!(crashes[1].reason, "BUG: bad page");
        erase(&kernel, &crashes[0]);
        let left: Vec<_> = kernel.world().files.keys().cloned().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_machine_without_pstore_has_no_deaths_to_tell_of() {
        assert!(read(&Fake::new(&[]).failing("/sys/fs/pstore", 19)).is_empty());
        assert!(read(&Fake::new(&[])).is_empty());
    }

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        let text = format!("Panic#1 Part1\n{}the end", "ä".repeat(MAX_CRASH_LEN));
        let crash = assemble(vec![("dmesg-erst-1".into(), text.into_bytes())]).remove(0);
        assert!(crash.text.len() <= MAX_CRASH_LEN && crash.text.ends_with("the end"));
        assert_eq!(crash.reason, "Panic");
    }

    proptest! {
        // Firmware's variables are foreign bytes.
        #[test]
        fn no_parts_panic_and_each_file_is_in_one_death(
            parts in proptest::collection::btree_map(
                "dmesg-(efi_pstore-[0-9]{0,25}|[a-z-]{0,5}|x-1\\.enc\\.z)",
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..60),
                    "[A-Za-z]{0,5}#[0-9]{0,12} Part[0-9]{0,12}\n?(Kernel panic - not syncing)?".prop_map(String::into_bytes),
                ],
                0..9,
            ),
        ) {
            let count = parts.len();
            let crashes = assemble(parts.into_iter().collect());
            prop_assert_eq!(crashes.iter().map(|crash| crash.files.len()).sum::<usize>(), count);
            for crash in crashes {
                prop_assert!(crash.text.len() <= MAX_CRASH_LEN && crash.reason.len() <= MAX_REASON);
            }
        }
    }
}
