//! Okx.
