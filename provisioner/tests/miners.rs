//! Miners' media against a running provisioner: from a registration to a node that is its owner's,
//! and what replayed, copied and stolen tokens come to.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "common/place.rs"]
mod place;

use cli::medium::{self, Provisioner};
use protocol::{
    ChainId, Digest, PublicKey, SecretKey, Signed,
    boot::{Enrol, NodeConfig},
    evidence::Held,
    fleet::MachineDetail,
    inventory::{Inventory, System},
    medium::{
        Claim, Grant, Granted, Offer, Record, TokenState, TokenStatus, Withdrawal, blank,
        machine_facts,
    },
    node::Delegation,
};
use provisioner::{
    config::{Options, Part},
    run::{self, Running},
    timeline::unix_ms,
};
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use std::fs;
use tempfile::TempDir;

const MAC: &str = "52:54:00:aa:00:01";
const OTHER: &str = "52:54:00:aa:00:02";
/// Keys by their seeds: the operator's account, the provisioner, two miners.
const OPERATOR: u8 = 7;
const PROVISIONER: u8 = 8;
const MINER: u8 = 1;
const THIEF: u8 = 2;

fn chain() -> ChainId {
    "alia-test".parse().unwrap()
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// A medium of a miner, with the token of that seed.
fn record(owner: u8, token: u8) -> Record {
    let now = unix_ms() / 1_000;
    let grant = Grant {
        token: key(token).public(),
        provisioner: key(PROVISIONER).public(),
        issued: now,
        expires: now + 3_600,
    };
    Record { token: key(token), granted: Granted::sign(&chain(), grant, &key(owner)) }
}

fn system(serial: &str) -> System {
    System { serial: serial.into(), ..System::default() }
}

struct Site {
    folder: TempDir,
    running: Running,
    url: String,
}

/// With by-hand approval, as a site that strangers reach has it.
async fn site(medium: bool) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let body = Delegation { delegate: key(PROVISIONER).public() };
    let delegation = Signed::sign(&chain(), body, &key(OPERATOR));
    fs::write(at("delegation"), serde_json::to_vec(&delegation).unwrap()).unwrap();
    fs::write(at("key"), key(PROVISIONER).to_hex()).unwrap();
    fs::write(at("medium.img"), [vec![7; 5_000], blank(), vec![8; 99]].concat()).unwrap();
    let options = Options {
        interface: Some("lo".into()),
        dhcp: Some(Part::Off),
        http_port: Some(0),
        https_port: Some(0),
        database: Some(place::fresh(folder.path()).parse().unwrap()),
        key: Some(at("key")),
        delegation: Some(at("delegation")),
        chain: Some(chain()),
        medium: Some(at("medium.img")).filter(|_| medium),
        operator: vec![format!("{}", key(9).public()).parse().unwrap()],
        ..Options::default()
    };
    let running = run::start(options).await.unwrap();
    let url = format!("http://{}", running.http);
    Site { folder, running, url }
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn read(response: Response) -> (StatusCode, String) {
    (response.status(), response.text().await.unwrap())
}

impl Site {
    async fn get(&self, path: &str) -> (StatusCode, String) {
        read(client().get(format!("{}{path}", self.url)).send().await.unwrap()).await
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> (StatusCode, String) {
        read(client().post(format!("{}{path}", self.url)).json(body).send().await.unwrap()).await
    }

    async fn register(&self, record: &Record) -> (StatusCode, String) {
        self.post("/v1/media", &record.granted).await
    }

    async fn claim(
        &self,
        mac: &str,
        record: &Record,
        node: u8,
        serial: &str,
    ) -> (StatusCode, String) {
        let boot = (mac.to_owned(), Digest([1; 32]));
        let facts = machine_facts(&system(serial));
        let claim = Claim::sign(&chain(), record, &key(node), facts, boot);
        self.post(&format!("/v1/machines/{mac}/claim"), &claim).await
    }

    async fn enrol(&self, mac: &str, node: u8, serial: &str) -> (StatusCode, String) {
        let enrol = Enrol {
            mac: mac.into(),
            boot_id: Digest([1; 32]),
            release: Digest([3; 32]),
            inventory: Inventory { system: system(serial), ..Inventory::default() },
            held: Held::Memory,
            evidence: None,
        };
        let enrol = Signed::sign(&chain(), enrol, &key(node));
        self.post(&format!("/v1/machines/{mac}/enrol"), &enrol).await
    }

    async fn status(&self, token: u8) -> TokenStatus {
        let (_, text) = self.get(&format!("/v1/media/{}", key(token).public())).await;
        serde_json::from_str(&text).unwrap()
    }

    async fn timeline(&self, mac: &str) -> String {
        self.running.timeline.flush(std::time::Duration::from_secs(10));
        let (_, text) = self.get(&format!("/v1/machines/{mac}")).await;
        let detail: MachineDetail = serde_json::from_str(&text).unwrap();
        detail.timeline.into_iter().map(|event| event.text).collect::<Vec<_>>().join("\n")
    }
}

fn owner(answer: &str, node: u8) -> PublicKey {
    let config: Signed<NodeConfig> = serde_json::from_str(answer).unwrap();
    let body = config.verify(&chain()).unwrap();
    assert_eq!(config.signer, key(PROVISIONER).public());
    assert!(body.operators.is_empty(), "the provisioner's operators have no say there");
    body.ownership.verify(&chain(), &key(node).public()).unwrap()
}

#[tokio::test]
async fn a_registered_medium_makes_one_node_of_its_owner_in_every_boot() {
    let site = site(true).await;
    let record = record(MINER, 20);
    let (status, text) = site.claim(MAC, &record, 30, "A1").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("never registered here"), "{text}");
    assert_eq!(site.register(&record).await.0, StatusCode::CREATED);
    assert_eq!(site.register(&record).await.0, StatusCode::OK, "asked twice it stands once");
    // Without a claim the node waits like any other.
    let (status, text) = site.enrol(MAC, 30, "A1").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("waits for approval"), "{text}");
    for first in [true, false] {
        let (status, text) = site.claim(MAC, &record, 30, "A1").await;
        assert_eq!((status, text), (StatusCode::OK, format!("{{\"first\":{first}}}")));
        let (status, text) = site.enrol(MAC, 30, "A1").await;
        assert_eq!(status, StatusCode::OK, "{text}");
        assert_eq!(owner(&text, 30), key(MINER).public());
    }
    let stands = site.status(20).await;
    assert_eq!((stands.state, stands.mac.as_deref()), (TokenState::Bound, Some(MAC)));
    let timeline = site.timeline(MAC).await;
    assert!(timeline.contains("the medium with token"), "{timeline}");
    assert!(timeline.contains(&format!("is {}'s", key(MINER).public().address())), "{timeline}");
}

