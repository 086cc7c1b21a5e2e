//! Why a call has no result.

use super::path;
use crate::protocol::OwnedRpcError;
use crate::session::{SendError, Unanswered};
use serde_json::error::Category;
use std::fmt;

/// Why a call has no result. `E` is the table's `type Error`, and [`OwnedRpcError`] without one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError<E = OwnedRpcError> {
    /// Its parameters cannot be sent: they do not serialise, or to neither an object nor an array. Nothing was sent.
    Params {
        /// The method.
        method: &'static str,
        /// What is wrong with them.
        reason: String,
    },
    /// It was refused at once. Nothing was sent.
    NotTaken {
        /// The method.
        method: &'static str,
        /// Why.
        error: SendError,
    },
    /// Not one byte of it was sent: doing it again is safe.
    NotSent {
        /// The method.
        method: &'static str,
        /// Why.
        why: Unanswered,
    },
    /// It was sent, at least in part, and no answer came: the server may have acted on it.
    SentUnknown {
        /// The method.
        method: &'static str,
        /// Why there is no answer.
        why: Unanswered,
    },
    /// The server answered with an error.
    Refused {
        /// The method.
        method: &'static str,
        /// The error.
        error: E,
    },
    /// The server did it, and its result is not of the type that the table says.
    Result {
        /// The method.
        method: &'static str,
        /// What is wrong with it.
        error: Unreadable,
    },
}

impl<E> CallError<E> {
    /// The method that was called.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Params { method, .. }
            | Self::NotTaken { method, .. }
            | Self::NotSent { method, .. }
            | Self::SentUnknown { method, .. }
            | Self::Refused { method, .. }
            | Self::Result { method, .. } => method,
        }
    }

    /// Whether it is certain that not one byte of it was sent: then doing it again is safe, whatever it does.
    pub fn not_sent(&self) -> bool {
        matches!(self, Self::Params { .. } | Self::NotTaken { .. } | Self::NotSent { .. })
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.method())?;
        match self {
            Self::Params { reason, .. } => write!(f, "its parameters cannot be sent: {reason}"),
            Self::NotTaken { error, .. } => write!(f, "{error}"),
            Self::NotSent { why, .. } => write!(f, "it was not sent: {why}"),
            Self::SentUnknown { why, .. } => {
                write!(f, "it was sent, but whether it took effect is unknown: {why}")
            }
            Self::Refused { error, .. } => write!(f, "the server answered with an error: {error}"),
            Self::Result { error, .. } => {
                write!(f, "the server did it, but its result is not as the table says: {error}")
            }
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotTaken { error, .. } => Some(error),
            Self::Refused { error, .. } => Some(error),
            Self::Result { error, .. } => Some(error),
            Self::Params { .. } | Self::NotSent { .. } | Self::SentUnknown { .. } => None,
        }
    }
}

/// JSON of the server that is not of the type that the table says. `Display` and `Debug` say what was expected, and where, and nothing of its
/// values, which may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Unreadable(Box<Found>);

#[derive(Clone, PartialEq, Eq)]
struct Found {
    text: String,
    detail: String,
    expected: String,
    path: String,
    at: (usize, usize),
}

impl Unreadable {
    pub(super) fn new(text: String, error: &serde_json::Error) -> Self {
        let at = (error.line(), error.column());
        let detail = error.to_string();
        let expected = match error.classify() {
            Category::Data => without_values(&detail),
            // These say what JSON is like.
            Category::Syntax | Category::Eof | Category::Io => without_place(&detail),
        };
        let path = path::at(&text, at);
        Self(Box::new(Found { expected: expected.to_owned(), path, detail, text, at }))
    }

    /// The whole text, as the server sent it. It may hold secrets.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// What serde says about it. It may quote values.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The value that it is about, such as `.trades[3].price`; empty for the whole text. Of one that is long, the end.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Where reading stopped: the line, from 1, and how many bytes of it were read.
    pub fn at(&self) -> (usize, usize) {
        self.0.at
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { expected, path, at: (line, column), .. } = &*self.0;
        f.write_str(expected)?;
        if !path.is_empty() {
            write!(f, " in {path}")?;
        }
        write!(f, " (line {line}, column {column})")
    }
}

impl fmt::Debug for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unreadable({self})")
    }
}

impl std::error::Error for Unreadable {}

/// What serde says of a type, without what it quotes of the data.
fn without_values(detail: &str) -> &str {
    let detail = without_place(detail);
    if detail.starts_with("missing field `") || detail.starts_with("duplicate field `") {
        return detail;
    }
    let quotes =
        ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant ", "unknown field "];
    // The last one: what is quoted may have these words in it too.
    let expected = quotes
        .iter()
        .any(|start| detail.starts_with(start))
        .then(|| detail.rfind("expected ").map(|from| &detail[from..]));
    expected.flatten().unwrap_or("not what its type takes")
}

