//! Writes the seeds that no mutation would find soon: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.

use everwire_core::ws::deflate::{DeflateConfig, DeflateParams, Deflater};
use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, seeds) in [
        ("frames", frames()),
        ("handshake", handshakes()),
        ("deflate", deflated()),
        ("proxy", proxies()),
        ("session", sessions()),
        ("venues", messages()?),
        ("record", records()?),
    ] {
        std::fs::create_dir_all(corpus.join(target))?;
        for (name, bytes) in seeds {
            std::fs::write(corpus.join(target).join(format!("seed-{name}")), bytes)?;
        }
    }
    Ok(())
}

type Seeds = Vec<(String, Vec<u8>)>;

/// What venues say: the messages that stand in the unit tests of their protocols.
fn messages() -> std::io::Result<Seeds> {
    let mut seeds = Seeds::new();
    let venues = Path::new(env!("CARGO_MANIFEST_DIR")).join("../venues/src");
    for (name, text) in sources(&venues, "rs")? {
        let raw = text.split("r#\"").skip(1).filter_map(|rest| rest.split_once("\"#")).map(|(raw, _)| raw);
        // A template of `format!` is none.
        let said = raw.filter(|raw| raw.starts_with(['{', '[']) && !raw.contains("{{") && raw.len() > 8);
        seeds.extend(said.enumerate().map(|(n, text)| (format!("{name}-{n}"), text.as_bytes().to_vec())));
    }
    seeds.push(("pong".to_owned(), b"pong".to_vec()));
    Ok(seeds)
}

fn records() -> std::io::Result<Seeds> {
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("../record/tests/records");
    let mut seeds = Seeds::new();
    for (name, text) in sources(&records, "jsonl")? {
        seeds.push((name.clone(), text.as_bytes().to_vec()));
        let header = text.lines().next().unwrap_or_default();
        let lines = text.lines().skip(1).enumerate();
        // A line alone, and behind the first of its file.
        for (n, line) in lines.take(12) {
            seeds.push((format!("{name}-{n}"), line.as_bytes().to_vec()));
            seeds.push((format!("{name}-{n}-behind"), format!("{header}\n{line}\n").into_bytes()));
        }
    }
    Ok(seeds)
}

