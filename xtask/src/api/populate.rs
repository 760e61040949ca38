//! What there is to be asked for: machines in several states with events and deaths, keys that wait,
//! groups, a rule and an owner, revisions, a medium that is registered. So the answers that are checked
//! are not empty.

use anyhow::{Context, anyhow, bail};
use node_init::http::{Secured, post_by};
use protocol::{
    ChainId, Digest, SecretKey, Signed,
    boot::{BootEvent, CrashReport, Enrol, STAGE_STANDS, StageState},
    certificate::{CertificateRequest, NodeCertificate},
    evidence::Held,
    inventory::{Inventory, Nic},
    medium::{Grant, Granted, blank},
    node::Delegation,
};
use reqwest::{Client, Method};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// A machine that stands.
pub(super) const STANDS: &str = "52:54:00:aa:00:01";
/// One whose key waits.
const WAITS: &str = "52:54:00:aa:00:02";
/// One that is not trusted, one that is out of service, one that was seen and no more.
const OTHERS: [(&str, Option<&str>); 3] = [
    ("52:54:00:aa:00:03", Some("quarantine")),
    ("52:54:00:aa:00:04", Some("retire")),
    ("52:54:00:aa:00:05", None),
];

/// Keys of this test alone.
fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn chain() -> anyhow::Result<ChainId> {
    Ok("alia-test".parse()?)
}

/// The token of the medium that is registered.
pub(super) fn token() -> String {
    key(3).public().to_string()
}

/// Its owner's address.
pub(super) fn owner() -> String {
    key(5).public().address().to_string()
}

/// Files that the provisioner is started with, and the flags that name them.
pub(super) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let delegation = Signed::sign(&chain()?, Delegation { delegate: key(8).public() }, &key(7));
    let mut flags = Vec::new();
    for (flag, content) in [
        ("--key", key(8).to_hex().into_bytes()),
        ("--delegation", serde_json::to_vec(&delegation)?),
        ("--medium", blank()),
    ] {
        let path = folder.join(flag.trim_start_matches('-'));
        fs::write(&path, content)?;
        flags.extend([flag.into(), path]);
    }
    let words = ["--chain", "alia-test", "--approval", "by-hand"];
    flags.extend(words.map(PathBuf::from));
    Ok(flags)
}

/// A provisioner, and who asks.
struct Site<'a> {
    url: &'a str,
    token: &'a str,
    client: Client,
}

impl Site<'_> {
    /// Asks, as an operator; refused is what is not meant to be.
    async fn ask(&self, method: Method, path: &str, body: &impl Serialize) -> anyhow::Result<()> {
        let (status, text) = self.tried(method.clone(), path, body).await?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status}: {text}");
        }
        Ok(())
    }

    async fn tried(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<(u16, String)> {
        let request = self.client.request(method, format!("{}{path}", self.url)).json(body);
        let answer = request.bearer_auth(self.token).header("If-Match", "*").send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Asks to be taken in.
    async fn enrol(&self, mac: &str, seed: u8) -> anyhow::Result<u16> {
        let mut inventory = Inventory::default();
        inventory.system.uefi = true;
        inventory.nics = vec![Nic {
            name: "eth0".into(),
            mac: mac.into(),
            driver: None,
            carrier: true,
            booted_from: true,
        }];
        let enrol = Enrol {
            mac: mac.into(),
            boot_id: Digest([seed; 32]),
            release: Digest([3; 32]),
            inventory,
            held: Held::Memory,
            evidence: None,
        };
        let signed = Signed::sign(&chain()?, enrol, &key(seed));
        let path = format!("/v1/machines/{mac}/enrol");
        Ok(self.tried(Method::POST, &path, &signed).await?.0)
    }

    /// What a boot that was taken in says, and what the kernel before it died of: by TLS, with the
    /// certificate that it fetches.
    async fn told(&self, mac: &str, seed: u8) -> anyhow::Result<()> {
        let boot_id = Digest([seed; 32]);
        let request = CertificateRequest { mac: mac.into(), boot_id, nonce: Digest([9; 32]) };
        let request = Signed::sign(&chain()?, request, &key(seed));
        let path = format!("/v1/machines/{mac}/certificate");
        let (_, text) = self.tried(Method::POST, &path, &request).await?;
        let answer: Signed<NodeCertificate> =
            serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))?;
        let made = answer.verify(&chain()?)?;
        let certificate = made.certificate.clone().into();
        let config = mtls::client_showing(&key(seed), certificate, key(8).public())?;
        let secured = Secured { config: Arc::new(config), port: made.port };
        let base = self.url.parse().map_err(|error| anyhow!("{}: {error}", self.url))?;
        let tell = async |what: &str, body: Vec<u8>| {
            let path = format!("/v1/machines/{mac}/{what}");
            post_by(&base, Some(&secured), &path, body).await.with_context(|| path.clone())
        };

        let stage = |(sequence, state)| BootEvent {
            sequence,
            boot_id,
            stage: STAGE_STANDS.into(),
            state,
            at_ms: 1_000 * u64::from(sequence),
            detail: "it stands".into(),
        };
        let events: Vec<BootEvent> =
            [(0, StageState::Started), (1, StageState::Done)].into_iter().map(stage).collect();
        tell("events", serde_json::to_vec(&events)?).await?;
        for n in 0..3 {
            let text = format!("BUG: {n}\nnvme0: timeout\n");
            let report = CrashReport { boot_id, reason: format!("Oops {n}"), text };
            tell("crashes", serde_json::to_vec(&report)?).await?;
        }
        Ok(())
    }
}

