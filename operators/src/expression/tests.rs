use arrow::array::{
    Decimal128Array, Float64Array, Int64Array, StringArray, StructArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Fields, TimeUnit};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;

use super::*;

fn columns() -> Vec<Field> {
    let user = Fields::from(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]);
    vec![
        Field::new("price", DataType::Float64, true),
        Field::new("event_type", DataType::Utf8, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("n", DataType::Int64, true),
        Field::new("itemId", DataType::Utf8, false),
        Field::new("amount", DataType::Decimal128(12, 2), true),
        Field::new("user", DataType::Struct(user), true),
        Field::new("ts2", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("__time", DataType::Int64, false),
        Field::new("__hash", DataType::UInt64, false),
    ]
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(columns()))
}

fn batch(n: Vec<Option<i64>>) -> RecordBatch {
    let rows = n.len();
    let time = 1_700_000_000_123i64;
    let user = StructArray::try_new(
        match schema().field(6).data_type() {
            DataType::Struct(fields) => fields.clone(),
            _ => unreachable!(),
        },
        vec![
            Arc::new(Int64Array::from_iter_values(0..rows as i64)),
            Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("näme{i}")))),
        ],
        None,
    )
    .unwrap();
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(Float64Array::from_iter((0..rows).map(|i| (i % 5 != 4).then_some(i as f64 * 2.5)))),
            Arc::new(StringArray::from_iter((0..rows).map(|i| [Some("CLICK"), None, Some("view")][i % 3]))),
            Arc::new(TimestampMillisecondArray::from_iter_values((0..rows).map(|i| time + i as i64))),
            Arc::new(Int64Array::from(n)),
            Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("i{i}")))),
            Arc::new(
                Decimal128Array::from_iter_values((0..rows).map(|i| i as i128 * 1010))
                    .with_precision_and_scale(12, 2)
                    .unwrap(),
            ),
            Arc::new(user),
            Arc::new(TimestampMillisecondArray::from_iter_values((0..rows).map(|_| time - 5000))),
            Arc::new(Int64Array::from_iter_values(0..rows as i64)),
            Arc::new(UInt64Array::from_iter_values(0..rows as u64)),
        ],
    )
    .unwrap()
}

/// The values of `sql` on a batch whose `n` is given, `null` for nulls and `!reason` for failures.
fn values(sql: &str, n: Vec<Option<i64>>) -> (String, Vec<String>) {
    let expression = Expressions::new().compile(sql, &schema()).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let batch = batch(n);
    let evaluated = expression.evaluate(&batch);
    assert_eq!(evaluated.values.data_type(), expression.data_type(), "{sql}");
    assert_eq!(evaluated.values.len(), batch.num_rows());
    assert!(expression.nullable() || evaluated.values.null_count() == evaluated.failed.len(), "{sql}");
    let text = |row: usize| match evaluated.failed.iter().find(|f| f.row == row) {
        Some(failed) => format!("!{}", failed.reason),
        None if evaluated.values.is_null(row) => "null".to_owned(),
        None => array_value_to_string(&evaluated.values, row).unwrap(),
    };
    (type_name(expression.data_type()), (0..batch.num_rows()).map(text).collect())
}

#[track_caller]
fn check(sql: &str, data_type: &str, expected: &[&str]) {
    let (found_type, found) = values(sql, vec![Some(0), Some(3), None]);
    assert_eq!((found_type.as_str(), found), (data_type, expected.iter().map(|s| s.to_string()).collect()), "{sql}");
}

