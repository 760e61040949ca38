//! From a request's method, path and query to a call: pure.

use protocol::node_api::OperatorRole;

/// Lines of logs that are given where the asker does not say.
const LINES: usize = 100;
/// The longest that a node shows itself.
pub const MOST_SECONDS: u64 = 300;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `GET /v1/identity`
    Identity,
    /// `GET /v1/status`
    Status,
    /// `GET /v1/stages`
    Stages,
    /// `GET /v1/logs?lines=N&follow=1`
    Logs {
        /// So many of the last ones.
        lines: usize,
        /// And those to come.
        follow: bool,
    },
    /// `GET /v1/inventory`
    Inventory,
    /// `GET /v1/metrics`
    Metrics,
    /// `GET /metrics`
    MetricsText,
    /// `GET /v1/processes`
    Processes,
    /// `GET /v1/kernel-log?lines=N`
    KernelLog {
        /// So many of the last ones.
        lines: usize,
    },
    /// `GET /v1/bundle`
    Bundle,
    /// `GET /v1/audit`
    Audit,
    /// `POST /v1/reboot`
    Reboot,
    /// `POST /v1/power-off`
    PowerOff,
    /// `POST /v1/drain`
    Drain,
    /// `POST /v1/undrain`
    Undrain,
    /// `POST /v1/identify?seconds=N`
    Identify {
        /// For so long, at most [`MOST_SECONDS`].
        seconds: u64,
    },
}

/// A request that is not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// For people: what is wrong, and what to do.
    pub text: String,
}

impl Call {
    /// The least role that may call it.
    pub fn needs(&self) -> OperatorRole {
        match self {
            Self::Identity
            | Self::Status
            | Self::Stages
            | Self::Logs { .. }
            | Self::Inventory
            | Self::Metrics
            | Self::MetricsText
            | Self::Processes
            | Self::KernelLog { .. }
            | Self::Bundle
            | Self::Audit => OperatorRole::Reader,
            Self::Reboot | Self::PowerOff | Self::Drain | Self::Undrain | Self::Identify { .. } => {
                OperatorRole::Operator
            }
        }
    }
}

/// Reads a request's method, path and query.
///
/// # Errors
/// [`Refusal`]: no such path (404), another method (405), a value that is none (400).
pub fn route(method: &str, path: &str, query: Option<&str>) -> Result<Call, Refusal> {
    let query = Query::read(query.unwrap_or_default())?;
    let call = match path {
        "/v1/identity" => Call::Identity,
        "/v1/status" => Call::Status,
        "/v1/stages" => Call::Stages,
        "/v1/logs" => Call::Logs {
            lines: query.lines.unwrap_or(LINES),
            follow: query.follow.unwrap_or(false),
        },
        "/v1/inventory" => Call::Inventory,
        "/v1/metrics" => Call::Metrics,
        "/metrics" => Call::MetricsText,
        "/v1/processes" => Call::Processes,
        "/v1/kernel-log" => Call::KernelLog { lines: query.lines.unwrap_or(LINES) },
        "/v1/bundle" => Call::Bundle,
        "/v1/audit" => Call::Audit,
        "/v1/reboot" => Call::Reboot,
        "/v1/power-off" => Call::PowerOff,
        "/v1/drain" => Call::Drain,
        "/v1/undrain" => Call::Undrain,
        "/v1/identify" => Call::Identify { seconds: query.seconds.unwrap_or(30).min(MOST_SECONDS) },
        _ => {
            let text = "there is nothing here; /v1/status is where to begin".to_owned();
            return Err(Refusal { status: 404, text });
        }
    };
    let wanted = match call.needs() {
        OperatorRole::Reader => "GET",
        OperatorRole::Operator => "POST",
    };
    if method != wanted {
        return Err(Refusal { status: 405, text: format!("{path} is asked for by {wanted}") });
    }
    Ok(call)
}

#[derive(Default)]
struct Query {
    lines: Option<usize>,
    seconds: Option<u64>,
    follow: Option<bool>,
}

impl Query {
    fn read(text: &str) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let bad = |what: &str| {
                let value: String =
                    value.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
                Refusal { status: 400, text: format!("{what} is wanted, not {value:?}") }
            };
            match name {
                "lines" => {
                    query.lines = Some(value.parse().map_err(|_| bad("a number of lines"))?);
                }
                "seconds" => {
                    query.seconds = Some(value.parse().map_err(|_| bad("a number of seconds"))?);
                }
                "follow" => {
                    query.follow = Some(match value {
                        "" | "1" | "true" => true,
                        "0" | "false" => false,
                        _ => return Err(bad("follow=1 or follow=0")),
                    });
                }
                _ => {
                    let text = "only lines, follow and seconds may be given".to_owned();
                    return Err(Refusal { status: 400, text });
                }
            }
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_or_refused_with_what_is_wanted() {
        assert_eq!(route("GET", "/v1/status", None), Ok(Call::Status));
        let logs = route("GET", "/v1/logs", Some("lines=3&follow=1"));
        assert_eq!(logs, Ok(Call::Logs { lines: 3, follow: true }));
        let logs = route("GET", "/v1/logs", Some("follow"));
        assert_eq!(logs, Ok(Call::Logs { lines: LINES, follow: true }));
        let shown = route("POST", "/v1/identify", Some("seconds=9999"));
        assert_eq!(shown, Ok(Call::Identify { seconds: MOST_SECONDS }));
        let status = |method, path, query| route(method, path, query).unwrap_err().status;
        assert_eq!(status("GET", "/v1/reboot", None), 405);
        assert_eq!(status("POST", "/v1/status", None), 405);
        assert_eq!(status("GET", "/v2/status", None), 404);
        assert_eq!(status("GET", "/v1/logs", Some("lines=-1")), 400);
        assert_eq!(status("GET", "/v1/logs", Some("line=1")), 400);
    }

    proptest! {
        #[test]
        fn no_request_panics_and_no_get_changes_anything(
            path in "(/v1/(logs|status|reboot|drain|identify)|/\\PC{0,20})",
            query in proptest::option::of("(lines|seconds|follow|[&=0-9a-f]|\\PC){0,20}"),
        ) {
            if let Ok(call) = route("GET", &path, query.as_deref()) {
                prop_assert_eq!(call.needs(), OperatorRole::Reader);
            }
        }
    }
}
