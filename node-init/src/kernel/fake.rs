//! A kernel in memory, for tests: files as a map, and a record of all that was asked of it.

use super::{
    End, Entry, Exit, Kept, Kernel, KernelLog, LoopDevice, Mapping, Mount, Pid, Pixels, Probe,
    Program, Started, Stop, TextScreen, Uevents, Watchdog,
};
use crate::firewall::Firewall;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    io::{self, Read, Seek},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// What the fake kernel knows, and what it was told to do.
pub(crate) struct World {
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    pub(crate) links: BTreeMap<PathBuf, String>,
    pub(crate) clock: u64,
    /// Paths, mount points and programs at which a call fails with this errno.
    pub(crate) failing: BTreeMap<PathBuf, i32>,
    /// A path at which a call panics.
    pub(crate) panicking: Option<PathBuf>,
    pub(crate) mounts: Vec<&'static str>,
    /// What lies behind the loop device.
    pub(crate) looped: Vec<u8>,
    pub(crate) mappings: Vec<Mapping>,
    /// What was written to devices: where from which byte on.
    pub(crate) written: Vec<(PathBuf, u64, Vec<u8>)>,
    pub(crate) swaps: Vec<PathBuf>,
    pub(crate) sizes: Vec<(PathBuf, u64)>,
    /// Block devices that were mounted: device, file system, where.
    pub(crate) devices: Vec<(PathBuf, String, PathBuf)>,
    /// The root that was gone to, and the mounts that were moved.
    pub(crate) root: Option<(PathBuf, Vec<String>)>,
    /// Files that appear with the root.
    pub(crate) in_root: Vec<(PathBuf, Vec<u8>)>,
    pub(crate) modules: Vec<String>,
    /// Those of them whose devices were not waited for.
    pub(crate) aside: Vec<String>,
    /// Files that appear when a module is loaded: the devices its driver finds.
    pub(crate) appear: BTreeMap<String, Vec<(PathBuf, Vec<u8>)>>,
    /// Device files that were made: path, number, owner.
    pub(crate) character_devices: Vec<(PathBuf, (u32, u32), u32)>,
    pub(crate) owners: BTreeMap<PathBuf, u32>,
    pub(crate) firewalls: Vec<Firewall>,
    pub(crate) spawned: Vec<Program>,
    pub(crate) stopped: Vec<(Pid, Stop)>,
    pub(crate) exits: VecDeque<(Pid, Exit)>,
    pub(crate) ended: Option<End>,
    pub(crate) seed: u8,
    /// What the kernel is going to tell of devices.
    pub(crate) uevents: VecDeque<io::Result<Vec<u8>>>,
    /// Records of the kernel's log.
    pub(crate) log: Vec<Vec<u8>>,
    /// What the watchdogs that were armed are fed, by device.
    pub(crate) watchdogs: BTreeMap<PathBuf, OwnedFd>,
    pub(crate) reset_by_watchdog: bool,
    /// Time that passed in no time.
    pub(crate) skipped: Duration,
}

pub(crate) struct Fake {
    world: Mutex<World>,
    started: Instant,
}

impl Fake {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| (path.into(), text.as_bytes().to_vec()));
        let world = World {
            files: files.collect(),
            links: BTreeMap::new(),
            clock: 1_000,
            failing: BTreeMap::new(),
            panicking: None,
            mounts: Vec::new(),
            looped: Vec::new(),
            mappings: Vec::new(),
            written: Vec::new(),
            swaps: Vec::new(),
            sizes: Vec::new(),
            devices: Vec::new(),
            root: None,
            in_root: Vec::new(),
            modules: Vec::new(),
            aside: Vec::new(),
            appear: BTreeMap::new(),
            character_devices: Vec::new(),
            owners: BTreeMap::new(),
            firewalls: Vec::new(),
            spawned: Vec::new(),
            stopped: Vec::new(),
            exits: VecDeque::new(),
            ended: None,
            seed: 0,
            uevents: VecDeque::new(),
            log: Vec::new(),
            watchdogs: BTreeMap::new(),
            reset_by_watchdog: false,
            skipped: Duration::ZERO,
        };
        Self { world: Mutex::new(world), started: Instant::now() }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.world().links.insert(path.into(), target.into());
        self
    }

    pub(crate) fn failing(self, path: &str, errno: i32) -> Self {
        self.world().failing.insert(path.into(), errno);
        self
    }

    fn check(&self, path: &Path) -> io::Result<()> {
        let panicking = self.world().panicking.clone();
        assert!(panicking.as_deref() != Some(path), "told to panic");
        match self.world().failing.get(path) {
            Some(errno) => Err(io::Error::from_raw_os_error(*errno)),
            None => Ok(()),
        }
    }
}

