//! The whole path of a job, over the real programs: submitted, trained, fetched, proven, replayed,
//! and its model used. And a lie, caught.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends")]

mod common;

use common::{Network, SmallJob, cometbft, liar::Liar};
use job::Terms;
use ledger_client::TxHash;
use protocol::{
    BatchPart, Digest, PublicKey,
    boot::{ImageFile, ImageManifest, Microcode, RootImage, Verity},
    release::{Manifest, TrustRoot},
};
use release::sign::testing;
use serde_json::Value;
use std::{
    fs,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

/// The receipts of a job as the listing has them.
fn receipts(network: &Network, job: &str) -> Vec<Value> {
    let listed = network.alia(&["--json", "receipts", "--job", job, "--limit", "100000"]).ok();
    listed.json()["receipts"].as_array().unwrap().clone()
}

fn id_where(receipts: &[Value], wanted: impl Fn(&Value) -> bool) -> &str {
    receipts.iter().find(|line| wanted(line)).unwrap()["receipt"].as_str().unwrap()
}

/// That Python's libraries open the model's and the tokenizer's files.
fn opens_elsewhere(network: &Network, small: &SmallJob) {
    let Some(python) = std::env::var_os("ALIA_TOKENIZERS_PYTHON") else {
        println!("skipped: ALIA_TOKENIZERS_PYTHON does not name a Python with safetensors");
        return;
    };
    let script = r#"
import sys
from safetensors import safe_open
from tokenizers import Tokenizer
with safe_open(sys.argv[1], framework="np") as file:
    elements = sum(file.get_tensor(name).size for name in file.keys())
print(elements, Tokenizer.from_file(sys.argv[2]).get_vocab_size())
"#;
    let files = ["job-0/model.safetensors", "job-0/tokenizer.json"].map(|name| network.path(name));
    let ran = Command::new(python).args(["-c", script]).args(&files).output().unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let prepared = small.prepared();
    let parameters = prepared.forecast().unwrap().parameters;
    let wanted = format!("{parameters} {}\n", prepared.job.shape().vocabulary);
    assert_eq!(said, wanted, "{}", String::from_utf8_lossy(&ran.stderr));
}

/// The header that a signed release names is pinned, and one that the chain does not have is not.
fn pins_what_a_release_names(network: &Network) {
    let (rpc, url) = (network.rpc(), network.url());
    let init = ["--json", "init", "--force", "--ledger", &rpc, "--parameter-server", &url];
    let pinned = network.alia(&init).ok().json();
    let file = ImageFile { file: "a".into(), digest: Digest([1; 32]), bytes: 1 << 20 };
    let verity = Verity { root_hash: Digest([2; 32]), salt: Digest([3; 32]), data_blocks: 1 };
    let image = ImageManifest {
        version: "0.1.0".into(),
        kernel_release: "6.12.0".into(),
        kernel: file.clone(),
        initramfs: ImageFile { file: "b".into(), ..file.clone() },
        root: RootImage { file: ImageFile { file: "c".into(), ..file }, verity },
        microcode: Microcode::default(),
        unix_time: 1_700_000_000,
    };
    let header: TxHash = pinned["header_hash"].as_str().unwrap().parse().unwrap();
    fs::write(network.path("1.root.json"), testing::root_json()).unwrap();
    let with = |header_hash: [u8; 32]| {
        let chain = TrustRoot {
            chain: pinned["chain"].as_str().unwrap().parse().unwrap(),
            genesis_hash: Digest([4; 32]),
            height: pinned["height"].as_u64().unwrap(),
            header_hash: Digest(header_hash),
            trusting_period_seconds: 86_400,
        };
        let manifest = Manifest { version: 1, image: image.clone(), floor: 0, chain: Some(chain) };
        let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 86_400;
        let bundle = testing::released(manifest, expires).unwrap().bundle().unwrap().to_bytes();
        fs::write(network.path("release.bundle"), bundle).unwrap();
        let from = ["--release", "release.bundle", "--root", "1.root.json"];
        network.alia(&[&init[..], &from].concat())
    };
    let again = with(header.0).ok().json();
    assert_eq!(
        (&again["height"], &again["header_hash"]),
        (&pinned["height"], &pinned["header_hash"])
    );
    let mut other = header.0;
    other[0] ^= 1;
    let refused = with(other);
    assert!(refused.code != 0 && refused.err.contains("header"), "{}", refused.err);
}

#[test]
fn a_job_is_submitted_trained_fetched_proven_replayed_and_its_model_translates() {
    let Some(comet) = cometbft() else { return };
    let mut network = Network::start(comet);
    pins_what_a_release_names(&network);
    network.start_worker(None);
    let small = SmallJob { nonce: 0, epochs: 2 };
    let job = network.submit(&small);
    // Submitted again it is the same job.
    assert_eq!(network.submit(&small), job);

    let watched = network.alia(&["job", "watch", &job]).ok();
    assert!(watched.out.contains("receipts confirmed on the chain"), "{}", watched.out);

    let fetched = network.alia(&["--json", "job", "fetch", &job, "--out", "job-0"]).ok().json();
    let digest = small.without_a_network();
    assert_eq!(fetched["parameters"], digest.to_string());
    assert!(fetched["proof"]["block"]["height"].as_u64().unwrap() > 0, "{fetched}");

    opens_elsewhere(&network, &small);

    // Every batch of the job has a receipt, once, and all are confirmed.
    let all = receipts(&network, &job);
    let schedule = small.prepared().job.terms().schedule().clone();
    let wanted = schedule.epochs * (schedule.batches + schedule.steps());
    assert_eq!(all.len(), wanted as usize);
    assert!(all.iter().all(|line| line["confirmed"].is_u64() && line["first"] == true));

    // One of them, proven and shown.
    let first = id_where(&all, |line| line["epoch"] == 0 && line["step"] == 0);
    let proof = network.alia(&["--json", "receipt", "--prove", first]).ok().json();
    assert_eq!(proof["proof_verified"], true);
    assert_eq!(proof["height"], proof["block"]["height"]);
    let shown = network.alia(&["receipt", "--prove", first]).ok().out;
    assert!(shown.contains("from the pinned header") && shown.contains(first), "{shown}");
    let nothing = "ab".repeat(32);
    let absent = network.alia(&["receipt", "--prove", "--wait", "0", &nothing]);
    assert_eq!(absent.code, 1);
    assert!(absent.err.contains("is not on the chain: proven"), "{}", absent.err);

    // Replayed: a micro-batch of the first step and of a late one, and updates of both.
    let last_step = schedule.steps() - 1;
    for (epoch, step, part, recompute) in [
        (0, 0, "#0", false),
        (1, last_step, "#0", false),
        (0, 0, "update", false),
        (0, 1, "update", true),
        (1, last_step, "update", false),
    ] {
        let id = id_where(&all, |line| {
            line["epoch"] == epoch && line["step"] == step && line["part"] == part
        });
        let mut arguments = vec!["--json", "replay", id];
        arguments.extend(recompute.then_some("--recompute-sum"));
        let replayed = network.alia(&arguments).ok().json();
        assert_eq!(replayed["agrees"], true, "{replayed}");
        assert_eq!(replayed["receipt"], id);
        let notes = replayed["notes"].to_string();
        if part == "update" && (epoch, step) != (0, 0) {
            assert!(notes.contains("is what the update of the step before left"), "{notes}");
        }
        assert_eq!(notes.contains("micro-batches, done again"), recompute, "{notes}");
    }

    // Translated here and by the network: the same, with receipts that replay confirms.
    let text = "The old dog sees a red house.\n\nthree cats\n";
    fs::write(network.path("text.txt"), text).unwrap();
    let here = network.alia(&["translate", "--job", "job-0", "--file", "text.txt"]).ok();
    assert_eq!(here.out.lines().count(), 3);
    assert_eq!(here.out.lines().nth(1), Some(""));
    let there = ["--json", "translate", "--job", "job-0", "--on-network", "--file", "text.txt"];
    let there = network.alia(&there).ok().json();
    let lines: Vec<&str> =
        there["translations"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    assert_eq!(lines, here.out.lines().collect::<Vec<_>>());
    let receipt = there["proof"]["receipts"][0].as_str().unwrap();
    let replayed = network.alia(&["--json", "replay", receipt]).ok().json();
    assert_eq!(replayed["agrees"], true, "{replayed}");
    let id = there["job"].as_str().unwrap();
    network.alia(&["job", "fetch", id, "--out", "translated"]).ok();
    let fetched = fs::read_to_string(network.path("translated/translations.txt")).unwrap();
    assert_eq!(fetched.lines().collect::<Vec<_>>(), [lines[0], lines[2]]);

    let scored = network.alia(&["--json", "job", "score", "job-0"]).ok().json();
    assert_eq!(scored["all"]["sentences"], 40);
    let listed = network.alia(&["job", "list"]).ok().out;
    assert!(listed.contains(&job) && listed.contains("translate"), "{listed}");

    // What the parameter server shows of a receipt replays from a file too.
    let view = Network::runtime().block_on(async {
        let server = cli::ParameterServer::new(&network.url()).unwrap();
        server.receipt(&first.parse().unwrap()).await.unwrap()
    });
    fs::write(network.path("receipt.json"), serde_json::to_vec(&view).unwrap()).unwrap();
    let replayed = network.alia(&["--json", "replay", "--from-file", "receipt.json"]).ok().json();
    assert_eq!((&replayed["agrees"], &replayed["proven"]), (&Value::Bool(true), &Value::Null));
}

/// A job done by one liar; its id and a receipt of a micro-batch.
fn lied(network: &Network, nonce: u64, liar: Liar) -> (PublicKey, Vec<Value>) {
    let node = network.start_liar(liar);
    let job = network.submit(&SmallJob { nonce, epochs: 1 });
    network.wait_until_done(&job);
    (node, receipts(network, &job))
}

#[test]
fn a_lie_about_one_element_of_one_operation_is_named_and_told_from_a_changed_log() {
    let Some(comet) = cometbft() else { return };
    let network = Network::start(comet);
    let small = SmallJob { nonce: 1, epochs: 1 };
    let spec = small.prepared().job.spec().clone();
    let terms = Terms::new(&spec, Vec::new()).unwrap();
    let operations = &terms.graph().operations;
    // Between two boundaries, so that the receipt alone names only a stretch.
    let position = (1..operations.len())
        .find(|&at| !operations[at].boundary && !operations[at - 1].boundary && at > 5)
        .unwrap();
    let (node, all) = lied(&network, 1, Liar::at(position as u32));

    let id = id_where(&all, |line| line["node"] == node.to_string() && line["part"] == "#1");
    let ran = network.alia(&["--json", "replay", id]);
    assert_eq!(ran.code, 3, "{}\n{}", ran.out, ran.err);
    let found = ran.json();
    assert_eq!(found["agrees"], false);
    let named = &found["operation"];
    assert_eq!((&named["first"], &named["last"]), (&position.into(), &position.into()), "{found}");
    assert_eq!(named["name"], operations[position].name);
    assert_eq!(named["operator"], operations[position].operator().to_string());
    assert_ne!(named["ours"], named["theirs"]);
    assert!(found["notes"].to_string().contains("full log agrees"), "{found}");
    let text = network.alia(&["replay", id]).out;
    assert!(text.contains("LIES") && text.contains(&format!("position {position}")), "{text}");

    // The parameter server summed what it was given: its update is right, and only who does the
    // micro-batches again sees where the lie came in.
    let update = id_where(&all, |line| line["part"] == "update" && line["step"] == 0);
    network.alia(&["replay", update]).ok();
    let deep = network.alia(&["--json", "replay", "--recompute-sum", update]);
    assert_eq!(deep.code, 3, "{}\n{}", deep.out, deep.err);
    assert!(deep.json()["notes"].to_string().contains(&node.to_string()), "{}", deep.out);
}

#[test]
fn a_worker_that_hides_its_lie_in_its_log_is_told_so() {
    let Some(comet) = cometbft() else { return };
    let network = Network::start(comet);
    let liar = Liar { forgets: true, ..Liar::at(8) };
    let (_, all) = lied(&network, 2, liar);
    let id = id_where(&all, |line| line["part"] == BatchPart::Micro(0).to_string());
    let ran = network.alia(&["--json", "replay", id]);
    assert_eq!(ran.code, 3, "{}\n{}", ran.out, ran.err);
    let found = ran.json();
    assert!(found["notes"].to_string().contains("not the one it committed to"), "{found}");
    // The stretch that the receipt itself commits to holds the lie.
    let named = &found["operation"];
    let (first, last) = (named["first"].as_u64().unwrap(), named["last"].as_u64().unwrap());
    assert!((first..=last).contains(&8), "{found}");
}
