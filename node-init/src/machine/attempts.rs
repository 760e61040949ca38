//! The stages' attempts: each gets what earlier ones found out, and leaves what it found.

use super::{Machine, internal};
use crate::{
    api::serve,
    crash,
    firewall::MODULES as FILTER,
    http::Base,
    kernel::{Kernel, Probe, Program},
    mac::Mac,
    measure, medium,
    medium::MediumError,
    net::{Network, WAITS},
    owner,
    plan::Stage,
    stages::{
        attestation,
        cards::{self, Cards},
        clock,
        command_line::{self, Arguments},
        compute, enrolment, firewall, hardening,
        identity::{self, Identity},
        inventory,
        modules::{self, ModulesError},
        mounts, network, registration, release,
        root::{self, RootError},
        share::{self, Giving},
        verified_by,
    },
};
use pieces::{fetch::FetchError, give};
use protocol::{
    Digest, PublicKey,
    boot::{ImageManifest, NodeConfig, RootImage, StageState},
    evidence::Held,
    inventory::Inventory,
    medium::Record,
    release::TimeAnswer,
};
use std::{
    convert::Infallible, error::Error, fs::File, net::Ipv4Addr, path::Path, rc::Rc, sync::Arc,
    thread, time::Duration,
};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, spawn_blocking, spawn_local},
};

/// Deaths that no provisioner wants and that stay in firmware's memory, which must not fill.
const KEPT_CRASHES: usize = 8;
/// Draws on the display that firmware set up.
const DISPLAY: &str = "simpledrm";
/// The device that the kernel makes of it.
const FRAME_BUFFER: &str = "/sys/bus/platform/devices/simple-framebuffer.0";
/// Of disks that are connected by SATA, SAS or USB.
const DISKS: &str = "sd_mod";
/// How long a medium with the node's key is waited for, where one may come.
const MEDIUM_COMES: Duration = Duration::from_secs(5);
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(200);

/// What the stages found out for one another.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) arguments: Option<Arguments>,
    /// Of the medium that was made for the machine's owner, where it booted from one.
    pub(super) owner: Option<Record>,
    pub(super) build_time: u64,
    pub(super) identity: Option<Identity>,
    pub(super) inventory: Option<Inventory>,
    pub(super) mac: Option<Mac>,
    pub(super) manifest: Option<ImageManifest>,
    pub(super) config: Option<NodeConfig>,
    /// Of what the TPM vouched for when the node was taken in.
    pub(super) evidence: Option<Digest>,
    pub(super) service: Option<Program>,
    /// Whether what configures this boot could not be measured into a TPM that is there.
    pub(super) unmeasured: bool,
    /// Whether the kernel is locked down and took every setting that it has.
    pub(super) hardened: bool,
    /// NVIDIA's, on images for them.
    pub(super) cards: Option<Cards>,
    /// NTP servers that DHCP named.
    pub(super) time_servers: Vec<Ipv4Addr>,
}

/// Where pieces of the root are given.
pub(super) struct Door {
    pub(super) listener: Arc<TcpListener>,
    pub(super) giving: Giving,
    /// What serves there until the node API does.
    pub(super) serve: AbortHandle,
    tells: AbortHandle,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serve.abort();
        self.tells.abort();
    }
}

pub(super) type Outcome = Result<String, Box<dyn Error>>;

/// A stage was begun before what it needs: a mistake in [`PLAN`].
pub(super) fn wanted<T: Clone>(fact: &Option<T>, what: &str) -> Result<T, Box<dyn Error>> {
    let mistake = || format!("{what} is not known yet: a mistake of ours in the plan of stages");
    fact.clone().ok_or_else(|| mistake().into())
}

impl<N: Network> Machine<N> {
    pub(super) async fn attempt(self: Rc<Self>, stage: Stage) -> Result<String, String> {
        let result = match stage {
            Stage::Mounts => self.local(mounts::run).await,
            Stage::Hardening => self.harden().await,
            Stage::CommandLine => self.read_command_line().await,
            Stage::Modules => self.clone().load_modules().await,
            Stage::Clock => self.floor_clock(),
            Stage::Identity => self.make_identity().await,
            Stage::Firewall => self.local(firewall::run).await,
            Stage::Network => self.clone().join_network().await,
            Stage::Release => self.know_release().await,
            Stage::Root => self.enter_root().await,
            Stage::Drivers => self.clone().load_drivers().await,
            Stage::Inventory => self.take_inventory().await,
            Stage::Enrolment => self.clone().enrol().await,
            Stage::Registration => self.register().await,
            Stage::Api => self.clone().open_api().await,
            Stage::Compute => Err("the loop itself begins it".into()),
        };
        result.map_err(|error| error.to_string())
    }

