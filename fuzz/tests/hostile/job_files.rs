//! Job files, up to the plan and all that is shown of it.

use riverrun_fuzz::hold::Target;
use riverrun_jobs::bundled::{BUNDLED, STARTERS};
use riverrun_jobs::explain::{Form, explain};
use riverrun_jobs::fault::Style;

use crate::{as_it_is, files_below, hold, kept_jobs};

#[test]
fn job_file() {
    let ours = BUNDLED.iter().chain(&STARTERS).map(|job| job.text.as_bytes().to_vec());
    let samples = ours.chain(kept_jobs().iter().flat_map(|job| files_below(job, "job.yaml"))).collect();
    hold(&Target {
        name: "job-file",
        samples,
        mend: as_it_is(),
        // What planning expressions takes, whatever the file's length; and what is parsed of a line within braces, a hundred times the line: inputs
        // are 256 KiB at most.
        spare: 32 << 20,
        cases: 200,
        read: Box::new(|bytes| match riverrun_jobs::check("job.yaml", &String::from_utf8_lossy(bytes), &[]) {
            Ok((plan, report)) => {
                assert_eq!(report.errors(), 0);
                assert!(!explain(&plan, Form::Json).is_empty());
            }
            Err(report) => {
                assert!(!report.render(Style::Plain).is_empty());
                assert_eq!(report.to_json().as_array().map(Vec::len), Some(report.faults().len()));
            }
        }),
    });
}
