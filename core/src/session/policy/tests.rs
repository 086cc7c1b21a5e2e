//! The tables against what they are meant to be, number by number.

use super::*;
use crate::error::tests::{closed, every, refused};
use crate::error::{Disconnect, Notice, Refusal};
use crate::ws::handshake::RetryAfter;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::io;

const TEN: Recovery = Recovery::Backoff(Duration::from_secs(10));
const WALL: SystemTime = SystemTime::UNIX_EPOCH;

#[test]
fn the_default_for_every_close_code() {
    let policy = Policy::default();
    for code in 0..=u16::MAX {
        let expected = match code {
            1008 | 1013 => TEN,
            3000 | 3003 => Recovery::Reauthenticate,
            _ => Recovery::Reconnect,
        };
        assert_eq!(policy.close(code), expected, "{code}");
        assert_eq!(policy.recovery(&closed(code), WALL), expected, "{code}");
    }
}

#[test]
fn the_default_for_every_status() {
    let policy = Policy::default();
    for status in 0..=1000 {
        let expected = match status {
            400 | 404 | 405 | 410 | 414 | 426 | 431 | 501 | 505 => Recovery::Stop,
            401 | 403 | 407 => Recovery::Reauthenticate,
            429 => TEN,
            _ => Recovery::Reconnect,
        };
        assert_eq!(policy.status(status), expected, "{status}");
        assert_eq!(policy.recovery(&refused(status, None), WALL), expected, "{status}");
        let wait = Duration::from_secs(3);
        let told = refused(status, Some(RetryAfter::Seconds(3)));
        assert_eq!(policy.recovery(&told, WALL), Recovery::Backoff(wait), "{status}");
    }
}

#[test]
fn the_default_for_everything_else() {
    let policy = Policy::default();
    for error in every() {
        let expected = match &error {
            Error::TlsNotBuilt | Error::TooManyRedirects { .. } | Error::Request(_) => Recovery::Stop,
            #[cfg(feature = "tls")]
            Error::Tls(crate::transport::tls::TlsError::NotTls { .. }) => Recovery::Stop,
            Error::Authentication(_) => Recovery::Reauthenticate,
            // A table of its own is beside it.
            Error::Proxy(error) => error.fault.recovery(WALL),
            Error::Notice(notice) => notice.recovery(),
            Error::Closed(_) | Error::Handshake(HandshakeError::Refused(_)) => continue,
            _ => Recovery::Reconnect,
        };
        assert_eq!(policy.recovery(&error, WALL), expected, "{error:?}");
        assert_eq!(error.recovery(WALL), expected, "{error:?}");
    }
    let target = crate::ws::Target::parse("ws://example.com/").unwrap();
    let error = Error::Handshake(HandshakeError::InsecureRedirect { location: Box::new(target) });
    assert_eq!(policy.recovery(&error, WALL), Recovery::Stop);
    let unsure = [io::ErrorKind::Other, io::ErrorKind::PermissionDenied, io::ErrorKind::Unsupported];
    for kind in unsure {
        let cause = Disconnect::Io { kind, message: String::new() };
        assert_eq!(policy.recovery(&Error::Disconnected(cause.clone()), WALL), Recovery::Reconnect);
        let error = Error::Connect { addr: ([127, 0, 0, 1], 1).into(), cause };
        assert_eq!(policy.recovery(&error, WALL), Recovery::Reconnect);
    }
}

#[cfg(feature = "tls")]
#[test]
fn certificates_stop_and_a_broken_connection_does_not() {
    use crate::transport::tls::{CertificateProblem, TlsError};
    let policy = Policy::new();
    let recovery = |error| policy.recovery(&Error::Tls(error), WALL);
    assert_eq!(recovery(TlsError::Certificate(CertificateProblem::UnknownIssuer)), Recovery::Stop);
    assert_eq!(recovery(TlsError::NoTrustRoots), Recovery::Stop);
    assert_eq!(recovery(TlsError::HandshakeEof), Recovery::Reconnect);
    assert_eq!(recovery(TlsError::Truncated), Recovery::Reconnect);
}

#[test]
fn retry_after_is_at_most_a_day_and_may_be_a_date() {
    let policy = Policy::default().on_status(.., Recovery::Stop).unwrap();
    let day = Recovery::Backoff(Recovery::MAX_BACKOFF);
    assert_eq!(policy.recovery(&refused(429, Some(RetryAfter::Seconds(u64::MAX))), WALL), day);
    let date = RetryAfter::At(WALL + Duration::from_secs(90));
    let wait = |wall| policy.recovery(&refused(503, Some(date)), wall);
    assert_eq!(wait(WALL + Duration::from_secs(30)), Recovery::Backoff(Duration::from_secs(60)));
    assert_eq!(wait(WALL + Duration::from_secs(300)), Recovery::Backoff(Duration::ZERO));
}

