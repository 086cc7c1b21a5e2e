//! How a connection is reached, how a server wants to be met, and how the session is left: what came later than `Setup`'s first bytes.

use super::setup::SECRET;
use crate::Input;
use everwire_core::protocol::Ack;
use everwire_core::{
    AtExpiry, CloseCode, CloseOptions, Config, Drain, Endpoint, JsonRpc, Proxy, ProxyRules, Refresh,
};
use std::time::Duration;

/// Drawn from three bytes, and from a fourth if the third says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    way: u8,
    speech: u8,
    leave: u8,
    needs: u8,
}

const SECOND: Duration = Duration::from_secs(1);

impl Manner {
    /// Without those bytes all is as it was without them.
    pub(super) fn new(given: bool, input: &mut Input<'_>) -> Self {
        let [way, speech, leave] = if given { std::array::from_fn(|_| input.u8()) } else { [0; 3] };
        let needs = if leave & 128 != 0 { input.u8() } else { 0 };
        Self { way, speech, leave, needs }
    }

    pub(super) fn configure(self, config: Config) -> Config {
        let url = match self.way & 3 {
            0 => return config,
            1 => "http://proxy.test:3128".to_owned(),
            2 => format!("http://user:{SECRET}@127.0.0.1:3128"),
            _ => format!("socks5://user:{SECRET}@proxy.test"),
        };
        let rules = ProxyRules::from(Proxy::new(&url).expect("a fixed URL"));
        let bypass = if self.way & 4 != 0 { ".org 127.0.0.1:9" } else { "" };
        config.proxy(rules.bypass(bypass).expect("a fixed list"))
    }

    /// An endpoint as its provider gives it on a good day. It lives for a `short` time or a long one, if the input has it expire.
    pub(super) fn endpoint(self, short: bool) -> Endpoint {
        let endpoint = Endpoint::new("ws://127.0.0.1:9/a").expect("a fixed URL");
        let life = match (self.way >> 3 & 3, short) {
            (0, _) => return endpoint,
            (index, true) => [2, 20, 60][usize::from(index) - 1] * SECOND,
            // Long enough for all that waits to go out in the meantime.
            (index, false) => [300, 1200, 3600][usize::from(index) - 1] * SECOND,
        };
        let refresh = [Refresh::Auto, Refresh::Reauthenticate, Refresh::Parameters, Refresh::Reconnect];
        let at_expiry = if self.way & 128 != 0 { AtExpiry::Disconnect } else { AtExpiry::Keep };
        let refresh = refresh[usize::from(self.way >> 5 & 3)];
        endpoint.param("token", SECRET).expires_in(life).refresh(refresh).at_expiry(at_expiry)
    }

    pub(super) fn greets(self) -> bool {
        self.speech & 1 != 0
    }

    /// Whether the answer to the farewell is awaited.
    pub(super) fn awaits_farewell(self) -> bool {
        self.speech & 2 != 0
    }

    pub(super) fn speak(self, mut rpc: JsonRpc) -> JsonRpc {
        if self.speech & 6 != 0 {
            rpc = rpc.farewell("private/bye", None).expect("no parameters are good ones");
        }
        if self.speech & 8 != 0 {
            rpc = rpc.reauthenticates(true);
        }
        if self.speech & 16 != 0 {
            rpc = rpc.authenticated(|_| Some(300 * SECOND));
        }
        rpc
    }

    /// How the session is closed at the end of the run.
    pub(super) fn close(self) -> CloseOptions {
        let options = CloseOptions::new().code(CloseCode::Away).reason("the end");
        let options = match self.leave >> 2 & 7 {
            0 => options,
            1 => options.within(Duration::ZERO),
            2 => options.within(SECOND / 100),
            3 => options.within(SECOND),
            4 => options.within(10 * SECOND),
            _ => options.within(3600 * SECOND),
        };
        options.drain(
            [Drain::Accepted, Drain::Nothing, Drain::Answers, Drain::Accepted][usize::from(self.leave & 3)],
        )
    }

    /// Whether the outcome of an authentication has no id.
    pub(super) fn authenticates_separately(self) -> bool {
        self.needs & 1 != 0
    }

    /// How each step of the preparation is answered.
    pub(super) fn steps(self) -> &'static [Ack] {
        let steps = [&[][..], &[Ack::Response], &[Ack::None, Ack::Response, Ack::Separate], &[Ack::None]];
        steps[usize::from(self.needs >> 1 & 3)]
    }

    /// Whether one message may name all topics, and not only those of one kind.
    pub(super) fn shares_all(self) -> bool {
        self.needs & 8 == 0
    }

    /// Whether all messages of a connection are watched.
    pub(super) fn tracks(self) -> bool {
        self.needs & 16 != 0
    }

    pub(super) fn topics_per_connection(self) -> Option<usize> {
        (self.needs & 32 != 0).then_some(2)
    }

    /// Long enough for all that waits to go out in the meantime.
    pub(super) fn life(self) -> Option<Duration> {
        (self.needs & 64 != 0).then_some(900 * SECOND)
    }

    /// Whether what signs fails now and then.
    pub(super) fn signs_badly(self) -> bool {
        self.needs & 128 != 0
    }

    /// Whether the server and the network do what they should until the end.
    pub(super) fn good_end(self) -> bool {
        self.leave & 32 != 0
    }

    /// Whether there is something to be drained.
    pub(super) fn busy_end(self) -> bool {
        self.leave & 64 != 0
    }
}
