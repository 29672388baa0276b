//! SQL text of an aggregate -> its kind, argument, filter and type.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Schema};
use datafusion_sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned, Value,
    visit_expressions,
};
use riverrun_dataflow::key::is_key_type;

use super::quantile::WHOLE;
use super::{Aggregate, AggregateKind};
use crate::expression::{AGGREGATES, ExpressionError, Expressions, nearest, offset_of, parse, predicate, type_name};

impl Expressions {
    /// Compiles an aggregate, such as `sum(price) filter (where paid)`, over the visible columns of `schema`.
    pub fn compile_aggregate(&self, sql: &str, schema: &Schema) -> Result<Aggregate, ExpressionError> {
        let expr = parse(sql)?;
        let call = the_call(sql, &expr)?;
        let (kind, argument) = kind_and_argument(sql, call)?;
        let argument = argument.map(|argument| self.compile_ast(sql, argument, schema)).transpose()?;
        let filter =
            call.filter.as_deref().map(|filter| predicate(self.compile_ast(sql, filter, schema)?)).transpose()?;
        let data_type = result_type(kind, argument.as_ref().map(|a| a.data_type()))
            .map_err(|error| error.at(offset_of(sql, call.name.span().start)))?;
        Ok(Aggregate { kind, argument, filter, data_type })
    }
}

/// The expression has to be one call of an aggregate, and nothing around it.
fn the_call<'a>(sql: &str, expr: &'a Expr) -> Result<&'a Function, ExpressionError> {
    let known = || format!("the aggregates are {}", AGGREGATES.join(", "));
    if let Expr::Function(call) = expr {
        let name = call.name.to_string().to_lowercase();
        if AGGREGATES.contains(&name.as_str()) {
            return Ok(call);
        }
        if !holds_aggregate(expr) {
            let error =
                ExpressionError::new(format!("`{name}` is no aggregate")).at(offset_of(sql, call.name.span().start));
            return Err(match nearest(&name, AGGREGATES) {
                Some(near) => error.hint(format!("did you mean `{near}`? {}", known())),
                None => error.hint(known()),
            });
        }
    }
    let at = offset_of(sql, expr.span().start);
    Err(match holds_aggregate(expr) {
        true => ExpressionError::new("nothing may stand around an aggregate")
            .at(at)
            .hint("give each aggregate a name here and compute with them in a `select` that follows"),
        false => ExpressionError::new("there is no aggregate in it").at(at).hint(known()),
    })
}

fn holds_aggregate(expr: &Expr) -> bool {
    visit_expressions(expr, |expr| match expr {
        Expr::Function(call) if AGGREGATES.contains(&call.name.to_string().to_lowercase().as_str()) => {
            std::ops::ControlFlow::Break(())
        }
        _ => std::ops::ControlFlow::Continue(()),
    })
    .is_break()
}

fn kind_and_argument<'a>(sql: &str, call: &'a Function) -> Result<(AggregateKind, Option<&'a Expr>), ExpressionError> {
    let name = call.name.to_string().to_lowercase();
    let fault = |message: String| ExpressionError::new(message).at(offset_of(sql, call.name.span().start));
    if call.over.is_some() {
        return Err(fault(format!("`{name}` cannot have an `over`")).hint("the step itself says over which rows"));
    }
    let FunctionArguments::List(list) = &call.args else {
        return Err(fault(format!("`{name}` needs its argument in brackets")));
    };
    let plain = list.clauses.is_empty()
        && call.within_group.is_empty()
        && call.null_treatment.is_none()
        && call.parameters == FunctionArguments::None;
    if !plain {
        return Err(fault(format!("`{name}` takes an argument and a `filter (where ...)`, nothing else"))
            .hint("`first` and `last` go by event time"));
    }
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let kind = match name.as_str() {
        "count" if distinct => AggregateKind::CountDistinct,
        _ if distinct => return Err(fault(format!("`{name}` cannot be distinct, only `count` can"))),
        "count" => AggregateKind::Count,
        "sum" => AggregateKind::Sum,
        "avg" => AggregateKind::Avg,
        "min" => AggregateKind::Min,
        "max" => AggregateKind::Max,
        "first" => AggregateKind::First,
        _ => AggregateKind::Last,
    };
    if name == "quantile" {
        return quantile_of(list.args.as_slice()).ok_or_else(|| {
            fault("`quantile` takes an expression and a share from 0 to 1".into())
                .hint("`quantile(x, 0.5)` is the median; a share has six digits at most")
        });
    }
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] if !matches!(argument, Expr::Wildcard(_)) => {
            Ok((kind, Some(argument)))
        }
        [FunctionArg::Unnamed(_)] if kind == AggregateKind::Count => Ok((kind, None)),
        [] if kind == AggregateKind::Count => {
            Err(fault("`count` needs an argument".into()).hint("`count(*)` counts rows"))
        }
        _ => Err(fault(format!("`{name}` takes one expression as its argument"))),
    }
}

