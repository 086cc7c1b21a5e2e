//! A small client for the command line.

use crate::screen::{note, printable};
use everwire_record::{FileRecorder, Recording};
use everwire_tokio::{
    Client, CloseCode, Config, ConfigError, Driver, JsonRpc, OwnedEvent, Proxy, ProxyRules, SendError,
};
use std::error::Error;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, Receiver};

/// How long a line waits before it is sent again to a peer that takes no more.
const PATIENCE: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where to connect: ws:// or wss://.
    url: String,
    /// A header for the handshake, as 'Name: value'. May be given several times.
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// By way of this proxy: http://, https:// or socks5://, with user:password@ before the host if it wants that.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// By way of the proxy that the environment names: WS_PROXY, HTTP_PROXY and ALL_PROXY, for wss:// WSS_PROXY, HTTPS_PROXY and
    /// ALL_PROXY; NO_PROXY says where not.
    #[arg(long, conflicts_with = "proxy")]
    proxy_from_env: bool,
    /// A message to send on every new connection, or with --jsonrpc a channel. May be given several times.
    #[arg(long, value_name = "TEXT")]
    subscribe: Vec<String>,
    /// Speak JSON-RPC 2.0: subscribe by channel and tell what became of it.
    #[arg(long)]
    jsonrpc: bool,
    /// What comes before `subscribe` in the name of the method, such as `public/`.
    #[arg(long, value_name = "TEXT", default_value = "", requires = "jsonrpc")]
    prefix: String,
    /// Records all that happens to this file, which must not exist: `everwire replay` and `everwire metadata` read it. With a name that ends in
    /// .zst it is compressed.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

/// Runs until the standard input or the session ends.
pub(crate) async fn run(options: &Options) -> ExitCode {
    match session(options).await {
        Ok(code) => code,
        Err(error) => {
            note(&format!("error: {error}"));
            ExitCode::from(2)
        }
    }
}

async fn session(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let mut config = config(options)?;
    let record = options.record.as_deref().map(record).transpose()?;
    if let Some(record) = &record {
        config = config.recorder(record.clone());
    }
    let result = talk(options, config).await;
    if let Some(record) = record {
        let status = record.finish();
        let dropped =
            if status.dropped > 0 { format!(", {} dropped", status.dropped) } else { String::new() };
        note(&format!("recorded {} lines{dropped}", status.lines));
        if let Some(error) = status.error {
            return Err(format!("the record: {error}").into());
        }
    }
    result
}

fn record(path: &Path) -> io::Result<Arc<FileRecorder>> {
    let compressed = path.extension().is_some_and(|ending| ending == "zst");
    let recording = Recording::new();
    if compressed { recording.zstd(3) } else { recording }.create(path)
}

async fn talk(options: &Options, config: Config) -> Result<ExitCode, Box<dyn Error>> {
    // Subscribed before it starts, so that online means subscribed.
    let driver = Driver::new(config)?;
    for topic in &options.subscribe {
        driver.client().subscribe(topic.as_str());
    }
    let (client, mut events) = everwire_tokio::spawn(driver);
    let mut lines = standard_input();
    let (mut online, mut pending) = (false, None);
    let mut code = ExitCode::SUCCESS;
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return Ok(code) };
                match &event {
                    OwnedEvent::Online { .. } => online = true,
                    OwnedEvent::Lost { .. } => online = false,
                    OwnedEvent::Closed { error: Some(_), .. } => code = ExitCode::FAILURE,
                    _ => {}
                }
                show(&event)?;
            }
            line = lines.recv(), if online && pending.is_none() => match line {
                Some(line) => pending = send(&client, line),
                None => {
                    client.close(CloseCode::Normal, "");
                    online = false;
                }
            },
            () = tokio::time::sleep(PATIENCE), if online && pending.is_some() => {
                pending = pending.take().and_then(|line| send(&client, line));
            }
        }
    }
}

fn config(options: &Options) -> Result<Config, Box<dyn Error>> {
    let mut config = Config::new(&options.url)?;
    for header in &options.header {
        // The value may be a secret: it is not repeated.
        let (name, value) = header.split_once(':').ok_or("a header is written as 'Name: value'")?;
        config = config.header(name.trim(), value.trim())?;
    }
    if let Some(url) = &options.proxy {
        config = config.proxy(Proxy::new(url).map_err(ConfigError::Proxy)?);
    }
    if options.proxy_from_env {
        config =
            config.proxy(ProxyRules::from_vars(|name| std::env::var(name).ok()).map_err(ConfigError::Proxy)?);
    }
    if options.jsonrpc {
        let method = |name: &str| format!("{}{name}", options.prefix);
        config = config.protocol(JsonRpc::new().methods(method("subscribe"), method("unsubscribe")));
    }
    Ok(config)
}

/// Lines of the standard input. A thread of its own reads it, for a read of it cannot be given up; it ends with the process.
fn standard_input() -> Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            match line {
                Ok(line) => {
                    if sender.blocking_send(line).is_err() {
                        return;
                    }
                }
                Err(error) => return note(&format!("the standard input cannot be read: {error}")),
            }
        }
    });
    receiver
}

/// Sends a line; gives it back if it must be sent later.
fn send(client: &Client, line: String) -> Option<String> {
    match client.send(&line) {
        Ok(_) => None,
        Err(SendError::Full | SendError::Offline) => Some(line),
        Err(error) => {
            note(&format!("not sent: {error}"));
            None
        }
    }
}

fn show(event: &OwnedEvent) -> io::Result<()> {
    match event {
        OwnedEvent::Message { message, .. } => {
            let mut out = io::stdout().lock();
            match message.to_text() {
                Ok(text) if message.is_text() && out.is_terminal() => writeln!(out, "{}", printable(text)),
                Ok(text) if message.is_text() => writeln!(out, "{text}"),
                _ => writeln!(out, "(binary, {} bytes)", message.len()),
            }?;
            return out.flush();
        }
        OwnedEvent::Online { epoch, .. } => note(&format!("online, epoch {}", epoch.as_u64())),
        OwnedEvent::Subscribed { topic, .. } => note(&format!("subscribed to {topic}")),
        OwnedEvent::Rejected { topic, reason, .. } => note(&format!("{topic} was rejected: {reason}")),
        OwnedEvent::Gap(gap) => note(&format!("messages may be missing from {:.1?}", gap.until - gap.since)),
        OwnedEvent::Lost { error, unsent, .. } => {
            note(&format!("lost: {}; {} messages not sent", error.explain(), unsent.count()));
        }
        OwnedEvent::AttemptFailed { failures, error, .. } => {
            note(&format!("attempt failed, {failures} in a row: {}", error.explain()));
        }
        OwnedEvent::Closed { error, unsent } => {
            let why = error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            match unsent.count() {
                0 => note(&format!("closed{why}")),
                count => note(&format!("closed{why}; {count} messages not sent")),
            }
        }
        other => note(&format!("{other:?}")),
    }
    Ok(())
}
