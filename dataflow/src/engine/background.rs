//! Work that blocks, done beside the workers: requests are taken in order, each is answered, and the work ends with its owner.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use super::pace::{Aside, Pace, Wait, Worked};

/// Owns named work beside the workers, a thread of its own. Dropping it lets the work finish what it was asked, and waits for
/// that.
pub struct Background<Request, Reply> {
    requests: Option<Sender<Request>>,
    replies: Receiver<Reply>,
    finish: Option<Box<dyn FnOnce()>>,
}

/// The end of a [`Background`] that does the work.
struct Answering<Request, Reply, Work, Wake> {
    inbox: Receiver<Request>,
    outbox: Sender<Reply>,
    work: Work,
    wake: Wake,
}

impl<Request, Reply, Work, Wake> Aside for Answering<Request, Reply, Work, Wake>
where
    Request: Send,
    Reply: Send,
    Work: FnMut(Request) -> Reply + Send,
    Wake: Fn() + Send,
{
    fn work(&mut self, wait: Wait) -> Worked {
        let request = match wait {
            Wait::ForWork => self.inbox.recv().map_err(|_| TryRecvError::Disconnected),
            Wait::No => self.inbox.try_recv(),
        };
        match request {
            Ok(request) => {
                let reply = (self.work)(request);
                if self.outbox.send(reply).is_err() {
                    return Worked::Over;
                }
                (self.wake)();
                Worked::Done
            }
            Err(TryRecvError::Empty) => Worked::Nothing,
            Err(TryRecvError::Disconnected) => Worked::Over,
        }
    }
}

impl<Request: Send + 'static, Reply: Send + 'static> Background<Request, Reply> {
    /// Starts to answer requests by `work`, calling `wake` after every answer.
    pub fn start(
        pace: &dyn Pace,
        name: &str,
        work: impl FnMut(Request) -> Reply + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (requests, inbox) = channel::<Request>();
        let (outbox, replies) = channel();
        let finish = pace.beside(name, Box::new(Answering { inbox, outbox, work, wake }))?;
        Ok(Background { requests: Some(requests), replies, finish: Some(finish) })
    }

    /// Hands over a request. If the work panicked, the next [`Background::reply`] says so.
    pub fn request(&self, request: Request) {
        if let Some(requests) = &self.requests {
            // The receiver is gone only if the work panicked, which `reply` reports.
            requests.send(request).ok();
        }
    }

    /// Returns the next answer if there is one; an error if the work panicked.
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
        if let Some(finish) = self.finish.take() {
            finish();
        }
    }
}

/// The work panicked.
#[derive(Debug)]
pub struct Died;

#[cfg(test)]
mod tests {
    use super::super::pace::Machine;
    use super::*;

    #[test]
    fn requests_are_answered_in_order_and_a_dead_thread_is_noticed() {
        let (woken, wakes) = channel();
        let doubler = Background::start(
            &Machine,
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