#[tokio::test]
async fn a_second_node_another_machine_and_another_owner_get_nowhere() {
    let site = site(true).await;
    let medium = record(MINER, 20);
    site.register(&medium).await;
    site.claim(MAC, &medium, 30, "A1").await;
    // The medium was copied before.
    let (status, text) = site.claim(OTHER, &medium, 31, "A2").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("it is used") && text.contains(MAC), "{text}");
    assert!(site.timeline(OTHER).await.contains("it is used"));
    let (status, _) = site.enrol(OTHER, 31, "A2").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    // It was copied with the node's key.
    let (status, text) = site.claim(OTHER, &medium, 30, "A2").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("from another machine"), "{text}");
    let (status, text) = site.enrol(OTHER, 30, "A2").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("was bound to another machine"), "{text}");
    // A thief signs the same token over to himself.
    let stolen = record(THIEF, 20);
    assert_eq!(site.register(&stolen).await.0, StatusCode::CONFLICT);
    let (status, text) = site.claim(MAC, &stolen, 30, "A1").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("other signatures"), "{text}");
    // Somebody recorded a claim and shows it under another machine's name.
    let boot = (MAC.to_owned(), Digest([1; 32]));
    let facts = machine_facts(&system("A1"));
    let recorded = Claim::sign(&chain(), &medium, &key(30), facts, boot);
    let (status, text) = site.post(&format!("/v1/machines/{OTHER}/claim"), &recorded).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("another machine"), "{text}");
}

