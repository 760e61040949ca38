//! Which machines of many are asked for, by a URL.

use crate::{life::STATES, store::Filter};
use axum::{
    Json,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use protocol::fleet::{MachineState, MachineStatus};
use serde::{Deserialize, Serialize};
use std::fmt;
use url::form_urlencoded;
use utoipa::IntoParams;

/// How many machines are listed where nobody says.
const USUAL: u32 = 1_000;
/// The most that are listed at once: as many as are kept.
const MOST: u32 = 10_000;
/// The largest number that JSON's readers agree on (RFC 8259, section 6).
const MAX_NUMBER: u64 = 9_007_199_254_740_991;
/// The longest text to search for.
const MAX_SEARCH_LEN: usize = 100;

/// Which machines, and from where on.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Those in this state alone.
    #[param(required = false, nullable = false)]
    state: Option<MachineState>,
    /// `true`: those with a problem; `false`: those without.
    #[param(required = false, nullable = false)]
    problem: Option<bool>,
    /// Those of which a name, serial number, address or key contains this, whatever its case.
    #[param(required = false, nullable = false, pattern = "^[^\\x00]{0,100}$")]
    search: Option<String>,
    /// So many at the most; 1000 where nobody says.
    #[param(required = false, nullable = false, minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
    /// Those behind this one: as `Link` of the page before has it.
    #[param(required = false, nullable = false, pattern = "^[^\\x00-\\x1f/]{0,80}/[0-9a-f:]{17}$")]
    after: Option<String>,
}

/// What is asked for cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadWanted {
    Limit,
    Search,
    After,
    Number,
}

impl fmt::Display for BadWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit => write!(f, "limit is a number from 1 to {MOST}"),
            Self::Search => {
                write!(f, "search has at most {MAX_SEARCH_LEN} characters, NUL not among them")
            }
            Self::Number => write!(f, "before is a number from 0 to {MAX_NUMBER}"),
            Self::After => f.write_str("after is what the header Link of the page before has"),
        }
    }
}

impl Wanted {
    /// As the store takes it.
    pub(super) fn filter(&self) -> Result<Filter, BadWanted> {
        let most = self.limit.unwrap_or(USUAL);
        if !(1..=MOST).contains(&most) {
            return Err(BadWanted::Limit);
        }
        let search = text(self.search.as_deref())?;
        let after = self.after.as_deref().map(split).transpose()?;
        Ok(Filter { state: self.state, problem: self.problem, search, after, most })
    }

