//! Stopping, interrupting and steering an entity from outside, and with it everybody below it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::domain::entity::StopCause;
use crate::domain::limits::STEERS_WAITING_MAX;
use crate::domain::medium::StopFlag;
use crate::ports::Signal;

/// The outside end of a running entity. Clones are the same control.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    flag: StopFlag,
    changed: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cause: Option<StopCause>,
    interrupted: bool,
    /// Whether another node has been told of the interrupt.
    interrupt_told: bool,
    steers: VecDeque<String>,
    children: Vec<Weak<Shared>>,
}

impl Control {
    /// A control of nobody yet: hand it to a cast.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the entity and all its children as soon as possible: running code, a running gate and a question to the
    /// model are given up. Children end as `parent_terminated` (COMP-9). Nothing that was recorded is lost.
    pub fn cancel(&self) {
        self.stop(StopCause::Cancelled);
    }

    fn stop(&self, cause: StopCause) {
        let children = {
            let mut state = self.state();
            if state.cause.is_some() {
                return;
            }
            state.cause = Some(cause);
            std::mem::take(&mut state.children)
        };
        self.0.flag.set();
        self.0.changed.notify_waiters();
        for child in children.iter().filter_map(Weak::upgrade) {
            Self(child).stop(StopCause::ParentTerminated);
        }
    }

    /// Ends the episode at its next turn boundary. A summoned entity lives on and takes further intents.
    pub fn interrupt(&self) {
        self.state().interrupted = true;
        self.0.changed.notify_waiters();
    }

    /// Says something into the episode; it is heard at the next turn boundary. Returns whether there was room for it.
    pub fn steer(&self, text: &str) -> bool {
        let mut state = self.state();
        let room = state.steers.len() < STEERS_WAITING_MAX;
        if room {
            state.steers.push_back(text.to_owned());
        }
        drop(state);
        self.0.changed.notify_waiters();
        room
    }

    /// Stops it because nobody is there any more whom it works for.
    pub(super) fn orphan(&self) {
        self.stop(StopCause::ParentTerminated);
    }

    /// What an episode on another node has to be told next.
    pub(super) async fn signal(&self) -> Signal {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(cause) = state.cause {
                    return Signal::Stop { parent_terminated: cause == StopCause::ParentTerminated };
                }
                if let Some(text) = state.steers.pop_front() {
                    return Signal::Steer(text);
                }
                if state.interrupted && !state.interrupt_told {
                    state.interrupt_told = true;
                    return Signal::Interrupt;
                }
            }
            changed.await;
        }
    }

    pub(super) fn child(&self) -> Self {
        let child = Self::default();
        let mut state = self.state();
        if state.cause.is_some() {
            drop(state);
            child.stop(StopCause::ParentTerminated);
            return child;
        }
        state.children.retain(|child| child.strong_count() > 0);
        state.children.push(Arc::downgrade(&child.0));
        drop(state);
        child
    }

    pub(super) fn cause(&self) -> Option<StopCause> {
        let state = self.state();
        state.cause.or(state.interrupted.then_some(StopCause::Interrupted))
    }

    pub(super) fn flag(&self) -> StopFlag {
        self.0.flag.clone()
    }

    pub(super) fn take_steers(&self) -> VecDeque<String> {
        std::mem::take(&mut self.state().steers)
    }

    pub(super) fn episode_over(&self) {
        let mut state = self.state();
        state.interrupted = false;
        state.interrupt_told = false;
    }

    /// Returns when the entity is to stop at once.
    pub(super) async fn stopped(&self) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a stop between the two is not missed.
            changed.as_mut().enable();
            if self.0.flag.is_set() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comp_9_a_cancelled_parent_stops_everybody_below_it() {
        let parent = Control::new();
        let child = parent.child();
        let grandchild = child.child();
        parent.cancel();
        assert_eq!(parent.cause(), Some(StopCause::Cancelled));
        assert_eq!(grandchild.cause(), Some(StopCause::ParentTerminated));
        assert_eq!(parent.child().cause(), Some(StopCause::ParentTerminated));
        assert!(grandchild.flag().is_set());
    }

    #[test]
    fn an_interrupt_is_over_with_its_episode() {
        let control = Control::new();
        control.interrupt();
        assert_eq!((control.cause(), control.flag().is_set()), (Some(StopCause::Interrupted), false));
        control.episode_over();
        assert_eq!(control.cause(), None);
    }
}
