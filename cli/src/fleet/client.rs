//! Requests to a provisioner, and its answers. A connection each: an operator asks now and then.

use super::{Site, SiteError};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use protocol::{
    configuration::History,
    console::ConsolePage,
    fleet::{Command, CrashStatus, Life, MachineDetail, MachineStatus, Revoked},
    plain,
    problem::ProblemDetails,
    told,
};
use rustls::{ClientConfig, pki_types::ServerName};
use serde::{Serialize, de::DeserializeOwned};
use std::{error::Error as StdError, fmt::Display, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use url::{Url, form_urlencoded};

/// How long an answer may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long connecting and shaking hands may take, each.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a request that acts is sent: again where no answer came.
const ATTEMPTS: u32 = 3;
/// The largest answer that is read: ten thousand machines have some ten megabytes.
const MAX_ANSWER: usize = 64 << 20;

/// A provisioner did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The site.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// Its address is none.
    #[error("{0:?} is no address of a provisioner: https://HOST:PORT is, to login http:// too")]
    Address(String),
    /// No answer.
    #[error("{url} does not answer ({why}): is the provisioner running, and is this its address?")]
    Away {
        /// Who.
        url: String,
        /// Why.
        why: String,
    },
    /// It said no.
    #[error("the provisioner refuses ({status}): {why}")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// Its words.
        why: String,
    },
    /// Its answer cannot be read.
    #[error("the provisioner answers what cannot be read ({0}): one side is of another version")]
    Answer(String),
    /// Which machine is meant.
    #[error(transparent)]
    Unclear(#[from] super::select::Unclear),
    /// There is no randomness.
    #[error("no key for the request can be made: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// A provisioner.
pub struct Fleet {
    tls: TlsConnector,
    host: String,
    port: u16,
    token: String,
}

/// A change of the configuration.
#[derive(Clone, Debug)]
pub struct Change {
    method: Method,
    path: String,
    body: String,
}

impl Change {
    /// Changes some values of a table, by a merge patch (RFC 7396).
    pub fn patch(path: String, patch: &serde_json::Value) -> Self {
        Self { method: Method::PATCH, path, body: patch.to_string() }
    }

    /// Takes a table away.
    pub fn delete(path: String) -> Self {
        Self { method: Method::DELETE, path, body: String::new() }
    }

    /// Replaces a table.
    pub fn put(path: String, body: String) -> Self {
        Self { method: Method::PUT, path, body }
    }

    /// Asks for something else.
    pub fn post(path: String, body: String) -> Self {
        Self { method: Method::POST, path, body }
    }
}

/// Headers of a request.
type Headers<'a> = [(&'a str, &'a str)];

impl Fleet {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// [`SiteError`], or an address that is none by TLS.
    pub fn new(site: &Site) -> Result<Self, FleetError> {
        let bad = || FleetError::Address(site.url.chars().take(200).collect());
        let url: Url = site.url.parse().map_err(|_| bad())?;
        let host = url.host_str().filter(|_| url.scheme() == "https").ok_or_else(bad)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let config: Arc<ClientConfig> = Arc::new(site.tls()?);
        let port = url.port().unwrap_or(443);
        Ok(Self { tls: config.into(), host, port, token: site.token.clone() })
    }

    fn away(&self, why: impl Display) -> FleetError {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        FleetError::Away { url: format!("https://{host}:{}", self.port), why: why.to_string() }
    }

    /// Asks, and gives an answer that has begun.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &Headers<'_>,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, FleetError> {
        let late = |_| self.away(format!("nothing within {} s", CONNECT.as_secs()));
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|_| FleetError::Address(self.host.clone()))?;
        let connected = TcpStream::connect((self.host.as_str(), self.port));
        let stream = timeout(CONNECT, connected).await.map_err(late)?;
        let stream = stream.map_err(|error| self.away(error))?;
        let stream = timeout(CONNECT, self.tls.connect(name, stream)).await.map_err(late)?;
        let stream = TokioIo::new(stream.map_err(|error| self.away(error))?);
        let ended = |error: hyper::Error| self.away(told(&error as &dyn StdError));
        let (mut sender, connection) = http1::handshake(stream).await.map_err(ended)?;
        // It ends with the answer, or with whoever reads it.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())));
        let request = request.map_err(|error| FleetError::Answer(error.to_string()))?;
        let answer = timeout(PATIENCE, sender.send_request(request)).await;
        let answer = answer.map_err(|_| self.away("it takes the request and says nothing"))?;
        let answer = answer.map_err(ended)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let text = String::from_utf8_lossy(&self.body(answer).await?).into_owned();
        Err(refused(status, text))
    }

    async fn body(&self, answer: Response<Incoming>) -> Result<Bytes, FleetError> {
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect();
        let body = timeout(PATIENCE, body).await;
        let body = body.map_err(|_| self.away("its answer does not end"))?;
        body.map(|body| body.to_bytes()).map_err(|error| self.away(error))
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response<Incoming>) -> Result<T, FleetError> {
        let body = self.body(answer).await?;
        serde_json::from_slice(&body).map_err(|error| FleetError::Answer(error.to_string()))
    }

    /// What stands at a path.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, FleetError> {
        self.read(self.send(Method::GET, path, &[], None).await?).await
    }

    /// A text at a path.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn text(&self, path: &str) -> Result<String, FleetError> {
        let body = self.body(self.send(Method::GET, path, &[], None).await?).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// What stands at a path, and the tag that says so.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn tagged<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<(T, Option<String>), FleetError> {
        let answer = self.send(Method::GET, path, &[], None).await?;
        let tag = answer.headers().get(header::ETAG);
        let tag = tag.and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        Ok((self.read(answer).await?, tag))
    }

    /// Changes the configuration, or only says what would change; with a tag, the revision of that.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn change<T: DeserializeOwned>(
        &self,
        change: &Change,
        why: &str,
        dry_run: bool,
        tag: Option<&str>,
    ) -> Result<T, FleetError> {
        let why = Some(("why", why)).filter(|(_, why)| !why.is_empty());
        let dry_run = ("dry-run", if dry_run { "true" } else { "false" });
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(why.into_iter().chain([dry_run]))
            .finish();
        let joint = if change.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{joint}{query}", change.path);
        let mut headers: Vec<(&str, &str)> = Vec::new();
        headers.extend(tag.map(|tag| (header::IF_MATCH.as_str(), tag)));
        let body = change.body.clone().into_bytes();
        self.read(self.act(change.method.clone(), &path, body, &headers).await?).await
    }

    /// A page of a machine's console: what a query (`search`, `boot`, `before`, …) lets through.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn console(
        &self,
        mac: &str,
        query: &[(&str, String)],
    ) -> Result<ConsolePage, FleetError> {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        self.get(&format!("/v1/machines/{mac}/console?{query}")).await
    }

    /// Those machines that a query (`state`, `search` and so on) lets through, page by page; at most
    /// `most`.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn machines(
        &self,
        query: &[(&str, String)],
        most: usize,
    ) -> Result<Vec<MachineStatus>, FleetError> {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        self.list(&format!("/v1/machines?{query}"), most).await
    }

    /// A list, page by page; at most `most` of it.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        most: usize,
    ) -> Result<Vec<T>, FleetError> {
        let mut all = Vec::new();
        let each = |page: Vec<T>| {
            // A server that does not go forward is not followed in circles.
            let goes_on = !page.is_empty();
            all.extend(page);
            goes_on && all.len() < most
        };
        self.pages(path, each).await?;
        all.truncate(most);
        Ok(all)
    }

    /// The newest revisions of the configuration, at most `most`.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn history(&self, most: usize) -> Result<History, FleetError> {
        let mut all = History::default();
        let each = |page: History| {
            let goes_on = !page.revisions.is_empty();
            all.dropped = page.dropped;
            all.revisions.extend(page.revisions);
            goes_on && all.revisions.len() < most
        };
        self.pages("/v1/config/history", each).await?;
        all.revisions.truncate(most);
        Ok(all)
    }

    /// Gives page after page to `each`, while that says to go on.
    async fn pages<P: DeserializeOwned>(
        &self,
        path: &str,
        mut each: impl FnMut(P) -> bool,
    ) -> Result<(), FleetError> {
        let mut path = path.to_owned();
        loop {
            let answer = self.send(Method::GET, &path, &[], None).await?;
            let next = next_page(&answer);
            let goes_on = each(self.read(answer).await?);
            match next {
                Some(next) if goes_on => path = next,
                _ => return Ok(()),
            }
        }
    }

    /// A machine's kernel's deaths: those in whose log a line contains a text, where one is given.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn crashes(
        &self,
        mac: &str,
        search: Option<&str>,
    ) -> Result<Vec<CrashStatus>, FleetError> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(search.map(|search| ("search", search)))
            .finish();
        self.get(&format!("/v1/machines/{mac}/crashes?{query}")).await
    }

    /// One machine.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn machine(&self, mac: &str) -> Result<MachineDetail, FleetError> {
        self.get(&format!("/v1/machines/{mac}")).await
    }

    /// Where a machine stands, and the tag that says so.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn life(&self, mac: &str) -> Result<(Life, Option<String>), FleetError> {
        self.tagged(&format!("/v1/machines/{mac}/state")).await
    }

    /// Asks something of a machine; with a tag, of one that stands where that says.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn command(
        &self,
        mac: &str,
        command: Command,
        tag: Option<&str>,
    ) -> Result<Life, FleetError> {
        let path = format!("/v1/machines/{mac}/state");
        let tag = tag.map(|tag| (header::IF_MATCH.as_str(), tag));
        let body = serde_json::to_vec(&command).unwrap_or_default();
        self.read(self.act(Method::POST, &path, body, tag.as_slice()).await?).await
    }

    /// Puts the node key of a machine out.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn revoke(&self, mac: &str) -> Result<Revoked, FleetError> {
        self.ask(&format!("/v1/machines/{mac}/revoke"), None).await
    }

    /// Asks for what needs no more than its path; with a tag, of what stands as that says.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        tag: Option<&str>,
    ) -> Result<T, FleetError> {
        let tag = tag.map(|tag| (header::IF_MATCH.as_str(), tag));
        self.read(self.act(Method::POST, path, Vec::new(), tag.as_slice()).await?).await
    }

    /// A request that must not be done twice: sent again by the same key where no answer came.
    async fn act(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        more: &Headers<'_>,
    ) -> Result<Response<Incoming>, FleetError> {
        let key = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
        let mut headers = vec![("idempotency-key", key.as_str())];
        headers.extend(more);
        let mut attempt = 1;
        loop {
            match self.send(method.clone(), path, &headers, Some(body.clone())).await {
                Err(FleetError::Away { .. }) if attempt < ATTEMPTS => {
                    tokio::time::sleep(Duration::from_secs(1) * attempt).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Makes something new.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn make<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, FleetError> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.read(self.act(Method::POST, path, body, &[]).await?).await
    }

    /// Ends what stands at a path.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn delete(&self, path: &str) -> Result<(), FleetError> {
        self.act(Method::DELETE, path, Vec::new(), &[]).await.map(drop)
    }
}

/// What a server says by plain HTTP, before anybody vouches for it.
///
/// # Errors
/// [`FleetError`].
pub async fn plain_text(base: &str, path: &str) -> Result<String, FleetError> {
    let url: Result<Url, _> = base.parse().and_then(|base: Url| base.join(path));
    let url = url.ok().filter(|url| url.scheme() == "http");
    let url = url.ok_or_else(|| FleetError::Address(base.chars().take(200).collect()))?;
    let away = |error: reqwest::Error| FleetError::Away {
        url: base.into(),
        why: told(&error.without_url()),
    };
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().map_err(away)?;
    let answer = client.get(url).send().await.map_err(away)?;
    let status = answer.status();
    let text = answer.text().await.map_err(away)?;
    if status.is_success() { Ok(text) } else { Err(refused(status.as_u16(), text)) }
}

fn refused(status: u16, text: String) -> FleetError {
    let said = serde_json::from_str::<ProblemDetails>(&text).map_or(text, |problem| problem.detail);
    FleetError::Refused { status, why: plain(&said).chars().take(1_000).collect() }
}

/// Where the next page is (RFC 8288): a path on the same server, and nowhere else.
fn next_page(answer: &Response<Incoming>) -> Option<String> {
    path_of(answer.headers().get(header::LINK)?.to_str().ok()?)
}

fn path_of(link: &str) -> Option<String> {
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    let is_path = target.starts_with('/') && !target.starts_with("//");
    (is_path && rest.contains("rel=\"next\"")).then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_follows_no_link_to_another_server() {
        assert_eq!(
            path_of("</v1/machines?after=x>; rel=\"next\"").as_deref(),
            Some("/v1/machines?after=x")
        );
        for bad in [
            "<//elsewhere/>; rel=\"next\"",
            "<https://e/>; rel=\"next\"",
            "</x>; rel=\"prev\"",
            "x",
        ] {
            assert_eq!(path_of(bad), None, "{bad}");
        }
    }
}
