//! The graph of greedy translation: the encoder with the keys and values that the decoder looks
//! up, then one step of decoding.

use super::{Formula, Graph, Kind, Side, TensorId, blocks::Builder};
use crate::model::{FeedForward, Layout};

fn feed_forward(
    b: &mut Builder<'_>,
    name: &str,
    side: Side,
    x: TensorId,
    part: &FeedForward,
) -> TensorId {
    let (normed, _) = b.norm(&format!("{name}.norm"), side, x, part.norm, false);
    let inner = b.linear(&format!("{name}.inner"), side, normed, part.inner);
    let hidden = b.relu(&format!("{name}.relu"), side, inner);
    let branch = b.linear(&format!("{name}.outer"), side, hidden, part.outer);
    b.residual(&format!("{name}.residual"), side, x, branch, true).0
}

pub(super) fn build(layout: &Layout) -> Graph {
    let mut builder = Builder::new(layout, false);
    let b = &mut builder;
    let width = u64::from(layout.shape().width);
    let (source, target) = (Side::Source, Side::Target);

    let (mut x, _) = b.embed(source, "encoder.embed");
    for (l, layer) in layout.encoder.iter().enumerate() {
        let part = &layer.self_attention;
        let name = format!("encoder.{l}.self");
        let (normed, _) = b.norm(&format!("{name}.norm"), source, x, part.norm, false);
        let packed =
            b.linear(&format!("{name}.query_key_value"), source, normed, part.query_key_value);
        let (context, _, _) =
            b.attention(&format!("{name}.attention"), (source, source), false, &[packed]);
        let branch = b.linear(&format!("{name}.output"), source, context, part.output);
        let (y, _) = b.residual(&format!("{name}.residual"), source, x, branch, false);
        let name = format!("encoder.{l}.feed_forward");
        x = feed_forward(b, &name, source, y, &layer.feed_forward);
    }
    let (memory, _) = b.norm("encoder.norm", source, x, layout.encoder_norm, true);
    let keys_values: Vec<TensorId> = layout
        .decoder
        .iter()
        .enumerate()
        .map(|(l, layer)| {
            let part = layer.cross_attention.key_value;
            b.linear(&format!("decoder.{l}.cross.key_value"), source, memory, part)
        })
        .collect();

    // From here on: one row a sentence that is still being translated, in the batch's order.
    let repeat_from = b.operation_count();
    let (mut x, _) = b.embed(target, "decoder.embed");
    for (l, layer) in layout.decoder.iter().enumerate() {
        let part = &layer.self_attention;
        let name = format!("decoder.{l}.self");
        let (normed, _) = b.norm(&format!("{name}.norm"), target, x, part.norm, false);
        let packed =
            b.linear(&format!("{name}.query_key_value"), target, normed, part.query_key_value);
        // Reads this step's keys and values and those of the steps before.
        let kind = Kind::AttentionStep { layer: l as u32, memory: false };
        let context = b
            .add(kind, format!("{name}.attention"), &[packed])
            .products(Formula::TARGET_TRIANGLES * (2 * width))
            .output("", target.tokens(), width)
            .one();
        let branch = b.linear(&format!("{name}.output"), target, context, part.output);
        let (y, _) = b.residual(&format!("{name}.residual"), target, x, branch, false);

        let part = &layer.cross_attention;
        let name = format!("decoder.{l}.cross");
        let (normed, _) = b.norm(&format!("{name}.norm"), target, y, part.norm, false);
        let queries = b.linear(&format!("{name}.query"), target, normed, part.query);
        let kind = Kind::AttentionStep { layer: l as u32, memory: true };
        let context = b
            .add(kind, format!("{name}.attention"), &[queries, keys_values[l]])
            .products(Formula::CROSS * (2 * width))
            .output("", target.tokens(), width)
            .one();
        let branch = b.linear(&format!("{name}.output"), target, context, part.output);
        let (z, _) = b.residual(&format!("{name}.residual"), target, y, branch, false);
        let name = format!("decoder.{l}.feed_forward");
        x = feed_forward(b, &name, target, z, &layer.feed_forward);
    }
    let (normed, _) = b.norm("decoder.norm", target, x, layout.decoder_norm, true);
    let logits = b.linear("logits", target, normed, layout.output());
    b.add(Kind::Argmax, "tokens", &[logits]).boundary(true).output("", target.tokens(), 0).done();
    builder.finish(Some(repeat_from))
}
