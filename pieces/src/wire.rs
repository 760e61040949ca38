//! What one node says to another: TLS 1.3 by the port of the node API, told apart by ALPN, and within
//! it HTTP/1.1.
//!
//! `GET /v1/pieces/{digest}/{number}` is answered by the piece, or by 404 where it is not there (yet),
//! or by 503 where more was asked for than is given. Each answer says in [`HELD`] what is there.

use protocol::Digest;

/// The protocol, as ALPN names it. Whoever offers it is asked for no certificate, and gets pieces alone.
pub(crate) const PROTOCOL: &[u8] = b"alia-pieces/1";
/// Which pieces are there: a bit for each, as hex.
pub(crate) const HELD: &str = "alia-held";

/// Whether who opens a connection by these words of ALPN wants pieces.
pub fn is_for_pieces<'a>(mut offered: impl Iterator<Item = &'a [u8]>) -> bool {
    offered.any(|protocol| protocol == PROTOCOL)
}

/// Where a piece is.
pub(crate) fn path(file: Digest, piece: u32) -> String {
    format!("/v1/pieces/{file}/{piece}")
}

/// Which piece of which file is at a path.
pub(crate) fn read(path: &str) -> Option<(Digest, u32)> {
    let (file, piece) = path.strip_prefix("/v1/pieces/")?.split_once('/')?;
    let plain = !piece.is_empty() && piece.len() <= 5 && piece.bytes().all(|b| b.is_ascii_digit());
    Some((file.parse().ok()?, plain.then(|| piece.parse().ok()).flatten()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_leads_where_it_says_and_nowhere_else() {
        let file = Digest([7; 32]);
        assert_eq!(read(&path(file, 2047)), Some((file, 2047)));
        for tail in ["", "-1", "+1", "1/", "1/2", "123456", " 1", "0x1"] {
            assert_eq!(read(&format!("/v1/pieces/{file}/{tail}")), None, "{tail}");
        }
        assert_eq!(read("/v1/pieces/1"), None);
        assert_eq!(read("/v1/status"), None);
        assert!(is_for_pieces([&b"http/1.1"[..], PROTOCOL].into_iter()));
        assert!(!is_for_pieces([&b"http/1.1"[..]].into_iter()));
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "(/v1/pieces/)?\\PC{0,80}") {
            let _ = read(&path);
        }
    }
}
