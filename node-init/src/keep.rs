//! Where the node's key lies between boots: in the TPM, else in a UEFI variable, else on a medium that
//! was made for it, else nowhere.

use crate::{
    kernel::Kernel,
    medium::{self, MediumError},
    variable,
};
use protocol::evidence::{Held, PCR_CONFIGURATION};
use std::io;
use tpm::{Tpm, TpmError, code, nv::index};

/// PCRs that the key is sealed to where firmware starts only what is signed: the state of Secure
/// Boot and whose signatures were used (7), what configures the boot (12), and shim's own keys
/// (14). A new release that is signed by the same keys gets the key; another system does not.
pub const SEALED_SIGNED: &[u8] = &[7, PCR_CONFIGURATION, 14];
/// PCRs where firmware starts anything: what it started (4), Secure Boot being off (7), kernel and
/// initramfs (9), and what configures the boot (12). Any other kernel, initramfs or command line
/// is another machine then, a new release too.
///
/// Neither has PCRs 0 to 3, which change with each update of firmware and with each card that is
/// put in: losing a node for that would have its owner approve it again for nothing.
pub const SEALED_UNSIGNED: &[u8] = &[4, 7, 9, PCR_CONFIGURATION];

/// The length of a key's seed.
const SEED: usize = 32;

/// A node's key as it was kept, or made.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// The key's seed.
    pub seed: [u8; SEED],
    /// What holds it.
    pub held: Held,
    /// Whether an earlier boot had it.
    pub known: bool,
    /// For people: why it is not held better, or why it is another one.
    pub why: Option<String>,
}

/// The PCRs that the key is sealed to on this machine.
pub fn sealed_to(kernel: &dyn Kernel) -> &'static [u8] {
    if variable::secure_boot(kernel) { SEALED_SIGNED } else { SEALED_UNSIGNED }
}

/// The node's key from where it lies; `fresh` where there is none, kept from now on. Where this boot
/// was not measured as it should be, nothing is asked of the chip and nothing is kept: a key that is
/// sealed now would be given to boots that do not measure either.
pub fn node_key(kernel: &dyn Kernel, fresh: [u8; SEED], measured: bool) -> Kept {
    if !measured {
        let why = Some("what configures this boot was not measured".to_owned());
        return Kept { seed: fresh, held: Held::Memory, known: false, why };
    }
    let in_chip = match kernel.tpm() {
        Ok(tpm) => in_chip(tpm, sealed_to(kernel), fresh),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("no TPM".to_owned()),
        Err(error) => Err(format!("the TPM cannot be opened: {error}")),
    };
    let no_chip = match in_chip {
        Ok(kept) => return kept,
        Err(why) => why,
    };
    in_variable(kernel, fresh).map_or_else(
        |error| {
            let why = format!("{no_chip}, and no UEFI variable: {error}");
            Kept { seed: fresh, held: Held::Memory, known: false, why: Some(why) }
        },
        |kept| Kept { why: kept.why.or(Some(no_chip.clone())), ..kept },
    )
}

fn in_chip(mut tpm: Tpm, pcrs: &[u8], fresh: [u8; SEED]) -> Result<Kept, String> {
    let held = Held::Tpm;
    let why = match tpm.unseal(index::NODE_KEY, pcrs) {
        Ok(Some(seed)) => match seed.try_into() {
            Ok(seed) => return Ok(Kept { seed, held, known: true, why: None }),
            Err(_) => Some("what the TPM keeps is no key of ours".to_owned()),
        },
        Ok(None) => None,
        Err(error) if error.is(&[code::POLICY_FAIL]) => Some(
            "the TPM does not give the node's key out: this machine booted otherwise than when it \
             was made (another release, command line or Secure Boot state)"
                .to_owned(),
        ),
        // Read already in this boot: the next one gets it again.
        Err(error) if error.is(&[code::NV_LOCKED]) => {
            return Err("the TPM gives the node's key out once a boot, and did".to_owned());
        }
        Err(error) => return Err(error.to_string()),
    };
    let sealed = tpm.seal(index::NODE_KEY, pcrs, &fresh).and_then(|()| {
        // Read like any other boot does: from here on nobody reads it before the next.
        tpm.unseal(index::NODE_KEY, pcrs)
    });
    match sealed {
        Ok(Some(seed)) if seed == fresh => Ok(Kept { seed: fresh, held, known: false, why }),
        Ok(_) => Err("the TPM gave back another key than it was given".to_owned()),
        Err(error) => Err(refused(&error)),
    }
}

fn refused(error: &TpmError) -> String {
    format!("the TPM keeps no key: {error}")
}

