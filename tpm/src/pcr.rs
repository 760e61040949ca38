//! PCRs: hash chains that only a reset of the machine begins anew.

use crate::chip::{Pcrs, Tpm, TpmError, password, selected, selection};
use sha2::{Digest as _, Sha256};
use tpm2_protocol::{
    basic::TpmHandle,
    data::{TpmAlgId, TpmlDigestValues, TpmtHa, TpmuHa},
    frame::{TpmPcrExtendCommand, TpmPcrExtendResponse, TpmPcrReadCommand, TpmPcrReadResponse},
};

/// A PCR's value in the bank of SHA-256.
pub type Value = [u8; 32];

/// What extending makes of a value.
pub fn extended(value: &Value, digest: &Value) -> Value {
    Sha256::new().chain_update(value).chain_update(digest).finalize().into()
}

impl Tpm {
    /// Extends a PCR with a SHA-256 digest, in the bank of SHA-256: other banks stay as they were,
    /// and nobody here looks at them.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn extend(&mut self, pcr: u8, digest: &Value) -> Result<(), TpmError> {
        let mut digests = TpmlDigestValues::default();
        let digest = TpmuHa::Digest((&digest[..]).try_into()?);
        digests.try_push(TpmtHa { hash_alg: TpmAlgId::Sha256, digest })?;
        let handle = TpmHandle::new(u32::from(pcr));
        let command = TpmPcrExtendCommand { handles: [handle], digests };
        let _: TpmPcrExtendResponse = self.run(&command, &[password()])?;
        Ok(())
    }

    /// The values of PCRs, in their order.
    ///
    /// # Errors
    /// [`TpmError`]; also where the chip has no bank of SHA-256.
    pub fn read_pcrs(&mut self, pcrs: Pcrs<'_>) -> Result<Vec<(u8, Value)>, TpmError> {
        let mut values = Vec::new();
        // A response holds eight at most.
        for some in pcrs.chunks(8) {
            let command = TpmPcrReadCommand { handles: [], pcr_selection_in: selection(some)? };
            let response: TpmPcrReadResponse = self.run(&command, &[])?;
            let read = selected(&response.pcr_selection_out);
            if read.as_deref() != Some(some) || response.pcr_values.len() != some.len() {
                return Err(TpmError::Unexpected("it has no PCRs of SHA-256"));
            }
            for (pcr, value) in some.iter().zip(response.pcr_values.iter()) {
                let value = Value::try_from(value.as_ref());
                values.push((*pcr, value.map_err(|_| TpmError::Unexpected("a PCR's length"))?));
            }
        }
        Ok(values)
    }
}
