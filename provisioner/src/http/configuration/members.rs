//! Who is in a group, page by page.

use super::read::query;
use crate::{
    groups,
    http::{App, Problem, listing, mac, openapi::Refused},
};
use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};
use protocol::configuration::Member;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Machines of a page where nobody says.
const USUAL: u32 = 1_000;
/// The most machines of a page.
const MOST: u32 = 10_000;

/// Which machines of a group.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Those behind this MAC address: as `Link` of the page before has it.
    #[param(
        required = false,
        nullable = false,
        pattern = "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$"
    )]
    after: Option<String>,
    /// So many at the most; 1000 where nobody says.
    #[param(required = false, nullable = false, minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
}

/// The machines of a group, in the order of their MAC addresses.
///
/// Those that the configuration puts there, and those that a rule did. Where there are more than were
/// asked for, the header `Link` names the next page (RFC 8288).
#[utoipa::path(
    get, path = "/v1/groups/{name}/machines", tag = "configuration", operation_id = "group_machines",
    params(("name" = String, Path, description = "Which group"), Wanted),
    responses(
        (status = 200, description = "Its machines", body = Vec<Member>,
         headers(("Link" = String, description = "The next page, where there is one"))),
        Refused,
    )
)]
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Wanted { after, limit } = query(wanted)?;
    let most = limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&most) {
        let text = format!("limit is a number from 1 to {MOST}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, text));
    }
    let after = after.map(|after| mac(&after)).transpose()?.map(|mac| mac.to_string());
    let whole = app.store.run(|store| store.configuration_whole()).await?;
    let (_, document, placed) = whole;
    if !document.group.contains_key(&name) {
        let name: String = name.chars().take(40).collect();
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no group {name}")));
    }
    let members = groups::members(&document, &placed, &name);
    let (page, next) = behind(members, after.as_deref(), most);
    let next = next.map(|next| {
        let limit = limit.map(|limit| ("limit", limit.to_string()));
        let query = limit.into_iter().chain([("after", next)]);
        // What a group may be called is the same in a path.
        listing::link(&format!("/v1/groups/{name}/machines"), query)
    });
    Ok(listing::paged(Json(page), next))
}

/// So many of them behind one, and behind which there are more: pure.
pub(super) fn behind(
    members: Vec<Member>,
    after: Option<&str>,
    most: u32,
) -> (Vec<Member>, Option<String>) {
    let is_behind = |member: &Member| after.is_none_or(|after| member.mac.as_str() > after);
    let mut rest = members.into_iter().filter(is_behind);
    let page: Vec<Member> = rest.by_ref().take(most as usize).collect();
    let last = page.last().map(|last| last.mac.clone());
    let next = rest.next().and(last);
    (page, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_stands_on_one_page() {
        let member =
            |n: u8| Member { mac: format!("52:54:00:00:00:{n:02x}"), name: None, rule: None };
        let all: Vec<Member> = (0..5).map(member).collect();
        let (mut after, mut seen, mut pages) = (None, Vec::new(), 0);
        loop {
            let (page, next) = behind(all.clone(), after.as_deref(), 2);
            seen.extend(page);
            pages += 1;
            let Some(next) = next else { break };
            after = Some(next);
        }
        assert_eq!((seen, pages), (all.clone(), 3));
        assert_eq!(behind(all[..2].to_vec(), None, 2).1, None, "a page that is full and the last");
    }
}
