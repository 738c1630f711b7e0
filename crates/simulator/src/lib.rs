//! The virtual world: the real `planner` and `reconciler` on a virtual clock, against models of the queue runner, of
//! machines that fail, and of the bill.

pub mod bound;
pub mod campaign;
pub mod cloud;
pub mod comparators;
pub mod detail;
pub mod engine;
pub mod json;
pub mod queue_runner;
pub mod results;
pub mod scenario;
pub mod simulation;
pub mod statistics;
pub mod trace;
pub mod tuning;
pub mod waiting;
pub mod workload;
pub mod world;
