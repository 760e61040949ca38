//! Graphs and what is counted from them; bad input; files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

mod common;

use common::*;
use kernels::{
    Error, OutputData, OutputView, Pairs, Tap, Workspace, decode,
    graph::{Graph, Operation},
    model::{Parameters, check},
    optimiser::{self, State},
    train::{Settings, micro_batch},
};
use proptest::prelude::*;
use protocol::{BatchShape, WorkUnits, job::ModelShape};

/// Checks positions and shapes against the graph, and keeps what was seen.
struct Seen {
    graph: Graph,
    next: u32,
    positions: Vec<u32>,
    boundaries: Vec<String>,
}

impl Tap for Seen {
    fn after(&mut self, position: u32, operation: &Operation, outputs: &mut [OutputView<'_>]) {
        assert_eq!(position, self.next);
        self.next += 1;
        self.positions.push(position);
        assert_eq!(self.graph.operation_at(position), Some(operation));
        assert_eq!(outputs.len(), operation.outputs.len(), "{}", operation.name);
        for (output, id) in outputs.iter().zip(&operation.outputs) {
            let tensor = &self.graph.tensors[id.0 as usize];
            assert_eq!(output.name, tensor.name);
            let length = match &output.data {
                OutputData::F32(data) => data.len(),
                OutputData::U32(data) => data.len(),
            };
            assert_eq!(output.shape.iter().product::<usize>(), length, "{}", output.name);
            assert_eq!(output.shape.len(), tensor.shape.len());
        }
        if operation.boundary {
            self.boundaries.push(operation.name.clone());
        }
    }
}

fn seen(graph: Graph) -> Seen {
    Seen { graph, next: 0, positions: Vec::new(), boundaries: Vec::new() }
}

#[test]
fn a_micro_batch_does_its_graphs_operations_and_commits_to_layers_and_result() {
    let parameters = Parameters::initial(&EVEN, 1).unwrap();
    let mut workspace = Workspace::new(&EVEN).unwrap();
    let mut tap = seen(Graph::training(&EVEN).unwrap());
    let pairs = pairs(&EVEN, 1, &LENGTHS);
    micro_batch(&parameters, &pairs, &SETTINGS, &mut workspace, &mut tap).unwrap();
    assert_eq!(tap.next as usize, tap.graph.operations.len());
    assert_eq!(
        tap.boundaries,
        [
            "encoder.0.feed_forward.residual",
            "encoder.norm",
            "decoder.0.feed_forward.residual",
            "decoder.1.feed_forward.residual",
            "decoder.norm",
            "loss",
            "decoder.1.self.norm.backward",
            "decoder.0.self.norm.backward",
            "encoder.0.self.norm.backward",
            "result",
        ]
    );
}

#[test]
fn a_translation_repeats_its_step_and_its_positions_go_on() {
    let parameters = Parameters::initial(&EVEN, 1).unwrap();
    let mut workspace = Workspace::new(&EVEN).unwrap();
    let mut tap = seen(Graph::translation(&EVEN).unwrap());
    let sources = vec![sentence(&EVEN, 1, 4), sentence(&EVEN, 2, 2)];
    let limits = [7, 3];
    decode::greedy(&parameters, &sources, &limits, &mut workspace, &mut tap).unwrap();
    let (once, all) = (tap.graph.repeat_from as u32, tap.graph.operations.len() as u32);
    assert_eq!((tap.next - once) % (all - once), 0);
    assert_eq!(tap.graph.decode_step(once - 1), None);
    assert_eq!(tap.graph.decode_step(once), Some(0));
    assert_eq!(tap.graph.decode_step(all), Some(1));
    // Counted position by position as if each sentence ran to its limit, it is the whole.
    let lengths = [5, 3];
    let most = once + 7 * (all - once);
    let sum: WorkUnits = (0..most).map(|p| tap.graph.units_at(p, &lengths, &limits)).sum();
    assert_eq!(sum, tap.graph.units(&decode::shape(&sources, &limits)));
    assert_eq!(tap.graph.units_at(most, &lengths, &limits), WorkUnits::default());
}

#[test]
fn an_update_does_its_graphs_operations_and_commits_to_all_but_the_schedule() {
    let mut parameters = Parameters::initial(&EVEN, 1).unwrap();
    let mut state = State::new(&EVEN).unwrap();
    let mut tap = seen(state.graph().clone());
    let mut sum = vec![0.5; parameters.elements().len()];
    optimiser::update(&mut parameters, &mut state, &mut sum, 9, &ADAM, &mut tap).unwrap();
    assert_eq!(tap.next as usize, tap.graph.operations.len());
    assert_eq!(tap.boundaries.len(), tap.graph.operations.len() - 1);
    assert_eq!(tap.boundaries[..2], ["gradient.sum", "gradient.clip"]);
}

/// One layer a side, counted by hand: width 4, 2 heads, inner width 6, vocabulary 10; source
/// lengths 2 and 3, target lengths 3 and 1.
#[test]
fn work_units_are_what_a_hand_counts() {
    let model = ModelShape {
        vocabulary: 10,
        width: 4,
        heads: 2,
        feed_forward: 6,
        encoder_layers: 1,
        decoder_layers: 1,
        max_length: 8,
    };
    let mut batch = BatchShape::default();
    batch.add(2, 3);
    batch.add(3, 1);
    // Sums: 5 source and 4 target tokens; squares 13 and 10; causal pairs 6 + 1; cross 6 + 3.
    let (s, t, ss, tt, causal, cross) = (5, 4, 13, 10, 7, 9);

    // Products forward: qkv 48, output 16, inner 24, outer 24 a token; attention 2 x 4 a pair.
    let encoder = s * (48 + 16 + 24 + 24) + ss * 8;
    let decoder = t * (48 + 16 + 24 + 24) + causal * 8 + t * (16 + 16) + s * 32 + cross * 8;
    let logits = t * 40;
    // Backward: each linear layer twice, attention 4 x 4 a pair.
    let product = 3 * (encoder + decoder + logits);
    // Pointwise forward: an attention's context and weights, a norm's rows and statistics.
    let attention = |tokens: u64, pairs: u64| tokens * 4 + pairs * 2;
    let norm = |tokens: u64| tokens * (4 + 2);
    let fed = |tokens: u64| norm(tokens) + tokens * (6 + 6 + 4 + 4);
    let encoder = norm(s) + s * 12 + attention(s, ss) + s * 4 + s * 4 + fed(s);
    let decoder = norm(t)
        + t * 12
        + attention(t, tt)
        + t * 4
        + t * 4
        + norm(t)
        + t * 4
        + s * 8
        + attention(t, cross)
        + t * 4
        + t * 4
        + fed(t);
    let embeds = (s + t) * 4;
    let losses = t * 10 + 1 + t * 3;
    let forward = embeds + encoder + decoder + norm(s) + norm(t) + t * 10 + losses;
    // Backward. A linear layer: its weights' gradient, its bias's, an addition a token and output
    // for that, and its input's gradient.
    let linear = |tokens: u64, inputs: u64, outputs: u64| {
        inputs * outputs + outputs + tokens * outputs + tokens * inputs
    };
    let norm = |tokens: u64| tokens * 4 + 2 * 4 + tokens * 8;
    let attention_packed = |tokens: u64, pairs: u64| tokens * 12 + pairs * 2;
    let fed = |n: u64| n * 4 + linear(n, 6, 4) + n * 6 + linear(n, 4, 6) + norm(n);
    let own = |n: u64, pairs: u64| {
        n * 4 + linear(n, 4, 4) + attention_packed(n, pairs) + linear(n, 4, 12) + norm(n)
    };
    let crossed = t * 4
        + linear(t, 4, 4)
        + (t * 4 + s * 8 + cross * 2)
        + linear(t, 4, 4)
        + linear(s, 4, 8)
        + norm(t);
    let logits = t * 10 + 10 * 4 + t * 4;
    let backward = logits
        + norm(t)
        + fed(t)
        + crossed
        + own(t, tt)
        + t * 4
        + norm(s)
        + fed(s)
        + own(s, ss)
        + s * 4;
    let graph = Graph::training(&model).unwrap();
    assert_eq!(graph.units(&batch), WorkUnits { product, pointwise: forward + backward });

    // Translation: the same forward without loss, one token chosen a row, weights not kept, and
    // the keys and values of the source once.
    let graph = Graph::translation(&model).unwrap();
    let encoder = s * (48 + 16 + 24 + 24) + ss * 8;
    let decoder = t * (48 + 16 + 24 + 24) + causal * 8 + t * (16 + 16) + s * 32 + cross * 8;
    assert_eq!(graph.units(&batch).product, encoder + decoder + t * 40);

    // An update of two gradients: their sum, norm and two numbers, five of the schedule, three a
    // parameter.
    let graph = Graph::update(&model).unwrap();
    let elements = Parameters::initial(&model, 1).unwrap().elements().len() as u64;
    assert_eq!(
        graph.units(&Graph::update_shape(2)),
        WorkUnits { product: 0, pointwise: 2 * elements + elements + 2 + 5 + 3 * elements }
    );
}

#[test]
fn a_graphs_digest_follows_from_the_shape_alone_and_moves_with_it() {
    let digests = [
        Graph::training(&EVEN).unwrap().digest(),
        Graph::training(&ODD).unwrap().digest(),
        Graph::translation(&EVEN).unwrap().digest(),
        Graph::update(&EVEN).unwrap().digest(),
    ];
    assert_eq!(digests[0], Graph::training(&EVEN).unwrap().digest());
    for (i, a) in digests.iter().enumerate() {
        assert!(digests[i + 1..].iter().all(|b| a != b));
    }
    assert_eq!(digests[0].short(), "6d0e9027", "a change here is a new graph for every job");
}

#[test]
fn no_two_operations_of_a_graph_share_a_name() {
    for graph in [Graph::training(&ODD), Graph::translation(&ODD), Graph::update(&ODD)] {
        let graph = graph.unwrap();
        let mut names: Vec<_> = graph.operations.iter().map(|o| &o.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), graph.operations.len());
        let mut names: Vec<_> = graph.tensors.iter().map(|t| &t.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), graph.tensors.len());
    }
}

