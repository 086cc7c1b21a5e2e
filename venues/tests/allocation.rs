//! How often a message of each venue allocates, once the buffers have grown to what the connection needs: not at all if it is flat. What is nested
//! in what is skipped costs one small allocation each time it is read: `serde_json` notes there what is to be closed again.

#![allow(unsafe_code, reason = "an allocator that counts cannot be written without")]
// In tests, a panic is the report.
#![allow(clippy::unwrap_used)]

use everwire_core::{
    Clock, Config, ConnId, Endpoint, Event, JsonRpc, Output, Session, SubscribeOptions, SubscriptionState,
    Topic,
};
use everwire_testing::sim::ws::{self, Heard, Socket};
use everwire_venues::binance::{self, Binance, Speed};
use everwire_venues::deribit::{self, Deribit, Interval};
use everwire_venues::kraken::{self, Depth, Kraken};
use everwire_venues::kucoin::{self, Kucoin};
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

struct Counting;

thread_local! {
    // Each test runs on a thread of its own.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // At a thread's end there is nothing left to count in.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A session that is online and subscribed, and a venue that is nothing but functions of bytes.
struct Line {
    session: Session,
    conn: ConnId,
    now: Instant,
    socket: Socket,
    gaps: u64,
}

impl Line {
    /// `answers`: what the venue says to a message of the client's.
    fn online(config: Config, topics: &[Topic], answers: impl Fn(&Value) -> Vec<Value>) -> Self {
        let clock = Clock { instant: Instant::now(), system: SystemTime::UNIX_EPOCH };
        let now = clock.instant;
        let mut session = Session::new(config, clock, [7; 32]).unwrap();
        let mut line = loop {
            match session.poll_output(now) {
                Output::Provide(id) => {
                    let endpoint = Endpoint::new("ws://127.0.0.1:9/")
                        .unwrap()
                        .heartbeat_interval(Duration::from_secs(18));
                    session.handle_endpoint(id, Ok(endpoint), now);
                }
                Output::Connect(conn, _) => {
                    session.handle_connected(conn, now);
                    break Self { session, conn, now, socket: Socket::new(), gaps: 0 };
                }
                Output::Event => _ = session.event(),
                other => panic!("{other:?}"),
            }
        };
        for topic in topics {
            line.session.subscribe(topic.clone(), SubscribeOptions::default(), now);
        }
        for _ in 0..50 {
            line.talk(&answers);
        }
        let confirmed =
            line.session.subscriptions().filter(|one| one.state == SubscriptionState::Confirmed).count();
        assert_eq!(confirmed, topics.len());
        line
    }

    /// Lets the venue answer what it was asked.
    fn talk(&mut self, answers: &impl Fn(&Value) -> Vec<Value>) {
        let said = self.session.transmit(self.conn).to_vec();
        self.session.handle_transmitted(self.conn, said.len(), self.now);
        self.socket.receive(&said);
        while let Some(heard) = self.socket.heard() {
            match heard {
                Heard::Upgrade(upgrade) => {
                    self.socket.open();
                    self.receive(&upgrade.accept(&[]));
                    self.receive(&ws::text(r#"{"id":"x","type":"welcome"}"#));
                }
                Heard::Text(text) => {
                    for answer in answers(&serde_json::from_str(&text).unwrap()) {
                        self.receive(&ws::text(&answer.to_string()));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        self.receive(&[]);
    }

    /// Lets bytes arrive; how many messages of topics they were.
    fn receive(&mut self, mut bytes: &[u8]) -> usize {
        let mut messages = 0;
        loop {
            while let Output::Event = self.session.poll_output(self.now) {
                match self.session.event() {
                    Some(Event::Message { subscription, .. }) => {
                        messages += usize::from(subscription.is_some());
                    }
                    Some(Event::Gap(_)) => self.gaps += 1,
                    _ => {}
                }
            }
            if bytes.is_empty() {
                return messages;
            }
            let room = self.session.recv_buffer(self.conn);
            let len = room.len().min(bytes.len());
            assert!(len > 0);
            room[..len].copy_from_slice(&bytes[..len]);
            self.session.handle_received(self.conn, len, self.now);
            bytes = &bytes[len..];
        }
    }

    /// Receives 1,000 messages of a topic after the first 50, of which each is made by `message`: how often each allocated.
    fn steadily(&mut self, message: impl Fn(u64) -> String) -> u64 {
        let frames: Vec<Vec<u8>> = (0..1050).map(|n| ws::text(&message(n))).collect();
        let (first, rest) = frames.split_at(50);
        first.iter().for_each(|frame| assert_eq!(self.receive(frame), 1));
        let before = COUNT.get();
        rest.iter().for_each(|frame| assert_eq!(self.receive(frame), 1));
        let allocated = COUNT.get() - before;
        assert_eq!(self.gaps, 0, "the numbers follow on each other, so that all of them are looked at");
        assert_eq!(allocated % 1000, 0, "each the same");
        allocated / 1000
    }
}

#[test]
fn the_counter_counts() {
    let before = COUNT.get();
    drop(std::hint::black_box(vec![1u8; 100]));
    assert!(COUNT.get() > before);
}

/// Without a venue's own reading.
#[test]
fn json_rpc() {
    let config = Config::new("ws://127.0.0.1:9/").unwrap().protocol(JsonRpc::new());
    let mut line = Line::online(config, &["a".into()], |call| {
        vec![json!({"jsonrpc": "2.0", "id": call["id"], "result": call["params"]["channels"]})]
    });
    for (data, allocations) in [("7", 0), (r#"{"price":7}"#, 0), (r#"{"bids":[[7,1]]}"#, 1)] {
        let message = |_| {
            format!(r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"a","data":{data}}}}}"#)
        };
        assert_eq!(line.steadily(message), allocations, "{data}");
    }
}

#[test]
fn deribit() {
    let config = Deribit::new().config("ws://127.0.0.1:9/").unwrap();
    let topics =
        [deribit::book("BTC-PERPETUAL", Interval::Ms100), deribit::trades("BTC-PERPETUAL", Interval::Ms100)];
    let mut line = Line::online(config, &topics, |call| {
        let channels = &call["params"]["channels"];
        let result = if channels.is_array() { channels.clone() } else { json!("ok") };
        vec![json!({"jsonrpc": "2.0", "id": call["id"], "result": result})]
    });
    let book = |n: u64| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"book.BTC-PERPETUAL.100ms","data":{{"timestamp":1554373962454,"type":"change","prev_change_id":{n},"change_id":{},"instrument_name":"BTC-PERPETUAL","bids":[["change",5042.5,10.0]],"asks":[]}}}}}}"#,
            n + 1
        )
    };
    assert_eq!(line.steadily(book), 0);
    let trade = |n: u64| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"trades.BTC-PERPETUAL.100ms","data":[{{"trade_seq":{n},"timestamp":1554373962454,"price":5042.5}}]}}}}"#
        )
    };
    assert_eq!(line.steadily(trade), 0);
}

