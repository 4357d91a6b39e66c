//! A TURN server on a host of the lab, which also tells how it sees those who ask.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use towline::{Relay, RelaySecret, RelayTransport};
use towline_lab::Host;
use towline_turn::{PeerPolicy, ServerConfig, ServerEvent, Users};
use towline_turn_tokio::{RelayServer, ServerOptions};

/// The server runs until this is dropped, and says good-bye to nobody.
pub struct Station {
    pub address: SocketAddr,
    /// Its IPv6 address, if it uses that.
    v6: Option<Ipv6Addr>,
    host: Host,
    /// Addresses that are given away now, and that were ever given, also before restarts.
    allocations: Arc<AtomicUsize>,
    granted: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Station {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Station {
    pub fn start(host: &Host) -> Self {
        Self::at(host, None)
    }

    /// One that listens and relays over IPv6 as well.
    pub fn dual(host: &Host) -> Self {
        let IpAddr::V6(ip) = host.ipv6() else { unreachable!("it is one of IPv6") };
        Self::at(host, Some(ip))
    }

    fn at(host: &Host, v6: Option<Ipv6Addr>) -> Self {
        let (allocations, granted) = (Arc::default(), Arc::default());
        let address = SocketAddr::new(host.ipv4(), 3478);
        let task = serve(host, address, v6, &allocations, &granted);
        Self { address, v6, host: host.clone(), allocations, granted, task }
    }

    /// It ends.
    pub async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.allocations.store(0, Ordering::Relaxed);
    }

    /// It begins anew after [`Station::stop`], and knows nothing of before.
    pub fn begin(&mut self) {
        self.task = serve(&self.host, self.address, self.v6, &self.allocations, &self.granted);
    }

    /// For [`towline::Reach::stun`].
    pub fn stun(&self) -> String {
        self.address.to_string()
    }

    /// The same by its IPv6 address.
    pub fn stun_v6(&self) -> String {
        self.by_v6().to_string()
    }

    fn by_v6(&self) -> SocketAddr {
        SocketAddr::new(self.v6.unwrap().into(), self.address.port())
    }

    /// For [`towline::Reach::relays`].
    pub fn relay(&self) -> Relay {
        relay_at(self.address)
    }

    /// The same by its IPv6 address.
    pub fn relay_v6(&self) -> Relay {
        relay_at(self.by_v6())
    }

    /// Addresses that are given away now.
    pub fn allocations(&self) -> usize {
        self.allocations.load(Ordering::Relaxed)
    }

    /// Addresses that were ever given.
    pub fn granted(&self) -> usize {
        self.granted.load(Ordering::Relaxed)
    }
}

fn relay_at(address: SocketAddr) -> Relay {
    Relay {
        server: address.to_string(),
        transport: RelayTransport::Udp,
        user: "ann".to_owned(),
        secret: RelaySecret::Password("secret".to_owned()),
    }
}

fn serve(
    host: &Host,
    address: SocketAddr,
    v6: Option<Ipv6Addr>,
    allocations: &Arc<AtomicUsize>,
    granted: &Arc<AtomicUsize>,
) -> tokio::task::JoinHandle<()> {
    let fixed = BTreeMap::from([("ann".to_owned(), "secret".to_owned())]);
    let config = ServerConfig {
        users: Users { fixed, secret: Some(b"north".to_vec()) },
        peers: PeerPolicy::Public,
        ..ServerConfig::default()
    };
    let IpAddr::V4(relay_v4) = host.ipv4() else { unreachable!("it is one of IPv4") };
    let options = ServerOptions {
        config,
        listen: [address.ip()]
            .into_iter()
            .chain(v6.map(IpAddr::from))
            .flat_map(|ip| [address.port(), 443].map(|port| SocketAddr::new(ip, port)))
            .collect(),
        tls: None,
        relay_v4: Some(relay_v4),
        relay_v6: v6,
        external_v4: None,
    };
    let mut server = RelayServer::start(Arc::new(host.clone()), options).unwrap();
    let (allocations, granted) = (Arc::clone(allocations), Arc::clone(granted));
    tokio::spawn(async move {
        loop {
            if let ServerEvent::Allocated { .. } = server.event().await {
                granted.fetch_add(1, Ordering::Relaxed);
            }
            allocations.store(server.allocations(), Ordering::Relaxed);
        }
    })
}
