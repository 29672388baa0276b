//! Expressions: SQL text made into a typed expression over the columns of a stream, and evaluated batch by batch.
//!
//! Parsed, typed and evaluated by DataFusion's sub-crates; here is what they leave open: which columns may be named, what
//! may be called (nothing that reads a clock or draws a random number), into which of the stream types a result goes, what
//! a person is told, and what happens to a row on which an expression fails. Names of columns are taken as written, names
//! of functions in any case. Integers that overflow and divisions of integers by zero fail; they do not wrap.
//!
//! A batch on which an expression fails is evaluated again in ever smaller parts, down to the rows that fail: whether a
//! row is bad never depends on the rows around it.

mod check;
mod error;
mod functions;
mod person;
#[cfg(test)]
mod tests;
mod types;

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_empty_array, new_null_array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Schema};
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, ScalarValue};
use datafusion_expr::Operator;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal, NegativeExpr};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast;
use riverrun_dataflow::schema::visible_of;

pub(crate) use check::{AGGREGATES, parse};
pub use check::{SQL_BYTES_MAX, SQL_NESTING_MAX};
pub use error::ExpressionError;
pub(crate) use error::{nearest, offset_of};
use functions::Functions;
pub(crate) use types::is_stream_type;
pub use types::type_name;

/// Checking and planning recurse with large frames, 40 KiB a level in debug builds: this is enough for [`SQL_NESTING_MAX`], with much to spare.
const PLAN_STACK_BYTES: usize = 64 * 1024 * 1024;

type Planned = Result<(Arc<dyn PhysicalExpr>, Vec<String>), DataFusionError>;

/// Makes expressions of SQL text. Made once: it holds the function registry.
pub struct Expressions {
    functions: Functions,
}

impl Default for Expressions {
    fn default() -> Self {
        Expressions::new()
    }
}

impl fmt::Debug for Expressions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expressions")
    }
}

impl Expressions {
    /// Returns a compiler that knows all functions.
    pub fn new() -> Self {
        Expressions { functions: Functions::new() }
    }

    /// Compiles `sql` over the visible columns of `schema`, which must stand before its hidden ones.
    pub fn compile(&self, sql: &str, schema: &Schema) -> Result<Expression, ExpressionError> {
        self.compile_ast(sql, &parse(sql)?, schema)
    }

    /// Compiles `sql`, which must be true or false, as for a `where`.
    pub fn compile_predicate(&self, sql: &str, schema: &Schema) -> Result<Expression, ExpressionError> {
        predicate(self.compile(sql, schema)?)
    }

    /// Compiles a part of `sql` that was parsed before.
    pub(crate) fn compile_ast(
        &self,
        sql: &str,
        expr: &ast::Expr,
        schema: &Schema,
    ) -> Result<Expression, ExpressionError> {
        let visible = Schema::new(visible_of(schema));
        on_a_large_stack(|| {
            check::check(sql, expr, &visible, &self.functions)?;
            self.typed(expr, &visible)
        })
    }

    fn typed(&self, expr: &ast::Expr, visible: &Schema) -> Result<Expression, ExpressionError> {
        let (physical, columns) = self.plan(expr, visible).map_err(|error| ExpressionError::plan(&error))?;
        let raw_type = physical.data_type(visible).map_err(|error| ExpressionError::plan(&error))?;
        let Some(data_type) = types::stream_type(&raw_type) else {
            return Err(no_stream_type(&raw_type));
        };
        let nullable = physical.nullable(visible).unwrap_or(true);
        Ok(Expression { sql: expr.to_string(), physical, data_type, nullable, columns })
    }

    fn plan(&self, expr: &ast::Expr, visible: &Schema) -> Planned {
        let schema = DFSchema::try_from(visible.clone())?;
        let mut options = ParserOptions::new();
        options.enable_ident_normalization = false;
        options.map_string_types_to_utf8view = false;
        let planner = SqlToRel::new_with_options(&self.functions, options);
        let logical = planner.sql_to_expr(expr.clone(), &schema, &mut PlannerContext::new())?;
        let used = logical.column_refs();
        let columns = visible.fields().iter().map(|f| f.name());
        let columns = columns.filter(|name| used.iter().any(|c| c.name == **name)).cloned().collect();
        let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
        let simplifier = ExprSimplifier::new(context);
        let logical = simplifier.simplify(simplifier.coerce(logical, &schema)?)?;
        let physical = create_physical_expr(&logical, &schema, &ExecutionProps::new(), &Default::default())?;
        Ok((checked_arithmetic(physical, visible)?, columns))
    }
}

