//! How long a file's pieces are, and where.

use std::ops::Range;

/// The shortest piece in bytes, and that of most files: long enough that a request is little beside
/// it, and short enough that a site's machines have different ones soon.
pub const LEAST: u64 = 256 << 10;
/// The most pieces of a file: an outline has 64 KiB at the most.
pub const MOST: u64 = 2048;
/// The largest file in bytes: no piece is longer than 32 MiB.
pub const LARGEST: u64 = 64 << 30;

/// A file's pieces: all of one length, a power of two, but for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    bytes: u64,
    piece: u64,
}

/// A file has no pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a file of {0} bytes has no pieces: 1 to {LARGEST} bytes are wanted")]
pub struct NoPieces(u64);

impl Layout {
    /// Of a file of so many bytes.
    ///
    /// # Errors
    /// Where it is empty, or larger than [`LARGEST`].
    pub fn of(bytes: u64) -> Result<Self, NoPieces> {
        if bytes == 0 || bytes > LARGEST {
            return Err(NoPieces(bytes));
        }
        let piece = bytes.div_ceil(MOST).next_power_of_two().max(LEAST);
        Ok(Self { bytes, piece })
    }

    /// The file's size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The length of all pieces but the last.
    pub fn piece(&self) -> u64 {
        self.piece
    }

    /// How many there are, at most [`MOST`].
    pub fn count(&self) -> u32 {
        // At most 2048 by how `piece` was chosen.
        self.bytes.div_ceil(self.piece) as u32
    }

    /// Where a piece lies; empty where there is none of that number.
    pub fn range(&self, piece: u32) -> Range<u64> {
        let start = (u64::from(piece) * self.piece).min(self.bytes);
        start..(start + self.piece).min(self.bytes)
    }

    /// A piece's length.
    pub fn length(&self, piece: u32) -> u64 {
        let range = self.range(piece);
        range.end - range.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_file_and_are_never_too_many() {
        for bytes in [1, LEAST - 1, LEAST, LEAST + 1, 5_600_000, 58 << 20, 3 << 30, LARGEST] {
            let layout = Layout::of(bytes).unwrap();
            assert!(layout.piece().is_power_of_two() && u64::from(layout.count()) <= MOST);
            let total: u64 = (0..layout.count()).map(|piece| layout.length(piece)).sum();
            assert_eq!(total, bytes);
            assert_eq!(layout.range(0).start, 0);
            assert_eq!(layout.range(layout.count() - 1).end, bytes);
            assert!(layout.range(layout.count()).is_empty());
        }
        assert_eq!(Layout::of(5_600_000).unwrap().count(), 22);
        assert_eq!(Layout::of(0), Err(NoPieces(0)));
        assert!(Layout::of(LARGEST + 1).is_err());
    }
}
