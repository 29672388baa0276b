//! What is checked of an expression before DataFusion plans it: names, places, and that it reads nothing but its row.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Schema};
use datafusion_expr::Volatility;
use datafusion_sql::sqlparser::ast::{Expr, Function, Ident, Query, Spanned, Value, Visit, Visitor, visit_expressions};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::Parser;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use riverrun_dataflow::schema::is_hidden;

use super::error::{ExpressionError, nearest, offset_of};
use super::functions::Functions;

/// Bytes of SQL text that one expression may have.
pub const SQL_BYTES_MAX: usize = 64 * 1024;
/// Operators, keywords and brackets that one expression may have: what nests costs stack, here and at every evaluation.
pub const SQL_NESTING_MAX: usize = 200;

/// The aggregates that steps know, for hints where one stands in the wrong place.
pub(crate) const AGGREGATES: [&str; 8] = ["count", "sum", "min", "max", "avg", "first", "last", "quantile"];

/// Parses one whole expression.
pub(crate) fn parse(sql: &str) -> Result<Expr, ExpressionError> {
    if sql.trim().is_empty() {
        return Err(ExpressionError::new("the expression is empty"));
    }
    if sql.len() > SQL_BYTES_MAX {
        return Err(ExpressionError::new(format!("the expression is longer than {SQL_BYTES_MAX} bytes")));
    }
    let fault = |error: &dyn std::fmt::Display| ExpressionError::parse(sql, &error.to_string());
    let dialect = GenericDialect {};
    let mut tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|e| fault(&e))?;
    check_nesting(sql, &tokens)?;
    tokens.iter_mut().for_each(free_user);
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().map_err(|e| fault(&e))?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let error = ExpressionError::new(format!("expected the end of the expression, found `{}`", rest.token))
            .at(offset_of(sql, rest.span.start));
        return Err(match rest.token {
            Token::Word(word) if word.value.eq_ignore_ascii_case("as") => {
                error.hint("a name is given in `columns` as `\"expression as name\"`")
            }
            Token::SemiColon => error.hint("leave the semicolon out"),
            _ => error,
        });
    }
    Ok(expr)
}

/// SQL has `user` stand for who is logged in. Nobody is; it is a name like any other, and a likely one.
fn free_user(token: &mut TokenWithSpan) {
    if let Token::Word(word) = &mut token.token
        && matches!(word.keyword, Keyword::USER | Keyword::CURRENT_USER | Keyword::SESSION_USER)
    {
        word.keyword = Keyword::NoKeyword;
    }
}

/// Refuses text that could nest deeper than a worker's stack allows.
fn check_nesting(sql: &str, tokens: &[TokenWithSpan]) -> Result<(), ExpressionError> {
    let nests = |token: &Token| match token {
        Token::Whitespace(_) | Token::Comma | Token::Period | Token::Number(..) | Token::SingleQuotedString(_) => false,
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        _ => true,
    };
    match tokens.iter().filter(|token| nests(&token.token)).nth(SQL_NESTING_MAX) {
        None => Ok(()),
        Some(token) => Err(ExpressionError::new(format!("the expression has more than {SQL_NESTING_MAX} operators"))
            .at(offset_of(sql, token.span.start))
            .hint("split it over two `select` steps, or compare with `in (...)`")),
    }
}

