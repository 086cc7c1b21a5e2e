//! The runtimes that every scenario runs under, with the same verbs.

use crate::SOON;
use everwire_core::{Client, Config, ConfigError, Endpoint, Event, Events, ProviderError, TimedOut};
use smol::future::{or, yield_now};
use std::future::Future;
use std::time::Duration;

/// A way to run sessions, and the tests around them.
pub trait Runtime: Sized + 'static {
    /// For messages.
    const NAME: &'static str;

    /// Its inline driver.
    type Driver: Inline;

    /// Runs a test on this thread.
    fn block_on<F: Future>(future: F) -> F::Output;

    /// Runs a future on the side, to its end.
    fn background(future: impl Future<Output = ()> + Send + 'static);

    /// A driver that was not run yet.
    ///
    /// # Errors
    /// As the driver's.
    fn driver(config: Config) -> Result<Self::Driver, ConfigError>;

    /// A driver that asks `provider` where to connect.
    ///
    /// # Errors
    /// As the driver's.
    fn provided<F, T>(config: Config, provider: F) -> Result<Self::Driver, ConfigError>
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = Result<Endpoint, ProviderError>> + Send + 'static;

    /// The crate's `spawn`.
    fn spawn(driver: Self::Driver) -> (Client, Events);

    /// The crate's `connect`.
    ///
    /// # Errors
    /// As the crate's.
    fn connect(config: Config) -> Result<(Client, Events), ConfigError>;
}

/// A driver that runs within the task that asks it for events.
pub trait Inline {
    /// The crate's `client`.
    fn client(&self) -> Client;

    /// The next event, for as long as `look` looks at it; `None` once the session is closed. Dropping the future must lose nothing.
    fn next<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> impl Future<Output = Option<T>>;

    /// The same for whoever has nothing else to do meanwhile: a thread that may block does so.
    fn wait<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> impl Future<Output = Option<T>> {
        self.next(look)
    }
}

/// Tokio with two worker threads.
#[derive(Debug)]
pub struct Tokio;

/// Tokio with the test's thread alone: sessions run while the test awaits, and at no other time.
#[derive(Debug)]
pub struct TokioThread;

/// smol with its global executor.
#[derive(Debug)]
pub struct Smol;

/// smol with the test's thread alone, except for its reactor's.
#[derive(Debug)]
pub struct SmolThread;

/// async-std, with smol's driver.
#[derive(Debug)]
pub struct AsyncStd;

/// Threads that block.
#[derive(Debug)]
pub struct Blocking;

/// What is the same for all runtimes with asynchronous drivers.
macro_rules! asynchronous {
    ($runtime:ident, $name:literal, $krate:ident, $block_on:expr, $background:expr) => {
        impl Runtime for $runtime {
            const NAME: &'static str = $name;

            type Driver = $krate::Driver;

            fn block_on<F: Future>(future: F) -> F::Output {
                $block_on(future)
            }

            fn background(future: impl Future<Output = ()> + Send + 'static) {
                $background(future);
            }

            fn driver(config: Config) -> Result<Self::Driver, ConfigError> {
                $krate::Driver::new(config)
            }

            fn provided<F, T>(config: Config, provider: F) -> Result<Self::Driver, ConfigError>
            where
                F: FnMut() -> T + Send + 'static,
                T: Future<Output = Result<Endpoint, ProviderError>> + Send + 'static,
            {
                Ok(Self::driver(config)?.provider(provider))
            }

            fn spawn(driver: Self::Driver) -> (Client, Events) {
                Self::spawned(driver)
            }

            fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
                Self::connected(config)
            }
        }
    };
}

/// A runtime that the crate itself spawns on.
macro_rules! of_the_crate {
    ($runtime:ident, $krate:ident) => {
        impl $runtime {
            fn spawned(driver: $krate::Driver) -> (Client, Events) {
                $krate::spawn(driver)
            }

            fn connected(config: Config) -> Result<(Client, Events), ConfigError> {
                $krate::connect(config)
            }
        }
    };
}

