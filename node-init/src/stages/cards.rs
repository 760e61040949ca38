//! NVIDIA's cards brought up: part of the stage `drivers`, on images for them.
//!
//! Decided by [`crate::nvidia::branch`] is which of them the image's driver drives; only for those it
//! is loaded. It makes no device files itself, so they are made here, for the compute service's
//! user. Each card's is opened, which starts the card, and stays open, which keeps it started
//! between one job and the next (what NVIDIA calls persistence).
//!
//! **Never** keeps a node from working: whatever fails here, it works on its processor, and says why.

use crate::{
    kernel::{self, Kernel, Probe, Program},
    modalias::Catalogue,
    nvidia::{branch, told},
    sandbox::{self, SandboxError},
    stages::{compute, inventory, modules},
};
use protocol::{
    inventory::{Inventory, PciFunction},
    nvidia::{DRIVER, Driver, Reading, VENDOR},
};
use std::{
    collections::BTreeSet,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Display controllers, by PCI base class.
const DISPLAY: u32 = 0x03;
/// The driver's own number of character devices (nv-linux.h, NV_MAJOR_DEVICE_NUMBER), and the minor
/// number of its control file.
const MAJOR: u32 = 195;
const CONTROL: u32 = 255;
const CONTROL_FILE: &str = "/dev/nvidiactl";
const UVM: &str = "nvidia-uvm";
const UVM_FILE: &str = "/dev/nvidia-uvm";
/// The most cards of a machine.
const MAX_CARDS: usize = 16;
/// The command of the compute service's program that asks the driver, and its control group.
const ASKING: &str = "cards";
/// What a machine does without a card.
const ON_PROCESSOR: &str = "this node works on its processor";

/// A card of NVIDIA's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its PCI address.
    pub address: String,
    /// Vendor and device: `10de:2684`.
    pub pci_id: String,
    /// Its name, where the driver told it.
    pub name: Option<String>,
    /// Its memory in bytes, where the driver's library told it.
    pub memory_bytes: Option<u64>,
    /// Whether work can run on it, or why not.
    pub usable: Result<(), String>,
}

/// What became of the machine's cards.
#[derive(Clone, Debug, Default)]
pub struct Cards {
    /// By address.
    pub cards: Vec<Card>,
    /// Device files that were made.
    pub files: Vec<String>,
    /// For people.
    pub detail: String,
    /// Whether something is not as it should be.
    pub failed: bool,
    /// The cards' files, open for as long as the node works.
    _started: Vec<Arc<OwnedFd>>,
}

/// Brings cards up; none on an image without a driver for them. `user` is whose the device files
/// are to be.
pub fn run(kernel: &dyn Kernel, user: u32) -> Option<Cards> {
    let text = kernel::text(kernel, DRIVER)?;
    let driver: Driver = match serde_json::from_str(&text) {
        Ok(driver) => driver,
        Err(error) => {
            let detail = format!("{DRIVER} cannot be read: {error}; {ON_PROCESSOR}");
            return Some(Cards { detail, failed: true, ..Cards::default() });
        }
    };
    let ours =
        |function: &PciFunction| function.vendor == VENDOR && function.class >> 16 == DISPLAY;
    let functions: Vec<PciFunction> =
        inventory::pci(kernel).into_iter().filter(ours).take(MAX_CARDS).collect();
    if functions.is_empty() {
        return Some(without_cards(kernel, &driver));
    }
    let card = |function: &PciFunction| Card {
        address: function.address.clone(),
        pci_id: format!("{:04x}:{:04x}", function.vendor, function.device),
        name: None,
        memory_bytes: None,
        usable: branch::decide(&driver, function.device),
    };
    let mut cards = Cards { cards: functions.iter().map(card).collect(), ..Cards::default() };
    if cards.cards.iter().any(|card| card.usable.is_ok()) {
        match load(kernel, &driver) {
            Ok(()) => start(kernel, user, &mut cards),
            Err(why) => fail(&mut cards, &why),
        }
    }
    if !driver.lacks.is_empty() {
        for card in cards.cards.iter_mut().filter(|card| card.usable.is_ok()) {
            card.usable = Err(format!("driver {} has it, but {}", driver.version, driver.lacks));
        }
    }
    cards.detail = detail(&driver, &cards);
    Some(cards)
}

