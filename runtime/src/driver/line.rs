//! The way back from a hosted episode to whoever had it cast: questions that go there, answers that come.
//!
//! A question stays until it is answered, however often the connection changes; whoever attaches anew is asked again, under the
//! same number, and answers from what it knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cantrip_gates::{CallContext, Gate, GateError, GateFuture, GateSpec};
use serde_json::Value;
use tokio::sync::{broadcast, watch};

use super::weighed;
use crate::domain::event::Event;
use crate::domain::limits::{ANSWER_PARTS_BYTES_MAX, EVENTS_WAITING_MAX};
use crate::domain::model::{ModelError, Question, RawAnswer};
use crate::ports::{BoxFuture, Llm, Observer, Pieces};

/// What is asked of the caller.
#[derive(Debug, Clone)]
pub enum Ask {
    /// A gate that is placed there.
    Gate {
        /// Its name.
        gate: String,
        /// The arguments, checked.
        arguments: Value,
    },
    /// The model that is placed there.
    Model(Arc<Question>),
    /// A component that is missing here.
    Guest {
        /// Its digest.
        digest: String,
    },
}

/// What the caller answers.
#[derive(Debug)]
pub enum Answer {
    /// A piece of the model's text.
    Text(String),
    /// A piece of the model's reasoning.
    Thinking(String),
    /// What the gate returned.
    Gate(Result<Value, GateError>),
    /// What the model said.
    Model(Result<RawAnswer, ModelError>),
    /// A part of the component.
    GuestPart {
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether it is the last one.
        last: bool,
    },
    /// The caller does not give it.
    GuestRefused(String),
}

impl Answer {
    /// What a part takes while it waits. An answer that is whole waits alone: it is the last.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Thinking(text) | Self::GuestRefused(text) => text.len(),
            Self::GuestPart { bytes, .. } => bytes.len(),
            Self::Gate(_) | Self::Model(_) => ANSWER_PARTS_BYTES_MAX,
        }
    }
}

/// One side of the way back. Shared by the episode and whoever is attached to it.
#[derive(Debug)]
pub struct Line {
    asks: Mutex<Asks>,
    changed: watch::Sender<u64>,
    events: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug)]
struct Asks {
    last: u64,
    open: BTreeMap<u64, (Ask, weighed::Sender<Answer>)>,
}

impl Line {
    /// A way back whose questions are numbered from here on. A host that was started again has to begin above all that it asked
    /// before: the caller answers a number that it knows from memory.
    pub(super) fn new(after: u64) -> Self {
        Self {
            asks: Mutex::new(Asks { last: after, open: BTreeMap::new() }),
            changed: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS_WAITING_MAX),
        }
    }
}

/// A question that is open as long as this is kept.
struct Asked<'a> {
    line: &'a Line,
    number: u64,
    answers: weighed::Receiver<Answer>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.line.lock().open.remove(&self.number);
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Asks> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, ask: Ask) -> Asked<'_> {
        let (sender, answers) = weighed::channel(ANSWER_PARTS_BYTES_MAX);
        let mut asks = self.lock();
        asks.last = asks.last.saturating_add(1);
        let number = asks.last;
        asks.open.insert(number, (ask, sender));
        drop(asks);
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        Asked { line: self, number, answers }
    }

    /// The questions that are open behind a number, each with its own.
    pub(super) fn open_after(&self, number: u64) -> Option<(u64, Ask)> {
        let asks = self.lock();
        asks.open.range(number.saturating_add(1)..).next().map(|(number, (ask, _))| (*number, ask.clone()))
    }

    /// Is told whenever there is a question more.
    pub(super) fn asks(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether anybody listens to events at the moment.
    pub(super) fn is_watched(&self) -> bool {
        self.events.receiver_count() > 0
    }

    pub(super) fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Takes a part of an answer. What nobody asked, or asks no more, is dropped.
    pub async fn answer(&self, number: u64, answer: Answer) {
        let sender = self.lock().open.get(&number).map(|(_, sender)| sender.clone());
        if let Some(sender) = sender {
            // Whoever asked may have given up in the meantime.
            let bytes = answer.bytes();
            drop(sender.send(answer, bytes).await);
        }
    }

    /// Fetches a component.
    pub async fn guest(&self, digest: &str, bytes_max: u64) -> Result<Vec<u8>, GateError> {
        let mut asked = self.ask(Ask::Guest { digest: digest.to_owned() });
        let mut whole = Vec::new();
        while let Some(answer) = asked.answers.recv().await {
            match answer {
                Answer::GuestPart { bytes, last } => {
                    whole.extend_from_slice(&bytes);
                    if whole.len() as u64 > bytes_max {
                        return Err(GateError::Exhausted(format!(
                            "the guest {digest} is larger than the {bytes_max} bytes that this host takes"
                        )));
                    }
                    if last {
                        return Ok(whole);
                    }
                }
                Answer::GuestRefused(why) => return Err(GateError::NotFound(why)),
                Answer::Text(_) | Answer::Thinking(_) | Answer::Gate(_) | Answer::Model(_) => {}
            }
        }
        Err(GateError::Failed(format!("the guest {digest} did not come")))
    }

    pub(super) async fn gate(&self, gate: &str, arguments: Value) -> Result<Value, GateError> {
        let mut asked = self.ask(Ask::Gate { gate: gate.to_owned(), arguments });
        while let Some(answer) = asked.answers.recv().await {
            if let Answer::Gate(result) = answer {
                return result;
            }
        }
        Err(GateError::Failed(format!("{gate}: the caller did not answer")))
    }

    pub(super) async fn model(&self, question: Arc<Question>, pieces: &dyn Pieces) -> Result<RawAnswer, ModelError> {
        let mut asked = self.ask(Ask::Model(question));
        while let Some(answer) = asked.answers.recv().await {
            match answer {
                Answer::Text(piece) => pieces.text(&piece),
                Answer::Thinking(piece) => pieces.thinking(&piece),
                Answer::Model(result) => return result,
                Answer::Gate(_) | Answer::GuestPart { .. } | Answer::GuestRefused(_) => {}
            }
        }
        let message = "the caller did not answer".to_owned();
        Err(ModelError::Unreachable { address: "the caller".to_owned(), message })
    }
}

