//! Machines that share: who is told of whom, and by whose word not, through the real router.

use super::*;
use pieces::{Held, Layout, Outline};
use protocol::pieces::{Door, PiecesAsk, Swarm};
use reqwest::Method;
use serde_json::json;

/// Of `write_image`.
const ROOT: &[u8] = &[8; 100_000];

fn ask(seed: u8, held: &Held) -> PiecesAsk {
    PiecesAsk {
        boot_id: Digest([seed; 32]),
        number: 1,
        file: Digest::of_bytes(ROOT),
        held: held.hex(),
        address: [127, 0, 0, 1].into(),
        door: Some(Door { key: key(seed).public(), port: 7443 }),
        avoid: Vec::new(),
        stuck_ms: 0,
    }
}

impl Site {
    async fn swarm(&self, mac: &str, asked: &PiecesAsk) -> Swarm {
        let (status, text) = self.post(&format!("/v1/machines/{mac}/pieces"), asked).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let signed: Signed<Swarm> = serde_json::from_str(&text).unwrap();
        assert_eq!(signed.signer, key(8).public());
        let swarm = signed.verify(&chain()).unwrap().clone();
        assert_eq!((swarm.boot_id, swarm.number), (asked.boot_id, asked.number));
        swarm
    }

    async fn defaults(&self, settings: serde_json::Value) {
        let set = self.change(Method::PUT, "/v1/defaults", settings.to_string(), None).await;
        assert_eq!(set.status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_machine_gets_the_root_from_us_and_the_next_is_told_of_the_first() {
    let site = start(|_| {}).await;
    site.defaults(json!({ "site": "127.0.0.0/8", "peer-rate": 200_000 })).await;
    let layout = Layout::of(ROOT.len() as u64).unwrap();
    let (none, all) = (Held::none(layout.count()), Held::all(layout.count()));
    let first = site.swarm(MAC, &ask(1, &none)).await;
    assert_eq!(first.site, Some("127.0.0.0/8".parse().unwrap()));
    assert_eq!((first.rate, first.givers.len(), first.granted.len()), (200_000, 0, 1));
    // Granted to the first, which has not got it yet: neither from us nor from anybody.
    let second = site.swarm(OTHER, &ask(2, &none)).await;
    assert_eq!((second.givers.len(), second.granted.len()), (0, 0));
    site.swarm(MAC, &ask(1, &all)).await;
    let second = site.swarm(OTHER, &ask(2, &none)).await;
    assert_eq!((second.givers.len(), second.granted.len()), (1, 0));
    let giver = &second.givers[0];
    assert_eq!((giver.key, giver.address), (key(1).public(), "127.0.0.1:7443".parse().unwrap()));

    let path = format!("{}/v1/pieces/{}", site.url, Digest::of_bytes(ROOT));
    let outline = site.client.get(path).send().await.unwrap().bytes().await.unwrap();
    let outline = Outline::check(Digest::of_bytes(ROOT), ROOT.len() as u64, &outline).unwrap();
    assert!(outline.fits(0, ROOT));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_to_share_fetches_all_from_us_and_is_named_to_nobody() {
    let site = start(|_| {}).await;
    let none = Held::none(1);
    // Of no network that is a site by itself.
    assert_eq!(site.swarm(MAC, &ask(1, &none)).await.site, None);
    site.defaults(json!({ "site": "127.0.0.0/8" })).await;
    assert!(site.swarm(MAC, &ask(1, &Held::all(1))).await.site.is_some());
    assert_eq!(site.swarm(OTHER, &ask(2, &none)).await.givers.len(), 1);
    // Behind a router that translates addresses.
    let behind = PiecesAsk { address: [192, 168, 1, 9].into(), ..ask(2, &none) };
    assert_eq!(site.swarm(OTHER, &behind).await.site, None);
    let off = json!({ "peers": false }).to_string();
    let path = format!("/v1/machines/{MAC}/config");
    assert_eq!(site.change(Method::PUT, &path, off, None).await.status(), StatusCode::OK);
    let swarm = site.swarm(MAC, &ask(1, &Held::all(1))).await;
    assert_eq!((swarm.site, swarm.givers.len(), swarm.granted.len()), (None, 0, 0));
    let other = site.swarm(OTHER, &ask(2, &none)).await;
    assert!(other.givers.is_empty(), "the first does not share");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_is_refused_with_the_reason() {
    let site = start(|_| {}).await;
    let path = format!("/v1/machines/{MAC}/pieces");
    let good = ask(1, &Held::none(1));
    let refused = async |asked: PiecesAsk| {
        let (status, text) = site.post(&path, &asked).await;
        (status.as_u16(), text)
    };
    let (status, text) = refused(PiecesAsk { file: Digest([1; 32]), ..good.clone() }).await;
    assert!(status == 404 && text.contains("no image here"), "{text}");
    for held in ["xy", "ffff"] {
        let (status, text) = refused(PiecesAsk { held: held.into(), ..good.clone() }).await;
        assert!(status == 400 && text.contains("held"), "{text}");
    }
    let avoid = vec![key(1).public(); 33];
    assert_eq!(refused(PiecesAsk { avoid, ..good.clone() }).await.0, 400);
    let (status, _) = site.post(&path, &json!({ "file": 1 })).await;
    assert!(status.is_client_error());
    let absent = format!("{}/v1/pieces/{}", site.url, Digest([1; 32]));
    assert_eq!(site.client.get(absent).send().await.unwrap().status(), StatusCode::NOT_FOUND);
}
