//! Every bundled job is documented and tested: it has a page that is linked, and a test file whose first example is on the page.

use std::fs;
use std::path::{Path, PathBuf};

use riverrun_jobs::bundled::BUNDLED;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_bundled_job_has_a_page_and_the_pages_are_linked() {
    let (readme, docs) = (read(&root().join("README.md")), read(&root().join("docs/README.md")));
    for job in BUNDLED {
        let name = job.name;
        let page = read(&root().join(format!("docs/jobs/{name}.md")));
        assert!(page.starts_with(&format!("# The bundled job `{name}`\n")), "{name}");
        for part in [
            "## What it reads",
            "## What it writes",
            "## Rules and defaults",
            "## An example",
            "## With your own columns",
        ] {
            assert!(page.contains(&format!("\n{part}\n")), "the page of `{name}` has no `{part}`");
        }
        let (plan, _) = riverrun_jobs::check(name, job.text, &[]).expect("it is clean");
        let topics = job.text.split(['{', '}', ',', '\n']).filter_map(|part| part.trim().strip_prefix("topic: "));
        for topic in topics {
            assert!(page.contains(&format!("`{topic}`")), "the page of `{name}` says nothing of `{topic}`");
        }
        assert_eq!(plan.name(), name);
        assert!(readme.contains(&format!("(docs/jobs/{name}.md)")), "README.md has no link to the page of `{name}`");
        assert!(docs.contains(&format!("(jobs/{name}.md)")), "docs/README.md has no link to the page of `{name}`");
    }
}

/// Returns the tables of a test file, each row as its cells.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| line.contains(" | "));
    lines.map(|line| line.split('|').map(|cell| cell.trim().trim_matches('"')).collect()).collect()
}

#[test]
fn every_bundled_job_has_tests_and_the_example_of_its_page_is_among_them() {
    for job in BUNDLED {
        let name = job.name;
        let tests = read(&root().join(format!("jobs/{name}.test.yaml")));
        assert!(tests.matches("\n    expect:\n").count() >= 2, "{name} has an example, and cases at its edges");
        let page = read(&root().join(format!("docs/jobs/{name}.md")));
        let (_, example) = page.split_once("\n## An example\n").expect("the page has one");
        let (example, _) = example.split_once("\n## ").unwrap_or((example, ""));
        let tested = rows(&tests);
        // Times and fractions may be written otherwise, and columns left out: numbers and names are those of the tests, row by row.
        for row in rows(example).into_iter().filter(|row| !row.iter().any(|cell| cell.starts_with("---"))) {
            let cells =
                row.iter().filter(|cell| !cell.is_empty() && !cell.contains([':', '-']) && !cell.starts_with("0."));
            let cells: Vec<&&str> = cells.collect();
            let is_there = tested.iter().any(|tested| cells.iter().all(|cell| tested.contains(*cell)));
            assert!(is_there, "the page of `{name}` shows a row that is in none of its tests: {row:?}");
        }
    }
}
