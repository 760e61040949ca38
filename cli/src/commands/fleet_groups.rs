//! `alia fleet groups`: what machines have in common, and its history.

use super::{
    fleet_site::{meant, open, unix_ms},
    fleet_tables,
};
use crate::output::Output;
use clap::{Args, Subcommand, ValueEnum};
use cli::{
    Error, Exit,
    fleet::{Fleet, client::Change as Asked, groups, show},
};
use protocol::configuration::{Change, History, Member, Taken};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, stdin},
    path::{Path, PathBuf},
};

/// Groups of machines: their settings, and the history of the whole configuration.
///
/// What is changed is shown first, and asked for on a terminal; elsewhere --yes says that it is meant.
#[derive(Subcommand)]
pub(crate) enum Groups {
    /// Show them.
    #[command(after_help = "Example: alia fleet groups list")]
    List,
    /// Show one: its settings, its labels.
    #[command(after_help = "Example: alia fleet groups show rack-7")]
    Show {
        /// Which.
        name: String,
    },
    /// The machines of a group.
    #[command(after_help = "Example: alia fleet groups machines rack-7")]
    Machines {
        /// Which.
        name: String,
    },
    /// Set values of a group; it is made where there is none of that name.
    #[command(after_help = "Example: alia fleet groups set rack-7 window=2 labels.site=berlin \
                            network= --why 'the new switch'

A value is written as in TOML (\"text\", 2, true, [\"a\"]); what is none is a text. With nothing behind \
`=` the key is taken away. The keys are in docs/configuration.md.")]
    Set {
        /// Which.
        name: String,
        /// What is set.
        #[arg(required = true, value_name = "KEY=VALUE")]
        values: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// Take a group away.
    #[command(after_help = "Example: alia fleet groups remove rack-7")]
    Remove {
        /// Which.
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// The revisions of the configuration, newest first.
    #[command(after_help = "Example: alia fleet groups history")]
    History {
        /// So many at the most.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 500)]
        most: u32,
    },
    /// What differs between two revisions.
    #[command(after_help = "Example: alia fleet groups diff 3 5")]
    Diff {
        /// From this one.
        from: u64,
        /// To this one; the one that holds, by default.
        to: Option<u64>,
    },
    /// Make an old revision's document a new revision.
    #[command(after_help = "Example: alia fleet groups rollback 3")]
    Rollback {
        /// Which.
        to: u64,
        #[command(flatten)]
        how: How,
    },
    /// The whole configuration as one file.
    #[command(after_help = "Example: alia fleet groups export > fleet.toml")]
    Export {
        /// As what.
        #[arg(long, value_enum, default_value_t = Format::Toml)]
        format: Format,
    },
    /// Take such a file for the whole configuration.
    #[command(after_help = "Example: alia fleet groups import fleet.toml --why 'rack 8'")]
    Import {
        /// The file; standard input where it is `-`.
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
}

/// How a file is written.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    Toml,
    Json,
}

/// How a change is meant.
#[derive(Args)]
pub(crate) struct How {
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Only show what would change.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask whether it is meant.
    #[arg(short, long)]
    yes: bool,
}

impl Groups {
    pub(crate) async fn run(self, home: &Path, output: &Output) -> Result<Exit, Error> {
        let fleet = open(home)?;
        match self {
            Self::List => {
                let all: Value = fleet.get("/v1/groups").await?;
                output.give(&all);
                show::groups(&all).into_iter().for_each(|line| output.say(line));
            }
            Self::Show { name } => {
                let group: Value = fleet.get(&path(&name)?).await?;
                output.give(&group);
                show::group(&format!("group {name}"), &group)
                    .into_iter()
                    .for_each(|line| output.say(line));
            }
            Self::Set { name, values, how } => {
                let patch = groups::patch(&values).map_err(Error::Refused)?;
                let asked = Asked::patch(path(&name)?, &patch);
                return how.change(&fleet, output, "/v1/groups", asked).await;
            }
            Self::Remove { name, how } => {
                let asked = Asked::delete(path(&name)?);
                return how.change(&fleet, output, "/v1/groups", asked).await;
            }
            Self::Machines { name } => {
                let members: Vec<Member> =
                    fleet.list(&format!("{}/machines", path(&name)?), usize::MAX).await?;
                output.give(&members);
                show::members(&members).into_iter().for_each(|line| output.say(line));
            }
            Self::History { most } => {
                let history: History = fleet.history(most as usize).await?;
                output.give(&history);
                show::history(&history, unix_ms()).into_iter().for_each(|line| output.say(line));
            }
            Self::Diff { from, to } => {
                let to = to.map(|to| format!("&to={to}")).unwrap_or_default();
                let path = format!("/v1/config/diff?from={from}{to}");
                let changes: Vec<Change<Value>> = fleet.get(&path).await?;
                output.give(&changes);
                changes.iter().for_each(|change| output.say(change));
            }
            Self::Rollback { to, how } => {
                let asked = Asked::post(format!("/v1/config/rollback?to={to}"), String::new());
                return how.change(&fleet, output, "/v1/config", asked).await;
            }
            Self::Export { format } => {
                let format = if matches!(format, Format::Toml) { "toml" } else { "json" };
                output.raw(fleet.text(&format!("/v1/config/export?format={format}")).await?);
            }
            Self::Import { file, how } => {
                let text = match file.as_os_str() == "-" {
                    true => {
                        let mut text = String::new();
                        stdin().read_to_string(&mut text).map_err(Error::file("standard input"))?;
                        text
                    }
                    false => fs::read_to_string(&file).map_err(Error::file(&file))?,
                };
                let asked = Asked::post("/v1/config/import".into(), text);
                return how.change(&fleet, output, "/v1/config", asked).await;
            }
        }
        Ok(Exit::Ok)
    }
}

fn path(name: &str) -> Result<String, Error> {
    fleet_tables::path("/v1/groups", name)
}

impl How {
    /// Shows what would change, asks, and changes it: that revision which was shown, and no other.
    /// `of` is what has the revision.
    pub(super) async fn change(
        self,
        fleet: &Fleet,
        output: &Output,
        of: &str,
        asked: Asked,
    ) -> Result<Exit, Error> {
        let (_, tag) = fleet.tagged::<Value>(of).await?;
        let why = self.why.unwrap_or_default();
        let would: Taken<Value> = fleet.change(&asked, &why, true, tag.as_deref()).await?;
        if would.changes.is_empty() {
            output.give(&would);
            output.note("nothing would change");
            return Ok(Exit::Ok);
        }
        would.changes.iter().for_each(|change| output.say(change));
        if self.dry_run {
            output.give(&would);
            return Ok(Exit::Ok);
        }
        if !self.yes && !meant("Change it so?")? {
            output.note("nothing was done");
            return Ok(Exit::Failed);
        }
        let taken: Taken<Value> = fleet.change(&asked, &why, false, tag.as_deref()).await?;
        output.give(&json!(taken));
        output.say(format_args!("revision {} holds now", taken.revision));
        Ok(Exit::Ok)
    }
}
