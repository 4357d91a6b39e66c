//! Addresses of documents on a router: `http` URLs whose host is an IP address.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Longest URL that is looked at, in bytes.
const MAX_LEN: usize = 1024;

/// Where a document lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The server.
    pub server: SocketAddr,
    /// Path and query, from the `/` on.
    pub path: String,
}

/// Why an address is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Not `http://…`.
    #[error("it is no http address")]
    Scheme,
    /// The host is a name, or the port no number.
    #[error("its host is not an IP address with a port")]
    Host,
    /// Longer than 1024 bytes.
    #[error("it is too long")]
    TooLong,
    /// It has blanks or control characters.
    #[error("it has characters that no address has")]
    Characters,
    /// It points elsewhere than to who told it.
    #[error("it points to {0}, another host than the one that told it")]
    Elsewhere(IpAddr),
}

impl Location {
    /// Reads an absolute address that `teller` told, which must point to itself.
    pub fn parse(text: &str, teller: IpAddr) -> Result<Self, LocationError> {
        if text.len() > MAX_LEN {
            return Err(LocationError::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(LocationError::Characters);
        }
        let rest = text
            .get(..7)
            .filter(|scheme| scheme.eq_ignore_ascii_case("http://"))
            .and_then(|_| text.get(7..))
            .ok_or(LocationError::Scheme)?;
        let (host, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let server = host
            .parse::<SocketAddr>()
            .or_else(|_| host.trim_matches(['[', ']']).parse().map(|ip: IpAddr| SocketAddr::new(ip, 80)))
            .map_err(|_| LocationError::Host)?;
        if server.port() == 0 {
            return Err(LocationError::Host);
        }
        if server.ip() != teller {
            return Err(LocationError::Elsewhere(server.ip()));
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { server, path: format!("{slash}{path}") })
    }

    /// Resolves what a document that lies here calls another: an absolute address, or a path.
    pub fn join(&self, reference: &str) -> Result<Self, LocationError> {
        if reference.contains("://") {
            return Self::parse(reference, self.server.ip());
        }
        if reference.len() > MAX_LEN {
            return Err(LocationError::TooLong);
        }
        if !reference.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(LocationError::Characters);
        }
        let path = if reference.starts_with('/') {
            reference.to_owned()
        } else {
            // Beside this document.
            let plain = self.path.split('?').next().unwrap_or_default();
            let directory = plain.rfind('/').map_or("/", |at| &plain[..=at]);
            format!("{directory}{reference}")
        };
        Ok(Self { server: self.server, path })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.server, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 1));

    #[test]
    fn addresses_as_routers_write_them() {
        for (text, shown) in [
            ("http://192.168.1.1:5000/rootDesc.xml", "http://192.168.1.1:5000/rootDesc.xml"),
            ("HTTP://192.168.1.1/a?b=c", "http://192.168.1.1:80/a?b=c"),
            ("http://192.168.1.1", "http://192.168.1.1:80/"),
            ("http://192.168.1.1:49152?x", "http://192.168.1.1:49152/?x"),
        ] {
            assert_eq!(Location::parse(text, ROUTER).unwrap().to_string(), shown);
        }
        let v6 = "fe80::1".parse().unwrap();
        assert_eq!(Location::parse("http://[fe80::1]:80/d", v6).unwrap().path, "/d");
    }

    #[test]
    fn others_are_not_used() {
        let long = format!("http://192.168.1.1/{}", "a".repeat(2000));
        for (text, error) in [
            ("https://192.168.1.1/", LocationError::Scheme),
            ("ftp://192.168.1.1/", LocationError::Scheme),
            ("", LocationError::Scheme),
            ("http://", LocationError::Host),
            ("http://router.lan/", LocationError::Host),
            ("http://user@192.168.1.1/", LocationError::Host),
            ("http://192.168.1.1:0/", LocationError::Host),
            ("http://192.168.1.1:99999/", LocationError::Host),
            ("http://8.8.8.8/", LocationError::Elsewhere([8, 8, 8, 8].into())),
            ("http://127.0.0.1:631/admin", LocationError::Elsewhere([127, 0, 0, 1].into())),
            ("http://192.168.1.1/a\r\nHost: b", LocationError::Characters),
            (&long, LocationError::TooLong),
        ] {
            assert_eq!(Location::parse(text, ROUTER), Err(error), "{text:?}");
        }
    }

    #[test]
    fn references() {
        let here = Location::parse("http://192.168.1.1:80/igd/root.xml?v=1", ROUTER).unwrap();
        for (reference, path) in
            [("/ctl/IPConn", "/ctl/IPConn"), ("ctl/IPConn", "/igd/ctl/IPConn"), ("", "/igd/")]
        {
            assert_eq!(here.join(reference).unwrap().path, path);
        }
        assert_eq!(here.join("http://192.168.1.1:81/x").unwrap().server.port(), 81);
        assert_eq!(here.join("http://10.0.0.1/x"), Err(LocationError::Elsewhere([10, 0, 0, 1].into())));
        assert_eq!(here.join("/a b"), Err(LocationError::Characters));
    }
}
