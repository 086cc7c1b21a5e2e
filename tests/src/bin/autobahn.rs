//! Runs the Autobahn suite against the tokio driver.
fn main() {}
