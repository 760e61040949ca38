//! Stage `hardening`: lockdown and the settings of [`crate::sysctl`], before any driver is loaded.
//!
//! Nothing here stops a boot. What a kernel lacks is said, and one that refuses something fails the
//! stage, so that the operator sees what this node does not have.

use crate::{
    kernel::{self, Kernel, Mount},
    sysctl::{SYSCTLS, Sysctl},
};
use std::{io, path::Path};

/// Where security modules show themselves.
const SECURITYFS: Mount = Mount {
    kind: "securityfs",
    on: "/sys/kernel/security",
    devices: false,
    programs: false,
    options: "",
};
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// The kernel takes signed modules and kernels alone, and root cannot read its memory either.
/// The source kernel is born so; the prebuilt one is told.
const LEVEL: &str = "confidentiality";

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardened {
    /// Settings that stand.
    pub set: usize,
    /// Settings that this kernel does not have.
    pub absent: Vec<&'static str>,
    /// Settings that it has and did not take, and what they are.
    pub refused: Vec<String>,
    /// What lockdown says.
    pub lockdown: String,
}

impl Hardened {
    /// Whether the kernel is locked down and refused nothing. What it does not have is the image's
    /// business.
    pub fn whole(&self) -> bool {
        self.lockdown == LEVEL && self.refused.is_empty()
    }

    /// For people.
    pub fn detail(&self) -> String {
        let mut text = format!("lockdown {}; {} settings", self.lockdown, self.set);
        if !self.absent.is_empty() {
            text += &format!("; not in this kernel: {}", self.absent.join(" "));
        }
        if !self.refused.is_empty() {
            text += &format!("; REFUSED: {}", self.refused.join(", "));
        }
        text
    }
}

/// Locks the kernel down and sets every setting.
pub fn run(kernel: &dyn Kernel) -> Hardened {
    let mut hardened = Hardened { lockdown: lock_down(kernel), ..Hardened::default() };
    for each in &SYSCTLS {
        match set(kernel, each) {
            Ok(()) => hardened.set += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                hardened.absent.push(each.name);
            }
            Err(error) => hardened.refused.push(format!("{} ({error})", each.name)),
        }
    }
    hardened
}

/// Sets a setting and reads it back; one that stands already is not written, since some can be
/// written once alone.
fn set(kernel: &dyn Kernel, sysctl: &Sysctl) -> io::Result<()> {
    let path = sysctl.path();
    let path = Path::new(&path);
    let read = || -> io::Result<String> {
        Ok(String::from_utf8_lossy(&kernel.read(path, 256)?).trim().to_owned())
    };
    if read()? == sysctl.value {
        return Ok(());
    }
    kernel.set(path, sysctl.value)?;
    match read()? {
        now if now == sysctl.value => Ok(()),
        now => Err(io::Error::other(format!("it stays {now}"))),
    }
}

fn lock_down(kernel: &dyn Kernel) -> String {
    // It is there already after the first; whether it is, the file shows.
    let _ = kernel.mount(&SECURITYFS);
    let level = || kernel::text(kernel, LOCKDOWN).and_then(|text| chosen(&text));
    match level() {
        None => return "is not in this kernel".into(),
        Some(now) if now == LEVEL => return now,
        Some(_) => {}
    }
    match (kernel.set(Path::new(LOCKDOWN), LEVEL), level()) {
        (Ok(()), Some(now)) => now,
        (Err(error), _) => format!("REFUSED ({error})"),
        (Ok(()), None) => "cannot be read".into(),
    }
}

/// `none integrity [confidentiality]`: the one in brackets.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    /// A kernel whose every setting has another value than ours.
    fn kernel() -> Fake {
        let kernel = Fake::new(&[(LOCKDOWN, "none integrity [confidentiality]\n")]);
        for each in &SYSCTLS {
            kernel.world().files.insert(each.path().into(), b"7\n".to_vec());
        }
        kernel
    }

    #[test]
    fn every_setting_is_set_and_read_back() {
        let kernel = kernel();
        let hardened = run(&kernel);
        assert_eq!(hardened.detail(), "lockdown confidentiality; 50 settings");
        for each in &SYSCTLS {
            let value = kernel.read(Path::new(&each.path()), 256).unwrap();
            assert_eq!(value, each.value.as_bytes(), "{}", each.name);
        }
    }

    #[test]
    fn one_that_the_kernel_lacks_is_named_and_the_others_are_set() {
        let kernel = kernel();
        kernel.world().files.remove(Path::new("/proc/sys/kernel/unprivileged_userns_clone"));
        let hardened = run(&kernel);
        assert_eq!(hardened.absent, ["kernel.unprivileged_userns_clone"]);
        assert_eq!(hardened.set, SYSCTLS.len() - 1);
    }

    #[test]
    fn one_that_cannot_be_set_is_said_loudly() {
        let detail = run(&kernel().failing("/proc/sys/kernel/sysrq", 1)).detail();
        assert!(detail.contains("REFUSED: kernel.sysrq (Operation not permitted"), "{detail}");
    }

    #[test]
    fn one_that_stands_already_is_not_written() {
        // As ptrace_scope, which nothing may write once it is 3.
        let kernel = kernel();
        let path = "/proc/sys/kernel/yama/ptrace_scope";
        kernel.world().files.insert(path.into(), b"3\n".to_vec());
        assert_eq!(run(&kernel).set, SYSCTLS.len());
        assert_eq!(kernel.read(Path::new(path), 9).unwrap(), b"3\n");
    }

    #[test]
    fn a_kernel_without_lockdown_is_said_so() {
        let kernel = kernel();
        kernel.world().files.remove(Path::new(LOCKDOWN));
        assert!(run(&kernel).detail().starts_with("lockdown is not in this kernel"));
    }

    #[test]
    fn lockdown_is_what_stands_in_brackets() {
        assert_eq!(chosen("[none] integrity confidentiality"), Some("none".into()));
        assert_eq!(chosen("nothing"), None);
    }
}
