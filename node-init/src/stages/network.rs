//! Stage `network`: links up, an address on the NIC that booted us or else on another, or as the
//! boot script says; and keeping it from then on.

use crate::{
    kernel::{self, Kernel, Probe},
    mac::Mac,
    net::{
        Dhcp, DhcpEvent, Link, NetError, Network, Waits, choose,
        flaps::Flaps,
        lease::Lease,
        plan::{self, Addressing, Way},
    },
    stages::{inventory, modules},
};
use protocol::{boot::StageState, network::NetworkConfig};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout_at},
};

/// `/etc/resolv.conf` points to it: the root cannot be written.
const RESOLV_CONF: &str = "/run/resolv.conf";
/// How often links are looked at while one is waited for.
const POLL: Duration = Duration::from_millis(50);

/// There is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused something.
    #[error(transparent)]
    Kernel(#[from] NetError),
    /// No link gave an address; says why of each.
    #[error("no address: {0}")]
    NoAddress(String),
}

/// What is wanted of the network.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// What the boot script or the node's settings say.
    pub config: NetworkConfig,
    /// The NIC that firmware booted from.
    pub boot_nic: Option<Mac>,
    /// The provisioner's address, where it is one and not a name.
    pub provisioner: Option<IpAddr>,
}

/// The machine's network.
#[derive(Debug)]
pub struct Up<D> {
    /// The link that addresses are on.
    pub link: Link,
    /// What it was made of.
    pub way: Way,
    /// By what it has its addresses.
    pub held: Held<D>,
    /// Why it is not the link that booted us, where it is not.
    pub why: String,
}

/// By what a link has its addresses.
#[derive(Debug)]
pub enum Held<D> {
    /// A lease, and the client that renews it.
    Lease(Lease, D),
    /// Router advertisements, which the kernel heeds by itself.
    Auto(Ipv6Addr, u8),
    /// Ourselves.
    Fixed(Addressing),
}

impl<D> Up<D> {
    /// `eth0 10.1.2.3/24 by DHCP from 10.1.2.1`.
    pub fn detail(&self) -> String {
        let held = match &self.held {
            Held::Lease(lease, _) => lease.detail(),
            Held::Auto(address, prefix) => format!("{address}/{prefix} by router advertisement"),
            Held::Fixed(addressing) => {
                let text = |(address, prefix): &(IpAddr, u8)| format!("{address}/{prefix}");
                let list: Vec<String> = addressing.fixed.iter().map(text).collect();
                format!("{} as configured", list.join(" "))
            }
        };
        format!("{}{} {held}{}", self.link.name, self.way.detail(), self.why)
    }

    /// The address that others reach the machine by.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.held {
            Held::Lease(lease, _) => Some(lease.address.into()),
            Held::Auto(address, _) => Some((*address).into()),
            Held::Fixed(addressing) => addressing.fixed.first().map(|(address, _)| *address),
        }
    }

    /// How to take it away again.
    pub fn undo(&self) -> Undo {
        let (lease, fixed) = match &self.held {
            Held::Lease(lease, _) => (Some(lease.clone()), None),
            Held::Fixed(addressing) => (None, Some(addressing.clone())),
            Held::Auto(..) => (None, None),
        };
        Undo { link: self.link.clone(), way: self.way.clone(), lease, fixed }
    }

    /// The NTP servers that DHCP names.
    pub fn time_servers(&self) -> Vec<Ipv4Addr> {
        match &self.held {
            Held::Lease(lease, _) => lease.time_servers.clone(),
            Held::Auto(..) | Held::Fixed(_) => Vec::new(),
        }
    }
}

