//! Metrics, health and readiness of the whole provisioner on loopback, and the dashboard that is made
//! for them.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "common/image.rs"]
mod image;
#[path = "common/place.rs"]
mod place;

use protocol::readiness::{PartState, Readiness};
use provisioner::{
    config::{Options, Part},
    run::{self, Running},
};
use reqwest::{Client, StatusCode};
use std::{collections::BTreeSet, fs, path::Path, time::Duration};

const MAC: &str = "52-54-00-aa-00-01";

struct Site {
    running: Running,
    client: Client,
}

async fn start(folder: &Path, with_image: bool) -> Site {
    let path = folder.join("image");
    image::write(&path);
    let ipxe = folder.join("ipxe");
    fs::create_dir(&ipxe).unwrap();
    for file in ["undionly.kpxe", "snponly.efi"] {
        fs::write(ipxe.join(file), [1; 3_000]).unwrap();
    }
    let options = Options {
        interface: Some("lo".into()),
        dhcp: Some(Part::Off),
        http_port: Some(0),
        https_port: Some(0),
        tftp_port: Some(0),
        image: with_image.then_some(path),
        ipxe: Some(ipxe),
        database: Some(place::fresh(folder).parse().unwrap()),
        tls: Some(folder.join("tls")),
        ..Options::default()
    };
    let running = run::start(options).await.unwrap();
    Site { running, client: Client::builder().no_proxy().build().unwrap() }
}

impl Site {
    async fn get(&self, path: &str) -> (StatusCode, String) {
        let url = format!("http://{}{path}", self.running.http);
        let answer = self.client.get(url).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn metrics(&self) -> String {
        self.running.timeline.flush(Duration::from_secs(5));
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, StatusCode::OK);
        text
    }
}

/// The value of a sample.
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{text}")).parse().unwrap()
}

/// The names of all samples, without labels.
fn names(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

#[tokio::test]
async fn what_happens_is_counted_and_what_stands_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let site = start(folder.path(), true).await;
    let before = site.metrics().await;
    assert_eq!(value(&before, "provisioner_store_up"), 1.0);
    assert_eq!(value(&before, "provisioner_machines{state=\"discovered\"}"), 0.0);

    let (status, script) = site.get(&format!("/boot/{MAC}.ipxe?arch=x86_64&platform=efi")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(site.get("/nowhere").await.0, StatusCode::NOT_FOUND);
    let text = site.metrics().await;
    assert_eq!(value(&text, "provisioner_machines{state=\"discovered\"}"), 1.0, "{script}");
    assert_eq!(value(&text, "provisioner_boots_total{outcome=\"begun\"}"), 1.0);
    let route = "door=\"http\",route=\"/boot/{name}\"";
    assert_eq!(
        value(&text, &format!("provisioner_http_requests_total{{{route},code=\"2xx\"}}")),
        1.0
    );
    let sent = value(&text, &format!("provisioner_http_sent_bytes_total{{{route}}}"));
    assert_eq!(sent, script.len() as f64);
    let none = "provisioner_http_requests_total{door=\"http\",route=\"none\",code=\"4xx\"}";
    assert_eq!(value(&text, none), 1.0);
    assert_eq!(value(&text, "provisioner_table_entries{table=\"machines\"}"), 1.0);
    assert_eq!(value(&text, "provisioner_table_limit{table=\"machines\"}"), 10_000.0);
    assert!(value(&text, "provisioner_table_entries{table=\"http-connections\"}") >= 1.0);
    assert_eq!(value(&text, "provisioner_turned_away_total{table=\"http-connections\"}"), 0.0);
    for (table, limit) in
        [("sharing", 20_000.0), ("media", 5_000.0), ("tls-handshakes-without-curves", 64.0)]
    {
        let limit_of = format!("provisioner_table_limit{{table=\"{table}\"}}");
        assert_eq!(value(&text, &limit_of), limit);
    }
    assert!(value(&text, "provisioner_resident_memory_bytes") > 1e6);
    assert!(!text.contains("52:54:00"), "no machine is a label");
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_tftp_transfer_is_counted_whosesoever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let site = start(folder.path(), true).await;
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"\0\x01nothing\0octet\0", site.running.tftp.unwrap()).await.unwrap();
    let mut answer = [0; 600];
    client.recv_from(&mut answer).await.unwrap();
    assert_eq!(answer[1], 5, "an error");
    let text = site.metrics().await;
    assert_eq!(value(&text, "provisioner_tftp_transfers_total{outcome=\"refused\"}"), 1.0);
}

#[tokio::test]
async fn every_query_of_the_dashboard_names_a_metric_that_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let site = start(folder.path(), true).await;
    site.get("/nowhere").await;
    // Those that are there with DHCP alone.
    let pools =
        provisioner::metrics::Pools { four: "10.0.0.1-10.0.0.9".parse().ok(), six: Some(9) };
    let counters = provisioner::counters::Counters::default();
    counters.metrics.pools.set(pools).unwrap();
    counters.count("tftp-refused");
    let store = site.running.store.clone();
    let moment = provisioner::metrics::Moment {
        figures: Some(store.run(move |store| store.figures(pools.four, 0)).await.unwrap()),
        waited: 0.0,
        store: store.meter.clone(),
        counters: std::sync::Arc::new(counters),
        serves: (true, true),
    };
    let more = provisioner::metrics::text(&Default::default(), moment).unwrap();
    let text = site.metrics().await;
    let mut there = names(&text);
    there.extend(names(&more));

    let dashboard = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/grafana.json");
    let dashboard: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dashboard).unwrap()).unwrap();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let ours: Vec<&str> = words.filter(|word| word.starts_with("provisioner_")).collect();
            assert!(!ours.is_empty(), "{query}");
            for name in ours {
                assert!(there.contains(name), "{name} of {query} is not in\n{there:#?}");
                asked.insert(name.to_string());
            }
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
}

#[tokio::test]
async fn it_is_ready_while_all_is_there_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let site = start(folder.path(), true).await;
    assert_eq!(site.get("/healthz").await, (StatusCode::OK, "ok\n".into()));
    let (status, text) = site.get("/readyz").await;
    let ready: Readiness = serde_json::from_str(&text).unwrap();
    assert_eq!((status, ready.ready), (StatusCode::OK, true), "{text}");
    let parts: Vec<&str> = ready.parts.iter().map(|part| part.part.as_str()).collect();
    assert_eq!(parts, ["store", "http", "https", "tftp", "image", "key"]);
    assert_eq!(ready.parts[5].state, PartState::Off);

    fs::remove_file(folder.path().join("image/vmlinuz")).unwrap();
    let (status, text) = site.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let ready: Readiness = serde_json::from_str(&text).unwrap();
    assert!(ready.missing[0].contains("vmlinuz"), "{text}");
    assert_eq!(site.get("/healthz").await.0, StatusCode::OK, "it lives all the same");
}
