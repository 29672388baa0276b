//! Signals: the first SIGINT or SIGTERM asks the work to stop cleanly, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Exit, Failure, OrExit};

/// Signals this close together are one wish: `timeout` and shells send them to a process and to its group.
const ONE_WISH: Duration = Duration::from_millis(200);

/// Set once somebody asked for a stop.
pub type Asked = Arc<AtomicBool>;

/// Starts listening. `on_first` is called once, on the listening thread, when the first signal comes.
pub fn listen(on_first: impl FnOnce() + Send + 'static) -> Result<Asked, Failure> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).or_exit(Exit::Internal, || "cannot listen to signals".to_owned())?;
    let asked: Asked = Arc::default();
    let flag = asked.clone();
    let mut on_first = Some(on_first);
    #[expect(clippy::disallowed_methods, reason = "tells one wish from two; reaches no output")]
    let listening = move || {
        let mut first = Instant::now();
        for signal in signals.forever() {
            flag.store(true, Ordering::Release);
            if let Some(stop) = on_first.take() {
                first = Instant::now();
                stop();
            } else if first.elapsed() > ONE_WISH {
                // 130 or 143, as a shell would say of a process that the signal ended.
                std::process::exit(128 + signal);
            }
        }
    };
    // Owned by the process: it ends with it.
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listening)
        .or_exit(Exit::Internal, || "cannot start the thread that listens to signals".to_owned())?;
    Ok(asked)
}

/// Starts listening for a command that only has to notice.
pub fn notice() -> Result<Asked, Failure> {
    listen(|| {})
}

/// Returns whether a stop was asked for.
pub fn asked(flag: &Asked) -> bool {
    flag.load(Ordering::Acquire)
}
