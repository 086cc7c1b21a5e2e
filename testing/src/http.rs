//! Ordinary HTTP on the server's port: token endpoints, REST calls that belong to a protocol.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Status};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::Bytes;
use tungstenite::http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::conn::story_path;
use crate::handshake::refusal;
use crate::pump::call_handler;
use crate::shared::Shared;

/// The longest head of a request that is read.
const HEAD_BYTES: usize = 64 << 10;
/// The most headers of a request.
const HEADERS: usize = 124;
/// The longest body of a request that is read.
const BODY_BYTES: usize = 16 << 20;

/// A whole HTTP request: method, target and headers as [`Request`] has them, and its body. Its `Debug` shows neither query nor values of
/// headers nor body: they may be secrets.
#[derive(Clone)]
pub struct HttpRequest {
    request: Request<Bytes>,
    base: Arc<str>,
}

impl HttpRequest {
    /// Where the server that is asked takes WebSocket connections: its [`url_of`](crate::MockServer::url_of) this path.
    /// For an answer that tells the client where to connect.
    pub fn url_of(&self, path: &str) -> String {
        join(&self.base, path)
    }

    /// The body as JSON; `None` if it is none.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.body()).ok()
    }
}

impl Deref for HttpRequest {
    type Target = Request<Bytes>;

    fn deref(&self) -> &Self::Target {
        &self.request
    }
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers().keys().map(HeaderName::as_str).collect();
        f.debug_struct("HttpRequest")
            .field("method", self.method())
            .field("path", &story_path(&self.request))
            .field("headers", &names)
            .field("body", &self.body().len())
            .finish_non_exhaustive()
    }
}

/// A URL of this server.
pub(crate) fn join(base: &str, path: &str) -> String {
    format!("{base}/{}", path.trim_start_matches('/'))
}

/// What a [`http`](crate::MockServerBuilder::http) handler answers.
///
/// ```
/// use everwire_testing::HttpResponse;
/// use serde_json::json;
/// use std::time::Duration;
///
/// let good = HttpResponse::json(&json!({"token": "t-1"}));
/// let busy = HttpResponse::new(429).header("Retry-After", "2").body("slow down").delay(Duration::from_millis(20));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HttpResponse {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
}

impl HttpResponse {
    /// A response without a body; any number is sent as its status.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), delay: Duration::ZERO }
    }

    /// A 200 with JSON.
    pub fn json(value: &Value) -> Self {
        Self::new(200).header("Content-Type", "application/json").body(value.to_string())
    }

    /// Adds a header, written as it is. `Content-Length` and `Connection: close` come by themselves.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it only after this time; `Duration::MAX` is never.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        refusal(self.status, &headers, &self.body)
    }
}

// A token is what is asked for most.
impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("headers", &names)
            .field("body", &self.body.len())
            .field("delay", &self.delay)
            .finish()
    }
}

pub(crate) type HttpHandler = Box<dyn FnMut(&HttpRequest) -> HttpResponse + Send>;

/// Which handler answers what.
#[derive(Default)]
pub(crate) struct Routes {
    routes: Vec<Route>,
}

struct Route {
    method: String,
    path: String,
    handler: HttpHandler,
}

