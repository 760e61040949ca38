//! The kernel's word on devices, by netlink.

use crate::kernel;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols};
use std::{io, pin::Pin};

pub(super) struct Uevents(TokioSocket);

impl Uevents {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(protocols::NETLINK_KOBJECT_UEVENT)?;
        // Group 1 is the kernel's; udev's is another.
        socket.socket_mut().bind(&SocketAddr::new(0, 1))?;
        Ok(Self(socket))
    }
}

impl kernel::Uevents for Uevents {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = io::Result<Vec<u8>>> + Send + '_>> {
        Box::pin(async {
            loop {
                let (datagram, from) = self.0.recv_from_full().await?;
                // Port 0 is the kernel; a program can send too, where it has the right to.
                if from.port_number() == 0 {
                    return Ok(datagram);
                }
            }
        })
    }
}
