//! Kraken, scripted.
