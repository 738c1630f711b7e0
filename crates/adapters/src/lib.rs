//! The real world: configuration, queue runners, providers, files.
