//! The search for routers (SSDP; UPnP Device Architecture 1.1 section 1.3).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::location::{Location, LocationError};

/// Where searches go.
pub const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 1900);

/// What is looked for: routers of both versions, and their services, as some routers answer to these only.
pub const TARGETS: [&str; 4] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// Headers of an answer that are looked at.
const HEADERS: usize = 32;

/// The search for `target`, to be answered within `seconds`.
pub fn search(target: &str, seconds: u8) -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: {seconds}\r\nST: {target}\r\n\r\n"
    )
}

/// Somebody who says to be a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Where its description lies.
    pub location: Location,
    /// What it says to be.
    pub target: String,
}

/// Why an answer does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SsdpError {
    /// It is no answer in the form of HTTP.
    #[error("it is no answer to a search")]
    Malformed,
    /// Of another device.
    #[error("it is not of a router")]
    NoRouter,
    /// It does not say where the description is.
    #[error("it names no description")]
    NoLocation,
    /// It names a place that is not looked at.
    #[error("the place of its description: {0}")]
    Location(#[from] LocationError),
}

impl Answer {
    /// Reads the answer that came from `sender`.
    pub fn parse(datagram: &[u8], sender: IpAddr) -> Result<Self, SsdpError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(datagram) {
            Ok(httparse::Status::Complete(_)) if response.code == Some(200) => {}
            _ => return Err(SsdpError::Malformed),
        }
        let header = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        let target = header("ST").unwrap_or_default();
        let is_router = ["InternetGatewayDevice:", "WANIPConnection:", "WANPPPConnection:"];
        if !is_router.iter().any(|kind| target.contains(kind)) {
            return Err(SsdpError::NoRouter);
        }
        let location = header("LOCATION").ok_or(SsdpError::NoLocation)?;
        Ok(Self { location: Location::parse(location.trim(), sender)?, target: target.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));

    fn answer(location: &str, target: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {target}\r\nUSN: uuid:x::{target}\r\nEXT:\r\nSERVER: Debian \
             UPnP/1.1 MiniUPnPd/2.3.1\r\nLocation: {location}\r\n\r\n"
        )
    }

    #[test]
    fn the_search() {
        let search = search(TARGETS[0], 1);
        assert!(search.starts_with("M-SEARCH * HTTP/1.1\r\n") && search.ends_with("\r\n\r\n"));
        assert!(search.contains("\r\nMAN: \"ssdp:discover\"\r\n"));
    }

    #[test]
    fn answers() {
        let good = answer("http://192.168.1.1:5000/rootDesc.xml", TARGETS[1]);
        assert_eq!(Answer::parse(good.as_bytes(), ROUTER).unwrap().location.path, "/rootDesc.xml");
        let other = answer("http://192.168.1.1:80/tv.xml", "urn:schemas-upnp-org:device:MediaServer:1");
        assert_eq!(Answer::parse(other.as_bytes(), ROUTER), Err(SsdpError::NoRouter));
        let away = answer("http://203.0.113.1:80/x", TARGETS[0]);
        let elsewhere = LocationError::Elsewhere([203, 0, 113, 1].into());
        assert_eq!(Answer::parse(away.as_bytes(), ROUTER), Err(elsewhere.into()));
        assert_eq!(Answer::parse(b"NOTIFY * HTTP/1.1\r\n\r\n", ROUTER), Err(SsdpError::Malformed));
        assert_eq!(Answer::parse(b"HTTP/1.1 500 No\r\n\r\n", ROUTER), Err(SsdpError::Malformed));
        for len in 0..good.len() {
            assert!(Answer::parse(&good.as_bytes()[..len], ROUTER).is_err());
        }
        let many = good.replace("EXT:", &"X: y\r\n".repeat(100));
        assert_eq!(Answer::parse(many.as_bytes(), ROUTER), Err(SsdpError::Malformed));
    }
}
