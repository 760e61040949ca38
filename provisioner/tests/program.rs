//! The program itself: what it says of its configuration, how it logs, and what it can no longer do
//! once it serves.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "common/image.rs"]
mod image;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_provisioner");
/// Nobody's number, where tests run.
const NOBODY: u32 = 65_534;

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_says_what_is_wrong_and_serve_refuses_with_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.toml");
    fs::write(&path, "dhpc = \"full\"\nhttp-port = 0\nhttps-port = 0\nlease-seconds = 600\n")
        .unwrap();
    let path = path.to_str().unwrap();
    let checked = run(&["check", "--interface", "lo", "--config", path]);
    assert_eq!(checked.status.code(), Some(1));
    let told = text(&checked.stdout);
    assert!(told.contains(":1:1: mistake: unknown key \"dhpc\": did you mean \"dhcp\"?"), "{told}");
    assert!(told.contains(":4:1: mistake: lease-seconds is given"), "{told}");
    let refused = run(&["serve", "--interface", "lo", "--config", path]);
    assert_eq!(refused.status.code(), Some(1));
    let refusal = text(&refused.stderr);
    for line in told.lines().filter(|line| line.contains("mistake: ")) {
        assert!(refusal.contains(line), "{line} in\n{refusal}");
    }
    let json = run(&["check", "--json", "--interface", "lo", "--config", path]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["good"], &json["findings"][0]["line"]), (&false.into(), &1.into()));
}

#[test]
fn the_example_is_accepted_and_names_every_option_there_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/provisioner.toml");
    let checked = run(&["check", "--interface", "lo", "--config", path]);
    let told = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(0), "{told}");

    // Every line that is commented out is right as well.
    let example = fs::read_to_string(path).unwrap();
    let set: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest,
            _ => line,
        })
        .fold(String::new(), |all, line| all + line + "\n");
    let options = provisioner::config::Options::from_toml(Path::new("p.toml"), &set).unwrap();
    options.with_file().unwrap();
    let help = text(&run(&["serve", "--help"]).stdout);
    let flags = help.lines().filter_map(|line| line.trim().strip_prefix("--"));
    let mut count = 0;
    for flag in flags.filter_map(|line| line.split([' ', '\n']).next()) {
        if !["config", "help", "version"].contains(&flag) {
            assert!(set.lines().any(|line| line.starts_with(&format!("{flag} ="))), "{flag}");
            count += 1;
        }
    }
    assert!(count > 30, "{count} flags in\n{help}");
}

/// The program as it runs.
struct Running {
    child: Child,
    banner: String,
    http: String,
    log: PathBuf,
}

impl Running {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_by(Command::new(PROGRAM), folder, arguments)
    }

    fn start_by(mut program: Command, folder: &Path, arguments: &[&str]) -> Self {
        let log = folder.join("log");
        let mut child = program
            .args(["serve", "--interface", "lo", "--dhcp", "off"])
            .args(["--http-port", "0", "--https-port", "0"])
            .args(arguments)
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut banner = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line == "ready" {
                break;
            }
            banner += &(line + "\n");
        }
        let page = banner.lines().find_map(|line| line.strip_prefix("page and API http://"));
        let Some(http) = page.map(str::to_owned) else {
            panic!("{banner}\n{}", fs::read_to_string(&log).unwrap());
        };
        Self { child, banner, http, log }
    }

    fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nhost: test\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = text(&answer[9..12]).parse().unwrap();
        (status, answer[end + 4..].to_vec())
    }

    /// The fields of each thread's status that are asked for.
    fn threads(&self, field: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let status =
            tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
        status
            .map(|status| {
                let line =
                    status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
                line.unwrap_or_default().trim().to_owned()
            })
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn as_json_every_event_of_a_machine_has_its_mac_as_a_field() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path(), &["--log-format", "json"]);
    assert_eq!(running.get("/boot/52-54-00-aa-00-01.ipxe?arch=x86_64").0, 200);
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let log = fs::read_to_string(&running.log).unwrap();
        let whole =
            log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        if whole.into_iter().any(|line| {
            line["mac"] == "52:54:00:aa:00:01"
                && line["kind"] == "http"
                && line["message"].is_string()
        }) {
            return;
        }
        assert!(Instant::now() < until, "{log}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_service_manager_is_told_when_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut program = Command::new(PROGRAM);
    program.env("NOTIFY_SOCKET", &path);
    let _running = Running::start_by(program, folder.path(), &[]);
    let mut word = [0; 64];
    let length = manager.recv(&mut word).unwrap();
    assert_eq!(text(&word[..length]).trim(), "READY=1");
}

