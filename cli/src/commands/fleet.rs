//! `alia fleet`: a provisioner's machines, as its operator.

use super::{
    HomeFlag,
    fleet_groups::Groups,
    fleet_media::Media,
    fleet_site::{meant, open, unix_ms},
    fleet_tables::{Config, Defaults, Owners, Rules},
};
use crate::output::Output;
use clap::{Args, Subcommand};
use cli::{
    Error, Exit,
    fleet::{
        Fleet, Site, client, select, show,
        site::{fingerprint, is_same},
    },
};
use protocol::{
    Digest,
    console::ConsoleEntry,
    fleet::{
        Command, Life, MachineState, NewOperator, OperatorStatus, OperatorToken, ProvisionerStatus,
        TimelineEvent,
    },
};
use serde_json::json;
use std::{
    fs,
    io::{IsTerminal, Read, Write, stderr, stdin},
    path::{Path, PathBuf},
};

/// A provisioner's machines: see them, take them in, steer them.
///
/// `alia fleet login` keeps, in the home folder, which provisioner is meant, what vouches for it and
/// the operator's token. A machine is named by its MAC address, its name, its serial number, its
/// address or its node's key.
#[derive(Subcommand)]
pub(crate) enum FleetCommand {
    /// Keep a provisioner's address, its authority, and an operator's token.
    #[command(after_help = "Example: alia fleet login http://10.0.0.1:8080 --token token.txt

`provisioner ca` on the provisioner's host shows the fingerprint, and `provisioner token add NAME` \
makes a token. By an address that begins with https:// the authorities that this system knows are \
asked, and nothing has to be compared.")]
    Login(Login),
    /// The provisioner as a whole.
    #[command(after_help = "Example: alia fleet status")]
    Status,
    /// The machines, those that need somebody first.
    #[command(after_help = "Example: alia fleet list --state pending")]
    List {
        /// Those in this state alone: discovered, pending, approved, booting, ready, draining,
        /// re-imaging, quarantined or retired.
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Option<MachineState>,
        /// Those of which a name, serial number, address or key contains this.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Those with a problem alone.
        #[arg(long)]
        problem: bool,
        /// So many at the most.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000)]
        most: u32,
    },
    /// One machine: what it is, where it stands, what happened to it.
    #[command(after_help = "Example: alia fleet show bear")]
    Show {
        /// Which.
        machine: String,
    },
    /// What happens, as it happens, until Ctrl-C.
    #[command(after_help = "Example: alia fleet watch bear")]
    Watch {
        /// Of this machine alone.
        machine: Option<String>,
    },
    /// What a machine's kernel, its PID 1 and its service said: the last lines.
    #[command(after_help = "Example: alia fleet console bear --search usb --follow")]
    Console {
        /// Which machine.
        machine: String,
        /// Then those to come, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
        /// Those that contain this, whatever its case.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Those of this boot alone.
        #[arg(long, value_name = "ID")]
        boot: Option<Digest>,
        /// So many at the most.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 200)]
        most: u32,
    },
    /// What happened to a machine, newest first.
    #[command(after_help = "Example: alia fleet timeline bear -n 50")]
    Timeline {
        /// Which machine.
        machine: String,
        /// So many at the most.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 500)]
        most: u32,
    },
    /// A machine's kernel's deaths; with --search those whose log has such a line.
    #[command(after_help = "Example: alia fleet crashes bear --search nvme")]
    Crashes {
        /// Which machine.
        machine: String,
        /// Those in whose log a line contains this, whatever its case.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
    },
    /// What machines have in common, and its history.
    #[command(subcommand)]
    Groups(Groups),
    /// Which machines are let in without an operator's word.
    #[command(subcommand)]
    Rules(Rules),
    /// Accounts that machines work for.
    #[command(subcommand)]
    Owners(Owners),
    /// What holds for machines where nobody says otherwise.
    #[command(subcommand)]
    Defaults(Defaults),
    /// What holds for one machine, and what it has of its own.
    #[command(subcommand)]
    Config(Config),
    /// What miners registered.
    #[command(subcommand)]
    Media(Media),
    /// The log of a kernel that died; `alia fleet crashes` has its number.
    #[command(after_help = "Example: alia fleet crash bear 3")]
    Crash {
        /// Which machine.
        machine: String,
        /// Which log.
        number: u64,
    },
    /// Let machines in that wait for it: by the key that the provisioner shows, compared with the one
    /// on the machine's display.
    #[command(after_help = "Example: alia fleet approve bear fox")]
    Approve(Act),
    /// Have machines finish their work and take no more.
    #[command(after_help = "Example: alia fleet drain bear")]
    Drain(Act),
    /// Have machines boot anew.
    #[command(after_help = "Example: alia fleet reimage bear --yes")]
    Reimage(Act),
    /// Trust machines no more: they boot nothing and are not taken in.
    #[command(after_help = "Example: alia fleet quarantine bear")]
    Quarantine(Act),
    /// End a quarantine, or a drain.
    #[command(after_help = "Example: alia fleet release bear")]
    Release(Act),
    /// Put machines out of service.
    #[command(after_help = "Example: alia fleet retire bear --yes")]
    Retire(Act),
    /// Take machines into service again.
    #[command(after_help = "Example: alia fleet restore bear")]
    Restore(Act),
    /// Make a machine's node key worth nothing, until it is approved anew.
    #[command(after_help = "Example: alia fleet revoke bear --yes")]
    Revoke(Act),
    /// Who may act.
    #[command(subcommand)]
    Operators(Operators),
}

