//! Where every byte of an image comes from, for machines: CycloneDX 1.5
//! (<https://cyclonedx.org/docs/1.5/json/>). Pure.
//!
//! Each file names its origin by `alia:origin`: another component of the same bill, or the builder
//! among the tools.

use crate::{
    golang::{self, Module},
    kernel::Kind,
    packages::Origin,
    report::{self, MADE, OWNER, Report},
};
use protocol::{Digest, boot::ImageManifest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// A crate that is linked into a program of the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// An SPDX expression; empty where it names none.
    pub licence: String,
    /// SHA-256 of its archive, hex; none for the workspace's own.
    pub sha256: Option<String>,
    /// The programs that it is in.
    pub programs: Vec<String>,
}

/// What compilers link into programs beside their crates: a standard library, a static libc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The programs that it is in.
    pub programs: Vec<String>,
}

/// What an image's programs and kernel were made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Sorted, each once.
    pub crates: Vec<Crate>,
    /// The texts of the crates' licences, each once, with the crates that have it: `NAME VERSION`.
    pub licences: BTreeMap<String, Vec<String>>,
    /// The compiler's own words: `rustc 1.95.0 (…)`.
    pub compilers: Vec<String>,
    /// What those compilers added.
    pub runtimes: Vec<Runtime>,
    /// Programs in Go, by name.
    pub go: BTreeMap<String, golang::Build>,
}

/// Names of components that are of no package, crate or module.
const BUILDER: &str = "builder";
const OF_OWNER: &str = "owner";

/// The bill of materials. The same image gives the same bytes: it has no time of its own, and its
/// serial number is the manifest's digest.
pub fn bill(manifest: &ImageManifest, report: &Report, suite: &str, origins: &Origins) -> Value {
    let digest = manifest.digest();
    let packages = report
        .packages
        .iter()
        .map(|package| of_package(package, suite, report.packages.first() == Some(package)));
    let crates = origins.crates.iter().map(of_crate);
    let modules = origins.go.iter().flat_map(|(program, build)| of_go(program, build));
    let runtimes = origins.runtimes.iter().map(of_runtime);
    let owner = json!({
        "type": "data",
        "bom-ref": OF_OWNER,
        "name": OWNER,
        "description": "made of the keys that lie with whoever builds: the root that releases are \
                        trusted by, signatures, certificates",
    });
    let of = |from: &str| reference(from, report, origins);
    let beside = manifest.files().map(|file| {
        let from = report.beside.get(&file.file).map_or(MADE, String::as_str);
        let mut more = vec![property("alia:bytes", file.bytes)];
        if file == &manifest.kernel {
            more.push(property("alia:how", how(report.kernel)));
        }
        let hash = json!({"alg": "BLAKE3", "content": file.digest.to_string()});
        of_file(&file.file, &file.file, hash, (from, of(from)), more)
    });
    let files = report.files.iter().map(|file| {
        let report::File { place, path, from, .. } = file;
        let name = format!("/{path}");
        let hash = json!({"alg": "SHA-256", "content": file.sha256});
        let more = vec![property("alia:bytes", file.bytes), property("alia:in", place.name())];
        of_file(&format!("{}:{name}", place.name()), &name, hash, (from, of(from)), more)
    });
    let parts = packages.chain(crates).chain(modules).chain(runtimes).chain([owner]);
    let compilers = origins.compilers.iter().map(|said| {
        let (name, version) = said.split_once(' ').unwrap_or((said.as_str(), ""));
        json!({"type": "application", "name": name, "version": version})
    });
    let go = origins
        .go
        .values()
        .map(|build| json!({"type": "application", "name": "go", "version": go_version(build)}));
    let builder = json!({
        "type": "application",
        "bom-ref": BUILDER,
        "name": "aliaOS image builder",
        "version": env!("CARGO_PKG_VERSION"),
    });
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": serial(&digest),
        "version": 1,
        "metadata": {
            "component": {
                "type": "operating-system",
                "bom-ref": image_reference(&digest),
                "name": "aliaOS",
                "version": manifest.version,
            },
            "tools": {"components": compilers.chain(go).chain([builder]).collect::<Vec<_>>()},
            "properties": [
                property("alia:manifest", digest),
                property("alia:kernel-release", &manifest.kernel_release),
                property("alia:kernel-configuration-sha256", &report.kernel_configuration),
            ],
        },
        "components": parts.chain(beside).chain(files).collect::<Vec<_>>(),
    })
}