impl Observer for Line {
    fn listens(&self) -> bool {
        self.is_watched()
    }

    fn event(&self, event: &Event) {
        if self.is_watched() {
            // Whoever listened a moment ago may have gone.
            drop(self.events.send(Arc::new(event.clone())));
        }
    }
}

/// A gate whose calls go back to the caller.
#[derive(Debug)]
pub struct CallerGate {
    spec: GateSpec,
    line: Arc<Line>,
}

impl CallerGate {
    /// A gate that is declared so.
    pub const fn new(spec: GateSpec, line: Arc<Line>) -> Self {
        Self { spec, line }
    }
}

impl Gate for CallerGate {
    fn spec(&self) -> &GateSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: Value, _: &'a CallContext) -> GateFuture<'a> {
        Box::pin(self.line.gate(self.spec.name.as_str(), arguments))
    }
}

/// The caller's model.
#[derive(Debug)]
pub struct CallerLlm {
    /// Its name, for the record.
    pub name: String,
    /// The length of its context in tokens, where known.
    pub context_tokens: Option<u64>,
    /// Whether its provider keeps `tool_choice = required`.
    pub can_require_calls: bool,
    /// The way to it.
    pub line: Arc<Line>,
}

impl Llm for CallerLlm {
    fn name(&self) -> &str {
        &self.name
    }

    fn context_tokens(&self) -> Option<u64> {
        self.context_tokens
    }

    fn can_require_calls(&self) -> bool {
        self.can_require_calls
    }

    fn ask<'a>(
        &'a self,
        question: &'a Question,
        pieces: &'a dyn Pieces,
    ) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(self.line.model(Arc::new(question.clone()), pieces))
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;
    use crate::domain::event::EventKind;
    use crate::domain::ids::EntityId;

    /// Goes on with a future until it waits.
    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_caller_that_answers_faster_than_anybody_listens_is_made_to_wait() {
        let line = Line::new(0);
        let mut asked = pin!(line.gate("echo", Value::Null));
        assert!(poll(asked.as_mut()).is_pending());
        let part = || line.answer(1, Answer::Text("x".to_owned()));
        for _ in 0..weighed::MESSAGES {
            assert!(poll(pin!(part())).is_ready());
        }
        let mut one_too_many = pin!(part());
        assert!(poll(one_too_many.as_mut()).is_pending());
        assert!(poll(asked.as_mut()).is_pending(), "none of it was the answer");
        assert!(poll(one_too_many.as_mut()).is_ready());
    }

    #[test]
    fn events_that_nobody_reads_are_dropped_the_oldest_first() {
        let line = Line::new(0);
        let mut events = line.events();
        let event = Event { entity: EntityId::from_parts(1, [1; 16]), depth: 0, kind: EventKind::MessageStarted };
        for _ in 0..EVENTS_WAITING_MAX + 3 {
            line.event(&event);
        }
        assert!(matches!(events.try_recv(), Err(TryRecvError::Lagged(3))));
        assert!(events.try_recv().is_ok());
    }

    #[test]
    fn a_component_of_a_caller_is_bounded() {
        let line = Line::new(0);
        let mut fetched = pin!(line.guest("sha256:0", 10));
        assert!(poll(fetched.as_mut()).is_pending());
        let part = Answer::GuestPart { bytes: vec![0; 11], last: false };
        assert!(poll(pin!(line.answer(1, part))).is_ready());
        let Poll::Ready(Err(error)) = poll(fetched.as_mut()) else { unreachable!("it was taken") };
        assert!(matches!(&error, GateError::Exhausted(why) if why.contains("larger than the 10 bytes")), "{error}");
    }
}