/// Makes it all.
pub(super) fn populate(url: &str, token: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::builder().no_proxy().build()?;
        let site = Site { url, token, client };
        for mac in OTHERS.map(|(mac, _)| mac).into_iter().chain([STANDS, WAITS]) {
            let script = format!("/boot/{mac}.ipxe?arch=x86_64&platform=efi&serial=S-1");
            site.ask(Method::GET, &script, &Value::Null).await?;
        }
        configure(&site).await?;
        for (mac, seed) in [(STANDS, 1), (WAITS, 2)] {
            let status = site.enrol(mac, seed).await?;
            if status != 403 {
                bail!("{mac} is not told to wait for an operator, but {status}");
            }
        }
        let command = async |mac: &str, command: Value| {
            let path = format!("/v1/machines/{mac}/state");
            site.ask(Method::POST, &path, &command).await.context(mac.to_owned())
        };
        command(STANDS, json!({ "do": "approve", "node": key(1).public() })).await?;
        if site.enrol(STANDS, 1).await? != 200 {
            bail!("{STANDS} is approved, and not taken in");
        }
        site.told(STANDS, 1).await?;
        for (mac, what) in OTHERS {
            if let Some(what) = what {
                command(mac, json!({ "do": what })).await?;
            }
        }
        site.ask(Method::POST, "/v1/operators", &json!({ "name": "anna" })).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let (token, provisioner) = (key(3).public(), key(8).public());
        let grant = Grant { token, provisioner, issued: now, expires: now + 86_400 };
        let granted = Granted::sign(&chain()?, grant, &key(5));
        site.ask(Method::POST, "/v1/media", &granted).await
    })
}

/// Groups, a rule, an owner, machines' own tables; in two revisions.
async fn configure(site: &Site<'_>) -> anyhow::Result<()> {
    let delegation = Signed::sign(&chain()?, Delegation { delegate: key(8).public() }, &key(5));
    let document = json!({
        "defaults": { "window": 2 },
        "group": { "rack-7": { "about": "by the door", "labels": { "site": "berlin" } }, "spare": {} },
        "machine": {
            STANDS: { "groups": ["rack-7"], "labels": { "row": "4" }, "name": "bear" },
            WAITS: { "groups": ["rack-7", "spare"] },
        },
        "owner": { "anna": delegation },
        "rule": { "new": { "macs": ["02:00:00"], "limit": 20, "group": "spare" } },
    });
    site.ask(Method::PUT, "/v1/config", &document).await?;
    site.ask(Method::PATCH, "/v1/groups/rack-7", &json!({ "window": 4 })).await
}
