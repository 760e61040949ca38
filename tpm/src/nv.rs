//! The chip's own memory: two indices of ours, for what must outlast the power.
//!
//! Why the node's key lies in an index under a policy and not in a sealed blob beside it: it needs
//! no storage elsewhere, no storage root key to be made at each boot, and an index can be locked
//! for reading until the next reset once PID 1 has read it, which a blob cannot.

use crate::chip::{Pcrs, Session, Tpm, TpmError, by_policy, code, password};
use tpm2_protocol::{
    basic::{TpmHandle, TpmUint16},
    data::{
        Tpm2bDigest, Tpm2bNvPublic, TpmAlgId, TpmRh, TpmSe, TpmaNv, TpmsAuthCommand, TpmsNvPublic,
    },
    frame::{
        TpmNvDefineSpaceCommand, TpmNvDefineSpaceResponse, TpmNvReadCommand, TpmNvReadLockCommand,
        TpmNvReadLockResponse, TpmNvReadPublicCommand, TpmNvReadPublicResponse, TpmNvReadResponse,
        TpmNvUndefineSpaceCommand, TpmNvUndefineSpaceResponse, TpmNvWriteCommand,
        TpmNvWriteLockCommand, TpmNvWriteLockResponse, TpmNvWriteResponse,
        TpmPolicyGetDigestCommand, TpmPolicyGetDigestResponse,
    },
};

/// Indices of ours, in the owner's range (TCG's registry of reserved handles, 2.2.2).
pub mod index {
    /// The node's key, under a policy.
    pub const NODE_KEY: u32 = 0x0180_A11A;
    /// The floor: the least release version that this machine still boots.
    pub const FLOOR: u32 = 0x0180_A11B;
}

/// The most bytes of one read or write that every chip takes.
const CHUNK: usize = 512;

impl Tpm {
    /// What [`Tpm::seal`] put into an index, where the PCRs have the values that they had then.
    /// None where there is no such index. Then locks the index: until the next reset nobody reads
    /// it again, whoever runs on the machine.
    ///
    /// # Errors
    /// [`TpmError`]; [`code::POLICY_FAIL`] where PCRs differ, [`code::NV_LOCKED`] after a first
    /// read.
    pub fn unseal(&mut self, index: u32, pcrs: Pcrs<'_>) -> Result<Option<Vec<u8>>, TpmError> {
        let Some(public) = self.public(index)? else { return Ok(None) };
        let session = self.session(TpmSe::Policy)?;
        let read = self.read_by_policy(&session, index, public.data_size.value(), pcrs);
        self.flush(session.0);
        read.map(Some)
    }

    fn read_by_policy(
        &mut self,
        session: &Session,
        index: u32,
        size: u16,
        pcrs: Pcrs<'_>,
    ) -> Result<Vec<u8>, TpmError> {
        self.policy_pcr(session, pcrs)?;
        let content = self.read_once(index, size, by_policy(session))?;
        // A policy session is as new once it has authorised something.
        self.policy_pcr(session, pcrs)?;
        let index = TpmHandle::new(index);
        let lock = TpmNvReadLockCommand { handles: [index, index] };
        let _: TpmNvReadLockResponse = self.run(&lock, &[by_policy(session)])?;
        Ok(content)
    }

    /// Puts a secret of at most 512 bytes into an index, to be had again by [`Tpm::unseal`] where
    /// these PCRs have their present values. Replaces what was there.
    ///
    /// # Errors
    /// [`TpmError`]; where the owner hierarchy has a password, or the chip no room.
    pub fn seal(&mut self, index: u32, pcrs: Pcrs<'_>, secret: &[u8]) -> Result<(), TpmError> {
        let policy = self.policy_of(pcrs)?;
        self.undefine(index)?;
        let attributes = TpmaNv::AUTHWRITE
            | TpmaNv::WRITEDEFINE
            | TpmaNv::POLICYREAD
            | TpmaNv::READ_STCLEAR
            | TpmaNv::NO_DA;
        self.define(index, attributes, policy, secret.len())?;
        self.write(index, secret)?;
        // Nobody changes it any more: it can only be removed, and then it is gone.
        self.lock_writing(index)
    }