/// Brings the machine onto the network.
pub async fn run<N: Network>(
    kernel: &Arc<dyn Kernel>,
    network: &N,
    waits: &Waits,
    wanted: &Wanted,
) -> Result<Up<N::Dhcp>, NetworkError> {
    let Wanted { config, boot_nic, provisioner } = wanted;
    let addressing = plan::addressing(config, *provisioner);
    heed_routers(kernel.as_ref(), &network.links().await?, addressing.auto);
    let links = wait_for_links(kernel, network, waits, wanted).await?;
    for way in plan::ways(config, &links, *boot_nic) {
        let at = kernel.clone();
        let modules = way.modules();
        // What the kernel has built in is no module, and what fails shows in the next step.
        let _ = spawn_blocking(move || modules::load(at.as_ref(), &modules)).await;
        // What an earlier attempt left would stand in the way.
        network.unmake(&way).await;
        network.make(&way).await?;
        let link = settle(network, waits, &way).await?;
        if let Some(held) = address(network, waits, &link, &addressing).await? {
            note_name_servers(kernel.as_ref(), &addressing, &held);
            let taken = way.ports.first().unwrap_or(&link);
            let why = match way.bond {
                None => choose::explain_other(&links, taken, *boot_nic),
                Some(_) => partner(kernel.as_ref(), waits, &way).await,
            };
            return Ok(Up { link, way, held, why });
        }
        network.unmake(&way).await;
    }
    let undriven = inventory::undriven_nics(kernel.as_ref());
    let mut why = choose::explain(&plan::wanted(config, &links), &undriven, *boot_nic);
    for mac in plan::absent(config, &links) {
        why = format!("{why}; the NIC that is configured ({mac}) is not there or has no driver");
    }
    Err(NetworkError::NoAddress(why))
}

/// Says whether links, and those that are made later, heed router advertisements: who has addresses
/// of his own takes none that anybody on the link hands out. Before any is up.
fn heed_routers(kernel: &dyn Kernel, links: &[Link], auto: bool) {
    let names = links.iter().map(|link| link.name.as_str());
    for name in ["default"].into_iter().chain(names) {
        // A kernel without IPv6 heeds none.
        let setting = format!("/proc/sys/net/ipv6/conf/{name}/accept_ra");
        let _ = kernel.set(Path::new(&setting), if auto { "1" } else { "0" });
    }
}

/// The link that was made, once it works or has been waited for.
async fn settle<N: Network>(network: &N, waits: &Waits, way: &Way) -> Result<Link, NetError> {
    let end = Instant::now() + waits.link;
    loop {
        match network.link(&way.name()).await? {
            Some(link) if link.carrier || Instant::now() >= end => return Ok(link),
            None if Instant::now() >= end => {
                return Err(NetError { what: "the link is gone", reason: way.name() });
            }
            _ => sleep(POLL).await,
        }
    }
}

/// Gives a link its addresses; none where nobody gave any in time.
async fn address<N: Network>(
    network: &N,
    waits: &Waits,
    link: &Link,
    addressing: &Addressing,
) -> Result<Option<Held<N::Dhcp>>, NetError> {
    if !addressing.fixed.is_empty() {
        network.fix(link, addressing).await?;
        if !addressing.dhcp && !addressing.auto {
            return Ok(Some(Held::Fixed(addressing.clone())));
        }
    }
    let leased = async {
        if !addressing.dhcp {
            return std::future::pending().await;
        }
        let mut dhcp = network.dhcp(link).await?;
        let lease = first_lease(&mut dhcp, waits.dhcp).await?;
        Ok(lease.map(|lease| (lease, dhcp)))
    };
    let advertised = async {
        if !addressing.auto {
            return std::future::pending().await;
        }
        loop {
            if let Some(found) = network.autoconfigured(link).await? {
                return Ok(found);
            }
            sleep(POLL).await;
        }
    };
    let found = tokio::select! {
        leased = leased => match leased? {
            Some((lease, dhcp)) => {
                network.apply(link, &lease).await?;
                Some(Held::Lease(lease, dhcp))
            }
            None => None,
        },
        found = advertised => found.map(|(address, prefix)| Some(Held::Auto(address, prefix)))?,
        () = sleep(waits.dhcp) => None,
    };
    // Addresses of our own are enough where nobody gave others.
    let own = || (!addressing.fixed.is_empty()).then(|| Held::Fixed(addressing.clone()));
    Ok(found.or_else(own))
}

