//! Labels and their values: all of them few, and ours.

use crate::dhcp::decide;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use std::fmt::{self, Write};

/// Values of a label, written as they are here.
macro_rules! values {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$of:meta])* $value:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$of])* $value),* }

        impl $name {
            /// All of them.
            $vis const ALL: &'static [Self] = &[$(Self::$value),*];

            /// As written.
            $vis fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),* }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                encoder.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use values;

values! {
    /// A version of IP.
    pub enum Family {
        /// 4.
        Four = "ipv4",
        /// 6.
        Six = "ipv6",
    }
}

values! {
    /// A port of DHCP's.
    pub enum Port {
        /// 67.
        Dhcp = "67",
        /// 4011.
        Binl = "4011",
        /// 547.
        Six = "547",
    }
}

values! {
    /// What became of a DHCP packet.
    pub enum Exchange {
        /// A reply was sent.
        Answered = "answered",
        /// It wants none, or none of ours.
        Silent = "silent",
        /// It is no request.
        Refused = "refused",
        /// The store failed.
        StoreFailed = "store-failed",
        /// The reply could not be sent.
        Unsent = "unsent",
    }
}

values! {
    /// How a TFTP request ended.
    pub enum Transfer {
        /// To its last block.
        Complete = "complete",
        /// To its last block, which was never acknowledged.
        Unconfirmed = "unconfirmed",
        /// The client wanted to know the size alone.
        SizeAsked = "size-asked",
        /// The client gave up.
        Aborted = "aborted",
        /// The client fell silent.
        Silent = "silent",
        /// It got nothing.
        Refused = "refused",
    }
}

values! {
    /// By which door a request came.
    pub enum Door {
        /// Plain.
        Http = "http",
        /// By TLS.
        Https = "https",
    }
}

values! {
    /// The class of an answer's status.
    pub enum Code {
        /// 1xx and 2xx.
        Success = "2xx",
        /// 3xx.
        Redirect = "3xx",
        /// 4xx.
        Client = "4xx",
        /// 5xx.
        Server = "5xx",
    }
}

impl Port {
    /// Its version of IP.
    pub fn family(self) -> Family {
        if self == Self::Six { Family::Six } else { Family::Four }
    }
}

impl From<decide::Port> for Port {
    fn from(port: decide::Port) -> Self {
        match port {
            decide::Port::Dhcp => Self::Dhcp,
            decide::Port::Binl => Self::Binl,
        }
    }
}

impl From<u16> for Code {
    fn from(status: u16) -> Self {
        match status {
            500.. => Self::Server,
            400.. => Self::Client,
            300.. => Self::Redirect,
            _ => Self::Success,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DhcpLabels {
    pub(super) port: Port,
    pub(super) outcome: Exchange,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FamilyLabels {
    pub(super) family: Family,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TransferLabels {
    pub(super) outcome: Transfer,
}

/// A route is one of the router's, so that there are as many as it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HttpLabels {
    pub(super) door: Door,
    pub(super) route: String,
    pub(super) code: Code,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabels {
    pub(super) door: Door,
    pub(super) route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BootLabels {
    pub(super) outcome: super::Boot,
}
