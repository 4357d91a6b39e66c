//! The examples do what they say.

#[path = "../examples/echo.rs"]
mod echo;
#[path = "../examples/telemetry.rs"]
mod telemetry;
#[path = "../examples/two_links.rs"]
mod two_links;

#[test]
fn an_echo() {
    echo::main().expect("it ends well");
}

#[test]
fn a_transfer_moves_to_another_link_and_back() {
    two_links::main().expect("it ends well");
}

#[test]
fn readings_arrive_while_they_are_fresh() {
    telemetry::main().expect("it ends well");
}
