//! The real network: rtnetlink for links, addresses and routes, mozim for DHCP.

use super::{
    Dhcp, DhcpEvent, Link, NetError, Network,
    lease::{self, Lease, Offer},
    plan::{Addressing, Way},
};
use crate::mac::Mac;
use futures::TryStreamExt;
use mozim::{DhcpV4Client, DhcpV4Config, DhcpV4Lease, DhcpV4State};
use protocol::network::BondMode;
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBond, LinkMessageBuilder, LinkUnspec, LinkVlan,
    RouteMessageBuilder,
    packet_route::{
        address::{
            AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope,
        },
        link::{self as bond, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
    },
};
use std::{
    fmt::Display,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The loopback's index: the kernel makes it first.
const LOOPBACK: u32 = 1;

/// The kernel's links, by one netlink socket.
#[derive(Clone, Debug)]
pub struct Rtnetlink {
    handle: Handle,
}

impl Rtnetlink {
    /// Opens the socket; its reader runs on the current tokio runtime.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }
}

fn failed<E: Display>(what: &'static str) -> impl FnOnce(E) -> NetError {
    move |error| NetError { what, reason: error.to_string() }
}

/// Ethernet, and whether it is without hardware behind it: bridges, bonds and the like.
fn ethernet(message: LinkMessage) -> Option<(Link, bool)> {
    if message.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let flags = message.header.flags;
    let (mut name, mut mac, mut software) = (None, None, false);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Address(bytes) => mac = bytes.try_into().ok().map(Mac),
            // Only software links say what kind they are; a bond's ports say of what they are one.
            LinkAttribute::LinkInfo(parts)
                if parts.iter().any(|part| matches!(part, LinkInfo::Kind(_))) =>
            {
                software = true;
            }
            _ => {}
        }
    }
    let link = Link {
        index: message.header.index,
        name: name?,
        mac: mac?,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
    };
    Some((link, software))
}

impl Rtnetlink {
    /// Sets an MTU; a link that cannot do it works with its own.
    async fn set(&self, link: LinkMessageBuilder<LinkUnspec>, mtu: Option<u16>) {
        if let Some(mtu) = mtu {
            let _ = self.handle.link().set(link.mtu(mtu.into()).build()).execute().await;
        }
    }

    async fn bond(&self, way: &Way, mode: BondMode) -> Result<(), NetError> {
        // The links of the ports are looked at every 100 ms; LACP's partner is asked to speak
        // every second, so that a dead one is noticed in three.
        let message = LinkBond::new(&way.base());
        let message = match mode {
            BondMode::ActiveBackup => message.mode(bond::BondMode::ActiveBackup).miimon(100),
            BondMode::Lacp => message
                .mode(bond::BondMode::Ieee8023Ad)
                .miimon(100)
                .ad_lacp_rate(bond::BondLacpRate::Fast)
                .xmit_hash_policy(bond::BondXmitHashPolicy::Layer34),
        };
        let added = self.handle.link().add(message.build()).execute().await;
        added.map_err(failed("the bond cannot be made; does the kernel have bonding?"))?;
        let missing = || NetError { what: "the bond that was made", reason: "is not there".into() };
        let bond = self.link(&way.base()).await?.ok_or_else(missing)?;
        for port in &way.ports {
            // Only a port that is down can join; the bond sets it up.
            let down = LinkUnspec::new_with_index(port.index).down().build();
            let join = LinkUnspec::new_with_index(port.index).controller(bond.index).build();
            for message in [down, join] {
                let set = self.handle.link().set(message).execute().await;
                set.map_err(failed("a NIC cannot join the bond"))?;
            }
        }
        Ok(())
    }
}

impl Network for Rtnetlink {
    type Dhcp = Mozim;

