//! Our own certificate authority: one key and one certificate in a folder, made at the first start.
//! A second one like it, of RSA keys, is for firmware that knows no elliptic curves.

use super::{Names, TlsError, at_least_written, constraints, node::NAME};
use crate::machine::Mac;
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::fill,
};
use protocol::{Digest, PublicKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use time::OffsetDateTime;

/// What an authority and those that it vouches for have for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ECDSA on P-256.
    Curves,
    /// RSA of 3,072 bits: the least that EDK2 with OpenSSL 3.5 takes (edk2#12651).
    Rsa,
}

impl Kind {
    /// The certificate's file, and the key's.
    pub fn files(self) -> (&'static str, &'static str) {
        match self {
            Self::Curves => ("ca.pem", "ca.key"),
            Self::Rsa => ("ca-rsa.pem", "ca-rsa.key"),
        }
    }

    /// A new key; one of RSA takes a second.
    fn key(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::Curves => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
        }
    }
}

/// 2049-12-31 23:59:59: the last second that a certificate's short form of a date can say, which
/// every reader knows. A CA in firmware is not replaced without a walk to each machine.
const END: i64 = 2_524_607_999;
/// How long our own certificate lasts.
pub const SERVER_SECONDS: u64 = 90 * 86_400;
/// How long a node's lasts.
pub const NODE_SECONDS: u64 = 86_400;

/// The authority.
pub struct Ca {
    kind: Kind,
    path: PathBuf,
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Opens the authority in `folder`; makes it where there is none, for `names`.
    ///
    /// # Errors
    /// Where files cannot be read or written, or are not an authority's.
    pub fn open_or_make(folder: &Path, names: &Names) -> Result<Self, TlsError> {
        Self::open_or_make_of(Kind::Curves, folder, names)
    }

    /// The same, of a kind.
    ///
    /// # Errors
    /// As [`Ca::open_or_make`].
    pub fn open_or_make_of(kind: Kind, folder: &Path, names: &Names) -> Result<Self, TlsError> {
        let (certificate_name, key_name) = kind.files();
        let (key, certificate) = (folder.join(key_name), folder.join(certificate_name));
        let exists = |path: &Path| {
            path.try_exists().map_err(TlsError::file("the CA's file", path, "; look at its folder"))
        };
        match (exists(&key)?, exists(&certificate)?) {
            (true, true) => return Self::open_of(kind, folder),
            (false, true) => {
                let (folder, key, certificate) = (folder.into(), key_name, certificate_name);
                return Err(TlsError::NoCaKey { folder, key, certificate });
            }
            // Its certificate was never given to anybody.
            (true, false) => {}
            (false, false) => {
                let mend = "; name a folder that can be written by --tls";
                let made = DirBuilder::new().mode(0o700).create(folder);
                match made {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                        return Err(TlsError::file("the folder of our CA", folder, mend)(error));
                    }
                    _ => {}
                }
                let made = kind.key()?;
                write_new(&key, made.serialize_pem().as_bytes(), 0o600).map_err(TlsError::file(
                    "the CA's key",
                    &key,
                    "",
                ))?;
            }
        }
        let made = params(names)?.self_signed(&read_key(&key)?)?;
        write_new(&certificate, made.pem().as_bytes(), 0o644).map_err(TlsError::file(
            "the CA's certificate",
            &certificate,
            "",
        ))?;
        Self::open_of(kind, folder)
    }

    /// Opens the authority in `folder`.
    ///
    /// # Errors
    /// Where there is none, or something else.
    pub fn open(folder: &Path) -> Result<Self, TlsError> {
        Self::open_of(Kind::Curves, folder)
    }

    /// The same, of a kind.
    ///
    /// # Errors
    /// As [`Ca::open`].
    pub fn open_of(kind: Kind, folder: &Path) -> Result<Self, TlsError> {
        let (certificate, key) = kind.files();
        let (key_path, path) = (folder.join(key), folder.join(certificate));
        let mend = "; `provisioner serve` makes it at its first start, in the folder --tls";
        let pem = fs::read_to_string(&path).map_err(TlsError::file(
            "the CA's certificate",
            &path,
            mend,
        ))?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| {
            let detail = error.to_string();
            TlsError::NotPem { what: "the CA's certificate", path: path.clone(), detail }
        })?;
        let key = read_key(&key_path)?;
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        CertifiedKey::from_der(vec![certificate.clone()], private, &default_provider())
            .map_err(|_| TlsError::OtherKey { certificate: path.clone(), key: key_path })?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { kind, path, certificate, pem, issuer })
    }

    /// Where its certificate lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate as text.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of its certificate, as firmware's menus and browsers show it.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// As a root of trust.
    ///
    /// # Errors
    /// Where it is none.
    pub fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(Arc::new(roots))
    }

    /// A certificate of our own, with a new key, as of `now` (seconds since 1970).
    ///
    /// # Errors
    /// Where the CA may not vouch for one of the names.
    pub fn server(&self, names: &Names, now: u64) -> Result<CertifiedKey, TlsError> {
        let now = at_least_written(now);
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(self.roots()?, provider).build()?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let key = self.kind.key()?;
        // One name that is not permitted spoils them all; a certificate of its own tells which.
        for (name, alone) in names.all().zip(names.each()) {
            let made = self.make_server(&key, &alone, now)?;
            let certificate = made.end_entity_cert()?;
            match verifier.verify_server_cert(certificate, &[], &name, &[], time) {
                Ok(_) => {}
                Err(rustls::Error::InvalidCertificate(_)) => {
                    let name = name.to_str().into_owned();
                    return Err(TlsError::NotPermitted { path: self.path.clone(), name });
                }
                Err(other) => return Err(other.into()),
            }
        }
        self.make_server(&key, names, now)
    }

    fn make_server(
        &self,
        key: &KeyPair,
        names: &Names,
        now: u64,
    ) -> Result<CertifiedKey, TlsError> {
        let mut params = leaf("aliaOS provisioner", now + SERVER_SECONDS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let addresses = names.addresses.iter().map(|&address| Ok(SanType::IpAddress(address)));
        let hosts = names.hosts.iter().map(|host| Ok(SanType::DnsName(host.as_str().try_into()?)));
        params.subject_alt_names = addresses.chain(hosts).collect::<Result<_, rcgen::Error>>()?;
        let certificate = params.signed_by(key, &self.issuer)?.der().clone();
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(CertifiedKey::from_der(vec![certificate], private, &default_provider())?)
    }

    /// A certificate for a node's key in one boot of it, as of `now` (seconds since 1970).
    ///
    /// # Errors
    /// Where it cannot be made: a mistake of ours.
    pub fn node(
        &self,
        mac: Mac,
        node: &PublicKey,
        boot_id: &Digest,
        now: u64,
    ) -> Result<CertificateDer<'static>, TlsError> {
        let mut params = leaf(&format!("{NAME}{mac}"), now + NODE_SECONDS)?;
        params.distinguished_name.push(DnType::OrganizationalUnitName, boot_id.to_string());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = SubjectPublicKeyInfo::from_der(&mtls::certificate::key_info(node))?;
        Ok(params.signed_by(&key, &self.issuer)?.der().clone())
    }
}

