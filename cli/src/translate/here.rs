//! Translation on this machine.

use super::{Document, Model, TranslateError};
use compute::run::{Device, Place, RunProduct};
use job::tree::Span;
use protocol::{Digest, PublicKey, job::LogLevel, receipt::Salt};

/// Micro-batches a thread between two words on progress.
const AT_ONCE: u32 = 2;

/// Translates a document's sentences on `threads` of this machine; a sentence that is too long
/// gives an empty text. `progress` hears of how many micro-batches of all are done.
///
/// # Errors
/// [`TranslateError`].
pub fn translate_here(
    model: &Model,
    document: &Document,
    threads: usize,
    mut progress: impl FnMut(u32, u32),
) -> Result<Vec<String>, TranslateError> {
    // Nobody sees this job: it needs neither requester nor salt.
    let (nobody, salt) = (PublicKey([0; 32]), Salt(Digest::default()));
    let (_, job) = model.order(document, salt, "", nobody)?;
    let count = job.terms().schedule().micro_batches(0);
    let mut device = Device::new(threads);
    let mut translations = vec![String::new(); document.sentences().len()];
    let step = (device.threads() as u32).saturating_mul(AT_ONCE).max(1);
    let mut first = 0;
    while first < count {
        let span = Span { first, count: step.min(count - first) };
        let place = Place { epoch: 0, step: 0, span };
        let ran = device.run(&job, place, LogLevel::Boundaries, &model.parameters, &())?;
        if let RunProduct::Translations(tokens) = ran.product {
            let members = span
                .micro_batches()
                .flat_map(|micro| job.members(0, 0, micro).unwrap_or_default().iter().copied());
            for (at, ids) in members.zip(&tokens) {
                if let Some(place) = translations.get_mut(at as usize) {
                    *place = model.tokenizer.decode(ids)?;
                }
            }
        }
        first += span.count;
        progress(first, count);
    }
    Ok(translations)
}
