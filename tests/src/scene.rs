//! What a scenario gets: sessions of a runtime, all of whose events are put into a log that is compared with the other runtimes'.

use crate::log::{Log, describe};
use crate::{Inline, Runtime, SOON, timeout};
use everwire_core::{Client, Config, Endpoint, Event, Events, OwnedEvent, ProviderError};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

/// A runtime, and the log of what happened under it.
#[derive(Debug)]
pub struct Scene<R> {
    log: Arc<Mutex<Log>>,
    runtime: PhantomData<R>,
}

impl<R: Runtime> Scene<R> {
    /// The runtime's `connect`.
    ///
    /// # Panics
    /// If the config cannot work.
    pub fn connect(&self, config: Config) -> (Client, Tape) {
        let (client, events) = R::connect(config).expect("a test's config can work");
        (client, self.record(events))
    }

    /// The runtime's `Driver::new`.
    ///
    /// # Panics
    /// If the config cannot work.
    pub fn driver(&self, config: Config) -> Driver<R> {
        Driver { driver: R::driver(config).expect("a test's config can work"), recorder: self.recorder() }
    }

    /// The runtime's `Driver::new`, with a provider.
    ///
    /// # Panics
    /// If the config cannot work.
    pub fn provided<F, T>(&self, config: Config, provider: F) -> Driver<R>
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = Result<Endpoint, ProviderError>> + Send + 'static,
    {
        let driver = R::provided(config, provider).expect("a test's config can work");
        Driver { driver, recorder: self.recorder() }
    }

    /// The runtime's `spawn`.
    pub fn spawn(&self, driver: Driver<R>) -> (Client, Tape) {
        let (client, events) = R::spawn(driver.driver);
        (client, Tape { events, recorder: driver.recorder })
    }

    /// Runs a future on the side, to its end.
    pub fn background(&self, future: impl Future<Output = ()> + Send + 'static) {
        R::background(future);
    }

    /// Puts something into the log that is no event.
    pub fn note(&self, what: impl fmt::Debug) {
        self.lock().note(format!("{what:?}"));
    }

    /// Logs events of the sessions to come in words of the scenario's, or not at all, if something of them is up to chance.
    pub fn log_as(&self, describe: fn(&OwnedEvent) -> Option<String>) {
        self.lock().describe = describe;
    }

    /// Logs all events of the sessions to come but these, of which it is up to chance how many there are.
    pub fn log_nothing(&self) {
        self.log_as(|_| None);
    }

    fn record(&self, events: Events) -> Tape {
        Tape { events, recorder: self.recorder() }
    }

    fn recorder(&self) -> Recorder {
        let mut log = self.lock();
        Recorder { session: log.session(), describe: log.describe, log: self.log.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        lock(&self.log)
    }
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes one session's part of the log.
struct Recorder {
    session: usize,
    describe: fn(&OwnedEvent) -> Option<String>,
    log: Arc<Mutex<Log>>,
}

impl Recorder {
    fn record(&self, event: Option<&OwnedEvent>) {
        match event {
            Some(event) => {
                if let Some(line) = (self.describe)(event) {
                    lock(&self.log).event(self.session, event, line);
                }
            }
            None => lock(&self.log).end(self.session),
        }
    }

    fn look<T>(&self, event: Event<'_>, look: impl FnOnce(Event<'_>) -> T) -> T {
        self.record(Some(&event.to_owned()));
        look(event)
    }

    fn end<T>(&self, looked: Option<T>) -> Option<T> {
        if looked.is_none() {
            self.record(None);
        }
        looked
    }
}

/// Where events come from.
pub trait Source {
    /// The next event; `None` once the session is closed.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<OwnedEvent>>;
}

impl Source for Events {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<OwnedEvent>> {
        self.poll_next(cx)
    }
}

/// The events of a session, all of which are logged as they are taken.
pub struct Tape {
    events: Events,
    recorder: Recorder,
}

impl Tape {
    /// The next event; `None` once the session is closed.
    pub async fn next(&mut self) -> Option<OwnedEvent> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// `Events::next_blocking`, for ever.
    ///
    /// # Panics
    /// If it times out without a timeout.
    pub fn next_blocking(&mut self) -> Option<OwnedEvent> {
        let event = self.events.next_blocking(Some(SOON)).expect("an event comes in time");
        self.recorder.record(event.as_ref());
        event
    }

