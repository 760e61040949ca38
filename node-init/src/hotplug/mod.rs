//! Drivers for devices that appear after the boot.
//!
//! The kernel tells of each by a netlink datagram ([`uevent`]). What is done about them is decided
//! by [`Intake`], purely: names are gathered for a moment, since one device brings several, and a
//! device that comes and goes for ever costs no more than `BATCHES` searches a minute.

pub mod uevent;

use crate::{
    kernel::{Kernel, Uevents},
    stages::{
        modules::{self, Loaded},
        undriven,
    },
};
use protocol::{boot::StageState, inventory::Undriven};
use std::{collections::BTreeSet, io, sync::Arc, time::Duration};
use tokio::{task::spawn_blocking, time::timeout};

/// A device's parts are waited for this long since the last one told of itself.
const QUIET: Duration = Duration::from_millis(100);
/// But no longer than this since the first.
const LONGEST: Duration = Duration::from_secs(1);
/// Searches for drivers in any [`MINUTE`], beyond which devices wait for the next.
const BATCHES: usize = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// The most names that wait; beyond them everything is searched, as at the boot.
const MAX_WAITING: usize = 512;
/// What has no driver within this time is the inventory's to tell.
const BOOT: Duration = Duration::from_secs(5);
/// `ENOBUFS`: the kernel had more to tell than its buffer holds.
const NO_BUFFER: i32 = 105;

/// What waits to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    waiting: BTreeSet<String>,
    /// Too much was told to know each name: everything is to be searched.
    overrun: bool,
    first: Option<Duration>,
    last: Duration,
    /// When the searches of the last minute were.
    searches: Vec<Duration>,
}

/// What to search drivers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// These names.
    Names(BTreeSet<String>),
    /// Everything that is there.
    Everything,
}

impl Intake {
    /// A device told its name at `now`.
    pub fn push(&mut self, now: Duration, modalias: &str) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.insert(modalias.to_owned());
        } else if !self.waiting.contains(modalias) {
            self.overrun = true;
        }
        self.touched(now);
    }

    /// Datagrams were lost.
    pub fn lost(&mut self, now: Duration) {
        self.overrun = true;
        self.touched(now);
    }

    fn touched(&mut self, now: Duration) {
        self.first.get_or_insert(now);
        self.last = now;
    }

    /// When [`Intake::take`] has something to give, if nothing more is told.
    pub fn due(&self) -> Option<Duration> {
        let quiet = (self.last + QUIET).min(self.first? + LONGEST);
        let free = match self.searches.len().checked_sub(BATCHES) {
            Some(over) => self.searches[over] + MINUTE,
            None => Duration::ZERO,
        };
        Some(quiet.max(free))
    }

    /// What is to be searched at `now`, if anything.
    pub fn take(&mut self, now: Duration) -> Option<Search> {
        if self.due()? > now {
            return None;
        }
        self.first = None;
        self.searches.retain(|at| *at + MINUTE > now);
        self.searches.push(now);
        let names = std::mem::take(&mut self.waiting);
        let everything = std::mem::take(&mut self.overrun);
        Some(if everything { Search::Everything } else { Search::Names(names) })
    }
}

/// The next name that a device tells; an error of [`NO_BUFFER`] where some were lost.
async fn next(uevents: &mut dyn Uevents) -> io::Result<String> {
    loop {
        let datagram = uevents.next().await?;
        let event = uevent::parse(&datagram);
        let named = event.filter(|event| event.action == "add" && !event.modalias.is_empty());
        if let Some(event) = named {
            return Ok(event.modalias.to_owned());
        }
    }
}

