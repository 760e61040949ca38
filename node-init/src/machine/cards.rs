//! NVIDIA's cards while they work: their library is asked, and the kernel's log is read for faults.

use super::Machine;
use crate::{
    api::kernel_log,
    kernel::{Started, Stop},
    net::Network,
    nvidia::{
        reading::{self, MAX_OUTPUT},
        xid::{Blame, Watch},
    },
    stages::cards,
};
use protocol::{boot::StageState, nvidia::Reading};
use std::{rc::Rc, time::Duration};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    time::{sleep, timeout},
};

/// How often the kernel's log is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// Of those times, how often the library is asked: every five minutes.
const ASKED: u32 = 30;
/// How long it may take to answer; it starts cards that are not.
const ANSWER: Duration = Duration::from_secs(20);

impl<N: Network> Machine<N> {
    /// Asks the driver's library about the cards, by a process that ends.
    pub(super) async fn ask_cards(&self, files: &[String]) -> Result<Vec<Reading>, String> {
        let program = cards::asking(self.kernel.as_ref(), files).map_err(|e| e.to_string())?;
        let failed = |error| format!("NVIDIA's library cannot be asked: {error}");
        let Started { pid, output } = self.kernel.spawn(&program).map_err(failed)?;
        let output = pipe::Receiver::from_owned_fd(output).map_err(failed)?;
        let mut text = Vec::new();
        let mut output = output.take(MAX_OUTPUT as u64);
        if timeout(ANSWER, output.read_to_end(&mut text)).await.is_err() {
            // Its end is collected like every process's.
            let _ = self.kernel.stop(&program, pid, Stop::Kill);
            return Err("NVIDIA's library does not answer".into());
        }
        let text = String::from_utf8_lossy(&text);
        let readings = reading::parse(&text);
        self.readings.replace(readings.clone());
        match readings.is_empty() {
            true => Err(failed(std::io::Error::other(crate::outbox::cut(text.trim(), 200)))),
            false => Ok(readings),
        }
    }

    /// Tells of faults for as long as the machine runs.
    pub(super) fn watch_cards(self: Rc<Self>, files: Vec<String>, mut known: Vec<Reading>) {
        let machine = self.clone();
        self.aside("cards", async move {
            let mut watch = Watch::default();
            for round in 1u32.. {
                machine.tell_faults(&mut watch).await;
                if round % ASKED == 0 {
                    match machine.ask_cards(&files).await {
                        Ok(now) => {
                            machine.tell_readings(&known, &now);
                            known = now;
                        }
                        Err(error) => machine.say("cards", StageState::Failed, &error),
                    }
                }
                sleep(EVERY).await;
            }
        });
    }

    /// Tells of errors of cards' memories that came since, and of persistence that is off since.
    pub(super) fn tell_readings(&self, before: &[Reading], now: &[Reading]) {
        for (grave, error) in reading::errors_since(before, now) {
            let state = if grave { StageState::Failed } else { StageState::Done };
            self.say("cards", state, &error);
        }
        for off in reading::not_persistent_since(before, now) {
            self.say("cards", StageState::Done, &off);
        }
    }

    async fn tell_faults(&self, watch: &mut Watch) {
        let read = self.local(|kernel| kernel_log::last(kernel, usize::MAX)).await;
        let lines = match read {
            Ok(lines) => lines,
            Err(error) => {
                let detail = format!("faults of cards stay unseen: {error}");
                return self.say("cards", StageState::Failed, &detail);
            }
        };
        let (faults, more) = watch.step(&lines);
        for fault in &faults {
            let state = match fault.blame() {
                Blame::Work => StageState::Done,
                Blame::Memory | Blame::Card => StageState::Failed,
            };
            self.say("cards", state, &fault.to_string());
        }
        if more > 0 {
            self.say("cards", StageState::Failed, &format!("and {more} more faults"));
        }
    }
}
