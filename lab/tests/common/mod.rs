//! What tests share that run without libtest: the tests one after the other, and its closing line.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

/// The first argument that is no option: which tests to run, by a part of their names.
pub(crate) fn filter() -> String {
    std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default()
}

/// Whether tests that boot machines or make namespaces are to run.
pub(crate) fn boots() -> bool {
    let boots = std::env::var_os("ALIA_BOOTS").is_some();
    if !boots {
        println!("skipped: ALIA_BOOTS is not set");
    }
    boots
}

/// Runs those tests whose name contains `filter`.
pub(crate) fn run(filter: &str, tests: &[(&str, &dyn Fn())]) -> ExitCode {
    let (mut passed, mut failed, mut filtered) = (0, 0, 0);
    for (name, test) in tests {
        if !name.replace(' ', "_").contains(&filter.replace(' ', "_")) {
            filtered += 1;
            continue;
        }
        let started = Instant::now();
        let good = catch_unwind(AssertUnwindSafe(test)).is_ok();
        let word = if good { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({:.1} s)", started.elapsed().as_secs_f32());
        if good { passed += 1 } else { failed += 1 }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
