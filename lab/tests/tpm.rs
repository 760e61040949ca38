//! The TPM layer against real chips: swtpm processes on sockets, without QEMU.
//!
//! ALIA_CACHE (the packages' cache) is given by the environment, as `cargo xtask test` gives it.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

use image::{Packages, packages::Options};
use lab::{Service, Swtpm, swtpm};
use protocol::{
    Digest, SecretKey,
    evidence::{
        Chip, Evidence, Measurement, PCR_CONFIGURATION, PCR_ROOT, PCRS_QUOTED, PcrValue, qualifying,
    },
};
use std::{
    path::Path,
    sync::{Arc, OnceLock},
};
use tempfile::TempDir;
use tpm::{
    Stream, Tpm, code, measured,
    nv::index,
    verify::{self, Refusal},
};

/// A chip that has power, and its folder.
struct Bed {
    folder: TempDir,
    process: Option<Service>,
}

/// None where no cache is given: then there is nothing to test with.
fn emulator() -> Option<Swtpm> {
    static EMULATOR: OnceLock<Option<Swtpm>> = OnceLock::new();
    let fetch = || {
        let Some(cache) = std::env::var_os("ALIA_CACHE") else {
            println!("skipped: ALIA_CACHE is not set");
            return None;
        };
        let options = Options::new(cache, "trixie");
        let packages = Packages::open(options, Arc::new(|text| println!("{text}"))).unwrap();
        Some(Swtpm::fetch(&packages).unwrap_or_else(|error| panic!("{error}")))
    };
    EMULATOR.get_or_init(fetch).clone()
}

impl Bed {
    fn new() -> Option<(Self, Tpm)> {
        emulator()?;
        let mut bed = Self { folder: tempfile::tempdir().unwrap(), process: None };
        let tpm = bed.power_on();
        Some((bed, tpm))
    }

    /// Pulls the plug and gives the chip power again: its PCRs begin anew.
    fn power_on(&mut self) -> Tpm {
        self.process = None;
        let started = emulator().unwrap().alone("chip", self.folder.path());
        let (process, socket) = started.unwrap_or_else(|error| panic!("{error}"));
        self.process = Some(process);
        Tpm::new(Stream(swtpm::connect(&socket).unwrap()))
    }

    /// The same chip twice: its state, copied.
    fn clone_chip(&self) -> Self {
        let other = tempfile::tempdir().unwrap();
        let state = |folder: &Path| Swtpm::state("chip", folder);
        let (from, to) = (state(self.folder.path()), state(other.path()));
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        Self { folder: other, process: None }
    }
}

fn measurement(pcr: u8, name: &str, data: &str) -> Measurement {
    Measurement { pcr, name: name.into(), data: data.into() }
}

/// As node-init measures a boot.
fn measure(tpm: &mut Tpm, release: &str) -> Vec<Measurement> {
    let measurements = vec![
        measurement(PCR_CONFIGURATION, "command-line", "alia.provisioner=http://10.0.0.1:8080"),
        measurement(PCR_ROOT, "release", release),
    ];
    for each in &measurements {
        tpm.extend(each.pcr, &measured::digest(each)).unwrap();
    }
    measurements
}

const SEALED_TO: &[u8] = &[7, PCR_CONFIGURATION, PCR_ROOT];

#[test]
fn a_sealed_key_comes_back_after_the_power_was_off_and_only_once_a_boot() {
    let Some((mut bed, mut tpm)) = Bed::new() else { return };
    assert_eq!(tpm.unseal(index::NODE_KEY, SEALED_TO).unwrap(), None);
    measure(&mut tpm, "release one");
    tpm.seal(index::NODE_KEY, SEALED_TO, &[42; 32]).unwrap();

    let mut tpm = bed.power_on();
    measure(&mut tpm, "release one");
    assert_eq!(tpm.unseal(index::NODE_KEY, SEALED_TO).unwrap(), Some(vec![42; 32]));
    let again = tpm.unseal(index::NODE_KEY, SEALED_TO).unwrap_err();
    assert!(again.is(&[code::NV_LOCKED]), "{again}");
    let again = tpm.load(index::NODE_KEY).unwrap_err();
    assert!(again.is(&[code::AUTH_UNAVAILABLE]), "{again}");
    let overwritten = tpm.store(index::NODE_KEY, &[1; 32]).unwrap_err();
    assert!(overwritten.is(&[code::NV_LOCKED]), "{overwritten}");

    let mut tpm = bed.power_on();
    measure(&mut tpm, "release one");
    assert_eq!(tpm.unseal(index::NODE_KEY, SEALED_TO).unwrap(), Some(vec![42; 32]));
}

