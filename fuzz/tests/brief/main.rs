//! Every target for a moment, by blind mutation of its seeds.
//!
//! That wants neither a nightly compiler nor libFuzzer, and sees no coverage: it finds what became wrong
//! near good inputs. What lies deeper the campaign finds (`cargo xtask test --long fuzz`).
//! `ALIA_FUZZ_SECONDS` says how long a moment is.
#![cfg(not(feature = "libfuzzer"))]

mod mutate;

use mutate::Mutator;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::LazyLock,
    time::{Duration, Instant},
};

const MOMENT: Duration = Duration::from_millis(400);
/// An input that is worked on longer is a hang.
const HANG: Duration = Duration::from_secs(10);

static SEEDS: LazyLock<BTreeMap<String, BTreeSet<Vec<u8>>>> =
    LazyLock::new(|| fuzz::seeds::all().expect("seeds can be made"));

/// The targets' files, each as a module: one program is linked, and not one for each.
macro_rules! targets {
    ($($path:literal $name:ident,)*) => {
        $(
            #[path = $path]
            #[allow(unused_attributes, reason = "by itself it is a program without a main function")]
            mod $name;

            #[test]
            fn $name() {
                fuzzed(stringify!($name), $name::from_bytes);
            }
        )*
        const TARGETS: &[&str] = &[$(stringify!($name),)*];
    };
}

targets! {
    "../../fuzz_targets/abci_frames.rs" abci_frames,
    "../../fuzz_targets/boot_reports.rs" boot_reports,
    "../../fuzz_targets/card_readings.rs" card_readings,
    "../../fuzz_targets/cards.rs" cards,
    "../../fuzz_targets/catalogue.rs" catalogue,
    "../../fuzz_targets/census.rs" census,
    "../../fuzz_targets/command_line.rs" command_line,
    "../../fuzz_targets/console.rs" console,
    "../../fuzz_targets/corpus.rs" corpus,
    "../../fuzz_targets/crashes.rs" crashes,
    "../../fuzz_targets/dhcp.rs" dhcp,
    "../../fuzz_targets/dhcp6.rs" dhcp6,
    "../../fuzz_targets/doctor.rs" doctor,
    "../../fuzz_targets/elf.rs" elf,
    "../../fuzz_targets/encoded_corpus.rs" encoded_corpus,
    "../../fuzz_targets/enrolment.rs" enrolment,
    "../../fuzz_targets/hardware.rs" hardware,
    "../../fuzz_targets/http.rs" http,
    "../../fuzz_targets/identifiers.rs" identifiers,
    "../../fuzz_targets/image_tree.rs" image_tree,
    "../../fuzz_targets/job_spec.rs" job_spec,
    "../../fuzz_targets/lease.rs" lease,
    "../../fuzz_targets/ledger_answers.rs" ledger_answers,
    "../../fuzz_targets/ledger_proofs.rs" ledger_proofs,
    "../../fuzz_targets/ledger_query.rs" ledger_query,
    "../../fuzz_targets/ledger_rules.rs" ledger_rules,
    "../../fuzz_targets/light_blocks.rs" light_blocks,
    "../../fuzz_targets/medium.rs" medium,
    "../../fuzz_targets/modalias.rs" modalias,
    "../../fuzz_targets/model_file.rs" model_file,
    "../../fuzz_targets/module_tables.rs" module_tables,
    "../../fuzz_targets/module_xz.rs" module_xz,
    "../../fuzz_targets/node_api.rs" node_api,
    "../../fuzz_targets/packages.rs" packages,
    "../../fuzz_targets/pcap.rs" pcap,
    "../../fuzz_targets/plural_rule.rs" plural_rule,
    "../../fuzz_targets/release_bundle.rs" release_bundle,
    "../../fuzz_targets/service_output.rs" service_output,
    "../../fuzz_targets/settings.rs" settings,
    "../../fuzz_targets/swarm.rs" swarm,
    "../../fuzz_targets/tftp.rs" tftp,
    "../../fuzz_targets/tftp_session.rs" tftp_session,
    "../../fuzz_targets/tokenizer_file.rs" tokenizer_file,
    "../../fuzz_targets/tokenizer_text.rs" tokenizer_text,
    "../../fuzz_targets/tpm.rs" tpm,
    "../../fuzz_targets/transaction.rs" transaction,
    "../../fuzz_targets/uevents.rs" uevents,
    "../../fuzz_targets/work_messages.rs" work_messages,
}

#[test]
fn no_target_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeSet<String> =
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, TARGETS.iter().map(|name| (*name).to_owned()).collect());
    let strays: Vec<_> = SEEDS.keys().filter(|name| !files.contains(*name)).collect();
    assert!(strays.is_empty(), "seeds of no target: {strays:?}");
}

fn fuzzed(name: &str, run: fn(&[u8])) {
    let moment = env::var("ALIA_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let moment = moment.map_or(MOMENT, Duration::from_secs_f64);
    // Nothing is an input of every target.
    let good = SEEDS.get(name).into_iter().flatten().cloned().chain([Vec::new()]).collect();
    let mut mutator = Mutator::new(good);
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < moment {
        let input = mutator.next();
        let at = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&input)));
        if outcome.is_err() || at.elapsed() > HANG {
            let path = env::temp_dir().join(format!("alia-fuzz-{name}"));
            fs::write(&path, &input).unwrap();
            panic!("input {count} panics or takes too long; it is in {}", path.display());
        }
        count += 1;
    }
    println!("{name}: {count} inputs");
}
