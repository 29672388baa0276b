//! State files.

use bytes::Bytes;
use riverrun_fuzz::hold::Target;
use riverrun_state::file::{About, decode_all};

use crate::{as_it_is, files_below, hold, kept_jobs};

#[test]
fn state_file() {
    let samples = kept_jobs().iter().flat_map(|job| files_below(&job.join("state/jobs"), ".parquet")).collect();
    hold(&Target {
        name: "state-file",
        samples,
        mend: as_it_is(),
        // So many rows are decoded at once, of as many columns as a table has: equal ones take no bytes. 8.5 MB were seen.
        spare: 16 << 20,
        cases: 1500,
        read: Box::new(|bytes| {
            let bytes = Bytes::copy_from_slice(bytes);
            if let Ok(about) = About::of(bytes.clone()) {
                drop(about.key_columns());
            }
            drop(decode_all(bytes.clone(), &|_| true));
            drop(decode_all(bytes, &|shard| shard % 2 == 0));
        }),
    });
}
