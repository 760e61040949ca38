//! Lets a machine's key in that waits at its provisioner, by the owner's signature.

use super::{TargetError, Wanted};
use protocol::{
    ChainId, PublicKey, SecretKey, Signed,
    evidence::Approval,
    fleet::{MachineStatus, ProvisionerStatus},
    problem::ProblemDetails,
};

/// A machine's key that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The machine's MAC address.
    pub mac: String,
    /// Its name.
    pub name: String,
    /// The key.
    pub node: PublicKey,
    /// The key that was taken in before, whose place it takes.
    pub before: Option<PublicKey>,
    /// Why it waits, in the provisioner's words.
    pub problem: Option<String>,
}

/// Finds the machine that is meant, by its name, its MAC address or the beginning of the key that
/// waits.
///
/// # Errors
/// Where it is not clear which, or nothing of it waits.
pub fn find(wanted: &Wanted, machines: &[MachineStatus]) -> Result<Waiting, TargetError> {
    let text = wanted.to_string();
    let is = |machine: &&MachineStatus| {
        let begins = |key: PublicKey| {
            text.len() >= super::target::LEAST_DIGITS && key.to_string().starts_with(&text)
        };
        machine.name == text
            || machine.mac.eq_ignore_ascii_case(&text)
            || machine.pending.is_some_and(begins)
    };
    let found: Vec<&MachineStatus> = machines.iter().filter(is).collect();
    let machine = match found.as_slice() {
        [machine] => *machine,
        [] => return Err(TargetError::Unknown(text)),
        several => return Err(TargetError::several(text, several)),
    };
    let node = machine.pending.ok_or_else(|| TargetError::NothingWaits(machine.name.clone()))?;
    Ok(Waiting {
        mac: machine.mac.clone(),
        name: machine.name.clone(),
        node,
        before: machine.node.filter(|before| *before != node),
        problem: machine.problem.clone(),
    })
}

/// Of a key that is named without anybody being asked, these are the least hexadecimal digits.
pub const LEAST_NAMED: usize = 16;

/// Whether the key itself was named, and not the machine alone, for which anybody may have asked.
pub fn is_named(wanted: &Wanted, waiting: &Waiting) -> bool {
    let text = wanted.to_string();
    text.len() >= LEAST_NAMED && waiting.node.to_string().starts_with(&text)
}

/// The chain that a provisioner takes machines in for: its word.
///
/// # Errors
/// Where it does not answer, or for no chain.
pub async fn chain(provisioner: &str) -> Result<ChainId, TargetError> {
    let status: ProvisionerStatus = super::get(provisioner, "/v1/status").await?;
    status.chain.ok_or_else(|| TargetError::Provisioner {
        provisioner: provisioner.to_owned(),
        why: "it takes no machines in".into(),
    })
}

/// Hands a signed approval over; `now` in seconds since 1970.
///
/// # Errors
/// Where the provisioner does not answer, or does not take it from this key.
pub async fn approve(
    provisioner: &str,
    chain: &ChainId,
    waiting: &Waiting,
    owner: &SecretKey,
    now: u64,
) -> Result<(), TargetError> {
    let approval = Approval { mac: waiting.mac.clone(), node: waiting.node, issued: now };
    let signed = Signed::sign(chain, approval, owner);
    let away = super::away(provisioner);
    let url = format!("{}/v1/machines/{}/approve", super::base(provisioner), waiting.mac);
    let client = super::client().map_err(&away)?;
    let answer = client.post(url).json(&signed).send().await.map_err(&away)?;
    if answer.status().is_success() {
        return Ok(());
    }
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    let said = serde_json::from_str::<ProblemDetails>(&text).map_or(text, |problem| problem.detail);
    let why: String = protocol::plain(&said).chars().take(500).collect();
    Err(TargetError::NotApproved { name: waiting.name.clone(), why: format!("{status}: {why}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; 32]).public()
    }

    fn machine(n: u8, name: &str, node: Option<u8>, pending: Option<u8>) -> MachineStatus {
        serde_json::from_value(serde_json::json!({
            "mac": format!("52:54:00:00:00:0{n}"), "name": name, "node": node.map(key),
            "pending": pending.map(key), "first_seen": 0, "last_seen": n,
        }))
        .unwrap()
    }

    #[test]
    fn the_key_that_waits_is_found_by_name_mac_and_the_beginning_of_it() {
        let fleet = [machine(1, "bear", Some(1), Some(2)), machine(2, "fox", None, Some(3))];
        for text in ["bear", "52:54:00:00:00:01", &key(2).to_string()[..8], &key(2).to_string()] {
            let found = find(&text.parse().unwrap(), &fleet).unwrap();
            assert_eq!((found.node, found.before), (key(2), Some(key(1))), "{text}");
        }
        assert_eq!(find(&"fox".parse().unwrap(), &fleet).unwrap().before, None);
    }

    #[test]
    fn a_key_is_named_by_its_own_digits_alone() {
        let fleet = [machine(1, "bear", None, Some(2))];
        let named = |text: &str| {
            let wanted = text.parse().unwrap();
            is_named(&wanted, &find(&wanted, &fleet).unwrap())
        };
        let digits = key(2).to_string();
        assert!(named(&digits) && named(&digits[..LEAST_NAMED]));
        for text in ["bear", "52:54:00:00:00:01", &digits[..LEAST_NAMED - 1]] {
            assert!(!named(text), "{text}");
        }
    }

    #[test]
    fn what_is_not_clear_is_said() {
        let fleet = [
            machine(1, "bear", Some(1), None),
            machine(2, "fox", None, Some(2)),
            machine(3, "fox", None, Some(3)),
        ];
        let told = |text: &str| find(&text.parse().unwrap(), &fleet).unwrap_err().to_string();
        assert!(told("bear").contains("no key of bear waits"), "{}", told("bear"));
        assert!(told("fox").contains("fox (52:54:00:00:00:02) or fox"), "{}", told("fox"));
        assert!(told("wolf").contains("knows no machine wolf"), "{}", told("wolf"));
    }
}
