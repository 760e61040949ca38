//! Machines of odd hardware and odd networks: devices that appear late, that lack a driver, disks,
//! clocks, two cards of which one is plugged in, VLANs, bonds, IPv6 alone, a slow switch.
//!
//! Kernel and initramfs are started directly, as the provisioner's boot script would have them, but
//! for the machine on a trunk, which boots by its firmware. Given by the environment are ALIA_CACHE, ALIA_IMAGE and ALIA_PROVISIONER,
//! as for `boot`, and ALIA_HARDWARE for all of it; without it the first test runs alone.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;
mod trunk;

use bed::given;
use lab::{
    Accelerator, Service, ServiceSpec, accel,
    console::Line,
    net, sandbox,
    service::Ready,
    services::{Dhcp, Provisioner},
    tools,
};
use protocol::SecretKey;
use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

/// From power-on to whatever is waited for; 10 to 20 s under software emulation.
const LIMIT: Duration = Duration::from_secs(240);
const SERVICE_LIMIT: Duration = Duration::from_secs(30);
const TAPS: [&str; 4] = ["tap-a", "tap-b", "tap-c", "tap-d"];
/// The server's IPv6 address, and the network's prefix.
const SERVER_IPV6: &str = "2001:db8:77::1";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        let bed = Bed::new();
        let all: [(&str, &dyn Fn()); 7] = [
            ("late devices, missing drivers, disks and clocks", &|| bed.devices()),
            ("of two cards only the second is plugged in, and its link flaps", &|| bed.two_cards()),
            ("a bond with a VLAN reaches its neighbour by LACP", &|| bed.bond()),
            (
                "by firmware, then by a bond with a VLAN: taken in, and there when a card is not",
                &|| {
                    bed.trunk();
                },
            ),
            ("IPv6 alone", &|| bed.ipv6()),
            ("a switch that learns its spanning tree for 30 s", &|| bed.spanning_tree()),
            ("a disk that the settings name is erased", &|| bed.erased()),
        ];
        let count = if std::env::var_os("ALIA_HARDWARE").is_some() { all.len() } else { 1 };
        return common::run(&std::env::args().nth(2).unwrap_or_default(), &all[..count]);
    }
    if !common::boots() {
        return ExitCode::SUCCESS;
    }
    // Inside there is no network to fetch them by.
    chrony();
    bed::enter("")
}

/// A real NTP server's tree, with all libraries that it needs.
fn chrony() -> PathBuf {
    bed::packages().with_libraries(&["chrony"]).unwrap_or_else(|error| panic!("{error}"))
}

struct Bed {
    folder: tempfile::TempDir,
    image: PathBuf,
    provisioner: PathBuf,
    ipxe: PathBuf,
    chrony: PathBuf,
    accelerator: Accelerator,
}

/// A machine, by the disks, cards and words that it has beside the usual.
struct Guest {
    qemu: Service,
    socket: PathBuf,
}

impl Guest {
    fn wait(&mut self, text: &str) -> Line {
        self.wait_from(0, text)
    }

    fn wait_from(&mut self, mark: usize, text: &str) -> Line {
        self.qemu.wait_line(mark, text, LIMIT).unwrap_or_else(|error| panic!("{error}"))
    }

    fn mark(&self) -> usize {
        self.qemu.console().mark()
    }

    /// Whether a line came that contains all of these.
    fn said(&self, parts: &[&str]) -> bool {
        let lines = self.qemu.console().lines_from(0);
        lines.iter().any(|line| parts.iter().all(|part| line.text.contains(part)))
    }

    /// A command by QEMU's machine protocol.
    fn command(&self, name: &str, arguments: serde_json::Value) {
        let begun = Instant::now();
        let mut stream = loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => break stream,
                // QEMU has only just been started.
                Err(_) if begun.elapsed() < SERVICE_LIMIT => {
                    thread::sleep(Duration::from_millis(50))
                }
                Err(error) => panic!("{}: {error}", self.socket.display()),
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let commands = [("qmp_capabilities", serde_json::json!({})), (name, arguments)];
        for (execute, arguments) in commands {
            let request = serde_json::json!({ "execute": execute, "arguments": arguments });
            writeln!(stream, "{request}").unwrap();
            loop {
                let line = lines.next().unwrap().unwrap();
                assert!(!line.contains("\"error\""), "{name}: {line}");
                if line.contains("\"return\"") {
                    break;
                }
            }
        }
    }

