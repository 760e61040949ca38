//! The page in a real Chromium, by TLS: each task of an operator, with a mouse and with keys alone, on
//! a desk and on a telephone, light and dark. `cargo xtask test --long page` runs it.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "browser_parts/driver.rs"]
mod driver;
#[path = "common/place.rs"]
mod place;

use driver::{Browser, Driver};
use protocol::{
    ChainId, Digest, SecretKey, Signed,
    boot::Enrol,
    certificate::{CardReading, Readings},
    console::{ConsoleBatch, ConsoleLine, ConsoleSource},
    evidence::Held,
    inventory::{Inventory, Nic, System},
    node::Delegation,
};
use provisioner::{
    config::{Approval, Options, Part},
    run::{self, Running},
    timeline::unix_ms,
};
use reqwest::{Client, StatusCode};
use std::{fs, time::Duration};
use tempfile::TempDir;

const MAC: &str = "52:54:00:aa:00:01";

struct Site {
    folder: TempDir,
    running: Running,
    client: Client,
}

fn chain() -> ChainId {
    "alia-test".parse().unwrap()
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let delegation = Signed::sign(&chain(), Delegation { delegate: key(8).public() }, &key(7));
        fs::write(at("delegation"), serde_json::to_vec(&delegation).unwrap()).unwrap();
        fs::write(at("key"), key(8).to_hex()).unwrap();
        let options = Options {
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
        let running = run::start(options.with_file().unwrap()).await.unwrap();
        Self { folder, running, client: Client::builder().no_proxy().build().unwrap() }
    }

    fn token(&self) -> &str {
        self.running.token.as_ref().unwrap().reveal()
    }

    async fn secure(&self) -> String {
        let url = format!("http://{}/v1/status", self.running.http);
        let status: serde_json::Value =
            self.client.get(url).send().await.unwrap().json().await.unwrap();
        status["https"].as_str().unwrap().to_string()
    }

    async fn boots(&self, mac: &str) {
        let url = format!("http://{}/boot/{mac}.ipxe?arch=x86_64&platform=efi", self.running.http);
        self.client.get(url).send().await.unwrap().error_for_status().unwrap();
    }

    /// A machine says lines of its console.
    fn says(&self, mac: &str, numbers: std::ops::Range<u64>) {
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
    fn measures(&self, mac: &str) {
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
        let alive = || self.running.store.alive(mac, None, Some(&readings), unix_ms());
        tokio::task::block_in_place(alive).unwrap();
    }

    /// A machine asks to be taken in, and waits.
    async fn waits(&self, mac: &str, seed: u8) {
        let enrol = Enrol {
            mac: mac.into(),
            boot_id: Digest([seed; 32]),
            release: Digest([7; 32]),
            inventory: Inventory {
                system: System {
                    uuid: format!("11223344-5566-7788-99aa-bbccddeeff{seed:02x}"),
                    ..System::default()
                },
                nics: vec![Nic {
                    name: "eth0".into(),
                    mac: mac.into(),
                    driver: None,
                    carrier: true,
                    booted_from: true,
                }],
                ..Inventory::default()
            },
            held: Held::Memory,
            evidence: None,
        };
        let signed = Signed::sign(&chain(), enrol, &key(seed));
        let url = format!("http://{}/v1/machines/{mac}/enrol", self.running.http);
        let answer = self.client.post(url).json(&signed).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    }
}

/// Nothing came from elsewhere, nothing was refused by the page's own policy, nothing hangs over.
async fn is_whole(browser: &Browser, what: &str) {
    let script = "return [performance.getEntriesByType('resource').map(e => e.name)
        .filter(name => !name.startsWith(location.origin)),
        document.documentElement.scrollWidth - innerWidth]";
    let found = browser.script(script).await;
    assert_eq!(found[0], serde_json::json!([]), "{what}");
    assert!(found[1].as_i64().unwrap() <= 0, "{what}: it hangs over by {} pixels", found[1]);
    let log = browser.log().await;
    let log: Vec<_> =
        log.iter().filter(|line| !line.contains("/sign-in") && !line.contains("409")).collect();
    assert!(log.is_empty(), "{what}: {log:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn an_operator_does_each_task_with_a_mouse() {
    let site = Site::start().await;
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    let base = site.secure().await;
    browser.open(&base).await;
    browser.until("None yet.").await;
    // It appears by itself: nobody loads the page again.
    site.boots(MAC).await;
    browser.until("node-aa0001").await;
    site.waits("52:54:00:aa:00:02", 2).await;
    browser.until("Need somebody").await;
    browser.shot("overview").await;
    is_whole(&browser, "overview").await;
    browser.click("nav a[href='/approvals']").await;
    browser.until(&key(2).public().to_string()).await;
    browser.click("a[href='/sign-in?to=/approvals']").await;
    browser.type_into("#token", "alia-operator-wrong").await;
    browser.click("main button").await;
    browser.until("nobody's, or was revoked").await;
    browser.shot("sign-in-refused").await;
    browser.type_into("#token", site.token()).await;
    browser.click("main button").await;
    browser.until("Approve node-aa0002").await;
    browser.shot("approvals").await;
    is_whole(&browser, "approvals").await;
    browser.click("main button").await;
    browser.until("Nobody waits").await;
    browser.open(&format!("{base}/machines/{MAC}")).await;
    browser.click("summary").await;
    browser.shot("machine-asks-once-more").await;
    browser.click("details[open] button").await;
    browser.until("by operator first").await;
    browser.shot("machine").await;
    is_whole(&browser, "machine").await;
    browser.open(&base).await;
    browser.type_into("input[name=search]", "aa0002").await;
    browser.click("form.search button").await;
    browser.until("node-aa0002").await;
    assert!(!browser.text().await.contains("node-aa0001"));
    assert!(browser.address().await.contains("search=aa0002"));
    browser.click("header form button").await;
    browser.until("Sign in").await;
    browser.open(&format!("{base}/machines/{MAC}")).await;
    assert!(!browser.text().await.contains("Release node"), "signed out");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn an_operator_reads_a_console_and_changes_a_group() {
    let site = Site::start().await;
    site.boots(MAC).await;
    site.running.timeline.flush(Duration::from_secs(5));
    site.says(MAC, 0..250);
    site.measures(MAC);
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    let base = site.secure().await;
    browser.open(&base).await;
    browser.until("of 1 machines that measure it").await;
    browser.open(&format!("{base}/machines/{MAC}")).await;
    browser.until("usb 1-249: new high-speed <b>device</b>").await;
    // What comes is there by itself.
    site.says(MAC, 252..260);
    browser.until("usb 1-259:").await;
    assert!(browser.text().await.contains("lines are missing here"));
    browser.script("document.getElementById('console').scrollIntoView()").await;
    browser.shot("console").await;
    is_whole(&browser, "console").await;
    browser.type_into("#console input[name=search]", "number 24").await;
    browser.click("#console button").await;
    browser.until("usb 1-24:").await;
    assert!(browser.address().await.contains("search=number+24"));
    assert!(!browser.text().await.contains("usb 1-239:"));
    browser.open(&format!("{base}/machines/{MAC}")).await;
    browser.click("a[rel=prev]").await;
    browser.until("usb 1-1:").await;
    browser.script("scrollTo(0, 0)").await;
    browser.shot("machine-sensors").await;

    browser.open(&format!("{base}/sign-in?to=/groups")).await;
    browser.type_into("#token", site.token()).await;
    browser.click("main button").await;
    browser.until("New group").await;
    browser.click("summary").await;
    browser.type_into("#name", "rack-7").await;
    browser.click("details[open] button").await;
    browser.until("Group rack-7").await;
    browser.click("summary").await;
    browser.type_into("#table", "windw = 2").await;
    browser.click("details[open] button").await;
    browser.until("windw").await;
    browser.shot("group-mistake").await;
    // The refusal, by its status too, and nothing else. What was read is not told again.
    let log = browser.log().await;
    assert!(log.iter().all(|line| line.contains("/sign-in") || line.contains("422")), "{log:?}");
    browser.type_into("#table", "about = \"the one by the window\"\nwindow = 2\n").await;
    browser.type_into("#why", "it is slow").await;
    browser.click("details[open] button").await;
    browser.until("the one by the window").await;
    browser.shot("group").await;
    browser.open(&format!("{base}/groups")).await;
    browser.shot("groups").await;
    browser.open(&format!("{base}/history")).await;
    browser.until("it is slow").await;
    browser.shot("history").await;
    browser.click("tbody a").await;
    browser.until("group.rack-7.window").await;
    browser.shot("revision").await;
    browser.open(&format!("{base}/history/1")).await;
    browser.click("summary").await;
    browser.click("details[open] button").await;
    browser.until("rolled back to revision 1").await;
    is_whole(&browser, "history").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn keys_alone_do_and_a_telephone_shows_all_of_it_light_and_dark() {
    let site = Site::start().await;
    site.waits(MAC, 1).await;
    for n in 2..60 {
        site.boots(&format!("52:54:00:aa:00:{n:02x}")).await;
    }
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((390, 844)).await;
    let base = site.secure().await;
    browser.open(&format!("{base}/sign-in?to=/approvals")).await;
    // The field has the focus already.
    browser.keys(site.token()).await;
    browser.keys("\u{E007}").await;
    browser.until("Approve node-aa0001").await;
    browser.focus_by_tab("Approve node-aa0001").await;
    browser.shot("telephone-focus").await;
    browser.keys("\u{E007}").await;
    browser.until("Nobody waits").await;
    site.says(MAC, 0..40);
    site.measures(MAC);
    for scheme in ["light", "dark"] {
        browser.prefers(scheme).await;
        let pages = [
            ("", "overview"),
            ("/approvals", "approvals"),
            ("/jobs", "jobs"),
            ("/groups", "groups"),
            ("/history", "history"),
            ("/sign-in", "sign-in"),
        ];
        for (path, name) in pages {
            browser.open(&format!("{base}{path}")).await;
            browser.shot(&format!("telephone-{scheme}-{name}")).await;
            is_whole(&browser, &format!("{name}, {scheme}")).await;
        }
        browser.open(&format!("{base}/machines/{MAC}")).await;
        browser.shot(&format!("telephone-{scheme}-machine")).await;
        is_whole(&browser, &format!("machine, {scheme}")).await;
        assert_contrast(&browser, scheme).await;
    }
    browser.open(&base).await;
    browser.click("a[rel=next]").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(browser.address().await.contains("after="));
}

/// Text is legible (WCAG 2.2, 1.4.3: 4.5 to 1), wherever it has a background of its own or the page's.
async fn assert_contrast(browser: &Browser, scheme: &str) {
    let script = "
        const light = c => { const [r, g, b] = c.map(v => v / 255).map(v =>
            v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b; };
        const parse = text => text.match(/[\\d.]+/g).map(Number);
        const behind = element => { for (let e = element; e; e = e.parentElement) {
            const c = parse(getComputedStyle(e).backgroundColor);
            if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
        return [...document.querySelectorAll('body *')].filter(e =>
            [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).map(e => {
            const a = light(parse(getComputedStyle(e).color).slice(0, 3)), b = light(behind(e).slice(0, 3));
            return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.textContent.slice(0, 40)];
        }).filter(([ratio]) => ratio < 4.5)";
    let found = browser.script(script).await;
    assert_eq!(found, serde_json::json!([]), "{scheme}");
}
