//! Ranges, relations, and the way to data and back.

use super::serde::OPTIONS;
use super::validate::{RANGES, Unit};
use super::*;
use crate::ws::Headers;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

const URL: &str = "wss://example.com/ws";

fn config() -> Config {
    Config::new(URL).unwrap()
}

fn read(value: Value) -> Result<Config, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// The JSON of a config; two are the same if this is (a `Config` cannot be compared: its protocol cannot).
fn written(config: &Config) -> Value {
    serde_json::to_value(config).unwrap()
}

/// Sets a numeric option by the builder's methods, as a user does.
fn set(field: &str, number: u64) -> Config {
    let (time, size, count) = (Duration::from_nanos(number), number as usize, number as u32);
    let (c, day) = (config(), Duration::from_secs(86_400));
    let limits = Limits::default();
    let deflate = DeflateConfig::default();
    let (sockets, keepalive) = (SocketOptions::default(), Keepalive::default());
    match field {
        "connect_timeout" => c.connect_timeout(time),
        "keepalive.time" => c.sockets(sockets.keepalive(Keepalive { time, ..keepalive })),
        "keepalive.interval" => c.sockets(sockets.keepalive(Keepalive { interval: time, ..keepalive })),
        "keepalive.retries" => c.sockets(sockets.keepalive(Keepalive { retries: count, ..keepalive })),
        "sockets.send_buffer" => c.sockets(sockets.send_buffer(size)),
        "sockets.recv_buffer" => c.sockets(sockets.recv_buffer(size)),
        "race_delay" => c.race_delay(time),
        "handshake_timeout" => c.handshake_timeout(time),
        "request_timeout" => c.request_timeout(time),
        "write_timeout" => c.write_timeout(time),
        "close_timeout" => c.close_timeout(time),
        "ping_interval" => c.ping_interval(time),
        "pong_timeout" => c.pong_timeout(time),
        "heartbeat_interval" => c.heartbeat_interval(time),
        "heartbeat_timeout" => c.heartbeat_timeout(time),
        "max_attempts" => c.max_attempts(count),
        "max_redirects" => c.max_redirects(count),
        "backoff.initial" => c.backoff(time, time.max(day).min(MAX_TIME)),
        "backoff.max" => c.backoff(Duration::from_millis(1), time),
        "stable_after" => c.stable_after(time),
        "flap_budget.attempts" => c.flap_budget((count, day)),
        "flap_budget.span" => c.flap_budget((1, time)),
        "resubscribe_backoff.initial" => c.resubscribe_backoff(time, time.max(day).min(MAX_TIME)),
        "resubscribe_backoff.max" => c.resubscribe_backoff(Duration::from_millis(1), time),
        "recv_buffer" => c.recv_buffer(size),
        "send_buffer" => c.send_buffer(size),
        "fragment_size" => c.fragment_size(size),
        "limits.max_frame" => c.limits(Limits { max_frame: size, ..limits }),
        "limits.max_message" => c.limits(Limits { max_message: size, ..limits }),
        "limits.max_fragments" => c.limits(Limits { max_fragments: count, ..limits }),
        "limits.chunk" => c.limits(Limits { chunk: Some(size), ..limits }),
        "handshake_limits.max_head" => c.handshake_limits(size, 100),
        "handshake_limits.max_headers" => c.handshake_limits(16 << 10, size),
        "deflate.server_max_window_bits" => {
            c.deflate(DeflateConfig { server_max_window_bits: number as u8, ..deflate })
        }
        "deflate.client_max_window_bits" => {
            c.deflate(DeflateConfig { client_max_window_bits: number as u8, ..deflate })
        }
        "deflate.level" => c.deflate(DeflateConfig { level: number as u8, ..deflate }),
        "deflate.threshold" => c.deflate(DeflateConfig { threshold: size, ..deflate }),
        "max_requests" => c.max_requests(size),
        "queue.messages" => c.queue(size, 1 << 20),
        "queue.bytes" => c.queue(1024, size),
        "queue_timeout" => c.queue_timeout(time),
        "latency_buffer" => c.latency_buffer(size),
        "event_buffer" => c.event_buffer(size),
        other => panic!("a numeric option without a row here: {other}"),
    }
}