/// Who may act.
#[derive(Subcommand)]
pub(crate) enum Operators {
    /// Show them.
    #[command(after_help = "Example: alia fleet operators list")]
    List,
    /// Make one, and show the token once.
    #[command(after_help = "Example: alia fleet operators add anna")]
    Add {
        /// Who it is, as the machines' timelines will say.
        name: String,
    },
    /// Make a token nobody's, at once.
    #[command(after_help = "Example: alia fleet operators remove anna")]
    Remove {
        /// Whose.
        name: String,
    },
}

/// Where the provisioner is, and who we are there.
#[derive(Args)]
pub(crate) struct Login {
    /// The provisioner: by http:// its authority is fetched and compared, by https:// it is asked
    /// as it is.
    #[arg(value_name = "URL")]
    url: String,
    /// The file with the token; standard input by default.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// The fingerprint of the provisioner's authority, for scripts; people are asked.
    #[arg(long, value_name = "SHA256")]
    fingerprint: Option<String>,
    /// The authority's certificate, where a file has it.
    #[arg(long, value_name = "FILE", conflicts_with = "fingerprint")]
    ca: Option<PathBuf>,
}

/// Machines of which something is asked.
#[derive(Args)]
pub(crate) struct Act {
    /// Which.
    #[arg(required = true, value_name = "MACHINE")]
    machines: Vec<String>,
    /// Do not ask whether it is meant.
    #[arg(short, long)]
    yes: bool,
}

/// What is asked of machines.
struct Asked {
    /// As the provisioner has it.
    what: &'static str,
    /// What somebody should know before: then it is asked whether it is meant.
    warning: Option<&'static str>,
}