/// A file that is put around an image for firmware, or beside it on a stick.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
    /// The package that it is of, [`MADE`] or [`OWNER`].
    pub from: &'a str,
}

/// The bill of what firmware starts, named and with its content: that of the image in it, and what
/// is put around that, with its packages. None where `image` is no bill of the manifest's image.
pub fn around(
    image: &Value,
    manifest: &ImageManifest,
    (name, content): (&str, &[u8]),
    files: &[Around<'_>],
    packages: &[&Origin],
    suite: &str,
) -> Option<Value> {
    let component = &image["metadata"]["component"];
    if component["bom-ref"] != image_reference(&manifest.digest()) {
        return None;
    }
    let mut components = image["components"].as_array()?.clone();
    components.push(component.clone());
    components.extend(packages.iter().map(|package| of_package(package, suite, false)));
    components.extend(files.iter().map(|file| {
        let origin = match file.from {
            MADE => Some(BUILDER.into()),
            OWNER => Some(OF_OWNER.into()),
            from => packages.iter().find(|package| package.name == from).map(|p| deb(&p.name)),
        };
        let name = format!("around:{}", file.name);
        let more = vec![property("alia:bytes", file.bytes.len())];
        of_file(&name, file.name, sha256(file.bytes), (file.from, origin), more)
    }));
    let mut bill = image.clone();
    bill["serialNumber"] = json!(serial(&Digest::of_bytes(content)));
    bill["metadata"]["component"] = json!({
        "type": "file",
        "bom-ref": "whole",
        "name": name,
        "version": manifest.version,
        "hashes": [sha256(content)],
    });
    bill["components"] = Value::Array(components);
    Some(bill)
}

fn serial(digest: &Digest) -> String {
    format!("urn:uuid:{}", crate::root::uuid(digest))
}

fn image_reference(digest: &Digest) -> String {
    format!("image:{digest}")
}

fn property(name: &str, value: impl ToString) -> Value {
    json!({"name": name, "value": value.to_string()})
}

fn sha256(bytes: &[u8]) -> Value {
    json!({"alg": "SHA-256", "content": format!("{:x}", Sha256::digest(bytes))})
}

/// How the kernel came of its package.
fn how(kind: Kind) -> &'static str {
    match kind {
        Kind::Prebuilt => "as its package has it",
        Kind::Source => {
            "built here of the source archive in its package, with the configuration of this bill's \
             metadata; it trusts the certificate of the builder's key for modules"
        }
    }
}

/// The component that bytes come from, by what a report says of them; none where nobody told of it.
fn reference(from: &str, report: &Report, origins: &Origins) -> Option<String> {
    match from {
        MADE => return Some(BUILDER.into()),
        OWNER => return Some(OF_OWNER.into()),
        _ => {}
    }
    let package = report.packages.iter().find(|package| package.name == from);
    // The workspace's own: a program has its crate's name.
    let own = |linked: &&Crate| linked.name == from && linked.sha256.is_none();
    let program = || origins.crates.iter().find(own).map(crate_reference);
    let go = || Some(go_reference(from, origins.go.get(from)?.modules.first()?));
    package.map(|package| deb(&package.name)).or_else(program).or_else(go)
}

/// A file, with where it is from in words and as a component.
fn of_file(
    reference: &str,
    name: &str,
    hash: Value,
    (from, origin): (&str, Option<String>),
    more: Vec<Value>,
) -> Value {
    let mut properties = vec![property("alia:from", from)];
    properties.extend(origin.map(|origin| property("alia:origin", origin)));
    properties.extend(more);
    json!({
        "type": "file",
        "bom-ref": format!("file:{reference}"),
        "name": name,
        "hashes": [hash],
        "properties": properties,
    })
}

/// Packages whose bytes are not free, and whose licence this is. They are fetched by whoever builds.
const PROPRIETARY: [(&str, &str); 3] =
    [("firmware-nvidia-gsp", NVIDIA), ("libcuda1", NVIDIA), ("libnvidia-ml1", NVIDIA)];
const NVIDIA: &str = "NVIDIA Driver License Agreement (proprietary)";