    /// Runs a stage whose kernel calls may take long on a thread of its own.
    pub(super) async fn local<T, E>(
        &self,
        work: impl FnOnce(&dyn Kernel) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Box<dyn Error>>
    where
        T: Send + 'static,
        E: Error + Send + 'static,
    {
        let kernel = self.kernel.clone();
        let done = spawn_blocking(move || work(kernel.as_ref())).await;
        Ok(done.map_err(|error| internal(&error))??)
    }

    async fn harden(&self) -> Outcome {
        let hardened = self.local(|kernel| Ok::<_, Infallible>(hardening::run(kernel))).await?;
        self.facts.borrow_mut().hardened = hardened.whole();
        match hardened.whole() {
            true => Ok(hardened.detail()),
            false => Err(hardened.detail().into()),
        }
    }

    async fn read_command_line(&self) -> Outcome {
        // Before anything of it is used.
        if let Err(error) = self.local(measure::configuration).await {
            self.say("measure", StageState::Failed, &error.to_string());
            self.facts.borrow_mut().unmeasured = true;
        }
        let arguments = command_line::run(self.kernel.as_ref())?;
        let record = owner::read(self.kernel.as_ref(), &arguments)?;
        let detail = format!(
            "provisioner {}, chain {}, release {}; {}{}",
            arguments.provisioner,
            arguments.chain,
            arguments.release.short(),
            verified_by::run(self.kernel.as_ref()),
            record.as_ref().map_or(String::new(), owner::detail)
        );
        self.facts.borrow_mut().owner = record;
        self.reporter.status().release = Some(arguments.release);
        self.facts.borrow_mut().arguments = Some(arguments);
        self.show_release();
        Ok(detail)
    }

    fn floor_clock(&self) -> Outcome {
        let (build, detail) = clock::run(self.kernel.as_ref())?;
        self.facts.borrow_mut().build_time = build.unix_time;
        self.reporter.status().version = Some(build.version.clone());
        self.show_release();
        Ok(format!("{detail}; image {}", build.version))
    }

    /// What of version and image is known by now, on the screen: either may be read first.
    fn show_release(&self) {
        let version = self.reporter.status().version.clone();
        let image = self.facts.borrow().arguments.as_ref().map(|a| a.release.short());
        let parts: Vec<String> = [version, image].into_iter().flatten().collect();
        self.reporter.know(|status| status.release = Some(parts.join(", ")));
    }

    async fn make_identity(&self) -> Outcome {
        let boot_id = self.boot_id;
        let measured = !self.facts.borrow().unmeasured;
        let make = move |kernel: &dyn Kernel| identity::run(kernel, boot_id, measured);
        let identity = self.local(make).await?;
        let detail = format!("node {}, {}", identity.node.public(), identity.kept);
        self.show_key(identity.node.public());
        self.facts.borrow_mut().identity = Some(identity);
        Ok(detail)
    }

    async fn load_modules(self: Rc<Self>) -> Outcome {
        match self.kernel.uevents() {
            Ok(uevents) => *self.appearing.borrow_mut() = Some(uevents),
            Err(error) => {
                let detail = format!("devices that appear later get no drivers: {error}");
                self.say("hotplug", StageState::Failed, &detail);
            }
        }
        let load = |kernel: &dyn Kernel| {
            // Asked for by later stages, which would wait for the disks then.
            let named = [&FILTER[..], &root::MODULES].concat();
            modules::run_after(kernel, &named, Probe::Aside).map(|(_, loaded)| loaded.detail())
        };
        let detail = self.local(load).await?;
        self.aside("display", self.clone().open_display());
        Ok(detail)
    }

    /// Drives the display that firmware set up, if it did; no device's name asks for that. Where the
    /// kernel has another way to the display the driver is no module.
    async fn open_display(self: Rc<Self>) {
        let open = |kernel: &dyn Kernel| {
            if kernel.list(Path::new(FRAME_BUFFER)).is_ok() {
                let _ = modules::load(kernel, &[DISPLAY]);
            }
            Ok::<_, Infallible>(())
        };
        let _ = self.local(open).await;
    }

    async fn load_drivers(self: Rc<Self>) -> Outcome {
        let load = |kernel: &dyn Kernel| {
            // It waits for the disks that were looked for in the meantime: their drivers' other
            // devices are there then.
            let (disks, mut loaded) = modules::run_after(kernel, &[DISKS], Probe::Waited)?;
            loaded.modules.splice(..0, disks.modules);
            loaded.failed.splice(..0, disks.failed);
            Ok::<_, ModulesError>(loaded)
        };
        let loaded = self.local(load).await?;
        let user = compute::user(self.kernel.as_ref()).unwrap_or(0);
        let cards = self.local(move |kernel| Ok::<_, Infallible>(cards::run(kernel, user))).await?;
        if let Some(mut cards) = cards {
            let state = if cards.failed { StageState::Failed } else { StageState::Done };
            self.say("cards", state, &cards.detail);
            if !cards.files.is_empty() {
                let readings = self.ask_cards(&cards.files).await.unwrap_or_else(|error| {
                    self.say("cards", StageState::Failed, &error);
                    Vec::new()
                });
                cards::take_readings(&mut cards, &readings);
                self.tell_readings(&[], &readings);
                self.clone().watch_cards(cards.files.clone(), readings);
            }
            self.facts.borrow_mut().cards = Some(cards);
        }
        Ok(loaded.detail())
    }

    async fn take_inventory(&self) -> Outcome {
        let boot_nic = wanted(&self.facts.borrow().arguments, "the command line")?.boot_nic;
        let mut inventory =
            self.local(move |kernel| Ok::<_, Infallible>(inventory::run(kernel, boot_nic))).await?;
        cards::note(&mut inventory, self.facts.borrow().cards.as_ref());
        let detail = inventory::detail(&inventory);
        self.facts.borrow_mut().inventory = Some(inventory);
        Ok(detail)
    }

    async fn join_network(self: Rc<Self>) -> Outcome {
        let arguments = wanted(&self.facts.borrow().arguments, "the command line")?;
        let wanted = network::Wanted {
            config: arguments.network.clone().unwrap_or_default(),
            boot_nic: arguments.boot_nic,
            provisioner: arguments.provisioner.address(),
        };
        let up = network::run(&self.kernel, &self.network, &WAITS, &wanted).await?;
        self.facts.borrow_mut().time_servers = up.time_servers();
        let detail = up.detail();
        // The provisioner knows the machine by the NIC that booted it.
        let mac = arguments.boot_nic.unwrap_or(up.link.mac);
        self.facts.borrow_mut().mac = Some(mac);
        self.keep_network(up, wanted);
        let page = format!("{}/machines/{mac}", arguments.provisioner);
        self.reporter.know(|status| status.page = Some(page));
        self.deliver_events(arguments.provisioner, mac);
        Ok(detail)
    }

    /// Sets the clock by the provisioner's signed time.
    fn take_time(&self, signed: u64) {
        let floor = self.facts.borrow().build_time;
        match clock::take(self.kernel.as_ref(), floor, signed) {
            Ok(None) => {}
            Ok(Some(set)) => self.say("time", StageState::Done, &set),
            Err(error) => self.say("time", StageState::Failed, &error.to_string()),
        }
    }

    async fn know_release(&self) -> Outcome {
        let arguments = wanted(&self.facts.borrow().arguments, "the command line")?;
        let mac = wanted(&self.facts.borrow().mac, "the NIC")?;
        let told = |answer: &TimeAnswer| {
            self.take_time(answer.unix_time);
            self.boot_number.set(Some(answer.attempt));
        };
        let kernel = self.kernel.as_ref();
        let known = release::run(kernel, &arguments, mac, self.boot_id, told).await?;
        let release::Known { image: manifest, detail } = known;
        let digest = manifest.digest();
        let root_hash = Some(manifest.root.verity.root_hash);
        let measure = move |kernel: &dyn Kernel| measure::release(kernel, digest, root_hash);
        if let Err(error) = self.local(measure).await {
            // With a chip that took nothing before a machine goes on without what vouches for it;
            // another one is asked again, or no provisioner would believe its quote.
            if !self.facts.borrow().unmeasured {
                return Err(error);
            }
            self.say("measure", StageState::Failed, &error.to_string());
        }
        self.facts.borrow_mut().manifest = Some(manifest);
        Ok(detail)
    }

    async fn enter_root(&self) -> Outcome {
        let (arguments, manifest) = {
            let facts = self.facts.borrow();
            let manifest = wanted(&facts.manifest, "the release")?;
            (wanted(&facts.arguments, "the command line")?, manifest)
        };
        let image = manifest.digest();
        let path = release::path(image, &manifest.root.file.file);
        let root = manifest.root;
        let shared = self.fetch_shared(&arguments, image, &root).await;
        let (file, how) = match shared {
            Ok((file, how)) => (file, format!(", {how}")),
            Err(why) => {
                let server = &arguments.provisioner;
                let file = root::fetch(self.kernel.as_ref(), server, &path, &root).await?;
                (file, format!(", whole from the provisioner: {why}"))
            }
        };
        let detail = format!(
            "{:.1} MB, verity root hash {}{how}",
            root.file.bytes as f64 / 1e6,
            root.verity.root_hash.short()
        );
        let entered =
            self.local(move |kernel| Ok::<_, Infallible>(root::enter(kernel, &file, &root)));
        if let Err(error) = entered.await? {
            // Half of the way there is no way back.
            if matches!(error, RootError::Stranded(_)) {
                self.broken().await;
            }
            return Err(error.into());
        }
        Ok(detail)
    }

    /// The root by pieces, from other machines too, and how; else why it is to be fetched whole. From then
    /// on it is given to others.
    async fn fetch_shared(
        &self,
        arguments: &Arguments,
        image: Digest,
        root: &RootImage,
    ) -> Result<(File, String), FetchError> {
        let mac = self.facts.borrow().mac.ok_or(FetchError::Off)?;
        // What an earlier attempt gave lies in memory, and its port is taken.
        let earlier = self.giving.borrow_mut().take();
        let listener = match earlier.as_ref().map(|door| door.listener.clone()) {
            Some(listener) => Some(listener),
            None => serve::listen(self.api_port).await.ok().map(Arc::new),
        };
        drop(earlier);
        let boot_id = self.boot_id;
        let wanted = share::Wanted { arguments, mac, boot_id, image, root };
        let fetched = share::fetch(self.kernel.as_ref(), listener.as_ref(), &wanted).await;
        let shared = fetched?;
        self.kernel.seal(&shared.file).map_err(FetchError::Keep)?;
        let detail = shared.detail();
        if let Some(listener) = listener {
            let giving = shared.giving.clone();
            let serve = give::serve(listener.clone(), giving.config.clone(), giving.shop.clone());
            let (serve, tells) = (spawn_local(serve), spawn_local(shared.tells()));
            let (serve, tells) = (serve.abort_handle(), tells.abort_handle());
            *self.giving.borrow_mut() = Some(Door { listener, giving, serve, tells });
        }
        Ok((shared.file, detail))
    }

    fn deliver_events(self: &Rc<Self>, provisioner: Base, mac: Mac) {
        if !self.delivering.replace(true) {
            let reporter = self.reporter.clone();
            let to = provisioner.clone();
            self.aside("events", async move { reporter.deliver(&to, mac).await });
            self.aside("crash", self.clone().deliver_crashes(provisioner, mac));
        }
    }

    /// Hands over what the kernel kept of its own deaths, and erases what was taken.
    async fn deliver_crashes(self: Rc<Self>, provisioner: Base, mac: Mac) {
        let read = |kernel: &dyn Kernel| Ok::<_, Infallible>(crash::read(kernel));
        let crashes = match self.local(read).await {
            Ok(crashes) => crashes,
            Err(error) => return self.say("crash", StageState::Failed, &error.to_string()),
        };
        let count = crashes.len();
        for (at, crash) in crashes.into_iter().enumerate() {
            let told = format!("the kernel died before this boot: {}", crash.reason);
            self.say("crash", StageState::Started, &told);
            let taken = self.reporter.deliver_crash(&provisioner, mac, self.boot_id, &crash).await;
            let detail = match taken {
                Ok(detail) => detail,
                // It stays where it is, for whoever looks for it there.
                Err(detail) => {
                    self.say("crash", StageState::Failed, &detail);
                    if count - at <= KEPT_CRASHES {
                        continue;
                    }
                    "one of the oldest, erased to make room".to_owned()
                }
            };
            let erase = move |kernel: &dyn Kernel| {
                crash::erase(kernel, &crash);
                Ok::<_, Infallible>(())
            };
            let _ = self.local(erase).await;
            self.say("crash", StageState::Done, &detail);
        }
    }

    fn show_key(&self, node: PublicKey) {
        self.reporter.status().node = Some(node);
        self.reporter.know(|status| status.key = Some(node.to_string()));
    }

    /// A key that is in memory alone gives way to that of a medium, once disks are there.
    async fn seek_medium(&self) {
        let unmeasured = self.facts.borrow().unmeasured;
        let identity = self.facts.borrow().identity.clone();
        let Some(mut identity) = identity.filter(|each| each.held == Held::Memory) else { return };
        if unmeasured {
            return;
        }
        let may_wait = !self.sought.replace(true);
        let seek = move |kernel: &dyn Kernel| {
            let until = kernel.since_start() + MEDIUM_COMES;
            loop {
                let found = identity.take_from_medium(kernel)?;
                let waits = may_wait && medium::may_come(kernel) && kernel.since_start() < until;
                if found || !waits {
                    return Ok::<_, MediumError>(found.then_some(identity));
                }
                thread::sleep(LOOK);
            }
        };
        match self.local(seek).await {
            Ok(None) => {}
            Ok(Some(identity)) => {
                let node = identity.node.public();
                self.say("identity", StageState::Done, &format!("node {node}, {}", identity.kept));
                self.show_key(node);
                self.facts.borrow_mut().identity = Some(identity);
            }
            Err(error) => self.say("identity", StageState::Failed, &error.to_string()),
        }
    }

    async fn enrol(self: Rc<Self>) -> Outcome {
        self.seek_medium().await;
        let (arguments, identity, mac, inventory) = {
            let facts = self.facts.borrow();
            (
                wanted(&facts.arguments, "the command line")?,
                wanted(&facts.identity, "the node's key")?,
                wanted(&facts.mac, "the NIC")?,
                // A machine that cannot describe itself may still work.
                facts.inventory.clone().unwrap_or_default(),
            )
        };
        let mut inventory = inventory;
        inventory::refresh(self.kernel.as_ref(), &mut inventory);
        self.facts.borrow_mut().inventory = Some(inventory.clone());
        let vouched = attestation::run(&self.kernel, &arguments, &identity, mac).await;
        let evidence = vouched.unwrap_or_else(|error| {
            self.say("attestation", StageState::Failed, &error.to_string());
            None
        });
        let digest = evidence.as_ref().map(|evidence| evidence.digest());
        let record = self.facts.borrow().owner.clone();
        if let Some(record) = &record {
            owner::claim(&arguments, &identity, mac, &inventory, record).await?;
        }
        let config = enrolment::run(&arguments, &identity, mac, &inventory, evidence).await?;
        if let Some(record) = &record {
            owner::check(&config, record)?;
        }
        self.facts.borrow_mut().evidence = digest;
        self.take_time(config.unix_time);
        let detail = enrolment::detail(&config);
        self.reporter.status().name = Some(config.name.clone());
        self.settle(&config, arguments.provisioner);
        self.reporter.know(|status| status.name = Some(config.name.clone()));
        self.facts.borrow_mut().config = Some(config);
        if !self.known.replace(true) {
            self.aside("certificate", self.clone().stay_known());
            self.aside("console", self.clone().relay_console());
        }
        Ok(detail)
    }

    async fn register(&self) -> Outcome {
        let (config, transaction) = {
            let facts = self.facts.borrow();
            let config = wanted(&facts.config, "the node's settings")?;
            let identity = wanted(&facts.identity, "the node's key")?;
            let inventory = facts.inventory.clone().unwrap_or_default().digest();
            let release = wanted(&facts.arguments, "the command line")?.release;
            let transaction =
                registration::transaction(&config, &identity, inventory, release, facts.evidence);
            (config, transaction)
        };
        Ok(registration::run(&config, &transaction).await?)
    }
}
