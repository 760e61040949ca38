//! Landlock: the kernel's own list of what this program may touch, as far as the kernel has it.

use super::{ConfineError, Rules};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use std::{fmt, fs::DirBuilder, os::unix::fs::DirBuilderExt};

/// What is asked for, Linux 6.12's; a kernel that has less gives what it has.
const WANTED: ABI = ABI::V6;

/// What Landlock keeps from us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Files, and with a kernel of this ABI more.
    By(i32),
    /// Nothing: the kernel has no Landlock.
    Nothing,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no Landlock (this kernel has none)"),
            Self::By(abi) => {
                write!(f, "Landlock {abi}: files")?;
                f.write_str(if *abi >= 4 { ", TCP ports" } else { "" })?;
                f.write_str(if *abi >= 6 { ", signals" } else { "" })
            }
        }
    }
}

/// Enters; there is no way back.
pub(super) fn enter(rules: &Rules) -> Result<Kept, ConfineError> {
    // The CA's folder is made at the first start; a rule needs it to be there. Where it cannot be
    // made that is told by who needs it.
    for folder in &rules.write {
        let _ = DirBuilder::new().mode(0o700).create(folder);
    }
    let look = AccessFs::ReadFile | AccessFs::ReadDir;
    let write: BitFlags<AccessFs> = look
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile;
    let ports = rules.connect.iter();
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::Signal)?
        .create()?
        // What is not there cannot be allowed, and is not read either.
        .add_rules(path_beneath_rules(&rules.read, look))?
        .add_rules(path_beneath_rules(&rules.write, write))?
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(ports.map(|&port| {
            Ok::<_, landlock::RulesetError>(NetPort::new(port, AccessNet::ConnectTcp))
        }))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Kept::Nothing,
        (_, LandlockStatus::Available { effective_abi, .. }) => Kept::By(effective_abi as i32),
        _ => Kept::Nothing,
    })
}
