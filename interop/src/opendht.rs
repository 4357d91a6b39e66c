//! A node of the newest OpenDHT, by the Python package's bindings.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::{Process, free_udp_port};

/// Starting takes as long as making an RSA key.
const START: Duration = Duration::from_mins(1);

/// A search, or a put, gives up by itself well before this.
const OPERATION: Duration = Duration::from_secs(30);

/// Values of listens that may wait for the test to ask for them.
const EVENTS: usize = 1024;

/// A running node.
#[derive(Debug)]
pub struct PyOpendht {
    process: Process,
    address: SocketAddr,
    hello: Hello,
    requests: u64,
    events: VecDeque<(u64, PyValue)>,
}

#[derive(Debug, Deserialize)]
struct Hello {
    version: String,
    node: String,
    key: Option<KeyIds>,
}

/// The two ids of a public key, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KeyIds {
    /// SHA-1 of the key, 40 digits.
    pub id: String,
    /// SHA-256 of the key, 64 digits.
    pub long_id: String,
}

/// A value as the bindings show it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PyValue {
    /// The number of the value.
    pub id: u64,
    /// The data, in hexadecimal.
    pub data: String,
    /// The user type, empty when there is none.
    pub user_type: String,
    /// The key that signed it.
    pub owner: Option<KeyIds>,
    /// The key it was encrypted for, once decrypted.
    pub recipient: Option<String>,
}

impl PyValue {
    /// The data as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        hex::decode(&self.data).unwrap_or_default()
    }
}

/// How a value is put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    /// The number of the value; the library draws one when there is none.
    pub id: Option<u64>,
    /// Sign it with the node's key.
    pub signed: bool,
    /// Encrypt it (and sign it) for the key with this long id, found on the DHT.
    pub recipient: Option<String>,
    /// The user type.
    pub user_type: Option<String>,
    /// Announce it again until the node ends.
    pub permanent: bool,
}

