//! The root of a service, as a table of places: an empty memory file system that cannot be written
//! to, and in it what the service needs of the image, bound read-only.
//!
//! There is no /proc and no /sys: nothing that `compute` does asks for them (measured, as its system
//! calls are), and what is not there leaks nothing.

use protocol::sandbox::Sandbox;

/// The one folder that a service may write to.
pub const SCRATCH: &str = "/tmp";
/// Files in scratch at most.
const SCRATCH_FILES: u32 = 4096;

/// A place in a service's root. Paths are the same within and without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file or folder of the image, read-only.
    Image {
        /// The path.
        path: String,
        /// Whether it may be executed.
        program: bool,
    },
    /// A device file.
    Device(String),
    /// A card's device file, by which it is told what to do (ioctl).
    Card(String),
    /// Memory to write to, in which nothing is executed; empty at each start.
    Scratch {
        /// The path.
        path: &'static str,
        /// tmpfs's options.
        options: String,
    },
}

impl Place {
    /// The path.
    pub fn path(&self) -> &str {
        match self {
            Self::Image { path, .. } | Self::Device(path) | Self::Card(path) => path,
            Self::Scratch { path, .. } => path,
        }
    }
}

/// Everything in a service's root, in the order in which it is put there.
pub fn places(sandbox: &Sandbox, settings: &str) -> Vec<Place> {
    let image = sandbox.read.iter().map(|path| {
        // A folder with a program in it has programs: libraries are mapped from it.
        Place::Image { path: path.clone(), program: true }
    });
    let settings = Place::Image { path: settings.into(), program: false };
    let devices = sandbox.devices.iter().cloned().map(Place::Device);
    let cards = sandbox.cards.iter().cloned().map(Place::Card);
    let options = format!(
        "mode=700,uid={user},gid={user},size={}m,nr_inodes={SCRATCH_FILES}",
        sandbox.scratch_mib,
        user = sandbox.user
    );
    let scratch = Place::Scratch { path: SCRATCH, options };
    image.chain([settings]).chain(devices).chain(cards).chain([scratch]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::tests::sandbox;

    #[test]
    fn a_root_has_what_is_declared_the_settings_and_a_scratch_of_its_size() {
        let places = places(&sandbox(), "/run/alia/compute.json");
        let paths: Vec<&str> = places.iter().map(Place::path).collect();
        assert_eq!(
            paths,
            [
                "/usr/bin/compute",
                "/usr/lib/x86_64-linux-gnu",
                "/run/alia/compute.json",
                "/dev/null",
                "/tmp"
            ]
        );
        let Some(Place::Scratch { options, .. }) = places.last() else { panic!("{places:?}") };
        assert_eq!(options, "mode=700,uid=900,gid=900,size=64m,nr_inodes=4096");
    }

    #[test]
    fn the_kernels_own_file_systems_are_not_in_it() {
        let places = places(&sandbox(), "/run/alia/compute.json");
        for never in ["/proc", "/sys", "/dev"] {
            assert!(places.iter().all(|place| place.path() != never), "{never}");
        }
    }
}
