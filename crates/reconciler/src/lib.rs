//! The control loop: observe, plan, execute, report.
