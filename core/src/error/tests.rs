//! A sample of every error, and what holds for each.

use super::*;
use crate::transport::proxy::ProxyFault;
use crate::ws::handshake::{Refused, RetryAfter};
use crate::ws::{HeaderError, Headers};
use std::collections::BTreeSet;

/// At least one error of each variant. `number` makes sure of that.
pub(crate) fn every() -> Vec<Error> {
    let io = Disconnect::Io { kind: io::ErrorKind::ConnectionReset, message: "reset".into() };
    let mut errors = vec![
        Error::Provider(ProviderError::new("no token")),
        Error::Endpoint(ConfigError::Header(header_error())),
        Error::Resolve(ResolveError { message: "no such name".into() }),
        Error::Connect { addr: ([127, 0, 0, 1], 80).into(), cause: io.clone() },
        Error::Open(io.clone()),
        Error::TlsNotBuilt,
        proxy(ProxyFault::Resolve(ResolveError { message: "no such name".into() })),
        proxy(ProxyFault::Timeout),
        proxy(ProxyFault::Reply(2)),
        proxy(ProxyFault::CredentialsRefused { status: 1 }),
        proxy(ProxyFault::HostTooLong { len: 300 }),
        proxy(ProxyFault::NotSocks { version: 4 }),
        refused(404, None),
        refused(401, None),
        refused(429, None),
        Error::Handshake(HandshakeError::UpgradeHeader),
        Error::Handshake(HandshakeError::HeadTooLarge { limit: 1 }),
        Error::TooManyRedirects { max: 5 },
        Error::Request(header_error()),
        Error::Protocol(ProtocolError::MaskedFrame),
        Error::Protocol(ProtocolError::MessageTooLarge { max: 1 }),
        closed(1000),
        closed(1008),
        closed(3000),
        Error::Disconnected(Disconnect::Eof),
        Error::Disconnected(io),
        Error::Authentication(Refusal::new("invalid_credentials", 13004)),
        Error::Preparation(Refusal::new("bad_request", 13)),
        Error::Unsupported(Unsupported { reason: "write the authentication: no key".into() }),
        Error::Notice(Notice::new("maintenance", Recovery::Reconnect)),
        Error::Notice(Notice::new("slow down", Recovery::Backoff(Duration::from_secs(3)))),
        Error::Expired,
        Error::Renewed,
        Error::Rotated,
        Error::Reconnect,
    ];
    errors.extend(TIMEOUTS.map(Error::Timeout));
    #[cfg(feature = "tls")]
    errors.extend([Error::Tls(TlsError::NotTls { http: true }), Error::Tls(TlsError::Truncated)]);
    errors
}

pub(crate) fn closed(code: u16) -> Error {
    Error::Closed(Closed { code: code.into(), reason: String::new() })
}

pub(crate) fn refused(status: u16, retry_after: Option<RetryAfter>) -> Error {
    let (reason, headers, body) = (String::new(), Headers::default(), Vec::new());
    Error::Handshake(HandshakeError::Refused(Box::new(Refused {
        status,
        reason,
        headers,
        body,
        retry_after,
    })))
}

pub(crate) fn proxy(fault: ProxyFault) -> Error {
    Error::Proxy(ProxyError { proxy: "http://proxy.example:3128".into(), fault })
}

fn header_error() -> HeaderError {
    Headers::default().append("no token", "").unwrap_err()
}

const TIMEOUTS: [Timeout; 10] = [
    Timeout::Connect,
    Timeout::Handshake,
    Timeout::Greeting,
    Timeout::Pong,
    Timeout::Close,
    Timeout::Authentication,
    Timeout::Preparation,
    Timeout::Heartbeat,
    Timeout::Write,
    Timeout::Data,
];

/// A new variant does not compile here until it is counted, and then fails below until `every` has it.
fn number(error: &Error) -> usize {
    match error {
        Error::Provider(_) => 0,
        Error::Resolve(_) => 1,
        Error::Connect { .. } => 2,
        #[cfg(feature = "tls")]
        Error::Tls(_) => 3,
        Error::TlsNotBuilt => 4,
        Error::Handshake(_) => 5,
        Error::TooManyRedirects { .. } => 6,
        Error::Request(_) => 7,
        Error::Protocol(_) => 8,
        Error::Closed(_) => 9,
        Error::Disconnected(_) => 10,
        Error::Timeout(Timeout::Connect) => 11,
        Error::Timeout(Timeout::Handshake) => 12,
        Error::Timeout(Timeout::Pong) => 13,
        Error::Timeout(Timeout::Close) => 14,
        Error::Timeout(Timeout::Authentication) => 15,
        Error::Timeout(Timeout::Heartbeat) => 16,
        Error::Timeout(Timeout::Write) => 17,
        Error::Timeout(Timeout::Data) => 18,
        Error::Authentication(_) => 19,
        Error::Notice(_) => 20,
        Error::Reconnect => 21,
        Error::Open(_) => 22,
        Error::Endpoint(_) => 23,
        Error::Expired => 24,
        Error::Renewed => 25,
        Error::Timeout(Timeout::Greeting) => 26,
        Error::Proxy(_) => 27,
        Error::Timeout(Timeout::Preparation) => 28,
        Error::Preparation(_) => 29,
        Error::Unsupported(_) => 30,
        Error::Rotated => 31,
    }
}

