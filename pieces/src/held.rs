//! Which pieces are there.

/// A bit for each piece of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Held {
    bits: Vec<u8>,
    count: u32,
}

impl Held {
    /// None of so many.
    pub fn none(count: u32) -> Self {
        Self { bits: vec![0; count.div_ceil(8) as usize], count }
    }

    /// All of so many.
    pub fn all(count: u32) -> Self {
        Self::read(count, &vec![u8::MAX; count.div_ceil(8) as usize])
    }

    /// As it travels. Whatever is too long is cut, and what is missing is not there.
    pub fn read(count: u32, bytes: &[u8]) -> Self {
        let mut held = Self::none(count);
        for (mine, theirs) in held.bits.iter_mut().zip(bytes) {
            *mine = *theirs;
        }
        if let (Some(last), rest @ 1..) = (held.bits.last_mut(), count % 8) {
            *last &= (1 << rest) - 1;
        }
        held
    }

    /// The same from hex; none where it is no hex.
    pub fn from_hex(count: u32, text: &str) -> Option<Self> {
        (text.len() <= 2 * count.div_ceil(8) as usize).then_some(())?;
        hex::decode(text).ok().map(|bytes| Self::read(count, &bytes))
    }

    /// As it travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bits
    }

    /// The same as hex.
    pub fn hex(&self) -> String {
        hex::encode(&self.bits)
    }

    /// Of how many.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether a piece is there.
    pub fn has(&self, piece: u32) -> bool {
        let byte = self.bits.get(piece as usize / 8);
        byte.is_some_and(|byte| byte >> (piece % 8) & 1 == 1)
    }

    /// Puts a piece there; whether it was not.
    pub fn put(&mut self, piece: u32) -> bool {
        let new = piece < self.count && !self.has(piece);
        if let (true, Some(byte)) = (new, self.bits.get_mut(piece as usize / 8)) {
            *byte |= 1 << (piece % 8);
        }
        new
    }

    /// How many are there.
    pub fn len(&self) -> u32 {
        self.bits.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all are.
    pub fn is_whole(&self) -> bool {
        self.len() == self.count
    }

    /// Those that are not there.
    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.count).filter(|piece| !self.has(*piece))
    }

    /// Whether it has anything that another lacks.
    pub fn helps(&self, other: &Self) -> bool {
        self.bits.iter().zip(&other.bits).any(|(mine, theirs)| mine & !theirs != 0)
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.len(), self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_as_they_went_and_none_is_beyond_the_end() {
        let mut held = Held::none(11);
        assert!(held.put(0) && held.put(10) && !held.put(10) && !held.put(11));
        assert_eq!(held.hex(), "0104");
        assert_eq!(Held::from_hex(11, "0104").unwrap(), held);
        assert_eq!(Held::from_hex(11, "ffff").unwrap(), Held::all(11));
        assert!(Held::all(11).is_whole() && Held::all(11).len() == 11);
        assert_eq!(Held::from_hex(11, "01").unwrap().len(), 1);
        assert!(Held::from_hex(11, "ffffff").is_none() && Held::from_hex(11, "xx").is_none());
        assert_eq!(held.missing().count(), 9);
        assert!(Held::all(11).helps(&held) && !held.helps(&Held::all(11)));
    }
}
