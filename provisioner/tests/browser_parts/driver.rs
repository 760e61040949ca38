//! A Chromium that does what it is told: the W3C's WebDriver, as chromedriver speaks it.

use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

/// How long something may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);
/// The tallest picture, in pixels.
const TALLEST: u64 = 2_600;
/// How an element is named in answers (WebDriver, section 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// chromedriver, which ends with this.
pub(crate) struct Driver {
    child: Child,
    url: String,
    client: Client,
    folder: PathBuf,
    /// Of the browsers that it started.
    sessions: Mutex<Vec<String>>,
}

impl Drop for Driver {
    /// Browsers outlive a chromedriver that is killed: they are told to end first.
    fn drop(&mut self) {
        let address = self.url.trim_start_matches("http://").to_owned();
        for id in self.sessions.get_mut().unwrap().drain(..) {
            let Ok(mut stream) = TcpStream::connect(&address) else { continue };
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let ask = format!("DELETE /session/{id} HTTP/1.1\r\nHost: {address}\r\n\r\n");
            let _ =
                stream.write_all(ask.as_bytes()).and_then(|()| stream.read(&mut [0; 64]).map(drop));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Driver {
    pub(crate) async fn start(folder: &Path) -> Self {
        let program = env::var("ALIA_CHROMEDRIVER").unwrap_or("chromedriver".into());
        let mut child =
            Command::new(program).arg("--port=0").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines
            .find_map(|line| line.ok().filter(|line| line.contains("successfully on port")))
            .unwrap();
        let port = line.rsplit_once("on port ").unwrap().1.trim_end_matches('.').to_string();
        std::thread::spawn(move || lines.for_each(drop));
        let client = Client::builder().no_proxy().timeout(PATIENCE * 2).build().unwrap();
        let (url, sessions) = (format!("http://127.0.0.1:{port}"), Mutex::default());
        Self { child, url, client, folder: folder.into(), sessions }
    }

    /// A window of that size in pixels.
    pub(crate) async fn browser(&self, size: (u32, u32)) -> Browser {
        let options = json!({ "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--force-color-profile=srgb", format!("--user-data-dir={}", self.folder.join("chromium").display()),
        ] });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            // Our own authority is none that a browser has; tests of TLS are elsewhere.
            "acceptInsecureCerts": true,
            "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let answer = self.client.post(format!("{}/session", self.url)).json(&wanted).send();
        let answer: Value = answer.await.unwrap().json().await.unwrap();
        let id = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let browser =
            Browser { url: format!("{}/session/{id}", self.url), client: self.client.clone() };
        self.sessions.lock().unwrap().push(id.into());
        browser.sized(size).await;
        browser
    }
}

/// A window.
pub(crate) struct Browser {
    url: String,
    client: Client,
}

impl Browser {
    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let request = self.client.request(method.clone(), format!("{}/{path}", self.url));
        let request = if method == Method::POST { request.json(&body) } else { request };
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].clone()),
        }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn developer(&self, command: &str, parameters: Value) -> Value {
        self.post("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    /// As large as that, from now on. A telephone's width is narrower than any window may be.
    pub(crate) async fn sized(&self, (width, height): (u32, u32)) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.developer("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// From now on what is downloaded lies in that folder.
    pub(crate) async fn downloads(&self, folder: &Path) {
        let to = json!({ "behavior": "allow", "downloadPath": folder });
        self.developer("Browser.setDownloadBehavior", to).await;
    }

    pub(crate) async fn open(&self, url: &str) {
        self.post("url", json!({ "url": url })).await;
    }

    pub(crate) async fn address(&self) -> String {
        let url = self.ask(Method::GET, "url", Value::Null).await.unwrap();
        url.as_str().unwrap().to_string()
    }

    pub(crate) async fn script(&self, script: &str) -> Value {
        self.post("execute/sync", json!({ "script": script, "args": [] })).await
    }

    pub(crate) async fn text(&self) -> String {
        self.script("return document.body.innerText").await.as_str().unwrap().to_string()
    }

    /// Waits until the page shows a text.
    pub(crate) async fn until(&self, text: &str) {
        let begun = Instant::now();
        loop {
            let seen = self.text().await;
            if seen.contains(text) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{text:?} does not appear: {seen}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the page shows a text no more.
    pub(crate) async fn until_gone(&self, text: &str) {
        let begun = Instant::now();
        loop {
            let seen = self.text().await;
            if !seen.contains(text) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{text:?} does not go: {seen}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until an element has that text.
    pub(crate) async fn until_is(&self, css: &str, text: &str) {
        let script = format!("return document.querySelector('{css}')?.textContent");
        let begun = Instant::now();
        while self.script(&script).await != text {
            assert!(begun.elapsed() < PATIENCE, "{css} is never {text:?}: {}", self.text().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn element(&self, css: &str) -> String {
        let found = self.post("element", json!({ "using": "css selector", "value": css })).await;
        found[ELEMENT].as_str().unwrap().to_string()
    }

    /// A click where people would click: on what can be seen and is covered by nothing.
    pub(crate) async fn click(&self, css: &str) {
        let element = self.element(css).await;
        self.post(&format!("element/{element}/click"), json!({})).await;
    }

    pub(crate) async fn type_into(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.post(&format!("element/{element}/clear"), json!({})).await;
        self.post(&format!("element/{element}/value"), json!({ "text": text })).await;
    }

    /// Chooses a file, as the dialogue that a click opens does.
    pub(crate) async fn choose(&self, css: &str, file: &Path) {
        let element = self.element(css).await;
        self.post(&format!("element/{element}/value"), json!({ "text": file })).await;
    }

    /// Presses keys, wherever the focus is.
    pub(crate) async fn keys(&self, keys: &str) {
        let press = |key: char| {
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        };
        let actions: Vec<Value> = keys.chars().flat_map(press).collect();
        let body = json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] });
        self.post("actions", body).await;
    }

    /// Presses Tab until what has the focus has that text, and shows that it has the focus.
    pub(crate) async fn focus_by_tab(&self, text: &str) {
        for _ in 0..80 {
            self.keys("\u{E004}").await;
            let seen = self
                .script("const e = document.activeElement, s = getComputedStyle(e);
                         return [e.textContent, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]")
                .await;
            if seen[0].as_str().unwrap().trim() == text {
                assert!(seen[1].as_bool().unwrap(), "no outline: {seen}");
                return;
            }
        }
        panic!("{text:?} is not reached by Tab");
    }

    /// `light` or `dark`.
    pub(crate) async fn prefers(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.developer("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// What the browser complained of since the last time.
    pub(crate) async fn log(&self) -> Vec<String> {
        let lines = self.post("se/log", json!({ "type": "browser" })).await;
        let lines = lines.as_array().unwrap().iter();
        lines.map(|line| line["message"].as_str().unwrap().to_string()).collect()
    }

    /// A picture of the page as far as it goes, within reason, where the campaign keeps them.
    pub(crate) async fn shot(&self, name: &str) {
        let Ok(folder) = env::var("ALIA_SCREENSHOTS") else { return };
        let size = self.script("return [innerWidth, document.documentElement.scrollHeight]").await;
        let height = size[1].as_u64().unwrap().min(TALLEST);
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": height, "scale": 1 });
        let wanted = json!({ "captureBeyondViewport": true, "clip": clip });
        let picture = self.developer("Page.captureScreenshot", wanted).await;
        let picture = base64(picture["data"].as_str().unwrap());
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
    }
}

fn base64(text: &str) -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(text).unwrap()
}
