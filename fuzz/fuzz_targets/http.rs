//! Requests to the provisioner's HTTP server: no path and no body gives out what is not served.
#![no_main]

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Method, Request, StatusCode, header},
};
use fuzz::{parts, target};
use http_body_util::BodyExt;
use protocol::{
    Digest, SecretKey, Signed,
    boot::{ImageFile, ImageManifest, Microcode, RootImage, Verity},
    node::Delegation,
};
use provisioner::{
    counters::Counters,
    enrol::Authority,
    groups::Configured,
    http::{self, App},
    image::Image,
    peers::{Near, Peers},
    script::Setup,
    store::{Place, Store},
    timeline::Timeline,
    tls::{Names, ca::Ca},
};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};
use tempfile::TempDir;
use tower::ServiceExt;

/// Stands in files beside those that are served.
const SECRET: &[u8] = b"nobody is given this";
/// The longest answer that is gathered: the page of a store that other inputs filled.
const MAX_ANSWER: usize = 4 << 20;

struct Site {
    router: axum::Router,
    runtime: tokio::runtime::Runtime,
    _folder: TempDir,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let router = http::router(app(folder.path()));
    Site { router, runtime, _folder: folder }
});

fn app(folder: &Path) -> Arc<App> {
    for below in ["image", "ipxe"] {
        fs::create_dir(folder.join(below)).expect("a folder");
        fs::write(folder.join(below).join("key"), SECRET).expect("a file");
    }
    fs::write(folder.join("key"), SECRET).expect("a file");
    let file = |name: &str| {
        fs::write(folder.join("image").join(name), name).expect("a file");
        let digest = Digest::of_bytes(name.as_bytes());
        ImageFile { file: name.into(), digest, bytes: name.len() as u64 }
    };
    let manifest = ImageManifest {
        version: "0.1.0".into(),
        kernel_release: "6.12.0".into(),
        kernel: file("vmlinuz"),
        initramfs: file("initramfs.zst"),
        root: RootImage { file: file("root.erofs"), verity: Verity::default() },
        microcode: Microcode { amd: Some(file("microcode-amd.cpio")), intel: None },
        unix_time: 1_700_000_000,
    };
    let json = serde_json::to_vec(&manifest).expect("plain JSON");
    fs::write(folder.join("image/manifest.json"), json).expect("a file");
    fs::write(folder.join("ipxe/snponly.efi"), "iPXE").expect("a file");
    fs::write(folder.join("aliaos.efi"), "UKI").expect("a file");

    let store = Store::open(&Place::File(folder.join("store")), BTreeMap::new()).expect("a store");
    let store = Arc::new(store);
    let counters = Arc::new(Counters::default());
    let timeline = Timeline::start(store.clone(), counters.clone()).expect("a thread");
    let chain: protocol::ChainId = fuzz::chain::CHAIN.parse().expect("a chain id");
    let (key, owner) = (SecretKey::from_seed([8; 32]), SecretKey::from_seed([7; 32]));
    let delegation = Signed::sign(&chain, Delegation { delegate: key.public() }, &owner);
    let configured = Configured::open(store.clone(), BTreeMap::new()).expect("a store");
    Arc::new(App {
        store,
        configured: Arc::new(configured),
        timeline,
        counters,
        setup: Setup {
            base_url6: None,
            base_url: "http://10.77.0.1:8080".into(),
            image: Some(Image::open(&folder.join("image")).expect("an image")),
            key: Some(key.public()),
            chain: Some(chain.clone()),
            consoles: vec!["ttyS0".into()],
            arguments: vec![],
            flavours: BTreeMap::new(),
        },
        ipxe: (folder.join("ipxe"), vec!["snponly.efi".into()]),
        uki: Some(folder.join("aliaos.efi")),
        authority: Some(Authority {
            chain,
            key,
            delegation,
            ledgers: vec![],
            parameter_servers: vec![],
            operators: vec![],
            approval: provisioner::config::Approval::Automatic,
            time_servers: vec![],
        }),
        ledger: provisioner::ledger::Work::new(tokio::sync::watch::channel(Arc::default()).1),
        upstream: tokio::sync::watch::channel(Arc::default()).1,
        dhcp: "off",
        ca: Arc::new(Ca::open_or_make(&folder.join("tls"), &Names::default()).expect("a CA")),
        ca_rsa: None,
        own_certificate: true,
        https: "https://10.77.0.1:8443".into(),
        https_port: 8443,
        watchers: App::places(),
        peers: Peers::new([].into_iter(), Near::default()),
        miners: None,
    })
}

target!(|bytes: &[u8]| {
    let [path, head, body] = parts(bytes);
    let mut request = Request::builder().uri(path);
    if !head.is_empty() {
        request = request.header(header::RANGE, head).header(protocol::version::HEADER, head);
    }
    if !body.is_empty() {
        request = request.method(Method::POST).header(header::CONTENT_TYPE, "application/json");
    }
    // What is no URI never reaches the routes.
    let Ok(mut request) = request.body(Body::from(body.to_vec())) else { return };
    let peer = std::net::SocketAddr::from(([10, 77, 0, 9], 1000));
    request.extensions_mut().insert(ConnectInfo(peer));
    let shown = format!("{request:?}");
    SITE.runtime.block_on(async {
        let answer = SITE.router.clone().oneshot(request).await.expect("routes always answer");
        assert_ne!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR, "{shown}");
        let kind = answer.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            // It has no end.
            return;
        }
        let answer = answer.into_body().collect().await.expect("a body").to_bytes();
        assert!(answer.len() < MAX_ANSWER, "{} bytes for {shown}", answer.len());
        // Unless it was asked for by its content: errors quote.
        let has = |text: &[u8]| text.windows(SECRET.len()).any(|part| part == SECRET);
        assert!(!has(&answer) || has(bytes), "{shown}");
    });
});