fn deb(name: &str) -> String {
    format!("deb:{name}")
}

fn of_package(package: &Origin, suite: &str, is_kernel: bool) -> Value {
    let Origin { name, version, sha256, source, .. } = package;
    let purl =
        format!("pkg:deb/debian/{}@{}?arch=amd64&distro={suite}", escaped(name), escaped(version));
    let kind = match name {
        _ if is_kernel => "operating-system",
        _ if name.starts_with("firmware-") => "firmware",
        _ => "library",
    };
    // `pool/non-free/n/…`: main, contrib, non-free or non-free-firmware.
    let area = package.filename.split('/').nth(1).unwrap_or_default();
    let mut component = json!({
        "type": kind,
        "bom-ref": deb(name),
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        "properties": [
            property("alia:source-package", source),
            property("alia:archive-area", area),
        ],
    });
    if let Some((_, licence)) = PROPRIETARY.iter().find(|(package, _)| package == name) {
        component["licenses"] = json!([{"license": {"name": licence}}]);
    }
    component
}

fn crate_reference(linked: &Crate) -> String {
    format!("crate:{}@{}", linked.name, linked.version)
}

fn of_crate(linked: &Crate) -> Value {
    let Crate { name, version, licence, sha256, programs } = linked;
    let mut component = json!({
        "type": "library",
        "bom-ref": crate_reference(linked),
        "name": name,
        "version": version,
        "purl": format!("pkg:cargo/{}@{}", escaped(name), escaped(version)),
        "properties": [property("alia:linked-into", programs.join(", "))],
    });
    if !licence.is_empty() {
        component["licenses"] = json!([{"expression": licence}]);
    }
    if let Some(sha256) = sha256 {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
    }
    component
}

fn of_runtime(runtime: &Runtime) -> Value {
    let Runtime { name, version, programs } = runtime;
    json!({
        "type": "library",
        "bom-ref": format!("runtime:{name}"),
        "name": name,
        "version": version,
        "properties": [property("alia:linked-into", programs.join(", "))],
    })
}

fn go_version(build: &golang::Build) -> &str {
    build.go.trim_start_matches("go")
}

fn go_reference(program: &str, module: &Module) -> String {
    format!("go:{program}:{}@{}", module.path, module.version)
}

/// The modules of a program in Go, and Go's standard library.
fn of_go(program: &str, build: &golang::Build) -> Vec<Value> {
    let version = go_version(build).into();
    let standard = Module { path: "std".into(), version, sum: String::new() };
    let of = |(at, module): (usize, &Module)| {
        // Package URLs have Go's paths in small letters, each part escaped by itself.
        let path = module.path.to_lowercase();
        let path: Vec<String> = path.split('/').map(escaped).collect();
        let mut properties = vec![property("alia:linked-into", program)];
        // Not a file's digest, but Go's own of all files of the module.
        if !module.sum.is_empty() {
            properties.push(property("alia:go-sum", &module.sum));
        }
        json!({
            "type": if at == 0 { "application" } else { "library" },
            "bom-ref": go_reference(program, module),
            "name": module.path,
            "version": module.version,
            "purl": format!("pkg:golang/{}@{}", path.join("/"), escaped(&module.version)),
            "properties": properties,
        })
    };
    build.modules.iter().chain([&standard]).enumerate().map(of).collect()
}

