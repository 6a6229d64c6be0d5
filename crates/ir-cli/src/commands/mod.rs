//! One module a command; each takes its arguments and returns the exit status. `tables` is how
//! `analyze` prints.

pub(crate) mod analyze;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod data;
pub(crate) mod export;
pub(crate) mod init;
pub(crate) mod man;
pub(crate) mod models;
pub(crate) mod report;
pub(crate) mod tables;
pub(crate) mod train;
pub(crate) mod watch;
