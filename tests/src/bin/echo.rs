//! The same echo scenario under the four runtimes, side by side.
//!
//! ```text
//! cargo run --release -p everwire-tests --bin echo [-- --quick]
//! ```
//!
//! Messages of 125 bytes go to an echo server on loopback, one at a time for the time of a round trip, then with 64 on the way for
//! how many go in a second. Inline is a `Driver`, handles are the `Client` and `Events` of `connect`. Each figure is the median of
//! several rounds, in each of which every runtime has its turn. The server is a thread that does less than any client does, and the
//! same for all. Every message that comes back is compared with what was sent.

use everwire_core::driver;
use everwire_core::{Client, CloseCode, Config, ConfigError, Event, Events, Message, OwnedEvent};
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a message: the longest whose frame has the short form of a length.
const LEN: usize = 125;
/// Messages on the way at a time, where many are.
const WINDOW: u64 = 64;
/// Longer than all takes.
const TIMEOUT: Duration = Duration::from_secs(300);

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let size = match std::env::args().nth(1).as_deref() {
        None => Size { rounds: 5, round_trips: 3_000, messages: 100_000 },
        Some("--quick") => Size { rounds: 1, round_trips: 500, messages: 5_000 },
        Some(_) => {
            eprintln!("usage: echo [--quick]");
            return ExitCode::from(2);
        }
    };
    thread::spawn(|| {
        thread::sleep(TIMEOUT);
        eprintln!("not done after {TIMEOUT:?}");
        std::process::exit(1);
    });
    match run(size) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(size: Size) -> Result<(), Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let config = Config::new(&format!("ws://{}/", listener.local_addr()?))?.ping_interval(None);
    thread::spawn(move || serve(&listener));

    let mut rows = [
        Row::of::<Tokio>(),
        Row::of::<TokioThread>(),
        Row::of::<Smol>(),
        Row::of::<AsyncStd>(),
        Row::of::<Blocking>(),
    ];
    for _ in 0..size.rounds {
        for row in &mut rows {
            row.inline.push((row.run_inline)(config.clone(), size)?);
            row.handles.push((row.run_handles)(config.clone(), size)?);
        }
    }
    println!("{:12}{:^34}{:^34}", "", "inline", "handles");
    println!("{:12}{}{}", "", HEAD, HEAD);
    for row in &mut rows {
        println!("{:12}{}{}", row.name, summary(&mut row.inline), summary(&mut row.handles));
    }
    Ok(())
}

/// How much is done.
#[derive(Clone, Copy)]
struct Size {
    rounds: usize,
    round_trips: u64,
    messages: u64,
}

/// What one run measured.
struct Figures {
    /// Microseconds.
    p50: f64,
    p99: f64,
    messages_per_second: f64,
}

struct Row {
    name: &'static str,
    run_inline: fn(Config, Size) -> Result<Figures, Error>,
    run_handles: fn(Config, Size) -> Result<Figures, Error>,
    inline: Vec<Figures>,
    handles: Vec<Figures>,
}

impl Row {
    fn of<R: Runtime>() -> Self {
        Self {
            name: R::NAME,
            run_inline: |config, size| R::block_on(inline::<R>(config, size)),
            run_handles: |config, size| R::block_on(handles::<R>(config, size)),
            inline: Vec::new(),
            handles: Vec::new(),
        }
    }
}

const HEAD: &str = "   p50 us   p99 us      messages/s";

fn summary(rounds: &mut [Figures]) -> String {
    let mut median = |of: fn(&Figures) -> f64| {
        rounds.sort_by(|a, b| of(a).total_cmp(&of(b)));
        of(&rounds[rounds.len() / 2])
    };
    let (p50, p99) = (median(|figures| figures.p50), median(|figures| figures.p99));
    format!("{p50:9.1}{p99:9.1}{:16.0}", median(|figures| figures.messages_per_second))
}

