//! The edge: a raw socket of ICMPv6 on one interface, and its thread.

use super::{
    packet::{self, Advertisement, Heard},
    schedule::{DEFERENCE, Schedule},
};
use crate::{counters::Counters, net::NetError};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6,
    recvmsg, setsockopt, socket, sockopt,
};
use std::{
    ffi::OsString,
    io::{self, IoSliceMut},
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// What neighbours' packets must have, so that none from behind a router is taken for one
/// (RFC 4861 section 6.1).
const HOPS: i32 = 255;
/// The longest packet looked at: an Ethernet frame's.
const MAX_LEN: usize = 1500;

/// The socket, with what every advertisement needs.
pub fn open(device: &str, index: u32) -> Result<UdpSocket, NetError> {
    let failed = |source: io::Error| NetError::Raw { place: device.into(), source };
    let open = || -> io::Result<UdpSocket> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
        setsockopt(&fd, sockopt::BindToDevice, &OsString::from(device))?;
        setsockopt(&fd, sockopt::Ipv6RecvHopLimit, &true)?;
        setsockopt(&fd, sockopt::Ipv6MulticastHops, &HOPS)?;
        setsockopt(&fd, sockopt::Ipv6Ttl, &HOPS)?;
        // The standard library's calls for a UDP socket are those of any socket.
        let socket = UdpSocket::from(fd);
        // Or we would take our own for another's.
        socket.set_multicast_loop_v6(false)?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        Ok(socket)
    };
    open().map_err(failed)
}

/// Advertises until the program ends. `us` is our link-local address, where it is known.
pub fn serve(
    socket: UdpSocket,
    index: u32,
    us: Option<Ipv6Addr>,
    advertisement: &Advertisement,
    counters: Arc<Counters>,
) -> io::Result<()> {
    let bytes = advertisement.bytes();
    let everyone = SocketAddrV6::new(ALL_NODES, 0, 0, index);
    thread::Builder::new().name("advertise".into()).spawn(move || {
        let (start, mut schedule) = (Instant::now(), Schedule::default());
        let mut buffer = [0; MAX_LEN];
        let _listening = counters.metrics.listening.begins("router-advertisements");
        loop {
            if schedule.due(start.elapsed(), chance()) {
                counters.count("router-advertisements");
                if let Err(error) = socket.send_to(&bytes, everyone)
                    && counters.count("router-advertisements-failed")
                {
                    tracing::warn!("a router advertisement could not be sent: {error}");
                }
            }
            let wait = schedule.next().saturating_sub(start.elapsed());
            // No wait at all would be one without an end.
            let heard = socket
                .set_read_timeout(Some(wait.max(Duration::from_millis(1))))
                .and_then(|()| receive(&socket, &mut buffer));
            match heard {
                Ok(Some((Heard::Solicitation, _))) => schedule.solicited(start.elapsed(), chance()),
                Ok(Some((Heard::Other { managed, router }, source))) => {
                    // Of two that are no routers, as of two of us, the lower address goes on.
                    let defers = router || us.is_none_or(|us| source < us);
                    if defers && schedule.deferred(start.elapsed()) {
                        tracing::warn!("{}", deferring(source, managed));
                    }
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    if counters.count("router-advertisements-failed") {
                        tracing::warn!("router advertisements: {error}");
                    }
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    })?;
    Ok(())
}

fn deferring(source: Ipv6Addr, managed: bool) -> String {
    let what = format!(
        "{source} sends router advertisements here, so this one sends none until {} minutes after \
         its last",
        DEFERENCE.as_secs() / 60
    );
    match managed {
        true => what,
        false => format!(
            "{what}; they do not tell machines to ask for addresses by DHCPv6 (flag M), so iPXE \
             will not: set that there"
        ),
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(Heard, Ipv6Addr)>> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(i32);
    let message = recvmsg::<SockaddrIn6>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let hops = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6HopLimit(hops) => u8::try_from(hops).ok(),
        _ => None,
    });
    let (length, source) = (message.bytes, message.address.map(|address| address.ip()));
    let (Some(hops), Some(source)) = (hops, source) else { return Ok(None) };
    let bytes = buffer.get(..length).unwrap_or_default();
    Ok(packet::read(bytes, source, hops).map(|heard| (heard, source)))
}

/// From 0 to 1, by the clock's last digits: only to be another one elsewhere.
fn chance() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    f64::from(since.subsec_micros() % 1_000) / 1_000.0
}
