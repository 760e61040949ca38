//! What operators ask of machines, and what becomes of those.

use super::*;
use protocol::fleet::MachineState;
use provisioner::access::Token;
use serde_json::{Value, json};

impl Site {
    pub(crate) async fn ask(&self, token: &str, mac: &str, what: &str) -> (StatusCode, Value) {
        let url = format!("{}/v1/machines/{mac}/state", self.url);
        let request = self.client.post(url).bearer_auth(token).json(&json!({ "do": what }));
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    pub(crate) async fn state(&self) -> MachineState {
        self.machine(MAC).await.machine.life.state
    }
}

fn stands() -> BootEvent {
    event(7, "stands", StageState::Done, 9_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_act_and_their_tokens_are_shown_once() {
    let site = start(|_| {}).await;
    let token = site.running.token.as_ref().unwrap().reveal().to_string();
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
    let (status, problem) = site.ask(&token, MAC, "quarantine").await;
    assert_eq!((status, &problem["state"]), (StatusCode::OK, &json!("quarantined")));
    let strangers =
        [String::new(), format!("{token}0"), Token::generate().unwrap().reveal().into()];
    for stranger in strangers {
        let (status, problem) = site.ask(&stranger, MAC, "release").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(problem["detail"].as_str().unwrap().contains("provisioner token add"), "{problem}");
    }
    assert_eq!(site.state().await, MachineState::Quarantined);
    let detail = site.machine(MAC).await;
    assert!(detail.timeline[0].text.ends_with("by operator first"), "{:?}", detail.timeline[0]);
    assert!(!format!("{detail:?}").contains(&token));
    let again = restart(site.folder, |_| {}).await;
    assert!(again.running.token.is_none(), "shown once");
    assert_eq!(again.ask(&token, MAC, "release").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_in_quarantine_boots_nothing_and_is_not_taken_in_until_it_is_let_out() {
    let site = start(|_| {}).await;
    let token = site.running.token.as_ref().unwrap().reveal().to_string();
    let path = format!("/boot/{MAC}.ipxe?arch=x86_64&platform=efi");
    let script = || site.text(&path);
    assert!(script().await.contains("vmlinuz"));
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
    assert_eq!(site.state().await, MachineState::Booting);
    site.prove(MAC, &key(1), &[stands()]).await.unwrap();
    assert_eq!(site.state().await, MachineState::Ready);
    site.ask(&token, MAC, "quarantine").await;
    let barred = script().await;
    assert!(barred.contains("quarantined") && !barred.contains("vmlinuz"), "{barred}");
    let (status, text) = site.enrol(MAC, enrol(MAC, UUID), &key(1)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("release"), "{text}");
    let again = BootEvent { sequence: 8, ..stands() };
    site.prove(MAC, &key(1), &[again]).await.unwrap();
    assert_eq!(site.state().await, MachineState::Quarantined, "its word does not let it out");
    let (status, problem) = site.ask(&token, MAC, "drain").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("release, retire"), "{problem}");
    assert_eq!(site.ask(&token, MAC, "release").await.0, StatusCode::OK);
    assert!(script().await.contains("vmlinuz"));
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_was_never_taken_in_does_not_stand_whatever_is_said_of_it() {
    let site = start(|_| {}).await;
    assert_eq!(site.report(MAC, &[stands()]).await.0, StatusCode::OK);
    assert_eq!(site.state().await, MachineState::Discovered);
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
    let other = BootEvent { boot_id: Digest([9; 32]), ..stands() };
    assert_eq!(site.report(MAC, &[other]).await.0, StatusCode::OK);
    assert_eq!(site.state().await, MachineState::Booting, "another boot's word");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_waits_is_approved_by_an_operators_word() {
    let site = start(|options| options.approval = Some(How::ByHand)).await;
    let token = site.running.token.as_ref().unwrap().reveal().to_string();
    assert_eq!(site.ask(&token, MAC, "approve").await.0, StatusCode::NOT_FOUND);
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::FORBIDDEN);
    assert_eq!(site.state().await, MachineState::Pending);
    let (status, life) = site.ask(&token, MAC, "approve").await;
    assert_eq!((status, &life["state"]), (StatusCode::OK, &json!("approved")));
    assert_eq!(site.ask(&token, MAC, "nonsense").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
}
