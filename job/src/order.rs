//! Seeded permutations: which pairs share a micro-batch, and in what order an epoch takes them.

/// What a permutation is for: two purposes of one seed never share one.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Which pairs stand side by side.
    Composition,
    /// In what order an epoch takes the micro-batches.
    Epoch(u32),
}

/// A uniform permutation of `0..n`: Fisher-Yates from the end, its draws 32-bit little-endian words
/// of BLAKE3's output stream under `"aliaOS order v1"` over seed, purpose tag and epoch.
pub fn permutation(seed: u64, purpose: Purpose, n: u32) -> Vec<u32> {
    let (tag, epoch) = match purpose {
        Purpose::Composition => (0u8, 0),
        Purpose::Epoch(epoch) => (1, epoch),
    };
    let mut hasher = blake3::Hasher::new_derive_key("aliaOS order v1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&[tag]);
    hasher.update(&epoch.to_le_bytes());
    let mut words = Words { stream: hasher.finalize_xof(), block: [0; 64], at: 64 };
    let mut order: Vec<u32> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last as usize, words.below(last + 1) as usize);
    }
    order
}

struct Words {
    stream: blake3::OutputReader,
    block: [u8; 64],
    at: usize,
}

impl Words {
    fn next(&mut self) -> u32 {
        if self.at == self.block.len() {
            self.stream.fill(&mut self.block);
            self.at = 0;
        }
        let bytes = &self.block[self.at..self.at + 4];
        self.at += 4;
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// Uniform below `bound` (> 0): Lemire's multiply and reject.
    fn below(&mut self, bound: u32) -> u32 {
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.next()) * u64::from(bound);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_stands_once_and_epochs_differ() {
        let first = permutation(7, Purpose::Epoch(0), 1000);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_ne!(first, permutation(7, Purpose::Epoch(1), 1000));
        assert_ne!(first, permutation(8, Purpose::Epoch(0), 1000));
        assert_ne!(first, permutation(7, Purpose::Composition, 1000));
    }

    #[test]
    fn the_order_of_ten_is_fixed_for_ever() {
        assert_eq!(
            permutation(1, Purpose::Epoch(0), 10),
            golden(),
            "a job's batches would change under everybody's feet"
        );
    }

    fn golden() -> Vec<u32> {
        vec![1, 4, 0, 6, 3, 5, 8, 9, 7, 2]
    }
}
