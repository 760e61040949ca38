//! The provisioner's API, tried by schemathesis: what its description allows is taken, what it does
//! not is refused, and no answer is another than it says.

mod populate;

use self::populate::{owner, token};
use crate::{python, workspace};
use anyhow::{Context, bail};
use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// Inputs of each operation, beside those that its schema's limits give: of some fifty operations, so
/// that all of them take a minute.
const EXAMPLES: &str = "8";
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Refusals that the description names, of requests that are well formed: somebody else's key, a state
/// that moved on, values that are none of the configuration's, a token that is another's. Media are for
/// strangers, who may ask for them so often (429), and there are as many operators as may be (507).
/// What is there is named, so that it is found; and changed, at whatever revision it is.
fn configuration() -> String {
    let media =
        [("/v1/media/{token}", "token", token()), ("/v1/media/of/{address}", "address", owner())];
    let named = [
        ("/v1/groups/{name}", "name", "rack-7"),
        ("/v1/groups/{name}/machines", "name", "rack-7"),
        ("/v1/rules/{name}", "name", "new"),
        ("/v1/owners/{name}", "name", "anna"),
        ("/v1/config/history/{revision}", "revision", "1"),
    ];
    let of_machine = [
        "",
        "/state",
        "/timeline",
        "/crashes",
        "/console",
        "/config",
        "/labels",
        "/work",
        "/crashes/{id}",
    ];
    let of_machine = of_machine
        .map(|rest| (format!("/v1/machines/{{mac}}{rest}"), "mac", populate::STANDS.to_owned()));
    let all = named.map(|(path, name, value)| (path.to_owned(), name, value.to_owned()));
    let media = media.map(|(path, name, value)| (path.to_owned(), name, value));
    let mut text = String::from(
        "[checks.positive_data_acceptance]\nexpected-statuses = [\"2xx\", \"3xx\", \"401\", \"403\", \
         \"404\", \"409\", \"412\", \"422\", \"428\", \"429\", \"507\"]\n\
         [checks.negative_data_rejection]\nexpected-statuses = [\"400\", \"401\", \"403\", \"404\", \
         \"405\", \"406\", \"409\", \"412\", \"413\", \"415\", \"422\", \"428\", \"429\"]\n",
    );
    for (path, name, value) in of_machine.into_iter().chain(all).chain(media) {
        let value = if name == "revision" { value } else { format!("{value:?}") };
        let changes = if name == "name" || path.ends_with("/config") || path.ends_with("/labels") {
            ", If-Match = \"*\""
        } else {
            ""
        };
        text += &format!(
            "\n[[operations]]\ninclude-path = {path:?}\nparameters = {{ {name} = {value}{changes} }}\n"
        );
    }
    // What is signed for another chain, or by nobody, is well formed all the same.
    for path in ["/v1/media", "/v1/media/{token}/revoke"] {
        text += &format!(
            "\n[[operations]]\ninclude-path = {path:?}\nchecks.positive_data_acceptance.expected-statuses = \
             [\"2xx\", \"400\", \"403\", \"404\", \"409\", \"412\", \"422\", \"429\"]\n"
        );
    }
    // schemathesis puts an address that it knows in place of one that is none, and holds it for that.
    text + "\n[[operations]]\ninclude-path = \"/v1/machines/{mac}/crashes/{id}\"\n\
            checks.negative_data_rejection.expected-statuses = [\"2xx\", \"4xx\"]\n"
}

/// The provisioner, which ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Installs it, where it is not there.
pub(crate) fn prepare() -> anyhow::Result<()> {
    python::environment("schemathesis", &[SCHEMATHESIS]).map(drop)
}

/// Tries every operation of the API.
pub(crate) fn run() -> anyhow::Result<()> {
    let python = python::environment("schemathesis", &[SCHEMATHESIS])?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let program = workspace::program("provisioner");
    let child = Command::new(&program)
        .args(["serve", "--interface", "lo", "--dhcp", "off", "--http-port", "0"])
        .args(["--https-port", "0", "--database"])
        .arg(folder.path().join("provisioner.sqlite"))
        .args(populate::files(folder.path())?)
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .stderr(File::create(folder.path().join("errors"))?)
        .spawn()
        .with_context(|| program.display().to_string())?;
    let _server = Server(child);
    let told = started(&log)?;
    let word = |before: &str| {
        let rest = told.split_once(before).map(|(_, rest)| rest);
        rest.and_then(|rest| rest.split_whitespace().next()).context("it does not say where it is")
    };
    let url = word("page and API")?;
    let token = word("shown this once:")?;
    populate::populate(url, token)?;
    let path = folder.path().join("schemathesis.toml");
    fs::write(&path, configuration())?;
    let status = Command::new(python.with_file_name("schemathesis"))
        .arg("--config-file")
        .arg(&path)
        .args(["run", &format!("{url}/v1/openapi.json"), "--no-color", "--checks", "all"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // A stream without end; it has tests of its own.
        .args(["--exclude-path", "/v1/events"])
        .args(["--exclude-path", "/v1/machines/{mac}/console/live", "--continue-on-failure"])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", EXAMPLES])
        .current_dir(folder.path())
        .status()
        .context("running schemathesis")?;
    if !status.success() {
        bail!("an answer is another than the API's description says");
    }
    Ok(())
}

fn started(log: &Path) -> anyhow::Result<String> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let text = fs::read_to_string(log)?;
        if text.contains("\nready") {
            return Ok(text);
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("the provisioner does not start: {}", fs::read_to_string(log)?)
}
