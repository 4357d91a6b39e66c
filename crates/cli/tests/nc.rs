//! `nc`: TCP services of one device, reached from another.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use common::{DEADLINE, Device, Running, World, skip};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::identity::Identity;
use towline::{Config, ConnectionPolicy, DeviceId, Node};

/// A TCP service; each connection is served by a thread. Returns its port.
fn service(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    service_at("127.0.0.1:0", serve)
}

fn service_at(address: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.unwrap(), Arc::clone(&serve));
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Gives everything back at once, and ends when the other side has.
fn echo(mut stream: TcpStream) {
    let mut back = stream.try_clone().unwrap();
    // The other side may be gone, as some tests want it.
    let _ = std::io::copy(&mut stream, &mut back);
}

/// Says how much came when nothing more comes.
fn count(mut stream: TcpStream) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    write!(stream, "{} bytes, {}", all.len(), blake3::hash(&all)).unwrap();
}

/// How each connection to a service ended: with all that came, or with an error.
type Ends = Receiver<Result<Vec<u8>, ErrorKind>>;

/// A service that greets, and tells how its connections end.
fn watched() -> (u16, Ends) {
    let (tell, ends) = sync_channel(16);
    let port = service(move |mut stream| {
        stream.write_all(b"hello\n").unwrap();
        let mut all = Vec::new();
        let end = stream.read_to_end(&mut all).map(|_| all).map_err(|error| error.kind());
        tell.send(end).unwrap();
    });
    (port, ends)
}

/// `nc -l`, ready to be dialled.
fn listen(device: &Device, args: &[&str]) -> Running {
    let mut command = device.command("nc");
    command.arg("-l").args(args);
    let mut running = Running::spawn(command);
    running.until("registered");
    running
}

fn listen_to(device: &Device, port: u16, args: &[&str]) -> Running {
    let service = format!("127.0.0.1:{port}");
    let args: Vec<_> = ["--service", &service].into_iter().chain(args.iter().copied()).collect();
    listen(device, &args)
}

/// `nc` to a service.
fn dial(device: &Device, to: &str, port: u16, args: &[&str]) -> Command {
    let mut command = device.command("nc");
    command.args([to, "-P", &port.to_string()]).args(args);
    command
}

/// What a client that got all its input at once left behind.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

fn ask(mut command: Command, input: &[u8]) -> Answer {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    let writer = std::thread::spawn(move || {
        // It may end before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let (tell, told) = sync_channel(1);
    std::thread::spawn(move || {
        let output = child.wait_with_output().unwrap();
        tell.send(output).unwrap();
    });
    let output = told.recv_timeout(DEADLINE).expect("it ends in time");
    writer.join().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Answer { code: output.status.code(), out: output.stdout, err }
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn summary(bytes: &[u8]) -> String {
    format!("{} bytes, {}", bytes.len(), blake3::hash(bytes))
}

/// A node with the identity of a device; with Jami's dialect it is to ours what dnc is.
async fn node(world: &World, device: &Device, native: bool) -> Node {
    let identity = Identity::load(&device.home, None).unwrap();
    let config =
        Config::loopback().with_bootstrap(&world.bootstrap).with_policy(ConnectionPolicy::DangerouslyAnyone);
    let config = Config { native_dialect: native, ..config };
    let node = Node::start(Arc::new(towline::net::Os), config, identity).await.unwrap();
    node.dht().connected().await.unwrap();
    node
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("the test ends in time") });
}

#[test]
fn data_goes_both_ways_and_each_end_is_passed_on() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let (echoing, counting) = (service(echo), service(count));
    let (one, two) = (format!("127.0.0.1:{echoing}"), format!("localhost:{counting}"));
    let args = ["--service", &one, "--service", &two, "--accept-from", &anna.account, "--end-with-stdin"];
    let mut listening = listen(&ben, &args);
    let bytes = noise(8 << 20);
    let echoed = ask(dial(&anna, &ben.id, echoing, &[]), &bytes);
    assert_eq!(echoed.code, Some(0), "{}", echoed.err);
    assert!(echoed.out == bytes);
    // The answer comes after the end of the input, on a channel that is resolved by the other side.
    let counted = ask(dial(&anna, &ben.id, counting, &["-i", "LOCALHOST"]), &bytes);
    assert_eq!(counted.code, Some(0), "{}", counted.err);
    assert_eq!(String::from_utf8(counted.out).unwrap(), summary(&bytes));
    let closed = listening.until("channel_closed");
    assert_eq!((closed["sent"].as_u64(), closed["received"].as_u64()), (Some(8 << 20), Some(8 << 20)));
    // No input at all.
    let none = ask(dial(&anna, &ben.id, counting, &["-i", "localhost", "-q"]), b"");
    assert_eq!(String::from_utf8(none.out).unwrap(), summary(b""));
}

