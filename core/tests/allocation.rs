//! Messages are received and sent without allocating, once the buffers have grown to what the connection needs.

#![allow(unsafe_code, reason = "an allocator that counts cannot be written without")]

mod common;

use common::*;
use everwire_core::protocol::{Ack, Context, Inbound, Name, Unsupported};
use everwire_core::{
    Config, Continuity, Event, JsonRpc, Limit, Message, Output, Protocol, Request, SendOptions, Sequence,
    SequenceRule, Sequences, Session, SubscribeOptions, Topic, Tracker, Watch,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

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

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))) > 0);
}

/// Lets `bytes` arrive as the session takes them, with no more done about events than to look at them; their number.
fn receive(s: &mut Session, conn: everwire_core::ConnId, mut bytes: &[u8], now: Instant) -> usize {
    let mut messages = 0;
    while !bytes.is_empty() {
        let room = s.recv_buffer(conn);
        let len = room.len().min(bytes.len());
        assert!(len > 0);
        room[..len].copy_from_slice(&bytes[..len]);
        s.handle_received(conn, len, now);
        bytes = &bytes[len..];
        while let Output::Event = s.poll_output(now) {
            match s.event() {
                Some(Event::Message { message, .. }) => messages += usize::from(!message.is_empty()),
                other => panic!("{other:?}"),
            }
        }
    }
    messages
}

/// Receives `burst` (of `each` messages) often, and counts after the first times.
fn steadily(config: Config, burst: &[u8], each: usize) -> u64 {
    let mut h = Harness::online(config);
    let (conn, now) = (h.conns[0].id, h.now);
    for _ in 0..20 {
        assert_eq!(receive(&mut h.s, conn, burst, now), each);
    }
    allocations(|| {
        for _ in 0..1000 {
            assert_eq!(receive(&mut h.s, conn, burst, now), each);
        }
    })
}

fn big() -> Config {
    config().recv_buffer(64 << 10)
}

#[test]
fn receiving_whole_messages() {
    for len in [16, 1 << 10, 60 << 10] {
        for first in [FIN | TEXT, FIN | BINARY] {
            let one = frame(first, &vec![b'x'; len]);
            assert_eq!(steadily(big(), &one, 1), 0, "one message of {len} bytes at a time");
            assert_eq!(steadily(big(), &one.repeat(7), 7), 0, "seven messages of {len} bytes at a time");
        }
    }
}

#[test]
fn receiving_messages_longer_than_the_buffer() {
    for len in [64 << 10, 100 << 10] {
        let one = frame(FIN | BINARY, &vec![b'x'; len]);
        for each in [1, 7] {
            assert_eq!(
                steadily(big(), &one.repeat(each), each),
                0,
                "{each} messages of {len} bytes at a time"
            );
        }
    }
}

#[test]
fn receiving_fragmented_messages() {
    let burst = [frame(TEXT, &[b'x'; 500]), frame(FIN | CONT, &[b'y'; 500])].concat();
    assert_eq!(steadily(big(), &burst, 1), 0);
}

#[test]
fn receiving_notifications() {
    let burst = [notification("a", 1), notification("b", 22)].concat();
    assert_eq!(steadily(big().protocol(JsonRpc::new()), &burst, 2), 0);
}

/// Its messages are `book BTC 17`: a channel, a symbol, and a number that goes on from the one before, whatever their topics.
#[derive(Debug)]
struct Parted;

