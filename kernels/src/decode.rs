//! Greedy translation.

use crate::{
    batch::Ragged,
    error::Error,
    execute::Context,
    graph::Sums,
    model::{END, Parameters, START},
    operators::dropout::Dropout,
    tap::Tap,
    workspace::Workspace,
};
use protocol::BatchShape;

/// Translates sentences: at each step the likeliest next token, the lowest id of several, until
/// the end mark or the sentence's limit.
///
/// `sources` and the result are token ids without marks. A limit counts the end mark in: a
/// sentence gets at most so many tokens, its end mark among them if it comes. `tap` is called
/// after each operation, positions being those of [`Workspace::translation_graph`]: for the j-th
/// operation of decoding's step t `repeat_from + t (operations - repeat_from) + j`. Sentences that
/// have ended are no longer among a step's rows. Gives the bits of the whole sentence's pass
/// without dropout.
///
/// # Errors
/// [`Error::EmptyBatch`], [`Error::Token`], [`Error::Length`], [`Error::Count`] where there are
/// not as many limits as sentences, [`Error::Setting`] for a limit beyond the model's longest
/// sentence, [`Error::Shape`] where parameters and workspace differ, and
/// [`Error::FloatingPointMode`].
pub fn greedy<T: Tap>(
    parameters: &Parameters,
    sources: &[Vec<u32>],
    limits: &[u32],
    workspace: &mut Workspace,
    tap: &mut T,
) -> Result<Vec<Vec<u32>>, Error> {
    crate::check_floating_point_mode()?;
    workspace.check(parameters.shape())?;
    if limits.len() != sources.len() {
        let (found, wanted) = (limits.len(), sources.len());
        return Err(Error::Count { what: "limits for sentences", found, wanted });
    }
    let most = parameters.shape().max_length;
    if let Some(limit) = limits.iter().find(|&&limit| limit > most) {
        return Err(Error::Setting {
            what: "limit of a translation",
            value: f64::from(*limit),
            wanted: "at most the model's longest sentence",
        });
    }
    let source = ragged(sources);
    source.check(parameters.shape())?;

    let Workspace { layout, positions, translation, machine, .. } = workspace;
    let width = layout.shape().width as usize;
    let nothing = Ragged::default();
    let context = Context {
        layout,
        parameters: parameters.elements(),
        positions,
        source: &source,
        target: &nothing,
        labels: &[],
        sums: Sums::of(&shape(sources, limits)),
        dropout: Dropout::new(0, [0; 3], 0),
        smoothing: 0.0,
        first_position: 0,
        active: &[],
    };
    let (once, all) = (translation.graph().repeat_from, translation.graph().operations.len());
    machine.prepare(translation);
    machine.reset_caches(width, limits, &source);
    for index in 0..once {
        machine.run(translation, index, index as u32, &context, tap);
    }
    machine.fill_memory(translation, &context);

    let mut translations = vec![Vec::new(); sources.len()];
    let mut active: Vec<usize> = (0..sources.len()).filter(|&s| limits[s] > 0).collect();
    let mut target = Ragged::default();
    let mut t = 0;
    while !active.is_empty() {
        target.clear();
        for &s in &active {
            target.push([translations[s].last().copied().unwrap_or(START)]);
        }
        // A step's tensors have one row for each sentence still being translated.
        let rows = active.len() as u64;
        let step = Context {
            target: &target,
            sums: Sums { target_tokens: rows, ..context.sums },
            first_position: t,
            active: &active,
            ..context
        };
        for index in once..all {
            let position = index + t * (all - once);
            machine.run(translation, index, position as u32, &step, tap);
        }
        let mut still = Vec::with_capacity(active.len());
        for (&s, &token) in active.iter().zip(&machine.tokens) {
            // Only a tap that altered it makes a token that the vocabulary does not have.
            let vocabulary = layout.shape().vocabulary;
            if token >= vocabulary {
                return Err(Error::Token { sentence: s, token, vocabulary });
            }
            if token == END {
                continue;
            }
            translations[s].push(token);
            if translations[s].len() < limits[s] as usize {
                still.push(s);
            }
        }
        active = still;
        t += 1;
    }
    Ok(translations)
}

fn ragged(sources: &[Vec<u32>]) -> Ragged {
    let mut ragged = Ragged::default();
    for source in sources {
        ragged.push(source.iter().copied().chain([END]));
    }
    ragged
}

/// What work units of such a batch are counted from: sources with their end marks, every
/// translation at its limit.
pub fn shape(sources: &[Vec<u32>], limits: &[u32]) -> BatchShape {
    let mut shape = BatchShape::default();
    for (source, &limit) in sources.iter().zip(limits) {
        shape.add(source.len() as u32 + 1, limit);
    }
    shape
}
