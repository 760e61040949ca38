//! The graph of the parameter server's own part of a step.

use super::{Formula, Graph, Kind, Role, blocks::Builder};
use crate::model::Layout;

pub(super) fn build(layout: &Layout) -> Graph {
    let mut builder = Builder::new(layout, false);
    let b = &mut builder;
    let elements = layout.elements() as u64;
    let gradients = b.gradients();
    // One addition an element for each gradient beyond the first; counted as one for each.
    b.commit(Kind::GradientSum, "gradient.sum", gradients.clone(), Formula::SENTENCES * elements);
    let clip = b
        .add(Kind::Clip, "gradient.clip", &gradients)
        .boundary(true)
        .pointwise(Formula::constant(elements))
        .output("", Formula::constant(2), 0)
        .one();
    let schedule = b.add(Kind::Schedule, "schedule", &[]).output("", Formula::constant(5), 0).one();
    for (index, parameter) in layout.parameters().iter().enumerate() {
        let shape: Vec<_> = parameter.shape.iter().map(|&n| Formula::constant(n as u64)).collect();
        let moments: Vec<_> = ["first", "second"]
            .iter()
            .enumerate()
            .map(|(which, name)| {
                let name = format!("{}.{name}_moment", parameter.name);
                b.tensor(name, shape.clone(), Role::Moment(index as u32, which as u8))
            })
            .collect();
        let weight = b.parameter(index);
        let inputs = [weight, gradients[index], moments[0], moments[1], clip, schedule];
        b.add(Kind::Adam { parameter: index as u32 }, format!("{}.adam", parameter.name), &inputs)
            .boundary(true)
            .writes(weight)
            .writes(moments[0])
            .writes(moments[1])
            .done();
    }
    builder.finish(None)
}
