//! Checks what a node says of its chip. Without any device, and all of it foreign bytes.

use crate::{
    chip::selected,
    log::{self, LogError},
    measured,
    pcr::Value,
    quote::{COORDINATE, attestation_template, endorsement_template, marshalled},
};
use aws_lc_rs::{
    agreement::{self, ECDH_P256, EphemeralPrivateKey, agree_ephemeral},
    cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey},
    hmac,
    iv::FixedLength,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};
use protocol::{
    Digest,
    evidence::{Chip, Evidence, MAX_MEASUREMENTS, PCR_CONFIGURATION, PCR_ROOT, PCRS_QUOTED},
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use tpm2_protocol::{
    TpmUnmarshal,
    data::{
        TpmAlgId, TpmSt, TpmsAttest, TpmsEccPoint, TpmtPublic, TpmtSignature, TpmuAttest,
        TpmuPublicId, TpmuSignature,
    },
};

/// PCRs that must be explained by the logs: those that keys are sealed to, and our own.
pub const EXPLAINED: [u8; 5] = [4, 7, 9, PCR_CONFIGURATION, PCR_ROOT];

/// Evidence is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A structure is not one.
    #[error("the TPM's {0} cannot be understood")]
    Malformed(&'static str),
    /// A key is not of the kind that is asked for.
    #[error("the TPM's {0} key is not of the template that node-init uses")]
    OtherKey(&'static str),
    /// The credential was not opened: the keys are not in one chip.
    #[error("the TPM did not open the challenge: its keys are not those of one chip")]
    NotOpened,
    /// The signature does not fit.
    #[error("the quote is not signed by the TPM's attestation key")]
    Signature,
    /// It answers another challenge, node or boot.
    #[error("the quote is not for this challenge, node and boot")]
    OtherChallenge,
    /// It quotes other PCRs, or values other than those sent along.
    #[error("the quote is not of the PCR values that came with it")]
    OtherValues,
    /// Firmware's log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The logs say that PCRs must hold something else.
    #[error(
        "the event logs do not lead to what PCR {0} holds: something was measured and left out"
    )]
    Unexplained(u8),
    /// More measurements than a boot has.
    #[error("node-init measures less than this")]
    TooMany,
}

/// What evidence shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The chip ([`Chip::id`]).
    pub chip: Digest,
    /// How often the chip was reset: never less than before, unless its state was copied.
    pub resets: u32,
    /// The PCRs' values.
    pub values: BTreeMap<u8, Value>,
    /// PCRs that the logs do not explain, none of [`EXPLAINED`] among them.
    pub unexplained: Vec<u8>,
}

/// Checks evidence: `opened` is what the challenge's credential holds, `qualifying` what the quote
/// must have in it ([`protocol::evidence::qualifying`]).
///
/// # Errors
/// [`Refusal`].
pub fn evidence(
    evidence: &Evidence,
    opened: &Digest,
    qualifying: &Digest,
) -> Result<Verified, Refusal> {
    let (_, attestation) = keys(&evidence.chip)?;
    if evidence.opened != *opened {
        return Err(Refusal::NotOpened);
    }
    let quote = quote(evidence, &attestation, qualifying)?;
    if evidence.measurements.len() > MAX_MEASUREMENTS {
        return Err(Refusal::TooMany);
    }
    let mut expected = BTreeMap::new();
    if !evidence.firmware_log.is_empty() {
        expected = log::replay(&log::parse(&evidence.firmware_log)?);
    }
    measured::replay(&mut expected, &evidence.measurements);
    let values: BTreeMap<u8, Value> =
        evidence.pcrs.iter().map(|each| (each.pcr, each.value)).collect();
    let unexplained = values.iter().filter(|(pcr, value)| {
        let expected = expected.get(pcr).copied().unwrap_or([0; 32]);
        expected != **value
    });
    let unexplained: Vec<u8> = unexplained.map(|(pcr, _)| *pcr).collect();
    if let Some(pcr) = unexplained.iter().find(|pcr| EXPLAINED.contains(pcr)) {
        return Err(Refusal::Unexplained(*pcr));
    }
    Ok(Verified {
        chip: evidence.chip.id(),
        resets: quote.clock_info.reset_count.value(),
        values,
        unexplained,
    })
}

/// Wraps `opened` so that only the chip opens it, and only where its attestation key is the one
/// that it names: the credential and the encrypted secret (TPM2_MakeCredential, Part 1, 24).
///
/// # Errors
/// [`Refusal`], where the keys are not of our templates.
pub fn credential(chip: &Chip, opened: &Digest) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    let (endorsement, _) = keys(chip)?;
    let malformed = |_| Refusal::Malformed("endorsement key");
    let name = name(&chip.attestation_key);
    let random = SystemRandom::new();
    let ours = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(malformed)?;
    let public = ours.compute_public_key().map_err(malformed)?;
    // An uncompressed point: 4, x, y.
    let [_, point @ ..] = public.as_ref() else { return Err(Refusal::Malformed("point")) };
    let (x, y) = point.split_at_checked(COORDINATE).ok_or(Refusal::Malformed("point"))?;
    let theirs = agreement::UnparsedPublicKey::new(&ECDH_P256, endorsement.uncompressed());
    let seed = agree_ephemeral(ours, theirs, Refusal::Malformed("endorsement key"), |shared| {
        Ok(kdfe(shared, b"IDENTITY", x, &endorsement.x))
    })?;
    // A counted secret, encrypted, and what authenticates it.
    let mut identity = vec![0, 32];
    identity.extend(opened.0);
    let key = kdfa(&seed, b"STORAGE", &name);
    let cipher = UnboundCipherKey::new(&AES_128, &key[..16]).and_then(EncryptingKey::cfb128);
    let context = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    cipher
        .and_then(|cipher| cipher.less_safe_encrypt(&mut identity, context))
        .map_err(|_| Refusal::Malformed("credential"))?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &kdfa(&seed, b"INTEGRITY", &[]));
    let mut context = hmac::Context::with_key(&key);
    context.update(&identity);
    context.update(&name);
    let mut credential = vec![0, 32];
    credential.extend(context.sign().as_ref());
    credential.extend(&identity);
    let point = TpmsEccPoint {
        x: x.try_into().map_err(|_| Refusal::Malformed("point"))?,
        y: y.try_into().map_err(|_| Refusal::Malformed("point"))?,
    };
    let secret = marshalled(&point).map_err(|_| Refusal::Malformed("point"))?;
    Ok((credential, secret))
}

