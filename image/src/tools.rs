//! Programs of distribution packages, run from where they are unpacked.
//!
//! Each is started by the loader of its own tree with the libraries there: nothing is installed,
//! and neither the host's libraries nor their age matter.

use crate::{
    error::{At, Error},
    packages::Packages,
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

/// Of a package's tree: where a library is, and the loader.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// Programs and every library that they need, in one tree.
#[derive(Clone, Debug)]
pub struct Tools {
    tree: PathBuf,
}

impl Tools {
    /// Fetches and unpacks packages with their libraries.
    ///
    /// # Errors
    /// As [`Packages::with_libraries`], and where there is no loader among them.
    pub fn fetch<S: AsRef<str>>(packages: &Packages, names: &[S]) -> Result<Self, Error> {
        let tools = Self { tree: packages.with_libraries(names)? };
        tools.has(LOADER)?;
        Ok(tools)
    }

    /// The folder of their files, as they would lie below `/`; named by all its packages' digests.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// The path of a file that has to be there: `usr/bin/mkfs.erofs`.
    ///
    /// # Errors
    /// Where it is not.
    pub fn has(&self, file: &str) -> Result<PathBuf, Error> {
        let path = self.tree.join(file);
        if !path.exists() {
            return Err(Error::bad_file(path, "the packages do not hold it"));
        }
        Ok(path)
    }

    /// The loader, which is what is executed.
    pub fn loader(&self) -> PathBuf {
        self.tree.join(LOADER)
    }

    /// What the loader is told, to run a program of the tree: before the program's own arguments.
    pub fn arguments(&self, program: &str) -> [OsString; 4] {
        [
            // Of the host's libraries none.
            "--inhibit-cache".into(),
            "--library-path".into(),
            self.tree.join(LIBRARIES).into(),
            self.tree.join(program).into(),
        ]
    }

    /// A program of the tree: `usr/bin/mkfs.erofs`.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.loader());
        command.args(self.arguments(program)).env("LC_ALL", "C");
        command
    }

    /// Runs a program to its end; gives what it wrote.
    ///
    /// # Errors
    /// What it said, where it failed.
    pub fn run<S: AsRef<std::ffi::OsStr>>(
        &self,
        tool: &'static str,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, Error> {
        let output = self.command(program).args(arguments).output().at(tool)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let detail = match text(&output.stderr) {
            said if said.is_empty() => output.status.to_string(),
            said => said,
        };
        Err(Error::Tool { tool, detail })
    }
}
