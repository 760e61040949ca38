//! What firmware and iPXE fetch.

use super::{App, Problem, file, mac, watched::Watched};
use crate::{
    life,
    machine::{Mac, usable_uuid},
    progress::{self, Mark},
    script,
    store::Sign,
    timeline::{Kind, Record, Sighting, seen_at, unix_ms},
};
use axum::{
    extract::{ConnectInfo, Path, Query, Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::release::BUNDLE_FILE;
use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

const SCRIPT: [(header::HeaderName, &str); 1] =
    [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
/// The longest serial number kept.
const MAX_SERIAL_LEN: usize = 64;

/// `GET /boot.ipxe`.
pub(super) async fn entry(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Response {
    (SCRIPT, script::entry(app.setup.base(peer))).into_response()
}

/// What iPXE says of the machine. Every part may be missing or nonsense.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Told {
    uuid: String,
    serial: String,
    arch: String,
    platform: String,
}

/// `GET /boot/{mac}.ipxe`.
pub(super) async fn machine(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    Query(told): Query<Told>,
) -> Result<Response, Problem> {
    let name = name.strip_suffix(".ipxe").unwrap_or(&name);
    let mac = mac(name)?;
    let sighting = Sighting {
        boots: true,
        uuid: usable_uuid(&told.uuid),
        serial: serial(&told.serial),
        firmware: match told.platform.as_str() {
            "pcbios" => Some("bios"),
            "efi" => Some("uefi"),
            _ => None,
        },
        boot_mode: None,
        address: seen_at(peer),
    };
    let from = seen_at(peer);
    // A store that fails says so elsewhere, and is no reason to boot nothing.
    let caller = app.store.run(move |store| store.caller(mac, from)).await;
    let (life, believed) = caller.unwrap_or_default();
    if believed {
        app.peers.tracker().gone(mac, None);
    }
    if let Some(life) = life.filter(|life| life::is_barred(life.state)) {
        let text = format!("no boot script: the machine is {}", life.state.as_str());
        let record = Record::new(mac, Kind::Refused, text);
        app.timeline.record(record.sighting(sighting).claimed(peer));
        return Ok((SCRIPT, script::barred(app.setup.base(peer), life.state)).into_response());
    }
    // An iPXE that names no architecture was asked by hand; the kernel will tell.
    let supported = matches!(told.arch.as_str(), "" | "i386" | "x86_64");
    let (script, record) = if supported {
        let own = app.configured.own(mac).await.settings;
        let flavour = own.flavour.as_deref();
        let image = app.setup.image_of(flavour);
        let digest = image.map(|image| image.digest);
        let attempt = app
            .attempt_of(digest, move |store, image| {
                store.count_attempt(mac, image, Sign::Script, from, unix_ms())
            })
            .await;
        let script = script::machine(&app.setup, app.setup.base(peer), mac, &own, attempt);
        let mut what = image.map_or("no image yet".to_string(), |image| {
            format!("image {} ({})", image.manifest.version, image.digest.short())
        });
        if let Some(flavour) = flavour {
            what = format!("{what}, flavour {flavour}");
        }
        let row = match attempt {
            1 => String::new(),
            _ if script::is_slowed(attempt) => format!(
                ", boot {attempt} in a row that none before it came to stand: it waits {} minutes \
                 now; see the machine's screen or serial line, mend it or give it another image",
                script::SLOWED
            ),
            _ => format!(", boot {attempt} in a row that none before it came to stand"),
        };
        let on = format!("iPXE for {} on {}", or_unknown(&told.arch), or_unknown(&told.platform));
        let done = Mark::Done(progress::SCRIPT, what.clone());
        (
            script,
            Record::new(mac, Kind::Http, format!("boot script for {on}: {what}{row}"))
                .marks([done]),
        )
    } else {
        let arch: String = told.arch.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        let text = format!(
            "not served: its iPXE is for {arch}, and there are images for x86-64 alone; \
             take it off this network or boot it otherwise"
        );
        (script::unsupported(&arch), Record::new(mac, Kind::Refused, text))
    };
    app.timeline.record(record.sighting(sighting).claimed(peer));
    Ok((SCRIPT, script).into_response())
}

/// Whose a file is, where the URL tells.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Whose {
    mac: String,
}

/// `GET /ipxe/{file}`: iPXE for UEFI HTTP boot.
pub(super) async fn ipxe(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(file): Path<String>,
    Query(whose): Query<Whose>,
    request: Request,
) -> Result<Response, Problem> {
    let (folder, files) = &app.ipxe;
    if !files.contains(&file) {
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("iPXE has no file {file:?} here")));
    }
    let fetch = Fetch { path: folder.join(&file), stage: "tftp", file, peer };
    fetch.program(&app, whose.mac.parse().ok(), request).await
}

