//! `alia release`.

use crate::output::Output;
use clap::{Args, Subcommand};
use cli::{
    Error, Exit,
    release::{Checked, check},
};
use serde_json::json;
use std::path::PathBuf;

/// Releases of the image that machines boot.
#[derive(Subcommand)]
pub(crate) enum Release {
    /// Check a release: signatures, roots, expiry, floor and files.
    Verify(Verify),
}

/// Check a release: signatures, roots, expiry, floor and files.
///
/// PLACE is a release.bundle, the folder of an image with one in it (then each of its files is
/// checked too), or the http:// address of either, such as a provisioner's /image/DIGEST. Nothing
/// is believed but the root given.
#[derive(Args)]
#[command(after_help = "Example: alia release verify target/image --root keys/release/1.root.json")]
pub(crate) struct Verify {
    /// Where the release is.
    #[arg(value_name = "PLACE")]
    place: String,
    /// A TUF root.json of the network, of any version: machines have it as /etc/alia/root.json.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Judge its expiry at this time, seconds since 1970, and not by this machine's clock.
    #[arg(long, value_name = "SECONDS")]
    now: Option<u64>,
    /// Refuse versions below.
    #[arg(long, value_name = "N", default_value_t = 0)]
    floor: u64,
}

impl Release {
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, Error> {
        match self {
            Self::Verify(command) => command.run(output).await,
        }
    }
}

impl Verify {
    async fn run(self, output: &Output) -> Result<Exit, Error> {
        let now = self.now.unwrap_or_else(|| super::now().as_secs());
        let Checked { verified, files, root } =
            check(&self.place, &self.root, Some(now), self.floor).await?;
        let manifest = &verified.manifest;
        output.give(&json!({
            "verified": true, "manifest": manifest, "image": verified.image,
            "manifest_digest": verified.manifest_digest, "expires": verified.expires, "now": now,
            "root_version": verified.root_version, "files": files, "root_hash": root,
        }));
        let image = &manifest.image;
        output.say(format_args!("release     {}", manifest.version));
        output.say(format_args!("image       {} {}", image.version, verified.image));
        output.say(format_args!("kernel      {}", image.kernel_release));
        match &manifest.chain {
            Some(root) => output.say(format_args!(
                "chain       {}, trusted from block {} {}, genesis {}",
                root.chain, root.height, root.header_hash, root.genesis_hash
            )),
            None => output.say("chain       none in particular"),
        }
        output.say(format_args!(
            "signed      by as many keys as each role wants, under root version {}, which grows \
             out of yours",
            verified.root_version
        ));
        let days = verified.expires.saturating_sub(now) / 86_400;
        let by = if self.now.is_some() { "the time given" } else { "this machine's clock" };
        output.say(format_args!("expires     in {days} days, by {by}"));
        output.say(format_args!(
            "floor       {}; it forbids releases below {}",
            match self.floor {
                0 => "none was given".to_string(),
                floor => format!("not below {floor}"),
            },
            manifest.floor
        ));
        for file in &files {
            output.say(format_args!("file        {} {} {}", file.file, file.bytes, file.digest));
        }
        if let Some(root) = root {
            output.say(format_args!("root hash   {root}: each block hashed anew, and its tree"));
        }
        if files.is_empty() {
            output.say("files       not looked at: name the image's folder for that");
        }
        Ok(Exit::Ok)
    }
}
