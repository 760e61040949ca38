//! The TFTP server over real sockets: with a client of our own, and with those of the
//! distribution where they are installed.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use provisioner::{
    net,
    tftp::{
        server::{Observer, Report, Server, Transfer},
        session::End,
    },
};
use std::{
    fs, io,
    net::{SocketAddr, UdpSocket},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};
use tempfile::TempDir;

struct Served {
    folder: TempDir,
    address: SocketAddr,
    reports: Mutex<mpsc::Receiver<Report>>,
    _runtime: tokio::runtime::Runtime,
}

/// Content whose every block is unlike every other.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i.wrapping_mul(2654435761) >> 13) as u8).collect()
}

fn serve(files: &[(&str, usize)]) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("served");
    fs::create_dir(&root).unwrap();
    for (name, length) in files {
        fs::write(root.join(name), content(*length)).unwrap();
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (sender, reports) = mpsc::channel();
    let sender = Mutex::new(sender);
    let observer: Observer = Arc::new(move |report| {
        let _ = sender.lock().unwrap().send(report);
    });
    let socket =
        net::udp("127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap(), None, "a test").unwrap();
    let server = runtime
        .block_on(async { Server::new(socket, Some(&root), vec![], 1500, observer) })
        .unwrap();
    let address = server.address().unwrap();
    runtime.spawn(server.serve());
    Served { folder, address, reports: Mutex::new(reports), _runtime: runtime }
}

impl Served {
    fn next(&self) -> Report {
        self.reports.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn ended(&self) -> Transfer {
        loop {
            if let Report::Ended(transfer) = self.next() {
                return transfer;
            }
        }
    }

    fn client(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    /// Sends one packet to the server's port and gives the answer.
    fn ask(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let socket = self.client();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.send_to(packet, self.address).unwrap();
        let mut buffer = [0; 2048];
        let (length, _) = heard(&socket, &mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    /// Fetches a file as a plain client does, acknowledging each window.
    fn get(&self, name: &str, options: &str) -> Vec<u8> {
        let socket = self.client();
        socket.send_to(format!("\0\x01{name}\0octet\0{options}").as_bytes(), self.address).unwrap();
        let (mut got, mut window, mut blksize, mut next, mut since) = (vec![], 1, 512, 1u16, 0);
        let mut buffer = [0; 65_536];
        loop {
            let (length, from) = heard(&socket, &mut buffer).unwrap();
            let packet = &buffer[..length];
            match packet {
                [0, 6, texts @ ..] => {
                    let texts: Vec<&str> =
                        std::str::from_utf8(texts).unwrap().split_terminator('\0').collect();
                    for pair in texts.chunks(2) {
                        match pair[0] {
                            "blksize" => blksize = pair[1].parse().unwrap(),
                            "windowsize" => window = pair[1].parse().unwrap(),
                            _ => {}
                        }
                    }
                    socket.send_to(&[0, 4, 0, 0], from).unwrap();
                }
                [0, 3, a, b, data @ ..] => {
                    assert_eq!(u16::from_be_bytes([*a, *b]), next, "in order on loopback");
                    got.extend_from_slice(data);
                    since += 1;
                    if since == window || data.len() < blksize {
                        socket.send_to(&[0, 4, *a, *b], from).unwrap();
                        since = 0;
                    }
                    next = next.wrapping_add(1);
                    if data.len() < blksize {
                        return got;
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

/// The next packet. A wait with a limit is interrupted where this process was stopped meanwhile.
fn heard(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[test]
fn files_of_every_length_arrive_whole_with_every_option() {
    let lengths = [0, 1, 511, 512, 513, 1467, 1468, 1469, 1468 * 4, 100_000, 512 * 130];
    let names: Vec<String> = lengths.iter().map(|length| format!("f{length}")).collect();
    let files: Vec<(&str, usize)> =
        names.iter().map(String::as_str).zip(lengths.iter().copied()).collect();
    let served = serve(&files);
    let options = [
        "",
        "blksize\x001468\0",
        "windowsize\x0016\0",
        "tsize\x000\0blksize\x00512\0windowsize\x004\0",
    ];
    for (name, length) in files {
        for options in options {
            assert_eq!(served.get(name, options), content(length), "{name} {options:?}");
            let ended = served.ended();
            assert_eq!((ended.end, ended.resent), (End::Complete, 0), "{name} {options:?}");
        }
    }
}

#[test]
fn block_numbers_roll_over_on_the_wire() {
    let served = serve(&[("large", 8 * 66_000)]);
    assert_eq!(served.get("large", "blksize\x008\0windowsize\x0064\0"), content(8 * 66_000));
}

#[test]
fn nothing_outside_the_folder_is_given_whatever_the_name() {
    let served = serve(&[("inside", 10)]);
    let root = served.folder.path().join("served");
    fs::write(served.folder.path().join("outside"), b"secret").unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../outside", root.join("relative")).unwrap();
    symlink("inside", root.join("link")).unwrap();
    fs::create_dir(root.join("folder")).unwrap();
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    for name in [
        "../outside",
        "folder/../../outside",
        "..\\outside",
        "/etc/passwd",
        "absolute",
        "relative",
        "folder",
        "pipe",
        "nosuch",
        ".",
    ] {
        let answer = served.ask(format!("\0\x01{name}\0octet\0").as_bytes()).unwrap();
        assert_eq!(&answer[..2], &[0, 5], "{name}");
        assert!(answer[3] == 1 || answer[3] == 2, "{name}: code {}", answer[3]);
        assert!(matches!(served.next(), Report::Refused { .. }));
    }
    assert_eq!(served.get("link", ""), content(10), "a link within the folder is as good");
    assert_eq!(served.get("/inside", ""), content(10));
}

#[test]
fn writers_and_senders_of_nonsense_get_an_error_or_silence_and_the_server_lives_on() {
    let served = serve(&[("f", 10)]);
    assert_eq!(served.ask(b"\0\x02f\0octet\0").unwrap()[..4], [0, 5, 0, 2]);
    assert_eq!(served.ask(b"\0\x01f\0netascii\0").unwrap()[..4], [0, 5, 0, 4]);
    let long = [b"\0\x01".as_slice(), &[b'x'; 4_000], b"\0octet\0"].concat();
    for silent in [&b""[..], b"\0", b"\0\x03\0\x01data", b"\0\x04\0\x01", b"\xff\xff", &long] {
        assert_eq!(served.ask(silent), None, "{silent:?}");
    }
    assert_eq!(served.get("f", ""), content(10));
}

#[test]
fn a_request_sent_twice_opens_one_transfer() {
    let served = serve(&[("f", 2_000)]);
    let socket = served.client();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for _ in 0..3 {
        socket.send_to(b"\0\x01f\0octet\0", served.address).unwrap();
    }
    let mut buffer = [0; 2048];
    let (_, first) = heard(&socket, &mut buffer).unwrap();
    assert!(heard(&socket, &mut buffer).is_err(), "one block from one port");
    socket.send_to(&[0, 5, 0, 0, 0], first).unwrap();
    assert!(matches!(served.ended().end, End::Aborted(0, _)));
}

#[test]
fn lost_blocks_are_sent_again_and_others_cannot_take_part() {
    let served = serve(&[("f", 600)]);
    let socket = served.client();
    socket.send_to(b"\0\x01f\0octet\0", served.address).unwrap();
    let mut buffer = [0; 2048];
    let (_, from) = heard(&socket, &mut buffer).unwrap();
    // A stranger's ACK and error reach the port and change nothing.
    let stranger = served.client();
    stranger.send_to(&[0, 4, 0, 1], from).unwrap();
    stranger.send_to(&[0, 5, 0, 0, 0], from).unwrap();
    // Say nothing: after a second the block comes again.
    let (length, _) = heard(&socket, &mut buffer).unwrap();
    assert_eq!((&buffer[..4], length), (&[0, 3, 0, 1][..], 516));
    socket.send_to(&[0, 4, 0, 1], from).unwrap();
    let (length, _) = heard(&socket, &mut buffer).unwrap();
    assert_eq!((&buffer[..4], length), (&[0, 3, 0, 2][..], 4 + 88));
    socket.send_to(&[0, 4, 0, 2], from).unwrap();
    let ended = served.ended();
    assert_eq!((ended.end, ended.resent), (End::Complete, 1));
}

#[test]
fn a_client_that_goes_away_is_noticed() {
    let served = serve(&[("f", 600)]);
    let socket = served.client();
    socket.send_to(b"\0\x01f\0octet\0tsize\x000\0", served.address).unwrap();
    drop(socket);
    assert_eq!(served.ended().end, End::Silent, "by ICMP, at the first packet sent again");
}

#[test]
fn each_machines_own_name_for_a_file_tells_whose_transfer_it_is() {
    let served = serve(&[("snponly.efi", 5_000)]);
    assert_eq!(served.get("52-54-00-12-34-56/snponly.efi", ""), content(5_000));
    let ended = served.ended();
    assert_eq!(ended.mac, "52:54:00:12:34:56".parse().ok());
    assert_eq!(ended.name, "snponly.efi");
}

#[test]
fn a_machine_that_is_treated_with_care_gets_what_its_name_says() {
    let served = serve(&[("snponly.efi", 300_000)]);
    let name = "52-54-00-12-34-56/care-b1024-w2-r1000000/snponly.efi";
    let options = "blksize\x001468\0windowsize\x008\0";
    assert_eq!(served.get(name, options), content(300_000));
    let ended = served.ended();
    assert_eq!((ended.name.as_str(), ended.terms), ("snponly.efi", (1024, 2)));
    assert_eq!(ended.mac, "52:54:00:12:34:56".parse().ok());
    assert!(ended.took >= Duration::from_millis(280), "{:?}", ended.took);
    assert_eq!(served.get("52-54-00-12-34-56/care-w1/snponly.efi", options), content(300_000));
    assert_eq!(served.ended().terms, (1468, 1));
}

/// Runs a client of the distribution, if it is here.
fn foreign(program: &str, arguments: &[&str], folder: &Path) -> bool {
    match Command::new(program).args(arguments).current_dir(folder).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}: {said}");
            true
        }
        Err(_) => {
            eprintln!("{program} is not installed: not tried");
            false
        }
    }
}

#[test]
fn other_peoples_clients_get_the_file_too() {
    let served = serve(&[("f", 300_000)]);
    let port = served.address.port().to_string();
    let here = tempfile::tempdir().unwrap();
    let check = |name: &str, ran: bool| {
        if ran {
            assert_eq!(fs::read(here.path().join(name)).unwrap(), content(300_000), "{name}");
        }
    };
    let url = format!("tftp://127.0.0.1:{port}/f");
    let curl = ["-s", "--tftp-blksize", "1468", "-o", "by-curl", &url];
    check("by-curl", foreign("curl", &curl, here.path()));
    let hpa = ["-m", "binary", "127.0.0.1", &port, "-c", "get", "f", "by-tftp-hpa"];
    check("by-tftp-hpa", foreign("tftp", &hpa, here.path()));
    let plain = ["-g", "-r", "f", "-l", "by-atftp", "127.0.0.1", &port];
    check("by-atftp", foreign("atftp", &plain, here.path()));
    let window = [
        "--option",
        "windowsize 8",
        "--option",
        "blksize 1400",
        "-g",
        "-r",
        "f",
        "-l",
        "by-atftp-8",
        "127.0.0.1",
        &port,
    ];
    check("by-atftp-8", foreign("atftp", &window, here.path()));
}
