//! Keeps a decoder to the rule: the inputs of its corpus first, then as many mutations as there is time for.
//!
//! The input in hand always lies in a file: even one that ends the whole process (an allocation that the system refuses, a
//! stack that overflows) is left behind, and the next run says so.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use xxhash_rust::xxh3::xxh3_64;

use crate::dice::Dice;
use crate::mutate::mutate;

/// Memory that a decoder may take at most, relative to its input.
pub const FACTOR: usize = 16;
/// Time on a processor that a decoder may take for an input at most, whatever else the machine does.
const EFFORT: Duration = Duration::from_secs(2);
/// A decoder that is at one input for so long hangs. Generous: the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);
/// Different failures after which a run ends.
const FAILURES_MAX: usize = 12;
/// Attempts at making a failing input shorter.
const SHRINKS_MAX: usize = 400;

/// Changes bytes so that they are believed.
pub type Mend<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;
/// Reads bytes.
pub type Read<'a> = Box<dyn Fn(&[u8]) + 'a>;

/// A decoder and the inputs it knows.
pub struct Target<'a> {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Valid inputs; the corpus is added to them.
    pub samples: Vec<Vec<u8>>,
    /// Puts checksums right, so that what lies behind them is reached. Half the inputs go without.
    pub mend: Mend<'a>,
    /// Bytes that it may take beyond [`FACTOR`] times its input: buffers of a fixed size.
    pub spare: usize,
    /// Mutations in a short run.
    pub cases: u64,
    /// Decodes, and uses what came out. Whatever the bytes are, it returns.
    pub read: Read<'a>,
}

/// Peaks are of the whole process: one target at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Holds `target` to the rule; `corpus` is the folder of all corpora.
///
/// # Panics
/// With a report of every input that broke it.
pub fn hold(target: &Target<'_>, corpus: &Path) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    watch_panics();
    let mut run = Run::of(target, corpus);
    if let Some(path) = std::env::var_os("RIVERRUN_FUZZ_INPUT") {
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        run.try_out(&bytes);
        return run.end(1);
    }
    let known = run.known();
    for bytes in &known {
        run.try_out(bytes);
    }
    let from = number("RIVERRUN_FUZZ_SEED").unwrap_or(0);
    let until = number("RIVERRUN_FUZZ_SECONDS").map(|seconds| worked() + Duration::from_secs(seconds));
    let mut cases = 0;
    while run.failures.len() < FAILURES_MAX && until.map_or(cases < target.cases, |until| worked() < until) {
        let mut dice = Dice::new(xxh3_64(target.name.as_bytes()) ^ (from + cases));
        let mut bytes = mutate(&known[dice.below(known.len())], &known, &mut dice);
        if dice.below(2) == 0 {
            (target.mend)(&mut bytes);
        }
        run.try_out(&bytes);
        cases += 1;
    }
    run.end(cases);
}

/// A run of one target.
struct Run<'a> {
    target: &'a Target<'a>,
    corpus: PathBuf,
    /// Where the input in hand lies.
    in_hand: PathBuf,
    watch: Arc<Mutex<Option<Instant>>>,
    /// By kind: the shortest input, and what happened.
    failures: BTreeMap<String, (Vec<u8>, String)>,
}