/// What root alone can try: to be somebody else afterwards.
#[test]
fn once_it_serves_it_is_nobody_in_all_threads_and_sees_no_foreign_file() {
    if !fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        println!("skipped: this test needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    open(folder.path());
    let image_folder = folder.path().join("image");
    let manifest = image::write(&image_folder);
    let ipxe = folder.path().join("ipxe");
    fs::create_dir(&ipxe).unwrap();
    for file in ["undionly.kpxe", "snponly.efi"] {
        fs::write(ipxe.join(file), [1; 3_000]).unwrap();
    }
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    // A port that only root takes, and nobody has.
    let port =
        (600..1_000).find(|port| std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok()).unwrap();
    let database = state.join("p.sqlite");
    let running = Running::start(
        folder.path(),
        &[
            "--user",
            "nobody",
            "--tftp-port",
            &port.to_string(),
            "--image",
            image_folder.to_str().unwrap(),
            "--ipxe",
            ipxe.to_str().unwrap(),
            "--database",
            database.to_str().unwrap(),
        ],
    );
    let threads = running.threads("Uid");
    assert!(threads.len() > 4, "{threads:?}");
    let four = format!("{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}");
    for field in ["Uid", "Gid"] {
        assert!(
            running.threads(field).iter().all(|ids| *ids == four),
            "{:?}",
            running.threads(field)
        );
    }
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let sets = running.threads(field);
        assert!(sets.iter().all(|set| set.trim_start_matches('0').is_empty()), "{field} {sets:?}");
    }
    assert!(running.threads("NoNewPrivs").iter().all(|set| set == "1"));
    assert!(!running.threads("Groups").iter().any(|groups| groups.split(' ').any(|id| id == "0")));

    // It works all the same: image, database, TFTP.
    let kernel = format!("/image/{}/vmlinuz", manifest.digest());
    assert_eq!(running.get(&kernel), (200, vec![7; 3_000]));
    assert_eq!(running.get("/boot/52-54-00-aa-00-01.ipxe?arch=x86_64").0, 200);
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.send_to(b"\0\x01snponly.efi\0octet\0", ("127.0.0.1", port)).unwrap();
    let mut block = [0; 600];
    let (length, _) = client.recv_from(&mut block).unwrap();
    assert_eq!((length, block[1], block[4]), (516, 3, 1));
    assert_eq!(running.get("/readyz").0, 200);
    // Events come into the store a moment after their answer.
    let known = || text(&running.get("/v1/machines").1).contains("52:54:00:aa:00:01");
    let mut moments = 0;
    while !known() {
        moments += 1;
        assert!(moments < 100, "the machine is not known");
        std::thread::sleep(Duration::from_millis(100));
    }
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&database).unwrap());
    assert_eq!(owner, NOBODY, "the next start can open it");

    // Files of everybody's that are none of ours.
    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("vmlinuz"), b"secret").unwrap();
    fs::rename(&image_folder, folder.path().join("gone")).unwrap();
    symlink(&foreign, &image_folder).unwrap();
    let (status, body) = running.get(&kernel);
    if running.banner.contains("Landlock ") && !running.banner.contains("no Landlock") {
        assert_eq!(status, 500, "{}", running.banner);
        assert!(!text(&body).contains("secret"));
        let (status, body) = running.get("/readyz");
        assert_eq!(status, 503);
        assert!(text(&body).contains("Permission denied"), "{}", text(&body));
    } else {
        println!("this kernel has no Landlock: {}", running.banner);
    }
}

#[test]
fn who_is_not_root_cannot_become_another_and_root_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let told = run(&["check", "--interface", "lo", "--user", "no-such-user"]);
    assert!(text(&told.stdout).contains("useradd --system no-such-user"), "{told:?}");
    let told = run(&["check", "--interface", "lo", "--user", "root"]);
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    let running = Running::start(folder.path(), &["--unconfined"]);
    assert!(running.banner.contains("--unconfined"), "{}", running.banner);
}
