//! The display: one calm screen, redrawn when something on it changes. Logs stay on the serial line.
//!
//! [`draw`] is pure: what is known of the machine in, lines of text out, a QR code of half-block
//! characters among them. A thread of its own shows them, so that PID 1 never waits for a display:
//! on a virtual terminal that no kernel message comes to, or, where the kernel has no terminals, as
//! pixels ([`pixels`]).

pub mod pixels;

use crate::kernel::{Kernel, Pixels};
use protocol::boot::StageState;
use qrcodegen::{QrCode, QrCodeEcc};
use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

/// What the screen shows. Texts may come from anybody: what is no printable character is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The machine's name, once it was taken in.
    pub name: Option<String>,
    /// Its card and address.
    pub address: Option<String>,
    /// The image that it booted.
    pub release: Option<String>,
    /// The node's key as PID 1 itself has it: what whoever approves one compares.
    pub key: Option<String>,
    /// What it did last, and what came of it.
    pub stage: Option<String>,
    /// How it is.
    pub health: Health,
    /// What went wrong last: the stage, and why.
    pub problem: Option<(String, String)>,
    /// The machine's page at its provisioner.
    pub page: Option<String>,
}

/// How a machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Not all of its boot stages are done.
    #[default]
    Booting,
    /// Its compute service was started.
    Working,
    /// Too many boots failed: it stays as it is.
    Rescue,
    /// Somebody asked it to end.
    Ending,
}

impl Status {
    /// Takes in what was told of a stage.
    pub fn saw(&mut self, stage: &str, state: StageState, detail: &str) {
        let word = match state {
            StageState::Started => "begins",
            StageState::Done => "done",
            StageState::Retrying => "is tried again",
            StageState::Failed => "failed",
        };
        let told = matches!(state, StageState::Retrying | StageState::Failed);
        if told {
            self.problem = Some((stage.to_owned(), detail.to_owned()));
        } else if state == StageState::Done
            && self.problem.as_ref().is_some_and(|(whose, _)| whose == stage)
        {
            self.problem = None;
        }
        match (stage, state) {
            ("network" | "lease", StageState::Done) => self.address = Some(detail.to_owned()),
            ("compute", StageState::Done) if self.health == Health::Booting => {
                self.health = Health::Working;
            }
            ("rescue", StageState::Failed) => self.health = Health::Rescue,
            ("power", StageState::Started) => self.health = Health::Ending,
            _ => {}
        }
        self.stage = Some(format!("{stage} {word}"));
    }

    fn health(&self) -> &'static str {
        match (self.health, &self.problem) {
            (Health::Booting, None) => "booting",
            (Health::Booting, Some(_)) => "booting, with a problem",
            (Health::Working, None) => "working",
            (Health::Working, Some(_)) => "working, with a problem",
            (Health::Rescue, _) => "RESCUE: it does no work",
            (Health::Ending, _) => "ending",
        }
    }
}

/// What a text ends with that is cut: in letters that every font has.
const CUT: &str = "...";
/// Light modules around the code: scanners look for them.
const QUIET: i32 = 3;
/// Fewer columns than this beside the code, and it is left out: the address alone is shown.
const LEAST_TEXT: usize = 34;
/// The widest column of text: long lines are hard to read.
const MOST_TEXT: usize = 78;

/// The screen as `height` lines of at most `width` characters. Pure.
pub fn draw(status: &Status, width: usize, height: usize) -> Vec<String> {
    let code = status.page.as_deref().map(plain).and_then(|page| code(&page)).unwrap_or_default();
    let code_width = code.first().map_or(0, |line| line.chars().count());
    // Two columns at the left edge, two between text and code, two at the right.
    let beside = width.saturating_sub(code_width + 6);
    let fits = code_width > 0 && beside >= LEAST_TEXT && code.len() + 2 <= height;
    let column = if fits { beside } else { width.saturating_sub(4) }.min(MOST_TEXT);
    let mut lines = vec![String::new(); height];
    for (line, text) in lines.iter_mut().skip(1).zip(text(status, column, fits)) {
        let _ = write!(line, "  {text}");
    }
    if fits {
        let from = width - code_width - 2;
        for (line, row) in lines.iter_mut().skip(1).zip(&code) {
            let pad = from.saturating_sub(line.chars().count());
            let _ = write!(line, "{}{row}", " ".repeat(pad));
        }
    }
    lines.into_iter().map(|line| line.chars().take(width).collect()).collect()
}

