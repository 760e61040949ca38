//! What a service says of a request that it did not fulfil: problem details (RFC 9457).

use serde::{Deserialize, Serialize};

/// A request that was not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProblemDetails {
    /// A kind of problem, as a URI; `about:blank` where the status says it all.
    #[serde(rename = "type", default = "blank")]
    pub kind: String,
    /// The status in words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What was wrong here, and what to do.
    pub detail: String,
}

fn blank() -> String {
    "about:blank".into()
}

impl ProblemDetails {
    /// The media type.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// Of no kind of its own.
    pub fn new(status: u16, title: &str, detail: impl Into<String>) -> Self {
        Self { kind: blank(), title: title.into(), status, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_the_rfc_has_it_and_read_by_its_detail_alone() {
        let problem = ProblemDetails::new(404, "Not Found", "there is nothing here");
        let json = serde_json::to_string(&problem).unwrap();
        assert!(json.contains(r#""type":"about:blank""#), "{json}");
        let read = |text: &str| serde_json::from_str::<ProblemDetails>(text);
        assert_eq!(read(&json).unwrap(), problem);
        assert_eq!(read(r#"{"detail":"x"}"#).unwrap().detail, "x");
        assert!(read(r#"{"status":404}"#).is_err());
    }
}
