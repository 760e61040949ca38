//! Changes of the document as a whole. All others end here too.

use super::read::{at, everything, query};
use crate::{
    groups::{Document, Everything, Json, change, reader, text},
    http::{
        App, Problem,
        openapi::{OfRevision, Once, Refused},
        operators::Operator,
        precondition::{meant, stale, tag},
    },
    store::{Draft, Drafted},
    timeline::unix_ms,
};
use axum::{
    Json as Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{configuration::Taken, problem::ProblemDetails};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::{IntoParams, IntoResponses};

/// What is told of an import where no reason is given.
pub(super) const IMPORTED: &str = "everything was imported";
/// The longest reason for a change, in characters.
const MAX_WHY_LEN: usize = 200;

/// How a change is meant.
#[derive(Deserialize, Default, IntoParams)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Why, for the history.
    #[param(required = false)]
    why: String,
    /// `true`: only say what would change.
    #[param(required = false)]
    dry_run: bool,
}

impl How {
    /// For that reason; only to look where that is so.
    pub(super) fn because(why: &str, dry_run: bool) -> Self {
        Self { why: why.into(), dry_run }
    }
}

/// What every change is answered with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it is described, and made by `edit`")]
pub(super) enum Became {
    /// What changed, or would.
    #[response(
        status = 200,
        headers(("ETag" = String, description = "The revision that holds now"))
    )]
    Taken(Taken<Json>),
    /// It is not as a configuration has to be: each mistake, and where.
    #[response(status = 422, content_type = "application/problem+json")]
    Mistakes(ProblemDetails),
}

/// Who changes what, and on which condition.
pub(super) struct Asked {
    pub(super) operator: String,
    pub(super) headers: HeaderMap,
    pub(super) how: How,
    /// What is told as the reason where none is given.
    pub(super) what: String,
}

impl Asked {
    pub(super) fn new(
        Operator(operator): Operator,
        headers: HeaderMap,
        how: Result<Query<How>, QueryRejection>,
        what: impl Into<String>,
    ) -> Result<Self, Problem> {
        Ok(Self { operator, headers, how: query(how)?, what: what.into() })
    }

    fn why(&self) -> String {
        let said: String =
            self.how.why.chars().filter(|c| !c.is_control()).take(MAX_WHY_LEN).collect();
        if said.is_empty() { self.what.clone() } else { said }
    }
}

/// Changes the document by `edit`, which is given it as JSON: all of it is checked, and taken or not.
pub(super) async fn edit(
    app: &App,
    asked: Asked,
    edit: impl FnOnce(&mut Json) -> Result<(), Problem>,
) -> Result<Response, Problem> {
    let (revision, before) = app.store.run(|store| store.configuration()).await?;
    meant(&asked.headers, revision)?;
    let before = change::json(&before);
    let mut after = before.clone();
    edit(&mut after)?;
    let site = app.store.run(|store| store.site()).await?;
    let document = reader::document(&after, &site).map_err(mistakes)?;
    let changes = change::between(&before, &change::json(&document));
    let mut taken = Taken { revision, taken: false, changes };
    if !asked.how.dry_run && !taken.changes.is_empty() {
        let draft = Draft { why: asked.why(), actor: asked.operator, document, placed: None };
        (taken.revision, taken.taken) = (take(app, revision, draft).await?, true);
    }
    Ok((tag(taken.revision), Body(taken)).into_response())
}

async fn take(app: &App, expected: u64, draft: Draft) -> Result<u64, Problem> {
    let work =
        move |store: &crate::store::Store| store.take_configuration(expected, &draft, unix_ms());
    match app.store.run(work).await? {
        Drafted::Taken(revision) => Ok(revision),
        Drafted::Stale(current) => Err(stale(current)),
    }
}

fn mistakes(mistakes: reader::Mistakes) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, mistakes.to_string())
}

/// A body's document: TOML where the header says so, JSON otherwise.
pub(super) fn body(headers: &HeaderMap, text: &str) -> Result<Json, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let format = match kind {
        Some(kind) if kind.contains("toml") => text::Format::Toml,
        _ => text::Format::Json,
    };
    text::parse(text, format).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))
    })
}

/// A merge patch (RFC 7396): what it names is changed, and taken away where it says null.
pub(super) fn merge(target: &mut Json, patch: Json) {
    match patch {
        Json::Object(patch) => {
            if !target.is_object() {
                *target = Json::Object(serde_json::Map::new());
            }
            for (key, value) in patch {
                if let Some(target) = target.as_object_mut() {
                    if value.is_null() {
                        target.remove(&key);
                    } else {
                        merge(target.entry(key).or_insert(Json::Null), value);
                    }
                }
            }
        }
        value => *target = value,
    }
}

