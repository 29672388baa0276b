//! Panics: a broken invariant in any thread ends the process, with one line that can be reported and exit code 70.
//!
//! Without this a worker that panics would leave the others waiting for it for ever. Nothing is half done after it: what was
//! committed is, and a restart goes on from there.

use std::backtrace::Backtrace;
use std::io::Write;
use std::panic::PanicHookInfo;

use serde_json::json;

use crate::exit::Exit;
use crate::supervised;

/// Makes every panic end the process.
pub fn install() {
    std::panic::set_hook(Box::new(|info| {
        let line = report(info, std::thread::current().name().unwrap_or("unnamed"));
        // Nothing can be done about a stderr that is gone.
        let _ = writeln!(std::io::stderr(), "{line}");
        supervised::end(Exit::Internal as u8, Some(line));
        std::process::exit(Exit::Internal as i32);
    }));
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