    fn plug(&self, driver: &str, more: serde_json::Value) {
        let mut arguments = serde_json::json!({ "driver": driver });
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.command("device_add", arguments);
    }

    fn set_link(&self, name: &str, up: bool) {
        self.command("set_link", serde_json::json!({ "name": name, "up": up }));
    }

    fn power_off(mut self) {
        self.command("system_powerdown", serde_json::json!({}));
        assert!(self.qemu.wait_ended(LIMIT).is_some(), "the machine is still on");
    }
}

impl Bed {
    fn new() -> Self {
        let image = given("ALIA_IMAGE");
        let choice = accel::probe(Some(&image));
        println!("{}", choice.reason);
        let taps = TAPS.map(str::to_owned).to_vec();
        net::make(&net::Plan { taps, foreign: false }).unwrap();
        let files = tools::boot_files(&bed::packages()).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            image,
            provisioner: given("ALIA_PROVISIONER"),
            ipxe: files.ipxe,
            chrony: chrony(),
            accelerator: choice.accelerator,
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A provisioner, with more of its configuration than the lab's usual one.
    fn provisioner(&self, folder: &Path, dhcp: Dhcp, configuration: &str) -> Service {
        let provisioner = Provisioner {
            program: self.provisioner.clone(),
            folder: folder.into(),
            dhcp,
            image: self.image.clone(),
            ipxe: self.ipxe.clone(),
            uki: None,
            bios_file: Some("ipxe.pxe".into()),
            chain: "alia-lab".parse().unwrap(),
            owner: SecretKey::generate().unwrap(),
            ledgers: vec!["http://10.77.0.1:26657".into()],
            parameter_servers: vec!["http://10.77.0.1:7000".into()],
        };
        let file = folder.join("provisioner.toml");
        fs::write(&file, configuration).unwrap();
        let spec = provisioner.service().unwrap().arg("--config").arg(file);
        Service::start_ready(spec, SERVICE_LIMIT).unwrap()
    }

    /// A machine that starts as the provisioner's script for this MAC address has it.
    fn guest(&self, folder: &Path, name: &str, mac: &str, line: &str, devices: &[&str]) -> Guest {
        let mut words: Vec<OsString> = Vec::new();
        for (flag, file) in [("-kernel", "vmlinuz"), ("-initrd", "initramfs.zst")] {
            words.extend([flag.into(), self.image.join(file).into()]);
        }
        words.extend(["-append".into(), line.into()]);
        let devices: Vec<String> = devices.iter().map(|words| words.replace("MAC", mac)).collect();
        self.start(folder, name, &devices, words)
    }

    /// A machine of these devices, which its firmware boots unless `more` says otherwise.
    fn start(&self, folder: &Path, name: &str, devices: &[String], more: Vec<OsString>) -> Guest {
        let socket = folder.join(format!("{name}.qmp"));
        let mut words = more;
        let mut add = |text: &str| words.extend(text.split(' ').map(OsString::from));
        add("-nodefaults -no-user-config -display none -serial stdio -machine q35,graphics=off");
        for word in self.accelerator.arguments() {
            add(word);
        }
        add("-m 1024 -smp 1 -device virtio-rng-pci");
        add(&format!("-qmp unix:{name}.qmp,server=on,wait=off"));
        for device in devices {
            add(device);
        }
        let spec = ServiceSpec::new(name, "qemu-system-x86_64", folder).args(words);
        Guest { qemu: Service::start(spec).unwrap(), socket }
    }

    /// Late devices, one that nothing drives, an empty disk and one that is not, a clock at 1999,
    /// and one honest NTP server among liars.
    fn devices(&self) {
        let folder = self.folder("devices");
        let configuration = "time-server = [\"10.77.0.1\", \"10.77.0.9\", \"10.77.0.8\"]\n\
            [machine.\"52:54:00:a1:1a:01\"]\nscratch = \"disk\"\n";
        let _provisioner = self.provisioner(&folder, Dhcp::Full, configuration);
        let _ntp = self.ntp(&folder);
        let mac = "52:54:00:a1:1a:01";
        let (empty, full) = (folder.join("empty.disk"), folder.join("full.disk"));
        fs::File::create(&empty).unwrap().set_len(256 << 20).unwrap();
        let mut content = vec![0; 96 << 20];
        content[510] = 0x55;
        fs::write(&full, &content).unwrap();
        let mut guest = self.guest(
            &folder,
            "devices",
            mac,
            &script(mac),
            &[
                "-netdev tap,id=net,ifname=tap-a,script=no,downscript=no",
                "-device virtio-net-pci,netdev=net,mac=MAC,romfile=",
                // A card of 1990s that the image has no driver for.
                "-device ne2k_pci,romfile=",
                "-device pcie-root-port,id=port1,slot=1 -device pcie-root-port,id=port2,slot=2",
                "-device qemu-xhci,id=usb",
                "-drive if=none,id=empty,format=raw,file=empty.disk",
                "-device nvme,drive=empty,serial=E1",
                "-drive if=none,id=full,format=raw,file=full.disk",
                "-device virtio-blk-pci,drive=full,serial=F1",
                "-rtc base=1999-01-01",
            ],
        );
        let inventory = guest.wait(" inventory done ");
        assert!(inventory.text.contains("no driver for 10ec:8029 (network)"), "{inventory:?}");
        guest.wait(" enrolment done ");
        let swap = guest.wait(" scratch done ");
        let told = "of encrypted swap on nvme0n1; left alone: vda is not empty";
        assert!(swap.text.contains(told), "{swap:?}");
        let time = guest.wait("NTP of 10.77.0.1");
        assert!(time.text.contains("10.77.0.9 says 1970-01-01"), "{time:?}");
        assert!(time.text.contains("10.77.0.8 says 2099-"), "{time:?}");

        // Plugged in while it runs.
        for (driver, arguments, module) in [
            (
                "e1000e",
                serde_json::json!({ "id": "late1", "bus": "port1", "romfile": "" }),
                "e1000e",
            ),
            ("usb-net", serde_json::json!({ "id": "late2", "bus": "usb.0" }), "cdc_ether"),
        ] {
            let (mark, plugged) = (guest.mark(), Instant::now());
            guest.plug(driver, arguments);
            let line = guest.wait_from(mark, " hotplug done ");
            assert!(line.text.contains(module), "{line:?}");
            println!("{driver}: its driver after {:.1} s", plugged.elapsed().as_secs_f32());
        }

        // The provisioner knows what it lacks, and its page shows it.
        let detail = get(&format!("/v1/machines/{mac}"));
        assert!(detail.contains("\"id\":\"10ec:8029\""), "{detail}");
        assert!(detail.contains("nvme-QEMU_NVMe_Ctrl_E1"), "{detail}");
        assert!(detail.contains("\"carrier\":true"), "{detail}");
        assert!(get(&format!("/machines/{mac}")).contains("10ec:8029 (network)"));
        guest.power_off();

        assert!(fs::read(&full).unwrap() == content, "a disk that holds something was written to");
        let swapped = fs::read(&empty).unwrap();
        assert!(swapped[..1 << 20].iter().all(|byte| *byte == 0), "the margin was written to");
        assert!(swapped[1 << 20..(1 << 20) + 4096].iter().any(|byte| *byte != 0));
        assert!(!swapped.windows(10).any(|bytes| bytes == b"SWAPSPACE2"), "it is not encrypted");
    }

    fn two_cards(&self) {
        let folder = self.folder("two-cards");
        let _provisioner = self.provisioner(&folder, Dhcp::Full, "");
        let mac = "52:54:00:a1:1a:02";
        let mut guest = self.guest(
            &folder,
            "two-cards",
            mac,
            &script(mac),
            &[
                "-netdev tap,id=one,ifname=tap-a,script=no,downscript=no",
                "-device virtio-net-pci,netdev=one,mac=MAC,id=card1,romfile=",
                "-netdev tap,id=two,ifname=tap-b,script=no,downscript=no",
                // Not e1000e, whose interrupt for a lost link QEMU 7.2 does not raise.
                "-device e1000,netdev=two,mac=52:54:00:a1:1a:22,id=card2,romfile=",
            ],
        );
        guest.set_link("card1", false);
        let line = guest.wait(" network done ");
        assert!(line.text.contains("by DHCP") && line.text.contains("has no link"), "{line:?}");
        println!("network by the second card after {:.1} s", line.at.as_secs_f32());
        guest.wait(" enrolment done ");
        let detail = get(&format!("/v1/machines/{mac}"));
        assert!(detail.contains("\"carrier\":false") && detail.contains("\"carrier\":true"));
        let mark = guest.mark();
        guest.set_link("card2", false);
        guest.wait_from(mark, "has lost its link");
        guest.set_link("card2", true);
        guest.wait_from(mark, "has its link again");
        guest.power_off();
    }

    /// Two machines, wire to wire: what they speak is LACP and tagged, or they do not meet.
    fn bond(&self) {
        let folder = self.folder("bond");
        let _provisioner = self.provisioner(&folder, Dhcp::Full, "");
        let wire = |here: u16, there: u16, id: &str| {
            format!(
                "-netdev dgram,id={id},local.type=inet,local.host=127.0.0.1,local.port={here},remote.type=inet,remote.host=127.0.0.1,remote.port={there}"
            )
        };
        let line = |mac: &str, network: &str| {
            format!("{} alia.net={network}", script(mac).replace("10.77.0.1:8080", "10.9.0.1:7443"))
        };
        let ports =
            |n: u8| format!("nic=52:54:00:a1:1a:{n}1+52:54:00:a1:1a:{n}2,bond=802.3ad,vlan=42");
        let start = |name: &str, n: u8, wires: [String; 2]| {
            let mac = format!("52:54:00:a1:1a:{n}1");
            let network = format!("{},ip=10.9.0.{n}/24", ports(n));
            self.guest(
                &folder,
                name,
                &mac,
                &line(&mac, &network),
                &[
                    &wires[0],
                    "-device virtio-net-pci,netdev=w1,mac=MAC,speed=1000,duplex=full,romfile=",
                    &wires[1],
                    // LACP wants to know speed and duplex, which a virtual card has to be given.
                    &format!("-device virtio-net-pci,netdev=w2,mac=52:54:00:a1:1a:{n}2,speed=1000,duplex=full,romfile="),
                ],
            )
        };
        let mut one = start("one", 1, [wire(7001, 7002, "w1"), wire(7003, 7004, "w2")]);
        let mut two = start("two", 2, [wire(7002, 7001, "w1"), wire(7004, 7003, "w2")]);
        for guest in [&mut one, &mut two] {
            let line = guest.wait(" network done ");
            let told = "uplink.42 (802.3ad of eth0 and eth1) 10.9.0.";
            assert!(line.text.contains(told), "{line:?}");
            println!("{} after {:.1} s", line.text, line.at.as_secs_f32());
        }
        assert!(
            one.said(&["LACP with 52:54:00:a1:1a:2"]) && two.said(&["LACP with 52:54:00:a1:1a:1"])
        );
        // Nobody listens yet at the one port of the first that its packet filter lets through; that it
        // says so is what the VLAN carries.
        two.wait("http://10.9.0.1:7443 cannot be reached (Connection refused");
        // A phantom `bond0`, which the module makes by itself, is not asked on.
        assert!(!two.said(&["network", "bond0"]));
    }

    /// Firmware boots by the first card, without a tag; PID 1 speaks by both as one, and tagged.
    fn trunk(&self) {
        let folder = self.folder("trunk");
        let macs = ["52:54:00:a1:1a:08", "52:54:00:a1:1a:88"];
        let network = "bond=active-backup,vlan=42,ip=10.77.0.50/24";
        let configuration =
            format!("[machine.\"{}\"]\nnetwork = \"nic={},{network}\"\n", macs[0], macs.join("+"));
        let _provisioner = self.provisioner(&folder, Dhcp::Full, &configuration);
        let trunk = trunk::Trunk::start(&folder, "tap-d", 42);
        let card = |at: u16, more: &str| {
            let mac = macs[usize::from(at)];
            let plug = trunk::plug(at);
            format!("{plug} -device virtio-net-pci,id=nic{at},netdev=card{at},mac={mac},{more}")
        };
        let mut guest =
            self.start(&folder, "trunk", &[card(0, "bootindex=1"), card(1, "romfile=")], vec![]);
        let line = guest.wait(" network done ");
        let told = "uplink.42 (active-backup of eth0 and eth1) 10.77.0.50";
        assert!(line.text.contains(told), "{line:?}");
        let line = guest.wait(" enrolment done ");
        let (plain, tagged) = trunk.counted();
        println!("{} by {plain} frames of firmware's and {tagged} with a tag", line.text);
        assert!(plain > 100 && tagged > 100, "kernel and root came by {plain} and {tagged} frames");
        guest.wait(" api done ");
        let reached =
            || TcpStream::connect_timeout(&"10.77.0.50:7443".parse().unwrap(), SERVICE_LIMIT);
        reached().unwrap();
        let mark = guest.mark();
        guest.set_link("nic0", false);
        guest.wait_from(mark, "eth0 has lost its link");
        let by_the_second = reached();
        by_the_second.unwrap_or_else(|error| panic!("the second card carries nothing: {error}"));
        guest.power_off();
    }

    fn ipv6(&self) {
        let folder = self.folder("ipv6");
        let _provisioner = self.provisioner(&folder, Dhcp::Full, "");
        run("ip", &format!("address add {SERVER_IPV6}/64 dev {} nodad", net::BRIDGE));
        let advertise = ServiceSpec::new("advertise", "dnsmasq", &folder)
            .args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--enable-ra"])
            .arg(format!("--interface={}", net::BRIDGE))
            .arg("--dhcp-range=2001:db8:77::,ra-only,64")
            .ready(Ready::Line("router advertisement".into()));
        let _advertise = Service::start_ready(advertise, SERVICE_LIMIT).unwrap();
        // The provisioner has an IPv4 address alone.
        let listener = TcpListener::bind((SERVER_IPV6, 8080)).unwrap();
        thread::spawn(move || listener.incoming().for_each(|stream| relay(stream.unwrap())));
        let mac = "52:54:00:a1:1a:06";
        let line = script(mac).replace("10.77.0.1:8080", &format!("[{SERVER_IPV6}]:8080"));
        let mut guest = self.guest(
            &folder,
            "ipv6",
            mac,
            &line,
            &[
                "-netdev tap,id=net,ifname=tap-a,script=no,downscript=no",
                "-device virtio-net-pci,netdev=net,mac=MAC,romfile=",
            ],
        );
        let line = guest.wait(" network done ");
        assert!(
            line.text.contains("2001:db8:77:") && line.text.contains("by router advert"),
            "{line:?}"
        );
        println!("{} after {:.1} s", line.text, line.at.as_secs_f32());
        guest.wait(" enrolment done ");
        guest.power_off();
    }

    fn spanning_tree(&self) {
        let folder = self.folder("spanning-tree");
        let _provisioner = self.provisioner(&folder, Dhcp::Full, "");
        // 15 s of listening and 15 s of learning, as IEEE 802.1D has it.
        run("ip", &format!("link set {} type bridge stp_state 1 forward_delay 1500", net::BRIDGE));
        let mac = "52:54:00:a1:1a:05";
        let mut guest = self.guest(
            &folder,
            "spanning-tree",
            mac,
            &script(mac),
            &[
                "-netdev tap,id=net,ifname=tap-c,script=no,downscript=no",
                "-device virtio-net-pci,netdev=net,mac=MAC,romfile=",
            ],
        );
        let line = guest.wait(" network done ");
        println!("a lease {:.1} s after power-on", line.at.as_secs_f32());
        guest.wait(" enrolment done ");
        guest.power_off();
        // One after the other: with the protocol on there is no bridge without a delay.
        for setting in ["stp_state 0", "forward_delay 0"] {
            run("ip", &format!("link set {} type bridge {setting}", net::BRIDGE));
        }
    }

    fn erased(&self) {
        let folder = self.folder("erased");
        let mac = "52:54:00:a1:1a:07";
        let configuration = format!("[machine.\"{mac}\"]\nscratch = {{ erase = \"virtio-F1\" }}\n");
        let _provisioner = self.provisioner(&folder, Dhcp::Full, &configuration);
        let mut content = vec![0; 96 << 20];
        content[510] = 0x55;
        fs::write(folder.join("full.disk"), &content).unwrap();
        fs::write(folder.join("other.disk"), &content).unwrap();
        let mut guest = self.guest(
            &folder,
            "erased",
            mac,
            &script(mac),
            &[
                "-netdev tap,id=net,ifname=tap-a,script=no,downscript=no",
                "-device virtio-net-pci,netdev=net,mac=MAC,romfile=",
                "-drive if=none,id=full,format=raw,file=full.disk",
                "-device virtio-blk-pci,drive=full,serial=F1",
                "-drive if=none,id=other,format=raw,file=other.disk",
                "-device virtio-blk-pci,drive=other,serial=F2",
            ],
        );
        let line = guest.wait(" scratch done ");
        assert!(line.text.contains("of encrypted swap on vda"), "{line:?}");
        guest.power_off();
        let erased = fs::read(folder.join("full.disk")).unwrap();
        assert!(erased[..1 << 20].iter().all(|byte| *byte == 0), "what was there can be found");
        assert!(fs::read(folder.join("other.disk")).unwrap() == content);
    }

    /// An honest server at 10.77.0.1, and one at 1970 and one at 2099 beside it.
    fn ntp(&self, folder: &Path) -> Service {
        for (host, seconds) in [("10.77.0.9", 0), ("10.77.0.8", 4_076_352_000)] {
            let _ = Command::new("ip")
                .args(["address", "add", &format!("{host}/24"), "dev", net::BRIDGE])
                .output();
            lie(host, seconds);
        }
        let configuration = folder.join("chrony.conf");
        let text =
            "local stratum 8\nallow all\nbindaddress 10.77.0.1\ncmdport 0\nbindcmdaddress /\n";
        fs::write(&configuration, format!("{text}pidfile {}\n", folder.join("pid").display()))
            .unwrap();
        let spec =
            ServiceSpec::new("chrony", self.chrony.join("usr/lib64/ld-linux-x86-64.so.2"), folder)
                .args(["--inhibit-cache", "--library-path"])
                .arg(self.chrony.join("usr/lib/x86_64-linux-gnu"))
                .arg(self.chrony.join("usr/sbin/chronyd"))
                // In the foreground, without touching this machine's clock.
                .args(["-d", "-x", "-u", "root", "-f"])
                .arg(configuration)
                .ready(Ready::Line("starting".into()));
        Service::start_ready(spec, SERVICE_LIMIT).unwrap()
    }
}

/// An NTP server whose clock stands at `unix_time`.
fn lie(host: &str, unix_time: u64) {
    let socket = UdpSocket::bind((host, 123)).unwrap();
    thread::spawn(move || {
        let mut packet = [0; 48];
        while let Ok((_, from)) = socket.recv_from(&mut packet) {
            // NTP counts from 1900, in eras of 2^32 seconds; the client's time comes back.
            let stamp = ((unix_time + 2_208_988_800) << 32).to_be_bytes();
            let client: [u8; 8] = packet[40..48].try_into().unwrap();
            packet = [0; 48];
            (packet[0], packet[1]) = (0x24, 2);
            packet[24..32].copy_from_slice(&client);
            for at in [16, 32, 40] {
                packet[at..at + 8].copy_from_slice(&stamp);
            }
            let _ = socket.send_to(&packet, from);
        }
    });
}

/// The kernel's command line, of the provisioner's script for this machine.
fn script(mac: &str) -> String {
    let script = get(&format!("/boot/{}.ipxe", mac.replace(':', "-")));
    let line = script.lines().find_map(|line| line.strip_prefix("kernel --name "));
    let line = line.unwrap_or_else(|| panic!("no kernel in {script}"));
    let line = line.trim_end_matches(" || goto failed");
    line.splitn(3, ' ').nth(2).unwrap().to_owned()
}

/// What the provisioner answers.
fn get(path: &str) -> String {
    Provisioner::page(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Hands a connection on to the provisioner.
fn relay(inside: TcpStream) {
    let outside = TcpStream::connect((net::SERVER, 8080)).unwrap();
    for (from, to) in [(&inside, &outside), (&outside, &inside)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
}

fn run(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {said}");
}
