//! The life of a machine: its states, what leads from one to another, and how long each may last.
//!
//! A pure table. `docs/life.md` is made of it, the store applies it (`store/life.rs`), and nobody
//! else changes a machine's state.

use protocol::{certificate::Wish, fleet::MachineState};
use std::{fmt, fmt::Write as _, str::FromStr};

/// What moves a machine on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its loader fetched its boot script.
    Boots,
    /// It asked to be taken in, and may not without an operator's word.
    Waits,
    /// It asked to be taken in, and is not the machine that was approved.
    Changed,
    /// Its key was approved.
    Approve,
    /// It was taken in.
    TakenIn,
    /// Its boot came to stand: all its stages are done.
    Stands,
    /// Its boot script was fetched, and it goes on in the boot that it was in: it was somebody else.
    Lives,
    /// It switches itself off or restarts, because somebody asked it to.
    Ends,
    /// What its state waits for did not come in time.
    Overdue,
    /// It is to finish its work and take no more.
    Drain,
    /// It is to boot anew.
    Reimage,
    /// It is not trusted.
    Quarantine,
    /// It is trusted again, or works again.
    Release,
    /// It is here no more.
    Retire,
    /// It is here again.
    Restore,
}

/// Who moved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The machine itself.
    Machine,
    /// This program: a deadline.
    Clock,
    /// A rule or token, by its name.
    Rule(String),
    /// An operator, by name.
    Operator(String),
}

/// A state that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For what, as people read it after "waits for".
    pub what: &'static str,
    /// How long at most.
    pub seconds: u64,
    /// What is told when that did not come.
    pub late: &'static str,
}

/// What a machine in `draining` waits for, without end, once its work is done.
pub const DRAINED: &str = "an operator: its work is done";

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// What a state waits for; none where it does not.
pub fn wait(state: MachineState) -> Option<Wait> {
    use MachineState::{Approved, Booting, Discovered, Draining, Pending, Reimaging};
    let (what, seconds, late) = match state {
        Discovered => (
            "its request to be taken in",
            30 * DAY,
            "it was not heard of for 30 days; it is forgotten, and appears again when it boots",
        ),
        Pending => (
            "an operator's approval of its key",
            7 * DAY,
            "nobody approved its key for 7 days; it asks again when it boots",
        ),
        Approved => (
            "the machine, which asks for itself again",
            DAY,
            "it did not come within a day of its approval; look whether it is on, and approve it again",
        ),
        Booting => (
            "its word that all its stages are done",
            15 * MINUTE,
            "its boot did not come to stand within 15 minutes; its timeline and its screen say how \
             far it came",
        ),
        Draining => (
            "the end of the work that it has",
            30 * MINUTE,
            "it did not finish its work within 30 minutes, and works on; drain it again, or restart \
             it and have that work done elsewhere",
        ),
        Reimaging => (
            "its firmware, which asks what to boot",
            15 * MINUTE,
            "it did not ask what to boot within 15 minutes of its restart; look whether it is on, \
             and whether it boots from the network first",
        ),
        MachineState::Ready | MachineState::Quarantined | MachineState::Retired => return None,
    };
    Some(Wait { what, seconds, late })
}

/// All states, in the order of a life.
pub const STATES: [MachineState; 9] = [
    MachineState::Discovered,
    MachineState::Pending,
    MachineState::Approved,
    MachineState::Booting,
    MachineState::Ready,
    MachineState::Draining,
    MachineState::Reimaging,
    MachineState::Quarantined,
    MachineState::Retired,
];

/// All causes.
pub const CAUSES: [Cause; 15] = [
    Cause::Boots,
    Cause::Waits,
    Cause::Changed,
    Cause::Approve,
    Cause::TakenIn,
    Cause::Stands,
    Cause::Lives,
    Cause::Ends,
    Cause::Overdue,
    Cause::Drain,
    Cause::Reimage,
    Cause::Quarantine,
    Cause::Release,
    Cause::Retire,
    Cause::Restore,
];

/// Where a cause leads from a state. None where it says nothing there: what a machine reports out
/// of turn changes nothing, and an operator is told what may be done instead. The same state means
/// that its time begins anew.
pub fn next(from: MachineState, cause: Cause) -> Option<MachineState> {
    use Cause::{
        Approve, Boots, Changed, Drain, Ends, Lives, Overdue, Quarantine, Reimage, Release,
        Restore, Retire, Stands, TakenIn, Waits,
    };
    use MachineState::{
        Approved, Booting, Discovered, Draining, Pending, Quarantined, Ready, Reimaging, Retired,
    };
    Some(match (from, cause) {
        // Whoever is out stays out, whatever it does, until an operator says otherwise.
        (Quarantined, Release) | (Retired, Restore) => Discovered,
        (Quarantined, Retire) => Retired,
        (Quarantined | Retired, _) => return None,
        (_, Quarantine) => Quarantined,
        (_, Retire) => Retired,

        (_, TakenIn) => Booting,
        (Discovered, Boots) => Discovered,
        // Known to us, but not yet in this boot.
        (Ready | Draining | Reimaging | Booting, Boots) => Booting,
        // One that works is not moved by whoever claims to be it: it boots first.
        (Discovered | Booting | Reimaging, Waits | Changed) => Pending,
        (Discovered | Pending, Approve) => Approved,
        // A slow boot may come to stand after its time.
        (Discovered | Booting | Draining, Stands) => Ready,
        // Scripts are given to whoever asks; what its certificate says is its own.
        (Booting, Lives) => Ready,
        (Ready, Drain) => Draining,
        (Ready | Draining | Booting, Reimage | Ends) => Reimaging,

        (Pending | Approved | Booting | Reimaging, Overdue) => Discovered,
        (Draining, Overdue | Release) => Ready,
        _ => return None,
    })
}