/// Datagrams that come at once, and then none for ever.
struct Told(VecDeque<io::Result<Vec<u8>>>);

impl Uevents for Told {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = io::Result<Vec<u8>>> + Send + '_>> {
        let next = self.0.pop_front();
        Box::pin(async {
            match next {
                Some(next) => next,
                None => std::future::pending().await,
            }
        })
    }
}

impl Kernel for Fake {
    fn since_start(&self) -> Duration {
        self.started.elapsed() + self.world().skipped
    }

    fn unix_time(&self) -> u64 {
        self.world().clock
    }

    fn set_unix_time(&self, seconds: u64) -> io::Result<()> {
        self.check(Path::new("clock"))?;
        self.world().clock = seconds;
        Ok(())
    }

    fn step_clock(&self, nanoseconds: i64) -> io::Result<()> {
        self.check(Path::new("clock"))?;
        let mut world = self.world();
        // To the nearest second, which is all that this clock has.
        let seconds = (nanoseconds as f64 / 1e9).round() as i64;
        world.clock = world.clock.saturating_add_signed(seconds);
        Ok(())
    }

    fn slew_clock(&self, _nanoseconds: i64) -> io::Result<()> {
        self.check(Path::new("clock"))
    }

    fn random(&self) -> io::Result<[u8; 32]> {
        self.check(Path::new("random"))?;
        let mut world = self.world();
        world.seed += 1;
        Ok([world.seed; 32])
    }

