//! What a test expects of a message: a text, a pattern, JSON, bytes, or what a closure says.
//!
//! A [`Matcher`] is what [`ConnHandle::expect`](crate::ConnHandle::expect) and its relatives take:
//!
//! | expected | matches | gives |
//! | --- | --- | --- |
//! | `"text"`, a `String` | the text message that equals it | `()` |
//! | `b"bytes"`, a slice, a `Vec<u8>` | the binary message that equals it | `()` |
//! | `json!({..})`, a [`Value`] | the text that is JSON and contains all of it, see [`json_subset`] | the whole [`Value`] |
//! | a [`Message`] | the message that equals it, control frames too | `()` |
//! | [`regex`]`("pattern")` | the text in which it is found | its groups |
//! | [`json_where`]`("what", closure)` | the text that is JSON for which it is true | the whole [`Value`] |
//! | [`that`]`("what", closure)` | the message for which it is true | the [`Message`] |
//! | [`pick`]`("what", closure)` | the message for which it gives something | that |
//! | [`closing`]`(1000)` | the close frame with this code | its reason |
//!
//! ```
//! use everwire_testing::matchers::{Matcher, json_where, pick, regex, that};
//! use everwire_testing::Message;
//! use serde_json::json;
//!
//! let message = Message::text(r#"{"id": 7, "method": "public/subscribe"}"#);
//! assert_eq!(json!({"method": "public/subscribe"}).check(&message).unwrap()["id"], 7);
//! assert_eq!(regex(r#""id": (\d+)"#).check(&message).unwrap()[1], "7");
//! assert!(that("a ping", Message::is_ping).check(&message).is_err());
//! assert!(json_where("an odd id", |json| json["id"].as_u64().is_some_and(|id| id % 2 == 1)).check(&message).is_ok());
//! assert_eq!(pick("a text", |m| m.to_text().ok().map(str::len)).check(&message), Ok(39));
//! // What is different is told.
//! assert_eq!(json!({"id": 8}).check(&message).unwrap_err(), "$.id: expected 8, got 7");
//! ```

mod describe;
mod diff;

use std::fmt;

use regex_lite::Regex;
use serde_json::Value;
use tungstenite::{Bytes, Message};

pub(crate) use describe::{describe, describe_arrivals, describe_bytes, quote};
pub use diff::{json_subset, text_difference};

/// Decides whether a message is the expected one. See [the module](self) for those that are ready.
pub trait Matcher {
    /// What a successful wait gives.
    type Found;

    /// What is waited for, in words that fit behind "waited 5s in vain for".
    fn describe(&self) -> String;

    /// What the wait gives, if this is the message.
    ///
    /// # Errors
    /// It is another one. What differs, on one line or several; empty where there is nothing to say that the message
    /// itself does not.
    fn check(&mut self, message: &Message) -> Result<Self::Found, String>;
}

impl<M: Matcher + ?Sized> Matcher for &mut M {
    type Found = M::Found;

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn check(&mut self, message: &Message) -> Result<M::Found, String> {
        (**self).check(message)
    }
}

impl Matcher for &str {
    type Found = ();

    fn describe(&self) -> String {
        format!("text {}", quote(self))
    }

    fn check(&mut self, message: &Message) -> Result<(), String> {
        let Message::Text(text) = message else { return Err(String::new()) };
        let Some(difference) = text_difference(self, text) else { return Ok(()) };
        // Of two that have nothing in common there is nothing to say.
        let alike = self.chars().next() == text.chars().next();
        Err(if alike { difference } else { String::new() })
    }
}

impl Matcher for &[u8] {
    type Found = ();

    fn describe(&self) -> String {
        describe(&Message::Binary(Bytes::copy_from_slice(self)))
    }

    fn check(&mut self, message: &Message) -> Result<(), String> {
        let Message::Binary(data) = message else { return Err(String::new()) };
        if data == self {
            return Ok(());
        }
        let same = self.iter().zip(data).take_while(|(a, b)| a == b).count();
        Err(format!("differs from byte {same} on, {} bytes were expected", self.len()))
    }
}

impl Matcher for &Value {
    type Found = Value;

    fn describe(&self) -> String {
        format!("JSON with {self}")
    }

    fn check(&mut self, message: &Message) -> Result<Value, String> {
        let value = parse(message)?;
        json_subset(self, &value).map(|()| value)
    }
}

