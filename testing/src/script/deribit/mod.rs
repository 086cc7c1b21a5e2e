//! Deribit, scripted.
