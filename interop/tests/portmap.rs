//! Ports of a router of Debian's (`miniupnpd`), by each of its protocols, with packets that go through them.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use interop::jami::Namespace;
use interop::{Peer, Process, eventually, require};
use tokio::process::Command;
use tokio::time::timeout;
use towline_net::{Net as _, Os, UdpBind};
use towline_portmap::{Granted, MappingState, Options, PortMapper, PortMapping, Protocol, Transport};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(30);

const WORLD: Ipv4Addr = Ipv4Addr::new(45, 200, 200, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(45, 200, 200, 2);
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);

/// What a home router does by itself: it lets out, and in what was let out.
const RULES: &str = "
table inet filter {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname br0 accept
        jump miniupnpd
    }
    chain miniupnpd { }
    chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
    chain prerouting_miniupnpd { }
    chain postrouting {
        type nat hook postrouting priority 100;
        oifname eth0 masquerade
        jump postrouting_miniupnpd
    }
    chain postrouting_miniupnpd { }
}
";

const SETTINGS: &str = "
ext_ifname=eth0
listening_ip=br0
http_port=5000
enable_upnp=yes
enable_natpmp=yes
secure_mode=yes
min_lifetime=120
max_lifetime=86400
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
uuid=1f0c5a9e-0f7f-4f5c-9d7e-2f5b1c3a4d5e
allow 1024-65535 192.168.77.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
";

/// The world, a router and the host behind it, which is where the thread of the test is.
struct Home {
    world: Namespace,
    router: Namespace,
    _host: Namespace,
    folder: tempfile::TempDir,
    program: std::path::PathBuf,
}

impl Home {
    fn new(program: std::path::PathBuf) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [world, router, host] =
            ["world", "router", "host"].map(|name| Namespace::new(name, folder.path()));
        let (world, router, host) = (world?, router?, host?);
        for (hub, address) in [(&world, WORLD), (&router, INSIDE)] {
            hub.ip("link add br0 type bridge")?;
            hub.ip(&format!("addr add {address}/24 dev br0"))?;
            hub.ip("link set br0 up")?;
        }
        world.plug(&router, OUTSIDE, WORLD)?;
        router.plug(&host, HOST, INSIDE)?;
        std::fs::write(folder.path().join("rules"), RULES)?;
        std::fs::write(folder.path().join("settings"), SETTINGS)?;
        let rules = folder.path().join("rules");
        for words in [
            vec!["nft", "-f", rules.to_str().context("a path")?],
            vec!["sysctl", "-qw", "net.ipv4.ip_forward=1"],
        ] {
            let output = router.command().args(&words).output()?;
            ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        host.enter()?;
        Ok(Self { world, router, _host: host, folder, program })
    }

    async fn miniupnpd(&self) -> Result<Process> {
        let mut command = self.router.command();
        command.arg(&self.program).args(["-d", "-f"]).arg(self.folder.path().join("settings"));
        command.arg("-P").arg(self.folder.path().join("pid"));
        let mut process = Process::start("miniupnpd", Command::from(command))?;
        process.expect("that it listens", LIMIT, |line| line.contains("Listening for").then_some(())).await?;
        Ok(process)
    }

