//! PID 1 of a machine whose CPU is emulated, because no CPU at hand has its instructions: runs this
//! crate's tests there. `cargo xtask test --long avx512` builds it static and boots it.
//!
//! Any other process that runs it is shown the same model's digests as its own CPU computes them.
#![allow(clippy::unwrap_used, reason = "the tests' helpers fail by panicking")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{EVEN, trained};
use kernels::{Isa, isa};
use nix::{
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        termios::tcdrain,
    },
};
use std::{error::Error, fs, io, path::Path, process::Command};

/// Past bias correction's fifteenth step, before which forks do not show.
const STEPS: u32 = 20;
/// Programs that libtest made, each the tests of one part.
const TESTS: &str = "/tests";
/// Tests of the portable code alone, over more numbers than an emulator gets through.
const SKIPPED: [&str; 2] = ["the_error_stays_below_0_9_ulp", "fma_is_the_libraries"];

fn main() -> Result<(), Box<dyn Error>> {
    if std::process::id() != 1 {
        println!("{}", model());
        return Ok(());
    }
    match check() {
        Ok(()) => println!("verdict: every bit is the same"),
        Err(error) => println!("verdict: {error}"),
    }
    // What the serial line has not sent yet would be lost.
    let _ = tcdrain(io::stdout());
    reboot(RebootMode::RB_POWER_OFF)?;
    Ok(())
}

/// A short training on the instruction set that is chosen where none is forced.
fn model() -> String {
    let (parameters, state, loss) = trained(&EVEN, STEPS, &[(3, 4), (7, 5), (0, 1)]);
    format!("model: parameters {parameters}, optimiser {state}, last loss {loss:08x}")
}

fn check() -> Result<(), Box<dyn Error>> {
    println!("isa: {}", isa::current());
    if isa::current() != Isa::Avx512 {
        return Err(format!("this CPU has no {}: nothing was tested", Isa::Avx512).into());
    }
    println!("{}", model());
    was_used()?;
    let mut programs: Vec<_> =
        fs::read_dir(TESTS)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    programs.sort();
    if programs.is_empty() {
        return Err(format!("{TESTS} is empty").into());
    }
    for program in programs {
        run(&program)?;
    }
    Ok(())
}

/// That this thread used AVX-512's registers, by the kernel's account: a witness besides our own
/// detection (Documentation/arch/x86/… of the kernel: `AVX512_elapsed_ms`).
fn was_used() -> Result<(), Box<dyn Error>> {
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)?;
    let status = fs::read_to_string("/proc/thread-self/arch_status")?;
    let since = status.lines().find_map(|line| line.strip_prefix("AVX512_elapsed_ms:"));
    let since: i64 = since.ok_or("the kernel keeps no account of AVX-512")?.trim().parse()?;
    if since < 0 {
        return Err("by the kernel's account AVX-512 was never used".into());
    }
    println!("avx512 in use by the kernel's account, {since} ms ago");
    Ok(())
}

fn run(program: &Path) -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(program);
    // One by one, so that the last line shows where it is.
    command.arg("--test-threads=1").args(SKIPPED.iter().flat_map(|name| ["--skip", name]));
    let status = command.status().map_err(|error| format!("{}: {error}", program.display()))?;
    println!("{}: {status}", program.display());
    if status.success() { Ok(()) } else { Err(format!("{} failed", program.display()).into()) }
}
