//! `alia fleet` against a real provisioner: log in, see machines, act, watch.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use cli::fleet::{Fleet, Site, site::fingerprint};
use protocol::fleet::{Life, MachineState, MachineStatus, TimelineEvent};
use provisioner::{
    config::{Options, Part},
    run::{self, Running},
};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};
use tempfile::TempDir;

const MAC: &str = "52:54:00:aa:00:01";

fn asked(what: &str) -> protocol::fleet::Command {
    protocol::fleet::Command { what: what.into(), node: None }
}

struct Place {
    folder: TempDir,
    running: Running,
}

async fn start() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        interface: Some("lo".into()),
        dhcp: Some(Part::Off),
        http_port: Some(0),
        https_port: Some(0),
        database: Some(folder.path().join("p.sqlite").display().to_string().parse().unwrap()),
        ..Options::default()
    };
    let running = run::start(options.with_file().unwrap()).await.unwrap();
    let token = running.token.as_ref().unwrap().reveal().to_string();
    fs::write(folder.path().join("token"), token).unwrap();
    Place { folder, running }
}

impl Place {
    fn alia(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alia"));
        command.arg("--home").arg(self.home()).stdin(Stdio::null());
        command
    }

    fn home(&self) -> std::path::PathBuf {
        self.folder.path().join("home")
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.alia();
        command.args(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Runs it, and gives what it printed.
    async fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    async fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn url(&self) -> String {
        format!("http://{}", self.running.http)
    }

    async fn boots(&self, mac: &str) {
        let url = format!("{}/boot/{mac}.ipxe?arch=x86_64&platform=efi", self.url());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(url).send().await.unwrap().error_for_status().unwrap();
        self.running.timeline.flush(Duration::from_secs(5));
    }

    async fn login(&self) {
        let pem = cli::fleet::client::plain_text(&self.url(), "/ca.pem").await.unwrap();
        let token = self.folder.path().join("token").display().to_string();
        let print = fingerprint(&pem).unwrap();
        self.says(&["fleet", "login", &self.url(), "--token", &token, "--fingerprint", &print])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_logs_in_once_and_steers_machines() {
    let place = start().await;
    assert!(place.refuses(&["fleet", "list"]).await.contains("alia fleet login"));
    let token = place.folder.path().join("token").display().to_string();
    let wrong = "ab".repeat(32);
    let login = ["fleet", "login", &place.url(), "--token", &token, "--fingerprint", &wrong];
    assert!(place.refuses(&login).await.contains("another provisioner"));
    assert!(place.refuses(&login[..5]).await.contains("--fingerprint"), "nobody can be asked");
    assert!(!place.home().join("fleet.json").exists());
    place.login().await;
    assert!(place.says(&["fleet", "status"]).await.contains("machines    0"));
    for n in 1..4 {
        place.boots(&format!("52:54:00:aa:00:0{n}")).await;
    }
    let list = place.says(&["--json", "fleet", "list", "--search", "aa:00:01"]).await;
    let list: Vec<MachineStatus> = serde_json::from_str(&list).unwrap();
    assert_eq!(list.len(), 1);
    let few = place.says(&["--json", "fleet", "list", "-n", "2"]).await;
    assert_eq!(serde_json::from_str::<Vec<MachineStatus>>(&few).unwrap().len(), 2);
    // By MAC address, by name, and several at once.
    let done = place.says(&["fleet", "quarantine", MAC, "node-aa0002"]).await;
    assert_eq!(done.matches("quarantined").count(), 2, "{done}");
    assert!(place.says(&["fleet", "list", "--state", "quarantined"]).await.contains("node-aa0002"));
    assert!(place.says(&["fleet", "show", "node-aa0001"]).await.contains("by operator first"));
    assert!(place.refuses(&["fleet", "drain", MAC]).await.contains("release, retire"));
    assert!(
        place.refuses(&["fleet", "retire", MAC]).await.contains("--yes"),
        "nobody can be asked"
    );
    let retired = place.says(&["--json", "fleet", "retire", MAC, "--yes"]).await;
    assert!(retired.contains("\"retired\""), "{retired}");
    assert!(place.refuses(&["fleet", "show", "wolf"]).await.contains("alia fleet list"));
    assert!(place.refuses(&["fleet", "show", "node-aa"]).await.contains("name one by its MAC"));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_come_and_go_and_a_token_that_ended_is_told() {
    let place = start().await;
    place.login().await;
    let token = place.says(&["fleet", "operators", "add", "anna"]).await;
    assert!(place.says(&["fleet", "operators", "list"]).await.contains("anna"));
    fs::write(place.folder.path().join("token"), token.trim()).unwrap();
    place.login().await;
    place.says(&["fleet", "operators", "remove", "first"]).await;
    assert!(place.refuses(&["fleet", "operators", "remove", "anna"]).await.contains("himself"));
    let mut site = Site::open(&place.home()).unwrap();
    site.token = place.running.token.as_ref().unwrap().reveal().to_string();
    let error = Fleet::new(&site).unwrap().command(MAC, asked("retire"), None).await.unwrap_err();
    assert!(error.to_string().contains("revoked"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_to_nobody_whom_the_pinned_authority_does_not_vouch_for() {
    let (place, other) = (start().await, start().await);
    place.login().await;
    let mut site = Site::open(&place.home()).unwrap();
    site.url = format!("https://127.0.0.1:{}", port(&other).await);
    let error = Fleet::new(&site).unwrap().get::<Life>("/v1/operators").await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    site.url = other.url();
    assert!(Fleet::new(&site).is_err(), "no plain HTTP");
}

fn lines(from: u64, texts: &[&str]) -> protocol::console::ConsoleBatch {
    let line = |(sequence, text): (u64, &&str)| protocol::console::ConsoleLine {
        source: protocol::console::ConsoleSource::Kernel,
        sequence,
        at_ms: 1_500,
        level: Some(4),
        text: (*text).into(),
    };
    let boot_id = protocol::Digest([1; 32]);
    protocol::console::ConsoleBatch { boot_id, lines: (from..).zip(texts).map(line).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_shown_searched_and_followed() {
    let place = start().await;
    place.login().await;
    place.boots(MAC).await;
    let says = |from, texts: &[&str]| {
        let batch = lines(from, texts);
        let add = || place.running.store.add_console(MAC.parse().unwrap(), batch, 5).unwrap();
        tokio::task::block_in_place(add)
    };
    assert_eq!(place.says(&["fleet", "console", MAC]).await, "");
    says(0, &["usb 1-1: new", "eth0: up", "usb 1-1: gone"]);
    says(9, &["late"]);
    let text = place.says(&["fleet", "console", "node-aa0001"]).await;
    assert!(text.starts_with("       1.500  kernel  usb 1-1: new\n"), "{text}");
    assert!(text.contains("(lines are missing: 6)\n       1.500  kernel  late\n"), "{text}");
    let few = place.says(&["fleet", "console", MAC, "--search", "USB", "-n", "1"]).await;
    assert_eq!(few, "       1.500  kernel  usb 1-1: gone\n", "the last ones");
    let page = place.says(&["--json", "fleet", "console", MAC, "-n", "2"]).await;
    let page: protocol::console::ConsolePage = serde_json::from_str(&page).unwrap();
    assert_eq!((page.lines.len(), page.boots[0].lines), (2, 4));
    let other = place.says(&["fleet", "console", MAC, "--boot", &"ab".repeat(32)]).await;
    assert_eq!(other, "");

    let mut command = place.alia();
    command.args(["--json", "fleet", "console", MAC, "--follow", "--search", "usb"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let heard = BufReader::new(child.stdout.take().unwrap()).lines();
    let (send, seen) = mpsc::channel();
    std::thread::spawn(move || {
        heard.map_while(Result::ok).try_for_each(|line| send.send(line)).ok();
    });
    let next = || {
        let line = seen.recv_timeout(Duration::from_secs(20)).unwrap();
        serde_json::from_str::<protocol::console::ConsoleEntry>(&line).unwrap().text
    };
    let (first, second) = tokio::task::block_in_place(|| (next(), next()));
    assert_eq!((first.as_str(), second.as_str()), ("usb 1-1: new", "usb 1-1: gone"));
    says(10, &["eth0: down", "usb 2-1: new"]);
    assert_eq!(tokio::task::block_in_place(next), "usb 2-1: new");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_set_compared_and_rolled_back() {
    let place = start().await;
    place.login().await;
    let groups = |arguments: &[&'static str]| {
        let all: Vec<&str> = ["fleet", "groups"].iter().chain(arguments).copied().collect();
        let place = &place;
        async move { place.says(&all).await }
    };
    let set = ["fleet", "groups", "set", "rack-7", "window=2", "labels.site=berlin"];
    assert!(place.refuses(&set).await.contains("--yes"), "nobody can be asked");
    let dry = groups(&["set", "rack-7", "window=2", "--dry-run"]).await;
    assert_eq!(dry, "+ group.rack-7.window = 2\n");
    let done =
        groups(&["set", "rack-7", "window=2", "labels.site=berlin", "--yes", "--why", "a & b"]);
    assert!(done.await.contains("revision 1 holds now"));
    assert!(groups(&["list"]).await.contains("rack-7  window"));
    assert_eq!(
        groups(&["show", "rack-7"]).await,
        "group rack-7\nlabels.site = \"berlin\"\nwindow = 2\n"
    );
    let wrong = ["fleet", "groups", "set", "rack-7", "windw=2", "--yes"];
    assert!(place.refuses(&wrong).await.contains("window"), "the nearest key is named");
    groups(&["set", "rack-7", "window=", "about=the one by the door", "--yes"]).await;
    let history = groups(&["history"]).await;
    assert!(history.contains("a & b") && history.contains("first"), "{history}");
    let diff = groups(&["diff", "1", "2"]).await;
    assert_eq!(diff, "+ group.rack-7.about = \"the one by the door\"\n- group.rack-7.window = 2\n");
    assert!(groups(&["rollback", "1", "--yes"]).await.contains("revision 3 holds now"));
    let file = place.folder.path().join("fleet.toml");
    fs::write(&file, groups(&["export"]).await).unwrap();
    assert!(groups(&["remove", "rack-7", "--yes"]).await.contains("- group.rack-7.window = 2"));
    assert!(
        place.refuses(&["fleet", "groups", "show", "rack-7"]).await.contains("no group rack-7")
    );
    let file = file.display().to_string();
    place.says(&["fleet", "groups", "import", &file, "--yes"]).await;
    assert!(groups(&["show", "rack-7"]).await.contains("window = 2"));
    let shown = place.says(&["--json", "fleet", "groups", "export", "--format", "json"]).await;
    assert!(shown.contains("\"rack-7\""), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_is_configured_and_what_happened_is_asked_for_too() {
    let place = start().await;
    place.login().await;
    place.boots(MAC).await;
    let alia = async |arguments: &[&str]| {
        let all: Vec<&str> = ["fleet"].iter().chain(arguments).copied().collect();
        place.says(&all).await
    };
    alia(&["groups", "set", "rack-7", "window=2", "--yes"]).await;
    let rule = ["rules", "set", "new", "macs=[\"52:54:00\"]", "limit=20", "group=rack-7", "--yes"];
    assert!(alia(&rule).await.contains("+ rule.new.limit = 20"));
    assert!(alia(&["rules", "show", "new"]).await.starts_with("rule new\ngroup = \"rack-7\""));
    assert!(alia(&["rules", "list"]).await.contains("new"));
    alia(&["defaults", "set", "blksize=1468", "--yes"]).await;
    assert_eq!(alia(&["defaults", "show"]).await, "defaults\nblksize = 1468\n");
    let own = ["config", "set", MAC, "groups=[\"rack-7\"]", "labels.row=4", "name=bear", "--yes"];
    alia(&own).await;
    let holds = alia(&["config", "show", "bear"]).await;
    for line in ["groups = rack-7", "labels.row = \"4\"  (machine)", "window = 2  (group rack-7)"] {
        assert!(holds.contains(line), "{line}: {holds}");
    }
    let members = alia(&["groups", "machines", "rack-7"]).await;
    assert!(members.contains(MAC) && members.contains("its own table"), "{members}");
    assert!(alia(&["config", "remove", MAC, "--yes"]).await.contains("- machine"));
    alia(&["rules", "remove", "new", "--yes"]).await;
    let few = place.says(&["--json", "fleet", "groups", "history", "-n", "2"]).await;
    let few: serde_json::Value = serde_json::from_str(&few).unwrap();
    assert_eq!(few["revisions"].as_array().unwrap().len(), 2);
    let told = place.says(&["--json", "fleet", "timeline", MAC, "-n", "1"]).await;
    let told: Vec<TimelineEvent> = serde_json::from_str(&told).unwrap();
    assert_eq!((told.len(), told[0].mac.as_str()), (1, MAC));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = "BUG: one\nnvme0: timeout\n".to_owned();
    let boot_id = protocol::Digest([1; 32]);
    let report = protocol::boot::CrashReport { boot_id, reason: "Oops".into(), text };
    let url = format!("{}/v1/machines/{MAC}/crashes", place.url());
    client.post(url).json(&report).send().await.unwrap().error_for_status().unwrap();
    let found = alia(&["crashes", MAC, "--search", "NVME0"]).await;
    assert!(found.contains("Oops (log 1)\n  nvme0: timeout\n"), "{found}");
    assert_eq!(alia(&["crashes", MAC, "--search", "oom"]).await, "");
    let none = place.refuses(&["fleet", "media", "show", &"ab".repeat(32)]).await;
    assert!(none.contains("--medium"), "{none}");
    let completed = place.says(&["completion", "bash"]).await;
    for word in ["timeline", "crashes", "rules", "owners", "defaults", "media"] {
        assert!(completed.contains(word), "{word}");
    }
}

async fn port(place: &Place) -> u16 {
    let text = cli::fleet::client::plain_text(&place.url(), "/v1/status").await.unwrap();
    let status: protocol::fleet::ProvisionerStatus = serde_json::from_str(&text).unwrap();
    status.https.unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_seen_as_it_happens() {
    let place = start().await;
    place.login().await;
    place.boots(MAC).await;
    let mut command = place.alia();
    command.args(["--json", "fleet", "watch", MAC]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (send, heard) = mpsc::channel();
    std::thread::spawn(move || {
        lines.map_while(Result::ok).try_for_each(|line| send.send(line)).ok();
    });
    let mut seen: Option<TimelineEvent> = None;
    // It may not listen yet when the first happen.
    for _ in 0..50 {
        place.boots("52:54:00:aa:00:09").await;
        place.boots(MAC).await;
        if let Ok(line) = heard.recv_timeout(Duration::from_secs(1)) {
            seen = Some(serde_json::from_str(&line).unwrap());
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen.unwrap().mac, MAC, "the other machine's events are not shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_moved_meanwhile_is_left_alone() {
    let place = start().await;
    place.login().await;
    place.boots(MAC).await;
    let fleet = Fleet::new(&Site::open(&place.home()).unwrap()).unwrap();
    let (life, tag) = fleet.life(MAC).await.unwrap();
    assert_eq!(life.state, MachineState::Discovered);
    fleet.command(MAC, asked("quarantine"), tag.as_deref()).await.unwrap();
    let error = fleet.command(MAC, asked("retire"), tag.as_deref()).await.unwrap_err();
    assert!(error.to_string().contains("quarantined by now"), "{error}");
}

#[test]
fn shells_are_told_how_to_complete_it() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_alia")).args(["completion", shell]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(text.contains("quarantine"), "{shell}");
    }
    let bash = Path::new("/bin/bash");
    if bash.exists() {
        let script = format!(
            "source <({} completion bash); COMP_WORDS=(alia fleet qua); COMP_CWORD=2; \
             _alia alia qua fleet; echo \"${{COMPREPLY[@]}}\"",
            env!("CARGO_BIN_EXE_alia")
        );
        let output = Command::new(bash).args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "quarantine");
    }
}
