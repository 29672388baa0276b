//! A thread for work that blocks: it takes requests in order, answers each, and ends with its owner.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

/// Owns a named thread. Dropping it lets the thread finish what it was asked, and waits for that.
pub struct Background<Request, Reply> {
    requests: Option<Sender<Request>>,
    replies: Receiver<Reply>,
    thread: Option<JoinHandle<()>>,
}

impl<Request: Send + 'static, Reply: Send + 'static> Background<Request, Reply> {
    /// Starts a thread that answers requests by `work` and calls `wake` after every answer.
    pub fn start(
        name: &str,
        mut work: impl FnMut(Request) -> Reply + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (requests, inbox) = channel::<Request>();
        let (outbox, replies) = channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for request in inbox {
                if outbox.send(work(request)).is_err() {
                    return;
                }
                wake();
            }
        })?;
        Ok(Background { requests: Some(requests), replies, thread: Some(thread) })
    }

    /// Hands over a request. If the thread died, the next [`Background::reply`] says so.
    pub fn request(&self, request: Request) {
        if let Some(requests) = &self.requests {
            // The receiver is gone only if the thread panicked, which `reply` reports.
            requests.send(request).ok();
        }
    }

    /// Returns the next answer if there is one; an error if the thread died.
    pub fn reply(&self) -> Result<Option<Reply>, Died> {
        match self.replies.try_recv() {
            Ok(reply) => Ok(Some(reply)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Died),
        }
    }
}

impl<Request, Reply> Drop for Background<Request, Reply> {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook and by `reply`.
            thread.join().ok();
        }
    }
}

/// The thread panicked.
#[derive(Debug)]
pub struct Died;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_in_order_and_a_dead_thread_is_noticed() {
        let (woken, wakes) = channel();
        let doubler = Background::start(
            "doubler",
            |n: u32| if n == 3 { panic!("three") } else { n * 2 },
            move || woken.send(()).expect("the test listens"),
        )
        .unwrap();
        doubler.request(1);
        doubler.request(2);
        wakes.recv().unwrap();
        wakes.recv().unwrap();
        assert_eq!(doubler.reply().unwrap(), Some(2));
        assert_eq!(doubler.reply().unwrap(), Some(4));
        assert!(doubler.reply().unwrap().is_none());
        doubler.request(3);
        assert!(wakes.recv().is_err(), "the thread is gone");
        assert!(doubler.reply().is_err());
    }
}