#[test]
fn every_number_has_a_range_and_an_error_that_names_it() {
    config().validate().unwrap();
    Config::provided().validate().unwrap();
    for range in RANGES {
        let field = range.field;
        for number in [range.min, range.max] {
            assert_eq!(set(field, number).validate(), Ok(()), "{field} at {number}");
        }
        let outside = [range.min.checked_sub(1), Some(range.max + 1)];
        for number in outside.into_iter().flatten() {
            let error = set(field, number).validate().unwrap_err();
            let ConfigError::Range { field: named, value, allowed } = &error else { panic!("{error:?}") };
            assert_eq!((*named, allowed), (field, &range.allowed()));
            // What the error shows is what was set, in a form that can be read.
            let shown = match range.unit {
                Unit::Nanoseconds => units::parse_time(value).map(|time| time.as_nanos() as u64),
                Unit::Bytes => units::parse_size(value),
                Unit::One => value.parse().ok(),
            };
            assert_eq!(shown, Some(number), "{error}");
            assert_eq!(error.to_string(), format!("{field} is {value}: it may be {allowed}"));
        }
    }
    let text = |field, number| set(field, number).validate().unwrap_err().to_string();
    assert_eq!(text("recv_buffer", 4095), "recv_buffer is 4095B: it may be 4KiB to 1GiB");
    assert_eq!(text("write_timeout", 0), "write_timeout is 0s: it may be 1ms to 365d, or None");
    assert_eq!(
        text("flap_budget.span", 86_401_000_000_000),
        "flap_budget.span is 86401s: it may be 1s to 1d"
    );
    assert_eq!(text("max_attempts", 0), "max_attempts is 0: it may be 1 to 1000000, or None");
    let error = config().pong_timeout(Duration::MAX).validate().unwrap_err();
    assert_eq!(error.to_string(), "pong_timeout is more than 584 years: it may be 1ms to 365d");
}

#[test]
fn every_number_is_written_and_read_as_what_it_is() {
    for range in RANGES {
        for number in [range.min, range.max] {
            let one = set(range.field, number);
            // Written under the wrong name, or read into the wrong field, it would be lost.
            let back = read(written(&one)).unwrap();
            assert_eq!((range.read)(&back), Some(number), "{}", range.field);
            assert_eq!(format!("{back:?}"), format!("{one:?}"));
        }
        let pointer = format!("/{}", range.field.replace('.', "/"));
        let (low, high) = (written(&set(range.field, range.min)), written(&set(range.field, range.max)));
        assert_ne!(low.pointer(&pointer).unwrap(), high.pointer(&pointer).unwrap(), "{pointer}");
    }
}

#[test]
fn what_may_be_off_may_be_off() {
    let config = config()
        .write_timeout(None)
        .ping_interval(None)
        .heartbeat_interval(None)
        .race_delay(None)
        .sockets(SocketOptions::default().keepalive(None).send_buffer(None).recv_buffer(None))
        .max_attempts(None)
        .flap_budget(None)
        .deflate(None)
        .limits(Limits { chunk: None, ..Limits::default() });
    config.validate().unwrap();
    let off = written(&config);
    for range in RANGES.iter().filter(|range| range.off) {
        let pointer = format!("/{}", range.field.replace('.', "/"));
        assert_eq!(off.pointer(&pointer), Some(&Value::Null), "{pointer}");
    }
    for group in ["flap_budget", "deflate", "keepalive"] {
        assert_eq!(off[group], Value::Null, "{group}");
    }
}

