//! What operators ask: of machines, and of who may act. Who asks shows a token.

use super::{
    App, Problem,
    api::unknown,
    cache, mac,
    nodes::body,
    openapi::{Meant, OfMachine, Once, Refused},
};
use crate::{
    access::{self, Token},
    life::{self, Actor, Cause},
    machine::Mac,
    store::{Added, Moved, Revocation, Store},
    timeline::{Kind, Record, unix_ms},
};
use axum::{
    Json,
    extract::{FromRequestParts, Path, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use protocol::{
    PublicKey,
    fleet::{Command, Life, NewOperator, OperatorStatus, OperatorToken, Revoked},
    problem::ProblemDetails,
};
use std::sync::Arc;

/// An operator, by name: a handler that asks for one is for operators alone.
pub(super) struct Operator(pub(super) String);

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let shown = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let stranger = |why: &str| {
            let text = format!(
                "{why}: give an operator's token as `Authorization: Bearer TOKEN`; `provisioner \
                 token add NAME` on the provisioner's host makes one"
            );
            Problem::new(StatusCode::UNAUTHORIZED, text)
        };
        let token = shown.and_then(access::bearer).ok_or_else(|| stranger("only operators may"))?;
        let digest = access::digest(token);
        let name = app.store.run(move |store| store.operator(&digest)).await?;
        name.map(Self).ok_or_else(|| stranger("that token is nobody's, or was revoked"))
    }
}

/// Moves a machine on in its life.
///
/// `If-Match` with the tag of its state makes sure that it still is where the asker saw it.
#[utoipa::path(
    post, path = "/v1/machines/{mac}/state", tag = "machines", operation_id = "command", security(("operator" = [])),
    params(OfMachine, Meant, Once),
    request_body = Command,
    responses(
        (status = 200, description = "Where it stands now", body = Life,
         headers(("ETag" = String, description = "The new state's tag"))),
        (status = 409, description = "This does nothing in its state", body = ProblemDetails,
         content_type = "application/problem+json"),
        (status = 412, description = "It is not where it was meant to be", body = ProblemDetails,
         content_type = "application/problem+json"),
        Refused,
    )
)]
pub(super) async fn command(
    State(app): State<Arc<App>>,
    Operator(name): Operator,
    Path(machine): Path<String>,
    headers: HeaderMap,
    posted: Result<Json<Command>, JsonRejection>,
) -> Result<Response, Problem> {
    let mac = mac(&machine)?;
    let wrong =
        |error: life::UnknownCause| Problem::new(StatusCode::BAD_REQUEST, error.to_string());
    let Command { what, node } = body(posted)?;
    let cause: Cause = what.parse().map_err(wrong)?;
    let actor = Actor::Operator(name);
    let (moved, life) = app
        .store
        .run(move |store| {
            let expected = |life: &Life| cache::expects(&headers, &cache::tag_of(life));
            store.command(mac, cause, node.as_ref(), expected, &actor, unix_ms())
        })
        .await?;
    let life = life.ok_or_else(|| unknown(&mac.to_string()))?;
    match moved {
        Moved::To(_) => Ok(([(header::ETAG, cache::tag_of(&life))], Json(life)).into_response()),
        Moved::Unknown => Err(unknown(&mac.to_string())),
        Moved::Changed => {
            let text = format!(
                "the machine is {} by now, or another key waits; look at it again, and ask anew where it is still meant",
                life.state.as_str()
            );
            Err(Problem::new(StatusCode::PRECONDITION_FAILED, text))
        }
        Moved::Not(state) => {
            let may: Vec<&str> = life::commands(state).map(Cause::as_str).collect();
            let text = format!(
                "{} does nothing while a machine is {}; what may be asked of it: {}",
                cause.as_str(),
                state.as_str(),
                may.join(", ")
            );
            Err(Problem::new(StatusCode::CONFLICT, text))
        }
    }
}

/// Puts the node key of a machine out: it is worth nothing from now on, until it is approved anew.
///
/// `If-Match` with the tag of its state makes sure that it still is where the asker saw it.
#[utoipa::path(
    post, path = "/v1/machines/{mac}/revoke", tag = "machines", operation_id = "revoke", security(("operator" = [])),
    params(OfMachine, Meant, Once),
    responses(
        (status = 200, description = "The key that was revoked", body = Revoked),
        Refused,
    )
)]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Operator(name): Operator,
    Path(machine): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Revoked>, Problem> {
    let mac = mac(&machine)?;
    cache::hold(&app, mac, &headers).await?;
    let revocation = put_out(&app, mac, None, &name).await?;
    match revocation {
        Revocation::Done(node) => Ok(Json(Revoked { node })),
        Revocation::NoNode => {
            Err(Problem::new(StatusCode::NOT_FOUND, format!("no machine {mac} was taken in")))
        }
        Revocation::Full => Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, NO_ROOM)),
    }
}

/// No more keys can be revoked.
pub(super) const NO_ROOM: &str = "so many node keys are revoked that there is room for no more";

