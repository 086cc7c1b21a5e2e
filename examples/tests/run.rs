//! Every example, as a library: what they print and their exit codes are for `.ci/run`.

#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/binance.rs"]
mod binance;
#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/buffers.rs"]
mod buffers;
#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/bybit.rs"]
mod bybit;
#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/coinbase.rs"]
mod coinbase;
#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/deribit.rs"]
mod deribit;
#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/io_uring.rs"]
mod io_uring_loop;
#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/kraken.rs"]
mod kraken;
#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/kucoin.rs"]
mod kucoin;
#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/mio.rs"]
mod mio_loop;
#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/okx.rs"]
mod okx;
#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/poll.rs"]
mod poll_loop;

#[expect(dead_code, reason = "a main that nobody calls")]
#[path = "../examples/tides.rs"]
mod tides;

use everwire_examples::{Demo, NotHere};
use everwire_testing::MockServer;
use std::error::Error;

const ALL: &str = "2 connections, 20 messages";

/// Runs it with its own server, and with one that it knows nothing of: there it is the session that leaves the first connection.
fn both(name: &str, example: fn(&mut Demo) -> Result<(), Box<dyn Error>>) {
    let server = MockServer::builder().handler(|conn, message| conn.send(message)).start();
    for url in [None, Some(server.url())] {
        match everwire_examples::run(name, url, example) {
            Err(error) if error.is::<NotHere>() => return eprintln!("{name}: did not run: {error}"),
            Err(error) => panic!("{name}: {error}"),
            Ok(summary) => assert_eq!(summary, ALL, "{name}"),
        }
    }
    assert_eq!(server.connections(), 2, "{name}");
}

#[test]
fn mio() {
    both("mio", mio_loop::run);
}

#[test]
fn poll() {
    both("poll", poll_loop::run);
}

#[cfg(target_os = "linux")]
#[test]
fn io_uring() {
    both("io_uring", io_uring_loop::linux::run);
}

/// A run that goes wrong must say so.
#[test]
fn what_differs_is_an_error() {
    // Not echo: every message comes back changed.
    let server = MockServer::builder().handler(|conn, _| conn.send_text("something else")).start();
    let error = everwire_examples::run("poll", Some(server.url()), poll_loop::run).unwrap_err().to_string();
    assert_eq!(error, "instead of message 1 came \"something else\"");
    // Nothing there at all.
    let nobody = Some("ws://127.0.0.1:1/".to_owned());
    let error = everwire_examples::run("mio", nobody, mio_loop::run).unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
    // A loop that does nothing.
    let error = everwire_examples::run("none", None, |_| Ok(())).unwrap_err().to_string();
    assert_eq!(error, "0 connections and 0 messages, not 2 and 20");
}

#[test]
fn no_io_at_all() {
    assert_eq!(buffers::run().unwrap(), ALL);
}

#[tokio::test]
async fn binance() {
    let summary = binance::run().await.unwrap();
    assert!(summary.ends_with("1 reconnect, 1 hole in a book"), "{summary}");
}

#[tokio::test]
async fn bybit() {
    let summary = bybit::run().await.unwrap();
    assert!(summary.ends_with("1 order placed and cancelled"), "{summary}");
}

#[tokio::test]
async fn coinbase() {
    let summary = coinbase::run().await.unwrap();
    assert!(summary.ends_with("1 reconnect, 1 hole"), "{summary}");
}

#[tokio::test]
async fn deribit() {
    let summary = deribit::run().await.unwrap();
    assert!(summary.ends_with("1 reconnect, 1 order cancelled by the venue, 1 by hand, 1 kept"), "{summary}");
}

#[tokio::test]
async fn kraken() {
    let summary = kraken::run().await.unwrap();
    assert!(summary.ends_with("1 reconnect, 1 wrong checksum"), "{summary}");
}

#[tokio::test]
async fn kucoin() {
    let summary = kucoin::run().await.unwrap();
    assert!(summary.ends_with("1 reconnect, 1 hole in a book"), "{summary}");
}

#[tokio::test]
async fn tides() {
    let summary = tides::run().await.unwrap();
    assert!(summary.starts_with("40 readings, 1 reconnect, 2 gaps; in 50 simulations "), "{summary}");
}

#[tokio::test]
async fn okx() {
    let summary = okx::run().await.unwrap();
    assert!(summary.ends_with("1 reconnect, 1 hole in a book, 1 order"), "{summary}");
}

/// What an example is worth depends on how much of it there is to read.
#[test]
fn they_are_short() {
    for (name, text, most) in [
        ("mio", include_str!("../examples/mio.rs"), 200),
        ("poll", include_str!("../examples/poll.rs"), 200),
        ("io_uring", include_str!("../examples/io_uring.rs"), 200),
        ("buffers", include_str!("../examples/buffers.rs"), 80),
        ("binance", include_str!("../examples/binance.rs"), 150),
        ("bybit", include_str!("../examples/bybit.rs"), 140),
        ("coinbase", include_str!("../examples/coinbase.rs"), 130),
        ("deribit", include_str!("../examples/deribit.rs"), 160),
        ("kraken", include_str!("../examples/kraken.rs"), 120),
        ("okx", include_str!("../examples/okx.rs"), 120),
        ("kucoin", include_str!("../examples/kucoin.rs"), 120),
    ] {
        let lines = text.lines().count();
        assert!(lines < most, "{name} has {lines} lines");
    }
}
