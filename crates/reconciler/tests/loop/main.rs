//! The reconciler, event by event: what it does after each one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod experience;
mod fallback;
mod harness;
mod health;
mod late_sshd;
mod lifecycle;
mod limits;
mod listing;
mod orders;
mod paid_time;
mod providers;
mod queue;
mod release;
mod settled;
mod spending;
mod storage;
mod under_way;
mod wake;