    /// `Events::dropped`.
    pub fn dropped(&self) -> u64 {
        self.events.dropped()
    }
}

impl Source for Tape {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<OwnedEvent>> {
        let event = self.events.poll_next(cx);
        if let Poll::Ready(event) = &event {
            self.recorder.record(event.as_ref());
        }
        event
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").field("events", &self.events).finish_non_exhaustive()
    }
}

/// An inline driver, all of whose events are logged.
pub struct Driver<R: Runtime> {
    driver: R::Driver,
    recorder: Recorder,
}

impl<R: Runtime> Driver<R> {
    /// The driver's `client`.
    pub fn client(&self) -> Client {
        self.driver.client()
    }

    /// The driver's `next`, owned, for tasks that do other things meanwhile.
    pub async fn next(&mut self) -> Option<OwnedEvent> {
        Inline::next(self, |event| event.to_owned()).await
    }

    /// The driver's `next`, for as long as `look` looks at it; a thread that may block does.
    pub async fn look<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T> {
        self.wait(look).await
    }
}

impl<R: Runtime> Inline for Driver<R> {
    fn client(&self) -> Client {
        self.driver.client()
    }

    async fn next<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T> {
        let recorder = &self.recorder;
        recorder.end(self.driver.next(|event| recorder.look(event, look)).await)
    }

    async fn wait<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T> {
        let recorder = &self.recorder;
        recorder.end(self.driver.wait(|event| recorder.look(event, look)).await)
    }
}

impl<R: Runtime> fmt::Debug for Driver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// The logs of one scenario under each runtime: each runs once, whoever asks for it first.
#[derive(Debug, Default)]
pub struct Runs([OnceLock<Option<String>>; 4]);

impl Runs {
    /// None has run yet.
    pub const fn new() -> Self {
        Self([const { OnceLock::new() }; 4])
    }

    /// The log of the scenario under this runtime, which is number `index` of the four.
    ///
    /// # Panics
    /// If the scenario fails.
    pub fn run<R: Runtime>(&self, index: usize, scenario: impl AsyncFnOnce(&Scene<R>)) -> &str {
        let log = self.0[index].get_or_init(|| catch_unwind(AssertUnwindSafe(|| run(scenario))).ok());
        match log {
            Some(log) => log,
            // It is printed with whichever test ran it.
            None => panic!(
                "the scenario fails under {}; its panic is printed above, or with another test",
                R::NAME
            ),
        }
    }
}

/// Runs a scenario once; its log.
pub fn run<R: Runtime>(scenario: impl AsyncFnOnce(&Scene<R>)) -> String {
    let log = Arc::new(Mutex::new(Log::new(describe)));
    let scene = Scene { log: log.clone(), runtime: PhantomData::<R> };
    // Each wait in it has its own bound; this is for those that were forgotten.
    if R::block_on(timeout(SOON * 4, scenario(&scene))).is_err() {
        panic!("the scenario does not end under {}", R::NAME);
    }
    lock(&log).to_string()
}

/// Compares two logs.
///
/// # Panics
/// If they differ; says where.
pub fn assert_same(one: (&str, &str), other: (&str, &str)) {
    let differ = one.1.lines().zip(other.1.lines()).position(|(one, other)| one != other);
    let at = differ.unwrap_or_else(|| one.1.lines().count().min(other.1.lines().count()));
    assert!(
        one.1 == other.1,
        "{} and {} differ in line {}:\n  {}\n  {}\n{}'s whole log:\n{}",
        one.0,
        other.0,
        at + 1,
        one.1.lines().nth(at).unwrap_or("(the end)"),
        other.1.lines().nth(at).unwrap_or("(the end)"),
        one.0,
        one.1
    );
}

/// Makes of each scenario, an `async fn name(scene: &Scene<impl Runtime>)`, a test under each runtime and one that compares their logs.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use super::$name as scenario;
            use $crate::{AsyncStd, Blocking, Runs, Smol, Tokio, assert_same};

            static RUNS: Runs = Runs::new();

            #[test]
            fn tokio() {
                RUNS.run::<Tokio>(0, scenario);
            }

            #[test]
            fn smol() {
                RUNS.run::<Smol>(1, scenario);
            }

            #[test]
            fn async_std() {
                RUNS.run::<AsyncStd>(2, scenario);
            }

            #[test]
            fn blocking() {
                RUNS.run::<Blocking>(3, scenario);
            }

            #[test]
            fn the_same_under_each() {
                let tokio = RUNS.run::<Tokio>(0, scenario);
                assert_same(("tokio", tokio), ("smol", RUNS.run::<Smol>(1, scenario)));
                assert_same(("tokio", tokio), ("async-std", RUNS.run::<AsyncStd>(2, scenario)));
                assert_same(("tokio", tokio), ("blocking", RUNS.run::<Blocking>(3, scenario)));
            }
        }
    )+};
}