fn text(status: &Status, width: usize, code: bool) -> Vec<String> {
    let mut lines = vec!["aliaOS".to_owned(), String::new()];
    let unknown = || "-".to_owned();
    let facts = [
        ("Name", status.name.clone().unwrap_or_else(unknown)),
        ("Address", status.address.clone().unwrap_or_else(unknown)),
        ("Release", status.release.clone().unwrap_or_else(unknown)),
        ("Key", status.key.clone().unwrap_or_else(unknown)),
        ("Stage", status.stage.clone().unwrap_or_else(unknown)),
        ("Health", status.health().to_owned()),
    ];
    for (name, value) in facts {
        for (at, part) in wrapped(&plain(&value), width.saturating_sub(9), 3).iter().enumerate() {
            lines.push(format!("{:<9}{part}", if at == 0 { name } else { "" }));
        }
    }
    lines.push(String::new());
    match &status.problem {
        Some((stage, why)) => {
            lines.push(format!("Last problem: {}", plain(stage)));
            let parts = wrapped(&plain(why), width.saturating_sub(2), 8);
            lines.extend(parts.iter().map(|part| format!("  {part}")));
        }
        None => lines.push("No problem.".to_owned()),
    }
    if let Some(page) = &status.page {
        let how = if code { "by the code, or at" } else { "at" };
        lines.push(String::new());
        lines.extend(wrapped(&format!("To approve it or look after it, {how}"), width, 3));
        lines.extend(wrapped(&plain(page), width, 3));
    }
    lines
}

/// Printable characters alone: no text of a stranger moves the cursor.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A text in lines of at most `width` characters, between words where it can; what does not fit
/// `most` lines ends in an ellipsis.
fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let last = lines.len() - 1;
            let used = lines[last].chars().count();
            let space = usize::from(used > 0);
            if used + space + word.len() <= width {
                if space > 0 {
                    lines[last].push(' ');
                }
                lines[last].extend(&word);
                break;
            }
            if used > 0 {
                lines.push(String::new());
                continue;
            }
            lines[last].extend(word.drain(..width));
            lines.push(String::new());
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            while last.chars().count() + CUT.len() > width && last.pop().is_some() {}
            last.push_str(CUT);
        }
    }
    lines
}

/// A QR code in half-block characters, two rows of modules a line; light modules are ink, as the
/// screen is dark.
fn code(text: &str) -> Option<Vec<String>> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let all = -QUIET..code.size() + QUIET;
    let light = |x: i32, y: i32| !code.get_module(x, y);
    let line = |y: i32| {
        let module = |x| match (light(x, y), y + 1 < all.end && light(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        };
        all.clone().map(module).collect()
    };
    Some(all.clone().step_by(2).map(line).collect())
}

/// What is written to a text console to show these lines: each at its place, so that nothing
/// flickers and nothing scrolls.
fn written(lines: &[String], first: bool) -> String {
    // Our terminal to the front (console_codes(4): ESC [ 12 ; n ]), no blanking, no cursor, bold
    // white on black.
    let mut text = String::from("\x1b[12;2]\x1b[9;0]\x1b[?25l\x1b[0;1;37;40m");
    if first {
        text.push_str("\x1b[2J");
    }
    for (at, line) in lines.iter().enumerate() {
        let _ = write!(text, "\x1b[{};1H{line}\x1b[K", at + 1);
    }
    text
}

/// The display, and what it shows.
#[derive(Clone)]
pub struct Screen {
    shared: Arc<(Mutex<Shown>, Condvar)>,
}

#[derive(Default)]
struct Shown {
    status: Status,
    /// Not drawn yet.
    changed: bool,
}

impl Screen {
    /// Starts the thread that draws. Where there is no display, nothing is shown.
    pub fn start(kernel: Arc<dyn Kernel>) -> Self {
        let screen = Self { shared: Arc::default() };
        let shared = screen.shared.clone();
        let _ = thread::Builder::new()
            .name("screen".to_owned())
            .stack_size(128 << 10)
            .spawn(move || show(kernel.as_ref(), &shared));
        screen
    }

    /// Changes what is shown.
    pub fn know(&self, change: impl FnOnce(&mut Status)) {
        let mut shown = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shown.status.clone();
        change(&mut shown.status);
        if shown.status != before {
            shown.changed = true;
            self.shared.1.notify_one();
        }
    }
}