/// Runs `plan` on a thread of its own, whose stack is large.
fn on_a_large_stack(
    plan: impl FnOnce() -> Result<Expression, ExpressionError> + Send,
) -> Result<Expression, ExpressionError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("plan".into()).stack_size(PLAN_STACK_BYTES);
        let running = thread.spawn_scoped(scope, plan).map_err(|error| {
            // A process with little memory left, or a limit of it.
            ExpressionError::new(format!("there is no stack of {} MiB to plan it on: {error}", PLAN_STACK_BYTES >> 20))
        })?;
        running.join().unwrap_or_else(|_| Err(ExpressionError::new("the expression is too large to be planned")))
    })
}

/// Makes integer arithmetic fail where it would wrap.
fn checked_arithmetic(
    physical: Arc<dyn PhysicalExpr>,
    visible: &Schema,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let checked = |left, op, right| {
        let checked = BinaryExpr::new(left, op, right).with_fail_on_overflow(true);
        Ok(Transformed::yes(Arc::new(checked) as Arc<dyn PhysicalExpr>))
    };
    physical
        .transform_up(|node| {
            if let Some(binary) = node.downcast_ref::<BinaryExpr>() {
                return checked(binary.left().clone(), *binary.op(), binary.right().clone());
            }
            match node.downcast_ref::<NegativeExpr>() {
                Some(negative) if negative.arg().data_type(visible)? == DataType::Int64 => checked(
                    Arc::new(Literal::new(ScalarValue::Int64(Some(0)))),
                    Operator::Minus,
                    negative.arg().clone(),
                ),
                _ => Ok(Transformed::no(node)),
            }
        })
        .data()
}

/// Returns `expression` if it is true or false.
pub(crate) fn predicate(expression: Expression) -> Result<Expression, ExpressionError> {
    if expression.data_type == DataType::Boolean {
        return Ok(expression);
    }
    let found = type_name(&expression.data_type);
    Err(ExpressionError::new(format!("a condition has to be true or false, this is a {found}"))
        .hint("compare it with something"))
}

fn no_stream_type(raw: &DataType) -> ExpressionError {
    let error = ExpressionError::new(format!("a column cannot be of type {}", type_name(raw)));
    match raw {
        DataType::Null => error.hint("give the null a type: `cast(null as bigint)`"),
        DataType::Duration(_) | DataType::Interval(_) => {
            error.hint("count it: `cast(... as bigint)` is a time span in the unit of its times")
        }
        _ => error.hint("cast it: `cast(... as varchar)`"),
    }
}

/// A typed expression over the visible columns of a stream.
#[derive(Clone)]
pub struct Expression {
    sql: String,
    physical: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    nullable: bool,
    columns: Vec<String>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({}: {})", self.sql, type_name(&self.data_type))
    }
}

impl PartialEq for Expression {
    /// Equal expressions give equal columns: each distinct one is evaluated once per batch.
    fn eq(&self, other: &Self) -> bool {
        self.data_type == other.data_type && self.physical.as_ref() == other.physical.as_ref()
    }
}

/// The values of an expression on a batch.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// One value per row; null where the expression failed.
    pub values: ArrayRef,
    /// The rows on which it failed, ascending.
    pub failed: Vec<FailedRow>,
}

/// The rows that a predicate lets through.
#[derive(Clone, Debug)]
pub struct Filtered {
    /// One bit per row: true where the predicate is true, false where it is false, null or failed.
    pub kept: BooleanBuffer,
    /// The rows on which it failed, ascending.
    pub failed: Vec<FailedRow>,
}

