//! Which revision a change is meant for: `ETag` and `If-Match` (RFC 9110 sections 8.8.3 and 13.1.1).
//!
//! A write without `If-Match` is refused (428, RFC 6585 section 3), one for another revision than
//! the one that holds too (412): who changes something has seen what it is.

use super::Problem;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use protocol::Digest;

/// A revision, and what is said at it, as a header of an answer: rules change what holds for a
/// machine without a new revision.
pub(super) fn tag_of<T: serde::Serialize>(revision: u64, said: &T) -> [(HeaderName, String); 1] {
    let said = Digest::of_bytes(&serde_json::to_vec(said).unwrap_or_default()).to_string();
    [(header::ETAG, format!("\"{revision}-{}\"", &said[..16]))]
}

/// A revision as a header of an answer.
pub(super) fn tag(revision: u64) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{revision}\""))]
}

/// The revision that a change is meant for, `current` being the one that holds.
///
/// # Errors
/// 428 where none is named, 412 where it is another.
pub(super) fn meant(headers: &HeaderMap, current: u64) -> Result<u64, Problem> {
    let given: Vec<&str> = headers
        .get_all(header::IF_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    if given.is_empty() {
        let text = format!(
            "say which revision you change by `If-Match: \"{current}\"`: the ETag of what you read"
        );
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, text));
    }
    let wanted = current.to_string();
    let is_meant = |tag: &&str| {
        let named = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        *tag == "*" || named.is_some_and(|tag| tag.split('-').next() == Some(&wanted))
    };
    if given.iter().any(is_meant) {
        return Ok(current);
    }
    Err(stale(current))
}

/// Somebody else was first.
pub(super) fn stale(current: u64) -> Problem {
    let text = format!(
        "it was changed meanwhile, and is at revision {current}: read it again, and change that"
    );
    Problem::new(StatusCode::PRECONDITION_FAILED, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    #[test]
    fn a_change_says_what_it_was_made_for() {
        let status = |tags: &[&str]| {
            let mut headers = HeaderMap::new();
            for tag in tags {
                headers.append(header::IF_MATCH, tag.parse().unwrap());
            }
            meant(&headers, 7).map_err(|problem| problem.into_response().status().as_u16())
        };
        assert_eq!(status(&[]), Err(428));
        assert_eq!(status(&["\"7\""]), Ok(7));
        assert_eq!(status(&["\"6\", \"7\""]), Ok(7));
        assert_eq!(status(&["*"]), Ok(7));
        assert_eq!(status(&["\"7-1a2b3c4d\""]), Ok(7), "of what holds for one machine");
        for other in ["\"6\"", "\"6-7\"", "\"77\"", "7", "W/\"7\"", ""] {
            assert_eq!(status(&[other]), Err(412), "{other}");
        }
    }
}
