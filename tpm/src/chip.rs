//! A chip, and commands to it.

use crate::transport::{HEADER, Transport};
use std::{fmt, io};
use tpm2_protocol::{
    TpmError as Malformed, TpmWriter,
    basic::TpmHandle,
    constant::TPM_MAX_COMMAND_SIZE,
    data::{
        TpmAlgId, TpmCc, TpmRh, TpmSe, TpmSt, TpmaSession, TpmlPcrSelection, TpmsAuthCommand,
        TpmsPcrSelect, TpmsPcrSelection, TpmtSymDefObject,
    },
    frame::{
        TpmFlushContextCommand, TpmFlushContextResponse, TpmFrame, TpmPolicyPcrCommand,
        TpmPolicyPcrResponse, TpmResponse, TpmStartAuthSessionCommand, TpmStartAuthSessionResponse,
        TpmUnmarshalBody, tpm_marshal_command,
    },
};

/// PCR indices, of the bank of SHA-256.
pub type Pcrs<'a> = &'a [u8];

/// The number of PCRs that a PC's chip has.
pub const PCRS: u8 = 24;

/// A TPM 2.0.
pub struct Tpm {
    transport: Box<dyn Transport>,
}

/// What went wrong between us and a chip.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The device cannot be reached.
    #[error("the TPM cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// It refuses, with the response code of the specification (Part 2, 6.6).
    #[error("the TPM refuses {command:?}: {}", ResponseCode(*.code))]
    Refused {
        /// The command.
        command: TpmCc,
        /// The response code.
        code: u32,
    },
    /// It answers nonsense, or we asked for what no command can carry.
    #[error("the TPM's message cannot be understood: {0}")]
    Malformed(#[from] Malformed),
    /// It answers something else than was asked for.
    #[error("the TPM's answer is not what was asked for: {0}")]
    Unexpected(&'static str),
}

/// Response codes that mean something here; of format one without the number of what they are
/// about.
pub mod code {
    /// The policy is not fulfilled: PCRs have other values.
    pub const POLICY_FAIL: u32 = 0x09D;
    /// The PCRs changed since the session looked at them.
    pub const PCR_CHANGED: u32 = 0x128;
    /// The index may not be read or written before the next reset.
    pub const NV_LOCKED: u32 = 0x148;
    /// The index was never written.
    pub const NV_UNINITIALIZED: u32 = 0x14A;
    /// No room.
    pub const NV_SPACE: u32 = 0x14B;
    /// The index is there already.
    pub const NV_DEFINED: u32 = 0x14C;
    /// There is no such object or index.
    pub const HANDLE: u32 = 0x08B;
    /// A value is out of range; of a hierarchy that is disabled too.
    pub const VALUE: u32 = 0x084;
    /// The authorisation is wrong: the hierarchy has a password.
    pub const AUTH_FAIL: u32 = 0x08E;
    /// What is asked for cannot be had by a password.
    pub const AUTH_UNAVAILABLE: u32 = 0x12F;
    /// As [`AUTH_FAIL`], where guesses are not counted.
    pub const BAD_AUTH: u32 = 0x0A2;
}

/// A response code for people.
struct ResponseCode(u32);

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match base(self.0) {
            code::POLICY_FAIL => "its policy is not fulfilled",
            code::PCR_CHANGED => "PCRs changed meanwhile",
            code::NV_LOCKED => "locked until the next reset",
            code::NV_UNINITIALIZED => "nothing was written there yet",
            code::NV_SPACE => "its memory is full",
            code::NV_DEFINED => "that is there already",
            code::HANDLE => "there is no such object",
            code::AUTH_UNAVAILABLE => "no password opens that",
            code::AUTH_FAIL | code::BAD_AUTH => "a password is set; clear the TPM in firmware",
            _ => "see the specification's response codes",
        };
        write!(f, "{text} (0x{:03x})", self.0)
    }
}

/// A response code without the number of the handle, parameter or session that it is about.
fn base(code: u32) -> u32 {
    if code & 0x80 != 0 { code & 0xBF } else { code }
}

impl TpmError {
    /// Whether the chip refused with one of these codes of [`code`].
    pub fn is(&self, codes: &[u32]) -> bool {
        matches!(self, Self::Refused { code, .. } if codes.contains(&base(*code)))
    }
}

/// Flushed when it ends, whatever happened meanwhile.
pub(crate) struct Session(pub(crate) TpmHandle);

impl Tpm {
    /// A chip behind a transport. It is started by firmware, or by the kernel where that did not.
    pub fn new(transport: impl Transport + 'static) -> Self {
        Self { transport: Box::new(transport) }
    }

    /// Runs a command with one authorisation for each session given.
    pub(crate) fn run<C: TpmFrame, R: TpmUnmarshalBody>(
        &mut self,
        command: &C,
        sessions: &[TpmsAuthCommand],
    ) -> Result<R, TpmError> {
        let mut buffer = [0; TPM_MAX_COMMAND_SIZE];
        let mut writer = TpmWriter::new(&mut buffer);
        let tag = if sessions.is_empty() { TpmSt::NoSessions } else { TpmSt::Sessions };
        tpm_marshal_command(command, tag, sessions, &mut writer)?;
        let response = self.transport.transmit(writer.as_bytes())?;
        read_response(command.cc(), &response)
    }

    /// A session for a policy, unbound and unsalted: it carries no secret of ours.
    pub(crate) fn session(&mut self, kind: TpmSe) -> Result<Session, TpmError> {
        let null = TpmHandle::new(TpmRh::Null.value());
        let response: TpmStartAuthSessionResponse = self.run(
            &TpmStartAuthSessionCommand {
                handles: [null, null],
                // Nothing here is authenticated by the nonce; 16 bytes are the least.
                nonce_caller: (&[0u8; 16][..]).try_into()?,
                encrypted_salt: Default::default(),
                session_type: kind,
                symmetric: TpmtSymDefObject { algorithm: TpmAlgId::Null, ..Default::default() },
                auth_hash: TpmAlgId::Sha256,
            },
            &[],
        )?;
        Ok(Session(response.handles[0]))
    }

