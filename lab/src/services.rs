//! The services of a network that take some preparing: CometBFT, the provisioner, and a foreign
//! DHCP server. The others are started from a [`ServiceSpec`] with their own arguments.

use crate::{
    error::{At, Error},
    net::{
        BRIDGE, FAR_ROUTER, FAR_ROUTER6, FOREIGN_INTERFACE, FOREIGN_NAMESPACE, ROUTER_FAR,
        ROUTER_NAMESPACE, SERVER, SERVER6,
    },
    service::{Ready, ServiceSpec},
};
use protocol::{ChainId, PublicKey, SecretKey, Signed, fleet::MachineDetail, node::Delegation};
use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

/// A chain of one validator on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comet {
    /// The program.
    pub program: PathBuf,
    /// Its home folder.
    pub home: PathBuf,
    /// The chain.
    pub chain: ChainId,
    /// Where clients reach it.
    pub rpc: SocketAddr,
    /// Where other validators would; none do.
    pub p2p: SocketAddr,
    /// The application: `tcp://127.0.0.1:26658`, `unix:///…`.
    pub application: String,
    /// Milliseconds from a block to the next one's proposal.
    pub commit_ms: u32,
    /// Seconds between blocks when there is nothing to put in them.
    pub idle_seconds: u32,
}

impl Comet {
    /// Makes keys, genesis and configuration in an empty home; in one that has them, writes the
    /// configuration anew and leaves keys, genesis and blocks alone.
    pub fn init(&self) -> Result<(), Error> {
        let genesis = self.home.join("config/genesis.json");
        if !genesis.exists() {
            fs::create_dir_all(&self.home).at(self.home.display())?;
            let output = Command::new(&self.program)
                .args(["init", "--home"])
                .arg(&self.home)
                .output()
                .at(self.program.display())?;
            if !output.status.success() {
                let detail = String::from_utf8_lossy(&output.stderr).trim().to_string();
                return Err(Error::Tool { tool: "cometbft init", detail });
            }
            self.edit(&genesis, |text| name_chain(text, &self.chain))?;
        }
        self.edit(&self.home.join("config/config.toml"), |text| self.configure(text))
    }

    fn edit(
        &self,
        path: &Path,
        change: impl FnOnce(&str) -> Result<String, String>,
    ) -> Result<(), Error> {
        let text = fs::read_to_string(path).at(path.display())?;
        let bad = |detail| Error::BadFile { path: path.into(), detail };
        fs::write(path, change(&text).map_err(bad)?).at(path.display())
    }

    /// The configuration that `cometbft init` wrote, with what this network wants otherwise.
    fn configure(&self, text: &str) -> Result<String, String> {
        let mut root: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
        set(&mut root, "proxy_app", self.application.as_str())?;
        set(&mut root, "rpc.laddr", format!("tcp://{}", self.rpc))?;
        set(&mut root, "p2p.laddr", format!("tcp://{}", self.p2p))?;
        // Alone: it looks for nobody, and takes nobody in.
        set(&mut root, "p2p.pex", false)?;
        set(&mut root, "p2p.max_num_inbound_peers", 0)?;
        set(&mut root, "consensus.timeout_commit", format!("{}ms", self.commit_ms))?;
        set(
            &mut root,
            "consensus.create_empty_blocks_interval",
            format!("{}s", self.idle_seconds),
        )?;
        // Finding a receipt's transaction by its events.
        set(&mut root, "tx_index.indexer", "kv")?;
        toml::to_string(&root).map_err(|error| error.to_string())
    }

    /// What runs it. Ready when its RPC answers, which is after the application answered it.
    pub fn service(&self) -> ServiceSpec {
        ServiceSpec::new("cometbft", &self.program, &self.home)
            .args(["start", "--home"])
            .arg(&self.home)
            .ready(Ready::Http(self.rpc, "/health".into()))
    }
}

/// Sets a key that is there already, of the same type: a renamed option is an error, not ignored.
fn set(root: &mut toml::Table, key: &str, value: impl Into<toml::Value>) -> Result<(), String> {
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let table = match section {
        "" => Some(root),
        section => root.get_mut(section).and_then(toml::Value::as_table_mut),
    };
    let value = value.into();
    match table.and_then(|table| table.get_mut(name)) {
        Some(old) if old.same_type(&value) => {
            *old = value;
            Ok(())
        }
        _ => Err(format!("this CometBFT has no option {key} of the kind expected")),
    }
}