#[test]
fn expressions_are_typed_and_evaluated() {
    check("price > 2 AND lower(event_type) = 'view'", "bool", &["false", "null", "true"]);
    check("n + 1", "int64", &["1", "4", "null"]);
    check("case when n > 1 then 'a' else event_type end", "string", &["CLICK", "a", "view"]);
    check("LENGTH(event_type)", "int64", &["5", "null", "4"]);
    check("cast(n as integer)", "int64", &["0", "3", "null"]);
    check("cast(n as varchar) || '-' || \"itemId\"", "string", &["0-i0", "3-i1", "null"]);
    check("amount * 2", "decimal(33,2)", &["0.00", "20.20", "40.40"]);
    check("amount = 10.10", "bool", &["false", "true", "false"]);
    // The first 16 bytes of SHA-256 over the tenant, 0x1F and the person.
    let [click, view] = ["c9e266f4bd67e9f0c3e6acf807f6a274", "4bc4bb50f1e913b0f0a413c9cbbac982"];
    check("person_id('t1', event_type)", "string", &[click, "null", view]);
    check("person_id(cast(null as varchar), 'VIEW') = person_id('', 'VIEW')", "bool", &["true"; 3]);
    check("person_id('t1', '')", "string", &["null"; 3]);
    check("extract(hour from ts)", "int64", &["22", "22", "22"]);
    check("date_trunc('minute', ts)", "timestamp_ms", &["2023-11-14T22:13:00"; 3]);
    check("ts + interval '1 hour' > timestamp '2023-11-14T23:00:00'", "bool", &["true"; 3]);
    check("ts >= '2023-11-14T22:13:20.124'", "bool", &["false", "true", "true"]);
    check("timestamp '2026-01-01T00:00:00'", "timestamp_us", &["2026-01-01T00:00:00"; 3]);
    check("cast(ts as date)", "date", &["2023-11-14"; 3]);
    check(
        "extract(epoch from ts) - extract(epoch from ts2)",
        "float64",
        &["5.0", "5.001000165939331", "5.002000093460083"],
    );
    check("n in (3, 4)", "bool", &["false", "true", "null"]);
    check("n between -1 and 2", "bool", &["true", "false", "null"]);
    check("event_type like 'CL%' or event_type ilike 'V_EW'", "bool", &["true", "null", "true"]);
    check("regexp_like(event_type, '^v')", "bool", &["false", "null", "true"]);
    check("coalesce(event_type, 'none')", "string", &["CLICK", "none", "view"]);
    check("round(abs(price - 3), 1)", "float64", &["3.0", "0.5", "2.0"]);
    check("user.name", "string", &["näme0", "näme1", "näme2"]);
    check("user.id + 1", "int64", &["1", "2", "3"]);
    check("substring(user.name, 2, 2)", "string", &["äm", "äm", "äm"]);
    check("\"itemId\"", "string", &["i0", "i1", "i2"]);
    check("itemId", "string", &["i0", "i1", "i2"]);
    check("cast(ts - ts2 as bigint)", "int64", &["5000", "5001", "5002"]);
    check("n is null", "bool", &["false", "false", "true"]);
    check("cast(null as bigint)", "int64", &["null"; 3]);
    check("1", "int64", &["1"; 3]);
}

#[test]
fn a_failing_row_is_marked_and_leaves_the_others_alone() {
    let (_, found) = values("10 / n", vec![Some(5), Some(0), None, Some(0), Some(10)]);
    assert_eq!(found, ["2", "!division by zero", "null", "!division by zero", "1"]);
    let (_, found) = values("n + 1", vec![Some(i64::MAX), Some(1)]);
    assert_eq!(found[1], "2");
    assert_eq!(found[0], "!the number is too large for its type");
    let (_, found) = values("n * n", vec![Some(i64::MAX), Some(3)]);
    assert!(found[0].starts_with('!') && found[1] == "9");
    let (_, found) = values("-n", vec![Some(i64::MIN), Some(3)]);
    assert_eq!(found, ["!the number is too large for its type", "-3"]);
    let (_, found) = values("cast(event_type as bigint)", vec![None; 2]);
    assert_eq!(found, ["!cannot cast string 'CLICK' to value of Int64 type", "null"]);
    // All rows, and none.
    let (_, found) = values("1 / n", vec![Some(0); 7]);
    assert_eq!(found, ["!division by zero"; 7]);
    assert_eq!(values("1 / n", vec![]).1, [""; 0]);
}

#[test]
fn a_short_circuit_protects_its_own_row_only() {
    let (_, found) = values("n <> 0 and 10 / n > 1", vec![Some(0), Some(2), None, Some(20)]);
    assert_eq!(found, ["false", "true", "null", "false"]);
    let (_, found) = values("case when n = 0 then 0 else 10 / n end", vec![Some(0), Some(2), None]);
    assert_eq!(found, ["0", "5", "null"]);
}

