//! Rules of the planner at their edges: small tables of inputs with the expected decision. `tests/cases/` shows whole plans.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod capacity;
mod farm;
mod health;
mod limits;
mod machines_file;
mod matching;
mod release;
mod texts;
mod written;
