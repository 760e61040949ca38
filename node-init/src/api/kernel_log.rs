//! The kernel's log, record by record as /dev/kmsg gives it
//! (<https://docs.kernel.org/admin-guide/abi-testing.html>, `dev-kmsg`).

use crate::kernel::Kernel;
use protocol::node_api::KernelLine;
use std::io;

/// The most bytes of records that are read: four times a kernel's usual ring of 256 KiB.
pub const MAX_BYTES: usize = 1 << 20;
/// The longest line that is given.
const MAX_LINE: usize = 1_000;

/// The last `count` lines, oldest first.
///
/// # Errors
/// Where the kernel does not give its log: `dmesg_restrict` asks for CAP_SYSLOG, which PID 1 keeps.
pub fn last(kernel: &dyn Kernel, count: usize) -> io::Result<Vec<KernelLine>> {
    let records = kernel.kernel_log(MAX_BYTES)?;
    let mut lines: Vec<KernelLine> = records.iter().filter_map(|record| line(record)).collect();
    lines.drain(..lines.len().saturating_sub(count));
    Ok(lines)
}

/// `6,339,5140900,-;NET: Registered` and, on lines of their own, what device it is about.
pub fn line(record: &[u8]) -> Option<KernelLine> {
    let record = String::from_utf8_lossy(record);
    let (head, text) = record.split_once(';')?;
    let mut numbers = head.split(',');
    let mut number = || numbers.next()?.parse::<u64>().ok();
    // The lower three bits are the level, the others who said it.
    let level = (number()? & 7) as u8;
    let (sequence, at_us) = (number()?, number()?);
    let text = text.lines().next().unwrap_or_default();
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let text = crate::outbox::cut(text, MAX_LINE).chars().map(printable).collect();
    Some(KernelLine { level, sequence, at_us, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;

    #[test]
    fn a_record_is_read_without_what_devices_it_names() {
        let record = b"30,17,5140900,-;eth0: link\tis up\n SUBSYSTEM=net\n DEVICE=n2\n";
        let wanted = KernelLine {
            level: 6,
            sequence: 17,
            at_us: 5_140_900,
            text: "eth0: link is up".into(),
        };
        assert_eq!(line(record), Some(wanted));
        assert_eq!(line(b"nonsense"), None);
        assert_eq!(line(b"1,x,3,-;a"), None);
    }

    #[test]
    fn the_last_lines_are_given() {
        let kernel = Fake::new(&[]);
        kernel.world().log = (0..9).map(|n| format!("6,{n},1,-;line {n}\n").into_bytes()).collect();
        let lines = last(&kernel, 2).unwrap();
        assert_eq!(lines.iter().map(|line| line.sequence).collect::<Vec<_>>(), [7, 8]);
        let forbidden = Fake::new(&[]).failing("kernel log", 1);
        assert!(last(&forbidden, 2).is_err());
    }

    proptest! {
        #[test]
        fn no_record_panics_and_each_is_one_line(bytes in "([0-9]{0,21}|,|;|-|\\PC|\n){0,30}") {
            if let Some(line) = line(bytes.as_bytes()) {
                prop_assert!(!line.text.contains(char::is_control) && line.level < 8);
            }
        }
    }
}
