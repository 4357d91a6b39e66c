//! A router in the simulated network that opens ports, or says it does.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline_lab::{Host, Link, World};
use towline_net::{Gateway, Group, Net as _, TcpStream, UdpBind};

pub(crate) const EXTERNAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

/// How a router answers.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    /// The result of PCP's answers; `None` for a router that does not know PCP.
    pub pcp: Option<u8>,
    /// The result of NAT-PMP's answers.
    pub natpmp: Option<u16>,
    /// UPnP error codes for the next mappings, then success; `None` for no UPnP.
    pub upnp: Option<Vec<u16>>,
    /// Version of the UPnP service.
    pub version: u8,
    pub external: IpAddr,
    /// Lifetime granted, in seconds.
    pub lifetime: u32,
    /// Where the UPnP description is said to be, instead of here.
    pub elsewhere: Option<String>,
    /// What is sent instead of a description.
    pub description: Option<String>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            pcp: None,
            natpmp: None,
            upnp: None,
            version: 1,
            external: EXTERNAL,
            lifetime: 7200,
            elsewhere: None,
            description: None,
        }
    }
}

/// (IP protocol, external port) → (this internal port, lifetime).
type Table = BTreeMap<(u8, u16), (u16, u32)>;

#[derive(Debug, Clone)]
pub(crate) struct Router {
    pub host: Host,
    state: Arc<Mutex<(Manners, Table, u32)>>,
}

/// A host that knows its router, both on one network.
pub(crate) fn home(world: &World, manners: Manners) -> (Arc<Host>, Router) {
    let lan = world.lan();
    let link = Link::delay(Duration::from_millis(2));
    let (device, router) = (world.host("device"), world.host("router"));
    let interface = device.attach(lan, link.clone());
    router.attach(lan, link);
    let router = Router { host: router, state: Arc::new(Mutex::new((manners, Table::new(), 0))) };
    router.serve();
    device.set_gateways(vec![Gateway { router: router.host.ipv4(), local: device.ipv4(), interface }]);
    (Arc::new(device), router)
}