#[test]
fn what_booted_otherwise_does_not_get_the_key_and_nobody_reads_it_without_the_policy() {
    let Some((mut bed, mut tpm)) = Bed::new() else { return };
    measure(&mut tpm, "release one");
    tpm.seal(index::NODE_KEY, SEALED_TO, &[42; 32]).unwrap();

    let mut tpm = bed.power_on();
    let early = tpm.unseal(index::NODE_KEY, SEALED_TO).unwrap_err();
    assert!(early.is(&[code::POLICY_FAIL]), "{early}");
    measure(&mut tpm, "release two");
    let other = tpm.unseal(index::NODE_KEY, SEALED_TO).unwrap_err();
    assert!(other.is(&[code::POLICY_FAIL]), "{other}");
    // Nor with fewer PCRs, nor with a password.
    let fewer = tpm.unseal(index::NODE_KEY, &[7]).unwrap_err();
    assert!(fewer.is(&[code::POLICY_FAIL]), "{fewer}");
    assert!(tpm.load(index::NODE_KEY).is_err());
    // A fresh key takes the place of the lost one.
    tpm.seal(index::NODE_KEY, SEALED_TO, &[43; 32]).unwrap();
    let mut tpm = bed.power_on();
    measure(&mut tpm, "release two");
    assert_eq!(tpm.unseal(index::NODE_KEY, SEALED_TO).unwrap(), Some(vec![43; 32]));
}

#[test]
fn a_floor_outlasts_the_power_and_is_not_changed_once_it_is_locked() {
    let Some((mut bed, mut tpm)) = Bed::new() else { return };
    assert_eq!(tpm.load(index::FLOOR).unwrap(), None);
    tpm.store(index::FLOOR, &7u64.to_be_bytes()).unwrap();
    tpm.lock_writing(index::FLOOR).unwrap();
    let locked = tpm.store(index::FLOOR, &1u64.to_be_bytes()).unwrap_err();
    assert!(locked.is(&[code::NV_LOCKED]), "{locked}");
    let mut tpm = bed.power_on();
    assert_eq!(tpm.load(index::FLOOR).unwrap(), Some(7u64.to_be_bytes().to_vec()));
    tpm.store(index::FLOOR, &8u64.to_be_bytes()).unwrap();
    assert_eq!(tpm.load(index::FLOOR).unwrap(), Some(8u64.to_be_bytes().to_vec()));
}

/// What a provisioner remembers of a challenge, and what a node makes of it.
struct Attested {
    opened: Digest,
    qualifying: Digest,
    evidence: Evidence,
}

fn chip(tpm: &mut Tpm) -> (tpm::Key, tpm::Key, Chip) {
    let endorsement = tpm.endorsement_key().unwrap();
    let attestation = tpm.attestation_key().unwrap();
    let chip = Chip {
        endorsement_key: endorsement.public.clone(),
        attestation_key: attestation.public.clone(),
    };
    (endorsement, attestation, chip)
}

fn attest(tpm: &mut Tpm, measurements: Vec<Measurement>) -> Attested {
    let (endorsement, attestation, chip) = chip(tpm);
    let opened = Digest([9; 32]);
    let (credential, secret) = verify::credential(&chip, &opened).unwrap();
    let said = tpm.activate(&endorsement, &attestation, &credential, &secret).unwrap();
    let node = SecretKey::from_seed([1; 32]).public();
    let qualifying = qualifying(&Digest([8; 32]), &node, &Digest([7; 32]));
    let quote = tpm.quote(&attestation, &qualifying.0, &PCRS_QUOTED).unwrap();
    let pcrs = tpm.read_pcrs(&PCRS_QUOTED).unwrap();
    tpm.forget(&endorsement);
    tpm.forget(&attestation);
    let evidence = Evidence {
        chip,
        issued: 0,
        opened: Digest(said.try_into().unwrap()),
        quote: quote.attest,
        signature: quote.signature,
        pcrs: pcrs.into_iter().map(|(pcr, value)| PcrValue { pcr, value }).collect(),
        measurements,
        firmware_log: Vec::new(),
    };
    Attested { opened, qualifying, evidence }
}