#[tokio::test]
async fn a_stranger_never_takes_the_place_of_the_operators_machine() {
    let site = site(true).await;
    site.enrol(MAC, 40, "B1").await;
    let approve = "/v1/machines/52:54:00:aa:00:01/approve";
    let body = protocol::evidence::Approval {
        mac: MAC.into(),
        node: key(40).public(),
        issued: unix_ms() / 1_000,
    };
    let signed = Signed::sign(&chain(), body, &key(OPERATOR));
    assert_eq!(site.post(approve, &signed).await.0, StatusCode::NO_CONTENT);
    let medium = record(MINER, 20);
    site.register(&medium).await;
    site.claim(MAC, &medium, 30, "A1").await;
    let (status, text) = site.enrol(MAC, 30, "A1").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("not this machine's owner's"), "{text}");
    assert_eq!(site.enrol(MAC, 40, "B1").await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_owner_or_an_operator_takes_a_medium_back_and_nobody_else() {
    let site = site(true).await;
    for token in [20, 21] {
        let medium = record(MINER, token);
        site.register(&medium).await;
        let mac = if token == 20 { MAC } else { OTHER };
        assert_eq!(site.claim(mac, &medium, token + 10, "A1").await.0, StatusCode::OK);
    }
    let path = format!("/v1/media/{}/revoke", key(20).public());
    let body = Withdrawal { token: key(20).public(), provisioner: key(PROVISIONER).public() };
    let by = |seed: u8| Signed::sign(&chain(), body.clone(), &key(seed));
    assert_eq!(site.post(&path, &by(THIEF)).await.0, StatusCode::FORBIDDEN);
    assert_eq!(site.status(20).await.state, TokenState::Bound);
    let other = format!("/v1/media/{}/revoke", key(21).public());
    assert_eq!(site.post(&other, &by(MINER)).await.0, StatusCode::FORBIDDEN, "for another token");
    assert_eq!(site.post(&path, &by(MINER)).await.0, StatusCode::OK);
    assert_eq!(site.status(20).await.state, TokenState::Revoked);
    let (status, text) = site.claim(MAC, &record(MINER, 20), 30, "A1").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
    let (status, text) = site.enrol(MAC, 30, "A1").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("was revoked"), "{text}");
    // By an operator's token, without a body.
    let ask = |token: &str| client().post(format!("{}{other}", site.url)).bearer_auth(token).send();
    assert_eq!(ask("alia-operator-nobody").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let token = site.running.token.as_ref().unwrap().reveal();
    assert_eq!(ask(token).await.unwrap().status(), StatusCode::OK);
    assert_eq!(site.status(21).await.state, TokenState::Revoked);
}

#[tokio::test]
async fn what_is_over_or_for_another_provisioner_is_not_registered() {
    let site = site(true).await;
    let mut grant = record(MINER, 20).granted.grant.body;
    (grant.issued, grant.expires) = (1_000, 2_000);
    let over = Granted::sign(&chain(), grant.clone(), &key(MINER));
    let (status, text) = site.post("/v1/media", &over).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("is over already"), "{text}");
    grant.provisioner = key(50).public();
    let other = Granted::sign(&chain(), grant, &key(MINER));
    let (status, text) = site.post("/v1/media", &other).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("for the provisioner with key"), "{text}");
}