#[test]
fn a_plain_column_is_not_copied() {
    let batch = batch(vec![Some(1)]);
    let expression = Expressions::new().compile("event_type", &schema()).unwrap();
    assert_eq!(expression.as_column(), Some(1));
    assert!(Arc::ptr_eq(&expression.evaluate(&batch).values, batch.column(1)));
    assert_eq!(expression.columns(), ["event_type"]);
    let two = Expressions::new().compile("n + price > coalesce(n, 2)", &schema()).unwrap();
    assert_eq!((two.columns(), two.as_column()), (&["price".to_owned(), "n".to_owned()][..], None));
}

#[test]
fn a_predicate_keeps_neither_null_nor_failed_rows() {
    let e = Expressions::new();
    let predicate = e.compile_predicate("10 / n > 1", &schema()).unwrap();
    let filtered = predicate.filter(&batch(vec![Some(1), Some(0), None, Some(10)]));
    assert_eq!(filtered.kept.iter().collect::<Vec<_>>(), [true, false, false, false]);
    assert_eq!(filtered.failed, [FailedRow { row: 1, reason: "division by zero".into() }]);
    assert!(e.compile_predicate("n + 1", &schema()).unwrap_err().message.contains("int64"));
}

/// `sql` fails with a message and a hint that hold the given texts, at the place where `at` begins.
#[track_caller]
fn fails(sql: &str, message: &str, at: Option<&str>, hint: &str) {
    let error = Expressions::new().compile(sql, &schema()).map(|e| format!("{e:?}")).unwrap_err();
    assert!(error.message.contains(message), "{sql}: {error:?}");
    assert_eq!(error.offset, at.map(|at| sql.find(at).unwrap()), "{sql}: {error:?}");
    assert!(error.hint.clone().unwrap_or_default().contains(hint), "{sql}: {error:?}");
    assert!(!error.message.contains("Utf8") && !error.message.contains("DataFusion"), "{error:?}");
}

#[test]
fn faults_are_told_with_place_and_way_out() {
    fails("", "empty", None, "");
    fails("  \n ", "empty", None, "");
    fails("pirce > 1", "there is no column `pirce`", Some("pirce"), "did you mean `price`? the columns are price,");
    fails("n > 1 and\n  itemid = 'x'", "no column `itemid`", Some("itemid"), "`itemId`");
    fails("event_type = \"click\"", "no column `click`", Some("\"click\""), "single quotes: 'click'");
    fails("__time > 1", "reserved", Some("__time"), "the columns are");
    fails("\"__hash\" = 1", "reserved", Some("\"__hash\""), "");
    fails("clicks.price > 1", "no column `clicks`", Some("clicks"), "without their stream: `price`");
    fails("user.nme", "`user` has no field `nme`", Some("nme"), "id, name");
    fails("price.x", "`price` has no fields: it is a float64", Some("price"), "");
    fails("lowr(event_type) = 'x'", "there is no function `lowr`", Some("lowr"), "did you mean `lower`?");
    fails("n > now()", "`now` reads the clock", Some("now"), "a time that the row carries");
    fails("current_date", "`current_date` reads the clock", Some("current_date"), "");
    fails("ts < CURRENT_TIMESTAMP", "reads the clock", Some("CURRENT_TIMESTAMP"), "");
    fails("random() < 0.5", "`random` gives another value at every call", Some("random"), "");
    fails("uuid()", "`uuid` gives another value", Some("uuid"), "");
    fails("count(*) > 1", "`count` is an aggregate", Some("count"), "window");
    fails("sum(n) over (partition by n)", "looks at other rows", Some("sum"), "window");
    fails("row_number() over ()", "looks at other rows", Some("row_number"), "");
    fails("n in (select 1)", "subquery", Some("n in"), "join");
    fails("(select max(n) from t) > 1", "subquery", Some("select"), "");
    fails("exists (select 1)", "subquery", Some("select"), "");
    fails("user['id'] = 1", "`[...]`", Some("user"), "`column.field`");
    fails("[1, 2]", "cannot be written", Some("1"), "");
    fails("n > 1 x", "expected the end of the expression, found `x`", Some("x"), "");
    fails("n as m", "found `as`", Some("as"), "columns");
    fails("n > 1; drop table x", "found `;`", Some(";"), "semicolon");
    fails("n >", "expected", None, "");
    fails("(n > 1", "the text ends here", None, "");
    fails("event_type = 'x", "unterminated string", Some("'x"), "");
    fails("n > ?", "has no value here", Some("?"), "");
    fails("price > 'x'", "", None, "");
    fails("event_type + 1", "", None, "");
    fails("not price", "", None, "");
    fails("lower(n, n)", "lower", None, "");
    fails("null", "type null", None, "cast(null as bigint)");
    fails("ts - ts2", "type interval", None, "`cast(... as bigint)`");
    fails("*", "", Some("*"), "");
    fails("@x", "", Some("@x"), "");
}

