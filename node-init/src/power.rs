//! Who asks the machine to end: signals to PID 1, and the power button as an input device.
//!
//! Ctrl-Alt-Del restarts the machine; SIGTERM and the power button turn it off.

use crate::kernel::{self, End, Kernel};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    thread,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// A request to end, and whose it was.
pub type Request = (End, &'static str);

/// `EV_KEY` and `KEY_POWER` of linux/input-event-codes.h.
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// `struct input_event` on a 64-bit kernel: 16 bytes of time, type, code, value.
const EVENT_LEN: usize = 24;
/// The most devices that are listened to: a button, a keyboard with the key, and some to spare.
const MAX_BUTTONS: usize = 8;

/// Listens to the signals that ask PID 1 to end. Needs a tokio runtime.
pub fn listen_to_signals(requests: &mpsc::Sender<Request>) -> io::Result<()> {
    let asked = [
        (SignalKind::terminate(), End::PowerOff, "SIGTERM"),
        (SignalKind::interrupt(), End::Restart, "Ctrl-Alt-Del"),
    ];
    for (kind, end, whose) in asked {
        let mut stream = signal(kind)?;
        let requests = requests.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                let _ = requests.try_send((end, whose));
            }
        });
    }
    Ok(())
}

/// Listens to every power button that there is, each on a thread of its own, which sleeps until
/// somebody presses it. The drivers must be loaded.
pub fn listen_to_buttons(kernel: &dyn Kernel, requests: &mpsc::Sender<Request>) {
    for device in buttons(kernel).into_iter().take(MAX_BUTTONS) {
        let Ok(device) = kernel.open_device(&device) else { continue };
        let requests = requests.clone();
        // A machine without room for a thread is still of use without its button.
        let _ = thread::Builder::new()
            .name("power button".to_owned())
            .stack_size(64 << 10)
            .spawn(move || watch(File::from(device), &requests));
    }
}

/// Returns when the device is unplugged.
fn watch(mut device: File, requests: &mpsc::Sender<Request>) {
    let mut events = [0; EVENT_LEN * 16];
    while let Ok(read @ 1..) = device.read(&mut events) {
        if pressed(&events[..read]) {
            let _ = requests.try_send((End::PowerOff, "the power button"));
        }
    }
}

/// Input devices with a power key.
fn buttons(kernel: &dyn Kernel) -> Vec<PathBuf> {
    let folder = Path::new("/sys/class/input");
    let mut found = Vec::new();
    for entry in kernel.list(folder).unwrap_or_default() {
        if !entry.name.starts_with("event") {
            continue;
        }
        let keys = folder.join(&entry.name).join("device/capabilities/key");
        if has_key(&kernel::text(kernel, keys).unwrap_or_default(), KEY_POWER) {
            found.push(Path::new("/dev/input").join(&entry.name));
        }
    }
    found
}

/// Reads a capability bitmap of /sys: 64-bit words in hex, the highest first.
fn has_key(bitmap: &str, key: u16) -> bool {
    let (word, bit) = (usize::from(key / 64), key % 64);
    let word = bitmap.split_ascii_whitespace().rev().nth(word);
    let word = word.and_then(|word| u64::from_str_radix(word, 16).ok());
    word.is_some_and(|word| word >> bit & 1 == 1)
}

/// Whether input events hold a press of the power key (value 1; 0 is its release).
fn pressed(events: &[u8]) -> bool {
    let number = |event: &[u8], at: usize| u16::from_le_bytes([event[at], event[at + 1]]);
    events.chunks_exact(EVENT_LEN).any(|event| {
        (number(event, 16), number(event, 18), number(event, 20)) == (EV_KEY, KEY_POWER, 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;

    fn event(kind: u16, code: u16, value: u32) -> Vec<u8> {
        let mut event = vec![0; 16];
        event.extend(kind.to_le_bytes());
        event.extend(code.to_le_bytes());
        event.extend(value.to_le_bytes());
        event
    }

    #[test]
    fn a_press_of_the_power_key_is_told_from_other_events() {
        let sync = event(0, 0, 0);
        assert!(pressed(&[sync.clone(), event(EV_KEY, KEY_POWER, 1)].concat()));
        assert!(!pressed(&[sync, event(EV_KEY, KEY_POWER, 0), event(EV_KEY, 30, 1)].concat()));
        assert!(!pressed(&event(EV_KEY, KEY_POWER, 1)[..20]));
    }

    #[test]
    fn devices_with_a_power_key_are_found_by_their_capabilities() {
        // As QEMU's ACPI power button, its keyboard (which has the key too) and its mouse say.
        let kernel = Fake::new(&[
            ("/sys/class/input/event0/device/capabilities/key", "10000000000000 0\n"),
            (
                "/sys/class/input/event1/device/capabilities/key",
                "402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe\n",
            ),
            ("/sys/class/input/event2/device/capabilities/key", "70000 0 0 0 0\n"),
            ("/sys/class/input/input0/device/capabilities/key", "10000000000000 0\n"),
        ]);
        let wanted = ["/dev/input/event0", "/dev/input/event1"].map(PathBuf::from);
        assert_eq!(buttons(&kernel), wanted);
    }

    #[test]
    fn a_press_on_a_device_is_a_request_and_its_end_is_not() {
        let (reader, mut writer) = io::pipe().unwrap();
        let (requests, mut asked) = mpsc::channel(1);
        let device = File::from(std::os::fd::OwnedFd::from(reader));
        let watching = thread::spawn(move || watch(device, &requests));
        io::Write::write_all(&mut writer, &event(EV_KEY, KEY_POWER, 1)).unwrap();
        assert_eq!(asked.blocking_recv(), Some((End::PowerOff, "the power button")));
        drop(writer);
        watching.join().unwrap();
        assert_eq!(asked.blocking_recv(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_device_panic(bytes: Vec<u8>, bitmap in "[0-9a-fx ]{0,60}", key: u16) {
            pressed(&bytes);
            has_key(&bitmap, key);
        }
    }
}
