//! The graph of one training micro-batch.

use super::{Formula, Graph, Kind, Side, Site, TensorId, blocks::Builder};
use crate::model::{
    CrossAttention, DecoderLayer, EncoderLayer, FeedForward, Layout, SelfAttention,
};

/// What a sub-layer leaves for its way back.
struct Attended {
    x: TensorId,
    normed: TensorId,
    statistics: TensorId,
    packed: Vec<TensorId>,
    context: TensorId,
    weights: TensorId,
    attention_site: Site,
    residual_site: Site,
}

struct Fed {
    x: TensorId,
    normed: TensorId,
    statistics: TensorId,
    hidden: TensorId,
    residual_site: Site,
}

fn self_attention(
    b: &mut Builder<'_>,
    name: &str,
    side: Side,
    x: TensorId,
    part: &SelfAttention,
) -> (TensorId, Attended) {
    let (normed, statistics) = b.norm(&format!("{name}.norm"), side, x, part.norm, false);
    let packed = b.linear(&format!("{name}.query_key_value"), side, normed, part.query_key_value);
    let (context, weights, attention_site) =
        b.attention(&format!("{name}.attention"), (side, side), side == Side::Target, &[packed]);
    let branch = b.linear(&format!("{name}.output"), side, context, part.output);
    let (y, residual_site) = b.residual(&format!("{name}.residual"), side, x, branch, false);
    let packed = vec![packed];
    (y, Attended { x, normed, statistics, packed, context, weights, attention_site, residual_site })
}

/// Gives the gradient of the layer's input: a boundary.
fn self_attention_backward(
    b: &mut Builder<'_>,
    name: &str,
    side: Side,
    dy: TensorId,
    part: &SelfAttention,
    saved: &Attended,
) -> TensorId {
    let dbranch = b.residual_backward(&format!("{name}.residual"), side, dy, saved.residual_site);
    let dcontext =
        b.linear_backward(&format!("{name}.output"), side, dbranch, saved.context, part.output);
    let dpacked = b.attention_backward(
        &format!("{name}.attention"),
        (side, side),
        side == Side::Target,
        &[dcontext, saved.packed[0], saved.weights],
        saved.attention_site,
    );
    let dnormed = b.linear_backward(
        &format!("{name}.query_key_value"),
        side,
        dpacked[0],
        saved.normed,
        part.query_key_value,
    );
    let rows = (saved.x, saved.statistics);
    b.norm_backward(&format!("{name}.norm"), side, dnormed, rows, part.norm, Some(dy))
        .boundary(true)
        .one()
}

fn cross_attention(
    b: &mut Builder<'_>,
    name: &str,
    x: TensorId,
    memory: TensorId,
    part: &CrossAttention,
) -> (TensorId, Attended) {
    let side = Side::Target;
    let (normed, statistics) = b.norm(&format!("{name}.norm"), side, x, part.norm, false);
    let queries = b.linear(&format!("{name}.query"), side, normed, part.query);
    let keys_values = b.linear(&format!("{name}.key_value"), Side::Source, memory, part.key_value);
    let packed = vec![queries, keys_values];
    let (context, weights, attention_site) =
        b.attention(&format!("{name}.attention"), (side, Side::Source), false, &packed);
    let branch = b.linear(&format!("{name}.output"), side, context, part.output);
    let (y, residual_site) = b.residual(&format!("{name}.residual"), side, x, branch, false);
    (y, Attended { x, normed, statistics, packed, context, weights, attention_site, residual_site })
}

/// Gives the gradients of the decoder's rows and of the memory.
fn cross_attention_backward(
    b: &mut Builder<'_>,
    name: &str,
    dy: TensorId,
    memory: TensorId,
    part: &CrossAttention,
    saved: &Attended,
) -> (TensorId, TensorId) {
    let side = Side::Target;
    let dbranch = b.residual_backward(&format!("{name}.residual"), side, dy, saved.residual_site);
    let dcontext =
        b.linear_backward(&format!("{name}.output"), side, dbranch, saved.context, part.output);
    let dpacked = b.attention_backward(
        &format!("{name}.attention"),
        (side, Side::Source),
        false,
        &[dcontext, saved.packed[0], saved.packed[1], saved.weights],
        saved.attention_site,
    );
    let dnormed =
        b.linear_backward(&format!("{name}.query"), side, dpacked[0], saved.normed, part.query);
    let key_value = format!("{name}.key_value");
    let dmemory = b.linear_backward(&key_value, Side::Source, dpacked[1], memory, part.key_value);
    let rows = (saved.x, saved.statistics);
    let dx =
        b.norm_backward(&format!("{name}.norm"), side, dnormed, rows, part.norm, Some(dy)).one();
    (dx, dmemory)
}

fn feed_forward(
    b: &mut Builder<'_>,
    name: &str,
    side: Side,
    x: TensorId,
    part: &FeedForward,
) -> (TensorId, Fed) {
    let (normed, statistics) = b.norm(&format!("{name}.norm"), side, x, part.norm, false);
    let inner = b.linear(&format!("{name}.inner"), side, normed, part.inner);
    let hidden = b.relu(&format!("{name}.relu"), side, inner);
    let branch = b.linear(&format!("{name}.outer"), side, hidden, part.outer);
    // A layer ends here: a boundary.
    let (y, residual_site) = b.residual(&format!("{name}.residual"), side, x, branch, true);
    (y, Fed { x, normed, statistics, hidden, residual_site })
}

