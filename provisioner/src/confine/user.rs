//! Becoming somebody without rights. All threads do: the C library tells each of them.

use super::ConfineError;
use caps::CapSet;
use nix::unistd::{Uid, User, geteuid, getgroups, initgroups, setresgid, setresuid, setuid};
use std::ffi::CString;

/// Becomes the user of that name, with that user's groups alone.
pub(super) fn become_them(name: &str) -> Result<(), ConfineError> {
    let failed = |what| move |error| ConfineError::System(what, error);
    let user = User::from_name(name).map_err(failed("the users of this host"))?;
    let user = user.ok_or_else(|| ConfineError::NoUser(name.into()))?;
    if user.uid.is_root() {
        return Err(ConfineError::Root(name.into()));
    }
    if !geteuid().is_root() {
        let them = geteuid() == user.uid;
        return if them { Ok(()) } else { Err(ConfineError::NotRoot(name.into())) };
    }
    // What a program run by us could have again. Where we may not, there is none to run: see
    // "no new privileges".
    let _ = caps::clear(None, CapSet::Bounding);
    let c_name = CString::new(name).map_err(|_| ConfineError::NoUser(name.into()))?;
    // Groups first: without root nobody may give them up.
    initgroups(&c_name, user.gid).map_err(failed("the user's groups"))?;
    setresgid(user.gid, user.gid, user.gid).map_err(failed("the user's group"))?;
    setresuid(user.uid, user.uid, user.uid).map_err(failed("the user"))?;
    let root_group = getgroups().is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == 0));
    if setuid(Uid::from_raw(0)).is_ok() || root_group {
        return Err(ConfineError::Regained);
    }
    Ok(())
}

/// Gives up what a service manager may have lent for taking ports.
pub(super) fn drop_capabilities() -> Result<(), ConfineError> {
    // In this order: what is in one set comes out of the next.
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)?;
    }
    Ok(())
}
