//! A record's inputs, given to a session, and what that makes of them.

use crate::check::{Difference, Replay, ReplayError, Report};
use crate::compare::differs;
use crate::line::{Body, FrameLine, Kind, Line, Outcome};
use crate::memory::MemoryRecorder;
use everwire_core::protocol::OwnedRpcError;
use everwire_core::record::{Fed, Left, Player};
use everwire_core::tungstenite::handshake::derive_accept_key;
use everwire_core::{Clock, CloseCode, CloseOptions, Message, ProviderError, Request, ResolveError};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A replay that is under way.
pub(crate) struct Run<'a> {
    replay: &'a Replay,
    player: Player,
    told: Arc<MemoryRecorder>,
    clock: Clock,
    /// What the session did and the record was not asked for yet.
    queue: VecDeque<Line>,
    /// Texts of faults, as they are here and as they were.
    texts: Vec<(String, String)>,
    /// The keys of the handshakes here, by connection.
    keys: BTreeMap<u64, String>,
    /// Messages that are streamed, by connection.
    chunks: BTreeMap<u64, Chunk>,
    report: Report,
}

/// A message that is streamed.
#[derive(Default)]
struct Chunk {
    /// Some of it was sent.
    begun: bool,
    /// Bytes of its frame that are still to come, and whether that is its last.
    left: usize,
    fin: bool,
    /// Bytes of its next part that were given with the last one.
    ahead: usize,
}

/// The header of a frame with a payload of `len` bytes.
fn head(out: &mut Vec<u8>, first: u8, len: usize) {
    out.push(first);
    match len {
        0..126 => out.push(len as u8),
        126..65_536 => {
            out.push(126);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((len as u64).to_be_bytes());
        }
    }
}

/// The next part of a message on this connection.
fn next_part(lines: &[(u64, Line)], conn: u64) -> Option<Vec<u8>> {
    lines
        .iter()
        .find_map(|(_, line)| match &line.what {
            Body::Frame(frame) if frame.conn == conn && frame.dir == crate::Direction::In => Some(frame),
            _ => None,
        })?
        .bytes()
}

/// Bytes of the parts of a message from here on that follow on each other, and whether the last is one of them. If it is not there, the message was
/// never whole.
fn parts(lines: &[(u64, Line)], conn: u64) -> (usize, bool) {
    let mut sum = 0;
    for (_, line) in lines {
        let Body::Frame(frame) = &line.what else { continue };
        if frame.conn != conn || frame.dir != crate::Direction::In {
            continue;
        }
        let Some(last) = frame.last else { return (sum, false) };
        sum += frame.bytes().map_or(0, |bytes| bytes.len());
        if last {
            return (sum, true);
        }
    }
    (sum + 1, true)
}

impl<'a> Run<'a> {
    pub(crate) fn new(replay: &'a Replay, player: Player, told: Arc<MemoryRecorder>, clock: Clock) -> Self {
        Self {
            replay,
            player,
            told,
            clock,
            queue: VecDeque::new(),
            texts: Vec::new(),
            keys: BTreeMap::new(),
            chunks: BTreeMap::new(),
            report: Report::default(),
        }
    }

    /// Goes through all of it.
    pub(crate) fn all(&mut self) -> Result<Report, ReplayError> {
        let lines = &self.replay.lines;
        for (index, (number, line)) in lines.iter().enumerate() {
            match &line.what {
                Body::Dropped { .. } => {
                    self.report.hole = Some(*number);
                    return Ok(std::mem::take(&mut self.report));
                }
                Body::End => {
                    if let Some(more) = self.queue.front() {
                        return Err(self.difference(index, None, Some(more.clone())));
                    }
                    self.report.complete = self.replay.torn.is_none();
                    break;
                }
                // What lies between is left out here.
                Body::Way { conn, left } => {
                    let left = Left { plain: left.left, idle: left.idle };
                    self.player.way(*conn, left, self.moment(line.ns));
                    continue;
                }
                _ => {}
            }
            if self.queue.is_empty() {
                self.player.flush();
                self.collect();
            }
            if self.queue.is_empty() {
                let now = self.moment(line.ns);
                if line.what.is_input() {
                    self.report.inputs += 1;
                    self.input(index, now)?;
                } else {
                    let _told = self.player.poll_output(now);
                }
                self.collect();
            }
            let Some(mut replayed) = self.queue.pop_front() else {
                return Err(self.difference(index, Some(line), None));
            };
            self.note(line, &replayed);
            self.translate(&mut replayed);
            if *line == replayed {
                self.report.compared += 1;
                continue;
            }
            // A record in memory has its secrets, one in a file has none.
            let mut recorded = line.clone();
            self.replay.redaction.apply(&mut recorded);
            self.replay.redaction.apply(&mut replayed);
            if let Some(field) = differs(&recorded, &replayed) {
                let mut difference = self.difference(index, Some(&recorded), Some(replayed));
                if let ReplayError::Difference(difference) = &mut difference {
                    difference.field = field;
                }
                return Err(difference);
            }
            self.report.compared += 1;
        }
        Ok(std::mem::take(&mut self.report))
    }

