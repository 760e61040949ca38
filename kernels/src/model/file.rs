//! Parameters as a safetensors file, which other tools open too.

use super::{Layout, Parameters, check};
use crate::error::Error;
use protocol::job::ModelShape;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;

/// The key of the file's metadata that holds the model's shape as JSON.
const SHAPE_KEY: &str = "alia_model_shape";

impl Parameters {
    /// The parameters as a safetensors file: float32, a tensor a parameter under its name, the
    /// model's shape as JSON in the metadata. The same parameters give the same bytes.
    ///
    /// # Errors
    /// [`Error::File`], where the header cannot be written; it can for every shape that
    /// [`check`] allows.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let shape = serde_json::to_string(self.shape()).map_err(refused)?;
        let bytes = to_le_bytes(self.elements());
        let tensors = self
            .layout()
            .parameters()
            .iter()
            .map(|parameter| {
                let bytes = &bytes[parameter.range.start * 4..parameter.range.end * 4];
                let view = TensorView::new(Dtype::F32, parameter.shape.clone(), bytes);
                Ok((parameter.name.as_str(), view.map_err(refused)?))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        // One entry alone: a map of several would have no fixed order.
        let metadata = HashMap::from([(SHAPE_KEY.to_string(), shape)]);
        safetensors::serialize(tensors, Some(metadata)).map_err(refused)
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// [`Error::File`] when it is no such file, lacks a tensor, or has one too many;
    /// [`Error::Shape`].
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, Error> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(refused)?;
        let shape = metadata
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(SHAPE_KEY))
            .ok_or_else(|| Error::File(format!("its metadata has no {SHAPE_KEY}")))?;
        let shape: ModelShape = serde_json::from_str(shape).map_err(refused)?;
        check(&shape)?;
        let layout = Layout::new(&shape);
        let file = SafeTensors::deserialize(bytes).map_err(refused)?;
        let mut data = Vec::with_capacity(room(&layout, bytes));
        for parameter in layout.parameters() {
            data.extend(read_tensor(&file, &parameter.name, &parameter.shape)?);
        }
        if file.len() != layout.parameters().len() {
            let (found, wanted) = (file.len(), layout.parameters().len());
            return Err(Error::File(format!("it has {found} tensors, {wanted} are wanted")));
        }
        Self::from_elements(&shape, data)
    }
}

/// For how many elements memory is taken: the shape is the file's own word, and a small file may
/// name a large one.
fn room(layout: &Layout, file: &[u8]) -> usize {
    layout.elements().min(file.len() / 4)
}

/// What a library said, as an error of ours.
pub(crate) fn refused(error: impl std::fmt::Display) -> Error {
    Error::File(error.to_string())
}

/// Little-endian bytes of `elements`.
pub(crate) fn to_le_bytes(elements: &[f32]) -> Vec<u8> {
    elements.iter().flat_map(|element| element.to_le_bytes()).collect()
}

/// The elements of one float32 tensor.
pub(crate) fn read_tensor(
    file: &SafeTensors<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<f32>, Error> {
    let view = file.tensor(name).map_err(refused)?;
    if view.dtype() != Dtype::F32 || view.shape() != shape {
        return Err(Error::File(format!(
            "tensor {name} is {:?} {:?}, F32 {shape:?} is wanted",
            view.dtype(),
            view.shape()
        )));
    }
    Ok(view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MAX_PARAMETERS, MAX_VOCABULARY};

    #[test]
    fn a_small_file_of_a_large_shape_takes_no_memory() {
        let shape = ModelShape {
            vocabulary: MAX_VOCABULARY,
            width: 230,
            heads: 1,
            feed_forward: 1,
            encoder_layers: 1,
            decoder_layers: 1,
            max_length: 2,
        };
        let metadata = [(SHAPE_KEY.to_string(), serde_json::to_string(&shape).unwrap())];
        let none: [(&str, TensorView<'_>); 0] = [];
        let file = safetensors::serialize(none, Some(HashMap::from(metadata))).unwrap();
        let layout = Layout::new(&shape);
        assert!(layout.elements() as u64 > MAX_PARAMETERS * 9 / 10);
        assert!(room(&layout, &file) < 100, "{} bytes", file.len());
        let error = Parameters::from_safetensors(&file).unwrap_err().to_string();
        assert!(error.contains("embedding.weight"), "{error}");
    }
}
