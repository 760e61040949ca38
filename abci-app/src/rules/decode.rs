//! From bytes to a transaction: canonical borsh, whole, within the limit.

use crate::refusal::Refusal;
use protocol::{Transaction, refusal::RefusalCode, transaction::MAX_TRANSACTION_LEN};

/// Reads a transaction.
pub fn decode(bytes: &[u8]) -> Result<Transaction, Refusal> {
    if bytes.len() > MAX_TRANSACTION_LEN {
        return Err(Refusal::new(
            RefusalCode::TooLong,
            format!("{} bytes; {MAX_TRANSACTION_LEN} are the most", bytes.len()),
        ));
    }
    let transaction: Transaction = borsh::from_slice(bytes)
        .map_err(|error| Refusal::new(RefusalCode::Undecodable, error.to_string()))?;
    // Two encodings of one transaction would have two hashes.
    if borsh::to_vec(&transaction).ok().as_deref() != Some(bytes) {
        return Err(Refusal::new(RefusalCode::NotCanonical, "encoded anew, the bytes differ"));
    }
    Ok(transaction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn empty() -> Vec<u8> {
        borsh::to_vec(&Transaction::SubmitReceipts(vec![])).unwrap()
    }

    #[test]
    fn a_byte_after_the_end_is_refused() {
        assert!(decode(&empty()).is_ok());
        let long = [empty(), vec![0]].concat();
        assert_eq!(decode(&long).unwrap_err().code, RefusalCode::Undecodable);
    }

    #[test]
    fn a_missing_byte_an_unknown_kind_and_a_giant_are_refused() {
        let short = &empty()[..4];
        assert_eq!(decode(short).unwrap_err().code, RefusalCode::Undecodable);
        assert_eq!(decode(&[250, 0, 0, 0, 0]).unwrap_err().code, RefusalCode::Undecodable);
        let giant = vec![0; MAX_TRANSACTION_LEN + 1];
        assert_eq!(decode(&giant).unwrap_err().code, RefusalCode::TooLong);
    }

    #[test]
    fn a_list_that_claims_four_billion_items_costs_nothing() {
        assert_eq!(decode(&[3, 255, 255, 255, 255]).unwrap_err().code, RefusalCode::Undecodable);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(kind in 0u8..6, rest in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&[vec![kind], rest].concat());
        }
    }
}
