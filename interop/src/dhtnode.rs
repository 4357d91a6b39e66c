//! Debian's `dhtnode`, by its prompt.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::{Process, free_udp_port};

/// Starting takes as long as making an RSA key.
const START: Duration = Duration::from_mins(1);

/// A search, or a put, gives up by itself well before this.
const OPERATION: Duration = Duration::from_secs(30);

/// A running `dhtnode`.
#[derive(Debug)]
pub struct Dhtnode {
    process: Process,
    address: SocketAddr,
    node: String,
    key: Option<String>,
}

/// A value as `dhtnode` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrintedValue {
    /// The number of the value.
    pub id: u64,
    /// It says `signed`.
    pub signed: bool,
    /// It says `decrypted`.
    pub decrypted: bool,
    /// The user type, empty when there is none.
    pub user_type: String,
    /// The data; printed as text for the user type `text/plain`, in hexadecimal otherwise.
    ///
    /// Long data is not printed, only its length: then this is empty.
    pub data: Vec<u8>,
    /// Length of the data in bytes.
    pub length: usize,
}

impl Dhtnode {
    /// Starts a node on a free port, with a key of its own when `identity` is set.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(program: &Path, identity: bool, bootstrap: Option<SocketAddr>) -> Result<Self> {
        let port = free_udp_port()?;
        let mut command = Command::new(program);
        command.args(["-p", &port.to_string()]);
        if identity {
            command.arg("-i");
        }
        if let Some(bootstrap) = bootstrap {
            command.args(["-b", &bootstrap.to_string()]);
        }
        let mut process = Process::start(format!("dhtnode:{port}"), command)?;
        let node = process
            .expect("its node id", START, |line| {
                line.strip_prefix("OpenDHT node ")?.split(' ').next().map(str::to_owned)
            })
            .await?;
        let key = if identity {
            let key = |line: &str| line.strip_prefix("Public key ID ").map(|id| id.trim().to_owned());
            Some(process.expect("its key id", START, key).await?)
        } else {
            None
        };
        Ok(Self { process, address: SocketAddr::from(([127, 0, 0, 1], port)), node, key })
    }

    /// Where it listens, on loopback.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The 40 hexadecimal digits of its node id.
    #[must_use]
    pub fn node_id(&self) -> &str {
        &self.node
    }

    /// The 40 hexadecimal digits of its public key's id, if it has one.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Pings another node, as the command line's bootstrap does.
    ///
    /// # Errors
    /// When the program no longer reads.
    pub async fn bootstrap(&mut self, address: SocketAddr) -> Result<()> {
        self.process.say(&format!("b {address}")).await
    }

    /// Waits until it counts at least `count` good nodes on IPv4, by asking again and again.
    ///
    /// # Errors
    /// When it does not within 30 s.
    pub async fn wait_for_nodes(&mut self, count: usize) -> Result<()> {
        let deadline = tokio::time::Instant::now() + OPERATION;
        loop {
            self.process.forget();
            self.process.say("ll").await?;
            let known = self
                .process
                .expect("its known nodes", OPERATION, |line| {
                    line.strip_prefix("Known nodes: ")?.split(' ').next()?.parse::<usize>().ok()
                })
                .await?;
            if known >= count {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("dhtnode knows {known} nodes, not {count}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Puts a text, one word, with the user type `text/plain`; returns the number of the value.
    ///
    /// # Errors
    /// When no node took it.
    pub async fn put(&mut self, key: &str, text: &str) -> Result<u64> {
        self.put_with("p", key, text).await
    }

    /// Puts a text, one word, that it announces again until it ends.
    ///
    /// # Errors
    /// When no node took it.
    pub async fn put_permanent(&mut self, key: &str, text: &str) -> Result<u64> {
        self.put_with("pp", key, text).await
    }

    async fn put_with(&mut self, command: &str, key: &str, text: &str) -> Result<u64> {
        self.process.say(&format!("{command} {key} {text}")).await?;
        let outcome = self
            .process
            .expect("how the put went", OPERATION, |line| {
                prompted(line).strip_prefix("Put: ").map(str::to_owned)
            })
            .await?;
        let id = outcome.strip_prefix("success").and_then(|rest| rest.rsplit_once("Value ID: "));
        let (_, id) = id.with_context(|| format!("put: {outcome}"))?;
        u64::from_str_radix(id.trim(), 16).context("the number of the value")
    }

    /// Puts a text, one word, signed by its key.
    ///
    /// # Errors
    /// When no node took it.
    pub async fn put_signed(&mut self, key: &str, text: &str) -> Result<()> {
        self.process.say(&format!("s {key} {text}")).await?;
        self.expect_success("Put signed: ").await
    }

    /// Puts a text, one word, that only the owner of the key `recipient` can read; finds that key on the DHT first.
    ///
    /// # Errors
    /// When the key was not found or no node took the value.
    pub async fn put_encrypted(&mut self, key: &str, recipient: &str, text: &str) -> Result<()> {
        self.process.say(&format!("e {key} {recipient} {text}")).await?;
        self.expect_success("Put encrypted: ").await
    }

    async fn expect_success(&mut self, mark: &str) -> Result<()> {
        let pick = |line: &str| prompted(line).strip_prefix(mark).map(str::to_owned);
        let outcome = self.process.expect("how the put went", OPERATION, pick).await?;
        if outcome.starts_with("success") { Ok(()) } else { bail!("{mark}{outcome}") }
    }

    /// All values at a key.
    ///
    /// # Errors
    /// When the search does not end.
    pub async fn get(&mut self, key: &str) -> Result<Vec<PrintedValue>> {
        self.process.forget();
        self.process.say(&format!("g {key}")).await?;
        let mut values = Vec::new();
        let pick = |line: &str| {
            values.extend(parse_value(line));
            prompted(line)
                .starts_with("Get: completed")
                .then_some(true)
                .or_else(|| prompted(line).starts_with("Get: failure").then_some(false))
        };
        let completed = self.process.expect("the end of the search", OPERATION, pick).await?;
        if completed { Ok(values) } else { bail!("get: failure") }
    }

    /// Asks to be told of values at a key.
    ///
    /// # Errors
    /// When it does not start to listen.
    pub async fn listen(&mut self, key: &str) -> Result<()> {
        self.process.say(&format!("l {key}")).await?;
        let pick = |line: &str| prompted(line).starts_with("Listening").then_some(());
        self.process.expect("that it listens", OPERATION, pick).await
    }

    /// The next value that a listen, or a search, prints and that `wanted` accepts.
    ///
    /// # Errors
    /// When none arrives within 30 s.
    pub async fn next_value(&mut self, wanted: impl Fn(&PrintedValue) -> bool) -> Result<PrintedValue> {
        self.process.expect("a value", OPERATION, |line| parse_value(line).filter(&wanted)).await
    }

    /// Types any command.
    ///
    /// # Errors
    /// When the program no longer reads.
    pub async fn say(&mut self, line: &str) -> Result<()> {
        self.process.say(line).await
    }

    /// Ends its input and waits until it has gone.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn stop(self) -> Result<()> {
        self.process.finish(OPERATION).await
    }
}

/// A line without the prompt in front of it.
fn prompted(line: &str) -> &str {
    line.trim_start_matches(">> ")
}

/// `Value[id:77816cb6fc74ea6a signed (v0) data(text/plain):"text"]`
fn parse_value(line: &str) -> Option<PrintedValue> {
    let inside = prompted(line.trim()).strip_prefix("Value[id:")?.strip_suffix(']')?;
    let (id, rest) = inside.split_once(' ')?;
    let (flags, data) = rest.split_at(rest.find("data")?);
    let data = data.strip_prefix("data")?;
    let (user_type, data) = match data.strip_prefix('(') {
        Some(typed) => typed.split_once("):")?,
        None => ("", data.strip_prefix(':')?),
    };
    let (data, length) = match (data.strip_prefix('"'), data.strip_suffix(" bytes")) {
        (Some(text), _) => (text.strip_suffix('"')?.as_bytes().to_vec(), None),
        (None, Some(length)) => (Vec::new(), Some(length.parse().ok()?)),
        (None, None) => (hex::decode(data.trim()).ok()?, None),
    };
    let length = length.unwrap_or(data.len());
    Some(PrintedValue {
        id: u64::from_str_radix(id, 16).ok()?,
        signed: flags.contains("signed"),
        decrypted: flags.contains("decrypted"),
        user_type: user_type.to_owned(),
        data,
        length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_values_are_read() {
        let value = parse_value("\tValue[id:77816cb6fc74ea6a signed (v0) data(text/plain):\"a ]\" b\"]");
        let expected = PrintedValue {
            id: 0x7781_6cb6_fc74_ea6a,
            signed: true,
            decrypted: false,
            user_type: "text/plain".to_owned(),
            data: b"a ]\" b".to_vec(),
            length: 6,
        };
        assert_eq!(value, Some(expected));
        let plain = parse_value("Value[id:1 data:6162]").expect("a value");
        assert_eq!((plain.data, plain.signed), (b"ab".to_vec(), false));
        let long = parse_value("Value[id:1 data:61440 bytes]").expect("a value");
        assert_eq!((long.data, long.length), (Vec::new(), 61440));
        assert_eq!(parse_value("Get: found 1 value(s)"), None);
    }
}