impl Matcher for Message {
    type Found = ();

    fn describe(&self) -> String {
        describe(self)
    }

    fn check(&mut self, message: &Message) -> Result<(), String> {
        match self {
            _ if self == message => Ok(()),
            Self::Text(text) => text.as_str().check(message),
            Self::Binary(data) => (&**data).check(message),
            _ => Err(String::new()),
        }
    }
}

/// The owned forms, and references to arrays, match as the borrowed form does.
macro_rules! as_borrowed {
    ($([$($generics:tt)*] $owned:ty, $found:ty, $borrow:expr;)*) => {$(
        impl<$($generics)*> Matcher for $owned {
            type Found = $found;

            fn describe(&self) -> String {
                Matcher::describe(&$borrow(self))
            }

            fn check(&mut self, message: &Message) -> Result<Self::Found, String> {
                Matcher::check(&mut $borrow(self), message)
            }
        }
    )*};
}

as_borrowed! {
    [] String, (), Self::as_str;
    [] Vec<u8>, (), Self::as_slice;
    [const N: usize] &[u8; N], (), |array: &Self| array.as_slice();
    [] Value, Value, std::convert::identity::<&Self>;
}

/// The text messages in which `pattern` is found, anywhere unless it says `^` and `$`; gives its groups: `[0]` is what
/// all of the pattern matched, a group that took no part is empty.
///
/// The syntax is that of the crate [`regex-lite`](https://docs.rs/regex-lite/0.1.9/regex_lite/#syntax): that of `regex`
/// without Unicode classes.
///
/// # Panics
/// If the pattern is not valid.
pub fn regex(pattern: &str) -> Pattern {
    match Regex::new(pattern) {
        Ok(regex) => Pattern { regex },
        Err(error) => panic!("{pattern:?} is not a valid regular expression: {error}"),
    }
}

/// The [`Matcher`] of [`regex`].
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
}

impl Matcher for Pattern {
    type Found = Vec<String>;

    fn describe(&self) -> String {
        format!("a text with /{}/", self.regex.as_str())
    }

    fn check(&mut self, message: &Message) -> Result<Vec<String>, String> {
        let Message::Text(text) = message else { return Err(String::new()) };
        let found = self.regex.captures(text).ok_or_else(String::new)?;
        Ok(found
            .iter()
            .map(|group| group.map_or_else(String::new, |group| group.as_str().to_owned()))
            .collect())
    }
}

/// The messages, of any kind, for which `is_it` is true; `what` says in errors what they are.
pub fn that<F: FnMut(&Message) -> bool>(what: impl Into<String>, is_it: F) -> That<F> {
    That { what: what.into(), closure: is_it }
}

/// The [`Matcher`] of [`that`].
pub struct That<F> {
    what: String,
    closure: F,
}

impl<F: FnMut(&Message) -> bool> Matcher for That<F> {
    type Found = Message;

    fn describe(&self) -> String {
        self.what.clone()
    }

    fn check(&mut self, message: &Message) -> Result<Message, String> {
        if (self.closure)(message) { Ok(message.clone()) } else { Err(String::new()) }
    }
}

/// The messages, of any kind, from which `pick` takes something; `what` says in errors what they are.
pub fn pick<T, F: FnMut(&Message) -> Option<T>>(what: impl Into<String>, pick: F) -> Pick<F> {
    Pick { what: what.into(), closure: pick }
}

/// The [`Matcher`] of [`pick`].
pub struct Pick<F> {
    what: String,
    closure: F,
}

impl<T, F: FnMut(&Message) -> Option<T>> Matcher for Pick<F> {
    type Found = T;

    fn describe(&self) -> String {
        self.what.clone()
    }

    fn check(&mut self, message: &Message) -> Result<T, String> {
        (self.closure)(message).ok_or_else(String::new)
    }
}

/// The text messages that are JSON for which `is_it` is true; `what` says in errors what they are.
pub fn json_where<F: FnMut(&Value) -> bool>(what: impl Into<String>, is_it: F) -> JsonWhere<F> {
    JsonWhere { what: what.into(), closure: is_it }
}

/// The [`Matcher`] of [`json_where`].
pub struct JsonWhere<F> {
    what: String,
    closure: F,
}

impl<F: FnMut(&Value) -> bool> Matcher for JsonWhere<F> {
    type Found = Value;