/// With a driver in the task that asks it for events.
async fn inline<R: Runtime>(config: Config, size: Size) -> Result<Figures, Error> {
    let mut driver = R::driver(config)?;
    let mut echo = Echo::new(driver.client(), size);
    let mut told = Ok(());
    while told.is_ok() {
        let next = driver.next(|event| match event {
            Event::Online { .. } => echo.send(1),
            Event::Message { message, .. } => echo.came(message.as_bytes()),
            Event::Lost { error, .. } | Event::AttemptFailed { error, .. } => Err(error.to_string().into()),
            _ => Ok(()),
        });
        let Some(result) = next.await else { break };
        told = result;
    }
    told.and_then(|()| echo.figures())
}

/// With a session in the background.
async fn handles<R: Runtime>(config: Config, size: Size) -> Result<Figures, Error> {
    let (client, mut events) = R::connect(config)?;
    let mut echo = Echo::new(client, size);
    while let Some(event) = events.next().await {
        match event {
            OwnedEvent::Online { .. } => echo.send(1)?,
            OwnedEvent::Message { message, .. } => echo.came(&message.into_data())?,
            OwnedEvent::Lost { error, .. } | OwnedEvent::AttemptFailed { error, .. } => {
                return Err(error.into());
            }
            _ => {}
        }
    }
    echo.figures()
}

/// The scenario, whoever tells it what came: round trips, then many at a time, then the end.
struct Echo {
    client: Client,
    size: Size,
    sent: u64,
    came: u64,
    /// When the last one was sent that was alone on its way; then, when the first of many was.
    sent_at: Instant,
    round_trips: Vec<Duration>,
    /// How long the many took.
    took: Option<Duration>,
}

impl Echo {
    fn new(client: Client, size: Size) -> Self {
        let round_trips = Vec::with_capacity(size.round_trips as usize);
        Self { client, size, sent: 0, came: 0, sent_at: Instant::now(), round_trips, took: None }
    }

    fn send(&mut self, count: u64) -> Result<(), Error> {
        if self.came <= self.size.round_trips {
            self.sent_at = Instant::now();
        }
        for n in self.sent..self.sent + count {
            self.client.send(Message::Binary(&message(n)))?;
        }
        self.sent += count;
        Ok(())
    }

    fn came(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes != message(self.came) {
            return Err(format!("message {} came back as {bytes:?}", self.came).into());
        }
        self.came += 1;
        let Size { round_trips, messages, .. } = self.size;
        if self.came <= round_trips {
            self.round_trips.push(self.sent_at.elapsed());
            return self.send(if self.came < round_trips { 1 } else { WINDOW });
        }
        if self.came == round_trips + messages {
            self.took = Some(self.sent_at.elapsed());
            self.client.close(CloseCode::Normal, "");
        }
        if self.sent < round_trips + messages { self.send(1) } else { Ok(()) }
    }

    fn figures(mut self) -> Result<Figures, Error> {
        let took = self.took.ok_or("it was closed before all came back")?;
        self.round_trips.sort_unstable();
        let at = |percent: usize| {
            let index = (self.round_trips.len() * percent / 100).min(self.round_trips.len() - 1);
            self.round_trips[index].as_secs_f64() * 1e6
        };
        let messages_per_second = self.size.messages as f64 / took.as_secs_f64();
        Ok(Figures { p50: at(50), p99: at(99), messages_per_second })
    }
}

fn message(n: u64) -> [u8; LEN] {
    let mut message = [n as u8; LEN];
    message[..8].copy_from_slice(&n.to_le_bytes());
    message
}

/// Echoes on each connection, in a thread of its own.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            if let Err(error) = echo(stream) {
                eprintln!("server: {error}");
            }
        });
    }
}

