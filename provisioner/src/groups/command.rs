//! `provisioner config`: the configuration by a command on the database.

use super::{
    Document, Everything, change,
    reader::{self, Mistakes},
    text::{self, Format, WriteError},
};
use crate::{
    page::moment,
    store::{Draft, Drafted, Store, StoreError},
};
use clap::Subcommand;
use protocol::configuration::Change;
use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

/// The actor of what is done here.
const HERE: &str = "on the provisioner's host";

/// What is asked.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Write everything to standard output, as one file
    Export {
        /// For people, or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Check a file, show what it changes, and take it with --yes
    Import {
        /// What `export` wrote, as TOML or JSON, changed at will
        file: PathBuf,
        /// Take it
        #[arg(long)]
        yes: bool,
        /// Why, for the history
        #[arg(long, value_name = "TEXT", default_value = "everything was imported")]
        why: String,
    },
    /// Show who changed what when, and why
    History,
    /// Show what differs between two revisions
    Diff {
        /// The older one
        from: u64,
        /// The newer one [default: the newest]
        to: Option<u64>,
    },
    /// Make an old revision's document a new revision, with --yes
    Rollback {
        /// The old one
        to: u64,
        /// Take it
        #[arg(long)]
        yes: bool,
    },
}

/// It was not done.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// What it says cannot be.
    #[error("{path}: {mistakes}")]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them.
        mistakes: Mistakes,
    },
    /// An old document does not hold any more.
    #[error("revision {revision}: {mistakes}")]
    Old {
        /// The revision.
        revision: u64,
        /// Why.
        mistakes: Mistakes,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// No such revision.
    #[error(
        "revision {0} is not kept, or never was: `provisioner config history` has those that are"
    )]
    Unknown(u64),
    /// Somebody else was first.
    #[error("it was changed meanwhile, and is at revision {0}: look at the difference again")]
    Stale(u64),
}

impl Command {
    /// Does it; gives what is shown.
    ///
    /// # Errors
    /// [`CommandError`]: nothing was done, then.
    pub fn run(&self, store: &Store, now: u64) -> Result<String, CommandError> {
        match self {
            Self::Export { format } => {
                let (_, document, placed) = store.configuration_whole()?;
                Ok(text::write(&Everything { document, placed }, *format)?)
            }
            Self::Import { file, yes, why } => import(store, file, *yes, why, now),
            Self::History => history(store),
            Self::Diff { from, to } => {
                let before = at(store, *from)?;
                let after = match to {
                    Some(to) => at(store, *to)?,
                    None => store.configuration()?.1,
                };
                Ok(shown(&change::between(&change::json(&before), &change::json(&after))))
            }
            Self::Rollback { to, yes } => {
                let old = change::json(&at(store, *to)?);
                let (revision, before) = store.configuration()?;
                let document = reader::document(&old, &store.site()?)
                    .map_err(|mistakes| CommandError::Old { revision: *to, mistakes })?;
                let changes = change::between(&change::json(&before), &change::json(&document));
                let why = format!("rolled back to revision {to}");
                let draft = Draft { actor: HERE.into(), why, document, placed: None };
                take(store, revision, &draft, &changes, *yes, now)
            }
        }
    }
}

fn at(store: &Store, revision: u64) -> Result<Document, CommandError> {
    store.configuration_at(revision)?.ok_or(CommandError::Unknown(revision))
}

fn import(
    store: &Store,
    path: &Path,
    yes: bool,
    why: &str,
    now: u64,
) -> Result<String, CommandError> {
    let wrong = |mistakes| CommandError::Mistakes { path: path.into(), mistakes };
    let written = fs::read_to_string(path)
        .map_err(|source| CommandError::File { path: path.into(), source })?;
    let json = text::parse(&written, Format::of(&written))
        .map_err(|mistake| wrong(Mistakes::from(mistake)))?;
    let after = reader::everything(&json, &store.site()?).map_err(wrong)?;
    let (mark, document, placed) = store.configuration_whole()?;
    let changes = change::of_import(&Everything { document, placed }, &after);
    let Everything { document, placed } = after;
    let draft = Draft { actor: HERE.into(), why: why.into(), document, placed: Some(placed) };
    take(store, mark.revision, &draft, &changes, yes, now)
}

