//! What operators do to machines.

use crate::{
    Driver, is_whole, signed_in,
    site::{MAC, OTHER, Site, enrol, key},
};
use protocol::{boot::StageState, fleet::MachineState};
use reqwest::StatusCode;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn an_operator_approves_and_bars_and_seeks_with_a_mouse() {
    let site = Site::start().await;
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    let base = site.secure().await;
    browser.open(&base).await;
    browser.until("None yet.").await;
    browser.shot("overview-empty").await;
    // It appears by itself: nobody loads the page again.
    site.boots(MAC).await;
    browser.until("node-aa0001").await;
    site.waits(OTHER, 2).await;
    browser.until("Need somebody").await;
    browser.shot("overview").await;
    is_whole(&browser, "overview").await;
    browser.click("nav a[href='/approvals']").await;
    browser.until(&key(2).public().to_string()).await;
    browser.click("a[href='/sign-in?to=/approvals']").await;
    browser.type_into("#token", "alia-operator-wrong").await;
    browser.click("main button").await;
    browser.until("nobody's, or was revoked").await;
    browser.shot("sign-in-refused").await;
    browser.type_into("#token", site.token()).await;
    browser.click("main button").await;
    browser.until("Approve node-aa0002").await;
    browser.shot("approvals").await;
    is_whole(&browser, "approvals").await;
    browser.click("main button").await;
    browser.until("Nobody waits").await;
    site.until(OTHER, MachineState::Approved).await;
    browser.open(&format!("{base}/machines/{MAC}")).await;
    browser.click("#ask-quarantine summary").await;
    browser.shot("machine-asks-once-more").await;
    browser.click("details[open] button").await;
    browser.until("by operator first").await;
    site.until(MAC, MachineState::Quarantined).await;
    is_whole(&browser, "machine").await;
    browser.open(&base).await;
    browser.type_into("input[name=search]", "aa0002").await;
    browser.click("form.search button").await;
    browser.until("node-aa0002").await;
    assert!(!browser.text().await.contains("node-aa0001"));
    assert!(browser.address().await.contains("search=aa0002"));
    browser.click("header form button").await;
    browser.until("Sign in").await;
    browser.open(&format!("{base}/machines/{MAC}")).await;
    assert!(!browser.text().await.contains("Release node"), "signed out");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn an_operator_drains_reimages_releases_retires_and_revokes() {
    let site = Site::start().await;
    site.works(MAC, 1).await;
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    signed_in(&browser, &site, &format!("/machines/{MAC}")).await;
    browser.until("NVIDIA H100 PCIe").await;
    browser.shot("machine").await;
    is_whole(&browser, "machine").await;
    browser.click("#ask-drain summary").await;
    browser.click("#ask-drain button").await;
    browser.until("Let node-aa0001 work again").await;
    site.until(MAC, MachineState::Draining).await;
    browser.until("Waits for the end of the work that it has").await;
    browser.shot("machine-draining").await;
    browser.click("#do-release-52\\:54\\:00\\:aa\\:00\\:01 button").await;
    browser.until("draining -> ready").await;
    site.until(MAC, MachineState::Ready).await;
    browser.click("#ask-reimage summary").await;
    browser.click("#ask-reimage button").await;
    browser.until("ready -> re-imaging").await;
    site.until(MAC, MachineState::Reimaging).await;
    // What it does then is on the page by itself.
    site.boots(MAC).await;
    browser.until("re-imaging -> booting").await;
    assert_eq!(site.asks(enrol(MAC, 9, "Example CPU 9000"), 1).await, StatusCode::OK);
    site.stages(MAC, (9, Some(1)), &[("root", StageState::Retrying)]).await;
    browser.until("tries again").await;
    site.stages(MAC, (9, Some(1)), &[("root", StageState::Retrying), ("stands", StageState::Done)])
        .await;
    // What is pressed is meant for the state that stands above it.
    browser.until_is("#title .stands", "ready").await;
    browser.click("#ask-quarantine summary").await;
    browser.click("#ask-quarantine button").await;
    browser.until("Release node-aa0001").await;
    site.until(MAC, MachineState::Quarantined).await;
    browser.click("button.first").await;
    browser.until("quarantined -> discovered").await;
    site.until(MAC, MachineState::Discovered).await;
    browser.click("#ask-revoke summary").await;
    browser.shot("machine-revoke").await;
    browser.click("#ask-revoke button").await;
    browser.until("was revoked by operator first").await;
    let revoked = tokio::task::block_in_place(|| site.running.store.is_revoked(&key(1).public()));
    assert!(revoked.unwrap());
    assert!(!browser.text().await.contains("Revoke key"), "it is done");
    let again = enrol(MAC, 10, "Example CPU 9000");
    assert_eq!(site.asks(again, 1).await, StatusCode::FORBIDDEN);
    browser.click("#ask-retire summary").await;
    browser.click("#ask-retire button").await;
    browser.until("Restore node-aa0001").await;
    site.until(MAC, MachineState::Retired).await;
    browser.click("button.first").await;
    browser.until("retired -> discovered").await;
    site.until(MAC, MachineState::Discovered).await;
    is_whole(&browser, "machine").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn the_queue_grows_by_itself_and_says_what_changed_and_what_was_seen_is_approved() {
    let site = Site::start().await;
    site.works(MAC, 1).await;
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    signed_in(&browser, &site, "/approvals").await;
    browser.until("Nobody waits").await;
    browser.shot("approvals-empty").await;
    site.boots(MAC).await;
    assert_eq!(site.asks(enrol(MAC, 9, "Another CPU"), 1).await, StatusCode::FORBIDDEN);
    browser.until("processor: Example CPU 9000 -> Another CPU").await;
    browser.shot("approvals-changed").await;
    is_whole(&browser, "approvals").await;
    // Another key comes while somebody has the button in hand: what he read is meant.
    browser.script("document.querySelector('main button').focus()").await;
    assert_eq!(site.asks(enrol(MAC, 9, "Another CPU"), 3).await, StatusCode::FORBIDDEN);
    browser.until(&key(3).public().to_string()).await;
    let focus = browser.script("return document.activeElement.textContent").await;
    assert_eq!(focus, "Approve node-aa0001");
    browser.keys("\u{E007}").await;
    browser.until("nothing was done").await;
    site.until(MAC, MachineState::Pending).await;
    assert_eq!(site.machine(MAC).await.machine.pending, Some(key(3).public()));
    // The message stays, while what is below it goes on.
    site.says(MAC, 0..3);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(browser.text().await.contains("nothing was done"));
    browser.shot("machine-changed-meanwhile").await;
    browser.click("button.first").await;
    browser.until("pending -> approved").await;
    site.until(MAC, MachineState::Approved).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn what_somebody_types_opens_and_marks_outlives_what_happens_meanwhile() {
    let site = Site::start().await;
    site.works(MAC, 1).await;
    site.says(MAC, 0..30);
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    let base = site.secure().await;
    signed_in(&browser, &site, &format!("/machines/{MAC}")).await;
    browser.click("#ask-retire summary").await;
    browser.type_into("#console input[name=search]", "half a wo").await;
    let first = browser.script("return document.querySelector('#timeline td').textContent").await;
    site.boots(MAC).await;
    browser.until("ready -> booting").await;
    site.measures(MAC);
    browser.until("booting -> ready").await;
    let now = browser
        .script("return [document.querySelector('#console input[name=search]').value,
            document.querySelector('#ask-retire').open, document.activeElement.name,
            document.querySelector('#timeline td').textContent, document.querySelectorAll('#lines li:not(.gap)').length]")
        .await;
    assert_eq!(now[0], "half a wo");
    assert_eq!(now[1], true);
    assert_eq!(now[2], "search");
    assert_ne!(now[3], first, "the timeline went on");
    assert_eq!(now[4], 30);
    browser.keys("rd").await;
    let typed = "return document.querySelector('#console input[name=search]').value";
    assert_eq!(browser.script(typed).await, "half a word");
    // On the overview too, where a list moves under the hand.
    browser.open(&base).await;
    browser.type_into("input[name=search]", "aa00").await;
    browser.script("document.querySelector('#machines h3 a').focus()").await;
    site.boots("52:54:00:aa:00:00").await;
    browser.until("node-aa0000").await;
    let now = browser
        .script("return [document.querySelector('input[name=search]').value,
            document.activeElement.textContent, document.querySelector('#machines h3 a').textContent]")
        .await;
    assert_eq!(now, serde_json::json!(["aa00", "node-aa0001", "node-aa0000"]));
    is_whole(&browser, "overview").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn long_lists_page_and_filter_by_their_urls() {
    let site = Site::start().await;
    for n in 1..=60 {
        site.boots(&format!("52:54:00:aa:00:{n:02x}")).await;
    }
    for _ in 0..30 {
        site.boots(MAC).await;
    }
    site.says(MAC, 0..250);
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    let base = site.secure().await;
    browser.open(&base).await;
    browser.until("60 discovered").await;
    assert!(!browser.text().await.contains("node-aa003c"));
    browser.click("a[rel=next]").await;
    browser.until("node-aa003c").await;
    let next = browser.address().await;
    assert!(next.contains("after="), "{next}");
    let text = browser.text().await;
    assert!(!text.contains("node-aa0001"), "{text}");
    // The address is all that there is to know: opened again it shows the same.
    browser.open("about:blank").await;
    browser.open(&next).await;
    browser.until("node-aa003c").await;
    browser.click("select[name=state] option[value=ready]").await;
    browser.click("form.search button").await;
    browser.until("None of 60 is so.").await;
    browser.shot("overview-nothing-found").await;
    assert!(browser.address().await.contains("state=ready"));
    browser.click("a[href='/']").await;
    // A machine's timeline, and its console.
    browser.open(&format!("{base}/machines/{MAC}")).await;
    browser.click("#timeline select option[value=http]").await;
    browser.click("#timeline button").await;
    browser.until("Newest of all").await;
    assert!(browser.address().await.contains("event=http"));
    browser.open(&format!("{base}/machines/{MAC}?skip=30")).await;
    let skipped =
        browser.script("return document.querySelectorAll('#timeline tbody tr').length").await;
    let all = site.machine(MAC).await.timeline.len();
    assert_eq!(skipped, all.saturating_sub(30).min(50));
    browser.type_into("#console input[name=search]", "number 24").await;
    browser.click("#console button").await;
    browser.until("usb 1-24:").await;
    assert!(browser.address().await.contains("search=number+24"));
    assert!(!browser.text().await.contains("usb 1-239:"));
    is_whole(&browser, "lists").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn an_operator_reads_a_console_as_it_comes() {
    let site = Site::start().await;
    site.boots(MAC).await;
    site.says(MAC, 0..250);
    site.measures(MAC);
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    let base = site.secure().await;
    browser.open(&base).await;
    browser.until("of 1 machines that measure it").await;
    browser.open(&format!("{base}/machines/{MAC}")).await;
    browser.until("usb 1-249: new high-speed <b>device</b>").await;
    browser.until("61 °C").await;
    // What comes is there by itself.
    site.says(MAC, 252..260);
    browser.until("usb 1-259:").await;
    assert!(browser.text().await.contains("lines are missing here"));
    browser.shot("console").await;
    is_whole(&browser, "console").await;
    browser.click("a[rel=prev]").await;
    browser.until("usb 1-1:").await;
}