impl FleetCommand {
    pub(crate) async fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        let folder = home.folder()?;
        let what = |what, warning| Asked { what, warning };
        match self {
            Self::Login(login) => login.run(&folder, output).await,
            Self::Status => {
                let status: ProvisionerStatus = open(&folder)?.get("/v1/status").await?;
                output.give(&status);
                show::status(&status).into_iter().for_each(|line| output.say(line));
                Ok(Exit::Ok)
            }
            Self::List { state, search, problem, most } => {
                let mut query = vec![("limit", most.clamp(1, 1_000).to_string())];
                query.extend(state.map(|state| ("state", state.as_str().to_owned())));
                query.extend(search.map(|search| ("search", search)));
                query.extend(problem.then(|| ("problem", "true".to_owned())));
                let machines = open(&folder)?.machines(&query, most as usize).await?;
                output.give(&machines);
                show::machines(&machines, unix_ms()).into_iter().for_each(|line| output.say(line));
                Ok(Exit::Ok)
            }
            Self::Show { machine } => {
                let fleet = open(&folder)?;
                let detail = fleet.machine(&found(&fleet, &machine).await?).await?;
                output.give(&detail);
                show::machine(&detail, unix_ms()).into_iter().for_each(|line| output.say(line));
                Ok(Exit::Ok)
            }
            Self::Watch { machine } => watch(&folder, output, machine).await,
            Self::Console { machine, follow, search, boot, most } => {
                let query = [
                    ("before", u64::to_string(&NEWEST)),
                    ("limit", most.clamp(1, MOST_LINES).to_string()),
                ];
                let mut query = query.to_vec();
                query.extend(search.clone().map(|search| ("search", search)));
                query.extend(boot.map(|boot| ("boot", boot.to_string())));
                console(&folder, output, &machine, (&query, search.as_deref()), follow).await
            }
            Self::Timeline { machine, most } => {
                let fleet = open(&folder)?;
                let mac = found(&fleet, &machine).await?;
                let path = format!("/v1/machines/{mac}/timeline?limit={}", most.clamp(1, 500));
                let events: Vec<TimelineEvent> = fleet.list(&path, most as usize).await?;
                output.give(&events);
                show::timeline(&events, unix_ms()).into_iter().for_each(|line| output.say(line));
                Ok(Exit::Ok)
            }
            Self::Crashes { machine, search } => {
                let fleet = open(&folder)?;
                let mac = found(&fleet, &machine).await?;
                let crashes = fleet.crashes(&mac, search.as_deref()).await?;
                output.give(&crashes);
                show::crashes(&crashes, unix_ms()).into_iter().for_each(|line| output.say(line));
                Ok(Exit::Ok)
            }
            Self::Groups(command) => command.run(&folder, output).await,
            Self::Rules(command) => command.run(&folder, output).await,
            Self::Owners(command) => command.run(&folder, output).await,
            Self::Defaults(command) => command.run(&folder, output).await,
            Self::Config(command) => command.run(&folder, output).await,
            Self::Media(command) => command.run(&folder, output).await,
            Self::Crash { machine, number } => {
                let fleet = open(&folder)?;
                let mac = found(&fleet, &machine).await?;
                output.raw(fleet.text(&format!("/v1/machines/{mac}/crashes/{number}")).await?);
                Ok(Exit::Ok)
            }
            Self::Approve(act) => act.run(&folder, output, what("approve", None)).await,
            Self::Drain(act) => act.run(&folder, output, what("drain", None)).await,
            Self::Reimage(act) => {
                let warning = Some("the work that it has in hand is lost");
                act.run(&folder, output, what("reimage", warning)).await
            }
            Self::Quarantine(act) => act.run(&folder, output, what("quarantine", None)).await,
            Self::Release(act) => act.run(&folder, output, what("release", None)).await,
            Self::Retire(act) => {
                let warning = Some("it boots nothing from then on");
                act.run(&folder, output, what("retire", warning)).await
            }
            Self::Restore(act) => act.run(&folder, output, what("restore", None)).await,
            Self::Revoke(act) => act.revoke(&folder, output).await,
            Self::Operators(command) => command.run(&folder, output).await,
        }
    }
}

fn state(text: &str) -> Result<MachineState, String> {
    serde_json::from_value(json!(text)).map_err(|_| {
        "discovered, pending, approved, booting, ready, draining, re-imaging, quarantined or retired"
            .into()
    })
}

/// The MAC address of the machine that is meant.
pub(super) async fn found(fleet: &Fleet, wanted: &str) -> Result<String, Error> {
    if let Some(mac) = select::mac(wanted) {
        return Ok(mac);
    }
    let query = [("search", wanted.chars().take(100).collect()), ("limit", "1000".into())];
    let machines = fleet.machines(&query, 10_000).await?;
    Ok(select::one(wanted, &machines).map_err(cli::fleet::FleetError::from)?)
}

async fn watch(home: &Path, output: &Output, machine: Option<String>) -> Result<Exit, Error> {
    let fleet = open(home)?;
    let mac = match machine {
        Some(machine) => Some(found(&fleet, &machine).await?),
        None => None,
    };
    let one = |event: protocol::fleet::TimelineEvent| {
        if mac.as_ref().is_none_or(|mac| *mac == event.mac) {
            output.give(&event);
            output.say(show::event(&event));
        }
    };
    fleet.follow(one, |text| output.note(text)).await?;
    Ok(Exit::Ok)
}

