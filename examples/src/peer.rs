//! A server without a socket.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::mem::take;
use tungstenite::WebSocket;

/// tungstenite's WebSocket over two byte buffers: echoes.
#[derive(Debug, Default)]
pub struct Peer {
    /// What the client wrote, and nobody has read yet.
    pub input: VecDeque<u8>,
    /// What the client has not read yet.
    pub output: VecDeque<u8>,
    /// `None` until it was asked to upgrade.
    socket: Option<WebSocket<Buffers>>,
}

impl Peer {
    /// Reads what is there, and answers what is complete.
    ///
    /// # Panics
    /// If the client asks for anything but a WebSocket.
    pub fn answer(&mut self) {
        let Some(socket) = &mut self.socket else {
            if self.input.make_contiguous().ends_with(b"\r\n\r\n") {
                let buffers = Buffers { input: take(&mut self.input), output: VecDeque::new() };
                let mut socket = tungstenite::accept(buffers).expect("the client asks for a WebSocket");
                self.output.append(&mut socket.get_mut().output);
                self.socket = Some(socket);
            }
            return;
        };
        socket.get_mut().input.append(&mut self.input);
        // Until nothing is complete any more, or the client has closed the connection.
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                // It fails once the connection is closed, and then nobody listens.
                let _ = socket.send(message);
            }
        }
        self.output.append(&mut socket.get_mut().output);
    }

    /// Whether it has closed the connection, and the client has read all there was.
    pub fn is_closed(&self) -> bool {
        self.output.is_empty() && self.socket.as_ref().is_some_and(|socket| !socket.can_read())
    }
}

/// What a socket is to tungstenite.
#[derive(Debug, Default)]
struct Buffers {
    input: VecDeque<u8>,
    output: VecDeque<u8>,
}

impl Read for Buffers {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // Empty is not the end: more may come.
        if self.input.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.input.read(buf) }
    }
}

impl Write for Buffers {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.output.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
