//! Groups, machines' own configuration, and what each key does, through the real router.

use super::*;
use protocol::{
    boot::Scratch,
    configuration::{Change, Effective, History, Taken},
};
use provisioner::{
    config::Flavour,
    dhcp::{answerer::Answerer, decide::Port},
};
use reqwest::{Method, Response};
use serde_json::{Value, json};

impl Site {
    /// A change on the revision that holds, or on the one that is given.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        body: impl Into<String>,
        on: Option<&str>,
    ) -> Response {
        let head = self.client.get(format!("{}/v1/config", self.url)).send().await.unwrap();
        let tag = head.headers()["etag"].to_str().unwrap().to_string();
        let request = self.client.request(method, format!("{}{path}", self.url));
        let request = request.bearer_auth(self.token()).header("if-match", on.unwrap_or(&tag));
        request.body(body.into()).send().await.unwrap()
    }

    async fn set(&self, path: &str, body: Value) -> Taken<Value> {
        let response = self.change(Method::PUT, path, body.to_string(), None).await;
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The settings that a node is signed when it is taken in.
    async fn settings(&self, n: u8) -> NodeConfig {
        let enrol = Enrol { boot_id: Digest([n; 32]), ..enrol(MAC, UUID) };
        let (status, text) = self.enrol(MAC, enrol, &key(1)).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let signed: Signed<NodeConfig> = serde_json::from_str(&text).unwrap();
        signed.verify(&chain()).unwrap().clone()
    }

    async fn script(&self) -> String {
        self.text(&format!("/boot/{MAC}.ipxe?arch=x86_64&platform=efi")).await
    }

    async fn effective(&self) -> Effective<Value> {
        self.json(&format!("/v1/machines/{MAC}/config")).await
    }
}