    async fn links(&self) -> Result<Vec<Link>, NetError> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed("the kernel's links cannot be listed"))?;
        let hardware = |message| ethernet(message).filter(|(_, software)| !software);
        let mut links: Vec<Link> =
            messages.into_iter().filter_map(hardware).map(|(link, _)| link).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    async fn raise(&self, link: &Link) -> Result<(), NetError> {
        // What the packet filter refuses is told by it; down, it has a refused caller wait instead.
        let loopback = LinkUnspec::new_with_index(LOOPBACK).up().build();
        let _ = self.handle.link().set(loopback).execute().await;
        let message = LinkUnspec::new_with_index(link.index).up().build();
        let raised = self.handle.link().set(message).execute().await;
        raised.map_err(failed("the interface cannot be set up"))
    }

    async fn link(&self, name: &str) -> Result<Option<Link>, NetError> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        // That it is not there is an error of the kernel's.
        Ok(found.ok().flatten().and_then(ethernet).map(|(link, _)| link))
    }

    async fn make(&self, way: &Way) -> Result<(), NetError> {
        if let Some(mode) = way.bond {
            self.bond(way, mode).await?;
        }
        for port in &way.ports {
            self.set(LinkUnspec::new_with_index(port.index), way.mtu).await;
            self.raise(port).await?;
        }
        let missing = || NetError { what: "the link that was made", reason: "is not there".into() };
        let base = self.link(&way.base()).await?.ok_or_else(missing)?;
        if way.bond.is_some() {
            self.set(LinkUnspec::new_with_index(base.index), way.mtu).await;
            self.raise(&base).await?;
        }
        if let Some(vlan) = way.vlan {
            let message = LinkVlan::new(&way.name(), base.index, vlan).build();
            let added = self.handle.link().add(message).execute().await;
            added.map_err(failed("the VLAN cannot be made; does the kernel have 8021q?"))?;
            let top = self.link(&way.name()).await?.ok_or_else(missing)?;
            self.set(LinkUnspec::new_with_index(top.index), way.mtu).await;
            self.raise(&top).await?;
        }
        Ok(())
    }

    async fn unmake(&self, way: &Way) {
        let vlan = way.vlan.map(|_| way.name());
        for name in vlan.into_iter().chain(way.bond.map(|_| way.base())) {
            if let Ok(Some(link)) = self.link(&name).await {
                let _ = self.handle.link().del(link.index).execute().await;
            }
        }
    }

    async fn fix(&self, link: &Link, addressing: &Addressing) -> Result<(), NetError> {
        for (address, prefix) in &addressing.fixed {
            let added = self.handle.address().add(link.index, *address, *prefix).replace();
            added.execute().await.map_err(failed("the address cannot be set"))?;
        }
        for gateway in &addressing.gateways {
            // The router need not be within the prefix (RFC 3442's hosts with /32, fe80::1).
            let added = match *gateway {
                IpAddr::V4(router) => {
                    let route = RouteMessageBuilder::<Ipv4Addr>::new()
                        .output_interface(link.index)
                        .gateway(router)
                        .onlink();
                    self.handle.route().add(route.build()).replace().execute().await
                }
                IpAddr::V6(router) => {
                    let route = RouteMessageBuilder::<Ipv6Addr>::new()
                        .output_interface(link.index)
                        .gateway(router)
                        .onlink();
                    self.handle.route().add(route.build()).replace().execute().await
                }
            };
            added.map_err(failed("the default route cannot be set"))?;
        }
        Ok(())
    }

    async fn unfix(&self, link: &Link, addressing: &Addressing) {
        for (address, prefix) in &addressing.fixed {
            let message = match *address {
                IpAddr::V4(address) => AddressMessageBuilder::<Ipv4Addr>::new()
                    .index(link.index)
                    .address(address, *prefix)
                    .build(),
                IpAddr::V6(address) => AddressMessageBuilder::<Ipv6Addr>::new()
                    .index(link.index)
                    .address(address, *prefix)
                    .build(),
            };
            let _ = self.handle.address().del(message).execute().await;
        }
    }

    async fn autoconfigured(&self, link: &Link) -> Result<Option<(Ipv6Addr, u8)>, NetError> {
        let messages: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed("the kernel's addresses cannot be listed"))?;
        let usable = |message: AddressMessage| {
            let unusable = AddressHeaderFlags::Tentative
                | AddressHeaderFlags::Dadfailed
                | AddressHeaderFlags::Deprecated;
            let AddressHeader { index, scope, flags, prefix_len, .. } = message.header;
            if index != link.index || scope != AddressScope::Universe || flags.intersects(unusable)
            {
                return None;
            }
            message.attributes.into_iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V6(address)) => Some((address, prefix_len)),
                _ => None,
            })
        };
        Ok(messages.into_iter().find_map(usable))
    }

    async fn dhcp(&self, link: &Link) -> Result<Mozim, NetError> {
        let made = async {
            let mut config = DhcpV4Config::new(&link.name);
            config.set_iface_index(link.index).set_iface_mac_raw(&link.mac.0)?;
            // iPXE's identity too, so that the server gives the address of the boot again.
            config.use_mac_as_client_id();
            DhcpV4Client::init(config, None).await
        };
        let client = made.await.map_err(failed("the DHCP client cannot start"))?;
        Ok(Mozim { client, leased: false })
    }

    async fn apply(&self, link: &Link, lease: &Lease) -> Result<(), NetError> {
        if let Some(mtu) = lease.mtu {
            let message = LinkUnspec::new_with_index(link.index).mtu(mtu.into()).build();
            // A NIC that cannot do this MTU works with its own.
            let _ = self.handle.link().set(message).execute().await;
        }
        let address = self.handle.address();
        let address = address.add(link.index, lease.address.into(), lease.prefix).replace();
        address.execute().await.map_err(failed("the address cannot be set"))?;
        for route in &lease.routes {
            let mut message = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(route.to, route.prefix)
                .output_interface(link.index);
            if let Some(router) = route.by {
                message = message.gateway(router);
                if !lease.on_link(router) {
                    message = message.onlink();
                }
            }
            let added = self.handle.route().add(message.build()).replace().execute().await;
            added.map_err(failed("a route cannot be set"))?;
        }
        Ok(())
    }

    async fn remove(&self, link: &Link, lease: &Lease) -> Result<(), NetError> {
        let message = AddressMessageBuilder::<Ipv4Addr>::new()
            .index(link.index)
            .address(lease.address, lease.prefix)
            .build();
        let removed = self.handle.address().del(message).execute().await;
        removed.map_err(failed("the address cannot be removed"))
    }
}

