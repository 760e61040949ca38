//! Every operation on every instruction set of this CPU, against the portable one: on numbers of
//! all kinds, subnormal, infinite and NaN too.

use super::{Kernel, LANES, Simd, dispatch};
use crate::{isa, philox::philox4x32_10};

const SPECIAL: [u32; 16] = [
    0,
    0x8000_0000,
    1,
    0x8000_0001,
    0x007f_ffff,
    0x0080_0000,
    0x8080_0000,
    0x3f80_0000,
    0x3f7f_ffff,
    0xbf80_0001,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc0_0123,
];

/// The bits of lane `lane` of operand `operand` in round `round`: half of them special, so that
/// these meet each other; some near one, so that sums are not always the larger operand.
fn bits(round: u32, operand: u32, lane: usize) -> u32 {
    let drawn = philox4x32_10([round, operand, lane as u32, 0], [1, 2]);
    match drawn[0] % 4 {
        0 | 1 => SPECIAL[drawn[1] as usize % SPECIAL.len()],
        2 => drawn[1] & 0x83ff_ffff | 0x3c00_0000,
        _ => drawn[1],
    }
}

const FLOATS: [&str; 16] = [
    "add", "sub", "mul", "div", "sqrt", "fma", "fnma", "max", "gt", "gt_i", "below", "to_bits",
    "load", "splat", "sum", "largest",
];
const INTEGERS: [&str; 12] = [
    "splat_u",
    "lane_numbers",
    "add_u",
    "sub_u",
    "and_u",
    "xor_u",
    "shift_left_u",
    "shift_right_u",
    "shift_right_i",
    "mul_wide_u, upper",
    "mul_wide_u, lower",
    "to_bits",
];

/// What every operation gives, lane by lane; all NaN as one.
struct Every([[f32; LANES]; 3]);

impl Kernel for Every {
    type Output = Vec<(&'static str, [u32; LANES])>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let [a, b, c] = [s.load(&self.0[0]), s.load(&self.0[1]), s.load(&self.0[2])];
        let (x, y) = (s.to_bits(a), s.to_bits(b));
        let floats = [
            s.add(a, b),
            s.sub(a, b),
            s.mul(a, b),
            s.div(a, b),
            s.sqrt(a),
            s.fma(a, b, c),
            s.fnma(a, b, c),
            s.max(a, b),
            s.select(s.gt(a, b), a, c),
            s.select(s.gt_i(x, y), a, c),
            s.select(s.below(5), a, c),
            s.float_of_bits(s.xor_u(x, s.splat_u(1))),
            s.load_part(&self.0[0][..11], 2.0),
            s.splat(self.0[1][3]),
            s.splat(s.sum(a)),
            s.splat(s.largest(a)),
        ];
        let (upper, lower) = s.mul_wide_u(x, y);
        let integers = [
            s.splat_u(0xdead_beef),
            s.lane_numbers(),
            s.add_u(x, y),
            s.sub_u(x, y),
            s.and_u(x, y),
            s.xor_u(x, y),
            s.shift_left_u::<7>(x),
            s.shift_right_u::<9>(x),
            s.shift_right_i::<9>(x),
            upper,
            lower,
            x,
        ];
        let mut all = Vec::new();
        let mut lanes = [0.0; LANES];
        for (name, vector) in FLOATS.iter().zip(floats) {
            s.store(vector, &mut lanes);
            all.push((*name, one_nan(&lanes)));
        }
        for vector in s.transpose(floats) {
            s.store(vector, &mut lanes);
            all.push(("transpose", one_nan(&lanes)));
        }
        let mut part = [7.0; LANES];
        s.store_part(a, &mut part[..9]);
        all.push(("store_part", one_nan(&part)));
        let mut bits = [0; LANES];
        for (name, vector) in INTEGERS.iter().zip(integers) {
            s.store_u(vector, &mut bits);
            all.push((*name, bits));
        }
        all
    }
}

fn one_nan(lanes: &[f32; LANES]) -> [u32; LANES] {
    lanes.map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() })
}

#[test]
fn every_operation_gives_the_same_bits_on_every_instruction_set() {
    for round in 0..3_000 {
        let operand = |i| std::array::from_fn(|lane| f32::from_bits(bits(round, i, lane)));
        let operands: [[f32; LANES]; 3] = std::array::from_fn(|i| operand(i as u32));
        let wanted = dispatch(isa::Isa::Portable, Every(operands));
        for isa in isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for (found, wanted) in dispatch(isa, Every(operands)).iter().zip(&wanted) {
                assert!(found == wanted, "{isa}: {found:x?}, not {wanted:x?}, of {operands:?}");
            }
        }
    }
}
