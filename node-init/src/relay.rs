//! The console on its way to the provisioner: the kernel's records and PID 1's own lines, in batches, by
//! TLS once the node is taken in; what was said before is sent then.
//!
//! Nothing is kept for it: lines wait where they are anyhow, in the kernel's ring and in PID 1's
//! ([`crate::ring`]), and one batch is in hand. What those overwrite before it is sent is missing in the
//! numbers that each source counts, and so the provisioner tells of it. Nothing here says anything
//! itself, or a provisioner that is away would be told of without end.

use crate::{
    api::kernel_log,
    http::{self, Base, HttpError, Secured},
    kernel::KernelLog,
    mac::Mac,
    ring::Ring,
    runner::back_off,
};
use protocol::{
    Digest,
    console::{
        ConsoleBatch, ConsoleLine, ConsoleSource, MAX_CONSOLE_LINE, MAX_CONSOLE_LINES,
        without_secrets,
    },
};
use std::time::Duration;
use tokio::{task::spawn_blocking, time::sleep};

/// How often it is looked for lines: a batch of the largest size each time makes 64 lines a second.
const EVERY: Duration = Duration::from_secs(4);
/// Pauses after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(4);
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// The most lines of one source in a batch: a flood of one does not keep the other back.
const SHARE: usize = MAX_CONSOLE_LINES / 2;

/// What is read, and up to where.
struct Reader {
    /// None where the kernel does not give its log.
    kernel: Option<Box<dyn KernelLog>>,
    ring: Ring,
    /// The number of PID 1's next line.
    next: u64,
}

impl Reader {
    /// The next lines, in the order in which they were said; none where there are none yet.
    fn read(&mut self) -> Vec<ConsoleLine> {
        let mut lines = Vec::new();
        if let Some(kernel) = &mut self.kernel {
            while lines.len() < SHARE {
                match kernel.next() {
                    Ok(Some(record)) => lines.extend(kernel_log::line(&record).map(of_kernel)),
                    Ok(None) => break,
                    Err(_) => {
                        self.kernel = None;
                        break;
                    }
                }
            }
        }
        let own = self.ring.from(self.next, SHARE);
        self.next = own.last().map_or(self.next, |line| line.sequence + 1);
        lines.extend(own.into_iter().map(|line| ConsoleLine {
            source: ConsoleSource::Init,
            sequence: line.sequence,
            at_ms: line.at_ms,
            level: None,
            text: sent(&line.text),
        }));
        // The order of either source stays: a stable sort by times that do not go back.
        lines.sort_by_key(|line| line.at_ms);
        lines
    }
}

fn of_kernel(line: protocol::node_api::KernelLine) -> ConsoleLine {
    ConsoleLine {
        source: ConsoleSource::Kernel,
        sequence: line.sequence,
        at_ms: line.at_us / 1_000,
        level: Some(line.level),
        text: sent(&line.text),
    }
}

fn sent(text: &str) -> String {
    let text = without_secrets(text);
    crate::outbox::cut(&text, MAX_CONSOLE_LINE).to_owned()
}

/// Where lines go.
pub struct Way {
    /// The provisioner.
    pub provisioner: Base,
    /// The machine.
    pub mac: Mac,
    /// The boot.
    pub boot_id: Digest,
}

