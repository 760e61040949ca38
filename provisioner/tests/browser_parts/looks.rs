//! Each page on a telephone and on a desk, light and dark, and one task by keys alone.

use crate::{
    Browser, Driver, is_whole, signed_in,
    site::{MAC, OTHER, Said, Site, enrol, job, owner, upstream},
};
use protocol::{Digest, boot::StageState, fleet::MachineState, medium::blank};
use std::{fs, time::Duration};

/// A site on which there is something on every page.
async fn busy(media: &std::path::Path) -> Site {
    let said = Said::default();
    said.lock().unwrap().extend((1..=3).map(job));
    let url = upstream(said).await;
    let image = media.join("medium.img");
    fs::write(&image, blank()).unwrap();
    let site = Site::start_with(|options| {
        options.ledger = vec![url.clone()];
        options.parameter_server = vec![url, "http://127.0.0.1:9".into()];
        options.medium = Some(image);
    })
    .await;
    site.works(MAC, 1).await;
    site.says(MAC, 0..40);
    site.measures(MAC);
    site.works(OTHER, 2).await;
    site.boots(OTHER).await;
    site.asks(enrol(OTHER, 9, "Another CPU"), 2).await;
    for n in 3..60 {
        site.boots(&format!("52:54:00:aa:00:{n:02x}")).await;
    }
    let stages = [
        ("mounts", StageState::Done),
        ("network", StageState::Retrying),
        ("root", StageState::Failed),
    ];
    site.stages("52:54:00:aa:00:03", (3, None), &stages).await;
    let set = site.client.put(format!("http://{}/v1/config", site.running.http));
    let table = "[group.rack-7]\nabout = \"the one by the window\"\nwindow = 2\n[machine.\"52:54:00:aa:00:01\"]\ngroups = [\"rack-7\"]\n";
    let set = set.bearer_auth(site.token()).header("if-match", "\"0\"");
    let set = set.header("content-type", "application/toml").body(table);
    set.send().await.unwrap().error_for_status().unwrap();
    site
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn every_page_fits_a_telephone_and_a_desk_and_is_legible_light_and_dark() {
    let media = tempfile::tempdir().unwrap();
    let site = busy(media.path()).await;
    let base = site.secure().await;
    let owner = owner();
    let pages = [
        ("/".into(), "overview"),
        ("/approvals".into(), "approvals"),
        (format!("/machines/{MAC}"), "machine"),
        (format!("/machines/{OTHER}"), "machine-changed"),
        ("/jobs".into(), "jobs"),
        (format!("/jobs/{}", Digest([1; 32])), "job"),
        ("/groups".into(), "groups"),
        ("/groups/rack-7".into(), "group"),
        ("/history".into(), "history"),
        ("/history/1".into(), "revision"),
        ("/sign-in".into(), "sign-in"),
        ("/miners".into(), "miners"),
        (format!("/miners/{owner}"), "miners-owner"),
    ];
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((390, 844)).await;
    signed_in(&browser, &site, "/").await;
    for (size, screen) in [((390, 844), "telephone"), ((320, 640), "small"), ((1280, 900), "desk")]
    {
        browser.sized(size).await;
        for scheme in ["light", "dark"] {
            browser.prefers(scheme).await;
            for (path, name) in &pages {
                browser.open(&format!("{base}{path}")).await;
                let what = format!("{screen}-{scheme}-{name}");
                if screen != "small" {
                    browser.shot(&what).await;
                }
                // What opens fits too.
                browser
                    .script("document.querySelectorAll('details').forEach(d => d.open = true)")
                    .await;
                is_whole(&browser, &what).await;
                assert_contrast(&browser, &what).await;
                assert_within_reach(&browser, &what).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Chromium: cargo xtask test --long page"]
async fn keys_alone_sign_in_approve_and_bar_on_a_telephone() {
    let site = Site::start().await;
    site.waits(MAC, 1).await;
    let driver = Driver::start(site.folder.path()).await;
    let browser = driver.browser((390, 844)).await;
    let base = site.secure().await;
    browser.open(&format!("{base}/sign-in?to=/approvals")).await;
    // The field has the focus already.
    browser.keys(site.token()).await;
    browser.keys("\u{E007}").await;
    browser.until("Approve node-aa0001").await;
    browser.focus_by_tab("Approve node-aa0001").await;
    browser.shot("telephone-focus").await;
    browser.keys("\u{E007}").await;
    browser.until("Nobody waits").await;
    site.until(MAC, MachineState::Approved).await;
    browser.open(&format!("{base}/machines/{MAC}")).await;
    browser.focus_by_tab("Quarantine…").await;
    browser.keys(" ").await;
    browser.focus_by_tab("Quarantine node-aa0001").await;
    browser.keys("\u{E007}").await;
    browser.until("approved -> quarantined").await;
    site.until(MAC, MachineState::Quarantined).await;
    // The first Tab on a page leads past what stands on each of them.
    browser.open(&base).await;
    browser.focus_by_tab("To the content").await;
    browser.keys("\u{E007}").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(browser.address().await.ends_with("#main"));
}

/// Text is legible (WCAG 2.2, 1.4.3: 4.5 to 1), wherever it has a background of its own or the page's.
async fn assert_contrast(browser: &Browser, what: &str) {
    let script = "
        const light = c => { const [r, g, b] = c.map(v => v / 255).map(v =>
            v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b; };
        const parse = text => text.match(/[\\d.]+/g).map(Number);
        const behind = element => { for (let e = element; e; e = e.parentElement) {
            const c = parse(getComputedStyle(e).backgroundColor);
            if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
        return [...document.querySelectorAll('body *')].filter(e =>
            [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).map(e => {
            const a = light(parse(getComputedStyle(e).color).slice(0, 3)), b = light(behind(e).slice(0, 3));
            return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.textContent.slice(0, 40)];
        }).filter(([ratio]) => ratio < 4.5)";
    let found = browser.script(script).await;
    assert_eq!(found, serde_json::json!([]), "{what}");
}

/// What is pressed is large enough to be (WCAG 2.2, 2.5.8: 24 pixels), and has a name; ids are one's
/// own.
async fn assert_within_reach(browser: &Browser, what: &str) {
    let script = "
        const shown = e => e.getClientRects().length > 0;
        const small = [...document.querySelectorAll('button, select, summary, nav a')].filter(shown)
            .filter(e => { const r = e.getBoundingClientRect(); return r.width < 24 || r.height < 24; });
        const nameless = [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
            .filter(shown).filter(e => !e.labels.length && !e.ariaLabel);
        const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
        const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
        return [...small, ...nameless].map(e => e.outerHTML.slice(0, 80)).concat(twice)";
    let found = browser.script(script).await;
    assert_eq!(found, serde_json::json!([]), "{what}");
}
