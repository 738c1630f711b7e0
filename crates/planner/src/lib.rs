//! Decides which build machines to create, keep, drain and release.
