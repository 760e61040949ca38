//! Who comes in without an operator, who has to ask again, and who gets nowhere.

use super::*;
use protocol::{fleet::MachineState, inventory::Disk};
use reqwest::Method;
use serde_json::{Value, json};

fn of(n: u8, boot: u8, change: impl FnOnce(&mut Inventory)) -> Enrol {
    let mac = format!("52:54:00:aa:00:{n:02}");
    let mut enrol = enrol(&mac, &format!("11223344-5566-7788-99aa-bbccddeeff{n:02}"));
    enrol.boot_id = Digest([boot; 32]);
    enrol.held = Held::UefiVariable;
    enrol.inventory.system.serial = format!("S-{n}");
    enrol.inventory.cpu.model = "EPYC".into();
    change(&mut enrol.inventory);
    enrol
}

fn disk(id: &str) -> Disk {
    Disk { name: "nvme0n1".into(), model: "M".into(), bytes: 1, rotational: false, id: id.into() }
}

async fn by_hand() -> Site {
    start(|options| options.approval = Some(How::ByHand)).await
}

impl Site {
    async fn comes(&self, enrol: Enrol, seed: u8) -> (StatusCode, String) {
        let mac = enrol.mac.clone();
        self.enrol(&mac, enrol, &key(seed)).await
    }

    async fn rule(&self, rule: Value) {
        let response = self.change(Method::PUT, "/v1/rules/new", rule.to_string(), None).await;
        assert_eq!(response.status(), StatusCode::OK, "{}", response.text().await.unwrap());
    }

    async fn command(&self, mac: &str, what: &str) -> StatusCode {
        let url = format!("{}/v1/machines/{mac}/state", self.url);
        let token = self.running.token.as_ref().unwrap().reveal();
        let request = self.client.post(url).bearer_auth(token).json(&json!({ "do": what }));
        request.send().await.unwrap().status()
    }

