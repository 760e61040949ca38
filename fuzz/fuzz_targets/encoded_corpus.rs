//! A corpus or document as token ids: one value, one form.
#![no_main]

use fuzz::target;
use protocol::encoded::Encoded;

target!(|bytes: &[u8]| {
    let Ok(encoded) = Encoded::from_bytes(bytes.to_vec()) else { return };
    assert_eq!(encoded.to_bytes(), bytes);
    let source = |at| encoded.source(at).expect("a sentence");
    let again = match encoded.salt() {
        Some(salt) => {
            let sentences: Vec<Vec<u32>> = (0..encoded.len()).map(source).collect();
            Encoded::sentences(encoded.vocabulary(), salt, &sentences)
        }
        None => {
            let pair = |at| (source(at), encoded.target(at).expect("a pair"));
            let pairs: Vec<(Vec<u32>, Vec<u32>)> = (0..encoded.len()).map(pair).collect();
            Encoded::pairs(encoded.vocabulary(), &pairs)
        }
    };
    assert_eq!(again.expect("it was read").to_bytes(), bytes);
    for at in 0..encoded.len() {
        let lengths =
            (source(at).len() as u32, encoded.target(at).map_or(0, |ids| ids.len() as u32));
        assert_eq!(encoded.lengths(at), Some(lengths));
    }
    assert_eq!((encoded.source(encoded.len()), encoded.lengths(encoded.len())), (None, None));
});
