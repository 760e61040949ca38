//! What a TPM answers, what firmware's event log says, and what a node says of its TPM.
#![no_main]

use fuzz::{parts, target};
use protocol::{
    Digest,
    evidence::{Chip, Evidence},
};
use tpm::{chip, log, verify};

target!(|bytes: &[u8]| {
    chip::read_any_response(bytes);
    if let Ok(events) = log::parse(bytes) {
        assert!(log::replay(&events).len() <= usize::from(chip::PCRS));
    }
    let [said, keys] = parts(bytes);
    if let Ok(evidence) = serde_json::from_slice::<Evidence>(said) {
        // Nobody can guess a signature.
        let _ = verify::evidence(&evidence, &evidence.opened, &Digest::default());
    }
    if let Ok(chip) = serde_json::from_slice::<Chip>(keys) {
        let _ = verify::credential(&chip, &Digest::default());
    }
    // Raw keys, so that their structure is found and not JSON's.
    let chip = Chip { endorsement_key: said.to_vec(), attestation_key: keys.to_vec() };
    let _ = verify::credential(&chip, &Digest::default());
});
