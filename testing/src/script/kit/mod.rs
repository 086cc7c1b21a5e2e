//! What scripts share: limits, listeners, tickers, agendas, wall clocks, and a little JSON.

mod limits;
mod market;
mod text;

pub use limits::{Credits, Window};
pub use market::{Agenda, Channels, Tick, Ticker};
pub use text::{Wall, at, list, parse, query};
