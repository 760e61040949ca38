//! Jobs, receipts, and what machines earn by.

use crate::{
    Driver, is_whole,
    site::{MAC, Said, Site, job, key, upstream},
};
use protocol::{Digest, api::JobPhase};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn jobs_and_receipts_and_what_a_machine_earned_are_shown_and_go_on_by_themselves() {
    let said = Said::default();
    said.lock().unwrap().extend((1..=30).map(job));
    let url = upstream(said.clone()).await;
    let site = Site::start_with(|options| {
        options.ledger = vec![url.clone()];
        options.parameter_server = vec![url.clone()];
    })
    .await;
    site.works(MAC, 1).await;
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    let base = site.secure().await;
    browser.open(&base).await;
    browser.until("All 30 jobs").await;
    browser.until("pay for 50 is pending").await;
    browser.shot("overview-work").await;
    is_whole(&browser, "overview").await;
    browser.click("nav a[href='/jobs']").await;
    browser.until("corpus 20 de-en").await;
    assert!(!browser.text().await.contains("corpus 21 de-en"));
    browser.shot("jobs").await;
    browser.click("a[rel=next]").await;
    browser.until("corpus 30 de-en").await;
    browser.click("select[name=phase] option[value=running]").await;
    browser.click("form.search button").await;
    browser.until_gone("corpus 2 de-en").await;
    assert!(browser.address().await.contains("phase=running"));
    // Somebody types while the job goes on.
    browser.type_into("input[name=search]", "corpus 1 ").await;
    said.lock().unwrap()[0].loss = Some(2.125);
    browser.until("2.1250").await;
    let typed = browser.script("return document.querySelector('input[name=search]').value").await;
    assert_eq!(typed, "corpus 1 ");
    browser.keys("\u{E007}").await;
    browser.until_gone("corpus 3 de-en").await;
    browser.click("article h3 a").await;
    browser.until("Batches and receipts").await;
    assert!(browser.address().await.ends_with(&format!("/jobs/{}", Digest([1; 32]))));
    let text = browser.text().await;
    for part in ["node-aa0001", "epoch 2, step 5, part #3", "update", "late, not used"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains(&key(2).public().short()), "a worker of others: {text}");
    let rows = browser.script("return document.querySelectorAll('#batches tbody tr').length").await;
    assert_eq!(rows, 40);
    browser.shot("job").await;
    is_whole(&browser, "job").await;
    let stopped = "its files are not here <i>yet</i>";
    said.lock().unwrap()[0].obstacle = Some(stopped.into());
    browser.until(stopped).await;
    said.lock().unwrap()[0].phase = JobPhase::Failed("a batch was lost".into());
    browser.until("a batch was lost").await;
    browser.click("#workers a").await;
    browser.until("Receipts and earnings").await;
    browser.until("2050").await;
    let text = browser.text().await;
    assert!(text.contains("Pay pending") && text.contains("850") && text.contains("50"), "{text}");
    browser.script("document.getElementById('work').scrollIntoView()").await;
    browser.shot("machine-earns").await;
    is_whole(&browser, "machine").await;
    browser.click("#work td a").await;
    browser.until("a batch was lost").await;
    let missing = site.client.get(format!("http://{}/jobs/none", site.running.http));
    assert_eq!(missing.send().await.unwrap().status(), 404);
}
