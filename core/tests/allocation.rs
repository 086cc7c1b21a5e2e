//! Messages are received and sent without allocating, once the buffers have grown to what the connection needs.

#![allow(unsafe_code, reason = "an allocator that counts cannot be written without")]

mod common;

use common::*;
use everwire_core::{Config, Event, JsonRpc, Message, Output, SendOptions, Session};
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
