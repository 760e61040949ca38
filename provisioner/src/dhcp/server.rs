//! The edge: two sockets (67 and 4011), each with a thread that carries packets to the answerer
//! and replies back: those that came meanwhile together, in one transaction.

use super::{
    answerer::{Answerer, Handled, Packet, Unanswered},
    decide::Port,
    packet::MAX_LEN,
};
use crate::{
    counters::Counters,
    metrics::Exchange,
    timeline::{Timeline, unix_ms},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::Arc,
    thread,
    time::Duration,
};

/// Packets answered in one transaction: one commit for many, none held back long.
const BATCH: usize = 64;
/// How long reading rests where it failed.
const PAUSE: Duration = Duration::from_millis(100);

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
        socket.set_nonblocking(true)?;
        thread::Builder::new().name(name.into()).spawn(move || {
            let metrics = &self.counters.metrics;
            let _listening = metrics.listening.begins(name);
            loop {
                let packets = match come(&socket) {
                    Ok(packets) => packets,
                    Err(error) => {
                        tracing::warn!("{name}: {error}");
                        thread::sleep(PAUSE);
                        continue;
                    }
                };
                for (handled, packet) in self.handle(&packets, port).into_iter().zip(&packets) {
                    let (mut outcome, mut sent) = (handled.outcome(), 0);
                    if let Some((bytes, to)) = &handled.reply {
                        match socket.send_to(bytes, to) {
                            Ok(length) => sent = length,
                            Err(error) => {
                                outcome = Exchange::Unsent;
                                tracing::warn!(
                                    "{name}: a reply to {to} could not be sent: {error}"
                                );
                            }
                        }
                    }
                    metrics.dhcp(port.into(), outcome, packet.bytes.len(), sent);
                    if let Some(record) = handled.record {
                        self.timeline.record(record);
                    }
                }
            }
        })?;
        Ok(())
    }

    /// Decides about packets; what gets no answer is counted.
    fn handle(&self, packets: &[Packet], port: Port) -> Vec<Handled> {
        let handled =
            self.answerer.handle(packets, port, self.answerer.store.lease_time(unix_ms()));
        let each = handled.into_iter().zip(packets).map(|(handled, Packet { sender, .. })| {
            handled.unwrap_or_else(|error| {
                let unanswered = match &error {
                    Unanswered::Refused(refused) => {
                        if self.counters.count(refused.counter()) {
                            tracing::warn!("a packet from {sender} gets no answer: {refused}");
                        }
                        Exchange::Refused
                    }
                    // Silence: the client asks again, and by then the store may work.
                    Unanswered::Store(error) => {
                        tracing::error!("a packet from {sender} gets no answer: {error}");
                        self.counters.count("store-errors");
                        Exchange::StoreFailed
                    }
                };
                Handled { unanswered: Some(unanswered), ..Handled::default() }
            })
        });
        each.collect()
    }
}

/// Waits for a packet; gives it with those that came meanwhile, at most [`BATCH`].
fn come(socket: &UdpSocket) -> io::Result<Vec<Packet>> {
    // One byte more than a request may have tells the long ones.
    let mut buffer = [0; MAX_LEN + 1];
    let mut packets = Vec::new();
    while packets.len() < BATCH {
        match socket.recv_from(&mut buffer) {
            Ok((length, SocketAddr::V4(sender))) => {
                packets.push(Packet { bytes: buffer[..length].to_vec(), sender });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !packets.is_empty() {
                    break;
                }
                let mut waits = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                poll(&mut waits, PollTimeout::NONE)?;
            }
            // What is read already is answered first; an error that lasts comes again.
            Err(error) if packets.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(packets)
}
