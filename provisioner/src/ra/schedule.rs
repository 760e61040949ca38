//! When to advertise (RFC 4861 sections 6.2.4 and 6.2.6), as a pure state: times are since the start.

use std::time::Duration;

/// The longest pause between two unsolicited ones (`MaxRtrAdvInterval`).
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// What a pause is shorter by, at most: `MinRtrAdvInterval` is a third of the longest.
const SPREAD: Duration = Duration::from_secs(400);
/// The first ones come faster (`MAX_INITIAL_RTR_ADVERT_INTERVAL`), so many of them.
const FIRST_PAUSE: Duration = Duration::from_secs(16);
const FIRST_ONES: u32 = 3;
/// Between any two to everyone (`MIN_DELAY_BETWEEN_RAS`): a thousand machines that ask at once
/// get one answer, and so does who asks all day.
const SHORTEST_PAUSE: Duration = Duration::from_secs(3);
/// The longest wait before an answer (`MAX_RA_DELAY_TIME`): others may ask meanwhile.
const LONGEST_DELAY: Duration = Duration::from_millis(500);
/// How long we keep silent after another's advertisement: three of the longest pauses, as long as
/// a router counts as one without a word.
pub const DEFERENCE: Duration = Duration::from_secs(1_800);

/// When the next one is due.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    next: Duration,
    last: Option<Duration>,
    sent: u32,
    silent_until: Duration,
}

impl Schedule {
    /// When [`Schedule::due`] is to be asked next: at once, at first.
    pub fn next(&self) -> Duration {
        self.next.max(self.silent_until)
    }

    /// Somebody asks. `chance`, from 0 to 1, spreads the answers.
    pub fn solicited(&mut self, now: Duration, chance: f64) {
        let soon = now + LONGEST_DELAY.mul_f64(chance.clamp(0.0, 1.0));
        let allowed = self.last.map_or(Duration::ZERO, |last| last + SHORTEST_PAUSE);
        self.next = self.next.min(soon.max(allowed));
    }

    /// Somebody else advertises here. True where we did so until now.
    pub fn deferred(&mut self, now: Duration) -> bool {
        let news = now >= self.silent_until;
        self.silent_until = now + DEFERENCE;
        news
    }

    /// Whether one is to be sent now; then it counts as sent.
    pub fn due(&mut self, now: Duration, chance: f64) -> bool {
        if now < self.next() {
            return false;
        }
        self.sent = self.sent.saturating_add(1);
        self.last = Some(now);
        let pause = match self.sent {
            ..=FIRST_ONES => FIRST_PAUSE,
            _ => LONGEST_PAUSE - SPREAD.mul_f64(chance.clamp(0.0, 1.0)),
        };
        self.next = now + pause;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// All that are sent until then, looked at when the schedule says.
    fn sent(schedule: &mut Schedule, until: f64) -> Vec<f64> {
        let mut times = Vec::new();
        while schedule.next() <= at(until) {
            let now = schedule.next();
            assert!(schedule.due(now, 1.0));
            times.push(now.as_secs_f64());
        }
        times
    }

    #[test]
    fn the_first_ones_come_fast_and_the_others_seldom() {
        let mut schedule = Schedule::default();
        assert_eq!(sent(&mut schedule, 500.0), [0.0, 16.0, 32.0, 48.0, 248.0, 448.0]);
        assert!(!schedule.due(at(500.0), 0.0));
    }

    #[test]
    fn who_asks_is_answered_soon_and_a_thousand_by_one() {
        let mut schedule = Schedule::default();
        sent(&mut schedule, 250.0);
        for _ in 0..1_000 {
            schedule.solicited(at(300.0), 0.5);
        }
        assert_eq!(sent(&mut schedule, 310.0), [300.25]);
        // Asked all the time it answers every three seconds.
        schedule.solicited(at(301.0), 0.0);
        assert_eq!(schedule.next(), at(303.25));
    }

    #[test]
    fn where_another_advertises_we_do_not_until_it_has_gone() {
        let mut schedule = Schedule::default();
        sent(&mut schedule, 20.0);
        assert!(schedule.deferred(at(30.0)), "news");
        assert!(!schedule.deferred(at(40.0)), "none");
        schedule.solicited(at(50.0), 0.0);
        assert!(sent(&mut schedule, 1_829.0).is_empty());
        assert_eq!(sent(&mut schedule, 1_841.0), [1_840.0]);
        assert!(schedule.deferred(at(1_850.0)), "news again");
    }
}
