//! Lines of entries.

use crate::event;
use crate::line::{
    Body, Cause, Direction, Duty, FrameLine, Header, Kind, LeftLine, Line, Outcome, TopicOptions, VERSION,
    nanos,
};
use crate::text::{Payload, stamp};
use everwire_core::record::{
    EndpointRecord, Entry, FaultRecord, Frame, FrameKind, Input, Left, Observed, What,
};
use everwire_core::{Message, Output};
use std::time::{Instant, SystemTime};

/// Makes lines of entries. It knows what the last frame was, so that an event need not repeat it.
#[derive(Debug, Clone, Default)]
pub struct Encoder {
    last: Option<(usize, u64)>,
}

impl Encoder {
    /// The line for an entry, secrets included; `None` for entries that this version does not know.
    pub fn line(&mut self, entry: &Entry<'_>) -> Option<Line> {
        let what = match &entry.what {
            What::Start { config, seed } => Body::Header(Header {
                version: VERSION,
                writer: env!("CARGO_PKG_VERSION").to_owned(),
                digest: config.digest(),
                seed: seed.iter().map(|byte| format!("{byte:02x}")).collect(),
                wall: nanos(entry.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
                part: 0,
                config: serde_json::to_value(config).unwrap_or_default(),
            }),
            What::Input(input) => self.input(input)?,
            What::Observed(observed) => self.observed(observed, entry.start)?,
            _ => return None,
        };
        Some(Line { ns: nanos(entry.at), ts: stamp(entry.wall), epoch: entry.epoch.as_u64(), what })
    }

    fn input(&self, input: &Input<'_>) -> Option<Body> {
        Some(match input {
            Input::Endpoint { attempt, result } => Body::Endpoint {
                attempt: attempt.as_u64(),
                result: match result {
                    Ok(endpoint) => Outcome::Given(EndpointRecord::of(endpoint)),
                    Err(error) => Outcome::Failed { why: error.message.clone(), recovery: error.recovery },
                },
            },
            Input::Resolved { attempt, result } => Body::Resolved {
                attempt: attempt.as_u64(),
                result: match result {
                    Ok(addrs) => Outcome::Given(addrs.to_vec()),
                    Err(error) => Outcome::Failed { why: error.message.clone(), recovery: None },
                },
            },
            Input::Connected { conn } => Body::Connected { conn: conn.as_u64() },
            Input::Disconnected { conn, cause } => {
                Body::Disconnected { conn: conn.as_u64(), cause: Cause::of(cause) }
            }
            Input::Received { conn, len } => Body::Received { conn: conn.as_u64(), len: *len },
            Input::Transmitted { conn, len, left } => {
                Body::Transmitted { conn: conn.as_u64(), len: *len, left: left_line(*left) }
            }
            Input::Timeout => Body::Timeout,
            Input::Taken { leased } => Body::Taken { leased: *leased },
            Input::GivenBack => Body::GivenBack,
            Input::Send { message, options } => {
                let (kind, payload) = match message {
                    Message::Text(text) => (Kind::Text, Payload::text(*text)),
                    Message::Binary(bytes) => (Kind::Binary, Payload::binary(bytes)),
                };
                Body::Send { kind, payload, options: (*options).clone() }
            }
            Input::Request { request, options } => Body::Request {
                method: request.method.to_owned(),
                params: request.params.map(str::to_owned),
                options: (*options).clone(),
            },
            Input::Notify { request, options } => Body::Notify {
                method: request.method.to_owned(),
                params: request.params.map(str::to_owned),
                options: (*options).clone(),
            },
            Input::Batch { requests, options } => Body::Batch {
                requests: requests
                    .iter()
                    .map(|request| (request.method.to_owned(), request.params.map(str::to_owned)))
                    .collect(),
                options: (*options).clone(),
            },
            Input::Respond { epoch, id, result } => Body::Respond {
                to: epoch.as_u64(),
                id: (*id).to_owned(),
                result: result.ok().map(str::to_owned),
                error: result.err().map(|error| (error.code, error.message.clone(), error.data.clone())),
            },
            Input::Cancel { id } => Body::Cancel { id: id.as_u64() },
            Input::Subscribe { topic, options } => {
                Body::Subscribe { topic: (*topic).clone(), options: TopicOptions::of(options) }
            }
            Input::Unsubscribe { id } => Body::Unsubscribe { id: id.as_u64() },
            Input::EndSubscription { id } => Body::EndSubscription { id: id.as_u64() },
            Input::Watch { id } => Body::Watch { id: id.as_u64() },
            Input::Reconnect => Body::Reconnect,
            Input::Close { options } => Body::Close {
                code: options.code.into(),
                reason: options.reason.clone(),
                within: options.within,
                drain: options.drain,
            },
            Input::Abort => Body::Abort,
            _ => return None,
        })
    }

    fn observed(&mut self, observed: &Observed<'_>, start: Instant) -> Option<Body> {
        let since = |at: Instant| nanos(at.saturating_duration_since(start));
        let duty = |does, id, addr, until| Some(Body::Output { does, id, addr, until });
        Some(match observed {
            Observed::Output(output) => {
                return match *output {
                    Output::Provide(id) => duty(Duty::Provide, Some(id.as_u64()), None, None),
                    Output::Resolve(id) => duty(Duty::Resolve, Some(id.as_u64()), None, None),
                    Output::Connect(id, addr) => duty(Duty::Connect, Some(id.as_u64()), Some(addr), None),
                    Output::Open(id) => duty(Duty::Open, Some(id.as_u64()), None, None),
                    Output::Disconnect(id) => duty(Duty::Disconnect, Some(id.as_u64()), None, None),
                    Output::Wait(until) => duty(Duty::Wait, None, None, until.map(since)),
                    Output::Closed => duty(Duty::Closed, None, None, None),
                    Output::Event => None,
                };
            }
            Observed::State { from, to, why } => {
                Body::State { from: format!("{from:?}"), to: format!("{to:?}"), why: (*why).to_owned() }
            }
            Observed::Timer { which, due } => Body::Timer { which: (*which).to_owned(), due: since(*due) },
            Observed::HandshakeRequest { conn, bytes } => {
                Body::HandshakeRequest { conn: conn.as_u64(), payload: Payload::of(bytes) }
            }
            Observed::HandshakeResponse { conn, bytes } => {
                Body::HandshakeResponse { conn: conn.as_u64(), payload: Payload::of(bytes) }
            }
            Observed::Inbound { conn, frame } => {
                self.last = Some(event::mark(frame.payload));
                Body::Frame(frame_line(conn.as_u64(), Direction::In, frame))
            }
            Observed::Outbound { conn, frame } => {
                Body::Frame(frame_line(conn.as_u64(), Direction::Out, frame))
            }
            Observed::Way { conn, left } => Body::Way { conn: conn.as_u64(), left: left_line(*left) },
            Observed::Fault { conn, error, late } => Body::Fault {
                conn: conn.as_u64(),
                fault: FaultRecord::of(error),
                text: error.to_string(),
                late: *late,
            },
            Observed::Event(event) => Body::Event { event: event::value(event, self.last, &since) },
            Observed::Failed { id, maybe_sent, why } => {
                Body::Failed { id: id.as_u64(), maybe_sent: *maybe_sent, why: format!("{why:?}") }
            }
            Observed::Refused(error) => Body::Refused { why: error.to_string() },
            _ => return None,
        })
    }
}

/// A close frame's payload as ZenWebsocket has it; as bytes if it is none that a peer may send.
fn close(payload: &[u8]) -> Payload {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else { return Payload::of(payload) };
    match std::str::from_utf8(reason) {
        Ok(reason) => {
            let code = u16::from_be_bytes(*code);
            Payload::text(serde_json::json!({ "code": code, "reason": reason }).to_string())
        }
        Err(_) => Payload::binary(payload),
    }
}

fn frame_line(conn: u64, dir: Direction, frame: &Frame<'_>) -> FrameLine {
    let bytes = frame.payload;
    let (kind, payload) = match frame.kind {
        FrameKind::Text => (Kind::Text, Payload::of(bytes)),
        FrameKind::Binary => (Kind::Binary, Payload::binary(bytes)),
        FrameKind::Ping => (Kind::Ping, Payload::binary(bytes)),
        FrameKind::Pong => (Kind::Pong, Payload::binary(bytes)),
        FrameKind::Close => (Kind::Close, close(bytes)),
    };
    FrameLine { conn, dir, kind, payload, last: frame.last }
}

fn left_line(left: Left) -> LeftLine {
    LeftLine { left: left.plain, idle: left.idle }
}