#[test]
fn as_a_proxy_command() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    // Like sshd: speaks first, answers line by line, and is the one that ends.
    let port = service(|mut stream| {
        stream.write_all(b"SSH-2.0-test\n").unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).unwrap() == 1 && byte != *b"q" {
            stream.write_all(&byte.map(|byte| byte.to_ascii_uppercase())).unwrap();
        }
    });
    let _listening = listen_to(&ben, port, &["--accept-from", &anna.id]);
    // By a short id, as people who know dhtnet-crtmgr give it, in the form in which its SSH entry passes it on.
    let short = common::towline(["id", "--json", "--home", anna.home.to_str().unwrap()]);
    assert_eq!(short.event("identity")["short_id"].as_str().unwrap().len(), 40);
    let short = common::towline(["id", "--json", "--home", ben.home.to_str().unwrap()]);
    let peer = format!("dnc/{}", short.event("identity")["short_id"].as_str().unwrap());
    let mut ssh = Running::spawn(dial(&anna, &peer, port, &["--linger", "1"]));
    assert_eq!(ssh.line(), "SSH-2.0-test");
    ssh.write(b"ab\n");
    assert_eq!(ssh.line(), "AB");
    ssh.write(b"q");
    // Its standard input stays open, as that of a program at a terminal does.
    let ended = ssh.ended().success();
    assert_eq!(ended.out, "");
}

#[test]
fn only_what_was_said_is_forwarded() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let (echoing, other) = (service(echo), service(echo));
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (one, two) = (format!("127.0.0.1:{echoing}"), format!("127.0.0.1:{gone}"));
    let _listening = listen(&ben, &["--service", &one, "--service", &two, "--accept-from", &anna.id]);
    for (command, reason) in [
        (dial(&anna, &ben.id, other, &[]), "not an authorised service"),
        (dial(&anna, &ben.id, echoing, &["-i", "localhost"]), "not an authorised service"),
        (dial(&anna, &ben.id, echoing, &["-i", "127.0.0.2"]), "not an authorised service"),
        (dial(&anna, &ben.id, gone, &[]), "connection refused"),
    ] {
        let refused = ask(command, b"hello");
        assert_eq!(refused.code, Some(4), "{}", refused.err);
        assert!(refused.err.contains(reason) && refused.out.is_empty(), "{refused:?}");
    }
    let mut pipe = anna.command("pipe");
    pipe.args([&ben.id, "sip"]);
    let refused = Running::spawn(pipe).ended().fails_with(4);
    assert!(refused.err.contains("only channels to services"), "{refused:?}");

    let cara = world.device("cara");
    let _any = listen(&cara, &["--any-service", "--accept-from", &anna.id]);
    let answer = ask(dial(&anna, &cara.id, other, &[]), b"hello");
    assert_eq!(answer.out, b"hello", "{answer:?}");
}

#[test]
fn a_listener_that_is_started_again() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let port = service(echo);
    for round in 0..3 {
        let listening = listen_to(&ben, port, &["--accept-from", &anna.id]);
        // Requests of clients that are gone lie on the DHT for some time; they keep nobody out.
        for _ in 0..3 {
            let answer = ask(dial(&anna, &ben.id, port, &[]), b"again");
            assert_eq!(answer.out, b"again", "round {round}: {answer:?}");
        }
        listening.signal("TERM");
        listening.ended().fails_with(130);
    }
}

#[test]
fn addresses_of_ipv6() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    if TcpListener::bind("[::1]:0").is_err() {
        skip::skipped("addresses_of_ipv6", "there is no ::1");
        return;
    }
    let port = service_at("[::1]:0", echo);
    let yaml =
        world.file("dnc.yaml", format!("authorized_services: [{{ip: '::1', port: {port}}}]").as_bytes());
    let _listening = listen(&ben, &["-d", yaml.to_str().unwrap(), "--accept-from", &anna.id]);
    for address in ["::1", "[::1]", "0:0::1"] {
        let answer = ask(dial(&anna, &ben.id, port, &["-i", address]), b"six");
        assert_eq!(answer.out, b"six", "{answer:?}");
    }
}

