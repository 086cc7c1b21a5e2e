//! Scenarios over real sockets: each is written once and runs under every runtime, and what happens must be the same.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

mod backpressure;
mod breakage;
mod connect;
mod inline;
mod overflow;
mod provider;
mod random_peer;
mod reconnect;
mod requests;
mod rpc;
mod threads;
mod tls;
mod token_flow;
mod volume;
mod ways;
