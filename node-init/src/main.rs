//! PID 1. Whatever happens, the machine works, says what is wrong, or restarts.

use anyhow::Context;
use node_init::{
    capabilities,
    console::Console,
    hurry,
    kernel::{End, Kernel, Linux},
    machine::Machine,
    net::linux::Rtnetlink,
    outbox::Outbox,
    power,
    report::{Report, Reporter},
    screen::Screen,
    stages::{cards, command_line, hardening, mounts},
    sysctl,
};
use protocol::{Digest, boot::StageState};
use std::{io, panic, process::ExitCode, rc::Rc, sync::Arc, thread, time::Duration};
use tokio::sync::mpsc;

/// The time a person has to read why the machine restarts.
const READING_TIME: Duration = Duration::from_secs(30);
/// How long a slow console may take for the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("node-init is PID 1 of a machine that booted aliaOS; it does nothing elsewhere");
        return ExitCode::FAILURE;
    }
    let begun = Linux.since_start();
    // Some settings want a capability that is let go next; the stage finds them as they are.
    for mount in &mounts::MOUNTS[..2] {
        let _ = Linux.mount(mount);
    }
    let _ = hurry::begin(&Linux);
    let _ = hardening::run(&Linux);
    // Before there is another thread, which would keep them.
    let dropped = capabilities::drop_others();
    let kernel = Arc::new(Linux);
    let console = Console::start(io::stdout());
    let hook = console.clone();
    panic::set_hook(Box::new(move |info| {
        hook.line(&format!("alia {:.3}s init failed {info}", Linux.since_start().as_secs_f64()));
    }));
    let ended = panic::catch_unwind(|| {
        dropped.context("capabilities are not let go")?;
        boot(kernel.clone(), console.clone(), begun)
    });
    let end = match ended {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => restart_because(&console, &format!("{error:#}")),
        Err(_) => restart_because(&console, "a mistake of ours: report it with the line above"),
    };
    console.flush(LAST_LINES);
    let error = kernel.end(end);
    console.line(&format!("alia: the kernel refuses to end the machine: {error}"));
    console.flush(LAST_LINES);
    // PID 1 must not return; with `panic=10` on the command line that ends the machine too.
    ExitCode::FAILURE
}

fn restart_because(console: &Console, reason: &str) -> End {
    let now = Linux.since_start().as_secs_f64();
    let wait = READING_TIME.as_secs();
    console.line(&format!("alia {now:.3}s init failed {reason}; the machine restarts in {wait} s"));
    thread::sleep(READING_TIME);
    End::Restart
}

/// Sets the kernel's settings as a boot does, and prints them all.
fn show_settings(kernel: &Linux, console: &Console) {
    // /sys, for lockdown.
    let _ = kernel.mount(&mounts::MOUNTS[1]);
    console.line(&format!("hardening: {}", hardening::run(kernel).detail()));
    for (at, line) in sysctl::dump(kernel).iter().enumerate() {
        console.line(&format!("{}{line}", command_line::SETTING));
        // The console keeps few lines waiting.
        if at % 100 == 0 {
            console.flush(LAST_LINES);
        }
    }
}

fn boot(kernel: Arc<Linux>, console: Console, begun: Duration) -> anyhow::Result<End> {
    // /proc first, to see whether anything more is wanted; the stage `mounts` finds it there.
    let _ = kernel.mount(&mounts::MOUNTS[0]);
    if command_line::is_probe(kernel.as_ref()) {
        if command_line::wants_settings(kernel.as_ref()) {
            show_settings(kernel.as_ref(), &console);
        }
        for module in command_line::wanted_modules(kernel.as_ref()) {
            let said = cards::try_module(kernel.as_ref(), &module);
            console.line(&format!("{}{module}: {said}", command_line::MODULE));
        }
        console.line(command_line::PROBE_OK);
        return Ok(End::PowerOff);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = tokio::task::LocalSet::new().block_on(&runtime, async {
        let boot_id = Digest(kernel.random()?);
        let outbox = Outbox::new(boot_id);
        let reporter = Reporter::new(kernel.clone(), console, outbox);
        let reporter = Rc::new(reporter.with_screen(Screen::start(kernel.clone())));
        reporter.say(&Report {
            stage: "init",
            state: StageState::Done,
            took: Some(kernel.since_start().saturating_sub(begun)),
            detail: "settings made, capabilities let go",
            shown: true,
        });
        let network = Rtnetlink::open()?;
        // One request is enough: the machine ends by it.
        let (requests, requested) = mpsc::channel(1);
        power::listen_to_signals(&requests)?;
        Machine::new(kernel, network, reporter, boot_id).run(requests, requested).await
    });
    // Threads that hang in a driver must not keep the machine from ending.
    runtime.shutdown_background();
    Ok(ended?)
}
