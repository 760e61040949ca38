//! The optimiser's state, which a server gives and no receipt names alone: held against the
//! update before, whose operations committed to every moment that it left. Pure.

use kernels::{graph::Graph, model::Layout};
use protocol::{Digest, job::AdamSpec, operation::OperationRecord, tensor};
use safetensors::{Dtype, SafeTensors};

/// Whether a state's bytes are what the update before left behind.
///
/// `before` are that update's records, which its proven receipt commits to; none for a job's first
/// step, whose moments are zero. `ordinal` is the number of steps done.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(
    bytes: &[u8],
    layout: &Layout,
    graph: &Graph,
    adam: &AdamSpec,
    ordinal: u32,
    parameters: &[f32],
    before: Option<&[OperationRecord]>,
) -> Result<(), String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let first = floats(&file, "first_moments", layout.elements())?;
    let second = floats(&file, "second_moments", layout.elements())?;
    let step = file.tensor("step").map_err(|error| error.to_string())?;
    if step.data() != u64::from(ordinal).to_le_bytes() {
        return Err(format!("it is not the state after {ordinal} steps"));
    }
    let powers = floats(&file, "decay_powers", 2)?;
    let mut wanted = [1.0f32; 2];
    for _ in 0..ordinal {
        wanted = [wanted[0] * adam.beta1, wanted[1] * adam.beta2];
    }
    if powers.iter().zip(wanted).any(|(found, wanted)| found.to_bits() != wanted.to_bits()) {
        return Err(format!("its decay powers are not those after {ordinal} steps"));
    }
    let Some(before) = before else {
        let is_zero = |moments: &[f32]| moments.iter().all(|moment| moment.to_bits() == 0);
        let fresh = ordinal == 0 && is_zero(&first) && is_zero(&second);
        return fresh.then_some(()).ok_or_else(|| "its moments are not zero".into());
    };
    for parameter in layout.parameters() {
        let wanted = committed(graph, before, &parameter.name)
            .ok_or_else(|| format!("the update before committed to no {}", parameter.name))?;
        let digest =
            |data: &[f32]| tensor::digest(&parameter.shape, &data[parameter.range.clone()]);
        let [weight, one, two] = names(&parameter.name);
        let found = tensor::digest_named(&[
            (weight.as_str(), digest(parameters)),
            (one.as_str(), digest(&first)),
            (two.as_str(), digest(&second)),
        ]);
        if found != wanted {
            return Err(format!(
                "its moments of {} are not those that the update before left",
                parameter.name
            ));
        }
    }
    Ok(())
}

/// What the optimiser's operation of a parameter writes, by name.
fn names(parameter: &str) -> [String; 3] {
    [parameter.into(), format!("{parameter}.first_moment"), format!("{parameter}.second_moment")]
}

fn committed(graph: &Graph, records: &[OperationRecord], parameter: &str) -> Option<Digest> {
    let name = format!("{parameter}.adam");
    let position = graph.operations.iter().position(|operation| operation.name == name)?;
    let record = records.iter().find(|record| record.position as usize == position)?;
    Some(record.output)
}

fn floats(file: &SafeTensors<'_>, name: &str, count: usize) -> Result<Vec<f32>, String> {
    let view = file.tensor(name).map_err(|error| error.to_string())?;
    if view.dtype() != Dtype::F32 || view.data().len() != count * 4 {
        return Err(format!("its {name} are not {count} numbers"));
    }
    Ok(view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
