//! Deribit.