    fn moment(&self, ns: u64) -> Instant {
        self.clock.instant.checked_add(Duration::from_nanos(ns)).unwrap_or(self.clock.instant)
    }

    fn collect(&mut self) {
        self.queue.extend(self.told.take());
    }

    fn difference(&self, index: usize, recorded: Option<&Line>, replayed: Option<Line>) -> ReplayError {
        let lines = &self.replay.lines;
        let (line, ns) = lines.get(index).map_or((0, 0), |(number, line)| (*number, line.ns));
        ReplayError::Difference(Box::new(Difference {
            path: self.replay.path.clone(),
            line,
            at: Duration::from_nanos(ns),
            recorded: recorded.cloned(),
            replayed,
            field: None,
            before: lines[index.saturating_sub(Difference::CONTEXT)..index].to_vec(),
        }))
    }

    /// What is known here alone: keys of handshakes, and texts of faults.
    fn note(&mut self, recorded: &Line, replayed: &Line) {
        match (&recorded.what, &replayed.what) {
            (_, Body::HandshakeRequest { conn, payload }) => {
                let key = payload.as_str().lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
                self.keys.extend(key.map(|key| (*conn, key.trim().to_owned())));
            }
            (Body::Fault { text: then, .. }, Body::Fault { text: now, .. }) if then != now => {
                self.texts.retain(|(known, _)| known != now);
                self.texts.push((now.clone(), then.clone()));
            }
            _ => {}
        }
    }

    /// Puts the texts of faults that were in the place of those that are.
    fn translate(&self, line: &mut Line) {
        let put = |text: &mut String| {
            for (now, then) in &self.texts {
                if text.contains(now.as_str()) {
                    *text = text.replace(now.as_str(), then);
                }
            }
        };
        match &mut line.what {
            Body::Fault { text, .. } | Body::State { why: text, .. } => put(text),
            Body::Event { event } => {
                if let Some(Value::String(text)) = event.get_mut("error") {
                    put(text);
                }
            }
            _ => {}
        }
    }

    /// What was parsed of this connection from here to its next read or its end.
    fn fed(&mut self, index: usize, conn: u64) -> Result<Fed, ReplayError> {
        let mut fed = Fed::default();
        for (at, (number, line)) in self.replay.lines.iter().enumerate().skip(index + 1) {
            let wrong =
                || ReplayError::Line { line: *number, why: "its data is not what it says".to_owned() };
            match &line.what {
                Body::Received { conn: other, .. } | Body::Disconnected { conn: other, .. }
                    if *other == conn =>
                {
                    break;
                }
                // Nobody knows which reads are missing.
                Body::Dropped { .. } => break,
                Body::HandshakeResponse { conn: other, payload } if *other == conn => {
                    let bytes = payload.bytes().ok_or_else(wrong)?;
                    fed.bytes.extend(self.response(conn, bytes));
                }
                Body::Frame(frame) if frame.conn == conn && frame.dir == crate::Direction::In => {
                    let bytes = frame.bytes().ok_or_else(wrong)?;
                    self.frame(at, frame, &bytes, &mut fed.bytes);
                }
                Body::Fault { conn: other, fault, late, .. } if *other == conn => {
                    let unknown = || ReplayError::Line {
                        line: *number,
                        why: "it is a fault that this version does not know".to_owned(),
                    };
                    let error = fault.as_ref().ok_or_else(unknown)?.error(&format!("[line {number}]"));
                    if *late {
                        fed.late.get_or_insert(error);
                    } else {
                        fed.faults.push(error);
                    }
                }
                _ => {}
            }
        }
        Ok(fed)
    }

