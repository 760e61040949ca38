//! What the ledger says of nodes and their receipts: asked for in the background, bounded in how much
//! and how often, and kept for whoever looks. No page waits for it.

use crate::{
    store::{Store, StoreError},
    timeline::unix_ms,
    upstream::{PATIENCE, get},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use protocol::{
    JobId, PublicKey,
    earnings::{FleetWork, MAX_RECEIPTS_SHOWN, NodeStanding, WorkReceipt},
    fleet::UpstreamStatus,
    listing::{JobLine, MAX_PAGE, NodeLine, Page, ReceiptLine},
};
use reqwest::Client;
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::sleep};
use url::form_urlencoded;

/// Between two rounds: some five blocks.
const PAUSE: Duration = Duration::from_secs(5);
/// The most pages of nodes: as many nodes as machines are kept.
const NODE_PAGES: usize = 50;
/// The most pages of jobs.
const JOB_PAGES: usize = 5;
/// The most jobs whose receipts are asked for in a round; others have their turn in the next.
const JOBS: usize = 8;
/// How many receipts of a job's end are looked at.
const TAIL: u64 = 2 * MAX_PAGE as u64;

/// What was heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    /// Nodes, by their keys.
    nodes: BTreeMap<PublicKey, NodeStanding>,
    /// The last receipts of each, newest first.
    receipts: BTreeMap<PublicKey, VecDeque<WorkReceipt>>,
    /// How far each job was looked at: its receipts, and how many of them were confirmed.
    jobs: BTreeMap<JobId, (u64, u64)>,
}

impl Book {
    /// A node's standing.
    pub fn standing(&self, node: &PublicKey) -> Option<NodeStanding> {
        self.nodes.get(node).copied()
    }

    /// A node's last receipts, newest first.
    pub fn receipts(&self, node: &PublicKey) -> Vec<WorkReceipt> {
        self.receipts.get(node).map(|kept| kept.iter().cloned().collect()).unwrap_or_default()
    }

    /// The jobs whose receipts are to be looked at, those that moved, newest first.
    fn moved(&self, jobs: &[JobLine]) -> Vec<JobLine> {
        let moved =
            |job: &&JobLine| self.jobs.get(&job.job) != Some(&(job.receipts, job.confirmed));
        jobs.iter().rev().filter(moved).take(JOBS).cloned().collect()
    }

    /// Takes a job's last receipts in, oldest first.
    fn take(&mut self, job: &JobLine, lines: Vec<ReceiptLine>) {
        for line in lines {
            // Of nodes that are registered alone, which are bounded.
            if !self.nodes.contains_key(&line.node) {
                continue;
            }
            let kept = self.receipts.entry(line.node).or_default();
            let receipt = WorkReceipt {
                receipt: line.receipt,
                job: job.job,
                epoch: line.epoch,
                step: line.step,
                part: line.part,
                product: line.units.product,
                pointwise: line.units.pointwise,
                height: line.height,
                confirmed: line.confirmed,
            };
            match kept.iter_mut().find(|known| known.receipt == receipt.receipt) {
                Some(known) => *known = receipt,
                None => kept.push_front(receipt),
            }
            kept.make_contiguous().sort_by_key(|receipt| std::cmp::Reverse(receipt.height));
            kept.truncate(MAX_RECEIPTS_SHOWN);
        }
        self.jobs.insert(job.job, (job.receipts, job.confirmed));
    }
}

/// How long a sum over all machines is good.
const SUM_LASTS: Duration = Duration::from_secs(5);
/// What a sensor said longer ago does not count: twice what a machine takes to say it again, and more.
const READ_LASTS_MS: u64 = 5 * 60_000;

/// The book, and sums over it.
pub struct Work {
    book: watch::Receiver<Arc<Book>>,
    sums: Mutex<Option<(Instant, FleetWork)>>,
}

impl Work {
    /// Of a book that is kept elsewhere.
    pub fn new(book: watch::Receiver<Arc<Book>>) -> Self {
        Self { book, sums: Mutex::default() }
    }

    /// The book as it is now.
    pub fn book(&self) -> Arc<Book> {
        self.book.borrow().clone()
    }

