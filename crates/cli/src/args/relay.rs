//! Arguments of `towline relay`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  towline relay --user ann:secret --relay-ip 203.0.113.5\n  \
                        towline relay --secret KEY --relay-ip 192.168.1.5 --external-ip 203.0.113.5\n  \
                        towline relay --secret KEY --relay-ip 203.0.113.5 --tls-certificate fullchain.pem --tls-key privkey.pem")]
pub(crate) struct Relay {
    /// Address to listen to, for UDP and TCP; may be repeated. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:3478")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Certificate of this host for TLS, in PEM, and those that lead to whom clients trust.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM and without a password.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Address to listen to for TLS; may be repeated.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:5349", requires = "tls_certificate")]
    pub(crate) tls_listen: Vec<SocketAddr>,
    /// A user and the password; may be repeated.
    #[arg(long, value_name = "NAME:PASSWORD", value_parser = user)]
    pub(crate) user: Vec<(String, String)>,
    /// Secret of time-limited credentials: who knows it makes names and passwords that end.
    #[arg(long, value_name = "KEY", env = "TOWLINE_RELAY_SECRET", hide_env_values = true,
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) secret: Option<String>,
    /// Address of this host from which it relays; one of IPv4 and one of IPv6.
    #[arg(long = "relay-ip", value_name = "ADDRESS", required = true)]
    pub(crate) addresses: Vec<IpAddr>,
    /// IPv4 address by which others reach the one of this host, if a NAT is between that leaves ports alone.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) external_ip: Option<Ipv4Addr>,
    /// Name of the place that the passwords are for.
    #[arg(long, value_name = "NAME", default_value = "towline")]
    pub(crate) realm: String,
    /// Most allocations at one time.
    #[arg(long, value_name = "COUNT", default_value = "1000")]
    pub(crate) allocations: usize,
    /// Most allocations of one user.
    #[arg(long, value_name = "COUNT", default_value = "20")]
    pub(crate) allocations_per_user: usize,
    /// What one user may send and receive together, in megabits per second.
    #[arg(long, value_name = "MBIT", default_value = "100", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate_per_user: u64,
    /// Let users reach private networks, and this host, too: for trials only.
    #[arg(long)]
    pub(crate) allow_private_peers: bool,
}

fn user(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, password)) if !name.is_empty() && !password.is_empty() => {
            Ok((name.to_owned(), password.to_owned()))
        }
        _ => Err("it has the form NAME:PASSWORD".to_owned()),
    }
}