impl Router {
    pub(crate) fn state(&self) -> MutexGuard<'_, (Manners, Table, u32)> {
        self.state.lock().unwrap()
    }

    pub(crate) fn mappings(&self) -> Vec<(u8, u16, u16)> {
        self.state()
            .1
            .iter()
            .map(|(&(transport, external), &(internal, _))| (transport, external, internal))
            .collect()
    }

    /// Requests for mappings so far.
    pub(crate) fn asked(&self) -> u32 {
        self.state().2
    }

    fn serve(&self) {
        let control = self.host.bind_udp(&UdpBind::new((self.host.ipv4(), 5351).into())).unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let received = control.recv(&mut buffer).await.unwrap();
                if let Some(answer) = this.control(&buffer[..received.len]) {
                    control.send(&answer, received.from).await.unwrap();
                }
            }
        });
        let interface = self.host.interfaces().unwrap().iter().find(|found| !found.loopback).unwrap().index;
        let group = Group { addr: [239, 255, 255, 250].into(), interface };
        let search =
            UdpBind { groups: vec![group], ..UdpBind::new(SocketAddr::new([0, 0, 0, 0].into(), 1900)) };
        let search = self.host.bind_udp(&search).unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let received = search.recv(&mut buffer).await.unwrap();
                let said = String::from_utf8_lossy(&buffer[..received.len]).into_owned();
                let (manners, ..) = this.state().clone();
                if !said.starts_with("M-SEARCH") || manners.upnp.is_none() {
                    continue;
                }
                let target = said.lines().find_map(|line| line.strip_prefix("ST: ")).unwrap().to_owned();
                let here = format!("http://{}:5000/rootDesc.xml", this.host.ipv4());
                let location = manners.elsewhere.unwrap_or(here);
                let answer =
                    format!("HTTP/1.1 200 OK\r\nST: {target}\r\nEXT:\r\nLOCATION: {location}\r\n\r\n");
                search.send(answer.as_bytes(), received.from).await.unwrap();
            }
        });
        let mut listener = self.host.listen_tcp((self.host.ipv4(), 5000).into()).unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let stream = listener.accept().await.unwrap();
                let this = this.clone();
                tokio::spawn(async move { this.http(stream).await });
            }
        });
    }

    /// Adds a mapping, or removes it; the external port.
    fn map(&self, transport: u8, internal: u16, wanted: u16, lifetime: u32) -> u16 {
        let mut state = self.state();
        state.2 += 1;
        if lifetime == 0 {
            state.1.retain(|(kind, _), (port, _)| (*kind, *port) != (transport, internal));
            return 0;
        }
        let old = state.1.iter().find(|((kind, _), (port, _))| (*kind, *port) == (transport, internal));
        let port = old.map_or(wanted + 1000, |((_, port), _)| *port);
        state.1.insert((transport, port), (internal, lifetime));
        port
    }

    fn control(&self, asked: &[u8]) -> Option<Vec<u8>> {
        let (manners, ..) = self.state().clone();
        let epoch = 7_u32.to_be_bytes();
        match *asked {
            [2, opcode, ..] if manners.pcp.is_some() => {
                let result = manners.pcp?;
                let mut answer = vec![2, opcode | 0x80, 0, result];
                let lifetime = u32::from_be_bytes(asked[4..8].try_into().unwrap());
                let granted = if lifetime == 0 { 0 } else { manners.lifetime };
                answer.extend(granted.to_be_bytes());
                answer.extend(epoch);
                answer.extend([0; 12]);
                if opcode == 1 {
                    let ports = |at: usize| u16::from_be_bytes([asked[at], asked[at + 1]]);
                    let port =
                        if result == 0 { self.map(asked[36], ports(40), ports(42), lifetime) } else { 0 };
                    answer.extend(&asked[24..42]);
                    answer.extend(port.to_be_bytes());
                    let IpAddr::V4(external) = manners.external else { panic!() };
                    answer.extend(external.to_ipv6_mapped().octets());
                }
                Some(answer)
            }
            // A NAT-PMP router that is asked in PCP.
            [2, opcode, ..] if manners.natpmp.is_some() => Some(vec![0, opcode | 0x80, 0, 1, 0, 0, 0, 7]),
            [0, opcode, ..] => {
                let result = manners.natpmp?;
                let mut answer = vec![0, opcode | 0x80];
                answer.extend(result.to_be_bytes());
                answer.extend(epoch);
                if opcode == 0 {
                    let IpAddr::V4(external) = manners.external else { panic!() };
                    answer.extend(external.octets());
                } else {
                    let ports = |at: usize| u16::from_be_bytes([asked[at], asked[at + 1]]);
                    let lifetime = u32::from_be_bytes(asked[8..12].try_into().unwrap());
                    let transport = if opcode == 1 { 17 } else { 6 };
                    let port =
                        if result == 0 { self.map(transport, ports(4), ports(6), lifetime) } else { 0 };
                    answer.extend(ports(4).to_be_bytes());
                    answer.extend(port.to_be_bytes());
                    answer.extend((if lifetime == 0 { 0 } else { manners.lifetime }).to_be_bytes());
                }
                Some(answer)
            }
            _ => None,
        }
    }

    async fn http(&self, mut stream: Box<dyn TcpStream>) {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        let wanted = |text: &str| {
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            (body.len() >= length.map_or(0, |length| length.parse().unwrap())).then_some(())
        };
        while wanted(&text).is_none() {
            match stream.read(&mut buffer).await {
                Ok(read @ 1..) => text.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
                _ => return,
            }
        }
        let (status, body) = self.page(&text);
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    fn page(&self, request: &str) -> (u16, String) {
        let (manners, ..) = self.state().clone();
        let kind = format!("urn:schemas-upnp-org:service:WANIPConnection:{}", manners.version);
        if request.starts_with("GET /rootDesc.xml") {
            let plain = format!(
                "<root><device><serviceList><service><serviceType>{kind}</serviceType><controlURL>/ctl</controlURL>\
                 </service></serviceList></device></root>"
            );
            return (200, manners.description.unwrap_or(plain));
        }
        if !request.starts_with("POST /ctl") || manners.upnp.is_none() {
            return (404, String::new());
        }
        let field = |name: &str| {
            let (_, rest) = request.split_once(&format!("<{name}>"))?;
            rest.split_once(&format!("</{name}>")).map(|(text, _)| text.to_owned())
        };
        let number = |name: &str| field(name).unwrap().parse::<u32>().unwrap();
        let action = request.split_once('#').unwrap().1.split('"').next().unwrap().to_owned();
        let transport = if field("NewProtocol").as_deref() == Some("UDP") { 17 } else { 6 };
        let inner = match action.as_str() {
            "GetExternalIPAddress" => {
                format!("<NewExternalIPAddress>{}</NewExternalIPAddress>", manners.external)
            }
            "AddPortMapping" | "AddAnyPortMapping" => {
                let mut state = self.state();
                state.2 += 1;
                if let Some(codes) = state.0.upnp.as_mut().filter(|codes| !codes.is_empty()) {
                    let code = codes.remove(0);
                    let fault = format!(
                        "<s><errorCode>{code}</errorCode><errorDescription>no</errorDescription></s>"
                    );
                    return (500, fault);
                }
                let (internal, external) =
                    (number("NewInternalPort") as u16, number("NewExternalPort") as u16);
                state.1.insert((transport, external), (internal, number("NewLeaseDuration")));
                format!("<NewReservedPort>{external}</NewReservedPort>")
            }
            "DeletePortMapping" => {
                self.state().1.remove(&(transport, number("NewExternalPort") as u16));
                String::new()
            }
            _ => return (500, "<s><errorCode>401</errorCode></s>".to_owned()),
        };
        (200, format!("<s><u:{action}Response xmlns:u=\"{kind}\">{inner}</u:{action}Response></s>"))
    }
}
