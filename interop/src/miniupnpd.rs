//! Debian's `miniupnpd`: a router that opens ports to whoever asks, by UPnP, NAT-PMP and PCP.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::jami::Namespace;

/// A router of a home: its interfaces, and whom it opens ports to.
#[derive(Debug, Clone, Copy)]
pub struct HomeRouter<'a> {
    /// The interface towards the world. Its address has to be one that can be of the internet.
    pub outside: &'a str,
    /// The interface towards the home.
    pub inside: &'a str,
    /// The hosts that may ask, such as `192.168.77.0/24`.
    pub allowed: &'a str,
}

impl HomeRouter<'_> {
    /// What it does by itself, for `nft`.
    fn rules(&self) -> String {
        let Self { outside, inside, .. } = self;
        format!(
            "table inet filter {{
                chain forward {{
                    type filter hook forward priority 0; policy drop;
                    ct state established,related accept
                    iifname {inside} accept
                    jump miniupnpd
                }}
                chain miniupnpd {{ }}
                chain prerouting {{ type nat hook prerouting priority -100; jump prerouting_miniupnpd; }}
                chain prerouting_miniupnpd {{ }}
                chain postrouting {{
                    type nat hook postrouting priority 100;
                    oifname {outside} masquerade
                    jump postrouting_miniupnpd
                }}
                chain postrouting_miniupnpd {{ }}
            }}\n"
        )
    }

    /// The configuration of `miniupnpd`.
    fn settings(&self) -> String {
        let Self { outside, inside, allowed } = self;
        format!(
            "ext_ifname={outside}
listening_ip={inside}
http_port=5000
enable_upnp=yes
enable_natpmp=yes
secure_mode=yes
min_lifetime=120
max_lifetime=86400
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
uuid=1f0c5a9e-0f7f-4f5c-9d7e-2f5b1c3a4d5e
allow 1024-65535 {allowed} 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"
        )
    }

    /// Makes a host do what a router does by itself: it lets out, and in what was let out. Files go below `folder`.
    ///
    /// # Errors
    /// With what was complained of.
    pub fn set_up(&self, router: &Namespace, folder: &Path) -> Result<()> {
        let rules = folder.join(format!("rules-{}", router.name()));
        std::fs::write(&rules, self.rules())?;
        router.shell(&format!("echo 1 > /proc/sys/net/ipv4/ip_forward; nft -f {}", rules.display()))
    }

    /// Starts `program` there. Ready when it can be asked.
    ///
    /// # Errors
    /// When it does not like something.
    pub fn open(&self, router: &Namespace, program: &Path, folder: &Path) -> Result<Miniupnpd> {
        let [settings, pid] = ["settings", "pid"].map(|it| folder.join(format!("{it}-{}", router.name())));
        std::fs::write(&settings, self.settings())?;
        let mut command = router.command();
        command.arg(program).arg("-d").arg("-f").arg(settings).arg("-P").arg(pid);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Miniupnpd(command.spawn()?);
        let mut lines = BufReader::new(running.0.stderr.take().context("stderr is piped")?).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.contains("Listening for")));
        ensure!(ready, "miniupnpd ended before it listened");
        // Whoever writes must be read.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(running)
    }

    /// The ports that are open by its doing, as `nft` shows them.
    ///
    /// # Errors
    /// With what `nft` complained of.
    pub fn opened(router: &Namespace) -> Result<Vec<String>> {
        let list = ["nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"];
        let output = router.command().args(list).output()?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8_lossy(&output.stdout);
        Ok(lines.lines().map(str::trim).filter(|line| line.contains("dnat")).map(str::to_owned).collect())
    }
}

/// The program, which ends without a word when this is dropped. What it opened stays open.
#[derive(Debug)]
pub struct Miniupnpd(Child);

impl Drop for Miniupnpd {
    fn drop(&mut self) {
        // Gone already, or gone now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
