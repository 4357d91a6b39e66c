//! Architecture checks and chores.
fn main() {}
