//! `alia fleet rules`, `owners`, `defaults` and `config`: the configuration's other tables.

use super::{fleet::found, fleet_groups::How, fleet_site::open};
use crate::output::Output;
use clap::Subcommand;
use cli::{
    Error, Exit,
    fleet::{Fleet, client::Change, groups, show},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Rules of enrolment: which machines are let in without an operator's word.
#[derive(Subcommand)]
pub(crate) enum Rules {
    /// Show them.
    #[command(after_help = "Example: alia fleet rules list")]
    List,
    /// Show one.
    #[command(after_help = "Example: alia fleet rules show rack-7")]
    Show {
        /// Which.
        name: String,
    },
    /// Set parts of a rule; it is made where there is none of that name.
    #[command(after_help = "Example: alia fleet rules set rack-7 'macs=[\"52:54:00\"]' limit=20 \
                            group=rack-7 --why 'new machines'

A value is written as in TOML; with nothing behind `=` it is taken away. What a rule has is in \
docs/configuration.md.")]
    Set {
        /// Which.
        name: String,
        /// What is set.
        #[arg(required = true, value_name = "KEY=VALUE")]
        values: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// Take a rule away. Who was let in by it stays.
    #[command(after_help = "Example: alia fleet rules remove rack-7")]
    Remove {
        /// Which.
        name: String,
        #[command(flatten)]
        how: How,
    },
}

/// Owners: accounts that machines work for, by what each signed.
#[derive(Subcommand)]
pub(crate) enum Owners {
    /// Show them.
    #[command(after_help = "Example: alia fleet owners list")]
    List,
    /// Show what one signed.
    #[command(after_help = "Example: alia fleet owners show anna")]
    Show {
        /// Which.
        name: String,
    },
    /// Take what an owner signed, `alia delegate`'s output, under a name.
    #[command(after_help = "Example: alia fleet owners set anna delegation.json")]
    Set {
        /// Which.
        name: String,
        /// What was signed.
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Take an owner away.
    #[command(after_help = "Example: alia fleet owners remove anna")]
    Remove {
        /// Which.
        name: String,
        #[command(flatten)]
        how: How,
    },
}

/// What holds for machines where nobody says otherwise.
#[derive(Subcommand)]
pub(crate) enum Defaults {
    /// Show it.
    #[command(after_help = "Example: alia fleet defaults show")]
    Show,
    /// Set some of it.
    #[command(after_help = "Example: alia fleet defaults set window=2 https=")]
    Set {
        /// What is set; with nothing behind `=` it is taken away.
        #[arg(required = true, value_name = "KEY=VALUE")]
        values: Vec<String>,
        #[command(flatten)]
        how: How,
    },
}

/// What holds for one machine, and what it has of its own.
#[derive(Subcommand)]
pub(crate) enum Config {
    /// Show what holds, and whence: its own table, a group, a rule, the defaults.
    #[command(after_help = "Example: alia fleet config show bear")]
    Show {
        /// Which machine.
        machine: String,
    },
    /// Set values, groups and labels of its own.
    #[command(after_help = "Example: alia fleet config set bear 'groups=[\"rack-7\"]' \
                            labels.row=4 window=2")]
    Set {
        /// Which machine.
        machine: String,
        /// What is set; with nothing behind `=` it is taken away.
        #[arg(required = true, value_name = "KEY=VALUE")]
        values: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// Take away all that it has of its own.
    #[command(after_help = "Example: alia fleet config remove bear")]
    Remove {
        /// Which machine.
        machine: String,
        #[command(flatten)]
        how: How,
    },
}

/// Shows what stands at a path.
async fn shown(fleet: &Fleet, output: &Output, path: &str, title: &str) -> Result<Exit, Error> {
    let table: Value = fleet.get(path).await?;
    output.give(&table);
    show::group(title, &table).into_iter().for_each(|line| output.say(line));
    Ok(Exit::Ok)
}

/// Shows the tables that stand at a path, by name.
async fn listed(fleet: &Fleet, output: &Output, path: &str) -> Result<Exit, Error> {
    let all: Value = fleet.get(path).await?;
    output.give(&all);
    show::groups(&all).into_iter().for_each(|line| output.say(line));
    Ok(Exit::Ok)
}

fn patch(path: String, values: &[String]) -> Result<Change, Error> {
    let patch = groups::patch(values).map_err(Error::Refused)?;
    Ok(Change::patch(path, &patch))
}

/// The path of one of several tables.
pub(super) fn path(of: &str, name: &str) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        let what = of.rsplit('/').next().unwrap_or(of).trim_end_matches('s');
        return Err(Error::Refused(format!("{name:?} names no {what}")));
    }
    Ok(format!("{of}/{name}"))
}

const RULES: &str = "/v1/rules";
const OWNERS: &str = "/v1/owners";
const DEFAULTS: &str = "/v1/defaults";

impl Rules {
    pub(crate) async fn run(self, home: &Path, output: &Output) -> Result<Exit, Error> {
        let fleet = open(home)?;
        match self {
            Self::List => listed(&fleet, output, RULES).await,
            Self::Show { name } => {
                shown(&fleet, output, &path(RULES, &name)?, &format!("rule {name}")).await
            }
            Self::Set { name, values, how } => {
                how.change(&fleet, output, RULES, patch(path(RULES, &name)?, &values)?).await
            }
            Self::Remove { name, how } => {
                how.change(&fleet, output, RULES, Change::delete(path(RULES, &name)?)).await
            }
        }
    }
}

impl Owners {
    pub(crate) async fn run(self, home: &Path, output: &Output) -> Result<Exit, Error> {
        let fleet = open(home)?;
        match self {
            Self::List => listed(&fleet, output, OWNERS).await,
            Self::Show { name } => {
                shown(&fleet, output, &path(OWNERS, &name)?, &format!("owner {name}")).await
            }
            Self::Set { name, file, how } => {
                let text = fs::read_to_string(&file).map_err(Error::file(&file))?;
                let put = Change::put(path(OWNERS, &name)?, text);
                how.change(&fleet, output, OWNERS, put).await
            }
            Self::Remove { name, how } => {
                how.change(&fleet, output, OWNERS, Change::delete(path(OWNERS, &name)?)).await
            }
        }
    }
}

impl Defaults {
    pub(crate) async fn run(self, home: &Path, output: &Output) -> Result<Exit, Error> {
        let fleet = open(home)?;
        match self {
            Self::Show => shown(&fleet, output, DEFAULTS, "defaults").await,
            Self::Set { values, how } => {
                how.change(&fleet, output, DEFAULTS, patch(DEFAULTS.into(), &values)?).await
            }
        }
    }
}

impl Config {
    pub(crate) async fn run(self, home: &Path, output: &Output) -> Result<Exit, Error> {
        let fleet = open(home)?;
        let of = async |machine: &str| {
            let mac = found(&fleet, machine).await?;
            Ok::<_, Error>(format!("/v1/machines/{mac}/config"))
        };
        match self {
            Self::Show { machine } => {
                let effective: Value = fleet.get(&of(&machine).await?).await?;
                output.give(&effective);
                show::effective(&machine, &effective).into_iter().for_each(|line| output.say(line));
                Ok(Exit::Ok)
            }
            Self::Set { machine, values, how } => {
                let path = of(&machine).await?;
                how.change(&fleet, output, &path, patch(path.clone(), &values)?).await
            }
            Self::Remove { machine, how } => {
                let path = of(&machine).await?;
                how.change(&fleet, output, &path, Change::delete(path.clone())).await
            }
        }
    }
}
