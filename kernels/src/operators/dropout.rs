//! Dropout's multipliers.
//!
//! Contract: element `i` of a place (its flat index in the tensor) is multiplied by `m(i)`: 0
//! where the 16 bits that [`crate::philox`] gives for it are below `p 2^16`, else
//! `65536 / (65536 - p 2^16)`. Without dropout `m` is 1 and nothing is multiplied, which gives
//! the same bits. Source: Srivastava et al. 2014 ("inverted" form).

use crate::{
    philox::{Domain, Place, Stream},
    simd::Simd,
};

/// The dropout of one batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout {
    stream: Stream,
    threshold: u16,
}

/// The dropout of one place; nothing is dropped without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drop {
    place: Option<Place>,
    threshold: u32,
    pub(crate) scale: f32,
}

impl Dropout {
    pub(crate) fn new(seed: u64, part: [u32; 3], threshold: u16) -> Self {
        Self { stream: Stream::new(seed, Domain::Dropout, part), threshold }
    }

    pub(crate) fn at(&self, site: Option<u32>) -> Drop {
        match site {
            Some(site) if self.threshold > 0 => Drop {
                place: Some(self.stream.at(site)),
                threshold: self.threshold.into(),
                scale: 65_536.0 / (65_536 - u32::from(self.threshold)) as f32,
            },
            _ => Drop::NONE,
        }
    }
}

impl Drop {
    pub(crate) const NONE: Self = Self { place: None, threshold: 0, scale: 1.0 };

    pub(crate) fn is_none(&self) -> bool {
        self.place.is_none()
    }

    /// `m(i)`: the reference.
    #[cfg(test)]
    pub(crate) fn multiplier(&self, i: usize) -> f32 {
        match self.place {
            Some(place) if place.bits(i) < self.threshold => 0.0,
            _ => self.scale,
        }
    }

    /// The multipliers of elements `128 g` to `128 g + 127`, sixteen a vector.
    #[inline(always)]
    pub(crate) fn group<S: Simd>(&self, s: S, g: u32) -> [S::F; 8] {
        let scale = s.splat(self.scale);
        let mut multipliers = [scale; 8];
        if let Some(place) = self.place {
            let (zero, threshold) = (s.splat(0.0), s.splat_u(self.threshold));
            let bits = place.group(s, g);
            for v in 0..8 {
                multipliers[v] = s.select(s.gt_i(threshold, bits[v]), zero, scale);
            }
        }
        multipliers
    }
}