#[test]
fn bad_batches_are_refused_with_a_reason() {
    let parameters = Parameters::initial(&ODD, 1).unwrap();
    let mut workspace = Workspace::new(&ODD).unwrap();
    let mut run = |pairs: &Pairs, settings: Settings| {
        micro_batch(&parameters, pairs, &settings, &mut workspace, &mut ()).map(|_| ())
    };
    assert_eq!(run(&Pairs::new(), SETTINGS), Err(Error::EmptyBatch));
    let pair =
        |source: Vec<u32>, target: Vec<u32>| -> Pairs { [(source, target)].into_iter().collect() };
    let token = Error::Token { sentence: 0, token: 37, vocabulary: 37 };
    assert_eq!(run(&pair(vec![37], vec![3]), SETTINGS), Err(token));
    let token = Error::Token { sentence: 0, token: u32::MAX, vocabulary: 37 };
    assert_eq!(run(&pair(vec![3], vec![u32::MAX]), SETTINGS), Err(token));
    let length = Error::Length { sentence: 0, length: 41, most: 40 };
    assert_eq!(run(&pair(vec![3; 40], vec![3]), SETTINGS), Err(length.clone()));
    assert_eq!(run(&pair(vec![3], vec![3; 40]), SETTINGS), Err(length));
    assert_eq!(run(&pair(vec![3; 39], vec![3; 39]), SETTINGS), Ok(()));
    let smoothing = Settings { label_smoothing: 1.0, ..SETTINGS };
    assert!(matches!(run(&pair(vec![3], vec![3]), smoothing), Err(Error::Setting { .. })));
    let smoothing = Settings { label_smoothing: f32::NAN, ..SETTINGS };
    assert!(matches!(run(&pair(vec![3], vec![3]), smoothing), Err(Error::Setting { .. })));

    let mut other = Workspace::new(&EVEN).unwrap();
    let error = micro_batch(&parameters, &pair(vec![3], vec![3]), &SETTINGS, &mut other, &mut ());
    assert!(matches!(error, Err(Error::Shape(_))));
    let mut greedy = |sources: &[Vec<u32>], limits: &[u32]| {
        decode::greedy(&parameters, sources, limits, &mut workspace, &mut ()).map(|_| ())
    };
    assert_eq!(greedy(&[], &[]), Err(Error::EmptyBatch));
    assert!(matches!(greedy(&[vec![3]], &[]), Err(Error::Count { .. })));
    assert!(matches!(greedy(&[vec![3]], &[41]), Err(Error::Setting { .. })));
    assert!(matches!(greedy(&[vec![3; 40]], &[3]), Err(Error::Length { .. })));
    assert!(matches!(greedy(&[vec![99]], &[3]), Err(Error::Token { .. })));
    assert_eq!(greedy(&[vec![3], vec![]], &[0, 40]), Ok(()));
}