#[test]
fn an_expression_too_deep_or_too_long_is_refused_not_a_crash() {
    let e = Expressions::new();
    let wide = vec!["n"; SQL_NESTING_MAX + 1].join(" + ");
    let compiled = e.compile(&wide, &schema()).unwrap();

    assert_eq!(
        compiled.evaluate(&batch(vec![Some(2)])).values.as_primitive::<arrow::datatypes::Int64Type>().value(0),
        2 * (SQL_NESTING_MAX as i64 + 1)
    );
    for deep in [format!("{wide} + n"), "(".repeat(5000), "not ".repeat(5000) + "true", "-".repeat(90_000)] {
        let error = e.compile(&deep, &schema()).unwrap_err();
        assert!(error.message.len() < 200, "{error:?}");
    }
    let many = format!("n in ({})", (0..5000).map(|i| i.to_string()).collect::<Vec<_>>().join(","));
    e.compile(&many, &schema()).unwrap();
}

#[test]
fn equal_expressions_are_known_as_equal() {
    let e = Expressions::new();
    let compile = |sql: &str| e.compile(sql, &schema()).unwrap();
    assert!(compile("n = 1 and price > 2") == compile("n=1 AND  price>2"));
    assert!(compile("n = 1") != compile("n = 2"));
}

proptest! {
    /// Whatever is typed in, the answer is an expression or an error.
    #[test]
    fn no_text_panics(sql in "[a-z0-9_ ()'\".,+*/<>=;:@?$-]{0,40}|\\PC{0,30}") {
        let _ = Expressions::new().compile(&sql, &schema());
    }

    /// Words that mean something, in no order.
    #[test]
    fn no_sentence_panics(words in prop::collection::vec(prop::sample::select(vec![
        "n", "price", "event_type", "ts", "user", ".", "name", "(", ")", ",", "+", "-", "/", "=", ">", "and", "or", "not", "case",
        "when", "then", "else", "end", "'x'", "1", "1.5", "null", "is", "in", "like", "between", "cast", "as", "bigint", "lower",
        "round", "date_trunc", "interval", "'1 day'", "extract", "hour", "from", "[", "]", "select", "count", "*", "||",
    ]), 0..14)) {
        let sql = words.join(" ");
        if let Ok(expression) = Expressions::new().compile(&sql, &schema()) {
            let evaluated = expression.evaluate(&batch(vec![Some(0), None, Some(7)]));
            prop_assert_eq!(evaluated.values.len(), 3);
        }
    }

    /// A row's value or failure does not depend on the rows beside it.
    #[test]
    fn rows_are_independent(n in prop::collection::vec(prop::option::of(-3i64..4), 0..40), sql in prop::sample::select(vec![
        "10 / n", "n <> 0 and 10 / n > 2", "n = 1 or 6 / n > 1", "case when n > 0 then 1 / (n - 1) else n end",
        "coalesce(1 / n, 0)", "n + 9223372036854775806", "cast(substr('12x', 1, cast(n as int)) as bigint)",
    ])) {
        let expression = Expressions::new().compile(sql, &schema()).unwrap();
        let batch = batch(n.clone());
        let whole = expression.evaluate(&batch);
        for row in 0..n.len() {
            let alone = expression.evaluate(&batch.slice(row, 1));
            prop_assert_eq!(&alone.values, &whole.values.slice(row, 1));
            let failed = whole.failed.iter().find(|f| f.row == row).map(|f| &f.reason);
            prop_assert_eq!(alone.failed.first().map(|f| &f.reason), failed);
        }
    }
}
