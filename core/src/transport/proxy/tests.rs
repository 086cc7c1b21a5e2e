//! Proxies by their URLs, and every answer in every cut.

use super::*;
use crate::error::{Category, Disconnect, Recovery};
use crate::ws::handshake::{HandshakeOptions, PeerProtocol};
use std::io;
use std::time::{Duration, SystemTime};

/// What came of a handshake: length of the answer or the fault, and all that was said to the proxy.
type Outcome = (Result<usize, ProxyFault>, Vec<u8>);

fn options() -> HandshakeOptions {
    HandshakeOptions { max_head: 300, max_headers: 5, max_body: 40, ..HandshakeOptions::default() }
}

fn reset() -> Disconnect {
    Disconnect::Io { kind: io::ErrorKind::ConnectionReset, message: "reset".into() }
}

/// With answers that arrive in pieces which end at `cuts`, and then the end.
fn settle(proxy: &Proxy, host: &str, input: &[u8], cuts: impl Iterator<Item = usize>) -> Outcome {
    let mut handshake = ProxyHandshake::new(proxy, host, 443, &options()).unwrap();
    let mut said = Vec::new();
    for end in cuts.chain([input.len()]) {
        said.extend_from_slice(handshake.transmit());
        handshake.handle_transmitted(handshake.transmit().len());
        match handshake.receive(&input[..end]) {
            Ok(None) => {}
            settled => {
                assert_eq!(handshake.receive(input), settled, "it is final");
                said.extend_from_slice(handshake.transmit());
                return (settled.map(|len| len.expect("settled")), said);
            }
        }
    }
    let fault = handshake.finish(input, reset());
    assert_eq!(handshake.receive(input), Err(fault.clone()), "the end is final");
    assert_eq!(handshake.finish(input, Disconnect::Eof), fault);
    said.extend_from_slice(handshake.transmit());
    (Err(fault), said)
}

/// The outcome, which is the same for every cut and byte by byte.
fn outcome(proxy: &Proxy, host: &str, input: &[u8]) -> Outcome {
    let whole = settle(proxy, host, input, std::iter::empty());
    for cut in 0..=input.len() {
        assert_eq!(settle(proxy, host, input, [cut].into_iter()), whole, "cut at {cut}");
    }
    assert_eq!(settle(proxy, host, input, 0..=input.len()), whole, "byte by byte");
    whole
}

fn http() -> Proxy {
    Proxy::new("http://proxy").unwrap()
}

fn socks(url: &str) -> Proxy {
    Proxy::new(&format!("socks5://{url}")).unwrap()
}

fn answer(proxy: &Proxy, input: &[u8]) -> Result<usize, ProxyFault> {
    outcome(proxy, "example.com", input).0
}

#[test]
fn urls() {
    #[rustfmt::skip]
    let rows = [
        ("http://proxy", "proxy", 80, "http://proxy:80"),
        ("HTTP://Proxy.Example:3128/", "proxy.example", 3128, "http://proxy.example:3128"),
        ("http://u:p@h:80", "h", 80, "http://h:80"),
        ("socks5://h", "h", 1080, "socks5://h:1080"),
        ("socks5://h:80", "h", 80, "socks5://h:80"),
        ("socks5://h:080", "h", 80, "socks5://h:80"),
        ("socks5://u:80@h", "h", 1080, "socks5://h:1080"),
        ("socks5h://h:", "h", 1080, "socks5h://h:1080"),
        ("socks://127.0.0.1:9050/", "127.0.0.1", 9050, "socks5://127.0.0.1:9050"),
        ("socks5://[::1]", "::1", 1080, "socks5://[::1]:1080"),
        ("socks5://[::80]", "::80", 1080, "socks5://[::80]:1080"),
        ("http://[2001:DB8::1]:81", "2001:db8::1", 81, "http://[2001:db8::1]:81"),
        ("http://b\u{fc}cher.example", "xn--bcher-kva.example", 80, "http://xn--bcher-kva.example:80"),
    ];
    for (url, host, port, shown) in rows {
        let proxy: Proxy = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!((proxy.host(), proxy.port(), proxy.to_string().as_str()), (host, port, shown), "{url}");
        assert!(!proxy.secure());
    }
    #[cfg(feature = "tls")]
    {
        let proxy = Proxy::new("https://h").unwrap();
        assert!(proxy.secure() && proxy.port() == 443 && proxy.to_string() == "https://h:443");
    }
    #[cfg(not(feature = "tls"))]
    assert_eq!(Proxy::new("https://h").unwrap_err(), ProxyConfigError::TlsNotBuilt);
}

