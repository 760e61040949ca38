//! A model's safetensors file, and an optimiser's.
#![no_main]

use fuzz::target;
use kernels::{model::Parameters, optimiser};
use protocol::job::ModelShape;

const SHAPE: ModelShape = ModelShape {
    vocabulary: 5,
    width: 2,
    heads: 1,
    feed_forward: 1,
    encoder_layers: 1,
    decoder_layers: 1,
    max_length: 4,
};

target!(|bytes: &[u8]| {
    if let Ok(parameters) = Parameters::from_safetensors(bytes) {
        // The file's own content is all that there is in memory.
        assert!(parameters.elements().len() * 4 <= bytes.len());
        let again = parameters.to_safetensors().expect("its shape is allowed");
        let again = Parameters::from_safetensors(&again).expect("its own file");
        assert_eq!(again.digest(), parameters.digest());
    }
    if let Ok(state) = optimiser::State::from_bytes(&SHAPE, bytes) {
        let again = state.to_bytes().expect("its shape is allowed");
        assert!(optimiser::State::from_bytes(&SHAPE, &again).is_ok());
    }
});
