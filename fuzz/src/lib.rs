//! What the fuzz targets share.
//!
//! **Never** is part of what anybody runs, and keeps no input: the campaign does.

use borsh::{BorshDeserialize, BorshSerialize};
use std::{borrow::Cow, fmt::Debug};

#[doc(hidden)]
pub use arbitrary;
#[cfg(feature = "libfuzzer")]
#[doc(hidden)]
pub use libfuzzer_sys;

/// A target: libFuzzer's, or without it a function of bytes for `tests/brief`.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! target {
    ($($target:tt)*) => {
        use $crate::libfuzzer_sys;
        libfuzzer_sys::fuzz_target!($($target)*);
    };
}

/// A target: libFuzzer's, or without it a function of bytes for `tests/brief`.
#[cfg(not(feature = "libfuzzer"))]
#[macro_export]
macro_rules! target {
    (|$input:ident: $kind:ty| $body:expr) => {
        pub(crate) fn from_bytes(bytes: &[u8]) {
            let input = $crate::arbitrary::Unstructured::new(bytes);
            let read = <$kind as $crate::arbitrary::Arbitrary>::arbitrary_take_rest(input);
            // Bytes that are no such input.
            let Ok($input) = read else { return };
            let _: () = $body;
        }
    };
}

pub mod chain;
pub mod files;
pub mod release;
pub mod seeds;

/// Reads a borsh value, which must be written to the very bytes that it was read from: what is
/// hashed or signed has one form.
pub fn canonical<T: BorshDeserialize + BorshSerialize + Debug>(bytes: &[u8]) -> Option<T> {
    let value = T::try_from_slice(bytes).ok()?;
    let again = borsh::to_vec(&value).expect("what was read can be written");
    assert_eq!(again, bytes, "{value:?}");
    Some(value)
}

/// The first byte, as so many switches, and the rest.
pub fn switches(bytes: &[u8]) -> Option<(impl Fn(u8) -> bool + use<>, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let first = *first;
    Some((move |bit: u8| first >> bit & 1 == 1, rest))
}

/// An input's parts: what stands between zero bytes; those that are missing are empty.
pub fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut rest = bytes.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| rest.next().unwrap_or_default())
}

/// As [`parts`], as text; bytes that are none become U+FFFD, as where files of /proc are read.
pub fn texts<const N: usize>(bytes: &[u8]) -> [Cow<'_, str>; N] {
    parts(bytes).map(String::from_utf8_lossy)
}