#[test]
fn what_is_no_proxy() {
    use ProxyConfigError as E;
    #[rustfmt::skip]
    let rows = [
        ("", E::NoScheme),
        ("proxy:3128", E::NoScheme),
        ("hunter2 hunter2://h", E::NoScheme),
        ("socks4://h", E::Scheme("socks4".into())),
        ("ws://h", E::Scheme("ws".into())),
        ("http://h/path", E::Extra),
        ("http://h?q", E::Extra),
        ("http://h#f", E::Extra),
        ("http://u:p/w@h", E::Extra),
        ("http://", E::Url(UrlError::EmptyHost)),
        ("http://u:p@", E::Url(UrlError::EmptyHost)),
        ("http://h:0", E::Url(UrlError::Port)),
        ("http://h:65536", E::Url(UrlError::Port)),
        ("http://a b", E::Url(UrlError::Character { at: 8 })),
        ("socks5://a\r\nX: 1", E::Url(UrlError::Character { at: 10 })),
        ("http://a%3Ab:c@h", E::Credentials),
        ("http://a:b%0d%0a@h", E::Credentials),
        ("socks5://:p@h", E::Credentials),
    ];
    for (url, error) in rows {
        assert_eq!(Proxy::new(url).unwrap_err(), error, "{url:?}");
        assert!(!error.to_string().contains("hunter2"));
    }
    let long = "x".repeat(256);
    assert_eq!(socks("h").credentials(&*long, "p").unwrap_err(), E::Credentials);
    assert_eq!(socks("h").credentials("u", &*long).unwrap_err(), E::Credentials);
    socks("h").credentials(&long[..255], &long[..255]).unwrap();
    http().credentials(&*long, &*long).unwrap();
    assert_eq!(http().credentials("a:b", "c").unwrap_err(), E::Credentials);
    assert_eq!(http().credentials("a", "c\n").unwrap_err(), E::Credentials);
    assert_eq!(socks("h").header("X-A", "1").unwrap_err(), E::NoHeaders);
    for name in RESERVED {
        assert!(matches!(http().header(&name.to_lowercase(), "1"), Err(E::Header(_))), "{name}");
    }
    assert!(matches!(http().header("X-A", "1\r\nX-B: 2"), Err(E::Header(_))));
}

#[test]
fn nothing_shows_a_secret() {
    let proxy = Proxy::new("http://hunter2:hunter2@h").unwrap().header("X-Token", "hunter2").unwrap();
    let handshake = ProxyHandshake::new(&proxy, "t", 80, &options()).unwrap();
    let socks = Proxy::new("socks5://hunter2:hunter2@h").unwrap();
    let mut talk = ProxyHandshake::new(&socks, "t", 80, &options()).unwrap();
    talk.receive(&[5, 2]).unwrap();
    for shown in [
        format!("{proxy} {proxy:?}"),
        format!("{handshake:?}"),
        format!("{socks} {socks:?}"),
        format!("{talk:?}"),
    ] {
        assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMjp"), "{shown}");
    }
}

#[test]
fn connect_requests() {
    let request = |proxy: &Proxy, host: &str, options: &HandshakeOptions| {
        let handshake = ProxyHandshake::new(proxy, host, 443, options).unwrap();
        String::from_utf8(handshake.transmit().to_vec()).unwrap()
    };
    let agent = concat!("everwire/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        request(&http(), "example.com", &options()),
        format!("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nUser-Agent: {agent}\r\n\r\n")
    );
    let mut mine = options();
    mine.headers.append("User-Agent", "mine/1").unwrap();
    mine.headers.append("Authorization", "Bearer for-the-server").unwrap();
    // The example of RFC 7617 section 2.
    let proxy = Proxy::new("http://Aladdin:open%20sesame@h").unwrap().header("X-Team", "a").unwrap();
    assert_eq!(
        request(&proxy, "::1", &mine),
        "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\
         Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\nUser-Agent: mine/1\r\nX-Team: a\r\n\r\n"
    );
    let proxy =
        proxy.header("proxy-authorization", "Bearer t").unwrap().header("User-Agent", "other").unwrap();
    assert_eq!(
        request(&proxy, "10.0.0.1", &mine),
        "CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: 10.0.0.1:443\r\nX-Team: a\r\nproxy-authorization: Bearer t\r\n\
         User-Agent: other\r\n\r\n"
    );
}

