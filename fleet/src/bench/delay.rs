//! A way of a chosen length between a client and a UDP server, made by a relay: the kernel's own
//! (netem) is not everywhere.
//!
//! Two threads, one for each direction, hold every datagram for half the round trip. They sleep until
//! shortly before one is due and spin the rest of the time, which is what makes a millisecond one;
//! [`Delay::round_trip`] says what it came to.

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{prctl, time::TimeSpec},
};
use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Before a datagram is due a thread does not sleep any more: waking up takes about half of it.
const SPIN: Duration = Duration::from_micros(80);
/// How long a thread that has nothing to do sleeps before it looks whether it is over.
const IDLE: Duration = Duration::from_millis(50);
/// Datagrams on their way at a time; what comes beyond is lost, as on any wire.
const MAX_UNDER_WAY: usize = 4_096;
const MAX_LEN: usize = 65_536;

/// A relay that runs until it is dropped.
pub struct Delay {
    /// Where clients send to.
    pub address: SocketAddr,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Who is at either end.
struct Ends {
    near: UdpSocket,
    far: UdpSocket,
    /// The client that spoke last.
    client: Mutex<Option<SocketAddr>>,
    /// Where the server answers from: TFTP takes another port for each transfer.
    server: Mutex<SocketAddr>,
    /// Where a new transfer is asked for.
    first: SocketAddr,
}

impl Delay {
    /// A way of `round_trip` to `server`, from the address `from` there. One client at a time.
    ///
    /// # Errors
    /// Where sockets or threads cannot be had.
    pub fn start(from: Ipv4Addr, server: SocketAddr, round_trip: Duration) -> io::Result<Self> {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let far = UdpSocket::bind((from, 0))?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        let address = near.local_addr()?;
        let client = Mutex::new(None);
        let ends = Arc::new(Ends { near, far, client, server: Mutex::new(server), first: server });
        let over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for way in [Way::Up, Way::Down] {
            let (ends, over) = (ends.clone(), over.clone());
            let thread = thread::Builder::new().name("delay".into());
            threads.push(thread.spawn(move || carry(&ends, way, round_trip / 2, &over))?);
        }
        Ok(Self { address, ends: over, threads })
    }

    /// Measures itself: the mean and the 99th percentile of `count` round trips through a relay of
    /// that length, to a server that answers at once.
    ///
    /// # Errors
    /// Where sockets or threads cannot be had, or nothing comes back.
    pub fn round_trip(round_trip: Duration, count: u32) -> io::Result<(Duration, Duration)> {
        let echo = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        echo.set_read_timeout(Some(Duration::from_millis(200)))?;
        let server = echo.local_addr()?;
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let answers = thread::Builder::new().name("echo".into()).spawn(move || {
            let mut buffer = [0; 64];
            while !ends.load(Ordering::Relaxed) {
                if let Ok((length, from)) = echo.recv_from(&mut buffer) {
                    let _ = echo.send_to(&buffer[..length], from);
                }
            }
        })?;
        let relay = Self::start(Ipv4Addr::LOCALHOST, server, round_trip)?;
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        client.connect(relay.address)?;
        client.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut times = Vec::new();
        for number in 0..count.max(1) {
            let began = Instant::now();
            client.send(&number.to_be_bytes())?;
            client.recv(&mut [0; 64])?;
            times.push(began.elapsed());
        }
        over.store(true, Ordering::Relaxed);
        let _ = answers.join();
        times.sort();
        let p99 = times[(times.len() * 99 / 100).min(times.len() - 1)];
        Ok((times.iter().sum::<Duration>() / count.max(1), p99))
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

fn carry(ends: &Ends, way: Way, delay: Duration, over: &AtomicBool) {
    // Wakes up when it is told, and not up to 50 us later.
    let _ = prctl::set_timerslack(1);
    let socket = if way == Way::Up { &ends.near } else { &ends.far };
    let mut under_way: VecDeque<(Instant, Vec<u8>, SocketAddr)> = VecDeque::new();
    let mut buffer = vec![0; MAX_LEN];
    while !over.load(Ordering::Relaxed) {
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((length, sender)) if under_way.len() < MAX_UNDER_WAY => {
                    under_way.push_back((Instant::now() + delay, buffer[..length].into(), sender));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let now = Instant::now();
        let Some((due, ..)) = under_way.front() else {
            wait(socket, IDLE);
            continue;
        };
        if *due > now {
            let left = *due - now;
            if left > SPIN {
                wait(socket, left - SPIN);
            }
            continue;
        }
        if let Some((_, bytes, sender)) = under_way.pop_front() {
            pass_on(ends, way, &bytes, sender);
        }
    }
}

fn wait(socket: &UdpSocket, most: Duration) {
    let mut descriptors = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match ppoll(&mut descriptors, Some(TimeSpec::from_duration(most)), None) {
        Ok(_) | Err(Errno::EINTR) => {}
        // Not to be had: spinning does too.
        Err(_) => thread::yield_now(),
    }
}

fn pass_on(ends: &Ends, way: Way, bytes: &[u8], sender: SocketAddr) {
    let lock = |server: &Mutex<SocketAddr>| *server.lock().unwrap_or_else(PoisonError::into_inner);
    // What cannot be sent is lost, as on any wire.
    let _ = match way {
        Way::Up => {
            let mut client = ends.client.lock().unwrap_or_else(PoisonError::into_inner);
            if *client != Some(sender) {
                *client = Some(sender);
                *ends.server.lock().unwrap_or_else(PoisonError::into_inner) = ends.first;
            }
            ends.far.send_to(bytes, lock(&ends.server))
        }
        Way::Down => {
            *ends.server.lock().unwrap_or_else(PoisonError::into_inner) = sender;
            match *ends.client.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(client) => ends.near.send_to(bytes, client),
                None => Ok(0),
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_back_before_its_time() {
        let wanted = Duration::from_millis(4);
        let (mean, p99) = Delay::round_trip(wanted, 50).unwrap();
        // How much later depends on what else this machine does.
        assert!(mean >= wanted && p99 >= wanted, "{mean:?} {p99:?}");
        assert!(mean < Duration::from_millis(200), "{mean:?}");
    }

    #[test]
    fn a_server_that_answers_from_another_port_is_followed_and_a_new_client_begins_anew() {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let second = UdpSocket::bind("127.0.0.1:0").unwrap();
        let relay = Delay::start(
            Ipv4Addr::LOCALHOST,
            first.local_addr().unwrap(),
            Duration::from_millis(1),
        )
        .unwrap();
        let mut buffer = [0; 16];
        for _ in 0..2 {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.send_to(b"ask", relay.address).unwrap();
            let (_, far) = first.recv_from(&mut buffer).unwrap();
            second.send_to(b"data", far).unwrap();
            assert_eq!(client.recv_from(&mut buffer).unwrap(), (4, relay.address));
            client.send_to(b"ack", relay.address).unwrap();
            assert_eq!(second.recv_from(&mut buffer).unwrap().0, 3);
        }
    }
}