#[test]
fn shapes_that_cannot_be_built_are_refused() {
    let bad = |change: fn(&mut ModelShape)| {
        let mut shape = EVEN;
        change(&mut shape);
        assert!(matches!(check(&shape), Err(Error::Shape(_))), "{shape:?}");
        assert!(Parameters::initial(&shape, 1).is_err());
        assert!(Workspace::new(&shape).is_err());
        assert!(State::new(&shape).is_err());
    };
    bad(|shape| shape.vocabulary = 3);
    bad(|shape| shape.vocabulary = u32::MAX);
    bad(|shape| shape.width = 0);
    bad(|shape| shape.width = 31);
    bad(|shape| shape.heads = 0);
    bad(|shape| shape.heads = 3);
    bad(|shape| shape.feed_forward = 0);
    bad(|shape| shape.encoder_layers = 0);
    bad(|shape| shape.decoder_layers = 10_000);
    bad(|shape| shape.max_length = 1);
    bad(|shape| (shape.vocabulary, shape.width) = (1 << 20, 16_384));
}

#[test]
fn an_update_of_another_models_gradient_is_refused() {
    let mut parameters = Parameters::initial(&ODD, 1).unwrap();
    let mut state = State::new(&ODD).unwrap();
    let mut run = |sum: &mut [f32], tokens| {
        optimiser::update(&mut parameters, &mut state, sum, tokens, &ADAM, &mut ())
    };
    assert!(matches!(run(&mut [0.0; 5], 3), Err(Error::Count { .. })));
    let elements = Graph::training(&ODD).map(|_| Parameters::initial(&ODD, 1).unwrap());
    let mut sum = vec![0.0; elements.unwrap().elements().len()];
    assert_eq!(run(&mut sum, 0), Err(Error::EmptyBatch));
    let mut other = State::new(&EVEN).unwrap();
    let error = optimiser::update(&mut parameters, &mut other, &mut sum, 3, &ADAM, &mut ());
    assert!(matches!(error, Err(Error::Shape(_))));
}

