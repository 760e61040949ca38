//! A compute service that turned: it tries what a service must not be able to do.
//!
//! `cargo xtask test --long hostile` puts it into an image in place of `compute` and boots it. It
//! prints a line for each attempt, `refused NAME: ERROR` or `DONE NAME`; then it takes threads,
//! scratch, open files and memory until it is stopped. The test knows each attempt and what is to
//! become of it.
#![allow(unsafe_code, reason = "it makes the system calls that libraries would not")]

use libc::{c_int, c_long, c_void};
use protocol::boot::ComputeConfig;
use std::{
    fs::{self, File, OpenOptions},
    hint::black_box,
    io::{self, Read, Seek, Write},
    net::{SocketAddr, TcpStream},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
    thread,
    time::Duration,
};

type Attempt = (&'static str, fn(&Target) -> io::Result<()>);

/// What it was told by PID 1.
struct Target {
    config: ComputeConfig,
    server: SocketAddr,
}

/// A system call as it is. Addresses are those of what outlives the call, or null.
fn call(number: c_long, arguments: [usize; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: every caller gives numbers, null, or the address of what lives until this returns;
    // where the kernel did what it should refuse, the test has failed and nothing else matters.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn numbers(number: c_long, arguments: &[usize]) -> io::Result<()> {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    call(number, all)
}

fn opens(path: &str) -> io::Result<()> {
    File::open(path).and_then(|mut file| file.read(&mut [0; 16])).map(drop)
}

fn writes(path: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}

fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<()> {
    numbers(libc::SYS_socket, &[domain as usize, kind as usize, protocol as usize])
}

fn connects(address: SocketAddr) -> io::Result<()> {
    TcpStream::connect(address).map(drop)
}

/// Connects by the first packet of data (TCP Fast Open), without connect(2).
fn fast_open(port: u16) -> io::Result<()> {
    // SAFETY: these numbers are what the call takes, and no pointer is among them.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut address = [0u8; 16];
    address[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    let (data, flags) = (b"x".as_ptr() as usize, libc::MSG_FASTOPEN as usize);
    numbers(libc::SYS_sendto, &[socket as usize, data, 1, flags, address.as_ptr() as usize, 16])
}

/// Maps a page with these rights; from a file where one is given.
fn maps(rights: c_int, file: Option<&File>) -> io::Result<*mut c_void> {
    let (flags, fd) = match file {
        Some(file) => (libc::MAP_PRIVATE, file.as_raw_fd()),
        None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
    };
    // SAFETY: a new mapping where the kernel likes touches nothing of ours.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, flags, fd, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page) }
}

/// A program in scratch: this one's first bytes are those of any.
fn planted() -> io::Result<File> {
    let path = Path::new("/tmp/program");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .mode(0o700)
        .open(path)?;
    file.write_all(&fs::read("/usr/bin/compute")?)?;
    file.rewind()?;
    Ok(file)
}

fn executes(path: &str) -> io::Result<()> {
    let path = std::ffi::CString::new(path)?;
    let arguments = [path.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null::<libc::c_char>()];
    numbers(
        libc::SYS_execve,
        &[path.as_ptr() as usize, arguments.as_ptr() as usize, environment.as_ptr() as usize],
    )
}

const WX: c_int = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
const RX: c_int = libc::PROT_READ | libc::PROT_EXEC;
const RW: c_int = libc::PROT_READ | libc::PROT_WRITE;

/// Every attempt; those that could end this program by doing what they try come last.
const ATTEMPTS: &[Attempt] = &[
    // The kernel's own code.
    ("load a module", |_| numbers(libc::SYS_finit_module, &[0, 0, 0])),
    ("load a module from memory", |_| numbers(libc::SYS_init_module, &[0, 0, 0])),
    ("unload a module", |_| numbers(libc::SYS_delete_module, &[0, 0])),
    ("kexec", |_| numbers(libc::SYS_kexec_load, &[0, 0, 0, 0])),
    ("kexec of a file", |_| numbers(libc::SYS_kexec_file_load, &[0, 0, 0, 0, 0])),
    ("bpf", |_| numbers(libc::SYS_bpf, &[0, 0, 0])),
    ("perf", |_| numbers(libc::SYS_perf_event_open, &[0, 0, 0, 0, 0])),
    ("io_uring", |_| numbers(libc::SYS_io_uring_setup, &[8, 0])),
    ("userfaultfd", |_| numbers(libc::SYS_userfaultfd, &[1])),
    ("a key of the kernel's", |_| numbers(libc::SYS_keyctl, &[0, 0, 0])),
    ("read the kernel's memory", |_| opens("/proc/kcore")),
    ("read physical memory", |_| opens("/dev/mem")),
    ("read the kernel's log", |_| opens("/dev/kmsg")),
    ("read the kernel's log by call", |_| numbers(libc::SYS_syslog, &[3, 0, 0])),
    ("read the kernel's symbols", |_| opens("/proc/kallsyms")),
    ("magic keys", |_| writes("/proc/sysrq-trigger")),
    ("a setting of the kernel's", |_| writes("/proc/sys/kernel/core_pattern")),
    ("ports of the machine", |_| numbers(libc::SYS_iopl, &[3])),
    ("segments", |_| numbers(libc::SYS_modify_ldt, &[0, 0, 0])),
    // PID 1 and others.
    ("trace PID 1", |_| numbers(libc::SYS_ptrace, &[16, 1, 0, 0])),
    ("read PID 1's memory", |_| opens("/proc/1/mem")),
    ("read PID 1's memory by call", |_| numbers(libc::SYS_process_vm_readv, &[1, 0, 0, 0, 0, 0])),
    ("read PID 1's environment", |_| opens("/proc/1/environ")),
    ("take PID 1's open files", |_| numbers(libc::SYS_pidfd_open, &[1, 0])),
    ("signal PID 1", |_| numbers(libc::SYS_kill, &[1, 9])),
    ("signal everybody", |_| numbers(libc::SYS_kill, &[usize::MAX, 9])),
    ("see other processes", |_| fs::read_dir("/proc").map(drop)),
    ("find the node's key", |_| fs::read_dir("/sys/firmware/efi/efivars").map(drop)),
    ("see what else PID 1 keeps", |_| {
        let others = |entry: &io::Result<fs::DirEntry>| {
            entry.as_ref().is_ok_and(|entry| entry.file_name() != "compute.json")
        };
        match fs::read_dir("/run/alia")?.filter(others).count() {
            0 => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(()),
        }
    }),
    // Name spaces, mounts, roots.
    ("a user name space", |_| numbers(libc::SYS_unshare, &[libc::CLONE_NEWUSER as usize])),
    ("a mount name space", |_| numbers(libc::SYS_unshare, &[libc::CLONE_NEWNS as usize])),
    ("another's name space", |_| numbers(libc::SYS_setns, &[0, 0])),
    ("a user name space by clone", |_| {
        let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as usize;
        numbers(libc::SYS_clone, &[flags, 0, 0, 0, 0])
    }),
    ("mount", |_| {
        let (kind, on) = (c"tmpfs".as_ptr() as usize, c"/tmp".as_ptr() as usize);
        numbers(libc::SYS_mount, &[kind, on, kind, 0, 0])
    }),
    ("mount by the newer calls", |_| numbers(libc::SYS_fsopen, &[c"tmpfs".as_ptr() as usize, 0])),
    ("unmount", |_| numbers(libc::SYS_umount2, &[c"/tmp".as_ptr() as usize, 2])),
    ("change the root", |_| numbers(libc::SYS_chroot, &[c"/tmp".as_ptr() as usize])),
    ("turn the root", |_| {
        let path = c"/tmp".as_ptr() as usize;
        numbers(libc::SYS_pivot_root, &[path, path])
    }),
    ("a device file", |_| {
        let path = c"/tmp/mem".as_ptr() as usize;
        numbers(libc::SYS_mknod, &[path, (libc::S_IFCHR | 0o666) as usize, 0x101])
    }),
    // Its own rights.
    ("become root", |_| numbers(libc::SYS_setuid, &[0])),
    ("become root's group", |_| numbers(libc::SYS_setgid, &[0])),
    ("capabilities", |_| numbers(libc::SYS_capset, &[0, 0])),
    ("lift a limit", |_| {
        let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
        let address = &raw const limit as usize;
        numbers(libc::SYS_prlimit64, &[0, libc::RLIMIT_NOFILE as usize, address, 0])
    }),
    ("another personality", |_| numbers(libc::SYS_personality, &[0x0040_0000])),
    ("a dump of itself", |_| numbers(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as usize, 1])),
    ("more urgency", |_| numbers(libc::SYS_setpriority, &[0, 0, -20i32 as usize])),
    // The machine.
    ("the clock", |_| {
        let time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        numbers(libc::SYS_clock_settime, &[0, &raw const time as usize])
    }),
    ("the clock's pace", |_| numbers(libc::SYS_adjtimex, &[0])),
    ("restart the machine", |_| {
        numbers(libc::SYS_reboot, &[0xfee1_dead, 0x2812_1969, 0x0123_4567, 0])
    }),
    ("the machine's name", |_| numbers(libc::SYS_sethostname, &[c"mine".as_ptr() as usize, 4])),
    ("swap", |_| numbers(libc::SYS_swapon, &[c"/tmp/program".as_ptr() as usize, 0])),
    ("type on the console", |_| {
        let letter = b'x';
        numbers(libc::SYS_ioctl, &[0, libc::TIOCSTI as usize, &raw const letter as usize])
    }),
    // Files.
    ("write the root", |_| File::create("/hello").map(drop)),
    ("write its own program", |_| writes("/usr/bin/compute")),
    ("write its settings", |_| writes("/run/alia/compute.json")),
    ("read PID 1's program", |_| opens("/init")),
    ("read the image's description", |_| opens("/etc/alia/sandboxes.json")),
    ("see devices", |_| opens("/dev/console")),
    ("see the machine's firmware", |_| opens("/sys/firmware/dmi/tables/DMI")),
    // Code.
    ("memory to write and execute", |_| maps(WX, None).map(drop)),
    ("memory to execute", |_| maps(RX, None).map(drop)),
    ("written memory made executable", |_| {
        let page = maps(RW, None)? as usize;
        numbers(libc::SYS_mprotect, &[page, 4096, RX as usize])
    }),
    ("code from scratch", |_| maps(RX, Some(&planted()?)).map(drop)),
    ("a file in memory", |_| numbers(libc::SYS_memfd_create, &[c"x".as_ptr() as usize, 0])),
    // Network.
    ("a raw socket", |_| socket(libc::AF_INET, libc::SOCK_RAW, 1)),
    ("a packet socket", |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0x0300)),
    ("a netlink socket", |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
    ("a UDP socket", |_| socket(libc::AF_INET, libc::SOCK_DGRAM, 0)),
    ("a local socket", |_| socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)),
    ("a socket to the host", |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ("a stream that is not TCP", |_| socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)),
    ("a connection by its first data", |_| fast_open(8080)),
    ("listen on a port", |_| std::net::TcpListener::bind("0.0.0.0:4444").map(drop)),
    ("another port of its server", |target| connects(SocketAddr::new(target.server.ip(), 8080))),
    ("its server's port elsewhere", |target| {
        connects(SocketAddr::from(([10, 77, 0, 9], target.server.port())))
    }),
    ("its server's port on this machine", |target| {
        connects(SocketAddr::from(([127, 0, 0, 1], target.server.port())))
    }),
    // Other programs; and processes, of which there would then be two.
    ("a new process", |_| numbers(libc::SYS_clone, &[libc::SIGCHLD as usize, 0, 0, 0, 0])),
    ("a new process the old way", |_| numbers(libc::SYS_fork, &[])),
    ("a new process by clone3", |_| numbers(libc::SYS_clone3, &[0, 0])),
    ("run a program from scratch", |_| {
        planted().and_then(|file| {
            drop(file);
            executes("/tmp/program")
        })
    }),
    ("run PID 1's program", |_| executes("/init")),
    ("run a library", |_| executes("/usr/lib/x86_64-linux-gnu/libc.so.6")),
];

fn main() {
    let path = std::env::args().nth(3).unwrap_or_default();
    let target = match target(&path) {
        Ok(target) => target,
        Err(error) => return println!("no settings in {path}: {error}"),
    };
    println!("hostile: {} attempts", ATTEMPTS.len());
    // What it is for works, or the refusals below would show nothing.
    report("its server", connects(target.server));
    report(
        "its settings",
        if target.config.work_key.is_empty() {
            Err(io::ErrorKind::NotFound.into())
        } else {
            Ok(())
        },
    );
    report("scratch", fs::write("/tmp/note", "mine"));
    for (name, attempt) in ATTEMPTS {
        report(name, attempt(&target));
        // PID 1 shows 50 lines a second at most.
        thread::sleep(Duration::from_millis(40));
    }
    println!("hostile: tried all");
    println!("took {} threads", threads());
    println!("took {} open files", files());
    println!("took {} MiB of scratch", scratch());
    println!("takes memory");
    memory();
}

fn report(name: &str, result: io::Result<()>) {
    match result {
        Ok(()) => println!("DONE {name}"),
        Err(error) => match error.raw_os_error() {
            Some(number) => println!("refused {name}: errno {number} ({error})"),
            None => println!("refused {name}: {error}"),
        },
    }
}

fn target(path: &str) -> Result<Target, Box<dyn std::error::Error>> {
    let config: ComputeConfig = serde_json::from_str(&fs::read_to_string(path)?)?;
    let first = config.parameter_servers.first().ok_or("no parameter server")?;
    let server = first.trim_start_matches("http://").parse()?;
    Ok(Target { config, server })
}

/// Threads until there are no more; they end with their number.
fn threads() -> usize {
    let mut taken = Vec::new();
    while let Ok(thread) = thread::Builder::new().stack_size(64 << 10).spawn(thread::park) {
        taken.push(thread);
        if taken.len() > 100_000 {
            break;
        }
    }
    let number = taken.len();
    for thread in taken {
        thread.thread().unpark();
        let _ = thread.join();
    }
    number
}

fn files() -> usize {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
        if taken.len() > 100_000 {
            break;
        }
    }
    taken.len()
}

/// Fills scratch by files of 4 MiB; gives how much went in.
fn scratch() -> usize {
    let block = vec![7; 1 << 20];
    let mut taken = 0;
    for number in 0.. {
        let Ok(mut file) = File::create(format!("/tmp/{number}")) else { return taken };
        for _ in 0..4 {
            if file.write_all(&block).is_err() || taken > 100_000 {
                return taken;
            }
            taken += 1;
        }
    }
    taken
}

/// Memory until it is stopped.
fn memory() -> ! {
    let mut taken = Vec::new();
    loop {
        taken.push(black_box(vec![taken.len() as u8 | 1; 16 << 20]));
        if taken.len() % 8 == 0 {
            println!("has {} MiB", 16 * taken.len());
        }
    }
}
