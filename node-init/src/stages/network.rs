//! Stage `network`: links up, a lease on the NIC that booted us or else on another, and the
//! lease's renewal from then on.

use crate::{
    kernel::Kernel,
    mac::Mac,
    net::{Dhcp, DhcpEvent, Link, NetError, Network, Waits, choose, lease::Lease},
    stages::{inventory, modules},
};
use protocol::boot::StageState;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};

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

/// The machine's network.
#[derive(Debug)]
pub struct Up<D> {
    /// The link.
    pub link: Link,
    /// Its lease.
    pub lease: Lease,
    /// The client that renews it.
    pub dhcp: D,
    /// Why it is not the link that booted us, where it is not.
    pub why: String,
}

impl<D> Up<D> {
    /// `eth0 10.1.2.3/24 by DHCP from 10.1.2.1`.
    pub fn detail(&self) -> String {
        format!("{} {}{}", self.link.name, self.lease.detail(), self.why)
    }
}

/// Brings the machine onto the network.
pub async fn run<N: Network>(
    kernel: &Arc<dyn Kernel>,
    network: &N,
    waits: &Waits,
    boot_nic: Option<Mac>,
) -> Result<Up<N::Dhcp>, NetworkError> {
    let links = wait_for_links(kernel, network, waits, boot_nic).await?;
    for link in choose::candidates(&links, boot_nic) {
        let mut dhcp = network.dhcp(link).await?;
        if let Some(lease) = first_lease(&mut dhcp, waits.dhcp).await? {
            network.apply(link, &lease).await?;
            note_name_servers(kernel.as_ref(), &lease);
            let why = choose::explain_other(&links, link, boot_nic);
            return Ok(Up { link: link.clone(), lease, dhcp, why });
        }
    }
    let undriven = inventory::undriven_nics(kernel.as_ref());
    Err(NetworkError::NoAddress(choose::explain(&links, &undriven, boot_nic)))
}

async fn wait_for_links<N: Network>(
    kernel: &Arc<dyn Kernel>,
    network: &N,
    waits: &Waits,
    boot_nic: Option<Mac>,
) -> Result<Vec<Link>, NetError> {
    let begun = Instant::now();
    let mut searched = false;
    loop {
        let links = network.links().await?;
        for link in links.iter().filter(|link| !link.up) {
            // One NIC that cannot be set up leaves the others; the reason shows as "no link".
            let _ = network.raise(link).await;
        }
        if choose::settled(&links, boot_nic) || begun.elapsed() >= waits.link {
            return Ok(links);
        }
        if links.is_empty() && !searched && begun.elapsed() >= waits.late_devices {
            searched = true;
            let kernel = kernel.clone();
            let _ = tokio::task::spawn_blocking(move || modules::run(kernel.as_ref())).await;
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
fn note_name_servers(kernel: &dyn Kernel, lease: &Lease) {
    let _ = kernel.write(Path::new(RESOLV_CONF), lease.resolv_conf().as_bytes(), None);
}

/// Keeps the lease for as long as the machine runs; `report` hears what people should know.
pub async fn keep<N: Network>(
    kernel: Arc<dyn Kernel>,
    network: &N,
    waits: &Waits,
    up: Up<N::Dhcp>,
    report: impl Fn(StageState, String),
) {
    let Up { link, lease, mut dhcp, .. } = up;
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
                        report(StageState::Retrying, error.to_string());
                    }
                    note_name_servers(kernel.as_ref(), &lease);
                    if let Some(old) = held.filter(|old| old.address != lease.address) {
                        let _ = network.remove(&link, &old).await;
                    }
                }
                if told || !same {
                    report(StageState::Done, format!("{} {}", link.name, lease.detail()));
                }
                (held, told) = (Some(lease), false);
            }
            Ok(DhcpEvent::Unanswered) => {
                if let Some(lease) = &held {
                    let server = lease.server;
                    let detail = format!(
                        "DHCP server {server} does not renew the lease; others are asked until it ends"
                    );
                    report(StageState::Retrying, detail);
                    told = true;
                }
            }
            Ok(DhcpEvent::Lost) => {
                if let Some(old) = held.take() {
                    let _ = network.remove(&link, &old).await;
                    let detail = format!("the lease of {} ended; a new one is sought", old.address);
                    report(StageState::Retrying, detail);
                    told = true;
                }
            }
            Ok(DhcpEvent::Busy) => {}
            Err(error) => {
                if !told {
                    report(StageState::Retrying, format!("{error}; tried again until it works"));
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
    }

    const QUICK: Waits = Waits {
        link: Duration::from_millis(150),
        late_devices: Duration::from_millis(50),
        dhcp: Duration::from_millis(80),
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
        }
    }

    fn kernel() -> Arc<dyn Kernel> {
        Arc::new(Fake::new(&[]))
    }

    #[tokio::test]
    async fn the_nic_that_booted_us_gets_the_lease() {
        let network =
            network(&[1, 2], &[(1, vec![given(1)]), (2, vec![Ok(DhcpEvent::Busy), given(2)])]);
        let kernel = kernel();
        let up = run(&kernel, &network, &QUICK, Some(link(2).mac)).await.unwrap();
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
        let up = run(&kernel(), &network, &QUICK, Some(link(2).mac)).await.unwrap();
        assert_eq!(up.link.name, "eth1");
        assert!(begun.elapsed() >= QUICK.dhcp);
    }

    #[tokio::test]
    async fn a_machine_without_any_link_says_so_of_each_nic_in_bounded_time() {
        let begun = Instant::now();
        let error = run(&kernel(), &network(&[], &[]), &QUICK, None).await.unwrap_err().to_string();
        assert!(error.contains("eth1 (52:54:00:00:00:01) has no link"), "{error}");
        assert!(error.contains("eth2 (52:54:00:00:00:02) has no link"), "{error}");
        assert!(begun.elapsed() < QUICK.link + Duration::from_secs(1));
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
        let error = run(&kernel, &network, &QUICK, None).await.unwrap_err().to_string();
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
        let (dhcp, why) = (FakeDhcp(events.into()), String::new());
        let up = Up { link: link(1), lease, dhcp, why };
        let told = RefCell::new(Vec::new());
        let report = |state, detail| told.borrow_mut().push(format!("{state:?} {detail}"));
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