impl<'a> Run<'a> {
    fn of(target: &'a Target<'a>, corpus: &Path) -> Run<'a> {
        assert!(!target.samples.is_empty(), "mutations are made of something");
        let before = PeakAlloc.current_usage();
        let held = vec![1u8; 1 << 20];
        // Other threads take and give too, but not so much.
        let counted = PeakAlloc.current_usage() > before + held.len() / 2;
        assert!(counted, "the test binary counts what it allocates");
        let checkout = xxh3_64(env!("CARGO_MANIFEST_DIR").as_bytes());
        // Written at every input: in memory, where there is such a folder.
        let memory = Some(PathBuf::from("/dev/shm")).filter(|folder| folder.is_dir());
        let folder = memory.unwrap_or_else(std::env::temp_dir).join(format!("riverrun-hostile-{checkout:08x}"));
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot write to {}: {error}", folder.display()));
        let in_hand = folder.join(format!("{}.in-hand", target.name));
        if in_hand.exists() {
            let kept = folder.join(format!("{}.ended-the-process", target.name));
            let _ = fs::rename(&in_hand, &kept);
            eprintln!("{}: a run before this one ended, or was ended, on {}", target.name, kept.display());
        }
        let watch = Arc::new(Mutex::new(None));
        watch_time(target.name, &watch, in_hand.clone());
        Run { target, corpus: corpus.join(target.name), in_hand, watch, failures: BTreeMap::new() }
    }

    /// Returns the samples and the corpus.
    fn known(&self) -> Vec<Vec<u8>> {
        if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
            self.write_samples();
        }
        let mut paths: Vec<PathBuf> = fs::read_dir(&self.corpus)
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        paths.sort();
        let kept = paths.iter().map(|path| fs::read(path).expect("a file of the corpus is readable"));
        self.target.samples.iter().cloned().chain(kept).collect()
    }

    fn write_samples(&self) {
        fs::create_dir_all(&self.corpus).expect("the corpus can be written");
        for (index, sample) in self.target.samples.iter().enumerate() {
            fs::write(self.corpus.join(format!("sample-{index}")), sample).expect("the corpus can be written");
        }
    }

    fn try_out(&mut self, bytes: &[u8]) {
        let Some((kind, what)) = self.broken(bytes) else { return };
        if self.failures.contains_key(&kind) {
            return;
        }
        let shorter = self.shrink(bytes.to_vec(), &kind);
        self.failures.insert(kind, (shorter, what));
    }

    /// Decodes `bytes`; returns the kind of the breach of the rule and what happened, if it was one.
    fn broken(&self, bytes: &[u8]) -> Option<(String, String)> {
        fs::write(&self.in_hand, bytes).expect("the input in hand can be written");
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(now());
        PANIC.with_borrow_mut(|panic| *panic = None);
        PeakAlloc.reset_peak_usage();
        let (before, from) = (PeakAlloc.current_usage(), worked());
        let ended = catch_unwind(AssertUnwindSafe(|| (self.target.read)(bytes)));
        let (taken, effort) = (PeakAlloc.peak_usage().saturating_sub(before), worked() - from);
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if ended.is_err() {
            let (at, message) = PANIC.with_borrow_mut(Option::take).unwrap_or_default();
            return Some((at.clone(), format!("it panics at {at}: {message}")));
        }
        if effort > EFFORT {
            return Some(("time".to_owned(), format!("it works for {effort:?} at {} bytes", bytes.len())));
        }
        let allowed = FACTOR * bytes.len() + self.target.spare;
        (taken > allowed)
            .then(|| ("memory".to_owned(), format!("it takes {taken} bytes for {}, more than {allowed}", bytes.len())))
    }

    /// Returns a shorter input that fails alike, where cutting pieces out gives one.
    fn shrink(&self, mut bytes: Vec<u8>, kind: &str) -> Vec<u8> {
        let mut piece = bytes.len() / 2;
        let mut attempts = 0;
        while piece > 0 && attempts < SHRINKS_MAX {
            let mut at = 0;
            while at < bytes.len() && attempts < SHRINKS_MAX {
                let mut shorter = bytes.clone();
                shorter.drain(at..(at + piece).min(bytes.len()));
                attempts += 1;
                match self.broken(&shorter) {
                    Some((found, _)) if found == kind => bytes = shorter,
                    _ => at += piece,
                }
            }
            piece /= 2;
        }
        bytes
    }

    fn end(self, cases: u64) {
        let _ = fs::remove_file(&self.in_hand);
        let name = self.target.name;
        if self.failures.is_empty() {
            println!("{name}: {cases} hostile inputs, none of which broke the rule");
            return;
        }
        let mut report = format!("{name}: after {cases} hostile inputs");
        for (bytes, what) in self.failures.values() {
            let path = self.in_hand.with_file_name(format!("{name}-{:016x}", xxh3_64(bytes)));
            fs::write(&path, bytes).expect("a failing input can be written");
            let (shown, corpus) = (path.display(), self.corpus.display());
            let _ = write!(
                report,
                "\n- {what}\n  again: RIVERRUN_FUZZ_INPUT={shown} cargo test --workspace --test hostile -- {}\
                 \n  keep:  mkdir -p {corpus} && cp {shown} {corpus}/",
                name.replace('-', "_")
            );
        }
        panic!("{report}");
    }
}

thread_local! {
    /// Where the last panic of this thread was, and what it said.
    static PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Takes note of panics, so that they can be told apart and a thousand of them stay silent.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let at = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
            let message = info.payload_as_str().unwrap_or("a panic without a message").to_owned();
            // Reports of this file are for people, all others are caught.
            if at.starts_with(file!()) {
                before(info);
            }
            PANIC.with_borrow_mut(|panic| *panic = Some((at, message)));
        }));
    });
}

/// Ends the process when an input takes too long: a thread that hangs cannot be ended otherwise.
fn watch_time(name: &'static str, watch: &Arc<Mutex<Option<Instant>>>, in_hand: PathBuf) {
    let watch = Arc::downgrade(watch);
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || {
            while let Some(since) = watch.upgrade() {
                let since = *since.lock().unwrap_or_else(PoisonError::into_inner);
                if since.is_some_and(|since| now().duration_since(since) > PATIENCE) {
                    let kept = in_hand.with_extension("hangs");
                    let _ = fs::copy(&in_hand, &kept);
                    eprintln!("{name}: it hangs, or takes longer than {PATIENCE:?}, on {}", kept.display());
                    std::process::exit(1);
                }
                std::thread::park_timeout(Duration::from_millis(500));
            }
        })
        .expect("a thread can be had");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{variable} must be a number, not `{text}`")))
}

/// Returns for how long this thread was on a processor.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread works for no negative time")
}

#[expect(clippy::disallowed_methods, reason = "how long a decoder takes is what is measured")]
fn now() -> Instant {
    Instant::now()
}
