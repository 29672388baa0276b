//! The list of what Prometheus is to scrape, for its `file_sd_configs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::supervised::put;

/// The list, kept in `targets.json`.
pub struct Targets {
    path: PathBuf,
    jobs: Mutex<BTreeMap<String, Vec<(u16, SocketAddr)>>>,
}

impl Targets {
    /// Returns the list in the manager's folder.
    pub fn in_folder(data: &Path) -> Targets {
        Targets { path: data.join("targets.json"), jobs: Mutex::default() }
    }

    /// Says where the processes of a job are; the file is written if that is news.
    pub fn set(&self, job: &str, addresses: &[(u16, SocketAddr)]) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.get(job).map(Vec::as_slice).unwrap_or_default() == addresses && self.path.exists() {
            return;
        }
        match addresses.is_empty() {
            true => drop(jobs.remove(job)),
            false => drop(jobs.insert(job.to_owned(), addresses.to_vec())),
        }
        let target = |(job, (index, address)): (&String, &(u16, SocketAddr))| json!({ "targets": [address.to_string()], "labels": { "riverrun_job": job, "process": index.to_string() } });
        let each = jobs.iter().flat_map(|(job, all)| all.iter().map(move |one| (job, one)));
        let list = serde_json::Value::Array(each.map(target).collect());
        if let Err(error) = put(&self.path, format!("{list:#}\n").as_bytes()) {
            tracing::warn!(path = %self.path.display(), %error, "the list of scrape targets is not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_the_processes_that_live() {
        let folder = tempfile::tempdir().unwrap();
        let targets = Targets::in_folder(folder.path());
        let read = || std::fs::read_to_string(folder.path().join("targets.json")).unwrap();
        targets.set("shop", &[(0, "127.0.0.1:4000".parse().unwrap())]);
        let list: serde_json::Value = serde_json::from_str(&read()).unwrap();
        assert_eq!(list[0]["targets"], json!(["127.0.0.1:4000"]));
        assert_eq!(list[0]["labels"], json!({ "riverrun_job": "shop", "process": "0" }));
        targets.set("shop", &[]);
        assert_eq!(read(), "[]\n");
    }
}