impl PyOpendht {
    /// Starts a node on a free port. With an `identity` it makes a key of 2048 bits under that name.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(python: &Path, identity: Option<&str>, bootstrap: Option<SocketAddr>) -> Result<Self> {
        let port = free_udp_port()?;
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/opendht_peer.py"));
        command.args(["--port", &port.to_string()]);
        if let Some(name) = identity {
            command.args(["--identity", name]);
        }
        let mut process = Process::start(format!("opendht:{port}"), command)?;
        let hello = process.expect("hello", START, |line| answer_to(line, 0)).await?;
        let hello = serde_json::from_value(hello).context("hello")?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut peer = Self { process, address, hello, requests: 0, events: VecDeque::new() };
        if let Some(bootstrap) = bootstrap {
            peer.bootstrap(bootstrap).await?;
        }
        Ok(peer)
    }

    /// Where it listens, on loopback.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Version of the library.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.hello.version
    }

    /// The 40 hexadecimal digits of its node id.
    #[must_use]
    pub fn node_id(&self) -> &str {
        &self.hello.node
    }

    /// The ids of its key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&KeyIds> {
        self.hello.key.as_ref()
    }

    /// Pings another node and joins its network.
    ///
    /// # Errors
    /// When the program does not answer.
    pub async fn bootstrap(&mut self, address: SocketAddr) -> Result<()> {
        let request = json!({"op": "bootstrap", "host": address.ip().to_string(), "port": address.port()});
        self.ask(request).await.map(drop)
    }

    /// Waits until it counts at least `count` good nodes on IPv4, by asking again and again.
    ///
    /// # Errors
    /// When it does not within 30 s.
    pub async fn wait_for_nodes(&mut self, count: u64) -> Result<()> {
        let deadline = Instant::now() + OPERATION;
        loop {
            let answer = self.ask(json!({"op": "nodes"})).await?;
            if answer["good"].as_u64().is_some_and(|good| good >= count) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("opendht: {answer}, not {count}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Puts a value; returns its number (of an encrypted one the number that the library drew is not known).
    ///
    /// # Errors
    /// When no node took it, or the recipient's key was not found.
    pub async fn put(&mut self, key: &str, data: &[u8], put: Put) -> Result<u64> {
        let kind = match (&put.recipient, put.signed) {
            (Some(_), _) => "encrypted",
            (None, true) => "signed",
            (None, false) => "plain",
        };
        let answer = self
            .ask(json!({
                "op": "put", "key": key, "data": hex::encode(data), "kind": kind, "to": put.recipient,
                "id": put.id, "user_type": put.user_type, "permanent": put.permanent,
            }))
            .await?;
        if answer["ok"] != json!(true) {
            bail!("put: {answer}");
        }
        answer["id"].as_u64().context("the number of the value")
    }

    /// All values at a key.
    ///
    /// # Errors
    /// When the search fails.
    pub async fn get(&mut self, key: &str) -> Result<Vec<PyValue>> {
        self.get_where(key, None).await
    }

    /// The values at a key that meet a condition such as `WHERE id=7`.
    ///
    /// # Errors
    /// When the search fails.
    pub async fn get_where(&mut self, key: &str, condition: Option<&str>) -> Result<Vec<PyValue>> {
        let mut answer = self.ask(json!({"op": "get", "key": key, "where": condition})).await?;
        if answer["ok"] != json!(true) {
            bail!("get: {answer}");
        }
        serde_json::from_value(answer["values"].take()).context("values")
    }

    /// Asks to be told of values at a key; returns what [`Self::next_value`] takes.
    ///
    /// # Errors
    /// When the program does not answer.
    pub async fn listen(&mut self, key: &str) -> Result<u64> {
        self.ask(json!({"op": "listen", "key": key})).await?;
        Ok(self.requests)
    }

    /// The next value that a listen reports as there (not as expired) and that `wanted` accepts.
    ///
    /// # Errors
    /// When none arrives within 30 s.
    pub async fn next_value(&mut self, listen: u64, wanted: impl Fn(&PyValue) -> bool) -> Result<PyValue> {
        let meant = |(of, value): &(u64, PyValue)| *of == listen && wanted(value);
        if let Some(at) = self.events.iter().position(meant)
            && let Some((_, value)) = self.events.remove(at)
        {
            return Ok(value);
        }
        let pick = |line: &str| listened(line).filter(meant).map(|(_, value)| value);
        self.process.expect("a value", OPERATION, pick).await
    }

    /// Ends a listen.
    ///
    /// # Errors
    /// When the program does not answer.
    pub async fn cancel(&mut self, listen: u64) -> Result<()> {
        self.ask(json!({"op": "cancel", "listen": listen})).await.map(drop)
    }

    /// Ends its input and waits until it has gone.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn stop(self) -> Result<()> {
        self.process.finish(OPERATION).await
    }

    /// Sends a request and waits for its answer; keeps the values that listens report meanwhile.
    async fn ask(&mut self, mut request: Json) -> Result<Json> {
        self.requests += 1;
        let number = self.requests;
        request["n"] = json!(number);
        self.process.say(&request.to_string()).await?;
        let what = format!("the answer to {}", request["op"]);
        let events = &mut self.events;
        let pick = |line: &str| {
            if let Some(event) = listened(line) {
                events.truncate(EVENTS - 1);
                events.push_back(event);
            }
            answer_to(line, number)
        };
        let answer = self.process.expect(&what, OPERATION, pick).await?;
        match answer.get("error") {
            Some(error) => bail!("{what}: {error}"),
            None => Ok(answer),
        }
    }
}

fn answer_to(line: &str, number: u64) -> Option<Json> {
    let answer = serde_json::from_str::<Json>(line).ok()?;
    (answer["re"].as_u64()? == number).then_some(answer)
}

/// A value that a listen found, with the number of the listen; not one that expired.
fn listened(line: &str) -> Option<(u64, PyValue)> {
    let mut event = serde_json::from_str::<Json>(line).ok()?;
    let listen = event["listen"].as_u64().filter(|_| event["expired"] == json!(false))?;
    serde_json::from_value(event["value"].take()).ok().map(|value| (listen, value))
}