fn in_variable(kernel: &dyn Kernel, fresh: [u8; SEED]) -> io::Result<Kept> {
    let held = Held::UefiVariable;
    let found = variable::read(kernel, variable::NODE_KEY)?;
    let why = match found.map(<[u8; SEED]>::try_from) {
        Some(Ok(seed)) => return Ok(Kept { seed, held, known: true, why: None }),
        Some(Err(_)) => Some("what the UEFI variable keeps is no key of ours".to_owned()),
        None => None,
    };
    variable::write(kernel, variable::NODE_KEY, &fresh)?;
    Ok(Kept { seed: fresh, held, known: false, why })
}

/// As [`node_key`] where neither chip nor firmware keeps it: from a medium, once disks are there.
/// None where there is no medium.
pub fn on_medium(kernel: &dyn Kernel, fresh: [u8; SEED]) -> Result<Option<Kept>, MediumError> {
    let Some(partition) = medium::find(kernel)? else { return Ok(None) };
    let (seed, known) = medium::key(kernel, &partition, fresh)?;
    Ok(Some(Kept { seed, held: Held::Medium, known, why: None }))
}

impl Kept {
    /// For people: `kept in the TPM`.
    pub fn detail(&self) -> String {
        let what = match (self.held, self.known) {
            (Held::Memory, _) => "fresh, in memory for this boot alone".to_owned(),
            (held, true) => format!("kept in a {}", held.as_str()),
            (held, false) => format!("fresh, from now on kept in a {}", held.as_str()),
        };
        match &self.why {
            Some(why) => format!("{what}: {why}"),
            None => what,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    #[test]
    fn without_a_tpm_the_key_comes_back_from_the_uefi_variable() {
        let kernel = Fake::new(&[("/sys/firmware/efi/runtime", "")]);
        let first = node_key(&kernel, [1; 32], true);
        assert_eq!((first.seed, first.held, first.known), ([1; 32], Held::UefiVariable, false));
        assert!(first.detail().contains("no TPM"), "{}", first.detail());
        let second = node_key(&kernel, [2; 32], true);
        assert_eq!((second.seed, second.held, second.known), ([1; 32], Held::UefiVariable, true));
    }

    #[test]
    fn a_boot_that_was_not_measured_keeps_no_key_and_gets_none() {
        let kernel = Fake::new(&[("/sys/firmware/efi/runtime", "")]);
        let first = node_key(&kernel, [1; 32], true);
        let unmeasured = node_key(&kernel, [2; 32], false);
        assert_eq!((unmeasured.seed, unmeasured.held), ([2; 32], Held::Memory));
        assert_eq!(node_key(&kernel, [3; 32], true).seed, first.seed);
    }

    #[test]
    fn without_either_each_boot_has_a_key_of_its_own_and_says_so() {
        let kernel = Fake::new(&[]);
        for seed in [1, 2] {
            let kept = node_key(&kernel, [seed; 32], true);
            assert_eq!((kept.seed, kept.held, kept.known), ([seed; 32], Held::Memory, false));
            let detail = kept.detail();
            assert!(detail.contains("this boot alone: no TPM, and no UEFI variable"), "{detail}");
        }
    }

    #[test]
    fn without_either_the_key_comes_back_from_a_medium() {
        let kernel = Fake::new(&[("/sys/class/block/sda2/uevent", "PARTNAME=alia-key\n")]);
        kernel.world().files.insert("/dev/sda2".into(), vec![0; 4096]);
        let first = on_medium(&kernel, [1; 32]).unwrap().unwrap();
        assert_eq!((first.seed, first.held, first.known), ([1; 32], Held::Medium, false));
        let second = on_medium(&kernel, [2; 32]).unwrap().unwrap();
        assert_eq!((second.seed, second.known), ([1; 32], true));
        assert_eq!(second.detail(), "kept in a medium");
        assert!(on_medium(&Fake::new(&[]), [3; 32]).unwrap().is_none());
    }

    #[test]
    fn a_variable_that_holds_something_else_is_replaced() {
        let kernel = Fake::new(&[("/sys/firmware/efi/runtime", "")]);
        variable::write(&kernel, variable::NODE_KEY, b"short").unwrap();
        let kept = node_key(&kernel, [1; 32], true);
        assert!(!kept.known && kept.detail().contains("no key of ours"), "{}", kept.detail());
        assert!(node_key(&kernel, [2; 32], true).known);
    }

    #[test]
    fn signed_machines_seal_to_signatures_and_others_to_the_very_programs() {
        let variable = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        let kernel = Fake::new(&[(variable, "\u{6}\0\0\0\u{1}")]);
        assert_eq!(sealed_to(&kernel), SEALED_SIGNED);
        let kernel = Fake::new(&[(variable, "\u{6}\0\0\0\0")]);
        assert_eq!(sealed_to(&kernel), SEALED_UNSIGNED);
    }
}
