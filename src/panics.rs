//! Panics: a broken invariant in any thread ends the process, with one line that can be reported and exit code 70.
//!
//! Without this a worker that panics would leave the others waiting for it for ever. Nothing is half done after it: what was
//! committed is, and a restart goes on from there.
//!
//! Timely panics too when a connection between processes breaks: that is no fault, and has exit code 75.

use std::backtrace::Backtrace;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use riverrun_dataflow::caught;
use riverrun_dataflow::engine::Control;
use serde_json::json;

use crate::exit::Exit;
use crate::supervised;

/// How a panic begins by which timely says that a connection broke.
const BROKEN: &str = "timely communication error:";
/// How long the connection of control may take to say why: it knows which process is lost, and what it said. Longer than the others
/// are told of it first, which a frozen one makes take its time.
const WHY: Duration = Duration::from_secs(10);
/// How long a process that has ended its job may take to end itself.
const ENDING: Duration = Duration::from_secs(30);

/// The job of this process, if it has connections that may break.
static MESHED: OnceLock<Arc<Control>> = OnceLock::new();

/// From now on connections of the job that `control` steers may break.
pub fn expect_loss(control: Arc<Control>) {
    // A process runs one job in its life.
    MESHED.set(control).ok();
}

/// Makes every panic end the process that nobody catches to tell it as an error.
pub fn install() {
    std::panic::set_hook(Box::new(|info| {
        if caught::catches(info) {
            return;
        }
        if info.payload_as_str().is_some_and(|message| message.starts_with(BROKEN)) {
            lost(info);
        }
        let line = report(info, std::thread::current().name().unwrap_or("unnamed"));
        // Nothing can be done about a stderr that is gone.
        let _ = writeln!(std::io::stderr(), "{line}");
        supervised::end(Exit::Internal as u8, Some(line));
        std::process::exit(Exit::Internal as i32);
    }));
}

/// Ends the process because a connection with another one broke, unless somebody who knows more does so first.
fn lost(info: &PanicHookInfo<'_>) -> ! {
    // Not parked: timely wakes this thread as if it were at work.
    std::thread::sleep(WHY);
    if MESHED.get().is_some_and(|control| control.ended()) {
        std::thread::sleep(ENDING);
    }
    let message = info.payload_as_str().unwrap_or(BROKEN);
    let thread = std::thread::current();
    let hint = "another process of the job is gone; all of them start again, from the job's log";
    let line = json!({ "level": "ERROR", "message": message, "thread": thread.name(), "hint": hint });
    // Nothing can be done about a stderr that is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
    supervised::end(Exit::Fenced as u8, Some(line.to_string()));
    std::process::exit(Exit::Fenced as i32);
}

fn report(info: &PanicHookInfo<'_>, thread: &str) -> String {
    let message = info.payload_as_str().unwrap_or("a panic without a message");
    let at = info.location().map(|location| format!("{}:{}", location.file(), location.line()));
    let mut report = json!({
        "level": "ERROR",
        "message": format!("internal error: {message}"),
        "at": at,
        "thread": thread,
        "version": env!("CARGO_PKG_VERSION"),
        "hint": "this is a fault in riverrun, not in your job or data: please report this line; a restart goes on where this run stopped",
    });
    let backtrace = Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        report["backtrace"] = backtrace.to_string().into();
    }
    report.to_string()
}