/// After the handshake: whatever is read at once is answered at once. It knows messages of 125 bytes and close frames.
fn echo(mut stream: TcpStream) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    tungstenite::accept(stream.try_clone()?)?;
    let (mut input, mut output) = (vec![0; 1 << 16], Vec::new());
    let mut filled = 0;
    loop {
        let len = stream.read(&mut input[filled..])?;
        if len == 0 {
            return Ok(());
        }
        filled += len;
        let mut at = 0;
        // First byte, length and mask bit, mask, payload (RFC 6455 section 5.2).
        while let [first, second, rest @ ..] = &input[at..filled] {
            let len = usize::from(second & 0x7f);
            if *first & 0x80 == 0 || second & 0x80 == 0 || len > LEN {
                return Err("a frame that no client of this scenario sends".into());
            }
            let Some((mask, payload)) = rest.split_at_checked(4) else { break };
            let Some(payload) = payload.get(..len) else { break };
            output.extend([*first, len as u8]);
            output.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
            at += 6 + len;
        }
        input.copy_within(at..filled, 0);
        filled -= at;
        stream.write_all(&output)?;
        output.clear();
    }
}

/// What a runtime is to the scenario.
trait Runtime: Sized {
    const NAME: &'static str;

    type Driver: Inline;

    fn block_on<F: Future>(future: F) -> F::Output;

    fn driver(config: Config) -> Result<Self::Driver, ConfigError>;

    fn connect(config: Config) -> Result<(Client, Events), ConfigError>;
}

trait Inline {
    fn client(&self) -> Client;

    async fn next<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T>;
}

struct Tokio;
/// Its I/O in the thread that waits for it, as with the others: between threads, a wake may cost more than all else.
struct TokioThread;
struct Smol;
struct AsyncStd;
struct Blocking;

impl Runtime for Tokio {
    const NAME: &'static str = "tokio";

    type Driver = everwire_tokio::Driver;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Runtime::new();
        runtime.expect("the system has threads and an epoll left").block_on(future)
    }

    fn driver(config: Config) -> Result<Self::Driver, ConfigError> {
        everwire_tokio::Driver::new(config)
    }

    fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
        everwire_tokio::connect(config)
    }
}

impl Runtime for TokioThread {
    const NAME: &'static str = "tokio, 1 thread";

    type Driver = everwire_tokio::Driver;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("the system has an epoll left").block_on(future)
    }

    fn driver(config: Config) -> Result<Self::Driver, ConfigError> {
        everwire_tokio::Driver::new(config)
    }

    fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
        everwire_tokio::connect(config)
    }
}

impl Runtime for Smol {
    const NAME: &'static str = "smol";

    type Driver = everwire_smol::Driver;

    fn block_on<F: Future>(future: F) -> F::Output {
        smol::block_on(future)
    }

    fn driver(config: Config) -> Result<Self::Driver, ConfigError> {
        everwire_smol::Driver::new(config)
    }

    fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
        everwire_smol::connect(config)
    }
}

impl Runtime for AsyncStd {
    const NAME: &'static str = "async-std";

    type Driver = everwire_smol::Driver;

    fn block_on<F: Future>(future: F) -> F::Output {
        async_std::task::block_on(future)
    }

    fn driver(config: Config) -> Result<Self::Driver, ConfigError> {
        everwire_smol::Driver::new(config)
    }

    fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
        let (client, events, running) = everwire_smol::run(everwire_smol::Driver::new(config)?);
        async_std::task::spawn(running);
        Ok((client, events))
    }
}

impl Runtime for Blocking {
    const NAME: &'static str = "blocking";

    type Driver = everwire_blocking::Driver;

    fn block_on<F: Future>(future: F) -> F::Output {
        smol::future::block_on(future)
    }

    fn driver(config: Config) -> Result<Self::Driver, ConfigError> {
        everwire_blocking::Driver::new(config)
    }

    fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
        everwire_blocking::connect(config)
    }
}

impl<R: driver::Runtime> Inline for driver::Driver<R> {
    fn client(&self) -> Client {
        Self::client(self)
    }

    async fn next<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T> {
        Self::next(self).await.map(look)
    }
}

/// Nothing else runs on its thread: it may wait there.
impl Inline for everwire_blocking::Driver {
    fn client(&self) -> Client {
        Self::client(self)
    }

    async fn next<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T> {
        // Without a timeout there is no error.
        Self::next(self, None).ok().flatten().map(look)
    }
}