/// What the other end of a bond says of itself, for people.
async fn partner(kernel: &dyn Kernel, waits: &Waits, way: &Way) -> String {
    let file = format!("/sys/class/net/{}/bonding/ad_partner_mac", way.base());
    let end = Instant::now() + waits.partner;
    loop {
        match kernel::text(kernel, &file).and_then(|text| text.parse::<Mac>().ok()) {
            Some(Mac([0, 0, 0, 0, 0, 0])) if Instant::now() < end => sleep(POLL).await,
            Some(Mac([0, 0, 0, 0, 0, 0])) => return "; no switch speaks LACP with it".to_owned(),
            Some(mac) => return format!("; LACP with {mac}"),
            None => return String::new(),
        }
    }
}

async fn wait_for_links<N: Network>(
    kernel: &Arc<dyn Kernel>,
    network: &N,
    waits: &Waits,
    wanted: &Wanted,
) -> Result<Vec<Link>, NetError> {
    let begun = Instant::now();
    let mut searched = false;
    loop {
        let links = network.links().await?;
        for link in links.iter().filter(|link| !link.up) {
            // One NIC that cannot be set up leaves the others; the reason shows as "no link".
            let _ = network.raise(link).await;
        }
        if plan::settled(&wanted.config, &links, wanted.boot_nic) || begun.elapsed() >= waits.link {
            return Ok(links);
        }
        if links.is_empty() && !searched && begun.elapsed() >= waits.late_devices {
            searched = true;
            let kernel = kernel.clone();
            let _ = spawn_blocking(move || modules::run(kernel.as_ref(), Probe::Aside)).await;
        }
        sleep(POLL).await;
    }
}

/// The first lease, or none within `wait`.
async fn first_lease<D: Dhcp>(dhcp: &mut D, wait: Duration) -> Result<Option<Lease>, NetError> {
    let end = Instant::now() + wait;
    loop {
        match timeout_at(end, dhcp.next()).await {
            Ok(Ok(DhcpEvent::Lease(lease))) => return Ok(Some(lease)),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(None),
        }
    }
}

/// Leaves the name servers where programs look for them; addresses work without.
fn note_name_servers<D>(kernel: &dyn Kernel, addressing: &Addressing, held: &Held<D>) {
    let own = addressing.name_servers.iter().map(|server| format!("nameserver {server}\n"));
    let leased = match held {
        Held::Lease(lease, _) => lease.resolv_conf(),
        Held::Auto(..) | Held::Fixed(_) => String::new(),
    };
    let text: String = own.chain([leased]).collect();
    let _ = kernel.write(Path::new(RESOLV_CONF), text.as_bytes(), None);
}

/// How to take a network away again.
#[derive(Clone, Debug)]
pub struct Undo {
    link: Link,
    way: Way,
    lease: Option<Lease>,
    fixed: Option<Addressing>,
}

/// Takes away what [`run`] made, so that it can be made otherwise. What came by router
/// advertisements is the kernel's own: it ends with the link, or by itself.
pub async fn leave<N: Network>(network: &N, undo: &Undo) {
    let Undo { link, way, lease, fixed } = undo;
    if let Some(lease) = lease {
        let _ = network.remove(link, lease).await;
    }
    if let Some(addressing) = fixed {
        network.unfix(link, addressing).await;
    }
    network.unmake(way).await;
}

/// What something that happened to a network that stands is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A link.
    Link,
    /// The lease, with the machine's address where it has one from now on.
    Lease(Option<IpAddr>),
}

