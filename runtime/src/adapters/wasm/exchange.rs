//! How a guest's gate calls leave the sandbox: the guest is a coroutine. It runs until it asks for a gate, is left where it
//! stands, and goes on when the answer is there. No gate is called from inside of it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::domain::medium::{CallArguments, GateAnswer};

/// A gate call on its way up, or its answer on its way down.
#[derive(Debug, Default)]
struct Exchange {
    request: Option<(String, CallArguments)>,
    answer: Option<Delivery>,
}

/// An answer, and what has to be adjusted before the code goes on.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) answer: GateAnswer,
    pub(super) waited: Duration,
    pub(super) clock_us: u64,
}

/// The two ends of it.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedExchange(Arc<Mutex<Exchange>>);

impl SharedExchange {
    /// The guest's end: asks, and waits for the answer.
    pub(super) async fn ask(&self, gate: String, arguments: CallArguments) -> Delivery {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).request = Some((gate, arguments));
        // Whoever polls the guest sees the request, and polls again when the answer is there.
        std::future::poll_fn(|_| match self.0.lock().unwrap_or_else(PoisonError::into_inner).answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }

    fn take_request(&self) -> Option<(String, CallArguments)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).request.take()
    }
}

/// A guest at work.
pub(super) struct Coroutine<T> {
    running: Pin<Box<dyn Future<Output = T> + Send>>,
    exchange: SharedExchange,
    waiting_since: Option<Instant>,
}

/// Where a guest stands.
pub(super) enum Advanced<T> {
    Asked(String, CallArguments),
    Ended(T),
}

impl<T> Coroutine<T> {
    pub(super) fn new(exchange: SharedExchange, running: impl Future<Output = T> + Send + 'static) -> Self {
        Self { running: Box::pin(running), exchange, waiting_since: None }
    }

    /// Runs until the guest asks for a gate or ends.
    pub(super) async fn advance(&mut self) -> Advanced<T> {
        let (running, exchange) = (&mut self.running, &self.exchange);
        let advanced = std::future::poll_fn(|context| match running.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(Advanced::Ended(ended)),
            Poll::Pending => match exchange.take_request() {
                Some((gate, arguments)) => Poll::Ready(Advanced::Asked(gate, arguments)),
                None => Poll::Pending,
            },
        })
        .await;
        if matches!(advanced, Advanced::Asked(..)) {
            self.waiting_since = Some(Instant::now());
        }
        advanced
    }

    /// Puts the answer of a gate where the guest finds it.
    pub(super) fn answer(&mut self, answer: GateAnswer, clock_us: u64) {
        let waited = self.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let delivery = Delivery { answer, waited, clock_us };
        self.exchange.0.lock().unwrap_or_else(PoisonError::into_inner).answer = Some(delivery);
    }
}
