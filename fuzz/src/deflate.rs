//! Compression: any bytes into an inflater, and any message through a deflater and an inflater.
//!
//! Input: a mode, parameters, a list of cuts, then messages, each with its length in front.

use crate::{Cuts, Input};
use everwire_core::ws::deflate::{DeflateConfig, DeflateParams, Deflater, InflateError, Inflater};

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mode, bits) = (input.u8(), input.u8());
    let window = 8 + bits % 8;
    let params = DeflateParams {
        server_no_context_takeover: mode & 2 != 0,
        client_no_context_takeover: mode & 2 != 0,
        server_max_window_bits: window,
        client_max_window_bits: window,
    };
    let limit = usize::from(input.u16());
    let cuts = input.list();
    let mut messages = Vec::new();
    while !input.is_empty() && messages.len() < 64 {
        let len = usize::from(input.u16());
        messages.push(input.bytes(len));
    }
    if mode & 1 == 0 {
        inflate(&params, limit, cuts, &messages);
    } else {
        let config = DeflateConfig {
            client_no_context_takeover: mode & 4 != 0,
            client_max_window_bits: 9 + (bits >> 3) % 7,
            level: (mode >> 3) % 10,
            threshold: 0,
            ..DeflateConfig::default()
        };
        round_trip(&config, &params, cuts, &messages);
    }
}

/// Whatever the bytes are: it ends, within the limit, and the same for all cuts.
fn inflate(params: &DeflateParams, limit: usize, cuts: &[u8], messages: &[&[u8]]) {
    let (mut whole, mut cut) = (Inflater::new(params), Inflater::new(params));
    for message in messages {
        let (one, first) = message_of(&mut whole, message, &[], limit);
        let (other, second) = message_of(&mut cut, message, cuts, limit);
        assert_eq!((&one, first), (&other, second), "cuts matter");
        if let Err(error) = first {
            assert_eq!(message_of(&mut whole, b"", &[], limit).1, Err(error), "errors are final");
            assert_eq!(
                message_of(&mut whole, b"abc", &[], limit),
                (Vec::new(), Err(error)),
                "errors are final"
            );
            return;
        }
    }
}

fn message_of(
    inflater: &mut Inflater,
    payload: &[u8],
    cuts: &[u8],
    limit: usize,
) -> (Vec<u8>, Result<(), InflateError>) {
    let (mut cuts, mut out, mut payload) = (Cuts::new(cuts), Vec::new(), payload);
    while !payload.is_empty() {
        let (piece, rest) = payload.split_at(payload.len().min(cuts.piece()));
        let result = inflater.inflate(piece, &mut out, limit);
        assert!(out.len() <= limit && out.capacity() <= limit.max(64), "{} of {limit}", out.capacity());
        if result.is_err() {
            return (out, result);
        }
        payload = rest;
    }
    let result = inflater.finish();
    (out, result)
}

/// What goes in comes out, message by message.
fn round_trip(config: &DeflateConfig, params: &DeflateParams, cuts: &[u8], messages: &[&[u8]]) {
    config.validate().expect("in range");
    let mut deflater = Deflater::new(config, params);
    let mut inflater = Inflater::new(&DeflateParams {
        // The peer knows what was agreed on, and nothing of what this side does besides.
        server_no_context_takeover: params.client_no_context_takeover,
        server_max_window_bits: params.client_max_window_bits,
        ..*params
    });
    for message in messages {
        let (mut pieces, mut rest, mut payload) = (Cuts::new(cuts), *message, Vec::new());
        loop {
            let (piece, later) = rest.split_at(rest.len().min(pieces.piece()));
            rest = later;
            deflater.deflate(piece, &mut payload, rest.is_empty());
            if rest.is_empty() {
                break;
            }
        }
        assert!(
            payload.len() <= message.len() + message.len() / 8 + 64,
            "{} became {}",
            message.len(),
            payload.len()
        );
        let (out, result) = message_of(&mut inflater, &payload, cuts, message.len());
        assert_eq!(result, Ok(()), "a message of {} bytes", message.len());
        assert_eq!(out, *message, "a round trip changed it");
    }
}
