//! What trading venues speak, for [`everwire_core`]: each is a [`Protocol`](everwire_core::Protocol), made with nothing but the core's public
//! interface.

pub mod binance;
pub mod bybit;
pub mod coinbase;
pub mod deribit;
pub mod kraken;
pub mod kucoin;
pub mod okx;
mod secret;

pub use secret::Secret;

// The guide's examples are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guides/venues.md")]
struct Venues;
