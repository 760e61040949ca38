//! The calling program run again in namespaces of its own: network, processes, mounts, and, for
//! a user who is not root, users.
//!
//! The program outside calls [`enter`] with the arguments to run itself with; the program so run
//! calls [`inside`] first. It is process 1 of a process namespace, so all that it ever starts dies
//! with it, and with the last of them the network and mount namespaces go. It dies with the
//! program outside because it reads to the end of a pipe that only that program holds; it dies
//! with `unshare`, between the two, by `--kill-child`. So any of them can be killed at any time.
//!
//! `unshare` is util-linux's: making namespaces between fork and exec would need unsafe code.

use crate::{
    error::{At, Error},
    relay,
};
use nix::{
    mount::{MsFlags, mount},
    unistd::geteuid,
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
};

/// Carries a [`Handover`] inside.
const HANDOVER: &str = "ALIA_SANDBOX";
/// Exit status of a program whose outside half has gone.
const ABANDONED: i32 = 3;

/// A port inside that is wanted outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// A short name: `page`.
    pub name: String,
    /// The port on 127.0.0.1 outside; 0 for any free one.
    pub port: u16,
    /// Where it leads inside.
    pub inside: SocketAddr,
}

#[derive(Serialize, Deserialize)]
struct Handover {
    folder: std::path::PathBuf,
    relays: Vec<Relay>,
}

/// How namespaces are made for this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// As root, who may.
    Root,
    /// In a user namespace, in which the user is root.
    UserNamespace,
}

/// Finds out how namespaces and TAP devices can be had, by making some.
pub fn privilege() -> Result<Privilege, Error> {
    let privilege = if geteuid().is_root() { Privilege::Root } else { Privilege::UserNamespace };
    let needs_root = |why: String| Error::NeedsRoot {
        what: "a network of its own for the machines",
        why,
        mend: "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0) and open /dev/net/tun to your user",
    };
    if let Err(error) = File::options().read(true).write(true).open("/dev/net/tun") {
        return Err(needs_root(format!("/dev/net/tun: {error}")));
    }
    let output = unshare(privilege).arg("true").output().map_err(no_unshare)?;
    if !output.status.success() {
        return Err(needs_root(String::from_utf8_lossy(&output.stderr).trim().to_string()));
    }
    Ok(privilege)
}

fn no_unshare(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => {
            Error::NoTool { program: "unshare".into(), package: "util-linux", why: "namespaces" }
        }
        _ => Error::Io { what: "unshare".into(), source: error },
    }
}

fn unshare(privilege: Privilege) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child=KILL"]);
    command.args(["--propagation", "private", "--mount-proc"]);
    if privilege == Privilege::UserNamespace {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--");
    command
}

/// A program in its sandbox. Dropping it ends the sandbox and all in it.
pub struct Sandbox {
    child: Child,
    /// The pipe whose end tells the program inside that we are gone.
    lifeline: Option<ChildStdin>,
    /// Holds the relays' sockets.
    _folder: tempfile::TempDir,
    relays: Vec<(String, SocketAddr)>,
}

/// Runs this program again, with `arguments`, in a sandbox; its output is ours. The relays lead
/// nowhere until something listens inside.
pub fn enter(
    privilege: Privilege,
    arguments: &[OsString],
    relays: Vec<Relay>,
) -> Result<Sandbox, Error> {
    let folder = tempfile::Builder::new().prefix("alia-lab-").tempdir().at("a temporary folder")?;
    let outside = relays
        .iter()
        .map(|r| Ok((r.name.clone(), relay::outside(r.port, &socket(folder.path(), &r.name))?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let handover = Handover { folder: folder.path().into(), relays };
    let handover = serde_json::to_string(&handover).map_err(io::Error::other).at("the relays")?;
    let mut child = unshare(privilege)
        .arg(this_program()?)
        .args(arguments)
        .env(HANDOVER, handover)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(no_unshare)?;
    let lifeline = child.stdin.take();
    Ok(Sandbox { child, lifeline, _folder: folder, relays: outside })
}

/// The calling program's path. A build may have put a new file in its place meanwhile, which the
/// kernel tells by a suffix.
fn this_program() -> Result<std::path::PathBuf, Error> {
    let path = std::env::current_exe().at("this program's path")?;
    let new = path.to_str().and_then(|path| path.strip_suffix(" (deleted)"));
    Ok(new.map_or(path.clone(), Into::into))
}

fn socket(folder: &std::path::Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{name}.sock"))
}

impl Sandbox {
    /// The relays' addresses outside, by name.
    pub fn relays(&self) -> &[(String, SocketAddr)] {
        &self.relays
    }

    /// The process id of `unshare`, whose only child is the program inside.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program inside has ended by itself.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        // `Child::wait` would close the pipe first; it was taken out for that reason.
        self.child.wait().at("the sandbox")
    }

    /// The status if the program inside has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().at("the sandbox")
    }

    /// Ends the sandbox and all in it.
    pub fn end(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        drop(self.lifeline.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.finish();
    }
}

/// To be called first by a program that [`enter`] runs: ends it when the outside is gone, gives it
/// a `/run` of its own, brings the loopback up, and opens the relays.
///
/// An error when the program was not started by [`enter`].
pub fn inside() -> Result<(), Error> {
    let handover = std::env::var(HANDOVER).ok().filter(|_| std::process::id() == 1);
    let handover: Handover =
        handover.and_then(|text| serde_json::from_str(&text).ok()).ok_or_else(|| Error::Io {
            what: "the sandbox".into(),
            source: io::Error::other(
                "this is for the inside of one; start it through `up` or `test`",
            ),
        })?;
    let folder = handover.folder.clone();
    let watch = move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = [0; 64];
        while stdin.read(&mut buffer).is_ok_and(|n| n > 0) {}
        // A program that was killed could not take its sockets away.
        let _ = std::fs::remove_dir_all(folder);
        std::process::exit(ABANDONED);
    };
    thread::Builder::new().name("lifeline".into()).spawn(watch).at("a thread")?;
    // `ip netns` keeps its files there; the host's must not get any.
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        None::<&str>,
    )
    .at("a tmpfs on /run")?;
    crate::net::ip(&["link set lo up".into()])?;
    for relay in &handover.relays {
        relay::inside(&socket(&handover.folder, &relay.name), relay.inside)?;
    }
    Ok(())
}
