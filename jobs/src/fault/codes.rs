//! The codes of faults. A code never changes its meaning and is never used again for another one.

/// The code of a fault, such as `J014`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(&'static str);

impl Code {
    /// Returns the code as people see it.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// Returns where its page is, from the root of the project.
    pub fn page(self) -> String {
        format!("docs/errors/{}.md", self.0)
    }
}

macro_rules! codes {
    ($($name:ident $code:literal $title:literal;)*) => {
        $(#[doc = $title] pub const $name: Code = Code($code);)*

        /// All codes with their titles, ascending.
        pub const ALL: &[(Code, &str)] = &[$(($name, $title)),*];
    };
}

codes! {
    UNREADABLE "J001" "The job file cannot be read.";
    SYNTAX "J002" "The job file is no YAML that job files use.";
    UNKNOWN_KEY "J003" "A key that does not exist here.";
    MISSING_KEY "J004" "A key that must be given is missing.";
    REPEATED_KEY "J005" "A key is given twice.";
    WRONG_KIND "J006" "A value is of the wrong kind.";
    BAD_NAME "J007" "A name has characters that names may not have.";
    BAD_QUANTITY "J008" "A duration, size, number or time is not written as one, or is out of its bounds.";
    BAD_CHOICE "J009" "A value is none of the words that can stand here.";
    NOT_ONE "J010" "Of several keys exactly one must be given.";
    NOT_YET "J011" "Not in this version.";
    BAD_COLUMN_TYPE "J012" "A column's type is not a type.";
    UNKNOWN_STREAM "J013" "Rows are taken from something that does not exist.";
    UNKNOWN_COLUMN "J014" "A column is used that the input does not have.";
    CYCLE "J015" "Steps read each other in a circle.";
    BAD_EXPRESSION "J016" "An expression is no SQL, or its types do not fit.";
    NOT_A_CONDITION "J017" "A condition is neither true nor false.";
    BAD_AGGREGATE "J018" "An aggregate is none that can be kept.";
    NAME_CLASH "J019" "A name is used twice.";
    BAD_EVENT_TIME "J020" "The event time column cannot be event time.";
    NO_EVENT_TIME "J021" "A step needs event time, and its input has none.";
    BAD_KEY "J022" "A column cannot be a key, or keys differ in type.";
    UNEQUAL_INPUTS "J023" "The inputs of a union differ.";
    NOT_ENCODABLE "J024" "A sink cannot write its input's columns in its format.";
    BAD_OVERRIDE "J025" "An override cannot be applied.";
    BAD_REFERENCE "J026" "A reference is not understood or cannot be resolved.";
    UNUSED "J027" "Something is never used.";
    DOES_NOT_FIT "J028" "An option does not go with the place or the format.";
    SAME_PLACE "J029" "Two sinks write to the same place.";
    NOTHING_TO_DO "J030" "The job has nothing to read or nowhere to write.";
    NO_ID "J032" "An id is needed, and the source names none.";
    NOT_ITS_ROWS "J037" "The input of a behaviour step is not made of the rows that it reads.";
    TOO_MANY "J038" "There is more of something than there may be.";
    TOPICS_ELSEWHERE "J040" "Topics are in a place that cannot be used.";
    CANNOT_OPEN "J041" "A source or sink cannot be opened.";
    NO_REGISTRY "J042" "Records name their schemas by number, and no registry is known.";
    BAD_SCHEMA_FILE "J043" "A schema file cannot be read, or holds no schema.";
    BAD_ROWS "J060" "The rows of a test are no table and no records.";
    NO_START "J061" "A time counts from the start of a test that has none.";
    NO_ROW_KEY "J062" "The rows of a stream are corrected, and the test does not say which row replaces which.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_so_none_is_used_twice() {
        assert!(ALL.is_sorted_by(|a, b| a.0 < b.0));
    }
}
