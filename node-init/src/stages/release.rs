//! Stage `release`: what this machine is to run, and who vouches for it.
//!
//! The initramfs has a TUF root, and takes only a release that is signed as that root wants it. The
//! time that its expiry is held against comes signed by the provisioner's key for a question that
//! was never asked before, so that a clock at 1970 or 2099 neither bricks nor fools the machine.

use crate::{
    floor::{self, Floor, FloorError},
    http::{self, Base, HttpError},
    kernel::{self, Kernel},
    mac::Mac,
    stages::{clock, command_line::Arguments},
};
use protocol::{
    ChainId, Digest, PublicKey, Signed,
    boot::ImageManifest,
    release::{BUNDLE_FILE, MAX_BUNDLE_LEN, ROOT_FILE, TimeAnswer, TimeRequest},
    signed::SignedError,
};
use release::{Bundle, NotABundle, Verified};
use std::{io, path::Path};

/// What is to be run is not known, or nobody vouches for it.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The initramfs trusts nobody.
    #[error("the initramfs has no {ROOT_FILE} ({0}), so it can trust no release: build it again")]
    NoTrust(io::Error),
    /// No randomness for a question.
    #[error("the kernel gave no randomness to ask for the time with: {0}")]
    NoRandomness(io::Error),
    /// Something did not come.
    #[error(transparent)]
    Fetch(#[from] HttpError),
    /// The time cannot be read.
    #[error(
        "{server} does not say the time: {reason}; is it an aliaOS provisioner of our version?"
    )]
    NotATime {
        /// Who was asked.
        server: Base,
        /// Why.
        reason: String,
    },
    /// The time is not the provisioner's.
    #[error("the time that {server} says is not signed as it has to be: {reason}")]
    Time {
        /// Who was asked.
        server: Base,
        /// Why.
        reason: SignedError,
    },
    /// The time is another's, or another question's.
    #[error(
        "another provisioner answers at this address: the time is signed by {found} and not by \
         {wanted}, or it is an old answer played back; look for a second provisioner on this network"
    )]
    Stranger {
        /// Who signed.
        found: PublicKey,
        /// Who should have.
        wanted: PublicKey,
    },
    /// Which releases this machine may not run any more is not known, so none is run.
    #[error("no release is run: {0}")]
    Floor(#[from] FloorError),
    /// What came is no release.
    #[error("{server} serves a release that cannot be read: {reason}")]
    NotABundle {
        /// Who served it.
        server: Base,
        /// Why.
        reason: NotABundle,
    },
    /// Nobody that we trust vouches for it.
    #[error("the release that {server} serves is refused: {reason}")]
    Refused {
        /// Who served it.
        server: Base,
        /// Why.
        reason: release::ReleaseError,
    },
    /// It is of another image.
    #[error("{server} serves a release of image {found} in place of {wanted}; boot again for it")]
    Other {
        /// Who served it.
        server: Base,
        /// Its image.
        found: Digest,
        /// The one that was booted.
        wanted: Digest,
    },
    /// It is for another chain.
    #[error(
        "the release is for chain {found}, and the boot script names {wanted}: serve a release of this network"
    )]
    Chain {
        /// The release's.
        found: ChainId,
        /// The boot script's.
        wanted: ChainId,
    },
    /// Its kernel is not the one that runs.
    #[error(
        "the release is for kernel {wanted}, and {running} runs; boot again for the kernel served now"
    )]
    Kernel {
        /// The release's.
        wanted: String,
        /// What runs.
        running: String,
    },
}

/// Where a file of an image lies below the provisioner's address.
pub fn path(release: Digest, file: &str) -> String {
    format!("/image/{release}/{file}")
}

/// A release that this machine may run.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its image.
    pub image: ImageManifest,
    /// For people.
    pub detail: String,
}

/// Gets the signed time, and the release of the image that was booted; checks it against the root of
/// trust and the floor, which it raises. `told` hears the time, and how the boots before went;
/// `mac` and `boot_id` say which boot asks.
pub async fn run(
    kernel: &dyn Kernel,
    arguments: &Arguments,
    mac: Mac,
    boot_id: Digest,
    told: impl FnOnce(&TimeAnswer),
) -> Result<Known, ReleaseError> {
    let root = kernel.read(Path::new(ROOT_FILE), MAX_BUNDLE_LEN).map_err(ReleaseError::NoTrust)?;
    let server = &arguments.provisioner;
    let answer = time(kernel, arguments, mac, boot_id).await?;
    told(&answer);
    let now = answer.unix_time;
    let wanted = arguments.release;
    let bytes = http::get(server, &path(wanted, BUNDLE_FILE), MAX_BUNDLE_LEN).await?;
    let bundle = Bundle::from_bytes(&bytes)
        .map_err(|reason| ReleaseError::NotABundle { server: server.clone(), reason })?;
    let floor = floor::read(kernel)?;
    let verified =
        release::verify(&root, &bundle, Some(now), floor.version(), &std::env::temp_dir()).await;
    let verified =
        verified.map_err(|reason| ReleaseError::Refused { server: server.clone(), reason })?;
    if verified.image != wanted {
        let found = verified.image;
        return Err(ReleaseError::Other { server: server.clone(), found, wanted });
    }
    let chain = verified.manifest.chain.as_ref().map(|root| &root.chain);
    if let Some(found) = chain.filter(|chain| **chain != arguments.chain) {
        let (found, wanted) = (found.clone(), arguments.chain.clone());
        return Err(ReleaseError::Chain { found, wanted });
    }
    let running = kernel::text(kernel, "/proc/sys/kernel/osrelease").unwrap_or_default();
    let image = &verified.manifest.image;
    if running != image.kernel_release {
        return Err(ReleaseError::Kernel { wanted: image.kernel_release.clone(), running });
    }
    let detail = detail(&verified, &raise(kernel, floor, verified.manifest.floor));
    Ok(Known { image: verified.manifest.image, detail })
}