/// Whether a machine in that state is taken in and given work.
pub fn is_barred(state: MachineState) -> bool {
    matches!(state, MachineState::Quarantined | MachineState::Retired)
}

/// What the node of a machine in that state is to do, which says that it is alive; `last` is what led
/// there.
pub fn wish(state: MachineState, last: Option<Cause>) -> Wish {
    match (state, last) {
        (MachineState::Draining | MachineState::Quarantined | MachineState::Retired, _) => {
            Wish::Drain
        }
        // Where it ends by another's word it is on its way.
        (MachineState::Reimaging, Some(Cause::Reimage)) => Wish::Restart,
        _ => Wish::Work,
    }
}

/// What may be asked for of a machine in that state by an operator.
pub fn commands(state: MachineState) -> impl Iterator<Item = Cause> {
    CAUSES.into_iter().filter(move |cause| cause.is_command() && next(state, *cause).is_some())
}

impl Cause {
    /// Whether an operator asks for it; all others happen.
    pub fn is_command(self) -> bool {
        use Cause::{Approve, Drain, Quarantine, Reimage, Release, Restore, Retire};
        matches!(self, Approve | Drain | Reimage | Quarantine | Release | Retire | Restore)
    }

    /// The cause that is written so in the store.
    pub fn named(name: &str) -> Option<Self> {
        CAUSES.into_iter().find(|cause| cause.as_str() == name)
    }

    /// As written in the store, in JSON and by an operator.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boots => "boots",
            Self::Waits => "waits",
            Self::Changed => "changed",
            Self::Approve => "approve",
            Self::TakenIn => "taken-in",
            Self::Stands => "stands",
            Self::Lives => "lives",
            Self::Ends => "ends",
            Self::Overdue => "overdue",
            Self::Drain => "drain",
            Self::Reimage => "reimage",
            Self::Quarantine => "quarantine",
            Self::Release => "release",
            Self::Retire => "retire",
            Self::Restore => "restore",
        }
    }

    /// For people.
    fn told(self) -> &'static str {
        match self {
            Self::Boots => "its loader fetched its boot script",
            Self::Waits => "it asked to be taken in, and its key waits for an operator",
            Self::Changed => "it asked to be taken in, and its hardware is not what was approved",
            Self::Approve => "its key was approved",
            Self::TakenIn => "it was taken in",
            Self::Stands => "all stages of its boot are done",
            Self::Lives => "it did not boot: its script was fetched by somebody else",
            Self::Ends => "it was asked to restart or to switch itself off",
            Self::Overdue => "what it waited for did not come in time",
            Self::Drain => "it was asked to finish its work",
            Self::Reimage => "it was asked to boot anew",
            Self::Quarantine => "it was put in quarantine",
            Self::Release => "its quarantine, or its drain, was ended",
            Self::Retire => "it was retired",
            Self::Restore => "it was taken back",
        }
    }
}

/// No cause is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nothing that can be asked of a machine; {known} are", known = known())]
pub struct UnknownCause(String);

fn known() -> String {
    let commands = CAUSES.into_iter().filter(|cause| cause.is_command());
    commands.map(Cause::as_str).collect::<Vec<_>>().join(", ")
}

/// What an operator writes.
impl FromStr for Cause {
    type Err = UnknownCause;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |cause: &Self| cause.is_command() && cause.as_str() == text;
        CAUSES.into_iter().find(named).ok_or_else(|| UnknownCause(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("the machine"),
            Self::Clock => f.write_str("the clock"),
            Self::Rule(name) => write!(f, "{name}"),
            Self::Operator(name) => write!(f, "operator {name}"),
        }
    }
}

/// How a transition is told on a machine's timeline.
pub fn told(from: MachineState, to: MachineState, cause: Cause, actor: &Actor) -> String {
    let mut text = format!("{} -> {}: {}", from.as_str(), to.as_str(), cause.told());
    if *actor != Actor::Machine && *actor != Actor::Clock {
        // Writing to a string does not fail.
        let _ = write!(text, ", by {actor}");
    }
    if cause == Cause::Overdue
        && let Some(wait) = wait(from)
    {
        let _ = write!(text, " ({})", wait.late);
    }
    text
}

