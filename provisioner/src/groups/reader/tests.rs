use super::{super::text, *};
use proptest::prelude::*;
use protocol::{ChainId, SecretKey};
use serde_json::json;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn chain() -> ChainId {
    "alia-test".parse().unwrap()
}

fn site() -> Site {
    Site {
        chain: Some(chain()),
        key: Some(key(8).public()),
        flavours: vec!["gpu".into()],
        quirks: vec!["https-only".into()],
    }
}

fn delegation(to: u8) -> Json {
    let body = Delegation { delegate: key(to).public() };
    serde_json::to_value(Signed::sign(&chain(), body, &key(7))).unwrap()
}

fn whole() -> Json {
    json!({
        "defaults": { "scratch": "disk" },
        "owner": { "anna": delegation(8) },
        "group": { "rack-7": {
            "about": "by the window", "labels": { "site": "b" }, "flavour": "gpu", "owner": "anna",
            "jobs": ["http://10.0.0.1:7000"], "kernel-arguments": ["quiet"], "quirks": ["https-only"],
            "network": "vlan=42,ip=dhcp", "scratch": { "erase": "nvme-A_1" }, "boot-method": "boot-server",
            "replace-ipxe": true, "https": false, "blksize": 1024, "window": 2, "rate": 10_000,
            "peers": false, "peer-rate": 200_000, "site": "10.0.0.0/16",
        } },
        "machine": { "52:54:00:AA-00-01": { "name": "r7", "groups": ["rack-7"], "labels": { "u": "4" } } },
        "rule": { "new": {
            "serials": ["S-1"], "macs": ["52-54-00"], "nodes": [key(1).public()],
            "expires": "2030-01-01T00:00:00Z", "limit": 3, "group": "rack-7", "labels": { "by": "rule" },
        } },
    })
}

#[test]
fn every_key_is_taken_and_an_export_is_read_as_it_was() {
    let document = document(&whole(), &site()).unwrap();
    let group = &document.group["rack-7"];
    // All keys but the one that is a machine's alone.
    assert_eq!(group.values.len() + 1, KEYS.len());
    assert_eq!(document.machine.keys().collect::<Vec<_>>(), ["52:54:00:aa:00:01"]);
    assert_eq!(document.rule["new"].macs, ["52:54:00"]);
    let placed = Placed { rule: "new".into(), group: Some("rack-7".into()), labels: Labels::new() };
    let all = Everything { document, placed: [("52:54:00:aa:00:02".to_string(), placed)].into() };
    for format in [text::Format::Toml, text::Format::Json] {
        let written = text::write(&all, format).unwrap();
        assert_eq!(text::Format::of(&written), format, "{written}");
        let read = everything(&text::parse(&written, format).unwrap(), &site()).unwrap();
        assert_eq!(read, all, "{written}");
        assert_eq!(text::write(&read, format).unwrap(), written);
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_what_was_meant() {
    let wrong = json!({
        "grupo": {},
        "defaults": { "name": "all", "window": 0, "netwrk": "ip=dhcp" },
        "owner": { "anna": delegation(9), "bert": delegation(8) },
        "group": { "rack 7": {}, "rack-8": { "flavour": "gpv", "owner": "ana", "jobs": "some" } },
        "machine": {
            "52:54:00:aa:00:01": { "groups": ["rack-9", "rack-8", "rack-8"], "nmae": "x" },
            "nonsense": {},
            "01:00:5e:00:00:01": {},
        },
        "rule": { "open": {}, "odd": { "serials": "S", "macs": ["zz"], "until": 1, "group": "rack-8" } },
    });
    let mistakes = document(&wrong, &site()).unwrap_err();
    let told = mistakes.to_string();
    for part in [
        "the key \"grupo\" is unknown: did you mean \"group\"?",
        "defaults.name: this is a single machine's alone",
        "defaults.window: window outside 1 to 64",
        "defaults: the key \"netwrk\" is unknown: did you mean \"network\"?",
        "owner.anna: it is to key",
        "group.rack 7: a name of 1 to 40",
        "there is no flavour \"gpv\": did you mean \"gpu\"?",
        "there is no owner \"ana\": did you mean \"anna\"?",
        "group.rack-8.jobs: \"all\", \"none\"",
        "there is no group \"rack-9\": did you mean \"rack-8\"?",
        "at most 16 groups are taken, each once",
        "the key \"nmae\" is unknown: did you mean \"name\"?",
        "machine.nonsense: \"nonsense\" is not a MAC address",
        "no single machine's",
        "rule.open: it fits every machine",
        "rule.odd.serials: invalid type",
        "\"zz\" is no MAC prefix",
        "rule.odd: the key \"until\" is unknown",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert!(!told.contains("owner.bert"), "{told}");
    let lines = told.lines().count() - 1;
    assert!(told.starts_with(&format!("nothing of it was taken, for {lines} mistakes")), "{told}");
}

#[test]
fn a_document_is_bounded_and_so_is_what_is_told_of_it() {
    let many = |n: usize, value: Json| -> Json {
        let all = (0..n).map(|n| (format!("g{n}"), value.clone()));
        json!({ "group": all.collect::<serde_json::Map<_, _>>() })
    };
    let told = document(&many(MAX_GROUPS + 1, json!({})), &site()).unwrap_err().to_string();
    assert!(told.contains("at most 256"), "{told}");
    let mistakes = document(&many(MAX_GROUPS, json!({ "x": 1 })), &site()).unwrap_err();
    assert_eq!((mistakes.told.len(), mistakes.more), (MAX_MISTAKES, MAX_GROUPS - MAX_MISTAKES));
    let long = json!({ "group": { "g": { "about": "x".repeat(MAX_DOCUMENT_LEN) } } });
    assert!(document(&long, &site()).unwrap_err().to_string().contains("bytes: at most"));
    assert!(document(&json!([]), &site()).is_err());
    assert!(document(&json!({ "placed": {} }), &site()).is_err(), "rules place, and imports");
}

#[test]
fn a_time_of_toml_is_one() {
    let read = text::parse(
        "[rule.a]\nserials = ['S']\nexpires = 2030-01-01T00:00:00Z",
        Default::default(),
    );
    let document = document(&read.unwrap(), &site()).unwrap();
    assert_eq!(document.rule["a"].expires.as_deref(), Some("2030-01-01T00:00:00Z"));
}

proptest! {
    #[test]
    fn what_is_taken_is_taken_again_as_it_is_kept(
        window in 0_u16..70, name in "[a-z0-9 -]{0,45}", about in ".{0,20}", group in "[a-z]{1,2}",
    ) {
        let json = json!({
            "group": { name.as_str(): { "window": window, "about": about } },
            "machine": { "52:54:00:aa:00:01": { "groups": [group] } },
        });
        if let Ok(taken) = document(&json, &site()) {
            let kept = serde_json::to_value(&taken).unwrap();
            prop_assert_eq!(document(&kept, &site()).unwrap(), taken);
        }
    }
}
