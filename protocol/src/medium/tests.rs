use super::*;
use crate::signed::signing_bytes;
use proptest::prelude::*;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn chain() -> ChainId {
    "alia-test".parse().unwrap()
}

const OWNER: u8 = 1;
const TOKEN: u8 = 2;
const NODE: u8 = 3;
const PROVISIONER: u8 = 4;

fn grant() -> Grant {
    Grant {
        token: key(TOKEN).public(),
        provisioner: key(PROVISIONER).public(),
        issued: 1_000,
        expires: 2_000,
    }
}

fn record() -> Record {
    Record { token: key(TOKEN), granted: Granted::sign(&chain(), grant(), &key(OWNER)) }
}

fn claim() -> Signed<Claim> {
    let boot = ("52:54:00:12:34:56".into(), Digest([9; 32]));
    Claim::sign(&chain(), &record(), &key(NODE), Digest([8; 32]), boot)
}

fn checked(claim: &Signed<Claim>) -> Result<Claimed, ClaimError> {
    check_claim(claim, &chain(), &key(PROVISIONER).public())
}

/// Signed anew by the node, whatever was changed in it.
fn changed(change: impl FnOnce(&mut Claim)) -> Result<Claimed, ClaimError> {
    let mut body = claim().body;
    change(&mut body);
    checked(&Signed::sign(&chain(), body, &key(NODE)))
}

#[test]
fn a_claim_shows_owner_token_node_and_machine() {
    let claimed = checked(&claim()).unwrap();
    assert_eq!(claimed.owner(), key(OWNER).public());
    assert_eq!((claimed.token, claimed.node), (key(TOKEN).public(), key(NODE).public()));
    assert_eq!((claimed.machine, claimed.expires), (Digest([8; 32]), 2_000));
    let owner = claimed.ownership.verify(&chain(), &key(NODE).public());
    assert_eq!(owner, Ok(key(OWNER).public()));
}

#[test]
fn no_front_end_puts_another_owner_in_place_of_the_mediums() {
    // With the token's secret too: the delegation is the owner's alone to make.
    let error = changed(|claim| {
        let body = Delegation { delegate: key(TOKEN).public() };
        claim.granted.delegation = Signed::sign(&chain(), body, &key(PROVISIONER));
    });
    assert!(matches!(error, Err(ClaimError::Grant(GrantError::TwoOwners { .. }))), "{error:?}");
    let claimed = changed(|claim| {
        claim.granted = Granted::sign(&chain(), grant(), &key(PROVISIONER));
    });
    // Who signs both takes the node for himself, and is told so: it is another medium.
    assert_eq!(claimed.unwrap().owner(), key(PROVISIONER).public());
}

#[test]
fn a_claim_is_worth_nothing_to_another_node_token_or_provisioner() {
    let stolen = Signed::sign(&chain(), claim().body, &key(7));
    assert!(matches!(checked(&stolen), Err(ClaimError::NotThisNode { .. })));
    let error = changed(|claim| {
        let body = Binding { node: key(NODE).public(), machine: Digest([8; 32]) };
        claim.binding = Signed::sign(&chain(), body, &key(7));
    });
    assert!(matches!(error, Err(ClaimError::NotTheToken { .. })), "{error:?}");
    let error = changed(|claim| {
        let body = Endorsement { node: key(NODE).public() };
        claim.endorsement = Signed::sign(&chain(), body, &key(7));
    });
    assert!(matches!(error, Err(ClaimError::Ownership(_))), "{error:?}");
    let elsewhere = check_claim(&claim(), &chain(), &key(7).public()).unwrap_err();
    assert!(elsewhere.to_string().contains("get a medium from the provisioner"), "{elsewhere}");
    let other = check_claim(&claim(), &"alia-other".parse().unwrap(), &key(PROVISIONER).public());
    assert!(matches!(other, Err(ClaimError::Signed(SignedError::Chain { .. }))));
}

#[test]
fn a_grant_and_a_delegation_to_two_tokens_are_refused() {
    let mut granted = record().granted;
    let other = Delegation { delegate: key(7).public() };
    granted.delegation = Signed::sign(&chain(), other, &key(OWNER));
    let error = granted.verify(&chain(), &key(PROVISIONER).public()).unwrap_err();
    assert!(matches!(error, GrantError::TwoTokens { .. }));
}

#[test]
fn a_grants_time_is_bounded() {
    for (expires, good) in
        [(999, false), (1_000, false), (1_001, true), (1_000 + MAX_WAIT, true), (u64::MAX, false)]
    {
        let granted = Granted::sign(&chain(), Grant { expires, ..grant() }, &key(OWNER));
        let verified = granted.verify(&chain(), &key(PROVISIONER).public());
        assert_eq!(verified.is_ok(), good, "{expires}");
    }
}

