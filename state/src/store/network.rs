//! The one thread that waits for the network on behalf of a store. Callers are plain threads: they block until their answer is
//! there, however many of them there are.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use futures::executor::block_on;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A running thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Network {
    runtime: Handle,
    /// Dropped to end the thread.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    /// Starts the thread.
    pub fn start() -> io::Result<Network> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let wait = move || {
            // Nothing is ever sent.
            runtime.block_on(ended).ok();
            // A name that is still being looked up holds up nobody.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("state store".into()).spawn(wait)?;
        Ok(Network { runtime: handle, end: Some(end), thread: Some(thread) })
    }

    /// Blocks until `act` is done. Sockets and timers that it makes belong to the thread.
    pub fn wait<T>(&self, act: impl Future<Output = T>) -> T {
        let _within = self.runtime.enter();
        block_on(act)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.end.take();
        // It may be gone only because it panicked, which has ended the process.
        self.thread.take().map(JoinHandle::join);
    }
}
