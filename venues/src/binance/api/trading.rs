//! Orders, typed.

use super::answer::ApiError;
use everwire_core::protocol::OwnedRpcError;
use serde::{Deserialize, Serialize};
use std::fmt;

everwire_core::rpc! {
    /// The requests that trading needs most, typed. All others go by
    /// [`Client::request`](everwire_core::Client::request), or by a table of your own.
    ///
    /// It reads results, and not whole answers: not for a session with
    /// [`BinanceApi::rate_limits`](super::BinanceApi::rate_limits).
    pub client Trading {
        type Error = Refused;
        /// Places an order.
        call place(NewOrder) -> OrderAck = "order.place";
        /// Checks an order, its signature included, and places none.
        call test(NewOrder) = "order.test";
        /// Cancels an order.
        call cancel(CancelOrder) -> OrderAck = "order.cancel";
        /// How an order is now: after a request that ended unknown.
        call status(CancelOrder) -> OrderAck = "order.status";
    }
}

/// A request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code and the message.
    pub error: OwnedRpcError,
    /// What more there is; `None` if the answer was not as documented.
    pub details: Option<ApiError>,
}

impl Refused {
    /// Whether the order may have been placed or cancelled all the same: ask before doing it again.
    pub fn is_execution_unknown(&self) -> bool {
        self.details.as_ref().is_none_or(ApiError::is_execution_unknown)
    }
}

impl From<OwnedRpcError> for Refused {
    fn from(error: OwnedRpcError) -> Self {
        Self { details: ApiError::of(&error), error }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        if self.is_execution_unknown() {
            f.write_str("; it may have been carried out: ask for the order before repeating it")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// An order to be placed. Prices and quantities are decimal numbers as text, as the venue wants them: what
/// was computed in binary fractions would be refused by its filters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewOrder {
    symbol: String,
    side: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    quantity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_in_force: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_client_order_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_order_resp_type: Option<&'static str>,
}

/// Buy or sell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// `BUY`.
    Buy,
    /// `SELL`.
    Sell,
}

impl NewOrder {
    fn new(symbol: &str, side: Side, quantity: &str, kind: &'static str) -> Self {
        Self {
            symbol: symbol.to_uppercase(),
            side: if side == Side::Buy { "BUY" } else { "SELL" },
            kind,
            quantity: quantity.to_owned(),
            price: None,
            time_in_force: None,
            new_client_order_id: None,
            new_order_resp_type: None,
        }
    }

    /// A limit order, good till it is cancelled.
    pub fn limit(symbol: &str, side: Side, quantity: &str, price: &str) -> Self {
        Self {
            price: Some(price.to_owned()),
            time_in_force: Some("GTC"),
            ..Self::new(symbol, side, quantity, "LIMIT")
        }
    }

    /// A limit order that is refused if it would be filled at once. On spot only: futures have
    /// `time_in_force` `GTX` for that.
    pub fn limit_maker(symbol: &str, side: Side, quantity: &str, price: &str) -> Self {
        Self { price: Some(price.to_owned()), ..Self::new(symbol, side, quantity, "LIMIT_MAKER") }
    }

    /// A market order.
    pub fn market(symbol: &str, side: Side, quantity: &str) -> Self {
        Self::new(symbol, side, quantity, "MARKET")
    }

    /// `GTC`, `IOC`, `FOK`, or of futures `GTX`.
    pub fn time_in_force(self, time: &'static str) -> Self {
        Self { time_in_force: Some(time), ..self }
    }

    /// A name of your own, by which it can be asked for and cancelled. Set it: after a loss of the connection
    /// it is the only one that you know.
    pub fn client_order_id(self, id: impl Into<String>) -> Self {
        Self { new_client_order_id: Some(id.into()), ..self }
    }

    /// Is answered as soon as the order is accepted, without what was filled (`newOrderRespType` `ACK`).
    pub fn ack(self) -> Self {
        Self { new_order_resp_type: Some("ACK"), ..self }
    }
}

/// Which order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelOrder {
    symbol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    orig_client_order_id: Option<String>,
}

impl CancelOrder {
    /// By the venue's number.
    pub fn by_id(symbol: &str, order_id: u64) -> Self {
        Self { symbol: symbol.to_uppercase(), order_id: Some(order_id), orig_client_order_id: None }
    }

    /// By the name that it was given.
    pub fn by_client_order_id(symbol: &str, id: impl Into<String>) -> Self {
        Self { symbol: symbol.to_uppercase(), order_id: None, orig_client_order_id: Some(id.into()) }
    }
}

/// What the venue says of an order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OrderAck {
    /// The symbol.
    pub symbol: String,
    /// Its number.
    pub order_id: u64,
    /// Its name. After it was cancelled it has another one, unless one was given.
    pub client_order_id: String,
    /// `NEW`, `FILLED`, `CANCELED`, ...; `None` in an acknowledgement.
    pub status: Option<String>,
    /// How much of it was filled; `None` in an acknowledgement.
    pub executed_qty: Option<String>,
}
