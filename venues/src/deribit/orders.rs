//! Orders, as typed calls.

use super::ErrorCode;
use everwire_core::protocol::OwnedRpcError;
use everwire_core::rpc;
use serde::{Deserialize, Serialize};
use std::fmt;

rpc! {
    /// Typed calls over a [`Client`](everwire_core::Client) whose session speaks [`Deribit`](super::Deribit). Other methods are in a table of your own
    /// ([`rpc!`](everwire_core::rpc!)), or [`Client::request`](everwire_core::Client::request).
    ///
    /// After [`SentUnknown`](everwire_core::rpc::CallError::SentUnknown) the order may be there: ask [`open_orders`](Trading::open_orders), by the label
    /// that you gave it. Cancelling goes first with [`RequestOptions::priority`](everwire_core::RequestOptions).
    ///
    /// ```
    /// use everwire_core::rpc::CallError;
    /// use everwire_core::{Client, RequestOptions};
    /// use everwire_venues::deribit::{DeribitError, NewOrder, OrderId, Trading};
    ///
    /// async fn quote(client: &Client) -> Result<(), CallError<DeribitError>> {
    ///     let trading = Trading::new(client.clone());
    ///     let order = NewOrder::limit("BTC-PERPETUAL", 10.0, 40_000.0).label("bid-1").post_only();
    ///     let placed = trading.buy(&order).await?;
    ///     let urgent = trading.with(RequestOptions::default().priority(true));
    ///     urgent.cancel(&OrderId::new(&placed.order.order_id)).await?;
    ///     Ok(())
    /// }
    /// ```
    pub client Trading {
        type Error = DeribitError;
        /// Buys.
        call buy(NewOrder<'_>) -> Placed = "private/buy";
        /// Sells.
        call sell(NewOrder<'_>) -> Placed = "private/sell";
        /// Changes amount and price of an order that is open.
        call edit(EditOrder<'_>) -> Placed = "private/edit";
        /// Cancels an order.
        call cancel(OrderId<'_>) -> Order = "private/cancel";
        /// Cancels all orders of the account, and says how many.
        call cancel_all() -> u64 = "private/cancel_all";
        /// Cancels all orders in an instrument, and says how many.
        call cancel_all_by_instrument(Instrument<'_>) -> u64 = "private/cancel_all_by_instrument";
        /// Cancels all orders with a label, and says how many.
        call cancel_by_label(Label<'_>) -> u64 = "private/cancel_by_label";
        /// The orders that are open, in all instruments.
        call open_orders() -> Vec<Order> = "private/get_open_orders";
        /// The orders that are open in an instrument.
        call open_orders_of(Instrument<'_>) -> Vec<Order> = "private/get_open_orders_by_instrument";
        /// An order, whatever became of it.
        call order(OrderId<'_>) -> Order = "private/get_order_state";
        /// The time of the server, in milliseconds since the Unix epoch.
        call time() -> u64 = "public/get_time";
    }
}

/// What to buy or sell. Amounts are in USD for perpetuals and futures, and in the coin for options and linear ones.
#[derive(Debug, Clone, Copy, Serialize)]
#[non_exhaustive]
pub struct NewOrder<'a> {
    /// The instrument.
    pub instrument_name: &'a str,
    /// How much.
    pub amount: f64,
    /// `limit`, `market`, or another type that the venue knows.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Of a limit order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// A name of yours, up to 64 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'a str>,
    /// `good_til_cancelled` if there is none, `good_til_day`, `fill_or_kill`, `immediate_or_cancel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_in_force: Option<&'a str>,
    /// It never takes: a price that would is brought beside the best of the other side.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub post_only: bool,
    /// With `post_only`: a price that would take is refused (11054).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reject_post_only: bool,
    /// It never makes a position greater.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reduce_only: bool,
    /// When it must be dealt with, in milliseconds since the Unix epoch; later it is refused (13888).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<u64>,
}

impl<'a> NewOrder<'a> {
    /// At this price or a better one.
    pub fn limit(instrument: &'a str, amount: f64, price: f64) -> Self {
        Self { price: Some(price), ..Self::of(instrument, amount, "limit") }
    }

    /// At any price.
    pub fn market(instrument: &'a str, amount: f64) -> Self {
        Self::of(instrument, amount, "market")
    }

    fn of(instrument: &'a str, amount: f64, kind: &'a str) -> Self {
        Self {
            instrument_name: instrument,
            amount,
            kind,
            price: None,
            label: None,
            time_in_force: None,
            post_only: false,
            reject_post_only: false,
            reduce_only: false,
            valid_until: None,
        }
    }

    /// With this label, by which it can be found again.
    pub fn label(self, label: &'a str) -> Self {
        Self { label: Some(label), ..self }
    }

    /// It never takes.
    pub fn post_only(self) -> Self {
        Self { post_only: true, ..self }
    }

    /// It never makes a position greater.
    pub fn reduce_only(self) -> Self {
        Self { reduce_only: true, ..self }
    }
}

/// What to change of an order.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct EditOrder<'a> {
    /// Which.
    pub order_id: &'a str,
    /// How much from now on, with what is filled.
    pub amount: f64,
    /// At what price from now on.
    pub price: f64,
}

/// Which order.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct OrderId<'a> {
    /// Its id.
    pub order_id: &'a str,
}

impl<'a> OrderId<'a> {
    /// This one.
    pub fn new(order_id: &'a str) -> Self {
        Self { order_id }
    }
}

/// Which instrument.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Instrument<'a> {
    /// Its name.
    pub instrument_name: &'a str,
}

impl<'a> Instrument<'a> {
    /// This one.
    pub fn new(instrument_name: &'a str) -> Self {
        Self { instrument_name }
    }
}

/// Which label.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Label<'a> {
    /// It.
    pub label: &'a str,
}

impl<'a> Label<'a> {
    /// This one.
    pub fn new(label: &'a str) -> Self {
        Self { label }
    }
}

/// An order that was placed or changed, and what it traded at once.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Placed {
    /// The order.
    pub order: Order,
    /// Its trades.
    #[serde(default)]
    pub trades: Vec<Trade>,
}

/// An order. What the venue leaves out is empty, 0 or `None`. It is also what [`user_orders`](super::user_orders) tells.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Order {
    /// Its id.
    pub order_id: String,
    /// `open`, `filled`, `rejected`, `cancelled`, `untriggered`.
    pub order_state: String,
    /// The instrument.
    pub instrument_name: String,
    /// `buy` or `sell`.
    pub direction: String,
    /// `limit`, `market`, ...
    #[serde(default)]
    pub order_type: String,
    /// The label that it was given.
    #[serde(default)]
    pub label: String,
    /// `None` of an order without one, for which the venue writes a word.
    #[serde(default, deserialize_with = "number")]
    pub price: Option<f64>,
    /// How much.
    #[serde(default)]
    pub amount: Option<f64>,
    /// How much of it is filled.
    #[serde(default)]
    pub filled_amount: f64,
    /// Of what is filled.
    #[serde(default)]
    pub average_price: Option<f64>,
    /// Why it was cancelled, if it was.
    #[serde(default)]
    pub cancel_reason: Option<String>,
    /// In milliseconds since the Unix epoch.
    #[serde(default)]
    pub creation_timestamp: u64,
    /// In milliseconds since the Unix epoch.
    #[serde(default)]
    pub last_update_timestamp: u64,
}

/// A trade of ours.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Trade {
    /// Its id.
    pub trade_id: String,
    /// The order's.
    pub order_id: String,
    /// The instrument.
    pub instrument_name: String,
    /// `buy` or `sell`.
    pub direction: String,
    /// At what price.
    pub price: f64,
    /// How much.
    pub amount: f64,
    /// What it cost.
    #[serde(default)]
    pub fee: f64,
    /// In milliseconds since the Unix epoch.
    pub timestamp: u64,
}

