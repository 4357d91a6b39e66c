//! NATs without a way through, or without anybody who tells how they are seen.

use towline::{Cause, Reach};
use towline_lab::towline_nat::Config as Nat;

use crate::rig::{Rig, Spec, behind, home, on_either_side, placed};

#[test]
fn two_nats_with_random_ports_and_no_relay() {
    on_either_side(20, async |world, at| {
        let rig = Rig::new(world, behind(Nat::symmetric()), behind(Nat::symmetric())).await;
        let said = rig.dial().await;
        said.names(at, &Cause::RandomNats { relay: false });
        said.clears(at.other());
    });
}

#[test]
fn two_nats_one_behind_the_other_and_nobody_who_tells() {
    on_either_side(22, async |world, at| {
        let unknowing = Spec { reach: Reach::default(), ..behind(Nat::carrier_grade()) };
        let [a, b] = placed(at, unknowing, home());
        let rig = Rig::new(world, a, b).await;
        let said = rig.dial().await;
        said.names(at, &Cause::NoStunHere);
        said.clears(at.other());
    });
}
