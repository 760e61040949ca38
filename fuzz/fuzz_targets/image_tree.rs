//! Paths and contents to the archive that a kernel unpacks.
#![no_main]

use fuzz::{switches, target};
use image::cpio::{Node, Tree};

target!(|bytes: &[u8]| {
    let mut tree = Tree::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((switch, path)) = switches(line) else { continue };
        let path = String::from_utf8_lossy(path);
        let node = match (switch(0), switch(1)) {
            (false, false) => Node::Folder,
            (false, true) => Node::Device { major: 5, minor: 1 },
            (true, executable) => Node::File { bytes: line.to_vec(), executable },
        };
        if tree.put(&path, node).is_ok() {
            assert!(tree.has(&path));
        }
    }
    let folders: Vec<&str> =
        tree.iter().filter(|(_, node)| **node == Node::Folder).map(|(path, _)| path).collect();
    for (path, _) in tree.iter() {
        let above = path.rsplit_once('/').map(|(above, _)| above);
        assert!(above.is_none_or(|above| folders.contains(&above)), "{path:?} is in no folder");
    }
    let archive = tree.to_newc();
    let mut expected = tree.iter().map(|(path, _)| path);
    let mut rest = &archive[..];
    loop {
        let (name, after) = entry(rest);
        rest = after;
        if name == "TRAILER!!!" {
            break;
        }
        assert_eq!(Some(name), expected.next());
        assert!(
            !name.starts_with('/') && name.split('/').all(|part| !["", ".", ".."].contains(&part))
        );
    }
    assert!(rest.is_empty() && expected.next().is_none());
});

/// An entry's name, and what stands behind it.
fn entry(bytes: &[u8]) -> (&str, &[u8]) {
    let field = |at: usize| {
        let text = std::str::from_utf8(&bytes[6 + 8 * at..14 + 8 * at]).expect("hex");
        usize::from_str_radix(text, 16).expect("hex")
    };
    assert_eq!(&bytes[..6], b"070701");
    let (content, name) = (field(6), field(11));
    let text = std::str::from_utf8(&bytes[110..110 + name - 1]).expect("UTF-8");
    let end = (110 + name).next_multiple_of(4) + content;
    (text, &bytes[end.next_multiple_of(4)..])
}
