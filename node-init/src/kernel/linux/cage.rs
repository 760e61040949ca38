//! A service's cage made ready before its process is: its root put together, its Landlock rules
//! collected. What is left for between fork and exec is a handful of system calls.

use crate::sandbox::{Cage, limits::Limit, root::Place};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::CloneFlags,
    sys::stat::Mode,
};
use seccompiler::BpfProgram;
use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
};

/// What the kernels of our images know (Linux 6.12). A kernel that knows less starts no service.
const LANDLOCK: ABI = ABI::V6;
/// Its first victim where memory runs out outside of its own group too.
const FIRST: &[u8] = b"1000";

/// A cage, ready to be entered.
pub(super) struct Locked {
    pub(super) entrance: Option<File>,
    pub(super) user: u32,
    pub(super) limits: Vec<Limit>,
    pub(super) ruleset: OwnedFd,
    pub(super) filter: BpfProgram,
    root: CString,
}

/// An error with what it is about.
pub(super) fn named<T>(what: impl std::fmt::Display, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("sandbox: {what}: {error}")))
}

impl Locked {
    /// Puts the root together anew and collects the rules.
    pub(super) fn prepare(cage: &Cage, entrance: Option<File>) -> io::Result<Self> {
        build_root(cage)?;
        Ok(Self {
            entrance,
            user: cage.user,
            limits: cage.limits.clone(),
            ruleset: named("Landlock", ruleset(cage).map_err(io::Error::other))?
                .ok_or_else(|| io::Error::other("sandbox: this kernel has no Landlock"))?,
            filter: cage.filter.clone(),
            root: CString::new(cage.root.as_os_str().as_bytes())?,
        })
    }

    /// Has the kernel choose this process first where memory runs out. Allocates nothing.
    pub(super) fn go_first(&self) -> nix::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
        nix::unistd::write(file, FIRST).map(drop)
    }

    /// Makes the cage's root this process's own, in a mount name space of its own. Allocates
    /// nothing.
    pub(super) fn enter_root(&self) -> nix::Result<()> {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&std::ffi::CStr>;
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(none, c"/", none, private, none)?;
        nix::unistd::chdir(self.root.as_c_str())?;
        // pivot_root(2) is not for the kernel's first root, which an initramfs is.
        mount(Some(c"."), c"/", none, MsFlags::MS_MOVE, none)?;
        nix::unistd::chroot(c".")?;
        nix::unistd::chdir(c"/")
    }
}

/// Puts a root together where nobody else looks. What a start before left there is let go.
fn build_root(cage: &Cage) -> io::Result<()> {
    let root = cage.root.as_path();
    fs::create_dir_all(root)?;
    loop {
        match umount2(root, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            // Nothing is mounted there any more.
            Err(Errno::EINVAL) => break,
            Err(error) => return named(root.display(), Err(error.into())),
        }
    }
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = Some("mode=755,size=1m,nr_inodes=256");
    named(root.display(), tmpfs(root, strict, options))?;
    for place in &cage.places {
        named(place.path(), put(root, place, strict))?;
    }
    let read_only = strict | MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    named(root.display(), Ok(mount(None::<&str>, root, None::<&str>, read_only, None::<&str>)?))
}

fn tmpfs(on: &Path, flags: MsFlags, options: Option<&str>) -> io::Result<()> {
    Ok(mount(Some("tmpfs"), on, Some("tmpfs"), flags, options)?)
}

fn put(root: &Path, place: &Place, strict: MsFlags) -> io::Result<()> {
    let at = root.join(place.path().trim_start_matches('/'));
    let flags = match place {
        Place::Scratch { options, .. } => {
            fs::create_dir_all(&at)?;
            return tmpfs(&at, strict, Some(options));
        }
        Place::Image { program, .. } => {
            let mut flags = strict | MsFlags::MS_RDONLY;
            flags.set(MsFlags::MS_NOEXEC, !program);
            flags
        }
        // A device is written to through its file, read-only or not.
        Place::Device(_) | Place::Card(_) => {
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY
        }
    };
    if fs::metadata(place.path())?.is_dir() {
        fs::create_dir_all(&at)?;
    } else {
        at.parent().map_or(Ok(()), fs::create_dir_all)?;
        File::create(&at)?;
    }
    mount(Some(place.path()), &at, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let flags = flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    Ok(mount(None::<&str>, &at, None::<&str>, flags, None::<&str>)?)
}

/// Landlock's rules: files, ports, and no signal or hidden socket to anybody outside.
fn ruleset(cage: &Cage) -> Result<Option<OwnedFd>, Box<dyn std::error::Error + Send + Sync>> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    let folder = AccessFs::ReadFile | AccessFs::ReadDir;
    for place in &cage.places {
        let path = cage.root.join(place.path().trim_start_matches('/'));
        let allowed: BitFlags<AccessFs> = match place {
            Place::Image { .. } if path.is_dir() => folder,
            Place::Image { .. } => AccessFs::ReadFile.into(),
            Place::Device(_) => AccessFs::ReadFile | AccessFs::WriteFile,
            Place::Card(_) => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
            Place::Scratch { .. } => {
                folder
                    | AccessFs::WriteFile
                    | AccessFs::Truncate
                    | AccessFs::MakeReg
                    | AccessFs::MakeDir
                    | AccessFs::RemoveFile
                    | AccessFs::RemoveDir
            }
        };
        rules = rules.add_rule(PathBeneath::new(PathFd::new(&path)?, allowed))?;
    }
    // Programs and their loader, though they may lie below a folder of the above.
    for path in &cage.execute {
        let path = cage.root.join(path.trim_start_matches('/'));
        let allowed = AccessFs::ReadFile | AccessFs::Execute;
        rules = rules.add_rule(PathBeneath::new(PathFd::new(&path)?, allowed))?;
    }
    for port in &cage.ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(rules.into())
}
