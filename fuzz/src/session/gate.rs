//! A proxy's part of a connection: HTTP CONNECT and SOCKS5, right and wrong.

use super::peer::Peer;
use super::setup::SECRET;

/// How far the client got with the proxy.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// What comes next may be for a proxy.
    #[default]
    Unknown,
    /// SOCKS5: name and password are awaited, or the request.
    Password,
    Request,
    /// The connection stands; what follows is for the server.
    Open,
}

impl Peer {
    /// Whether a proxy is spoken to, and has not let the client through.
    pub(super) fn at_gate(&self) -> bool {
        let socks = matches!(self.gate, Gate::Password | Gate::Request);
        socks || self.gate == Gate::Unknown && matches!(self.read.first(), Some(b'C' | 5))
    }

    /// Answers what was said to the proxy, if that is complete.
    pub(super) fn answer_gate(&mut self, how: u8) {
        let Some(len) = self.question() else { return };
        let said: Vec<u8> = self.read.drain(..len).collect();
        let good = how % 16 <= 2;
        let (gate, answer): (Gate, Vec<u8>) = match self.gate {
            Gate::Unknown if said[0] == b'C' => (Gate::Open, connected(how, &String::from_utf8_lossy(&said))),
            Gate::Unknown if said.contains(&2) && good => (Gate::Password, vec![5, 2]),
            Gate::Unknown if good => (Gate::Request, vec![5, 0]),
            Gate::Unknown => (
                Gate::Request,
                [vec![5, 255], vec![5, 1], vec![4, 0], vec![b'H']][usize::from(how & 3)].clone(),
            ),
            Gate::Password => (Gate::Request, vec![1, u8::from(!good)]),
            Gate::Request | Gate::Open if good => (Gate::Open, vec![5, 0, 0, 1, 127, 0, 0, 1, 0, 80]),
            Gate::Request | Gate::Open => (Gate::Open, vec![5, how & 15, 0, how & 7, 4, 1, 2, 3, 4, 5, 6]),
        };
        (self.gate, self.refused) = (gate, !good);
        self.wire.extend(answer);
    }

    /// Length of what the client said to the proxy, once it is complete.
    fn question(&self) -> Option<usize> {
        let said = &self.read;
        let len = match self.gate {
            Gate::Unknown if *said.first()? == b'C' => {
                said.windows(4).position(|part| part == b"\r\n\r\n")? + 4
            }
            Gate::Unknown => 2 + usize::from(*said.get(1)?),
            Gate::Password => {
                let name = usize::from(*said.get(1)?);
                3 + name + usize::from(*said.get(2 + name)?)
            }
            Gate::Request | Gate::Open => match *said.get(3)? {
                1 => 10,
                3 => 7 + usize::from(*said.get(4)?),
                _ => 22,
            },
        };
        (said.len() >= len).then_some(len)
    }
}

fn connected(how: u8, said: &str) -> Vec<u8> {
    // It repeats what it was told, and nothing that it cannot know.
    let basic = said.split_once("Basic ").and_then(|(_, rest)| rest.split_once('\r'));
    let secret = basic.map_or("-", |(basic, _)| if how & 16 != 0 { basic } else { SECRET });
    let repeats = || format!("HTTP/1.1 407 {secret}\r\nX: {secret}\r\n\r\nyou said {secret}");
    match how % 16 {
        0 | 1 => "HTTP/1.1 200 Connection established\r\n\r\n".to_owned(),
        2 => "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 299 OK\nContent-Length: 7\n\n".to_owned(),
        3 => "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno".to_owned(),
        4 => "HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n".to_owned(),
        5 => "HTTP/1.1 502 Bad\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
        6 => "HTTP/1.1 302 Elsewhere\r\nLocation: http://127.0.0.2/\r\nContent-Length: 0\r\n\r\n".to_owned(),
        7 => repeats(),
        8 => format!("{secret} {secret}\r\n"),
        9 => format!("HTTP/1.1 200 {}\r\n", "x".repeat(2000)),
        _ => "SSH-2.0-none\r\n".to_owned(),
    }
    .into_bytes()
}
