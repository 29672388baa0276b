//! The jobs that come with the binary, and the beginnings of new ones.

/// A job file that comes with the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobFile {
    /// Its name, without `.yaml`.
    pub name: &'static str,
    /// What it is for, in a few words.
    pub about: &'static str,
    /// What it says.
    pub text: &'static str,
}

/// The bundled jobs.
pub const BUNDLED: [JobFile; 11] = [
    JobFile {
        name: "attribution",
        about: "credits orders to the last click before them",
        text: include_str!("../attribution.yaml"),
    },
    JobFile {
        name: "attribution-models",
        about: "divides the revenue of orders among touches by six models side by side",
        text: include_str!("../attribution-models.yaml"),
    },
    JobFile {
        name: "frustration",
        about: "signs of people who do not get on, as signals, incidents and problems",
        text: include_str!("../frustration.yaml"),
    },
    JobFile {
        name: "item-minutes",
        about: "impressions, clicks and click-through rate of each item per minute",
        text: include_str!("../item-minutes.yaml"),
    },
    JobFile {
        name: "sessions",
        about: "visits of each device, and the ways through the shop",
        text: include_str!("../sessions.yaml"),
    },
    JobFile {
        name: "conversion",
        about: "click-through, conversion, order value, refunds and revenue per click of each item, by hour and by day",
        text: include_str!("../conversion.yaml"),
    },
    JobFile {
        name: "ab-test",
        about: "what each variant of each experiment leads to, and whether the sample is what was meant",
        text: include_str!("../ab-test.yaml"),
    },
    JobFile {
        name: "telemetry-funnel",
        about: "how many of each day's sign-ups come how far, up to the first deployed workflow, and how long they take",
        text: include_str!("../telemetry-funnel.yaml"),
    },
    JobFile {
        name: "bronze",
        about: "the raw topics as a lake of Parquet files, nothing left out, bad rows too",
        text: include_str!("../bronze.yaml"),
    },
    JobFile {
        name: "silver",
        about: "valid clicks and orders, each once, and the visits of users, as a lake",
        text: include_str!("../silver.yaml"),
    },
    JobFile {
        name: "gold",
        about: "daily metrics, the performance of items and cohorts of buyers, as a lake",
        text: include_str!("../gold.yaml"),
    },
];

/// Where a new job can begin, besides the bundled jobs.
pub const STARTERS: [JobFile; 2] = [
    JobFile {
        name: "window",
        about: "files in, a count per key and minute, a file out",
        text: include_str!("../starters/window.yaml"),
    },
    JobFile {
        name: "attribution",
        about: "two topics in, orders credited to clicks, a topic out",
        text: include_str!("../starters/attribution.yaml"),
    },
];

/// Returns the text of the bundled job `name`.
pub fn bundled(name: &str) -> Option<&'static str> {
    BUNDLED.iter().find(|job| job.name == name).map(|job| job.text)
}

/// Returns all that a new job can begin with: the starters, and the bundled jobs that are none of these.
pub fn beginnings() -> impl Iterator<Item = &'static JobFile> {
    let is_starter = |job: &&JobFile| STARTERS.iter().any(|starter| starter.name == job.name);
    STARTERS.iter().chain(BUNDLED.iter().filter(move |job| !is_starter(job)))
}

/// Returns the starter or bundled job `template` as the job file of a job called `name`.
pub fn starter(template: &str, name: &str) -> Option<String> {
    let starter = beginnings().find(|starter| starter.name == template)?;
    let (first, rest) = starter.text.split_once('\n')?;
    let comment = first.find('#').map_or("", |at| &first[at..]);
    Some(format!("{}\n{rest}", format!("job: {name:<30} {comment}").trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_clean(name: &str, text: &str) {
        match crate::check(name, text, &[]) {
            Ok((_, report)) if report.is_empty() => {}
            Ok((_, report)) | Err(report) => panic!("{report}"),
        }
    }

    #[test]
    fn every_bundled_job_and_every_starter_is_clean() {
        for job in BUNDLED {
            assert_clean(job.name, job.text);
            assert!(job.text.starts_with(&format!("job: {}\n", job.name)), "{}", job.name);
        }
        for job in STARTERS {
            assert_clean(job.name, job.text);
            let named = starter(job.name, "my-own").unwrap();
            assert_clean(job.name, &named);
            assert_eq!(crate::check("x", &named, &[]).unwrap().0.name(), "my-own");
        }
        let own = starter("telemetry-funnel", "my-funnel").unwrap();
        assert_eq!(crate::check("x", &own, &[]).unwrap().0.name(), "my-funnel");
        assert!(bundled("attribution").is_some() && bundled("nothing").is_none() && starter("nothing", "x").is_none());
    }
}
