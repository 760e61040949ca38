//! Keys of the endorsement hierarchy, and what they attest.

use crate::chip::{Pcrs, Session, Tpm, TpmError, by_policy, password, selection};
use tpm2_protocol::{
    TpmMarshal, TpmWriter,
    basic::{TpmHandle, TpmUint16},
    constant::TPM_MAX_COMMAND_SIZE,
    data::{
        Tpm2bPublic, TpmAlgId, TpmEccCurve, TpmRh, TpmSe, TpmaObject, TpmsEccParms, TpmsEccPoint,
        TpmsSchemeHash, TpmtEccScheme, TpmtKdfScheme, TpmtPublic, TpmtSigScheme, TpmtSymDefObject,
        TpmuAsymScheme, TpmuPublicId, TpmuPublicParms, TpmuSigScheme, TpmuSymKeyBits, TpmuSymMode,
    },
    frame::{
        TpmActivateCredentialCommand, TpmActivateCredentialResponse, TpmCreatePrimaryCommand,
        TpmCreatePrimaryResponse, TpmPolicySecretCommand, TpmPolicySecretResponse, TpmQuoteCommand,
        TpmQuoteResponse,
    },
};

/// PolicySecret(TPM_RH_ENDORSEMENT), of the default templates (TCG EK Credential Profile, B.3).
const ENDORSEMENT_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24,
    0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA,
];

/// The length of a coordinate of P-256.
pub(crate) const COORDINATE: usize = 32;

/// A key in a chip, made anew from the chip's seed each time it is asked for: the same one as long
/// as the chip is not cleared.
pub struct Key {
    handle: TpmHandle,
    /// Its public area, as TPMT_PUBLIC.
    pub public: Vec<u8>,
}

/// A quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// What the chip says of itself, as TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// The attestation key's signature of it, as TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

impl Tpm {
    /// The endorsement key: of TCG's default template for P-256, so that it is the one that the
    /// maker's certificate names.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn endorsement_key(&mut self) -> Result<Key, TpmError> {
        self.primary(endorsement_template()?)
    }

    /// The attestation key: signs what the chip itself says and nothing else.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn attestation_key(&mut self) -> Result<Key, TpmError> {
        self.primary(attestation_template()?)
    }

    /// Lets a key's place in the chip go.
    pub fn forget(&mut self, key: &Key) {
        self.flush(key.handle);
    }

    /// Opens a credential: what was wrapped for `endorsement` and the name of `attestation`, which
    /// the chip does only where it holds both.
    ///
    /// # Errors
    /// [`TpmError`]; also where the credential is for another chip or key.
    pub fn activate(
        &mut self,
        endorsement: &Key,
        attestation: &Key,
        credential: &[u8],
        secret: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        let session = self.session(TpmSe::Policy)?;
        let opened = self.activate_in(&session, endorsement, attestation, credential, secret);
        self.flush(session.0);
        opened
    }

    fn activate_in(
        &mut self,
        session: &Session,
        endorsement: &Key,
        attestation: &Key,
        credential: &[u8],
        secret: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        let command = TpmPolicySecretCommand {
            handles: [TpmHandle::new(TpmRh::Endorsement.value()), session.0],
            nonce_tpm: Default::default(),
            cp_hash_a: Default::default(),
            policy_ref: Default::default(),
            expiration: Default::default(),
        };
        let _: TpmPolicySecretResponse = self.run(&command, &[password()])?;
        let command = TpmActivateCredentialCommand {
            handles: [attestation.handle, endorsement.handle],
            credential_blob: credential.try_into()?,
            secret: secret.try_into()?,
        };
        let opened: TpmActivateCredentialResponse =
            self.run(&command, &[password(), by_policy(session)])?;
        Ok(opened.cert_info.to_vec())
    }

    /// Quotes PCRs' present values, with `qualifying` (32 bytes) in what is signed.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn quote(
        &mut self,
        key: &Key,
        qualifying: &[u8; 32],
        pcrs: Pcrs<'_>,
    ) -> Result<Quote, TpmError> {
        let command = TpmQuoteCommand {
            handles: [key.handle],
            qualifying_data: (&qualifying[..]).try_into()?,
            // The key's own scheme.
            in_scheme: TpmtSigScheme { scheme: TpmAlgId::Null, details: TpmuSigScheme::Null },
            pcr_select: selection(pcrs)?,
        };
        let response: TpmQuoteResponse = self.run(&command, &[password()])?;
        Ok(Quote {
            attest: marshalled(&response.quoted.inner)?,
            signature: marshalled(&response.signature)?,
        })
    }

    fn primary(&mut self, template: TpmtPublic) -> Result<Key, TpmError> {
        let command = TpmCreatePrimaryCommand {
            handles: [TpmHandle::new(TpmRh::Endorsement.value())],
            in_sensitive: Default::default(),
            in_public: Tpm2bPublic { inner: template },
            outside_info: Default::default(),
            creation_pcr: Default::default(),
        };
        let response: TpmCreatePrimaryResponse = self.run(&command, &[password()])?;
        Ok(Key { handle: response.handles[0], public: marshalled(&response.out_public.inner)? })
    }
}

