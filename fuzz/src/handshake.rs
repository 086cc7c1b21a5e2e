//! The answer to a handshake, in any cut.
//!
//! Input: flags, a list of cuts, then the response. The key is fixed, so that seeds can hold the right `Sec-WebSocket-Accept`.

use crate::{Cuts, Input};
use everwire_core::ws::Target;
use everwire_core::ws::deflate::DeflateConfig;
use everwire_core::ws::handshake::{Handshake, HandshakeError, HandshakeOptions, Progress, Upgraded};

/// What the key is made of.
pub const NONCE: [u8; 16] = *b"the same always!";

type Outcome = (Result<Progress, HandshakeError>, Option<Upgraded>);

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let options = HandshakeOptions {
        max_head: [64, 256, 1024, 16 << 10][usize::from(flags & 3)],
        max_body: [0, 16, 256, 4096][usize::from(flags >> 2 & 3)],
        max_headers: if flags & 16 != 0 { 3 } else { 100 },
        deflate: (flags & 32 != 0).then(DeflateConfig::default),
        subprotocols: if flags & 64 != 0 { vec!["chat".into(), "v2.json".into()] } else { Vec::new() },
        ..HandshakeOptions::default()
    };
    let url =
        if flags & 128 != 0 { "wss://user:pass@example.com/a/b?c" } else { "ws://example.com:8080/a/b?c" };
    let target = Target::parse(url).expect("a fixed URL");
    let cuts = input.list();
    let response = input.rest();
    let limit = 2 * options.max_head + options.max_body + 64;

    let whole = settle(&target, &options, response, &[]);
    let cut = settle(&target, &options, response, cuts);
    let bytewise = settle(&target, &options, &response[..response.len().min(600)], &[0]);
    assert_eq!(whole, cut, "cuts matter");
    if response.len() <= 600 {
        assert_eq!(whole, bytewise, "cuts matter");
    }
    match whole {
        (Ok(Progress::NeedMore), _) => {
            assert!(response.len() <= limit, "{} bytes do not settle it, limits {limit}", response.len());
        }
        (Ok(Progress::Accepted { consumed }), upgraded) => {
            assert!(consumed <= response.len() && consumed <= options.max_head);
            let upgraded = upgraded.expect("accepted");
            assert!(upgraded.headers.len() <= options.max_headers);
            assert!(upgraded.deflate.is_none() || options.deflate.is_some());
            assert!(upgraded.subprotocol.is_none_or(|name| options.subprotocols.contains(&name)));
        }
        (Ok(Progress::Redirect { location }), _) => assert!(location.secure() || !target.secure()),
        (Err(error), upgraded) => {
            assert!(upgraded.is_none());
            assert!(!error.to_string().is_empty());
        }
    }
}

fn settle(target: &Target, options: &HandshakeOptions, response: &[u8], cuts: &[u8]) -> Outcome {
    let mut handshake = Handshake::new(target, options, NONCE).expect("valid options");
    let mut cuts = Cuts::new(cuts);
    let mut end = 0_usize;
    let outcome = loop {
        end = response.len().min(end.saturating_add(cuts.piece()));
        let outcome = handshake.receive(&response[..end]);
        if outcome != Ok(Progress::NeedMore) {
            // It is final, whatever comes after.
            assert_eq!(outcome, handshake.receive(response));
            break outcome;
        }
        if end == response.len() {
            break outcome;
        }
    };
    let _ = format!("{handshake:?}");
    if outcome == Ok(Progress::NeedMore) {
        let error = handshake.finish_eof(response);
        assert_eq!(Err(error.clone()), handshake.receive(response), "the end is final");
        assert_eq!(error, handshake.finish_eof(response));
        assert!(!error.to_string().is_empty());
    }
    (outcome, handshake.into_upgraded())
}
