//! The real kernel: every system call of PID 1 that no library makes for it.
#![allow(unsafe_code)]

mod block;
mod cage;
mod card;
mod clock;
#[cfg(feature = "faults")]
mod faults;
mod kmsg;
mod living;
mod root;
mod swap;
mod uevents;
mod variable;

use super::{
    End, Entry, Exit, Kept, Kernel, KernelLog, LoopDevice, Mapping, Mount, Pid, Pixels, Probe,
    Program, Started, Stop, TextScreen, Watchdog,
};
use crate::firewall::{self, Firewall};
use cage::Locked;
use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    mount::MsFlags,
    sys::{
        reboot::{RebootMode, reboot, set_cad_enabled},
        signal::{Signal, kill, killpg},
        stat::{Mode, SFlag, makedev, mknod},
        time::TimeSpec,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    time::{ClockId, clock_gettime, clock_settime},
};
use std::{
    collections::VecDeque,
    fs::{self, File, Permissions},
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{OpenOptionsExt, PermissionsExt, chown},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Where control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// A TPM 2.0 behind the resource manager; what we leave in it goes when we close it.
const TPM: &str = "/dev/tpmrm0";

/// The kernel that runs us.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

impl Linux {
    fn cgroup(program: &Program) -> PathBuf {
        Path::new(CGROUPS).join(program.group)
    }

    /// The file that a process joins the service's control group by, its limits set; none where it is
    /// to have no limits.
    fn cgroup_entrance(program: &Program) -> io::Result<Option<File>> {
        if program.cage.group.is_empty() {
            return Ok(None);
        }
        let controllers = Path::new(CGROUPS).join("cgroup.subtree_control");
        cage::named(controllers.display(), put(&controllers, "+memory +pids +cpu"))?;
        // The kernel makes it without a right to write for anybody, and PID 1 overrides no rights.
        cage::named(CGROUPS, fs::set_permissions(CGROUPS, Permissions::from_mode(0o755)))?;
        let group = Self::cgroup(program);
        match fs::create_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return cage::named(group.display(), Err(error));
            }
            _ => {}
        }
        for (file, value) in &program.cage.group {
            match put(&group.join(file), value) {
                // A kernel without swap has no limit for it.
                Err(error) if error.kind() == io::ErrorKind::NotFound && file.contains("swap") => {}
                other => cage::named(file, other)?,
            }
        }
        let entrance = group.join("cgroup.procs");
        let file = File::options().write(true).open(&entrance);
        cage::named(entrance.display(), file).map(Some)
    }
}

/// Writes a value to a file of the kernel's, by one write.
fn put(path: &Path, value: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(value.as_bytes())
}

/// Locks the calling process in, between fork and exec. What fails names itself on the standard
/// error, since an errno alone comes back from here.
fn confine(locked: &Locked) -> io::Result<()> {
    if let Some(entrance) = &locked.entrance {
        // "0" is the writer itself.
        step("control group", nix::unistd::write(entrance, b"0").map(drop))?;
    }
    step("out-of-memory score", locked.go_first())?;
    // Some libraries open sockets that would outlive exec (mozim's raw one).
    // SAFETY: close_range reads no memory of ours, and marking descriptors close-on-exec closes
    // none under their owners.
    let closed = unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    step("open files", Errno::result(closed).map(drop))?;
    step("session", nix::unistd::setsid().map(drop))?;
    step("root", locked.enter_root())?;
    for limit in &locked.limits {
        step("limits", nix::sys::resource::setrlimit(limit.resource, limit.most, limit.most))?;
    }
    for capability in 0..=libc::c_ulong::from(u8::MAX) {
        // SAFETY: no argument is an address.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(dropped) {
            // Beyond the last one that this kernel knows.
            Err(Errno::EINVAL) => break,
            other => step("capabilities", other.map(drop))?,
        }
    }
    // With the last user id 0 goes every capability.
    step("groups", nix::unistd::setgroups(&[]))?;
    let (user, group) = (locked.user.into(), locked.user.into());
    step("group", nix::unistd::setresgid(group, group, group))?;
    step("user", nix::unistd::setresuid(user, user, user))?;
    step("no new privileges", nix::sys::prctl::set_no_new_privs())?;
    // SAFETY: no argument is an address; the descriptor is open.
    let restricted =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, locked.ruleset.as_raw_fd(), 0) };
    step("Landlock", Errno::result(restricted).map(drop))?;
    match seccompiler::apply_filter(&locked.filter) {
        Ok(()) => Ok(()),
        Err(_) => step("seccomp", Err(Errno::last())),
    }
}

fn step(name: &str, result: nix::Result<()>) -> io::Result<()> {
    result.map_err(|error| {
        for part in ["the sandbox fails at: ", name, "\n"] {
            // SAFETY: the pointer and the length are those of one live string.
            let _ = unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
        }
        error.into()
    })
}