#[tokio::test]
async fn the_page_says_what_to_do_and_its_form_gives_the_one_file() {
    let site = site(true).await;
    let (_, overview) = site.get("/").await;
    assert!(overview.contains("href=\"/miners/medium\""), "operators find it: {overview}");
    let (status, page) = site.get("/miners").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains(&key(PROVISIONER).public().to_string()), "the key to pin");
    let (_, text) = site.get("/v1/media").await;
    let offer: Signed<Offer> = serde_json::from_str(&text).unwrap();
    assert_eq!(offer.signer, key(PROVISIONER).public());
    let nobodys = client().get(format!("{}/miners/medium", site.url)).send().await.unwrap();
    let nobodys = nobodys.bytes().await.unwrap();
    let body = offer.verify(&chain()).unwrap();
    assert_eq!((Digest::of_bytes(&nobodys), nobodys.len() as u64), (body.medium, body.bytes));

    let medium = record(MINER, 20);
    let text = serde_json::to_string(&medium.to_text()).unwrap();
    let form = |path: &str, text: &str| {
        let coded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        client()
            .post(format!("{}{path}", site.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("registration={coded}"))
            .send()
    };
    let answer = form("/miners/medium", &text).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let filled = answer.bytes().await.unwrap();
    let mut wanted = nobodys.to_vec();
    protocol::medium::fill(&mut wanted, &medium).unwrap();
    assert!(filled == wanted);
    assert_eq!(site.status(20).await.state, TokenState::Issued);
    let (_, page) = site.get(&format!("/miners/{}", key(MINER).public().address())).await;
    assert!(page.contains("waits for its first use"), "{page}");
    for (path, text) in [("/miners", "nonsense"), ("/miners/medium", "{}")] {
        let (status, page) = read(form(path, text).await.unwrap()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(page.contains("paste all of what"), "{page}");
    }
    // Nothing of the secret was kept.
    let kept = fs::read(site.folder.path().join("medium.img")).unwrap();
    assert!(kept == nobodys);
}

#[tokio::test]
async fn the_command_line_gets_a_medium_by_the_provisioners_key_alone() {
    let site = site(true).await;
    let url = format!("https://{}", site.running.https);
    let server = |seed: u8| Provisioner::new(&url, key(seed).public()).unwrap();
    let ours = server(PROVISIONER);
    let offer = medium::offer(&ours, &chain()).await.unwrap();
    let record = medium::sign(&chain(), &key(MINER), ours.key(), offer.unix_time, 600).unwrap();
    let nobodys = medium::fetch(&ours, &offer, |_| ()).await.unwrap();
    let status = medium::register(&ours, &record).await.unwrap();
    assert_eq!(status.state, TokenState::Issued);
    let out = site.folder.path().join("mine.img");
    medium::write(&out, nobodys.clone(), &record).unwrap();
    let written = fs::read(&out).unwrap();
    let read = Record::from_bytes(&written[5_000..5_000 + 4_096]).unwrap().unwrap();
    assert_eq!(read.granted, record.granted);
    assert!(medium::write(&out, nobodys, &record).is_err(), "nothing is overwritten");
    // What comes of it is the owner's, and only he takes it back.
    assert_eq!(site.claim(MAC, &read, 30, "A1").await.0, StatusCode::OK);
    let owner = key(MINER).public().address();
    let listed = medium::list(&ours, owner).await.unwrap();
    assert_eq!((listed.len(), listed[0].state), (1, TokenState::Bound));
    let revoke = |seed: u8| {
        let (server, token) = (ours.clone(), status.token);
        async move { medium::revoke(&server, &chain(), &key(seed), token).await }
    };
    assert!(revoke(THIEF).await.unwrap_err().to_string().contains("only the token's owner"));
    assert_eq!(revoke(MINER).await.unwrap().state, TokenState::Revoked);
    // Another key at this address is not spoken to, nor another chain believed.
    let error = medium::offer(&server(THIEF), &chain()).await.unwrap_err().to_string();
    assert!(error.contains("cannot be spoken to"), "{error}");
    assert!(medium::offer(&ours, &"alia-other".parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn who_asks_too_often_waits_and_without_a_medium_nobody_is_served() {
    let busy = site(true).await;
    let mut statuses = Vec::new();
    for token in 100..112 {
        statuses.push(busy.register(&record(token, token)).await.0);
    }
    assert!(statuses[..10].iter().all(|status| *status == StatusCode::CREATED), "{statuses:?}");
    assert_eq!(statuses[10..], [StatusCode::TOO_MANY_REQUESTS; 2]);
    let closed = site(false).await;
    assert_eq!(closed.get("/miners").await.0, StatusCode::NOT_FOUND);
    assert_eq!(closed.register(&record(MINER, 20)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(closed.claim(MAC, &record(MINER, 20), 30, "A1").await.0, StatusCode::NOT_FOUND);
}
