//! Which events begin a boot, and which end one. Pure.

use super::labels::values;
use crate::{
    progress::{Mark, SCRIPT, UKI},
    timeline::{Kind, Record},
};
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};
use protocol::boot::{STAGE_STANDS, StageState};
use std::fmt::{self, Write};

values! {
    /// What becomes of a boot.
    pub enum Outcome {
        /// Its script or UKI was fetched.
        Begun = "begun",
        /// The machine stands.
        Stood = "stood",
        /// A stage of it failed.
        Failed = "failed",
        /// The kernel had died before this boot.
        Crashed = "crashed",
        /// It was turned away.
        Refused = "refused",
    }
}

/// What an event is to a boot; none where it is merely on the way.
pub(super) fn outcome(record: &Record) -> Option<Outcome> {
    match record.kind {
        Kind::Crash => return Some(Outcome::Crashed),
        Kind::Refused | Kind::Conflict => return Some(Outcome::Refused),
        _ => {}
    }
    record.marks.iter().find_map(|mark| match mark {
        Mark::Done(SCRIPT | UKI, _) => Some(Outcome::Begun),
        Mark::Failed(..) => Some(Outcome::Failed),
        Mark::Node(event) if event.state == StageState::Failed => Some(Outcome::Failed),
        Mark::Node(event) if event.stage == STAGE_STANDS && event.state == StageState::Done => {
            Some(Outcome::Stood)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Mac;

    #[test]
    fn a_boot_begins_with_its_script_and_ends_where_it_fails() {
        let record = |kind, mark| Record::new(Mac([2, 0, 0, 0, 0, 1]), kind, "x").marks([mark]);
        let begun = record(Kind::Http, Mark::Done(SCRIPT, "x".into()));
        assert_eq!(outcome(&begun), Some(Outcome::Begun));
        let kernel = record(Kind::Http, Mark::Done("kernel", "x".into()));
        assert_eq!(outcome(&kernel), None);
        let failed = record(Kind::Tftp, Mark::Failed("tftp", "x".into()));
        assert_eq!(outcome(&failed), Some(Outcome::Failed));
        let refused = record(Kind::Refused, Mark::Failed("tftp", "x".into()));
        assert_eq!(outcome(&refused), Some(Outcome::Refused));
    }
}