fn feed_forward_backward(
    b: &mut Builder<'_>,
    name: &str,
    side: Side,
    dy: TensorId,
    part: &FeedForward,
    saved: &Fed,
) -> TensorId {
    let dbranch = b.residual_backward(&format!("{name}.residual"), side, dy, saved.residual_site);
    let dhidden =
        b.linear_backward(&format!("{name}.outer"), side, dbranch, saved.hidden, part.outer);
    let width = b.layout.shape().feed_forward.into();
    let dinner = b
        .add(Kind::ReluBackward, format!("{name}.relu.backward"), &[dhidden, saved.hidden])
        .output("", side.tokens(), width)
        .one();
    let dnormed =
        b.linear_backward(&format!("{name}.inner"), side, dinner, saved.normed, part.inner);
    let rows = (saved.x, saved.statistics);
    b.norm_backward(&format!("{name}.norm"), side, dnormed, rows, part.norm, Some(dy)).one()
}

fn encoder_layer(
    b: &mut Builder<'_>,
    name: &str,
    x: TensorId,
    layer: &EncoderLayer,
) -> (TensorId, (Attended, Fed)) {
    let side = Side::Source;
    let (x, attended) = self_attention(b, &format!("{name}.self"), side, x, &layer.self_attention);
    let (x, fed) = feed_forward(b, &format!("{name}.feed_forward"), side, x, &layer.feed_forward);
    (x, (attended, fed))
}

fn decoder_layer(
    b: &mut Builder<'_>,
    name: &str,
    x: TensorId,
    memory: TensorId,
    layer: &DecoderLayer,
) -> (TensorId, (Attended, Attended, Fed)) {
    let side = Side::Target;
    let (x, attended) = self_attention(b, &format!("{name}.self"), side, x, &layer.self_attention);
    let (x, crossed) =
        cross_attention(b, &format!("{name}.cross"), x, memory, &layer.cross_attention);
    let (x, fed) = feed_forward(b, &format!("{name}.feed_forward"), side, x, &layer.feed_forward);
    (x, (attended, crossed, fed))
}

pub(super) fn build(layout: &Layout) -> Graph {
    let mut builder = Builder::new(layout, true);
    let b = &mut builder;
    let vocabulary = u64::from(layout.shape().vocabulary);
    let (source, target) = (Side::Source, Side::Target);

    let (mut x, source_embedded) = b.embed(source, "encoder.embed");
    let mut encoder = Vec::new();
    for (l, layer) in layout.encoder.iter().enumerate() {
        let (y, saved) = encoder_layer(b, &format!("encoder.{l}"), x, layer);
        encoder.push(saved);
        x = y;
    }
    let encoded = x;
    let (memory, memory_statistics) =
        b.norm("encoder.norm", source, encoded, layout.encoder_norm, true);

    let (mut x, target_embedded) = b.embed(target, "decoder.embed");
    let mut decoder = Vec::new();
    for (l, layer) in layout.decoder.iter().enumerate() {
        let (y, saved) = decoder_layer(b, &format!("decoder.{l}"), x, memory, layer);
        decoder.push(saved);
        x = y;
    }
    let decoded = x;
    let (normed, statistics) = b.norm("decoder.norm", target, decoded, layout.decoder_norm, true);
    let output = layout.output();
    let logits = b.linear("logits", target, normed, output);
    let losses = b
        .add(Kind::CrossEntropy, "loss", &[logits])
        .boundary(true)
        .pointwise(Formula::TARGET_TOKENS * vocabulary)
        .output("sum", Formula::constant(1), 0)
        .output("tokens", Formula::TARGET_TOKENS, 3)
        .done();

    let dlogits = b
        .add(Kind::CrossEntropyBackward, "loss.backward", &[logits, losses[1]])
        .output("", Formula::TARGET_TOKENS, vocabulary)
        .one();
    let dnormed = b.linear_backward("logits", target, dlogits, normed, output);
    let rows = (decoded, statistics);
    let mut dx =
        b.norm_backward("decoder.norm", target, dnormed, rows, layout.decoder_norm, None).one();
    let mut dmemory: Option<TensorId> = None;
    for (l, layer) in layout.decoder.iter().enumerate().rev() {
        let (attended, crossed, fed) = &decoder[l];
        let name = format!("decoder.{l}");
        let part = format!("{name}.feed_forward");
        dx = feed_forward_backward(b, &part, target, dx, &layer.feed_forward, fed);
        let part = format!("{name}.cross");
        let cross = &layer.cross_attention;
        let (d, more) = cross_attention_backward(b, &part, dx, memory, cross, crossed);
        dx = d;
        dmemory = Some(match dmemory {
            None => more,
            Some(so_far) => b
                .add(Kind::Add, format!("{part}.memory.backward"), &[so_far, more])
                .output("", Formula::SOURCE_TOKENS, layout.shape().width.into())
                .one(),
        });
        let part = format!("{name}.self");
        dx = self_attention_backward(b, &part, target, dx, &layer.self_attention, attended);
    }
    b.embed_backward("decoder.embed", target, dx, target_embedded);

    // A model has at least one decoder layer, so the memory has a gradient.
    if let Some(dmemory) = dmemory {
        let rows = (encoded, memory_statistics);
        let mut dx =
            b.norm_backward("encoder.norm", source, dmemory, rows, layout.encoder_norm, None).one();
        for (l, layer) in layout.encoder.iter().enumerate().rev() {
            let (attended, fed) = &encoder[l];
            let name = format!("encoder.{l}");
            let part = format!("{name}.feed_forward");
            dx = feed_forward_backward(b, &part, source, dx, &layer.feed_forward, fed);
            let part = format!("{name}.self");
            dx = self_attention_backward(b, &part, source, dx, &layer.self_attention, attended);
        }
        b.embed_backward("encoder.embed", source, dx, source_embedded);
    }
    // Computes nothing: it is where the whole gradient is committed to.
    let gradients = b.gradients();
    b.commit(Kind::Result, "result", gradients, Formula::ZERO);
    builder.finish(None)
}
