//! The whole provisioner on loopback, without DHCP: scripts, images, reports, enrolment, API,
//! page, server-sent events.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "common/place.rs"]
mod place;

use protocol::{
    ChainId, Digest, SecretKey, Signed,
    boot::{
        BootEvent, Enrol, ImageFile, ImageManifest, Microcode, NodeConfig, RootImage, StageState,
        Verity,
    },
    certificate::{CertificateRequest, NodeCertificate},
    evidence::{Approval, Held},
    fleet::{MachineDetail, MachineStatus, ProvisionerStatus, TimelineEvent},
    inventory::{Inventory, Nic},
    node::Delegation,
    release::{TimeAnswer, TimeRequest},
};
use provisioner::{
    config::{Approval as How, Options, Part},
    run::{self, Running},
};
use reqwest::{Client, StatusCode};
use std::{fs, net::IpAddr, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;

#[path = "http_parts/api.rs"]
mod api;
#[path = "http_parts/configuration.rs"]
mod configuration;
#[path = "http_parts/entry.rs"]
mod entry;
#[path = "http_parts/life.rs"]
mod life;
#[path = "http_parts/pages.rs"]
mod pages;
#[path = "http_parts/sharing.rs"]
mod sharing;
#[path = "http_parts/strangers.rs"]
mod strangers;

const MAC: &str = "52:54:00:aa:00:01";
const OTHER: &str = "52:54:00:aa:00:02";
const UUID: &str = "11223344-5566-7788-99aa-bbccddeeff01";

struct Site {
    folder: TempDir,
    running: Running,
    client: Client,
    url: String,
}

fn chain() -> ChainId {
    "alia-test".parse().unwrap()
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn write_image(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let file = |name: &str, content: &[u8]| {
        fs::write(folder.join(name), content).unwrap();
        let digest = Digest::of_bytes(content);
        ImageFile { file: name.into(), digest, bytes: content.len() as u64 }
    };
    let manifest = ImageManifest {
        version: "0.1.0".into(),
        kernel_release: "6.12.0-test".into(),
        kernel: file("vmlinuz", &[7; 300_000]),
        initramfs: file("initramfs.zst", &[9; 200_000]),
        root: RootImage { file: file("root.erofs", &[8; 100_000]), verity: Verity::default() },
        microcode: Microcode {
            amd: Some(file("microcode-amd.cpio", &[5; 512])),
            intel: Some(file("microcode-intel.cpio", &[6; 1024])),
        },
        unix_time: 1_700_000_000,
    };
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

/// Options with a key (seed 8), the delegation of an owner (seed 7), and an image.
fn options(folder: &Path) -> Options {
    if !folder.join("image").exists() {
        write_image(&folder.join("image"));
        let delegation = Signed::sign(&chain(), Delegation { delegate: key(8).public() }, &key(7));
        fs::write(folder.join("delegation"), serde_json::to_vec(&delegation).unwrap()).unwrap();
        fs::write(folder.join("key"), key(8).to_hex()).unwrap();
        fs::write(folder.join("place"), place::fresh(folder)).unwrap();
    }
    Options {
        interface: Some("lo".into()),
        dhcp: Some(Part::Off),
        http_port: Some(0),
        https_port: Some(0),
        image: Some(folder.join("image")),
        database: Some(fs::read_to_string(folder.join("place")).unwrap().parse().unwrap()),
        tls: Some(folder.join("tls")),
        key: Some(folder.join("key")),
        delegation: Some(folder.join("delegation")),
        chain: Some(chain()),
        approval: Some(How::Automatic),
        ..Options::default()
    }
}

async fn start(change: impl FnOnce(&mut Options)) -> Site {
    restart(tempfile::tempdir().unwrap(), change).await
}

async fn restart(folder: TempDir, change: impl FnOnce(&mut Options)) -> Site {
    let mut options = options(folder.path());
    change(&mut options);
    let running = run::start(options.with_file().unwrap()).await.unwrap();
    let url = format!("http://{}", running.http);
    Site { folder, running, client: Client::builder().no_proxy().build().unwrap(), url }
}

impl Site {
    async fn text(&self, path: &str) -> String {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap().text().await.unwrap()
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        // What was handed over is in the store, then.
        self.running.timeline.flush(Duration::from_secs(5));
        let text = self.text(path).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    async fn post<T: serde::Serialize>(&self, path: &str, body: &T) -> (StatusCode, String) {
        let response =
            self.client.post(format!("{}{path}", self.url)).json(body).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn report(&self, mac: &str, events: &[BootEvent]) -> (StatusCode, String) {
        self.post(&format!("/v1/machines/{mac}/events"), &events).await
    }

    /// As the node that was taken in, by TLS with the certificate of the boot that the events are of.
    async fn prove(
        &self,
        mac: &str,
        node: &SecretKey,
        events: &[BootEvent],
    ) -> Result<(), node_init::http::HttpError> {
        let (boot_id, nonce) = (events[0].boot_id, Digest([9; 32]));
        let request = CertificateRequest { mac: mac.into(), boot_id, nonce };
        let request = Signed::sign(&chain(), request, node);
        let (status, text) = self.post(&format!("/v1/machines/{mac}/certificate"), &request).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let answer: Signed<NodeCertificate> = serde_json::from_str(&text).unwrap();
        let made = answer.verify(&chain()).unwrap();
        let certificate = made.certificate.clone().into();
        let config = Arc::new(mtls::client_showing(node, certificate, key(8).public()).unwrap());
        let secured = node_init::http::Secured { config, port: made.port };
        let (base, path) = (self.url.parse().unwrap(), format!("/v1/machines/{mac}/events"));
        let body = serde_json::to_vec(events).unwrap();
        node_init::http::post_by(&base, Some(&secured), &path, body).await.map(drop)
    }

    async fn enrol(&self, mac: &str, enrol: Enrol, key: &SecretKey) -> (StatusCode, String) {
        let signed = Signed::sign(&chain(), enrol, key);
        self.post(&format!("/v1/machines/{mac}/enrol"), &signed).await
    }

    async fn machine(&self, mac: &str) -> MachineDetail {
        self.json(&format!("/v1/machines/{mac}")).await
    }
}

fn event(sequence: u32, stage: &str, state: StageState, at_ms: u64) -> BootEvent {
    let detail = format!("{stage} <{sequence}>");
    BootEvent { sequence, boot_id: Digest([1; 32]), stage: stage.into(), state, at_ms, detail }
}

fn enrol(mac: &str, uuid: &str) -> Enrol {
    let mut inventory = Inventory::default();
    inventory.system.uuid = uuid.into();
    inventory.system.uefi = true;
    inventory.nics = vec![Nic {
        name: "eth0".into(),
        mac: mac.into(),
        driver: None,
        carrier: true,
        booted_from: true,
    }];
    Enrol {
        mac: mac.into(),
        boot_id: Digest([1; 32]),
        release: Digest([3; 32]),
        inventory,
        held: Held::Memory,
        evidence: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_by_ipv6_is_given_our_ipv6_address_and_nobody_else_is() {
    let site = start(|options| options.address6 = Some(std::net::Ipv6Addr::LOCALHOST)).await;
    let six = format!("http://{}", site.running.http6.unwrap());
    assert!(six.starts_with("http://[::1]:"), "{six}");
    let get = async |base: &str, path: &str| {
        site.client.get(format!("{base}{path}")).send().await.unwrap().text().await.unwrap()
    };
    let own = format!("/boot/{}.ipxe?arch=x86_64", MAC.replace(':', "-"));
    for (base, other) in [(&six, &site.url), (&site.url, &six)] {
        let entry = get(base, "/boot.ipxe").await;
        assert!(entry.contains(&format!("{base}/boot/")) && !entry.contains(other), "{entry}");
        let script = get(base, &own).await;
        assert!(script.contains(&format!("alia.provisioner={base} ")), "{script}");
        assert!(script.contains(&format!("{base}/image/")) && !script.contains(other), "{script}");
    }
    assert!(start(|_| ()).await.running.http6.is_none(), "nobody asked for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_boot_scripts_read_as_written_here() {
    let site = start(|options| options.kernel_argument = vec!["quiet".into()]).await;
    let url = &site.url;
    let entry = format!(
        "#!ipxe\n\
         set tries:int32 0\n\
         :again\n\
         echo aliaOS: asking {url} what to boot\n\
         chain --replace --autofree {url}/boot/${{netX/mac:hexhyp}}.ipxe?uuid=${{uuid}}\
         &serial=${{serial:uristring}}&arch=${{buildarch}}&platform=${{platform}} || goto failed\n\
         :failed\n\
         echo aliaOS: that failed (${{errno}}): trying again in 5 s\n\
         sleep 5\n\
         inc tries\n\
         iseq ${{tries}} 24 && reboot || goto again\n"
    );
    assert_eq!(site.text("/boot.ipxe").await, entry);

    let status: ProvisionerStatus = site.json("/v1/status").await;
    let digest = status.image.unwrap().digest;
    let key = key(8).public();
    let image = format!("{url}/image/{digest}");
    let mac = "52-54-00-aa-00-01";
    let machine = format!(
        "#!ipxe\n\
         set tries:int32 0\n\
         iseq ${{platform}} pcbios || goto watched\n\
         console --x 1024 --y 768 || goto watched\n\
         set video vga=791\n\
         console ||\n\
         :watched\n\
         cpuid --ext 29 || goto chosen\n\
         cpuid --ecx 31 && goto chosen ||\n\
         cpuid --ext --ecx 6 && set microcode microcode-amd.cpio || \
         set microcode microcode-intel.cpio\n\
         isset ${{microcode}} && set first initrd=${{microcode}} ||\n\
         :chosen\n\
         :again\n\
         echo aliaOS: loading aliaOS 0.1.0 (Linux 6.12.0-test) from {url}\n\
         imgfree || goto failed\n\
         kernel --name vmlinuz {image}/vmlinuz?mac={mac} ${{first}} ${{video}} initrd=initramfs.zst \
         alia.provisioner={url} alia.key={key} alia.chain=alia-test alia.release={digest} \
         BOOTIF=01-{mac} console=tty1 console=ttyS0,115200 panic=10 quiet || goto failed\n\
         isset ${{microcode}} || goto initramfs\n\
         initrd --name ${{microcode}} {image}/${{microcode}}?mac={mac} || goto failed\n\
         :initramfs\n\
         initrd --name initramfs.zst {image}/initramfs.zst?mac={mac} || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         echo aliaOS: that failed (${{errno}}): trying again in 5 s\n\
         sleep 5\n\
         inc tries\n\
         iseq ${{tries}} 24 && reboot || goto again\n"
    );
    assert_eq!(site.text(&format!("/boot/{mac}.ipxe?arch=x86_64&platform=efi")).await, machine);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_image_or_of_another_architecture_is_told_so_and_never_hangs() {
    let site = start(|options| options.image = None).await;
    let script = site.text(&format!("/boot/{MAC}.ipxe")).await;
    assert!(script.contains("has no image yet") && script.contains("sleep 5"), "{script}");
    assert!(script.contains("|| reboot"), "{script}");
    let script = site.text(&format!("/boot/{OTHER}.ipxe?arch=arm64&platform=efi")).await;
    assert!(script.contains("arm64") && script.contains("exit 1"), "{script}");
    let problem = site.machine(OTHER).await.machine.problem.unwrap();
    assert!(problem.contains("arm64"), "{problem}");
    let hostile = site.text(&format!("/boot/{OTHER}.ipxe?arch=a%0areboot%20%24%7Buuid%7D")).await;
    assert!(!hostile.contains("\nreboot") && !hostile.contains("${"), "{hostile}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_is_given_with_its_length_in_parts_too_and_nothing_else_is() {
    let site = start(|_| {}).await;
    let status: ProvisionerStatus = site.json("/v1/status").await;
    let base = format!("{}/image/{}", site.url, status.image.unwrap().digest);
    let whole = site.client.get(format!("{base}/vmlinuz?mac={MAC}")).send().await.unwrap();
    assert_eq!(whole.headers()["content-length"], "300000");
    assert_eq!(whole.bytes().await.unwrap(), vec![7; 300_000]);
    let part = site.client.get(format!("{base}/initramfs.zst")).header("range", "bytes=100-199");
    let part = part.send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 100-199/200000");
    assert_eq!(part.bytes().await.unwrap(), vec![9; 100]);
    let head = site.client.head(format!("{base}/vmlinuz")).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "300000");

    let other = Digest([0; 32]);
    for path in [
        format!("{base}/provisioner.key"),
        format!("{base}/..%2fkey"),
        format!("{base}/%2e%2e%2fkey"),
        format!("{base}/../../key"),
        format!("{}/image/{other}/vmlinuz", site.url),
        format!("{}/ipxe/..%2fkey", site.url),
        format!("{}/ipxe/key", site.url),
    ] {
        let response = site.client.get(&path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_release_of_the_image_is_given_out_from_when_it_is_signed() {
    let site = start(|_| {}).await;
    let status: ProvisionerStatus = site.json("/v1/status").await;
    let url = format!("{}/image/{}/release.bundle", site.url, status.image.unwrap().digest);
    let unsigned = site.client.get(&url).send().await.unwrap();
    assert_eq!(unsigned.status(), StatusCode::NOT_FOUND);
    assert!(unsigned.text().await.unwrap().contains("cargo xtask release"));
    fs::write(site.folder.path().join("image/release.bundle"), "signed").unwrap();
    let response = site.client.get(&url).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "signed");
}

fn time_request() -> TimeRequest {
    let (nonce, boot_id) = (Digest([5; 32]), Digest([6; 32]));
    TimeRequest { nonce, mac: MAC.into(), boot_id, scripted: true }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_is_signed_for_the_nonce_of_whoever_asks() {
    let site = start(|_| {}).await;
    let request = time_request();
    let (status, text) = site.post("/v1/time", &request).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let answer: Signed<TimeAnswer> = serde_json::from_str(&text).unwrap();
    assert_eq!(answer.signer, key(8).public());
    let answer = answer.verify(&chain()).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(answer.nonce, request.nonce);
    assert!(now.as_secs() - answer.unix_time < 60);
    assert_eq!(answer.attempt, 1);
    let (status, _) = site.post("/v1/time", &serde_json::json!({ "nonce": "5" })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_is_counted_once_by_its_script_or_by_its_question_for_the_time() {
    let site = start(|_| {}).await;
    // The first makes the machine known: boots of others are not counted.
    for _ in 0..3 {
        site.text(&format!("/boot/{MAC}.ipxe?uuid={UUID}&arch=i386&platform=pcbios")).await;
        site.running.timeline.flush(Duration::from_secs(5));
    }
    let detail: MachineDetail = site.json(&format!("/v1/machines/{MAC}")).await;
    assert!(detail.timeline[0].text.contains("boot 2 in a row"), "{:?}", detail.timeline);
    let attempt = async |boot: u8, scripted: bool| {
        let request = TimeRequest { scripted, boot_id: Digest([boot; 32]), ..time_request() };
        let (status, text) = site.post("/v1/time", &request).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let answer: Signed<TimeAnswer> = serde_json::from_str(&text).unwrap();
        answer.verify(&chain()).unwrap().attempt
    };
    assert_eq!((attempt(1, true).await, attempt(1, true).await), (2, 2));
    assert_eq!((attempt(2, false).await, attempt(2, false).await), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_dies_boot_after_boot_is_held_up_at_its_loader() {
    let site = start(|_| {}).await;
    let ask = async || {
        let script =
            site.text(&format!("/boot/{MAC}.ipxe?uuid={UUID}&arch=i386&platform=pcbios")).await;
        site.running.timeline.flush(Duration::from_secs(5));
        script
    };
    // The first makes the machine known: boots of others are not counted.
    for _ in 0..9 {
        assert!(!ask().await.contains("sleep 600"));
    }
    let script = ask().await;
    assert!(
        script.contains("8 boots in a row died") && script.contains("sleep 600 ||\n"),
        "{script}"
    );
    let detail: MachineDetail = site.json(&format!("/v1/machines/{MAC}")).await;
    assert!(detail.timeline[0].text.contains("it waits 10 minutes now"), "{:?}", detail.timeline);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_by_http_is_told_stage_by_stage() {
    let site = start(|_| {}).await;
    let status: ProvisionerStatus = site.json("/v1/status").await;
    let digest = status.image.unwrap().digest;
    site.text(&format!("/boot/{MAC}.ipxe?uuid={UUID}&serial=S-1&arch=i386&platform=pcbios")).await;
    site.text(&format!("/image/{digest}/vmlinuz?mac={MAC}")).await;
    site.text(&format!("/image/{digest}/initramfs.zst?mac={MAC}")).await;
    // A download is told once its last byte went out, which its reader may have before.
    let told = |detail: &MachineDetail| {
        let boot = detail.machine.boot.as_ref();
        boot.is_some_and(|boot| boot.stages.iter().any(|stage| stage.name == "initramfs"))
    };
    while !told(&site.machine(MAC).await) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    site.report(MAC, &[event(0, "mounts", StageState::Done, 1_500)]).await;
    let detail = site.machine(MAC).await;
    let machine = detail.machine;
    assert_eq!(machine.uuid.as_deref(), Some(UUID));
    assert_eq!(machine.serial.as_deref(), Some("S-1"));
    assert_eq!(machine.firmware.as_deref(), Some("bios"));
    assert_eq!(machine.address.as_deref(), Some("127.0.0.1"));
    let stages = machine.boot.unwrap().stages;
    let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["script", "kernel", "initramfs", "linux", "mounts"]);
    assert!(stages.iter().all(|stage| stage.state == StageState::Done), "{stages:?}");
    assert_eq!(stages[3].seconds, 1.5);
    assert!(detail.timeline.iter().any(|event| event.text.contains("300000 bytes in")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_breaks_off_is_told_as_such() {
    use tokio::io::AsyncWriteExt;
    let folder = tempfile::tempdir().unwrap();
    options(folder.path());
    // Larger than the sockets' buffers, so that it cannot be "sent" to somebody who is gone.
    let kernel = vec![7; 60_000_000];
    let manifest = folder.path().join("image/manifest.json");
    let mut image: ImageManifest = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    image.kernel.digest = Digest::of_bytes(&kernel);
    image.kernel.bytes = kernel.len() as u64;
    fs::write(folder.path().join("image/vmlinuz"), kernel).unwrap();
    fs::write(&manifest, serde_json::to_vec(&image).unwrap()).unwrap();
    let site = restart(folder, |_| {}).await;
    site.text(&format!("/boot/{MAC}.ipxe")).await;
    let mut stream = tokio::net::TcpStream::connect(site.running.http).await.unwrap();
    let path = format!("/image/{}/vmlinuz?mac={MAC}", image.digest());
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(stream);
    for _ in 0..100 {
        let detail = site.machine(MAC).await;
        if detail.timeline[0].text.contains("the machine went away") {
            let stages = detail.machine.boot.unwrap().stages;
            assert_eq!(stages[1].state, StageState::Retrying, "{stages:?}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the timeline never told of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_sent_twice_count_once_and_outlive_a_restart() {
    let site = start(|_| {}).await;
    let events =
        [event(0, "mounts", StageState::Done, 100), event(1, "network", StageState::Retrying, 900)];
    assert_eq!(site.report(MAC, &events).await, (StatusCode::OK, r#"{"new":2}"#.into()));
    assert_eq!(site.report(MAC, &events).await.1, r#"{"new":0}"#);
    let before = site.machine(MAC).await;
    assert_eq!(before.timeline.len(), 2);
    let Site { folder, running, .. } = site;
    drop(running);
    let site = restart(folder, |_| {}).await;
    let after = site.machine(MAC).await;
    assert_eq!(after.timeline, before.timeline);
    assert_eq!(site.report(MAC, &events[1..]).await.1, r#"{"new":0}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_report_is_refused_with_the_reason() {
    let site = start(|_| {}).await;
    let many: Vec<BootEvent> = (0..257).map(|i| event(i, "x", StageState::Done, 1)).collect();
    let (status, text) = site.report(MAC, &many).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text.contains("at most 256"), "{text}");
    let (status, text) = site.report("nonsense", &[]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("not a MAC address"), "{text}");
    let (status, text) = site.post(&format!("/v1/machines/{MAC}/events"), &"x").await;
    assert!(status.is_client_error() && text.contains("expected a sequence"), "{status} {text}");
    let huge = "x".repeat(3 << 20);
    let (status, _) = site.post(&format!("/v1/machines/{MAC}/enrol"), &huge).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    // By another connection: that of a body cut short is closed.
    let client = Client::builder().no_proxy().build().unwrap();
    let old = client.post(format!("{}/v1/machines/{MAC}/events", site.url));
    let old = old.header("alia-protocol", "99").json(&Vec::<BootEvent>::new()).send();
    assert_eq!(old.await.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_enrols_gets_a_configuration_signed_by_the_key_it_pinned() {
    let site = start(|options| options.ledger = vec!["http://127.0.0.1:1".into()]).await;
    let (status, text) = site.enrol(MAC, enrol(MAC, UUID), &key(1)).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let config: Signed<NodeConfig> = serde_json::from_str(&text).unwrap();
    assert_eq!(config.signer, key(8).public());
    let config = config.verify(&chain()).unwrap();
    assert_eq!(config.node, key(1).public());
    assert_eq!(config.name, "node-aa0001");
    assert_eq!(config.ledgers, ["http://127.0.0.1:1"]);
    assert_eq!(config.ownership.verify(&chain(), &config.node), Ok(key(7).public()));
    let detail = site.machine(MAC).await;
    assert_eq!(detail.machine.node, Some(key(1).public()));
    assert_eq!(detail.inventory.unwrap(), enrol(MAC, UUID).inventory);
    assert!(detail.timeline[0].text.contains("never served here"), "{:?}", detail.timeline);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_machine_with_the_identity_of_a_first_is_refused_and_the_first_goes_on() {
    let site = start(|_| {}).await;
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
    let other_uuid = "11223344-5566-7788-99aa-bbccddeeff02";
    let cases = [
        (OTHER, enrol(OTHER, other_uuid), key(1), "node key"),
        (OTHER, enrol(OTHER, UUID), key(2), "UUID"),
        (MAC, enrol(MAC, other_uuid), key(2), "MAC address"),
    ];
    for (mac, request, key, what) in cases {
        let (status, text) = site.enrol(mac, request, &key).await;
        assert_eq!(status, StatusCode::CONFLICT, "{text}");
        for part in [what, "node-aa0001", "keeps its place"] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
        let first = site.machine(MAC).await;
        assert_eq!(first.timeline[0].kind, "conflict", "the first machine's timeline tells too");
        assert_eq!(first.machine.node, Some(self::key(1).public()));
        assert_eq!(first.machine.uuid.as_deref(), Some(UUID));
        assert!(site.machine(mac).await.machine.problem.is_some());
    }
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
    assert_eq!(site.machine(MAC).await.machine.problem, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_enrolments_are_refused() {
    let site = start(|_| {}).await;
    let (status, text) = site.enrol(OTHER, enrol(MAC, UUID), &key(1)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("forged"), "{text}");
    let mut altered = Signed::sign(&chain(), enrol(MAC, UUID), &key(1));
    altered.body.inventory.memory_bytes = 1 << 40;
    let (status, text) = site.post(&format!("/v1/machines/{MAC}/enrol"), &altered).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("not signed by the key"), "{text}");
    let elsewhere = Signed::sign(&"alia-other".parse().unwrap(), enrol(MAC, UUID), &key(1));
    let (status, _) = site.post(&format!("/v1/machines/{MAC}/enrol"), &elsewhere).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_key_and_delegation_machines_boot_and_are_told_why_they_are_not_taken_in() {
    let site = start(|options| {
        options.key = None;
        options.delegation = None;
    })
    .await;
    let (status, text) = site.enrol(MAC, enrol(MAC, UUID), &key(1)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("--delegation"), "{text}");
    assert!(!site.text(&format!("/boot/{MAC}.ipxe")).await.contains("alia.key"));
    let (status, text) = site.post("/v1/time", &time_request()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let base = options(folder.path());
    let fails = async |change: fn(&mut Options)| {
        let mut options = base.clone();
        change(&mut options);
        match run::start(options).await {
            Ok(_) => panic!("it started"),
            Err(error) => error.to_string(),
        }
    };
    let text = fails(|options| options.delegation = None).await;
    assert!(text.contains("belong together"), "{text}");
    let text = fails(|options| options.chain = Some("alia-other".parse().unwrap())).await;
    assert!(text.contains("make a new one for this chain"), "{text}");
    let text = fails(|options| options.interface = Some("nosuch0".into())).await;
    assert!(text.contains("there is no interface"), "{text}");
    let text = fails(|options| options.database = Some("/nosuch/p.sqlite".parse().unwrap())).await;
    assert!(text.contains("/nosuch/p.sqlite"), "{text}");
    fs::write(folder.path().join("key"), key(9).to_hex()).unwrap();
    let text = fails(|_| {}).await;
    assert!(text.contains("have the owner delegate to this one"), "{text}");
    fs::write(folder.path().join("key"), key(8).to_hex()).unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = base.clone();
    options.http_port = Some(held.local_addr().unwrap().port());
    let Err(error) = run::start(options).await else { panic!("it started") };
    assert!(error.to_string().contains("is in use"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_complete_without_javascript_and_loads_nothing_from_elsewhere() {
    let site = start(|_| {}).await;
    site.report(MAC, &[event(0, "mounts", StageState::Done, 100)]).await;
    site.running.timeline.flush(Duration::from_secs(5));
    let response = site.client.get(&site.url).send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let page = response.text().await.unwrap();
    for part in ["node-aa0001", MAC, "mounts", "Chain height", "<noscript>"] {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"));
    let machine = site.text(&format!("/machines/{MAC}")).await;
    assert!(machine.contains("mounts &lt;0&gt;"), "{machine}");
    let machines: Vec<MachineStatus> = site.json("/v1/machines").await;
    assert_eq!(machines.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_are_told_what_happens_and_there_is_a_bound_on_them() {
    let site = start(|_| {}).await;
    let mut watcher = site.client.get(format!("{}/v1/events", site.url)).send().await.unwrap();
    site.report(MAC, &[event(0, "mounts", StageState::Done, 100)]).await;
    let chunk = tokio::time::timeout(Duration::from_secs(10), watcher.chunk()).await;
    let text = String::from_utf8(chunk.unwrap().unwrap().unwrap().to_vec()).unwrap();
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let event: TimelineEvent = serde_json::from_str(data).unwrap();
    assert_eq!((event.mac.as_str(), event.kind.as_str()), (MAC, "boot"));
    assert!(text.contains("event: timeline"), "{text}");

    let mut watchers = vec![watcher];
    let watch = async |last: u8| {
        let from = IpAddr::from([127, 0, 0, last]);
        let client = Client::builder().no_proxy().local_address(from).build().unwrap();
        client.get(format!("{}/v1/events", site.url)).send().await.unwrap()
    };
    while watchers.len() < 64 {
        let watcher = watch(1 + (watchers.len() / 16) as u8).await;
        assert_eq!(watcher.status(), StatusCode::OK);
        watchers.push(watcher);
        if watchers.len() == 16 {
            let refused = watch(1).await;
            assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "a peer has its share");
        }
    }
    assert_eq!(watch(9).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(site.client.get(&site.url).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_and_living_upstreams_show_as_such_and_never_hold_the_page() {
    use axum::{Json, Router, routing::get};
    let job = serde_json::json!([{
        "job": Digest([5; 32]), "label": "de-en", "kind": "train", "phase": "running",
        "epoch": 2, "epochs": 13, "step": 4, "steps": 40, "loss": 3.25, "tokens_per_second": 812.0,
        "parameters": null, "result": null, "receipts": 77, "receipts_on_chain": 70,
        "receipts_confirmed": 60, "workers": [], "recent": [], "seconds": 12.5
    }]);
    let height = serde_json::json!({"result": {"sync_info": {"latest_block_height": "4321"}}});
    let fake = Router::new()
        .route("/v1/jobs", get(move || async { Json(job) }))
        .route("/status", get(move || async { Json(height) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, fake).await });
    // Takes connections and never answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute_url = format!("http://{}", mute.local_addr().unwrap());
    let site = start(|options| {
        options.ledger = vec![url.clone()];
        options.parameter_server = vec![url.clone(), mute_url.clone()];
    })
    .await;
    let seen = async |test: &dyn Fn(&ProvisionerStatus) -> bool| {
        for _ in 0..200 {
            let status: ProvisionerStatus = site.json("/v1/status").await;
            if test(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never seen");
    };
    let status = seen(&|status| {
        let servers = &status.upstream.parameter_servers;
        !servers[0].jobs.is_empty()
            && servers[1].error.as_deref().is_some_and(|error| error.contains("no answer within"))
    })
    .await;
    assert_eq!(status.upstream.ledger.unwrap().height, Some(4321));
    let began = std::time::Instant::now();
    let page = site.text("/").await;
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "the page does not wait for the mute one"
    );
    for part in ["de-en", "3.2500", "812", "70 in blocks, 60 confirmed", "4321", "does not answer"]
    {
        assert!(page.contains(part), "{part} is missing");
    }
    let job = site.text(&format!("/jobs/{}", Digest([5; 32]))).await;
    assert!(job.contains("3.2500") && job.contains("None was done yet"), "{job}");
    assert_eq!(site.client.get(format!("{}/jobs/5", site.url)).send().await.unwrap().status(), 404);
    server.abort();
    let _ = server.await;
    let status = seen(&|status| status.upstream.parameter_servers[0].error.is_some()).await;
    assert_eq!(status.upstream.parameter_servers[0].jobs.len(), 1, "what it said last stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_key_waits_until_the_owner_approves_it_and_is_known_from_then_on() {
    let site = start(|options| options.approval = None).await;
    let (status, text) = site.enrol(MAC, enrol(MAC, UUID), &key(1)).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
    assert!(text.contains("waits for approval") && text.contains("for this boot alone"), "{text}");
    site.enrol(MAC, enrol(MAC, UUID), &key(1)).await;
    let waiting = site.machine(MAC).await;
    assert_eq!(waiting.machine.pending, Some(key(1).public()));
    let told = waiting.timeline.iter().filter(|event| event.text.contains("waits for approval"));
    assert_eq!(told.count(), 1, "{:?}", waiting.timeline);
    assert!(site.text(&format!("/machines/{MAC}")).await.contains("waits for approval"));

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let approval = Approval { mac: MAC.into(), node: key(1).public(), issued: now };
    let path = format!("/v1/machines/{MAC}/approve");
    let forged = Signed::sign(&chain(), approval.clone(), &key(3));
    assert_eq!(site.post(&path, &forged).await.0, StatusCode::FORBIDDEN);
    let signed = Signed::sign(&chain(), approval, &key(7));
    assert_eq!(site.post(&path, &signed).await.0, StatusCode::NO_CONTENT);
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
    let machine = site.machine(MAC).await.machine;
    assert_eq!((machine.pending, machine.held.as_deref()), (None, Some("memory")));
    // Another key is another node.
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(2)).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_whose_keys_are_none_gets_no_challenge() {
    let site = start(|_| {}).await;
    let chip = protocol::evidence::Chip { endorsement_key: vec![1], attestation_key: vec![2] };
    let (status, text) = site.post(&format!("/v1/machines/{MAC}/challenge"), &chip).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    assert!(text.contains("endorsement key cannot be understood"), "{text}");
}
