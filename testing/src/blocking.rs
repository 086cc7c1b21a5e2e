//! The bridge from async tests to the blocking waits of this crate.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use tokio::sync::oneshot;

/// Runs a blocking wait on a thread of its own and gives a future of its result, for any runtime.
///
/// The waits of this crate block their thread. In a test whose client runs on the same thread as the test, as in a
/// `#[tokio::test]`, the client would stand still meanwhile. The wait starts at once, also before the future is polled.
/// Dropping the future does not stop it, but its timeout does.
///
/// A panic in `wait` continues in the future.
///
/// # Panics
/// If the operating system cannot start a thread.
///
/// ```
/// use std::time::Duration;
/// use everwire_testing::{MockServer, unblock};
///
/// # async fn example() {
/// let server = MockServer::start();
/// let url = server.url();
/// // ... start the client with `url` ...
/// let conn = unblock(move || server.wait_connection(0, Duration::from_secs(5))).await.unwrap();
/// # }
/// ```
pub fn unblock<T, F>(wait: F) -> Unblocked<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait));
        // Nobody is waiting any more if the future was dropped.
        let _ = sender.send(result);
    });
    Unblocked { receiver }
}

/// The future of [`unblock`].
#[derive(Debug)]
#[must_use = "the result of the wait is lost unless this is awaited"]
pub struct Unblocked<T> {
    receiver: oneshot::Receiver<thread::Result<T>>,
}

impl<T> Future for Unblocked<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.receiver).poll(cx).map(|received| match received {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("the thread sends its result, a panic included, before it ends"),
        })
    }
}
