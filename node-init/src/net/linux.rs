//! The real network: rtnetlink for links, addresses and routes, mozim for DHCP.

use super::{
    Dhcp, DhcpEvent, Link, NetError, Network,
    lease::{self, Lease, Offer},
};
use crate::mac::Mac;
use futures::TryStreamExt;
use mozim::{DhcpV4Client, DhcpV4Config, DhcpV4Lease, DhcpV4State};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkUnspec, RouteMessageBuilder,
    packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage},
};
use std::{fmt::Display, io, net::Ipv4Addr};

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

/// Ethernet with hardware behind it; none for loopback, bridges, bonds and the like.
fn hardware(message: LinkMessage) -> Option<Link> {
    if message.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let flags = message.header.flags;
    let (mut name, mut mac) = (None, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Address(bytes) => mac = bytes.try_into().ok().map(Mac),
            // Only software links say what kind they are.
            LinkAttribute::LinkInfo(_) => return None,
            _ => {}
        }
    }
    Some(Link {
        index: message.header.index,
        name: name?,
        mac: mac?,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
    })
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
        let mut links: Vec<Link> = messages.into_iter().filter_map(hardware).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    async fn raise(&self, link: &Link) -> Result<(), NetError> {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        let raised = self.handle.link().set(message).execute().await;
        raised.map_err(failed("the interface cannot be set up"))
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
        mtu: lease.mtu,
        server: lease.srv_id,
        seconds: lease.lease_time_sec,
    }
}
