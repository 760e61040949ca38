//! A real PostgreSQL in a folder, on a socket there.

use crate::{
    error::{At, Error},
    service::{Ready, Service, ServiceSpec},
};
use nix::unistd::geteuid;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// How long it may take to be ready, a recovery after SIGKILL included.
const LIMIT: Duration = Duration::from_secs(60);
/// The database's user, and its folder of data in ours.
const USER: &str = "alia";
const DATA: &str = "data";
/// It runs under no root; in a user namespace of its own, whoever is root outside is this user.
const NOT_ROOT: [&str; 5] = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"];

/// A server that runs. Dropped, it is killed.
pub struct Postgres {
    folder: PathBuf,
    service: Service,
}

impl Postgres {
    /// Makes one in `folder`, an absolute path short enough for a socket's (some 80 bytes), from
    /// the programs in `programs`, and waits until it takes questions.
    pub fn start(programs: &Path, folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).at(folder.display())?;
        let data = folder.join(DATA);
        if !data.exists() {
            // Not synced to the disk: it lives as long as the test.
            let mut words = words(&programs.join("initdb"));
            words.extend(["-D".into(), DATA.into(), "-U".into(), USER.into()]);
            words.extend(
                ["-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"].map(PathBuf::from),
            );
            let mut words = words.into_iter();
            let program = words.next().unwrap_or_default();
            let output = Command::new(&program).args(words).current_dir(folder).output();
            let output = output.at(program.display())?;
            if !output.status.success() {
                let detail = String::from_utf8_lossy(&output.stderr).trim().to_string();
                return Err(Error::Tool { tool: "initdb", detail });
            }
        }
        let mut words = words(&programs.join("postgres")).into_iter();
        let spec = ServiceSpec::new("postgres", words.next().unwrap_or_default(), folder)
            .args(words)
            .args(["-D", DATA, "-c", "listen_addresses=", "-k"])
            .arg(folder)
            .ready(Ready::Line("ready to accept connections".into()));
        Ok(Self { folder: folder.into(), service: Service::start_ready(spec, LIMIT)? })
    }

    /// What `--database` is given for the database of that name; `{}` stays as it is.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql:///{database}?host={}&user={USER}", self.folder.display())
    }

    /// Makes a database, by the `psql` beside the server.
    pub fn create(&self, programs: &Path, database: &str) -> Result<(), Error> {
        let statement = format!("CREATE DATABASE {database}");
        let output = Command::new(programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", &self.url("postgres"), "--command", &statement])
            .output()
            .at("psql")?;
        if output.status.success() {
            return Ok(());
        }
        let detail = String::from_utf8_lossy(&output.stderr).trim().to_string();
        Err(Error::Tool { tool: "psql", detail })
    }

    /// SIGKILL, to all of it.
    pub fn kill(&mut self) {
        self.service.kill();
        // Its lock file names a process that is no more.
        let _ = fs::remove_file(self.folder.join(DATA).join("postmaster.pid"));
    }

    /// Starts it again, on the same data.
    pub fn restart(&mut self) -> Result<(), Error> {
        let mark = self.service.console().mark();
        self.service.restart()?;
        self.service.wait_line(mark, "ready to accept connections", LIMIT).map(drop)
    }
}

fn words(program: &Path) -> Vec<PathBuf> {
    let before: &[&str] = if geteuid().is_root() { &NOT_ROOT } else { &[] };
    before.iter().map(PathBuf::from).chain([program.into()]).collect()
}
