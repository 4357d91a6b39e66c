//! Maps a port and shows what becomes of it: `cargo run -p towline-portmap --example map -- udp 4222 [seconds]`.

use std::{io::Write as _, sync::Arc, time::Duration};

use towline_portmap::{MappingState, Options, PortMapper, Transport};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let transport = match args.next().as_deref() {
        Some("udp") => Transport::Udp,
        Some("tcp") => Transport::Tcp,
        _ => return Err("usage: map udp|tcp PORT [SECONDS]".into()),
    };
    let port = args.next().ok_or("a port is missing")?.parse()?;
    let seconds = args.next().map_or(Ok(60), |seconds| seconds.parse())?;

    let mut out = std::io::stdout();
    let mapper = PortMapper::start(Arc::new(towline_net::Os), Options::default());
    let mut mapping = mapper.map(transport, port);
    let shown = async {
        while let Some(state) = mapping.changed().await {
            match state {
                MappingState::Asking => writeln!(out, "asking")?,
                MappingState::Granted(granted) => {
                    let (external, protocol, router) = (granted.external, granted.protocol, granted.router);
                    writeln!(out, "granted {external} by {protocol} at {router}")?;
                }
                MappingState::Failed(reason) => writeln!(out, "failed: {reason}")?,
            }
        }
        std::io::Result::Ok(())
    };
    // The time is up, or nobody reads.
    if let Ok(written) = tokio::time::timeout(Duration::from_secs(seconds), shown).await {
        written?;
    }
    mapper.shutdown().await;
    Ok(())
}
