//! Where the processes of a job find each other: sockets in a folder that is nobody else's. A name of its own for each generation, so that
//! no process of another one is ever met.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::folder::private_folder;
use crate::manager::record::Launch;
use crate::output::hex;

/// The longest path that the system takes for a socket, with room for what a library puts around it.
const PATH_BYTES_MAX: usize = 100;
/// Bytes that stand for a name in a path that must be short.
const SHORT_BYTES: usize = 4;

/// Returns the addresses of all processes of a launch.
pub fn addresses(data: &Path, job: &str, launch: &Launch) -> Vec<String> {
    let (folder, own) = (folder(data), short(job));
    let address =
        |index: u16| format!("unix:{}", folder.join(format!("{own}-{}-{index}", launch.generation)).display());
    (0..launch.processes).map(address).collect()
}

/// Makes the folder, and deletes what other generations of the job have left in it.
pub fn prepare(data: &Path, job: &str, generation: u64) -> io::Result<()> {
    let folder = folder(data);
    private_folder(&folder)?;
    // Among temporary files somebody else may have made it before.
    let about = fs::metadata(&folder)?;
    if about.uid() != fs::metadata(data)?.uid() || about.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!("{} is open to others", folder.display())));
    }
    let current = format!("{}-{generation}-", short(job));
    delete(data, job, |name| !name.starts_with(&current));
    Ok(())
}

/// Deletes what is left of a job.
pub fn forget(data: &Path, job: &str) {
    delete(data, job, |_| true);
}

fn delete(data: &Path, job: &str, which: impl Fn(&str) -> bool) {
    let own = format!("{}-", short(job));
    for entry in fs::read_dir(folder(data)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&own) && which(&name) {
            // A socket that stays is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns the folder of sockets: the manager's own, or, where its path is too long for a socket, one for temporary files.
fn folder(data: &Path) -> PathBuf {
    let own = data.join("mesh");
    let longest = own.as_os_str().len() + "/00000000-18446744073709551615-65535".len();
    match longest <= PATH_BYTES_MAX {
        true => own,
        false => std::env::temp_dir().join(format!("riverrun-{}", short(&data.to_string_lossy()))),
    }
}

fn short(name: &str) -> String {
    hex(&Sha256::digest(name.as_bytes())[..SHORT_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::moment::Moment;
    use crate::manager::record::Task;

    #[test]
    fn each_generation_has_sockets_of_its_own_whatever_the_path() {
        let data = tempfile::tempdir().unwrap();
        let launch = |generation| Launch { generation, task: Task::Run, processes: 2, workers: 1, at: Moment(0) };
        let deep = data.path().join("d".repeat(200));
        for folder in [data.path(), &deep] {
            let (one, two) = (addresses(folder, "shop", &launch(1)), addresses(folder, "shop", &launch(2)));
            assert!(
                one.len() == 2 && one.iter().all(|address| !two.contains(address) && address.len() < 108),
                "{one:?}"
            );
            assert_ne!(one, addresses(folder, "other", &launch(1)));
        }
        prepare(data.path(), "shop", 1).unwrap();
        let socket = |address: &String| PathBuf::from(address.strip_prefix("unix:").unwrap());
        let (old, new) = (
            socket(&addresses(data.path(), "shop", &launch(1))[0]),
            socket(&addresses(data.path(), "shop", &launch(2))[0]),
        );
        [&old, &new].iter().for_each(|path| fs::write(path, "").unwrap());
        prepare(data.path(), "shop", 2).unwrap();
        assert!(!old.exists() && new.exists());
        forget(data.path(), "shop");
        assert!(!new.exists());
    }
}
