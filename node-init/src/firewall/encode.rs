//! Rules as netlink messages (nfnetlink's batch, linux/netfilter/nf_tables.h).

use super::{Chain, Direction, Match, Protocol, Rule, TABLE, Verdict};
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{
        Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, Expressions, Hook, Immediate,
        InetHookNumber, ListAttribute, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register,
        RuleAttribute, RuleMessage, TableAttribute, TableMessage, Verdict as Code,
        VerdictAttribute,
    },
    none::ControlMessage,
};
use std::net::IpAddr;

/// nf_tables' number among nfnetlink's subsystems: a batch is for one.
const SUBSYSTEM: u16 = 10;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// Bits of a connection's state: established and related.
const KNOWN: u32 = 0b10 | 0b100;
/// Where payload offsets count from.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// IFNAMSIZ.
const NAME_LENGTH: usize = 16;
/// As an ICMP error of whichever IP it is, and which: administratively prohibited.
const ICMPX: u32 = 2;
const PROHIBITED: u8 = 3;

/// One batch: the table is made, let go with all that is in it, and made anew. The kernel does all
/// or nothing; the last message but one is to be acknowledged.
pub fn batch(chains: &[Chain]) -> Vec<NetlinkMessage<NetfilterMessage>> {
    let table = || TableMessage { attributes: vec![TableAttribute::Name(TABLE.into())] };
    let mut messages = vec![
        control(ControlMessage::BatchBegin),
        ours(NfTablesMessage::NewTable(table()), NLM_F_CREATE),
        ours(NfTablesMessage::DeleteTable(table()), 0),
        ours(NfTablesMessage::NewTable(table()), NLM_F_CREATE),
    ];
    for chain in chains {
        messages.push(ours(NfTablesMessage::NewChain(base(chain.direction)), NLM_F_CREATE));
    }
    for chain in chains {
        for rule in &chain.rules {
            let message = NfTablesMessage::NewRule(self::rule(chain.direction, rule));
            messages.push(ours(message, NLM_F_CREATE | NLM_F_APPEND));
        }
    }
    if let Some(last) = messages.last_mut() {
        last.header.flags |= NLM_F_ACK;
    }
    messages.push(control(ControlMessage::BatchEnd));
    for (sequence, message) in (1..).zip(&mut messages) {
        message.header.sequence_number = sequence;
        message.finalize();
    }
    messages
}

fn control(message: ControlMessage) -> NetlinkMessage<NetfilterMessage> {
    wrapped(NetfilterProtoFamily::Unspec, SUBSYSTEM, message, 0)
}

fn ours(message: NfTablesMessage, flags: u16) -> NetlinkMessage<NetfilterMessage> {
    wrapped(NetfilterProtoFamily::Inet, 0, message, flags)
}

fn wrapped(
    family: NetfilterProtoFamily,
    resource: u16,
    message: impl Into<NetfilterMessageInner>,
    flags: u16,
) -> NetlinkMessage<NetfilterMessage> {
    let header = NetfilterHeader::new(family, 0, resource);
    let mut message = NetlinkMessage::from(NetfilterMessage::new(header, message));
    message.header.flags = NLM_F_REQUEST | flags;
    message
}

fn base(direction: Direction) -> ChainMessage {
    let hook = match direction {
        Direction::Input => InetHookNumber::LocalIn,
        Direction::Forward => InetHookNumber::Forward,
        Direction::Output => InetHookNumber::LocalOut,
    };
    let attributes = vec![
        ChainAttribute::Table(TABLE.into()),
        ChainAttribute::Name(direction.name().into()),
        ChainAttribute::Hook(vec![Hook::Number(hook.into()), Hook::Priority(0)]),
        ChainAttribute::Policy(DROP),
        ChainAttribute::Type("filter".into()),
    ];
    ChainMessage { attributes }
}

fn rule(direction: Direction, rule: &Rule) -> RuleMessage {
    let matches = rule.matches.iter().flat_map(expressions);
    let list = matches.chain([verdict(rule.verdict)]).map(ListAttribute::from).collect();
    let attributes = vec![
        RuleAttribute::Table(TABLE.into()),
        RuleAttribute::Chain(direction.name().into()),
        RuleAttribute::Expressions(list),
    ];
    RuleMessage { attributes }
}

fn expressions(each: &Match) -> Vec<Expressions> {
    match *each {
        Match::Known => known(),
        Match::FromLoopback => meta(MetaKey::Iifname, name("lo")),
        Match::ToLoopback => meta(MetaKey::Oifname, name("lo")),
        Match::Protocol(protocol) => meta(MetaKey::L4Proto, vec![number(protocol)]),
        Match::DestinationPort(port) => payload(TRANSPORT, 2, port.to_be_bytes().to_vec()),
        Match::Icmp6Type(kind) => payload(TRANSPORT, 0, vec![kind]),
        Match::To(IpAddr::V4(address)) => [
            meta(MetaKey::Nfproto, vec![NetfilterProtoFamily::IPv4.into()]),
            payload(NETWORK, 16, address.octets().to_vec()),
        ]
        .concat(),
        Match::To(IpAddr::V6(address)) => [
            meta(MetaKey::Nfproto, vec![NetfilterProtoFamily::IPv6.into()]),
            payload(NETWORK, 24, address.octets().to_vec()),
        ]
        .concat(),
        // Registers hold what is not of a packet in the host's own order.
        Match::User(user) => meta(MetaKey::SocketUserId, user.to_ne_bytes().to_vec()),
    }
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Icmp6 => 58,
    }
}

fn name(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(NAME_LENGTH, 0);
    bytes
}

fn meta(key: MetaKey, value: Vec<u8>) -> Vec<Expressions> {
    let load = vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)];
    vec![Expressions::Meta(load), compare(Operator::Equal, value)]
}

fn payload(base: u32, offset: u32, value: Vec<u8>) -> Vec<Expressions> {
    let load = vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(value.len() as u32),
    ];
    vec![Expressions::Payload(load), compare(Operator::Equal, value)]
}

fn compare(operator: Operator, value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}

fn known() -> Vec<Expressions> {
    let mask = KNOWN.to_ne_bytes().to_vec();
    vec![
        // The library has no name for this one: its register (2) and its key (1), the state (0).
        Expressions::Other {
            expression_type: "ct".into(),
            attributes: vec![
                DefaultNla::new(2, 0u32.to_be_bytes().to_vec()),
                DefaultNla::new(1, u32::from(Register::Reg1).to_be_bytes().to_vec()),
            ],
        },
        Expressions::Bitwise(vec![
            Bitwise::SourceRegister(Register::Reg1),
            Bitwise::DestinationRegister(Register::Reg1),
            Bitwise::Length(mask.len() as u32),
            Bitwise::Mask(DataAttribute::Value(mask.clone())),
            Bitwise::Xor(DataAttribute::Value(vec![0; mask.len()])),
        ]),
        compare(Operator::NotEqual, vec![0; mask.len()]),
    ]
}

fn verdict(verdict: Verdict) -> Expressions {
    match verdict {
        Verdict::Accept => Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(Code::Other(
                ACCEPT,
            ))])),
        ]),
        Verdict::Reject => Expressions::Other {
            expression_type: "reject".into(),
            attributes: vec![
                DefaultNla::new(1, ICMPX.to_be_bytes().to_vec()),
                DefaultNla::new(2, vec![PROHIBITED]),
            ],
        },
    }
}