#[test]
fn the_signed_bytes_are_fixed() {
    fn digest<T: SignedBody>(body: &T) -> String {
        Digest::of_bytes(&signing_bytes(&chain(), body)).to_string()
    }
    let binding = Binding { node: key(NODE).public(), machine: Digest([8; 32]) };
    let withdrawal =
        Withdrawal { token: key(TOKEN).public(), provisioner: key(PROVISIONER).public() };
    let offer = Offer { unix_time: 5, medium: Digest([6; 32]), bytes: 7, most_waiting: 8, most: 9 };
    let digests = [
        digest(&grant()),
        digest(&binding),
        digest(&claim().body),
        digest(&withdrawal),
        digest(&offer),
    ];
    assert_eq!(digests, GOLDEN);
}

const GOLDEN: [&str; 5] = [
    "8fa895a1735597fbe085ab118bdb9cb00d10ad1b35b0f61741ae218bdf44f661",
    "c0007674a1828112bedccbbafa0e16a8a87c170a4c925a5a75fd41666c36114f",
    "cc87135cdba963884c796747e1ee64a40a04e84da14982a6af57c2e9fa9007f3",
    "7c789ff35fcf9c76a8aa71bb55c1c3f5e2a4ca33b608b3229115b69d37dd2962",
    "3dd408a21d70c62f9496faf22ddd90f706ec254cbc3d26aca12d799b6ae822eb",
];

#[test]
fn facts_of_a_machine_are_its_boards() {
    let system = System { serial: "A1".into(), ..System::default() };
    let updated = System { firmware: "newer".into(), uefi: true, ..system.clone() };
    assert_eq!(machine_facts(&system), machine_facts(&updated));
    let other = System { serial: "A2".into(), ..system.clone() };
    assert_ne!(machine_facts(&system), machine_facts(&other));
}

#[test]
fn a_record_round_trips_and_its_secret_is_never_shown() {
    let bytes = record().to_bytes().unwrap();
    assert_eq!(bytes.len(), RECORD_LEN);
    let read = Record::from_bytes(&bytes).unwrap().unwrap();
    assert_eq!((read.token.public(), read.granted), (key(TOKEN).public(), record().granted));
    assert!(!format!("{:?}", record()).contains(&key(TOKEN).to_hex()));
    assert!(Record::from_bytes(&blank()).unwrap().is_none());
    let carried = |record: &Record| {
        let text = serde_json::to_string(&record.to_text()).unwrap();
        Record::try_from(serde_json::from_str::<RecordText>(&text).unwrap())
    };
    assert_eq!(carried(&record()).unwrap().to_bytes(), record().to_bytes());
    let other = Record { token: key(7), ..record() };
    assert_eq!(carried(&other).unwrap_err(), RecordError::OtherKey);
    let error = Record::from_bytes(&other.to_bytes().unwrap()).unwrap_err();
    assert_eq!(error, RecordError::OtherKey);
    assert_eq!(Record::from_bytes(&[]).unwrap_err(), RecordError::Length(0));
    assert_eq!(Record::from_bytes(&[0; RECORD_LEN]).unwrap_err(), RecordError::Foreign);
}

#[test]
fn every_place_of_a_medium_is_filled_wherever_it_lies_and_once() {
    let mut medium = [vec![7; 999], blank(), b"aliaOS medium 0\n".to_vec(), blank()].concat();
    medium.extend([1; 5]);
    assert_eq!(fill(&mut medium, &record()), Ok(2));
    assert_eq!(medium[..999], [7; 999]);
    assert!(Record::from_bytes(&medium[999..999 + RECORD_LEN]).unwrap().is_some());
    assert_eq!(fill(&mut medium, &record()), Err(NotFilled::NoPlace));
    assert_eq!(fill(&mut [], &record()), Err(NotFilled::NoPlace));
}

proptest! {
    #[test]
    fn no_altered_record_is_believed(at in 0..RECORD_LEN, bit in 0u8..8) {
        let mut bytes = record().to_bytes().unwrap();
        bytes[at] ^= 1 << bit;
        prop_assert!(Record::from_bytes(&bytes).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..RECORD_LEN + 8)) {
        let _ = Record::from_bytes(&bytes);
        let _ = Claim::try_from_slice(&bytes);
    }

    #[test]
    fn no_altered_claim_is_believed(at: prop::sample::Index, byte: u8) {
        let right = serde_json::to_vec(&claim()).unwrap();
        let mut altered = right.clone();
        altered[at.index(right.len())] = byte;
        if let Ok(read) = serde_json::from_slice::<Signed<Claim>>(&altered)
            && let Ok(claimed) = checked(&read)
        {
            prop_assert_eq!(claimed, checked(&claim()).unwrap());
        }
    }
}
