//! Tokens of miners' media, as programs ask for them, and what machines that booted one say.

use super::{
    App, Problem, cache, mac, nodes,
    openapi::{Meant, Once, Refused},
    operators::Operator,
    speaks,
};
use crate::{
    enrol::Authority,
    miners::{Miners, limits, rates::Ask},
    store::{Bound, Registered, Withdrawn},
    timeline::{Kind, Record, unix_ms},
};
use axum::{
    Json,
    extract::{ConnectInfo, Path, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
};
use protocol::{
    Address, PublicKey, Signed,
    medium::{Claim, Claimed, Granted, Offer, TokenStatus, Withdrawal, check_claim},
};
use serde::Serialize;
use std::{net::SocketAddr, sync::Arc};
use utoipa::IntoParams;

/// A medium in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is described, and read elsewhere")]
struct OfToken {
    /// Its token.
    token: PublicKey,
}

/// What an owner signs who takes a medium back.
type TakenBack = Signed<Withdrawal>;

/// What a claim is answered with.
#[derive(Serialize)]
pub(super) struct Taken {
    /// Whether this was the token's first use.
    first: bool,
}

/// What strangers are served, and how often one may ask for it.
pub(super) fn open(
    app: &App,
    peer: SocketAddr,
    ask: Ask,
) -> Result<(&Miners, &Authority), Problem> {
    let (Some(miners), Some(authority)) = (&app.miners, &app.authority) else {
        let text = "no media are given out here: this provisioner has no --medium";
        return Err(Problem::new(StatusCode::NOT_FOUND, text));
    };
    let mut rates = miners.rates.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    rates.take(peer.ip(), ask, unix_ms()).map_err(|error| {
        app.counters.count("media: asked too often");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, error.to_string())
    })?;
    Ok((miners, authority))
}

/// What there is for miners, by the provisioner's own signature.
#[utoipa::path(
    get, path = "/v1/media", tag = "media", operation_id = "offer",
    responses((status = 200, description = "The offer", body = Signed<Offer>), Refused)
)]
pub(super) async fn offer(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Result<Json<Signed<Offer>>, Problem> {
    let (miners, authority) = open(&app, peer, Ask::Look)?;
    let offer = Offer {
        unix_time: unix_ms() / 1_000,
        medium: miners.medium.digest,
        bytes: miners.medium.bytes,
        most_waiting: limits::MOST_WAITING as u32,
        most: limits::MOST_OF_OWNER as u32,
    };
    Ok(Json(Signed::sign(&authority.chain, offer, &authority.key)))
}

/// Registers what an owner signed for a medium: the same twice is registered once.
#[utoipa::path(
    post, path = "/v1/media", tag = "media", operation_id = "register_medium",
    params(Once), request_body = Granted,
    responses(
        (status = 200, description = "It was registered before", body = TokenStatus),
        (status = 201, description = "It is registered", body = TokenStatus),
        Refused,
    )
)]
pub(super) async fn register(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    posted: Result<Json<Granted>, JsonRejection>,
) -> Result<(StatusCode, Json<TokenStatus>), Problem> {
    open(&app, peer, Ask::Write)?;
    let granted = nodes::body(posted)?;
    let (made, status) = keep(&app, &granted).await?;
    Ok((if made { StatusCode::CREATED } else { StatusCode::OK }, Json(status)))
}

/// Checks what an owner signed, and keeps it; gives whether it is new.
pub(super) async fn keep(app: &App, granted: &Granted) -> Result<(bool, TokenStatus), Problem> {
    let authority = nodes::authority(app)?;
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let grant = granted
        .verify(&authority.chain, &authority.key.public())
        .map_err(|error| bad(error.to_string()))?;
    let now = unix_ms();
    if grant.expires <= now / 1_000 {
        return Err(bad("what the owner signed is over already: sign it anew, and look at the \
                        clock of the computer that does"
            .into()));
    }
    let token = grant.token;
    let granted = granted.clone();
    let work = move |store: &crate::store::Store| {
        Ok((store.register_medium(&granted, now)?, store.medium(&token, now)?))
    };
    let (registered, status) = app.store.run(work).await?;
    let full = |what: &str| {
        app.counters.count("media: no room");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, what)
    };
    match (registered, status) {
        (Registered::Made, Some(status)) => {
            tracing::info!("a medium was registered for {}: token {token}", status.owner);
            Ok((true, status))
        }
        (Registered::Before, Some(status)) => Ok((false, status)),
        (Registered::Waiting, _) => Err(full(&format!(
            "{} media of this owner wait for their first use, and more are not kept: use them, or \
             take some back by `alia medium revoke`",
            limits::MOST_WAITING
        ))),
        (Registered::Owner, _) => Err(full(&format!(
            "this owner has {} media, and more are not kept: take some back by `alia medium \
             revoke`; they make room a week after their time is over",
            limits::MOST_OF_OWNER
        ))),
        (Registered::Full, _) => {
            Err(full("no more media are kept here, whoever asks: try another provisioner"))
        }
        _ => {
            let text = "this token was registered before for something else, or taken back: make a \
                        new one";
            Err(Problem::new(StatusCode::CONFLICT, text))
        }
    }
}

