//! A few good inputs of each target, made by the crates themselves: from them what is nearly good is
//! found.

use crate::chain::{self, CHAIN, LEDGER, WORLD};
use kernels::{model::Parameters, optimiser};
use protocol::{
    BatchPart, Digest, JobSpec, Signed,
    boot::{BootEvent, CrashReport, Enrol, StageState},
    encoded::Encoded,
    evidence::Held,
    inventory::Inventory,
    job::{ModelShape, TranslateSpec, Work},
    medium::{self, Claim, Grant, Granted},
    merkle,
    nvidia::{Ecc, Reading},
    pieces::{Door, Giver, PiecesAsk, Run, Swarm},
    receipt::{Salt, WorkKeyCertificate},
    release::TimeRequest,
    transaction::{Assign, Confirm},
    work::{
        Assignment, FullLog, LeafResult, LogRequest, Pull, PullReply, ResultMessage, Telemetry,
        WorkResult,
    },
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::Path,
};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::RequestQuery;
use tendermint_testgen::{Generator, LightChain};
use text::{Tokenizer, grammar};

/// Whatever goes wrong.
pub type Anything<T> = Result<T, Box<dyn std::error::Error>>;

/// Inputs by target.
#[derive(Default)]
struct Seeds(RefCell<BTreeMap<String, BTreeSet<Vec<u8>>>>);

impl Seeds {
    fn put(&self, target: &str, input: impl AsRef<[u8]>) -> Anything<()> {
        let mut all = self.0.borrow_mut();
        all.entry(target.to_owned()).or_default().insert(input.as_ref().to_vec());
        Ok(())
    }
}

/// Inputs by target, in an order that is the same each time.
///
/// # Errors
/// What makes them failed.
pub fn all() -> Anything<BTreeMap<String, BTreeSet<Vec<u8>>>> {
    let seeds = Seeds::default();
    network(&seeds)?;
    reports(&seeds)?;
    ledger(&seeds)?;
    proofs(&seeds)?;
    work(&seeds)?;
    texts(&seeds)?;
    models(&seeds)?;
    packages(&seeds)?;
    releases(&seeds)?;
    media(&seeds)?;
    swarm(&seeds)?;
    machine(&seeds)?;
    Ok(seeds.0.into_inner())
}

/// The release of the network whose keys everybody knows.
fn releases(seeds: &Seeds) -> Anything<()> {
    let (manifest, expires) = (crate::release::manifest(), crate::release::EXPIRES);
    let released = release::sign::testing::released(manifest, expires)?;
    seeds.put("release_bundle", released.bundle()?.to_bytes())
}

/// A miner's medium, and what its node says.
fn media(seeds: &Seeds) -> Anything<()> {
    let token = chain::signer(5);
    let grant = Grant {
        token: token.public(),
        provisioner: WORLD.delegate.public(),
        issued: 1_000,
        expires: 2_000,
    };
    let granted = Granted::sign(&WORLD.chain, grant, &WORLD.owner);
    let record = medium::Record { token, granted };
    let boot = ("52:54:00:12:34:56".to_owned(), Digest([1; 32]));
    let claim = Claim::sign(&WORLD.chain, &record, &WORLD.worker, Digest([2; 32]), boot);
    seeds.put("medium", record.to_bytes()?)?;
    seeds.put("medium", medium::blank())?;
    seeds.put("medium", serde_json::to_vec(&record.granted)?)?;
    seeds.put("medium", serde_json::to_vec(&claim)?)?;
    for whose in 0..6 {
        seeds.put("medium", [&[whose][..], &serde_json::to_vec(&claim.body)?].concat())?;
    }
    Ok(())
}

/// What machines and provisioner say of pieces.
fn swarm(seeds: &Seeds) -> Anything<()> {
    let (key, held) = (WORLD.worker.public(), vec![0b101, 1, 0]);
    let asked = PiecesAsk {
        boot_id: Digest([1; 32]),
        number: 1,
        file: Digest([2; 32]),
        held: "050100".into(),
        address: [10, 77, 0, 9].into(),
        door: Some(Door { key, port: 7443 }),
        avoid: vec![key],
        stuck_ms: 3_000,
    };
    seeds.put("swarm", serde_json::to_vec(&asked)?)?;
    let swarm = Swarm {
        boot_id: asked.boot_id,
        number: 1,
        site: Some("10.77.0.0/16".parse()?),
        rate: 50_000_000,
        givers: vec![Giver { key, address: "10.77.0.8:7443".parse()?, held }],
        granted: vec![Run { first: 4, count: 2 }],
        again_ms: 500,
    };
    seeds.put("swarm", serde_json::to_vec(&swarm)?)?;
    let signed = Signed::sign(&WORLD.chain, swarm, &WORLD.delegate);
    seeds.put("swarm", serde_json::to_vec(&signed)?)?;
    seeds.put("swarm", [7; 24 * 32])?;
    seeds.put("swarm", "fd00::/64")
}

