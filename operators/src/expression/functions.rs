//! The functions that an expression may call.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, TableReference};
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;

use super::person::PersonId;

/// The scalar functions by name, and the planners of syntax such as `extract(hour from ts)`.
pub(super) struct Functions {
    by_name: HashMap<String, Arc<ScalarUDF>>,
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

/// Functions that a job must not call although they promise one result per plan: they describe the engine, not the row.
const ABOUT_THE_ENGINE: [&str; 5] = ["version", "arrow_typeof", "arrow_metadata", "arrow_cast", "arrow_try_cast"];

impl Functions {
    pub(super) fn new() -> Self {
        let mut by_name = HashMap::new();
        let own = Arc::new(ScalarUDF::new_from_impl(PersonId::new()));
        for function in datafusion_functions::all_default_functions().into_iter().chain([own]) {
            if ABOUT_THE_ENGINE.contains(&function.name()) {
                continue;
            }
            for name in function.aliases() {
                by_name.insert(name.clone(), function.clone());
            }
            by_name.insert(function.name().to_owned(), function);
        }
        Functions {
            by_name,
            options: ConfigOptions::new(),
            planners: vec![
                Arc::new(CoreFunctionPlanner::default()),
                Arc::new(DatetimeFunctionPlanner),
                Arc::new(UnicodeFunctionPlanner),
            ],
        }
    }

    /// Returns how the function's result depends on more than its arguments; `None` if there is no such function.
    pub(super) fn volatility(&self, name: &str) -> Option<Volatility> {
        self.by_name.get(&name.to_lowercase()).map(|function| function.signature().volatility)
    }

    /// Returns the names of the functions that may be called.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name
            .iter()
            .filter(|(_, function)| function.signature().volatility == Volatility::Immutable)
            .map(|(name, _)| name.as_str())
    }
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        datafusion_common::plan_err!("there is no table {name} in an expression")
    }
    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }
    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.by_name.get(&name.to_lowercase()).cloned()
    }
    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }
    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }
    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }
    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }
    fn options(&self) -> &ConfigOptions {
        &self.options
    }
    fn udf_names(&self) -> Vec<String> {
        self.names().map(str::to_owned).collect()
    }
    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
