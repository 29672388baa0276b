//! Codes and their pages belong together, and the examples on the pages do what the pages say.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use riverrun_jobs::fault::codes::ALL;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/errors")
}

fn page(code: &str) -> String {
    fs::read_to_string(folder().join(format!("{code}.md"))).unwrap_or_else(|error| panic!("{code}: {error}"))
}

fn example(page: &str, heading: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("{heading}:\n\n```yaml\n"))?;
    rest.split_once("```").map(|(text, _)| text.to_owned())
}

fn codes_of(text: &str) -> Vec<String> {
    let report = match riverrun_jobs::check("job.yaml", text, &[]) {
        Ok((_, report)) | Err(report) => report,
    };
    report.faults().iter().map(|fault| fault.code.name().to_owned()).collect()
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let known: BTreeSet<String> = ALL.iter().map(|(code, _)| code.name().to_owned()).collect();
    let pages: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".md").to_owned())
        .filter(|name| name.starts_with('J'))
        .collect();
    assert_eq!(known, pages);
    for (code, title) in ALL {
        let text = page(code.name());
        let mut title = title.trim_end_matches('.').to_owned();
        title[..1].make_ascii_lowercase();
        assert!(text.starts_with(&format!("# {}: {title}\n", code.name())), "{}", code.name());
        assert!(text.contains("**Usual cause.**") && text.contains("**Remedy.**"), "{}", code.name());
    }
}

#[test]
fn wrong_examples_have_their_fault_alone_and_right_ones_none() {
    for (code, _) in ALL {
        let text = page(code.name());
        if let Some(wrong) = example(&text, "Wrong") {
            assert_eq!(codes_of(&wrong), [code.name()], "wrong example of {}", code.name());
            let right = example(&text, "Right").expect("a wrong example has a right one beside it");
            assert!(codes_of(&right).is_empty(), "right example of {}: {:?}", code.name(), codes_of(&right));
        }
    }
}
