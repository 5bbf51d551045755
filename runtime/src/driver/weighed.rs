//! A queue that is bounded by what lies in it, and not only by how many: sixty-four messages may be a KiB or half a GiB.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// 64 messages, however small they are.
pub(crate) const MESSAGES: usize = 64;
/// 1 KiB: the unit in which is counted.
const UNIT_BYTES: usize = 1024;

/// The end that is filled.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    queue: mpsc::Sender<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    units: u32,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), room: Arc::clone(&self.room), units: self.units }
    }
}

/// The end that is emptied.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: mpsc::Receiver<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Whoever waits for room learns that nobody listens.
        self.room.close();
    }
}

/// Nobody takes what is sent any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed;

/// A queue of so many bytes. A single message may be larger: then it lies there alone.
pub(crate) fn channel<T>(bytes_max: usize) -> (Sender<T>, Receiver<T>) {
    let units = u32::try_from(bytes_max.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX >> 4);
    let room = Arc::new(Semaphore::new(usize::try_from(units).unwrap_or(1)));
    let (sender, receiver) = mpsc::channel(MESSAGES);
    (Sender { queue: sender, room: Arc::clone(&room), units }, Receiver { queue: receiver, room })
}

impl<T> Sender<T> {
    /// Sends once there is room.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(crate) async fn send(&self, message: T, bytes: usize) -> Result<(), Closed> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX).min(self.units);
        let permit = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| Closed)?;
        self.queue.send((message, permit)).await.map_err(|_| Closed)
    }

    /// Returns when nobody listens any more.
    pub(crate) async fn closed(&self) {
        self.queue.closed().await;
    }
}

impl<T> Receiver<T> {
    /// The next message; its room is free from then on.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        self.queue.recv().await.map(|(message, _)| message)
    }

    /// The next message, if there is one now.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        self.queue.try_recv().ok().map(|(message, _)| message)
    }
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<T>> {
        self.queue.poll_recv(ctx).map(|item| item.map(|(message, _)| message))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_queue_is_full_by_its_bytes_and_takes_one_that_is_larger_than_all_of_it() {
        let (sender, mut receiver) = channel(64 * 1024);
        sender.send(1, 40 * 1024).await.unwrap();
        assert_eq!(sender.send(2, 40 * 1024).now_or_never(), None, "it has no room");
        assert_eq!(receiver.recv().await, Some(1));
        sender.send(3, 1024 * 1024).await.unwrap();
        assert_eq!(sender.send(4, 1).now_or_never(), None, "the large one lies there alone");
        assert_eq!(receiver.recv().await, Some(3));
        drop(receiver);
        assert_eq!(sender.send(5, 1).await, Err(Closed));
    }
}