#[test]
fn files_of_dnc_and_certificates_of_crtmgr() {
    let world = World::new();
    let port = service(echo);
    let path = |name: &str| world.path(name).to_str().unwrap().to_owned();
    let made =
        common::towline(["cert", "--json", "--key-size", "2048", "--setup", "-o", &path("server")]).success();
    let server = made.events()[1]["ids"]["long_id"].as_str().unwrap().to_owned();
    let (ca_crt, ca_key) = (path("server/CA/ca-server.crt"), path("server/CA/ca-server.pem"));
    let sign = ["cert", "--key-size", "2048", "-c", &ca_crt, "-p", &ca_key, "-o", &path("client")];
    common::towline(sign).success();
    let yaml = format!(
        "bootstrap: \"{}\"\nturn_host: \"turn.sfl.io\"\nturn_user: \"sfl\"\nturn_pass: \"sfl\"\nturn_realm: \"sfl\"\n\
         verbose: true\nenable_upnp: true\nfuture: 1\nip: \"127.0.0.1\"\nport: {port}\nanonymous: false\n\
         authorized_services:\n  - ip: \"127.0.0.1\"\n    port: {port}\n",
        world.bootstrap
    );
    let file = |name: &str, certificate: &str, key: &str| {
        let yaml = format!("{yaml}certificate: \"{}\"\nprivateKey: \"{}\"\n", path(certificate), path(key));
        world.file(name, yaml.as_bytes()).to_str().unwrap().to_owned()
    };
    let server_yaml = file("dnc.yaml", "server/id/id-server.crt", "server/id/id-server.pem");
    let client_yaml = file("config.yml", "client/certificate.crt", "client/certificate.pem");
    let mut listening = Running::start(["nc", "--json", "--loopback", "-l", "-d", &server_yaml]);
    let said: Vec<_> = (0..2).map(|_| listening.until("warning")["message"].to_string()).collect();
    assert!(said[0].contains("future"), "{said:?}");
    assert!(said[1].contains("turn_host, turn_user, turn_pass, turn_realm, enable_upnp"), "{said:?}");
    assert_eq!(listening.until("identity")["device"], *server);
    assert_eq!(listening.until("forwarding")["anyone"], false);
    listening.until("registered");
    let with = |args: &[&str]| {
        let mut command = common::command();
        command.args(["nc", "--loopback"]).args(args);
        command
    };
    let answer = ask(with(&["-d", &client_yaml, &server]), b"through dnc's file");
    assert_eq!(answer.out, b"through dnc's file", "{answer:?}");
    assert_eq!(answer.err.matches("turn_host").count(), 1, "{answer:?}");
    // Quiet, by the certificate of the server, with a port that counts more than that of the file.
    let certificate = format!("@{}", path("server/id/id-server.crt"));
    let answer = ask(with(&["-q", "-d", &client_yaml, "-P", "1", &certificate]), b"");
    assert_eq!(answer.code, Some(4), "{answer:?}");
    let answer = ask(with(&["-q", "-d", &client_yaml, &certificate]), b"once more");
    assert_eq!((&*answer.out, &*answer.err), (&b"once more"[..], ""));

    // Another CA: only when everybody may.
    let stranger = world.device("stranger");
    let refused = ask(dial(&stranger, &server, port, &[]), b"hello");
    assert_eq!(refused.code, Some(4), "{refused:?}");
    drop(listening);
    let open = Running::start(["nc", "--json", "--loopback", "-l", "-a", "-d", &server_yaml]);
    let mut open = open;
    assert_eq!(open.until("forwarding")["anyone"], true);
    open.until("registered");
    assert_eq!(ask(dial(&stranger, &server, port, &[]), b"hello").out, b"hello");
}

