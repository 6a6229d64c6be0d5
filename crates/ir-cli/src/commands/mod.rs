//! The subcommands, one file each: their arguments and what they call.

pub(crate) mod report;