fn key(text: &str) -> Result<PublicKey, Problem> {
    let wrong =
        |error: protocol::key::KeyError| Problem::new(StatusCode::BAD_REQUEST, error.to_string());
    text.parse().map_err(wrong)
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no such token is known here, or it is forgotten")
}

/// How a token stands.
#[utoipa::path(
    get, path = "/v1/media/{token}", tag = "media", operation_id = "token",
    params(OfToken),
    responses(
        (status = 200, description = "How it stands", body = TokenStatus,
         headers(("ETag" = String, description = "Another one with each change"))),
        Refused,
    )
)]
pub(super) async fn token(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(token): Path<String>,
) -> Result<Json<TokenStatus>, Problem> {
    open(&app, peer, Ask::Look)?;
    let token = key(&token)?;
    let found = app.store.run(move |store| store.medium(&token, unix_ms())).await?;
    found.map(Json).ok_or_else(unknown)
}

/// An owner's tokens, newest first: as many are kept as `most` of the offer says.
#[utoipa::path(
    get, path = "/v1/media/of/{address}", tag = "media", operation_id = "tokens_of",
    params(("address" = Address, Path, description = "Whose")),
    responses((status = 200, description = "The tokens", body = Vec<TokenStatus>), Refused)
)]
pub(super) async fn of(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(address): Path<String>,
) -> Result<Json<Vec<TokenStatus>>, Problem> {
    open(&app, peer, Ask::Look)?;
    listed(&app, &address).await.map(|(_, tokens)| Json(tokens))
}

/// An owner's tokens, by his address as text.
pub(super) async fn listed(
    app: &App,
    address: &str,
) -> Result<(Address, Vec<TokenStatus>), Problem> {
    let wrong =
        |error: protocol::key::KeyError| Problem::new(StatusCode::BAD_REQUEST, error.to_string());
    let address: Address = address.parse().map_err(wrong)?;
    let tokens = app.store.run(move |store| store.media_of(&address, unix_ms())).await?;
    Ok((address, tokens))
}

/// Takes a medium back: by its owner's signature, or, without a body, by an operator's token.
///
/// `If-Match` with the tag of `GET /v1/media/{token}` makes sure that it still stands as it was seen.
#[utoipa::path(
    post, path = "/v1/media/{token}/revoke", tag = "media", operation_id = "revoke_medium",
    security((), ("operator" = [])), params(OfToken, Meant, Once),
    request_body = Option<TakenBack>,
    responses((status = 200, description = "How it stands now", body = TokenStatus), Refused)
)]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(token): Path<String>,
    headers: HeaderMap,
    operator: Result<Operator, Problem>,
    posted: Result<Json<Signed<Withdrawal>>, JsonRejection>,
) -> Result<Json<TokenStatus>, Problem> {
    let (_, authority) = open(&app, peer, Ask::Write)?;
    let token = key(&token)?;
    let who = if headers.contains_key(header::AUTHORIZATION) {
        format!("operator {}", operator?.0)
    } else {
        let withdrawal = nodes::body(posted)?;
        let known = app.store.run(move |store| store.medium(&token, unix_ms())).await?;
        let owner = known.ok_or_else(unknown)?.owner;
        let said = withdrawal
            .verify(&authority.chain)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        let ours = authority.key.public();
        if withdrawal.signer.address() != owner {
            let text =
                format!("{} signed it: only the token's owner takes it back", withdrawal.signer);
            return Err(Problem::new(StatusCode::FORBIDDEN, text));
        }
        if (said.token, said.provisioner) != (token, ours) {
            let text = "it was signed for another token or provisioner: sign it anew";
            return Err(Problem::new(StatusCode::FORBIDDEN, text));
        }
        format!("its owner {owner}")
    };
    let now = unix_ms();
    if headers.contains_key(header::IF_MATCH) {
        let status = app.store.run(move |store| store.medium(&token, now)).await?;
        let status = status.ok_or_else(unknown)?;
        if !cache::expects(&headers, &cache::tag_for(&status)) {
            let text = format!("the medium is {} by now; look at it again", status.state.as_str());
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, text));
        }
    }
    let work = move |store: &crate::store::Store| {
        Ok((store.withdraw_medium(&token, now)?, store.medium(&token, now)?))
    };
    match app.store.run(work).await? {
        (Withdrawn::Done(node), Some(status)) => {
            tracing::info!("{who} took the medium with token {token} back");
            let mac = status.mac.as_deref().and_then(|mac| mac.parse().ok());
            if let (Some(node), Some(mac)) = (node, mac) {
                let text = format!(
                    "node key {} was revoked: {who} took its medium back (token {})",
                    node.short(),
                    token.short()
                );
                app.timeline.record(Record::new(mac, Kind::Refused, text));
            }
            Ok(Json(status))
        }
        (Withdrawn::Full, _) => {
            let text = "as many node keys are revoked as may be: end the machine's life instead, by \
                        `alia fleet retire`";
            Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, text))
        }
        _ => Err(unknown()),
    }
}

