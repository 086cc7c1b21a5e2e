//! The ways in which a client loses its connection.

use std::fmt;

/// How a connection is lost, for [`ConnHandle::disconnect`](crate::ConnHandle::disconnect) and
/// [`MockServer::disconnect_all`](crate::MockServer::disconnect_all).
///
/// ```
/// use everwire_testing::{Disconnect, MockServer, tungstenite};
/// # const SOON: std::time::Duration = std::time::Duration::from_secs(5);
///
/// // A client that ought to come back, whatever happens to it.
/// for how in Disconnect::ALL {
///     let server = MockServer::start();
///     let url = server.url();
///     std::thread::spawn(move || {
///         while let Ok((mut client, _)) = tungstenite::connect(&url) {
///             // What a client does about a peer that says nothing at all: it gives up after a while.
///             if let tungstenite::stream::MaybeTlsStream::Plain(tcp) = client.get_ref() {
///                 let _ = tcp.set_read_timeout(Some(std::time::Duration::from_millis(20)));
///             }
///             while client.read().is_ok() {}
///         }
///     });
///     server.wait_connection(0, SOON)?.disconnect(how);
///     server.wait_connection(1, SOON)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Disconnect {
    /// The closing handshake with code 1000.
    Normal,
    /// The closing handshake with code 1001.
    GoingAway,
    /// The closing handshake with this code, allowed or not.
    Code(u16),
    /// A FIN without a close frame; under TLS a close_notify goes before it.
    Fin,
    /// A TCP RST.
    Reset,
    /// The first half of a text message, then a TCP RST.
    MidFrame,
    /// Nothing at all, any more: no byte is read or written, and no FIN comes.
    HalfOpen,
}

impl Disconnect {
    /// All of them, with 1012 (service restart) and 1008 (policy violation) for the codes.
    pub const ALL: [Self; 8] = [
        Self::Normal,
        Self::GoingAway,
        Self::Code(1012),
        Self::Code(1008),
        Self::Fin,
        Self::Reset,
        Self::MidFrame,
        Self::HalfOpen,
    ];
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("closed with 1000"),
            Self::GoingAway => f.write_str("closed with 1001"),
            Self::Code(code) => write!(f, "closed with {code}"),
            Self::Fin => f.write_str("a FIN"),
            Self::Reset => f.write_str("a reset"),
            Self::MidFrame => f.write_str("a reset inside of a frame"),
            Self::HalfOpen => f.write_str("half-open"),
        }
    }
}
