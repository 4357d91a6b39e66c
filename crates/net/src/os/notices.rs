//! What the system says by itself when interfaces or addresses change (rtnetlink(7)).

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` of rtnetlink(7): interfaces, and addresses of either family.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Notices are not read, only taken away: nothing is believed of what they say. Bytes of one that are looked at.
const SCRAP: usize = 16;
/// Notices that are taken away at a time; the rest is heard at the next.
const AT_ONCE: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Notices(AsyncFd<OwnedFd>);

impl Notices {
    #[expect(unsafe_code, reason = "the safe form of tokio's registration does not ask what it needs")]
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        // SAFETY: an `OwnedFd` is open until it is dropped, is the same descriptor at every call, and is nowhere replaced.
        Ok(Self(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?))
    }

    /// Waits until something may have changed. Cancel safe. Fails when no more notices will come.
    pub(super) async fn heard(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut heard = false;
            for _ in 0..AT_ONCE {
                match recv(self.0.get_ref(), &mut [0; SCRAP][..], RecvFlags::empty()) {
                    // Without room for all of them something has changed all the more.
                    Ok(_) | Err(Errno::NOBUFS) => heard = true,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if heard {
                return Ok(());
            }
        }
    }
}