#[test]
fn every_variant_is_in_the_sample() {
    let numbers: BTreeSet<_> = every().iter().map(number).collect();
    let expected = (0..=31).filter(|n| *n != 3 || cfg!(feature = "tls")).collect();
    assert_eq!(numbers, expected);
}

/// `explain` links to sections that exist, and the sections describe each variant by its name.
#[test]
fn every_link_leads_into_the_guide() {
    let guide = include_str!("../../../docs/guides/errors.md");
    for error in every() {
        let explanation = error.explain();
        let anchor = explanation.link.strip_prefix("docs/guides/errors.md#").unwrap();
        let heading = format!("## {anchor}");
        let section = guide.split("\n## ").find(|section| section.lines().next() == Some(anchor));
        assert!(guide.lines().any(|line| line == heading), "{error:?}: no section {anchor}");
        let section = section.unwrap();
        let debug = format!("{error:?}");
        let variant = debug.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        assert!(section.contains(&format!("`Error::{variant}`")), "section {anchor} has no Error::{variant}");
        for (part, text) in
            [("what", &*explanation.what), ("cause", explanation.cause), ("advice", explanation.advice)]
        {
            assert!(text.len() > 15 && !text.ends_with('.'), "{error:?}: {part} is {text:?}");
        }
        let all = explanation.to_string();
        assert!(all.contains(explanation.cause) && all.contains(explanation.advice), "{all}");
        assert!(all.starts_with(&error.to_string()) && all.ends_with(explanation.link), "{all}");
    }
}

#[test]
fn every_timeout_names_its_option_and_the_guide_lists_it() {
    let guide = include_str!("../../../docs/guides/errors.md");
    let section = guide.split("\n## ").find(|section| section.starts_with("timeout\n")).unwrap();
    for timeout in TIMEOUTS {
        let row = format!("| `{timeout:?}` | `Config::{}` |", timeout.option());
        assert!(section.contains(&row), "no row {row}");
        assert!(Error::Timeout(timeout).explain().advice.contains(timeout.option()), "{timeout:?}");
    }
}

#[test]
fn the_guide_shows_the_default_policy() {
    let guide = include_str!("../../../docs/guides/errors.md");
    let printed = format!("```text\n{}\n```", Policy::default());
    assert!(guide.contains(&printed), "the guide lacks\n{printed}");
}

#[test]
fn texts_of_the_server_are_cut_between_characters_and_escaped() {
    let long = "\u{20ac}".repeat(1000);
    let refusal = Refusal::new(&long, None);
    assert_eq!((refusal.text().len(), refusal.code()), (1023, None));
    let notice = Notice::new(&long, Recovery::Reconnect);
    assert_eq!((notice.text().len(), notice.recovery()), (1023, Recovery::Reconnect));
    assert_eq!(Refusal::new(&"x".repeat(1025), None).text().len(), 1024);
    let error = Error::Authentication(Refusal::new("bad\u{1b}[31m\nkey", -32602));
    assert_eq!(
        error.to_string(),
        r#"the server refused the authentication with code -32602 ("bad\u{1b}[31m\nkey")"#
    );
    let silent = Error::Authentication(Refusal::new("", None));
    assert_eq!(silent.to_string(), "the server refused the authentication");
    let notice = Error::Notice(Notice::new("a\nb", Recovery::Stop));
    assert_eq!(notice.to_string(), r#"the server gave notice ("a\nb")"#);
}

#[test]
fn a_notice_cannot_ask_for_more_than_a_day() {
    let notice = Notice::new("bye", Recovery::Backoff(Duration::MAX));
    assert_eq!(notice.recovery(), Recovery::Backoff(Duration::from_secs(86_400)));
}

#[test]
fn recoveries_serialise_to_words_and_seconds() {
    let nearly_a_day = Recovery::MAX_BACKOFF - Duration::from_nanos(1);
    let rows = [
        (Recovery::Reconnect, r#""reconnect""#),
        (Recovery::Reauthenticate, r#""reauthenticate""#),
        (Recovery::Stop, r#""stop""#),
        (Recovery::Backoff(Duration::from_secs(10)), r#"{"backoff":10.0}"#),
        (Recovery::Backoff(nearly_a_day), ""),
        (Recovery::Backoff(Duration::from_nanos(1)), ""),
    ];
    for (recovery, json) in rows {
        let text = serde_json::to_string(&recovery).unwrap();
        assert!(json.is_empty() || text == json, "{text}");
        assert_eq!(serde_json::from_str::<Recovery>(&text).unwrap(), recovery);
    }
    let whole: Recovery = serde_json::from_str(r#"{"backoff":3}"#).unwrap();
    assert_eq!(whole, Recovery::Backoff(Duration::from_secs(3)));
    for bad in [r#"{"backoff":-1}"#, r#"{"backoff":1e300}"#, r#""later""#] {
        assert!(serde_json::from_str::<Recovery>(bad).is_err(), "{bad}");
    }
}
