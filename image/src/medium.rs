//! The medium for miners at home: a stick whose firmware starts the site's UKI, with a place for the
//! owner's record beside it, where systemd's stub finds it (`docs/home.md`).

use crate::stick::{
    self, MOK_FILE, MOK_MANAGER_FILE, SHIM_STARTS, STARTED, StickError, build_small,
};
use protocol::medium::{RECORD_FILE, blank};

/// Where a record lies for a UKI of that path (systemd-stub(7)): a credential of this UKI alone.
pub fn record_of(uki: &str) -> String {
    let name = RECORD_FILE.rsplit('/').next().unwrap_or_default();
    format!("{uki}.extra.d/{name}")
}

/// For firmware with the network's keys, or without Secure Boot: it starts the UKI itself.
///
/// # Errors
/// Where it is too large.
pub fn owned(uki: &[u8]) -> Result<Vec<u8>, StickError> {
    build_small(&[(STARTED, uki), (&record_of(STARTED), &blank())])
}

/// For firmware with Microsoft's keys: as [`stick::through_shim`].
///
/// # Errors
/// Where it is too large.
pub fn through_shim(
    shim: &[u8],
    mok_manager: &[u8],
    uki: &[u8],
    mok: &[u8],
) -> Result<Vec<u8>, StickError> {
    build_small(&[
        (stick::STARTED, shim),
        (MOK_MANAGER_FILE, mok_manager),
        (SHIM_STARTS, uki),
        (&record_of(SHIM_STARTS), &blank()),
        (MOK_FILE, mok),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{
        SecretKey,
        medium::{Grant, Granted, Record, fill},
    };

    #[test]
    fn a_medium_has_one_place_for_its_owner_whatever_lies_around_it() {
        let key = |seed: u8| SecretKey::from_seed([seed; 32]);
        let (token, provisioner) = (key(2).public(), key(4).public());
        let grant = Grant { token, provisioner, issued: 1, expires: 2 };
        let granted = Granted::sign(&"alia-test".parse().unwrap(), grant, &key(1));
        let record = Record { token: key(2), granted };
        // Files of no whole clusters before and behind it.
        let uki = vec![7; 3_000_001];
        for medium in [owned(&uki), through_shim(&[1; 777], &[2; 5], &uki, &[3; 99])] {
            let mut medium = medium.unwrap();
            assert_eq!(fill(&mut medium, &record), Ok(1));
        }
        assert_eq!(record_of("EFI/a.efi"), "EFI/a.efi.extra.d/alia-medium.cred");
    }
}
