//! What the services say of themselves, gathered for the view and the summary.

use super::network::{Network, ledger_url, page_url, server_url};
use ledger_client::Client;
use protocol::{
    JobId, PublicKey,
    api::JobStatus,
    fleet::{MachineStatus, ProvisionerStatus},
    state::{ChainRecord, NodeRecord, StateKey},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// All that is known.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The chain's height.
    pub height: u64,
    /// Its counts.
    pub chain: ChainRecord,
    /// What the provisioner says of itself.
    pub provisioner: Option<ProvisionerStatus>,
    /// Its machines, by MAC address.
    pub machines: BTreeMap<String, MachineStatus>,
    /// The jobs, newest first.
    pub jobs: Vec<JobStatus>,
    /// When a machine's first receipt was seen in a block, by MAC address.
    pub first_receipts: BTreeMap<String, Instant>,
    /// Receipts of a machine in blocks, by MAC address.
    pub receipts: BTreeMap<String, u64>,
}

/// Asks the services.
pub struct Watcher {
    http: reqwest::Client,
    /// The ledger's server; what counts is proven elsewhere.
    pub ledger: Client,
    /// The parameter server.
    pub server: cli::ParameterServer,
}

impl Watcher {
    /// A watcher of this network.
    pub fn new() -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        let ledger = Client::new(&[ledger_url()])?;
        Ok(Self { http, ledger, server: cli::ParameterServer::new(&server_url())? })
    }

    async fn page<T: serde::de::DeserializeOwned>(&self, path: &str) -> Option<T> {
        let answer = self.http.get(format!("{}{path}", page_url())).send().await.ok()?;
        answer.json().await.ok()
    }

    /// Asks all of them; what does not answer keeps its last word.
    pub async fn look(&self, known: &mut Known) {
        if let Ok(height) = self.ledger.height().await {
            known.height = height;
        }
        if let Ok(Some(record)) = self.ledger.record(&StateKey::Chain).await {
            known.chain = record;
        }
        if let Some(status) = self.page("/v1/status").await {
            known.provisioner = Some(status);
        }
        if let Some(machines) = self.page::<Vec<MachineStatus>>("/v1/machines").await {
            known.machines = machines.into_iter().map(|each| (each.mac.clone(), each)).collect();
        }
        if let Ok(jobs) = self.server.jobs().await {
            known.jobs = jobs;
        }
        let nodes: Vec<(String, PublicKey)> = known
            .machines
            .values()
            .filter_map(|machine| Some((machine.mac.clone(), machine.node?)))
            .collect();
        for (mac, node) in nodes {
            let record = self.ledger.record::<NodeRecord>(&StateKey::Node(node)).await;
            if let Ok(Some(record)) = record
                && record.receipts > 0
            {
                known.first_receipts.entry(mac.clone()).or_insert_with(Instant::now);
                known.receipts.insert(mac, record.receipts);
            }
        }
    }
}

impl Known {
    /// A job's status.
    pub fn job(&self, id: &JobId) -> Option<&JobStatus> {
        self.jobs.iter().find(|status| status.job == *id)
    }

    /// What a node is called.
    pub fn name(&self, network: &Network, node: &PublicKey) -> String {
        if network.host == Some(*node) {
            return "host".into();
        }
        if network.server == *node {
            return "parameter server".into();
        }
        let of_machine = self.machines.values().find(|machine| machine.node == Some(*node));
        let mac = of_machine.map(|machine| machine.mac.as_str());
        let found =
            network.machines.iter().find(|each| Some(each.machine.spec().mac.as_str()) == mac);
        found.map_or_else(|| node.short(), |each| each.machine.spec().name.clone())
    }
}
