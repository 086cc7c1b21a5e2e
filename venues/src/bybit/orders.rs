//! Orders, as typed calls.

use super::ErrorCode;
use everwire_core::protocol::OwnedRpcError;
use everwire_core::rpc;
use serde::{Deserialize, Serialize};
use std::fmt;

rpc! {
    /// Typed calls over a [`Client`](everwire_core::Client) whose session is one of [`Bybit::trade`](super::Bybit::trade).
    ///
    /// An answer says that the venue took the request. What becomes of the order is told by [`orders`](super::orders) on another session, one of
    /// [`Bybit::private`](super::Bybit::private). Numbers are texts, as the venue has them.
    ///
    /// ```
    /// use everwire_core::Client;
    /// use everwire_core::rpc::CallError;
    /// use everwire_venues::bybit::{BybitError, Category, NewOrder, OrderRef, Trading};
    ///
    /// async fn quote(client: &Client) -> Result<(), CallError<BybitError>> {
    ///     let trading = Trading::new(client.clone());
    ///     let order = NewOrder::limit(Category::Linear, "BTCUSDT", "Buy", "0.001", "20000").link_id("bid-1");
    ///     let taken = trading.create(&order).await?;
    ///     trading.cancel(&OrderRef::by_id(Category::Linear, "BTCUSDT", &taken.order_id)).await?;
    ///     Ok(())
    /// }
    /// ```
    pub client Trading {
        type Error = BybitError;
        /// Places an order.
        call create(NewOrder<'_>) -> Taken = "order.create";
        /// Changes an order's quantity or price.
        call amend(Amend<'_>) -> Taken = "order.amend";
        /// Cancels an order.
        call cancel(OrderRef<'_>) -> Taken = "order.cancel";
    }
}

/// Which part of the venue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Spot.
    Spot,
    /// Perpetuals and futures that are settled in USDT or USDC.
    Linear,
    /// Those that are settled in the coin.
    Inverse,
    /// Options.
    Option,
}

impl Category {
    /// As it stands in URLs and topics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::Linear => "linear",
            Self::Inverse => "inverse",
            Self::Option => "option",
        }
    }
}

/// What to buy or sell.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NewOrder<'a> {
    /// Where.
    pub category: Category,
    /// The symbol.
    pub symbol: &'a str,
    /// `Buy` or `Sell`.
    pub side: &'a str,
    /// `Limit` or `Market`.
    pub order_type: &'a str,
    /// How much.
    pub qty: &'a str,
    /// Of a limit order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<&'a str>,
    /// `GTC`, `IOC`, `FOK`, `PostOnly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_in_force: Option<&'a str>,
    /// A name of yours, used once, up to 36 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_link_id: Option<&'a str>,
    /// It never makes a position greater.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reduce_only: bool,
}

impl<'a> NewOrder<'a> {
    /// At this price or a better one.
    pub fn limit(category: Category, symbol: &'a str, side: &'a str, qty: &'a str, price: &'a str) -> Self {
        Self { order_type: "Limit", price: Some(price), ..Self::market(category, symbol, side, qty) }
    }

    /// At any price.
    pub fn market(category: Category, symbol: &'a str, side: &'a str, qty: &'a str) -> Self {
        Self {
            category,
            symbol,
            side,
            order_type: "Market",
            qty,
            price: None,
            time_in_force: None,
            order_link_id: None,
            reduce_only: false,
        }
    }

    /// With this name, by which it can be found again.
    pub fn link_id(self, id: &'a str) -> Self {
        Self { order_link_id: Some(id), ..self }
    }

    /// It never takes.
    pub fn post_only(self) -> Self {
        Self { time_in_force: Some("PostOnly"), ..self }
    }
}

/// Which order: by its id, or by the name that you gave it.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OrderRef<'a> {
    /// Where.
    pub category: Category,
    /// The symbol.
    pub symbol: &'a str,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<&'a str>,
    /// The name that you gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_link_id: Option<&'a str>,
}

impl<'a> OrderRef<'a> {
    /// The one with this id.
    pub fn by_id(category: Category, symbol: &'a str, id: &'a str) -> Self {
        Self { category, symbol, order_id: Some(id), order_link_id: None }
    }

    /// The one that you gave this name.
    pub fn by_link_id(category: Category, symbol: &'a str, id: &'a str) -> Self {
        Self { category, symbol, order_id: None, order_link_id: Some(id) }
    }
}

/// What to change of an order.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Amend<'a> {
    /// Which.
    #[serde(flatten)]
    pub order: OrderRef<'a>,
    /// How much from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qty: Option<&'a str>,
    /// At what price from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<&'a str>,
}

/// A request that the venue took.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Taken {
    /// The order's id.
    pub order_id: String,
    /// The name that you gave it; empty if none.
    #[serde(default)]
    pub order_link_id: String,
}

/// Why the venue refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BybitError {
    /// The number; 0 if there is none.
    pub code: i64,
    /// What the venue says.
    pub message: String,
    /// What is known of the code.
    pub known: Option<ErrorCode>,
}

impl From<OwnedRpcError> for BybitError {
    fn from(OwnedRpcError { code, message, .. }: OwnedRpcError) -> Self {
        Self { code, message, known: ErrorCode::of(code) }
    }
}

impl fmt::Display for BybitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)?;
        self.known.iter().try_for_each(|known| write!(f, ": {}", known.advice))
    }
}

impl std::error::Error for BybitError {}
