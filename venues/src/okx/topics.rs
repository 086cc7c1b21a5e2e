//! Channels, and what they are of.

use everwire_core::Topic;
use serde_json::{Map, Value};

/// A channel of an instrument, such as `tickers` of `BTC-USDT`. Its topic is named `tickers:BTC-USDT`.
pub fn channel(channel: &str, inst_id: &str) -> Topic {
    Channel::new(channel).inst_id(inst_id).topic()
}

/// Trades of an instrument.
pub fn trades(inst_id: &str) -> Topic {
    channel("trades", inst_id)
}

/// Best prices and the last 24 hours of an instrument.
pub fn tickers(inst_id: &str) -> Topic {
    channel("tickers", inst_id)
}

/// The book of an instrument, 400 levels: a snapshot and then its changes, every 100 ms. What is missing in
/// between is told.
pub fn books(inst_id: &str) -> Topic {
    channel("books", inst_id)
}

/// The best 5 levels of an instrument's book, all of them each time.
pub fn books5(inst_id: &str) -> Topic {
    channel("books5", inst_id)
}

/// The best bid and ask of an instrument, at each change.
pub fn bbo(inst_id: &str) -> Topic {
    channel("bbo-tbt", inst_id)
}

/// Candles of an instrument, at the business address: `1m`, `4H`, `1D`, ...
pub fn candles(inst_id: &str, bar: &str) -> Topic {
    channel(&format!("candle{bar}"), inst_id)
}

/// Own orders of a type of instrument: `SPOT`, `MARGIN`, `SWAP`, `FUTURES`, `OPTION`, `ANY`. Wants a login.
/// Its topic is named `orders:ANY`.
pub fn orders(inst_type: &str) -> Topic {
    Channel::new("orders").inst_type(inst_type).topic()
}

/// Own positions of a type of instrument. Wants a login.
pub fn positions(inst_type: &str) -> Topic {
    Channel::new("positions").inst_type(inst_type).topic()
}

/// The account. Wants a login.
pub fn account() -> Topic {
    Channel::new("account").topic()
}

/// Any channel, with all that it is asked for with.
///
/// Its topic is named by channel, type, family and instrument, those of them that are given, joined by
/// colons: that is what its messages name it by. What else is given is sent, and not part of the name.
///
/// ```
/// use everwire_venues::okx::Channel;
///
/// let topic = Channel::new("orders").inst_type("SWAP").inst_family("BTC-USD").with("extraParams", r#"{"updateInterval":"0"}"#).topic();
/// assert_eq!(topic.name(), "orders:SWAP:BTC-USD");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    name: String,
    inst_type: Option<String>,
    inst_family: Option<String>,
    inst_id: Option<String>,
    more: Vec<(String, String)>,
}

impl Channel {
    /// A channel of nothing in particular.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), inst_type: None, inst_family: None, inst_id: None, more: Vec::new() }
    }

    /// Of a type of instrument (`instType`).
    pub fn inst_type(self, inst_type: impl Into<String>) -> Self {
        Self { inst_type: Some(inst_type.into()), ..self }
    }

    /// Of a family of instruments (`instFamily`).
    pub fn inst_family(self, inst_family: impl Into<String>) -> Self {
        Self { inst_family: Some(inst_family.into()), ..self }
    }

    /// Of an instrument (`instId`).
    pub fn inst_id(self, inst_id: impl Into<String>) -> Self {
        Self { inst_id: Some(inst_id.into()), ..self }
    }

    /// With another field, which its messages need not repeat: `ccy`, `extraParams`, ...
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.more.push((name.into(), value.into()));
        self
    }

    /// The topic.
    pub fn topic(self) -> Topic {
        let mut name = self.name.clone();
        let mut arg = Map::from_iter(self.more.into_iter().map(|(name, value)| (name, Value::from(value))));
        arg.insert("channel".to_owned(), self.name.into());
        let parts =
            [("instType", self.inst_type), ("instFamily", self.inst_family), ("instId", self.inst_id)];
        for (key, part) in parts {
            if let Some(part) = part {
                name.push(':');
                name.push_str(&part);
                arg.insert(key.to_owned(), part.into());
            }
        }
        Topic::new(name).with_params(Value::from(arg).to_string())
    }
}

/// The argument that a topic is asked for with. One that was made by its name alone is of an instrument, if
/// it names one.
pub(super) fn arg(topic: &Topic) -> String {
    if let Some(params) = topic.params() {
        return params.to_owned();
    }
    let mut arg = Map::new();
    match topic.name().split_once(':') {
        Some((channel, inst_id)) => {
            arg.insert("channel".to_owned(), channel.into());
            arg.insert("instId".to_owned(), inst_id.into());
        }
        None => drop(arg.insert("channel".to_owned(), topic.name().into())),
    }
    Value::from(arg).to_string()
}
