//! What miners do: register a medium, and get it.

use crate::{
    Driver, is_whole,
    site::{Site, chain, key},
};
use protocol::medium::{Record, TokenState, blank, fill};
use provisioner::timeline::unix_ms;
use std::{fs, time::Duration};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn a_miner_registers_with_what_alia_signed_and_downloads_the_medium() {
    let nobodys = [vec![7; 5_000], blank(), vec![8; 99]].concat();
    let image = tempfile::tempdir().unwrap();
    let path = image.path().join("medium.img");
    fs::write(&path, &nobodys).unwrap();
    let site = Site::start_with(|options| options.medium = Some(path)).await;
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    let folder = tempfile::tempdir().unwrap();
    browser.downloads(folder.path()).await;
    let base = site.secure().await;
    browser.open(&base).await;
    browser.click("a[href='/miners']").await;
    // The key to sign for is on the page.
    let ours = key(8).public();
    browser.until(&ours.to_string()).await;
    browser.shot("miners").await;
    is_whole(&browser, "miners").await;
    browser.type_into("#registration", "nonsense").await;
    browser.click("form button").await;
    browser.until("paste all of what").await;
    browser.shot("miners-refused").await;
    browser.log().await;

    // What `alia medium sign` prints.
    let signed = || {
        let record = cli::medium::sign(&chain(), &key(1), ours, unix_ms() / 1_000, 3_600).unwrap();
        let text = serde_json::to_string(&record.to_text()).unwrap();
        (record, text)
    };
    let (record, text) = signed();
    browser.open(&format!("{base}/miners")).await;
    browser.type_into("#registration", &text).await;
    browser.click("form button").await;
    let mut wanted = nobodys.clone();
    fill(&mut wanted, &record).unwrap();
    let file = folder.path().join("alia-medium.img");
    for _ in 0..100 {
        if fs::read(&file).is_ok_and(|bytes| bytes.len() == wanted.len()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let got = fs::read(&file).unwrap();
    assert!(got == wanted, "the medium, with the record in it");
    assert_eq!(Record::from_bytes(&got[5_000..9_096]).unwrap().unwrap().granted, record.granted);

    // Another one is registered alone, and both are the owner's.
    browser.open(&format!("{base}/miners")).await;
    browser.type_into("#registration", &signed().1).await;
    browser.click("button[formaction='/miners']").await;
    browser.until("waits for its first use").await;
    let owner = key(1).public().address();
    browser.open(&format!("{base}/miners/{owner}")).await;
    browser.until(&record.granted.grant.body.token.to_string()).await;
    browser.shot("miners-owner").await;
    is_whole(&browser, "miners").await;
    let store = &site.running.store;
    let kept = tokio::task::block_in_place(|| store.media_of(&owner, unix_ms())).unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|token| token.state == TokenState::Issued));
}