/// Keeps addresses and watches links for as long as the machine runs; `report` hears what people
/// should know.
pub async fn keep<N: Network>(
    kernel: Arc<dyn Kernel>,
    network: &N,
    waits: &Waits,
    up: Up<N::Dhcp>,
    report: impl Fn(Whose, StageState, String),
) {
    let Up { link, way, held, .. } = up;
    let watched = watch(kernel.as_ref(), network, waits, &way, &report);
    match held {
        Held::Lease(lease, dhcp) => {
            let kept = keep_lease(kernel.clone(), network, waits, link, lease, dhcp, &report);
            tokio::join!(kept, watched);
        }
        Held::Auto(..) | Held::Fixed(_) => watched.await,
    }
}

/// Tells of links that go and come back, for ever.
async fn watch<N: Network>(
    kernel: &dyn Kernel,
    network: &N,
    waits: &Waits,
    way: &Way,
    report: &impl Fn(Whose, StageState, String),
) {
    let mut flaps = Flaps::default();
    loop {
        sleep(waits.watch).await;
        for port in &way.ports {
            let Ok(link) = network.link(&port.name).await else { continue };
            let carrier = link.is_some_and(|link| link.carrier);
            match flaps.step(kernel.since_start(), &port.name, carrier) {
                Some((true, told)) => report(Whose::Link, StageState::Done, told),
                Some((false, told)) => report(Whose::Link, StageState::Retrying, told),
                None => {}
            }
        }
    }
}

