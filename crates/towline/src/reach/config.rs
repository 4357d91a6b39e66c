//! Which servers a node may ask, as values and as text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use towline_turn::Credentials;

use super::{PORT, TLS_PORT, with_port_or};

/// Longest host, name or secret that is taken.
const MAX_PART: usize = 255;
/// Names that are made of a shared secret are good for this long. An allocation goes on living under the name that made it.
const MADE_FOR: Duration = Duration::from_hours(24);

/// What helps a node to be reached, and to reach others, from behind NATs and firewalls. Connections to other Towlines use it;
/// Jami peers get to see the host's own addresses only. The default asks nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// STUN servers as `host:port`, asked over UDP and TCP. Each learns this device's address and that it connects to somebody; not
    /// to whom. At most four addresses are asked, of as many servers as possible; two servers are enough. A TURN server is one, too.
    /// Default: none.
    pub stun: Vec<String>,
    /// Relays. As long as it is not known which of them is fast, they are asked all at once for an address when one may be needed, and
    /// the first that answers is used; afterwards that one is asked before the others. Not more than two are in use. At most 16
    /// count. Default: none.
    ///
    /// Those that are not in use are checked for as long as the node runs: when it starts, when the network has changed, a minute after
    /// they were wanted, and then ever more rarely, every 4 to 8 minutes at last. Each check is one question without the user's name, as
    /// every TURN client begins with: a datagram each way, or a connection that is closed after it. So relays learn that this device
    /// is there, and from where.
    pub relays: Vec<Relay>,
    /// TCP ports at which peers connect to this device, beside the one that each attempt takes for itself; at most eight. With 443 it is
    /// met by devices whose network lets nothing out but TCP to that port, if it has a public address, or a NAT before it that keeps
    /// ports or opens this one on request; to the rest of the world it looks like a server that hangs up. Below 1024 peers try
    /// none but 443. [`Node::start`](crate::Node::start) fails if one of them cannot be had
    /// ([`ListenError`](crate::ListenError)). Default: none.
    pub tcp_ports: Vec<u16>,
    /// Certificates in DER that vouch for relays spoken to on TLS, beside those of the system. Default: none.
    pub relay_roots: Vec<Vec<u8>>,
    /// Ask the router to let peers in, and what comes for the DHT, by PCP, NAT-PMP and UPnP at once. Default: off;
    /// [`Config::internet`](crate::Config::internet) turns it on.
    pub port_mapping: bool,
}

/// A relay: a TURN server for datagrams (RFC 8656), and who asks it.
///
/// As text it is a URI of RFC 7065 with a user in it: `turn:USER:SECRET@HOST[:PORT][?transport=udp|tcp]`, and
/// `turns:USER:SECRET@HOST[:PORT]` for TLS. In `USER` and `SECRET` a byte may be written `%XX`, and `%`, `@` and, in `USER`, `:`
/// must be. With `?auth=shared-secret` the secret is [`RelaySecret::Shared`].
#[derive(Clone, PartialEq, Eq)]
pub struct Relay {
    /// `host:port`.
    pub server: String,
    /// How the server is spoken to. What it relays are datagrams either way.
    pub transport: RelayTransport,
    /// The user's name. A service that gives out passwords for a time gives such a name with each: `EXPIRY:NAME`, in seconds since
    /// 1970.
    pub user: String,
    /// What proves who asks. Not shown by `Debug` and `Display`.
    pub secret: RelaySecret,
}

/// How a relay is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RelayTransport {
    /// By datagrams.
    #[default]
    Udp,
    /// On a TCP connection: also from where no UDP leaves.
    Tcp,
    /// On TLS over TCP: also from where little but the web is reached.
    Tls,
}

/// What proves to a relay who asks.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelaySecret {
    /// The user's password: for good, or for as long as the name says.
    Password(String),
    /// What the server itself makes such names and passwords of (`towline relay --secret`, `use-auth-secret` of coturn;
    /// draft-uberti-behave-turn-rest-00). One for a day is made whenever the server is asked. Who has it can name anybody: it is for
    /// devices of whoever runs the relay.
    Shared(String),
}

