//! Speaks to nodes: finds one by its name, and believes that it is the one by its key alone.
//!
//! The provisioner says where a node is and which key it was taken in with; TLS 1.3 then proves
//! that key ([`mtls`]), so whoever else answers at that address is refused before a word.

pub mod approve;
pub mod client;
pub mod show;
pub mod target;

pub use client::{Node, NodeError};
pub use target::{Target, TargetError, Wanted};

use protocol::{fleet::MachineStatus, told};
use std::time::Duration;

/// How long a provisioner may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The machines that a provisioner at this base address knows: its word.
///
/// # Errors
/// Where it does not answer.
pub async fn machines(provisioner: &str) -> Result<Vec<MachineStatus>, TargetError> {
    get(provisioner, "/v1/machines?limit=10000").await
}

fn base(provisioner: &str) -> String {
    let base = provisioner.trim_end_matches('/');
    if base.contains("://") { base.to_owned() } else { format!("http://{base}") }
}

/// A provisioner did not answer, or not as it should.
fn away(provisioner: &str) -> impl Fn(reqwest::Error) -> TargetError + use<> {
    let provisioner = base(provisioner);
    move |error| TargetError::Provisioner { provisioner: provisioner.clone(), why: told(&error) }
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()
}

async fn get<T: serde::de::DeserializeOwned>(
    provisioner: &str,
    path: &str,
) -> Result<T, TargetError> {
    let away = away(provisioner);
    let url = format!("{}{path}", base(provisioner));
    let answer = client().map_err(&away)?.get(url).send().await.map_err(&away)?;
    let answer = answer.error_for_status().map_err(&away)?;
    answer.json().await.map_err(&away)
}
