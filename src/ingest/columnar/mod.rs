//! Columnar files as CSV: the columns have their names, lists and groups are cells with JSON.

mod arrow;
mod batch;
mod parquet;
mod values;

pub use arrow::rows as arrow;
pub use parquet::rows as parquet;