/// Replaces the whole document, in JSON, or in TOML where `Content-Type` says so.
#[utoipa::path(
    put, path = "/v1/config", tag = "configuration", operation_id = "put_configuration",
    security(("operator" = [])), params(How, OfRevision, Once), request_body = Document,
    responses(Became, Refused)
)]
pub(super) async fn put_document(
    State(app): State<Arc<App>>,
    operator: Operator,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    text: String,
) -> Result<Response, Problem> {
    let json = body(&headers, &text)?;
    let asked = Asked::new(operator, headers, how, "the whole document was replaced")?;
    edit(&app, asked, |document| {
        *document = json;
        Ok(())
    })
    .await
}

/// Changes what a merge patch (RFC 7396) names of the document: null takes away.
#[utoipa::path(
    patch, path = "/v1/config", tag = "configuration", operation_id = "patch_configuration",
    security(("operator" = [])), params(How, OfRevision, Once), request_body = Json,
    responses(Became, Refused)
)]
pub(super) async fn patch_document(
    State(app): State<Arc<App>>,
    operator: Operator,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    text: String,
) -> Result<Response, Problem> {
    let json = body(&headers, &text)?;
    let asked = Asked::new(operator, headers, how, "the document was patched")?;
    edit(&app, asked, |document| {
        merge(document, json);
        Ok(())
    })
    .await
}

/// To where it is rolled back.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Back {
    /// To this revision.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    to: u64,
    /// Why, for the history.
    #[serde(default)]
    #[param(required = false)]
    why: String,
    /// `true`: only say what would change.
    #[serde(default)]
    #[param(required = false)]
    dry_run: bool,
}

/// Makes an old revision's document a new revision.
#[utoipa::path(
    post, path = "/v1/config/rollback", tag = "configuration", operation_id = "rollback",
    security(("operator" = [])), params(Back, OfRevision, Once),
    responses(Became, Refused)
)]
pub(super) async fn rollback(
    State(app): State<Arc<App>>,
    Operator(operator): Operator,
    asked: Result<Query<Back>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Back { to, why, dry_run } = query(asked)?;
    let old: Document = at(&app, to).await?;
    let (how, what) = (How { why, dry_run }, format!("rolled back to revision {to}"));
    let asked = Asked { operator, headers, how, what };
    edit(&app, asked, |document| {
        *document = change::json(&old);
        Ok(())
    })
    .await
}

/// Takes an exported file, in TOML or JSON, for the whole configuration.
#[utoipa::path(
    post, path = "/v1/config/import", tag = "configuration", operation_id = "import",
    security(("operator" = [])), params(How, OfRevision, Once), request_body = Everything,
    responses(Became, Refused)
)]
pub(super) async fn import(
    State(app): State<Arc<App>>,
    operator: Operator,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    text: String,
) -> Result<Response, Problem> {
    let asked = Asked::new(operator, headers, how, IMPORTED)?;
    let taken = imported(&app, asked, &text).await?;
    Ok((tag(taken.revision), Body(taken)).into_response())
}

/// Takes a file as the whole configuration, or says what that would change.
pub(super) async fn imported(app: &App, asked: Asked, text: &str) -> Result<Taken<Json>, Problem> {
    let json = text::parse(text, text::Format::of(text)).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the file cannot be read: {error}"))
    })?;
    let site = app.store.run(|store| store.site()).await?;
    let after = reader::everything(&json, &site).map_err(mistakes)?;
    let (revision, before) = everything(app).await?;
    meant(&asked.headers, revision)?;
    let changes = change::of_import(&before, &after);
    let mut taken = Taken { revision, taken: false, changes };
    if !asked.how.dry_run && !taken.changes.is_empty() {
        let Everything { document, placed } = after;
        let why = asked.why();
        let draft = Draft { actor: asked.operator, why, document, placed: Some(placed) };
        (taken.revision, taken.taken) = (take(app, revision, draft).await?, true);
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// RFC 7396, appendix A.
    #[test]
    fn patches_merge_as_the_rfc_has_it() {
        for (target, patch, wanted) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = target;
            merge(&mut merged, patch);
            assert_eq!(merged, wanted);
        }
    }
}