    /// Has a policy session look at PCRs' present values.
    pub(crate) fn policy_pcr(&mut self, session: &Session, pcrs: Pcrs<'_>) -> Result<(), TpmError> {
        let _: TpmPolicyPcrResponse = self.run(
            &TpmPolicyPcrCommand {
                handles: [session.0],
                pcr_digest: Default::default(),
                pcrs: selection(pcrs)?,
            },
            &[],
        )?;
        Ok(())
    }

    /// Ends a session, object or sequence. That it is gone already is fine.
    pub(crate) fn flush(&mut self, handle: TpmHandle) {
        let command = TpmFlushContextCommand { handles: [], flush_handle: handle };
        let _: Result<TpmFlushContextResponse, _> = self.run(&command, &[]);
    }
}

/// Reads a response to `command`. Foreign bytes.
pub(crate) fn read_response<R: TpmUnmarshalBody>(
    command: TpmCc,
    response: &[u8],
) -> Result<R, TpmError> {
    let code = response.get(6..HEADER).and_then(|code| code.try_into().ok());
    match code.map(u32::from_be_bytes) {
        Some(0) => Ok(TpmResponse::cast(response)?.unmarshal()?),
        Some(code) => Err(TpmError::Refused { command, code }),
        None => Err(TpmError::Unexpected("it is shorter than any response")),
    }
}

/// The empty password.
pub(crate) fn password() -> TpmsAuthCommand {
    TpmsAuthCommand {
        session_handle: TpmHandle::new(TpmRh::Pw.value()),
        session_attributes: TpmaSession::CONTINUE_SESSION,
        ..Default::default()
    }
}

/// A policy session's authorisation; the session stays.
pub(crate) fn by_policy(session: &Session) -> TpmsAuthCommand {
    TpmsAuthCommand {
        session_handle: session.0,
        session_attributes: TpmaSession::CONTINUE_SESSION,
        ..Default::default()
    }
}

/// PCRs of the SHA-256 bank as the chip wants them named.
pub(crate) fn selection(pcrs: Pcrs<'_>) -> Result<TpmlPcrSelection, TpmError> {
    let mut bits = [0u8; PCRS as usize / 8];
    for pcr in pcrs {
        let byte = bits.get_mut(usize::from(pcr / 8)).ok_or(TpmError::Unexpected("no such PCR"))?;
        *byte |= 1 << (pcr % 8);
    }
    let mut list = TpmlPcrSelection::default();
    list.try_push(TpmsPcrSelection {
        hash: TpmAlgId::Sha256,
        pcr_select: TpmsPcrSelect::try_from(&bits[..])?,
    })?;
    Ok(list)
}

/// The PCRs that a selection names, where it names the SHA-256 bank alone.
pub(crate) fn selected(list: &TpmlPcrSelection) -> Option<Vec<u8>> {
    let [selection] = &list[..] else { return None };
    let bit = |pcr: &u8| {
        let byte = selection.pcr_select.get(usize::from(pcr / 8));
        byte.is_some_and(|byte| byte & (1 << (pcr % 8)) != 0)
    };
    (selection.hash == TpmAlgId::Sha256).then(|| (0..32).filter(bit).collect())
}

/// Reads a response as if it were one to each command that we send: for fuzzing.
pub fn read_any_response(response: &[u8]) {
    use tpm2_protocol::frame::{
        TpmActivateCredentialResponse, TpmCreatePrimaryResponse, TpmNvReadPublicResponse,
        TpmNvReadResponse, TpmPcrReadResponse, TpmPolicyGetDigestResponse, TpmQuoteResponse,
    };
    let _ = read_response::<TpmActivateCredentialResponse>(TpmCc::ActivateCredential, response);
    let _ = read_response::<TpmCreatePrimaryResponse>(TpmCc::CreatePrimary, response);
    let _ = read_response::<TpmNvReadPublicResponse>(TpmCc::NvReadPublic, response);
    let _ = read_response::<TpmNvReadResponse>(TpmCc::NvRead, response);
    let _ = read_response::<TpmPcrReadResponse>(TpmCc::PcrRead, response);
    let _ = read_response::<TpmPolicyGetDigestResponse>(TpmCc::PolicyGetDigest, response);
    let _ = read_response::<TpmQuoteResponse>(TpmCc::Quote, response);
    let _ = read_response::<TpmStartAuthSessionResponse>(TpmCc::StartAuthSession, response);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_refusal_is_told_in_words_and_known_by_its_code() {
        let response = [0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x9D];
        let error = read_response::<TpmPolicyPcrResponse>(TpmCc::NvRead, &response).unwrap_err();
        assert!(error.is(&[code::POLICY_FAIL]));
        assert!(error.to_string().contains("policy is not fulfilled (0x99d)"), "{error}");
    }

    proptest! {
        #[test]
        fn no_response_panics(bytes: Vec<u8>, body: Vec<u8>) {
            read_any_response(&bytes);
            let mut response = vec![0x80, 2];
            response.extend((body.len() as u32 + 10).to_be_bytes());
            response.extend([0; 4]);
            response.extend(body);
            read_any_response(&response);
        }

        #[test]
        fn a_selection_names_what_was_selected(mut pcrs in proptest::collection::vec(0..PCRS, 0..9)) {
            pcrs.sort_unstable();
            pcrs.dedup();
            prop_assert_eq!(selected(&selection(&pcrs).unwrap()), Some(pcrs));
        }
    }
}