/// Why a text names no relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelaySyntaxError {
    /// It begins neither with `turn:` nor with `turns:`.
    #[error("a relay is turn:USER:SECRET@HOST:PORT, or turns: for TLS")]
    Scheme,
    /// There is no `USER:SECRET@`.
    #[error("user and secret are missing: turn:USER:SECRET@HOST:PORT")]
    Credentials,
    /// There is no host, or its port is no number.
    #[error("no server is named: turn:USER:SECRET@HOST:PORT")]
    Server,
    /// The transport is not one of the scheme: `turn` goes on `udp` and `tcp`, `turns` on `tcp`.
    #[error("the transport is neither udp nor tcp, or not one of the scheme")]
    Transport,
    /// What stands behind the question mark is neither `transport=` nor `auth=shared-secret`.
    #[error("neither transport=udp, transport=tcp nor auth=shared-secret")]
    Parameter,
    /// A percent sign without two hexadecimal digits, or bytes that are no text.
    #[error("a percent sign is written %25, and what %XX stands for is UTF-8")]
    Escape,
    /// A part is longer than 255 bytes.
    #[error("a part is longer than {MAX_PART} bytes")]
    TooLong,
}

impl Relay {
    /// What the server is told, at this time.
    pub(super) fn credentials(&self, unix_time: Duration) -> Credentials {
        match &self.secret {
            RelaySecret::Password(password) => Credentials::new(&self.user, password),
            RelaySecret::Shared(secret) => {
                let until = unix_time + MADE_FOR;
                Credentials::time_limited(secret.as_bytes(), &self.user, until.as_secs())
            }
        }
    }

    /// When the name expires, as it says itself.
    pub(super) fn expires(&self) -> Option<Duration> {
        let seconds = self.user.split(':').next()?.parse().ok().filter(|_| self.user.len() >= 9)?;
        matches!(self.secret, RelaySecret::Password(_)).then(|| Duration::from_secs(seconds))
    }

    /// The server's name or address, for its certificate.
    pub(super) fn host(&self) -> &str {
        let host = self.server.rsplit_once(':').map_or(self.server.as_str(), |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
}

impl FromStr for Relay {
    type Err = RelaySyntaxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once(':').ok_or(RelaySyntaxError::Scheme)?;
        let (mut transport, port) = match scheme {
            "turn" => (RelayTransport::Udp, PORT),
            "turns" => (RelayTransport::Tls, TLS_PORT),
            _ => return Err(RelaySyntaxError::Scheme),
        };
        let (credentials, server) = rest.rsplit_once('@').ok_or(RelaySyntaxError::Credentials)?;
        let (user, secret) = credentials.split_once(':').ok_or(RelaySyntaxError::Credentials)?;
        let (user, secret) = (unescape(user)?, unescape(secret)?);
        if user.is_empty() || secret.is_empty() {
            return Err(RelaySyntaxError::Credentials);
        }
        let (server, parameters) = server.split_once('?').unwrap_or((server, ""));
        let server = with_port_or(server, port).ok_or(RelaySyntaxError::Server)?;
        if [&user, &secret, &server].iter().any(|part| part.len() > MAX_PART) {
            return Err(RelaySyntaxError::TooLong);
        }
        let mut secret = RelaySecret::Password(secret);
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match (parameter.split_once('='), transport) {
                (Some(("transport", "tcp")), RelayTransport::Udp) => transport = RelayTransport::Tcp,
                (Some(("transport", "udp")), RelayTransport::Udp)
                | (Some(("transport", "tcp")), RelayTransport::Tls) => {}
                (Some(("transport", _)), _) => return Err(RelaySyntaxError::Transport),
                (Some(("auth", "shared-secret")), _) => {
                    let (RelaySecret::Password(text) | RelaySecret::Shared(text)) = secret;
                    secret = RelaySecret::Shared(text);
                }
                _ => return Err(RelaySyntaxError::Parameter),
            }
        }
        Ok(Self { server, transport, user, secret })
    }
}

/// Replaces `%XX` by what it stands for.
fn unescape(text: &str) -> Result<String, RelaySyntaxError> {
    let (mut bytes, mut out) = (text.bytes(), Vec::with_capacity(text.len()));
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        out.push(match byte {
            b'%' => match (digit(), digit()) {
                (Some(high), Some(low)) => (high * 16 + low) as u8,
                _ => return Err(RelaySyntaxError::Escape),
            },
            plain => plain,
        });
    }
    String::from_utf8(out).map_err(|_| RelaySyntaxError::Escape)
}

/// The same backwards, for what may not stand in a name.
fn escape(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|character| match character {
        '%' | '@' | ':' => write!(f, "%{:02X}", u32::from(character)),
        plain => write!(f, "{plain}"),
    })
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, transport) = match self.transport {
            RelayTransport::Udp => ("turn:", "udp"),
            RelayTransport::Tcp => ("turn:", "tcp"),
            RelayTransport::Tls => ("turns:", "tcp"),
        };
        f.write_str(scheme)?;
        escape(f, &self.user)?;
        write!(f, "@{}?transport={transport}", self.server)?;
        if matches!(self.secret, RelaySecret::Shared(_)) {
            f.write_str("&auth=shared-secret")
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({self})")
    }
}