    /// The work of all machines; some seconds old.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sums(&self, store: &Arc<Store>) -> Result<FleetWork, StoreError> {
        let kept = *self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, sums)) = kept
            && at.elapsed() < SUM_LASTS
        {
            return Ok(sums);
        }
        let book = self.book();
        let sums = store
            .run(move |store| {
                let (milliwatts, measured) =
                    store.power(unix_ms().saturating_sub(READ_LASTS_MS))?;
                let mut sums = FleetWork { milliwatts, measured, ..FleetWork::default() };
                for standing in store.nodes()?.iter().filter_map(|node| book.standing(node)) {
                    sums.nodes += 1;
                    sums.receipts = sums.receipts.saturating_add(standing.receipts);
                    sums.confirmed = sums.confirmed.saturating_add(standing.confirmed);
                }
                Ok(sums)
            })
            .await?;
        *self.sums.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), sums));
        Ok(sums)
    }
}

/// Starts asking. The ledger that answers is the one of `upstream`; without one nobody is asked.
pub fn watch(
    mut upstream: watch::Receiver<Arc<UpstreamStatus>>,
) -> Result<watch::Receiver<Arc<Book>>, reqwest::Error> {
    let client = Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let (sender, receiver) = watch::channel(Arc::new(Book::default()));
    tokio::spawn(async move {
        let mut heard = None;
        while !sender.is_closed() {
            let ledger = upstream.borrow_and_update().ledger.clone();
            let answers = ledger.filter(|ledger| ledger.error.is_none());
            if let Some(ledger) = answers
                && heard != ledger.height
            {
                let before = (**sender.borrow()).clone();
                // What failed is asked again in the next round; why, `upstream` says.
                if let Ok((after, whole)) = round(&client, &ledger.url, before).await {
                    heard = ledger.height.filter(|_| whole);
                    sender.send_replace(Arc::new(after));
                }
            }
            sleep(PAUSE).await;
            let height = upstream.borrow().ledger.as_ref().and_then(|ledger| ledger.height);
            if heard == height && upstream.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// One round; whether it is all that there is.
async fn round(client: &Client, ledger: &str, mut book: Book) -> Result<(Book, bool), String> {
    let nodes: Vec<NodeLine> = list(client, ledger, "nodes", NODE_PAGES).await?;
    book.nodes = nodes
        .into_iter()
        .map(|line| {
            let NodeLine { height, receipts, confirmed, .. } = line;
            (line.node, NodeStanding { height, receipts, confirmed })
        })
        .collect();
    let jobs: Vec<JobLine> = list(client, ledger, "jobs", JOB_PAGES).await?;
    book.jobs.retain(|known, _| jobs.iter().any(|job| job.job == *known));
    let moved = book.moved(&jobs);
    let whole = moved.len() < JOBS;
    for job in moved {
        let mut lines = Vec::new();
        let mut after = job.receipts.checked_sub(TAIL + 1);
        for _ in 0..TAIL / MAX_PAGE as u64 {
            let asked = format!("list/receipts?job={}&limit={MAX_PAGE}{}", job.job, behind(after));
            let page: Page<ReceiptLine> = ask(client, ledger, &asked).await?;
            lines.extend(page.lines);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        book.take(&job, lines);
    }
    Ok((book, whole))
}

/// All lines of a listing, so many pages of it.
async fn list<T: DeserializeOwned>(
    client: &Client,
    ledger: &str,
    what: &str,
    pages: usize,
) -> Result<Vec<T>, String> {
    let (mut lines, mut after) = (Vec::new(), None);
    for _ in 0..pages {
        let asked = format!("list/{what}?limit={MAX_PAGE}{}", behind(after));
        let page: Page<T> = ask(client, ledger, &asked).await?;
        lines.extend(page.lines.into_iter().take(MAX_PAGE));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(lines)
}

fn behind(after: Option<u64>) -> String {
    after.map(|after| format!("&after={after}")).unwrap_or_default()
}

#[derive(Deserialize)]
struct Answer {
    result: Answered,
}

#[derive(Deserialize)]
struct Answered {
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    log: String,
    #[serde(default)]
    value: Option<String>,
}

/// CometBFT's `abci_query` by URI: a text stands in quotes there.
async fn ask<T: DeserializeOwned>(client: &Client, ledger: &str, path: &str) -> Result<T, String> {
    let path: String = form_urlencoded::byte_serialize(format!("\"{path}\"").as_bytes()).collect();
    let url = format!("{}/abci_query?path={path}", ledger.trim_end_matches('/'));
    let Answer { result: Answered { response } } = get(client, &url).await?;
    if response.code != 0 {
        return Err(protocol::plain(&response.log).chars().take(200).collect());
    }
    let unreadable = |why: &dyn std::fmt::Display| format!("its answer cannot be read: {why}");
    let value = STANDARD.decode(response.value.unwrap_or_default());
    let value = value.map_err(|error| unreadable(&error))?;
    serde_json::from_slice(&value).map_err(|error| unreadable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Json, Router, extract::Query, routing::get as on_get};
    use protocol::{
        BatchPart, Digest, ReceiptId, SecretKey, WorkUnits, fleet::LedgerStatus, key::Address,
        node::NodeRole,
    };
    use serde_json::json;

    fn node(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; 32]).public()
    }

    fn address() -> Address {
        node(9).address()
    }

    fn receipt(n: u64, node: PublicKey, confirmed: Option<u64>) -> ReceiptLine {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        ReceiptLine {
            receipt: ReceiptId(Digest(id)),
            node,
            epoch: 0,
            step: n as u32,
            part: BatchPart::Micro(1),
            attempt: 0,
            units: WorkUnits { product: 7, pointwise: 3 },
            height: 100 + n,
            confirmed,
            first: confirmed.is_some(),
        }
    }

    fn job(receipts: u64, confirmed: u64) -> JobLine {
        JobLine {
            job: JobId(Digest([5; 32])),
            label: "de-en".into(),
            kind: "train".into(),
            requester: address(),
            parameter_server: node(8),
            height: 3,
            receipts,
            confirmed,
        }
    }

    #[test]
    fn a_nodes_last_receipts_are_kept_and_confirmed_later() {
        let mut book = Book::default();
        book.nodes.insert(node(1), NodeStanding::default());
        let lines = (0..30).map(|n| receipt(n, node(1 + (n % 2) as u8), None)).collect();
        book.take(&job(30, 0), lines);
        let kept = book.receipts(&node(1));
        assert_eq!((kept.len(), kept[0].height, kept[14].height), (15, 128, 100));
        assert_eq!(book.receipts(&node(2)), [], "nobody registered it");
        assert_eq!(book.moved(&[job(30, 0)]).len(), 0);
        assert_eq!(book.moved(&[job(30, 1)]).len(), 1);
        book.take(&job(34, 1), vec![receipt(28, node(1), Some(140)), receipt(40, node(1), None)]);
        let kept = book.receipts(&node(1));
        assert_eq!((kept.len(), kept[0].height, kept[1].confirmed), (16, 140, Some(140)));
    }

    /// What CometBFT's RPC answers, as a server of its own; counts what it was asked.
    async fn ledger(asked: Arc<Mutex<Vec<String>>>) -> String {
        let answer = move |Query(query): Query<BTreeMap<String, String>>| {
            let asked = asked.clone();
            async move {
                let path = query["path"].trim_matches('"').to_owned();
                let value = if path.starts_with("list/nodes") {
                    let line = NodeLine {
                        node: node(1),
                        owner: address(),
                        role: NodeRole::Worker,
                        height: 12,
                        receipts: 900,
                        confirmed: 850,
                    };
                    json!(Page { lines: vec![line], next: None })
                } else if path.starts_with("list/jobs") {
                    json!(Page { lines: vec![job(900, 850)], next: None })
                } else {
                    let from: u64 = path.rsplit_once("after=").unwrap().1.parse().unwrap();
                    let lines: Vec<_> = (from + 1..(from + 201).min(900))
                        .map(|n| receipt(n, node(1), Some(2_000)))
                        .collect();
                    let next = lines.last().map(|line| u64::from(line.step)).filter(|n| *n < 899);
                    json!(Page { lines, next })
                };
                asked.lock().unwrap().push(path);
                let value = STANDARD.encode(serde_json::to_vec(&value).unwrap());
                Json(json!({"result": {"response": {"code": 0, "log": "", "value": value}}}))
            }
        };
        let router = Router::new().route("/abci_query", on_get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[tokio::test]
    async fn a_ledger_is_asked_once_a_height_and_for_no_more_than_ends_of_jobs() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let url = ledger(asked.clone()).await;
        let status = LedgerStatus { url, height: Some(7), error: None };
        let status = UpstreamStatus { ledger: Some(status), parameter_servers: vec![] };
        let (_upstream, receiver) = watch::channel(Arc::new(status));
        let mut book = watch(receiver).unwrap();
        tokio::time::timeout(Duration::from_secs(10), book.changed()).await.unwrap().unwrap();
        let heard = book.borrow().clone();
        let standing = heard.standing(&node(1)).unwrap();
        assert_eq!((standing.height, standing.receipts, standing.waiting()), (12, 900, 50));
        let receipts = heard.receipts(&node(1));
        assert_eq!((receipts.len(), receipts[0].step), (MAX_RECEIPTS_SHOWN, 899));
        assert_eq!(asked.lock().unwrap().len(), 4, "{:?}", asked.lock().unwrap());
    }
}