/// Without what serde_json says of the place, at the end.
fn without_place(detail: &str) -> &str {
    detail.rfind(" at line ").map_or(detail, |to| &detail[..to])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Order {
        id: String,
        amount: u64,
        side: Side,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Side {
        Buy,
        Sell,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Picky;

    impl TryFrom<String> for Picky {
        type Error = String;

        fn try_from(text: String) -> Result<Self, String> {
            Err(format!("I do not like {text}"))
        }
    }

    fn unreadable<T: DeserializeOwned + fmt::Debug>(text: &str) -> Unreadable {
        Unreadable::new(text.to_owned(), &serde_json::from_str::<T>(text).unwrap_err())
    }

    fn says<T: DeserializeOwned + fmt::Debug>(text: &str) -> String {
        let error = unreadable::<T>(text);
        assert_eq!(format!("{error:?}"), format!("Unreadable({error})"));
        error.to_string()
    }

    #[test]
    fn it_says_what_was_expected_and_where_and_quotes_nothing() {
        assert_eq!(says::<u64>(r#""s3cret""#), "expected u64 (line 1, column 8)");
        assert_eq!(
            says::<Order>(r#"{"id":"x","amount":"s3cret","side":"buy"}"#),
            "expected u64 in .amount (line 1, column 27)"
        );
        assert_eq!(
            says::<Vec<Order>>("[\n{\"id\":\"x\",\"amount\":1,\"side\":\"buy\"},\n{\"id\":\"y\"}\n]"),
            "missing field `amount` in [1] (line 3, column 10)"
        );
        assert_eq!(
            says::<BTreeMap<String, Order>>(r#"{"a":{"id":"x","amount":1,"side":"s3cret"}}"#),
            "expected `buy` or `sell` in .a.side (line 1, column 41)"
        );
        assert_eq!(
            says::<Order>(r#"{"id":"x","amount":-7,"side":"buy"}"#),
            "expected u64 in .amount (line 1, column 21)"
        );
        assert_eq!(says::<(u8, u8)>("[1]"), "expected a tuple of size 2 (line 1, column 3)");
        assert_eq!(says::<u64>(r#"{"s3cret":1}"#), "expected u64 (line 1, column 0)");
        // What is quoted cannot bring itself in.
        assert_eq!(says::<u64>(r#""x, expected s3cret""#), "expected u64 (line 1, column 20)");
        // Whatever a type's own code says is its own.
        assert_eq!(says::<Vec<Picky>>(r#"["s3cret"]"#), "not what its type takes (line 1, column 10)");
        assert_eq!(says::<Order>(r#"{"id":"x""#), "EOF while parsing an object in .id (line 1, column 9)");
        let odd = says::<Nothing>(r#"{"s3cret":1}"#);
        assert!(odd.starts_with("expected ") || odd.starts_with("not what"), "{odd}");
    }

    #[test]
    fn who_asks_for_all_of_it_gets_it() {
        let error = unreadable::<Order>(r#"{"id":"x","amount":"s3cret","side":"buy"}"#);
        assert_eq!(error.text(), r#"{"id":"x","amount":"s3cret","side":"buy"}"#);
        assert_eq!(error.detail(), "invalid type: string \"s3cret\", expected u64 at line 1 column 27");
        assert_eq!((error.path(), error.at()), (".amount", (1, 27)));
    }

    #[test]
    fn errors_name_the_method_and_say_whether_it_was_sent() {
        let method = "private/buy";
        let errors: [(CallError, bool, &str); 6] = [
            (
                CallError::Params { method, reason: "odd".into() },
                true,
                "private/buy: its parameters cannot be sent: odd",
            ),
            (
                CallError::NotTaken { method, error: SendError::Offline },
                true,
                "private/buy: not online: wait for Event::Online",
            ),
            (
                CallError::NotSent { method, why: Unanswered::Closed },
                true,
                "private/buy: it was not sent: the session was closed",
            ),
            (
                CallError::SentUnknown { method, why: Unanswered::Timeout },
                false,
                "private/buy: it was sent, but whether it took effect is unknown: its time was over",
            ),
            (
                CallError::Refused { method, error: OwnedRpcError::new(-7, "no") },
                false,
                "private/buy: the server answered with an error: no (code -7)",
            ),
            (
                CallError::Result { method, error: unreadable::<u64>("null") },
                false,
                "private/buy: the server did it, but its result is not as the table says: \
                 expected u64 (line 1, column 4)",
            ),
        ];
        for (error, not_sent, text) in errors {
            assert_eq!((error.method(), error.not_sent(), &*error.to_string()), (method, not_sent, text));
        }
    }
}
