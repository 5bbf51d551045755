//! What simulated nodes run on: a clock, a network, a model, and who may have looms kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cantrip_runtime::adapters::clock::SteppingClock;
use cantrip_runtime::adapters::peer::{BoxIo, Net};
use cantrip_runtime::domain::copies::Keeper;
use cantrip_runtime::domain::ids::NodeName;
use cantrip_runtime::domain::model::{Message, ModelError, Question, RawAnswer};
use cantrip_runtime::driver::{CopyPolicy, CopyTerms};
use cantrip_runtime::ports::{BoxFuture, Clock, Llm, Pieces};

use super::casting::MARK;
use crate::peer_support::Told;

/// Simulated time, with an offset of its own for each node: no two agree.
#[derive(Debug)]
pub(super) struct SimClock {
    pub(super) ahead_us: u64,
    pub(super) random: SteppingClock,
    pub(super) latest: AtomicU64,
}

impl Clock for SimClock {
    fn now_us(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        let now = 1_700_000_000_000_000 + self.ahead_us + u64::try_from(elapsed.as_micros()).unwrap();
        self.latest.fetch_max(now, Ordering::Relaxed).max(now)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn random(&self, bytes: &mut [u8]) {
        self.random.random(bytes);
    }
}

#[derive(Debug)]
pub(super) struct SimNet;

impl Net for SimNet {
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, std::io::Result<BoxIo>> {
        Box::pin(async move {
            let stream = turmoil::net::TcpStream::connect(address).await?;
            Ok(Box::new(stream) as BoxIo)
        })
    }
}

/// A model that notes what it is asked by users: whose word it takes shows in that.
#[derive(Debug)]
pub(super) struct Noting {
    pub(super) inner: Told,
    pub(super) asked: Arc<AtomicU64>,
}

impl Llm for Noting {
    fn name(&self) -> &'static str {
        "told"
    }

    fn ask<'a>(&'a self, question: &'a Question, to: &'a dyn Pieces) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        let is_theirs =
            question.messages.iter().any(|message| matches!(&**message, Message::User(text) if text.contains(MARK)));
        self.asked.fetch_add(u64::from(is_theirs), Ordering::Relaxed);
        self.inner.ask(question, to)
    }
}

/// Who may have looms kept.
#[derive(Debug)]
pub(super) struct Policy(pub(super) bool);

pub(super) const OPEN: CopyTerms = CopyTerms { disk: true, memory: true, bytes_max: u64::MAX, looms_max: 1_000 };

impl CopyPolicy for Policy {
    fn terms(&self, peer: &Keeper) -> CopyTerms {
        match peer.answerable().map(NodeName::as_str) {
            Some("m") if self.0 => CopyTerms { bytes_max: 64 * 1024 * 1024, ..OPEN },
            Some("m") => CopyTerms::NONE,
            _ => OPEN,
        }
    }
}
