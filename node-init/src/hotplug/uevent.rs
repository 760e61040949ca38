//! What the kernel says when a device comes, as one datagram: `ACTION@DEVPATH`, then `KEY=VALUE`,
//! each ended by a zero byte (lib/kobject_uevent.c).

/// The longest datagram: the kernel's buffer has 2,048 bytes, and the header a path more.
pub const MAX_DATAGRAM: usize = 8_192;

/// A device's coming, going or changing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uevent<'a> {
    /// `add`, `remove`, `bind`, `change`, …
    pub action: &'a str,
    /// Below /sys.
    pub path: &'a str,
    /// `pci`, `usb`, `net`, …
    pub subsystem: &'a str,
    /// What the device calls itself; empty where it has no driver to look for.
    pub modalias: &'a str,
}

/// Reads a datagram; none where it is not one of the kernel's.
pub fn parse(datagram: &[u8]) -> Option<Uevent<'_>> {
    if datagram.len() > MAX_DATAGRAM {
        return None;
    }
    let mut parts = datagram.split(|byte| *byte == 0);
    // udev's own messages begin with `libudev` and have no `@`.
    let (action, path) = std::str::from_utf8(parts.next()?).ok()?.split_once('@')?;
    let mut event = Uevent { action, path, subsystem: "", modalias: "" };
    for part in parts {
        let Ok(part) = std::str::from_utf8(part) else { continue };
        match part.split_once('=') {
            Some(("SUBSYSTEM", value)) => event.subsystem = value,
            Some(("MODALIAS", value)) => event.modalias = value,
            _ => {}
        }
    }
    (path.starts_with('/') && !action.is_empty()).then_some(event)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Recorded from Linux 6.12 as QEMU's `device_add` plugged in a network card.
    pub(crate) const PCI: &[u8] =
        b"add@/devices/pci0000:00/0000:00:04.0/0000:01:00.0\0ACTION=add\0\
        DEVPATH=/devices/pci0000:00/0000:00:04.0/0000:01:00.0\0SUBSYSTEM=pci\0PCI_CLASS=20000\0\
        PCI_ID=8086:10D3\0PCI_SUBSYS_ID=8086:0000\0PCI_SLOT_NAME=0000:01:00.0\0\
        MODALIAS=pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00\0SEQNUM=1201\0";
    const USB: &[u8] = b"add@/devices/pci0000:00/0000:00:05.0/usb1/1-1/1-1:1.0\0ACTION=add\0\
        DEVPATH=/devices/pci0000:00/0000:00:05.0/usb1/1-1/1-1:1.0\0SUBSYSTEM=usb\0\
        DEVTYPE=usb_interface\0PRODUCT=525/a4a2/0\0TYPE=2/0/0\0INTERFACE=2/6/0\0\
        MODALIAS=usb:v0525pA4A2d0000dc02dsc00dp00ic02isc06ip00in00\0SEQNUM=1310\0";

    #[test]
    fn the_kernels_datagrams_are_read() {
        let event = parse(PCI).unwrap();
        assert_eq!((event.action, event.subsystem), ("add", "pci"));
        assert_eq!(event.path, "/devices/pci0000:00/0000:00:04.0/0000:01:00.0");
        assert_eq!(event.modalias, "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00");
        let event = parse(USB).unwrap();
        assert_eq!(event.modalias, "usb:v0525pA4A2d0000dc02dsc00dp00ic02isc06ip00in00");
        let event = parse(b"remove@/devices/virtual/net/x\0ACTION=remove\0").unwrap();
        assert_eq!((event.action, event.modalias), ("remove", ""));
    }

    #[test]
    fn what_is_no_datagram_of_the_kernels_is_passed_over() {
        for bytes in
            [&b""[..], b"libudev\0\xfe\xed\xca\xfe", b"add", b"@/x\0", b"add@x\0", b"\xff@/x"]
        {
            assert_eq!(parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(parse(&[b"add@/".to_vec(), vec![b'x'; MAX_DATAGRAM]].concat()), None);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes: Vec<u8>, text in "(add|@|/|\0|MODALIAS=|SUBSYSTEM=|[a-z]){0,20}") {
            parse(&bytes);
            parse(text.as_bytes());
        }
    }
}