    /// The response to a handshake. Where the key is another one than it was, so is what answers it.
    fn response(&self, conn: u64, bytes: Vec<u8>) -> Vec<u8> {
        let Ok(text) = String::from_utf8(bytes.clone()) else { return bytes };
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return bytes };
        let accept = self.keys.get(&conn).map(|key| derive_accept_key(key.as_bytes()));
        let line = |line: &str| match (line.split_once(':'), &accept) {
            (Some((name, _)), Some(accept))
                if self.replay.change && name.eq_ignore_ascii_case("sec-websocket-accept") =>
            {
                format!("{name}: {accept}")
            }
            _ => line.to_owned(),
        };
        let head = head.split("\r\n").map(line).collect::<Vec<_>>().join("\r\n");
        format!("{head}\r\n\r\n{body}").into_bytes()
    }

    /// A frame as a server sends it (RFC 6455 section 5.2): not masked, not compressed.
    ///
    /// A message that is streamed is one frame, whose length says that it will be: control frames between its parts divide it.
    fn frame(&mut self, at: usize, frame: &FrameLine, payload: &[u8], out: &mut Vec<u8>) {
        let opcode = match frame.kind {
            Kind::Text => 1,
            Kind::Binary => 2,
            Kind::Close => 8,
            Kind::Ping => 9,
            Kind::Pong => 10,
        };
        match frame.last {
            None => {
                head(out, 0x80 | opcode, payload.len());
                out.extend_from_slice(payload);
            }
            Some(last) => {
                let chunk = self.chunks.entry(frame.conn).or_default();
                let (opcode, begins) = (if chunk.begun { 0 } else { opcode }, chunk.left == 0);
                if begins {
                    (chunk.left, chunk.fin) = parts(&self.replay.lines[at..], frame.conn);
                }
                chunk.left = chunk.left.saturating_sub(payload.len());
                chunk.begun = !last;
                let payload = &payload[std::mem::take(&mut chunk.ahead).min(payload.len())..];
                // A part is told once more than it is there. If it was told before the next read, some of the next part had come.
                let next =
                    if chunk.left > 0 { next_part(&self.replay.lines[at + 1..], frame.conn) } else { None };
                let next = next.unwrap_or_default();
                let ahead = &next[..next.len().saturating_sub(1).min(4)];
                chunk.ahead = ahead.len();
                if !begins {
                    out.extend([payload, ahead].concat());
                    return;
                }
                head(out, if chunk.fin { 0x80 | opcode } else { opcode }, chunk.left + payload.len());
                out.extend([payload, ahead].concat());
            }
        }
    }

    /// Makes the call that a line stands for.
    fn input(&mut self, index: usize, now: Instant) -> Result<(), ReplayError> {
        let (number, line) = &self.replay.lines[index];
        let wrong = |why: &str| ReplayError::Line { line: *number, why: why.to_owned() };
        match &line.what {
            Body::Endpoint { attempt, result } => {
                let result = match result {
                    Outcome::Given(record) => Ok(record.endpoint().map_err(|why| wrong(&why))?),
                    Outcome::Failed { why, recovery } => {
                        let mut error = ProviderError::new(why.clone());
                        error.recovery = *recovery;
                        Err(error)
                    }
                };
                self.player.endpoint(*attempt, result, now);
            }
            Body::Resolved { attempt, result } => {
                let result = match result {
                    Outcome::Given(addrs) => Ok(&addrs[..]),
                    Outcome::Failed { why, .. } => Err(ResolveError { message: why.clone() }),
                };
                self.player.resolved(*attempt, result, now);
            }
            Body::Connected { conn } => self.player.connected(*conn, now),
            Body::Disconnected { conn, cause } => {
                let fed = self.fed(index, *conn)?;
                self.player.disconnected(*conn, cause.disconnect(), fed, now);
            }
            Body::Received { conn, len } => {
                let fed = self.fed(index, *conn)?;
                self.player.received(*conn, *len, fed, now);
            }
            Body::Transmitted { conn, len, left } => {
                let left = Left { plain: left.left, idle: left.idle };
                self.player.transmitted(*conn, *len, left, now);
            }
            Body::Timeout => self.player.session().handle_timeout(now),
            Body::Taken { leased } => {
                let _missing = self.player.take(*leased, now);
            }
            Body::GivenBack => self.player.give_back(now),
            Body::Send { kind, payload, options } => {
                let bytes = payload.bytes().ok_or_else(|| wrong("its data is no base64"))?;
                let message = match kind {
                    Kind::Binary => Message::Binary(&bytes),
                    _ => Message::Text(payload.as_str()),
                };
                // What is refused is told to the recorder, here and below.
                let _told = self.player.session().send(message, options.clone(), now);
            }
            Body::Request { method, params, options } => {
                let request = Request { method, params: params.as_deref() };
                let _told = self.player.session().request(request, options.clone(), now);
            }
            Body::Notify { method, params, options } => {
                let request = Request { method, params: params.as_deref() };
                let _told = self.player.session().notify(request, options.clone(), now);
            }
            Body::Batch { requests, options } => {
                let requests: Vec<Request<'_>> = requests
                    .iter()
                    .map(|(method, params)| Request { method, params: params.as_deref() })
                    .collect();
                let _told = self.player.session().request_batch(&requests, options.clone(), now);
            }
            Body::Respond { to, id, result, error } => {
                let error = error.clone().map(|(code, message, data)| OwnedRpcError { code, message, data });
                let result = match (result, &error) {
                    (_, Some(error)) => Err(error),
                    (result, None) => Ok(result.as_deref().unwrap_or("null")),
                };
                self.player.respond(*to, id, result, now);
            }
            Body::Cancel { id } => self.player.cancel(*id, now),
            Body::Subscribe { topic, options } => {
                let options = options
                    .options(self.replay.custom.as_ref())
                    .ok_or_else(|| wrong("its sequence rule is code: give it with Replay::sequence_rule"))?;
                self.player.session().subscribe(topic.clone(), options, now);
            }
            Body::Unsubscribe { id } => self.player.unsubscribe(*id, now),
            Body::EndSubscription { id } => self.player.end_subscription(*id, now),
            Body::Watch { id } => self.player.watch(*id, now),
            Body::Reconnect => self.player.session().reconnect(now),
            Body::Close { code, reason, within, drain } => {
                let mut options =
                    CloseOptions::new().code(CloseCode::from(*code)).reason(reason.clone()).drain(*drain);
                options.within = *within;
                self.player.session().close_with(options, now);
            }
            Body::Abort => self.player.session().abort(now),
            _ => return Err(wrong("it is no call")),
        }
        Ok(())
    }
}