#[test]
fn binance() {
    for (binance, previous) in [(Binance::spot(), false), (Binance::usd_futures(), true)] {
        let config = binance.config("ws://127.0.0.1:9/stream").unwrap();
        let topics = [binance::depth("BTCUSDT", Speed::Ms100), binance::trade("BTCUSDT")];
        let mut line = Line::online(config, &topics, |call| vec![json!({"result": null, "id": call["id"]})]);
        let depth = |n: u64| {
            let previous = if previous { format!(r#""pu":{},"#, 2 * n) } else { String::new() };
            format!(
                r#"{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":1672515782136,"s":"BTCUSDT","U":{},"u":{},{previous}"b":[["0.0024","10"]],"a":[]}}}}"#,
                2 * n + 1,
                2 * n + 2
            )
        };
        assert_eq!(line.steadily(depth), 0);
        let trade = |n: u64| {
            format!(
                r#"{{"stream":"btcusdt@trade","data":{{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":{n},"p":"0.001"}}}}"#
            )
        };
        assert_eq!(line.steadily(trade), 0);
    }
}

#[test]
fn kucoin() {
    let topics = [kucoin::level2("BTC-USDT"), kucoin::ticker("BTC-USDT")];
    let mut line =
        Line::online(Kucoin::new().config(), &topics, |call| vec![json!({"id": call["id"], "type": "ack"})]);
    let book = |n: u64| {
        format!(
            r#"{{"topic":"/market/level2:BTC-USDT","type":"message","subject":"trade.l2update","data":{{"changes":{{"asks":[["67993.3","1.2","{n}"]],"bids":[]}},"sequenceEnd":{},"sequenceStart":{},"symbol":"BTC-USDT","time":1729816425625}}}}"#,
            2 * n + 2,
            2 * n + 1
        )
    };
    assert_eq!(line.steadily(book), 2);
    let ticker = |n: u64| {
        format!(
            r#"{{"type":"message","topic":"/market/ticker:BTC-USDT","subject":"trade.ticker","data":{{"sequence":"{n}","price":"0.08"}}}}"#
        )
    };
    assert_eq!(line.steadily(ticker), 0);
}

#[test]
fn kraken() {
    let topics = [kraken::book("BTC/USD", Depth::Ten), kraken::ohlc("BTC/USD", 5)];
    let config = Kraken::new().config("ws://127.0.0.1:9/v2").unwrap();
    let mut line = Line::online(config, &topics, |call| {
        let params = &call["params"];
        let of = |symbol: &Value| {
            let result =
                json!({"channel": params["channel"], "symbol": symbol, "interval": params["interval"]});
            json!({"method": call["method"], "result": result, "success": true, "req_id": call["req_id"]})
        };
        params["symbol"].as_array().into_iter().flatten().map(of).collect()
    });
    let level = |n: u64| format!(r#"{{"price":45283.{},"qty":0.{}}}"#, n % 10, 1000 + n);
    // One level, which a snapshot brings and each change replaces.
    let book = |n: u64| {
        let (kind, digits) = if n == 0 {
            ("snapshot", "4528301000".to_owned())
        } else {
            ("update", format!("452830{}", 1000 + n))
        };
        let checksum = crc32(digits.as_bytes());
        let level = level(n).replace(&format!(".{},", n % 10), ".0,");
        format!(
            r#"{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{level}],"asks":[],"checksum":{checksum},"timestamp":"2023-10-06T17:35:55.440295Z"}}]}}"#
        )
    };
    assert_eq!(line.steadily(book), 4);
    let candle = |n: u64| {
        format!(
            r#"{{"channel":"ohlc","type":"update","data":[{{"symbol":"BTC/USD","open":{n},"interval":5,"timestamp":"2026-09-25T17:49:00Z"}}]}}"#
        )
    };
    assert_eq!(line.steadily(candle), 1);
}

/// CRC-32, bit by bit (ITU-T V.42).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}