/// Loads drivers for what appears, for as long as the machine runs; `report` hears of each.
pub async fn run(
    kernel: Arc<dyn Kernel>,
    mut uevents: Box<dyn Uevents>,
    report: impl Fn(StageState, String),
) {
    let mut intake = Intake::default();
    // Devices without a driver that were told of. Those of the boot stand in the inventory, and are
    // counted when it has better things to do no more.
    let mut known: Option<Vec<Undriven>> = None;
    let counted = kernel.since_start() + BOOT;
    loop {
        let now = kernel.since_start();
        if known.is_none() && now >= counted {
            known = Some(search(&kernel, Search::Names(BTreeSet::new())).await.1);
        }
        let due = [intake.due(), known.is_none().then_some(counted)].into_iter().flatten().min();
        let pause = due.map_or(Duration::MAX, |due| due.saturating_sub(now));
        match timeout(pause, next(uevents.as_mut())).await {
            Ok(Ok(modalias)) => intake.push(kernel.since_start(), &modalias),
            Ok(Err(error)) if error.raw_os_error() == Some(NO_BUFFER) => {
                intake.lost(kernel.since_start());
            }
            Ok(Err(error)) => {
                let detail = format!("devices that appear from now on get no drivers: {error}");
                report(StageState::Failed, detail);
                return;
            }
            Err(_) => {}
        }
        let Some(wanted) = intake.take(kernel.since_start()) else { continue };
        let (loaded, undriven) = search(&kernel, wanted).await;
        if !loaded.modules.is_empty() || !loaded.failed.is_empty() {
            report(StageState::Done, loaded.detail());
        }
        let Some(before) = &known else { continue };
        let new: Vec<String> = undriven
            .iter()
            .filter(|device| device.module.is_none() && !before.contains(device))
            .map(|device| format!("{device} at {}", device.address))
            .collect();
        if !new.is_empty() {
            report(StageState::Failed, format!("no driver for {}", new.join(", ")));
        }
        known = Some(undriven);
    }
}

/// [`look`], on a thread of its own: a driver may take long to probe.
async fn search(kernel: &Arc<dyn Kernel>, wanted: Search) -> (Loaded, Vec<Undriven>) {
    let kernel = kernel.clone();
    spawn_blocking(move || look(kernel.as_ref(), &wanted)).await.unwrap_or_default()
}

