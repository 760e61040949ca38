//! `provisioner`: boots machines from the network into aliaOS.

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use protocol::{PublicKey, SecretKey};
use provisioner::{
    access::{self, Token},
    check,
    config::Options,
    confine, doctor, groups,
    life::Actor,
    log,
    machine::Mac,
    net, page, replay,
    replay::ReplayOptions,
    run::Bound,
    store::{Added, FIRST_OPERATOR, Place, Revocation, Store},
    tftp::server::{Report, Server},
    timeline::{Kind, Record, unix_ms},
    tls::{
        ca::{self, Ca},
        start,
    },
};
use sd_notify::NotifyState;
use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{ErrorKind, IsTerminal, Write},
    net::SocketAddrV4,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// Boots machines from the network into aliaOS, takes them in, and shows them.
#[derive(Parser)]
#[command(
    version,
    after_help = "Try:
  provisioner key provisioner.key
  provisioner serve --interface eth0 --dhcp proxy --ipxe /usr/lib/ipxe --image image

RUST_LOG=provisioner=debug shows every packet."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a network: DHCP or ProxyDHCP, TFTP, HTTP, page and API
    #[command(after_help = "In proxy mode another DHCP server gives the addresses, and nothing \
there has to be changed. In full mode there must be no other one on the network. The ports are \
67, 69 and 4011 by UDP (for them root, or CAP_NET_BIND_SERVICE, is needed) and 8080 by TCP; with \
--dhcp6 full 547 by UDP too, and a raw socket for router advertisements (CAP_NET_RAW).")]
    Serve(Box<Options>),
    /// Read the configuration that `serve` would run with, and tell all that is wrong with it
    #[command(
        after_help = "Unknown keys, values that cannot be, files that are not there, and what \
cannot go together, each with its line. Nothing is written, no port is taken, and the database is not \
asked. `serve` refuses with the same words. The exit status is 0 where there is no mistake, else 1."
    )]
    Check(Box<check::Arguments>),
    /// Look at a network before it is trusted, and say what to change
    #[command(after_help = "It looks for other DHCP servers, ports in use, MTU, spanning tree, \
clock, limits of this host and the interface itself; nothing is changed, and no lease is taken. Run \
it as root, or with CAP_NET_RAW and CAP_NET_BIND_SERVICE: what it may not look at it calls unknown. \
The exit status is 0 where nothing is a problem, else 1.")]
    Doctor(doctor::Arguments),
    /// Make a secret key where there is none yet, and show its public half
    Key {
        /// Where it is kept, readable by its owner alone
        file: PathBuf,
    },
    /// Show our CA: where its certificate is, and its fingerprint to compare in firmware's menus
    #[command(after_help = "A machine's firmware boots by HTTPS from us once it knows this \
