//! Kucoin, scripted.