    /// The router's rules for mappings.
    fn rules(&self) -> Result<String> {
        let output = self
            .router
            .command()
            .args(["nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"])
            .output()?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Says `hello` from the world to where a mapping leads.
    fn hello(&self, transport: &str, granted: &Granted) -> Result<()> {
        let (ip, port) = (granted.external.ip(), granted.external.port());
        let script = format!("exec 3<>/dev/{transport}/{ip}/{port} && printf hello >&3");
        let output = self.world.command().args(["timeout", "5", "bash", "-c", &script]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

async fn granted(mapping: &mut PortMapping) -> Result<Granted> {
    match timeout(LIMIT, mapping.settled()).await? {
        Some(MappingState::Granted(granted)) => Ok(granted),
        other => bail!("{other:?}"),
    }
}

/// Runs a story on a thread that lives behind the router.
fn behind_a_router<F: Future<Output = Result<()>>>(
    story: impl FnOnce(Home) -> F + Send + 'static,
) -> Result<()> {
    let Some(programs) = require(&[Peer::Miniupnpd]) else { return Ok(()) };
    let thread = std::thread::spawn(move || {
        let home = Home::new(programs.into_iter().next().context("one program was asked for")?)?;
        // Made in the namespace: its other threads are there too.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(story(home))
    });
    thread.join().map_err(|_| anyhow!("the story panicked"))?
}

#[test]
fn miniupnpd_opens_ports_by_each_protocol() -> Result<()> {
    behind_a_router(async |home| {
        let _router = home.miniupnpd().await?;
        for protocol in Protocol::ALL {
            let options = Options { protocols: vec![protocol], ..Options::default() };
            let mapper = PortMapper::start(Arc::new(Os), options);
            let socket = Os.bind_udp(&UdpBind::any_v4())?;
            let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            let mut udp = mapper.map(Transport::Udp, socket.local_addr().port());
            let mut tcp = mapper.map(Transport::Tcp, listener.local_addr()?.port());
            let (by_udp, by_tcp) = (granted(&mut udp).await?, granted(&mut tcp).await?);
            for granted in [by_udp, by_tcp] {
                ensure!(granted.protocol == protocol && granted.external.ip() == OUTSIDE, "{granted:?}");
                ensure!(granted.until.is_some() && granted.is_global(), "{granted:?}");
            }
            home.hello("udp", &by_udp)?;
            let mut buffer = [0; 64];
            let received = timeout(LIMIT, socket.recv(&mut buffer)).await??;
            ensure!(buffer[..received.len] == *b"hello", "{protocol}: {received:?}");
            home.hello("tcp", &by_tcp)?;
            let (mut stream, from) = listener.accept()?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            ensure!(said == "hello" && from.ip() == WORLD, "{protocol}: {said:?} from {from}");

            // Given back, nobody gets through any more.
            mapper.shutdown().await;
            let rules = home.rules()?;
            ensure!(!rules.contains("dnat"), "{protocol}: {rules}");
            ensure!(home.hello("tcp", &by_tcp).is_err(), "{protocol}: it is still open");
        }
        Ok(())
    })
}

#[test]
fn miniupnpd_is_asked_by_all_protocols_at_once_and_may_be_killed() -> Result<()> {
    behind_a_router(async |home| {
        let router = home.miniupnpd().await?;
        let mapper = PortMapper::start(Arc::new(Os), Options::default());
        let mut mapping = mapper.map(Transport::Tcp, 4222);
        let first = granted(&mut mapping).await?;
        eventually("all three protocols answer", async || {
            let (found, _) = mapper.routers();
            let all = Protocol::ALL.iter().all(|way| found.iter().any(|router| router.protocol == *way));
            ensure!(all, "{found:?}");
            Ok(())
        })
        .await?;
        // One mapping, whoever else answered.
        let rules = home.rules()?;
        ensure!(rules.matches("dnat").count() == 1, "{rules}");
        drop(router);
        // Without the router, giving back takes a second and no more.
        timeout(Duration::from_secs(10), mapper.shutdown()).await.context("the shutdown")?;
        drop(mapping);

        let _router = home.miniupnpd().await?;
        let mapper = PortMapper::start(Arc::new(Os), Options::default());
        let again = granted(&mut mapper.map(Transport::Tcp, 4222)).await?;
        ensure!(again.external == first.external, "{again:?} after {first:?}");
        Ok(())
    })
}

/// It tries all of its ports and, as its rules allow none, says that none is left.
#[test]
fn a_refusal_of_miniupnpd_is_quoted() -> Result<()> {
    behind_a_router(async |home| {
        let strict = SETTINGS.replace("192.168.77.0/24", "192.168.99.0/24");
        std::fs::write(home.folder.path().join("settings"), strict)?;
        let _router = home.miniupnpd().await?;
        let mapper = PortMapper::start(
            Arc::new(Os),
            Options { protocols: vec![Protocol::Upnp], ..Options::default() },
        );
        let mut mapping = mapper.map(Transport::Tcp, 4222);
        match timeout(LIMIT, mapping.settled()).await? {
            Some(MappingState::Failed(failure)) => {
                let said = failure.to_string();
                ensure!(
                    said == "refused: UPnP at 192.168.77.1: it has no mapping left (UPnP error 728)",
                    "{said}"
                );
                Ok(())
            }
            other => bail!("{other:?}"),
        }
    })
}
