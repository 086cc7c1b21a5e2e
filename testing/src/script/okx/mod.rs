//! Okx, scripted.