#[test]
fn wrong_uses_are_explained() {
    let world = World::new();
    let anna = world.device("anna");
    let id = "ab".repeat(32);
    let file = |name: &str, content: &[u8]| world.file(name, content).to_str().unwrap().to_owned();
    let bomb = {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (this, last) in ('b'..='z').zip('a'..) {
            bomb.extend(
                format!("{this}: &{this} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}]\n").chars(),
            );
        }
        file("bomb", bomb.as_bytes())
    };
    let (empty, list) = (file("empty", b""), file("list", b"anonymous: true\nauthorized_services: []\n"));
    let (garbage, binary) = (file("garbage", b"{{{{"), file("binary", &[0xff; 100]));
    let huge = file("huge", "# a comment\n".repeat(1 << 20).as_bytes());
    let half = file("half", b"certificate: x\nip: a\nport: 1\n");
    let lone = world.path("lone").to_str().unwrap().to_owned();
    common::towline(["cert", "--key-size", "2048", "-n", "ca", "-o", &lone]).success();
    let (lone_crt, lone_key) = (format!("{lone}/ca.crt"), format!("{lone}/ca.pem"));
    let other = anna.home.join("device.key").to_str().unwrap().to_owned();
    for (args, code, reason) in [
        (&["-l"][..], 2, "--service"),
        (&["-l", "-d", &empty], 2, "--any-service"),
        (&["-l", "-d", &list], 2, "authorized_services"),
        (&["-l", "-d", "/nowhere"], 6, "/nowhere"),
        (&["-l", "-d", &garbage], 6, "the configuration"),
        (&["-l", "-d", &binary], 6, "UTF-8"),
        (&["-l", "-d", &huge], 6, "longer than"),
        (&["-l", "-d", &bomb], 6, "the configuration"),
        (&["-l", "-d", &half], 6, "without the other"),
        (&["-l", "--service", "22"], 2, "HOST:PORT"),
        (&["-l", "--service", "h:99999"], 2, "65535"),
        (&["-l", &id], 2, "cannot be used with"),
        (&["-c", &lone_crt, &id, "-P", "1"], 2, "--private-key"),
        (&["-c", &lone_crt, "-p", &lone_key, &id, "-P", "1"], 6, "nobody signed"),
        (&["-c", &lone_crt, "-p", &other, &id, "-P", "1"], 6, "not the key"),
        (&[&id], 2, "-P"),
        (&[&id, "-P", "0"], 2, "invalid value"),
        (&[&id, "-P", "1", "-i", "a b"], 2, "neither an IP address"),
        (&["-P", "1"], 2, "required"),
        (&["xyz", "-P", "1"], 2, "64 hexadecimal digits"),
        (&[&anna.id, "-P", "1"], 2, "this device itself"),
    ] {
        let began = Instant::now();
        let mut command = anna.command("nc");
        command.args(args);
        let wrong = Running::spawn(command).ended().fails_with(code);
        assert!((wrong.err.clone() + &wrong.out).contains(reason), "{args:?}: {wrong:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{args:?}");
    }
    // 40 digits that nobody knows.
    let mut command = anna.command("nc");
    command.args([&"ab".repeat(20), "-P", "1", "--timeout", "5"]);
    let lost = Running::spawn(command).ended().fails_with(3);
    assert!(lost.err.contains("64 digits"), "{lost:?}");
}

#[test]
fn a_client_that_is_killed() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let (port, ends) = watched();
    let mut listening = listen_to(&ben, port, &["--accept-from", &anna.id, "--end-with-stdin"]);
    let mut client = Running::spawn(dial(&anna, &ben.id, port, &[]));
    assert_eq!(client.line(), "hello");
    client.kill();
    // The service does not take it for the end of the input.
    assert_eq!(ends.recv_timeout(DEADLINE).unwrap(), Err(ErrorKind::ConnectionReset));
    listening.until("channel_broken");
    // Nothing is left over: the next one is served.
    let answer = ask(dial(&anna, &ben.id, port, &[]), b"bye");
    assert_eq!(answer.out, b"hello\n");
    assert_eq!(ends.recv_timeout(DEADLINE).unwrap(), Ok(b"bye".to_vec()));
}

#[test]
fn a_listener_that_is_killed() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let (port, ends) = watched();
    let listening = listen_to(&ben, port, &["--accept-from", &anna.id]);
    let mut client = Running::spawn(dial(&anna, &ben.id, port, &[]));
    assert_eq!(client.line(), "hello");
    listening.kill();
    assert_eq!(ends.recv_timeout(DEADLINE).unwrap(), Err(ErrorKind::ConnectionReset));
    let broken = client.ended().fails_with(5);
    assert!(broken.err.contains("broke off"), "{broken:?}");
}

#[test]
fn a_service_that_breaks_off() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let port = service(|stream| {
        // Closed with unread data in it, a socket is reset.
        stream.peek(&mut [0; 1]).unwrap();
    });
    let _listening = listen_to(&ben, port, &["--accept-from", &anna.id]);
    let broken = ask(dial(&anna, &ben.id, port, &[]), b"some data");
    assert_eq!(broken.code, Some(5), "{broken:?}");
}

#[test]
fn a_hundred_streams_at_once() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let port = service(echo);
    let _listening = listen_to(&ben, port, &["--accept-from", &anna.id, "--end-with-stdin"]);
    let to: DeviceId = ben.id.parse().unwrap();
    run(async {
        for native in [true, false] {
            let node = node(&world, &anna, native).await;
            let name = format!("nc://127.0.0.1:{port}");
            let streams = (0..100).map(|number| {
                let (node, name) = (node.clone(), name.clone());
                tokio::spawn(async move {
                    let channel = node.connect(to, &name).await.unwrap();
                    let (mut reader, mut writer) = tokio::io::split(channel);
                    let sent = noise(64 * 1024 + number);
                    let mut back = vec![0; sent.len()];
                    let (written, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut back));
                    written.unwrap();
                    read.unwrap();
                    assert!(sent == back);
                })
            });
            for stream in futures_util::future::join_all(streams).await {
                stream.unwrap();
            }
            node.shutdown().await;
        }
    });
}

