//! Binance: market data and user data of spot and futures ([`Binance`]), and the WebSocket API
//! ([`BinanceApi`]).
//!
//! ```no_run
//! use everwire_core::{Event, OwnedEvent};
//! use everwire_venues::binance::{self, Binance, Depth, DepthSync, Joined, Speed, depth_numbers};
//!
//! # async fn snapshot_by_rest() -> u64 { 0 }
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Binance::spot().config(binance::SPOT)?;
//! let (client, mut events) = everwire_tokio::connect(config)?;
//! let depth = client.subscribe(binance::depth("BTCUSDT", Speed::Ms100));
//! client.subscribe(binance::trade("BTCUSDT"));
//!
//! let mut book = DepthSync::spot();
//! while let Some(event) = events.next().await {
//!     match event {
//!         OwnedEvent::Message { message, subscription, .. } if subscription == Some(depth) => {
//!             let Some((text, numbers)) = message.to_text().ok().and_then(|t| Some((t, depth_numbers(t)?))) else {
//!                 continue;
//!             };
//!             match book.push(numbers, text.to_owned()) {
//!                 Depth::Apply(_event) => { /* change the levels that it names */ }
//!                 // In a program: fetch it in another task, and do not keep the stream waiting.
//!                 Depth::Kept | Depth::Gap { .. } => match book.snapshot(snapshot_by_rest().await) {
//!                     Joined::Apply(_events) => { /* the snapshot, and then these */ }
//!                     Joined::TooOld { .. } => { /* fetch another one */ }
//!                 },
//!                 Depth::Old => {}
//!             }
//!         }
//!         // What was missed is missed: the book begins anew.
//!         OwnedEvent::Gap(_) => book.clear(),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Facts are from <https://developers.binance.com/docs/binance-spot-api-docs> and
//! <https://developers.binance.com/docs/derivatives>, read 2026-11; what is not from there is said to be so
//! where it stands.

mod api;
mod depth;
mod errors;
mod streams;
#[cfg(test)]
pub(crate) mod testing;
mod topics;
mod wire;

pub use api::{
    Answer, ApiError, BinanceApi, CancelOrder, NewOrder, OrderAck, RateLimit, Refused, Side, Trading,
    user_data,
};
pub use depth::{Depth, DepthSync, Joined, depth_numbers};
pub use errors::ErrorCode;
pub use streams::Binance;
pub use topics::{
    Levels, Speed, agg_trade, all_mini_tickers, book_ticker, depth, force_order, kline, mark_price,
    mini_ticker, partial_depth, stream, ticker, trade,
};

use std::time::Duration;

/// Streams of spot. The same is served at port 443.
pub const SPOT: &str = "wss://stream.binance.com:9443/stream";
/// Streams of spot, of market data only.
pub const SPOT_MARKET_DATA: &str = "wss://data-stream.binance.vision/stream";
/// Streams of spot's test network.
pub const SPOT_TESTNET: &str = "wss://stream.testnet.binance.vision/stream";
/// Streams of USD-margined futures that are about books: `bookTicker`, `depth` and its like.
///
/// Since 2026-04-23 there is one address for these, one for the other [market data](USD_FUTURES_MARKET), and
/// one for [user data](USD_FUTURES_PRIVATE); what was served without a path before that is silent now
/// ("Important WebSocket Change Notice", 2026-03-06). A stream that is asked for at the wrong one is
/// confirmed, and silent.
pub const USD_FUTURES_PUBLIC: &str = "wss://fstream.binance.com/public/stream";
/// Streams of USD-margined futures that are not about books: trades, candles, tickers, mark prices.
pub const USD_FUTURES_MARKET: &str = "wss://fstream.binance.com/market/stream";
/// Where the user data of USD-margined futures are, for [`Binance::user_data`].
pub const USD_FUTURES_PRIVATE: &str = "wss://fstream.binance.com/private";
/// Streams of coin-margined futures.
pub const COIN_FUTURES: &str = "wss://dstream.binance.com/stream";
/// The WebSocket API of spot.
pub const SPOT_API: &str = "wss://ws-api.binance.com:443/ws-api/v3";
/// The WebSocket API of spot's test network.
pub const SPOT_API_TESTNET: &str = "wss://ws-api.testnet.binance.vision/ws-api/v3";
/// The WebSocket API of USD-margined futures.
pub const USD_FUTURES_API: &str = "wss://ws-fapi.binance.com/ws-fapi/v1";
/// The WebSocket API of coin-margined futures.
pub const COIN_FUTURES_API: &str = "wss://ws-dapi.binance.com/ws-dapi/v1";

/// How long any connection may live.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// What differs between the kinds of market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Market {
    Spot,
    UsdFutures,
    CoinFutures,
}

impl Market {
    /// Most messages of a client in a second.
    fn messages(self) -> u32 {
        if self == Self::Spot { 5 } else { 10 }
    }

    /// Most streams on a connection.
    fn streams(self) -> usize {
        if self == Self::Spot { 1024 } else { 200 }
    }
}
