//! One module a command; each takes its arguments and returns the exit status.

pub(crate) mod analyze;
pub(crate) mod data;
pub(crate) mod init;
pub(crate) mod models;
pub(crate) mod report;
pub(crate) mod train;
