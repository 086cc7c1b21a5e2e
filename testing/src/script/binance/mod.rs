//! Binance, scripted.
