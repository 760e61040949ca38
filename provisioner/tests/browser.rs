//! The page in a real Chromium, by TLS: each task of an operator and of a miner, with a mouse and with
//! keys alone, on a desk and on a telephone, light and dark. `cargo xtask test --long page` runs it.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "browser_parts/configuration.rs"]
mod configuration;
#[path = "browser_parts/driver.rs"]
mod driver;
#[path = "browser_parts/looks.rs"]
mod looks;
#[path = "browser_parts/machines.rs"]
mod machines;
#[path = "browser_parts/media.rs"]
mod media;
#[path = "common/place.rs"]
mod place;
#[path = "browser_parts/site.rs"]
mod site;
#[path = "browser_parts/work.rs"]
mod work;

use driver::{Browser, Driver};
use site::Site;

/// Nothing came from elsewhere, nothing was refused by the page's own policy, nothing hangs over. What
/// the browser itself says of a form that was refused is let be.
async fn is_whole(browser: &Browser, what: &str) {
    let script = "return [performance.getEntriesByType('resource').map(e => e.name)
        .filter(name => !name.startsWith(location.origin)),
        document.documentElement.scrollWidth - innerWidth]";
    let found = browser.script(script).await;
    assert_eq!(found[0], serde_json::json!([]), "{what}");
    assert!(found[1].as_i64().unwrap() <= 0, "{what}: it hangs over by {} pixels", found[1]);
    let refused = |line: &&String| {
        let status = |status: &str| line.contains(&format!("responded with a status of {status} "));
        status("401") || status("409") || status("422")
    };
    let log = browser.log().await;
    let log: Vec<_> = log.iter().filter(|line| !refused(line)).collect();
    assert!(log.is_empty(), "{what}: {log:?}");
}

/// Signs in, and goes to a page.
async fn signed_in(browser: &Browser, site: &Site, to: &str) {
    browser.open(&format!("{}/sign-in?to={to}", site.secure().await)).await;
    browser.type_into("#token", site.token()).await;
    browser.click("main button").await;
    browser.until("Sign out").await;
}