    fn describe(&self) -> String {
        self.what.clone()
    }

    fn check(&mut self, message: &Message) -> Result<Value, String> {
        let value = parse(message)?;
        if (self.closure)(&value) { Ok(value) } else { Err(String::new()) }
    }
}

/// The close frame with this code; 1005 is one without a code (RFC 6455 section 7.1.5). Gives its reason.
pub fn closing(code: u16) -> Closing {
    Closing { code }
}

/// The [`Matcher`] of [`closing`].
#[derive(Debug, Clone, Copy)]
pub struct Closing {
    code: u16,
}

impl Matcher for Closing {
    type Found = String;

    fn describe(&self) -> String {
        format!("a close frame with code {}", self.code)
    }

    fn check(&mut self, message: &Message) -> Result<String, String> {
        match message {
            Message::Close(Some(frame)) if u16::from(frame.code) == self.code => Ok(frame.reason.to_string()),
            Message::Close(None) if self.code == 1005 => Ok(String::new()),
            _ => Err(String::new()),
        }
    }
}

macro_rules! debug_by_what {
    ($($closure:ident),*) => {$(
        impl<F> fmt::Debug for $closure<F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($closure)).field(&self.what).finish()
            }
        }
    )*};
}

debug_by_what!(That, Pick, JsonWhere);

fn parse(message: &Message) -> Result<Value, String> {
    let Message::Text(text) = message else { return Err(String::new()) };
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tungstenite::protocol::CloseFrame;

    use super::*;

    fn text(text: &str) -> Message {
        Message::text(text)
    }

    #[test]
    fn a_text_equals_and_its_difference_is_shown() {
        assert_eq!("abc".check(&text("abc")), Ok(()));
        assert_eq!("abc".to_owned().check(&text("abc")), Ok(()));
        let error = "abc".check(&text("abd")).unwrap_err();
        assert!(error.starts_with("differs from character 2 on:\nexpected \"abc\""), "{error}");
        assert_eq!("abc".check(&text("xyz")), Err(String::new()), "nothing alike");
        assert_eq!("abc".check(&Message::binary(&b"abc"[..])), Err(String::new()), "a text is no binary");
        assert_eq!(String::from("abc").describe(), "text \"abc\"");
        assert_eq!(text("abc").check(&text("abd")).unwrap_err(), error);
    }

    #[test]
    fn bytes_equal() {
        assert_eq!(b"abc".check(&Message::binary(&b"abc"[..])), Ok(()));
        assert_eq!(vec![1, 2].check(&Message::binary(vec![1, 2])), Ok(()));
        assert_eq!(
            [1, 2].as_slice().check(&Message::binary(vec![1, 3, 4])),
            Err("differs from byte 1 on, 2 bytes were expected".to_owned())
        );
        assert_eq!(b"abc".check(&text("abc")), Err(String::new()));
        assert_eq!(b"abc".describe(), "binary, 3 bytes: 61 62 63");
    }

    #[test]
    fn a_pattern_gives_its_groups() {
        let found = regex("(a+)|(b+)").check(&text("xbbx"));
        assert_eq!(found, Ok(vec!["bb".to_owned(), String::new(), "bb".to_owned()]));
        assert_eq!(regex("^b").check(&text("xbbx")), Err(String::new()));
        assert_eq!(regex("^b").describe(), "a text with /^b/");
    }

    #[test]
    #[should_panic(expected = "\"(\" is not a valid regular expression: ")]
    fn a_bad_pattern_is_told_at_once() {
        regex("(");
    }

    #[test]
    fn json_and_close_frames_and_closures() {
        assert_eq!(json!({"a": 1}).check(&text(r#"{"a": 1, "b": 2}"#)), Ok(json!({"a": 1, "b": 2})));
        assert!((&json!({})).check(&text("no")).unwrap_err().starts_with("not JSON: "));
        assert_eq!(json_where("x", |_| false).check(&text("1")), Err(String::new()));
        let close = Message::Close(Some(CloseFrame { code: 4001.into(), reason: "why".into() }));
        assert_eq!(closing(4001).check(&close), Ok("why".to_owned()));
        assert_eq!(closing(4000).check(&close), Err(String::new()));
        assert_eq!(closing(1005).check(&Message::Close(None)), Ok(String::new()));
        assert_eq!(format!("{:?}", that("a ping", Message::is_ping)), "That(\"a ping\")");
    }
}
