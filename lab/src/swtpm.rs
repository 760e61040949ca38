//! TPM 2.0 chips for machines: swtpm, which is libtpms as a process.
//!
//! Of the newer suite's packages, unpacked with every library that it needs and run by the loader
//! among them, as [`crate::bochs`] is: nothing is installed.
//!
//! A chip is its state folder: a second start on the same folder is the same chip with the same
//! seeds, and a copied folder is a cloned chip.

use crate::{
    error::{At, Error},
    service::{Ready, Service, ServiceSpec},
};
use image::Packages;
use std::{
    fs,
    io::ErrorKind,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

/// The emulator, and its own libraries.
pub const PACKAGES: [&str; 2] = ["swtpm", "swtpm-libs"];

/// Of a package's tree: where libraries are, swtpm's own among them, and the loader.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";
/// How long a chip may take to be there.
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// The emulator, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swtpm {
    tree: PathBuf,
}

impl Swtpm {
    /// Fetches and unpacks it.
    pub fn fetch(packages: &Packages) -> Result<Self, Error> {
        let swtpm = Self { tree: packages.with_libraries(&PACKAGES)? };
        for path in [swtpm.program(), swtpm.tree.join(LOADER)] {
            if !path.exists() {
                let detail = "the packages do not hold it".into();
                return Err(Error::BadFile { path, detail });
            }
        }
        Ok(swtpm)
    }

    fn program(&self) -> PathBuf {
        self.tree.join("usr/bin/swtpm")
    }

    /// The state folder of chip `name` in `folder`.
    pub fn state(name: &str, folder: &Path) -> PathBuf {
        folder.join(format!("{name}.tpm"))
    }

    /// The control socket of a machine's chip, relative to its folder: a socket's path has 107
    /// bytes at most.
    pub fn control(name: &str) -> String {
        format!("{name}.tpm-control")
    }

    /// Starts a machine's chip; QEMU gives it power by its control socket. It stays when the
    /// machine is switched off, and starts anew with it.
    pub fn for_machine(&self, name: &str, folder: &Path) -> Result<Service, Error> {
        let control = Self::control(name);
        self.start(name, folder, &control, &["--ctrl", &format!("type=unixio,path={control}")])
    }

    /// Starts a chip that has power already and takes commands on the socket that is given with it.
    pub fn alone(&self, name: &str, folder: &Path) -> Result<(Service, PathBuf), Error> {
        let socket = format!("{name}.tpm-commands");
        let server = format!("type=unixio,path={socket}");
        let flags = ["--server", &server, "--flags", "not-need-init,startup-clear"];
        let service = self.start(name, folder, &socket, &flags)?;
        Ok((service, folder.join(socket)))
    }

    fn start(
        &self,
        name: &str,
        folder: &Path,
        socket: &str,
        flags: &[&str],
    ) -> Result<Service, Error> {
        let state = Self::state(name, folder);
        fs::create_dir_all(&state).at(state.display())?;
        let libraries = self.tree.join(LIBRARIES);
        let search = format!("{0}:{0}/swtpm", libraries.display());
        let spec = ServiceSpec::new(&format!("{name}-tpm"), self.tree.join(LOADER), folder)
            // Of the host's libraries none.
            .args(["--inhibit-cache", "--library-path", &search])
            .arg(self.program())
            .args(["socket", "--tpm2", "--tpmstate", &format!("dir={name}.tpm,mode=0600")])
            // The filter of a newer C library's system calls does not know an older kernel's.
            .args(["--seccomp", "action=none"])
            .args(flags.iter().copied())
            .ready(Ready::AtOnce);
        let path = folder.join(socket);
        let _ = fs::remove_file(&path);
        let mut service = Service::start(spec)?;
        let end = Instant::now() + LIMIT;
        while !path.exists() {
            service.check()?;
            if Instant::now() > end {
                let detail = format!("{} does not appear", path.display());
                return Err(Error::Tool { tool: "swtpm", detail });
            }
            sleep(POLL);
        }
        Ok(service)
    }
}

/// Connects to a chip that runs [`Swtpm::alone`].
pub fn connect(socket: &Path) -> Result<UnixStream, Error> {
    let end = Instant::now() + LIMIT;
    loop {
        match UnixStream::connect(socket) {
            // Its file is there a moment before it listens.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < end => {
                sleep(POLL);
            }
            other => return other.at(socket.display()),
        }
    }
}
