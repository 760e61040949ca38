//! Boot scripts, as far as ours go: what iPXE would load, in which order, if nothing failed.
//!
//! A script is walked line by line (<https://ipxe.org/scripting>): settings, labels, `goto`, `&&`
//! and `||`. What is fetched and started is listed; what asks the processor, the display or a
//! person is answered as on a plain UEFI machine of Intel's. The walk ends at `boot`, at `chain`, or
//! where the script ends.

use std::collections::BTreeMap;

/// The longest script that is read, in bytes.
pub const MAX_LEN: usize = 64 << 10;
/// Lines walked before it counts as a loop.
const MAX_STEPS: usize = 2_000;

/// What a script comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on with another script.
    Chain(String),
    /// It starts a kernel.
    Boot(Boot),
}

/// What is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's URL.
    pub kernel: String,
    /// Its command line.
    pub arguments: Vec<String>,
    /// Archives before it, by URL, in their order.
    pub initrds: Vec<String>,
}

impl Boot {
    /// The value of `NAME=VALUE` on the command line.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Why a script leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// No `#!ipxe`.
    #[error("it is no iPXE script: {0:?}")]
    NotAScript(String),
    /// It is longer than any of ours.
    #[error("it is longer than {MAX_LEN} bytes")]
    TooLong,
    /// A `goto` without its label.
    #[error("it has no label {0:?}")]
    NoLabel(String),
    /// It never ends.
    #[error("it goes round in circles")]
    Endless,
    /// It ends and has started nothing: what it says.
    #[error("it starts nothing; it says: {0}")]
    Nothing(String),
    /// A line that nobody here knows.
    #[error("it has a line that is not understood: {0:?}")]
    Unknown(String),
}

