//! `alia node`: look into machines, and have them do something.

use super::{HomeFlag, meant, now};
use crate::output::Output;
use clap::{Args, Subcommand};
use cli::{
    Error, Exit, Home,
    home::HomeError,
    node::{self, Node, TargetError, Wanted, approve, show, target},
};
use identity::keyfile;
use protocol::{
    PublicKey, SecretKey,
    node_api::{AuditRecord, Done, KernelLine, LogLine, NodeIdentity, NodeStage, NodeStatus},
};
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

/// The machine that is meant, and who asks.
#[derive(Args)]
pub(crate) struct Of {
    /// A machine's name, MAC address or address, its node's key or the beginning of it; or
    /// KEY@ADDRESS, for which no provisioner is asked.
    #[arg(value_name = "NODE")]
    node: Wanted,
    #[command(flatten)]
    with: With,
}

/// Who asks, and who knows where machines are.
#[derive(Args)]
pub(crate) struct With {
    /// The provisioner, which knows names, addresses and keys; the home's by default.
    #[arg(long, value_name = "URL", env = "ALIA_PROVISIONER")]
    provisioner: Option<String>,
    /// Your key; the home's owner.key by default.
    #[arg(long, value_name = "FILE", env = "ALIA_KEY")]
    key: Option<PathBuf>,
}