#[test]
fn a_service_that_does_not_read_holds_up_the_sender() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let (release, released) = sync_channel::<()>(1);
    let released = std::sync::Mutex::new(released);
    let port = service(move |stream| {
        released.lock().unwrap().recv().unwrap();
        count(stream);
    });
    let _listening = listen_to(&ben, port, &["--accept-from", &anna.id, "--end-with-stdin"]);
    let to: DeviceId = ben.id.parse().unwrap();
    run(async {
        let node = node(&world, &anna, true).await;
        let mut channel = node.connect(to, &format!("nc://127.0.0.1:{port}")).await.unwrap();
        let piece = noise(64 * 1024);
        let mut sent = Vec::new();
        // Ends when a piece does not get away for a second.
        while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), channel.write(&piece)).await {
            sent.extend_from_slice(&piece[..written.unwrap()]);
            assert!(sent.len() < 64 << 20, "nothing holds it up");
        }
        release.send(()).unwrap();
        channel.shutdown().await.unwrap();
        let mut answer = String::new();
        channel.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, summary(&sent));
        node.shutdown().await;
    });
}

/// dnc's server, as far as the wire goes: no half-close, an answer some time after the input.
#[test]
fn answers_to_piped_input_are_not_lost_where_there_is_no_half_close() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    run(async {
        let node = node(&world, &ben, false).await;
        node.registered().await;
        let command = dial(&anna, &ben.id, 7, &["--linger", "2"]);
        let client = tokio::task::spawn_blocking(move || ask(command, b"question"));
        let incoming = node.incoming().await.unwrap();
        assert_eq!(incoming.name(), "nc://127.0.0.1:7");
        let mut channel = incoming.accept().await.unwrap();
        let mut question = [0; 8];
        channel.read_exact(&mut question).await.unwrap();
        // The service thinks, twice, and does not end the channel.
        for answer in ["first ", "second"] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            channel.write_all(answer.as_bytes()).await.unwrap();
        }
        let answer = client.await.unwrap();
        assert_eq!((answer.code, &*answer.out), (Some(0), &b"first second"[..]), "{answer:?}");
        // Then the client has ended it.
        assert_eq!(channel.read(&mut question).await.unwrap(), 0);
        // One that ends its channel at once lets the client end too, long before its patience does.
        let mut command = dial(&anna, &ben.id, 7, &["--linger", "3000"]);
        command.stdin(Stdio::piped());
        let client = tokio::task::spawn_blocking(move || ask(command, b""));
        let mut channel = node.incoming().await.unwrap().accept().await.unwrap();
        channel.write_all(b"bye").await.unwrap();
        channel.shutdown().await.unwrap();
        assert_eq!(client.await.unwrap().out, b"bye");
        node.shutdown().await;
    });
}

/// dnc's client, as far as the wire goes.
#[test]
fn a_peer_without_half_close() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let (port, ends) = watched();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (one, two) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{gone}"));
    let args = ["--service", &one, "--service", &two, "--accept-from", &anna.id, "--end-with-stdin"];
    let mut listening = listen(&ben, &args);
    let to: DeviceId = ben.id.parse().unwrap();
    run(async {
        let node = node(&world, &anna, false).await;
        // What it sends before it ends the channel arrives, and its end does too: dnc's server leaves it open.
        let mut channel = node.connect(to, &format!("nc://127.0.0.1:{port}")).await.unwrap();
        let bytes = noise(1 << 20);
        channel.write_all(&bytes).await.unwrap();
        channel.shutdown().await.unwrap();
        let ended = tokio::task::spawn_blocking(move || ends.recv_timeout(DEADLINE).unwrap()).await.unwrap();
        assert!(ended == Ok(bytes));
        // Where there is no service, the channel ends: after a refusal dnc's client would wait for ever.
        let mut channel = node.connect(to, &format!("nc://127.0.0.1:{gone}")).await.unwrap();
        assert_eq!(channel.read(&mut [0; 8]).await.unwrap(), 0);
        // What is not authorised is refused to it too.
        assert!(node.connect(to, "nc://127.0.0.1:1").await.is_err());
        node.shutdown().await;
    });
    listening.until("channel_refused");
}
