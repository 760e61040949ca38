//! While the machine boots, the kernel asks its readers to be done at once (expedited RCU), where
//! it would wait for them otherwise: a packet filter's change, a control group's first member and a
//! mount that goes take some ten milliseconds each by that. It costs each processor an interrupt, so
//! once there is work the kernel waits again.

use crate::kernel::Kernel;
use std::{io, path::Path};

/// Documentation/admin-guide/kernel-parameters.txt, `rcupdate.rcu_expedited`.
const EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// From now on the kernel hurries. It is of no matter where it cannot.
pub fn begin(kernel: &dyn Kernel) -> io::Result<()> {
    kernel.set(Path::new(EXPEDITED), "1")
}

/// And from now on no more.
pub fn end(kernel: &dyn Kernel) -> io::Result<()> {
    kernel.set(Path::new(EXPEDITED), "0")
}