/// The table as Markdown, for the documentation.
pub fn table() -> String {
    let mut text = String::from("| state | waits for | at most | leads to |\n|---|---|---|---|\n");
    for state in STATES {
        let (what, most) = match wait(state) {
            Some(wait) => (wait.what, duration(wait.seconds)),
            None => ("", String::new()),
        };
        let leads = CAUSES.into_iter().filter_map(|cause| {
            let to = next(state, cause).filter(|to| *to != state)?;
            Some(format!("{} -> `{}`", cause.as_str(), to.as_str()))
        });
        let leads: Vec<String> = leads.collect();
        let _ = writeln!(text, "| `{}` | {what} | {most} | {} |", state.as_str(), leads.join(", "));
    }
    text.push_str("\n| cause | what it is | who |\n|---|---|---|\n");
    for cause in CAUSES {
        let who = match cause {
            Cause::Overdue => "the clock",
            Cause::Approve => "an operator, a rule or a token",
            cause if cause.is_command() => "an operator",
            _ => "the machine",
        };
        let _ = writeln!(text, "| {} | {} | {who} |", cause.as_str(), cause.told());
    }
    text
}

fn duration(seconds: u64) -> String {
    match (seconds / DAY, seconds / MINUTE) {
        (0, minutes) => format!("{minutes} minutes"),
        (1, _) => "a day".into(),
        (days, _) => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn every_state_is_reached_and_left_and_each_that_waits_has_an_end() {
        let mut reached = BTreeSet::from([MachineState::Discovered.as_str()]);
        for state in STATES {
            let leads = CAUSES.into_iter().filter_map(|cause| next(state, cause));
            let leads: Vec<_> = leads.filter(|to| *to != state).collect();
            assert!(!leads.is_empty(), "{state:?} cannot be left");
            reached.extend(leads.iter().map(|to| to.as_str()));
            // A machine that was never more than seen is forgotten instead.
            let ends = next(state, Cause::Overdue).is_some() || state == MachineState::Discovered;
            assert_eq!(wait(state).is_some(), ends, "{state:?}");
        }
        assert_eq!(reached.len(), STATES.len(), "{reached:?}");
    }

    #[test]
    fn a_node_hears_of_what_was_asked_of_its_machine_and_restarts_by_no_other_word() {
        for state in STATES {
            for last in CAUSES.into_iter().filter(|cause| *cause != Cause::Reimage) {
                assert_ne!(wish(state, Some(last)), Wish::Restart, "{state:?} by {last:?}");
            }
            let works = matches!(wish(state, None), Wish::Work);
            assert_eq!(works, state != MachineState::Draining && !is_barred(state), "{state:?}");
        }
        assert_eq!(wish(MachineState::Reimaging, Some(Cause::Reimage)), Wish::Restart);
    }

    #[test]
    fn a_machine_that_is_out_comes_back_by_an_operator_alone() {
        for state in STATES.into_iter().filter(|state| is_barred(*state)) {
            for cause in CAUSES.into_iter().filter(|cause| !cause.is_command()) {
                assert_eq!(next(state, cause), None, "{state:?} by {cause:?}");
            }
        }
        let words = |state| commands(state).map(Cause::as_str).collect::<Vec<_>>();
        assert_eq!(words(MachineState::Quarantined), ["release", "retire"]);
        assert_eq!(words(MachineState::Retired), ["restore"]);
        assert_eq!(
            words(MachineState::Draining),
            ["reimage", "quarantine", "release", "retire"],
            "a drain is ended as it was begun"
        );
        assert_eq!(words(MachineState::Ready), ["drain", "reimage", "quarantine", "retire"]);
    }

    #[test]
    fn what_happens_is_no_command() {
        assert_eq!("drain".parse(), Ok(Cause::Drain));
        let error = "stands".parse::<Cause>().unwrap_err().to_string();
        assert!(error.contains("approve, drain, reimage"), "{error}");
    }

    #[test]
    fn an_end_of_patience_says_what_did_not_come() {
        let text =
            told(MachineState::Booting, MachineState::Discovered, Cause::Overdue, &Actor::Clock);
        assert!(text.contains("within 15 minutes"), "{text}");
        let by = Actor::Operator("anna".into());
        let text = told(MachineState::Ready, MachineState::Draining, Cause::Drain, &by);
        assert_eq!(text, "ready -> draining: it was asked to finish its work, by operator anna");
    }

    /// `ALIA_WRITE_DOCS=1` writes it.
    #[test]
    fn the_documentation_has_this_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/life.md");
        let text = fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once("<!-- table -->\n").unwrap();
        let (there, after) = rest.split_once("<!-- end -->").unwrap();
        if std::env::var_os("ALIA_WRITE_DOCS").is_some() {
            let marks = ["<!-- table -->\n", "<!-- end -->"];
            fs::write(&path, [before, marks[0], &table(), marks[1], after].concat()).unwrap();
            return;
        }
        assert_eq!(there, table(), "docs/life.md is old: ALIA_WRITE_DOCS=1 writes it");
    }
}
