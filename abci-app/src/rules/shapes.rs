//! Which shapes sentences can have: work units are counted from them, so impossible ones would be
//! unearned pay, or numbers that no sum holds.

use protocol::{batch::BatchShape, job::Work};

/// Checks one micro-batch's shape against the specification: there must be sentences of 1 to
/// `max_length` tokens a side that have these sums.
pub(super) fn check(work: &Work, shape: &BatchShape) -> Result<(), String> {
    let (longest, most, counted) = match work {
        Work::Train(spec) => (
            spec.model.max_length,
            spec.micro_batch_tokens,
            u64::from(shape.source_tokens) + u64::from(shape.target_tokens),
        ),
        Work::Translate(spec) => {
            (spec.shape.max_length, spec.micro_batch_tokens, u64::from(shape.source_tokens))
        }
    };
    if shape.sentences == 0 {
        return Err("no sentences".into());
    }
    if counted > u64::from(most) {
        return Err(format!("{counted} tokens; a micro-batch has {most} at most"));
    }
    side("source", shape.sentences, longest, shape.source_tokens, shape.source_squares)?;
    side("target", shape.sentences, longest, shape.target_tokens, shape.target_squares)?;
    let (source, target) = (u64::from(shape.source_tokens), u64::from(shape.target_tokens));
    // Every length is at least 1 and at most `longest`; and Cauchy-Schwarz.
    let least = source.max(target);
    let most = source.min(target) * u64::from(longest);
    let product = u128::from(shape.source_squares) * u128::from(shape.target_squares);
    if shape.cross < least || shape.cross > most || square(shape.cross) > product {
        return Err(format!("source by target lengths cannot sum to {}", shape.cross));
    }
    Ok(())
}

fn side(side: &str, sentences: u32, longest: u32, tokens: u32, squares: u64) -> Result<(), String> {
    let most = u64::from(sentences) * u64::from(longest);
    if tokens < sentences || u64::from(tokens) > most {
        return Err(format!(
            "{tokens} {side} tokens for {sentences} sentences of 1 to {longest} tokens"
        ));
    }
    let (n, longest) = (u64::from(sentences), u64::from(longest));
    let tokens = u64::from(tokens);
    // The mean of squares is at least the square of the mean; they are most where as many
    // sentences as can be are as long as can be and the others have one token.
    let least = square(tokens).div_ceil(u128::from(n));
    let spare = tokens - n;
    let full = spare.checked_div(longest - 1).unwrap_or(0);
    let rest = spare - full * (longest - 1);
    let most = if full < n {
        full * longest * longest + (1 + rest) * (1 + rest) + (n - full - 1)
    } else {
        n * longest * longest
    };
    if u128::from(squares) < least || squares > most {
        return Err(format!("the squares of {tokens} {side} tokens cannot sum to {squares}"));
    }
    Ok(())
}

fn square(value: u64) -> u128 {
    u128::from(value) * u128::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn work() -> Work {
        testing::spec(0).work
    }

    proptest! {
        #[test]
        fn shapes_of_real_sentences_pass(lengths in proptest::collection::vec((1u32..17, 1u32..17), 1..3)) {
            let mut shape = BatchShape::default();
            for (source, target) in lengths {
                shape.add(source, target);
            }
            prop_assert_eq!(check(&work(), &shape), Ok(()));
        }
    }

    #[test]
    fn the_least_and_the_most_squares_are_reached_and_not_passed() {
        // Three sentences of 16 tokens at most, 20 tokens in all: 7 7 6, and 16 3 1.
        let sum = |lengths: [u32; 3]| {
            let mut shape = BatchShape::default();
            lengths.into_iter().for_each(|length| shape.add(length, 1));
            shape
        };
        let (least, most) = (sum([7, 7, 6]), sum([16, 3, 1]));
        assert_eq!((check(&work(), &least), check(&work(), &most)), (Ok(()), Ok(())));
        let under = BatchShape { source_squares: least.source_squares - 1, ..least };
        let over = BatchShape { source_squares: most.source_squares + 1, ..most };
        assert!(check(&work(), &under).is_err() && check(&work(), &over).is_err());
    }

    #[test]
    fn shapes_that_no_sentences_have_are_refused() {
        let mut good = BatchShape::default();
        good.add(5, 7);
        good.add(3, 2);
        assert_eq!(check(&work(), &good), Ok(()));
        for bad in [
            BatchShape { sentences: 0, ..good },
            BatchShape { sentences: 9, ..good },
            BatchShape { source_tokens: u32::MAX, ..good },
            BatchShape { source_squares: 31, ..good },
            BatchShape { source_squares: u64::MAX, ..good },
            BatchShape { target_squares: 8 * 8 + 1 + 1, ..good },
            BatchShape { cross: 8, ..good },
            BatchShape { cross: u64::MAX, ..good },
            BatchShape { cross: 43, ..good },
        ] {
            assert!(check(&work(), &bad).is_err(), "{bad:?}");
        }
    }
}