/// The provisioner's time.
async fn time(
    kernel: &dyn Kernel,
    arguments: &Arguments,
    mac: Mac,
    boot_id: Digest,
) -> Result<TimeAnswer, ReleaseError> {
    let server = &arguments.provisioner;
    let nonce = Digest(kernel.random().map_err(ReleaseError::NoRandomness)?);
    let not_a_time = |error: serde_json::Error| ReleaseError::NotATime {
        server: server.clone(),
        reason: error.to_string(),
    };
    let scripted = arguments.boot_nic.is_some();
    let request = TimeRequest { nonce, mac: mac.to_string(), boot_id, scripted };
    let request = serde_json::to_vec(&request).map_err(not_a_time)?;
    let answer = http::post(server, "/v1/time", request).await?;
    let answer: Signed<TimeAnswer> = serde_json::from_slice(&answer).map_err(not_a_time)?;
    let said = answer
        .verify(&arguments.chain)
        .map_err(|reason| ReleaseError::Time { server: server.clone(), reason })?;
    if answer.signer != arguments.key || said.nonce != nonce {
        return Err(ReleaseError::Stranger { found: answer.signer, wanted: arguments.key });
    }
    Ok(*said)
}

/// Raises the floor and locks it; what stands afterwards, for people.
fn raise(kernel: &dyn Kernel, floor: Floor, to: u64) -> String {
    let raised = match floor::raise(kernel, to) {
        Ok(raised) => raised.to_string(),
        Err(error) => format!("{floor}; {error}"),
    };
    match floor::lock(kernel) {
        Ok(()) => raised,
        Err(error) => format!("{raised}; it was not locked: {error}"),
    }
}

fn detail(verified: &Verified, floor: &str) -> String {
    format!(
        "release {} ({} {}), signed by root {}, until {}; {floor}",
        verified.manifest.version,
        verified.manifest.image.version,
        verified.image.short(),
        verified.root_version,
        clock::date(verified.expires)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::fake::Fake,
        machine::tests::{exchange, manifest},
        stages::enrolment::tests::{BOOT, arguments, key},
    };
    use protocol::release::{Manifest, TrustRoot};
    use release::sign::testing;
    use tokio::{net::TcpListener, task::LocalSet};

    /// What a machine whose boot script names `alia-test` makes of a release for this chain.
    async fn known(chain: &str) -> Result<Known, ReleaseError> {
        let chain = TrustRoot {
            chain: chain.parse().unwrap(),
            genesis_hash: Digest([2; 32]),
            height: 4,
            header_hash: Digest([3; 32]),
            trusting_period_seconds: 100,
        };
        let manifest = Manifest { version: 3, image: manifest(), floor: 2, chain: Some(chain) };
        let image = manifest.image.digest();
        let released = testing::released(manifest, 4_000_000_000).unwrap();
        let bundle = released.bundle().unwrap().to_bytes();
        let root = String::from_utf8(testing::root_json()).unwrap();
        let kernel = Fake::new(&[(ROOT_FILE, &root), ("/proc/sys/kernel/osrelease", "6.12")]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let arguments = Arguments { release: image, ..arguments(&server) };
        let local = LocalSet::new();
        local.spawn_local(async move {
            let answer = |path: &str, body: &[u8]| {
                if path != "/v1/time" {
                    return (200, bundle.clone());
                }
                let TimeRequest { nonce, .. } = serde_json::from_slice(body).unwrap();
                let time = TimeAnswer { nonce, unix_time: 1_999_999_000, attempt: 1 };
                let chain = "alia-test".parse().unwrap();
                (200, serde_json::to_vec(&Signed::sign(&chain, time, &key(1))).unwrap())
            };
            for _ in 0..2 {
                let (stream, _) = listener.accept().await.unwrap();
                exchange(stream, answer).await;
            }
        });
        local.run_until(run(&kernel, &arguments, Mac([2; 6]), BOOT, |_| {})).await
    }

    #[tokio::test]
    async fn a_release_for_another_chain_is_refused_and_both_chains_are_named() {
        let taken = known("alia-test").await.unwrap();
        assert!(taken.detail.starts_with("release 3 (0.1.0 "), "{}", taken.detail);
        let error = known("alia-other").await.unwrap_err();
        assert!(matches!(error, ReleaseError::Chain { .. }), "{error}");
        let error = error.to_string();
        let wanted = "is for chain alia-other, and the boot script names alia-test";
        assert!(error.contains(wanted), "{error}");
    }
}
