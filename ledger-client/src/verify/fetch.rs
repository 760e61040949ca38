//! What a server shows of its chain; nothing of it is believed here.

use super::error::{Lie, VerifyError};
use crate::{client::Client, rpc};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, json};
use tendermint::{block::Header, block::signed_header::SignedHeader, validator};
use tendermint_light_client_verifier::types::{LightBlock, PeerId, ValidatorSet};

/// CometBFT's longest page of validators.
const PAGE: usize = 100;
/// The largest set that is read: a commit of so many signatures is 1 MB.
const MAX_VALIDATORS: usize = 10_000;

#[derive(Deserialize)]
struct CommitAnswer {
    #[serde(deserialize_with = "of_the_library")]
    signed_header: SignedHeader,
}

#[derive(Deserialize)]
struct ValidatorsAnswer {
    #[serde(deserialize_with = "of_the_library")]
    validators: Vec<validator::Info>,
    #[serde(deserialize_with = "rpc::number")]
    total: usize,
}

#[derive(Deserialize)]
struct BlockchainAnswer {
    block_metas: Vec<BlockMeta>,
}

#[derive(Deserialize)]
struct BlockMeta {
    #[serde(deserialize_with = "of_the_library")]
    header: Header,
}

/// Reads a type of the tendermint library, which panics on some strings that are no base64: those
/// with a `=` where none belongs. None of these types has a string with a `=` that is not base64.
fn of_the_library<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<T, D::Error> {
    let value = Value::deserialize(from)?;
    match misplaced(&value) {
        Some(text) => Err(serde::de::Error::custom(format!("{text:?} is no base64"))),
        None => T::deserialize(value).map_err(serde::de::Error::custom),
    }
}

fn misplaced(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => {
            (text.contains('=') && STANDARD.decode(text).is_err()).then_some(text.as_str())
        }
        Value::Array(values) => values.iter().find_map(misplaced),
        Value::Object(fields) => fields.values().find_map(misplaced),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// A lie of the server that answered last.
pub(super) fn lie(client: &Client, lie: Lie) -> VerifyError {
    VerifyError::Lie { server: client.server(), lie }
}

/// A height's header with its commit and both validator sets.
pub(super) async fn light_block(client: &Client, height: u64) -> Result<LightBlock, VerifyError> {
    let params = json!({"height": height.to_string()});
    let CommitAnswer { signed_header } = client.call("commit", &params).await?;
    let answered = signed_header.header.height.value();
    if answered != height {
        return Err(lie(client, Lie::Height { asked: height, answered }));
    }
    let validators = validators(client, height).await?;
    let next_validators = self::validators(client, height + 1).await?;
    Ok(LightBlock::new(signed_header, validators, next_validators, PeerId::new([0; 20])))
}

async fn validators(client: &Client, height: u64) -> Result<ValidatorSet, VerifyError> {
    let mut all: Vec<validator::Info> = Vec::new();
    for page in 1..=MAX_VALIDATORS / PAGE {
        let params = json!({
            "height": height.to_string(),
            "page": page.to_string(),
            "per_page": PAGE.to_string(),
        });
        let answer: ValidatorsAnswer = client.call("validators", &params).await?;
        let came = answer.validators.len();
        if came > PAGE {
            let why = format!("{came} of its validators came, {PAGE} at most were asked for");
            return Err(lie(client, Lie::Header { height, why }));
        }
        all.extend(answer.validators);
        if all.len() >= answer.total || came == 0 {
            break;
        }
    }
    // Whether these are the validators is for the header's hash of them to say.
    set(all).ok_or_else(|| {
        let why = "its validators have more voting power than there can be".into();
        lie(client, Lie::Header { height, why })
    })
}

/// The set of these validators; none where their powers add up to more than CometBFT allows, on
/// which the library panics.
fn set(all: Vec<validator::Info>) -> Option<ValidatorSet> {
    let total = all.iter().try_fold(0u64, |total, info| total.checked_add(info.power()))?;
    (total <= ValidatorSet::MAX_TOTAL_VOTING_POWER).then(|| ValidatorSet::without_proposer(all))
}

/// Headers from `first` to `last`, at most 20, newest first.
pub(super) async fn headers(
    client: &Client,
    first: u64,
    last: u64,
) -> Result<Vec<Header>, VerifyError> {
    let params = json!({"minHeight": first.to_string(), "maxHeight": last.to_string()});
    let answer: BlockchainAnswer = client.call("blockchain", &params).await?;
    Ok(answer.block_metas.into_iter().map(|meta| meta.header).collect())
}

/// Reads what [`light_block`] is made of from its three answers.
#[cfg(feature = "fuzzing")]
pub(super) fn read_light_block(server: &str, answers: [&[u8]; 3]) -> Option<LightBlock> {
    let [commit, validators, next] = answers;
    let CommitAnswer { signed_header } = rpc::answer(server, commit).ok()?;
    let read = |body| Some(rpc::answer::<ValidatorsAnswer>(server, body).ok()?.validators);
    let (validators, next) = (set(read(validators)?)?, set(read(next)?)?);
    Some(LightBlock::new(signed_header, validators, next, PeerId::new([0; 20])))
}

/// Reads headers.
#[cfg(feature = "fuzzing")]
pub(super) fn read_headers(server: &str, body: &[u8]) {
    if let Ok(answer) = rpc::answer::<BlockchainAnswer>(server, body) {
        for meta in answer.block_metas {
            meta.header.hash();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_on_which_the_library_panics_is_refused() {
        for key in ["====", "AAAA=BCD", "AAAAAAAA======"] {
            let info = json!({
                "address": "A6B2B6D41A5E6C7C8A5E3D4F9C6B5A4938271605",
                "pub_key": {"type": "tendermint/PubKeyEd25519", "value": key},
                "voting_power": "1",
                "proposer_priority": "0",
            });
            let answer = json!({"validators": [info], "total": "1"});
            let error = serde_json::from_value::<ValidatorsAnswer>(answer).err().unwrap();
            assert!(error.to_string().contains("is no base64"), "{error}");
        }
    }

    fn with_powers(powers: &[u64]) -> Option<ValidatorSet> {
        let validator = |power: &u64| {
            json!({
                "address": "A6B2BC3D5A0A4B9E9C1F0B6E2D7C8F9A0B1C2D3E",
                "pub_key": {
                    "type": "tendermint/PubKeyEd25519",
                    "value": "1FN0x6HH6JVS6JnbxO0qOzrr7JYuFqjXRdzvFqVUOxE=",
                },
                "voting_power": power.to_string(),
                "proposer_priority": "0",
            })
        };
        let validators: Vec<_> = powers.iter().map(validator).collect();
        let answer = json!({"total": "2", "validators": validators});
        let answer: ValidatorsAnswer = serde_json::from_value(answer).unwrap();
        set(answer.validators)
    }

    #[test]
    fn validators_of_more_power_than_there_can_be_are_refused() {
        let most = ValidatorSet::MAX_TOTAL_VOTING_POWER;
        assert_eq!(with_powers(&[most - 5, 5]).unwrap().total_voting_power().value(), most);
        assert_eq!(with_powers(&[most, 1]), None);
        assert_eq!(with_powers(&[i64::MAX as u64; 3]), None);
    }
}