/// Sends lines for as long as the machine runs; ends where the provisioner takes none. `kernel` is the
/// kernel's log, where it gives one; `secured` says how the provisioner is spoken to, once the node is
/// taken in.
pub async fn run(
    kernel: Option<Box<dyn KernelLog>>,
    ring: Ring,
    way: Way,
    secured: impl Fn() -> Option<Secured>,
) {
    let path = format!("/v1/machines/{}/lines", way.mac);
    let mut reader = Some(Reader { kernel, ring, next: 0 });
    let mut batch: Option<Vec<u8>> = None;
    let mut failures = 0;
    loop {
        let Some(channel) = secured() else {
            sleep(EVERY).await;
            continue;
        };
        if batch.is_none() {
            let Some(mut taken) = reader.take() else { return };
            // Reading the kernel's ring is no work for PID 1's own thread.
            let read = spawn_blocking(move || {
                let lines = taken.read();
                (taken, lines)
            });
            let Ok((taken, lines)) = read.await else { return };
            reader = Some(taken);
            if !lines.is_empty() {
                let whole = ConsoleBatch { boot_id: way.boot_id, lines };
                batch = serde_json::to_vec(&whole).ok();
            }
        }
        let pause = match &batch {
            None => EVERY,
            Some(body) => {
                match http::post_by(&way.provisioner, Some(&channel), &path, body.clone()).await {
                    // What it refuses as malformed it would refuse for ever.
                    Ok(_) | Err(HttpError::Refused { status: 400 | 413 | 422, .. }) => {
                        (batch, failures) = (None, 0);
                        EVERY
                    }
                    // It is of a version that knows of no consoles.
                    Err(HttpError::Refused { status: 404 | 405, .. }) => return,
                    Err(_) => {
                        failures += 1;
                        back_off(FIRST_PAUSE, MOST_PAUSE, failures)
                    }
                }
            }
        };
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Kernel, fake::Fake};
    use std::collections::BTreeMap;

    fn reader(records: Vec<Vec<u8>>) -> (Reader, Ring) {
        let fake = Fake::new(&[]);
        fake.world().log = records;
        let ring = Ring::default();
        (Reader { kernel: fake.open_kernel_log().ok(), ring: ring.clone(), next: 0 }, ring)
    }

    fn record(n: u64, text: &str) -> Vec<u8> {
        format!("4,{n},{},-;{text}\n SUBSYSTEM=usb\n", n * 1_000).into_bytes()
    }

    fn numbers(lines: &[ConsoleLine]) -> BTreeMap<ConsoleSource, Vec<u64>> {
        let mut numbers: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for line in lines {
            numbers.entry(line.source).or_default().push(line.sequence);
        }
        numbers
    }

    #[test]
    fn lines_of_both_are_read_once_in_batches_and_what_was_said_before_too() {
        let (mut reader, ring) = reader((0..300).map(|n| record(n, "usb 1-1")).collect());
        for n in 0..200 {
            ring.push(&format!("alia {n}"));
        }
        let mut seen: BTreeMap<ConsoleSource, Vec<u64>> = BTreeMap::new();
        let mut batches = 0;
        loop {
            let lines = reader.read();
            if lines.is_empty() {
                break;
            }
            assert!(lines.len() <= MAX_CONSOLE_LINES && lines.is_sorted_by_key(|line| line.at_ms));
            for (source, more) in numbers(&lines) {
                seen.entry(source).or_default().extend(more);
            }
            batches += 1;
        }
        assert_eq!(seen[&ConsoleSource::Kernel], (0..300).collect::<Vec<_>>());
        assert_eq!(seen[&ConsoleSource::Init], (0..200).collect::<Vec<_>>());
        assert_eq!(batches, 3);
        ring.push("later");
        assert_eq!(reader.read()[0].text, "later");
    }

    #[test]
    fn what_was_overwritten_is_missing_in_the_numbers_and_secrets_in_the_text() {
        let (mut reader, ring) = reader(vec![record(7, "command line: x.password=hush y")]);
        for n in 0..crate::ring::MAX_LINES + 10 {
            ring.push(&n.to_string());
        }
        let lines = reader.read();
        let first = lines.iter().find(|line| line.source == ConsoleSource::Init);
        assert_eq!(first.map(|line| line.sequence), Some(10));
        let kernel = lines.iter().find(|line| line.source == ConsoleSource::Kernel).unwrap();
        assert_eq!((kernel.sequence, kernel.at_ms, kernel.level), (7, 7, Some(4)));
        assert_eq!(kernel.text, "command line: x.password=[hidden] y");
    }

    #[test]
    fn a_kernel_that_does_not_give_its_log_takes_nothing_from_the_rest() {
        let fake = Fake::new(&[]).failing("kernel log", 1);
        let ring = Ring::default();
        ring.push("one");
        let mut reader = Reader { kernel: fake.open_kernel_log().ok(), ring, next: 0 };
        assert_eq!(reader.read().len(), 1);
    }
}