/// Why the venue refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeribitError {
    /// The number.
    pub code: i64,
    /// What the venue says.
    pub message: String,
    /// More of it, as JSON text, such as the reason or the parameter.
    pub data: Option<String>,
    /// What is known of the code.
    pub known: Option<ErrorCode>,
}

impl From<OwnedRpcError> for DeribitError {
    fn from(OwnedRpcError { code, message, data }: OwnedRpcError) -> Self {
        Self { code, message, data, known: ErrorCode::of(code) }
    }
}

impl fmt::Display for DeribitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)?;
        self.data.iter().try_for_each(|data| write!(f, " {data}"))?;
        self.known.iter().try_for_each(|known| write!(f, ": {}", known.advice))
    }
}

impl std::error::Error for DeribitError {}

/// A number; a word in its place, such as `market_price`, is none.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Price {
        Number(f64),
        Word(serde::de::IgnoredAny),
    }
    Ok(match Price::deserialize(from)? {
        Price::Number(number) => Some(number),
        Price::Word(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn orders_are_written_as_documented() {
        let order = NewOrder::limit("BTC-PERPETUAL", 10.0, 40_000.5).label("a").post_only();
        assert_eq!(
            serde_json::to_value(order).unwrap(),
            json!({"instrument_name": "BTC-PERPETUAL", "amount": 10.0, "type": "limit", "price": 40_000.5, "label": "a",
                "post_only": true})
        );
        let market = serde_json::to_value(NewOrder::market("X", 1.0).reduce_only()).unwrap();
        assert_eq!(
            market,
            json!({"instrument_name": "X", "amount": 1.0, "type": "market", "reduce_only": true})
        );
    }

    /// The notification of docs.deribit.com/subscriptions/user/userordersinstrument_nameraw.
    #[test]
    fn orders_are_read_as_documented() {
        let text = r#"{"time_in_force":"good_til_cancelled","replaced":false,"reduce_only":false,"price":10502.52,"post_only":false,"original_order_type":"market","order_type":"limit","order_state":"open","order_id":"5","max_show":200,"last_update_timestamp":1581507423789,"label":"","is_rebalance":false,"is_liquidation":false,"instrument_name":"BTC-PERPETUAL","filled_amount":0,"direction":"buy","creation_timestamp":1581507423789,"average_price":0,"api":false,"amount":200}"#;
        let order: Order = serde_json::from_str(text).unwrap();
        assert_eq!((&*order.order_id, order.price, order.amount), ("5", Some(10502.52), Some(200.0)));
        let trigger = text.replace("10502.52", "\"market_price\"");
        assert_eq!(serde_json::from_str::<Order>(&trigger).unwrap().price, None);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let refused = OwnedRpcError { code: 10009, message: "not_enough_funds".into(), data: None };
        let error = DeribitError::from(refused);
        assert_eq!(error.to_string(), "not_enough_funds (code 10009): the account cannot pay for it");
        let unknown = OwnedRpcError { code: 1, message: "m".into(), data: Some("{}".into()) };
        assert_eq!(DeribitError::from(unknown).to_string(), "m (code 1) {}");
    }
}