/// `GET /uki/{file}`: the signed UKI for UEFI HTTP boot.
pub(super) async fn uki(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(file): Path<String>,
    Query(whose): Query<Whose>,
    request: Request,
) -> Result<Response, Problem> {
    let path = app.uki.clone().filter(|_| file == script::UKI_FILE).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, format!("there is no UKI {file:?} here"))
    })?;
    let fetch = Fetch { path, stage: progress::UKI, file, peer };
    fetch.program(&app, whose.mac.parse().ok(), request).await
}

/// `GET /image/{digest}/{file}`.
pub(super) async fn image(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((digest, file)): Path<(String, String)>,
    Query(whose): Query<Whose>,
    request: Request,
) -> Result<Response, Problem> {
    let image = app.setup.image_by(&digest);
    let path = image.and_then(|image| Some((image, image.path(&file)?)));
    let Some((image, path)) = path else {
        let text = if image.is_some() && file == BUNDLE_FILE {
            "the image served here was never released: sign it by `cargo xtask release`"
        } else {
            "no such file of the image served here; boot again for the one that is"
        };
        return Err(Problem::new(StatusCode::NOT_FOUND, text));
    };
    let stage = match &image.manifest {
        manifest if file == manifest.kernel.file => "kernel",
        manifest if file == manifest.root.file.file => "root",
        _ if file == crate::image::MANIFEST => "release",
        _ if file.starts_with("microcode-") => "microcode",
        _ => "initramfs",
    };
    // What became of the release is the node's to report: it checks it.
    let mac = whose.mac.parse().ok().filter(|_| file != BUNDLE_FILE);
    Fetch { path, stage, file, peer }.run(&app, mac, request).await
}

/// One file on its way to a machine.
struct Fetch {
    path: PathBuf,
    stage: &'static str,
    file: String,
    peer: SocketAddr,
}

impl Fetch {
    /// An EFI program. By its type EDK2 knows one from a disk image.
    async fn program(
        self,
        app: &Arc<App>,
        mac: Option<Mac>,
        request: Request,
    ) -> Result<Response, Problem> {
        let mut response = self.run(app, mac, request).await?;
        let kind = header::HeaderValue::from_static("application/efi");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(response)
    }

    async fn run(
        self,
        app: &Arc<App>,
        mac: Option<Mac>,
        request: Request,
    ) -> Result<Response, Problem> {
        let whole = !request.headers().contains_key(header::RANGE);
        let gets = request.method() == Method::GET;
        let Self { path, stage, file, peer } = self;
        let response = file::response(&path, request).await.map_err(|error| {
            tracing::error!("{}: {error}", path.display());
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{file} cannot be read"))
        })?;
        let Some(mac) = mac.filter(|_| gets && response.status().is_success()) else {
            return Ok(response);
        };
        let length: u64 = response
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let sighting = Sighting { address: seen_at(peer), ..Sighting::default() };
        let record = move |text: String, mark: Mark| {
            let marks = Some(mark).filter(|_| whole);
            Record::new(mac, Kind::Http, text).marks(marks).sighting(sighting.clone()).claimed(peer)
        };
        app.timeline.record(record(format!("{file}: fetching {length} bytes"), Mark::Began(stage)));
        let (timeline, began) = (app.timeline.clone(), Instant::now());
        let over = move |taken: u64| {
            let seconds = began.elapsed().as_secs_f64();
            let rate = taken as f64 / 1e6 / seconds.max(1e-3);
            let text = format!("{file}: {taken} bytes in {seconds:.3} s, {rate:.1} MB/s");
            timeline.record(if taken == length {
                record(text.clone(), Mark::Done(stage, text))
            } else {
                let text = format!("{text}, then the machine went away ({length} were to come)");
                record(text.clone(), Mark::Failed(stage, text))
            });
        };
        Ok(response.map(|body| Watched::body(body, over)))
    }
}

fn serial(text: &str) -> Option<String> {
    let text: String =
        text.trim().chars().filter(|c| !c.is_control()).take(MAX_SERIAL_LEN).collect();
    (!text.is_empty()).then_some(text)
}

fn or_unknown(text: &str) -> String {
    let text: String = text.chars().filter(|c| c.is_ascii_graphic()).take(16).collect();
    if text.is_empty() { "unknown".into() } else { text }
}