impl Kernel for Linux {
    fn since_start(&self) -> Duration {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        #[cfg(feature = "faults")]
        let now = faults::at(now);
        now
    }

    fn unix_time(&self) -> u64 {
        let now = clock_gettime(ClockId::CLOCK_REALTIME).map(|now| now.tv_sec()).unwrap_or(0);
        u64::try_from(now).unwrap_or(0)
    }

    fn set_unix_time(&self, seconds: u64) -> io::Result<()> {
        let seconds = i64::try_from(seconds).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, 0))?)
    }

    fn step_clock(&self, nanoseconds: i64) -> io::Result<()> {
        clock::step(nanoseconds)
    }

    fn slew_clock(&self, nanoseconds: i64) -> io::Result<()> {
        clock::slew(nanoseconds)
    }

    fn random(&self) -> io::Result<[u8; 32]> {
        #[cfg(feature = "faults")]
        faults::random()?;
        // Not the crate getrandom: in a static program it finds no getrandom(2) and opens
        // /dev/urandom, which is not there before `mounts`.
        let mut seed = [0; 32];
        loop {
            // SAFETY: the pointer and the length are those of one live array. Up to 256 bytes
            // come whole, or not at all when a signal interrupts the wait (getrandom(2)).
            let read = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
            if usize::try_from(read) == Ok(seed.len()) {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(seed)
    }

    fn mount(&self, mount: &Mount) -> io::Result<()> {
        fs::create_dir_all(mount.on)?;
        let mut flags = MsFlags::MS_NOSUID;
        flags.set(MsFlags::MS_NODEV, !mount.devices);
        flags.set(MsFlags::MS_NOEXEC, !mount.programs);
        let options = Some(mount.options).filter(|options| !options.is_empty());
        Ok(nix::mount::mount(Some(mount.kind), mount.on, Some(mount.kind), flags, options)?)
    }

    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        File::open(path)?.take(most as u64).read_to_end(&mut content)?;
        Ok(content)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            entries.push(Entry { name, directory: entry.file_type()?.is_dir() });
        }
        entries.sort();
        Ok(entries)
    }

    fn link_name(&self, path: &Path) -> io::Result<String> {
        let target = fs::read_link(path)?;
        let name = target.file_name().ok_or(io::ErrorKind::InvalidData)?;
        Ok(name.to_string_lossy().into_owned())
    }

    fn write(&self, path: &Path, content: &[u8], owner: Option<u32>) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // A new file is written and renamed, so that nobody reads half of one; the mode stands
        // from the first byte on.
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mode = if owner.is_some() { 0o400 } else { 0o644 };
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(content)?;
        if let Some(owner) = owner {
            chown(&new, Some(owner), Some(owner))?;
        }
        fs::rename(&new, path)
    }

    fn write_variable(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        variable::write(path, content)
    }

    fn tpm(&self) -> io::Result<tpm::Tpm> {
        let device = File::options().read(true).write(true).open(TPM)?;
        Ok(tpm::Tpm::new(tpm::Stream(device)))
    }

    fn kernel_log(&self, most: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut log = kmsg::Log::open()?;
        let mut records = VecDeque::<Vec<u8>>::new();
        let mut bytes = 0;
        while let Some(record) = log.next()? {
            bytes += record.len();
            records.push_back(record);
            while bytes > most {
                bytes -= records.pop_front().map_or(bytes, |gone| gone.len());
            }
        }
        Ok(records.into())
    }

    fn open_kernel_log(&self) -> io::Result<Box<dyn KernelLog>> {
        Ok(Box::new(kmsg::Log::open()?))
    }

    fn set(&self, path: &Path, value: &str) -> io::Result<()> {
        put(path, value)
    }

    fn open_device(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(File::open(path)?.into())
    }

    fn read_at(&self, path: &Path, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(io::SeekFrom::Start(at))?;
        let mut content = Vec::new();
        file.take(most as u64).read_to_end(&mut content)?;
        Ok(content)
    }

    fn write_at(&self, path: &Path, at: u64, content: &[u8]) -> io::Result<()> {
        let mut file = File::options().write(true).open(path)?;
        file.seek(io::SeekFrom::Start(at))?;
        file.write_all(content)?;
        file.sync_all()
    }

    fn swap_on(&self, path: &Path) -> io::Result<()> {
        swap::on(path)
    }

    fn resize(&self, on: &Path, bytes: u64) -> io::Result<()> {
        let flags =
            MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let options = format!("size={bytes}");
        Ok(nix::mount::mount(None::<&str>, on, None::<&str>, flags, Some(options.as_str()))?)
    }

    fn make_device(&self, path: &Path, number: (u32, u32), owner: u32) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let device = makedev(number.0.into(), number.1.into());
        mknod(path, SFlag::S_IFCHR, Mode::empty(), device)?;
        // While it is root's own: afterwards that would take CAP_FOWNER. Root's group opens it for
        // PID 1, which has no CAP_DAC_OVERRIDE.
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        chown(path, Some(owner), None)
    }

    fn memory_file(&self) -> io::Result<File> {
        block::memory_file()
    }

    fn seal(&self, file: &File) -> io::Result<()> {
        block::seal(file)
    }

    fn loop_device(&self, file: &File) -> io::Result<LoopDevice> {
        block::loop_device(file)
    }

    fn map_device(&self, mapping: &Mapping) -> io::Result<PathBuf> {
        block::map_device(mapping)
    }

    fn unmap_device(&self, name: &str) -> io::Result<()> {
        block::unmap_device(name)
    }

    fn mount_device(&self, device: &Path, kind: &str, on: &Path) -> io::Result<()> {
        root::mount_device(device, kind, on)
    }

    fn switch_root(&self, root: &Path, moved: &[&str], kept: &Kept) -> io::Result<()> {
        root::switch(root, moved, kept)
    }

    fn firewall(&self, firewall: &Firewall) -> io::Result<()> {
        firewall::linux::replace(firewall)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn watchdog(&self, device: &Path, timeout: Duration) -> io::Result<Watchdog> {
        living::watchdog(device, timeout)
    }

    fn text_screen(&self) -> io::Result<TextScreen> {
        living::text_screen()
    }

    fn pixel_screen(&self) -> io::Result<Box<dyn Pixels>> {
        card::open()
    }

    fn load_module(&self, path: &Path, probe: Probe) -> io::Result<()> {
        // A parameter that every module has (admin-guide/kernel-parameters).
        let parameters = match probe {
            Probe::Waited => c"",
            Probe::Aside => c"async_probe",
        };
        match finit_module(File::open(path)?, parameters, ModuleInitFlags::empty()) {
            Ok(()) | Err(nix::Error::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn uevents(&self) -> io::Result<Box<dyn super::Uevents>> {
        Ok(Box::new(uevents::Uevents::open()?))
    }

    fn spawn(&self, program: &Program) -> io::Result<Started> {
        let (output, input) = io::pipe()?;
        let entrance = Self::cgroup_entrance(program)?;
        let locked = Locked::prepare(&program.cage, entrance)?;
        let mut command = Command::new(&program.path);
        command
            .args(&program.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(input.try_clone()?)
            .stderr(input);
        // SAFETY: the closure runs in the forked child before exec, where only async-signal-safe
        // calls are allowed. `confine` and what it calls make system calls on values that were made
        // before the fork; they take no lock and allocate nothing: nix's errors and an `io::Error`
        // of an errno are plain numbers.
        unsafe {
            command.pre_exec(move || confine(&locked));
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                // With the last writing end its words are whole.
                drop(command);
                let mut said = String::new();
                let _ = File::from(OwnedFd::from(output)).take(1024).read_to_string(&mut said);
                let said = said.trim().replace('\n', "; ");
                let text =
                    if said.is_empty() { error.to_string() } else { format!("{said}: {error}") };
                return Err(io::Error::new(error.kind(), text));
            }
        };
        let pid = Pid::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData)?;
        // The handle is let go: PID 1 reaps every process in one place.
        drop(child);
        #[cfg(feature = "faults")]
        faults::spawned(self.since_start());
        Ok(Started { pid, output: output.into() })
    }

    fn stop(&self, program: &Program, pid: Pid, how: Stop) -> io::Result<()> {
        let pid = nix::unistd::Pid::from_raw(pid);
        match how {
            Stop::Ask => Ok(kill(pid, Signal::SIGTERM)?),
            Stop::Kill => {
                let all = fs::write(Self::cgroup(program).join("cgroup.kill"), "1");
                // Its process group too, for a kernel without cgroup2. That it is gone is fine.
                let group = killpg(pid, Signal::SIGKILL);
                if all.is_err() && !matches!(group, Ok(()) | Err(nix::Error::ESRCH)) {
                    group?;
                }
                Ok(())
            }
        }
    }

    fn reap(&self) -> Option<(Pid, Exit)> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => {
                    return Some((pid.as_raw(), Exit::Status(status)));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    return Some((pid.as_raw(), Exit::Signal(signal as i32)));
                }
                Ok(WaitStatus::StillAlive) => return None,
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(_) => return None,
            }
        }
    }

    fn take_ctrl_alt_del(&self) -> io::Result<()> {
        Ok(set_cad_enabled(false)?)
    }

    fn end(&self, how: End) -> io::Error {
        nix::unistd::sync();
        let mode = match how {
            End::PowerOff => RebootMode::RB_POWER_OFF,
            End::Restart => RebootMode::RB_AUTOBOOT,
        };
        match reboot(mode) {
            Err(error) => error.into(),
        }
    }
}