#[test]
fn a_quote_is_believed_as_it_is_and_not_with_anything_changed() {
    let Some((_bed, mut tpm)) = Bed::new() else { return };
    let measurements = measure(&mut tpm, "release one");
    let Attested { opened, qualifying, evidence } = attest(&mut tpm, measurements);
    let verified = verify::evidence(&evidence, &opened, &qualifying).unwrap();
    assert_eq!(verified.chip, evidence.chip.id());
    assert!(verified.unexplained.is_empty(), "{:?}", verified.unexplained);
    assert_ne!(verified.values[&PCR_ROOT], [0; 32]);

    let refused = |change: &dyn Fn(&mut Evidence)| {
        let mut other = evidence.clone();
        change(&mut other);
        verify::evidence(&other, &opened, &qualifying).unwrap_err()
    };
    assert_eq!(refused(&|e| e.opened = Digest([1; 32])), Refusal::NotOpened);
    assert_eq!(refused(&|e| e.quote[20] ^= 1), Refusal::Signature);
    let last = evidence.signature.len() - 1;
    assert_eq!(refused(&|e| e.signature[last] ^= 1), Refusal::Signature);
    assert_eq!(refused(&|e| e.pcrs[0].value[0] ^= 1), Refusal::OtherValues);
    assert_eq!(refused(&|e| e.pcrs.truncate(14)), Refusal::OtherValues);
    let said = "release two".to_string();
    assert_eq!(refused(&|e| e.measurements[1].data = said.clone()), Refusal::Unexplained(PCR_ROOT));
    assert_eq!(
        refused(&|e| drop(e.measurements.remove(0))),
        Refusal::Unexplained(PCR_CONFIGURATION)
    );
    let swapped = |e: &mut Evidence| e.chip.attestation_key = e.chip.endorsement_key.clone();
    assert_eq!(refused(&swapped), Refusal::OtherKey("attestation"));
    let other = verify::evidence(&evidence, &opened, &Digest([0; 32]));
    assert_eq!(other, Err(Refusal::OtherChallenge));
}

#[test]
fn a_challenge_is_opened_by_its_chip_alone_and_for_its_own_key_alone() {
    let Some((mut bed, mut tpm)) = Bed::new() else { return };
    let Some((_other_bed, mut other)) = Bed::new() else { return };
    let (endorsement, attestation, own) = chip(&mut tpm);
    let (other_endorsement, other_attestation, others) = chip(&mut other);
    assert_ne!(own.id(), others.id());
    let opened = Digest([9; 32]);
    let (credential, secret) = verify::credential(&own, &opened).unwrap();
    let stolen = other.activate(&other_endorsement, &other_attestation, &credential, &secret);
    assert!(stolen.is_err());
    // Somebody else's attestation key beside our endorsement key.
    let mixed = Chip { attestation_key: others.attestation_key.clone(), ..own.clone() };
    let (credential, secret) = verify::credential(&mixed, &opened).unwrap();
    assert!(tpm.activate(&endorsement, &attestation, &credential, &secret).is_err());

    // The keys are the chip's own at each power-on, and a copied chip's too.
    let mut clone = bed.clone_chip();
    assert_eq!(chip(&mut bed.power_on()).2, own);
    assert_eq!(chip(&mut clone.power_on()).2, own);
}

#[test]
fn a_chips_resets_only_count_up_so_that_a_copy_of_its_state_falls_behind() {
    let Some((mut bed, _)) = Bed::new() else { return };
    let copy = bed.clone_chip();
    let resets = |tpm: &mut Tpm| {
        let Attested { opened, qualifying, evidence } = attest(tpm, Vec::new());
        verify::evidence(&evidence, &opened, &qualifying).unwrap().resets
    };
    let first = resets(&mut bed.power_on());
    let second = resets(&mut bed.power_on());
    assert!(second > first, "{second} after {first}");
    let mut copy = copy;
    let copied = resets(&mut copy.power_on());
    assert!(copied < second, "{copied} in the copy, {second} in the chip");
}