/// Without a card there is nothing to drive; that the kernel takes the driver is found out all the
/// same, so that an image says on any machine whether it is whole.
fn without_cards(kernel: &dyn Kernel, driver: &Driver) -> Cards {
    let version = &driver.version;
    let (detail, failed) = match load(kernel, driver) {
        Err(Refused::NoDevice) => (
            format!(
                "no card of NVIDIA's: {ON_PROCESSOR}; the kernel took driver {version} (its \
                 signature and version hold), which found no device"
            ),
            false,
        ),
        Err(why) => (format!("no card of NVIDIA's: {ON_PROCESSOR}; besides, {why}"), true),
        Ok(()) => (format!("no card of NVIDIA's: {ON_PROCESSOR}; driver {version} waits"), false),
    };
    Cards { detail, failed, ..Cards::default() }
}

/// Why a driver is not loaded.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the driver found no device")]
    NoDevice,
    #[error("{0}; build the image again")]
    Modules(#[from] modules::ModulesError),
    #[error("the image lacks the module {0}; build it again")]
    Lacks(String),
    #[error("the kernel refuses {module}: {why} ({error})")]
    Kernel { module: String, why: &'static str, error: io::Error },
}

/// Loads a module with what it needs, and says what came of it.
pub fn try_module(kernel: &dyn Kernel, module: &str) -> String {
    let driver = Driver { modules: vec![module.into()], ..Driver::default() };
    match load(kernel, &driver) {
        Ok(()) => "loaded".into(),
        Err(why) => why.to_string(),
    }
}

/// Loads the driver's modules, with what they need.
fn load(kernel: &dyn Kernel, driver: &Driver) -> Result<(), Refused> {
    let (folder, catalogue) = modules::catalogue(kernel)?;
    let mut seen = modules::there(kernel);
    for module in &driver.modules {
        if !catalogue.has(module) {
            return Err(Refused::Lacks(module.clone()));
        }
        load_one(kernel, &folder, &catalogue, module, &mut seen)?;
    }
    Ok(())
}

fn load_one(
    kernel: &dyn Kernel,
    folder: &Path,
    catalogue: &Catalogue,
    module: &str,
    seen: &mut BTreeSet<String>,
) -> Result<(), Refused> {
    for (name, file) in catalogue.load_order(module, seen) {
        kernel.load_module(&folder.join(file), Probe::Waited).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::ENODEV) if name == module => Refused::NoDevice,
                _ => Refused::Kernel { module: name.into(), why: why(&error), error },
            }
        })?;
    }
    Ok(())
}

/// What the kernel means by an error of finit_module(2) (kernel/module/main.c, signing.c).
pub fn why(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EKEYREJECTED | libc::ENOKEY | libc::EBADMSG | libc::EKEYREVOKED) => {
            "its signature is not the release's, or not of these bytes"
        }
        Some(libc::ENOEXEC) => "it is of another kernel, or no module",
        Some(libc::ENOENT) => "it is not there, or wants what this kernel does not have",
        Some(libc::ENODEV) => "it found no device",
        _ => "see the kernel's log",
    }
}

/// Every card that was to be driven is not.
fn fail(cards: &mut Cards, why: &Refused) {
    cards.failed = true;
    for card in cards.cards.iter_mut().filter(|card| card.usable.is_ok()) {
        card.usable = Err(why.to_string());
    }
}

