//! The Everwire command line.
fn main() {}