impl fmt::Debug for RelaySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(..)",
            Self::Shared(_) => "Shared(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> RelaySecret {
        RelaySecret::Password(text.to_owned())
    }

    #[test]
    fn a_relay_is_read_and_its_secret_not_shown() {
        let relay: Relay = "turn:ann:a:b?c@relay.example:3479?transport=tcp".parse().unwrap();
        assert_eq!((relay.user.as_str(), &relay.secret), ("ann", &password("a:b?c")));
        assert_eq!((relay.server.as_str(), relay.transport), ("relay.example:3479", RelayTransport::Tcp));
        assert_eq!(relay.to_string(), "turn:ann@relay.example:3479?transport=tcp");
        assert!(!format!("{relay:?} {:?}", relay.secret).contains("a:b"));
        assert_eq!((relay.host(), relay.expires()), ("relay.example", None));
        let relay: Relay = "turn:ann:b@[2001:db8::1]".parse().unwrap();
        assert_eq!((relay.server.as_str(), relay.transport), ("[2001:db8::1]:3478", RelayTransport::Udp));
        assert_eq!(relay.host(), "2001:db8::1");
    }

    #[test]
    fn over_tls_it_has_a_port_of_its_own() {
        let relay: Relay = "turns:ann:b@relay.example".parse().unwrap();
        assert_eq!((relay.server.as_str(), relay.transport), ("relay.example:5349", RelayTransport::Tls));
        assert_eq!(relay.to_string(), "turns:ann@relay.example:5349?transport=tcp");
        assert_eq!("turns:ann:b@relay.example:5349?transport=tcp".parse(), Ok(relay));
    }

    #[test]
    fn names_for_a_time_hold_a_colon_and_secrets_anything() {
        let relay: Relay = "turn:1700000000%3Aann:a%40b%25c/+=@relay.example".parse().unwrap();
        assert_eq!((relay.user.as_str(), &relay.secret), ("1700000000:ann", &password("a@b%c/+=")));
        assert_eq!(relay.expires(), Some(Duration::from_secs(1_700_000_000)));
        assert_eq!(relay.to_string(), "turn:1700000000%3Aann@relay.example:3478?transport=udp");
    }

    #[test]
    fn of_a_shared_secret_names_are_made() {
        let relay: Relay = "turn:ann:north@relay.example?auth=shared-secret&transport=tcp".parse().unwrap();
        assert_eq!(relay.secret, RelaySecret::Shared("north".to_owned()));
        assert_eq!(relay.to_string(), "turn:ann@relay.example:3478?transport=tcp&auth=shared-secret");
        let made = relay.credentials(Duration::from_secs(1_700_000_000));
        assert_eq!(made.username(), "1700086400:ann");
        assert_eq!(relay.expires(), None);
    }

    #[test]
    fn what_is_no_relay_is_told() {
        let refused = |text: &str| text.parse::<Relay>().unwrap_err();
        assert_eq!(refused("stun:a:b@c"), RelaySyntaxError::Scheme);
        assert_eq!(refused("turn"), RelaySyntaxError::Scheme);
        assert_eq!(refused("turn:relay.example"), RelaySyntaxError::Credentials);
        assert_eq!(refused("turn:ann@relay.example"), RelaySyntaxError::Credentials);
        assert_eq!(refused("turn::b@c"), RelaySyntaxError::Credentials);
        assert_eq!(refused("turn:a:b@c:port"), RelaySyntaxError::Server);
        assert_eq!(refused("turn:a:b@:3478"), RelaySyntaxError::Server);
        assert_eq!(refused("turn:a:b@"), RelaySyntaxError::Server);
        assert_eq!(refused("turn:a:b@c?transport=tls"), RelaySyntaxError::Transport);
        assert_eq!(refused("turns:a:b@c?transport=udp"), RelaySyntaxError::Transport);
        assert_eq!(refused("turn:a:b@c?tcp"), RelaySyntaxError::Parameter);
        assert_eq!(refused("turn:a:b@c?auth=none"), RelaySyntaxError::Parameter);
        assert_eq!(refused("turn:a:%4@c"), RelaySyntaxError::Escape);
        assert_eq!(refused("turn:a:%ff@c"), RelaySyntaxError::Escape);
        assert_eq!(refused(&format!("turn:a:{}@c", "b".repeat(256))), RelaySyntaxError::TooLong);
    }
}
