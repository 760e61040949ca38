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
//! | `GET`, `PUT`, `PATCH`, `DELETE` `/v1/groups/{name}` and so on, `/v1/defaults` | one table of it |
//! | the same of `/v1/machines/{mac}/config`, `/v1/machines/{mac}/labels` | a machine's own table; `GET` gives what holds for it, and whence |
//!
//! `/groups`, `/history` and `/import` are the pages of it.
//!
//! Every change takes `?why=`, kept in the history, and `?dry-run=true`, which says what would change.

mod change;
mod pages;
mod parts;
mod read;

use super::App;
use axum::{
    Router,
    routing::{get, post},
};
use std::sync::Arc;

/// The routes.
pub(super) fn routes() -> Router<Arc<App>> {
    let whole = get(read::document).put(change::put_document).patch(change::patch_document);
    let machine = get(read::effective)
        .put(parts::put_machine)
        .patch(parts::patch_machine)
        .delete(parts::delete_machine);
    let labels = get(read::labels).put(parts::put_labels).patch(parts::patch_labels);
    let part = get(parts::get_all);
    let one =
        get(parts::get_one).put(parts::put_one).patch(parts::patch_one).delete(parts::delete_one);
    Router::new()
        .route("/v1/config", whole)
        .route("/v1/config/history", get(read::history))
        .route("/v1/config/history/{revision}", get(read::revision))
        .route("/v1/config/diff", get(read::diff))
        .route("/v1/config/rollback", post(change::rollback))
        .route("/v1/config/export", get(read::export))
        .route("/v1/config/import", post(change::import))
        .route(
            "/v1/defaults",
            get(parts::get_defaults).put(parts::put_defaults).patch(parts::patch_defaults),
        )
        .route("/v1/groups", part.clone())
        .route("/v1/groups/{name}", one.clone())
        .route("/v1/rules", part.clone())
        .route("/v1/rules/{name}", one.clone())
        .route("/v1/owners", part)
        .route("/v1/owners/{name}", one)
        .route("/groups", get(pages::list).post(pages::make))
        .route("/groups/{name}", get(pages::group))
        .route("/groups/{name}/set", post(pages::set))
        .route("/groups/{name}/delete", post(pages::delete))
        .route("/import", post(pages::import))
        .route("/history", get(pages::history))
        .route("/history/{revision}", get(pages::revision))
        .route("/history/{revision}/rollback", post(pages::rollback))
        .route("/v1/machines/{mac}/config", machine)
        .route("/v1/machines/{mac}/labels", labels)
}