certificate: enrol it in the firmware's menu (TLS Auth Configuration, Server CA Configuration), as \
PEM or DER, from a stick. The running provisioner gives both by HTTP: /ca.pem and /ca.der. Firmware \
that knows no elliptic curves takes another one: /ca-rsa.pem and /ca-rsa.der, where `serve` was told \
to boot firmware by HTTPS (--http-boot https).")]
    Ca {
        /// The database that `serve` uses: the CA is beside it
        #[arg(long, value_name = "FILE or URL", default_value_t)]
        database: Place,
        /// The CA's folder, where `serve` was given one
        #[arg(long, value_name = "FOLDER")]
        tls: Option<PathBuf>,
    },
    /// Let a node key in that waits on its machine, or came with another TPM or board
    Approve {
        /// The database that `serve` uses; it may run meanwhile
        #[arg(long, value_name = "FILE or URL", default_value_t)]
        database: Place,
        /// The authority that a PostgreSQL on another host is known by, as PEM
        #[arg(long, value_name = "FILE")]
        database_ca: Option<PathBuf>,
        /// The machine's MAC address
        mac: Mac,
        /// The node's key, as the machine's page shows it
        node: PublicKey,
    },
    /// Put a machine out: its node key is worth nothing from now on, until it is approved anew
    Revoke {
        /// The database that `serve` uses; it may run meanwhile
        #[arg(long, value_name = "FILE or URL", default_value_t)]
        database: Place,
        /// The authority that a PostgreSQL on another host is known by, as PEM
        #[arg(long, value_name = "FILE")]
        database_ca: Option<PathBuf>,
        /// The machine's MAC address
        mac: Mac,
    },
    /// Operators and their tokens: who may act on machines by page and API
    #[command(
        after_help = "The first operator is made at the first start of `serve`, which shows \
its token. A token that was lost cannot be had back: add another, and revoke the old one."
    )]
    Token {
        #[command(subcommand)]
        command: TokenCommand,
        /// The database that `serve` uses; it may run meanwhile
        #[arg(long, global = true, value_name = "FILE or URL", default_value_t)]
        database: Place,
        /// The authority that a PostgreSQL on another host is known by, as PEM
        #[arg(long, global = true, value_name = "FILE")]
        database_ca: Option<PathBuf>,
    },
    /// Machines' configuration: groups, rules, owners (docs/configuration.md)
    Config {
        #[command(subcommand)]
        command: groups::command::Command,
        /// The database that `serve` uses; it may run meanwhile
        #[arg(long, global = true, value_name = "FILE or URL", default_value_t)]
        database: Place,
        /// The authority that a PostgreSQL on another host is known by, as PEM
        #[arg(long, global = true, value_name = "FILE")]
        database_ca: Option<PathBuf>,
    },
    /// Say what we would answer to a captured exchange, and why
    #[command(
        after_help = "Beside each of our answers stands what was answered in the capture, and \
where it differs in what matters for booting. QEMU records one by -object filter-dump, others by \
tcpdump -w FILE 'udp port 67 or 68 or 69 or 4011'."
    )]
    Replay(Box<ReplayOptions>),
    /// Serve the files of one folder by TFTP, and nothing else
    Tftp {
        /// The folder
        #[arg(long, value_name = "FOLDER")]
        root: PathBuf,
        /// Where to listen
        #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:69")]
        listen: SocketAddrV4,
        /// The MTU of the way to the clients; blocks stay 32 bytes below it
        #[arg(long, value_name = "BYTES", default_value_t = 1500)]
        mtu: u16,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make an operator, and show the token once
    Add {
        /// Who it is, as the machines' timelines will say
        name: String,
    },
    /// Show who there is
    List,
    /// Make a token nobody's, at once
    Revoke {
        /// Whose
        name: String,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // How `serve` logs stands in its configuration, which is read first.
    if !matches!(cli.command, Command::Serve(_)) {
        log::start(log::Format::Text);
    }
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", protocol::told(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Doctor(arguments) => {
            return Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(doctor(&arguments));
        }
        Command::Key { file } => key(&file),
        Command::Approve { database, database_ca, mac, node } => {
            approve(&database.known_by(database_ca), mac, &node)
        }
        Command::Revoke { database, database_ca, mac } => {
            revoke(&database.known_by(database_ca), mac)
        }
        Command::Token { command, database, database_ca } => {
            token(&command, &database.known_by(database_ca))
        }
        Command::Config { command, database, database_ca } => {
            let store = existing(&database.known_by(database_ca))?;
            // Who reads only the first lines is no failure.
            match std::io::stdout().write_all(command.run(&store, unix_ms())?.as_bytes()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                other => Ok(other?),
            }
        }
        Command::Ca { database, tls } => {
            let folder = start::folder(tls.as_deref(), &database);
            let ca = Ca::open(&folder)?;
            println!("{}\nSHA-256 {}", ca.path().display(), ca.fingerprint());
            if folder.join(ca::Kind::Rsa.files().0).exists() {
                let ca = Ca::open_of(ca::Kind::Rsa, &folder)?;
                println!("for firmware without elliptic curves:");
                println!("{}\nSHA-256 {}", ca.path().display(), ca.fingerprint());
            }
            Ok(())
        }
        Command::Check(arguments) => return check(*arguments),
        Command::Serve(options) => return serve(*options),
        Command::Replay(options) => {
            let json = options.json;
            let report = replay::run(*options)?;
            let text = match json {
                true => serde_json::to_string_pretty(&report)? + "\n",
                false => report.to_string(),
            };
            // Who reads only the first lines is no failure.
            match std::io::stdout().write_all(text.as_bytes()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                other => Ok(other?),
            }
        }
        // One thread: a block more or less is no work to share out.
        Command::Tftp { root, listen, mtu } => {
            Builder::new_current_thread().enable_all().build()?.block_on(tftp(&root, listen, mtu))
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

async fn doctor(arguments: &doctor::Arguments) -> anyhow::Result<ExitCode> {
    let (shows, seconds) = (std::io::stderr().is_terminal(), arguments.seconds);
    let report = doctor::run(arguments, move |gone| {
        if shows {
            eprint!("\rlistening: {gone} of {seconds} s ");
        }
    })
    .await?;
    if shows {
        eprint!("\r\x1b[K");
    }
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{report}"),
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(arguments: check::Arguments) -> anyhow::Result<ExitCode> {
    let (_, report) = check::look(arguments.options, check::Reach::All);
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => println!("{report}"),
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn serve(options: Options) -> anyhow::Result<ExitCode> {
    let (options, report) = match check::settle(options) {
        Ok(settled) => settled,
        Err(report) => {
            eprintln!("{report}");
            return Ok(ExitCode::FAILURE);
        }
    };
    log::start(options.log_format.unwrap_or_default());
    for warning in report.warnings() {
        tracing::warn!("{}", warning.text);
    }
    // What needs rights first, then without them all that reads what strangers say. No thread is
    // started before: each would keep what it started with.
    let bound = Bound::take(&options)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let confined = confine::enter(&options)?;
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(cores).enable_all().build()?.block_on(async {
        let running = provisioner::run::serve(options, bound).await?;
        println!("{}\n{confined}", running.banner);
        if let Some(token) = &running.token {
            println!(
                "operator     {FIRST_OPERATOR}, by this token, which is shown this once: {}",
                token.reveal()
            );
        }
        println!("ready");
        // Whoever started us may wait for it; where nobody does this is nothing.
        sd_notify::notify(&[NotifyState::Ready]).context("the service manager")?;
        told_to_stop().await?;
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        tokio::task::spawn_blocking(move || running.timeline.flush(Duration::from_secs(5))).await?;
        // Connections that still run (watchers' never end) are cut.
        std::process::exit(0)
    })
}

async fn tftp(root: &Path, listen: SocketAddrV4, mtu: u16) -> anyhow::Result<()> {
    let socket = net::udp(listen, None, "TFTP")?;
    let observer = Arc::new(|report: Report| match report {
        Report::Ended(transfer) => tracing::debug!("{transfer:?}"),
        Report::Refused { peer, reason, .. } => tracing::warn!("{peer} gets nothing: {reason}"),
        Report::Began { .. } => {}
    });
    let server = Server::new(socket, Some(root), vec![], mtu, observer)
        .with_context(|| format!("the folder {} cannot be served", root.display()))?;
    println!("TFTP {}\nready", server.address()?);
    tokio::select! {
        () = server.serve() => Ok(()),
        stop = told_to_stop() => stop,
    }
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    Ok(())
}

/// The database of a provisioner that has run already.
fn existing(place: &Place) -> anyhow::Result<Store> {
    if let Place::File(path) = place
        && !path.exists()
    {
        bail!("{place}: there is no database here; name the one that `serve` uses");
    }
    Ok(Store::open(place, BTreeMap::new())?)
}

fn token(command: &TokenCommand, place: &Place) -> anyhow::Result<()> {
    let store = existing(place)?;
    match command {
        TokenCommand::Add { name } => {
            let (name, token) = (access::name(name)?, Token::generate()?);
            match store.add_operator(&name, &token.digest(), unix_ms())? {
                Added::Yes => println!("{}", token.reveal()),
                Added::Taken => bail!("there is an operator {name} already; revoke it first"),
                Added::Full => bail!("there are 64 operators, and no more may be; revoke one"),
            }
        }
        TokenCommand::List => {
            for (name, made) in store.operators()? {
                println!("{name:<40} since {}", page::moment(made));
            }
        }
        TokenCommand::Revoke { name } => {
            if !store.remove_operator(name)? {
                bail!("there is no operator {name:?}; `provisioner token list` shows who there is");
            }
            println!("{name} may no longer act");
        }
    }
    Ok(())
}

fn revoke(database: &Place, mac: Mac) -> anyhow::Result<()> {
    let store = existing(database)?;
    match store.revoke(mac, None, unix_ms())? {
        Revocation::Done(node) => {
            let text = format!("node key {} was revoked on this host", node.short());
            store.record(&[Record::new(mac, Kind::Enrol, text)])?;
            println!("{mac} is out: node key {node} is worth nothing now");
        }
        Revocation::NoNode => bail!("no machine {mac} was taken in"),
        Revocation::Full => bail!("so many node keys are revoked that there is room for no more"),
    }
    Ok(())
}

fn approve(database: &Place, mac: Mac, node: &PublicKey) -> anyhow::Result<()> {
    let store = existing(database)?;
    let here = Actor::Operator("on the provisioner's host".into());
    if !store.approve(mac, node, &here, unix_ms())? {
        bail!("no machine {mac} is known; it appears once it asks what to boot");
    }
    println!("{mac} may come in with node key {node}");
    Ok(())
}

fn key(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let key = match made {
        Ok(mut file) => {
            let key = SecretKey::generate()?;
            writeln!(file, "{}", key.to_hex()).with_context(|| format!("{shown}"))?;
            file.sync_all().with_context(|| format!("{shown}"))?;
            key
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = std::fs::read_to_string(path).with_context(|| format!("{shown}"))?;
            SecretKey::from_hex(&text).with_context(|| format!("{shown}"))?
        }
        Err(error) => bail!("{shown}: {error}"),
    };
    println!("{}", key.public());
    Ok(())
}