/// A runtime that the crate knows nothing of.
macro_rules! foreign {
    ($runtime:ident, $krate:ident) => {
        impl $runtime {
            fn spawned(driver: $krate::Driver) -> (Client, Events) {
                let (client, events, running) = $krate::run(driver);
                Self::background(running);
                (client, events)
            }

            fn connected(config: Config) -> Result<(Client, Events), ConfigError> {
                Ok(Self::spawned($krate::Driver::new(config)?))
            }
        }
    };
}

of_the_crate!(Tokio, everwire_tokio);
of_the_crate!(TokioThread, everwire_tokio);
of_the_crate!(Smol, everwire_smol);
foreign!(SmolThread, everwire_smol);
foreign!(AsyncStd, everwire_smol);

asynchronous!(
    Tokio,
    "tokio",
    everwire_tokio,
    |future| in_tokio(tokio::runtime::Builder::new_multi_thread().worker_threads(2), future),
    tokio::spawn
);
asynchronous!(
    TokioThread,
    "tokio on one thread",
    everwire_tokio,
    |future| in_tokio(&mut tokio::runtime::Builder::new_current_thread(), future),
    tokio::spawn
);
asynchronous!(Smol, "smol", everwire_smol, smol::block_on, |future| smol::spawn(future).detach());
asynchronous!(SmolThread, "smol on one thread", everwire_smol, in_smol, |future| HERE
    .with(|executor| executor.spawn(future).detach()));
asynchronous!(AsyncStd, "async-std", everwire_smol, async_std::task::block_on, async_std::task::spawn);

fn in_tokio<F: Future>(builder: &mut tokio::runtime::Builder, future: F) -> F::Output {
    builder.enable_all().build().expect("the system has threads and an epoll left").block_on(future)
}

/// One task after the other has its turn. `LocalExecutor::run` would run 200 of them before the test, and the one that lets the test have its turn
/// would be the next.
fn in_smol<F: Future>(future: F) -> F::Output {
    let others = async {
        loop {
            HERE.with(|executor| *executor).tick().await;
            yield_now().await;
        }
    };
    smol::block_on(or(future, others))
}

thread_local! {
    // As long as the process: a thread of a test harness ends with its test.
    static HERE: &'static smol::LocalExecutor<'static> = Box::leak(Box::default());
}

impl Inline for everwire_tokio::Driver {
    fn client(&self) -> Client {
        Self::client(self)
    }

    async fn next<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T> {
        Self::next(self).await.map(look)
    }
}

impl Inline for everwire_smol::Driver {
    fn client(&self) -> Client {
        Self::client(self)
    }

    async fn next<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T> {
        Self::next(self).await.map(look)
    }
}

impl Runtime for Blocking {
    const NAME: &'static str = "blocking";

    type Driver = everwire_blocking::Driver;

    fn block_on<F: Future>(future: F) -> F::Output {
        smol::future::block_on(future)
    }

    fn background(future: impl Future<Output = ()> + Send + 'static) {
        std::thread::spawn(move || Self::block_on(future));
    }

    fn driver(config: Config) -> Result<Self::Driver, ConfigError> {
        everwire_blocking::Driver::new(config)
    }

    fn provided<F, T>(config: Config, mut provider: F) -> Result<Self::Driver, ConfigError>
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = Result<Endpoint, ProviderError>> + Send + 'static,
    {
        Ok(Self::driver(config)?.provider(move || Self::block_on(provider())))
    }

    fn spawn(driver: Self::Driver) -> (Client, Events) {
        everwire_blocking::spawn(driver).expect("the system has a thread left")
    }

    fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
        everwire_blocking::connect(config)
    }
}

/// A call that waits for a little while is to a blocking test what a poll is to an asynchronous one.
impl Inline for everwire_blocking::Driver {
    fn client(&self) -> Client {
        Self::client(self)
    }

    async fn next<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T> {
        // What is there already is had without waiting, so that one poll of many drivers in turn takes no time.
        let mut wait = Duration::ZERO;
        loop {
            match Self::next(self, wait) {
                Ok(event) => return event.map(look),
                Err(TimedOut) => yield_now().await,
            }
            wait = Duration::from_millis(1);
        }
    }

    async fn wait<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T> {
        match Self::next(self, SOON) {
            Ok(event) => event.map(look),
            // Whoever awaits this says what he waited for.
            Err(TimedOut) => std::future::pending().await,
        }
    }
}