    async fn told(&self, mac: &str) -> String {
        let detail = self.machine(mac).await;
        detail.timeline.iter().map(|event| format!("{}\n", event.text)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_lets_in_as_many_as_it_says_into_its_group_and_events_name_it() {
    let site = by_hand().await;
    let group = json!({ "network": "vlan=42", "labels": { "site": "b" } });
    site.change(Method::PUT, "/v1/groups/rack", group.to_string(), None).await;
    site.rule(json!({
        "serials": ["S-1", "S-2", "S-3"], "macs": ["52:54:00"], "limit": 2, "group": "rack",
        "labels": { "by": "rule" }, "expires": "2999-01-01T00:00:00Z",
    }))
    .await;
    let (status, text) = site.comes(of(1, 1, |_| ()), 1).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let signed: Signed<NodeConfig> = serde_json::from_str(&text).unwrap();
    assert_eq!(signed.body.network.unwrap().vlan, Some(42), "the group's at once");
    let told = site.told(MAC).await;
    assert!(told.contains("let in by rule new into group rack"), "{told}");
    assert!(told.contains("its key was approved, by rule new"), "{told}");
    let effective: Value = site.json(&format!("/v1/machines/{MAC}/config")).await;
    assert_eq!(effective["groups"], json!(["rack"]));
    assert_eq!(effective["labels"]["by"], json!({ "value": "rule", "from": "rule new" }));
    assert_eq!(effective["labels"]["site"]["from"], json!("group rack"));

    // A key of one boot alone: the same machine with a new one takes no second place.
    assert_eq!(site.comes(of(1, 2, |_| ()), 11).await.0, StatusCode::OK);
    assert_eq!(site.comes(of(4, 4, |_| ()), 4).await.0, StatusCode::FORBIDDEN, "it fits none");
    assert_eq!(site.comes(of(2, 2, |_| ()), 2).await.0, StatusCode::OK);
    let (status, text) = site.comes(of(3, 3, |_| ()), 3).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("rule new has let in its 2 machines"), "{text}");
    let file = site.text("/v1/config/export").await;
    assert!(file.contains("[placed.\"52:54:00:aa:00:02\"]\ngroup = \"rack\""), "{file}");
    let back = site.change(Method::POST, "/v1/config/import", file, None).await;
    assert_eq!(back.json::<Value>().await.unwrap()["changes"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_by_node_keys_lets_in_those_who_hold_them_until_it_is_over() {
    let site = by_hand().await;
    site.rule(json!({ "nodes": [key(1).public(), key(2).public()] })).await;
    assert_eq!(site.comes(of(1, 1, |_| ()), 1).await.0, StatusCode::OK);
    assert_eq!(site.comes(of(3, 3, |_| ()), 3).await.0, StatusCode::FORBIDDEN);
    site.rule(json!({ "nodes": [key(2).public()], "expires": "2020-01-01T00:00:00Z" })).await;
    let (status, text) = site.comes(of(2, 2, |_| ()), 2).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("rule new is over"), "{text}");
    assert_eq!(site.comes(of(1, 5, |_| ()), 1).await.0, StatusCode::OK, "who is in stays in");
    // An operator's word outweighs any rule.
    site.rule(json!({ "nodes": [key(1).public()] })).await;
    assert_eq!(site.command(MAC, "quarantine").await, StatusCode::OK);
    assert_eq!(site.comes(of(1, 6, |_| ()), 1).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_hardware_waits_shows_what_changed_and_its_approval_takes_it() {
    let site = by_hand().await;
    site.rule(json!({ "serials": ["S-1"] })).await;
    let whole = |boot| of(1, boot, |inventory| inventory.disks = vec![disk("nvme-A")]);
    assert_eq!(site.comes(whole(1), 1).await.0, StatusCode::OK);
    let other = |boot| of(1, boot, |inventory| inventory.disks = vec![disk("nvme-B")]);
    let path = format!("/boot/{MAC}.ipxe?arch=x86_64&platform=efi");
    site.text(&path).await;
    let (status, text) = site.comes(other(2), 1).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "neither its key nor the rule lets it in");
    assert!(text.contains("disk nvme-A is gone, disk nvme-B is new"), "{text}");
    let detail = site.machine(MAC).await;
    assert_eq!(detail.machine.life.state, MachineState::Pending);
    assert_eq!(detail.changes, ["disk nvme-A is gone", "disk nvme-B is new"]);
    assert!(site.told(MAC).await.contains("its hardware is not what was approved"));
    let page = site.text(&format!("/machines/{MAC}")).await;
    assert!(page.contains("disk nvme-B is new"), "{page}");

    // What was shown is approved, and no third thing.
    assert_eq!(site.command(MAC, "approve").await, StatusCode::OK);
    let third = of(1, 2, |inventory| inventory.disks = vec![disk("nvme-C")]);
    assert_eq!(site.comes(third, 1).await.0, StatusCode::FORBIDDEN);
    assert_eq!(site.command(MAC, "approve").await, StatusCode::OK);
    let (status, text) = site.comes(other(2), 1).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "the third was shown last: {text}");
    assert_eq!(site.command(MAC, "approve").await, StatusCode::OK);
    assert_eq!(site.comes(other(2), 1).await.0, StatusCode::OK);
    assert!(site.machine(MAC).await.changes.is_empty());
    assert_eq!(site.comes(other(3), 1).await.0, StatusCode::OK, "it is what was approved now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_enrolment_moves_nothing() {
    let site = start(|_| {}).await;
    let (first, second) = (of(1, 1, |_| ()), of(1, 2, |_| ()));
    assert_eq!(site.comes(first.clone(), 1).await.0, StatusCode::OK);
    assert_eq!(site.comes(second.clone(), 1).await.0, StatusCode::OK);
    let stands =
        BootEvent { boot_id: Digest([2; 32]), ..event(7, "stands", StageState::Done, 9_000) };
    site.prove(MAC, &key(1), &[stands]).await.unwrap();
    let before = site.machine(MAC).await.machine;
    assert_eq!(before.life.state, MachineState::Ready);
    // Of the boot that runs it gets the answer again, which says nothing new to whoever recorded it.
    assert_eq!(site.comes(second, 1).await.0, StatusCode::OK);
    let (status, text) = site.comes(first, 1).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("is a recording"), "{text}");
    let after = site.machine(MAC).await.machine;
    assert_eq!((after.life, after.node, after.address), (before.life, before.node, before.address));
}