fn take(
    store: &Store,
    revision: u64,
    draft: &Draft,
    changes: &[Change<super::Json>],
    yes: bool,
    now: u64,
) -> Result<String, CommandError> {
    let text = shown(changes);
    if changes.is_empty() || !yes {
        let end = if changes.is_empty() { "" } else { "nothing was taken yet: --yes does it\n" };
        return Ok(text + end);
    }
    match store.take_configuration(revision, draft, now)? {
        Drafted::Taken(revision) => Ok(format!("{text}taken as revision {revision}\n")),
        Drafted::Stale(current) => Err(CommandError::Stale(current)),
    }
}

fn shown(changes: &[Change<super::Json>]) -> String {
    if changes.is_empty() {
        return "nothing differs\n".into();
    }
    changes.iter().map(|change| format!("{change}\n")).collect()
}

fn history(store: &Store) -> Result<String, CommandError> {
    let history = store.configuration_history(None, u32::MAX)?;
    let mut text = String::new();
    for each in &history.revisions {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:>6}  {}  {:<24} {}",
            each.revision,
            moment(each.at),
            each.actor,
            each.why
        );
    }
    match history.dropped {
        0 => {}
        1 => text.push_str("        revision 1 was dropped\n"),
        last => {
            let _ = writeln!(text, "        revisions 1 to {last} were dropped");
        }
    }
    if history.revisions.is_empty() {
        text.push_str("nothing was ever configured here\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temporary;

    #[test]
    fn a_file_is_looked_at_before_it_is_taken_and_an_export_of_it_changes_nothing() {
        let (folder, store) = temporary();
        let path = folder.path().join("fleet.toml");
        let import = |yes| {
            let why = "new racks".to_string();
            Command::Import { file: path.clone(), yes, why }.run(&store, 1_000)
        };
        fs::write(&path, "[group.a]\nwindow = 2\n[machine.'52:54:00:AA:00:01']\ngroups = ['a']")
            .unwrap();
        let told = import(false).unwrap();
        assert!(
            told.contains("+ group.a.window = 2\n") && told.ends_with("--yes does it\n"),
            "{told}"
        );
        assert_eq!(Command::History.run(&store, 0).unwrap(), "nothing was ever configured here\n");
        assert!(import(true).unwrap().ends_with("taken as revision 1\n"));
        for format in [Format::Toml, Format::Json] {
            fs::write(&path, Command::Export { format }.run(&store, 0).unwrap()).unwrap();
            assert_eq!(import(true).unwrap(), "nothing differs\n");
        }
        fs::write(&path, "[group.a]\nwindow = 0\nrat = 1").unwrap();
        let wrong = import(true).unwrap_err().to_string();
        assert!(wrong.contains("2 mistakes") && wrong.contains("\"rate\""), "{wrong}");
        fs::write(&path, "[group.a]\nwindow = 3").unwrap();
        import(true).unwrap();
        let told = Command::Diff { from: 1, to: None }.run(&store, 0).unwrap();
        assert!(told.contains("~ group.a.window: 2 -> 3\n"), "{told}");
        let back = Command::Rollback { to: 1, yes: true }.run(&store, 0).unwrap();
        assert!(back.ends_with("taken as revision 3\n"), "{back}");
        assert_eq!(
            Command::Diff { from: 1, to: Some(3) }.run(&store, 0).unwrap(),
            "nothing differs\n"
        );
        let told = Command::History.run(&store, 0).unwrap();
        let line = told.lines().last().unwrap();
        assert!(line.contains("     1  ") && line.ends_with("new racks"), "{told}");
        assert!(matches!(
            Command::Diff { from: 9, to: None }.run(&store, 0),
            Err(CommandError::Unknown(9))
        ));
    }
}
