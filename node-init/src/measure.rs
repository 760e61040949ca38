//! Measured boot: what is used is written into a PCR before.
//!
//! Firmware measures itself and what it starts (PCRs 0 to 9). PID 1 goes on from there:
//! [`PCR_CONFIGURATION`] takes what configures this boot, [`PCR_ROOT`] what it runs. The log of it
//! lies in `/run/alia/measurements.json`, which goes over to the verified root.

use crate::{
    kernel::{self, Kernel, Mount},
    stages::clock,
};
use protocol::{
    Digest,
    boot::ARG_RELEASE,
    evidence::{MAX_MEASUREMENTS, Measurement, PCR_CONFIGURATION, PCR_ROOT},
    medium::{RECORD_FILE, RECORD_LEN},
};
use std::{io, path::Path};
use tpm::{TpmError, measured};

/// The log.
const LOG: &str = "/run/alia/measurements.json";
const MAX_LOG: usize = 1 << 20;
/// Whom the initramfs trusts to sign releases.
const TRUST_ROOT: &str = "/etc/alia/root.json";
const COMMAND_LINE: &str = "/proc/cmdline";

const SECURITYFS: &str = "/sys/kernel/security";
/// What firmware measured.
const FIRMWARE_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// Something was not measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The chip refuses.
    #[error("{name} was not measured: {reason}; keys that are sealed to it stay shut")]
    Tpm {
        /// What.
        name: String,
        /// Why.
        reason: TpmError,
    },
    /// The log cannot be written.
    #[error("the log of what was measured: {0}")]
    Log(#[from] io::Error),
}

/// Measures what configures this boot: whom the image trusts, and its command line but for the
/// release's digest. That and the image's build go where the release goes: a key that is sealed to
/// the configuration lives through a new release of the same signers.
///
/// # Errors
/// [`MeasureError`]; the machine goes on, without what is sealed.
pub fn configuration(kernel: &dyn Kernel) -> Result<String, MeasureError> {
    let mut what = Vec::new();
    let files = [(PCR_ROOT, "build", clock::BUILD), (PCR_CONFIGURATION, "trust-root", TRUST_ROOT)];
    for (pcr, name, path) in files {
        if let Ok(bytes) = kernel.read(Path::new(path), kernel::MAX_TEXT) {
            what.push((pcr, name, Digest::of_bytes(&bytes).to_string()));
        }
    }
    // systemd's stub measured it already; what else starts kernels does not.
    if let Ok(bytes) = kernel.read(Path::new(RECORD_FILE), RECORD_LEN) {
        what.push((PCR_CONFIGURATION, "medium", Digest::of_bytes(&bytes).to_string()));
    }
    let line = kernel::text(kernel, COMMAND_LINE).unwrap_or_default();
    what.push((PCR_CONFIGURATION, "command-line", without_release(&line)));
    extend(kernel, &what)
}

/// A command line but for the word that names the release.
fn without_release(line: &str) -> String {
    let names =
        |word: &&str| !word.strip_prefix(ARG_RELEASE).is_some_and(|value| value.starts_with('='));
    line.split_ascii_whitespace().filter(names).collect::<Vec<_>>().join(" ")
}

/// Measures what this boot runs: the release's manifest, and its root's hash where it has one.
///
/// # Errors
/// [`MeasureError`]; the machine goes on, without what is sealed.
pub fn release(
    kernel: &dyn Kernel,
    manifest: Digest,
    root_hash: Option<Digest>,
) -> Result<String, MeasureError> {
    let mut what = vec![(PCR_ROOT, "release", manifest.to_string())];
    what.extend(root_hash.map(|hash| (PCR_ROOT, "root-hash", hash.to_string())));
    extend(kernel, &what)
}

/// Extends PCRs with what is not in the log yet, and writes the log. For people: where it went.
///
/// # Errors
/// [`MeasureError`].
pub fn extend(kernel: &dyn Kernel, what: &[(u8, &str, String)]) -> Result<String, MeasureError> {
    let mut log = log(kernel);
    let new = what.iter().filter_map(|(pcr, name, data)| {
        let each = Measurement { pcr: *pcr, name: (*name).to_owned(), data: data.clone() };
        (!log.contains(&each)).then_some(each)
    });
    let new: Vec<Measurement> = new.collect();
    let mut tpm = match kernel.tpm() {
        Ok(tpm) => tpm,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok("not measured: no TPM".into());
        }
        Err(error) => {
            let name = what.first().map_or_else(String::new, |(_, name, _)| (*name).to_owned());
            return Err(MeasureError::Tpm { name, reason: error.into() });
        }
    };
    let done = format!("{} measured into the TPM", new.len());
    for each in new {
        let extended = tpm.extend(each.pcr, &measured::digest(&each));
        extended.map_err(|reason| MeasureError::Tpm { name: each.name.clone(), reason })?;
        // Written at once: what a PCR holds and no log tells could never be explained.
        log.push(each);
        if log.len() > MAX_MEASUREMENTS {
            return Err(MeasureError::Log(io::Error::other("longer than any boot's")));
        }
        let text = serde_json::to_vec(&log).map_err(io::Error::other)?;
        kernel.write(Path::new(LOG), &text, None)?;
    }
    Ok(done)
}

/// What was measured in this boot so far.
pub fn log(kernel: &dyn Kernel) -> Vec<Measurement> {
    let text = kernel.read(Path::new(LOG), MAX_LOG).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// What firmware measured; empty where it left no log.
pub fn firmware_log(kernel: &dyn Kernel) -> Vec<u8> {
    let mount =
        Mount { kind: "securityfs", on: SECURITYFS, devices: false, programs: false, options: "" };
    // It may be there already.
    let _ = kernel.mount(&mount);
    kernel.read(Path::new(FIRMWARE_LOG), tpm::log::MAX_LOG).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    #[test]
    fn a_new_release_leaves_the_configuration_as_it_was() {
        let digest = "00".repeat(32);
        let line = format!("quiet alia.release={digest} alia.chain=main alia.releases=1\n");
        assert_eq!(without_release(&line), "quiet alia.chain=main alia.releases=1");
    }

    #[test]
    fn without_a_tpm_nothing_is_measured_and_that_is_no_error() {
        let kernel = Fake::new(&[(COMMAND_LINE, "quiet")]);
        assert_eq!(configuration(&kernel).unwrap(), "not measured: no TPM");
        assert_eq!(log(&kernel), []);
        assert_eq!(firmware_log(&kernel), [0u8; 0]);
    }
}
