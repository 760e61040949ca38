//! That every instruction set of this CPU gives the same bits over whole batches, and that these
//! are the bits they always were.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

mod common;

use common::*;
use kernels::{
    Error, Isa, OutputData, OutputView, Pairs, Tap, Workspace, decode,
    graph::Operation,
    isa,
    model::Parameters,
    optimiser::{self, State},
    tap,
    train::{Settings, micro_batch},
};
use protocol::Digest;
use std::sync::Mutex;

/// Holds whoever forces an instruction set, which the whole process then uses.
static FORCED: Mutex<()> = Mutex::new(());

fn on_each<T: PartialEq + std::fmt::Debug>(mut f: impl FnMut() -> T) -> T {
    let _guard = FORCED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut all = Vec::new();
    for isa in isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        isa::force(isa).unwrap();
        all.push((isa, f()));
    }
    isa::force(Isa::detect()).unwrap();
    for (isa, result) in &all[1..] {
        assert!(*result == all[0].1, "{isa} differs from {}: {result:?} {:?}", all[0].0, all[0].1);
    }
    all.swap_remove(0).1
}

/// Digests every operation's outputs.
#[derive(Default)]
struct Log(Vec<(String, Digest)>);

impl Tap for Log {
    fn after(&mut self, position: u32, operation: &Operation, outputs: &mut [OutputView<'_>]) {
        self.0.push((format!("{position} {}", operation.name), tap::digest(outputs)));
    }
}

/// A hundred steps: forks have been seen to show no earlier than bias correction's fifteenth.
#[test]
fn a_hundred_steps_give_the_same_model_on_every_instruction_set_and_the_pinned_one() {
    let (parameters, state, _) = on_each(|| trained(&EVEN, 100, &[(3, 4), (7, 5), (0, 1)]));
    assert_eq!((parameters.short(), state.short()), ("b1ed03f4".into(), "59e8bf56".into()));
}

#[test]
fn odd_shapes_give_the_same_model_on_every_instruction_set_and_the_pinned_one() {
    let (parameters, state, _) = on_each(|| trained(&ODD, 3, &LENGTHS));
    assert_eq!((parameters.short(), state.short()), ("f8db02a3".into(), "7f6d1d3d".into()));
}

#[test]
fn every_operation_of_a_micro_batch_gives_the_same_bits_on_every_instruction_set() {
    let parameters = Parameters::initial(&ODD, 7).unwrap();
    let pairs = pairs(&ODD, 4, &LENGTHS);
    let log = on_each(|| {
        let mut log = Log::default();
        let mut workspace = Workspace::new(&ODD).unwrap();
        micro_batch(&parameters, &pairs, &SETTINGS, &mut workspace, &mut log).unwrap();
        log.0
    });
    let graph = kernels::graph::Graph::training(&ODD).unwrap();
    assert_eq!(log.len(), graph.operations.len());
}

#[test]
fn every_operation_of_a_translation_gives_the_same_bits_on_every_instruction_set() {
    let parameters = Parameters::initial(&ODD, 7).unwrap();
    let sources: Vec<_> = [4, 0, 19, 7].map(|n| sentence(&ODD, 50 + n, n as usize)).to_vec();
    on_each(|| {
        let mut log = Log::default();
        let mut workspace = Workspace::new(&ODD).unwrap();
        let translations =
            decode::greedy(&parameters, &sources, &[9, 3, 40, 1], &mut workspace, &mut log);
        (log.0, translations.unwrap())
    });
}

#[test]
fn what_a_workspace_did_before_changes_nothing() {
    let parameters = Parameters::initial(&EVEN, 7).unwrap();
    let (large, small) = (pairs(&EVEN, 1, &LENGTHS), pairs(&EVEN, 2, &[(3, 2), (1, 1)]));
    let (_, fresh) = gradient(&parameters, &small, &SETTINGS);
    let mut workspace = Workspace::new(&EVEN).unwrap();
    micro_batch(&parameters, &large, &SETTINGS, &mut workspace, &mut ()).unwrap();
    let sources = vec![sentence(&EVEN, 3, 12)];
    decode::greedy(&parameters, &sources, &[20], &mut workspace, &mut ()).unwrap();
    micro_batch(&parameters, &small, &SETTINGS, &mut workspace, &mut ()).unwrap();
    assert!(workspace.gradient() == fresh);
}

/// Keeps the logits of every target row, by sentence and position.
struct Logits {
    rows: Vec<Vec<f32>>,
}

impl Tap for Logits {
    fn wants(&self, _: u32, operation: &Operation) -> bool {
        operation.name == "logits"
    }
    fn after(&mut self, _: u32, _: &Operation, outputs: &mut [OutputView<'_>]) {
        let OutputData::F32(data) = &outputs[0].data else { panic!("logits are numbers") };
        self.rows.extend(data.chunks(outputs[0].shape[1]).map(<[f32]>::to_vec));
    }
}

/// Decoding with its caches, against the whole sentence's pass over what was decoded.
#[test]
fn decoding_gives_the_bits_of_the_whole_sentences_pass() {
    for shape in [ODD, EVEN] {
        let mut parameters = Parameters::initial(&shape, 9).unwrap();
        // Away from zero biases, and with larger logits.
        for (i, x) in parameters.elements_mut().iter_mut().enumerate() {
            *x = *x * 1.5 + (random(8, i, 201) as f32 - 100.0) * 1e-3;
        }
        let sources: Vec<_> = [6, 1, 15, 0].map(|n| sentence(&shape, 60 + n, n as usize)).to_vec();
        let limits = [20, 5, 33, 18];
        let mut workspace = Workspace::new(&shape).unwrap();
        let mut steps = Logits { rows: Vec::new() };
        let translations =
            decode::greedy(&parameters, &sources, &limits, &mut workspace, &mut steps).unwrap();
        assert!(translations.iter().any(|t| t.len() > 16), "{translations:?}");
        // Rows of a step are the sentences that had not ended before it.
        let mut by_sentence = vec![Vec::new(); sources.len()];
        let mut rows = steps.rows.into_iter();
        for t in 0..33 {
            for (s, translation) in translations.iter().enumerate() {
                // One more row than tokens where the end mark came, before the limit.
                let count = (translation.len() + 1).min(limits[s] as usize);
                if t < count {
                    by_sentence[s].push(rows.next().unwrap());
                }
            }
        }
        assert!(rows.next().is_none());
        let pairs: Pairs = sources.iter().zip(&translations).collect();
        let settings = Settings { dropout: 0, ..SETTINGS };
        let mut whole = Logits { rows: Vec::new() };
        micro_batch(&parameters, &pairs, &settings, &mut workspace, &mut whole).unwrap();
        let mut whole = whole.rows.into_iter();
        for (s, translation) in translations.iter().enumerate() {
            let rows: Vec<_> = whole.by_ref().take(translation.len() + 1).collect();
            for (t, row) in by_sentence[s].iter().enumerate() {
                let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(row), bits(&rows[t]), "sentence {s}, step {t}");
            }
        }
    }
}

/// Alters one element of one operation's output.
struct Liar {
    name: &'static str,
}

impl Tap for Liar {
    fn wants(&self, _: u32, operation: &Operation) -> bool {
        operation.name == self.name
    }
    fn after(&mut self, _: u32, _: &Operation, outputs: &mut [OutputView<'_>]) {
        match &mut outputs[0].data {
            OutputData::F32(data) => data[0] += 0.125,
            OutputData::U32(data) => data[0] = 5,
        }
    }
}

#[test]
fn what_a_tap_alters_is_what_later_operations_read() {
    let parameters = Parameters::initial(&EVEN, 7).unwrap();
    let pairs = pairs(&EVEN, 2, &LENGTHS);
    // Dropout might drop just the element that is altered.
    let settings = Settings { dropout: 0, ..SETTINGS };
    let (honest, right) = gradient(&parameters, &pairs, &settings);
    let mut workspace = Workspace::new(&EVEN).unwrap();
    for name in ["encoder.embed", "decoder.1.cross.output", "logits", "loss.backward", "result"] {
        let mut liar = Liar { name };
        let outcome = micro_batch(&parameters, &pairs, &settings, &mut workspace, &mut liar);
        assert!(workspace.gradient() != right, "{name}");
        if name == "loss.backward" || name == "result" {
            assert_eq!(outcome.unwrap(), honest);
        }
    }
    let sources = vec![sentence(&EVEN, 3, 12)];
    let mut liar = Liar { name: "tokens" };
    let lied = decode::greedy(&parameters, &sources, &[6], &mut workspace, &mut liar).unwrap();
    assert_eq!(lied, [[5; 6]]);
}

/// Makes one element of one operation's output infinite.
struct Overflow(&'static str);

impl Tap for Overflow {
    fn wants(&self, _: u32, operation: &Operation) -> bool {
        operation.name == self.0
    }
    fn after(&mut self, _: u32, _: &Operation, outputs: &mut [OutputView<'_>]) {
        if let OutputData::F32(data) = &mut outputs[0].data {
            data[0] = f32::INFINITY;
        }
    }
}

#[test]
fn numbers_that_are_not_finite_are_an_error_naming_the_operation() {
    let mut parameters = Parameters::initial(&EVEN, 7).unwrap();
    let pairs = pairs(&EVEN, 2, &LENGTHS);
    let mut workspace = Workspace::new(&EVEN).unwrap();
    for name in ["encoder.0.self.output", "decoder.1.feed_forward.norm", "loss.backward"] {
        let mut tap = Overflow(name);
        let error =
            micro_batch(&parameters, &pairs, &SETTINGS, &mut workspace, &mut tap).unwrap_err();
        assert!(matches!(error, Error::NonFinite { .. }), "{error}");
    }
    let range = {
        let all = parameters.layout().parameters();
        let bad = all.iter().find(|p| p.name == "decoder.0.cross.query.weight").unwrap();
        bad.range.clone()
    };
    parameters.elements_mut()[range.start + 5] = f32::NAN;
    let error = micro_batch(&parameters, &pairs, &SETTINGS, &mut workspace, &mut ()).unwrap_err();
    assert_eq!(error, Error::NonFinite { operation: "decoder.0.cross.query".into() });

    let mut parameters = Parameters::initial(&EVEN, 7).unwrap();
    let mut state = State::new(&EVEN).unwrap();
    let before = (parameters.digest(), state.digest());
    let mut sum = vec![1.0; parameters.elements().len()];
    sum[100] = f32::INFINITY;
    let error =
        optimiser::update(&mut parameters, &mut state, &mut sum, 5, &ADAM, &mut ()).unwrap_err();
    assert_eq!(error, Error::NonFinite { operation: "gradient.clip".into() });
    assert_eq!((parameters.digest(), state.digest()), before);
}