impl Protocol for Parted {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let mut words = text.split(' ');
        let (Some(channel), Some(symbol), Some(number)) = (words.next(), words.next(), words.next()) else {
            return Inbound::other();
        };
        let sequence = number.parse().ok().map(Sequence::new);
        let topic = Some(Name::of(&[channel, symbol]));
        Inbound::Message { topic, sequence, sent: Some(std::time::Duration::from_secs(1)) }
    }

    fn request(&self, _: u64, _: &Request<'_>, _: &Context<'_>, _: &mut String) -> Result<(), Unsupported> {
        Err(Unsupported { reason: "none".into() })
    }

    fn topics_per_message(&self) -> usize {
        1
    }

    fn subscribe(
        &self,
        _: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        out.push_str(topics[0].name());
        Ok(Ack::None)
    }

    fn unsubscribe(&self, _: u64, _: &[&Topic], _: &Context<'_>, _: &mut String) -> Result<Ack, Unsupported> {
        Ok(Ack::None)
    }

    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }

    fn tracker(&self, _: &Topic) -> Option<Box<dyn Tracker>> {
        // Within a topic there are holes.
        let mut last = 0;
        Some(Sequences::hook(move |sequence, _| {
            let before = std::mem::replace(&mut last, sequence.map_or(0, |sequence| sequence.last));
            if before < last { Continuity::Continues } else { Continuity::Duplicate }
        }))
    }

    fn connection_tracker(&self) -> Option<Box<dyn Tracker>> {
        let mut numbers = SequenceRule::PlusOne.tracker();
        Some(Sequences::hook(move |_, text| {
            let number = text.rsplit(' ').next().and_then(|number| number.parse().ok());
            numbers.check(number.map(Sequence::new), text)
        }))
    }

    fn limits(&self) -> Vec<Limit> {
        vec![Limit::window("messages", 100, secs(1))]
    }
}

#[test]
fn receiving_messages_of_topics() {
    let mut h = Harness::online(big().protocol(Parted));
    for topic in ["book:BTC", "book:ETH"] {
        let watch = Watch::after(secs(60));
        h.s.subscribe(topic, SubscribeOptions::default().watch(watch), h.now);
    }
    h.run();
    h.flush(0);
    let (conn, now) = (h.conns[0].id, h.now);
    let burst = |from: u64| -> Vec<u8> {
        let said =
            (from..from + 1000).map(|n| format!("book {} {n}", if n % 3 == 0 { "BTC" } else { "ETH" }));
        said.flat_map(|said| text(&said)).collect()
    };
    let (first, second) = (burst(1), burst(1001));
    assert_eq!(receive(&mut h.s, conn, &first, now), 1000);
    assert_eq!(allocations(|| assert_eq!(receive(&mut h.s, conn, &second, now), 1000)), 0);
    let infos: Vec<_> = h.s.subscriptions().collect();
    assert!(infos.len() == 2 && infos.iter().all(|info| info.last_message == Some(now)), "{infos:?}");
}

#[test]
fn sending() {
    for len in [16, 1 << 10, 64 << 10] {
        let mut h = Harness::online(config());
        let (conn, now) = (h.conns[0].id, h.now);
        let text = "x".repeat(len);
        let once = |h: &mut Harness| {
            for message in [Message::Text(&text), Message::Binary(text.as_bytes())] {
                h.s.send(message, SendOptions::default(), now).unwrap();
            }
            // In two writes, as sockets do.
            for _ in 0..2 {
                let len = h.s.transmit(conn).len().div_ceil(2);
                h.s.handle_transmitted(conn, len, now);
            }
            let len = h.s.transmit(conn).len();
            h.s.handle_transmitted(conn, len, now);
            assert!(matches!(h.s.poll_output(now), Output::Wait(_)));
        };
        (0..20).for_each(|_| once(&mut h));
        assert_eq!(allocations(|| (0..1000).for_each(|_| once(&mut h))), 0, "{len} bytes");
    }
}

#[test]
fn answering_pings() {
    let mut h = Harness::online(config());
    let (conn, now) = (h.conns[0].id, h.now);
    let ping = frame(FIN | PING, b"are you there");
    let once = |h: &mut Harness| {
        assert_eq!(receive(&mut h.s, conn, &ping, now), 0);
        let len = h.s.transmit(conn).len();
        assert_eq!(len, 6 + 13);
        h.s.handle_transmitted(conn, len, now);
    };
    (0..20).for_each(|_| once(&mut h));
    assert_eq!(allocations(|| (0..1000).for_each(|_| once(&mut h))), 0);
}
