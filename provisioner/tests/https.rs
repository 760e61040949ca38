//! HTTPS for real, on loopback: who trusts our CA is served, by TLS 1.2 and 1.3; certificates are
//! renewed and read again under a running server; what is wrong with an operator's is told.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use listener::{Handshakes, Limits, serve_tls};
use provisioner::{
    config::{Options, Part},
    dhcp::settings::HttpBoot,
    net,
    run::{self, Running},
    store::Place,
    tls::{
        Names, TlsError, WRITTEN,
        ca::{Ca, SERVER_SECONDS, fingerprint},
        keeper::{Keeper, Look, RENEW_SECONDS, Source},
        operator, server,
    },
};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    version::{TLS12, TLS13},
};
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A year after this program was written.
const NOW: u64 = WRITTEN + 365 * 86_400;
/// 1 July 2010: where many a machine's clock begins.
const OLD: u64 = 1_277_942_400;

fn client(
    root: Option<&CertificateDer<'static>>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(root.cloned());
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

async fn connect(
    address: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(config).connect(name, TcpStream::connect(address).await?).await
}

/// One request of an open connection; what is answered.
async fn get(stream: &mut TlsStream<TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap();
        answer.extend(&part[..count]);
        let text = String::from_utf8_lossy(&answer);
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let whole = text.split_once("\r\n\r\n").zip(length);
        if whole.is_some_and(|((_, body), length)| body.len() >= length.parse().unwrap()) {
            return text.into_owned();
        }
        assert!(count > 0, "cut: {text}");
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> String {
    fingerprint(&stream.get_ref().1.peer_certificates().unwrap()[0])
}

async fn running(folder: &Path) -> Running {
    run::start(options(folder)).await.unwrap()
}

fn options(folder: &Path) -> Options {
    Options {
        interface: Some("lo".into()),
        dhcp: Some(Part::Off),
        http_port: Some(0),
        https_port: Some(0),
        database: Some(Place::File(folder.join("p.sqlite"))),
        name: vec!["boot.example.org".into()],
        ..Options::default()
    }
}

fn our_ca(folder: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join("p.tls/ca.pem")).unwrap()
}

#[tokio::test]
async fn who_trusts_our_ca_is_served_by_both_versions_and_who_does_not_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(folder.path()).await;
    let ca = our_ca(folder.path());
    for version in [&TLS12, &TLS13] {
        let ours = net::ipv6("lo").unwrap().into_iter().map(|address| address.to_string());
        let ours = ours.chain(["127.0.0.1".into(), "boot.example.org".into()]);
        for name in ours {
            let name = name.as_str();
            let mut stream =
                connect(running.https, name, client(Some(&ca), version)).await.unwrap();
            let expected: ProtocolVersion = version.version;
            assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
            let answer = get(&mut stream, "/v1/status").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        }
        let strangers = client(None, version);
        let error = connect(running.https, "127.0.0.1", strangers).await.unwrap_err().to_string();
        assert!(error.contains("UnknownIssuer"), "{error}");
        let elsewhere = connect(running.https, "127.0.0.2", client(Some(&ca), version)).await;
        let error = elsewhere.unwrap_err().to_string();
        assert!(error.contains("not valid for name"), "{error}");
    }
    assert!(running.banner.contains(&format!("https://{}", running.https)), "{}", running.banner);
}

#[tokio::test]
async fn our_ca_is_given_out_by_plain_http_is_kept_over_restarts_and_is_ours_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let first = running(folder.path()).await;
    let ca = our_ca(folder.path());
    let http = first.http;
    let fetched = |path: &'static str| async move {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("http://{}{path}", http)).send().await;
        answer.unwrap().bytes().await.unwrap()
    };
    assert_eq!(fetched("/ca.der").await[..], ca[..]);
    assert_eq!(CertificateDer::from_pem_slice(&fetched("/ca.pem").await).unwrap(), ca);
    let mode =
        |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("p.tls"), mode("p.tls/ca.key")), (0o700, 0o600));
    let second = running(folder.path()).await;
    let mut stream = connect(second.https, "127.0.0.1", client(Some(&ca), &TLS13)).await.unwrap();
    get(&mut stream, "/ca.der").await;
    fs::remove_file(folder.path().join("p.tls/ca.key")).unwrap();
    let error = Ca::open_or_make(&folder.path().join("p.tls"), &Names::default()).err().unwrap();
    assert!(matches!(error, TlsError::NoCaKey { .. }), "{error}");
}

