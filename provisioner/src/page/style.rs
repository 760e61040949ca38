//! The page's style sheet and script, in the page itself.

/// How it looks: light and dark, on a desk and on a telephone.
pub(super) const STYLE: &str = include_str!("style.css");
/// What keeps it as it is now. Nothing needs it.
pub(super) const SCRIPT: &str = include_str!("live.js");