#[test]
fn what_holds_back_all_sessions_to_a_host() {
    let policy = Policy::default();
    let cools: Vec<_> = every().into_iter().filter(|error| policy.cools_down(error)).collect();
    let slow = Error::Notice(Notice::new("slow down", Recovery::Backoff(Duration::from_secs(3))));
    assert_eq!(cools, [refused(429, None), closed(1008), slow]);
    for status in [401, 404, 429, 503] {
        assert!(policy.cools_down(&refused(status, Some(RetryAfter::Seconds(1)))), "{status}");
    }
    assert!(!policy.cools_down(&refused(503, None)) && !policy.cools_down(&closed(1013)));
    let other = Policy::default()
        .on_close(1008..=1008, Recovery::Reauthenticate)
        .and_then(|policy| policy.on_status(429..=429, Recovery::Stop))
        .unwrap();
    assert!(!other.cools_down(&closed(1008)) && !other.cools_down(&refused(429, None)));
    assert!(!Policy::new().cools_down(&closed(1008)));
}

#[test]
fn authentication_is_what_was_set() {
    let error = Error::Authentication(Refusal::new("no", 13004));
    assert_eq!(Policy::new().recovery(&error, WALL), Recovery::Reconnect);
    let policy = Policy::new().on_authentication(Recovery::Stop).unwrap();
    assert_eq!((policy.recovery(&error, WALL), policy.authentication()), (Recovery::Stop, Recovery::Stop));
}

#[test]
fn ends_of_ranges() {
    let policy = Policy::new().on_close(4500.., Recovery::Stop).unwrap();
    assert_eq!((policy.close(4499), policy.close(4500)), (Recovery::Reconnect, Recovery::Stop));
    assert_eq!((policy.close(4999), policy.close(5000)), (Recovery::Stop, Recovery::Reconnect));
    let policy = Policy::new().on_close(..1002, Recovery::Stop).unwrap();
    assert_eq!((policy.close(999), policy.close(1000)), (Recovery::Reconnect, Recovery::Stop));
    assert_eq!((policy.close(1001), policy.close(1002)), (Recovery::Stop, Recovery::Reconnect));
    let between = (Bound::Excluded(100), Bound::Excluded(102));
    let policy = Policy::new().on_status(between, Recovery::Stop).unwrap();
    let stops: Vec<_> = (0..700).filter(|status| policy.status(*status) == Recovery::Stop).collect();
    assert_eq!(stops, [101]);
    let policy = Policy::new().on_status(.., Recovery::Stop).unwrap();
    let stops: Vec<_> = (0..700).filter(|status| policy.status(*status) == Recovery::Stop).collect();
    assert_eq!(stops, (100..=599).collect::<Vec<_>>());
}

#[test]
fn what_is_out_of_range_is_named() {
    let close = |range: (Bound<u16>, Bound<u16>)| {
        Policy::new().on_close(range, Recovery::Stop).map(|_| ()).map_err(|error| error.to_string())
    };
    use Bound::{Excluded, Included, Unbounded};
    let rows = [
        ((Included(999), Included(999)), "policy.close is 999: it may be 1000 to 4999"),
        ((Included(0), Included(u16::MAX)), "policy.close is 0 to 65535: it may be 1000 to 4999"),
        ((Included(4999), Included(5000)), "policy.close is 4999 to 5000: it may be 1000 to 4999"),
        ((Excluded(u16::MAX), Unbounded), "policy.close is an empty range at 65536: it may be 1000 to 4999"),
        ((Unbounded, Excluded(0)), "policy.close is an empty range at 1000: it may be 1000 to 4999"),
        ((Included(4000), Excluded(4000)), "policy.close is an empty range at 4000: it may be 1000 to 4999"),
        ((Included(2000), Included(1000)), "policy.close is an empty range at 2000: it may be 1000 to 4999"),
    ];
    for (range, text) in rows {
        assert_eq!(close(range), Err(text.to_owned()));
    }
    assert_eq!(close((Included(1000), Included(4999))), Ok(()));
    let status = |first, last| Policy::new().on_status(first..=last, Recovery::Stop);
    assert!(status(100, 599).is_ok());
    for (first, last) in [(99, 100), (599, 600), (600, 600)] {
        let error = status(first, last).unwrap_err().to_string();
        assert!(error.starts_with("policy.status is ") && error.ends_with("100 to 599"), "{error}");
    }
}

