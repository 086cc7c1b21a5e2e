//! Orders, typed.

use serde::{Deserialize, Serialize};

everwire_core::rpc! {
    /// The requests that trading needs most, typed; each is of one order. They want the private address and a
    /// login.
    pub client Trading {
        /// Places an order.
        call place(NewOrder) -> Vec<OrderAck> = "order";
        /// Cancels an order.
        call cancel(CancelOrder) -> Vec<OrderAck> = "cancel-order";
    }
}

/// An order to be placed. Prices and sizes are decimal numbers as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewOrder {
    inst_id_code: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    inst_id: Option<String>,
    td_mode: String,
    side: &'static str,
    ord_type: &'static str,
    sz: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    px: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cl_ord_id: Option<String>,
}

/// Buy or sell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// `buy`.
    Buy,
    /// `sell`.
    Sell,
}

impl NewOrder {
    fn new(inst_id_code: u64, side: Side, size: &str, ord_type: &'static str) -> Self {
        Self {
            inst_id_code,
            inst_id: None,
            td_mode: "cash".to_owned(),
            side: if side == Side::Buy { "buy" } else { "sell" },
            ord_type,
            sz: size.to_owned(),
            px: None,
            cl_ord_id: None,
        }
    }

    /// A limit order. Instruments are named by their code (`instIdCode` of the list of instruments): their
    /// ids are ignored here since 2026-03.
    pub fn limit(inst_id_code: u64, side: Side, size: &str, price: &str) -> Self {
        Self { px: Some(price.to_owned()), ..Self::new(inst_id_code, side, size, "limit") }
    }

    /// A limit order that is cancelled if it would be filled at once.
    pub fn post_only(inst_id_code: u64, side: Side, size: &str, price: &str) -> Self {
        Self { ord_type: "post_only", ..Self::limit(inst_id_code, side, size, price) }
    }

    /// A market order.
    pub fn market(inst_id_code: u64, side: Side, size: &str) -> Self {
        Self::new(inst_id_code, side, size, "market")
    }

    /// With the instrument's id too (`instId`), for servers that still want it.
    pub fn inst_id(self, inst_id: impl Into<String>) -> Self {
        Self { inst_id: Some(inst_id.into()), ..self }
    }

    /// How it is paid for: `cash`, which is the default and for spot, `cross` or `isolated`.
    pub fn td_mode(self, mode: impl Into<String>) -> Self {
        Self { td_mode: mode.into(), ..self }
    }

    /// A name of your own, letters and digits, up to 32. Set it: after a loss of the connection it is the
    /// only one that you know.
    pub fn client_order_id(self, id: impl Into<String>) -> Self {
        Self { cl_ord_id: Some(id.into()), ..self }
    }
}

/// Which order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelOrder {
    inst_id_code: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ord_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cl_ord_id: Option<String>,
}

impl CancelOrder {
    /// By the venue's number.
    pub fn by_id(inst_id_code: u64, order_id: impl Into<String>) -> Self {
        Self { inst_id_code, ord_id: Some(order_id.into()), cl_ord_id: None }
    }

    /// By the name that it was given.
    pub fn by_client_order_id(inst_id_code: u64, id: impl Into<String>) -> Self {
        Self { inst_id_code, ord_id: None, cl_ord_id: Some(id.into()) }
    }
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OrderAck {
    /// Its number.
    pub ord_id: String,
    /// Its name; empty if it has none.
    #[serde(default)]
    pub cl_ord_id: String,
    /// `0` if all went well.
    pub s_code: String,
    /// Why not, if not.
    #[serde(default)]
    pub s_msg: String,
}
