//! Groups, their history, and the whole configuration as a file.

use crate::{Driver, is_whole, signed_in, site::Site};
use std::{fs, time::Duration};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn an_operator_makes_and_sets_a_group_and_rolls_it_back() {
    let site = Site::start().await;
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    let base = site.secure().await;
    signed_in(&browser, &site, "/groups").await;
    browser.shot("groups-empty").await;
    browser.click("summary").await;
    browser.type_into("#name", "rack-7").await;
    browser.click("details[open] button").await;
    browser.until("Group rack-7").await;
    browser.click("summary").await;
    browser.type_into("#table", "windw = 2").await;
    browser.click("details[open] button").await;
    browser.until("windw").await;
    browser.shot("group-mistake").await;
    is_whole(&browser, "a mistake").await;
    browser.type_into("#table", "about = \"the one by the window\"\nwindow = 2\n").await;
    browser.type_into("#why", "it is slow").await;
    browser.click("details[open] button").await;
    browser.until("the one by the window").await;
    browser.shot("group").await;
    browser.open(&format!("{base}/groups")).await;
    browser.shot("groups").await;
    browser.open(&format!("{base}/history")).await;
    browser.until("it is slow").await;
    browser.shot("history").await;
    browser.click("tbody a").await;
    browser.until("group.rack-7.window").await;
    browser.shot("revision").await;
    browser.open(&format!("{base}/history/1")).await;
    browser.click("summary").await;
    browser.click("details[open] button").await;
    browser.until("rolled back to revision 1").await;
    is_whole(&browser, "history").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn the_configuration_is_exported_as_a_file_and_imported_again() {
    let site = Site::start().await;
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((1280, 900)).await;
    let folder = tempfile::tempdir().unwrap();
    browser.downloads(folder.path()).await;
    let base = site.secure().await;
    signed_in(&browser, &site, "/groups").await;
    browser.click("summary").await;
    browser.type_into("#name", "rack-7").await;
    browser.click("details[open] button").await;
    browser.until("Group rack-7").await;
    browser.open(&format!("{base}/groups")).await;
    browser.click("a[download]").await;
    let file = folder.path().join("fleet.toml");
    for _ in 0..100 {
        if file.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let exported = fs::read_to_string(&file).unwrap();
    assert!(exported.contains("rack-7"), "{exported}");

    let changed = exported.replace("rack-7", "rack-8");
    let other = folder.path().join("other.toml");
    fs::write(&other, &changed).unwrap();
    browser.click("details:last-of-type summary").await;
    browser.choose("input[type=file]", &other).await;
    for _ in 0..100 {
        if browser.script("return document.getElementById('file').value").await == changed.as_str()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    browser.type_into("#import-why", "racks were moved").await;
    browser.click("details[open] button.first").await;
    browser.until("It changes 2 values, and nothing is changed yet").await;
    browser.shot("import").await;
    is_whole(&browser, "import").await;
    assert_eq!(site.json("/v1/config").await["group"]["rack-8"], serde_json::Value::Null);
    browser.click("button.grave").await;
    browser.until("racks were moved").await;
    let document = site.json("/v1/config").await;
    assert!(document["group"]["rack-8"].is_object(), "{document}");
    assert!(document["group"]["rack-7"].is_null(), "{document}");
    // What is no configuration is refused, and nothing of it is lost.
    browser.open(&format!("{base}/groups")).await;
    browser.click("details:last-of-type summary").await;
    browser.type_into("#file", "[group.x]\nwindw = 2").await;
    browser.click("details[open] button.first").await;
    browser.until("windw").await;
    let text = browser.script("return document.getElementById('file').value").await;
    assert_eq!(text, "[group.x]\nwindw = 2");
    browser.shot("import-mistake").await;
    is_whole(&browser, "a mistake").await;
    assert_eq!(site.json("/v1/config").await, document);
}
