//! The log: lines for people, or JSON for programs, to standard error.
//!
//! Every event of a machine's timeline is a line with the fields `mac` and `kind`
//! ([`crate::timeline`]); what else concerns one machine has its `mac` too.

pub use crate::config::LogFormat as Format;

use std::io::{IsTerminal, stderr};
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

/// Starts it. RUST_LOG says what is written; without it everything from `info` on.
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    // A second start is a mistake of ours, and no reason to end.
    let _ = match format {
        Format::Text => lines.with_ansi(stderr().is_terminal()).finish().try_init(),
        // Fields beside the message, not a level below.
        Format::Json => {
            lines.json().flatten_event(true).with_current_span(false).finish().try_init()
        }
    };
}