/// Draws for as long as the machine runs. The newest counts: what came while a slow display was
/// written to is drawn at once.
fn show(kernel: &dyn Kernel, shared: &(Mutex<Shown>, Condvar)) {
    let mut size = None;
    let mut graphic: Option<Box<dyn Pixels>> = None;
    loop {
        let status = {
            let mut shown = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            while !shown.changed {
                shown = shared.1.wait(shown).unwrap_or_else(PoisonError::into_inner);
            }
            shown.changed = false;
            shown.status.clone()
        };
        // Opened each time: a display's driver may come, and change its size, at any time.
        if let Ok(screen) = kernel.text_screen() {
            let lines = draw(&status, screen.columns.into(), screen.rows.into());
            let now = Some((screen.columns, screen.rows));
            let text = written(&lines, size != now);
            size = now;
            let _ = File::from(screen.device).write_all(text.as_bytes());
            continue;
        }
        graphic = graphic.or_else(|| kernel.pixel_screen().ok());
        if let Some(display) = &mut graphic {
            let (width, height) = display.size();
            let (columns, rows) = (width / pixels::CELL.0, height / pixels::CELL.1);
            let lines = draw(&status, columns as usize, rows as usize);
            if display.show(&pixels::paint(&lines, width, height)).is_err() {
                // Another driver may have taken its place.
                graphic = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn working() -> Status {
        let mut status = Status {
            name: Some("bear".into()),
            release: Some("0.1.0 · cdcdcdcd".into()),
            page: Some("http://10.77.0.1:8080/machines/52:54:00:a1:1a:01".into()),
            ..Status::default()
        };
        status.saw("network", StageState::Done, "eth0 10.77.0.100/24 by DHCP from 10.77.0.1");
        status.saw("compute", StageState::Done, "process 101 as user 900");
        status
    }

    #[test]
    fn a_working_machine_on_a_text_display() {
        let lines = draw(&working(), 80, 25);
        let text: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        // The texts are held here; the code is held by reading it.
        let left: Vec<String> = text
            .iter()
            .map(|line| line.chars().take(43).collect::<String>().trim_end().to_owned())
            .collect();
        assert_eq!(
            left.join("\n").trim_end(),
            "
  aliaOS

  Name     bear
  Address  eth0 10.77.0.100/24 by DHCP
           from 10.77.0.1
  Release  0.1.0 · cdcdcdcd
  Key      -
  Stage    compute done
  Health   working

  No problem.

  To approve it or look after it, by the
  code, or at
  http://10.77.0.1:8080/machines/52:54:00
  :a1:1a:01"
        );
        assert_eq!((lines.len(), lines.iter().map(|l| l.chars().count()).max()), (25, Some(78)));
    }

    #[test]
    fn a_problem_is_shown_until_its_stage_gets_past_it() {
        let mut status = working();
        status.saw("service", StageState::Retrying, "process 101 was killed by signal 9");
        let shown = draw(&status, 80, 25).join("\n");
        assert!(shown.contains("working, with a problem"), "{shown}");
        assert!(shown.contains("Last problem: service"), "{shown}");
        status.saw("lease", StageState::Done, "eth0 10.77.0.101/24");
        assert!(status.problem.is_some());
        // A cable that was pulled and put back gives no address.
        status.saw("link", StageState::Done, "eth0 has its link again after 8 s");
        assert_eq!(status.address.as_deref(), Some("eth0 10.77.0.101/24"));
        status.saw("service", StageState::Done, "process 102, after 1 failure");
        assert_eq!(status.problem, None);
    }

    #[test]
    fn the_key_is_there_whole_to_be_compared() {
        let key = "0123456789abcdef".repeat(4);
        let shown = draw(&Status { key: Some(key.clone()), ..working() }, 80, 25);
        let left: String =
            shown.iter().map(|line| line.chars().take(43).collect::<String>()).collect();
        let digits: String = left.split_whitespace().collect();
        assert!(digits.contains(&format!("Key{key}")), "{left}");
    }

    #[test]
    fn a_rescue_is_not_called_anything_else() {
        let mut status = Status::default();
        status.saw("rescue", StageState::Failed, "3 boots in a row did not come to stand");
        status.saw("compute", StageState::Done, "");
        assert!(draw(&status, 80, 25).join("\n").contains("RESCUE"));
    }

    #[test]
    fn a_code_that_does_not_fit_is_left_out_and_its_address_stays() {
        let shown = draw(&working(), 60, 25).join("\n");
        assert!(!shown.contains('█') && shown.contains("52:54:00:a1:1a:01"), "{shown}");
        assert!(draw(&working(), 80, 25).join("\n").contains('█'));
    }

    #[test]
    fn what_is_written_to_the_terminal_moves_nothing_that_a_stranger_chose() {
        let mut status = working();
        status.saw("enrolment", StageState::Retrying, "evil \x1b[2J\u{9b}31m text\n\x07");
        status.name = Some("\x1b]0;x".into());
        let lines = draw(&status, 80, 25);
        assert!(lines.iter().all(|line| !line.chars().any(char::is_control)), "{lines:?}");
        let text = written(&lines, true);
        assert!(!text.contains('\n') && text.starts_with("\x1b[12;2]"));
    }

    proptest! {
        #[test]
        fn any_status_fits_any_display(
            name in ".{0,80}", address in ".{0,200}", stage in ".{0,40}", why in ".{0,400}",
            page in "http://[a-z0-9.:/]{0,120}", width in 0usize..300, height in 0usize..100,
        ) {
            let mut status = Status { name: Some(name), page: Some(page), ..Status::default() };
            status.saw("network", StageState::Done, &address);
            status.saw(&stage, StageState::Failed, &why);
            let lines = draw(&status, width, height);
            prop_assert_eq!(lines.len(), height);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
        }

        #[test]
        fn no_word_is_lost_that_fits(text in "[a-z ]{0,200}", width in 1usize..60) {
            let lines = wrapped(&text, width, 1_000);
            let squeezed = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(squeezed(&lines.concat()), squeezed(&text));
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
        }
    }
}
