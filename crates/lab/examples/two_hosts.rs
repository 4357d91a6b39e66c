//! Two hosts behind home lines, one of them bad, move a megabyte; then a line dies.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{io, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use towline_lab::{Link, Options, Plain, World};
use towline_net::{Net, TcpConnect, now};

const MEGABYTE: usize = 1_000_000;

async fn story(world: World) -> io::Result<()> {
    let internet = world.internet();
    let home = world.lan();
    world.router("router", home, internet, Link { loss: 0.01, ..Link::dsl() }, Plain);
    let (alice, bob) = (world.host("alice"), world.host("bob"));
    alice.attach(home, Link::ethernet());
    let line = bob.attach(internet, Link::fibre());

    let mut listener = bob.listen_tcp((bob.ipv4(), 4000).into())?;
    let start = now();
    let to = alice.resolve("bob:4000").await?[0];
    let (ours, theirs) = tokio::join!(alice.connect_tcp(to, TcpConnect::default()), listener.accept());
    let (mut ours, mut theirs) = (ours?, theirs?);
    println!("connected after {:?}", now() - start);

    let mut received = vec![0; MEGABYTE];
    let (sent, got) = tokio::join!(theirs.write_all(&[7; MEGABYTE]), ours.read_exact(&mut received));
    sent.and(got)?;
    println!("a megabyte after {:?}", now() - start);

    bob.set_outage(line, true);
    theirs.write_all(b"anybody there?").await?;
    let cut = now();
    let error = theirs.read(&mut [0]).await.expect_err("the line is dead");
    println!("line cut: {} after {:?}", error.kind(), now() - cut);

    let trace = world.trace();
    println!(
        "{} packets sent, {} dropped, trace {:016x}; the last:",
        trace.sent(),
        trace.dropped(),
        trace.hash()
    );
    for record in trace.timeline().skip(trace.timeline().count() - 12) {
        println!("{record}");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    Options::new(1).run(story)??;
    // Once more, for the proof: nothing differs, to the last packet.
    let again = |seed| {
        Options::new(seed).run(async |world: World| {
            let _ = story(world.clone()).await;
            world.trace().hash()
        })
    };
    assert_eq!(again(1)?, again(1)?);
    Ok(())
}