#[test]
fn backoffs_are_a_day_at_most() {
    let day = Recovery::Backoff(Recovery::MAX_BACKOFF);
    let more = Recovery::Backoff(Recovery::MAX_BACKOFF + Duration::from_nanos(1));
    assert!(Policy::new().on_close(.., day).and_then(|policy| policy.on_authentication(day)).is_ok());
    let errors = [
        ("policy.close", Policy::new().on_close(.., more)),
        ("policy.status", Policy::new().on_status(.., more)),
        ("policy.authentication", Policy::new().on_authentication(more)),
    ];
    for (name, error) in errors {
        let Err(ConfigError::Range { field, value, allowed }) = error else { panic!("{name} took it") };
        assert_eq!(field, name);
        assert!(value.contains("86400.000000001s") && allowed.contains("24 h"), "{value} {allowed}");
    }
}

#[test]
fn the_last_one_wins_and_equal_tables_are_equal() {
    for seed in 0..50 {
        let mut rng = ChaCha8Rng::from_seed([seed; 32]);
        let mut policy = Policy::default();
        let mut model: Vec<_> = (0..=u16::MAX).map(|code| policy.close(code)).collect();
        for _ in 0..40 {
            // A narrow band, so that ranges touch and cover each other often; now and then an edge.
            let first =
                [1000, 4000 + rng.next_u32() as u16 % 40][usize::from(!rng.next_u32().is_multiple_of(8))];
            let last =
                [4999, first + rng.next_u32() as u16 % 10][usize::from(!rng.next_u32().is_multiple_of(8))];
            let then = [Recovery::Stop, Recovery::Reconnect, TEN][rng.next_u32() as usize % 3];
            policy = policy.on_close(first..=last, then).unwrap();
            model[usize::from(first)..=usize::from(last)].fill(then);
        }
        for code in 0..=u16::MAX {
            assert_eq!(policy.close(code), model[usize::from(code)], "seed {seed}, code {code}");
        }
        let mut next = 1000;
        let mut before = None;
        for (codes, then) in policy.closes() {
            assert_eq!(*codes.start(), next, "seed {seed}: a hole or an overlap");
            assert!(codes.start() <= codes.end() && before.replace(then) != Some(then), "seed {seed}");
            next = codes.end() + 1;
        }
        assert_eq!(next, 5000);
        // Another way to the same table: backwards, and each rule in two steps that overlap.
        let mut other = Policy::new().on_authentication(Recovery::Reauthenticate).unwrap();
        for (codes, then) in policy.closes().collect::<Vec<_>>().into_iter().rev() {
            other = other.on_close(*codes.end().., Recovery::Stop).unwrap();
            other = other.on_close(codes, then).unwrap();
        }
        for (codes, then) in policy.closes() {
            other = other.on_close(codes, then).unwrap();
        }
        for (statuses, then) in policy.statuses() {
            other = other.on_status(statuses, then).unwrap();
        }
        assert_eq!(other, policy, "seed {seed}");
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy, "{json}");
    }
}

#[test]
fn reads_changes_to_the_default() {
    let read = |json| serde_json::from_str::<Policy>(json).map_err(|error| error.to_string());
    assert_eq!(read("{}"), Ok(Policy::default()));
    let policy = read(
        r#"{"close": [{"first": 4000, "last": 4999, "then": "stop"}, {"first": 4003, "then": {"backoff": 2.5}}],
            "status": [{"first": 404, "then": "reconnect"}], "authentication": "stop"}"#,
    );
    let expected = Policy::default()
        .on_close(4000.., Recovery::Stop)
        .and_then(|policy| policy.on_close(4003..=4003, Recovery::Backoff(Duration::from_millis(2500))))
        .and_then(|policy| policy.on_status(404..=404, Recovery::Reconnect))
        .and_then(|policy| policy.on_authentication(Recovery::Stop));
    assert_eq!(policy, Ok(expected.unwrap()));
    for (bad, says) in [
        (r#"{"close": [{"first": 5000, "then": "stop"}]}"#, "policy.close is 5000"),
        (r#"{"status": [{"first": 500, "last": 400, "then": "stop"}]}"#, "policy.status is an empty range"),
        (r#"{"authentication": {"backoff": 86401}}"#, "policy.authentication is a backoff of 86401s"),
        (r#"{"closes": []}"#, "unknown field `closes`"),
        (r#"{"close": [{"code": 4000, "then": "stop"}]}"#, "unknown field `code`"),
    ] {
        let error = read(bad).unwrap_err();
        assert!(error.contains(says), "{bad}: {error}");
    }
}

#[test]
fn prints_as_a_list() {
    let policy = Policy::new().on_close(4000..=4000, TEN).unwrap();
    assert_eq!(
        policy.to_string(),
        "close 1000-3999: reconnect\nclose 4000: back off 10s\nclose 4001-4999: reconnect\nstatus 100-599: reconnect\n\
         authentication: reconnect"
    );
    assert_eq!(policy.statuses().collect::<Vec<_>>(), [(100..=599, Recovery::Reconnect)]);
}
