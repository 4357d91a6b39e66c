//! The machine itself, by tokio's sockets.

mod batch;
mod interfaces;
#[cfg_attr(any(target_os = "linux", target_os = "android"), path = "os/notices.rs")]
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "os/no_notices.rs")]
mod notices;
mod tcp;
mod udp;

use std::{
    io,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use crate::{
    BoxFuture, Changes, Gateway, Interface, Net, TcpConnect, TcpListener, TcpStream, UdpBind, UdpSocket,
};

/// The network of the machine this program runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Os;

impl Net for Os {
    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        interfaces::list()
    }

    fn gateways(&self) -> io::Result<Vec<Gateway>> {
        Ok(interfaces::gateways())
    }

    fn changes(&self) -> Changes {
        interfaces::watch()
    }

    fn bind_udp(&self, options: &UdpBind) -> io::Result<Box<dyn UdpSocket>> {
        let socket = udp::bind(options)?;
        Ok(if options.dont_fragment {
            Box::new(batch::Socket::new(socket)?)
        } else {
            Box::new(udp::Socket::new(socket)?)
        })
    }

    fn listen_tcp(&self, addr: SocketAddr) -> io::Result<Box<dyn TcpListener>> {
        Ok(Box::new(tcp::Listener::bind(addr)?))
    }

    fn connect_tcp(
        &self,
        to: SocketAddr,
        options: TcpConnect,
    ) -> BoxFuture<'static, io::Result<Box<dyn TcpStream>>> {
        Box::pin(tcp::connect(to, options))
    }

    fn resolve(&self, host_port: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let host_port = host_port.to_owned();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host(host_port).await?.collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            Ok(found)
        })
    }

    fn unix_time(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    fn fill_random(&self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("the system's source of randomness never fails");
    }

    fn offload_job(&self, job: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(job);
    }
}