/// Makes the device files, and starts each card.
fn start(kernel: &dyn Kernel, user: u32, cards: &mut Cards) {
    let numbers = kernel::text(kernel, "/proc/devices").unwrap_or_default();
    let Some(uvm) = told::major(&numbers, UVM) else {
        let error = io::Error::from_raw_os_error(libc::ENODEV);
        let why = "it has no device number";
        return fail(cards, &Refused::Kernel { module: UVM.into(), why, error });
    };
    for (file, major, minor) in [(CONTROL_FILE, MAJOR, CONTROL), (UVM_FILE, uvm, 0)] {
        if let Err(error) = kernel.make_device(Path::new(file), (major, minor), user) {
            let why = "its device file cannot be made";
            return fail(cards, &Refused::Kernel { module: file.into(), why, error });
        }
        cards.files.push(file.into());
    }
    let Cards { cards, files, failed, _started: started, .. } = cards;
    for card in cards.iter_mut().filter(|card| card.usable.is_ok()) {
        let at = PathBuf::from("/proc/driver/nvidia/gpus").join(&card.address).join("information");
        let told = told::information(&kernel::text(kernel, at).unwrap_or_default());
        card.name = told.name;
        let Some(minor) = told.minor.filter(|minor| *minor < CONTROL) else {
            card.usable = Err("the driver does not take it; see the kernel's log".into());
            *failed = true;
            continue;
        };
        let file = format!("/dev/nvidia{minor}");
        let path = Path::new(&file);
        let opened =
            kernel.make_device(path, (MAJOR, minor), user).and_then(|()| kernel.open_device(path));
        match opened {
            Ok(held) => {
                started.push(Arc::new(held));
                files.push(file);
            }
            Err(error) => {
                card.usable = Err(format!("it does not start: {error}; see the kernel's log"));
                *failed = true;
            }
        }
    }
}

fn detail(driver: &Driver, cards: &Cards) -> String {
    let told = cards.cards.iter().map(|card| {
        let name = card.name.as_deref().unwrap_or("a card of NVIDIA's");
        match &card.usable {
            Ok(()) => format!("{name} {} at {}", card.pci_id, card.address),
            Err(why) => format!("{name} {} at {} is not used: {why}", card.pci_id, card.address),
        }
    });
    let all = told.collect::<Vec<_>>().join("; ");
    match cards.cards.iter().any(|card| card.usable.is_ok()) {
        true => format!("driver {}: {all}", driver.version),
        false => format!("{all}; {ON_PROCESSOR}"),
    }
}

/// The program that asks the driver about its cards: `compute cards` in the service's own sandbox,
/// without a server that it could speak to.
pub fn asking(kernel: &dyn Kernel, cards: &[String]) -> Result<Program, SandboxError> {
    let mut sandbox = sandbox::declared(kernel, compute::SERVICE)?;
    sandbox.cards.retain(|card| cards.contains(card));
    // It has no settings; the driver's description is no secret.
    let cage = sandbox::cage(ASKING, &sandbox, DRIVER, sandbox::memory(kernel), &[])?;
    let arguments = vec![ASKING.to_owned()];
    Ok(Program { path: compute::PROGRAM.into(), arguments, cage, group: ASKING })
}

/// Notes what the driver's library says of the cards.
pub fn take_readings(cards: &mut Cards, readings: &[Reading]) {
    for card in &mut cards.cards {
        let reading = readings.iter().find(|reading| reading.address == card.address);
        card.memory_bytes = reading.map(|reading| reading.memory_bytes).or(card.memory_bytes);
        if let (None, Some(reading)) = (&card.name, reading) {
            card.name = Some(reading.name.clone());
        }
    }
}

