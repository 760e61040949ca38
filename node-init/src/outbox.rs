//! Boot events on their way to the provisioner: kept until it has acknowledged them, bounded
//! whatever happens.

use protocol::{
    Digest,
    boot::{BootEvent, MAX_DETAIL_LEN, MAX_EVENTS, StageState},
};
use std::{collections::VecDeque, time::Duration};

/// The most events of one report: small enough for any server's limit on a body even with the
/// longest details.
pub const MAX_REPORT: usize = 64;

/// Events that the provisioner has not acknowledged, oldest first; at most [`MAX_EVENTS`].
#[derive(Debug)]
pub struct Outbox {
    boot_id: Digest,
    next: u32,
    waiting: VecDeque<BootEvent>,
}

impl Outbox {
    /// An empty one for this boot.
    pub fn new(boot_id: Digest) -> Self {
        Self { boot_id, next: 0, waiting: VecDeque::new() }
    }

    /// Takes an event in.
    ///
    /// A stage that is tried again and again says the same again and again: its newest word takes
    /// the place of the one before, so that days without a provisioner cost one event. Where the
    /// box is full all the same, the oldest such word goes, or else the oldest event.
    pub fn push(&mut self, stage: &str, state: StageState, at: Duration, detail: &str) {
        let retrying = |event: &BootEvent| event.state == StageState::Retrying;
        if state == StageState::Retrying
            && self.waiting.back().is_some_and(|last| retrying(last) && last.stage == stage)
        {
            self.waiting.pop_back();
        }
        if self.waiting.len() >= MAX_EVENTS {
            let gone = self.waiting.iter().position(retrying).unwrap_or(0);
            self.waiting.remove(gone);
        }
        self.waiting.push_back(BootEvent {
            sequence: self.next,
            boot_id: self.boot_id,
            stage: stage.to_owned(),
            state,
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            detail: cut(detail, MAX_DETAIL_LEN).to_owned(),
        });
        self.next = self.next.wrapping_add(1);
    }

    /// The next report; empty where all is acknowledged.
    pub fn report(&self) -> Vec<BootEvent> {
        self.waiting.iter().take(MAX_REPORT).cloned().collect()
    }

    /// The provisioner has this report.
    pub fn acknowledge(&mut self, report: &[BootEvent]) {
        let Some(last) = report.last() else { return };
        self.waiting.retain(|event| event.sequence > last.sequence);
    }

    /// Whether all is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// The longest beginning of a text of at most so many bytes.
pub fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outbox() -> Outbox {
        Outbox::new(Digest([1; 32]))
    }

    fn push(outbox: &mut Outbox, stage: &str, state: StageState) {
        outbox.push(stage, state, Duration::from_millis(1234), "why");
    }

    #[test]
    fn events_wait_in_order_until_they_are_acknowledged() {
        let mut outbox = outbox();
        push(&mut outbox, "mounts", StageState::Started);
        push(&mut outbox, "mounts", StageState::Done);
        let report = outbox.report();
        let (sequences, at): (Vec<_>, Vec<_>) =
            report.iter().map(|event| (event.sequence, event.at_ms)).unzip();
        assert_eq!((sequences, at), (vec![0, 1], vec![1234, 1234]));
        push(&mut outbox, "network", StageState::Started);
        outbox.acknowledge(&report);
        assert_eq!(outbox.report()[0].sequence, 2);
        outbox.acknowledge(&outbox.report());
        assert!(outbox.is_empty());
        outbox.acknowledge(&[]);
    }

    #[test]
    fn a_stage_that_is_tried_again_and_again_takes_one_place() {
        let mut outbox = outbox();
        push(&mut outbox, "network", StageState::Started);
        for _ in 0..1000 {
            push(&mut outbox, "network", StageState::Retrying);
        }
        let sequences: Vec<_> = outbox.report().iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, [0, 1000]);
    }

    #[test]
    fn a_full_box_keeps_what_is_done_longer_than_what_is_tried() {
        let mut outbox = outbox();
        push(&mut outbox, "mounts", StageState::Done);
        for index in 0..MAX_EVENTS {
            let stage = if index % 2 == 0 { "enrolment" } else { "registration" };
            push(&mut outbox, stage, StageState::Retrying);
        }
        assert_eq!(outbox.waiting.len(), MAX_EVENTS);
        assert_eq!(outbox.report()[0].stage, "mounts");
        assert_eq!(outbox.report().len(), MAX_REPORT);
    }

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let mut outbox = outbox();
        outbox.push("x", StageState::Done, Duration::ZERO, &"ä".repeat(MAX_DETAIL_LEN));
        assert_eq!(outbox.report()[0].detail.len(), MAX_DETAIL_LEN);
        assert_eq!(cut("aä", 2), "a");
    }

    proptest! {
        #[test]
        fn the_box_is_bounded_and_loses_nothing_that_is_acknowledged_in_time(
            steps in proptest::collection::vec((0usize..3, 0usize..3, any::<bool>()), 0..600),
        ) {
            let mut outbox = outbox();
            let mut delivered = Vec::new();
            let mut done = Vec::new();
            let states = [StageState::Started, StageState::Done, StageState::Retrying];
            for (stage, state, deliver) in steps {
                if states[state] == StageState::Done {
                    done.push(outbox.next);
                }
                push(&mut outbox, ["a", "b", "c"][stage], states[state]);
                prop_assert!(outbox.waiting.len() <= MAX_EVENTS);
                if deliver {
                    let report = outbox.report();
                    outbox.acknowledge(&report);
                    delivered.extend(report.into_iter().map(|event| event.sequence));
                }
            }
            prop_assert!(delivered.is_sorted());
            if outbox.next <= MAX_EVENTS as u32 {
                delivered.extend(outbox.waiting.iter().map(|event| event.sequence));
                prop_assert!(done.iter().all(|sequence| delivered.contains(sequence)));
            }
        }
    }
}
