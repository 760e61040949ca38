//! Machines' configuration by HTTP. Anybody may read it by TLS; who changes it shows an operator's
//! token, and says by `If-Match` which revision is changed. All parts have one revision in common: the
//! document is checked as a whole, so it is taken as a whole.
//!
//! | path | what |
//! |---|---|
//! | `GET`, `PUT`, `PATCH` `/v1/config` | the document; `PATCH` is a merge patch (RFC 7396) |
//! | `GET /v1/config/history`, `/v1/config/history/{revision}` | revisions, and one of them |
//! | `GET /v1/config/diff?from=&to=` | what differs; `to` is the newest unless said |
//! | `POST /v1/config/rollback?to=` | an old revision's document as a new revision |
//! | `GET /v1/config/export?format=` | everything as one file, `toml` or `json` |
//! | `POST /v1/config/import` | the same file back |
//! | `GET /v1/groups`, `/v1/rules`, `/v1/owners` | a part of the document |
//! | `GET /v1/groups/{name}/machines` | who is in a group |
//! | `GET`, `PUT`, `PATCH`, `DELETE` `/v1/groups/{name}` and so on, `/v1/defaults` | one table of it |
//! | the same of `/v1/machines/{mac}/config`, `/v1/machines/{mac}/labels` | a machine's own table; `GET` gives what holds for it, and whence |
//!
//! `/groups`, `/history` and `/import` are the pages of it.
//!
//! Every change takes `?why=`, kept in the history, and `?dry-run=true`, which says what would change.

mod change;
mod members;
mod pages;
mod parts;
mod read;

use super::routes::Routes;
use axum::routing::{get, post};
use utoipa_axum::routes;

/// The routes, behind others.
pub(super) fn routes(before: Routes) -> Routes {
    before
        .api(routes!(read::document, change::put_document, change::patch_document))
        .api(routes!(read::history))
        .api(routes!(read::revision))
        .api(routes!(read::diff))
        .api(routes!(change::rollback))
        .api(routes!(read::export))
        .api(routes!(change::import))
        .api(routes!(parts::defaults::get, parts::defaults::put, parts::defaults::patch))
        .api(routes!(parts::groups::all))
        .api(routes!(
            parts::groups::get,
            parts::groups::put,
            parts::groups::patch,
            parts::groups::delete
        ))
        .api(routes!(members::page))
        .api(routes!(parts::rules::all))
        .api(routes!(
            parts::rules::get,
            parts::rules::put,
            parts::rules::patch,
            parts::rules::delete
        ))
        .api(routes!(parts::owners::all))
        .api(routes!(
            parts::owners::get,
            parts::owners::put,
            parts::owners::patch,
            parts::owners::delete
        ))
        .api(routes!(
            read::effective,
            parts::machine::put,
            parts::machine::patch,
            parts::machine::delete
        ))
        .api(routes!(read::labels, parts::labels::put, parts::labels::patch))
        .other("/groups", get(pages::list).post(pages::make))
        .other("/groups/{name}", get(pages::group))
        .other("/groups/{name}/set", post(pages::set))
        .other("/groups/{name}/delete", post(pages::delete))
        .other("/import", post(pages::import))
        .other("/history", get(pages::history))
        .other("/history/{revision}", get(pages::revision))
        .other("/history/{revision}/rollback", post(pages::rollback))
}