/// Loads what is searched for; gives that, and all devices that are without a driver then.
fn look(kernel: &dyn Kernel, search: &Search) -> (Loaded, Vec<Undriven>) {
    let Ok((folder, catalogue)) = modules::catalogue(kernel) else { return Default::default() };
    let mut loaded = Loaded::default();
    // What is there already is neither loaded nor told of again.
    let mut seen = modules::there(kernel);
    seen.extend(modules::HELD_BACK.map(str::to_owned));
    let names = match search {
        Search::Names(names) => names.clone(),
        Search::Everything => modules::modaliases(kernel),
    };
    for modalias in &names {
        for module in catalogue.matching(modalias) {
            modules::load_one(kernel, &folder, &catalogue, module, &mut seen, &mut loaded);
        }
    }
    (loaded, undriven::run(kernel, &catalogue))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const MS: Duration = Duration::from_millis(1);

    fn names(list: &[&str]) -> Search {
        Search::Names(list.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn the_parts_of_one_device_are_searched_together() {
        let mut intake = Intake::default();
        assert_eq!(intake.due(), None);
        intake.push(MS, "pci:x");
        intake.push(MS * 50, "virtio:y");
        assert_eq!(intake.take(MS * 100), None);
        assert_eq!(intake.due(), Some(MS * 150));
        assert_eq!(intake.take(MS * 150), Some(names(&["pci:x", "virtio:y"])));
        assert_eq!((intake.due(), intake.take(MS * 500)), (None, None));
    }

    #[test]
    fn a_stream_of_devices_does_not_hold_the_first_one_up() {
        let mut intake = Intake::default();
        for n in 0..20 {
            intake.push(MS * 60 * n, &format!("usb:{n}"));
        }
        assert_eq!(intake.due(), Some(LONGEST));
    }

    #[test]
    fn a_device_that_comes_and_goes_for_ever_costs_so_much_and_no_more() {
        let mut intake = Intake::default();
        let mut searched = 0;
        for second in 0..600 {
            let now = Duration::from_secs(second);
            intake.push(now, "usb:loose");
            searched += usize::from(intake.take(now + QUIET).is_some());
        }
        assert!((BATCHES * 9..=BATCHES * 10 + 1).contains(&searched), "{searched}");
    }

    #[test]
    fn more_devices_than_can_be_noted_have_everything_searched() {
        let mut intake = Intake::default();
        for n in 0..=MAX_WAITING {
            intake.push(MS, &format!("pci:{n}"));
        }
        assert_eq!(intake.take(MS * 101), Some(Search::Everything));
        intake.lost(MS * 200);
        assert_eq!(intake.take(MS * 300), Some(Search::Everything));
    }

    #[test]
    fn a_driver_is_loaded_once_and_a_device_without_one_is_named() {
        let kernel = Fake::new(&[
            ("/proc/sys/kernel/osrelease", "6.12\n"),
            ("/lib/modules/6.12/modules.alias", "alias pci:v1d2* igb\nalias pci:v1d3* e1000e\n"),
            (
                "/lib/modules/6.12/modules.dep",
                "kernel/igb.ko: kernel/dca.ko\nkernel/dca.ko:\nkernel/e1000e.ko:\n",
            ),
            ("/sys/module/dca/refcnt", "0"),
            ("/sys/bus/pci/devices/0000:01:00.0/class", "0x020000\n"),
            ("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x8086\n"),
            ("/sys/bus/pci/devices/0000:01:00.0/device", "0x15f3\n"),
        ]);
        let (loaded, undriven) = look(&kernel, &names(&["pci:v1d2", "pci:v1d4"]));
        assert_eq!(loaded.detail(), "1 loaded: igb");
        assert_eq!(kernel.world().modules, ["igb.ko"]);
        assert_eq!(undriven[0].to_string(), "8086:15f3 (network)");
    }

    #[tokio::test]
    async fn a_device_that_is_plugged_in_gets_its_driver_and_lost_datagrams_a_search_of_everything()
    {
        let kernel = Fake::new(&[
            ("/proc/sys/kernel/osrelease", "6.12\n"),
            (
                "/lib/modules/6.12/modules.alias",
                "alias pci:v00008086d000010D3* e1000e\nalias usb:v1* cdc_ether\n",
            ),
            ("/lib/modules/6.12/modules.dep", "kernel/e1000e.ko:\nkernel/cdc_ether.ko:\n"),
            ("/sys/bus/usb/devices/1-1/modalias", "usb:v1\n"),
        ]);
        let kernel = Arc::new(kernel);
        kernel.world().uevents = VecDeque::from([
            Ok(b"remove@/devices/x\0ACTION=remove\0MODALIAS=usb:v1\0".to_vec()),
            Ok(b"libudev\0".to_vec()),
            Ok(uevent::tests::PCI.to_vec()),
        ]);
        let reported = std::cell::RefCell::new(Vec::new());
        let told = |state, detail| reported.borrow_mut().push((state, detail));
        let listens = |kernel: &Arc<Fake>| {
            let uevents = kernel.uevents().unwrap();
            timeout(QUIET * 4, run(kernel.clone(), uevents, told))
        };
        assert!(listens(&kernel).await.is_err(), "it listens for as long as the machine runs");
        assert_eq!(reported.take(), [(StageState::Done, "1 loaded: e1000e".to_owned())]);

        let lost = io::Error::from_raw_os_error(NO_BUFFER);
        kernel.world().uevents = VecDeque::from([Err(lost)]);
        assert!(listens(&kernel).await.is_err());
        assert_eq!(reported.take(), [(StageState::Done, "1 loaded: cdc_ether".to_owned())]);

        kernel.world().uevents = VecDeque::from([Err(io::Error::from_raw_os_error(9))]);
        assert!(listens(&kernel).await.is_ok(), "it ends where the kernel tells nothing more");
        let (state, detail) = reported.take().remove(0);
        assert_eq!(state, StageState::Failed);
        assert!(detail.starts_with("devices that appear from now on get no drivers"), "{detail}");
    }

    proptest! {
        #[test]
        fn what_waits_is_bounded_and_is_always_due(pushes in proptest::collection::vec((0u64..5_000, 0u32..2_000), 0..700)) {
            let mut intake = Intake::default();
            let mut now = Duration::ZERO;
            for (pause, name) in pushes {
                now += MS * u32::try_from(pause).unwrap();
                intake.push(now, &name.to_string());
                prop_assert!(intake.waiting.len() <= MAX_WAITING);
                prop_assert!(intake.searches.len() <= BATCHES + 1);
                let due = intake.due().unwrap();
                prop_assert!(due <= now + MINUTE);
                intake.take(now);
            }
        }
    }
}