    fn mount(&self, mount: &Mount) -> io::Result<()> {
        self.check(Path::new(mount.on))?;
        self.world().mounts.push(mount.on);
        Ok(())
    }

    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        self.check(path)?;
        let world = self.world();
        let content = world.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(content.iter().copied().take(most).collect())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.check(path)?;
        let world = self.world();
        let mut entries = BTreeSet::new();
        for file in world.files.keys().chain(world.links.keys()) {
            let Ok(rest) = file.strip_prefix(path) else { continue };
            let mut parts = rest.components();
            let Some(first) = parts.next() else { continue };
            let name = first.as_os_str().to_string_lossy().into_owned();
            entries.insert(Entry { name, directory: parts.next().is_some() });
        }
        if entries.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(entries.into_iter().collect())
    }

    fn link_name(&self, path: &Path) -> io::Result<String> {
        Ok(self.world().links.get(path).ok_or(io::ErrorKind::NotFound)?.clone())
    }

    fn write(&self, path: &Path, content: &[u8], owner: Option<u32>) -> io::Result<()> {
        self.check(path)?;
        let mut world = self.world();
        world.files.insert(path.into(), content.to_vec());
        if let Some(owner) = owner {
            world.owners.insert(path.into(), owner);
        }
        Ok(())
    }

    fn write_variable(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.write(path, content, None)
    }

    fn tpm(&self) -> io::Result<tpm::Tpm> {
        // The real chips of `lab/tests/tpm.rs` are the test of what is asked of one.
        Err(io::ErrorKind::NotFound.into())
    }

    fn kernel_log(&self, _: usize) -> io::Result<Vec<Vec<u8>>> {
        self.check(Path::new("kernel log"))?;
        Ok(self.world().log.clone())
    }

    fn open_kernel_log(&self) -> io::Result<Box<dyn KernelLog>> {
        struct Log(VecDeque<Vec<u8>>);
        impl KernelLog for Log {
            fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
                Ok(self.0.pop_front())
            }
        }
        Ok(Box::new(Log(self.kernel_log(usize::MAX)?.into())))
    }

    fn set(&self, path: &Path, value: &str) -> io::Result<()> {
        self.check(path)?;
        let mut world = self.world();
        let content = world.files.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        *content = value.as_bytes().to_vec();
        Ok(())
    }

    fn open_device(&self, path: &Path) -> io::Result<OwnedFd> {
        self.check(path)?;
        Ok(io::pipe()?.0.into())
    }

    fn read_at(&self, path: &Path, at: u64, most: usize) -> io::Result<Vec<u8>> {
        self.check(path)?;
        let world = self.world();
        let content = world.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        Ok(content.iter().copied().skip(at).take(most).collect())
    }

    fn write_at(&self, path: &Path, at: u64, content: &[u8]) -> io::Result<()> {
        self.check(path)?;
        let mut world = self.world();
        world.written.push((path.into(), at, content.to_vec()));
        let held = world.files.get_mut(path).and_then(|file| {
            let from = usize::try_from(at).ok()?;
            file.get_mut(from..from + content.len())
        });
        if let Some(held) = held {
            held.copy_from_slice(content);
        }
        Ok(())
    }

    fn swap_on(&self, path: &Path) -> io::Result<()> {
        self.check(Path::new("swap"))?;
        self.world().swaps.push(path.into());
        Ok(())
    }

    fn resize(&self, on: &Path, bytes: u64) -> io::Result<()> {
        self.world().sizes.push((on.into(), bytes));
        Ok(())
    }

    fn make_device(&self, path: &Path, number: (u32, u32), owner: u32) -> io::Result<()> {
        self.world().character_devices.push((path.into(), number, owner));
        Ok(())
    }

    fn memory_file(&self) -> io::Result<File> {
        self.check(Path::new("memory"))?;
        Ok(nix::sys::memfd::memfd_create(c"fake", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?.into())
    }

    fn seal(&self, _file: &File) -> io::Result<()> {
        self.check(Path::new("seal"))
    }

    fn loop_device(&self, mut file: &File) -> io::Result<LoopDevice> {
        let path = PathBuf::from("/dev/loop0");
        self.check(&path)?;
        let mut content = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut content)?;
        self.world().looped = content;
        Ok(LoopDevice { path, held: file.try_clone()?.into() })
    }

    fn map_device(&self, mapping: &Mapping) -> io::Result<PathBuf> {
        self.check(Path::new(mapping.name))?;
        self.world().mappings.push(mapping.clone());
        Ok("/dev/dm-0".into())
    }

    fn unmap_device(&self, name: &str) -> io::Result<()> {
        self.world().mappings.retain(|mapping| mapping.name != name);
        Ok(())
    }

    fn mount_device(&self, device: &Path, kind: &str, on: &Path) -> io::Result<()> {
        self.check(on)?;
        self.world().devices.push((device.into(), kind.to_owned(), on.into()));
        Ok(())
    }

    fn switch_root(&self, root: &Path, moved: &[&str], _: &Kept) -> io::Result<()> {
        self.check(Path::new("switch"))?;
        let mut world = self.world();
        let moved = moved.iter().map(|on| (*on).to_owned()).collect();
        world.root = Some((root.into(), moved));
        let appear = std::mem::take(&mut world.in_root);
        world.files.extend(appear);
        Ok(())
    }

    fn firewall(&self, firewall: &Firewall) -> io::Result<()> {
        self.check(Path::new("firewall"))?;
        self.world().firewalls.push(firewall.clone());
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(path)?;
        self.world().files.remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn text_screen(&self) -> io::Result<TextScreen> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn pixel_screen(&self) -> io::Result<Box<dyn Pixels>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn watchdog(&self, device: &Path, timeout: Duration) -> io::Result<Watchdog> {
        self.check(device)?;
        let (reader, writer) = io::pipe()?;
        let mut world = self.world();
        world.watchdogs.insert(device.to_owned(), reader.into());
        let (device, reset_us) = (writer.into(), world.reset_by_watchdog);
        Ok(Watchdog { device, timeout, reset_us, name: "a fake".to_owned() })
    }

    fn load_module(&self, path: &Path, probe: Probe) -> io::Result<()> {
        self.check(path)?;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut world = self.world();
        for (path, content) in world.appear.remove(&name).unwrap_or_default() {
            world.files.insert(path, content);
        }
        let shown = format!("/sys/module/{}/refcnt", name.trim_end_matches(".ko"));
        world.files.insert(shown.into(), b"0".to_vec());
        if probe == Probe::Aside {
            world.aside.push(name.clone());
        }
        world.modules.push(name);
        Ok(())
    }

    fn uevents(&self) -> io::Result<Box<dyn Uevents>> {
        self.check(Path::new("uevents"))?;
        Ok(Box::new(Told(std::mem::take(&mut self.world().uevents))))
    }

    fn spawn(&self, program: &Program) -> io::Result<Started> {
        self.check(&program.path)?;
        let mut world = self.world();
        world.spawned.push(program.clone());
        let pid = 100 + world.spawned.len() as Pid;
        Ok(Started { pid, output: io::pipe()?.0.into() })
    }

    fn stop(&self, _program: &Program, pid: Pid, how: Stop) -> io::Result<()> {
        self.world().stopped.push((pid, how));
        Ok(())
    }

    fn reap(&self) -> Option<(Pid, Exit)> {
        self.world().exits.pop_front()
    }

    fn take_ctrl_alt_del(&self) -> io::Result<()> {
        Ok(())
    }

    fn end(&self, how: End) -> io::Error {
        self.world().ended = Some(how);
        io::Error::other("a test's machine does not end")
    }
}
