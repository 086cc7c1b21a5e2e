//! The error object of a response.

use super::envelope::plain_string;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The error object of a JSON-RPC response (specification section 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError<'a> {
    /// The error's number; 0 if the object has none.
    pub code: i64,
    /// A short description; the object's text if it has none.
    pub message: Cow<'a, str>,
    /// More, as JSON text; `None` also if it is `null`.
    pub data: Option<&'a str>,
}

impl<'a> RpcError<'a> {
    /// Reads an error object; whatever is missing in it, or of another type, is taken as the fields say. Of a key that is there
    /// twice, the last one counts.
    pub fn parse(json: &'a str) -> Self {
        let Parts { code, message, data } = Parts::read(json).unwrap_or_default();
        Self { code, message: message.unwrap_or(Cow::Borrowed(json)), data }
    }

    /// A copy that borrows nothing.
    pub fn into_owned(self) -> OwnedRpcError {
        OwnedRpcError {
            code: self.code,
            message: self.message.into_owned(),
            data: self.data.map(str::to_owned),
        }
    }
}

impl fmt::Display for RpcError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

/// [`RpcError`], owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRpcError {
    /// The error's number; 0 if the object has none.
    pub code: i64,
    /// A short description; the object's text if it has none.
    pub message: String,
    /// More, as JSON text.
    pub data: Option<String>,
}

impl OwnedRpcError {
    /// The method does not exist (specification section 5.1).
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters are not what the method takes.
    pub const INVALID_PARAMS: i64 = -32602;
    /// Whoever was asked failed.
    pub const INTERNAL_ERROR: i64 = -32603;

    /// An error with nothing more.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// Reads what more there is. `None`: there is nothing, or it is not of this type.
    pub fn data_as<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.data.as_deref()?).ok()
    }
}

impl fmt::Display for OwnedRpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl std::error::Error for OwnedRpcError {}

/// What an error object has.
#[derive(Default)]
struct Parts<'a> {
    code: i64,
    message: Option<Cow<'a, str>>,
    data: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn read(json: &'a str) -> Option<Self> {
        let mut from = serde_json::Deserializer::from_str(json);
        let parts = from.deserialize_map(InError).ok()?;
        from.end().ok().map(|()| parts)
    }
}

/// The text of a value that is a string.
fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    plain_string(value.get())
        .map(Cow::Borrowed)
        .or_else(|| serde_json::from_str(value.get()).ok().map(Cow::Owned))
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Code,
    Message,
    Data,
    #[serde(other)]
    Other,
}

struct InError;

impl<'de> Visitor<'de> for InError {
    type Value = Parts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut parts = Parts::default();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Code => parts.code = map.next_value::<&RawValue>()?.get().parse().unwrap_or(0),
                Key::Message => parts.message = text(map.next_value()?),
                Key::Data => parts.data = map.next_value::<Option<&RawValue>>()?.map(RawValue::get),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there() {
        for (json, code, message, data) in [
            (
                r#"{"code":10028,"message":"too_many_requests","data":{"x":1}}"#,
                10028,
                "too_many_requests",
                Some(r#"{"x":1}"#),
            ),
            (r#" {"message":"m","code":-32700} "#, -32700, "m", None),
            (r#"{"code":1,"message":"m","data":null}"#, 1, "m", None),
            (r#"{"code":1,"message":"a\n\u00e9"}"#, 1, "a\n\u{e9}", None),
            // The last of two counts.
            (r#"{"code":1,"message":"a","code":2,"message":"b"}"#, 2, "b", None),
            // What is missing or of another type.
            (r#"{"code":5}"#, 5, r#"{"code":5}"#, None),
            (
                r#"{"code":5,"message":null,"data":[1]}"#,
                5,
                r#"{"code":5,"message":null,"data":[1]}"#,
                Some("[1]"),
            ),
            (r#"{"code":"x","message":"m","data":"d"}"#, 0, "m", Some("\"d\"")),
            (r#"{"code":1.5,"message":"m"}"#, 0, "m", None),
            (r#"{"code":9223372036854775808,"message":"m"}"#, 0, "m", None),
            (r#"{"code":-9223372036854775808,"message":"m"}"#, i64::MIN, "m", None),
            (r#"{"code":1e999,"message":"m"}"#, 0, "m", None),
            // Not an object at all.
            ("\"bad\"", 0, "\"bad\"", None),
            ("[1]", 0, "[1]", None),
            ("", 0, "", None),
            (r#"{"code":1,"message":"m"} x"#, 0, r#"{"code":1,"message":"m"} x"#, None),
        ] {
            let error = RpcError::parse(json);
            assert_eq!((error.code, &*error.message, error.data), (code, message, data), "{json}");
            let owned = error.clone().into_owned();
            assert_eq!((owned.code, &*owned.message, owned.data.as_deref()), (code, message, data), "{json}");
            assert_eq!(owned.to_string(), error.to_string());
        }
    }

    #[test]
    fn more_may_be_read() {
        let mut error = OwnedRpcError::new(1, "m");
        assert_eq!(error, OwnedRpcError { code: 1, message: "m".into(), data: None });
        assert_eq!(error.data_as::<Vec<u8>>(), None);
        error.data = Some("[1,2]".into());
        assert_eq!(error.data_as::<Vec<u8>>(), Some(vec![1, 2]));
        assert_eq!(error.data_as::<String>(), None);
    }

    #[test]
    fn a_plain_message_is_not_copied() {
        let error = RpcError::parse(r#"{"code":1,"message":"m"}"#);
        assert!(matches!(error.message, Cow::Borrowed("m")));
        assert_eq!(error.to_string(), "m (code 1)");
    }
}
