//! A peer in a Python process of its own: told by lines what to do, answering with seconds.

use anyhow::{Context, bail};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// The process; it ends with this value.
pub(super) struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it calls itself, version included.
    pub(super) name: String,
}

impl Peer {
    /// Starts a script, whose first line of output is its name.
    pub(super) fn start(python: &Path, script: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", script])
            // The library shall choose by itself what suits this processor.
            .env_remove("OPENBLAS_CORETYPE")
            .env_remove("OPENBLAS_L2_SIZE")
            .envs([("OPENBLAS_NUM_THREADS", "1"), ("OMP_NUM_THREADS", "1")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("running {}", python.display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the peer has no pipes");
        };
        let mut peer = Self { child, input, output: BufReader::new(output), name: String::new() };
        peer.name = peer.read()?;
        Ok(peer)
    }

    fn read(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the peer ended: {}", self.child.wait()?);
        }
        Ok(line.trim().to_string())
    }

    /// Gives it something to do; the seconds that it took.
    pub(super) fn seconds(&mut self, what: &str) -> anyhow::Result<f64> {
        writeln!(self.input, "{what}")?;
        self.input.flush()?;
        let line = self.read()?;
        line.parse().with_context(|| format!("the peer said {line:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