/// SHA-256 of a certificate, in pairs of hexadecimal digits.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let pairs = digest(&SHA256, certificate);
    let pairs = pairs.as_ref().iter().map(|byte| format!("{byte:02X}"));
    pairs.collect::<Vec<_>>().join(":")
}

/// What the authority's own certificate says.
fn params(names: &Names) -> Result<CertificateParams, TlsError> {
    let number = number()?;
    let mut params = CertificateParams::default();
    let name = format!("aliaOS provisioner CA {}", hex::encode(&number.to_bytes()[..4]));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(number);
    params.not_before = OffsetDateTime::UNIX_EPOCH;
    params.not_after = date(END as u64);
    // None below it but those who use them.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.custom_extensions = vec![constraints::extension(names)];
    Ok(params)
}

/// What a certificate says that is no authority's. With a space in it the common name is taken for
/// no host's by those who still read it as one.
fn leaf(name: &str, until: u64) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(number()?);
    params.not_before = OffsetDateTime::UNIX_EPOCH;
    params.not_after = date(until);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A random serial number of 16 bytes (RFC 5280, 4.1.2.2: positive, at most 20).
fn number() -> Result<SerialNumber, TlsError> {
    let mut bytes = [0; 16];
    fill(&mut bytes).map_err(|_| rustls::Error::FailedToGetRandomBytes)?;
    // Neither negative nor with a zero in front.
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Not later than certificates' dates go.
fn date(unix: u64) -> OffsetDateTime {
    let unix = i64::try_from(unix).unwrap_or(END).min(END);
    OffsetDateTime::from_unix_timestamp(unix).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn read_key(path: &Path) -> Result<KeyPair, TlsError> {
    let text = fs::read_to_string(path).map_err(TlsError::file("the CA's key", path, ""))?;
    KeyPair::from_pem(&text).map_err(|error| {
        let detail = error.to_string();
        TlsError::NotPem { what: "the CA's key", path: path.into(), detail }
    })
}

/// Writes a file whole, or not at all; one that is there meanwhile, of another front-end on the same
/// folder, stays.
fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let half = path.with_extension(format!("new-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&half)?;
    file.write_all(content)?;
    file.sync_all()?;
    let linked = fs::hard_link(&half, path);
    fs::remove_file(&half)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