/// Frames that the doctor hears: spanning tree, a switch's names, servers' answers.
fn doctor(seeds: &Seeds) -> Anything<()> {
    let frame = |to: [u8; 6], rest: &[u8]| [&to[..], &[2, 0, 0, 0, 0, 9], rest].concat();
    let bridge = [0x80, 0, 2, 0xb0, 0, 0, 0, 5];
    let says = [
        &[0, 0, 2, 2, 1][..],
        &bridge,
        &[0, 0, 0, 0],
        &bridge,
        &[0x80, 2, 0, 0, 20, 0, 2, 0, 15, 0, 0],
    ]
    .concat();
    let tree = [1, 0x80, 0xc2, 0, 0, 0];
    let cisco = [1, 0, 0x0c, 0xcc, 0xcc, 0xcc];
    let pvst = [&[0, 51, 0xaa, 0xaa, 3, 0, 0, 0x0c, 1, 0x0b][..], &says, &[0, 0, 0, 0, 2, 0, 7]];
    let ip = |protocol: u8, rest: &[u8]| {
        let length = (20 + rest.len() as u16).to_be_bytes();
        let head = [8, 0, 0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
        frame([0xff; 6], &[&head[..], &[10, 0, 0, 2, 255, 255, 255, 255], rest].concat())
    };
    let mut offer = vec![0; 240];
    offer[..3].copy_from_slice(&[2, 1, 6]);
    offer[4..8].copy_from_slice(&[7; 4]);
    offer[16..20].copy_from_slice(&[10, 0, 0, 50]);
    offer[28..34].copy_from_slice(&[6, 7, 7, 7, 7, 7]);
    offer[236..].copy_from_slice(&[99, 130, 83, 99]);
    offer.extend(b"\x35\x01\x02\x36\x04\x0a\0\0\x02\x3c\x09PXEClient\x43\x05x.efi\x1a\x02\x05\x78");
    offer.extend(b"\x2a\x04\x0a\0\0\x03\xff");
    let udp = |ports: [u8; 4], rest: &[u8]| {
        let length = (8 + rest.len() as u16).to_be_bytes();
        [&ports[..], &length, &[0, 0], rest].concat()
    };
    let six = |next: u8, rest: &[u8]| {
        let length = (rest.len() as u16).to_be_bytes();
        let head = [0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], next, 255];
        let source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        frame([0x33; 6], &[&head[..], &source, &source, rest].concat())
    };
    let advert = b"\x02\x07\x07\x07\0\x03\0\x28\0\0\0\x01\0\0\0\0\0\0\0\0\0\x05\0\x18\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0\x3c\0\0\0\x3c\0\x3b\0\x06tftp:/";
    let router = b"\x86\0\0\0\x40\xc0\x07\x08\0\0\0\0\0\0\0\0\x05\x01\0\0\0\0\x05\x78\x01\x01\x02\0\0\0\0\x09";
    for bytes in [
        frame(tree, &[&[0, 39, 0x42, 0x42, 3][..], &says].concat()),
        frame(cisco, &pvst.concat()),
        frame(cisco, b"\0\x1d\xaa\xaa\x03\0\0\x0c\x20\0\x02\xb4\0\0\0\x01\0\x08sw-9\0\x03\0\x09Gi0/1"),
        frame(tree, b"\x88\xcc\x02\x07\x04\x02\xb0\0\0\0\x05\x04\x04\x05ge3\x06\x02\0\x78\x0a\x04sw-7\0\0"),
        frame([0xff; 6], b"\x08\x06\0\x01\x08\0\x06\x04\0\x02\x02\0\0\0\0\x09\x0a\0\0\x05\0\0\0\0\0\0\x0a\0\0\x05"),
        ip(17, &udp([0, 67, 0, 68], &offer)),
        six(17, &udp([2, 0x23, 2, 0x22], advert)),
        six(58, router),
    ] {
        let length = (bytes.len() as u16).to_be_bytes();
        seeds.put("doctor", [&length[..], &bytes].concat())?;
    }
    Ok(())
}

