//! The certificate that an operator brings: a chain and its key, as PEM files.

use super::{Names, TlsError};
use rustls::{
    Error, InconsistentKeys,
    client::verify_server_name,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use std::{fs, net::IpAddr, path::Path};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, time::ASN1Time,
};

/// A certificate with its key, and those of our names that it is for.
#[derive(Debug)]
pub struct Brought {
    /// The chain and the key.
    pub key: CertifiedKey,
    /// Addresses first.
    pub names: Vec<ServerName<'static>>,
}

/// Reads and judges them, as of `now` (seconds since 1970).
///
/// # Errors
/// Says which file is wrong, and how.
pub fn read(certificate: &Path, key: &Path, names: &Names, now: u64) -> Result<Brought, TlsError> {
    let (what, what_key) = ("the certificate", "the key");
    let text = fs::read(certificate).map_err(TlsError::file(what, certificate, ""))?;
    let not_pem = |what, path: &Path, error: &pem::Error| {
        let detail = error.to_string();
        TlsError::NotPem { what, path: path.into(), detail }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(what, certificate, &error))?;
    let Some(first) = chain.first().cloned() else {
        return Err(not_pem(what, certificate, &pem::Error::NoItemsFound));
    };
    let text = fs::read(key).map_err(TlsError::file(what_key, key, ""))?;
    let private =
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| not_pem(what_key, key, &error))?;
    let pair =
        CertifiedKey::from_der(chain, private, &default_provider()).map_err(
            |error| match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    TlsError::OtherKey { certificate: certificate.into(), key: key.into() }
                }
                other => other.into(),
            },
        )?;
    let theirs = dates(certificate, &first, now)?;
    let parsed = ParsedCertificate::try_from(&first)?;
    let names_of: Vec<ServerName<'static>> =
        names.all().filter(|name| verify_server_name(&parsed, name).is_ok()).collect();
    if names_of.is_empty() {
        let (path, ours) = (certificate.into(), names.to_string());
        return Err(TlsError::OtherName { path, theirs, ours });
    }
    Ok(Brought { key: pair, names: names_of })
}

/// Whether a certificate is valid now; gives whom it is for, in words.
fn dates(path: &Path, certificate: &CertificateDer<'_>, now: u64) -> Result<String, TlsError> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(|error| {
        let detail = error.to_string();
        TlsError::NotPem { what: "the certificate", path: path.into(), detail }
    })?;
    let validity = read.validity();
    let time = ASN1Time::from_timestamp(i64::try_from(now).unwrap_or(i64::MAX));
    let time = time.unwrap_or(ASN1Time::now());
    if !validity.is_valid_at(time) {
        let mend = if time > validity.not_after {
            "it has expired: renew it"
        } else {
            "wait, or set the clock"
        };
        return Err(TlsError::Dates {
            path: path.into(),
            from: validity.not_before.to_string(),
            to: validity.not_after.to_string(),
            now: time.to_string(),
            mend,
        });
    }
    let names = read.subject_alternative_name().ok().flatten();
    let names: Vec<String> =
        names.iter().flat_map(|names| &names.value.general_names).map(in_words).collect();
    Ok(if names.is_empty() { "nobody (it has no subjectAltName)".into() } else { names.join(", ") })
}

fn in_words(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), *bytes) {
            (Ok(bytes), _) => IpAddr::from(bytes).to_string(),
            (_, bytes) => <[u8; 16]>::try_from(bytes)
                .map_or(name.to_string(), |bytes| IpAddr::from(bytes).to_string()),
        },
        other => other.to_string(),
    }
}

/// When a certificate's time is over, seconds since 1970; none where it cannot be read.
pub fn until(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(read.validity().not_after.timestamp()).ok()
}