    /// Reads an index that anybody may read; none where it is not there or was never written.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn load(&mut self, index: u32) -> Result<Option<Vec<u8>>, TpmError> {
        let Some(public) = self.public(index)? else { return Ok(None) };
        if public.attributes.bits() & TpmaNv::WRITTEN.bits() == 0 {
            return Ok(None);
        }
        self.read_once(index, public.data_size.value(), password()).map(Some)
    }

    /// Writes an index that anybody may read, and write until [`Tpm::lock_writing`]; makes it.
    ///
    /// # Errors
    /// [`TpmError`]; [`code::NV_LOCKED`] after [`Tpm::lock_writing`] until the next reset.
    pub fn store(&mut self, index: u32, content: &[u8]) -> Result<(), TpmError> {
        if self.public(index)?.is_none() {
            let attributes =
                TpmaNv::AUTHWRITE | TpmaNv::AUTHREAD | TpmaNv::WRITE_STCLEAR | TpmaNv::NO_DA;
            self.define(index, attributes, Tpm2bDigest::default(), content.len())?;
        }
        self.write(index, content)
    }

    /// Locks an index for writing, until the next reset or for ever, as it was made. One that was
    /// never written stays open.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn lock_writing(&mut self, index: u32) -> Result<(), TpmError> {
        let index = TpmHandle::new(index);
        let lock = TpmNvWriteLockCommand { handles: [index, index] };
        let _: TpmNvWriteLockResponse = self.run(&lock, &[password()])?;
        Ok(())
    }

    /// Removes an index; that there is none is fine.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn undefine(&mut self, index: u32) -> Result<(), TpmError> {
        if self.public(index)?.is_some() {
            let command = TpmNvUndefineSpaceCommand { handles: [owner(), TpmHandle::new(index)] };
            let _: TpmNvUndefineSpaceResponse = self.run(&command, &[password()])?;
        }
        Ok(())
    }

    fn public(&mut self, index: u32) -> Result<Option<TpmsNvPublic>, TpmError> {
        let command = TpmNvReadPublicCommand { handles: [TpmHandle::new(index)] };
        match self.run::<_, TpmNvReadPublicResponse>(&command, &[]) {
            Ok(response) => Ok(Some(response.nv_public.inner)),
            Err(error) if error.is(&[code::HANDLE]) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn define(
        &mut self,
        index: u32,
        attributes: TpmaNv,
        policy: Tpm2bDigest,
        size: usize,
    ) -> Result<(), TpmError> {
        if size > CHUNK {
            return Err(TpmError::Unexpected("more than an index is to hold"));
        }
        let public = TpmsNvPublic {
            nv_index: TpmHandle::new(index),
            name_alg: TpmAlgId::Sha256,
            attributes,
            auth_policy: policy,
            data_size: u16::try_from(size).unwrap_or(u16::MAX).into(),
        };
        let command = TpmNvDefineSpaceCommand {
            handles: [owner()],
            auth: Default::default(),
            public_info: Tpm2bNvPublic { inner: public },
        };
        let _: TpmNvDefineSpaceResponse = self.run(&command, &[password()])?;
        Ok(())
    }

    fn write(&mut self, index: u32, content: &[u8]) -> Result<(), TpmError> {
        let index = TpmHandle::new(index);
        let command = TpmNvWriteCommand {
            handles: [index, index],
            data: content.try_into()?,
            offset: TpmUint16::from(0),
        };
        let _: TpmNvWriteResponse = self.run(&command, &[password()])?;
        Ok(())
    }

    fn read_once(
        &mut self,
        index: u32,
        size: u16,
        authorisation: TpmsAuthCommand,
    ) -> Result<Vec<u8>, TpmError> {
        let index = TpmHandle::new(index);
        let command = TpmNvReadCommand {
            handles: [index, index],
            size: TpmUint16::from(size),
            offset: TpmUint16::from(0),
        };
        let response: TpmNvReadResponse = self.run(&command, &[authorisation])?;
        if response.data.len() != usize::from(size) {
            return Err(TpmError::Unexpected("less than the index holds"));
        }
        Ok(response.data.to_vec())
    }

    /// The digest of the policy that PCRs have their present values.
    fn policy_of(&mut self, pcrs: Pcrs<'_>) -> Result<Tpm2bDigest, TpmError> {
        let session = self.session(TpmSe::Trial)?;
        let digest = self.policy_pcr(&session, pcrs).and_then(|()| {
            let command = TpmPolicyGetDigestCommand { handles: [session.0] };
            self.run::<_, TpmPolicyGetDigestResponse>(&command, &[])
        });
        self.flush(session.0);
        Ok(digest?.policy_digest)
    }
}

fn owner() -> TpmHandle {
    TpmHandle::new(TpmRh::Owner.value())
}
