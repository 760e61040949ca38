//! The provisioner's parts against nginx, dnsmasq, Kea and tftpd-hpa: `fleet::bench` in namespaces.

use crate::{
    setup::{self, Sources},
    workspace::{self, program},
};
use anyhow::bail;
use fleet::bench::{self, Plan, WORKS, peers::Peers, row::Row};
use lab::sandbox;
use std::{fs, path::Path};

pub(super) fn run(sources: &Sources, only: Vec<String>, is_json: bool) -> anyhow::Result<()> {
    if let Some(name) = only.iter().find(|name| !WORKS.contains(&name.as_str())) {
        bail!("there is no work {name:?} of the provisioner's; there are {}", WORKS.join(", "));
    }
    let target = workspace::target();
    let plan = Plan {
        provisioner: program("provisioner"),
        peers: Peers::fetch(&setup::packages(sources)?),
        result: target.join("bench-provisioner.json"),
        only,
    };
    let path = target.join("bench-provisioner-plan.json");
    fs::write(&path, serde_json::to_vec_pretty(&plan)?)?;
    let mut arguments =
        vec!["bench".into(), "provisioner".into(), "--inside".into(), "--plan".into(), path.into()];
    arguments.extend(is_json.then(|| "--json".into()));
    let mut sandbox = sandbox::enter(sandbox::privilege()?, &arguments, Vec::new())?;
    let status = sandbox.wait()?;
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    Ok(())
}

pub(super) fn inside(plan: &Path, is_json: bool) -> anyhow::Result<()> {
    let plan: Plan = serde_json::from_slice(&fs::read(plan)?)?;
    bench::inside(plan, &mut |row: &Row| {
        if is_json {
            println!("{}", serde_json::to_string(row).unwrap_or_default());
        } else {
            println!("{row}");
        }
    })
}
