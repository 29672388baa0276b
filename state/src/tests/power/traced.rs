//! [`OnDisk`] is what the real store is taken for; here the system's own record of what the real one does is held against it.
//!
//! A script is played on the real store by a process of its own, under `strace`, and on the disk that remembers: both must have
//! done the same acts in the same order. What a job draws by lot has one length, and is in no name.

use std::process::{Command, Stdio};

use riverrun_dataflow::testing::disk::Act;

use super::*;

/// The folder in which the traced process plays, if this is it.
const FOLDER: &str = "RIVERRUN_TRACED_FOLDER";
/// Where nothing may be left out.
const ALL: &str = "RIVERRUN_TEST_ALL";
/// What changes files and names.
const CALLS: &str = "openat,?creat,write,pwrite64,writev,pwritev,ftruncate,fsync,fdatasync,?sync_file_range,?link,linkat,?rename,?renameat,\
                     renameat2,?unlink,unlinkat,?mkdir,mkdirat,?rmdir";
/// Begins, goes on in another process, deletes, begins afresh.
const SCRIPT: &[Step] = &[Collect, Start, Ticks, Checkpoint, Ticks, Checkpoint, Start, Ticks, Fresh, Ticks, Checkpoint];

#[test]
fn the_local_store_does_what_this_disk_is_told() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        play_on(Path::new(&folder), SCRIPT, |dir, _| Store::existing_folder(dir).unwrap());
        return;
    }
    let (real, told) = (quick_dir(), quick_dir());
    let Some(trace) = trace(real.path()) else { return };
    let real = acts_of(&trace, real.path().to_str().unwrap());
    let recording = play(told.path(), SCRIPT).disk.recording();
    let told: Vec<String> = recording.acts().iter().filter_map(told_of).collect();
    let differ = real.iter().zip(&told).position(|(real, told)| real != told);
    let differ = differ.unwrap_or(real.len().min(told.len()));
    let around = |acts: &[String]| acts[differ.saturating_sub(6)..(differ + 3).min(acts.len())].join("\n  ");
    let (real, told) = ((real.len(), around(&real)), (told.len(), around(&told)));
    assert!(real == told, "act {differ}: the local store did\n  {}\nbut it was to do\n  {}", real.1, told.1);
}

/// Plays the script under `strace`; returns what that wrote, or nothing where there is none, which is said.
fn trace(folder: &Path) -> Option<String> {
    match Command::new("strace").arg("true").stderr(Stdio::null()).status() {
        Ok(ended) if ended.success() => {}
        // A container may forbid it.
        Ok(_) => {
            eprintln!("LEFT OUT: strace may not trace here");
            return None;
        }
        Err(error) => {
            let all = std::env::var_os(ALL).is_some_and(|all| !all.is_empty());
            assert!(!all, "there is no strace, and {ALL} lets nothing be left out: {error}");
            eprintln!("LEFT OUT: there is no strace: {error}");
            return None;
        }
    }
    let written = tempfile::NamedTempFile::new().unwrap();
    let name = std::thread::current().name().expect("a test's thread has its name").to_owned();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "0", "-e", &format!("trace={CALLS}"), "-o"]).arg(written.path());
    strace.arg(std::env::current_exe().unwrap()).args(["--exact", &name, "--test-threads", "1"]);
    let ended = strace.env(FOLDER, folder).stdout(Stdio::null()).status().unwrap();
    assert!(ended.success(), "{ended}");
    Some(std::fs::read_to_string(written.path()).unwrap())
}

/// Returns what was changed inside `root` according to `strace`, as [`told_of`] says it. The lock is no matter of the store.
fn acts_of(trace: &str, root: &str) -> Vec<String> {
    assert!(!trace.contains("unfinished ..."), "one thread does it all");
    let done = trace.lines().filter(|line| line.contains(root) && !line.contains("/LOCK") && !line.contains(" = -1 "));
    done.filter_map(|line| {
        let (call, rest) = line.split_once('(')?;
        let call = call.rsplit(' ').next()?;
        let mut paths = inside(rest, root);
        let first = paths.next()?;
        Some(match call {
            "openat" if rest.contains("O_CREAT") => format!("create {first}"),
            "openat" => return None,
            "write" => format!("write {first} {}", line.rsplit(" = ").next()?),
            // A folder has no ending; a file that is synced is one that was staged.
            "fsync" | "fdatasync" if first.contains('#') => format!("sync {first}"),
            "fsync" => format!("sync folder {first}"),
            "link" | "linkat" => format!("link {first} {}", paths.next()?),
            "rename" | "renameat" | "renameat2" => format!("rename {first} {}", paths.next()?),
            "unlink" | "unlinkat" | "rmdir" => format!("remove {first}"),
            "mkdir" | "mkdirat" => format!("make folder {first}"),
            _ => panic!("a call that nobody expects: {line}"),
        })
    })
    .collect()
}

/// Returns the paths in the arguments of a call, relative to `root`: in quotes, or as what a descriptor stands for.
fn inside<'a>(arguments: &'a str, root: &'a str) -> impl Iterator<Item = &'a str> {
    let paths = arguments.split(['"', '<', '>']).filter_map(move |piece| piece.strip_prefix(root));
    paths.map(|path| path.strip_prefix('/').unwrap_or(path))
}

/// Returns an act in words, if it changes anything.
fn told_of(act: &Act) -> Option<String> {
    Some(match act {
        Act::Create(path) => format!("create {path}"),
        Act::Write { path, bytes, .. } => format!("write {path} {}", bytes.len()),
        Act::Cut { path, length } => format!("cut {path} {length}"),
        Act::Sync(path) => format!("sync {path}"),
        Act::Rename(from, to) => format!("rename {from} {to}"),
        Act::Link(from, to) => format!("link {from} {to}"),
        Act::Remove(path) => format!("remove {path}"),
        Act::MakeFolder(path) => format!("make folder {path}"),
        Act::SyncFolder(path) => format!("sync folder {path}"),
        Act::SyncFailed(path) => format!("sync failed {path}"),
        Act::Promise(_) => return None,
    })
}
