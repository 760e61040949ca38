//! The API as programs use it: pages, tags, keys, operators, events that are told again.

use super::*;
use protocol::fleet::{MachineState, OperatorStatus};
use reqwest::{Method, RequestBuilder, Response, header};
use serde_json::{Value, json};

impl Site {
    pub(crate) fn token(&self) -> String {
        self.running.token.as_ref().unwrap().reveal().to_string()
    }

    fn acts(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(self.token())
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.running.timeline.flush(Duration::from_secs(5));
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    pub(crate) async fn boots(&self, mac: &str) {
        self.text(&format!("/boot/{mac}.ipxe?arch=x86_64&platform=efi&serial=S-{}", &mac[15..]))
            .await;
        self.running.timeline.flush(Duration::from_secs(5));
    }
}

fn tag(response: &Response) -> String {
    response.headers()[header::ETAG].to_str().unwrap().to_string()
}

/// A field of an answer of JSON, as text.
async fn field(response: Response, field: &str) -> String {
    response.json::<Value>().await.unwrap()[field].as_str().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_comes_in_pages_and_is_filtered() {
    let site = start(|_| {}).await;
    let macs: Vec<String> = (0..5).map(|n| format!("52:54:00:aa:00:{n:02x}")).collect();
    for mac in &macs {
        site.boots(mac).await;
    }
    let names = |machines: &[MachineStatus]| -> Vec<String> {
        machines.iter().map(|machine| machine.mac.clone()).collect()
    };
    let (mut path, mut seen) = (String::from("/v1/machines?limit=2"), Vec::new());
    loop {
        let response = site.get(&path).await;
        let link =
            response.headers().get(header::LINK).map(|link| link.to_str().unwrap().to_string());
        let page: Vec<MachineStatus> = response.json().await.unwrap();
        assert!((1..=2).contains(&page.len()));
        seen.extend(names(&page));
        let Some(link) = link else { break };
        path = link
            .strip_prefix('<')
            .and_then(|link| link.strip_suffix(">; rel=\"next\""))
            .unwrap()
            .into();
    }
    assert_eq!(seen, macs, "each once, in order");
    let token = site.token();
    assert_eq!(site.ask(&token, &macs[3], "retire").await.0, StatusCode::OK);
    let found = async |query: &str| {
        let machines: Vec<MachineStatus> = site.json(&format!("/v1/machines?{query}")).await;
        names(&machines)
    };
    assert_eq!(found("state=retired").await, [macs[3].clone()]);
    assert_eq!(found("state=discovered").await.len(), 4);
    assert_eq!(found("search=AA:00:04").await, [macs[4].clone()]);
    assert_eq!(found("search=NODE-aa0001").await, [macs[1].clone()]);
    assert_eq!(found("search=%25").await.len(), 0, "a sign like any other");
    assert_eq!(found("problem=true").await.len(), 0);
    assert_eq!(found("problem=false&limit=10000").await.len(), 5);
    for bad in ["state=lost", "limit=0", "limit=10001", "after=x", "stat=ready"] {
        let response = site.get(&format!("/v1/machines?{bad}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
    let status: ProvisionerStatus = site.json("/v1/status").await;
    assert_eq!((status.machines, status.states["retired"]), (5, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_for_what_he_has_is_told_so() {
    let site = start(|_| {}).await;
    site.boots(MAC).await;
    let path = format!("/v1/machines/{MAC}/state");
    let first = site.get(&path).await;
    let again = |tag: String| {
        let request = site.client.get(format!("{}{path}", site.url));
        request.header(header::IF_NONE_MATCH, tag).send()
    };
    let tagged = tag(&first);
    let same = again(tagged.clone()).await.unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(same.text().await.unwrap(), "");
    assert_eq!(site.ask(&site.token(), MAC, "quarantine").await.0, StatusCode::OK);
    let changed = again(tagged).await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(field(changed, "state").await, "quarantined");
    assert!(site.get("/v1/machines").await.headers().contains_key(header::ETAG));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_on_what_he_saw_before_another_did() {
    let site = start(|_| {}).await;
    site.boots(MAC).await;
    let path = format!("/v1/machines/{MAC}/state");
    let seen = tag(&site.get(&path).await);
    let ask = async |what: &str, tag: &str| {
        let request = site.acts(Method::POST, &path).json(&json!({ "do": what }));
        request.header(header::IF_MATCH, tag).send().await.unwrap()
    };
    let done = ask("quarantine", &seen).await;
    assert_eq!(done.status(), StatusCode::OK);
    let newer = tag(&done);
    let late = ask("retire", &seen).await;
    assert_eq!(late.status(), StatusCode::PRECONDITION_FAILED);
    assert!(field(late, "detail").await.contains("quarantined by now"));
    assert_eq!(site.state().await, MachineState::Quarantined);
    assert_eq!(ask("release", &newer).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_key_is_done_once() {
    let site = start(|_| {}).await;
    site.boots(MAC).await;
    let path = format!("/v1/machines/{MAC}/state");
    let ask = async |what: &str, key: &str| {
        let request = site.acts(Method::POST, &path).json(&json!({ "do": what }));
        request.header("Idempotency-Key", key).send().await.unwrap()
    };
    let first = ask("quarantine", "one").await;
    assert_eq!(first.status(), StatusCode::OK);
    assert!(!first.headers().contains_key("idempotent-replayed"));
    let first = first.text().await.unwrap();
    assert_eq!(ask("release", "two").await.status(), StatusCode::OK);
    let again = ask("quarantine", "one").await;
    assert_eq!(
        (again.status(), &again.headers()["idempotent-replayed"] == "true"),
        (StatusCode::OK, true)
    );
    assert_eq!(again.text().await.unwrap(), first);
    assert_eq!(site.state().await, MachineState::Discovered, "it was not done again");
    let other = ask("retire", "one").await;
    assert_eq!(other.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let refused = ask("drain", "three").await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let again = ask("drain", "three").await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    assert_eq!(again.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(ask("retire", &"k".repeat(256)).await.status(), StatusCode::BAD_REQUEST);
    let stranger = site.client.post(format!("{}{path}", site.url)).json(&json!({ "do": "retire" }));
    let stranger = stranger.header("Idempotency-Key", "one").send().await.unwrap();
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED, "an answer is for who asked");
}

/// What a list's pages have, one behind the other.
async fn pages(site: &Site, path: &str, items: impl Fn(Value) -> Vec<Value>) -> Vec<Vec<Value>> {
    let (mut path, mut all) = (path.to_owned(), Vec::new());
    loop {
        let response = site.get(&path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let link = response.headers().get(header::LINK);
        let link = link.map(|link| link.to_str().unwrap().to_string());
        all.push(items(response.json().await.unwrap()));
        let Some(link) = link else { return all };
        let rest = link.strip_prefix('<').unwrap();
        path = rest.strip_suffix(">; rel=\"next\"").unwrap().into();
    }
}

fn list(page: Value) -> Vec<Value> {
    page.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_takes_a_key_and_is_done_once() {
    let site = start(|_| {}).await;
    let ask = async |method: Method, path: &str, body: &str, key: &str| {
        let request = site.acts(method, path).header(header::IF_MATCH, "*");
        let request = request.header("Idempotency-Key", key).body(body.to_owned());
        let request = request.header(header::CONTENT_TYPE, "application/json");
        request.send().await.unwrap()
    };
    let replayed = |response: &Response| response.headers().contains_key("idempotent-replayed");
    let window = ["{\"window\": 2}", "{\"window\": 3}"];
    let put = async |body: &str, key: &str| ask(Method::PUT, "/v1/groups/a", body, key).await;
    let first = put(window[0], "one").await;
    assert_eq!((first.status(), replayed(&first)), (StatusCode::OK, false));
    assert_eq!(put(window[1], "two").await.status(), StatusCode::OK);
    let again = put(window[0], "one").await;
    assert_eq!((again.status(), replayed(&again)), (StatusCode::OK, true));
    assert_eq!(again.json::<Value>().await.unwrap()["revision"], 1);
    let group: Value = site.json("/v1/groups/a").await;
    assert_eq!(group["window"], 3, "it was not done again");
    assert_eq!(put(window[1], "one").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    for (method, path) in [(Method::PATCH, "/v1/config"), (Method::DELETE, "/v1/groups/a")] {
        let done = ask(method.clone(), path, "{}", path).await;
        assert_eq!((done.status(), replayed(&done)), (StatusCode::OK, false), "{method}");
        let again = ask(method.clone(), path, "{}", path).await;
        assert_eq!((again.status(), replayed(&again)), (StatusCode::OK, true), "{method}");
    }
    // A token is shown once, and kept nowhere: not for who asks again either.
    let made = ask(Method::POST, "/v1/operators", "{\"name\": \"anna\"}", "op").await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let again = ask(Method::POST, "/v1/operators", "{\"name\": \"anna\"}", "op").await;
    assert_eq!((again.status(), replayed(&again)), (StatusCode::CONFLICT, true));
    assert!(field(again, "detail").await.contains("shown that once"));
    let gone = async || ask(Method::DELETE, "/v1/operators/anna", "", "gone").await;
    assert_eq!(gone().await.status(), StatusCode::NO_CONTENT);
    let again = gone().await;
    assert_eq!((again.status(), replayed(&again)), (StatusCode::NO_CONTENT, true));
    // A long answer is not kept, and whoever asks again is not told nothing.
    let text = "x".repeat(190);
    let group = |n: usize| (format!("g{n}"), json!({ "about": text, "labels": { "a": text } }));
    let groups: serde_json::Map<String, Value> = (0..200).map(group).collect();
    let many = json!({ "group": groups }).to_string();
    let done = ask(Method::PATCH, "/v1/config", &many, "many").await;
    assert_eq!(done.status(), StatusCode::OK);
    assert_eq!(
        done.json::<Value>().await.unwrap()["changes"].as_array().unwrap().len(),
        400,
        "two of each"
    );
    let again = ask(Method::PATCH, "/v1/config", &many, "many").await;
    assert_eq!((again.status(), replayed(&again)), (StatusCode::CONFLICT, true));
    assert!(field(again, "detail").await.contains("too long to be kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_revokes_what_he_did_not_see() {
    let site = start(|_| {}).await;
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
    let meant = async |method: Method, path: &str, tag: &str| {
        site.acts(method, path).header(header::IF_MATCH, tag).send().await.unwrap().status()
    };
    let seen = tag(&site.get(&format!("/v1/machines/{MAC}/state")).await);
    assert_eq!(site.ask(&site.token(), MAC, "quarantine").await.0, StatusCode::OK);
    let revoke = format!("/v1/machines/{MAC}/revoke");
    assert_eq!(meant(Method::POST, &revoke, &seen).await, StatusCode::PRECONDITION_FAILED);
    let now = tag(&site.get(&format!("/v1/machines/{MAC}/state")).await);
    assert_eq!(meant(Method::POST, &revoke, &now).await, StatusCode::OK);
    let add = || site.acts(Method::POST, "/v1/operators").json(&json!({ "name": "anna" })).send();
    let anna = "/v1/operators/anna";
    let look = async || tag(&site.acts(Method::GET, anna).send().await.unwrap());
    assert_eq!(add().await.unwrap().status(), StatusCode::CREATED);
    let old = look().await;
    assert_eq!(meant(Method::DELETE, anna, "*").await, StatusCode::NO_CONTENT);
    assert_eq!(add().await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(meant(Method::DELETE, anna, &old).await, StatusCode::PRECONDITION_FAILED);
    assert_eq!(meant(Method::DELETE, anna, &look().await).await, StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_handler_sees_is_refused_by_problem_details_too() {
    let site = start(|_| {}).await;
    let asked = [
        (site.acts(Method::DELETE, "/v1/machines"), StatusCode::METHOD_NOT_ALLOWED, "Allow"),
        (site.acts(Method::GET, "/v1/config/history/x"), StatusCode::BAD_REQUEST, "x"),
        (site.acts(Method::PUT, "/v1/config").body(vec![0xff]), StatusCode::BAD_REQUEST, "UTF"),
        (site.acts(Method::GET, "/v1/nothing"), StatusCode::NOT_FOUND, "nothing"),
    ];
    for (request, status, says) in asked {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{says}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let allowed = response.headers().contains_key(header::ALLOW);
        assert_eq!(allowed, status == StatusCode::METHOD_NOT_ALLOWED);
        let detail = field(response, "detail").await;
        assert!(detail.contains(says), "{says}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn timelines_members_and_revisions_come_in_pages() {
    let site = start(|_| {}).await;
    for _ in 0..5 {
        site.boots(MAC).await;
    }
    let all = site.machine(MAC).await.timeline;
    let told = pages(&site, &format!("/v1/machines/{MAC}/timeline?limit=2"), list).await;
    assert!(told.len() > 2 && told.iter().rev().skip(1).all(|page| page.len() == 2), "{told:?}");
    assert_eq!(json!(told.concat()), json!(all), "each once, newest first");
    let members: serde_json::Map<String, Value> =
        (0..5).map(|n| (format!("52:54:00:bb:00:{n:02x}"), json!({ "groups": ["a"] }))).collect();
    let document = json!({ "group": { "a": {}, "b": {} }, "machine": members });
    let put = |document: Value| site.change(Method::PUT, "/v1/config", document.to_string(), None);
    assert_eq!(put(document.clone()).await.status(), StatusCode::OK);
    let found = pages(&site, "/v1/groups/a/machines?limit=2", list).await;
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    let macs = found.concat();
    let macs: Vec<&str> = macs.iter().map(|one| one["mac"].as_str().unwrap()).collect();
    assert_eq!(macs, document["machine"].as_object().unwrap().keys().collect::<Vec<_>>());
    assert_eq!(pages(&site, "/v1/groups/b/machines", list).await, [Vec::<Value>::new()]);
    assert_eq!(site.get("/v1/groups/c/machines").await.status(), StatusCode::NOT_FOUND);
    for n in 0..4 {
        let about = json!({ "group": { "a": { "about": format!("{n}") } } });
        assert_eq!(put(about).await.status(), StatusCode::OK);
    }
    let revisions = |page: Value| page["revisions"].as_array().unwrap().clone();
    let found = pages(&site, "/v1/config/history?limit=2", revisions).await;
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    let found = found.concat();
    let numbers: Vec<u64> = found.iter().map(|one| one["revision"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    for bad in ["config/history?limit=0", "groups/a/machines?limit=10001", "config/history?b=1"] {
        assert_eq!(
            site.get(&format!("/v1/{bad}")).await.status(),
            StatusCode::BAD_REQUEST,
            "{bad}"
        );
    }
    let bad = format!("/v1/machines/{MAC}/timeline?limit=501");
    assert_eq!(site.get(&bad).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        site.get("/v1/machines/52:54:00:00:00:99/timeline").await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_configuration_has_another_tag_where_a_rule_changed_it() {
    let site = start(|options| options.approval = Some(How::ByHand)).await;
    let document = json!({
        "group": { "a": { "window": 2 } },
        "rule": { "r": { "macs": ["52:54:00"], "group": "a" } },
    });
    let put = site.change(Method::PUT, "/v1/config", document.to_string(), None).await;
    assert_eq!(put.status(), StatusCode::OK);
    let path = format!("/v1/machines/{MAC}/config");
    let before = tag(&site.get(&path).await);
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
    let request = site.client.get(format!("{}{path}", site.url));
    let asked = request.header(header::IF_NONE_MATCH, &before).send().await.unwrap();
    assert_eq!(asked.status(), StatusCode::OK, "without a new revision, and another all the same");
    let now = tag(&asked);
    assert_eq!(asked.json::<Value>().await.unwrap()["groups"], json!(["a"]));
    let own = site.change(Method::PUT, &path, "{\"window\": 3}", Some(&now)).await;
    assert_eq!(own.status(), StatusCode::OK, "{now} is a tag to change by");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_dead_kernels_are_searched() {
    use protocol::boot::CrashReport;
    let site = start(|_| {}).await;
    site.boots(MAC).await;
    for (n, line) in [(1, "nvme0: I/O timeout <b>"), (2, "Out of memory")] {
        let text = format!("one\n{line}\ntwo\n");
        let report = CrashReport { boot_id: Digest([n; 32]), reason: format!("Oops {n}"), text };
        let path = format!("/v1/machines/{MAC}/crashes");
        assert_eq!(site.post(&path, &report).await.0, StatusCode::OK);
    }
    let found = async |query: &str| -> Vec<Value> {
        site.json(&format!("/v1/machines/{MAC}/crashes{query}")).await
    };
    assert_eq!(found("").await.len(), 2);
    let timeouts = found("?search=NVME0:").await;
    assert_eq!(timeouts.len(), 1, "{timeouts:?}");
    assert_eq!(timeouts[0]["found"], json!(["nvme0: I/O timeout <b>"]));
    assert_eq!(found("?search=%25").await.len(), 0, "a sign like any other");
    let bad = format!("/v1/machines/{MAC}/crashes?search={}", "x".repeat(101));
    assert_eq!(site.get(&bad).await.status(), StatusCode::BAD_REQUEST);
    let page = site.text(&format!("/machines/{MAC}?crash=Timeout")).await;
    assert!(page.contains("name=\"crash\" value=\"Timeout\""), "{page}");
    assert!(page.contains("nvme0: I/O timeout &lt;b&gt;"), "{page}");
    assert_eq!(page.matches(&format!("/v1/machines/{MAC}/crashes/")).count(), 1, "{page}");
    let none = site.text(&format!("/machines/{MAC}?crash=nothing")).await;
    assert!(none.contains("No log has a line like that") && none.contains("name=\"crash\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_make_operators_and_tokens_end_at_once() {
    let site = start(|_| {}).await;
    let add = async |name: &str| {
        let request = site.acts(Method::POST, "/v1/operators").json(&json!({ "name": name }));
        request.send().await.unwrap()
    };
    let made = add("anna").await;
    assert_eq!(made.status(), StatusCode::CREATED);
    assert_eq!(made.headers()[header::CACHE_CONTROL], "no-store");
    let anna = field(made, "token").await;
    assert_eq!(add("anna").await.status(), StatusCode::CONFLICT);
    assert_eq!(add("an na").await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(site.get("/v1/operators").await.status(), StatusCode::UNAUTHORIZED);
    let list = site.acts(Method::GET, "/v1/operators").send().await.unwrap().text().await.unwrap();
    assert!(!list.contains(&anna), "{list}");
    let list: Vec<OperatorStatus> = serde_json::from_str(&list).unwrap();
    assert_eq!(list.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["anna", "first"]);
    let own = site.acts(Method::DELETE, "/v1/operators/first").send().await.unwrap();
    assert_eq!(own.status(), StatusCode::CONFLICT);
    site.boots(MAC).await;
    assert_eq!(site.ask(&anna, MAC, "retire").await.0, StatusCode::OK);
    let gone = site.acts(Method::DELETE, "/v1/operators/anna").send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    assert_eq!(site.ask(&anna, MAC, "restore").await.0, StatusCode::UNAUTHORIZED);
    let gone = site.acts(Method::DELETE, "/v1/operators/anna").send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_revokes_a_node_and_its_machines_timeline_says_who() {
    let site = start(|_| {}).await;
    let revoke = || site.acts(Method::POST, &format!("/v1/machines/{MAC}/revoke")).send();
    assert_eq!(revoke().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::OK);
    assert_eq!(field(revoke().await.unwrap(), "node").await, key(1).public().to_string());
    assert_eq!(site.enrol(MAC, enrol(MAC, UUID), &key(1)).await.0, StatusCode::FORBIDDEN);
    let told = site.machine(MAC).await.timeline;
    assert!(told.iter().any(|event| event.text.ends_with("revoked by operator first")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_is_told_what_happened_since_and_nothing_twice() {
    let site = start(|_| {}).await;
    site.boots(MAC).await;
    let first = events(site.get("/v1/events?after=0").await, 1).await;
    site.boots(OTHER).await;
    site.running.timeline.flush(Duration::from_secs(5));
    let request = site.client.get(format!("{}/v1/events", site.url));
    let since = request.header("Last-Event-ID", first[0].0.to_string()).send().await.unwrap();
    site.boots("52:54:00:aa:00:03").await;
    let since = events(since, 2).await;
    let macs: Vec<&str> = since.iter().map(|(_, event)| event.mac.as_str()).collect();
    assert_eq!(macs, [OTHER, "52:54:00:aa:00:03"]);
    assert!(since[0].0 > first[0].0 && since[1].0 > since[0].0);
}

/// So many events of a stream, with their numbers.
async fn events(mut stream: Response, count: usize) -> Vec<(u64, TimelineEvent)> {
    let (mut text, mut found) = (String::new(), Vec::new());
    while found.len() < count {
        let chunk = stream.chunk().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((event, rest)) = text.clone().split_once("\n\n") {
            text = rest.into();
            let value = |name: &str| {
                let line = event.lines().find_map(|line| line.strip_prefix(name));
                line.map(|line| line.trim().to_string())
            };
            if let (Some(id), Some(data)) = (value("id:"), value("data:")) {
                found.push((id.parse().unwrap(), serde_json::from_str(&data).unwrap()));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_of_the_api_that_is_served() {
    let site = start(|_| {}).await;
    let described: Value = site.json("/v1/openapi.json").await;
    assert!(described["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = described["paths"].as_object().unwrap();
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let url = path.replace("{mac}", MAC).replace("{id}", "1").replace("{name}", "nobody");
            let url = url.replace("{revision}", "0").replace("{token}", &"ab".repeat(32));
            let url = url.replace("{address}", "alia1x");
            let url = format!("{}{url}", site.url);
            let response = site.client.request(method.clone(), url).send().await.unwrap();
            assert_ne!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            // What an owner signs needs no token.
            let security = &methods[&method.as_str().to_lowercase()]["security"];
            let acts = security.as_array().is_some_and(|any| !any.contains(&json!({})));
            assert_eq!(response.status() == StatusCode::UNAUTHORIZED, acts, "{method} {path}");
        }
    }
    for path in ["/v1/machines", "/v1/machines/{mac}/state", "/v1/operators/{name}", "/v1/events"] {
        assert!(paths.contains_key(path), "{path}");
    }
    let problem = &described["components"]["schemas"]["ProblemDetails"];
    assert_eq!(problem["required"], json!(["detail"]), "{problem}");
}
