//! A reply: what it says, and its bytes.

use super::{
    packet::{IPXE_OPTIONS, Request},
    settings::Settings,
};
use crate::quirks::OptionValue;
use dhcproto::v4::{
    DhcpOption, Encodable, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption,
};
use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

/// The shortest message that old BOOTP relays and ROMs take (RFC 1542 section 2.1).
const MIN_LEN: usize = 300;
/// BOOTP's `file` field (RFC 951).
pub const MAX_FILE_LEN: usize = 127;

/// A reply to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// OFFER, ACK or NAK.
    pub message: MessageType,
    /// Where it goes.
    pub to: To,
    /// The address that the client gets.
    pub address: Option<Ipv4Addr>,
    /// What it boots.
    pub boot: Option<Boot>,
    /// A ProxyDHCP or boot server's reply: no lease, and option 60 says who speaks.
    pub proxy: bool,
    /// Repeat the item of the boot menu that the client chose (option 43.71).
    pub echo_boot_item: bool,
    /// Option 56: the reason of a NAK.
    pub message_text: Option<String>,
    /// Options that this firmware wants besides, or otherwise.
    pub add_options: Vec<OptionValue>,
    /// Options that it must not get.
    pub drop_options: Vec<u8>,
}

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Everyone on the wire, port 68: the client has no address yet.
    Broadcast,
    /// The relay, port 67.
    Relay(Ipv4Addr),
    /// The client's address, port 68.
    Address(Ipv4Addr),
    /// Whoever sent the request, at the port it came from.
    Sender,
}

impl To {
    /// For a client that has no address yet.
    pub fn client(request: &Request) -> Self {
        if request.giaddr.is_unspecified() { Self::Broadcast } else { Self::Relay(request.giaddr) }
    }

    /// For a NAK, which goes to everyone (RFC 2131 section 4.3.2).
    pub fn nak(request: &Request) -> Self {
        Self::client(request)
    }

    /// The socket address.
    pub fn address(self, sender: SocketAddrV4) -> SocketAddrV4 {
        match self {
            Self::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
            Self::Relay(relay) => SocketAddrV4::new(relay, 67),
            Self::Address(address) => SocketAddrV4::new(address, 68),
            // Who has no address cannot be answered at it.
            Self::Sender if sender.ip().is_unspecified() => Self::Broadcast.address(sender),
            Self::Sender => sender,
        }
    }
}

/// What a client is told to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// A file by TFTP from us; `direct` says so in option 43, and without it firmware asks the
    /// boot server.
    File {
        /// Its name.
        name: String,
        /// Option 43 `6=8`.
        direct: bool,
    },
    /// A URL for UEFI HTTP boot.
    Url(String),
    /// A script's URL, for iPXE.
    Script(String),
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, direct } => {
                let file = name.rsplit('/').next().unwrap_or(name);
                write!(f, "{file}{}", if *direct { "" } else { " (by the boot server)" })
            }
            Self::Url(url) | Self::Script(url) => f.write_str(url),
        }
    }
}

/// PXE's discovery control (PXE 2.1, table 2-1): bit 3, take the file named and ask nobody.
const DISCOVERY_CONTROL: [u8; 3] = [6, 1, 8];
/// PXE's item of the boot menu (PXE 2.1, table 2-1).
const BOOT_ITEM: u8 = 71;
/// iPXE's sub-option "no ProxyDHCP": saves it the 2 s that it would wait for one.
const NO_PXEDHCP: [u8; 3] = [176, 1, 1];

impl Reply {
    /// A reply that says nothing more yet.
    pub fn new(message: MessageType, to: To) -> Self {
        Self {
            message,
            to,
            address: None,
            boot: None,
            proxy: false,
            echo_boot_item: false,
            message_text: None,
            add_options: Vec::new(),
            drop_options: Vec::new(),
        }
    }

