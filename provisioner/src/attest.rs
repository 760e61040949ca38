//! Challenges to machines' TPMs, and what their answers are held against.
//!
//! A challenge is made from our secret key, what it is for and the time, and made again when the
//! answer comes: nothing is remembered in between, so any front-end with our key can judge it.

use protocol::{
    Digest, PublicKey, SecretKey,
    evidence::{Challenge, Chip, Evidence, Measurement, PCR_ROOT, qualifying},
};
use tpm::verify::{self, Refusal, Verified};

/// How long a challenge may be answered. A slow chip takes seconds.
pub const PATIENCE_SECONDS: u64 = 300;

/// Evidence is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// It is not what a chip would say.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It comes too late, or from the future.
    #[error("it answers a challenge of {0} s ago; {PATIENCE_SECONDS} s are given")]
    Late(i64),
    /// The chip was told of no release.
    #[error(
        "the TPM was not told of the release that runs; look at why the node did not measure it"
    )]
    NoRelease,
    /// The chip booted something else than the node says.
    #[error("the TPM was told of release {measured}, but the node says that it runs {said}")]
    OtherRelease {
        /// Measured.
        measured: String,
        /// Said.
        said: Digest,
    },
}

/// What only we and the challenged know.
fn secret(key: &SecretKey, what: &str, chip: &Chip, issued: u64) -> Digest {
    Digest::of("aliaOS attestation challenge v1", &(key.to_hex(), what, chip, issued))
}

/// A challenge for a chip at a time.
///
/// # Errors
/// [`Refusal`], where its keys are not of the templates that node-init uses.
pub fn challenge(key: &SecretKey, chip: &Chip, now: u64) -> Result<Challenge, Refusal> {
    let (credential, wrapped) = verify::credential(chip, &secret(key, "opened", chip, now))?;
    let nonce = secret(key, "nonce", chip, now);
    Ok(Challenge { nonce, issued: now, credential, secret: wrapped })
}

/// Checks the answer of `node` in its boot, which says that it runs `release`.
///
/// # Errors
/// [`AttestError`].
pub fn check(
    key: &SecretKey,
    evidence: &Evidence,
    node: &PublicKey,
    boot_id: &Digest,
    release: &Digest,
    now: u64,
) -> Result<Verified, AttestError> {
    let age = now.cast_signed().wrapping_sub(evidence.issued.cast_signed());
    if !(0..=PATIENCE_SECONDS.cast_signed()).contains(&age) {
        return Err(AttestError::Late(age));
    }
    let chip = &evidence.chip;
    let opened = secret(key, "opened", chip, evidence.issued);
    let bound = qualifying(&secret(key, "nonce", chip, evidence.issued), node, boot_id);
    let verified = verify::evidence(evidence, &opened, &bound)?;
    runs(&evidence.measurements, release).map(|()| verified)
}

/// Whether the release, and no other, is what was measured before PID 1 went to its root. The digest
/// of a release vouches for the root's hash.
fn runs(measurements: &[Measurement], release: &Digest) -> Result<(), AttestError> {
    let wanted = release.to_string();
    let mut told = measurements
        .iter()
        .filter(|each| each.pcr == PCR_ROOT && each.name == "release")
        .map(|each| &each.data)
        .peekable();
    if told.peek().is_none() {
        return Err(AttestError::NoRelease);
    }
    match told.find(|data| **data != wanted) {
        None => Ok(()),
        Some(other) => {
            let measured = other.chars().take(80).collect();
            Err(AttestError::OtherRelease { measured, said: *release })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(issued: u64) -> Evidence {
        Evidence {
            chip: Chip { endorsement_key: vec![], attestation_key: vec![] },
            issued,
            opened: Digest::default(),
            quote: vec![],
            signature: vec![],
            pcrs: vec![],
            measurements: vec![],
            firmware_log: vec![],
        }
    }

    #[test]
    fn the_release_that_runs_must_have_been_measured_and_no_other() {
        let (ours, other) = (Digest([1; 32]), Digest([2; 32]));
        let told = |pcr, name: &str, data: String| Measurement { pcr, name: name.into(), data };
        let release = |digest: Digest| told(PCR_ROOT, "release", digest.to_string());
        assert_eq!(runs(&[], &ours), Err(AttestError::NoRelease));
        // In another register, or under another name, it is none.
        assert_eq!(
            runs(&[told(12, "release", ours.to_string())], &ours),
            Err(AttestError::NoRelease)
        );
        assert_eq!(runs(&[release(ours)], &ours), Ok(()));
        for measured in [vec![release(other)], vec![release(ours), release(other)]] {
            assert!(matches!(runs(&measured, &ours), Err(AttestError::OtherRelease { .. })));
        }
    }

    #[test]
    fn an_answer_that_comes_late_or_early_is_refused_and_so_are_keys_that_are_none() {
        let key = SecretKey::from_seed([1; 32]);
        let (node, zero) = (key.public(), Digest::default());
        let judged = |issued| check(&key, &evidence(issued), &node, &zero, &zero, 1_000);
        assert_eq!(judged(600), Err(AttestError::Late(400)));
        assert_eq!(judged(1_001), Err(AttestError::Late(-1)));
        assert!(matches!(judged(u64::MAX), Err(AttestError::Late(_))));
        assert!(matches!(judged(999), Err(AttestError::Refused(_))));
        assert!(challenge(&key, &evidence(0).chip, 1_000).is_err());
    }
}
