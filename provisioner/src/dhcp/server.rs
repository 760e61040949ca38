//! The edge: two sockets (67 and 4011), each with a thread that carries packets to the answerer
//! and replies back. One packet after the other: a decision and its lease take some tens of
//! microseconds, so there is nothing to gain from doing two at once.

use super::{
    answerer::{Answerer, Handled, Unanswered},
    decide::Port,
    packet::MAX_LEN,
};
use crate::{
    counters::Counters,
    timeline::{Timeline, unix_ms},
};
use std::{
    io,
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    sync::Arc,
    thread,
};

/// DHCP, ProxyDHCP and BINL for one network.
pub struct Server {
    /// What decides.
    pub answerer: Answerer,
    /// Where exchanges are recorded.
    pub timeline: Timeline,
    /// Where packets that get no answer are counted.
    pub counters: Arc<Counters>,
}

impl Server {
    /// Answers what comes to `socket` until the program ends.
    pub fn serve(self: Arc<Self>, socket: UdpSocket, port: Port) -> io::Result<()> {
        let name = match port {
            Port::Dhcp => "dhcp",
            Port::Binl => "binl",
        };
        thread::Builder::new().name(name.into()).spawn(move || {
            // One byte more than a request may have tells the long ones.
            let mut buffer = [0; MAX_LEN + 1];
            loop {
                let (length, sender) = match socket.recv_from(&mut buffer) {
                    Ok((length, SocketAddr::V4(sender))) => (length, sender),
                    Ok(_) => continue,
                    Err(error) => {
                        tracing::warn!("{name}: {error}");
                        continue;
                    }
                };
                let handled = self.handle(&buffer[..length], sender, port);
                if let Some((bytes, to)) = handled.reply
                    && let Err(error) = socket.send_to(&bytes, to)
                {
                    tracing::warn!("{name}: a reply to {to} could not be sent: {error}");
                }
                if let Some(record) = handled.record {
                    self.timeline.record(record);
                }
            }
        })?;
        Ok(())
    }

    /// Decides about one packet; what gets no answer is counted.
    pub fn handle(&self, bytes: &[u8], sender: SocketAddrV4, port: Port) -> Handled {
        let handled = self.answerer.handle(bytes, sender, port, unix_ms() / 1000);
        handled.unwrap_or_else(|error| {
            match &error {
                Unanswered::Refused(refused) => {
                    if self.counters.count(refused.counter()) {
                        tracing::warn!("a packet from {sender} gets no answer: {refused}");
                    }
                }
                // Silence: the client asks again, and by then the store may work.
                Unanswered::Store(error) => {
                    tracing::error!("a packet from {sender} gets no answer: {error}");
                    self.counters.count("store-errors");
                }
            }
            Handled::default()
        })
    }
}