/// DHCP, TFTP, HTTP.
fn network(seeds: &Seeds) -> Anything<()> {
    let captured = |folder: &str| -> Anything<Vec<Vec<u8>>> {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../provisioner/tests").join(folder);
        let mut packets = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "hex") {
                let text: String = fs::read_to_string(path)?.split_whitespace().collect();
                let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair));
                let packet: Anything<Vec<u8>> =
                    digits.map(|pair| Ok(u8::from_str_radix(pair?, 16)?)).collect();
                packets.push(packet?);
            }
        }
        Ok(packets)
    };
    for packet in captured("packets")? {
        for switches in [0, 0x15, 0x1f] {
            seeds.put("dhcp", [&[switches][..], &packet].concat())?;
        }
    }
    for packet in captured("packets6")? {
        // Through a relay too.
        let envelope = [
            &[12, 0][..],
            &[0; 16],
            &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff],
            &[0xfe, 0xaa, 0, 9],
        ];
        let length = (packet.len() as u16).to_be_bytes();
        let relayed = [&envelope.concat()[..], &[0, 9], &length, &packet].concat();
        for switches in [0x20, 0x2a, 0x6d] {
            seeds.put("dhcp6", [&[switches][..], &packet].concat())?;
            seeds.put("dhcp6", [&[switches][..], &relayed].concat())?;
        }
    }
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../provisioner/tests/captures");
    for entry in fs::read_dir(captures)? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "pcap" || kind == "pcapng") {
            seeds.put("pcap", [&[0][..], &fs::read(path)?].concat())?;
        }
    }
    seeds.put("tftp", "\0\x0152-54-00-12-34-56/care-b1024-w1-r500000/snponly.efi\0octet\0")?;
    for request in [
        &b"\0\x01/52-54-00-12-34-56/snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0"[..],
        b"\0\x01undionly.kpxe\0OCTET\0timeout\x003\0",
        b"\0\x02x\0octet\0",
        b"\0\x04\0\x01",
        b"\0\x05\0\x08User aborted\0",
        b"..\\a/../b",
    ] {
        seeds.put("tftp", request)?;
    }
    doctor(seeds)?;
    let digest = "00".repeat(32);
    for path in [
        "/boot.ipxe",
        "/boot/52-54-00-12-34-56.ipxe?uuid=x&serial=y&arch=x86_64&platform=efi",
        "/ipxe/snponly.efi?mac=52-54-00-12-34-56",
        "/ipxe/..%2fkey",
        "/uki/aliaos.efi?mac=52-54-00-12-34-56",
        &format!("/image/{digest}/vmlinuz"),
        "/v1/machines",
        "/v1/machines/52:54:00:12:34:56",
        "/v1/status",
        "/",
        "/live",
        "/machines/52-54-00-12-34-56",
    ] {
        seeds.put("http", path)?;
        seeds.put("http", format!("{path}\0bytes=0-3"))?;
    }
    Ok(())
}

/// What booting machines say.
fn reports(seeds: &Seeds) -> Anything<()> {
    let event = |sequence, stage: &str, state| BootEvent {
        sequence,
        boot_id: Digest([1; 32]),
        stage: stage.into(),
        state,
        at_ms: 100 * u64::from(sequence),
        detail: "detail".into(),
    };
    let events = serde_json::to_string(&[
        event(0, "mounts", StageState::Started),
        event(1, "mounts", StageState::Done),
        event(2, "network", StageState::Retrying),
        event(3, "compute", StageState::Failed),
        event(4, "compute", StageState::Done),
    ])?;
    let mut inventory = Inventory::default();
    inventory.system.uuid = "11223344-5566-7788-99aa-bbccddeeff01".into();
    let enrol = Enrol {
        mac: "52:54:00:12:34:56".into(),
        boot_id: Digest([1; 32]),
        release: Digest([3; 32]),
        inventory,
        held: Held::Memory,
        evidence: None,
    };
    let newcomer = serde_json::to_string(&enrol)?;
    let signed = serde_json::to_string(&Signed::sign(&WORLD.chain, enrol, &WORLD.worker))?;
    seeds.put("boot_reports", format!("{events}\0{newcomer}"))?;
    seeds.put("boot_reports", format!("[]\0{signed}"))?;
    let machine = "/v1/machines/52:54:00:12:34:56";
    seeds.put("http", format!("{machine}/events\x001\0{events}"))?;
    seeds.put("http", format!("{machine}/enrol\x001\0{signed}"))?;
    let console = r#"{"boot_id":"BOOT","lines":[{"source":"kernel","sequence":0,"at_ms":5,"level":4,
        "text":"usb 1-1: \u001b[31mred\u001b[0m"},{"source":"init","sequence":3,"at_ms":6,"text":"x"}]}"#;
    let console = console.replace("BOOT", &Digest([1; 32]).to_string());
    seeds.put("console", format!("{console}\0a\u{1b}]0;title\u{7}b wifi.psk=hush"))?;
    let crash = CrashReport {
        boot_id: Digest([1; 32]),
        reason: "Kernel panic - not syncing".into(),
        text: "<0>[   12.4] Kernel panic - not syncing\n".into(),
    };
    let crash = serde_json::to_string(&crash)?;
    seeds.put("http", format!("{machine}/crashes\x001\0{crash}"))?;
    let time = TimeRequest {
        nonce: Digest([2; 32]),
        mac: "52:54:00:12:34:56".into(),
        boot_id: Digest([1; 32]),
        scripted: false,
    };
    let time = serde_json::to_string(&time)?;
    seeds.put("http", format!("/v1/time\x001\0{time}"))?;

    let config = chain::node_config();
    let answer = Signed::sign(&WORLD.chain, config.clone(), &WORLD.delegate);
    seeds.put("enrolment", serde_json::to_vec(&answer)?)?;
    for whose in 0..6 {
        seeds.put("enrolment", [&[whose][..], &serde_json::to_vec(&config)?].concat())?;
    }
    Ok(())
}