/// `POST /v1/machines/{mac}/claim`.
pub(super) async fn claim(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Result<Json<Signed<Claim>>, JsonRejection>,
) -> Result<Json<Taken>, Problem> {
    speaks(&headers)?;
    let mac = mac(&name)?;
    let (_, authority) = open(&app, peer, Ask::Look)?;
    let claim = nodes::body(posted)?;
    let refused = |status: StatusCode, text: String| {
        nodes::refuse(&app, mac, peer, &text);
        Problem::new(status, text)
    };
    let claimed = check_claim(&claim, &authority.chain, &authority.key.public())
        .map_err(|error| refused(StatusCode::BAD_REQUEST, error.to_string()))?;
    if claim.body.mac.parse() != Ok(mac) {
        let text = "the claim is for another machine than it was posted for".to_owned();
        return Err(refused(StatusCode::BAD_REQUEST, text));
    }
    let (token, node, owner) = (claimed.token, claimed.node, claimed.owner().address());
    let bound = {
        let claimed: Claimed = claimed;
        app.store.run(move |store| store.bind_medium(&claimed, mac, unix_ms())).await?
    };
    if let Some(why) = refusal(&bound) {
        let text = format!("token {}: {why}", token.short());
        return Err(refused(StatusCode::FORBIDDEN, text));
    }
    let first = bound == Bound::First;
    if first {
        let text = format!(
            "the medium with token {} is used: node key {} is {owner}'s from now on",
            token.short(),
            node.short()
        );
        let record = Record::new(mac, Kind::Enrol, text);
        app.timeline.record(record.sighting(nodes::sighting(peer)));
    }
    Ok(Json(Taken { first }))
}

/// Why a token takes nobody in, and what its owner does then; none where it does.
fn refusal(bound: &Bound) -> Option<String> {
    let another = "its owner gets another by `alia medium get`";
    Some(match bound {
        Bound::First | Bound::Again => return None,
        Bound::Unknown => {
            format!("it was never registered here, or its time was over long ago; {another}")
        }
        Bound::Otherwise => {
            format!("it was registered here by other signatures than this medium has; {another}")
        }
        Bound::Revoked => format!("it was taken back; {another}"),
        Bound::Expired => format!("its time was over before its first use; {another}"),
        Bound::OtherNode { node, mac } => format!(
            "it is used: node {} came of it, with MAC address {mac}. A medium is for one machine; for \
             this one {another}. If that node is not the owner's machine, the medium was copied: take \
             it back by `alia medium revoke`",
            node.short()
        ),
        Bound::OtherMachine => format!(
            "its node came from another machine: it was copied, or the board was replaced; take it \
             back by `alia medium revoke`, then {another}"
        ),
        Bound::OtherOwner(owner) => format!(
            "this machine's node is {owner}'s already: reset TPM and UEFI variables in its firmware, \
             and it makes a new one"
        ),
    })
}