/// A client that is not ours: `openssl s_client` of TLS 1.2 with these suites, which asks for a page
/// and says what it was served by. It trusts one CA.
async fn openssl(to: SocketAddr, ca: &Path, suites: &str) -> String {
    let (to, ca) = (to.to_string(), ca.to_str().unwrap().to_owned());
    let fixed = ["s_client", "-tls1_2", "-verify_return_error", "-verify_ip", "127.0.0.1"];
    let mut child = tokio::process::Command::new("openssl")
        .args(fixed)
        .args(["-ign_eof", "-connect", &to, "-CAfile", &ca, "-cipher", suites])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    child.stdin.take().unwrap().write_all(request).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_curves_is_served_by_rsa_keys_where_firmware_boots_by_https() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join("p.tls").join(name);
    let usual = running(folder.path()).await;
    let refused = openssl(usual.https, &file("ca.pem"), "DHE-RSA-AES128-GCM-SHA256").await;
    assert!(refused.contains("alert handshake failure"), "{refused}");
    assert!(!file("ca-rsa.pem").exists(), "nobody waits for keys that nobody needs");
    let for_firmware = Options { http_boot: Some(HttpBoot::Https), ..options(folder.path()) };
    let running = run::start(for_firmware).await.unwrap();
    let served = async |ca: &str, suites: &str| openssl(running.https, &file(ca), suites).await;
    for (suites, key) in [
        ("DHE-RSA-AES128-GCM-SHA256", "DH, 3072 bits"),
        ("DHE-RSA-AES256-GCM-SHA384", "DH, 3072 bits"),
        ("DHE-RSA-AES128-SHA:DHE-RSA-AES256-GCM-SHA384:AES256-GCM-SHA384", "DH, 3072 bits"),
    ] {
        let said = served("ca-rsa.pem", suites).await;
        for text in [key, "Server public key is 3072 bit", "HTTP/1.1 200 OK"] {
            assert!(said.contains(text), "{suites}: no {text}: {said}");
        }
    }
    // Who knows curves is served as ever, whatever else it offers.
    let both = "DHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256";
    let said = served("ca.pem", both).await;
    assert!(said.contains("ECDHE-ECDSA-AES128-GCM-SHA256") && said.contains(" 200 OK"), "{said}");
    // Forward secrecy and a cipher that authenticates are not given up for anybody.
    for suites in ["AES256-GCM-SHA384", "DHE-RSA-AES256-SHA256"] {
        let said = served("ca-rsa.pem", suites).await;
        assert!(said.contains("alert handshake failure"), "{suites}: {said}");
    }
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |http| format!("http://{http}/ca-rsa.der");
    let given = client.get(url(running.http)).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(given[..], CertificateDer::from_pem_file(file("ca-rsa.pem")).unwrap()[..]);
    assert_eq!(client.get(url(usual.http)).send().await.unwrap().status(), 404);
    let mode = fs::metadata(file("ca-rsa.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn names(hosts: &[&str]) -> Names {
    Names {
        addresses: vec!["127.0.0.1".parse().unwrap()],
        hosts: hosts.iter().map(|&host| host.into()).collect(),
    }
}

fn made(folder: &Path, hosts: &[&str]) -> Arc<Ca> {
    Arc::new(Ca::open_or_make(&folder.join("tls"), &names(hosts)).unwrap())
}

/// Whether a client whose clock says `now` believes the certificate.
fn believes(ca: &Ca, certificate: &CertificateDer<'_>, now: u64) -> bool {
    let provider = Arc::new(default_provider());
    let roots = ca.roots().unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    verifier.verify_server_cert(certificate, &[], &name, &[], now).is_ok()
}

#[test]
fn a_clock_that_is_wrong_on_either_side_is_no_reason_to_disbelieve() {
    let folder = tempfile::tempdir().unwrap();
    let ca = made(folder.path(), &[]);
    let by_a_wrong_clock = ca.server(&names(&[]), OLD).unwrap();
    let ours = by_a_wrong_clock.end_entity_cert().unwrap();
    for (clock, believed) in [(0, true), (OLD, true), (WRITTEN + 86_400, true), (NOW, false)] {
        assert_eq!(believes(&ca, ours, clock), believed, "{clock}");
    }
    let by_a_right_one = ca.server(&names(&[]), NOW).unwrap();
    let ours = by_a_right_one.end_entity_cert().unwrap();
    let end = NOW + SERVER_SECONDS;
    for (clock, believed) in [(OLD, true), (NOW, true), (end - 1, true), (end + 1, false)] {
        assert_eq!(believes(&ca, ours, clock), believed, "{clock}");
    }
}

#[test]
fn our_ca_vouches_for_private_addresses_local_hosts_and_what_it_was_made_with_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ca = made(folder.path(), &["boot.example.org"]);
    let ask = |address: &str, host: &str| {
        let names = Names { addresses: vec![address.parse().unwrap()], hosts: vec![host.into()] };
        ca.server(&names, NOW).map(drop).map_err(|error| error.to_string())
    };
    for (address, host) in [
        ("10.1.2.3", "boot.example.org"),
        ("172.31.0.1", "provisioner.lan"),
        ("192.168.7.7", "a.b.home.arpa"),
        ("fd00::7", "localhost"),
    ] {
        ask(address, host).unwrap();
    }
    for (address, host, refused) in [
        ("10.1.2.3", "bank.example", "bank.example"),
        ("10.1.2.3", "example.org", "example.org"),
        ("172.32.0.1", "localhost", "172.32.0.1"),
        ("2001:db8::1", "localhost", "2001:db8::1"),
    ] {
        let error = ask(address, host).unwrap_err();
        assert!(error.contains(&format!("not for {refused}")), "{error}");
    }
}

struct Kept {
    _folder: TempDir,
    address: SocketAddr,
    ca: Arc<Ca>,
    keeper: Keeper,
}

async fn kept(source: impl FnOnce(&Path, Arc<Ca>) -> Source) -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let ca = made(folder.path(), &[]);
    let source = source(folder.path(), ca.clone());
    let (keeper, covered) = Keeper::start(source, Box::new(|| names(&[])), None, NOW).unwrap();
    assert_eq!(covered, [ServerName::try_from("127.0.0.1").unwrap()]);
    let config = Arc::new(server::config(&ca, keeper.shown()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().route("/", axum::routing::get(|| async { "here" }));
    tokio::spawn(serve_tls(listener, Limits::USUAL, Handshakes::USUAL, config, router));
    Kept { _folder: folder, address, ca, keeper }
}

#[tokio::test]
async fn our_certificate_is_renewed_well_before_it_ends_and_open_connections_go_on() {
    let mut site = kept(|_, ca| Source::Own(ca)).await;
    let client = client(Some(site.ca.certificate()), &TLS12);
    let mut before = connect(site.address, "127.0.0.1", client.clone()).await.unwrap();
    let first = shown(&before);
    let early = NOW + SERVER_SECONDS - RENEW_SECONDS;
    assert_eq!(site.keeper.look(NOW).unwrap(), Look::Kept);
    assert_eq!(site.keeper.look(early).unwrap(), Look::Kept);
    assert_eq!(site.keeper.look(early + 1).unwrap(), Look::Renewed);
    assert_eq!(site.keeper.look(early + 1).unwrap(), Look::Kept);
    assert!(get(&mut before, "/").await.ends_with("here"));
    let after = connect(site.address, "127.0.0.1", client).await.unwrap();
    assert_ne!(shown(&after), first);
}

/// An operator's CA of its own, and certificates by it.
struct Operator {
    root: CertificateDer<'static>,
    issuer: rcgen::Issuer<'static, KeyPair>,
}

impl Operator {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "an operator's CA");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { root, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Writes a certificate for `host` that ends with `year`, and its key.
    fn write(&self, folder: &Path, host: &str, year: i32) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = (folder.join("own.pem"), folder.join("own.key"));
        fs::write(&files.0, certificate.pem()).unwrap();
        fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }
}

#[tokio::test]
async fn an_operators_certificate_is_shown_and_read_again_when_its_files_change() {
    let operator = Operator::new();
    let mut place = PathBuf::new();
    let mut site = kept(|folder, _| {
        place = folder.to_path_buf();
        let (certificate, key) = operator.write(folder, "127.0.0.1", 2040);
        Source::Files { certificate, key }
    })
    .await;
    let client = client(Some(&operator.root), &TLS13);
    let show =
        || async { shown(&connect(site.address, "127.0.0.1", client.clone()).await.unwrap()) };
    let first = show().await;
    assert_eq!(site.keeper.look(NOW).unwrap(), Look::Kept);
    // Half of a change: the key is still the old one.
    let old_key = fs::read(place.join("own.key")).unwrap();
    operator.write(&place, "127.0.0.1", 2041);
    let new_key = fs::read(place.join("own.key")).unwrap();
    fs::write(place.join("own.key"), [&old_key[..], b"\n"].concat()).unwrap();
    let error = site.keeper.look(NOW).unwrap_err();
    assert!(matches!(error, TlsError::OtherKey { .. }), "{error}");
    assert_eq!(site.keeper.look(NOW).unwrap(), Look::Kept, "told once");
    assert_eq!(show().await, first, "what was good is shown still");
    fs::write(place.join("own.key"), new_key).unwrap();
    assert_eq!(site.keeper.look(NOW).unwrap(), Look::Renewed);
    assert_ne!(show().await, first);
}

#[test]
fn what_is_wrong_with_an_operators_files_is_told() {
    let operator = Operator::new();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ours = names(&["boot.example.org"]);
    let told = |certificate: &Path, key: &Path| {
        operator::read(certificate, key, &ours, NOW).unwrap_err().to_string()
    };
    let (certificate, key) = operator.write(folder, "127.0.0.1", 2040);
    let other = folder.join("other.key");
    fs::write(&other, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(told(&certificate, &other).contains("does not fit"), "{}", told(&certificate, &other));
    let text = told(&key, &certificate);
    assert!(text.contains("own.key holds none"), "{text}");
    let text = told(&folder.join("nosuch.pem"), &key);
    assert!(text.contains("nosuch.pem: No such file"), "{text}");
    let (certificate, key) = operator.write(folder, "127.0.0.1", 2020);
    let text = told(&certificate, &key);
    assert!(text.contains("it has expired: renew it"), "{text}");
    let (certificate, key) = operator.write(folder, "elsewhere.example", 2040);
    let text = told(&certificate, &key);
    assert!(text.contains("elsewhere.example") && text.contains("--name"), "{text}");
    let (certificate, key) = operator.write(folder, "boot.example.org", 2040);
    let brought = operator::read(&certificate, &key, &ours, NOW).unwrap();
    assert_eq!(brought.names, [ServerName::try_from("boot.example.org").unwrap()]);
}
