//! Where every byte of an image comes from, for machines: CycloneDX 1.5
//! (<https://cyclonedx.org/docs/1.5/json/>). Pure.

use crate::{packages::Origin, report::Report};
use protocol::boot::ImageManifest;
use serde_json::{Value, json};
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

/// What an image's programs and kernel were made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Sorted, each once.
    pub crates: Vec<Crate>,
    /// The texts of the crates' licences, each once, with the crates that have it: `NAME VERSION`.
    pub licences: BTreeMap<String, Vec<String>>,
    /// The compiler's own words: `rustc 1.95.0 (…)`.
    pub compilers: Vec<String>,
}

/// The bill of materials. The same image gives the same bytes: it has no time of its own, and its
/// serial number is the manifest's digest.
pub fn bill(manifest: &ImageManifest, report: &Report, suite: &str, origins: &Origins) -> Value {
    let digest = manifest.digest().to_string();
    let uuid = crate::root::uuid(&manifest.digest());
    let packages = report.packages.iter().map(|package| of_package(package, suite, report));
    let crates = origins.crates.iter().map(of_crate);
    let files = report.files.iter().map(|file| {
        json!({
            "type": "file",
            "bom-ref": format!("file:/{}", file.path),
            "name": format!("/{}", file.path),
            "hashes": [{"alg": "SHA-256", "content": file.sha256}],
            "properties": [
                {"name": "alia:from", "value": file.from},
                {"name": "alia:bytes", "value": file.bytes.to_string()},
            ],
        })
    });
    let tools = origins.compilers.iter().map(|said| {
        let mut words = said.split_whitespace();
        json!({
            "type": "application",
            "name": words.next().unwrap_or_default(),
            "version": words.collect::<Vec<_>>().join(" "),
        })
    });
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{uuid}"),
        "version": 1,
        "metadata": {
            "component": {
                "type": "operating-system",
                "bom-ref": format!("image:{digest}"),
                "name": "aliaOS",
                "version": manifest.version,
            },
            "tools": {"components": tools.collect::<Vec<_>>()},
            "properties": [
                {"name": "alia:manifest", "value": digest},
                {"name": "alia:kernel-release", "value": manifest.kernel_release},
                {"name": "alia:kernel-configuration-sha256", "value": report.kernel_configuration},
            ],
        },
        "components": packages.chain(crates).chain(files).collect::<Vec<_>>(),
    })
}

/// Packages whose bytes are not free, and whose licence this is. They are fetched by whoever builds.
const PROPRIETARY: [(&str, &str); 3] =
    [("firmware-nvidia-gsp", NVIDIA), ("libcuda1", NVIDIA), ("libnvidia-ml1", NVIDIA)];
const NVIDIA: &str = "NVIDIA Driver License Agreement (proprietary)";

fn of_package(package: &Origin, suite: &str, report: &Report) -> Value {
    let Origin { name, version, sha256, source, .. } = package;
    let purl =
        format!("pkg:deb/debian/{}@{}?arch=amd64&distro={suite}", escaped(name), escaped(version));
    let is_kernel = report.packages.first() == Some(package);
    let kind = match name {
        _ if is_kernel => "operating-system",
        _ if name.starts_with("firmware-") => "firmware",
        _ => "library",
    };
    // `pool/non-free/n/…`: main, contrib, non-free or non-free-firmware.
    let area = package.filename.split('/').nth(1).unwrap_or_default();
    let mut component = json!({
        "type": kind,
        "bom-ref": format!("deb:{name}"),
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        "properties": [
            {"name": "alia:source-package", "value": source},
            {"name": "alia:archive-area", "value": area},
        ],
    });
    if let Some((_, licence)) = PROPRIETARY.iter().find(|(package, _)| package == name) {
        component["licenses"] = json!([{"license": {"name": licence}}]);
    }
    component
}

fn of_crate(linked: &Crate) -> Value {
    let Crate { name, version, licence, sha256, programs } = linked;
    let mut component = json!({
        "type": "library",
        "bom-ref": format!("crate:{name}@{version}"),
        "name": name,
        "version": version,
        "purl": format!("pkg:cargo/{}@{}", escaped(name), escaped(version)),
        "properties": [{"name": "alia:linked-into", "value": programs.join(", ")}],
    });
    if !licence.is_empty() {
        component["licenses"] = json!([{"expression": licence}]);
    }
    if let Some(sha256) = sha256 {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
    }
    component
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
    use crate::report::File;
    use protocol::{
        Digest,
        boot::{ImageFile, RootImage, Verity},
    };

    #[test]
    fn a_bill_names_packages_crates_files_and_compilers() {
        let file = |name: &str| ImageFile { file: name.into(), digest: Digest([1; 32]), bytes: 1 };
        let manifest = ImageManifest {
            version: "0.1.0".into(),
            kernel_release: "6".into(),
            kernel: file("vmlinuz"),
            initramfs: file("initramfs.zst"),
            root: RootImage { file: file("root.erofs"), verity: Verity::default() },
            microcode: Default::default(),
            unix_time: 1,
        };
        let origin = |name: &str, version: &str| Origin {
            name: name.into(),
            version: version.into(),
            sha256: "ab".repeat(32),
            source: name.into(),
            filename: "pool/non-free/n/x.deb".into(),
            bytes: 1,
            unix_time: 1,
        };
        let report = Report {
            packages: vec![
                origin("linux-image-6", "6.1+deb13"),
                origin("libc6", "2:2.41~1"),
                origin("libcuda1", "550"),
            ],
            files: vec![File {
                path: "init".into(),
                bytes: 3,
                sha256: "cd".repeat(32),
                from: "node-init".into(),
            }],
            ..Report::default()
        };
        let origins = Origins {
            crates: vec![Crate {
                name: "blake3".into(),
                version: "1.8.7".into(),
                licence: "CC0-1.0 OR Apache-2.0".into(),
                sha256: Some("ef".repeat(32)),
                programs: vec!["compute".into(), "node-init".into()],
            }],
            licences: BTreeMap::new(),
            compilers: vec!["rustc 1.95.0 (abc 2026-01-01)".into()],
        };
        let bill = bill(&manifest, &report, "trixie", &origins);
        let parts = bill["components"].as_array().unwrap();
        assert_eq!(
            parts[0]["purl"],
            "pkg:deb/debian/linux-image-6@6.1%2Bdeb13?arch=amd64&distro=trixie"
        );
        assert_eq!(parts[1]["purl"], "pkg:deb/debian/libc6@2%3A2.41~1?arch=amd64&distro=trixie");
        let licence = parts[2]["licenses"][0]["license"]["name"].as_str().unwrap();
        assert!(licence.contains("proprietary"), "{licence}");
        assert!(parts[1].get("licenses").is_none());
        assert_eq!(parts[2]["properties"][1]["value"], "non-free");
        assert_eq!(parts[3]["purl"], "pkg:cargo/blake3@1.8.7");
        assert_eq!(parts[4]["name"], "/init");
        assert_eq!(bill["metadata"]["tools"]["components"][0]["name"], "rustc");
        let mut names: Vec<_> = parts.iter().map(|part| part["bom-ref"].to_string()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), parts.len(), "each is named by a name of its own");
    }
}