/// Revokes the node key of a machine, the one that is meant where one is, and tells its timeline.
pub(super) async fn put_out(
    app: &App,
    mac: Mac,
    meant: Option<PublicKey>,
    operator: &str,
) -> Result<Revocation, Problem> {
    let operator = operator.to_owned();
    let work = move |store: &Store| {
        let revocation = store.revoke(mac, meant.as_ref(), unix_ms())?;
        if let Revocation::Done(node) = &revocation {
            let text = format!("node key {} was revoked by operator {operator}", node.short());
            store.record(&[Record::new(mac, Kind::Enrol, text)])?;
        }
        Ok(revocation)
    };
    Ok(app.store.run(work).await?)
}

/// The operators.
#[utoipa::path(
    get, path = "/v1/operators", tag = "operators", operation_id = "operators", security(("operator" = [])),
    responses(
        (status = 200, description = "Who may act", body = Vec<OperatorStatus>),
        Refused,
    )
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Operator,
) -> Result<Json<Vec<OperatorStatus>>, Problem> {
    let operators = app.store.run(|store| store.operators()).await?;
    let status = |(name, made)| OperatorStatus { name, made };
    Ok(Json(operators.into_iter().map(status).collect()))
}

/// One operator. The tag goes into `If-Match` of who revokes the token.
#[utoipa::path(
    get, path = "/v1/operators/{name}", tag = "operators", operation_id = "operator",
    security(("operator" = [])),
    params(("name" = String, Path, description = "Whose", pattern = "^[A-Za-z0-9_-]{1,40}$")),
    responses(
        (status = 200, description = "Who it is", body = OperatorStatus,
         headers(("ETag" = String, description = "Another one with each token"))),
        Refused,
    )
)]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    _: Operator,
    Path(name): Path<String>,
) -> Result<Json<OperatorStatus>, Problem> {
    named(&app, &name).await.map(Json)
}

/// The operator of a name.
async fn named(app: &App, name: &str) -> Result<OperatorStatus, Problem> {
    let operators = app.store.run(|store| store.operators()).await?;
    let mut operators = operators.into_iter();
    let missing = || {
        let name: String = name.chars().take(40).collect();
        Problem::new(StatusCode::NOT_FOUND, format!("there is no operator {name}"))
    };
    let found = operators.find(|(known, _)| known == name).ok_or_else(missing)?;
    Ok(OperatorStatus { name: found.0, made: found.1 })
}

/// Makes an operator. The token is shown here and never again: nothing of it is kept but a digest.
#[utoipa::path(
    post, path = "/v1/operators", tag = "operators", operation_id = "add_operator", security(("operator" = [])),
    params(Once), request_body = NewOperator,
    responses(
        (status = 201, description = "The operator's token", body = OperatorToken),
        Refused,
    )
)]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    _: Operator,
    posted: Result<Json<NewOperator>, JsonRejection>,
) -> Result<Response, Problem> {
    let bad = |error: access::BadName| Problem::new(StatusCode::BAD_REQUEST, error.to_string());
    let name = access::name(&body(posted)?.name).map_err(bad)?;
    let failed = |error: access::NoRandomness| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    };
    let token = Token::generate().map_err(failed)?;
    let (digest, named) = (token.digest(), name.clone());
    match app.store.run(move |store| store.add_operator(&named, &digest, unix_ms())).await? {
        Added::Yes => {
            let answer = OperatorToken { name, token: token.reveal().into() };
            let never = [(header::CACHE_CONTROL, "no-store")];
            Ok((StatusCode::CREATED, never, Json(answer)).into_response())
        }
        Added::Taken => {
            let text =
                format!("there is an operator {name}; revoke the old token, or take another name");
            Err(Problem::new(StatusCode::CONFLICT, text))
        }
        Added::Full => {
            let text = "there are as many operators as may be; revoke one that is needed no more";
            Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, text))
        }
    }
}

/// Makes an operator's token nobody's, at once.
#[utoipa::path(
    delete, path = "/v1/operators/{name}", tag = "operators", operation_id = "remove_operator", security(("operator" = [])),
    params(("name" = String, Path, description = "Whose", pattern = "^[A-Za-z0-9_-]{1,40}$"), Meant, Once),
    responses(
        (status = 204, description = "It is nobody's"),
        Refused,
    )
)]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    if who == name {
        let text = "nobody revokes himself: another operator does, or `provisioner token revoke`";
        return Err(Problem::new(StatusCode::CONFLICT, text));
    }
    let bad = |error: access::BadName| Problem::new(StatusCode::NOT_FOUND, error.to_string());
    let name = access::name(&name).map_err(bad)?;
    let status = named(&app, &name).await?;
    if !cache::expects(&headers, &cache::tag_for(&status)) {
        let text = format!("operator {name} has another token than the one that was meant");
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, text));
    }
    let named = name.clone();
    if app.store.run(move |store| store.remove_operator(&named)).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no operator {name}")))
}
