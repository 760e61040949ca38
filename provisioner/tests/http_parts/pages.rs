//! The page as people use it, without a script: sign in, seek, approve, act, sign out.

use super::*;
use protocol::fleet::MachineState;
use reqwest::{Response, header, redirect::Policy};

/// Somebody with a browser.
struct Browser<'a> {
    site: &'a Site,
    client: Client,
    cookie: Option<String>,
}

impl<'a> Browser<'a> {
    fn new(site: &'a Site) -> Self {
        let client = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Self { site, client, cookie: None }
    }

    async fn page(&self, path: &str) -> String {
        self.site.running.timeline.flush(Duration::from_secs(5));
        let mut request = self.client.get(format!("{}{path}", self.site.url));
        request = request.header(header::COOKIE, self.cookie.as_deref().unwrap_or("other=1"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.text().await.unwrap()
    }

    async fn post(&self, path: &str, form: &[(&str, &str)], origin: &str) -> Response {
        let request = self.client.post(format!("{}{path}", self.site.url));
        let body: Vec<String> = form.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let request = request
            .header(header::ORIGIN, origin)
            .header(header::COOKIE, self.cookie.as_deref().unwrap_or("other=1"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        request.body(body.join("&")).send().await.unwrap()
    }

    async fn sign_in(&mut self, token: &str) -> Response {
        let form = [("token", token), ("to", "/approvals")];
        let response = self.post("/sign-in", &form, &self.site.url).await;
        if let Some(cookie) = response.headers().get(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
                assert!(cookie.contains(part), "{cookie}");
            }
            self.cookie = Some(cookie.split(';').next().unwrap().into());
        }
        response
    }

    /// Sends the form of a page whose button has that text, as a browser would.
    async fn press(&self, page: &str, button: &str) -> Response {
        let end =
            page.find(&format!(">{button}</button>")).unwrap_or_else(|| panic!("{button}: {page}"));
        let form = &page[page[..end].rfind("<form").unwrap()..end];
        let value = |text: &str, name: &str| {
            let rest = text.split_once(&format!("{name}=\"")).map(|(_, rest)| rest);
            rest.and_then(|rest| rest.split_once('"')).map(|(value, _)| value.to_string())
        };
        let inputs = form.split("<input").skip(1);
        let fields: Vec<(String, String)> = inputs
            .map(|input| (value(input, "name").unwrap(), value(input, "value").unwrap_or_default()))
            .collect();
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.post(&value(form, "action").unwrap(), &fields, &self.site.url).await
    }
}

fn place(response: &Response) -> &str {
    response.headers()[header::LOCATION].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_approves_what_waits_by_the_page() {
    let site = start(|options| options.approval = Some(How::ByHand)).await;
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::FORBIDDEN);
    let mut browser = Browser::new(&site);
    let queue = browser.page("/approvals").await;
    assert!(
        queue.contains(&key(1).public().to_string()) && !queue.contains("name=\"do\""),
        "{queue}"
    );
    assert!(queue.contains("/sign-in?to=/approvals"));
    assert_eq!(browser.sign_in("alia-operator-00").await.status(), StatusCode::UNAUTHORIZED);
    assert!(browser.cookie.is_none());
    let signed = browser.sign_in(&site.token()).await;
    assert_eq!((signed.status(), place(&signed)), (StatusCode::SEE_OTHER, "/approvals"));
    let name = "node-aa0001";
    let queue = browser.page("/approvals").await;
    // Another key comes in between: what was seen is approved, or nothing.
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(2)).await.0, StatusCode::FORBIDDEN);
    let late = browser.press(&queue, &format!("Approve {name}")).await;
    assert_eq!(late.status(), StatusCode::CONFLICT);
    assert!(late.text().await.unwrap().contains("changed since the page was loaded"));
    assert_eq!(site.state().await, MachineState::Pending);
    let queue = browser.page("/approvals").await;
    let done = browser.press(&queue, &format!("Approve {name}")).await;
    assert_eq!((done.status(), place(&done)), (StatusCode::SEE_OTHER, "/approvals"));
    assert!(browser.page("/approvals").await.contains("Nobody waits"));
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(2)).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_page_has_what_may_be_asked_of_it_and_no_more() {
    let site = start(|_| {}).await;
    site.boots(MAC).await;
    let mut browser = Browser::new(&site);
    let path = format!("/machines/{MAC}");
    assert!(browser.page(&path).await.contains(&format!("/sign-in?to={path}")));
    browser.sign_in(&site.token()).await;
    let page = browser.page(&path).await;
    assert!(page.contains(">Quarantine node-aa0001<") && !page.contains(">Drain node-aa0001<"));
    let done = browser.press(&page, "Quarantine node-aa0001").await;
    assert_eq!((done.status(), place(&done)), (StatusCode::SEE_OTHER, path.as_str()));
    let now = browser.page(&path).await;
    assert!(now.contains("by operator first") && now.contains(">Release node-aa0001<"), "{now}");
    // The page of before is late.
    let late = browser.press(&page, "Quarantine node-aa0001").await;
    assert_eq!(late.status(), StatusCode::CONFLICT);
    assert_eq!(site.state().await, MachineState::Quarantined);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_ended_and_the_key_that_was_seen_is_revoked_by_the_page() {
    let site = start(|_| {}).await;
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
    let path = format!("/machines/{MAC}");
    site.prove(MAC, &key(1), &[event(7, "stands", StageState::Done, 9)]).await.unwrap();
    let mut browser = Browser::new(&site);
    browser.sign_in(&site.token()).await;
    let page = browser.page(&path).await;
    browser.press(&page, "Drain node-aa0001").await;
    assert_eq!(site.state().await, MachineState::Draining);
    let page = browser.page(&path).await;
    browser.press(&page, "Let node-aa0001 work again").await;
    assert_eq!(site.state().await, MachineState::Ready);
    // Another key has its place by now: what was seen is revoked, or nothing.
    let mut other = enrol(MAC, UUID);
    other.boot_id = Digest([2; 32]);
    site.boots(MAC).await;
    assert_eq!(site.enrol(MAC, other, &key(2)).await.0, StatusCode::OK);
    let revoke = "Revoke the key of node-aa0001";
    let late = browser.press(&page, revoke).await;
    assert_eq!(late.status(), StatusCode::CONFLICT);
    assert!(late.text().await.unwrap().contains("nothing was done"));
    let revoked = |seed| {
        tokio::task::block_in_place(|| site.running.store.is_revoked(&key(seed).public())).unwrap()
    };
    assert!(!revoked(1) && !revoked(2));
    let page = browser.page(&path).await;
    let done = browser.press(&page, revoke).await;
    assert_eq!((done.status(), place(&done)), (StatusCode::SEE_OTHER, path.as_str()));
    assert!(!revoked(1) && revoked(2));
    let page = browser.page(&path).await;
    assert!(page.contains(">revoked<") && !page.contains(revoke), "{page}");
    assert!(page.contains("was revoked by operator first"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_would_change_is_shown_before_it_is_imported() {
    let site = start(|_| {}).await;
    let mut browser = Browser::new(&site);
    let file = "%5Bgroup.rack-7%5D%0Awindow%20%3D%202%0A";
    let form = [("revision", "0"), ("file", file), ("why", "moved"), ("look", "true")];
    assert_eq!(place(&browser.post("/import", &form, &site.url).await), "/sign-in");
    browser.sign_in(&site.token()).await;
    let looked = browser.post("/import", &form, &site.url).await;
    assert_eq!(looked.status(), StatusCode::OK);
    let looked = looked.text().await.unwrap();
    assert!(looked.contains("group.rack-7.window") && looked.contains("window = 2"), "{looked}");
    assert_eq!(site.get("/groups/rack-7").await.status(), StatusCode::NOT_FOUND);
    let done = browser.post("/import", &form[..3], &site.url).await;
    assert_eq!((done.status(), place(&done)), (StatusCode::SEE_OTHER, "/history"));
    assert!(browser.page("/history").await.contains("moved"));
    assert!(
        browser.page("/groups/rack-7").await.contains("<dt>window</dt><dd><code>2</code></dd>")
    );
    // Somebody else was first.
    let late = browser.post("/import", &form[..3], &site.url).await;
    assert_eq!(late.status(), StatusCode::PRECONDITION_FAILED);
    let late = late.text().await.unwrap();
    assert!(late.contains("window = 2") && late.contains("value=\"1\""), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_acts_by_an_operators_browser() {
    let site = start(|_| {}).await;
    site.boots(MAC).await;
    let mut browser = Browser::new(&site);
    let form = [("do", "retire"), ("state", "discovered"), ("since", "0")];
    let path = format!("/machines/{MAC}/do");
    let stranger = browser.post(&path, &form, &site.url).await;
    assert_eq!((stranger.status(), place(&stranger)), (StatusCode::SEE_OTHER, "/sign-in"));
    browser.sign_in(&site.token()).await;
    for origin in ["https://evil.example", "null"] {
        let other = browser.post(&path, &form, origin).await;
        assert_eq!(other.status(), StatusCode::FORBIDDEN, "{origin}");
    }
    let away = browser
        .post("/sign-in", &[("token", &site.token()), ("to", "//evil.example")], &site.url)
        .await;
    assert_eq!(place(&away), "/");
    assert_eq!(site.state().await, MachineState::Discovered);
    let out = browser.post("/sign-out", &[], &site.url).await;
    assert!(out.headers()[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    let after = browser.post(&path, &form, &site.url).await;
    assert_eq!(place(&after), "/sign-in", "the session ended, not the cookie alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_page_and_filter_by_their_url_and_problems_come_first() {
    let site = start(|_| {}).await;
    for n in 0..60 {
        site.text(&format!("/boot/52:54:00:bb:00:{n:02x}.ipxe?arch=x86_64&platform=efi")).await;
    }
    let browser = Browser::new(&site);
    let first = browser.page("/").await;
    assert_eq!(first.matches("<article").count(), 50);
    assert!(first.contains("60 discovered"));
    let next = first.split_once("rel=\"next\" href=\"").unwrap().1.split_once('"').unwrap().0;
    let next = browser.page(&next.replace("&amp;", "&")).await;
    assert_eq!(next.matches("<article").count(), 10);
    let found = browser.page("/?search=bb0007&state=&problem=").await;
    assert_eq!(found.matches("<article").count(), 1);
    assert!(found.contains("value=\"bb0007\""), "the form shows what was sought");
    assert!(browser.page("/?search=nothing").await.contains("Show all"));
    let token = site.token();
    assert_eq!(site.ask(&token, "52:54:00:bb:00:3b", "quarantine").await.0, StatusCode::OK);
    let now = browser.page("/").await;
    let (above, below) = now.split_once("Need somebody").unwrap();
    assert!(
        !above.contains("node-bb003b") && below.find("node-bb003b") < below.find("node-bb0000")
    );
    assert_eq!(browser.page("/?state=quarantined").await.matches("<article").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_sets_and_rolls_back_a_group_by_the_page() {
    let site = start(|_| {}).await;
    let mut browser = Browser::new(&site);
    let form = [("revision", "0"), ("name", "rack-7")];
    let stranger = browser.post("/groups", &form, &site.url).await;
    assert_eq!((stranger.status(), place(&stranger)), (StatusCode::SEE_OTHER, "/sign-in"));
    assert!(browser.page("/groups").await.contains("/sign-in?to=/groups"));
    browser.sign_in(&site.token()).await;
    let made = browser.post("/groups", &form, &site.url).await;
    assert_eq!((made.status(), place(&made)), (StatusCode::SEE_OTHER, "/groups/rack-7"));
    let again = browser.post("/groups", &[("revision", "1"), ("name", "rack-7")], &site.url).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    let set = async |revision: &str, table: &str| {
        let form = [("revision", revision), ("table", table), ("why", "it%20is%20slow")];
        browser.post("/groups/rack-7/set", &form, &site.url).await
    };
    // A mistake is told, and what was written is still there.
    let wrong = set("1", "windw%20%3D%202").await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let wrong = wrong.text().await.unwrap();
    assert!(wrong.contains("windw = 2</textarea>") && wrong.contains("window"), "{wrong}");
    let done = set("1", "window%20%3D%202%0A").await;
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    let late = set("1", "window%20%3D%203%0A").await;
    assert_eq!(late.status(), StatusCode::PRECONDITION_FAILED, "somebody else was first");
    let page = browser.page("/groups/rack-7").await;
    assert!(page.contains("<dt>window</dt><dd><code>2</code></dd>"), "{page}");
    assert!(browser.page("/groups").await.contains("1 setting"));
    let history = browser.page("/history").await;
    assert!(history.contains("it is slow") && history.contains("/history/2"), "{history}");
    let revision = browser.page("/history/2").await;
    assert!(revision.contains("group.rack-7.window"), "{revision}");
    assert!(browser.page("/history/2?from=0").await.contains("group.rack-7.window"));
    let old = browser.page("/history/1").await;
    let back = browser.press(&old, "Roll back to revision 1").await;
    assert_eq!((back.status(), place(&back)), (StatusCode::SEE_OTHER, "/history"));
    assert!(browser.page("/groups/rack-7").await.contains("None."));
    let page = browser.page("/groups/rack-7").await;
    let gone = browser.press(&page, "Delete rack-7").await;
    assert_eq!(place(&gone), "/groups");
    assert_eq!(site.get("/groups/rack-7").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_revisions_members_and_events_page_by_their_url() {
    use provisioner::{
        life::Cause,
        machine::Mac,
        store::Draft,
        timeline::{Kind, Record, Sighting},
    };
    let site = start(|options| options.approval = Some(How::ByHand)).await;
    let store = site.running.store.clone();
    tokio::task::block_in_place(|| {
        for n in 0..53 {
            let node = key(n).public();
            store.pend(Mac([82, 84, 0, 187, 0, n]), (&node, None), None, Cause::Waits, 5).unwrap();
        }
        let own = |n: u16| {
            let mac = Mac([82, 84, 0, 204, (n >> 8) as u8, n as u8]);
            (
                mac.to_string(),
                provisioner::groups::Machine { groups: vec!["a".into()], ..Default::default() },
            )
        };
        let document = provisioner::groups::Document {
            group: [("a".to_owned(), Default::default())].into(),
            machine: (0..203).map(own).collect(),
            ..Default::default()
        };
        for revision in 0..53 {
            let why = format!("why {revision}");
            let document = document.clone();
            let draft = Draft { actor: "anna".into(), why, document, placed: None };
            store.take_configuration(revision, &draft, revision).unwrap();
        }
        let mac: Mac = MAC.parse().unwrap();
        let boots = Sighting { boots: true, ..Sighting::default() };
        let mut records = vec![Record::new(mac, Kind::Dhcp, "boots").sighting(boots)];
        records.extend((0..53).map(|n| Record::new(mac, Kind::Dhcp, format!("event {n}."))));
        store.record(&records).unwrap();
    });
    let browser = Browser::new(&site);
    for (path, item, counts) in [
        ("/approvals", "<article", [50, 3]),
        ("/history", "<td class=\"text\">why ", [50, 3]),
        ("/groups/a", "<li><a href=\"/machines/", [200, 3]),
        (&format!("/machines/{MAC}"), "<td class=\"text\">", [50, 4]),
    ] {
        let first = browser.page(path).await;
        assert_eq!(first.matches(item).count(), counts[0], "{path}");
        let next = first.split_once("rel=\"next\" href=\"").unwrap().1.split_once('"').unwrap().0;
        let next = next.replace("&amp;", "&");
        let next = browser.page(next.split('#').next().unwrap()).await;
        assert_eq!(next.matches(item).count(), counts[1], "{path}");
        assert!(!next.contains("rel=\"next\""), "{path}: {next}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_searched_and_paged_by_its_url_without_a_script() {
    use protocol::console::{ConsoleBatch, ConsoleLine, ConsoleSource};
    let site = start(|_| {}).await;
    site.boots(MAC).await;
    let line = |sequence| ConsoleLine {
        source: ConsoleSource::Init,
        sequence,
        at_ms: sequence,
        level: None,
        text: format!("word {sequence} <img src=x>"),
    };
    for from in [0, 250] {
        let boot_id = Digest([1; 32]);
        let batch = ConsoleBatch { boot_id, lines: (from..from + 250).map(line).collect() };
        let add = || site.running.store.add_console(MAC.parse().unwrap(), batch, 5).unwrap();
        assert_eq!(tokio::task::block_in_place(add), 250);
    }
    let browser = Browser::new(&site);
    let page = browser.page(&format!("/machines/{MAC}")).await;
    assert!(page.contains("word 499") && page.contains("word 300 ") && !page.contains("word 299 "));
    assert!(page.contains("&lt;img src=x&gt;") && !page.contains("<img"), "{page}");
    let older = page.split_once("rel=\"prev\" href=\"").unwrap().1.split_once('#').unwrap().0;
    let older = browser.page(&older.replace("&amp;", "&")).await;
    assert!(older.contains("word 299 ") && !older.contains("word 300 "), "{older}");
    assert!(
        page.contains(" data-own") && !older.contains(" data-own"),
        "what is old is not followed"
    );
    let found = browser.page(&format!("/machines/{MAC}?search=WORD%2049&boot=")).await;
    assert_eq!(found.matches("<li><span").count(), 11);
}
