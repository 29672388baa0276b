//! `person_id(tenant, person)`: the name under which signals and incidents know a person, for the SQL of a job.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use riverrun_behaviour::privacy;

/// The function: two texts, and the hash of the person as a text of 32 digits. Of nobody it is null; no tenant is the empty one.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PersonId {
    signature: Signature,
}

impl PersonId {
    pub(super) fn new() -> PersonId {
        PersonId { signature: Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for PersonId {
    fn name(&self) -> &str {
        "person_id"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [tenants, persons] = args.args.as_slice() else {
            return datafusion_common::internal_err!("person_id takes two texts");
        };
        let (tenants, persons) = (tenants.to_array(args.number_rows)?, persons.to_array(args.number_rows)?);
        let (tenants, persons) = (tenants.as_string::<i32>(), persons.as_string::<i32>());
        let names = (0..args.number_rows).map(|row| {
            let person = Some(row).filter(|row| persons.is_valid(*row)).map(|row| persons.value(row))?;
            let tenant = if tenants.is_valid(row) { tenants.value(row) } else { "" };
            Some(privacy::person(tenant, person).to_string()).filter(|_| !person.is_empty())
        });
        Ok(ColumnarValue::Array(Arc::new(names.collect::<StringArray>())))
    }
}