    /// The reply's bytes.
    pub fn bytes(&self, settings: &Settings, request: &Request) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let server = settings.server();
        let mut message = Message::new_with_id(
            request.xid,
            if self.message == MessageType::Nak { none } else { request.ciaddr },
            self.address.unwrap_or(none),
            if self.boot.is_some() { server } else { none },
            request.giaddr,
            &request.mac.0,
        );
        message.set_opcode(Opcode::BootReply).set_flags(Flags::from(request.flags));
        let mut options =
            vec![DhcpOption::MessageType(self.message), DhcpOption::ServerIdentifier(server)];
        if let Some(text) = &self.message_text {
            options.push(DhcpOption::Message(text.chars().take(200).collect()));
        }
        if self.message != MessageType::Nak && !self.proxy {
            options.extend(network_options(settings));
            if self.address.is_some() {
                options.extend(lease_options(settings.lease_seconds));
            }
        }
        // RFC 6842, RFC 4578: repeated as they came.
        options.extend(request.client_id.clone().map(DhcpOption::ClientIdentifier));
        options.extend(request.guid.clone().map(DhcpOption::ClientMachineIdentifier));
        if let Some(boot) = &self.boot {
            let (Boot::File { name, .. } | Boot::Url(name) | Boot::Script(name)) = boot;
            if name.len() <= MAX_FILE_LEN {
                message.set_fname_str(name);
            }
            options.extend(self.boot_options(boot, server, request));
        }
        for option in options {
            message.opts_mut().insert(option);
        }
        for &code in &self.drop_options {
            message.opts_mut().remove(code.into());
        }
        for option in &self.add_options {
            let value = UnknownOption::new(option.code.into(), option.value.clone());
            message.opts_mut().insert(DhcpOption::Unknown(value));
        }
        let mut bytes = message.to_vec().unwrap_or_default();
        append_relay_information(&mut bytes, request);
        bytes.resize(bytes.len().max(MIN_LEN), 0);
        bytes
    }

    fn boot_options(&self, boot: &Boot, server: Ipv4Addr, request: &Request) -> Vec<DhcpOption> {
        let class = |class: &str| DhcpOption::ClassIdentifier(class.into());
        let mut options = Vec::new();
        match boot {
            Boot::File { name, direct } => {
                options.push(class("PXEClient"));
                options.push(DhcpOption::TFTPServerName(server.to_string().into()));
                options.push(DhcpOption::BootfileName(name.clone().into()));
                if *direct {
                    let mut vendor = DISCOVERY_CONTROL.to_vec();
                    if self.echo_boot_item {
                        vendor.extend(boot_item(request));
                    }
                    vendor.push(255);
                    options.push(DhcpOption::VendorExtensions(vendor));
                }
            }
            Boot::Url(url) => {
                options.push(class("HTTPClient"));
                options.push(DhcpOption::BootfileName(url.clone().into()));
            }
            Boot::Script(url) => {
                options.push(DhcpOption::BootfileName(url.clone().into()));
                if self.proxy {
                    options.push(class("PXEClient"));
                } else {
                    let code = OptionCode::Unknown(IPXE_OPTIONS);
                    let value = UnknownOption::new(code, NO_PXEDHCP.into());
                    options.push(DhcpOption::Unknown(value));
                }
            }
        }
        options
    }
}

fn network_options(settings: &Settings) -> Vec<DhcpOption> {
    let mut options = vec![
        DhcpOption::SubnetMask(settings.link().mask),
        DhcpOption::BroadcastAddr(settings.link().broadcast()),
    ];
    if !settings.routers.is_empty() {
        options.push(DhcpOption::Router(settings.routers.clone()));
    }
    if !settings.dns.is_empty() {
        options.push(DhcpOption::DomainNameServer(settings.dns.clone()));
    }
    options
}

/// T1 and T2 as RFC 2131 section 4.4.5 has them: a half and seven eighths of the lease.
fn lease_options(seconds: u32) -> [DhcpOption; 3] {
    [
        DhcpOption::AddressLeaseTime(seconds),
        DhcpOption::Renewal(seconds / 2),
        DhcpOption::Rebinding(seconds / 8 * 7),
    ]
}

/// Option 43.71 as the client sent it.
fn boot_item(request: &Request) -> Vec<u8> {
    let mut rest = request.vendor_options.as_deref().unwrap_or_default();
    while let [code, length, tail @ ..] = rest {
        let Some((value, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        if *code == BOOT_ITEM {
            return [&[*code, *length], value].concat();
        }
        rest = tail;
    }
    Vec::new()
}

/// Option 82 goes back to the relay as it came, after all others (RFC 3046 section 2.2).
fn append_relay_information(bytes: &mut Vec<u8>, request: &Request) {
    let Some(relay) = request.relay.as_ref().filter(|relay| relay.len() <= 255) else { return };
    if bytes.last() == Some(&255) {
        bytes.pop();
        bytes.extend([82, relay.len() as u8]);
        bytes.extend(relay);
        bytes.push(255);
    }
}
