//! Coinbase, scripted.