/// Checks names and that nothing but the row is read. `columns` are the visible ones.
pub(super) fn check(sql: &str, expr: &Expr, columns: &Schema, functions: &Functions) -> Result<(), ExpressionError> {
    if let ControlFlow::Break(()) = expr.visit(&mut FindQuery) {
        return Err(ExpressionError::new("an expression cannot hold a subquery")
            .at(offset_of(sql, expr.span().start))
            .hint("it sees one row at a time; combine streams with `join`, `attribute` or `union`"));
    }
    let visited = visit_expressions(expr, |expr| match check_node(sql, expr, columns, functions) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    match visited {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct FindQuery;

impl Visitor for FindQuery {
    type Break = ();
    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

fn check_node(sql: &str, expr: &Expr, columns: &Schema, functions: &Functions) -> Result<(), ExpressionError> {
    match expr {
        Expr::Identifier(name) => check_column(sql, name, columns),
        Expr::CompoundIdentifier(parts) => check_path(sql, parts, columns),
        Expr::Function(function) => check_function(sql, function, functions),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(text) => Err(ExpressionError::new(format!("`{text}` has no value here"))
                .at(offset_of(sql, value.span.start))
                .hint("write the value itself")),
            _ => Ok(()),
        },
        Expr::CompoundFieldAccess { root, .. } => Err(ExpressionError::new("`[...]` cannot be used here")
            .at(offset_of(sql, root.span().start))
            .hint("the field of a struct is written `column.field`")),
        Expr::Array(_) | Expr::Dictionary(_) | Expr::Map(_) => {
            Err(ExpressionError::new("lists and structs cannot be written as values")
                .at(offset_of(sql, expr.span().start)))
        }
        Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
            Err(ExpressionError::new("`*` is no value").at(offset_of(sql, expr.span().start)))
        }
        _ => Ok(()),
    }
}

fn check_column(sql: &str, name: &Ident, columns: &Schema) -> Result<(), ExpressionError> {
    let at = offset_of(sql, name.span.start);
    if is_hidden(&name.value) {
        return Err(ExpressionError::new(format!(
            "`{}` is reserved: names that start with `__` are the engine's",
            name.value
        ))
        .at(at)
        .hint(list_columns(columns)));
    }
    if columns.column_with_name(&name.value).is_some() {
        return Ok(());
    }
    let names = || columns.fields().iter().map(|field| field.name().as_str());
    let error = ExpressionError::new(format!("there is no column `{}`", name.value)).at(at);
    Err(match nearest(&name.value, names()) {
        Some(near) => error.hint(format!("did you mean `{near}`? {}", list_columns(columns))),
        None if name.quote_style == Some('"') => {
            error.hint(format!("text is written in single quotes: '{}'. {}", name.value, list_columns(columns)))
        }
        None => error.hint(list_columns(columns)),
    })
}

/// A struct's field, `user.id`; tables have no names in an expression.
fn check_path(sql: &str, parts: &[Ident], columns: &Schema) -> Result<(), ExpressionError> {
    let [first, second, ..] = parts else { return Ok(()) };
    let at = offset_of(sql, first.span.start);
    match columns.column_with_name(&first.value) {
        None if columns.column_with_name(&second.value).is_some() => {
            Err(ExpressionError::new(format!("there is no column `{}`", first.value))
                .at(at)
                .hint(format!("columns are named without their stream: `{}`", second.value)))
        }
        None => check_column(sql, first, columns),
        Some((_, field)) => match field.data_type() {
            DataType::Struct(inner) if inner.find(&second.value).is_none() => {
                let known: Vec<_> = inner.iter().map(|f| f.name().as_str()).collect();
                Err(ExpressionError::new(format!("`{}` has no field `{}`", first.value, second.value))
                    .at(offset_of(sql, second.span.start))
                    .hint(format!("its fields are {}", known.join(", "))))
            }
            DataType::Struct(_) => Ok(()),
            other => Err(ExpressionError::new(format!(
                "`{}` has no fields: it is a {}",
                first.value,
                super::types::type_name(other)
            ))
            .at(at)),
        },
    }
}

fn check_function(sql: &str, function: &Function, functions: &Functions) -> Result<(), ExpressionError> {
    let name = function.name.to_string().to_lowercase();
    let at = offset_of(sql, function.name.span().start);
    if function.over.is_some() {
        return Err(ExpressionError::new(format!(
            "`{name}(...) over (...)` looks at other rows, an expression sees one"
        ))
        .at(at)
        .hint("aggregate with a `window` step"));
    }
    match functions.volatility(&name) {
        Some(Volatility::Immutable) if function.filter.is_some() => {
            Err(ExpressionError::new(format!("`{name}` is no aggregate, it cannot have a `filter`")).at(at))
        }
        Some(Volatility::Immutable) => Ok(()),
        Some(Volatility::Stable) => {
            Err(ExpressionError::new(format!("`{name}` reads the clock, which would make every run give other rows"))
                .at(at)
                .hint("use a time that the row carries"))
        }
        Some(Volatility::Volatile) => Err(ExpressionError::new(format!(
            "`{name}` gives another value at every call, so no run could be repeated"
        ))
        .at(at)
        .hint("use a value that the row carries")),
        None if AGGREGATES.contains(&name.as_str()) => {
            Err(ExpressionError::new(format!("`{name}` is an aggregate, an expression sees one row"))
                .at(at)
                .hint("put it under `aggregates` of a `window` step"))
        }
        None => {
            let error = ExpressionError::new(format!("there is no function `{name}`")).at(at);
            Err(match nearest(&name, functions.names()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            })
        }
    }
}

fn list_columns(columns: &Schema) -> String {
    let names: Vec<_> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    match names.len() {
        0 => "there are no columns".to_owned(),
        _ => format!("the columns are {}", names.join(", ")),
    }
}
