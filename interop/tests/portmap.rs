//! Ports of a router of Debian's (`miniupnpd`), by each of its protocols, with packets that go through them.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use interop::jami::Namespace;
use interop::{HomeRouter, Miniupnpd, Peer, eventually, require};
use tokio::time::timeout;
use towline_net::{Net as _, Os, UdpBind};
use towline_portmap::{Granted, MappingState, Options, PortMapper, PortMapping, Protocol, Transport};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(30);

const WORLD: Ipv4Addr = Ipv4Addr::new(45, 200, 200, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(45, 200, 200, 2);
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);

const ROUTER: HomeRouter<'_> = HomeRouter { outside: "eth0", inside: "br0", allowed: "192.168.77.0/24" };

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
        ROUTER.set_up(&router, folder.path())?;
        host.enter()?;
        Ok(Self { world, router, _host: host, folder, program })
    }

    fn miniupnpd(&self, router: HomeRouter<'_>) -> Result<Miniupnpd> {
        router.open(&self.router, &self.program, self.folder.path())
    }

    /// The router's rules for mappings.
    fn rules(&self) -> Result<Vec<String>> {
        HomeRouter::opened(&self.router)
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
        let _router = home.miniupnpd(ROUTER)?;
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
            ensure!(rules.is_empty(), "{protocol}: {rules:?}");
            ensure!(home.hello("tcp", &by_tcp).is_err(), "{protocol}: it is still open");
        }
        Ok(())
    })
}

#[test]
fn miniupnpd_is_asked_by_all_protocols_at_once_and_may_be_killed() -> Result<()> {
    behind_a_router(async |home| {
        let router = home.miniupnpd(ROUTER)?;
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
        ensure!(rules.len() == 1, "{rules:?}");
        drop(router);
        // Without the router, giving back takes a second and no more.
        timeout(Duration::from_secs(10), mapper.shutdown()).await.context("the shutdown")?;
        drop(mapping);

        let _router = home.miniupnpd(ROUTER)?;
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
        let _router = home.miniupnpd(HomeRouter { allowed: "192.168.99.0/24", ..ROUTER })?;
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
