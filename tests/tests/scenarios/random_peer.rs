//! Random messages both ways, in random pieces.

use everwire_core::ws::deflate::DeflateConfig;
use everwire_core::{CloseCode, Config, Event, OwnedEvent, SendError};
use everwire_testing::{ConnHandle, Message, MockServer, RawFrame};
use everwire_tests::{Runtime, SOON, Scene, config_for, next_inline, noise, timeout};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::VecDeque;

/// What one side says, and the lengths of the frames that the server's echo of it comes in.
#[derive(Debug, Clone)]
struct Said {
    text: bool,
    seed: u64,
    len: usize,
    cuts: Vec<usize>,
    /// A ping goes between two frames.
    ping: bool,
}

impl Said {
    fn message(&self) -> Message {
        let bytes = noise(self.seed, self.len);
        if !self.text {
            return Message::binary(bytes);
        }
        // Characters of one to four bytes.
        let text = bytes.iter().map(|byte| ['x', '\u{e9}', '\u{20ac}', '\u{1f980}'][usize::from(byte % 4)]);
        Message::text(text.collect::<String>())
    }

    /// Its frames (RFC 6455 section 5.4), as a server sends them: not masked.
    fn frames(&self, message: &Message) -> Vec<RawFrame> {
        let payload = message.clone().into_data();
        let mut rest = &payload[..];
        let mut out = Vec::new();
        let mut opcode = if self.text { 1 } else { 2 };
        for cut in &self.cuts {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            out.push(RawFrame::new(opcode, piece).unfinished());
            (opcode, rest) = (0, after);
            if self.ping {
                out.push(RawFrame::ping("between"));
            }
        }
        out.push(RawFrame::new(opcode, rest));
        out
    }
}

fn said() -> impl Strategy<Value = Said> {
    let len = prop_oneof![4 => 0..300_usize, 2 => 65_500..65_600_usize, 2 => 0..200_000_usize];
    let cuts = prop::collection::vec(prop_oneof![Just(0), 1..200_usize, 1..70_000_usize], 0..5);
    (any::<bool>(), any::<u64>(), len, cuts, any::<bool>()).prop_map(|(text, seed, len, cuts, ping)| Said {
        text,
        seed,
        len,
        cuts,
        ping,
    })
}

#[derive(Debug, Clone)]
struct Case {
    said: Vec<Said>,
    tls: bool,
    recv_buffer: usize,
    fragment: usize,
    send_buffer: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let said = prop::collection::vec(said(), 10..40);
    let buffers = (40_000..200_000_usize, 1_024..100_000_usize, 1_024..500_000_usize);
    (said, any::<bool>(), buffers).prop_map(|(said, tls, (recv_buffer, fragment, send_buffer))| Case {
        said,
        tls,
        recv_buffer,
        fragment,
        send_buffer,
    })
}

/// A server that compares each message with what is said, and says it back in the pieces that are wanted.
fn server(case: &Case) -> MockServer {
    let mut expected: VecDeque<Said> = case.said.clone().into();
    let handler = move |conn: &ConnHandle, message: Message| {
        let said = expected.pop_front().expect("no more comes than was said");
        assert!(message == said.message(), "what arrived is not what was said: {said:?}");
        conn.send_frames(said.frames(&message));
    };
    let builder = MockServer::builder().handler(handler);
    if case.tls { builder.tls().start() } else { builder.start() }
}

async fn check(scene: &Scene<impl Runtime>, case: &Case, config: impl FnOnce(Config) -> Config) {
    let server = server(case);
    let base = config_for(&server).recv_buffer(case.recv_buffer).fragment_size(case.fragment);
    let mut driver = scene.driver(config(base.send_buffer(case.send_buffer)));
    let client = driver.client();
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
    let mut outgoing = case.said.iter().map(Said::message).peekable();
    for said in &case.said {
        let mut heard = false;
        while !heard {
            while let Some(message) = outgoing.peek() {
                match client.send(everwire_core::Message::try_from(message).unwrap()) {
                    Ok(_) => _ = outgoing.next(),
                    Err(SendError::Full) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            let ended = || server.last().and_then(|conn| conn.ended());
            let look = |event: Event<'_>| match event {
                // What was refused is tried again.
                Event::Writable => false,
                Event::Message { message, .. } => {
                    assert!(message.to_owned() == said.message(), "the echo differs: {said:?}");
                    true
                }
                event => panic!("{event:?}; the server: {:?}", ended()),
            };
            match timeout(SOON, driver.look(look)).await {
                Ok(Some(echo)) => heard = echo,
                Ok(None) => panic!("the session is over; the server: {:?}", ended()),
                Err(_) => panic!("neither an echo nor room; the server: {:?}", ended()),
            }
        }
    }
    client.close(CloseCode::Normal, "");
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Closed { error: None, .. }));
    assert!(driver.next().await.is_none());
    let pings: usize = case.said.iter().filter(|said| said.ping).map(|said| said.cuts.len()).sum();
    let pongs = server.last().unwrap().received().iter().filter(|message| message.is_pong()).count();
    assert_eq!(pongs, pings, "each ping is answered");
}

/// Other cases with each runtime and each run; proptest's file keeps those that failed.
fn property<R: Runtime>(config: fn(Config) -> Config) {
    let settings = ProptestConfig {
        cases: 3,
        max_shrink_iters: 10,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(settings);
    let checked = runner.run(&case(), |case| {
        everwire_tests::run::<R>(async |scene: &Scene<R>| check(scene, &case, config).await);
        Ok(())
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
}

macro_rules! properties {
    ($($runtime:ident: $name:ident),+ $(,)?) => {$(
        mod $name {
            use super::*;

            #[test]
            fn what_is_said_is_heard() {
                property::<everwire_tests::$runtime>(|config| config);
            }

            /// A server that knows no compression has it declined.
            #[test]
            fn an_offer_of_compression_does_no_harm() {
                property::<everwire_tests::$runtime>(|config| config.deflate(DeflateConfig::default()));
            }
        }
    )+};
}

properties! { Tokio: tokio, Smol: smol, AsyncStd: async_std, Blocking: blocking }