/// Percent-encoded as a part of a package URL has to be.
fn escaped(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let mut escaped = String::new();
    for c in text.chars() {
        match plain(c) {
            true => escaped.push(c),
            false => {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    escaped.push_str(&format!("%{byte:02X}"));
                }
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{File, Place};
    use protocol::boot::{ImageFile, Microcode, RootImage, Verity};

    fn manifest() -> ImageManifest {
        let file = |name: &str| ImageFile { file: name.into(), digest: Digest([1; 32]), bytes: 1 };
        ImageManifest {
            version: "0.1.0".into(),
            kernel_release: "6".into(),
            kernel: file("vmlinuz"),
            initramfs: file("initramfs.zst"),
            root: RootImage { file: file("root.erofs"), verity: Verity::default() },
            microcode: Microcode { amd: Some(file("microcode-amd.cpio")), intel: None },
            unix_time: 1,
        }
    }

    fn package(name: &str, version: &str) -> Origin {
        Origin {
            name: name.into(),
            version: version.into(),
            sha256: "ab".repeat(32),
            source: name.into(),
            filename: "pool/non-free/n/x.deb".into(),
            bytes: 1,
            unix_time: 1,
        }
    }

    fn linked(name: &str, sha256: Option<String>) -> Crate {
        Crate {
            name: name.into(),
            version: "1.8.7".into(),
            licence: "CC0-1.0 OR Apache-2.0".into(),
            sha256,
            programs: vec!["compute".into(), "node-init".into()],
        }
    }

    /// A bill with a file of every origin that there is.
    fn a_bill() -> Value {
        let mut report = Report {
            packages: vec![
                package("linux-source-6", "6.1+deb13"),
                package("amd64-microcode", "2:2.41~1"),
                package("libcuda1", "550"),
            ],
            kernel: Kind::Source,
            ..Report::default()
        };
        report.stands_beside("vmlinuz", "linux-source-6");
        report.stands_beside("microcode-amd.cpio", "amd64-microcode");
        let index = "lib/modules/6/modules.dep";
        for (place, path, from) in [
            (Place::Initramfs, "init", "node-init"),
            (Place::Initramfs, index, MADE),
            (Place::Initramfs, "etc/alia/root.json", OWNER),
            (Place::Root, index, MADE),
            (Place::Root, "usr/lib/libcuda.so.1", "libcuda1"),
            (Place::Root, "usr/bin/cometbft", "cometbft"),
        ] {
            let (path, sha256, from) = (path.into(), "cd".repeat(32), from.into());
            report.files.push(File { place, path, bytes: 3, sha256, from });
        }
        let module = |path: &str, version: &str| Module {
            path: path.into(),
            version: version.into(),
            sum: "h1:x=".into(),
        };
        let modules =
            vec![module("a.test/Comet", "v0.38.25"), module("b.test/y", "v2+incompatible")];
        let build = golang::Build { go: "go1.26.8".into(), modules };
        let origins = Origins {
            crates: vec![linked("blake3", Some("ef".repeat(32))), linked("node-init", None)],
            licences: BTreeMap::new(),
            compilers: vec!["rustc 1.95.0 (abc 2026-01-01)".into()],
            runtimes: vec![Runtime {
                name: "libc6-dev".into(),
                version: "2.41".into(),
                programs: vec!["node-init".into()],
            }],
            go: BTreeMap::from([("cometbft".into(), build)]),
        };
        bill(&manifest(), &report, "trixie", &origins)
    }

    fn parts(bill: &Value) -> &Vec<Value> {
        bill["components"].as_array().unwrap()
    }

    fn named<'a>(bill: &'a Value, reference: &str) -> &'a Value {
        let found = parts(bill).iter().find(|part| part["bom-ref"] == reference);
        found.unwrap_or_else(|| panic!("no {reference}"))
    }

    fn value<'a>(part: &'a Value, property: &str) -> &'a str {
        let mut all = part["properties"].as_array().unwrap().iter();
        let found = all.find(|each| each["name"] == property);
        found.and_then(|each| each["value"].as_str()).unwrap_or("none")
    }

    /// All that a bill names, each once.
    fn references(bill: &Value) -> Vec<&str> {
        let tools = bill["metadata"]["tools"]["components"].as_array().unwrap();
        let component = [&bill["metadata"]["component"]];
        let all = tools.iter().chain(component).chain(parts(bill));
        let mut references: Vec<&str> = all.filter_map(|part| part["bom-ref"].as_str()).collect();
        let count = references.len();
        references.sort_unstable();
        references.dedup();
        assert_eq!(references.len(), count, "each is named by a name of its own");
        references
    }

    #[test]
    fn a_bill_names_packages_crates_modules_and_compilers() {
        let bill = a_bill();
        let kernel = named(&bill, "deb:linux-source-6");
        assert_eq!(kernel["type"], "operating-system");
        let purl = "pkg:deb/debian/linux-source-6@6.1%2Bdeb13?arch=amd64&distro=trixie";
        assert_eq!(kernel["purl"], purl);
        assert!(kernel.get("licenses").is_none());
        let microcode = named(&bill, "deb:amd64-microcode");
        let purl = "pkg:deb/debian/amd64-microcode@2%3A2.41~1?arch=amd64&distro=trixie";
        assert_eq!(microcode["purl"], purl);
        let cuda = named(&bill, "deb:libcuda1");
        let licence = cuda["licenses"][0]["license"]["name"].as_str().unwrap();
        assert!(licence.contains("proprietary"), "{licence}");
        assert_eq!(value(cuda, "alia:archive-area"), "non-free");
        assert_eq!(named(&bill, "crate:blake3@1.8.7")["purl"], "pkg:cargo/blake3@1.8.7");
        let main = named(&bill, "go:cometbft:a.test/Comet@v0.38.25");
        assert_eq!(main["purl"], "pkg:golang/a.test/comet@v0.38.25");
        assert_eq!(main["type"], "application");
        assert_eq!(value(main, "alia:go-sum"), "h1:x=");
        let other = named(&bill, "go:cometbft:b.test/y@v2+incompatible");
        assert_eq!(other["purl"], "pkg:golang/b.test/y@v2%2Bincompatible");
        assert_eq!(named(&bill, "go:cometbft:std@1.26.8")["purl"], "pkg:golang/std@1.26.8");
        assert_eq!(value(named(&bill, "runtime:libc6-dev"), "alia:linked-into"), "node-init");
        let tools = bill["metadata"]["tools"]["components"].as_array().unwrap();
        let tools: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(tools, ["rustc", "go", "aliaOS image builder"]);
    }

    #[test]
    fn every_file_of_an_image_and_beside_it_has_an_origin_in_its_bill() {
        let bill = a_bill();
        let references = references(&bill);
        for part in parts(&bill).iter().filter(|part| part["type"] == "file") {
            assert!(references.contains(&value(part, "alia:origin")), "{part}");
        }
        for (file, wanted) in [
            ("vmlinuz", "deb:linux-source-6"),
            ("initramfs.zst", "builder"),
            ("root.erofs", "builder"),
            ("microcode-amd.cpio", "deb:amd64-microcode"),
            ("initramfs:/init", "crate:node-init@1.8.7"),
            ("initramfs:/lib/modules/6/modules.dep", "builder"),
            ("initramfs:/etc/alia/root.json", "owner"),
            ("root:/lib/modules/6/modules.dep", "builder"),
            ("root:/usr/lib/libcuda.so.1", "deb:libcuda1"),
            ("root:/usr/bin/cometbft", "go:cometbft:a.test/Comet@v0.38.25"),
        ] {
            let part = named(&bill, &format!("file:{file}"));
            assert_eq!(value(part, "alia:origin"), wanted, "{file}");
        }
        let kernel = named(&bill, "file:vmlinuz");
        assert!(value(kernel, "alia:how").contains("source archive"), "{kernel}");
        assert_eq!(kernel["hashes"][0]["content"], Digest([1; 32]).to_string());
    }

    #[test]
    fn what_is_put_around_an_image_has_its_origin_too() {
        let image = a_bill();
        let stub = package("systemd-boot-efi", "257");
        let files = [
            Around { name: "linuxx64.efi.stub", bytes: b"stub", from: "systemd-boot-efi" },
            Around { name: "command line", bytes: b"panic=10", from: MADE },
            Around { name: "certificate", bytes: b"db", from: OWNER },
        ];
        let made = ("aliaos.efi", b"all of it".as_slice());
        let bill = around(&image, &manifest(), made, &files, &[&stub], "trixie").unwrap();
        assert_eq!(bill["metadata"]["component"]["name"], "aliaos.efi");
        assert_ne!(bill["serialNumber"], image["serialNumber"]);
        let references = references(&bill);
        for part in parts(&bill).iter().filter(|part| part["type"] == "file") {
            assert!(references.contains(&value(part, "alia:origin")), "{part}");
        }
        let stub = named(&bill, "file:around:linuxx64.efi.stub");
        assert_eq!(value(stub, "alia:origin"), "deb:systemd-boot-efi");
        assert_eq!(parts(&bill).len(), parts(&image).len() + 5);
        let another = ImageManifest { unix_time: 2, ..manifest() };
        assert!(around(&image, &another, made, &files, &[], "trixie").is_none());
        assert!(around(&json!([]), &another, made, &files, &[], "trixie").is_none());
    }
}