/// Transactions, their bodies, specifications.
fn ledger(seeds: &Seeds) -> Anything<()> {
    let run = WORLD.run(0, 4, 1);
    let receipts: Vec<_> =
        (0..2).map(|at| WORLD.receipt(0, 0, &run, BatchPart::Micro(at))).collect();
    let update = WORLD.update_run();
    let confirmations: Vec<_> =
        receipts.iter().map(|receipt| WORLD.confirmation(receipt)).collect();
    let mut transactions = WORLD.opening();
    transactions.push(WORLD.assign(0, 0, vec![run, update]));
    transactions.push(protocol::Transaction::SubmitReceipts(receipts.clone()));
    transactions.push(WORLD.confirm(confirmations.clone()));
    for transaction in &transactions {
        seeds.put("transaction", borsh::to_vec(transaction)?)?;
    }
    seeds.put("transaction", borsh::to_vec(&receipts[0])?)?;

    let part = |kind: u8, whose: u8, mend: u8, body: Vec<u8>| {
        [&[kind, whose, mend][..], &(body.len() as u16).to_le_bytes(), &body].concat()
    };
    let assign = Assign { job: WORLD.job(), epoch: 0, step: 0, runs: vec![run, update] };
    let bodies: Vec<_> = receipts.iter().map(|receipt| receipt.body.clone()).collect();
    let confirm = Confirm { job: WORLD.job(), receipts: confirmations };
    let life = [
        part(2, 3, 1, borsh::to_vec(&assign)?),
        part(3, 4, 1, borsh::to_vec(&bodies)?),
        part(4, 3, 1, borsh::to_vec(&confirm)?),
    ];
    seeds.put("ledger_rules", life.concat())?;
    for transaction in &transactions {
        let seed = match transaction {
            protocol::Transaction::RegisterNode(signed) => {
                part(0, 5, 1, borsh::to_vec(&signed.body)?)
            }
            protocol::Transaction::CreateJob(signed) => {
                let mut body = signed.body.clone();
                body.spec.nonce = 9;
                part(1, 2, 1, borsh::to_vec(&body)?)
            }
            _ => continue,
        };
        seeds.put("ledger_rules", seed)?;
    }

    let shape = WORLD_SHAPE;
    let translate = TranslateSpec {
        model: Digest([1; 32]),
        parameters: Digest([2; 32]),
        shape,
        tokenizer: Digest([3; 32]),
        input: Digest([4; 32]),
        micro_batch_tokens: 64,
        length_sixteenths: 24,
    };
    let translation = JobSpec { work: Work::Translate(translate), ..WORLD.spec.clone() };
    for spec in [&WORLD.spec, &translation] {
        seeds.put("job_spec", borsh::to_vec(&(spec, abci_app::testing::shapes()))?)?;
        seeds.put("job_spec", serde_json::to_vec(spec)?)?;
    }
    Ok(())
}

const WORLD_SHAPE: ModelShape = ModelShape {
    vocabulary: 5,
    width: 2,
    heads: 1,
    feed_forward: 1,
    encoder_layers: 1,
    decoder_layers: 1,
    max_length: 4,
};