/// Notes in an inventory what became of the cards.
pub fn note(inventory: &mut Inventory, cards: Option<&Cards>) {
    let Some(cards) = cards else { return };
    for gpu in &mut inventory.gpus {
        match cards.cards.iter().find(|card| card.address == gpu.address) {
            Some(card) => {
                gpu.name.clone_from(&card.name);
                gpu.memory_bytes = card.memory_bytes;
                gpu.usable.clone_from(&card.usable);
            }
            None => gpu.usable = Err("this image drives cards of NVIDIA's alone".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernel::fake::Fake, nvidia::branch};

    const PCI: &str = "/sys/bus/pci/devices/0000:01:00.0";

    fn machine(device: Option<&str>) -> Fake {
        let driver = serde_json::to_string(&branch::tests::driver()).unwrap();
        let kernel = Fake::new(&[
            (DRIVER, &driver),
            ("/proc/sys/kernel/osrelease", "6.12"),
            ("/lib/modules/6.12/modules.alias", ""),
            (
                "/lib/modules/6.12/modules.dep",
                "kernel/drm.ko:\nextra/nvidia.ko: kernel/drm.ko\n\
                 extra/nvidia-uvm.ko: extra/nvidia.ko kernel/drm.ko\n",
            ),
            ("/proc/devices", "Character devices:\n195 nvidia\n510 nvidia-uvm\n"),
        ]);
        if let Some(device) = device {
            for (name, content) in [("vendor", "0x10de"), ("device", device), ("class", "0x030200")]
            {
                kernel.world().files.insert(format!("{PCI}/{name}").into(), content.into());
            }
        }
        kernel
    }

    fn with_information(kernel: Fake) -> Fake {
        let path = "/proc/driver/nvidia/gpus/0000:01:00.0/information";
        let text = b"Model: \t NVIDIA X\nDevice Minor: \t 0\n".to_vec();
        kernel.world().files.insert(path.into(), text);
        kernel
    }

    #[test]
    fn an_image_without_a_driver_has_nothing_to_say_of_cards() {
        assert!(run(&Fake::new(&[]), 900).is_none());
    }

    #[test]
    fn a_card_that_is_known_is_started_and_its_files_are_the_services() {
        let kernel = with_information(machine(Some("0x2684")));
        let cards = run(&kernel, 900).unwrap();
        assert!(!cards.failed, "{cards:?}");
        assert_eq!(cards.files, ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0"]);
        assert_eq!(cards.detail, "driver 550.163.01: NVIDIA X 10de:2684 at 0000:01:00.0");
        let world = kernel.world();
        assert_eq!(world.modules, ["drm.ko", "nvidia.ko", "nvidia-uvm.ko"]);
        let made = [
            ("/dev/nvidiactl".into(), (195, 255), 900),
            ("/dev/nvidia-uvm".into(), (510, 0), 900),
            ("/dev/nvidia0".into(), (195, 0), 900),
        ];
        assert_eq!(world.character_devices, made);
    }

    #[test]
    fn a_card_that_is_driven_and_not_yet_worked_on_says_so() {
        let kernel = with_information(machine(Some("0x2684")));
        let driver = Driver { lacks: "no operators yet".into(), ..branch::tests::driver() };
        let text = serde_json::to_vec(&driver).unwrap();
        kernel.world().files.insert(DRIVER.into(), text);
        let cards = run(&kernel, 900).unwrap();
        assert!(cards.detail.contains("has it, but no operators yet"), "{}", cards.detail);
        assert!(cards.detail.ends_with(ON_PROCESSOR) && !cards.failed, "{}", cards.detail);
    }

    #[test]
    fn a_card_that_is_too_old_or_too_new_has_no_driver_loaded() {
        for (device, why) in [("0x1db6", "older than Turing"), ("0x2b85", "newer than driver")] {
            let kernel = machine(Some(device));
            let cards = run(&kernel, 900).unwrap();
            assert!(cards.detail.contains(why), "{}", cards.detail);
            assert!(cards.detail.ends_with(ON_PROCESSOR) && !cards.failed, "{}", cards.detail);
            assert!(kernel.world().modules.is_empty() && cards.files.is_empty());
        }
    }

    #[test]
    fn without_a_card_the_driver_is_tried_and_the_node_works_on_its_processor() {
        let kernel = machine(None).failing("/lib/modules/6.12/extra/nvidia.ko", libc::ENODEV);
        let cards = run(&kernel, 900).unwrap();
        assert!(cards.detail.contains("signature and version hold"), "{}", cards.detail);
        assert!(cards.detail.contains("found no device") && !cards.failed, "{}", cards.detail);
    }

    #[test]
    fn a_driver_that_the_kernel_refuses_is_named_with_the_reason() {
        for (errno, why) in [
            (libc::EKEYREJECTED, "signature is not the release's"),
            (libc::ENOEXEC, "of another kernel"),
            (libc::ENOENT, "does not have"),
            (libc::EIO, "kernel's log"),
        ] {
            for device in [None, Some("0x2684")] {
                let kernel = machine(device).failing("/lib/modules/6.12/extra/nvidia.ko", errno);
                let cards = run(&kernel, 900).unwrap();
                assert!(cards.failed && cards.detail.contains(why), "{}", cards.detail);
                assert!(cards.detail.contains(ON_PROCESSOR), "{}", cards.detail);
            }
        }
    }

    #[test]
    fn a_card_that_does_not_start_is_not_used_and_is_not_shown_to_the_service() {
        let kernel = with_information(machine(Some("0x2684"))).failing("/dev/nvidia0", libc::EIO);
        let cards = run(&kernel, 900).unwrap();
        assert!(cards.failed && cards.detail.contains("does not start"), "{}", cards.detail);
        assert!(!cards.files.contains(&"/dev/nvidia0".to_owned()));
        // And one that the driver does not know.
        let cards = run(&machine(Some("0x2684")), 900).unwrap();
        assert!(cards.failed && cards.detail.contains("does not take it"), "{}", cards.detail);
    }

    #[test]
    fn a_description_that_is_nonsense_is_said_and_harms_nothing() {
        let cards = run(&Fake::new(&[(DRIVER, "{}")]), 900).unwrap();
        assert!(cards.failed && cards.detail.contains(DRIVER), "{}", cards.detail);
    }

    #[test]
    fn the_library_is_asked_in_the_services_sandbox_and_without_a_server() {
        let kernel = with_information(machine(Some("0x2684")));
        let text = crate::sandbox::tests::declaration().into_bytes();
        kernel.world().files.insert(protocol::sandbox::SANDBOXES.into(), text);
        let mut cards = run(&kernel, 900).unwrap();
        let program = asking(&kernel, &cards.files).unwrap();
        assert_eq!(
            (program.arguments.as_slice(), program.group),
            (&["cards".to_owned()][..], "cards")
        );
        assert_eq!((program.cage.user, program.cage.ports.len()), (900, 0));
        let reading = Reading {
            address: "0000:01:00.0".into(),
            name: "another".into(),
            memory_bytes: 7,
            persistent: None,
            ecc: None,
            milliwatts: None,
            millidegrees: None,
        };
        take_readings(&mut cards, &[reading]);
        assert_eq!(cards.cards[0].memory_bytes, Some(7));
        assert_eq!(cards.cards[0].name.as_deref(), Some("NVIDIA X"), "the driver's own name");
    }

    #[test]
    fn an_inventory_says_of_each_card_what_became_of_it() {
        let kernel = with_information(machine(Some("0x2684")));
        for (name, content) in [("vendor", "0x1002"), ("device", "0x73bf"), ("class", "0x030000")] {
            let path = format!("/sys/bus/pci/devices/0000:02:00.0/{name}");
            kernel.world().files.insert(path.into(), content.into());
        }
        let cards = run(&kernel, 900);
        let mut inventory = inventory::run(&kernel, None);
        note(&mut inventory, cards.as_ref());
        assert_eq!(inventory.gpus[0].name.as_deref(), Some("NVIDIA X"));
        assert_eq!(inventory.gpus[0].usable, Ok(()));
        assert!(inventory.gpus[1].usable.as_ref().unwrap_err().contains("NVIDIA's alone"));
    }
}
