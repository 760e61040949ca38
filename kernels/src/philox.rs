//! Random numbers that are a function of where they are used: Philox4x32-10.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
//!
//! A `Stream` is made in two calls: the seed is the key of the first, whose counter is
//! `(epoch, step, micro-batch, domain)`; of its four words the first two are the key, and the last
//! two the upper half of the counter, of everything the stream gives. A place draws with
//! `counter = (block, site, word 2, word 3)`.
//!
//! Element `i` of a place, for dropout: `block = 16 (i div 128) + i mod 16`; with
//! `v = (i mod 128) div 16`, the element's 16 bits are the lower (v even) or upper (v odd) half
//! of word `v div 2`. So sixteen neighbours come from sixteen blocks' same word, which is what a
//! vector unit of any width has at hand. For initialisation: word `i mod 4` of block `i div 4`.

use crate::simd::Simd;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Elements that one group of sixteen blocks decides on.
pub(crate) const GROUP: usize = 128;

/// Four words from a counter and a key.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..ROUNDS {
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c0);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c2);
        (c0, c1, c2, c3) =
            ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(KEY_STEPS[0]);
        k1 = k1.wrapping_add(KEY_STEPS[1]);
    }
    [c0, c1, c2, c3]
}

/// Sixteen counters at once: block `first_block + lane` in each lane.
#[inline(always)]
fn philox_lanes<S: Simd>(s: S, first_block: u32, upper: [u32; 3], key: [u32; 2]) -> [S::U; 4] {
    let mut c0 = s.add_u(s.splat_u(first_block), s.lane_numbers());
    let mut c1 = s.splat_u(upper[0]);
    let mut c2 = s.splat_u(upper[1]);
    let mut c3 = s.splat_u(upper[2]);
    let [mut k0, mut k1] = key;
    let (m0, m1) = (s.splat_u(MULTIPLIERS[0]), s.splat_u(MULTIPLIERS[1]));
    for _ in 0..ROUNDS {
        let (high0, low0) = s.mul_wide_u(c0, m0);
        let (high1, low1) = s.mul_wide_u(c2, m1);
        c0 = s.xor_u(s.xor_u(high1, c1), s.splat_u(k0));
        c1 = low1;
        c2 = s.xor_u(s.xor_u(high0, c3), s.splat_u(k1));
        c3 = low0;
        k0 = k0.wrapping_add(KEY_STEPS[0]);
        k1 = k1.wrapping_add(KEY_STEPS[1]);
    }
    [c0, c1, c2, c3]
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
    Dropout = 1,
    Initial = 2,
}

/// The random numbers of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    words: [u32; 4],
}

/// The random numbers of one place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    words: [u32; 4],
    site: u32,
}

impl Stream {
    /// `part` is epoch, step and micro-batch.
    pub(crate) fn new(seed: u64, domain: Domain, part: [u32; 3]) -> Self {
        let counter = [part[0], part[1], part[2], domain as u32];
        Self { words: philox4x32_10(counter, [seed as u32, (seed >> 32) as u32]) }
    }

    pub(crate) fn at(&self, site: u32) -> Place {
        Place { words: self.words, site }
    }
}

impl Place {
    fn block(&self, block: u32) -> [u32; 4] {
        let [k0, k1, c2, c3] = self.words;
        philox4x32_10([block, self.site, c2, c3], [k0, k1])
    }

    /// Element `i` of an initialisation: 24 bits over 2^24, in [0, 1).
    pub(crate) fn unit(&self, i: u64) -> f32 {
        let word = self.block((i / 4) as u32)[(i % 4) as usize];
        (word >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Element `i`'s 16 bits for dropout.
    #[cfg(test)]
    pub(crate) fn bits(&self, i: usize) -> u32 {
        let block = 16 * (i / GROUP) + i % 16;
        let v = (i % GROUP) / 16;
        self.block(block as u32)[v / 2] >> (16 * (v % 2)) & 0xffff
    }

    /// The 16 bits of the 128 elements of group `g`, sixteen a vector.
    #[inline(always)]
    pub(crate) fn group<S: Simd>(&self, s: S, g: u32) -> [S::U; 8] {
        let [k0, k1, c2, c3] = self.words;
        let [a, b, c, d] = philox_lanes(s, g.wrapping_mul(16), [self.site, c2, c3], [k0, k1]);
        let low = s.splat_u(0xffff);
        [
            s.and_u(a, low),
            s.shift_right_u::<16>(a),
            s.and_u(b, low),
            s.shift_right_u::<16>(b),
            s.and_u(c, low),
            s.shift_right_u::<16>(c),
            s.and_u(d, low),
            s.shift_right_u::<16>(d),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, dispatch};

    #[test]
    fn the_published_vectors_hold() {
        // Random123's kat_vectors, philox4x32 with 10 rounds.
        assert_eq!(
            philox4x32_10([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    struct Group(Place, u32);
    impl Kernel for Group {
        type Output = Vec<u32>;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<u32> {
            let mut all = Vec::new();
            for bits in self.0.group(s, self.1) {
                let mut lanes = [0; 16];
                s.store_u(bits, &mut lanes);
                all.extend(lanes);
            }
            all
        }
    }

    #[test]
    fn every_instruction_set_draws_the_same_bits() {
        let place = Stream::new(7 << 40 | 5, Domain::Dropout, [1, 2, 3]).at(9);
        for g in [0, 1, 77] {
            let wanted: Vec<u32> = (0..GROUP).map(|i| place.bits(g as usize * GROUP + i)).collect();
            for isa in crate::isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                assert_eq!(dispatch(isa, Group(place, g)), wanted, "{isa}");
            }
        }
    }

    #[test]
    fn each_part_of_a_place_moves_its_bits() {
        let bits = |seed, part, site| Stream::new(seed, Domain::Dropout, part).at(site).bits(3);
        let all = [
            bits(1, [0, 0, 0], 0),
            bits(1 << 32, [0, 0, 0], 0),
            bits(1, [1, 0, 0], 0),
            bits(1, [0, 1, 0], 0),
            bits(1, [0, 0, 1], 0),
            bits(1, [0, 0, 0], 1),
        ];
        let mut distinct = all.to_vec();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), all.len());
    }
}
