//! Arguments of `cert`: those of dhtnet-crtmgr by the same letters, and some more.

use std::path::PathBuf;

use clap::ValueHint;

use super::device_name;

#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("what").args(["setup", "identifier", "interactive", "output"]).required(true)
        .multiple(true),
    after_help = "Examples:\n  towline cert --setup -o /etc/dhtnet\n  towline cert -o ca\n  \
                  towline cert -c ca/ca.crt -p ca/ca.pem -n laptop -o laptop\n  \
                  towline cert -a -c laptop/laptop.crt\n  towline cert -i\n\n\
                  NAME.pem is the private key, NAME.crt the certificate chain, leaf first: what dhtnet's tools, OpenDHT, \
                  and `towline nc -c NAME.crt -p NAME.pem` read."
)]
pub(crate) struct Cert {
    /// Make a CA in DIR/CA/ca-server.* and an identity signed by it in DIR/id/id-server.*.
    #[arg(short, long, requires = "output", conflicts_with_all = ["identifier", "interactive", "certificate", "name"])]
    pub(crate) setup: bool,
    /// Certificate of the CA that signs; without it the new certificate is a CA itself. With -a: whose ids to print.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) certificate: Option<PathBuf>,
    /// Private key of that certificate.
    #[arg(short, long, aliases = ["privatekey", "privateKey"], value_name = "FILE", requires = "certificate",
          value_hint = ValueHint::FilePath)]
    pub(crate) private_key: Option<PathBuf>,
    /// File whose first line is the password of that key.
    #[arg(long, value_name = "FILE", requires = "private_key", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
    /// Directory for the new files.
    #[arg(short, long, value_name = "DIR", conflicts_with = "identifier", value_hint = ValueHint::DirPath)]
    pub(crate) output: Option<PathBuf>,
    /// Print the ids of a certificate.
    #[arg(short = 'a', long, requires = "certificate", conflicts_with = "interactive")]
    pub(crate) identifier: bool,
    /// Name of the new certificate and its files; default: `certificate`, or `ca` for a CA.
    #[arg(short, long, value_parser = file_name, conflicts_with_all = ["identifier", "interactive"])]
    pub(crate) name: Option<String>,
    /// Ask what is needed, and write a configuration file for `towline nc` and dnc too.
    #[arg(short, long, conflicts_with = "output")]
    pub(crate) interactive: bool,
    /// Length of new RSA keys in bits.
    #[arg(long, value_name = "BITS", default_value = "4096", value_parser = ["2048", "3072", "4096"])]
    pub(crate) key_size: String,
    /// Replace files that exist. Keys in them are lost.
    #[arg(long)]
    pub(crate) force: bool,
}

/// A name for a certificate that is also one for files.
fn file_name(text: &str) -> Result<String, String> {
    let name = device_name(text)?;
    if name.contains(['/', '\\']) || name.starts_with(['.', '-']) {
        return Err("it names files too: no slashes, and no dot or dash at its beginning".to_owned());
    }
    Ok(name)
}
