//! A D-Bus session bus for one daemon.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use serde::Serialize;
use serde_json::Value as Json;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use zbus::message::Type;
use zbus::zvariant::{DynamicType, Structure, Value};
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::{Signal, Signals};
use crate::eventually;

const DAEMON: &str = "cx.ring.Ring";

/// Every call is answered well before this.
const CALL: Duration = Duration::from_mins(1);

/// Signals on their way to [`Signals`].
const SIGNALS: usize = 4096;

/// A bus, and our connection to it.
#[derive(Debug)]
pub(super) struct Bus {
    connection: Connection,
    signals: Signals,
    pump: JoinHandle<()>,
    _daemon: Child,
}

impl Bus {
    /// Starts a bus whose socket is `run`/bus.
    pub(super) async fn start(run: &Path, log: &Path) -> Result<Self> {
        let socket = run.join("bus");
        let configuration = run.join("bus.conf");
        std::fs::write(&configuration, configuration_of(&socket))?;
        let log = std::fs::File::create(log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "dbus-daemon", "--nofork", "--nopidfile", "--config-file"]);
        command
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let daemon = command.spawn().context("dbus-daemon")?;
        let address = format!("unix:path={}", socket.display());
        let connection = eventually("the bus", async || {
            anyhow::ensure!(socket.exists(), "there is no socket yet");
            Ok(zbus::connection::Builder::address(address.as_str())?.build().await?)
        });
        let connection = connection.await?;
        let rule = MatchRule::builder().msg_type(Type::Signal).build();
        let mut stream = MessageStream::for_match_rule(rule, &connection, Some(SIGNALS)).await?;
        let signals = Signals::new();
        let into = signals.clone();
        let pump = tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let name = message.header().member().map(ToString::to_string).unwrap_or_default();
                into.push(Signal { at: Instant::now(), name, args: arguments(&message) });
            }
        });
        Ok(Self { connection, signals, pump, _daemon: daemon })
    }

    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Whether the daemon is on the bus.
    pub(super) async fn has_daemon(&self) -> Result<bool> {
        let names = zbus::fdo::DBusProxy::new(&self.connection).await?;
        Ok(names.name_has_owner(DAEMON.try_into()?).await?)
    }

    /// Calls a method of one of the daemon's objects; the first thing it returns.
    pub(super) async fn call(
        &self,
        object: &str,
        method: &str,
        arguments_of: &(impl Serialize + DynamicType),
    ) -> Result<Json> {
        let (path, interface) = (format!("/cx/ring/Ring/{object}"), format!("{DAEMON}.{object}"));
        let call = self.connection.call_method(
            Some(DAEMON),
            path.as_str(),
            Some(interface.as_str()),
            method,
            arguments_of,
        );
        let answer =
            tokio::time::timeout(CALL, call).await.with_context(|| format!("{method} was not answered"))?;
        let answer = answer.with_context(|| method.to_owned())?;
        Ok(arguments(&answer).into_iter().next().unwrap_or_default())
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

fn configuration_of(socket: &Path) -> String {
    format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
         <busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
         <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>\n",
        socket.display()
    )
}

fn arguments(message: &Message) -> Vec<Json> {
    let body = message.body();
    match body.deserialize::<Structure<'_>>() {
        Ok(structure) => structure.fields().iter().map(json).collect(),
        Err(_) => Vec::new(),
    }
}

fn json(value: &Value<'_>) -> Json {
    match value {
        Value::U8(n) => Json::from(*n),
        Value::Bool(truth) => Json::from(*truth),
        Value::I16(n) => Json::from(*n),
        Value::U16(n) => Json::from(*n),
        Value::I32(n) => Json::from(*n),
        Value::U32(n) => Json::from(*n),
        Value::I64(n) => Json::from(*n),
        Value::U64(n) => Json::from(*n),
        Value::F64(n) => Json::from(*n),
        Value::Str(text) => Json::from(text.as_str()),
        Value::Value(inner) => json(inner),
        Value::Array(items) => match items.iter().map(byte).collect::<Option<Vec<u8>>>() {
            Some(bytes) if !bytes.is_empty() => Json::from(hex::encode(bytes)),
            _ => items.iter().map(json).collect(),
        },
        Value::Structure(structure) => structure.fields().iter().map(json).collect(),
        Value::Dict(dict) => {
            let text =
                |key: &Value<'_>| json(key).as_str().map_or_else(|| json(key).to_string(), str::to_owned);
            Json::Object(dict.iter().map(|(key, value)| (text(key), json(value))).collect())
        }
        other => Json::from(format!("{other:?}")),
    }
}

fn byte(value: &Value<'_>) -> Option<u8> {
    if let Value::U8(byte) = value { Some(*byte) } else { None }
}
