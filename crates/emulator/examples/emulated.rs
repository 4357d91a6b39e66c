//! How fast the emulator carries TCP from one network namespace to another, through a NAT. Needs root and `ip`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("namespaces are of Linux");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        error::Error,
        fs::File,
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        process::Command,
        thread,
        time::Instant,
    };

    use nix::sched::{CloneFlags, setns};
    use towline_emulator::{Router, Wire, towline_nat::Config};

    /// Bytes that are moved in each direction.
    const BYTES: usize = 1 << 30;

    type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

    fn ip(arguments: &str) -> Outcome<()> {
        let status = Command::new("ip").args(arguments.split(' ')).status()?;
        status.success().then_some(()).ok_or_else(|| format!("ip {arguments}").into())
    }

    /// Two namespaces, which end with this.
    struct Two;

    impl Drop for Two {
        fn drop(&mut self) {
            let _ = ip("netns del emu-home").and(ip("netns del emu-world"));
        }
    }

    fn enter(namespace: &str) -> Outcome<()> {
        setns(File::open(format!("/run/netns/{namespace}"))?, CloneFlags::CLONE_NEWNET)?;
        Ok(())
    }

    pub(crate) fn main() -> Result<(), Box<dyn Error>> {
        play().map_err(|error| -> Box<dyn Error> { error })
    }

    fn play() -> Outcome<()> {
        ip("netns add emu-home")?;
        ip("netns add emu-world")?;
        let _two = Two;
        let wire = Wire::new("emu-in", "emu-out", 1500)?;
        for (device, namespace, address) in
            [("emu-in", "emu-home", "192.168.1.10/24"), ("emu-out", "emu-world", "198.51.100.1/24")]
        {
            ip(&format!("link set {device} netns {namespace}"))?;
            ip(&format!("-n {namespace} addr add {address} dev {device}"))?;
            ip(&format!("-n {namespace} link set {device} txqueuelen 5000 up"))?;
            ip(&format!("-n {namespace} route add default dev {device}"))?;
        }
        let outside = ["203.0.113.1".parse()?];
        let running = wire.run(Router::new(Some(Config::port_restricted_cone()), None, &outside, [7; 32]))?;

        let (ready, listening) = std::sync::mpsc::sync_channel(1);
        let server = thread::spawn(move || -> Outcome<std::net::SocketAddr> {
            enter("emu-world")?;
            let listener = TcpListener::bind("198.51.100.1:5000")?;
            ready.send(())?;
            let (mut stream, peer) = listener.accept()?;
            transfer(&mut stream, false, "up")?;
            transfer(&mut stream, true, "down")?;
            Ok(peer)
        });
        let client = thread::spawn(move || -> Outcome<()> {
            enter("emu-home")?;
            listening.recv()?;
            let mut stream = TcpStream::connect("198.51.100.1:5000")?;
            transfer(&mut stream, true, "up")?;
            transfer(&mut stream, false, "down")
        });
        client.join().map_err(|_| "the client broke off")??;
        let seen = server.join().map_err(|_| "the server broke off")??;
        println!("seen from {seen}; packets carried and dropped: {:?}", running.counts());
        Ok(())
    }

    /// Moves the bytes one way; the receiver says how long it took.
    fn transfer(stream: &mut TcpStream, sends: bool, name: &str) -> Outcome<()> {
        let mut portion = vec![7; 256 << 10];
        if sends {
            for _ in 0..BYTES / portion.len() {
                stream.write_all(&portion)?;
            }
            stream.read_exact(&mut [0])?;
            return Ok(());
        }
        let (start, mut left) = (Instant::now(), BYTES);
        while left > 0 {
            left -= match stream.read(&mut portion)? {
                0 => return Err("the stream ended early".into()),
                len => len,
            };
        }
        let seconds = start.elapsed().as_secs_f64();
        stream.write_all(&[1])?;
        println!("{name}: {:.2} Gbit/s", BYTES as f64 * 8e-9 / seconds);
        Ok(())
    }
}