fn own(key: &str, value: Value) -> Value {
    json!({ key: value })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_in_the_boot_script_and_in_the_settings() {
    let site = start(|_| {}).await;
    assert!(!site.script().await.contains("alia.net="));
    site.set("/v1/groups/vlan", own("network", json!("vlan=42,ip=dhcp"))).await;
    site.set(&format!("/v1/machines/{MAC}/config"), own("groups", json!(["vlan"]))).await;
    assert!(site.script().await.contains(" alia.net=vlan=42,ip=dhcp "));
    assert_eq!(site.settings(1).await.network.unwrap().vlan, Some(42));
    let effective = site.effective().await;
    assert_eq!(effective.values["network"].from, "group vlan");
    let other = site.text(&format!("/boot/{OTHER}.ipxe?arch=x86_64&platform=efi")).await;
    assert!(!other.contains("alia.net="), "another machine's");
}

#[tokio::test(flavor = "multi_thread")]
async fn kernel_arguments_stand_after_everybodys() {
    let site = start(|options| options.kernel_argument = vec!["quiet".into()]).await;
    site.set("/v1/defaults", own("kernel-arguments", json!(["mitigations=off", "nosmt"]))).await;
    let script = site.script().await;
    assert!(script.contains(" panic=10 quiet mitigations=off nosmt || goto failed"), "{script}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flavour_is_another_image_and_its_files_are_given_out() {
    let mut other = Digest::default();
    let site = start(|options| {
        let folder = options.image.clone().unwrap().with_file_name("gpu");
        write_image(&folder);
        let path = folder.join("manifest.json");
        let mut manifest: ImageManifest =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        manifest.version = "0.1.0-gpu".into();
        fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
        other = manifest.digest();
        options.flavour = vec![Flavour { name: "gpu".into(), folder }];
    })
    .await;
    site.set(&format!("/v1/machines/{MAC}/config"), own("flavour", json!("gpu"))).await;
    let script = site.script().await;
    assert!(script.contains(&format!("alia.release={other} ")), "{script}");
    assert!(script.contains("aliaOS 0.1.0-gpu"), "{script}");
    let url = format!("{}/image/{other}/vmlinuz", site.url);
    assert_eq!(site.client.get(url).send().await.unwrap().status(), StatusCode::OK);
    assert!(site.machine(MAC).await.timeline[0].text.contains("flavour gpu"));

    // A front-end that has no such image says so, and nothing else is booted instead.
    let site = restart(site.folder, |options| options.flavour = vec![]).await;
    let script = site.script().await;
    assert!(script.contains("no image of flavour gpu") && !script.contains("vmlinuz"), "{script}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_paid_whose_delegation_is_there() {
    let site = start(|_| {}).await;
    assert_eq!(site.settings(1).await.ownership.delegation.signer, key(7).public());
    let delegation = Signed::sign(&chain(), Delegation { delegate: key(8).public() }, &key(5));
    site.set("/v1/owners/bert", serde_json::to_value(&delegation).unwrap()).await;
    site.set("/v1/defaults", own("owner", json!("bert"))).await;
    let config = site.settings(2).await;
    let node = key(1).public();
    assert_eq!(config.ownership.verify(&chain(), &node), Ok(key(5).public()));
    let gone = site.change(Method::DELETE, "/v1/owners/bert", "", None).await;
    assert_eq!(gone.status(), StatusCode::UNPROCESSABLE_ENTITY, "it is in use");
    let foreign = Signed::sign(&chain(), Delegation { delegate: key(9).public() }, &key(5));
    let body = serde_json::to_string(&foreign).unwrap();
    let refused = site.change(Method::PUT, "/v1/owners/carl", body, None).await;
    assert!(refused.text().await.unwrap().contains("delegate to ours"));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_say_whose_work_a_machine_takes() {
    let all = "http://10.0.0.1:7000".to_string();
    let site = start(|options| options.parameter_server = vec![all.clone()]).await;
    assert_eq!(site.settings(1).await.parameter_servers, std::slice::from_ref(&all));
    site.set("/v1/defaults", own("jobs", json!("none"))).await;
    assert!(site.settings(2).await.parameter_servers.is_empty());
    site.set("/v1/defaults", own("jobs", json!(["http://10.0.0.2:7000"]))).await;
    assert_eq!(site.settings(3).await.parameter_servers, ["http://10.0.0.2:7000"]);
    site.set("/v1/defaults", own("jobs", json!("all"))).await;
    assert_eq!(site.settings(4).await.parameter_servers, [all]);
}

#[tokio::test(flavor = "multi_thread")]
async fn scratch_and_name_are_in_the_settings_and_the_name_on_the_page() {
    let site = start(|_| {}).await;
    assert_eq!(site.settings(1).await.scratch, Scratch::Memory);
    let value = json!({ "name": "rack-7-4", "scratch": { "erase": "nvme-A_1" } });
    site.set(&format!("/v1/machines/{MAC}/config"), value).await;
    let config = site.settings(2).await;
    assert_eq!(
        (config.scratch, config.name.as_str()),
        (Scratch::Erase("nvme-A_1".into()), "rack-7-4")
    );
    assert_eq!(site.machine(MAC).await.machine.name, "rack-7-4");
}

/// DHCP's decision, with the configuration that the router changed. On a thread that may block:
/// PostgreSQL's client waits in a runtime of its own.
fn offered(site: &Site, options: &[(u8, &[u8])]) -> (Vec<u8>, String) {
    tokio::task::block_in_place(|| decided(site, options))
}

fn decided(site: &Site, options: &[(u8, &[u8])]) -> (Vec<u8>, String) {
    use provisioner::{
        dhcp::{
            answerer::Packet,
            pool::Network,
            settings::{HttpBoot, Mode, Settings},
        },
        groups::Configured,
        quirks::Rules,
    };
    let store = site.running.store.clone();
    let configured = Configured::open(store.clone(), Default::default()).unwrap();
    let rules = Rules::load(None, Default::default()).unwrap().configured(configured.into());
    let settings = Settings {
        mode: Mode::Proxy,
        network: Network { address: [10, 77, 0, 1].into(), mask: [255, 255, 255, 0].into() },
        pool: "10.77.0.100-10.77.0.200".parse().unwrap(),
        routers: vec![],
        dns: vec![],
        lease_seconds: 3600,
        base_url: "http://10.77.0.1:8080".into(),
        https_url: "https://10.77.0.1:8443".into(),
        http_boot: HttpBoot::Http,
        bios_file: "undionly.kpxe".into(),
        uefi_file: "snponly.efi".into(),
        uki: None,
    };
    let mut bytes = vec![0; 240];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[28..34].copy_from_slice(&MAC.parse::<provisioner::machine::Mac>().unwrap().0);
    bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
    bytes.extend([53, 1, 1]);
    for (code, value) in options {
        bytes.extend([*code, value.len() as u8]);
        bytes.extend(*value);
    }
    bytes.push(255);
    let packet = Packet { bytes, sender: "0.0.0.0:68".parse().unwrap() };
    let answerer = Answerer::new(settings, rules, store);
    let mut handled = answerer.handle(&[packet], Port::Dhcp, 1_000);
    let handled = handled.remove(0).unwrap();
    let text = handled.record.map(|record| record.text).unwrap_or_default();
    (handled.reply.map(|(bytes, _)| bytes).unwrap_or_default(), text)
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_of_firmware_by_hand_is_what_dhcp_does() {
    let site = start(|_| {}).await;
    let pxe: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7])];
    let http: &[(u8, &[u8])] = &[(60, b"HTTPClient:Arch:00016:UNDI:003001"), (93, &[0, 16])];
    let rom: &[(u8, &[u8])] = &[
        (60, b"PXEClient:Arch:00007:UNDI:003016"),
        (93, &[0, 7]),
        (77, b"iPXE"),
        (175, &[0x13, 1, 1, 0x24, 1, 1]),
    ];
    let machine = format!("/v1/machines/{MAC}/config");
    let asked = async |value: Value, options| {
        site.set(&machine, value).await;
        offered(&site, options)
    };
    let (plain, _) = offered(&site, pxe);
    assert!(has(&plain, "snponly.efi") && !has(&plain, "care-"), "as all are");
    let (reply, text) = asked(json!({ "blksize": 1024, "window": 1, "rate": 50_000 }), pxe).await;
    assert!(has(&reply, "care-b1024-w1-r50000"), "{text}");
    assert!(text.contains("set by hand"), "{text}");

    let file = [43, 4, 6, 1, 8];
    assert!(plain.windows(4).any(|window| window == &file[1..]) || has(&plain, "snponly"));
    let (reply, text) = asked(json!({ "boot-method": "boot-server" }), pxe).await;
    assert_ne!(reply, plain, "{text}");
    let (named, text) = asked(json!({ "quirks": ["boot-server-only"] }), pxe).await;
    assert!(text.contains("boot-server-only (by hand)"), "{text}");
    assert_eq!(named, reply, "{text}");

    let (reply, _) = asked(json!({}), http).await;
    assert!(has(&reply, "http://10.77.0.1:8080/"));
    let (reply, text) = asked(json!({ "https": true }), http).await;
    assert!(has(&reply, "https://10.77.0.1:8443/"), "{text}");

    let (reply, _) = asked(json!({}), rom).await;
    assert!(has(&reply, "boot.ipxe"), "its own iPXE does");
    let (reply, text) = asked(json!({ "replace-ipxe": true }), rom).await;
    assert!(has(&reply, "snponly.efi") && !has(&reply, "boot.ipxe"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_ends_own_file_outweighs_the_document() {
    let file = |options: &mut Options| {
        let text = format!("[machine.\"{MAC}\"]\nnetwork = \"vlan=7\"\nname = \"filed\"");
        let path = options.key.clone().unwrap().with_file_name("p.toml");
        fs::write(&path, text).unwrap();
        options.config = Some(path);
    };
    let site = start(file).await;
    let value = json!({ "network": "vlan=8", "name": "other", "scratch": "disk" });
    site.set(&format!("/v1/machines/{MAC}/config"), value).await;
    assert!(site.script().await.contains("alia.net=vlan=7 "));
    let config = site.settings(1).await;
    assert_eq!((config.name.as_str(), config.scratch), ("filed", Scratch::Disk));
    let effective = site.effective().await;
    assert_eq!(effective.values["network"].from, "file");
    assert_eq!(effective.values["scratch"].from, "machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_says_who_asks_and_what_it_is_made_for() {
    let site = start(|_| {}).await;
    let url = format!("{}/v1/groups/a", site.url);
    let put = || site.client.put(&url).body("{}");
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status();
    assert_eq!(status(put().header("if-match", "\"0\"")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(put().bearer_auth(site.token())).await, StatusCode::PRECONDITION_REQUIRED);
    let response = site.change(Method::PUT, "/v1/groups/a", "{}", Some("\"0\"")).await;
    assert_eq!(
        (response.status(), &response.headers()["etag"]),
        (StatusCode::OK, &"\"1\"".parse().unwrap())
    );
    let late = site.change(Method::PUT, "/v1/groups/b", "{}", Some("\"0\"")).await;
    assert_eq!(late.status(), StatusCode::PRECONDITION_FAILED);
    let text = late.text().await.unwrap();
    assert!(text.contains("is at revision 1"), "{text}");
    for (path, body) in
        [("/v1/groups/A b", "{}"), ("/v1/groups/c", "{\"windw\": 1}"), ("/v1/config", "[]")]
    {
        let response = site.change(Method::PUT, path, body, None).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    assert_eq!(
        site.change(Method::PUT, "/v1/config", "{", None).await.status(),
        StatusCode::BAD_REQUEST
    );
    let missing = site.change(Method::DELETE, "/v1/groups/zz", "", None).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_says_who_and_why_and_every_revision_can_be_had_back() {
    let site = start(|_| {}).await;
    site.set("/v1/groups/a?why=first%20rack", json!({ "window": 1 })).await;
    let patched =
        site.change(Method::PATCH, "/v1/groups/a", r#"{"window":2,"rate":20000}"#, None).await;
    let taken: Taken<Value> = patched.json().await.unwrap();
    let told: Vec<String> = taken.changes.iter().map(Change::to_string).collect();
    assert_eq!(told, ["+ group.a.rate = 20000", "~ group.a.window: 1 -> 2"]);
    let tried = site.change(Method::DELETE, "/v1/groups/a?dry-run=true", "", None).await;
    let tried: Taken<Value> = tried.json().await.unwrap();
    assert_eq!((tried.revision, tried.taken, tried.changes.len()), (2, false, 2));
    let history: History = site.json("/v1/config/history").await;
    let told: Vec<_> =
        history.revisions.iter().map(|r| (r.revision, r.actor.as_str(), r.why.as_str())).collect();
    assert_eq!(told, [(2, "first", "group a was changed"), (1, "first", "first rack")]);
    let changes: Vec<Change<Value>> = site.json("/v1/config/diff?from=2&to=1").await;
    assert_eq!(changes[0].to_string(), "- group.a.rate = 20000");
    let back = site.change(Method::POST, "/v1/config/rollback?to=1", "", None).await;
    let back: Taken<Value> = back.json().await.unwrap();
    assert_eq!((back.revision, back.taken), (3, true));
    let changes: Vec<Change<Value>> = site.json("/v1/config/diff?from=1").await;
    assert!(changes.is_empty());
    let same = site.set("/v1/groups/a", json!({ "window": 1 })).await;
    assert_eq!((same.revision, same.taken), (3, false), "it changes nothing");
    let gone = site.change(Method::POST, "/v1/config/rollback?to=9", "", None).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_imported_elsewhere_is_the_same_and_here_changes_nothing() {
    let site = start(|_| {}).await;
    site.set("/v1/groups/a", json!({ "window": 1, "labels": { "site": "b" } })).await;
    site.set("/v1/rules/new", json!({ "serials": ["S-1"], "group": "a", "limit": 2 })).await;
    let labels =
        site.change(Method::PUT, &format!("/v1/machines/{MAC}/labels"), r#"{"u":"4"}"#, None).await;
    assert_eq!(labels.status(), StatusCode::OK);
    let whole: Value = site.json("/v1/config").await;
    for format in ["toml", "json"] {
        let file = site.text(&format!("/v1/config/export?format={format}")).await;
        let back = site.change(Method::POST, "/v1/config/import", file.clone(), None).await;
        let back: Taken<Value> = back.json().await.unwrap();
        assert!(!back.taken && back.changes.is_empty(), "{back:?}");
        let other = start(|_| {}).await;
        let taken = other.change(Method::POST, "/v1/config/import", file.clone(), None).await;
        assert!(taken.json::<Taken<Value>>().await.unwrap().taken);
        assert_eq!(other.json::<Value>("/v1/config").await, whole);
        assert_eq!(other.text(&format!("/v1/config/export?format={format}")).await, file);
    }
}