#[test]
fn connect_is_granted() {
    for head in [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\r\nProxy-agent: tinyproxy\r\n\r\n",
        "HTTP/1.1 204\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 299 fine\r\n\r\n",
    ] {
        for behind in ["", "x", "HTTP/1.1 101 Switching", "\r\n\r\n"] {
            assert_eq!(answer(&http(), format!("{head}{behind}").as_bytes()), Ok(head.len()), "{head}");
        }
    }
}

#[test]
fn connect_is_refused() {
    let refused = |input: &str| match answer(&http(), input.as_bytes()) {
        Err(ProxyFault::Refused(refused)) => refused,
        other => panic!("{input}: {other:?}"),
    };
    let body = refused("HTTP/1.1 403 Filtered\r\nContent-Length: 9\r\n\r\nno, thanksHTTP/1.1 200 OK\r\n\r\n");
    assert_eq!((body.status, &*body.reason, &*body.body), (403, "Filtered", &b"no, thank"[..]));
    // Cut in its middle, it is told with what there is of it; and no more than so much of it is kept.
    assert_eq!(refused("HTTP/1.1 502 Bad\r\n\r\nhalf of").body, b"half of");
    assert_eq!(refused(&format!("HTTP/1.1 502 Bad\r\n\r\n{}", "x".repeat(500))).body.len(), 40);
    for status in [101, 300, 302, 400, 404, 429, 500, 999] {
        assert_eq!(refused(&format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n")).status, status);
    }
    let text = |input: &str| ProxyFault::Refused(refused(input)).to_string();
    assert_eq!(
        text("HTTP/1.1 403 Filtered\r\n\r\n<html><title>Access denied</title>"),
        "it refused to connect with status 403 \"Filtered\" (\"Access denied\"); its rules do not allow this server or port"
    );
    assert_eq!(
        text("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
        "it refused to connect with status 407 \"Proxy Authentication Required\"; give the right credentials with \
         Proxy::credentials or in the URL of the proxy"
    );
    assert!(text("HTTP/1.1 503\r\n\r\nno DNS\x1b[31m\nmore").contains(r#"("no DNS\u{1b}[31m")"#));
    for empty in ["<p>", "<title>", "<title></title>", "  \r\n", "<title>\u{130}</title"] {
        assert!(!text(&format!("HTTP/1.1 503 x\r\n\r\n{empty}")).contains('('), "{empty:?}");
    }
}

#[test]
fn a_refusal_that_repeats_our_secrets_is_not_kept() {
    let proxy = Proxy::new("http://user:hunter2@h").unwrap().header("X-Token", "sesame").unwrap();
    for secret in ["hunter2", "sesame", "dXNlcjpodW50ZXIy"] {
        let input = format!("HTTP/1.1 407 x\r\n\r\nyou said {secret}!");
        let Err(ProxyFault::Refused(refused)) = answer(&proxy, input.as_bytes()) else { panic!("{input}") };
        assert_eq!(refused.body, b"", "{secret}");
        // Nor where errors and logs would show it.
        let input = format!(
            "HTTP/1.1 407 not {secret}\r\nProxy-Authenticate: Basic realm=\"{secret}\"\r\nVia: a\r\n\r\n"
        );
        let mut handshake = ProxyHandshake::new(&proxy, "h", 1, &HandshakeOptions::default()).unwrap();
        assert_eq!(handshake.receive(input.as_bytes()), Ok(None), "a body may follow");
        assert!(!format!("{handshake:?}").contains(secret), "{handshake:?}");
        let Err(fault) = answer(&proxy, input.as_bytes()) else { panic!("{input}") };
        assert!(!format!("{fault} {fault:?}").contains(secret), "{fault:?}");
        let ProxyFault::Refused(refused) = fault else { panic!("{fault:?}") };
        assert_eq!((&*refused.reason, refused.headers.len()), ("", 1), "the rest stays");
        let input = format!("HTTP/1.1 407 no {secret}\r\n{secret}: 1\r\nA: {secret}\r\nB: 2\r\n\r\n");
        let Err(ProxyFault::Refused(refused)) = answer(&proxy, input.as_bytes()) else { panic!("{input}") };
        assert_eq!((&*refused.reason, refused.headers.iter().collect::<Vec<_>>()), ("", vec![("B", "2")]));
        // Cut by `max_body`, which is 40.
        let input = format!("HTTP/1.1 407 x\r\n\r\n{}{secret}", "-".repeat(35));
        let Err(ProxyFault::Refused(refused)) = answer(&proxy, input.as_bytes()) else { panic!("{input}") };
        assert_eq!(refused.body, b"", "{secret}");
        // Cut in front, and by how little of it is kept.
        for input in [format!("{secret}: you said"), format!("you said: {secret}"), secret[1..].to_owned()] {
            let answer = answer(&proxy, input.as_bytes());
            let Err(ProxyFault::NotHttp { first_bytes, .. }) = answer else { panic!("{answer:?}") };
            assert_eq!(first_bytes, "", "{input}");
        }
    }
    let padded = Proxy::new("http://user:hunter22@h").unwrap();
    let input = b"HTTP/1.1 407 x\r\n\r\ndXNlcjpodW50ZXIyMg is no answer";
    let Err(ProxyFault::Refused(refused)) = answer(&padded, input) else { panic!() };
    assert_eq!(refused.body, b"", "the padding does not matter");
    let Err(ProxyFault::NotHttp { first_bytes, .. }) = answer(&proxy, b"220 mail.test\r\n") else { panic!() };
    assert_eq!(first_bytes, "220 mail.test\\r\\n");
}

#[test]
fn hostile_http_proxies() {
    let ended = |received| ProxyFault::Ended { received, cause: reset() };
    assert_eq!(answer(&http(), b""), Err(ended(0)));
    assert_eq!(answer(&http(), b"HTTP/1.1 200 OK\r\n"), Err(ended(17)));
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(400));
    assert_eq!(answer(&http(), endless.as_bytes()), Err(ProxyFault::HeadTooLarge { limit: 300 }));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(20);
    assert_eq!(answer(&http(), interim.as_bytes()), Err(ProxyFault::HeadTooLarge { limit: 300 }));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: 1\r\n".repeat(6));
    assert_eq!(answer(&http(), many.as_bytes()), Err(ProxyFault::TooManyHeaders { limit: 5 }));
    for bad in ["HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"] {
        assert!(matches!(answer(&http(), bad.as_bytes()), Err(ProxyFault::Malformed(_))), "{bad}");
    }
    let not_http = |input: &[u8]| match answer(&http(), input) {
        Err(ProxyFault::NotHttp { peer, .. }) => peer,
        other => panic!("{other:?}"),
    };
    assert_eq!(not_http(&[0x15, 3, 1, 0, 2, 2, 70]), PeerProtocol::Tls);
    assert_eq!(not_http(b"SSH-2.0-x\r\n"), PeerProtocol::Ssh);
    assert_eq!(not_http(&[5, 0xff]), PeerProtocol::Unknown);
}

#[test]
fn socks_says_what_the_rfcs_want() {
    let name = [&[5, 1, 0, 3, 11][..], b"example.com", &[1, 187]].concat();
    let granted = [5, 0, 5, 0, 0, 1, 127, 0, 0, 1, 0x1f, 0x90];
    assert_eq!(outcome(&socks("h"), "example.com", &granted), (Ok(12), [&[5, 1, 0], &name[..]].concat()));
    let v4 = [5, 1, 0, 1, 10, 0, 0, 1, 1, 187];
    assert_eq!(outcome(&socks("h"), "10.0.0.1", &granted), (Ok(12), [&[5, 1, 0], &v4[..]].concat()));
    let mut v6 = [&[5, 1, 0, 4][..], &[0; 16], &[1, 187]].concat();
    v6[19] = 1;
    assert_eq!(outcome(&socks("h"), "::1", &granted), (Ok(12), [&[5, 1, 0], &v6[..]].concat()));
    // Credentials are offered, and not needed.
    assert_eq!(
        outcome(&socks("u:pw@h"), "example.com", &granted),
        (Ok(12), [&[5, 2, 0, 2], &name[..]].concat())
    );
    for version in [1, 5, 0] {
        let granted = [5, 2, version, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let said = [&[5, 2, 0, 2][..], &[1, 1, b'u', 2, b'p', b'w'], &name].concat();
        assert_eq!(outcome(&socks("u:pw@h"), "example.com", &granted), (Ok(14), said));
    }
}

#[test]
fn socks_answers_have_three_kinds_of_addresses() {
    let granted = |address: &[u8]| [&[5, 0, 5, 0, 0], address, &[0, 80]].concat();
    for address in [
        [&[1][..], &[1; 4]].concat(),
        [&[4][..], &[1; 16]].concat(),
        [&[3, 0][..]].concat(),
        [&[3, 5][..], b"hello"].concat(),
        [&[3, 255][..], &[b'x'; 255]].concat(),
    ] {
        let input = granted(&address);
        assert_eq!(answer(&socks("h"), &input), Ok(input.len()));
        assert_eq!(answer(&socks("h"), &[&input[..], b"behind"].concat()), Ok(input.len()));
        let short = input.len() - 1;
        let ended = ProxyFault::Ended { received: short, cause: reset() };
        assert_eq!(answer(&socks("h"), &input[..short]), Err(ended));
    }
    assert_eq!(answer(&socks("h"), &granted(&[2, 0, 0])), Err(ProxyFault::AddressType(2)));
}

#[test]
fn socks_refuses() {
    for code in 1..=255 {
        // The rest of the answer may be missing.
        for input in [vec![5, 0, 5, code], vec![5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(answer(&socks("h"), &input), Err(ProxyFault::Reply(code)));
        }
        let text = ProxyFault::Reply(code).to_string();
        assert!(
            text.starts_with("it did not connect: ") && text.ends_with(&format!("(reply {code})")),
            "{text}"
        );
        assert_eq!(text.contains("unknown reason"), code > 8, "{text}");
        if code != 0xff && code != 2 {
            assert_eq!(answer(&socks("u:p@h"), &[5, code]), Err(ProxyFault::Method(code)));
        }
        let status = ProxyFault::CredentialsRefused { status: code };
        assert_eq!(answer(&socks("u:p@h"), &[5, 2, 1, code]), Err(status));
    }
    assert_eq!(answer(&socks("h"), &[5, 2]), Err(ProxyFault::Method(2)), "it was not offered");
    assert_eq!(answer(&socks("h"), &[5, 0xff]), Err(ProxyFault::NoMethod { credentials: false }));
    assert_eq!(answer(&socks("u:p@h"), &[5, 0xff]), Err(ProxyFault::NoMethod { credentials: true }));
}

#[test]
fn hostile_socks_proxies() {
    let ended = |received| Err(ProxyFault::Ended { received, cause: reset() });
    for input in [&[][..], &[5], &[5, 0], &[5, 0, 5], &[5, 0, 5, 0, 0, 3, 255, 1]] {
        assert_eq!(answer(&socks("h"), input), ended(input.len()));
    }
    for input in [&[5, 2][..], &[5, 2, 1], &[5, 2, 1, 0]] {
        assert_eq!(answer(&socks("u:p@h"), input), ended(input.len()));
    }
    assert_eq!(answer(&socks("h"), b"HTTP/1.1 400"), Err(ProxyFault::NotSocks { version: b'H' }));
    assert_eq!(answer(&socks("h"), &[4, 90]), Err(ProxyFault::NotSocks { version: 4 }));
    assert_eq!(answer(&socks("h"), &[5, 0, 4, 0]), Err(ProxyFault::NotSocks { version: 4 }));
    let long = "x".repeat(256);
    let fault = ProxyHandshake::new(&socks("h"), &long, 1, &options()).unwrap_err();
    assert_eq!(fault, ProxyFault::HostTooLong { len: 256 });
    ProxyHandshake::new(&socks("h"), &long[..255], 1, &options()).unwrap();
}

#[test]
fn categories_and_recoveries() {
    let wall = SystemTime::UNIX_EPOCH;
    let of = |fault: ProxyFault| (fault.category(), fault.recovery(wall));
    let status = |head: &str| answer(&http(), format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).unwrap_err();
    let stop = (Category::Authentication, Recovery::Stop);
    assert_eq!(of(status("407 x")), stop);
    assert_eq!(of(status("401 x")), stop);
    assert_eq!(of(status("407 x\r\nRetry-After: 3")), stop);
    assert_eq!(of(ProxyFault::NoMethod { credentials: false }), stop);
    assert_eq!(of(ProxyFault::CredentialsRefused { status: 1 }), stop);
    for head in ["403 x", "429 x", "502 x"] {
        assert_eq!(of(status(head)), (Category::Connection, Recovery::Reconnect));
    }
    let wait = Recovery::Backoff(Duration::from_secs(7));
    assert_eq!(of(status("503 x\r\nRetry-After: 7")), (Category::Connection, wait));
    assert_eq!(of(ProxyFault::Reply(5)), (Category::Connection, Recovery::Reconnect));
    assert_eq!(of(ProxyFault::Timeout), (Category::Timeout, Recovery::Reconnect));
    assert_eq!(of(ProxyFault::HeadTooLarge { limit: 1 }), (Category::Capacity, Recovery::Reconnect));
    assert_eq!(of(ProxyFault::HostTooLong { len: 256 }), (Category::Config, Recovery::Stop));
    #[cfg(feature = "tls")]
    {
        use crate::transport::tls::TlsError;
        assert_eq!(of(ProxyFault::Tls(TlsError::NotTls { http: true })), (Category::Tls, Recovery::Stop));
        assert_eq!(of(ProxyFault::Tls(TlsError::Truncated)), (Category::Tls, Recovery::Reconnect));
    }
}
