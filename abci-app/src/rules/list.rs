//! Transactions that carry a list: their length, and how one item's refusal is the whole's.

use super::Stop;
use crate::refusal::Refusal;
use protocol::refusal::{RefusalCode, Sense};

/// Refuses an empty list and one over its limit.
pub(super) fn check_len(what: &str, found: usize, most: usize) -> Result<(), Refusal> {
    if (1..=most).contains(&found) {
        return Ok(());
    }
    let detail = format!("{found} {what}; 1 to {most} are allowed");
    Err(Refusal::new(RefusalCode::ListLength, detail))
}

/// Executes every item, or refuses the whole and names the first bad one.
///
/// Where every item stands already, so does the whole: that refusal names no item.
pub(super) fn each<T>(
    items: &[T],
    mut execute: impl FnMut(&T) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut first_standing = None;
    let mut standing = 0;
    for (index, item) in items.iter().enumerate() {
        match execute(item) {
            Ok(()) => {}
            Err(Stop::Refused(refusal)) if refusal.code.sense() == Sense::Already => {
                standing += 1;
                first_standing.get_or_insert((index, refusal));
            }
            Err(Stop::Refused(refusal)) => return Err(refusal.at(index).into()),
            Err(broken) => return Err(broken),
        }
    }
    match first_standing {
        None => Ok(()),
        Some((_, refusal)) if standing == items.len() => Err(refusal.into()),
        Some((index, refusal)) => Err(refusal.at(index).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(items: &[Option<RefusalCode>]) -> Result<(), (RefusalCode, Option<u32>)> {
        each(items, |item| match item {
            None => Ok(()),
            Some(code) => Err(Refusal::new(*code, "").into()),
        })
        .map_err(|stop| match stop {
            Stop::Refused(refusal) => (refusal.code, refusal.item),
            Stop::Broken(error) => panic!("{error}"),
        })
    }

    #[test]
    fn one_bad_item_refuses_the_whole_and_is_named() {
        use RefusalCode::{AlreadySubmitted as Stands, WrongUnits};
        assert_eq!(run(&[None, None]), Ok(()));
        assert_eq!(run(&[None, Some(WrongUnits)]), Err((WrongUnits, Some(1))));
        assert_eq!(run(&[Some(Stands), None]), Err((Stands, Some(0))));
        assert_eq!(run(&[Some(Stands), Some(WrongUnits)]), Err((WrongUnits, Some(1))));
        assert_eq!(run(&[Some(Stands), Some(Stands)]), Err((Stands, None)));
    }
}
