//! Who may what: pure.

use super::route::{Call, Refusal};
use protocol::{
    PublicKey,
    boot::NodeConfig,
    node_api::{MAX_OPERATORS, Operator, OperatorRole},
};
use std::collections::BTreeMap;

/// The keys that may speak to the node, as its signed settings name them.
#[derive(Clone, Debug)]
pub struct Access(BTreeMap<PublicKey, OperatorRole>);

impl Access {
    /// The owner, and at most [`MAX_OPERATORS`] of the operators that the settings name. Whatever
    /// those say of the owner, the owner may all.
    pub fn of(config: &NodeConfig) -> Self {
        let mut keys: BTreeMap<PublicKey, OperatorRole> = BTreeMap::new();
        for Operator { key, role } in config.operators.iter().take(MAX_OPERATORS) {
            // Of a key that is named twice the least holds.
            let least = keys.get(key).map_or(*role, |known| (*role).min(*known));
            keys.insert(*key, least);
        }
        keys.insert(config.ownership.delegation.signer, OperatorRole::Operator);
        Self(keys)
    }

    /// What a key may; none of a stranger's.
    pub fn role(&self, key: &PublicKey) -> Option<OperatorRole> {
        self.0.get(key).copied()
    }
}

/// Whether somebody in this role may call this.
///
/// # Errors
/// [`Refusal`] that says what is needed.
pub fn may(role: OperatorRole, call: &Call) -> Result<(), Refusal> {
    let needed = call.needs();
    if role >= needed {
        return Ok(());
    }
    let text = format!(
        "your key is a {role}'s, and this needs the role {needed}: use the owner's key, or have \
         the provisioner name yours by `--operator KEY:{needed}` and restart the node"
    );
    Err(Refusal { status: 403, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::enrolment::tests::{config, key};

    #[test]
    fn the_owner_and_those_whom_the_settings_name_may_and_nobody_else() {
        let mut settings = config(key(9).public());
        let (reader, operator) = (OperatorRole::Reader, OperatorRole::Operator);
        settings.operators = vec![
            Operator { key: key(3).public(), role: operator },
            Operator { key: key(4).public(), role: reader },
            Operator { key: key(3).public(), role: reader },
            // The owner of these settings is 2: nobody takes that away.
            Operator { key: key(2).public(), role: reader },
        ];
        let access = Access::of(&settings);
        let roles = [2, 3, 4, 5, 9].map(|seed| access.role(&key(seed).public()));
        assert_eq!(roles, [Some(operator), Some(reader), Some(reader), None, None]);
    }

    #[test]
    fn a_reader_sees_and_changes_nothing_and_is_told_what_is_needed() {
        assert_eq!(may(OperatorRole::Reader, &Call::Status), Ok(()));
        let refusal = may(OperatorRole::Reader, &Call::Reboot).unwrap_err();
        assert_eq!(refusal.status, 403);
        assert!(refusal.text.contains("role operator"), "{}", refusal.text);
        assert_eq!(may(OperatorRole::Operator, &Call::Reboot), Ok(()));
    }
}