struct Point {
    x: [u8; COORDINATE],
    y: [u8; COORDINATE],
}

impl Point {
    fn uncompressed(&self) -> Vec<u8> {
        [&[4][..], &self.x, &self.y].concat()
    }
}

/// Endorsement and attestation key, each of our template but for the point itself.
fn keys(chip: &Chip) -> Result<(Point, Point), Refusal> {
    Ok((
        key(&chip.endorsement_key, endorsement_template(), "endorsement")?,
        key(&chip.attestation_key, attestation_template(), "attestation")?,
    ))
}

fn key(
    bytes: &[u8],
    template: Result<TpmtPublic, crate::TpmError>,
    which: &'static str,
) -> Result<Point, Refusal> {
    let whose = if which == "endorsement" { "endorsement key" } else { "attestation key" };
    let public: TpmtPublic = whole(bytes, whose)?;
    let TpmuPublicId::Ecc(point) = &public.unique else { return Err(Refusal::OtherKey(which)) };
    let template = template.map_err(|_| Refusal::OtherKey(which))?;
    if (TpmtPublic { unique: template.unique.clone(), ..public.clone() }) != template {
        return Err(Refusal::OtherKey(which));
    }
    let coordinate = |bytes: &[u8]| bytes.try_into().map_err(|_| Refusal::OtherKey(which));
    Ok(Point { x: coordinate(&point.x)?, y: coordinate(&point.y)? })
}

/// A structure that is all of `bytes`.
fn whole<T: TpmUnmarshal>(bytes: &[u8], which: &'static str) -> Result<T, Refusal> {
    match T::unmarshal(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(Refusal::Malformed(which)),
    }
}

fn quote(evidence: &Evidence, key: &Point, qualifying: &Digest) -> Result<TpmsAttest, Refusal> {
    let signature: TpmtSignature = whole(&evidence.signature, "signature")?;
    let TpmuSignature::Ecdsa(signature) = &signature.signature else {
        return Err(Refusal::Signature);
    };
    let mut fixed = [0; 2 * COORDINATE];
    for (part, into) in
        [&signature.signature_r, &signature.signature_s].into_iter().zip(fixed.chunks_mut(32))
    {
        // The chip may leave leading zeros out.
        let skip = COORDINATE.checked_sub(part.len()).ok_or(Refusal::Signature)?;
        into[skip..].copy_from_slice(part);
    }
    if signature.hash != TpmAlgId::Sha256 {
        return Err(Refusal::Signature);
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.uncompressed())
        .verify(&evidence.quote, &fixed)
        .map_err(|_| Refusal::Signature)?;
    let attest: TpmsAttest = whole(&evidence.quote, "quote")?;
    let (TpmSt::AttestQuote, TpmuAttest::Quote(info)) = (attest.attest_type, &attest.attested)
    else {
        return Err(Refusal::Malformed("quote"));
    };
    if attest.extra_data.as_ref() != qualifying.0 {
        return Err(Refusal::OtherChallenge);
    }
    let quoted: Vec<u8> = evidence.pcrs.iter().map(|each| each.pcr).collect();
    let mut hash = Sha256::new();
    for each in &evidence.pcrs {
        hash.update(each.value);
    }
    let same = quoted == PCRS_QUOTED
        && selected(&info.pcr_select).as_deref() == Some(&PCRS_QUOTED[..])
        && info.pcr_digest.as_ref() == &hash.finalize()[..];
    if same { Ok(attest) } else { Err(Refusal::OtherValues) }
}

/// An object's name: its hash algorithm and the hash of its public area.
fn name(public: &[u8]) -> Vec<u8> {
    let mut name = TpmAlgId::Sha256.value().to_be_bytes().to_vec();
    name.extend(Sha256::digest(public));
    name
}

/// KDFe of SHA-256, one block (Part 1, 11.4.10.3).
fn kdfe(shared: &[u8], label: &[u8], party_u: &[u8], party_v: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(1u32.to_be_bytes())
        .chain_update(shared)
        .chain_update(label)
        .chain_update([0])
        .chain_update(party_u)
        .chain_update(party_v)
        .finalize()
        .into()
}

/// KDFa of SHA-256, one block: a key of AES-128 for STORAGE, of 256 bits else (Part 1, 11.4.10.2).
fn kdfa(key: &[u8], label: &[u8], context: &[u8]) -> [u8; 32] {
    let bits: u32 = if label == b"STORAGE" { 128 } else { 256 };
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut hmac = hmac::Context::with_key(&key);
    hmac.update(&1u32.to_be_bytes());
    hmac.update(label);
    hmac.update(&[0]);
    hmac.update(context);
    hmac.update(&bits.to_be_bytes());
    let mut made = [0; 32];
    made.copy_from_slice(hmac.sign().as_ref());
    made
}
