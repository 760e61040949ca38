//! A switch whose ports are trunks: what comes without a tag, as firmware sends it, and what comes
//! with one lead to the same network, and each answer goes out as its machine spoke last.
//!
//! It is made of UDP datagrams, one for each Ethernet frame, since kernels need not have VLANs; a
//! QEMU without a machine carries them to a TAP device.

use lab::{Service, ServiceSpec};
use std::{
    net::UdpSocket,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Bytes of both addresses, before which no tag stands (IEEE 802.1Q).
const ADDRESSES: usize = 12;
const TAG: usize = 4;
/// The longest frame, with room for more tags than are sent.
const FRAME: usize = 2_048;

/// The switch, for as long as the test runs.
pub(crate) struct Trunk {
    /// Frames from the machine without a tag, and with it.
    counted: Arc<[AtomicUsize; 2]>,
    _hub: Service,
}

/// How the machine spoke last: with a tag or not, and by which of its cards.
#[derive(Clone, Copy, Default)]
struct Last {
    tagged: bool,
    card: usize,
}

/// The words by which a machine's card is plugged in: card 0 or 1.
pub(crate) fn plug(card: u16) -> String {
    dgram(&format!("card{card}"), 7_010 + card, 7_020 + card)
}

fn dgram(id: &str, here: u16, there: u16) -> String {
    let port =
        |name: &str, port| format!("{name}.type=inet,{name}.host=127.0.0.1,{name}.port={port}");
    format!("-netdev dgram,id={id},{},{}", port("local", here), port("remote", there))
}

impl Trunk {
    /// Between the cards of [`plug`] and the network of a TAP device.
    pub(crate) fn start(folder: &Path, tap: &str, vlan: u16) -> Self {
        let bind = |port: u16, to: u16| {
            let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
            socket.connect(("127.0.0.1", to)).unwrap();
            Arc::new(socket)
        };
        let cards = [bind(7_020, 7_010), bind(7_021, 7_011)];
        let hub = bind(7_022, 7_012);
        let tag = [0x81, 0x00, (vlan >> 8) as u8, vlan as u8];
        let counted: Arc<[AtomicUsize; 2]> = Arc::default();
        let last: Arc<Mutex<Last>> = Arc::default();
        for (card, socket) in cards.iter().cloned().enumerate() {
            let (hub, counted, last) = (hub.clone(), counted.clone(), last.clone());
            thread::spawn(move || {
                each(&socket, |frame| {
                    let tagged = frame[ADDRESSES..].starts_with(&tag);
                    counted[usize::from(tagged)].fetch_add(1, Ordering::Relaxed);
                    *last.lock().unwrap() = Last { tagged, card };
                    let rest = ADDRESSES + if tagged { TAG } else { 0 };
                    let _ = hub.send(&[&frame[..ADDRESSES], &frame[rest..]].concat());
                });
            });
        }
        thread::spawn(move || {
            each(&hub, |frame| {
                let last = *last.lock().unwrap();
                let tag: &[u8] = if last.tagged { &tag } else { &[] };
                let (addresses, rest) = frame.split_at(ADDRESSES);
                let _ = cards[last.card].send(&[addresses, tag, rest].concat());
            });
        });
        let words = [
            "-M none -nodefaults -no-user-config -display none",
            &format!("-netdev tap,id=tap,ifname={tap},script=no,downscript=no"),
            &dgram("frames", 7_012, 7_022),
            "-netdev hubport,id=one,hubid=0,netdev=tap -netdev hubport,id=two,hubid=0,netdev=frames",
        ];
        let words: Vec<&str> = words.iter().flat_map(|words| words.split(' ')).collect();
        let spec = ServiceSpec::new("trunk", "qemu-system-x86_64", folder).args(words);
        Self { counted, _hub: Service::start(spec).unwrap() }
    }

    /// How many frames the machine sent without a tag, and with it.
    pub(crate) fn counted(&self) -> (usize, usize) {
        let [plain, tagged] = &*self.counted;
        (plain.load(Ordering::Relaxed), tagged.load(Ordering::Relaxed))
    }
}

fn each(socket: &UdpSocket, mut take: impl FnMut(&[u8])) {
    let mut frame = [0; FRAME];
    loop {
        // Refused until the other end is there.
        let Ok(length) = socket.recv(&mut frame) else { continue };
        if length > ADDRESSES + TAG {
            take(&frame[..length]);
        }
    }
}