#[test]
fn the_way_is_written_and_read() {
    let sockets = SocketOptions::default()
        .nodelay(false)
        .local_address([192, 0, 2, 1])
        .local_address([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])
        .interface("eth0.7")
        .keepalive(Keepalive::default());
    for transport in [Transport::Tcp, Transport::Connector, Transport::SecuredConnector] {
        let config = config().transport(transport).sockets(sockets.clone());
        config.validate().unwrap();
        let json = written(&config);
        assert_eq!(json["sockets"]["local_addresses"], json!(["192.0.2.1", "2001:db8::1"]));
        let back = read(json).unwrap();
        assert_eq!((back.transport, &back.sockets), (transport, &sockets));
        // A profile is about other things.
        let profile = back.financial();
        assert_eq!((profile.transport, &profile.sockets), (transport, &sockets));
    }
    // Without a word of `keepalive` there is none; with `{}` it has its defaults.
    assert_eq!(read(json!({ "sockets": { "nodelay": false } })).unwrap().sockets.keepalive, None);
    let on = read(json!({ "keepalive": {} })).unwrap().sockets.keepalive;
    assert_eq!(on, Some(Keepalive::default()));
    let one = read(json!({ "sockets": { "local_addresses": ["::1"] } })).unwrap().sockets;
    assert_eq!((one.local_v4, one.local_v6), (None, Some(std::net::Ipv6Addr::LOCALHOST)));

    let addresses = "it may be a list of IP addresses, at most one of each family";
    let rows = [
        (
            json!({ "transport": "udp" }),
            r#"transport is "udp": it may be "tcp", "connector" or "secured_connector""#,
        ),
        (json!({ "transport": null }), "it may be \"tcp\""),
        (json!({ "sockets": { "local_addresses": ["::1", "::2"] } }), addresses),
        (json!({ "sockets": { "local_addresses": ["localhost"] } }), addresses),
        (json!({ "sockets": { "local_addresses": "::1" } }), addresses),
        (json!({ "sockets": { "interface": 1 } }), "sockets.interface"),
        (json!({ "keepalive": 1 }), "keepalive is 1: it may be an object, or null"),
        (json!({ "keepalive": { "time": "500ms" } }), "keepalive.time is 500ms: it may be 1s to 32767s"),
        (json!({ "sockets": { "keepalive": {} } }), "sockets.keepalive"),
    ];
    for (json, text) in rows {
        let error = read(json).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn the_name_of_an_interface_is_one() {
    let with = |name: &str| config().sockets(SocketOptions::default().interface(name)).validate();
    for name in ["lo", "eth0", "wg-home_1", "enp0s31f6.4000", "123456789012345", "\u{e9}th0"] {
        assert_eq!(with(name), Ok(()), "{name}");
    }
    for name in ["", ".", "..", "a b", "a/b", "a:1", "a\0", "a\n", "1234567890123456"] {
        let error = with(name).unwrap_err().to_string();
        assert!(error.starts_with("sockets.interface is \""), "{error}");
    }
    let error = with("a/b").unwrap_err().to_string();
    assert_eq!(
        error,
        "sockets.interface is \"a/b\": it may be the name of a network interface, 1 to 15 bytes, as in \"eth0\""
    );
}

#[test]
fn the_ranges_of_deflate_are_its_own() {
    for range in RANGES.iter().filter(|range| range.field.starts_with("deflate.")) {
        for number in range.min.saturating_sub(1)..=range.max.min(100) + 1 {
            let config = set(range.field, number);
            let own = config.handshake.deflate.as_ref().unwrap().validate();
            assert_eq!(config.validate().is_ok(), own.is_ok(), "{} at {number}", range.field);
        }
    }
}

#[test]
fn options_that_are_at_odds() {
    let (short, long) = (Duration::from_millis(100), Duration::from_millis(500));
    let rows = [
        (config().backoff(long, short), "backoff.max is 100ms: it may be 500ms (backoff.initial) to 365d"),
        (
            config().resubscribe_backoff(long, short),
            "resubscribe_backoff.max is 100ms: it may be 500ms (resubscribe_backoff.initial) to 365d",
        ),
        (
            Config::provided().endpoints([URL]).unwrap(),
            "endpoints is 1 URLs: it may be set only beside a url: without one, a provider names each endpoint",
        ),
    ];
    for (config, text) in rows {
        assert_eq!(config.validate().unwrap_err().to_string(), text);
    }
    config().backoff(long, long).resubscribe_backoff(long, long).validate().unwrap();
}

#[test]
fn endpoints_are_kept_in_order_and_a_bad_one_is_named() {
    let config = config().endpoints(["ws://old"]).unwrap().endpoints(["ws://b", "wss://c:1/x"]).unwrap();
    let hosts: Vec<_> = config.fallbacks.iter().map(|endpoint| endpoint.target().host()).collect();
    assert_eq!(hosts, ["b", "c"]);

    let error = config.clone().endpoints(["ws://b", "http://c", "nonsense"]).unwrap_err();
    assert!(matches!(error, ConfigError::Endpoint { index: 1, .. }), "{error:?}");
    assert!(error.to_string().starts_with("endpoints[1]: "), "{error}");

    config.clone().endpoints(vec![URL; 256]).unwrap();
    let error = config.clone().endpoints(std::iter::repeat(URL)).unwrap_err();
    assert_eq!(error.to_string(), "endpoints is 257 URLs or more: it may be 0 to 256 URLs");
}

#[test]
fn any_config_is_read_back_as_it_was_written() {
    for seed in 0..100 {
        let mut rng = ChaCha8Rng::from_seed([seed as u8; 32]);
        rng.set_stream(seed);
        let config = random(&mut rng);
        config.validate().unwrap();
        let text = serde_json::to_string_pretty(&config).unwrap();
        let back: Config = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        assert_eq!(written(&back), written(&config), "{text}");
        // Debug shows every field, so that one that is written and read by the wrong option is seen.
        assert_eq!(format!("{back:?}"), format!("{config:?}"));
    }
}

/// With every option drawn, from the low end of its range, the high one, and between.
fn random(rng: &mut ChaCha8Rng) -> Config {
    let mut config =
        [Config::new("ws://example.com/a%20b"), Config::new("wss://[::1]:8443/"), Ok(Config::provided())]
            [rng.next_u32() as usize % 3]
            .clone()
            .unwrap();
    if config.endpoint.is_some() {
        config = config.endpoints((0..rng.next_u32() % 4).map(|n| format!("wss://h{n}/ws"))).unwrap();
    }
    for n in 0..rng.next_u32() % 3 {
        config = config.header("X-Client", &format!("recorder \"{n}\"")).unwrap();
    }
    config = config.subprotocols((0..rng.next_u32() % 3).map(|n| format!("v{n}.json"))).unwrap();
    for range in RANGES {
        let number = match rng.next_u32() % 4 {
            0 => range.min,
            1 => range.max,
            _ => range.min + rng.next_u64() % (range.max - range.min),
        };
        if range.off && rng.next_u32().is_multiple_of(2) {
            continue;
        }
        let one = set(range.field, number);
        // Of a config in which only this option is set, only this option is taken.
        let entry = OPTIONS.iter().find(|option| option.name == range.field).unwrap();
        let mut value = written(&config);
        match entry.name.split_once('.') {
            Some((group, part)) if value[group].is_object() => value[group][part] = (entry.write)(&one),
            Some((group, part)) => value[group] = json!({ part: (entry.write)(&one) }),
            None => value[entry.name] = (entry.write)(&one),
        }
        if range.field.ends_with(".initial") {
            value[range.field.split_once('.').unwrap().0]["max"] = json!("365d");
        }
        if range.field.ends_with("backoff.max") {
            value[range.field.split_once('.').unwrap().0]["initial"] = json!("1ms");
        }
        for flag in ["restore", "reconnect"] {
            value[flag] = json!(rng.next_u32().is_multiple_of(2));
        }
        if value["deflate"].is_object() {
            value["deflate"]["client_no_context_takeover"] = json!(rng.next_u32().is_multiple_of(2));
        }
        config = read(value).unwrap();
    }
    config
}

#[test]
fn times_and_sizes_have_several_forms() {
    let config = read(json!({
        "connect_timeout": 3,
        "request_timeout": 0.25,
        "close_timeout": "1.5s",
        "ping_interval": "off",
        "write_timeout": null,
        "stable_after": "5m",
        "send_buffer": 5000,
        "recv_buffer": "16KiB",
        "fragment_size": "2048",
        "deflate": { "level": 6 },
        "flap_budget": { "attempts": 3 },
    }))
    .unwrap();
    assert_eq!(config.connect_timeout, Duration::from_secs(3));
    assert_eq!(config.request_timeout, Duration::from_millis(250));
    assert_eq!(config.close_timeout, Duration::from_millis(1500));
    assert_eq!((config.ping_interval, config.write_timeout), (None, None));
    assert_eq!(config.stable_after, Duration::from_secs(300));
    assert_eq!((config.send_buffer, config.recv_buffer, config.fragment), (5000, 16 << 10, 2048));
    assert_eq!(config.handshake.deflate, Some(DeflateConfig { level: 6, ..DeflateConfig::default() }));
    assert_eq!(config.flap_budget, Some((3, Duration::from_secs(600))));
    let config = read(json!({ "deflate": {}, "flap_budget": "off" })).unwrap();
    assert_eq!((config.handshake.deflate, config.flap_budget), (Some(DeflateConfig::default()), None));
    assert_eq!(written(&read(json!({})).unwrap()), written(&Config::provided()));
}

#[test]
fn what_is_wrong_in_data_is_named() {
    let time = r#"it may be a time as in "500ms", "10s", "5m", "1h", or a number of seconds, 1ms to 365d"#;
    let size = r#"it may be a size as in "16KiB", "4MiB", or a number of bytes, 4KiB to 1GiB"#;
    #[rustfmt::skip]
    let rows = [
        (json!({ "connect_timeout": "10 parsecs" }), format!("connect_timeout is \"10 parsecs\": {time}")),
        (json!({ "connect_timeout": "10" }), format!("connect_timeout is \"10\": {time}")),
        (json!({ "connect_timeout": -1 }), format!("connect_timeout is -1: {time}")),
        (json!({ "connect_timeout": -0.5 }), format!("connect_timeout is -0.5: {time}")),
        (json!({ "connect_timeout": 1e300 }), format!("connect_timeout is 1e+300: {time}")),
        (json!({ "connect_timeout": null }), format!("connect_timeout is null: {time}")),
        (json!({ "connect_timeout": [] }), format!("connect_timeout is a list: {time}")),
        (json!({ "connect_timeout": {} }), format!("connect_timeout is an object: {time}")),
        (json!({ "connect_timeout": u64::MAX }), "connect_timeout is more than 584 years: it may be 1ms to 365d".into()),
        (json!({ "ping_interval": true }), format!("ping_interval is true: {time}, or None")),
        (json!({ "recv_buffer": "16KB" }), format!("recv_buffer is \"16KB\": {size}")),
        (json!({ "recv_buffer": "1KiB" }), "recv_buffer is 1KiB: it may be 4KiB to 1GiB".into()),
        (json!({ "max_redirects": 1u64 << 40 }), "max_redirects is 1099511627776: it may be a whole number, 0 to 100".into()),
        (json!({ "deflate": { "level": 999 } }), "deflate.level is 999: it may be a whole number, 0 to 9".into()),
        (json!({ "deflate": true }), "deflate is true: it may be an object, or null".into()),
        (json!({ "flap_budget": 3 }), "flap_budget is 3: it may be an object, or null".into()),
        (json!({ "backoff": "1s" }), "backoff is a text: it may be an object of initial, max".into()),
        (json!({ "backoff": { "max": "1ms" } }), "backoff.max is 1ms: it may be 500ms (backoff.initial) to 365d".into()),
        (json!({ "restore": "yes" }), "restore is \"yes\": it may be true or false".into()),
        (json!({ "profile": "fast" }), "profile is \"fast\": it may be \"financial\", \"standard\", \"lightweight\" or \"chat\"".into()),
        (json!({ "url": 3 }), "url is a number: it may be a text".into()),
        (json!({ "url": "http://h" }), format!("url: {}", crate::ws::UrlError::Scheme("http".into()))),
        (json!({ "url": URL, "endpoints": ["ws://a", 5] }), "endpoints is a number: it may be a text".into()),
        (json!({ "url": URL, "endpoints": ["ws://a", "ws://"] }), format!("endpoints[1]: {}", crate::ws::UrlError::EmptyHost)),
        (json!({ "headers": { "a": "hunter2" } }), "headers is an object: it may be a list".into()),
        (json!({ "headers": ["Authorization: hunter2"] }), r#"headers is a list with something else in it: it may be a list of pairs, as in [["X-Client", "recorder"]]"#.into()),
        (json!({ "headers": [["Upgrade", "h2c"]] }), format!("handshake: {}", crate::ws::HeaderError::Reserved { name: "Upgrade".into() })),
        (json!({ "subprotocols": ["a", "a"] }), format!("handshake: {}", crate::ws::HeaderError::SubprotocolRepeated { index: 1 })),
    ];
    for (value, text) in rows {
        let error = read(value.clone()).unwrap_err();
        assert_eq!(error, text, "{value}");
    }
    for (value, name) in [
        (json!({ "conect_timeout": 1 }), "\"conect_timeout\""),
        (json!({ "backoff": { "maximum": 1 } }), "\"backoff.maximum\""),
        (json!({ "backoff.max": "60s" }), "\"backoff.max\""),
        (json!({ "protocol": "jsonrpc" }), "\"protocol\""),
        (json!({ "x".repeat(1000): 1 }), "xxx...\""),
    ] {
        let error = read(value).unwrap_err();
        assert!(error.contains(name) && error.len() < 2000, "{error}");
    }
    for (text, name) in [
        (r#"{ "restore": true, "restore": false }"#, "restore"),
        (r#"{ "backoff": { "max": "9s", "max": "8s" } }"#, "backoff.max"),
        (r#"{ "backoff": { "max": "9s" }, "backoff": { "max": "8s" } }"#, "backoff.max"),
        (r#"{ "profile": "chat", "profile": "financial" }"#, "profile"),
    ] {
        let twice = serde_json::from_str::<Config>(text).unwrap_err().to_string();
        assert!(twice.starts_with(&format!("{name} is given twice")), "{twice}");
    }
    assert!(serde_json::from_str::<Config>("[]").unwrap_err().to_string().contains("a map of options"));
}

#[test]
fn secrets_are_neither_written_nor_shown_nor_read_back() {
    let token = format!("token.{}", "hunter2".repeat(9));
    let secret = Config::new("wss://hunter2:hunter2@example.com/ws?token=hunter2")
        .unwrap()
        .endpoints(["wss://example.com/ws?hunter2", "wss://hunter2@example.com"])
        .unwrap()
        .subprotocols(["json", &token])
        .unwrap();
    let names = ["Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "X-Token", "Client-Secret"];
    let secret = names.iter().fold(secret, |config, name| config.header(name, "Bearer hunter2").unwrap());
    let secret = secret.header("X-Client", "recorder").unwrap();

    assert!(!format!("{secret:?} {secret:#?}").contains("hunter2"), "{secret:?}");
    let value = written(&secret);
    assert!(!value.to_string().contains("hunter2"), "{value}");
    assert_eq!(value["url"], "wss://***@example.com/ws?***");
    assert_eq!(value["endpoints"], json!(["wss://example.com/ws?***", "wss://***@example.com/"]));
    assert_eq!(value["subprotocols"], json!(["json", "***"]));
    assert_eq!(value["headers"][0], json!(["Authorization", "***"]));
    assert_eq!(value["headers"][names.len()], json!(["X-Client", "recorder"]));
    assert!(names.iter().all(|name| Headers::is_secret(name)));

    let why = "it may be the real one: *** stands for a secret, which is not written when a Config is";
    assert_eq!(read(value.clone()).unwrap_err(), format!("url is ***: {why}"));
    for field in ["url", "endpoints", "subprotocols", "headers"] {
        let alone = json!({ field: value[field] });
        let name = if field == "headers" { " (Authorization)" } else { "" };
        assert_eq!(read(alone).unwrap_err(), format!("{field} is ***{name}: {why}"));
    }
    // Errors about what is wrong in another way do not repeat it either.
    for value in [
        json!({ "url": "wss://hunter2:hunter2@ex ample.com" }),
        json!("wss://hunter2@h"),
        json!({ "url": ["wss://hunter2@h"] }),
        json!({ "endpoints": "wss://hunter2@h" }),
        json!({ "headers": [["Authorization", "hunter2\r\n"]] }),
        json!({ "headers": [["Authorization", "hunter2", "hunter2"]] }),
        json!({ "headers": "Authorization: hunter2" }),
        json!({ "subprotocols": "hunter2" }),
        json!({ "subprotocols": ["a b hunter2"] }),
    ] {
        let error = read(value.clone()).unwrap_err();
        assert!(!error.contains("hunter2"), "{error} for {value}");
    }
}

#[test]
fn a_profile_applies_first_and_keeps_where_and_what() {
    let config = read(json!({ "ping_interval": "3s", "url": URL, "profile": "financial" })).unwrap();
    assert_eq!(config.ping_interval, Some(Duration::from_secs(3)));
    assert_eq!(
        written(&config),
        written(&Config::new(URL).unwrap().financial().ping_interval(Duration::from_secs(3)))
    );

    let full = self::config()
        .endpoints(["ws://b"])
        .unwrap()
        .header("X-Client", "a")
        .unwrap()
        .subprotocols(["s"])
        .unwrap();
    let full = full.protocol(crate::JsonRpc::new());
    for profile in [Profile::Financial, Profile::Standard, Profile::Lightweight, Profile::Chat] {
        let config = full.clone().profile(profile);
        config.validate().unwrap();
        let (before, after) = (written(&full), written(&config));
        for name in ["url", "endpoints", "headers", "subprotocols"] {
            assert_eq!(before[name], after[name]);
        }
        assert!(Arc::ptr_eq(&full.protocol, &config.protocol));
        // Nothing of another profile, or of options set before, is left.
        let again = full.clone().chat().lightweight().no_reconnect().max_attempts(1).profile(profile);
        assert_eq!(written(&again), after);
        let name = serde_json::to_value(profile).unwrap();
        assert_eq!(
            written(&read(json!({ "profile": name })).unwrap()),
            written(&Config::provided().profile(profile))
        );
    }
    assert_eq!(written(&full.clone().standard()), written(&full));
}