    /// The header that names the next page, behind the last machine of this one.
    pub(super) fn next(&self, last: &MachineStatus) -> HeaderValue {
        let pairs = [
            ("state", self.state.map(|state| state.as_str().to_owned())),
            ("problem", self.problem.map(|problem| problem.to_string())),
            ("search", self.search.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("after", Some(place(last))),
        ];
        link("/v1/machines", pairs.into_iter().filter_map(|(key, value)| Some((key, value?))))
    }
}

/// A number in a URL, where the list goes on.
pub(super) fn number(number: Option<u64>) -> Result<Option<u64>, BadWanted> {
    let fits = number.is_none_or(|number| number <= MAX_NUMBER);
    fits.then_some(number).ok_or(BadWanted::Number)
}

/// What somebody searches for; none where that is nothing.
pub(super) fn text(search: Option<&str>) -> Result<Option<String>, BadWanted> {
    let search = search.filter(|text| !text.is_empty());
    // PostgreSQL has no text with a NUL.
    if search.is_some_and(|text| text.chars().count() > MAX_SEARCH_LEN || text.contains('\0')) {
        return Err(BadWanted::Search);
    }
    Ok(search.map(str::to_owned))
}

/// What somebody searches for on a page: cut to what may be.
pub(super) fn sought(text: &str) -> Option<String> {
    let text = text.trim().replace('\0', "");
    let text: String = text.chars().take(MAX_SEARCH_LEN).collect();
    (!text.is_empty()).then_some(text)
}

/// The header that names the next page (RFC 8288).
pub(super) fn link<'a>(
    path: &str,
    pairs: impl IntoIterator<Item = (&'a str, String)>,
) -> HeaderValue {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let link = format!("<{path}?{query}>; rel=\"next\"");
    // What is encoded so always fits a header.
    HeaderValue::from_str(&link).unwrap_or(HeaderValue::from_static(""))
}

/// A page of a list, and where the next one is.
pub(super) fn paged<T: Serialize>(page: Json<T>, next: Option<HeaderValue>) -> Response {
    let mut response = page.into_response();
    if let Some(next) = next {
        response.headers_mut().insert(header::LINK, next);
    }
    response
}

/// What a list goes on behind.
fn place(last: &MachineStatus) -> String {
    format!("{}/{}", last.name, last.mac)
}

fn query(pairs: &[(&str, Option<String>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in pairs {
        if let Some(value) = value {
            query.append_pair(key, value);
        }
    }
    query.finish()
}

/// Which machines the page shows: as its form and its links say. What makes no sense is as if it were
/// not there, since somebody looks at a page.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Sought {
    #[serde(default)]
    state: String,
    #[serde(default)]
    search: String,
    #[serde(default)]
    problem: String,
    #[serde(default)]
    after: String,
}

impl Sought {
    fn state(&self) -> Option<MachineState> {
        STATES.into_iter().find(|state| state.as_str() == self.state)
    }

    fn search(&self) -> Option<String> {
        sought(&self.search)
    }

    /// As the store takes it.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            state: self.state(),
            problem: (self.problem == "true").then_some(true),
            search: self.search(),
            after: split(&self.after).ok(),
            most: USUAL,
        }
    }

    /// Whether it is the beginning of the whole list.
    pub(super) fn is_all(&self) -> bool {
        self.filter() == Filter { most: USUAL, ..Filter::default() }
    }

    /// As the page's form shows it: search, state, problem.
    pub(super) fn shown(&self) -> (String, Option<MachineState>, bool) {
        (self.search().unwrap_or_default(), self.state(), self.problem == "true")
    }

    /// Where the next page is.
    pub(super) fn next(&self, path: &str, last: &MachineStatus) -> String {
        let query = query(&[
            ("state", self.state().map(|state| state.as_str().to_owned())),
            ("search", self.search()),
            ("problem", (self.problem == "true").then(|| "true".into())),
            ("after", Some(place(last))),
        ]);
        format!("{path}?{query}")
    }
}

fn split(after: &str) -> Result<(String, String), BadWanted> {
    let (name, mac) = after.rsplit_once('/').ok_or(BadWanted::After)?;
    let fits = mac.len() == 17 && !after.contains('\0') && name.len() <= 400;
    fits.then(|| (name.into(), mac.into())).ok_or(BadWanted::After)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_bounded() {
        let wanted = |limit, search: &str, after: Option<&str>| {
            let (search, after) = (Some(search.to_string()), after.map(str::to_string));
            Wanted { limit, search, after, ..Wanted::default() }.filter()
        };
        assert_eq!(wanted(None, "", None).unwrap().most, USUAL);
        assert_eq!(wanted(Some(0), "", None), Err(BadWanted::Limit));
        assert_eq!(wanted(Some(MOST + 1), "", None), Err(BadWanted::Limit));
        assert_eq!(wanted(None, &"x".repeat(101), None), Err(BadWanted::Search));
        assert_eq!(wanted(None, "a\0", None), Err(BadWanted::Search));
        assert_eq!(wanted(None, "", Some("x")), Err(BadWanted::After));
        let after = wanted(None, "", Some("a/b/52:54:00:00:00:01")).unwrap().after;
        assert_eq!(after, Some(("a/b".into(), "52:54:00:00:00:01".into())));
    }
}
