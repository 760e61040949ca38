//! What a CometBFT server answers, before anything of it is believed.
#![no_main]

use fuzz::target;
use ledger_client::{Address, fuzzing};

target!(|bytes: &[u8]| {
    fuzzing::answers(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(address) = text.parse::<Address>()
    {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
});