/// Returns what a quantile is of, and which one it is.
fn quantile_of(args: &[FunctionArg]) -> Option<(AggregateKind, Option<&Expr>)> {
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)), FunctionArg::Unnamed(FunctionArgExpr::Expr(share))] =
        args
    else {
        return None;
    };
    let Expr::Value(share) = share else { return None };
    let Value::Number(share, _) = &share.value else { return None };
    // Exact, so that two ways to write a share are one.
    let (whole, part) = share.split_once('.').unwrap_or((share, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.trim_end_matches('0').len() > 6 {
        return None;
    }
    let millionths: u64 = format!("{whole}{:0<6}", part.trim_end_matches('0')).parse().ok()?;
    let share = u32::try_from(millionths).ok().filter(|_| millionths <= WHOLE)?;
    Some((AggregateKind::Quantile(share), Some(argument)))
}

fn result_type(kind: AggregateKind, argument: Option<&DataType>) -> Result<DataType, ExpressionError> {
    let fault = |what: &str, data_type: &DataType| {
        ExpressionError::new(format!("there is no {what} of a {}", type_name(data_type)))
    };
    let max = DECIMAL128_MAX_PRECISION;
    Ok(match (kind, argument) {
        (AggregateKind::Count, _) | (_, None) => DataType::Int64,
        (AggregateKind::CountDistinct, Some(of)) if is_key_type(of) => DataType::Int64,
        (AggregateKind::CountDistinct, Some(of)) => return Err(fault("distinct count", of)),
        (AggregateKind::Sum, Some(DataType::Int64)) => DataType::Int64,
        (AggregateKind::Sum | AggregateKind::Avg, Some(DataType::Float64)) => DataType::Float64,
        (AggregateKind::Avg, Some(DataType::Int64)) => DataType::Float64,
        (AggregateKind::Sum, Some(DataType::Decimal128(_, scale))) => DataType::Decimal128(max, *scale),
        (AggregateKind::Avg, Some(DataType::Decimal128(precision, scale))) => {
            let precision = precision.saturating_add(4).min(max);
            DataType::Decimal128(precision, scale.saturating_add(4).min(precision as i8))
        }
        (AggregateKind::Sum, Some(of)) => return Err(fault("sum", of)),
        (AggregateKind::Avg, Some(of)) => return Err(fault("average", of)),
        (_, Some(of)) if is_key_type(of) => of.clone(),
        (AggregateKind::Min | AggregateKind::Max, Some(of)) => return Err(fault("least or greatest", of)),
        (AggregateKind::Quantile(_), Some(of)) => return Err(fault("quantile", of)),
        (_, Some(of)) => return Err(fault("first or last", of).hint("take the fields that are needed out of it")),
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("f", DataType::Float64, true),
            Field::new("d", DataType::Decimal128(12, 2), true),
            Field::new("s", DataType::Utf8, true),
            Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
            Field::new("l", DataType::new_list(DataType::Int64, true), true),
            Field::new("__time", DataType::Int64, false),
        ])
    }

    #[track_caller]
    fn check(sql: &str, kind: AggregateKind, data_type: &str, columns: &[&str]) {
        let aggregate = Expressions::new().compile_aggregate(sql, &schema()).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_eq!((aggregate.kind(), type_name(aggregate.data_type()).as_str()), (kind, data_type), "{sql}");
        assert_eq!(aggregate.columns().collect::<Vec<_>>(), columns, "{sql}");
    }

    #[test]
    fn aggregates_are_typed() {
        check("count(*)", AggregateKind::Count, "int64", &[]);
        check("COUNT(*) FILTER (WHERE n > 1)", AggregateKind::Count, "int64", &["n"]);
        check("count(n) filter (where s = 'x' and f > 2)", AggregateKind::Count, "int64", &["n", "f", "s"]);
        check("count(distinct s)", AggregateKind::CountDistinct, "int64", &["s"]);
        check("sum(n)", AggregateKind::Sum, "int64", &["n"]);
        check("sum(d)", AggregateKind::Sum, "decimal(38,2)", &["d"]);
        check("sum(n * f)", AggregateKind::Sum, "float64", &["n", "f"]);
        check("avg(n)", AggregateKind::Avg, "float64", &["n"]);
        check("avg(d)", AggregateKind::Avg, "decimal(16,6)", &["d"]);
        check("min(s)", AggregateKind::Min, "string", &["s"]);
        check("max(ts)", AggregateKind::Max, "timestamp_ms", &["ts"]);
        check("first(lower(s))", AggregateKind::First, "string", &["s"]);
        check("last(d) filter (where d is not null)", AggregateKind::Last, "decimal(12,2)", &["d", "d"]);
        check("quantile(n, 0.95)", AggregateKind::Quantile(950_000), "int64", &["n"]);
        check("quantile(ts, .5) filter (where n > 1)", AggregateKind::Quantile(500_000), "timestamp_ms", &["ts", "n"]);
        check("quantile(d, 1)", AggregateKind::Quantile(1_000_000), "decimal(12,2)", &["d"]);
        check("count(l)", AggregateKind::Count, "int64", &["l"]);
    }

    #[track_caller]
    fn fails(sql: &str, message: &str, at: Option<&str>, hint: &str) {
        let error = Expressions::new().compile_aggregate(sql, &schema()).map(|e| format!("{e:?}")).unwrap_err();
        assert!(error.message.contains(message), "{sql}: {error:?}");
        assert_eq!(error.offset, at.map(|at| sql.find(at).unwrap()), "{sql}: {error:?}");
        assert!(error.hint.clone().unwrap_or_default().contains(hint), "{sql}: {error:?}");
    }

    #[test]
    fn faults_are_told_with_place_and_way_out() {
        fails("", "empty", None, "");
        fails(
            "cuont(*)",
            "`cuont` is no aggregate",
            Some("cuont"),
            "did you mean `count`? the aggregates are count, sum",
        );
        fails("median(n)", "`median` is no aggregate", Some("median"), "the aggregates are");
        fails("n", "no aggregate", Some("n"), "the aggregates are");
        fails("n + 1", "no aggregate", Some("n"), "");
        fails("sum(n) / count(*)", "nothing may stand around", Some("sum"), "a `select` that follows");
        fails("round(avg(n), 2)", "nothing may stand around", Some("round"), "");
        fails("cast(sum(n) as varchar)", "nothing may stand around", Some("sum"), "");
        fails("sum(s)", "there is no sum of a string", Some("sum"), "");
        fails("avg(ts)", "there is no average of a timestamp_ms", Some("avg"), "");
        fails("min(l)", "there is no least or greatest of a list<int64>", Some("min"), "");
        fails("count(distinct l)", "distinct count of a list", Some("count"), "");
        fails("sum(distinct n)", "only `count`", Some("sum"), "");
        fails("sum(*)", "one expression", Some("sum"), "");
        fails("sum(n, n)", "one expression", Some("sum"), "");
        for no_share in
            ["quantile(n)", "quantile(n, f)", "quantile(n, 1.1)", "quantile(n, -0.5)", "quantile(n, 0.1234567)"]
        {
            fails(no_share, "a share from 0 to 1", Some("quantile"), "the median");
        }
        fails("quantile(l, 0.5)", "there is no quantile of a list", Some("quantile"), "");
        fails("count()", "needs an argument", Some("count"), "count(*)");
        fails("sum(n) over ()", "`over`", Some("sum"), "");
        fails("first(n order by ts)", "nothing else", Some("first"), "event time");
        fails("sum(sum(n))", "`sum` is an aggregate", Some("sum(n)"), "");
        fails("sum(m)", "there is no column `m`", Some("m)"), "");
        fails("count(*) filter (where n)", "true or false", None, "");
        fails("count(*) filter (where n > now())", "reads the clock", Some("now"), "");
        fails("count(*) as n", "found `as`", Some("as"), "");
        fails("sum(__time)", "reserved", Some("__time"), "");
    }
}