/// Nodes: look into them, drain them, restart them.
///
/// A node speaks TLS 1.3 alone, shows the key that the provisioner took it in with, and answers
/// its owner and those whom the provisioner names by --operator. Whoever else answers at its
/// address is refused.
#[derive(Subcommand)]
pub(crate) enum NodeCommand {
    /// The machines that the provisioner knows.
    #[command(after_help = "Example: alia node list --provisioner http://10.0.0.1:8080")]
    List(With),
    /// Let a machine's key in that waits at the provisioner. Its owner's signature does that.
    #[command(after_help = "Example: alia node approve bear")]
    Approve {
        /// A machine's name or MAC address, or the beginning of the key that waits.
        #[arg(value_name = "NODE")]
        node: Wanted,
        #[command(flatten)]
        with: With,
        /// Do not ask whether it is meant; then NODE is the key, 16 of its digits at least.
        #[arg(short, long)]
        yes: bool,
    },
    /// How a node is.
    #[command(after_help = "Example: alia node status bear")]
    Status(Of),
    /// The stages of its boot, with their times.
    #[command(after_help = "Example: alia node stages bear")]
    Stages(Of),
    /// What PID 1 and the compute service said.
    #[command(after_help = "Example: alia node logs -f bear")]
    Logs {
        #[command(flatten)]
        of: Of,
        /// Go on with lines as they are said, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
        /// So many of the last lines.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
        lines: usize,
    },
    /// What it is made of.
    #[command(after_help = "Example: alia node inventory bear")]
    Inventory(Of),
    /// Processors, memory, network, temperatures; --prometheus gives Prometheus' text.
    #[command(after_help = "Example: alia node metrics --prometheus bear")]
    Metrics {
        #[command(flatten)]
        of: Of,
        /// As Prometheus reads it.
        #[arg(long)]
        prometheus: bool,
    },
    /// What runs on it.
    #[command(after_help = "Example: alia node processes bear")]
    Processes(Of),
    /// The kernel's log.
    #[command(after_help = "Example: alia node dmesg -n 20 bear")]
    Dmesg {
        #[command(flatten)]
        of: Of,
        /// So many of the last lines.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 200)]
        lines: usize,
    },
    /// All of it in one file, to hand on: no secret is in it.
    #[command(after_help = "Example: alia node bundle bear --out bear.json")]
    Bundle {
        #[command(flatten)]
        of: Of,
        /// The file; NAME-bundle.json by default.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Restart it.
    #[command(after_help = "Example: alia node reboot bear --yes")]
    Reboot(End),
    /// Turn it off.
    #[command(after_help = "Example: alia node power-off bear --yes")]
    PowerOff(End),
    /// Have it finish its work and take no more.
    #[command(after_help = "Example: alia node drain bear")]
    Drain(Of),
    /// Have it work again.
    #[command(after_help = "Example: alia node undrain bear")]
    Undrain(Of),
    /// Have it show itself on its console.
    #[command(after_help = "Example: alia node identify bear --seconds 60")]
    Identify {
        #[command(flatten)]
        of: Of,
        /// For so long, at most 300.
        #[arg(long, value_name = "N", default_value_t = 30)]
        seconds: u64,
    },
    /// Who asked what of it, and what came of it.
    #[command(after_help = "Example: alia node audit bear")]
    Audit(Of),
}

/// A machine that is to end.
#[derive(Args)]
pub(crate) struct End {
    #[command(flatten)]
    of: Of,
    /// Do not ask whether it is meant.
    #[arg(short, long)]
    yes: bool,
}

impl With {
    /// The home's provisioner, where no flag names one.
    fn provisioner(&self, home: &HomeFlag) -> Result<Option<String>, Error> {
        if self.provisioner.is_some() {
            return Ok(self.provisioner.clone());
        }
        match home.open() {
            Ok(home) => Ok(home.settings.provisioner),
            Err(Error::Home(HomeError::NotInitialised(_) | HomeError::Nameless)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The key: an operator needs no home that knows a chain.
    fn key(&self, home: &HomeFlag) -> Result<SecretKey, Error> {
        let path = match &self.key {
            Some(path) => path.clone(),
            None => Home::key_file(&home.folder()?),
        };
        Ok(keyfile::read(&path)?)
    }
}

impl Of {
    async fn connect(&self, home: &HomeFlag) -> Result<Node, Error> {
        let target = match &self.node {
            Wanted::At(target) => target.clone(),
            wanted => {
                let provisioner = self.with.provisioner(home)?;
                let provisioner =
                    provisioner.ok_or_else(|| TargetError::NoProvisioner(wanted.to_string()))?;
                target::find(wanted, &node::machines(&provisioner).await?)?
            }
        };
        let key = self.with.key(home)?;
        Ok(Node::connect(target, &key).await?)
    }

    async fn get<T: serde::de::DeserializeOwned + Serialize>(
        &self,
        home: &HomeFlag,
        output: &Output,
        path: &str,
        show: impl FnOnce(&T) -> Vec<String>,
    ) -> Result<Exit, Error> {
        let answer: T = self.connect(home).await?.get(path).await?;
        output.give(&answer);
        show(&answer).into_iter().for_each(|line| output.say(line));
        Ok(Exit::Ok)
    }

    async fn post(&self, home: &HomeFlag, output: &Output, path: &str) -> Result<Exit, Error> {
        let mut node = self.connect(home).await?;
        let done: Done = node.post(path).await?;
        output.give(&done);
        output.say(format_args!("{}: {}", node.target(), done.done));
        Ok(Exit::Ok)
    }
}

impl NodeCommand {
    pub(crate) async fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        match self {
            Self::List(with) => list(&with, home, output).await,
            Self::Approve { node, with, yes } => approve_key(&node, &with, yes, home, output).await,
            Self::Status(of) => status(&of, home, output).await,
            Self::Stages(of) => {
                let show = |stages: &Vec<NodeStage>| show::stages(stages);
                of.get(home, output, "/v1/stages", show).await
            }
            Self::Logs { of, follow, lines } => logs(&of, home, output, follow, lines).await,
            Self::Inventory(of) => of.get(home, output, "/v1/inventory", show::inventory).await,
            Self::Metrics { of, prometheus: true } => {
                let text = of.connect(home).await?.bytes("/metrics").await?;
                output.raw(String::from_utf8_lossy(&text));
                Ok(Exit::Ok)
            }
            Self::Metrics { of, prometheus: false } => {
                of.get(home, output, "/v1/metrics", show::metrics).await
            }
            Self::Processes(of) => of.get(home, output, "/v1/processes", show::processes).await,
            Self::Dmesg { of, lines } => {
                let show = |lines: &Vec<KernelLine>| lines.iter().map(show::kernel_line).collect();
                of.get(home, output, &format!("/v1/kernel-log?lines={lines}"), show).await
            }
            Self::Bundle { of, out } => bundle(&of, home, output, out).await,
            Self::Reboot(end) => end.run(home, output, "/v1/reboot", "Restart").await,
            Self::PowerOff(end) => end.run(home, output, "/v1/power-off", "Turn off").await,
            Self::Drain(of) => of.post(home, output, "/v1/drain").await,
            Self::Undrain(of) => of.post(home, output, "/v1/undrain").await,
            Self::Identify { of, seconds } => {
                of.post(home, output, &format!("/v1/identify?seconds={seconds}")).await
            }
            Self::Audit(of) => {
                let show = |records: &Vec<AuditRecord>| show::audit(records);
                of.get(home, output, "/v1/audit", show).await
            }
        }
    }
}

async fn list(with: &With, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
    let provisioner = with.provisioner(home)?;
    let provisioner =
        provisioner.ok_or_else(|| TargetError::NoProvisioner("on the network".into()))?;
    let machines = node::machines(&provisioner).await?;
    output.give(&machines);
    let now = u64::try_from(now().as_millis()).unwrap_or(u64::MAX);
    show::machines(&machines, now).into_iter().for_each(|line| output.say(line));
    Ok(Exit::Ok)
}

async fn approve_key(
    wanted: &Wanted,
    with: &With,
    yes: bool,
    home: &HomeFlag,
    output: &Output,
) -> Result<Exit, Error> {
    let provisioner = with.provisioner(home)?;
    let provisioner = provisioner.ok_or_else(|| TargetError::NoProvisioner(wanted.to_string()))?;
    let waiting = approve::find(wanted, &node::machines(&provisioner).await?)?;
    let key = with.key(home)?;
    output.note(format_args!("{} ({}): key {}", waiting.name, waiting.mac, waiting.node));
    if let Some(before) = &waiting.before {
        output.note(format_args!("it takes the place of {before}"));
    }
    if let Some(problem) = &waiting.problem {
        output.note(problem);
    }
    if yes && !approve::is_named(wanted, &waiting) {
        return Err(Error::Refused(format!(
            "anybody on the network can ask in this machine's name, and with --yes nobody compares \
             keys: read the key off the machine's display, and name it instead of {wanted}, {} \
             digits at least",
            approve::LEAST_NAMED
        )));
    }
    let question =
        format!("Approve {}? Compare the key with the one on its display.", waiting.name);
    if !yes && !meant(&question, "--yes")? {
        output.note("nothing was done");
        return Ok(Exit::Failed);
    }
    let chain = approve::chain(&provisioner).await?;
    approve::approve(&provisioner, &chain, &waiting, &key, now().as_secs()).await?;
    output.give(&json!({"mac": waiting.mac, "node": waiting.node}));
    output.say(format_args!("{} was approved; it comes in at its next try", waiting.name));
    Ok(Exit::Ok)
}

async fn status(of: &Of, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
    let mut node = of.connect(home).await?;
    let identity: NodeIdentity = node.get("/v1/identity").await?;
    let status: NodeStatus = node.get("/v1/status").await?;
    let owner = identity.ownership.verify(&identity.chain, &node.target().key);
    let whose = match &owner {
        Ok(owner) => format!("{}, by its signed delegation", owner.address()),
        Err(error) => format!("not proven: {error}"),
    };
    output.give(&json!({
        "status": status, "you": identity.you, "chain": identity.chain,
        "owner": owner.ok().map(|owner: PublicKey| owner.address()),
    }));
    show::status(&status, &whose).into_iter().for_each(|line| output.say(line));
    output.say(format_args!("you         {} {}", identity.you.role, identity.you.key));
    Ok(Exit::Ok)
}

async fn logs(
    of: &Of,
    home: &HomeFlag,
    output: &Output,
    follow: bool,
    lines: usize,
) -> Result<Exit, Error> {
    let mut node = of.connect(home).await?;
    let show = |line: &LogLine| {
        output.give(line);
        output.say(show::log_line(line));
    };
    if follow {
        node.follow(lines, |line| show(&line)).await?;
    } else {
        let lines: Vec<LogLine> = node.get(&format!("/v1/logs?lines={lines}")).await?;
        lines.iter().for_each(show);
    }
    Ok(Exit::Ok)
}

async fn bundle(
    of: &Of,
    home: &HomeFlag,
    output: &Output,
    out: Option<PathBuf>,
) -> Result<Exit, Error> {
    let mut node = of.connect(home).await?;
    let bytes = node.bytes("/v1/bundle").await?;
    let name = node.target().name.clone().unwrap_or_else(|| node.target().key.short());
    let plain = |c: char| if c.is_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let path = out.unwrap_or_else(|| format!("{name}-bundle.json").into());
    std::fs::write(&path, &bytes).map_err(Error::file(&path))?;
    output.give(&json!({"file": path, "bytes": bytes.len()}));
    output.say(format_args!("{} ({})", path.display(), show::bytes(bytes.len() as u64)));
    Ok(Exit::Ok)
}

impl End {
    async fn run(
        self,
        home: &HomeFlag,
        output: &Output,
        path: &str,
        what: &str,
    ) -> Result<Exit, Error> {
        if !self.yes && !is_meant(what, &self.of.node)? {
            output.note("nothing was done");
            return Ok(Exit::Failed);
        }
        self.of.post(home, output, path).await
    }
}

fn is_meant(what: &str, node: &Wanted) -> Result<bool, Error> {
    meant(&format!("{what} {node}? The work that it has in hand is lost."), "--yes")
}
