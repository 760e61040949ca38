//! Which version of the exchanges two members speak: ours or the one before.

/// The newest version of every exchange here.
pub const CURRENT: u16 = 1;

/// The HTTP header that carries the versions a client speaks, newest first, comma-separated.
pub const HEADER: &str = "alia-protocol";

/// No common version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the peer speaks protocol {offered:?}; here {CURRENT} or the one before is spoken: update the older side"
)]
pub struct NoCommonVersion {
    /// What the peer offered.
    pub offered: String,
}

/// What we offer: this version and, once there is one, the one before.
pub fn offer() -> String {
    let before = CURRENT.saturating_sub(1);
    if before == 0 { CURRENT.to_string() } else { format!("{CURRENT},{before}") }
}

/// Chooses the newest version that both sides speak from a peer's offer.
pub fn negotiate(offered: &str) -> Result<u16, NoCommonVersion> {
    offered
        .split(',')
        .filter_map(|version| version.trim().parse::<u16>().ok())
        .filter(|version| (1..=CURRENT).contains(version) && version + 1 >= CURRENT)
        .max()
        .ok_or_else(|| NoCommonVersion { offered: offered.chars().take(64).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_chosen_and_a_stranger_refused() {
        assert_eq!(negotiate(&offer()), Ok(CURRENT));
        assert_eq!(negotiate(&format!("{},{CURRENT}", CURRENT + 1)), Ok(CURRENT));
        assert!(negotiate(&(CURRENT + 1).to_string()).is_err());
        assert!(negotiate("nonsense").is_err());
    }
}
