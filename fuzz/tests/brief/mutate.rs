//! Inputs that are nearly good ones: pure, and the same each time.

/// The longest input, unless a seed is longer.
const LONGEST: usize = 4 << 10;
/// Bytes at which readers' decisions turn.
const BYTES: &[u8] =
    &[0, 1, 2, 9, 10, 13, 32, 34, 44, 46, 47, 48, 57, 58, 91, 93, 123, 125, 127, 128, 255];
/// Numbers at which they do.
const NUMBERS: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Makes inputs.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    longest: usize,
    made: usize,
    state: u64,
}

impl Mutator {
    /// From good inputs; at least one.
    pub fn new(seeds: Vec<Vec<u8>>) -> Self {
        let longest = seeds.iter().map(Vec::len).max().unwrap_or(0).max(LONGEST);
        Self { seeds, longest, made: 0, state: 0 }
    }

    /// The seeds themselves first, then what becomes of them.
    pub fn next(&mut self) -> Vec<u8> {
        self.made += 1;
        if let Some(seed) = self.seeds.get(self.made - 1) {
            return seed.clone();
        }
        let mut input = self.seed();
        for _ in 0..1 << self.below(4) {
            self.change(&mut input);
        }
        input.truncate(self.longest);
        input
    }

    fn seed(&mut self) -> Vec<u8> {
        let which = self.below(self.seeds.len());
        self.seeds.get(which).cloned().unwrap_or_default()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let end = at + self.short(input.len() - at);
        match self.below(9) {
            0 => {
                let bit = 1 << self.below(8);
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= bit;
                }
            }
            1 => {
                let byte = self.byte();
                if let Some(place) = input.get_mut(at) {
                    *place = byte;
                }
            }
            2 => {
                let count = 1 + self.below(16);
                let bytes: Vec<u8> = (0..count).map(|_| self.byte()).collect();
                input.splice(at..at, bytes);
            }
            3 => {
                let (byte, count) = (self.byte(), self.below(600));
                input.splice(at..at, std::iter::repeat_n(byte, count));
            }
            4 => drop(input.drain(at..end)),
            5 => {
                let again = input.get(at..end).unwrap_or_default().to_vec();
                input.splice(at..at, again);
            }
            6 => {
                let other = self.seed();
                let from = self.below(other.len() + 1);
                let to = from + self.short(other.len() - from);
                input.splice(at..end, other.get(from..to).unwrap_or_default().to_vec());
            }
            7 => self.number(input, at),
            _ => input.truncate(at),
        }
    }

    /// A number of 1 to 8 bytes, either end first, or in decimal.
    fn number(&mut self, input: &mut Vec<u8>, at: usize) {
        let which = self.below(NUMBERS.len());
        let number = NUMBERS.get(which).copied().unwrap_or_default();
        let width = 1 << self.below(4);
        let bytes = match self.below(3) {
            0 => number.to_le_bytes()[..width].to_vec(),
            1 => number.to_be_bytes()[8 - width..].to_vec(),
            _ => {
                let digits = input[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                input.splice(at..at + digits, number.to_string().into_bytes());
                return;
            }
        };
        let end = (at + width).min(input.len());
        input.splice(at..end, bytes);
    }

    fn byte(&mut self) -> u8 {
        if self.below(2) == 0 {
            return self.below(256) as u8;
        }
        let which = self.below(BYTES.len());
        BYTES.get(which).copied().unwrap_or_default()
    }

    /// A length, short ones more often.
    fn short(&mut self, most: usize) -> usize {
        let width = 1 << self.below(12);
        self.below(most.min(width) + 1)
    }

    /// Below `bound`, which is no zero (splitmix64).
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound.max(1) as u64) as usize
    }
}