async fn keep_lease<N: Network>(
    kernel: Arc<dyn Kernel>,
    network: &N,
    waits: &Waits,
    link: Link,
    lease: Lease,
    mut dhcp: N::Dhcp,
    report: &impl Fn(Whose, StageState, String),
) {
    let report = |address, state, told| report(Whose::Lease(address), state, told);
    let mut held = Some(lease);
    let mut told = false;
    loop {
        let event = match &held {
            Some(_) => dhcp.next().await,
            // A client that met a server's refusal may ask that server for ever.
            None => match first_lease(&mut dhcp, waits.dhcp).await {
                Ok(Some(lease)) => Ok(DhcpEvent::Lease(lease)),
                Ok(None) => Err(NetError {
                    what: "no DHCP server answers",
                    reason: format!("none on {} within {} s", link.name, waits.dhcp.as_secs()),
                }),
                Err(error) => Err(error),
            },
        };
        match event {
            Ok(DhcpEvent::Lease(lease)) => {
                let same = held.as_ref().is_some_and(|held| held.same_configuration(&lease));
                if !same {
                    if let Err(error) = network.apply(&link, &lease).await {
                        report(None, StageState::Retrying, error.to_string());
                    }
                    let resolver = lease.resolv_conf();
                    let _ = kernel.write(Path::new(RESOLV_CONF), resolver.as_bytes(), None);
                    if let Some(old) = held.filter(|old| old.address != lease.address) {
                        let _ = network.remove(&link, &old).await;
                    }
                }
                if told || !same {
                    let told = format!("{} {}", link.name, lease.detail());
                    report(Some(lease.address.into()), StageState::Done, told);
                }
                (held, told) = (Some(lease), false);
            }
            Ok(DhcpEvent::Unanswered) => {
                if let Some(lease) = &held {
                    let server = lease.server;
                    let detail = format!(
                        "DHCP server {server} does not renew the lease; others are asked until it ends"
                    );
                    report(None, StageState::Retrying, detail);
                    told = true;
                }
            }
            Ok(DhcpEvent::Lost) => {
                if let Some(old) = held.take() {
                    let _ = network.remove(&link, &old).await;
                    let detail = format!("the lease of {} ended; a new one is sought", old.address);
                    report(None, StageState::Retrying, detail);
                    told = true;
                }
            }
            Ok(DhcpEvent::Busy) => {}
            Err(error) => {
                if !told {
                    let detail = format!("{error}; tried again until it works");
                    report(None, StageState::Retrying, detail);
                    told = true;
                }
                sleep(waits.client_pause).await;
                // The lease, where there is one, is held until the new client has another.
                if let Ok(fresh) = network.dhcp(&link).await {
                    dhcp = fresh;
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        kernel::fake::Fake,
        net::lease::{self, tests::offer},
    };
    use std::{
        cell::RefCell,
        collections::{BTreeMap, VecDeque},
        net::Ipv4Addr,
        rc::Rc,
    };

    /// A network in memory: links, and what a DHCP client on each will come to.
    #[derive(Default)]
    pub(crate) struct FakeNetwork {
        pub(crate) links: RefCell<Vec<Link>>,
        pub(crate) answers: RefCell<BTreeMap<u32, VecDeque<Result<DhcpEvent, NetError>>>>,
        pub(crate) done: Rc<RefCell<Vec<String>>>,
        /// What carries a link's signal only once it is up.
        pub(crate) plugged: Vec<u32>,
        /// What a router advertises.
        pub(crate) advertised: Option<(Ipv6Addr, u8)>,
    }

    const QUICK: Waits = Waits {
        link: Duration::from_millis(150),
        late_devices: Duration::from_millis(50),
        dhcp: Duration::from_millis(80),
        watch: Duration::from_millis(20),
        partner: Duration::ZERO,
        client_pause: Duration::from_millis(10),
    };

    #[derive(Debug)]
    pub(crate) struct FakeDhcp(VecDeque<Result<DhcpEvent, NetError>>);

    impl FakeNetwork {
        fn note(&self, what: String) {
            self.done.borrow_mut().push(what);
        }
    }

    impl Network for FakeNetwork {
        type Dhcp = FakeDhcp;
        async fn links(&self) -> Result<Vec<Link>, NetError> {
            Ok(self.links.borrow().clone())
        }
        async fn raise(&self, link: &Link) -> Result<(), NetError> {
            self.note(format!("raise {}", link.name));
            for known in self.links.borrow_mut().iter_mut().filter(|l| l.index == link.index) {
                known.up = true;
                known.carrier = self.plugged.contains(&link.index);
            }
            Ok(())
        }
        async fn link(&self, name: &str) -> Result<Option<Link>, NetError> {
            Ok(self.links.borrow().iter().find(|link| link.name == name).cloned())
        }
        async fn make(&self, way: &Way) -> Result<(), NetError> {
            if way.bond.is_some() || way.vlan.is_some() {
                let ports: Vec<_> = way.ports.iter().map(|port| port.name.as_str()).collect();
                self.note(format!("make {} of {}", way.name(), ports.join(" ")));
                let index = 100 + way.vlan.map_or(0, u32::from);
                let (name, mac) = (way.name(), way.ports[0].mac);
                self.links.borrow_mut().push(Link { index, name, mac, up: true, carrier: true });
            }
            Ok(())
        }
        async fn unmake(&self, way: &Way) {
            let mut links = self.links.borrow_mut();
            let before = links.len();
            links.retain(|link| link.index < 100 || link.name != way.name());
            if links.len() < before {
                self.done.borrow_mut().push(format!("unmake {}", way.name()));
            }
        }
        async fn fix(&self, link: &Link, addressing: &Addressing) -> Result<(), NetError> {
            self.note(format!("fix {} {}", link.name, addressing.fixed[0].0));
            Ok(())
        }
        async fn unfix(&self, link: &Link, _: &Addressing) {
            self.note(format!("unfix {}", link.name));
        }
        async fn autoconfigured(&self, _: &Link) -> Result<Option<(Ipv6Addr, u8)>, NetError> {
            Ok(self.advertised)
        }
        async fn dhcp(&self, link: &Link) -> Result<FakeDhcp, NetError> {
            self.note(format!("dhcp {}", link.name));
            Ok(FakeDhcp(self.answers.borrow_mut().remove(&link.index).unwrap_or_default()))
        }
        async fn apply(&self, link: &Link, lease: &Lease) -> Result<(), NetError> {
            self.note(format!("apply {} {}", link.name, lease.address));
            Ok(())
        }
        async fn remove(&self, link: &Link, lease: &Lease) -> Result<(), NetError> {
            self.note(format!("remove {} {}", link.name, lease.address));
            Ok(())
        }
    }

    impl Dhcp for FakeDhcp {
        async fn next(&mut self) -> Result<DhcpEvent, NetError> {
            match self.0.pop_front() {
                Some(event) => event,
                None => std::future::pending().await,
            }
        }
    }

    pub(crate) fn link(index: u32) -> Link {
        let mac = Mac([0x52, 0x54, 0, 0, 0, index as u8]);
        Link { index, name: format!("eth{index}"), mac, up: false, carrier: false }
    }

    pub(crate) fn given(last: u8) -> Result<DhcpEvent, NetError> {
        let address = Ipv4Addr::new(10, 1, 2, last);
        let lease = lease::check(&lease::Offer { address, ..offer() }).unwrap();
        Ok(DhcpEvent::Lease(lease))
    }

    fn network(
        plugged: &[u32],
        answers: &[(u32, Vec<Result<DhcpEvent, NetError>>)],
    ) -> FakeNetwork {
        let answers = answers.iter().map(|(link, events)| (*link, events.clone().into()));
        FakeNetwork {
            links: RefCell::new(vec![link(1), link(2)]),
            answers: RefCell::new(answers.collect()),
            done: Rc::default(),
            plugged: plugged.to_vec(),
            advertised: None,
        }
    }

    fn booted(boot_nic: Option<Mac>) -> Wanted {
        let provisioner = Some(IpAddr::from([10, 1, 2, 1]));
        Wanted { boot_nic, provisioner, ..Wanted::default() }
    }

    fn configured(config: &str) -> Wanted {
        Wanted { config: config.parse().unwrap(), ..booted(None) }
    }

    fn kernel() -> Arc<dyn Kernel> {
        Arc::new(Fake::new(&[]))
    }

    #[tokio::test]
    async fn the_nic_that_booted_us_gets_the_lease() {
        let network =
            network(&[1, 2], &[(1, vec![given(1)]), (2, vec![Ok(DhcpEvent::Busy), given(2)])]);
        let kernel = kernel();
        let up = run(&kernel, &network, &QUICK, &booted(Some(link(2).mac))).await.unwrap();
        assert_eq!(up.detail(), "eth2 10.1.2.2/24 by DHCP from 10.1.2.1");
        let done = network.done.borrow();
        assert_eq!(done[..], ["raise eth1", "raise eth2", "dhcp eth2", "apply eth2 10.1.2.2"]);
        let resolv = kernel.read(Path::new(RESOLV_CONF), 100).unwrap();
        assert_eq!(resolv, b"nameserver 10.1.2.1\n");
    }

    #[tokio::test]
    async fn without_an_answer_on_that_nic_the_next_is_asked() {
        let network = network(&[1, 2], &[(1, vec![given(1)])]);
        let begun = Instant::now();
        let up = run(&kernel(), &network, &QUICK, &booted(Some(link(2).mac))).await.unwrap();
        assert_eq!(up.link.name, "eth1");
        assert!(begun.elapsed() >= QUICK.dhcp);
    }

    #[tokio::test]
    async fn a_machine_without_any_link_says_so_of_each_nic_in_bounded_time() {
        let begun = Instant::now();
        let error = run(&kernel(), &network(&[], &[]), &QUICK, &booted(None))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("eth1 (52:54:00:00:00:01) has no link"), "{error}");
        assert!(error.contains("eth2 (52:54:00:00:00:02) has no link"), "{error}");
        assert!(begun.elapsed() < QUICK.link + Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_bond_with_a_vlan_is_made_before_it_is_asked_on() {
        let network = network(&[1, 2], &[(142, vec![given(5)])]);
        let nics = "nic=52:54:00:00:00:02+52:54:00:00:00:01,bond=802.3ad,vlan=42";
        let up = run(&kernel(), &network, &QUICK, &configured(nics)).await.unwrap();
        assert_eq!(
            up.detail(),
            "uplink.42 (802.3ad of eth2 and eth1) 10.1.2.5/24 by DHCP from 10.1.2.1"
        );
        let done = network.done.borrow();
        let wanted = ["make uplink.42 of eth2 eth1", "dhcp uplink.42", "apply uplink.42 10.1.2.5"];
        assert_eq!(done[2..], wanted);
    }

    #[tokio::test]
    async fn what_was_made_for_nothing_is_taken_away_before_the_next_nic_is_tried() {
        let network = network(&[1, 2], &[]);
        let error = run(&kernel(), &network, &QUICK, &configured("vlan=42")).await.unwrap_err();
        assert!(error.to_string().contains("no DHCP server answered"), "{error}");
        let done = network.done.borrow();
        let wanted = ["make eth1.42 of eth1", "dhcp eth1.42", "unmake eth1.42"];
        assert_eq!(done[2..5], wanted);
    }

    #[tokio::test]
    async fn fixed_addresses_need_nobody() {
        let network = network(&[1], &[]);
        let config = configured("ip=10.1.2.9/24,gateway=10.1.2.1,dns=10.1.2.2");
        let kernel = kernel();
        let up = run(&kernel, &network, &QUICK, &config).await.unwrap();
        assert_eq!(up.detail(), "eth1 10.1.2.9/24 as configured");
        let resolv = kernel.read(Path::new(RESOLV_CONF), 100).unwrap();
        assert_eq!(resolv, b"nameserver 10.1.2.2\n");
        leave(&network, &up.undo()).await;
        assert_eq!(network.done.borrow()[2..], ["fix eth1 10.1.2.9", "unfix eth1"]);
    }

    #[tokio::test]
    async fn a_provisioner_with_an_ipv6_address_is_reached_without_dhcp() {
        let mut network = network(&[1], &[(1, vec![given(1)])]);
        network.advertised = Some(("2001:db8::5".parse().unwrap(), 64));
        let provisioner = "2001:db8::1".parse().ok();
        let wanted = Wanted { provisioner, ..Wanted::default() };
        let up = run(&kernel(), &network, &QUICK, &wanted).await.unwrap();
        assert_eq!(up.detail(), "eth1 2001:db8::5/64 by router advertisement");
        assert!(!network.done.borrow().iter().any(|done| done.starts_with("dhcp")));
    }

    #[tokio::test]
    async fn a_nic_that_is_configured_and_not_there_is_named() {
        let network = network(&[1, 2], &[]);
        let config = configured("nic=02:00:00:00:00:99");
        let error = run(&kernel(), &network, &QUICK, &config).await.unwrap_err().to_string();
        assert!(error.contains("(02:00:00:00:00:99) is not there"), "{error}");
    }

    #[tokio::test]
    async fn a_cable_that_is_pulled_is_told_of() {
        let network = network(&[1], &[]);
        let way = Way { ports: vec![link(1)], bond: None, vlan: None, mtu: None };
        let held = Held::Auto(Ipv6Addr::LOCALHOST, 64);
        let up = Up { link: link(1), way, held, why: String::new() };
        let told = RefCell::new(Vec::new());
        let report = |_, state, detail| told.borrow_mut().push(format!("{state:?} {detail}"));
        let keep = keep(kernel(), &network, &QUICK, up, report);
        assert!(tokio::time::timeout(Duration::from_millis(300), keep).await.is_err());
        assert_eq!(
            told.into_inner(),
            ["Retrying eth1 has lost its link: look at its cable and switch port"]
        );
    }

    #[tokio::test]
    async fn drivers_are_looked_for_again_where_there_is_no_nic() {
        let fake = Fake::new(&[
            ("/proc/sys/kernel/osrelease", "6.12"),
            ("/lib/modules/6.12/modules.alias", "alias usb:v1* cdc_ether"),
            ("/lib/modules/6.12/modules.dep", "kernel/cdc_ether.ko:"),
            ("/sys/bus/usb/devices/1-1/modalias", "usb:v1p2"),
        ]);
        let fake = Arc::new(fake);
        let kernel: Arc<dyn Kernel> = fake.clone();
        let network = FakeNetwork::default();
        let error = run(&kernel, &network, &QUICK, &booted(None)).await.unwrap_err().to_string();
        assert_eq!(error, "no address: the machine has no network controller");
        assert_eq!(fake.world().modules, ["cdc_ether.ko"]);
    }

    /// Runs `keep` over events on link 1 for a while; gives what was done and reported.
    async fn kept(
        events: Vec<Result<DhcpEvent, NetError>>,
        later: Vec<Result<DhcpEvent, NetError>>,
    ) -> (Vec<String>, Vec<String>) {
        let network = network(&[1], &[(1, later)]);
        let Ok(DhcpEvent::Lease(lease)) = given(1) else { unreachable!() };
        let held = Held::Lease(lease, FakeDhcp(events.into()));
        let way = Way { ports: vec![link(1)], bond: None, vlan: None, mtu: None };
        network.links.borrow_mut()[0].carrier = true;
        let up = Up { link: link(1), way, held, why: String::new() };
        let told = RefCell::new(Vec::new());
        let report = |_, state, detail| told.borrow_mut().push(format!("{state:?} {detail}"));
        let keep = keep(kernel(), &network, &QUICK, up, report);
        assert!(tokio::time::timeout(Duration::from_millis(1500), keep).await.is_err());
        let done = network.done.borrow().clone();
        (done, told.into_inner())
    }

    #[tokio::test]
    async fn a_renewal_that_changes_nothing_is_silent() {
        let (done, told) = kept(vec![Ok(DhcpEvent::Busy), given(1), given(1)], vec![]).await;
        assert!(done.is_empty() && told.is_empty(), "{done:?} {told:?}");
    }

    #[tokio::test]
    async fn a_server_that_comes_back_is_told_of_as_it_was_of_its_absence() {
        let (done, told) = kept(vec![Ok(DhcpEvent::Unanswered), given(1)], vec![]).await;
        assert!(done.is_empty(), "{done:?}");
        assert!(told[0].starts_with("Retrying DHCP server 10.1.2.1 does not renew"), "{told:?}");
        assert_eq!(told[1], "Done eth1 10.1.2.1/24 by DHCP from 10.1.2.1");
    }

    #[tokio::test]
    async fn a_lost_lease_is_taken_off_and_the_next_one_put_on() {
        let (done, told) = kept(vec![Ok(DhcpEvent::Lost), given(9)], vec![]).await;
        assert_eq!(done, ["remove eth1 10.1.2.1", "apply eth1 10.1.2.9"]);
        assert_eq!(told.len(), 2);
    }

    #[tokio::test]
    async fn another_address_is_put_on_before_the_old_one_is_taken_off() {
        let (done, _) = kept(vec![given(7)], vec![]).await;
        assert_eq!(done, ["apply eth1 10.1.2.7", "remove eth1 10.1.2.1"]);
    }

    #[tokio::test]
    async fn a_client_that_fails_or_hangs_without_a_lease_is_replaced() {
        let error = NetError { what: "the DHCP client failed", reason: "x".into() };
        let (done, told) = kept(vec![Err(error)], vec![given(1)]).await;
        assert_eq!(done, ["dhcp eth1"]);
        assert!(told[0].contains("the DHCP client failed: x"), "{told:?}");
        let (done, _) = kept(vec![Ok(DhcpEvent::Lost)], vec![given(1)]).await;
        assert_eq!(done, ["remove eth1 10.1.2.1", "dhcp eth1", "apply eth1 10.1.2.1"]);
    }
}
