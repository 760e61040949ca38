//! What ledger and parameter servers say, asked for in the background with time-outs, so that a
//! dead one shows as dead and never keeps the page waiting.

use crate::timeline::Timeline;
use protocol::{
    api::JobStatus,
    fleet::{LedgerStatus, ParameterServerStatus, UpstreamStatus},
};
use reqwest::Client;
use serde::de::DeserializeOwned;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(1);
/// For one question.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer read: some hundred jobs with their workers.
const MAX_ANSWER: usize = 4 << 20;

/// Starts asking. The channel holds what was heard last.
pub fn watch(
    ledgers: Vec<String>,
    parameter_servers: Vec<String>,
    timeline: Timeline,
) -> Result<watch::Receiver<Arc<UpstreamStatus>>, reqwest::Error> {
    // These are addresses of our own network: no proxy stands between, and none redirects.
    let client = Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let first = UpstreamStatus {
        ledger: ledgers.first().map(|url| LedgerStatus {
            url: url.clone(),
            height: None,
            error: Some("not asked yet".into()),
        }),
        parameter_servers: parameter_servers
            .iter()
            .map(|url| ParameterServerStatus {
                url: url.clone(),
                jobs: vec![],
                error: Some("not asked yet".into()),
            })
            .collect(),
    };
    let (sender, receiver) = watch::channel(Arc::new(first));
    if ledgers.is_empty() && parameter_servers.is_empty() {
        return Ok(receiver);
    }
    tokio::spawn(async move {
        while !sender.is_closed() {
            let before = sender.borrow().clone();
            let (ledger, servers) = futures::join!(
                ask_ledgers(&client, &ledgers, &before),
                futures::future::join_all(
                    before.parameter_servers.iter().map(|server| ask_server(&client, server))
                )
            );
            let heard = UpstreamStatus { ledger, parameter_servers: servers };
            if heard != *before {
                let heard = Arc::new(heard);
                sender.send_replace(heard.clone());
                timeline.publish(heard);
            }
            sleep(PAUSE).await;
        }
    });
    Ok(receiver)
}

/// The first ledger node that answers.
async fn ask_ledgers(
    client: &Client,
    ledgers: &[String],
    before: &UpstreamStatus,
) -> Option<LedgerStatus> {
    let mut first_error = None;
    for url in ledgers {
        match get(client, &format!("{url}/status")).await.and_then(|status| height(&status)) {
            Ok(height) => {
                return Some(LedgerStatus { url: url.clone(), height: Some(height), error: None });
            }
            Err(error) => {
                first_error.get_or_insert((url, error));
            }
        }
    }
    let (url, error) = first_error?;
    let height = before.ledger.as_ref().and_then(|ledger| ledger.height);
    Some(LedgerStatus { url: url.clone(), height, error: Some(error) })
}

async fn ask_server(client: &Client, before: &ParameterServerStatus) -> ParameterServerStatus {
    let url = before.url.clone();
    match get::<Vec<JobStatus>>(client, &format!("{url}/v1/jobs")).await {
        Ok(jobs) => ParameterServerStatus { url, jobs, error: None },
        // What it said last stays on the page, with the reason why it is old.
        Err(error) => ParameterServerStatus { error: Some(error), ..before.clone() },
    }
}

/// The height in CometBFT's answer to `/status`, which writes it as text.
fn height(status: &serde_json::Value) -> Result<u64, String> {
    status["result"]["sync_info"]["latest_block_height"]
        .as_str()
        .and_then(|height| height.parse().ok())
        .ok_or_else(|| "it answers, but not as CometBFT's RPC does: check the address".into())
}

pub(crate) async fn get<T: DeserializeOwned>(client: &Client, url: &str) -> Result<T, String> {
    let plain = |error: reqwest::Error| {
        if error.is_timeout() {
            format!("no answer within {} s", PATIENCE.as_secs())
        } else if error.is_connect() {
            "nobody listens there".to_string()
        } else {
            error.to_string()
        }
    };
    let mut response = client.get(url).send().await.map_err(plain)?;
    if !response.status().is_success() {
        return Err(format!("it answers {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(plain)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(format!("its answer is longer than {MAX_ANSWER} bytes"));
        }
    }
    serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be read: {error}"))
}