/// A row on which an expression failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRow {
    /// The row's index in its batch.
    pub row: usize,
    /// What went wrong, for a person.
    pub reason: String,
}

impl Expression {
    /// Returns the SQL text, normalised.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Returns the type of its values.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Returns whether a value may be null.
    pub fn nullable(&self) -> bool {
        self.nullable
    }

    /// Returns the names of the columns it reads, in the order of the schema.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns the index of the column if it is a plain column.
    pub fn as_column(&self) -> Option<usize> {
        self.physical.downcast_ref::<Column>().map(Column::index)
    }

    /// Returns the expression that is a column of `schema`.
    pub fn column(schema: &Schema, index: usize) -> Expression {
        let field = schema.field(index);
        Expression {
            sql: field.name().clone(),
            physical: Arc::new(Column::new(field.name(), index)),
            data_type: field.data_type().clone(),
            nullable: field.is_nullable(),
            columns: vec![field.name().clone()],
        }
    }

    /// Returns the same expression for batches that have left only the columns `kept`, all that it reads among them.
    pub(crate) fn on_columns(&self, kept: &[usize]) -> Expression {
        let moved = self.physical.clone().transform_up(|node| {
            let Some(column) = node.downcast_ref::<Column>() else { return Ok(Transformed::no(node)) };
            let index = kept.iter().position(|kept| *kept == column.index());
            let index = index.expect("what an expression reads is kept");
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), index)) as Arc<dyn PhysicalExpr>))
        });
        let physical = moved.data().expect("moving a column does not fail");
        Expression { physical, ..self.clone() }
    }

    /// Evaluates it on a batch whose first columns are the visible ones it was compiled for.
    pub fn evaluate(&self, batch: &RecordBatch) -> Evaluated {
        match self.try_evaluate(batch) {
            Ok(values) => Evaluated { values, failed: Vec::new() },
            Err(error) => self.evaluate_in_parts(batch, &error),
        }
    }

    /// Evaluates a predicate: a row is kept where it is true.
    pub fn filter(&self, batch: &RecordBatch) -> Filtered {
        let Evaluated { values, failed } = self.evaluate(batch);
        Filtered { kept: true_where(values.as_boolean()), failed }
    }

    fn try_evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        let values = self.physical.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(types::to_stream(&values, &self.data_type)?)
    }

    /// Finds the rows that fail by halving: k of them among n cost k log n evaluations.
    fn evaluate_in_parts(&self, batch: &RecordBatch, error: &DataFusionError) -> Evaluated {
        let mut parts: Vec<ArrayRef> = Vec::new();
        let mut failed = Vec::new();
        // Ranges still to be looked at, the next one last; a range whose evaluation failed carries nothing but its bounds.
        let mut open = Vec::new();
        self.split_or_fail(0, batch.num_rows(), error, &mut open, &mut parts, &mut failed);
        while let Some((start, length)) = open.pop() {
            match self.try_evaluate(&batch.slice(start, length)) {
                Ok(values) => parts.push(values),
                Err(error) => self.split_or_fail(start, length, &error, &mut open, &mut parts, &mut failed),
            }
        }
        let borrowed: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
        let values = match borrowed.is_empty() {
            true => new_empty_array(&self.data_type),
            false => concat(&borrowed).expect("all parts have the type of the expression"),
        };
        Evaluated { values, failed }
    }

    fn split_or_fail(
        &self,
        start: usize,
        length: usize,
        error: &DataFusionError,
        open: &mut Vec<(usize, usize)>,
        parts: &mut Vec<ArrayRef>,
        failed: &mut Vec<FailedRow>,
    ) {
        if length <= 1 {
            failed.extend((0..length).map(|_| FailedRow { row: start, reason: error::reason(error) }));
            parts.push(new_null_array(&self.data_type, length));
        } else {
            let half = length / 2;
            open.push((start + half, length - half));
            open.push((start, half));
        }
    }
}

/// Returns where `values` is true: not where it is null.
fn true_where(values: &BooleanArray) -> BooleanBuffer {
    match values.nulls().map(NullBuffer::inner) {
        Some(valid) => values.values() & valid,
        None => values.values().clone(),
    }
}
