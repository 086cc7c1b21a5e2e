//! The answers of a proxy, in any cut; and lists of hosts that are reached without one.
//!
//! Input: flags, a list of cuts, then the answers. With flag 128: a list for `NO_PROXY`, a line end, and a host.

use crate::{Cuts, Input};
use everwire_core::transport::proxy::{ProxyFault, ProxyHandshake};
use everwire_core::ws::Target;
use everwire_core::ws::handshake::HandshakeOptions;
use everwire_core::{Disconnect, Proxy, ProxyRules};

type Outcome = (Result<Option<usize>, ProxyFault>, ProxyFault, Vec<u8>);

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let cuts = input.list();
    let bytes = input.rest();
    if flags & 128 != 0 {
        return bypass(bytes);
    }
    let options = HandshakeOptions {
        max_head: [64, 256, 1024, 16 << 10][usize::from(flags & 3)],
        max_body: [0, 16, 256, 4096][usize::from(flags >> 2 & 3)],
        max_headers: if flags & 16 != 0 { 3 } else { 100 },
        ..HandshakeOptions::default()
    };
    let scheme = if flags & 32 != 0 { "socks5" } else { "http" };
    let told = flags & 64 != 0;
    let user = if told { "user:password@" } else { "" };
    let proxy = Proxy::new(&format!("{scheme}://{user}proxy")).expect("a fixed URL");

    let whole = settle(&proxy, told, &options, bytes, &[]);
    assert_eq!(whole, settle(&proxy, told, &options, bytes, cuts), "cuts matter");
    if bytes.len() <= 600 {
        assert_eq!(whole, settle(&proxy, told, &options, bytes, &[0]), "cuts matter");
    }
    match whole.0 {
        Ok(None) => {
            let limit = 2 * options.max_head + options.max_body + 64;
            assert!(bytes.len() <= limit.max(266), "{} bytes do not settle it, limits {limit}", bytes.len());
        }
        Ok(Some(len)) => assert!(len <= bytes.len() && len <= options.max_head.max(266)),
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
}

fn settle(proxy: &Proxy, told: bool, options: &HandshakeOptions, answers: &[u8], cuts: &[u8]) -> Outcome {
    let mut handshake = ProxyHandshake::new(proxy, "example.com", 443, options).expect("a short name");
    let mut cuts = Cuts::new(cuts);
    let (mut end, mut said) = (0_usize, Vec::new());
    let outcome = loop {
        said.extend_from_slice(handshake.transmit());
        handshake.handle_transmitted(handshake.transmit().len());
        assert!(said.len() < 1024);
        end = answers.len().min(end.saturating_add(cuts.piece()));
        let outcome = handshake.receive(&answers[..end]);
        if outcome != Ok(None) {
            // It is final, whatever comes after.
            assert_eq!(outcome, handshake.receive(answers));
            break outcome;
        }
        if end == answers.len() {
            break outcome;
        }
    };
    said.extend_from_slice(handshake.transmit());
    // A proxy that was not told them may say these words, and they are shown.
    let shown = format!("{handshake:?}");
    let shows = shown.contains("password") || shown.contains("dXNlcjpwYXNzd29yZA");
    assert!(!told || !shows, "{shown}");
    let end = handshake.finish(answers, Disconnect::Eof);
    if let Err(fault) = &outcome {
        assert_eq!(end, *fault);
    }
    (outcome, end, said)
}

fn bypass(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (list, host) = text.split_once('\n').unwrap_or((text, "example.com:8443"));
    let Ok(target) = Target::parse(&format!("ws://{host}")) else { return };
    let vars = |name: &str| match name {
        "ALL_PROXY" => Some("http://proxy".to_owned()),
        "NO_PROXY" => Some(list.to_owned()),
        _ => None,
    };
    let lenient = ProxyRules::from_vars(vars).expect("a fixed proxy");
    let direct = lenient.proxy_for(&target).is_none();
    let proxy = Proxy::new("http://proxy").expect("a fixed URL");
    if let Ok(strict) = ProxyRules::from(proxy).bypass(list) {
        assert_eq!(strict.proxy_for(&target).is_none(), direct, "both read the same list");
    }
    // A target that is listed itself is reached directly, with its port and without.
    let named = |entry: String| {
        ProxyRules::new().bypass(&entry).is_ok_and(|rules| {
            let rules = rules.ws(Proxy::new("http://proxy").expect("a fixed URL"));
            rules.proxy_for(&target).is_none()
        })
    };
    let bare =
        if target.host().contains(':') { format!("[{}]", target.host()) } else { target.host().to_owned() };
    if !target.host().contains([',', '*']) && target.host().contains(|c| c != '.') {
        assert!(named(bare.clone()), "{bare}");
        assert!(named(format!("{bare}:{}", target.port())), "{bare} with its port");
    }
}
