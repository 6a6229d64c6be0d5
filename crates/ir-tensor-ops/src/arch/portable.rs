//! Sixteen lanes as an array: any CPU.

use super::Vector;

/// No instructions beyond the target's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Vector for Portable {}