/// Walks a script. `settings` are iPXE's own, `netX/mac:hexhyp` among them.
///
/// # Errors
/// [`ScriptError`].
pub fn walk(text: &str, settings: &BTreeMap<&str, String>) -> Result<Outcome, ScriptError> {
    if text.len() > MAX_LEN {
        return Err(ScriptError::TooLong);
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    if lines.first() != Some(&"#!ipxe") {
        return Err(ScriptError::NotAScript(text.chars().take(60).collect()));
    }
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let mut walk = Walk { settings: settings.collect(), boot: Boot::default(), said: vec![] };
    let mut at = 1;
    for _ in 0..MAX_STEPS {
        let Some(line) = lines.get(at) else {
            return Err(ScriptError::Nothing(walk.said.join("; ")));
        };
        at += 1;
        match walk.line(line)? {
            Next::Line => {}
            Next::Goto(label) => {
                let found = lines.iter().position(|line| line.strip_prefix(':') == Some(&label));
                at = found.ok_or(ScriptError::NoLabel(label))?;
            }
            Next::End(outcome) => return Ok(outcome),
            Next::Exit => return Err(ScriptError::Nothing(walk.said.join("; "))),
        }
    }
    Err(ScriptError::Endless)
}

enum Next {
    Line,
    Goto(String),
    End(Outcome),
    Exit,
}

/// What became of one command.
enum Did {
    Well(bool),
    Leaves(Next),
}

struct Walk {
    settings: BTreeMap<String, String>,
    boot: Boot,
    said: Vec<String>,
}

impl Walk {
    /// Commands with `&&` and `||` between, each bound to what came before it.
    fn line(&mut self, line: &str) -> Result<Next, ScriptError> {
        if line.is_empty() || line.starts_with([':', '#']) {
            return Ok(Next::Line);
        }
        let words: Vec<String> = line.split_whitespace().map(|word| self.expand(word)).collect();
        let (mut well, mut runs, mut command) = (true, true, Vec::new());
        for word in words.iter().map(String::as_str).chain(["\n"]) {
            if !matches!(word, "&&" | "||" | "\n") {
                command.push(word);
                continue;
            }
            if runs && !command.is_empty() {
                match self.command(&command)? {
                    Did::Well(this) => well = this,
                    Did::Leaves(next) => return Ok(next),
                }
            }
            command.clear();
            runs = (word == "&&") == well;
        }
        // A line that fails ends a script; all of ours have a `||` where that may be.
        Ok(Next::Line)
    }

    fn command(&mut self, words: &[&str]) -> Result<Did, ScriptError> {
        let rest = &words[1..];
        let flagless: Vec<&str> = without_flags(rest);
        let done = Did::Well(true);
        Ok(match words[0] {
            "set" => {
                // `set name:type value…`
                let name = rest.first().copied().unwrap_or_default();
                let name = name.split(':').next().unwrap_or_default().to_owned();
                self.settings.insert(name, rest.get(1..).unwrap_or_default().join(" "));
                done
            }
            "isset" => Did::Well(rest.first().is_some_and(|value| !value.is_empty())),
            "iseq" => Did::Well(rest.first() == rest.get(1)),
            "inc" => {
                let name = rest.first().copied().unwrap_or_default();
                let value = self.settings.get(name).and_then(|value| value.parse::<i64>().ok());
                self.settings.insert(name.to_owned(), (value.unwrap_or(0) + 1).to_string());
                done
            }
            // Long mode, no hypervisor, not AMD's: Intel's microcode is fetched too.
            "cpuid" => Did::Well(rest == ["--ext", "29"]),
            // No mode is set.
            "console" => Did::Well(rest.is_empty()),
            "echo" => {
                if self.said.len() < 20 {
                    self.said.push(rest.join(" "));
                }
                done
            }
            "imgfree" | "sleep" | "ifopen" | "ifstat" | "ntp" => done,
            "dhcp" => done,
            "kernel" | "imgselect" => {
                let (kernel, arguments) = flagless.split_first().unwrap_or((&"", &[]));
                self.boot.kernel = (*kernel).to_owned();
                let arguments = arguments.iter().filter(|word| !word.is_empty());
                self.boot.arguments = arguments.map(|word| (*word).to_owned()).collect();
                done
            }
            "initrd" | "module" | "imgfetch" => {
                self.boot.initrds.extend(flagless.first().map(|url| (*url).to_owned()));
                done
            }
            "chain" => {
                let url = flagless.first().copied().unwrap_or_default().to_owned();
                Did::Leaves(Next::End(Outcome::Chain(url)))
            }
            "boot" => Did::Leaves(Next::End(Outcome::Boot(std::mem::take(&mut self.boot)))),
            "goto" => Did::Leaves(Next::Goto(rest.first().copied().unwrap_or_default().to_owned())),
            "exit" | "reboot" | "poweroff" | "shell" => Did::Leaves(Next::Exit),
            _ => return Err(ScriptError::Unknown(words.join(" ").chars().take(100).collect())),
        })
    }

    /// Puts settings' values in: `${name}`; what is not set is empty.
    fn expand(&self, word: &str) -> String {
        let (mut text, mut rest) = (String::new(), word);
        while let Some((before, after)) = rest.split_once("${") {
            text.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                rest = after;
                break;
            };
            let plain = || name.split(':').next().unwrap_or_default();
            let value = self.settings.get(name).or_else(|| self.settings.get(plain()));
            text.push_str(value.map_or("", String::as_str));
            rest = after;
        }
        text + rest
    }
}

