//! By way of real proxies. They are started by `tests/proxies/run`, which tells where they are by environment variables.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_testing::{Message, MockServer};
use everwire_tests::{SOON, closed, config, lost, message, next, noise, online, trusting};
use everwire_tokio::transport::proxy::ProxyFault;
use everwire_tokio::transport::tls::TlsConfig;
use everwire_tokio::{Category, CloseCode, Config, Error, OwnedEvent, Proxy, ProxyError, connect};
use std::net::TcpListener;

/// The URL in a variable, with credentials if the proxy wants them.
fn proxy(variable: &str) -> Proxy {
    secured(&var(variable))
}

fn secured(url: &str) -> Proxy {
    let ca = std::fs::read(var("EVERWIRE_PROXY_CA")).unwrap();
    Proxy::new(url).unwrap().tls(TlsConfig::with_ca_pem(&ca).unwrap())
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run tests/proxies/run"))
}

/// The name of the server is one that the proxy must resolve.
fn config_by(server: &MockServer, proxy: Proxy) -> Config {
    let config = config(&server.url().replace("127.0.0.1", "localhost")).proxy(proxy);
    if server.ca_pem().is_empty() { config } else { config.tls(trusting(server)) }
}

fn echo(secure: bool) -> MockServer {
    let builder = MockServer::builder().handler(|conn, message| conn.send(message));
    if secure { builder.tls().start() } else { builder.start() }
}

/// Messages both ways, a kill by the server, and the same again.
async fn works(variable: &str, secure: bool) {
    let server = echo(secure);
    let (client, mut events) = connect(config_by(&server, proxy(variable))).unwrap();
    let large = noise(1, 1 << 20);
    for round in 0..2 {
        assert_eq!(online(&mut events).await.as_u64(), round + 1);
        client.send("small").unwrap();
        assert_eq!(message(&mut events).await, Message::text("small"));
        client.send(&large[..]).unwrap();
        assert!(message(&mut events).await.into_data() == large, "the echo differs");
        if round == 0 {
            server.wait_connection(0, SOON).unwrap().kill();
            lost(&mut events).await;
        }
    }
    client.close(CloseCode::Normal, "done");
    assert_eq!(closed(&mut events).await, None);
    assert_eq!(server.connections(), 2);
    let end = server.wait_connection(1, SOON).unwrap().wait_end(SOON).unwrap();
    assert!(format!("{end:?}").contains("done"), "{end:?}");
}

/// What is said when the first attempt fails, and whether there is another.
async fn failure(proxy: Proxy, url: &str) -> (Error, bool) {
    let (_client, mut events) = connect(config(url).proxy(proxy)).unwrap();
    let OwnedEvent::AttemptFailed { error, retry_at, .. } = next(&mut events).await else {
        panic!("it did not fail");
    };
    (error, retry_at.is_some())
}

/// Wrong credentials, and none: the session ends, and says why.
async fn refuses(variable: &str) {
    let server = echo(false);
    let url = var(variable);
    let (scheme, rest) = url.split_once("://").unwrap();
    let address = rest.split_once('@').unwrap().1;
    for user_info in ["", "alice:wrong@", "mallory:sesame@"] {
        let proxy = secured(&format!("{scheme}://{user_info}{address}"));
        let (error, again) = failure(proxy, &server.url()).await;
        assert!(!again && error.category() == Category::Authentication, "{user_info:?}: {error}");
        let text = error.explain().to_string();
        assert!(text.contains(address) && text.contains("credentials"), "{text}");
        assert!(!text.contains("wrong") || text.contains("missing, wrong"), "{text}");
        assert!(!format!("{error:?}").contains("mallory"), "{error:?}");
    }
    assert_eq!(server.attempts(), 0, "nothing came through");
}

/// A server that is not there: the proxy says so.
async fn tells(variable: &str) -> ProxyFault {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    match failure(proxy(variable), &format!("ws://{nobody}/")).await {
        (Error::Proxy(ProxyError { fault, .. }), true) => fault,
        other => panic!("{other:?}"),
    }
}

macro_rules! matrix {
    ($($ws:ident $wss:ident $variable:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs the proxies of tests/proxies/run"]
            async fn $ws() {
                works($variable, false).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs the proxies of tests/proxies/run"]
            async fn $wss() {
                works($variable, true).await;
            }
        )*
    };
}

matrix! {
    ws_by_http wss_by_http "EVERWIRE_PROXY_HTTP";
    ws_by_http_with_password wss_by_http_with_password "EVERWIRE_PROXY_HTTP_AUTH";
    ws_by_https wss_by_https "EVERWIRE_PROXY_HTTPS";
    ws_by_https_with_password wss_by_https_with_password "EVERWIRE_PROXY_HTTPS_AUTH";
    ws_by_socks5 wss_by_socks5 "EVERWIRE_PROXY_SOCKS5";
    ws_by_socks5_with_password wss_by_socks5_with_password "EVERWIRE_PROXY_SOCKS5_AUTH";
    ws_by_another_socks5 wss_by_another_socks5 "EVERWIRE_PROXY_DANTE";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the proxies of tests/proxies/run"]
async fn wrong_passwords_are_refused() {
    for variable in ["EVERWIRE_PROXY_HTTP_AUTH", "EVERWIRE_PROXY_HTTPS_AUTH", "EVERWIRE_PROXY_SOCKS5_AUTH"] {
        refuses(variable).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the proxies of tests/proxies/run"]
async fn a_server_that_is_not_there_is_told() {
    for variable in ["EVERWIRE_PROXY_HTTP", "EVERWIRE_PROXY_HTTPS"] {
        let fault = tells(variable).await;
        assert!(matches!(&fault, ProxyFault::Refused(refused) if refused.status >= 500), "{fault}");
    }
    for variable in ["EVERWIRE_PROXY_SOCKS5", "EVERWIRE_PROXY_DANTE"] {
        // RFC 1928: 5 is refused; some say 1, a general failure.
        let fault = tells(variable).await;
        assert!(matches!(fault, ProxyFault::Reply(1 | 5)), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the proxies of tests/proxies/run"]
async fn the_wrong_kind_of_proxy_is_told() {
    let server = echo(false);
    let address = |variable: &str| var(variable).split_once("://").unwrap().1.to_owned();
    for (scheme, variable) in [
        ("http", "EVERWIRE_PROXY_SOCKS5"),
        ("http", "EVERWIRE_PROXY_HTTPS"),
        ("socks5", "EVERWIRE_PROXY_HTTP"),
        ("socks5", "EVERWIRE_PROXY_HTTPS"),
        ("https", "EVERWIRE_PROXY_HTTP"),
        ("https", "EVERWIRE_PROXY_SOCKS5"),
    ] {
        let proxy = secured(&format!("{scheme}://{}", address(variable))).credentials("u", "p").unwrap();
        let config = config(&server.url()).handshake_timeout(std::time::Duration::from_secs(3)).proxy(proxy);
        let (_client, mut events) = connect(config).unwrap();
        let OwnedEvent::AttemptFailed { error, .. } = next(&mut events).await else { panic!("{scheme}") };
        assert!(matches!(error, Error::Proxy(_)), "{scheme} to {variable}: {error}");
    }
    assert_eq!(server.attempts(), 0);
}