/// Queries, their answers, and blocks of a chain of three validators.
fn proofs(seeds: &Seeds) -> Anything<()> {
    let node = WORLD.server.public();
    let job = WORLD.job();
    let paths = [
        "chain".to_string(),
        format!("node/{node}"),
        "node/none".to_string(),
        format!("job/{job}"),
        format!("shapes/{job}"),
        "list/nodes?limit=2&after=0".to_string(),
        "list/jobs".to_string(),
        format!("list/receipts?job={job}"),
    ];
    for path in &paths {
        seeds.put("ledger_query", [&[0][..], path.as_bytes()].concat())?;
        seeds.put("ledger_query", [&[1][..], path.as_bytes()].concat())?;
        let request = RequestQuery { path: path.clone(), prove: true, ..Default::default() };
        for op in LEDGER.query(request).proof_ops.map(|proof| proof.ops).unwrap_or_default() {
            seeds.put("ledger_proofs", op.data)?;
        }
    }
    let inclusion = serde_json::json!({"total": "3", "index": "1", "aunts": ["AAAA", "AAEC"]});
    seeds.put("ledger_proofs", inclusion.to_string())?;
    let leaves: Vec<Digest> = (0..5u8).map(|leaf| Digest::of_bytes(&[leaf])).collect();
    for place in [0, 4] {
        seeds.put("ledger_proofs", &borsh::to_vec(&merkle::prove(&leaves, place))?[1..])?;
    }

    let answer = |result: serde_json::Value| {
        serde_json::json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string()
    };
    let mut blocks = Vec::new();
    for block in LightChain::default_with_length(3).light_blocks {
        let block = block.generate()?;
        let set = |validators: &[_]| {
            let total = validators.len().to_string();
            answer(serde_json::json!({"validators": validators, "total": total}))
        };
        let commit = answer(serde_json::json!({"signed_header": block.signed_header}));
        let next = set(&block.next_validators.validators);
        blocks.push([commit, set(&block.validators.validators), next].join("\0"));
        let metas = serde_json::json!({"block_metas": [{"header": block.signed_header.header}]});
        seeds.put("ledger_answers", answer(metas))?;
    }
    for (first, second) in [(0, 1), (0, 2), (1, 0)] {
        seeds.put("light_blocks", [&blocks[first][..], &blocks[second]].join("\0"))?;
    }
    for result in [
        serde_json::json!({"code": 53, "data": "01000000", "log": "why", "codespace": "", "hash": "AB"}),
        serde_json::json!({"sync_info": {"latest_block_height": "7"}}),
        serde_json::json!({"response": {"code": 0, "log": "", "key": "AA==", "value": "AAEC", "height": "7",
            "proofOps": {"ops": [{"type": "ics23:jmt", "key": "AA==", "data": "AAEC"}]}}}),
        serde_json::json!({"height": "7", "index": 0, "tx_result": {"code": 0, "data": null, "log": ""}}),
        serde_json::json!({"txs": [{"tx": "AAEC", "proof": {"proof": inclusion}}]}),
    ] {
        seeds.put("ledger_answers", answer(result))?;
    }
    let error = serde_json::json!({"error": {"code": 1, "message": "Internal error", "data": "tx already exists in cache"}});
    seeds.put("ledger_answers", error.to_string())?;
    seeds.put("ledger_answers", "http://10.0.0.1:26657")?;

    let mut frames = Vec::new();
    let mut writer = abci_app::transport::FrameWriter::new(&mut frames);
    use tendermint_proto::v0_38::abci::{self, Request, request::Value};
    let txs = vec![vec![1, 2, 3].into()];
    for value in [
        Value::Echo(abci::RequestEcho { message: "hello".into() }),
        Value::Flush(abci::RequestFlush {}),
        Value::InitChain(abci::RequestInitChain { chain_id: CHAIN.into(), ..Default::default() }),
        Value::CheckTx(abci::RequestCheckTx { tx: vec![0; 9].into(), r#type: 1 }),
        Value::Query(abci::RequestQuery { path: "chain".into(), ..Default::default() }),
        Value::FinalizeBlock(abci::RequestFinalizeBlock { txs, height: 1, ..Default::default() }),
        Value::Commit(abci::RequestCommit {}),
    ] {
        writer.push(&Request { value: Some(value) })?;
    }
    writer.flush()?;
    drop(writer);
    seeds.put("abci_frames", frames)
}

/// Between worker and parameter server.
fn work(seeds: &Seeds) -> Anything<()> {
    let run = WORLD.run(0, 4, 1);
    let receipt = WORLD.receipt(0, 0, &run, BatchPart::Micro(0));
    let assignment = Assignment {
        job: WORLD.job(),
        epoch: 0,
        step: 0,
        first: 0,
        count: 4,
        attempt: 1,
        id: receipt.body.assignment,
        parameters: Digest([2; 32]),
        patience_ms: 1_000,
    };
    let pull = Pull {
        certificate: receipt.body.certificate.clone(),
        sequence: 1,
        most_micro_batches: 4,
        speed: 100,
        device: "avx2 x2".into(),
    };
    seeds
        .put("work_messages", borsh::to_vec(&Signed::sign(&WORLD.chain, pull, &WORLD.work_key))?)?;
    let log = LogRequest { receipt: receipt.body.id(), assignment: assignment.clone() };
    for reply in [PullReply::Nothing, PullReply::Work(assignment), PullReply::Log(log)] {
        seeds.put("work_messages", borsh::to_vec(&reply)?)?;
    }
    let telemetry = Telemetry {
        what: "batch".into(),
        nanoseconds: 5,
        millijoules: Some(7),
        device: "cpu".into(),
    };
    let certificate: Signed<WorkKeyCertificate> = receipt.body.certificate.clone();
    let log = FullLog { receipt: receipt.body.id(), records: vec![] };
    let log = Signed::sign(&WORLD.chain, log, &WORLD.work_key);
    seeds.put("work_messages", borsh::to_vec(&(certificate, log))?)?;
    let leaf = LeafResult {
        receipt,
        salt: Salt(Digest([5; 32])),
        records: vec![],
        telemetry: vec![telemetry],
        loss: 1.5,
    };
    let result = WorkResult {
        assignment: Digest([1; 32]),
        leaves: vec![leaf],
        payload: Digest::of_bytes(b"payload"),
    };
    seeds.put("work_messages", ResultMessage { result, payload: b"payload".into() }.to_bytes())?;
    seeds.put("work_messages", borsh::to_vec(&vec![vec![1u32, 2], vec![]])?)?;
    for text in [
        WORLD.owner.public().address().to_string(),
        WORLD.job().to_string(),
        "#3".into(),
        "update".into(),
        "01-52-54-00-12-34-56".into(),
        "10.0.0.100-10.0.0.199".into(),
        "http://[fe80::1]:8080/base".into(),
        "4C4C4544-0043-4D10-8051-B4C04F4D5A32".into(),
    ] {
        seeds.put("identifiers", text)?;
    }
    Ok(())
}

/// Catalogues, corpora, tokenizers.
fn texts(seeds: &Seeds) -> Anything<()> {
    let header =
        "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=n != 1;\n";
    let latin = "Content-Type: text/plain; charset=ISO-8859-15\n";
    let mut labels: Vec<(Vec<u8>, Vec<u8>)> = (0..9)
        .map(|i| (format!("_Save {i}").into(), format!("{i} &Sichern (_S)").into()))
        .collect();
    labels.insert(0, (vec![], header.into()));
    labels.push((b"menu\x04Open %s\n\nNow".to_vec(), "Öffne %s\n\nJetzt".into()));
    labels.push((b"%d file\0%d files".to_vec(), b"%d Datei\0%d Dateien".to_vec()));
    let price = vec![(vec![], latin.into()), (b"price".to_vec(), b"\xa4 \xfc".to_vec())];
    for order in [u32::to_le_bytes, u32::to_be_bytes] {
        seeds.put("catalogue", catalogue(&labels, order))?;
        seeds.put("catalogue", catalogue(&price, order))?;
    }
    for rule in [
        "nplurals=2; plural=n != 1;",
        "n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2",
        "nplurals=4; plural=(n%100==1 ? 1 : n%100==2 ? 2 : n%100==3 || n%100==4 ? 3 : 0);",
        "!(n==1)",
    ] {
        seeds.put("plural_rule", rule)?;
    }
    let corpus = grammar::corpus(1, 300);
    seeds.put("corpus", grammar::corpus(1, 12).to_tsv())?;
    seeds.put("corpus", "The <b>dog</b> %s\nTwo &lt;\0Der Hund %s\nZwei &lt;")?;
    let texts = || corpus.pairs().iter().flat_map(|pair| [&pair.source[..], &pair.target[..]]);
    for pieces in [260, 320] {
        let tokenizer = Tokenizer::train(texts(), pieces)?;
        seeds.put("tokenizer_file", tokenizer.to_json()?)?;
    }
    texts().take(6).try_for_each(|text| seeds.put("tokenizer_text", text))?;
    let ids = [(vec![3, 4, 5], vec![6]), (vec![7], vec![8, 9])];
    for vocabulary in [10, 100_000] {
        seeds.put("encoded_corpus", Encoded::pairs(vocabulary, &ids)?.to_bytes())?;
        let sentences =
            Encoded::sentences(vocabulary, Salt(Digest([9; 32])), &[vec![3], vec![4, 5]])?;
        seeds.put("encoded_corpus", sentences.to_bytes())?;
    }
    seeds.put("settings", cli::job_file::EXAMPLE)?;
    seeds.put("settings", include_str!("../../image/image.toml"))?;
    seeds.put(
        "settings",
        "interface = \"eth0\"\ndhcp = \"full\"\npool = \"10.0.0.1-10.0.0.9\"\nlease-seconds = 600\n\
         console = [\"ttyS0\"]\n[machine.\"52:54:00:12:34:56\"]\nname = \"bear\"\n",
    )
}

/// A catalogue as msgfmt lays it out.
fn catalogue(texts: &[(Vec<u8>, Vec<u8>)], order: fn(u32) -> [u8; 4]) -> Vec<u8> {
    let count = texts.len() as u32;
    let mut words = vec![0x9504_12de, 0, count, 28, 28 + 8 * count, 0, 28 + 16 * count];
    let mut strings: Vec<u8> = Vec::new();
    for text in texts.iter().map(|text| &text.0).chain(texts.iter().map(|text| &text.1)) {
        words.extend([text.len() as u32, 28 + 16 * count + strings.len() as u32]);
        strings.extend(text);
        strings.push(0);
    }
    words.into_iter().flat_map(order).chain(strings).collect()
}

/// Models and optimisers, of the smallest shape.
fn models(seeds: &Seeds) -> Anything<()> {
    seeds.put("model_file", Parameters::initial(&WORLD_SHAPE, 1)?.to_safetensors()?)?;
    seeds.put("model_file", optimiser::State::new(&WORLD_SHAPE)?.to_bytes()?)
}

/// What packages hold.
fn packages(seeds: &Seeds) -> Anything<()> {
    let module = elf(b"alias=pci:v00001AF4d*\0depends=failover\0firmware=x.fw\0");
    seeds.put("elf", &module)?;
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options)?;
    writer.write_all(&module)?;
    seeds.put("module_xz", writer.finish()?)?;
    seeds.put(
        "module_tables",
        "kernel/a/nic.ko\nalias=pci:v00001AF4d*\ndepends=phy-lib,mdio\nsoftdep=pre: real gone\n\n\
         kernel/b/phy-lib.ko\ndepends=mdio\n\nkernel/c/mdio.ko\nalias=mdio:*\n\n\
         kernel/d/real.ko\ndepends=phy_lib\n",
    )?;
    let digest = "ab".repeat(32);
    for (switch, text) in [
        (0, "deb [arch=amd64 signed-by=/a.gpg] http://archive.example/debian bookworm main contrib # x\n".to_string()),
        (1, "Types: deb\nURIs: http://archive.example/debian\nSuites: bookworm bookworm-security\nComponents: main\nTrusted: yes\nSigned-By:\n -----BEGIN\n .\n x\n".to_string()),
        (1, format!("Package: a\nVersion: 1\nDepends: b\nFilename: pool/a.deb\nSize: 5\nSHA256: {digest}\n\n")),
    ] {
        seeds.put("packages", [&[switch][..], text.as_bytes()].concat())?;
    }
    let deb = "!<arch>\ndebian-binary   1782769072  0     0     100644  4         `\n2.0\n";
    seeds.put("packages", deb)?;
    seeds.put("image_tree", "\x01/usr/bin/compute\n\x03/init\n\0/proc\n\x02/dev/console\n")
}

/// A small ELF file: an interpreter, a library that is needed, and a `.modinfo`.
fn elf(modinfo: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let mut body: Vec<u8> = Vec::new();
    let mut put = |bytes: &[u8]| {
        let at = HEADERS + body.len() as u64;
        body.extend(bytes);
        (at, bytes.len() as u64)
    };
    let interpreter = put(b"/lib64/ld-linux-x86-64.so.2\0");
    let strings = put(b"\0libc.so.6\0");
    let words =
        |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let dynamic = put(&words(&[1, 1, 0, 0]));
    let modinfo = put(modinfo);
    let names = put(b"\0.dynstr\0.dynamic\0.modinfo\0.shstrtab\0");
    let table = HEADERS + body.len() as u64;

    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0".to_vec();
    file.extend(words(&[0, 64, table]));
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 5, 0, 4, 0]);
    file.extend([3, 0, 0, 0, 4, 0, 0, 0]);
    file.extend(words(&[interpreter.0, 0, 0, interpreter.1, interpreter.1, 1]));
    file.extend(body);
    let mut section = |name: u32, kind: u32, place: (u64, u64), link: u32, entry: u64| {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(words(&[0, 0, place.0, place.1]));
        file.extend(link.to_le_bytes());
        file.extend([0; 4]);
        file.extend(words(&[1, entry]));
    };
    section(0, 0, (0, 0), 0, 0);
    section(1, 3, strings, 0, 0);
    section(9, 6, dynamic, 1, 16);
    section(18, 1, modinfo, 0, 0);
    section(27, 3, names, 0, 0);
    file
}

