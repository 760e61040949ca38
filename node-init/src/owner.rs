//! Whose machine this is, where it booted from a medium that was made for its owner: the record beside
//! the UKI, which systemd's stub hands to the initramfs (`protocol::medium`, docs/home.md).
//!
//! The provisioner and whoever stands between can refuse such a machine; they cannot make it work for
//! somebody else, since settings that name another owner are not taken.

use crate::{
    http::{self, HttpError},
    kernel::Kernel,
    mac::Mac,
    stages::{command_line::Arguments, identity::Identity},
};
use protocol::{
    boot::NodeConfig,
    inventory::Inventory,
    medium::{Claim, GrantError, RECORD_FILE, RECORD_LEN, Record, RecordError, machine_facts},
};
use std::{io, path::Path};

/// What lies beside the UKI is not what it should be, or is not believed elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// It cannot be read.
    #[error("{RECORD_FILE}: {0}; make the medium anew by `alia medium get`")]
    Unreadable(io::Error),
    /// It is no record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// What the owner signed is worth nothing at this provisioner.
    #[error("what this medium's owner signed: {0}")]
    Grant(#[from] GrantError),
    /// It was not taken.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The claim cannot be written.
    #[error("the claim cannot be written: {0}; report it")]
    Unwritable(#[from] serde_json::Error),
    /// The settings are another owner's.
    #[error(
        "the provisioner's settings would have this node work for {named}; this medium's owner is \
         {owner}: nothing is done for anybody else. Boot from another provisioner, or make the medium \
         anew"
    )]
    OtherOwner {
        /// Whom they name.
        named: protocol::Address,
        /// The medium's.
        owner: protocol::Address,
    },
}

/// The medium's record; none where the machine booted from elsewhere, or from a medium that is
/// nobody's. Read while the initramfs is there: the root has none of it.
///
/// # Errors
/// [`OwnerError`]: a machine does not go on as nobody's where somebody's record is damaged.
pub fn read(kernel: &dyn Kernel, arguments: &Arguments) -> Result<Option<Record>, OwnerError> {
    let bytes = match kernel.read(Path::new(RECORD_FILE), RECORD_LEN + 1) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(OwnerError::Unreadable)?,
    };
    let Some(record) = Record::from_bytes(&bytes)? else { return Ok(None) };
    record.granted.verify(&arguments.chain, &arguments.key)?;
    Ok(Some(record))
}

/// For people: `; it is alia1...'s, by token 1a2b3c4d`.
pub fn detail(record: &Record) -> String {
    let owner = record.granted.owner().address();
    format!("; it is {owner}'s, by token {}", record.token.public().short())
}

/// Shows the provisioner whose node this is, in each boot: the first time binds the token.
///
/// # Errors
/// [`OwnerError`], with the provisioner's own reason.
pub async fn claim(
    arguments: &Arguments,
    identity: &Identity,
    mac: Mac,
    inventory: &Inventory,
    record: &Record,
) -> Result<(), OwnerError> {
    let machine = machine_facts(&inventory.system);
    let boot = (mac.to_string(), identity.boot_id);
    let claim = Claim::sign(&arguments.chain, record, &identity.node, machine, boot);
    let path = format!("/v1/machines/{mac}/claim");
    http::post(&arguments.provisioner, &path, serde_json::to_vec(&claim)?).await?;
    Ok(())
}

/// Whether settings are the owner's own: those that he signed for, and no delegation of anybody's.
///
/// # Errors
/// [`OwnerError::OtherOwner`].
pub fn check(config: &NodeConfig, record: &Record) -> Result<(), OwnerError> {
    if config.ownership.delegation == record.granted.delegation {
        return Ok(());
    }
    Err(OwnerError::OtherOwner {
        named: config.ownership.delegation.signer.address(),
        owner: record.granted.owner().address(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::fake::Fake,
        stages::enrolment::tests::{arguments, config, key},
    };
    use protocol::medium::{Grant, Granted, blank};

    /// Of owner 2, at provisioner 1, as the settings of the enrolment's tests are.
    fn record(owner: u8, provisioner: u8) -> Record {
        let grant = Grant {
            token: key(20).public(),
            provisioner: key(provisioner).public(),
            issued: 1,
            expires: 2,
        };
        let granted = Granted::sign(&"alia-test".parse().unwrap(), grant, &key(owner));
        Record { token: key(20), granted }
    }

    fn with(bytes: Vec<u8>) -> Result<Option<Record>, OwnerError> {
        let kernel = Fake::new(&[]);
        kernel.world().files.insert(RECORD_FILE.into(), bytes);
        read(&kernel, &arguments("http://127.0.0.1:1"))
    }

    #[test]
    fn a_mediums_record_names_its_owner() {
        let read = with(record(2, 1).to_bytes().unwrap()).unwrap().unwrap();
        let owner = key(2).public().address();
        assert_eq!(
            detail(&read),
            format!("; it is {owner}'s, by token {}", key(20).public().short())
        );
    }

    #[test]
    fn without_a_record_or_with_a_blank_one_the_machine_is_like_any_other() {
        let kernel = Fake::new(&[]);
        assert!(read(&kernel, &arguments("http://127.0.0.1:1")).unwrap().is_none());
        assert!(with(blank()).unwrap().is_none());
    }

    #[test]
    fn a_damaged_record_or_one_for_another_provisioner_is_refused() {
        let mut bytes = record(2, 1).to_bytes().unwrap();
        bytes[100] ^= 1;
        assert!(matches!(with(bytes), Err(OwnerError::Record(RecordError::Damaged))));
        let long = [record(2, 1).to_bytes().unwrap(), vec![0]].concat();
        assert!(matches!(with(long), Err(OwnerError::Record(RecordError::Length(_)))));
        let error = with(record(2, 7).to_bytes().unwrap()).unwrap_err();
        assert!(error.to_string().contains("for the provisioner with key"), "{error}");
    }

    #[test]
    fn settings_that_name_another_owner_are_not_taken() {
        let settings = |record: &Record| {
            let mut settings = config(key(9).public());
            settings.ownership.delegation = record.granted.delegation.clone();
            settings
        };
        let ours = record(2, 1);
        assert!(check(&settings(&ours), &ours).is_ok());
        let error = check(&settings(&record(3, 1)), &ours).unwrap_err().to_string();
        assert!(error.contains(&key(3).public().address().to_string()), "{error}");
        // The owner's own, but to the provisioner's key: whoever has that could take nodes in.
        assert!(check(&config(key(9).public()), &ours).is_err());
    }
}