/// A DHCP client.
#[derive(Debug)]
pub struct Mozim {
    client: DhcpV4Client,
    /// Whether a lease stands, so that the search after it is told from the first.
    leased: bool,
}

impl Dhcp for Mozim {
    async fn next(&mut self) -> Result<DhcpEvent, NetError> {
        let state = self.client.run().await.map_err(failed("the DHCP client failed"))?;
        Ok(match state {
            DhcpV4State::Done(lease) => {
                let lease = lease::check(&offer(&lease))
                    .map_err(failed("the DHCP server's offer cannot be used"))?;
                self.leased = true;
                DhcpEvent::Lease(lease)
            }
            DhcpV4State::Rebinding => DhcpEvent::Unanswered,
            DhcpV4State::InitReboot if self.leased => {
                self.leased = false;
                DhcpEvent::Lost
            }
            DhcpV4State::InitReboot | DhcpV4State::Selecting | DhcpV4State::Renewing => {
                DhcpEvent::Busy
            }
        })
    }
}

fn offer(lease: &DhcpV4Lease) -> Offer {
    let classless = lease.classless_routes.as_ref().map(|routes| {
        routes.iter().map(|route| (route.destination, route.prefix_length, route.router)).collect()
    });
    Offer {
        address: lease.yiaddr,
        mask: lease.subnet_mask,
        routers: lease.gateways.clone().unwrap_or_default(),
        classless,
        name_servers: lease.dns_srvs.clone().unwrap_or_default(),
        time_servers: lease.ntp_srvs.clone().unwrap_or_default(),
        mtu: lease.mtu,
        server: lease.srv_id,
        seconds: lease.lease_time_sec,
    }
}
