//! The virtual world that the real planner is run in.