/// Behind every line: what the newest ones stand before.
const NEWEST: u64 = 9_007_199_254_740_991;
/// The most lines that a provisioner gives at once.
const MOST_LINES: u32 = 4_000;

async fn console(
    home: &Path,
    output: &Output,
    machine: &str,
    (query, search): (&[(&str, String)], Option<&str>),
    follow: bool,
) -> Result<Exit, Error> {
    let fleet = open(home)?;
    let mac = found(&fleet, machine).await?;
    let page = fleet.console(&mac, query).await?;
    let say = |entry: &ConsoleEntry| {
        show::line(entry).into_iter().for_each(|line| output.say(line));
    };
    if !follow {
        output.give(&page);
        if page.gone > 0 {
            output.note(format_args!("{} older lines went, to make room", page.gone));
        }
        page.lines.iter().for_each(say);
        return Ok(Exit::Ok);
    }
    // One JSON value a line: nobody knows where they end.
    let each = |entry: &ConsoleEntry| {
        output.give(entry);
        say(entry);
    };
    page.lines.iter().for_each(each);
    let after = match page.lines.last() {
        Some(last) => last.id,
        // Nothing fits so far: what is there already is not what is to come.
        None => {
            let newest = [("before", NEWEST.to_string()), ("limit", "1".into())];
            fleet.console(&mac, &newest).await?.lines.last().map_or(0, |last| last.id)
        }
    };
    let note = |text| output.note(text);
    fleet.follow_console(&mac, search, after, |entry| each(&entry), note).await?;
    Ok(Exit::Ok)
}

impl Act {
    async fn run(self, home: &Path, output: &Output, asked: Asked) -> Result<Exit, Error> {
        let fleet = open(home)?;
        let mut answers: Vec<(String, Life)> = Vec::new();
        let mut failed = false;
        for machine in &self.machines {
            let mac = found(&fleet, machine).await?;
            // What was seen is what is meant: where it moved meanwhile, nothing is done.
            let (life, tag) = fleet.life(&mac).await?;
            let mut command = Command { what: asked.what.into(), node: None };
            if asked.what == "approve" {
                command.node = fleet.machine(&mac).await?.machine.pending;
                if let Some(node) = &command.node
                    && !self.yes
                    && !meant(&format!(
                        "Approve {machine} ({mac}) with key\n  {node}?\nAnybody on the network can ask in \
                         a machine's name: compare it with the one on its display."
                    ))?
                {
                    output.note(format_args!("{machine}: nothing was done"));
                    failed = true;
                    continue;
                }
            }
            let warning = asked.warning.filter(|_| !self.yes);
            if let Some(warning) = warning
                && !meant(&format!(
                    "{} {machine} ({mac}), which is {}? {warning}.",
                    asked.what,
                    life.state.as_str()
                ))?
            {
                output.note(format_args!("{machine}: nothing was done"));
                failed = true;
                continue;
            }
            match fleet.command(&mac, command, tag.as_deref()).await {
                Ok(life) => {
                    output.say(format_args!("{machine}: {}", life.state.as_str()));
                    answers.push((mac, life));
                }
                Err(error) => {
                    // The others are still asked.
                    output.note(format_args!("{machine}: {error}"));
                    failed = true;
                }
            }
        }
        let answers = answers.iter().map(|(mac, life)| json!({ "mac": mac, "life": life }));
        output.give(&answers.collect::<Vec<_>>());
        Ok(if failed { Exit::Failed } else { Exit::Ok })
    }

    async fn revoke(self, home: &Path, output: &Output) -> Result<Exit, Error> {
        let fleet = open(home)?;
        let mut answers = Vec::new();
        for machine in &self.machines {
            let mac = found(&fleet, machine).await?;
            let question = format!("Revoke the node key of {machine} ({mac})? Its work ends.");
            if !self.yes && !meant(&question)? {
                output.note(format_args!("{machine}: nothing was done"));
                return Ok(Exit::Failed);
            }
            let revoked = fleet.revoke(&mac).await?;
            output.say(format_args!("{machine}: node key {} is worth nothing now", revoked.node));
            answers.push(json!({ "mac": mac, "node": revoked.node }));
        }
        output.give(&answers);
        Ok(Exit::Ok)
    }
}

