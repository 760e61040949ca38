//! Stage `release`: what this machine is to run, and who vouches for it.

use crate::{
    http::{self, Base, HttpError},
    kernel::{self, Kernel},
};
use protocol::{Digest, boot::ImageManifest};

/// The largest manifest that is read.
const MAX_MANIFEST: usize = 64 << 10;

/// What is to be run is not known.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It did not come.
    #[error(transparent)]
    Fetch(#[from] HttpError),
    /// It cannot be read.
    #[error("{server} serves an image manifest that cannot be understood: {reason}")]
    Malformed {
        /// Who served it.
        server: Base,
        /// Why.
        reason: serde_json::Error,
    },
    /// It is another.
    #[error(
        "{server} serves image {found} in place of {wanted}; boot again for the one served now"
    )]
    Other {
        /// Who served it.
        server: Base,
        /// Its digest.
        found: Digest,
        /// The one that was booted.
        wanted: Digest,
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

/// Gets the manifest of the image that was booted.
pub async fn run(
    kernel: &dyn Kernel,
    server: &Base,
    wanted: Digest,
) -> Result<ImageManifest, ReleaseError> {
    let bytes = http::get(server, &path(wanted, "manifest.json"), MAX_MANIFEST).await?;
    let manifest: ImageManifest = serde_json::from_slice(&bytes)
        .map_err(|reason| ReleaseError::Malformed { server: server.clone(), reason })?;
    let found = manifest.digest();
    if found != wanted {
        return Err(ReleaseError::Other { server: server.clone(), found, wanted });
    }
    let running = kernel::text(kernel, "/proc/sys/kernel/osrelease").unwrap_or_default();
    if running != manifest.kernel_release {
        return Err(ReleaseError::Kernel { wanted: manifest.kernel_release, running });
    }
    Ok(manifest)
}
