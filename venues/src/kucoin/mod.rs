//! Kucoin.
