//! Which instruction set the operators run on. It never changes a bit of what they compute.

use crate::simd;
use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU8, Ordering},
};

/// An instruction set that the operators are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust; no fused multiply-add instruction is needed.
    Portable = 1,
    /// AVX2 with FMA.
    Avx2 = 2,
    /// AVX-512 Foundation.
    Avx512 = 3,
}

/// Every instruction set, narrowest first.
pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

/// Why an instruction set cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IsaError {
    /// This CPU lacks it.
    #[error("this CPU has no {0}; its best is {best}: force that one or none", best = Isa::detect())]
    Missing(Isa),
    /// A name that is none.
    #[error("{0:?} names no instruction set: portable, avx2 or avx512 is wanted")]
    Unknown(String),
}

impl Isa {
    /// The widest instruction set of this CPU.
    pub fn detect() -> Self {
        ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Self::Portable)
    }

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        simd::has(self)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

impl FromStr for Isa {
    type Err = IsaError;
    fn from_str(text: &str) -> Result<Self, IsaError> {
        ALL.into_iter()
            .find(|isa| isa.to_string() == text)
            .ok_or_else(|| IsaError::Unknown(text.chars().take(32).collect()))
    }
}

/// 0 until first asked for, then an [`Isa`].
static CURRENT: AtomicU8 = AtomicU8::new(0);

/// The instruction set in use: the forced one, or else the widest.
pub fn current() -> Isa {
    match CURRENT.load(Ordering::Relaxed) {
        1 => Isa::Portable,
        2 => Isa::Avx2,
        3 => Isa::Avx512,
        _ => {
            let isa = Isa::detect();
            CURRENT.store(isa as u8, Ordering::Relaxed);
            isa
        }
    }
}

/// Makes the whole process use `isa`.
///
/// # Errors
/// [`IsaError::Missing`] where this CPU lacks it.
pub fn force(isa: Isa) -> Result<(), IsaError> {
    if !isa.is_available() {
        return Err(IsaError::Missing(isa));
    }
    CURRENT.store(isa as u8, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex;

    static FORCED: Mutex<()> = Mutex::new(());

    /// Calls `f` with each instruction set of this CPU in force, one test at a time.
    pub(crate) fn on_each(mut f: impl FnMut(Isa)) {
        let _guard = FORCED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for isa in ALL.into_iter().filter(|isa| isa.is_available()) {
            force(isa).unwrap();
            f(isa);
        }
        force(Isa::detect()).unwrap();
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for isa in ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        assert!("sse2".parse::<Isa>().unwrap_err().to_string().contains("avx512"));
    }

    #[test]
    fn what_the_cpu_lacks_cannot_be_forced() {
        for isa in ALL.into_iter().filter(|isa| !isa.is_available()) {
            assert_eq!(force(isa), Err(IsaError::Missing(isa)));
        }
        assert!(Isa::detect().is_available());
    }
}