/// A value as it stands on the wire.
pub(crate) fn marshalled(value: &impl TpmMarshal) -> Result<Vec<u8>, TpmError> {
    let mut buffer = [0; TPM_MAX_COMMAND_SIZE];
    let mut writer = TpmWriter::new(&mut buffer);
    value.marshal(&mut writer)?;
    Ok(writer.as_bytes().to_vec())
}

/// Template L-2 of the EK Credential Profile.
pub(crate) fn endorsement_template() -> Result<TpmtPublic, TpmError> {
    let zeros = [0; COORDINATE];
    let attributes = TpmaObject::FIXED_TPM
        | TpmaObject::FIXED_PARENT
        | TpmaObject::SENSITIVE_DATA_ORIGIN
        | TpmaObject::ADMIN_WITH_POLICY
        | TpmaObject::RESTRICTED
        | TpmaObject::DECRYPT;
    let symmetric = TpmtSymDefObject {
        algorithm: TpmAlgId::Aes,
        key_bits: TpmuSymKeyBits::Aes(TpmUint16::from(128)),
        mode: TpmuSymMode::Aes(TpmAlgId::Cfb),
    };
    let scheme = TpmtEccScheme { scheme: TpmAlgId::Null, details: TpmuAsymScheme::Null };
    Ok(TpmtPublic {
        auth_policy: (&ENDORSEMENT_POLICY[..]).try_into()?,
        ..key(attributes, symmetric, scheme, &zeros)?
    })
}

/// Restricted signing, ECDSA with SHA-256.
pub(crate) fn attestation_template() -> Result<TpmtPublic, TpmError> {
    let attributes = TpmaObject::FIXED_TPM
        | TpmaObject::FIXED_PARENT
        | TpmaObject::SENSITIVE_DATA_ORIGIN
        | TpmaObject::USER_WITH_AUTH
        | TpmaObject::NO_DA
        | TpmaObject::RESTRICTED
        | TpmaObject::SIGN_ENCRYPT;
    let symmetric = TpmtSymDefObject { algorithm: TpmAlgId::Null, ..Default::default() };
    let hash = TpmsSchemeHash { hash_alg: TpmAlgId::Sha256 };
    let scheme = TpmtEccScheme { scheme: TpmAlgId::Ecdsa, details: TpmuAsymScheme::Hash(hash) };
    // The template's own words, so that the key is ours and nobody else's by chance.
    key(attributes, symmetric, scheme, b"aliaOS attestation key v1")
}

fn key(
    object_attributes: TpmaObject,
    symmetric: TpmtSymDefObject,
    scheme: TpmtEccScheme,
    x: &[u8],
) -> Result<TpmtPublic, TpmError> {
    let kdf = TpmtKdfScheme::default();
    let curve_id = TpmEccCurve::NistP256;
    let mut y = &[][..];
    if x.len() == COORDINATE {
        y = x;
    }
    Ok(TpmtPublic {
        object_type: TpmAlgId::Ecc,
        name_alg: TpmAlgId::Sha256,
        object_attributes,
        auth_policy: Default::default(),
        parameters: TpmuPublicParms::Ecc(TpmsEccParms { symmetric, scheme, curve_id, kdf }),
        unique: TpmuPublicId::Ecc(TpmsEccPoint { x: x.try_into()?, y: y.try_into()? }),
    })
}
