//! The queue runner's status.
