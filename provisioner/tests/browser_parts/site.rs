//! A provisioner with machines, a ledger and a parameter server that say what a test wants.

use crate::place;
use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use protocol::{
    ChainId, Digest, JobId, PublicKey, SecretKey, Signed,
    api::{BatchDone, JobPhase, JobStatus, WorkerStatus},
    batch::BatchPart,
    boot::{BootEvent, Enrol, StageState},
    certificate::{CardReading, CertificateRequest, NodeCertificate, Readings},
    console::{ConsoleBatch, ConsoleLine, ConsoleSource},
    evidence::Held,
    fleet::{MachineDetail, MachineState},
    inventory::{Cpu, Disk, Gpu, Inventory, Nic, System},
    listing::{JobLine, NodeLine, Page, ReceiptLine},
    node::{Delegation, NodeRole},
    operation::WorkUnits,
    receipt::ReceiptId,
};
use provisioner::{
    config::{Approval, Options, Part},
    run::{self, Running},
    timeline::unix_ms,
};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub(crate) const MAC: &str = "52:54:00:aa:00:01";
pub(crate) const OTHER: &str = "52:54:00:aa:00:02";

pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) running: Running,
    pub(crate) client: Client,
}

pub(crate) fn chain() -> ChainId {
    "alia-test".parse().unwrap()
}

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// What a machine with that processor asks to be taken in with.
pub(crate) fn enrol(mac: &str, boot: u8, cpu: &str) -> Enrol {
    let serial = mac.replace(':', "");
    let card = |slot: u8| Gpu {
        address: format!("0000:0{slot}:00.0"),
        pci_id: "10de:2331".into(),
        name: Some("NVIDIA H100 PCIe".into()),
        memory_bytes: Some(80 << 30),
        usable: if slot == 1 { Ok(()) } else { Err("its driver does not answer".into()) },
    };
    Enrol {
        mac: mac.into(),
        boot_id: Digest([boot; 32]),
        release: Digest([7; 32]),
        inventory: Inventory {
            system: System {
                vendor: "Example".into(),
                product: "Rack Server 2".into(),
                uuid: format!("11223344-5566-7788-99aa-{serial}"),
                serial: format!("SN-{serial}"),
                uefi: true,
                ..System::default()
            },
            cpu: Cpu {
                model: cpu.into(),
                threads: 64,
                features: vec!["avx2".into(), "fma".into()],
                microcode: "0xf4".into(),
                ..Cpu::default()
            },
            memory_bytes: 256 << 30,
            nics: vec![Nic {
                name: "eth0".into(),
                mac: mac.into(),
                driver: Some("igc".into()),
                carrier: true,
                booted_from: true,
            }],
            disks: vec![Disk {
                name: "nvme0n1".into(),
                model: "Example SSD".into(),
                bytes: 2_000_398_934_016,
                rotational: false,
                id: "nvme-Example_SSD_1".into(),
            }],
            gpus: vec![card(1), card(2)],
            ..Inventory::default()
        },
        held: Held::Memory,
        evidence: None,
    }
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let delegation = Signed::sign(&chain(), Delegation { delegate: key(8).public() }, &key(7));
        fs::write(at("delegation"), serde_json::to_vec(&delegation).unwrap()).unwrap();
        fs::write(at("key"), key(8).to_hex()).unwrap();
        let mut options = Options {
            interface: Some("lo".into()),
            dhcp: Some(Part::Off),
            http_port: Some(0),
            https_port: Some(0),
            database: Some(place::fresh(folder.path()).parse().unwrap()),
            key: Some(at("key")),
            delegation: Some(at("delegation")),
            chain: Some(chain()),
            approval: Some(Approval::ByHand),
            ..Options::default()
        };
        change(&mut options);
        let running = run::start(options.with_file().unwrap()).await.unwrap();
        Self { folder, running, client: Client::builder().no_proxy().build().unwrap() }
    }

    pub(crate) fn token(&self) -> &str {
        self.running.token.as_ref().unwrap().reveal()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let url = format!("http://{}{path}", self.running.http);
        let answer = self.client.get(url).send().await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    }

    pub(crate) async fn secure(&self) -> String {
        self.json("/v1/status").await["https"].as_str().unwrap().to_string()
    }

    pub(crate) async fn machine(&self, mac: &str) -> MachineDetail {
        serde_json::from_value(self.json(&format!("/v1/machines/{mac}")).await).unwrap()
    }

    /// Waits until the store has a machine in that state.
    pub(crate) async fn until(&self, mac: &str, state: MachineState) {
        let begun = Instant::now();
        loop {
            let found = self.machine(mac).await.machine.life.state;
            if found == state {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{mac} is {found:?}, not {state:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn boots(&self, mac: &str) {
        let url = format!("http://{}/boot/{mac}.ipxe?arch=x86_64&platform=efi", self.running.http);
        self.client.get(url).send().await.unwrap().error_for_status().unwrap();
        self.running.timeline.flush(Duration::from_secs(5));
    }

    /// A machine asks to be taken in.
    pub(crate) async fn asks(&self, enrol: Enrol, seed: u8) -> StatusCode {
        let url = format!("http://{}/v1/machines/{}/enrol", self.running.http, enrol.mac);
        let signed = Signed::sign(&chain(), enrol, &key(seed));
        self.client.post(url).json(&signed).send().await.unwrap().status()
    }

    /// A machine asks to be taken in, and waits.
    pub(crate) async fn waits(&self, mac: &str, seed: u8) {
        let enrol = enrol(mac, seed, "Example CPU 9000");
        assert_eq!(self.asks(enrol, seed).await, StatusCode::FORBIDDEN);
    }

    /// A machine tells of stages of a boot: one that was taken in, with the key of that seed, by TLS
    /// with its certificate.
    pub(crate) async fn stages(
        &self,
        mac: &str,
        (boot, seed): (u8, Option<u8>),
        stages: &[(&str, StageState)],
    ) {
        let event = |(n, (stage, state)): (usize, &(&str, StageState))| BootEvent {
            sequence: n as u32,
            boot_id: Digest([boot; 32]),
            stage: (*stage).into(),
            state: *state,
            at_ms: 900 * (n as u64 + 1),
            detail: "as it says itself".into(),
        };
        let events: Vec<_> = stages.iter().enumerate().map(event).collect();
        let Some(seed) = seed else {
            let url = format!("http://{}/v1/machines/{mac}/events", self.running.http);
            let answer = self.client.post(url).json(&events).send().await.unwrap();
            answer.error_for_status().unwrap();
            return;
        };
        let (boot_id, nonce) = (Digest([boot; 32]), Digest([9; 32]));
        let request = CertificateRequest { mac: mac.into(), boot_id, nonce };
        let request = Signed::sign(&chain(), request, &key(seed));
        let base = format!("http://{}", self.running.http);
        let url = format!("{base}/v1/machines/{mac}/certificate");
        let answer = self.client.post(url).json(&request).send().await.unwrap();
        let answer: Signed<NodeCertificate> = answer.json().await.unwrap();
        let made = answer.verify(&chain()).unwrap();
        let certificate = made.certificate.clone().into();
        let config = mtls::client_showing(&key(seed), certificate, key(8).public()).unwrap();
        let secured = node_init::http::Secured { config: Arc::new(config), port: made.port };
        let (path, body) = (format!("/v1/machines/{mac}/events"), serde_json::to_vec(&events));
        let base = base.parse().unwrap();
        let told = node_init::http::post_by(&base, Some(&secured), &path, body.unwrap());
        told.await.unwrap();
    }

    /// A machine that was approved, taken in, and works; its node's key is the one of its seed.
    pub(crate) async fn works(&self, mac: &str, seed: u8) {
        self.waits(mac, seed).await;
        let url = format!("http://{}/v1/machines/{mac}/state", self.running.http);
        let asked = self.client.post(url).bearer_auth(self.token()).json(&json!({"do": "approve"}));
        asked.send().await.unwrap().error_for_status().unwrap();
        let enrol = enrol(mac, seed, "Example CPU 9000");
        assert_eq!(self.asks(enrol, seed).await, StatusCode::OK);
        let stages = ["mounts", "drivers", "network", "release", "root", "inventory", "stands"];
        self.stages(mac, (seed, Some(seed)), &stages.map(|stage| (stage, StageState::Done))).await;
        self.until(mac, MachineState::Ready).await;
    }

    /// A machine says lines of its console.
    pub(crate) fn says(&self, mac: &str, numbers: Range<u64>) {
        let line = |sequence: u64| ConsoleLine {
            source: if sequence.is_multiple_of(7) {
                ConsoleSource::Init
            } else {
                ConsoleSource::Kernel
            },
            sequence,
            at_ms: 1_234 * sequence,
            level: Some(if sequence.is_multiple_of(11) { 3 } else { 6 }),
            text: format!("usb 1-{sequence}: new high-speed <b>device</b> number {sequence}"),
        };
        let batch = ConsoleBatch { boot_id: Digest([1; 32]), lines: numbers.map(line).collect() };
        let add = || self.running.store.add_console(mac.parse().unwrap(), batch, unix_ms());
        tokio::task::block_in_place(add).unwrap();
    }

    /// What a machine's sensors say.
    pub(crate) fn measures(&self, mac: &str) {
        let card = CardReading {
            address: "0000:01:00.0".into(),
            name: "NVIDIA H100 PCIe".into(),
            milliwatts: Some(248_000),
            millidegrees: Some(61_000),
        };
        let readings = Readings {
            milliwatts: Some(312_000),
            cpu_millidegrees: Some(47_000),
            cards: vec![card],
        };
        let mac = mac.parse().unwrap();
        let alive = || self.running.store.alive(mac, None, Some(&readings), false, unix_ms());
        tokio::task::block_in_place(alive).unwrap();
    }
}

/// What a parameter server and a ledger say, which a test may change.
pub(crate) type Said = Arc<Mutex<Vec<JobStatus>>>;

/// A job at which the node of seed 1 works, and one that is not ours.
pub(crate) fn job(n: u8) -> JobStatus {
    let worker = |seed: u8| WorkerStatus {
        node: key(seed).public(),
        device: "NVIDIA H100 PCIe".into(),
        batches: 120,
        receipts: 118,
        batch_ms: Some(81.5),
        doing: (seed == 1).then(|| "epoch 2, step 5, part #3".into()),
        silent_seconds: 4.0,
    };
    let batch = |i: u8| BatchDone {
        epoch: 1,
        step: u32::from(i / 4),
        part: if i.is_multiple_of(9) { BatchPart::Update } else { BatchPart::Micro(i.into()) },
        node: key(1 + i % 2).public(),
        receipt: ReceiptId(Digest([100 + i; 32])),
        used: i != 3,
    };
    JobStatus {
        job: JobId(Digest([n; 32])),
        label: format!("corpus {n} de-en"),
        kind: "train".into(),
        phase: if n.is_multiple_of(2) { JobPhase::Done } else { JobPhase::Running },
        obstacle: None,
        epoch: 1,
        epochs: 13,
        step: 4,
        steps: 40,
        loss: Some(3.25),
        tokens_per_second: 812.0,
        parameters: Some(Digest([50 + n; 32])),
        result: n.is_multiple_of(2).then_some(Digest([60; 32])),
        receipts: 77,
        receipts_on_chain: 70,
        receipts_confirmed: 60,
        workers: vec![worker(1), worker(2)],
        recent: (0..40).map(batch).collect(),
        seconds: 125.0,
    }
}

pub(crate) fn owner() -> protocol::Address {
    key(7).public().address()
}

/// The ledger's answer to a path: of the node of seed 1 and its receipts of job 1.
fn listed(path: &str) -> Value {
    let node: PublicKey = key(1).public();
    if path.starts_with("list/nodes") {
        let (role, owner) = (NodeRole::Worker, owner());
        let line = NodeLine { node, owner, role, height: 12, receipts: 900, confirmed: 850 };
        return json!(Page { lines: vec![line], next: None });
    }
    if path.starts_with("list/jobs") {
        let line = JobLine {
            job: JobId(Digest([1; 32])),
            label: "corpus 1 de-en".into(),
            kind: "train".into(),
            requester: owner(),
            parameter_server: key(8).public(),
            height: 13,
            receipts: 20,
            confirmed: 15,
        };
        return json!(Page { lines: vec![line], next: None });
    }
    let line = |n: u8| ReceiptLine {
        receipt: ReceiptId(Digest([100 + n; 32])),
        node,
        epoch: 1,
        step: n.into(),
        part: BatchPart::Micro(n.into()),
        attempt: 0,
        units: WorkUnits::default(),
        height: 2_000 + u64::from(n),
        confirmed: (n < 15).then_some(2_050),
        first: true,
    };
    json!(Page { lines: (0..20).map(line).collect::<Vec<_>>(), next: None })
}

/// A server that speaks as both of them do; gives its URL.
pub(crate) async fn upstream(said: Said) -> String {
    async fn ledger(Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
        let value = listed(query["path"].trim_matches('"'));
        let value = STANDARD.encode(serde_json::to_vec(&value).unwrap());
        Json(json!({"result": {"response": {"code": 0, "log": "", "value": value}}}))
    }
    async fn jobs(State(said): State<Said>) -> Json<Value> {
        Json(json!(*said.lock().unwrap()))
    }
    let height = json!({"result": {"sync_info": {"latest_block_height": "4321"}}});
    let router = Router::new()
        .route("/v1/jobs", get(jobs))
        .route("/status", get(async move || Json(height)))
        .route("/abci_query", get(ledger))
        .with_state(said);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}
