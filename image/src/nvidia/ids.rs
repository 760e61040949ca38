//! Which driver drives which card, from the distribution's own lists. Pure.
//!
//! nvidia-detect has a file for each branch: `nvidia.ids` for the suite's own driver,
//! `nvidia-tesla-535.ids` and `nvidia-legacy-390xx.ids` for others, and in each of them the cards'
//! vendor and device, `10DE1E02`, one a line. They go into an image when it is built, and are not
//! kept in this repository.

use protocol::nvidia::VENDOR;
use std::collections::{BTreeMap, BTreeSet};

/// The most cards of one list; the longest has some five hundred.
const MAX_IDS: usize = 1 << 16;

/// By branch, the ids of the cards that it drives. `version` is the suite's own driver's; `lists`
/// are names of files and what they hold.
///
/// # Errors
/// A line that is no id of NVIDIA's.
pub fn branches<'a>(
    version: &str,
    lists: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<BTreeMap<u16, Vec<u16>>, String> {
    let mut branches: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
    for (name, text) in lists {
        let Some(branch) = branch(version, name) else { continue };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()).take(MAX_IDS) {
            let id = id(line).ok_or_else(|| format!("{name}: no card of NVIDIA's: {line:?}"))?;
            branches.entry(branch).or_default().insert(id);
        }
    }
    Ok(branches.into_iter().map(|(branch, ids)| (branch, ids.into_iter().collect())).collect())
}

/// The branch that a list is of; none for a file that is no such list.
fn branch(version: &str, name: &str) -> Option<u16> {
    let name = name.strip_suffix(".ids")?.strip_prefix("nvidia")?;
    if name.is_empty() {
        return version.split('.').next()?.parse().ok();
    }
    // What follows the number (`xx`, `xx-amd64`) says nothing of the branch. The list
    // `nvidia-open` has none: it is of servers' cards, and of an older driver.
    let number = name.strip_prefix("-tesla-").or_else(|| name.strip_prefix("-legacy-"))?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number.get(..digits)?.parse().ok()
}

fn id(line: &str) -> Option<u16> {
    let number = u32::from_str_radix(line, 16).ok().filter(|_| line.len() == 8)?;
    (number >> 16 == u32::from(VENDOR)).then_some((number & 0xffff) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_list_is_of_the_branch_that_its_name_says() {
        for (name, wanted) in [
            ("nvidia.ids", Some(550)),
            ("nvidia-tesla-535.ids", Some(535)),
            ("nvidia-legacy-390xx.ids", Some(390)),
            ("nvidia-legacy-390xx-amd64.ids", Some(390)),
            ("nvidia-legacy-71xx.ids", Some(71)),
            ("nvidia-open.ids", None),
            ("nvidia.conf", None),
            ("others.ids", None),
        ] {
            assert_eq!(branch("550.163.01", name), wanted, "{name}");
        }
    }

    #[test]
    fn cards_of_one_branch_are_gathered_in_order_and_once() {
        let lists = [
            ("nvidia.ids", "10DE2684\n10de1e02\n\n10DE2684\n"),
            ("nvidia-legacy-390xx.ids", "10DE0FC0\n"),
            ("nvidia-legacy-390xx-amd64.ids", "10DE0A20\n"),
        ];
        let found = branches("550.163.01", lists).unwrap();
        assert_eq!(found[&550], [0x1e02, 0x2684]);
        assert_eq!(found[&390], [0x0a20, 0x0fc0]);
    }

    #[test]
    fn a_line_that_is_no_card_of_nvidias_is_refused_with_its_list() {
        for line in ["10EC8168", "1E02", "10DE1E02 RTX", "+10DE1E0"] {
            let error = branches("550.1", [("nvidia.ids", line)]).unwrap_err();
            assert!(error.contains("nvidia.ids") && error.contains(line), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_list_panics(version in "\\PC{0,8}", name in "nvidia(-tesla-|-legacy-|\\PC){0,3}[0-9]{0,6}(.ids)?", text in "(10DE|[0-9a-f]|\n|\\PC){0,40}") {
            let _ = branches(&version, [(name.as_str(), text.as_str())]);
        }
    }
}