fn name_chain(genesis: &str, chain: &ChainId) -> Result<String, String> {
    let mut genesis: serde_json::Value =
        serde_json::from_str(genesis).map_err(|error| error.to_string())?;
    match genesis.get_mut("chain_id") {
        Some(id) => *id = chain.as_str().into(),
        None => return Err("it has no chain_id".into()),
    }
    Ok(format!("{genesis:#}\n"))
}

/// The provisioner's part in DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dhcp {
    /// The only DHCP server.
    Full,
    /// Beside a foreign one.
    Proxy,
    /// None, as on a network of IPv6.
    Off,
}

impl Dhcp {
    /// As the provisioner's flag has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Proxy => "proxy",
            Self::Off => "off",
        }
    }
}

/// The provisioner on the lab's bridge.
#[derive(Clone, Debug)]
pub struct Provisioner {
    /// The program.
    pub program: PathBuf,
    /// Its folder: database, key, delegation, log.
    pub folder: PathBuf,
    /// Its part in DHCP.
    pub dhcp: Dhcp,
    /// The image's folder.
    pub image: PathBuf,
    /// The folder of iPXE's files.
    pub ipxe: PathBuf,
    /// Another iPXE for BIOS than the provisioner's own choice (`undionly.kpxe`, which goes
    /// through the firmware's driver). `ipxe.pxe` has drivers of its own, which under software
    /// emulation fetch several times faster.
    pub bios_file: Option<String>,
    /// A UKI that UEFI machines get.
    pub uki: Option<PathBuf>,
    /// The chain.
    pub chain: ChainId,
    /// The owner of the machines that it takes in.
    pub owner: SecretKey,
    /// CometBFT's RPC addresses, as machines reach them: `http://10.77.0.1:26657`.
    pub ledgers: Vec<String>,
    /// Parameter servers, likewise.
    pub parameter_servers: Vec<String>,
}

impl Provisioner {
    /// Its page and API.
    pub fn http(&self) -> SocketAddr {
        (SERVER, 8080).into()
    }

    /// What the running provisioner knows of a machine.
    pub fn machine(mac: &str) -> io::Result<MachineDetail> {
        serde_json::from_str(&Self::page(&format!("/v1/machines/{mac}"))?).map_err(io::Error::from)
    }

    /// The body of one of the running provisioner's pages; what is not 200 is an error.
    pub fn page(path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect((SERVER, 8080))?;
        write!(stream, "GET {path} HTTP/1.0\r\nhost: lab\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => Err(io::Error::other(format!("{path}: {answer}"))),
        }
    }

    fn key_file(&self) -> PathBuf {
        self.folder.join("provisioner.key")
    }

    /// Its public key, which machines pin. The pair is made where it is not there.
    pub fn key(&self) -> Result<PublicKey, Error> {
        fs::create_dir_all(&self.folder).at(self.folder.display())?;
        let key = self.key_file();
        let output =
            Command::new(&self.program).arg("key").arg(&key).output().at(self.program.display())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
        if !output.status.success() {
            return Err(Error::Tool { tool: "provisioner key", detail: said(&output.stderr) });
        }
        said(&output.stdout).parse().map_err(|error: protocol::key::KeyError| Error::Tool {
            tool: "provisioner key",
            detail: error.to_string(),
        })
    }

    /// Makes its key, has the owner delegate to it, and says how it is run. Ready when its page
    /// answers. Every machine is taken in.
    pub fn service(&self) -> Result<ServiceSpec, Error> {
        self.service_approving("automatic")
    }

    /// As [`Provisioner::service`], with who decides that a machine is taken in: `automatic` or
    /// `by-hand`.
    pub fn service_approving(&self, approval: &str) -> Result<ServiceSpec, Error> {
        let delegate = self.key()?;
        let delegation = self.folder.join("delegation.json");
        let signed = Signed::sign(&self.chain, Delegation { delegate }, &self.owner);
        let text = serde_json::to_vec(&signed).map_err(io::Error::other);
        text.and_then(|text| fs::write(&delegation, text)).at(delegation.display())?;

        let mut spec = ServiceSpec::new("provisioner", &self.program, &self.folder)
            .args(["serve", "--interface", BRIDGE, "--dhcp", self.dhcp.as_str()])
            .arg("--image")
            .arg(&self.image)
            .arg("--ipxe")
            .arg(&self.ipxe)
            .arg("--database")
            .arg(self.folder.join("provisioner.sqlite"))
            .arg("--key")
            .arg(self.key_file())
            .arg("--delegation")
            .arg(delegation)
            .args(["--chain", self.chain.as_str(), "--approval", approval]);
        if let Some(file) = &self.bios_file {
            spec = spec.args(["--bios-file", file]);
        }
        if let Some(uki) = &self.uki {
            spec = spec.arg("--uki").arg(uki);
        }
        for url in &self.ledgers {
            spec = spec.args(["--ledger", url]);
        }
        for url in &self.parameter_servers {
            spec = spec.args(["--parameter-server", url]);
        }
        Ok(spec.ready(Ready::Http(self.http(), "/".into())))
    }
}