/// Words without options; `--name` has a value behind it.
fn without_flags<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let (mut kept, mut skip) = (Vec::new(), false);
    for word in words {
        match (*word, skip) {
            ("--name" | "-n" | "--timeout", _) => skip = true,
            (_, true) => skip = false,
            (word, _) if word.starts_with("--") && kept.is_empty() => {}
            (word, _) => kept.push(word),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use provisioner::{groups::Settings, image::Image, script};

    fn settings() -> BTreeMap<&'static str, String> {
        [
            ("netX/mac:hexhyp", "02-f1-ee-00-00-01"),
            ("uuid", "u"),
            ("serial:uristring", "s%20"),
            ("buildarch", "x86_64"),
            ("platform", "efi"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into()
    }

    fn setup() -> script::Setup {
        let folder = tempfile::tempdir().unwrap();
        crate::sample::image(folder.path(), &crate::sample::Sizes::SMALL).unwrap();
        script::Setup {
            base_url: "http://10.0.0.1:8080".into(),
            base_url6: None,
            image: Some(Image::open(folder.path()).unwrap()),
            key: None,
            chain: Some("alia-test".parse().unwrap()),
            consoles: vec!["ttyS0".into()],
            arguments: vec![],
            flavours: BTreeMap::new(),
        }
    }

    #[test]
    fn the_provisioners_first_script_leads_to_the_machines_own() {
        let outcome = walk(&script::entry("http://10.0.0.1:8080"), &settings());
        let wanted = "http://10.0.0.1:8080/boot/02-f1-ee-00-00-01.ipxe?uuid=u&serial=s%20&arch=x86_64&platform=efi";
        assert_eq!(outcome, Ok(Outcome::Chain(wanted.into())));
    }

    #[test]
    fn the_provisioners_own_script_loads_kernel_microcode_and_initramfs() {
        let setup = setup();
        let mac = "02-f1-ee-00-00-01".parse().unwrap();
        for attempt in [1, 9] {
            let text = script::machine(&setup, &setup.base_url, mac, &Settings::default(), attempt);
            let Ok(Outcome::Boot(boot)) = walk(&text, &settings()) else { panic!("{text}") };
            let base =
                format!("http://10.0.0.1:8080/image/{}", setup.image.as_ref().unwrap().digest);
            let url = |file: &str| format!("{base}/{file}?mac=02-f1-ee-00-00-01");
            assert_eq!(boot.kernel, url("vmlinuz"));
            assert_eq!(boot.initrds, [url("microcode-intel.cpio"), url("initramfs.zst")]);
            assert_eq!(boot.argument("alia.chain"), Some("alia-test"));
            assert_eq!(boot.argument("alia.provisioner"), Some("http://10.0.0.1:8080"));
            assert_eq!(boot.arguments[0], "initrd=microcode-intel.cpio");
        }
    }

    #[test]
    fn without_an_image_the_script_is_asked_for_anew() {
        let setup = script::Setup { image: None, ..setup() };
        let text = script::machine(
            &setup,
            &setup.base_url,
            "02-f1-ee-00-00-01".parse().unwrap(),
            &Settings::default(),
            1,
        );
        let wanted = Outcome::Chain("http://10.0.0.1:8080/boot.ipxe".into());
        assert_eq!(walk(&text, &settings()), Ok(wanted));
    }

    #[test]
    fn what_starts_nothing_says_what_the_screen_would() {
        let text = script::unsupported("arm64");
        let error = walk(&text, &settings()).unwrap_err().to_string();
        assert!(error.contains("iPXE is for arm64"), "{error}");
        assert!(matches!(walk("<html>", &settings()), Err(ScriptError::NotAScript(_))));
        let endless = walk("#!ipxe\n:a\ngoto a", &settings());
        assert_eq!(endless, Err(ScriptError::Endless));
        assert_eq!(walk("#!ipxe\ngoto b", &settings()), Err(ScriptError::NoLabel("b".into())));
        let unknown = walk("#!ipxe\nfrobnicate", &settings());
        assert_eq!(unknown, Err(ScriptError::Unknown("frobnicate".into())));
    }

    #[test]
    fn and_goes_on_after_success_and_or_after_failure() {
        let says = |line: &str| {
            let text = format!("#!ipxe\n{line}\nexit");
            match walk(&text, &settings()) {
                Err(ScriptError::Nothing(said)) => said,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(says("iseq a a && echo yes || echo no"), "yes");
        assert_eq!(says("iseq a b && echo yes || echo no"), "no");
        assert_eq!(says("set x 1\ninc x\nisset ${x} && echo ${x}"), "2");
        assert_eq!(says("isset ${y} || echo none"), "none");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(#!ipxe\n)?([a-z:$&|{} /\n-]{0,200})") {
            let _ = walk(&text, &settings());
        }
    }
}