/// The files below a directory with this extension: a name made of the path, and the text.
fn sources(dir: &Path, extension: &str) -> std::io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let below = sources(&path, extension)?;
            found.extend(below.into_iter().map(|(inner, text)| (format!("{name}-{inner}"), text)));
        } else if path.extension().is_some_and(|of| of == extension) {
            found.push((name, std::fs::read_to_string(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

/// Flags: 1 and 2 head, 4 and 8 body, 16 few headers, 32 SOCKS5, 64 credentials, 128 a list of hosts.
fn proxies() -> Seeds {
    let name = [&[5, 0, 5, 0, 0, 3, 11][..], b"example.com", &[1, 187, 0x81, 0]].concat();
    let rows: [(&str, u8, &[u8]); 18] = [
        ("granted", 15, b"HTTP/1.1 200 Connection established\r\n\r\n\x81\x00"),
        ("granted-old", 15, b"HTTP/1.0 204 OK\nProxy-agent: x\n\n"),
        ("interim", 15, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("password", 79, b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nno!"),
        ("repeats", 79, b"HTTP/1.1 407 No\r\n\r\npassword dXNlcjpwYXNzd29yZA=="),
        ("page", 15, b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n1b\r\n<html><title>Denied</title>\r\n0\r\n\r\n"),
        ("wait", 15, b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\n\r\n"),
        ("alert", 15, &[0x15, 3, 3, 0, 2, 2, 70]),
        ("socks-v4", 47, &[5, 0, 5, 0, 0, 1, 127, 0, 0, 1, 0, 80]),
        ("socks-v6", 47, &[5, 0, 5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80]),
        ("socks-name", 47, &name),
        ("socks-password", 111, &[5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        ("socks-wrong", 111, &[5, 2, 1, 1]),
        ("socks-none", 111, &[5, 255]),
        ("socks-refused", 47, &[5, 0, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0]),
        ("names", 128, b"localhost, .example.com:8443 *.internal\na.example.com:8443"),
        ("blocks", 128, b"10.0.0.0/8,2001:db8::/32,[::1]:80,::ffff:10.0.0.0/104\n10.1.2.3:80"),
        ("v6", 128, b"*:81 <local> 192.168.*\n[2001:db8::1]:81"),
    ];
    let seed =
        |(name, flags, bytes): (&str, u8, &[u8])| (name.to_owned(), [&[flags, 2, 0, 6], bytes].concat());
    rows.map(seed).to_vec()
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(len as u8),
        len => bytes.extend([&[126][..], &(len as u16).to_be_bytes()].concat()),
    }
    [&bytes, payload].concat()
}

fn deflate(messages: &[&[u8]]) -> Vec<Vec<u8>> {
    let params = DeflateParams {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let mut deflater = Deflater::new(&DeflateConfig::default(), &params);
    let mut one = |message: &&[u8]| {
        let mut out = Vec::new();
        deflater.deflate(message, &mut out, true);
        out
    };
    messages.iter().map(&mut one).collect()
}

fn frames() -> Seeds {
    let text = "gr\u{fc}\u{df}e \u{1f600} ".repeat(150);
    let payloads = deflate(&[b"hello hello hello", text.as_bytes(), b"hello again"]);
    let compressed: Vec<u8> = payloads.iter().flat_map(|payload| frame(0xc1, payload)).collect();
    let (head, tail) = payloads[1].split_at(payloads[1].len() / 2);
    let fragmented =
        [frame(0xc1, &payloads[0]), frame(0x41, head), frame(0x89, b"p"), frame(0x80, tail)].concat();
    let mut too_long = vec![0x82, 127, 0, 0, 0, 0, 0];
    too_long.extend([0xff; 3]);
    // Flags: 1 deflate, 2 no takeover, 4 chunks, 8 JSON-RPC. Limits 0xff: the widest.
    let seeds: Vec<(&str, u8, u8, Vec<u8>)> = vec![
        ("text", 0, 0xff, frame(0x81, b"hello")),
        ("many", 0, 0xff, [frame(0x81, b"a"), frame(0x82, b"\0\xff"), frame(0x81, b"")].concat().repeat(5)),
        ("medium", 0, 0xff, frame(0x82, &[7; 300])),
        ("utf8", 0, 0xff, frame(0x81, text.as_bytes())),
        ("utf8-bad", 0, 0xff, frame(0x81, b"ok \xed\xa0\x80")),
        ("fragments", 0, 0xff, [frame(0x01, b"a\xc3"), frame(0x89, b"ping"), frame(0x80, b"\xa9b")].concat()),
        (
            "fragments-many",
            0,
            0x0f,
            [frame(0x02, b"a"), frame(0, b"b"), frame(0, b""), frame(0x80, b"d")].concat(),
        ),
        ("pings", 0, 0xff, frame(0x89, &[b'x'; 100]).repeat(3)),
        ("pong", 0, 0xff, frame(0x8a, b"unasked")),
        (
            "close",
            0,
            0xff,
            [frame(0x81, b"bye"), frame(0x88, b"\x03\xe8done"), frame(0x81, b"late")].concat(),
        ),
        ("close-empty", 0, 0xff, frame(0x88, b"")),
        ("close-code", 0, 0xff, frame(0x88, b"\x03\xed")),
        ("masked", 0, 0xff, vec![0x81, 0x85, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("reserved", 0, 0xff, frame(0xd1, b"x")),
        ("opcode", 0, 0xff, frame(0x83, b"x")),
        ("length-not-minimal", 0, 0xff, vec![0x81, 126, 0, 1, b'x']),
        ("length-eight", 0, 0xff, [&[0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1][..], b"x"].concat()),
        ("length-huge", 0, 0xff, too_long),
        ("too-large", 0, 0, frame(0x82, &[1; 126])),
        ("continuation", 0, 0xff, frame(0x80, b"x")),
        ("unfinished", 0, 0xff, [frame(0x01, b"a"), frame(0x81, b"b")].concat()),
        ("control-long", 0, 0xff, frame(0x89, &[0; 126])),
        ("long", 0, 0xff, frame(0x82, &[3; 30_000])),
        ("deflate", 1, 0xff, compressed.clone()),
        ("deflate-fragments", 1, 0xff, fragmented.clone()),
        ("deflate-alone", 3, 0xff, frame(0xc1, &payloads[0])),
        ("deflate-corrupt", 1, 0xff, frame(0xc1, b"\xff\xff\xff\xff")),
        ("deflate-chunks", 5, 0xff, fragmented),
        ("deflate-small", 1, 0xf4, compressed),
        ("chunks", 4, 0xff, [frame(0x81, text.as_bytes()), frame(0x82, &[9; 5000])].concat()),
        ("chunks-fragments", 4, 0xff, [frame(0x01, text.as_bytes()), frame(0x80, text.as_bytes())].concat()),
        (
            "json",
            8,
            0xff,
            frame(0x81, br#"{"jsonrpc":"2.0","method":"n","params":{"channel":"a","data":[1]}}"#),
        ),
        ("json-answer", 8, 0xff, frame(0x81, br#"{"id":7,"result":{"a":null}}"#)),
    ];
    let with_cuts = |(at, (name, flags, limits, stream)): (usize, (&str, u8, u8, Vec<u8>))| {
        let cuts: &[u8] = [&[3, 0, 2, 6][..], &[1, 0], &[4, 9, 0, 1, 230], &[2, 210, 5]][at % 4];
        (name.to_owned(), [&[flags, limits][..], cuts, &stream].concat())
    };
    seeds.into_iter().enumerate().map(with_cuts).collect()
}

fn handshakes() -> Seeds {
    let accept = {
        use everwire_core::ws::{
            Target,
            handshake::{Handshake, HandshakeOptions},
        };
        let target = Target::parse("ws://example.com").expect("a URL");
        let handshake =
            Handshake::new(&target, &HandshakeOptions::default(), everwire_fuzz::handshake::NONCE);
        let request = String::from_utf8_lossy(handshake.expect("valid").request()).into_owned();
        let response = everwire_fuzz::session::accept(&request, "").expect("a request");
        String::from_utf8_lossy(&response).trim_end().to_owned()
    };
    let other = |status: &str, rest: &str| format!("HTTP/1.1 {status}\r\n{rest}");
    let seeds: Vec<(&str, u8, String)> = vec![
        ("accept", 0, format!("{accept}\r\n\r\n")),
        ("accept-and-frame", 0, format!("{accept}\r\n\r\n\u{1}frame")),
        ("accept-after-hints", 0, format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{accept}\r\n\r\n")),
        ("accept-bare-feeds", 0, format!("{accept}\r\n\r\n").replace("\r\n", "\n")),
        (
            "deflate",
            32,
            format!(
                "{accept}\r\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n\r\n"
            ),
        ),
        ("deflate-unasked", 0, format!("{accept}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")),
        (
            "deflate-bad",
            32,
            format!("{accept}\r\nSec-WebSocket-Extensions: permessage-deflate; x=\"1\"\r\n\r\n"),
        ),
        ("subprotocol", 64, format!("{accept}\r\nSec-WebSocket-Protocol: v2.json\r\n\r\n")),
        ("subprotocol-bad", 64, format!("{accept}\r\nSec-WebSocket-Protocol: v3\r\n\r\n")),
        ("accept-wrong", 0, format!("{accept}x\r\n\r\n")),
        (
            "refused",
            0,
            other("401 Unauthorized", "WWW-Authenticate: Bearer\r\nContent-Length: 4\r\n\r\nnope"),
        ),
        (
            "refused-chunked",
            0,
            other("403 No", "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n"),
        ),
        ("refused-endless", 0, other("500 Oops", "\r\nwho knows how long")),
        ("retry-seconds", 0, other("503 Later", "Retry-After: 120\r\nContent-Length: 0\r\n\r\n")),
        (
            "retry-date",
            0,
            other("429 Slow", "Retry-After: Tue, 14 Nov 2023 22:20:00 GMT\r\nContent-Length: 0\r\n\r\n"),
        ),
        ("redirect", 0, other("302 Found", "Location: https://other.example/x?y#z\r\n\r\n")),
        ("redirect-relative", 0, other("308 Moved", "Location: ../c\r\n\r\n")),
        ("redirect-insecure", 128, other("307 Moved", "Location: ws://example.com/\r\n\r\n")),
        ("redirect-nowhere", 0, other("301 Moved", "Content-Length: 0\r\n\r\n")),
        ("folded", 0, other("200 OK", "A: b\r\n c\r\n\r\n")),
        ("version", 0, "HTTP/2.0 200 OK\r\n\r\n".to_owned()),
        ("tls", 0, "\u{15}\u{3}\u{1}\u{0}\u{2}\u{2}(".to_owned()),
        ("ssh", 0, "SSH-2.0-OpenSSH_9.6\r\n".to_owned()),
        ("headers-many", 16, other("200 OK", &"A: b\r\n".repeat(5))),
        ("head-large", 1, other("200 OK", &format!("A: {}\r\n\r\n", "b".repeat(400)))),
    ];
    // The widest limits, unless a seed is about them.
    let limits = |flags: u8| if flags & 3 == 0 { flags | 0x0f } else { flags };
    seeds
        .into_iter()
        .map(|(name, flags, text)| {
            (name.to_owned(), [&[limits(flags), 3, 0, 30, 5], text.as_bytes()].concat())
        })
        .collect()
}

fn deflated() -> Seeds {
    let long = b"{\"channel\":\"book\",\"price\":1}".repeat(60);
    let messages: [&[u8]; 3] = [b"hello hello hello", &long, b"hello again"];
    let list = |messages: &[&[u8]]| -> Vec<u8> {
        messages
            .iter()
            .flat_map(|message| [&(message.len() as u16).to_be_bytes(), *message].concat())
            .collect()
    };
    let payloads = deflate(&messages);
    let payloads: Vec<&[u8]> = payloads.iter().map(|payload| &**payload).collect();
    let stored: &[u8] = b"\x00\x03\x00\xfc\xffabc\x00";
    let last: &[u8] = b"\xf3\x48\xcd\xc9\xc9\x07\x00";
    // A mode, window bits, the limit, cuts.
    let mut seeds: Seeds = vec![
        ("inflate".into(), [&[0, 7, 0xff, 0xff, 2, 0, 8][..], &list(&payloads)].concat()),
        ("inflate-limited".into(), [&[0, 7, 0, 100, 1, 3][..], &list(&payloads)].concat()),
        ("inflate-alone".into(), [&[2, 7, 0xff, 0xff, 1, 0][..], &list(&payloads[..1])].concat()),
        ("inflate-stored".into(), [&[0, 0, 0, 50, 1, 1][..], &list(&[stored, stored])].concat()),
        ("inflate-final".into(), [&[0, 0, 0, 50, 1, 0][..], &list(&[last, b"", last])].concat()),
        ("inflate-truncated".into(), [&[0, 7, 0xff, 0xff, 1, 4][..], &list(&[&payloads[1][..20]])].concat()),
        ("inflate-corrupt".into(), [&[0, 7, 0xff, 0xff, 1, 4][..], &list(&[b"\xff\xff\xff"])].concat()),
    ];
    for level in 0..10 {
        let mode = 1 | (level << 3) | if level % 3 == 1 { 2 } else { 0 } | if level % 4 == 2 { 4 } else { 0 };
        let bytes = [&[mode, 7 | (level << 3), 0, 0, 2, 20, 250][..], &list(&messages)].concat();
        seeds.push((format!("round-trip-{level}"), bytes));
    }
    seeds
}

/// Operations as `World::step` numbers them.
fn sessions() -> Seeds {
    const WELL: [u8; 2] = [0, 0];
    let seeds: Vec<(&str, u8, u8, Vec<[u8; 2]>)> = vec![
        ("online", 0, 0, vec![WELL, [20, 4], [6, 0], [8, 0x55], [13, 0]]),
        (
            "json",
            32,
            0,
            vec![[24, 0], [24, 1], [24, 2], WELL, [22, 0], [6, 0], [8, 15], [13, 0], [8, 0x44], [13, 0]],
        ),
        (
            "json-restore",
            32,
            3,
            vec![[24, 0], [24, 1], WELL, [2, 0], [16, 0], [16, 0], WELL, [8, 4], [13, 0]],
        ),
        (
            "json-rejected",
            32,
            3,
            vec![WELL, [24, 0], [24, 1], [6, 0], [8, 1], [8, 1], [13, 0], [25, 0], [25, 1]],
        ),
        ("held", 32, 0, vec![[22, 4], [22, 8], WELL, [22, 4], [2, 8], [16, 0], WELL, [6, 0]]),
        ("timeout", 32, 0, vec![WELL, [22, 2], [6, 0], [16, 0], [17, 0], [22, 1], [16, 0]]),
        ("cancel", 32, 0, vec![WELL, [22, 0], [23, 0], [22, 4], [23, 1], [23, 1]]),
        ("resolve", 2, 0, vec![[3, 3], [2, 0], [2, 0], [1, 0], [6, 0], [7, 0], [13, 0]]),
        ("resolve-fails", 2, 0, vec![[3, 16], [16, 0], [3, 0], [16, 0], [3, 1], [16, 0], [16, 0]]),
        ("provided", 1, 0, vec![[4, 0], [1, 0], [5, 20], [5, 255], [6, 0], [7, 3], [12, 9], [13, 0]]),
        ("provided-fails", 1, 0, vec![[4, 12], [16, 0], [4, 8], [16, 0], [4, 2]]),
        (
            "redirect",
            0,
            0,
            vec![
                [1, 0],
                [6, 0],
                [7, 9],
                [13, 0],
                [1, 0],
                [6, 0],
                [7, 10],
                [13, 0],
                [3, 1],
                [1, 0],
                [6, 0],
                [7, 12],
                [13, 0],
            ],
        ),
        ("redirect-secure", 0, 0, vec![[1, 0], [6, 0], [7, 11], [13, 0], [1, 0], [16, 0]]),
        (
            "refused",
            0,
            0,
            vec![[1, 0], [6, 0], [7, 6], [13, 0], [16, 0], [1, 0], [6, 0], [7, 7], [13, 0], [16, 0]],
        ),
        (
            "not-found",
            64,
            0,
            vec![[1, 0], [6, 0], [7, 14], [13, 0], [2, 8], [16, 0], [2, 0], [16, 0], [2, 0]],
        ),
        ("pings", 0, 0, vec![WELL, [16, 0], [6, 0], [8, 8], [13, 0], [16, 0], [16, 0], [16, 0]]),
        ("pinged", 8, 0, vec![WELL, [8, 0xfe], [13, 0], [13, 0], [13, 0], [13, 0], [2, 8], [16, 0]]),
        ("closed-by-peer", 0, 0, vec![WELL, [20, 9], [8, 0x6a], [13, 0], [6, 0], [16, 0]]),
        (
            "closed-by-user",
            0,
            0,
            vec![WELL, [20, 255], [20, 255], [27, 255], [6, 0], [8, 0x6a], [13, 0], [2, 8]],
        ),
        ("closed-silently", 0, 0, vec![WELL, [15, 7], [15, 7], [27, 255], [16, 0], [16, 0]]),
        ("aborted", 0, 128, vec![WELL, [20, 255], [28, 255]]),
        ("reconnect", 32, 0, vec![WELL, [24, 0], [26, 0], [6, 0], WELL, [26, 0], WELL]),
        (
            "busy",
            0,
            0,
            vec![WELL, [18, 1], [8, 0x55], [8, 0xc5], [13, 0], [20, 3], [6, 0], [31, 0], [2, 0], [18, 0]],
        ),
        (
            "leases",
            32,
            0,
            vec![
                [18, 2],
                WELL,
                [19, 0],
                [8, 0x55],
                [13, 0],
                [19, 0],
                [8, 11],
                [13, 0],
                [27, 255],
                [19, 0],
                [16, 0],
                [19, 0],
            ],
        ),
        ("chunks", 4, 0, vec![WELL, [8, 12], [12, 200], [13, 0], [8, 0xfc], [13, 0]]),
        ("deflate", 16, 0, vec![[1, 0], [6, 0], [7, 3], [13, 0], [20, 40], [6, 0], [8, 12], [13, 0]]),
        ("twice", 128 | 32, 0, vec![[24, 0], WELL, [22, 0], [6, 0], [8, 15], [13, 0], [2, 0], [16, 0], WELL]),
        (
            "late",
            0,
            0,
            vec![
                [15, 7],
                [16, 0],
                [1, 1],
                [2, 1],
                [29, 4],
                [29, 0],
                [29, 1],
                [29, 5],
                [30, 0],
                WELL,
                [14, 1],
            ],
        ),
        ("cut", 0, 0, vec![WELL, [20, 100], [20, 200], [5, 200], [5, 250], [2, 0], [16, 0], WELL]),
    ];
    let plain = seeds
        .into_iter()
        .map(|(name, flags, more, ops)| (name.to_owned(), [&[flags, more], &*ops.concat()].concat()));
    plain.chain(extended_sessions()).chain(manners()).collect()
}

/// With the further bytes of `Setup::new`: limits, speech, watches, pace, ends.
fn extended_sessions() -> Seeds {
    const WELL: [u8; 2] = [0, 0];
    const GOOD: [u8; 2] = [45, 0];
    let busy = [[24, 0], [35, 1], [20, 2], [34, 4], [21, 4], [32, 0x68], [33, 0x44], [6, 0], GOOD].concat();
    let numbers =
        [[35, 0], [35, 1], GOOD, [39, 10], [39, 10], [39, 0x2b], [39, 12], [39, 0x1d], [13, 0]].concat();
    let asked =
        [[39, 3], [39, 0x13], [39, 4], [39, 5], [39, 15], [13, 0], [36, 2], [36, 0x22], GOOD].concat();
    let outcomes = [[39, 7], [39, 0x18], [39, 9], [39, 0x19], [13, 0], GOOD, [16, 0], [16, 0], GOOD].concat();
    let quiet = [16, 0].repeat(12);
    let again = [[2, 0], [16, 0], WELL, GOOD].concat();
    let mut seeds = Seeds::new();
    for kind in 0..8u8 {
        let limits = kind | kind << 5;
        let speech = [0, 1, 0x1f, 0x0e, 0x41, 0x91, 0x11, 0xff][usize::from(kind)];
        let watches = [0x40, 0x83, 0xc2, 0x11, 0x34, 0x08, 0x23, 0x80][usize::from(kind)];
        let pace = [0, 0x55, 0xaa, 0x1b, 0x6e, 0x80, 0x25, 0x43][usize::from(kind)];
        for (at, ops) in [&busy, &numbers, &asked, &outcomes].into_iter().enumerate() {
            let head = [32 | kind & 2, 64 | at as u8, limits, speech, watches, pace, kind & 1];
            let bytes = [&head[..], &WELL, &GOOD, ops, &quiet, &again, ops, &[39, 0x16], &[13, 0]].concat();
            seeds.push((format!("extended-{kind}-{at}"), bytes));
        }
    }
    seeds
}

/// With the bytes of `Manner::new` as well: proxies, own transports, greetings, endpoints that expire, farewells, every way to close.
fn manners() -> Seeds {
    const WELL: [u8; 2] = [0, 0];
    const GOOD: [u8; 2] = [45, 0];
    let quiet = [[15, 0xfe], [16, 0], WELL].concat().repeat(4);
    let mut seeds = Seeds::new();
    for n in 0..24u8 {
        let pick = |of: [u8; 4], by: u8| of[usize::from(n / by % 4)];
        // Provided, a URL with an address, one with a name.
        let flags = 32 | [1, 0, 2][usize::from(n % 3)];
        let limits = pick([0, 0, 0x25, 3], 1);
        let speech = pick([1, 0x11, 0x10, 0x81], 2);
        let ends = pick([8, 8 | 2, 8 | 6, 8 | 6 | 16], 6);
        let way = n % 4 | pick([3, 1, 0, 2], 1) << 3 | pick([0, 1, 2, 3], 3) << 5 | (n & 8) << 4;
        let words = [0x1f, 0x0b, 0x14, 0x01, 0x1a][usize::from(n % 5)];
        let leave = n % 3 | (n % 8) << 2 | 32 | 64;
        let head = [flags, 64, limits, speech, 0, 0, ends, way, words, leave];
        let busy = [[24, 0], [24, 1], [20, 2], [21, 4], [34, 1]].concat();
        let refused = [[2, 0], [16, 0], [3, 5], [1, 0], [6, 0], [7, 3 + n % 8], [13, 0], [16, 0]].concat();
        // The server's first word, and the user's last.
        let word = [[6, 0], [43, 0x1f], [13, 0]].concat();
        let last = [[27, 0xe0 + n], [6, 0], [16, 0]].concat();
        let bytes = [&head[..], &WELL, &word, &GOOD, &busy, &GOOD, &quiet, &refused, &GOOD, &busy].concat();
        seeds.push((format!("manner-{n}-open"), [&bytes[..], &quiet].concat()));
        seeds.push((format!("manner-{n}-closed"), [bytes, last].concat()));
    }
    seeds
}
