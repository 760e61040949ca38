//! The page for miners: what to do, a form for who signed elsewhere, and the medium itself. Complete
//! without JavaScript.

use super::{App, Problem, file, media, pages::html};
use crate::{
    miners::rates::Ask,
    page::miners as page,
    places::{NoPlace, Place},
};
use axum::{
    Form,
    body::Body,
    extract::{ConnectInfo, Path, Request, State, rejection::FormRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::medium::{Record, RecordText};
use serde::Deserialize;
use std::{net::SocketAddr, sync::Arc};

/// The name that browsers keep it under.
const FILE: &str = "attachment; filename=\"alia-medium.img\"";

/// What the form has.
#[derive(Deserialize)]
pub(super) struct Registration {
    /// What `alia medium sign` printed.
    registration: String,
}

/// `GET /miners`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Result<Response, Problem> {
    let (miners, authority) = media::open(&app, peer, Ask::Look)?;
    let count = app.store.run(|store| store.count_media()).await?;
    Ok(html(page::entry(&page::Entry {
        url: app.https.clone(),
        key: authority.key.public(),
        chain: authority.chain.clone(),
        bytes: miners.medium.bytes,
        digest: miners.medium.digest,
        tokens: count.issued + count.bound + count.revoked,
    })))
}

/// `GET /miners/{address}`.
pub(super) async fn owner(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(address): Path<String>,
) -> Result<Response, Problem> {
    media::open(&app, peer, Ask::Look)?;
    let (address, tokens) = media::listed(&app, &address).await?;
    Ok(html(page::owner(&address, &tokens)))
}

/// What was posted by the form: a page says what is wrong with it.
fn posted(form: Result<Form<Registration>, FormRejection>) -> Result<Record, Problem> {
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let Form(form) = form.map_err(|rejection| bad(rejection.body_text()))?;
    let whole = "paste all of what `alia medium sign` printed, and nothing else";
    let text: RecordText = serde_json::from_str(form.registration.trim())
        .map_err(|error| bad(format!("this is no registration ({error}): {whole}")))?;
    Record::try_from(text).map_err(|error| bad(format!("{error}; {whole}")))
}

/// `POST /miners`: registers, and gives nothing out.
pub(super) async fn register(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    form: Result<Form<Registration>, FormRejection>,
) -> Result<Response, Problem> {
    media::open(&app, peer, Ask::Write)?;
    let kept = match posted(form) {
        Ok(record) => media::keep(&app, &record.granted).await,
        Err(problem) => Err(problem),
    };
    Ok(match kept {
        Ok((_, status)) => html(page::owner(&status.owner.clone(), &[status])),
        Err(problem) => (problem.status, html(page::refused(&problem.text))).into_response(),
    })
}

/// `GET /miners/medium`: nobody's.
pub(super) async fn medium(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Response, Problem> {
    let (miners, _) = media::open(&app, peer, Ask::Look)?;
    let place = place(&app, peer)?;
    let path = miners.medium.path();
    let served = file::response(path, request).await.map_err(|error| unread(&error))?;
    let mut response = served.map(|body| hold(body, place));
    named(&mut response);
    Ok(response)
}

/// `POST /miners/medium`: registers, and gives out the one file. The token's secret goes into it and
/// is kept nowhere.
pub(super) async fn filled(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    form: Result<Form<Registration>, FormRejection>,
) -> Result<Response, Problem> {
    let (miners, _) = media::open(&app, peer, Ask::Write)?;
    let page = |problem: Problem| (problem.status, html(page::refused(&problem.text)));
    let record = match posted(form) {
        Ok(record) => record,
        Err(problem) => return Ok(page(problem).into_response()),
    };
    if let Err(problem) = media::keep(&app, &record.granted).await {
        return Ok(page(problem).into_response());
    }
    let place = place(&app, peer)?;
    let parts = miners.medium.filled(&record).await.map_err(|error| unread(&error))?;
    let mut response = Response::new(hold(Body::from_stream(parts), place));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(miners.medium.bytes));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    named(&mut response);
    Ok(response)
}

fn named(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(FILE));
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
}

/// A place among those who fetch.
fn place(app: &App, peer: SocketAddr) -> Result<Place, Problem> {
    let taken = app.miners.as_ref().map(|miners| miners.places.take(peer.ip()));
    taken.unwrap_or(Err(NoPlace::All)).map_err(|none| {
        app.counters.count("media: too many fetch");
        let (status, text) = match none {
            NoPlace::Yours => (
                StatusCode::TOO_MANY_REQUESTS,
                "as many fetch a medium from your address as may: try again once one is done",
            ),
            NoPlace::All => (
                StatusCode::SERVICE_UNAVAILABLE,
                "so many fetch a medium now that no other can: try again in a minute",
            ),
        };
        Problem::new(status, text)
    })
}

/// Holds a place until a body is over.
fn hold(body: Body, place: Place) -> Body {
    super::watched::Watched::body(body, move |_| drop(place))
}

fn unread(error: &std::io::Error) -> Problem {
    tracing::error!("the medium: {error}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the medium cannot be read")
}