impl Routes {
    pub(crate) fn add(&mut self, method: String, path: String, handler: HttpHandler) {
        // Later ones go first, as a later header or handler would replace an earlier one.
        self.routes.insert(0, Route { method, path, handler });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    pub(crate) fn answer(&mut self, request: &HttpRequest) -> HttpResponse {
        let at_path = |route: &&mut Route| route.path == "*" || route.path == request.uri().path();
        let mut fitting = self.routes.iter_mut().filter(at_path).peekable();
        if fitting.peek().is_none() {
            return HttpResponse::new(404).body("the mock server has no handler for this path");
        }
        match fitting.find(|route| route.method == "*" || route.method == request.method().as_str()) {
            Some(route) => (route.handler)(request),
            None => {
                HttpResponse::new(405).body("the mock server has no handler for this method at this path")
            }
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.routes.iter().map(|route| format!("{} {}", route.method, route.path)))
            .finish()
    }
}

/// A request that is no upgrade: reads its body, answers it. An error says why there was no answer.
pub(crate) async fn serve(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    head: Request<()>,
    input: Vec<u8>,
    shared: &Arc<Shared>,
) -> Result<Vec<u8>, String> {
    let what = format!("{} {}", head.method(), story_path(&head));
    let body = read_body(stream, &head, input).await.map_err(|why| format!("{what}: {why}"))?;
    let request = Arc::new(HttpRequest { request: head.map(|()| body), base: shared.base.clone() });
    shared.http_request(request.clone());
    let mut response = None;
    call_handler(|| response = Some(shared.routes().answer(&request)))
        .map_err(|panic| format!("{what}: its handler panicked: {panic}"))?;
    let Some(response) = response else { return Err(format!("{what}: not answered")) };
    if !response.delay.is_zero() {
        tokio::time::sleep(response.delay).await;
    }
    shared.log.note(format!("{what}, answered with {}", response.status));
    Ok(response.bytes())
}

async fn read_body(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    head: &Request<()>,
    mut input: Vec<u8>,
) -> Result<Bytes, String> {
    let header = |name: &str| head.headers().get(name).and_then(|value| value.to_str().ok());
    if header("Expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        let answer = b"HTTP/1.1 100 Continue\r\n\r\n";
        stream.write_all(answer).await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())?;
    }
    if header("Transfer-Encoding").is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked")) {
        let mut body = Vec::new();
        loop {
            match httparse::parse_chunk_size(&input) {
                Ok(Status::Complete((skip, len))) => {
                    let len = usize::try_from(len).unwrap_or(usize::MAX);
                    // Its data and the line break behind it.
                    let end = skip.saturating_add(len).saturating_add(2);
                    if body.len().saturating_add(end) > BODY_BYTES {
                        return Err("the body is longer than 16 MiB".to_owned());
                    }
                    while input.len() < end {
                        read_more(stream, &mut input).await?;
                    }
                    body.extend_from_slice(&input[skip..end - 2]);
                    input.drain(..end);
                    if len == 0 {
                        return Ok(body.into());
                    }
                }
                Ok(Status::Partial) => read_more(stream, &mut input).await?,
                Err(_) => return Err("the body is not in chunks".to_owned()),
            }
        }
    }
    let len = match header("Content-Length").map(|value| value.trim().parse::<usize>()) {
        None => 0,
        Some(Ok(len)) if len <= BODY_BYTES => len,
        Some(_) => return Err("its Content-Length is no number up to 16 MiB".to_owned()),
    };
    while input.len() < len {
        read_more(stream, &mut input).await?;
    }
    input.truncate(len);
    Ok(input.into())
}

async fn read_more(stream: &mut (impl AsyncRead + Unpin), input: &mut Vec<u8>) -> Result<(), String> {
    match stream.read_buf(input).await {
        Ok(0) => Err("the client left before the end of the body".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads the head of a request, and whatever came behind it.
///
/// The error says why there is none; `true` if the client can be told.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<(Request<()>, Vec<u8>), (String, bool)> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return Err(("the client left without a complete request".to_owned(), false)),
            Ok(_) => {}
            Err(error) => return Err((format!("no request: {error}"), false)),
        }
        match parse_head(&buffer) {
            Ok(Some((len, request))) => return Ok((request, buffer.split_off(len))),
            Ok(None) if buffer.len() < HEAD_BYTES => {}
            Ok(None) => return Err(("the request is longer than 64 KiB".to_owned(), true)),
            Err(why) => return Err((why, true)),
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Request<()>)>, String> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let len = match head.parse(bytes).map_err(|error| error.to_string())? {
        Status::Complete(len) => len,
        Status::Partial => return Ok(None),
    };
    // All three are there in a complete head.
    let (method, target) = (head.method.unwrap_or_default(), head.path.unwrap_or_default());
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
    *request.uri_mut() = target.parse::<Uri>().map_err(|error| error.to_string())?;
    *request.version_mut() = if head.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    for header in head.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_bytes(header.value).map_err(|error| error.to_string())?;
        request.headers_mut().append(name, value);
    }
    Ok(Some((len, request)))
}

/// Whether the client asks for a WebSocket, well or badly.
pub(crate) fn is_upgrade(request: &Request<()>) -> bool {
    request.headers().contains_key("Upgrade") || request.headers().contains_key("Sec-WebSocket-Key")
}