impl Operators {
    async fn run(self, home: &Path, output: &Output) -> Result<Exit, Error> {
        let fleet = open(home)?;
        match self {
            Self::List => {
                let operators: Vec<OperatorStatus> = fleet.get("/v1/operators").await?;
                output.give(&operators);
                show::operators(&operators, unix_ms())
                    .into_iter()
                    .for_each(|line| output.say(line));
            }
            Self::Add { name } => {
                let body = NewOperator { name };
                let made: OperatorToken = fleet.make("/v1/operators", &body).await?;
                output.give(&made);
                output.note(format_args!("{}'s token, shown this once:", made.name));
                output.say(&made.token);
            }
            Self::Remove { name } => {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                if name.is_empty() || !name.chars().all(plain) {
                    return Err(Error::Refused(format!("{name:?} names no operator")));
                }
                fleet.delete(&format!("/v1/operators/{name}")).await?;
                output.give(&json!({ "removed": name }));
                output.say(format_args!("{name}'s token is nobody's now"));
            }
        }
        Ok(Exit::Ok)
    }
}

impl Login {
    async fn run(self, home: &Path, output: &Output) -> Result<Exit, Error> {
        let (url, authority) = match &self.ca {
            Some(path) => {
                let pem = fs::read_to_string(path).map_err(Error::file(path))?;
                fingerprint(&pem)?;
                (self.https().await?, Some(pem))
            }
            None if self.url.starts_with("https://") => (self.url.clone(), None),
            None => {
                let pem = client::plain_text(&self.url, "/ca.pem").await?;
                self.compare(&fingerprint(&pem)?)?;
                (self.https().await?, Some(pem))
            }
        };
        let site = Site { url, authority, token: self.token()? };
        let fleet = Fleet::new(&site)?;
        let operators: Vec<OperatorStatus> = fleet.get("/v1/operators").await?;
        let path = site.save(home)?;
        output.give(&json!({ "url": site.url, "file": path, "operators": operators.len() }));
        output.say(format_args!("{} takes the token; it is kept in {}", site.url, path.display()));
        Ok(Exit::Ok)
    }

    /// Where the provisioner is by TLS: its own word, which its certificate then has to hold.
    async fn https(&self) -> Result<String, Error> {
        if self.url.starts_with("https://") {
            return Ok(self.url.clone());
        }
        let text = client::plain_text(&self.url, "/v1/status").await?;
        let status: Result<ProvisionerStatus, _> = serde_json::from_str(&text);
        let https = status.ok().and_then(|status| status.https);
        https.ok_or_else(|| {
            Error::Refused(format!(
                "{} does not say where it is by TLS: give that address",
                self.url
            ))
        })
    }

    fn compare(&self, found: &str) -> Result<(), Error> {
        if let Some(known) = &self.fingerprint {
            return if is_same(found, known) {
                Ok(())
            } else {
                let text = format!(
                    "the authority there has fingerprint {found}, and not the one that was given: \
                     it is another provisioner, or somebody stands between"
                );
                Err(Error::Refused(text))
            };
        }
        let question = format!(
            "The provisioner's authority has the fingerprint (SHA-256)\n  {found}\nIs it what \
             `provisioner ca` shows on its host?"
        );
        if meant(&question)? {
            return Ok(());
        }
        Err(Error::Refused("then somebody may stand between; nothing was sent to it".into()))
    }

    fn token(&self) -> Result<String, Error> {
        let text = match &self.token {
            Some(path) => fs::read_to_string(path).map_err(Error::file(path))?,
            None => {
                if stdin().is_terminal() {
                    let _ = write!(stderr(), "The operator's token: ");
                    let _ = stderr().flush();
                    let mut line = String::new();
                    stdin().read_line(&mut line).map_err(Error::file("the terminal"))?;
                    line
                } else {
                    let mut text = String::new();
                    let from = stdin().take(4_096).read_to_string(&mut text);
                    from.map_err(Error::file("standard input"))?;
                    text
                }
            }
        };
        let token = text.trim();
        if token.is_empty() || token.len() > 200 || token.contains(char::is_whitespace) {
            return Err(Error::Refused("that is no token: one word is, as it was shown".into()));
        }
        Ok(token.into())
    }
}
