//! Two hosts, one behind a bad home line, move a megabyte; then a line dies. Run twice, to the same packets.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use towline_lab::{Link, Options, Plain, Record, Trace, World};
use towline_net::{Net, TcpConnect};

const MEGABYTE: usize = 1_000_000;

async fn story(world: World) -> io::Result<Trace> {
    let internet = world.internet();
    let home = world.lan();
    world.router("router", home, internet, Link { loss: 0.01, ..Link::dsl() }, Plain);
    let (alice, bob) = (world.host("alice"), world.host("bob"));
    alice.attach(home, Link::ethernet());
    let line = bob.attach(internet, Link::fibre());

    let mut listener = bob.listen_tcp((bob.ipv4(), 4000).into())?;
    let to = alice.resolve("bob:4000").await?[0];
    let (ours, theirs) = tokio::join!(alice.connect_tcp(to, TcpConnect::default()), listener.accept());
    let (mut ours, mut theirs) = (ours?, theirs?);
    world.note("connected");

    let (data, mut received) = (vec![7; MEGABYTE], vec![0; MEGABYTE]);
    let (sent, got) = tokio::join!(theirs.write_all(&data), ours.read_exact(&mut received));
    sent.and(got)?;
    world.note("a megabyte has arrived");

    bob.set_outage(line, true);
    theirs.write_all(b"anybody there?").await?;
    world.note("the line is cut");
    let error = theirs.read(&mut [0]).await.expect_err("nobody can answer");
    world.note(error.to_string());
    Ok(world.trace())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let trace = Options::new(1).run(story)??;
    for note in trace.timeline().filter(|record| matches!(record, Record::Note { .. })) {
        println!("{note}");
    }
    println!("\n{} packets sent, {} dropped; the last:", trace.sent(), trace.dropped());
    let earlier = trace.timeline().count().saturating_sub(10);
    for record in trace.timeline().skip(earlier) {
        println!("{record}");
    }
    let again = Options::new(1).run(story)??;
    assert_eq!(trace, again);
    println!("\nthe same once more: {:016x} is {:016x}", trace.hash(), again.hash());
    Ok(())
}