/// A DHCP server as a home router has it: addresses, and not a word about booting. Runs beside
/// the provisioner in ProxyDHCP mode, in the network namespace made for it.
pub fn foreign_dhcp(folder: &Path) -> ServiceSpec {
    dnsmasq("foreign-dhcp", FOREIGN_NAMESPACE, FOREIGN_INTERFACE, folder)
        .arg("--dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0,1h")
        // It is the only one that gives addresses here: it answers at once.
        .args(["--dhcp-authoritative", "--no-ping"])
        .ready(Ready::Line("DHCP, IP range".into()))
}

/// A router as a home has it for IPv6: it advertises a prefix, from the foreign server's place.
pub fn foreign_router6(folder: &Path) -> ServiceSpec {
    dnsmasq("foreign-router", FOREIGN_NAMESPACE, FOREIGN_INTERFACE, folder)
        .args(["--enable-ra", "--dhcp-range=fd00:77::,ra-only,64,1h"])
        .ready(Ready::Line("router advertisement on".into()))
}

/// A relay on the router ([`crate::net::make_far`]) that asks the provisioner.
pub fn relay(folder: &Path) -> ServiceSpec {
    dnsmasq("relay", ROUTER_NAMESPACE, ROUTER_FAR, folder)
        .arg(format!("--dhcp-relay={FAR_ROUTER},{SERVER}"))
        .ready(Ready::Line("DHCP relay from".into()))
}

/// The same by IPv6. It advertises the network's prefix and itself as the way out; addresses are by
/// DHCPv6 (flag M), which it relays, and by the prefix too (flag A).
pub fn relay6(folder: &Path) -> ServiceSpec {
    dnsmasq("relay6", ROUTER_NAMESPACE, ROUTER_FAR, folder)
        .args(["--enable-ra", "--dhcp-range=fd00:78::,static,slaac,64,1h"])
        .arg(format!("--dhcp-relay={FAR_ROUTER6},{SERVER6}"))
        .ready(Ready::Line("DHCP relay from".into()))
}

fn dnsmasq(name: &str, namespace: &str, interface: &str, folder: &Path) -> ServiceSpec {
    let leases = folder.join(format!("{name}.leases"));
    ServiceSpec { namespace: Some(namespace.into()), ..ServiceSpec::new(name, "dnsmasq", folder) }
        // Its debug mode stays in the foreground and changes no user: in a user namespace there is no
        // other one, and no group may be given up.
        .args(["--no-daemon", "--conf-file=/dev/null", "--log-dhcp", "--bind-interfaces"])
        // No DNS.
        .arg("--port=0")
        .arg(format!("--interface={interface}"))
        .arg(format!("--dhcp-leasefile={}", leases.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "proxy_app = \"kvstore\"\n[rpc]\nladdr = \"x\"\n[p2p]\nladdr = \"x\"\npex = true\nmax_num_inbound_peers = 40\n[consensus]\ntimeout_commit = \"1s\"\ncreate_empty_blocks_interval = \"0s\"\n[tx_index]\nindexer = \"null\"\n";

    fn comet() -> Comet {
        Comet {
            program: "cometbft".into(),
            home: "home".into(),
            chain: "alia-test".parse().unwrap(),
            rpc: "127.0.0.1:26657".parse().unwrap(),
            p2p: "127.0.0.1:26656".parse().unwrap(),
            application: "tcp://127.0.0.1:26658".into(),
            commit_ms: 500,
            idle_seconds: 5,
        }
    }

    #[test]
    fn the_configuration_is_changed_and_a_renamed_option_is_an_error() {
        let text = comet().configure(CONFIG).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table["rpc"]["laddr"].as_str(), Some("tcp://127.0.0.1:26657"));
        assert_eq!(table["consensus"]["timeout_commit"].as_str(), Some("500ms"));
        let error = comet().configure(&CONFIG.replace("pex", "peer_exchange")).unwrap_err();
        assert!(error.contains("p2p.pex"), "{error}");
    }

    #[test]
    fn the_chain_is_named_in_genesis() {
        let text =
            name_chain("{\"chain_id\": \"test-chain-x\", \"a\": 1}", &comet().chain).unwrap();
        assert!(text.contains("\"alia-test\"") && text.contains("\"a\": 1"));
        assert!(name_chain("{}", &comet().chain).is_err());
    }
}