/// What a kernel and firmware tell PID 1.
fn machine(seeds: &Seeds) -> Anything<()> {
    for input in [
        "alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\0pci:v00008086d000010D3sv0sd0bc02sc00i00\0\
         kernel/e1000e.ko: kernel/a.ko\nkernel/a.ko: kernel/e1000e.ko\0softdep e1000e pre: a post: b",
        "v[0-9A-F]d*\\*?\0vAd1*x",
        "a*b?c\0aXXbYc",
    ] {
        seeds.put("modalias", input)?;
    }
    seeds.put(
        "command_line",
        "initrd=x console=ttyS0 BOOTIF=01-52-54-00-12-34-56 alia.chain=\"a b\" alia.probe",
    )?;
    seeds.put("command_line", "alia.provisioner=http://[fe80::1]:80/x")?;
    let files = [
        "processor\t: 0\nmodel name\t: QEMU\nflags\t\t: fpu fma avx2\n\nprocessor\t: 1\n",
        "MemTotal:         490000 kB\n",
        "6.12\n",
        "{\"version\":\"0.1.0\",\"kernel_release\":\"6.12\",\"unix_time\":1772323200}",
        "QEMU\n",
        "Standard PC\u{7}\n",
        "x",
        "AB3F",
        "SeaBIOS",
        "0x1af4\n",
        "0x1000\n",
        "0x020000\n",
        "pci:v00001AF4d1\n",
        "52:54:00:12:34:56\n",
        "1\n",
        "0x1af4\n",
        "2048\n",
        "Disk X \n",
        "0\n",
        "402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe\n",
        "alias pci:v00001AF4d* virtio_pci\n",
        "kernel/virtio_pci.ko: kernel/virtio.ko\nkernel/virtio.ko:\n",
        "softdep virtio_pci pre: virtio\n",
        "Vulnerable; SMT vulnerable\n",
        "0bda\n",
        "8153\n",
        "02\n",
        "06\n",
        "acpi:MSFT0101:\n",
        "virtio_net",
    ];
    seeds.put("node_api", "/v1/logs?lines=5&follow=1")?;
    seeds.put("node_api", "6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n")?;
    seeds.put("node_api", mtls::certificate::of(&WORLD.worker))?;
    seeds.put("node_api", format!("{}@[fd00::3]:7443", WORLD.worker.public()))?;
    seeds.put("node_api", format!("{}:reader", WORLD.worker.public()))?;
    let stats = [
        "cpu  1 2 3 4 5 6 7 8",
        "0.05 1.50 12.00 1/99 123",
        "MemTotal: 1000 kB\nMemAvailable: 600 kB",
        "oom_kill 2",
        "eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0",
        "coretemp",
        "45000",
        "Package id 0",
        "7 (compute) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 3 0 120 900000 2048",
        "Uid:\t900\t900\t900\t900",
        "0::/compute",
    ];
    seeds.put("node_api", stats.join("\0"))?;
    seeds.put(
        "uevents",
        "add@/devices/pci0000:00/0000:00:04.0;ACTION=add;SUBSYSTEM=pci;MODALIAS=pci:v00008086d1\0remove@/x",
    )?;
    seeds.put(
        "command_line",
        "alia.net=nic=52:54:00:12:34:56+52:54:00:12:34:57,bond=802.3ad,vlan=42,ip=10.1.2.3/24,gateway=10.1.2.1",
    )?;
    seeds.put("hardware", files.join("\0"))?;
    let counted = [
        "1 (init) S 0 1 1 0 -1 4194560 100 0 0",
        "57 (a) (b) R 1 57 57 0 -1 4194304 100 0 0",
        "  sl  local_address rem_address   st\n   0: 00000000:1D13 00000000:0000 0A 00\n",
        "   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00",
        "   9: 00000000:0044 00000000:0000 07",
    ];
    seeds.put("census", counted.join("\0"))?;
    let crashes = [
        "efi_pstore-176373000101001",
        "Panic#1 Part1\n<0>[   12.4] Kernel panic - not syncing: Attempted to kill init!\n",
        "efi_pstore-176373000102001",
        "Panic#1 Part2\n<6>[    0.0] Linux\n",
        "erst-7.enc.z",
        "Oops#1 Part1\nBUG: bad page\n",
    ];
    seeds.put("crashes", crashes.join("\0"))?;
    let reading = |corrected, uncorrected| {
        let reading = Reading {
            address: "0000:01:00.0".into(),
            name: "NVIDIA X".into(),
            memory_bytes: 1 << 34,
            persistent: Some(true),
            ecc: Some(Ecc { corrected, uncorrected }),
            milliwatts: Some(250_000),
            millidegrees: Some(61_000),
        };
        serde_json::to_string(&reading)
    };
    seeds.put("card_readings", format!("a warning\n{}\0{}\n", reading(1, 0)?, reading(3, 1)?))
}
