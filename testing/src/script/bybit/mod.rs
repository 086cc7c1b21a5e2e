//! Bybit, scripted.