#[test]
fn files_round_trip_and_the_same_parameters_give_the_same_bytes() {
    let mut parameters = Parameters::initial(&ODD, 3).unwrap();
    let bytes = parameters.to_safetensors().unwrap();
    assert_eq!(bytes, parameters.to_safetensors().unwrap());
    assert_eq!(Parameters::from_safetensors(&bytes).unwrap(), parameters);

    let mut state = State::new(&ODD).unwrap();
    let mut sum: Vec<f32> = (0..parameters.elements().len()).map(|i| i as f32 * 1e-3).collect();
    for _ in 0..3 {
        optimiser::update(&mut parameters, &mut state, &mut sum, 70, &ADAM, &mut ()).unwrap();
    }
    let back = State::from_bytes(&ODD, &state.to_bytes().unwrap()).unwrap();
    assert_eq!(back, state);
    assert_eq!(back.digest(), state.digest());
    assert_eq!(back.step(), 3);
    assert!(matches!(State::from_bytes(&EVEN, &state.to_bytes().unwrap()), Err(Error::File(_))));
}

#[test]
fn a_file_with_a_tensor_too_few_or_of_another_shape_is_refused() {
    use safetensors::{Dtype, serialize, tensor::TensorView};
    let metadata = |shape: &ModelShape| {
        let shape = serde_json::to_string(shape).unwrap();
        Some([("alia_model_shape".to_string(), shape)].into())
    };
    let data = [0u8; 16];
    let view = TensorView::new(Dtype::F32, vec![4], &data).unwrap();
    let bytes = serialize([("embedding.weight", &view)], metadata(&ODD)).unwrap();
    let error = Parameters::from_safetensors(&bytes).unwrap_err().to_string();
    assert!(error.contains("embedding.weight"), "{error}");
    let bytes = serialize([("embedding.weight", &view)], None).unwrap();
    let error = Parameters::from_safetensors(&bytes).unwrap_err().to_string();
    assert!(error.contains("alia_model_shape"), "{error}");
    let huge = ModelShape { vocabulary: u32::MAX, ..ODD };
    let bytes = serialize([("embedding.weight", &view)], metadata(&huge)).unwrap();
    assert!(matches!(Parameters::from_safetensors(&bytes), Err(Error::Shape(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn hostile_files_never_panic(at in 0usize..3_000, byte: u8, cut in 0usize..4_000, seed: u64) {
        let shape = ModelShape { vocabulary: 5, width: 2, heads: 1, feed_forward: 2,
            encoder_layers: 1, decoder_layers: 1, max_length: 4 };
        let parameters = Parameters::initial(&shape, seed).unwrap();
        let mut bytes = parameters.to_safetensors().unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len().saturating_sub(cut % 3 * cut));
        let _ = Parameters::from_safetensors(&bytes);
        let _ = State::from_bytes(&shape, &bytes);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Parameters::from_safetensors(&bytes);
        let _ = State::from_bytes(&ODD, &bytes);
    }
}
