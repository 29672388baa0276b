//! Selects: what a `where` and the columns of a select are made of.

use arrow::datatypes::Field;

use super::forward::{Forward, SelectColumn, StepUses, quoted};
use super::stream::Stream;
use crate::fault::{Fault, codes};
use crate::spec::{SelectSpec, values};
use crate::yaml::Spanned;

impl Forward<'_> {
    /// Returns the columns that a condition uses; `what` it is, for messages.
    pub(super) fn condition(&mut self, condition: &Spanned<String>, what: &str, input: &Stream) -> Vec<String> {
        let schema = input.schema();
        match self.expressions.compile_predicate(&condition.value, &schema) {
            Ok(expression) => expression.columns().to_vec(),
            Err(error) => {
                // Whether it is no SQL or no condition is told apart by compiling it as any expression.
                let sql = self.expressions.compile(&condition.value, &schema);
                let code = if sql.is_ok() { codes::NOT_A_CONDITION } else { codes::BAD_EXPRESSION };
                self.expression_fault(code, condition, 0, what, input, error);
                Vec::new()
            }
        }
    }

    /// Returns the columns that a select gives.
    pub(super) fn select(&mut self, index: usize, select: &SelectSpec, input: &Stream) -> Option<Vec<Field>> {
        let name = &self.spec.steps[index].name.value;
        let mut uses = StepUses::default();
        if let Some(condition) = &select.condition {
            uses.uses = self.condition(condition, &format!("the `where` of step `{name}`"), input);
        }
        let Some(written) = &select.columns else {
            self.uses.insert(index, uses);
            return Some(input.columns.clone());
        };
        let mut fields: Vec<Field> = Vec::new();
        let mut columns = Vec::new();
        for item in written {
            if let Some((column, field)) = self.select_column(name, item, input) {
                if fields.iter().any(|other| other.name() == field.name()) {
                    let message = format!("step `{name}` has the column `{}` twice", field.name());
                    self.faults.push(
                        Fault::error(codes::NAME_CLASH, item.span, message).hint("give one another name with `as`"),
                    );
                }
                columns.push(column);
                fields.push(field);
            }
        }
        uses.columns = Some(columns);
        self.uses.insert(index, uses);
        Some(fields)
    }

    fn select_column(&mut self, step: &str, item: &Spanned<String>, input: &Stream) -> Option<(SelectColumn, Field)> {
        let text = item.value.trim();
        if values::column_name(text).is_ok() {
            return match input.find(item, &format!("step `{step}` selects")) {
                Ok(field) => {
                    let name = text.to_owned();
                    let column = SelectColumn { sql: quoted(&name), plain: true, uses: vec![name.clone()], name };
                    Some((column, field.clone()))
                }
                Err(fault) => {
                    self.faults.push(fault);
                    None
                }
            };
        }
        let Some((sql, alias)) = split_alias(text) else {
            let message = format!("step `{step}` selects `{}` without giving it a name", crate::fault::shorten(text));
            let hint = format!("write `{} as my_name`", crate::fault::shorten(text));
            self.faults.push(Fault::error(codes::BAD_EXPRESSION, item.span, message).hint(hint));
            return None;
        };
        if let Err(rule) = values::column_name(alias) {
            let message = format!("`{alias}` cannot be the name of a column");
            self.faults.push(Fault::error(codes::BAD_NAME, item.span, message).note(rule));
            return None;
        }
        match self.expressions.compile(sql, &input.schema()) {
            Ok(expression) => {
                let source = expression.as_column().map(|at| input.columns[at].clone());
                let field = match &source {
                    Some(field) => field.clone().with_name(alias),
                    None => Field::new(alias, expression.data_type().clone(), expression.nullable()),
                };
                let uses = expression.columns().to_vec();
                Some((
                    SelectColumn { name: alias.to_owned(), sql: sql.to_owned(), plain: source.is_some(), uses },
                    field,
                ))
            }
            Err(error) => {
                let lead = item.value.len() - item.value.trim_start().len();
                let what = format!("column `{alias}` of step `{step}`");
                self.expression_fault(codes::BAD_EXPRESSION, item, lead, &what, input, error);
                None
            }
        }
    }
}

/// Splits `expression as name`.
fn split_alias(text: &str) -> Option<(&str, &str)> {
    let (rest, alias) = text.rsplit_once(char::is_whitespace)?;
    let (sql, word) = rest.trim_end().rsplit_once(|c: char| c.is_whitespace() || c == ')')?;
    let sql_end = sql.len() + usize::from(rest.as_bytes().get(sql.len()) == Some(&b')'));
    word.eq_ignore_ascii_case("as").then(|| (rest[..sql_end].trim_end(), alias))
}
