//! What somebody who is not the machine can do to what is known of it. Machines here are at 127.0.0.1.

use super::*;
use protocol::{boot::CrashReport, fleet::MachineState};
use provisioner::script;

/// Somebody at another address.
fn stranger(last: u8) -> Client {
    Client::builder().no_proxy().local_address(IpAddr::from([127, 0, 0, last])).build().unwrap()
}

impl Site {
    /// A machine that works.
    async fn works(&self) {
        assert_eq!(self.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
        let stands = event(7, "stands", StageState::Done, 9_000);
        self.prove(MAC, &key(1), &[stands]).await.unwrap();
        assert_eq!(self.state().await, MachineState::Ready);
    }

    async fn attempt(&self, client: &Client, boot: u8) -> u32 {
        let request = TimeRequest { boot_id: Digest([boot; 32]), ..time_request() };
        let asked = client.post(format!("{}/v1/time", self.url)).json(&request).send().await;
        let answer: Signed<TimeAnswer> = asked.unwrap().json().await.unwrap();
        answer.verify(&chain()).unwrap().attempt
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_script_that_a_stranger_fetched_moves_clears_and_counts_nothing() {
    let site = start(|_| {}).await;
    site.works().await;
    let other = "99999999-5566-7788-99aa-bbccddeeff01";
    // Somebody claims its place: that is told, and stays told.
    assert_eq!(site.enrol(MAC, enrol(MAC, other), &key(2)).await.0, StatusCode::CONFLICT);
    let before = site.machine(MAC).await.machine;
    assert!(before.problem.as_ref().unwrap().contains("two machines"), "{:?}", before.problem);
    let path = format!("{}/boot/{MAC}.ipxe?arch=x86_64&platform=efi", site.url);
    let elsewhere = stranger(66);
    for boot in 10..12 + script::SLOWED as u8 {
        let fetched = elsewhere.get(&path).send().await.unwrap();
        assert_eq!(fetched.status(), StatusCode::OK);
        assert!(!fetched.text().await.unwrap().contains("sleep 600"));
        assert_eq!(site.attempt(&elsewhere, boot).await, 1);
    }
    let after = site.machine(MAC).await;
    assert_eq!(after.machine.life, before.life, "it works");
    assert_eq!((after.machine.problem, after.machine.address), (before.problem, before.address));
    let told = &after.timeline[0].text;
    assert!(told.starts_with("unproven, from 127.0.0.66: boot script"), "{told}");

    // The machine itself is believed: it boots, for the first time in its row.
    site.text(&format!("/boot/{MAC}.ipxe?arch=x86_64&platform=efi")).await;
    let boots = site.machine(MAC).await.machine;
    assert_eq!((boots.life.state, boots.problem), (MachineState::Booting, None));
    assert_eq!(site.attempt(&site.client, 2).await, 1);
    site.text(&format!("/boot/{MAC}.ipxe?arch=x86_64&platform=efi")).await;
    assert_eq!(site.attempt(&site.client, 3).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_says_is_kept_as_unproven_and_gives_no_machine_a_problem() {
    let site = start(|_| {}).await;
    site.works().await;
    let before = site.machine(MAC).await.machine;
    let elsewhere = stranger(66);
    let url = |what: &str| format!("{}/v1/machines/{MAC}/{what}", site.url);
    // A boot that he makes up, whatever it is said to have come to.
    let said = |sequence, stage: &str, state| BootEvent {
        boot_id: Digest([9; 32]),
        ..event(sequence, stage, state, 5)
    };
    let events = [said(0, "stands", StageState::Done), said(1, "power", StageState::Started)];
    let posted = elsewhere.post(url("events")).json(&events).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::OK);
    let nonsense = Signed::sign(&"alia-other".parse().unwrap(), enrol(MAC, UUID), &key(1));
    let posted = elsewhere.post(url("enrol")).json(&nonsense).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::BAD_REQUEST);
    let (reason, text) = ("Kernel panic".into(), "a lie".into());
    let crash = CrashReport { boot_id: Digest([9; 32]), reason, text };
    let posted = elsewhere.post(url("crashes")).json(&crash).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::OK);

    let after = site.machine(MAC).await;
    assert_eq!(after.machine.life, before.life);
    assert_eq!((&after.machine.problem, &after.machine.address), (&None, &before.address));
    assert_eq!(after.machine.boot.unwrap().stages, before.boot.unwrap().stages);
    assert_eq!(after.timeline.iter().filter(|e| e.text.starts_with("unproven")).count(), 4);
    assert!(!after.crashes[0].proven);
    let page = site.text(&format!("/machines/{MAC}")).await;
    assert!(page.contains("unproven: anybody could have sent it"), "{page}");
}
