//! The `towline` program.
fn main() {}
