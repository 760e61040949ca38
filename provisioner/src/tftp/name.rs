//! From the name in a request to a path below the served folder.

use super::care::Care;
use crate::machine::Mac;
use std::path::PathBuf;

/// The longest name looked at.
const MAX_NAME_LEN: usize = 255;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whose transfer it is, where the name begins with a MAC address, as the ones that we give
    /// out do.
    pub mac: Option<Mac>,
    /// How gently it is treated, where the name that we gave out says so.
    pub care: Care,
    /// The path below the folder.
    pub path: PathBuf,
}

/// The name leads out of the folder, or nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no file below the served folder")]
pub struct BadName(String);

/// Reads a name. A slash in front and backslashes between are firmware's habits; steps upwards
/// are nobody's.
pub fn wanted(name: &str) -> Result<Wanted, BadName> {
    let refused = || BadName(name.chars().take(80).collect());
    if name.len() > MAX_NAME_LEN || name.contains('\0') {
        return Err(refused());
    }
    let mut parts: Vec<&str> =
        name.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(refused());
    }
    let mac = match parts.as_slice() {
        [first, _, ..] => first.parse().ok(),
        _ => None,
    };
    if mac.is_some() {
        parts.remove(0);
    }
    // Behind a MAC address alone: elsewhere it is somebody's folder.
    let care = match (mac, parts.as_slice()) {
        (Some(_), [first, _, ..]) => Care::of_part(first),
        _ => None,
    };
    if care.is_some() {
        parts.remove(0);
    }
    if parts.is_empty() {
        return Err(refused());
    }
    Ok(Wanted { mac, care: care.unwrap_or_default(), path: parts.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    #[test]
    fn a_machines_own_name_for_a_file_tells_whose_it_is() {
        let found = wanted("52-54-00-12-34-56/snponly.efi").unwrap();
        assert_eq!(found.mac, "52:54:00:12:34:56".parse().ok());
        assert_eq!(found.path, PathBuf::from("snponly.efi"));
        assert_eq!(wanted("\\snponly.efi").unwrap().path, PathBuf::from("snponly.efi"));
        assert_eq!(
            wanted("/a//b").unwrap(),
            Wanted { mac: None, care: Care::default(), path: "a/b".into() }
        );
    }

    #[test]
    fn a_name_tells_how_gently_the_machine_is_treated() {
        let found = wanted("52-54-00-12-34-56/care-b1024-w1/snponly.efi").unwrap();
        assert_eq!((found.care.blksize, found.care.window), (Some(1024), Some(1)));
        assert_eq!(found.path, PathBuf::from("snponly.efi"));
        for (name, path) in [
            ("care-w1/snponly.efi", "care-w1/snponly.efi"),
            ("52-54-00-12-34-56/care-w1", "care-w1"),
            ("52-54-00-12-34-56/care-w99/x", "care-w99/x"),
        ] {
            let found = wanted(name).unwrap();
            assert_eq!((found.care, found.path), (Care::default(), path.into()), "{name}");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for name in ["../x", "a/../../x", "..\\x", "/..", "", "/", "a\0b", &"x".repeat(300)] {
            assert!(wanted(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_name_its_path_goes_down(name in "[a./\\\\:~ -]{0,40}|.{0,40}") {
            if let Ok(found) = wanted(&name) {
                let down = |part: Component<'_>| matches!(part, Component::Normal(_));
                prop_assert!(found.path.components().all(down), "{:?}", found.path);
                prop_assert!(found.path.components().count() > 0);
            }
        }
    }
}
