//! Whether machines can boot from us now: what `GET /readyz` says.

use crate::{image::Image, store::StoreError};
use protocol::readiness::{PartState, Readiness, ReadyPart};
use std::{collections::BTreeMap, fs::File};

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// What the store said to a question.
    pub store: Result<(), StoreError>,
    /// What listens, and whether it still does.
    pub listening: BTreeMap<&'static str, bool>,
    /// What is wrong with the image; none where there is none to serve.
    pub image: Option<Result<String, String>>,
    /// Whether there is the key by which machines are taken in.
    pub key: bool,
}

/// Whether that will do. Pure.
pub fn judge(seen: Seen) -> Readiness {
    let part = |part: &str, state, detail| ReadyPart { part: part.into(), state, detail };
    let mut parts = vec![match seen.store {
        Ok(()) => part("store", PartState::Ready, None),
        Err(error) => part("store", PartState::Missing, Some(error.to_string())),
    }];
    parts.extend(seen.listening.into_iter().map(|(name, alive)| match alive {
        true => part(name, PartState::Ready, None),
        false => {
            let ended = "what listened there has ended: start the provisioner anew";
            part(name, PartState::Missing, Some(ended.into()))
        }
    }));
    parts.push(match seen.image {
        None => part("image", PartState::Off, Some("none is named (--image)".into())),
        Some(Ok(version)) => part("image", PartState::Ready, Some(version)),
        Some(Err(why)) => part("image", PartState::Missing, Some(why)),
    });
    parts.push(match seen.key {
        true => part("key", PartState::Ready, None),
        false => {
            let how = "no machine is taken in (--key, --delegation, --chain)";
            part("key", PartState::Off, Some(how.into()))
        }
    });
    Readiness::of(parts)
}

/// Whether an image's files can still be opened and are as long as they were. Blocks.
///
/// # Errors
/// Says which is not.
pub fn openable(image: &Image) -> Result<String, String> {
    for file in image.manifest.files() {
        let none = || format!("{} is no file of an image", file.file);
        let path = image.path(&file.file).ok_or_else(none)?;
        let opened = File::open(&path).and_then(|opened| opened.metadata());
        let metadata = opened.map_err(|error| format!("{}: {error}", path.display()))?;
        if metadata.len() != file.bytes {
            let (found, wanted) = (metadata.len(), file.bytes);
            return Err(format!("{} has {found} bytes and not {wanted}", path.display()));
        }
    }
    Ok(format!("{} ({})", image.manifest.version, image.digest.short()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Seen {
        Seen {
            store: Ok(()),
            listening: [("dhcp", true), ("http", true)].into(),
            image: Some(Ok("0.1.0".into())),
            key: true,
        }
    }

    #[test]
    fn each_thing_that_is_missing_is_named() {
        assert!(judge(good()).ready);
        let store = judge(Seen { store: Err(StoreError::Resting), ..good() });
        assert!(!store.ready && store.missing[0].starts_with("store: "), "{store:?}");
        let dhcp = judge(Seen { listening: [("dhcp", false)].into(), ..good() });
        assert!(dhcp.missing[0].starts_with("dhcp: "), "{dhcp:?}");
        let image = judge(Seen { image: Some(Err("gone".into())), ..good() });
        assert_eq!(image.missing, ["image: gone"]);
        assert!(judge(Seen { image: None, key: false, ..good() }).ready, "nobody wanted them");
    }
}
