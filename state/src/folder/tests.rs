//! A job's folder: what was fixed stays, what is damaged is told, one process at a time.

use super::*;

pub(crate) fn spec(job: &str) -> JobSpec {
    JobSpec {
        job: job.into(),
        plan: "plan-1".into(),
        build: "build-1".into(),
        shards: 8,
        lanes: vec![SinkLanes { sink: "out".into(), lanes: 2 }],
        begin: Begin::Continue,
        holder: Holder { host: "here".into(), pid: 7, workers: 1 },
    }
}

fn folder() -> (tempfile::TempDir, Arc<Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::folder(dir.path()).unwrap());
    (dir, store)
}

#[test]
fn what_was_fixed_stays_fixed() {
    let (_dir, store) = folder();
    let first = Folder::open(store.clone(), &spec("j")).unwrap();
    let fixed = first.file.clone();
    drop(first);
    let again = JobSpec { lanes: vec![], build: "build-2".into(), ..spec("j") };
    assert_eq!(Folder::open(store.clone(), &again).unwrap().file, fixed);
    assert_eq!(jobs(&store).unwrap(), ["j"]);
}

#[test]
fn a_second_process_is_told_who_runs_the_job() {
    let (_dir, store) = folder();
    let first = Folder::open(store.clone(), &spec("j")).unwrap();
    let error = Folder::open(store.clone(), &spec("j")).unwrap_err();
    assert!(matches!(&error, StateError::Held { holder, .. } if holder == "process 7 on here"), "{error}");
    Folder::open(store.clone(), &spec("k")).unwrap();
    drop(first);
    Folder::open(store, &spec("j")).unwrap();
}

#[test]
fn looking_at_the_lock_keeps_nobody_out() {
    let (_dir, store) = folder();
    let opened = Folder::open(store.clone(), &spec("j")).unwrap();
    assert_eq!(Lock::is_held(&opened.folder), Some(true));
    let folder = opened.folder.clone();
    drop(opened);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                Lock::is_held(&folder);
            }
        });
        for _ in 0..200 {
            drop(folder.lock(&spec("j").holder).unwrap());
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(Lock::is_held(&folder), Some(false));
}

#[test]
fn a_folder_of_another_job_or_format_is_refused() {
    let (dir, store) = folder();
    Folder::open(store.clone(), &spec("j")).unwrap();
    let job_json = dir.path().join("jobs/j/job.json");
    let whole = std::fs::read_to_string(&job_json).unwrap();

    std::fs::write(&job_json, whole.replace("\"j\"", "\"other\"")).unwrap();
    let error = Folder::open(store.clone(), &spec("j")).unwrap_err();
    assert!(matches!(&error, StateError::OtherJob { reason, .. } if reason.contains("`other`")), "{error}");

    std::fs::write(&job_json, whole.replace("\"format\": 1", "\"format\": 2")).unwrap();
    assert!(matches!(
        Folder::open(store.clone(), &spec("j")).unwrap_err(),
        StateError::Newer { found: 2, known: 1, .. }
    ));

    std::fs::write(&job_json, &whole[..20]).unwrap();
    assert!(matches!(Folder::open(store.clone(), &spec("j")).unwrap_err(), StateError::Damaged { .. }));

    std::fs::remove_file(&job_json).unwrap();
    store.put("jobs/j/log/00000000000000000001.json", b"x".to_vec()).unwrap();
    let error = Folder::open(store, &spec("j")).unwrap_err();
    assert!(error.to_string().contains("no job.json"), "{error}");
}

#[test]
fn a_name_cannot_leave_the_folder() {
    let (_dir, store) = folder();
    for name in ["", "..", "a/b", ".x", "a b"] {
        assert!(Folder::open(store.clone(), &spec(name)).is_err(), "{name}");
    }
}

#[test]
fn starting_over_completes_after_a_crash_at_any_write() {
    use crate::tests::faulty::{Fault, Faulty};
    for crash in 0..6 {
        let (dir, store) = folder();
        let old = Folder::open(store.clone(), &spec("j")).unwrap().file;
        for path in ["log/00000000000000000001.json", "floor/00000000000000000001", "state/g/c/w/s.t.base.parquet"] {
            store.put(&format!("jobs/j/{path}"), b"old".to_vec()).unwrap();
        }
        let faulty = Arc::new(Faulty::over(store.objects()));
        let failing = Arc::new(Store::over(faulty.clone(), Some(dir.path().into())));
        faulty.next((0..crash).map(|_| Fault::None).chain([Fault::Before(std::io::ErrorKind::Other)]));
        let fresh = JobSpec { begin: Begin::Fresh, plan: "plan-2".into(), ..spec("j") };
        let _ = Folder::open(failing, &fresh);
        // The next run does not ask for a fresh start: it finds the old incarnation whole or the new one empty.
        match Folder::open(store.clone(), &spec("j")) {
            Ok(opened) if opened.file == old => {
                assert_eq!(store.list("jobs/j/log").unwrap().len(), 1);
                assert_eq!(store.list("jobs/j/state").unwrap().len(), 1);
            }
            Ok(opened) => {
                assert_eq!(opened.file.plan, "plan-2");
                for part in ["log", "floor", "state"] {
                    assert!(store.list(&format!("jobs/j/{part}")).unwrap().is_empty(), "{part}");
                }
                assert!(store.get("jobs/j/fresh.json").unwrap().is_none());
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn starting_over_again_after_a_crash_is_not_undone_by_the_one_that_was_cut_short() {
    use crate::tests::faulty::{Fault, Faulty};
    for crash in 0..8 {
        let (dir, store) = folder();
        Folder::open(store.clone(), &spec("j")).unwrap();
        store.put("jobs/j/log/00000000000000000001.json", b"old".to_vec()).unwrap();
        let fresh = JobSpec { begin: Begin::Fresh, ..spec("j") };
        let faulty = Arc::new(Faulty::over(store.objects()));
        let failing = Arc::new(Store::over(faulty.clone(), Some(dir.path().into())));
        faulty.next((0..crash).map(|_| Fault::None).chain([Fault::Before(std::io::ErrorKind::Other)]));
        let _ = Folder::open(failing, &fresh);
        let again = Folder::open(store.clone(), &fresh).unwrap().file;
        store.put("jobs/j/log/00000000000000000001.json", b"new".to_vec()).unwrap();
        let next = Folder::open(store.clone(), &spec("j")).unwrap().file;
        assert_eq!(next.incarnation, again.incarnation, "crash {crash}");
        assert_eq!(store.list("jobs/j/log").unwrap().len(), 1, "crash {crash}: what it wrote is there");
    }
}
