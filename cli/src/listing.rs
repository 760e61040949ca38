//! Listings of the ledger: a server's word, good for finding what is then proven.

use ledger_client::{Client, QueryError};
use protocol::{
    JobId, PublicKey,
    listing::{JobLine, MAX_PAGE, Page, ReceiptLine},
};
use serde::{Serialize, de::DeserializeOwned};

/// A receipt in a listing, with its job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The job.
    pub job: JobId,
    /// The receipt.
    #[serde(flatten)]
    pub line: ReceiptLine,
}

async fn all<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    mut after: Option<u64>,
) -> Result<Vec<T>, QueryError> {
    let mut lines = Vec::new();
    loop {
        let mut query = format!("{path}limit={MAX_PAGE}");
        if let Some(after) = after {
            query += &format!("&after={after}");
        }
        let page: Page<T> = client.list(&query).await?;
        lines.extend(page.lines);
        match page.next {
            // A server that does not go forward is not followed in circles.
            Some(next) if after.is_none_or(|after| next > after) => after = Some(next),
            _ => return Ok(lines),
        }
    }
}

/// Every job, oldest first.
///
/// # Errors
/// Where the ledger does not answer.
pub async fn jobs(client: &Client) -> Result<Vec<JobLine>, QueryError> {
    all(client, "list/jobs?", None).await
}

/// The newest `limit` receipts of one job or of all, of one node or of all, oldest first.
///
/// # Errors
/// Where the ledger does not answer.
pub async fn receipts(
    client: &Client,
    job: Option<JobId>,
    node: Option<PublicKey>,
    limit: usize,
) -> Result<Vec<Listed>, QueryError> {
    let jobs = jobs(client).await?;
    let mut newest: Vec<Listed> = Vec::new();
    for line in jobs.iter().filter(|line| job.is_none_or(|job| job == line.job)) {
        // Without a filter the last ones are enough.
        let skip = if node.is_none() { line.receipts.saturating_sub(limit as u64) } else { 0 };
        let path = format!("list/receipts?job={}&", line.job);
        let lines: Vec<ReceiptLine> = all(client, &path, skip.checked_sub(1)).await?;
        let wanted = lines.into_iter().filter(|line| node.is_none_or(|node| node == line.node));
        newest.extend(wanted.map(|found| Listed { job: line.job, line: found }));
    }
    newest.sort_by_key(|listed| listed.line.height);
    let over = newest.len().saturating_sub(limit);
    newest.drain(..over);
    Ok(newest)
}
