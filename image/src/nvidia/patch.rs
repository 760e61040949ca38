//! The one change that the driver's source needs for newer kernels. Pure.
//!
//! Linux 6.12.97 gave `pci_resize_resource` a fourth argument, which BARs not to move for room
//! (NVIDIA/open-gpu-kernel-modules#1272). Whether the kernel at hand has it is read in its own
//! header, and the change is made only then.

/// What the driver says, of which there must be one.
const CALL: &str = "pci_resize_resource(pci_dev, NV_GPU_BAR1, requested_size)";
/// What it must say then: no BAR stays where it is, as before there was the choice.
const CALL_OF_FOUR: &str = "pci_resize_resource(pci_dev, NV_GPU_BAR1, requested_size, 0)";

/// The source with its change, or none where this kernel needs none. `header` is the kernel's
/// `include/linux/pci.h`, `source` the driver's `nvidia/nv-pci.c`.
///
/// # Errors
/// Where either is not as it was when this was written.
pub fn resize(header: &str, source: &str) -> Result<Option<String>, String> {
    let calls = source.matches(CALL).count();
    let changed = source.contains(CALL_OF_FOUR);
    match (arguments(header), calls, changed) {
        (Some(3), 1, false) | (Some(4), 0, true) => Ok(None),
        (Some(4), 1, false) => Ok(Some(source.replace(CALL, CALL_OF_FOUR))),
        (Some(count), ..) => Err(format!(
            "the kernel's pci_resize_resource takes {count} arguments, and the driver calls it \
             otherwise than {CALL}: look at both"
        )),
        (None, ..) => Err("the kernel's include/linux/pci.h has no pci_resize_resource".into()),
    }
}

/// How many arguments the kernel's function takes, by its declaration.
fn arguments(header: &str) -> Option<usize> {
    // A stub for kernels without PCI has a body; it has the same arguments.
    let (_, rest) = header.split_once(" pci_resize_resource(")?;
    let (list, _) = rest.split_once(')')?;
    Some(list.split(',').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str =
        "int __must_check pci_resize_resource(struct pci_dev *dev, int i, int size);";
    const FOUR: &str = "int __must_check pci_resize_resource(struct pci_dev *dev, int i, int size,\n\
                        \t\t\t\t     int exclude_bars);";
    const SOURCE: &str = "    r = pci_resize_resource(pci_dev, NV_GPU_BAR1, requested_size);\n";

    #[test]
    fn the_source_is_changed_where_the_kernel_wants_it_and_only_there() {
        assert_eq!(resize(THREE, SOURCE), Ok(None));
        let changed = resize(FOUR, SOURCE).unwrap().unwrap();
        let wanted = "    r = pci_resize_resource(pci_dev, NV_GPU_BAR1, requested_size, 0);\n";
        assert_eq!(changed, wanted);
        assert_eq!(resize(FOUR, &changed), Ok(None), "a source that has it is left alone");
    }

    #[test]
    fn what_is_otherwise_than_it_was_is_refused() {
        assert!(resize("", SOURCE).unwrap_err().contains("has no pci_resize_resource"));
        assert!(resize(FOUR, "").unwrap_err().contains("4 arguments"));
        assert!(resize(FOUR, &SOURCE.repeat(2)).is_err());
        assert!(resize(&FOUR.replace("int i,", "int i, int j,"), SOURCE).is_err());
        let changed = resize(FOUR, SOURCE).unwrap().unwrap();
        assert!(resize(THREE, &changed).is_err());
    }
}
